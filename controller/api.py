"""`Fleet`: the same things as on the command line, for Python programs; the command line itself is written on it.

for result in Fleet("hosts.ini").run("uptime", limit="web"):
    print(result.host, result.status, result.stdout)
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from agent.wire import messages as m
from controller import keyfile
from controller import registry as registries
from controller.cancel import CancelToken
from controller.client import Client, Observer, Target
from controller.errors import CancelledError, FleetError, HostError
from controller.fanout import fit_to_limits
from controller.results import PingResult, Result, Status
from controller.runs import Guard, Plan, Run, Silent, new_run_id
from controller.settings import DEFAULT_MAX_OUTPUT
from inventory import Host, Inventory, InventoryError, ad_hoc, load, select

__all__ = ["DEFAULT_MAX_OUTPUT", "DEFAULT_PORT", "Fleet", "Run"]

DEFAULT_PORT = 7422
DEFAULT_FANOUT = 64
DEFAULT_CONNECT_TIMEOUT = 10.0  # seconds


class Fleet:
    """The hosts of an inventory, and the key to them.

    `inventory` is a path, several, or an Inventory; with `hosts`, a node set such as ``web[01-20],db1``, none is
    needed. `key` and `registry` default to what the command line would use. `fanout` is how many hosts are worked on
    at once, `connect_timeout` the seconds for connecting and logging in, `port` that of agents that have none of their
    own.

    Raises FleetError for what is wrong with these.
    """

    def __init__(
        self,
        inventory: str | os.PathLike[str] | Sequence[str] | Inventory | None = None,
        *,
        hosts: str | None = None,
        key: str | None = None,
        registry: str | None = None,
        fanout: int = DEFAULT_FANOUT,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
        port: int = DEFAULT_PORT,
        warn: Callable[[str], None] = lambda text: print(f"fleet: {text}", file=sys.stderr),
    ) -> None:
        if fanout < 1:
            raise FleetError("fanout", f"{fanout} is not a number of hosts")
        if not 0 < connect_timeout < 1e9:
            raise FleetError("connect timeout", f"{connect_timeout:g} is not a number of seconds")
        if not 1 <= port <= 65535:
            raise FleetError("port", f"{port} is not in 1..65535")
        self.inventory = _inventory(inventory, hosts, warn)
        self._key_path = key or os.environ.get("FLEET_KEY") or keyfile.default_path(os.environ)
        self._registry_path = registry or os.path.join(os.path.dirname(self._key_path), registries.FILE_NAME)
        self._fanout = fanout
        self._connect_timeout = connect_timeout
        self._port = port
        self._warn = warn

    def select(self, limit: str | Sequence[str] = (), exclude: str | Sequence[str] = ()) -> list[Host]:
        """Return the hosts that match every pattern of `limit` and none of `exclude`, in inventory order.

        Raises FleetError when nothing is left.
        """
        try:
            return select(self.inventory, limits=_several(limit), exclude=_several(exclude))
        except InventoryError as error:
            raise _as_fleet_error(error) from None

    def run(
        self,
        command: str,
        *,
        limit: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        timeout: float | None = None,
        environment: Mapping[str, str] | None = None,
        directory: str | None = None,
        max_output: int | None = DEFAULT_MAX_OUTPUT,
        observer: Observer | None = None,
        keep: bool = True,
        cancel: CancelToken | None = None,
    ) -> Run[Result]:
        """Run a shell command. Iterate over what is returned: that does it.

        `timeout` (seconds) is for the command alone, `max_output` (bytes) for each host and stream. An `observer` is
        told of output as it arrives; with `keep` false it is not in the results.
        """
        check_command(command)
        targets = self._targets(limit, exclude)
        key = self._key()
        token = cancel or CancelToken()
        run_id = new_run_id()
        guard = Guard(observer or Silent(), token)
        request = self._request(command, run_id, timeout, environment, directory, max_output)

        def work(target: Target) -> Result:
            began = time.monotonic()
            try:
                with Client(target, key, token, connect_timeout=self._connect_timeout) as client:
                    return client.run(request(target), guard, keep=keep)
            except HostError as error:
                elapsed = 0.0 if isinstance(error, CancelledError) else time.monotonic() - began
                return Result(target.name, error.status, elapsed=elapsed, error=error.reason)

        def skipped(target: Target) -> Result:
            return Result(target.name, Status.SKIPPED, error=CancelledError().reason)

        plan = Plan(targets, work, skipped, self._width(len(targets)))
        return Run(plan, token, run_id=run_id, command=command, guard=guard)

    def ping(
        self,
        *,
        limit: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        cancel: CancelToken | None = None,
    ) -> Run[PingResult]:
        """Log in everywhere and ask for a sign of life."""
        targets = self._targets(limit, exclude)
        key = self._key()
        token = cancel or CancelToken()

        def work(target: Target) -> PingResult:
            try:
                with Client(target, key, token, connect_timeout=self._connect_timeout) as client:
                    answer = client.ping()
            except HostError as error:
                return PingResult(target.name, error.status, error=error.reason)
            info = answer.info
            return PingResult(target.name, Status.OK, info.agent, info.python, info.os, answer.clock_offset, answer.rtt)

        def skipped(target: Target) -> PingResult:
            return PingResult(target.name, Status.SKIPPED, error=CancelledError().reason)

        plan = Plan(targets, work, skipped, self._width(len(targets)))
        return Run(plan, token, run_id=new_run_id(), command="ping")

    def _request(
        self,
        command: str,
        run_id: str,
        timeout: float | None,
        environment: Mapping[str, str] | None,
        directory: str | None,
        max_output: int | None,
    ) -> Callable[[Target], m.Run]:
        def build(target: Target) -> m.Run:
            return m.Run(
                command,
                host=target.name,
                run=run_id,
                environment=dict(environment or {}),
                directory=directory,
                timeout=timeout,
                max_output=max_output,
            )

        try:
            build(Target("localhost", "", 1, None))  # whatever is wrong with it is wrong before any host is reached
        except ValueError as error:
            raise FleetError("run", str(error)) from None
        return build

    def _targets(self, limit: str | Sequence[str], exclude: str | Sequence[str]) -> list[Target]:
        hosts = self.select(limit, exclude)
        try:
            enrolled = registries.load(self._registry_path)
        except registries.RegistryError as error:
            raise FleetError(error.path, error.reason, error.hint) from None
        return [
            Target(host.name, host.address, host.port or self._port, enrolled.lookup(host.name, host.pool), host.pool)
            for host in hosts
        ]

    def _key(self) -> keyfile.ControllerKey:
        try:
            return keyfile.load(self._key_path)
        except keyfile.KeyFileError as error:
            raise FleetError(error.path, error.reason, error.hint) from None

    def _width(self, count: int) -> int:
        wanted = min(self._fanout, count)
        width = fit_to_limits(wanted)
        if width < wanted:
            self._warn(f"fan-out lowered from {wanted} to {width}: no more open files are allowed (ulimit -n)")
        return width


def check_command(command: str) -> None:
    """Refuse what no shell could run. Raises FleetError."""
    if not command.strip():
        raise FleetError("command", "is empty")
    if "\0" in command:
        raise FleetError("command", "holds a NUL byte, which no command can")


def _inventory(
    source: str | os.PathLike[str] | Sequence[str] | Inventory | None, hosts: str | None, warn: Callable[[str], None]
) -> Inventory:
    try:
        if isinstance(source, Inventory):
            known: Inventory | None = source
        elif source is None:
            known = None
        else:
            paths = [os.fspath(source)] if isinstance(source, str | os.PathLike) else list(source)
            known = load(paths, stdin=sys.stdin.buffer, warn=warn) if paths else None
        if hosts is not None:
            return ad_hoc(hosts, known)
    except InventoryError as error:
        raise _as_fleet_error(error) from None
    if known is None:
        raise FleetError("inventory", "there is none", "name one with -i, or hosts with -w")
    return known


def _as_fleet_error(error: InventoryError) -> FleetError:
    where = "inventory"
    if error.path is not None:
        where = error.path if error.line is None else f"{error.path}:{error.line}"
    return FleetError(where, str(error).removeprefix(f"{where}: "), error.hint)


def _several(value: str | Sequence[str]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value
