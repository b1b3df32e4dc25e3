"""`Fleet`: the same things as on the command line, for Python programs; the command line itself is written on it.

for result in Fleet("hosts.ini").run("uptime", limit="web"):
    print(result.host, result.status, result.stdout)
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

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
from controller.targets import fill_argument, fill_command, load_inventory, select_hosts
from inventory import Host, Inventory

if TYPE_CHECKING:
    from controller.files import Going, PullOptions, PushOptions
    from controller.meter import Watcher
    from controller.script import Script
    from controller.sender import Delivery
    from controller.shell.session import Session
    from controller.stdin import Given, Input
    from controller.terminal import LocalTerminal

__all__ = ["DEFAULT_MAX_OUTPUT", "DEFAULT_PORT", "Fleet", "Run"]

DEFAULT_PORT = 7422
DEFAULT_FANOUT = 64
DEFAULT_CONNECT_TIMEOUT = 10.0  # seconds
# The connection, the folders on the way to a file, and the file. Deeper trees than usual may take more.
_DESCRIPTORS_OF_TRANSFER = 8


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
        if isinstance(inventory, Inventory):
            self.inventory = inventory
        else:
            self.inventory = load_inventory(_paths(inventory), hosts=hosts, warn=warn)
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
        return select_hosts(self.inventory, limit, exclude)

    def run(
        self,
        command: str | None = None,
        *,
        script: Script | None = None,
        stdin: Given | Input | None = None,
        limit: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        timeout: float | None = None,
        user: str | None = None,
        shell: str | None = None,
        environment: Mapping[str, str] | None = None,
        directory: str | None = None,
        template: bool = False,
        max_output: int | None = DEFAULT_MAX_OUTPUT,
        observer: Observer | None = None,
        keep: bool = True,
        cancel: CancelToken | None = None,
        terminal: LocalTerminal | None = None,
    ) -> Run[Result]:
        """Run a shell command, or a `script`. Iterate over what is returned: that does it.

        `stdin` goes to every host: bytes, the path of a file, or an open file with a descriptor. `user` is whom to run
        it as, and `shell` the absolute path of the shell; the agent's own unless given. `timeout` (seconds) is for the
        command alone, `max_output` (bytes) for each host and stream. An `observer` is told of output as it arrives;
        with `keep` false it is not in the results. With `template`, `{host}` and the inventory's variables are filled
        in for each host, in the command or in the script's arguments. With a `terminal` the command, on one host alone,
        gets one of its own, and the two are joined: nothing is kept, and nobody else is told of output. Raises
        FleetError.
        """
        fill = _filler(command, script, template)
        hosts = self.select(limit, exclude)
        if terminal is not None and len(hosts) != 1:
            raise FleetError("terminal", f"is for one host, and {len(hosts)} hosts match")
        run_id = new_run_id()
        requests = {
            host.name: _request(
                **fill(host),
                host=host.name,
                run=run_id,
                environment=dict(environment or {}),
                directory=directory,
                timeout=timeout,
                max_output=max_output if terminal is None else None,
                user=user,
                shell=shell,
                **({"stdin": stdin is not None} if terminal is None else _terminal_fields(terminal)),
            )
            for host in hosts
        }
        targets = self._targets(hosts)
        key = self._key()
        token = cancel or CancelToken()
        guard = Guard(observer or Silent(), token)
        delivery = _delivery(script, stdin)
        if delivery is not None:
            delivery.begin(len(targets), guard.fail)

        def work(target: Target) -> Result:
            began = time.monotonic()
            try:
                with Client(target, key, token, connect_timeout=self._connect_timeout) as client:
                    if terminal is not None:
                        from controller.interaction import interact

                        return interact(client, requests[target.name], terminal, token)
                    run = client.run if delivery is None else partial(delivery.run, client)
                    return run(requests[target.name], guard, keep=keep)
            except HostError as error:
                elapsed = 0.0 if isinstance(error, CancelledError) else time.monotonic() - began
                return Result(target.name, error.status, elapsed=elapsed, error=error.reason)

        def skipped(target: Target) -> Result:
            return Result(target.name, Status.SKIPPED, error=CancelledError().reason)

        plan = Plan(targets, work, skipped, self._width(len(targets), each=1 if stdin is None else 2))
        label = command or (script.label if script is not None else "")
        return Run(
            plan, token, run_id=run_id, command=label, guard=guard, close=None if delivery is None else delivery.close
        )

    def ping(
        self,
        *,
        limit: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        cancel: CancelToken | None = None,
    ) -> Run[PingResult]:
        """Log in everywhere and ask for a sign of life."""
        targets = self._targets(self.select(limit, exclude))
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

    def session(self, *, limit: str | Sequence[str] = (), exclude: str | Sequence[str] = ()) -> Session:
        """Return hosts to which connections are kept, and where directory and variables last: see `Session`.

        Raises FleetError when there may not be as many connections.
        """
        from controller.shell.session import Reach, Session

        targets = self._targets(self.select(limit, exclude))
        allowed = fit_to_limits(len(targets))
        if allowed < len(targets):
            raise FleetError(
                "session",
                f"{len(targets)} hosts need as many open files, and {allowed} are allowed",
                "see ulimit -n, or take fewer hosts with -l",
            )
        return Session(targets, Reach(self._key(), self._connect_timeout, min(self._fanout, len(targets))))

    def push(
        self,
        sources: str | os.PathLike[str] | Sequence[str],
        destination: str,
        *,
        options: PushOptions | None = None,
        limit: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        timeout: float | None = None,
        keep: bool = True,
        watcher: Watcher | None = None,
        cancel: CancelToken | None = None,
    ) -> Run[Result]:
        """Send files and directories to hosts; whole or not at all, and only what differs.

        A `destination` that ends in a slash or is a directory there means "into it", otherwise it is the new name.
        `timeout` (seconds) is for each host; without `keep` only files that need attention are in the results.
        Raises FleetError for what is wrong on this machine.
        """
        from controller.files import PushOptions, plan_push

        going = self._going(limit, exclude, timeout, keep, watcher, cancel)
        return plan_push(going, _paths(sources), destination, options or PushOptions())

    def pull(
        self,
        paths: str | Sequence[str],
        folder: str | os.PathLike[str],
        *,
        options: PullOptions | None = None,
        limit: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        timeout: float | None = None,
        keep: bool = True,
        watcher: Watcher | None = None,
        cancel: CancelToken | None = None,
    ) -> Run[Result]:
        """Fetch files and directories from hosts into `folder`/HOST. `paths` may hold ``*``, ``?`` and ``[...]``.

        `timeout` and `keep` are as in `push`. Raises FleetError for what is wrong on this machine.
        """
        from controller.files import PullOptions, plan_pull

        going = self._going(limit, exclude, timeout, keep, watcher, cancel)
        return plan_pull(going, _paths(paths), os.fspath(folder), options or PullOptions())

    def rollback(
        self,
        run: str | None = None,
        *,
        limit: str | Sequence[str] = (),
        exclude: str | Sequence[str] = (),
        timeout: float | None = None,
        keep: bool = True,
        watcher: Watcher | None = None,
        cancel: CancelToken | None = None,
    ) -> Run[Result]:
        """Put back what a push with a backup replaced or deleted: that of the id `run`, or the last of all these hosts.

        A file that has changed since is left alone, and its host is `failed`.
        """
        from controller.rollback import plan_rollback

        return plan_rollback(self._going(limit, exclude, timeout, keep, watcher, cancel), run)

    def _going(
        self,
        limit: str | Sequence[str],
        exclude: str | Sequence[str],
        timeout: float | None,
        keep: bool,
        watcher: Watcher | None,
        cancel: CancelToken | None,
    ) -> Going:
        from controller.files import Going

        hosts = self.select(limit, exclude)
        targets = self._targets(hosts)
        return Going(
            hosts=hosts,
            targets=targets,
            key=self._key(),
            width=self._width(len(targets), each=_DESCRIPTORS_OF_TRANSFER),
            connect_timeout=self._connect_timeout,
            timeout=timeout,
            keep=keep,
            watcher=watcher,
            token=cancel or CancelToken(),
        )

    def _targets(self, hosts: Sequence[Host]) -> list[Target]:
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

    def _width(self, count: int, *, each: int = 1) -> int:
        wanted = min(self._fanout, count)
        width = fit_to_limits(wanted, each=each)
        if width < wanted:
            self._warn(f"fan-out lowered from {wanted} to {width}: no more open files are allowed (ulimit -n)")
        return width


def check_command(command: str) -> None:
    """Refuse what no shell could run. Raises FleetError."""
    if not command.strip():
        raise FleetError("command", "is empty")
    if "\0" in command:
        raise FleetError("command", "holds a NUL byte, which no command can")


def _filler(command: str | None, script: Script | None, template: bool) -> Callable[[Host], dict[str, Any]]:
    """Return what gives a host its part of the request. Raises FleetError."""
    if script is None:
        line = command or ""
        check_command(line)
        return lambda host: {"command": fill_command(line, host) if template else line}
    if command is not None:
        raise FleetError("script", "is run in the place of a command: give one of the two")

    def fill(host: Host) -> dict[str, Any]:
        arguments = script.arguments
        if template:
            arguments = tuple(fill_argument(argument, host) for argument in arguments)
        return {"command": script.name, "script": True, "arguments": arguments}

    return fill


def _delivery(script: Script | None, stdin: Given | Input | None) -> Delivery | None:
    if script is None and stdin is None:
        return None
    from controller.sender import Delivery
    from controller.stdin import open_input

    return Delivery(None if script is None else script.content, None if stdin is None else open_input(stdin))


def _request(**fields: Any) -> m.Run:
    """Make a host's request: whatever is wrong with it is wrong before any host is reached. Raises FleetError."""
    try:
        return m.Run(**fields)
    except ValueError as error:
        raise FleetError("run", str(error)) from None


def _terminal_fields(terminal: LocalTerminal) -> dict[str, Any]:
    rows, columns = terminal.size
    return {"stdin": True, "terminal": terminal.kind, "rows": rows, "columns": columns}


def _paths(source: str | os.PathLike[str] | Sequence[str] | None) -> list[str]:
    if source is None:
        return []
    return [os.fspath(source)] if isinstance(source, str | os.PathLike) else [os.fspath(one) for one in source]
