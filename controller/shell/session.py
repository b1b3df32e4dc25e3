"""Hosts with which a connection is kept: commands over all of them, each host going on where its last command ended.

A host that cannot be reached, or drops, is tried again before its next command, and its directory and variables are
still there then: they live here. Whatever happens on a host is in a result, as everywhere.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from agent.wire import messages as m
from agent.wire.codec import encode_payload
from agent.wire.connection import Closed, State
from agent.wire.constants import MAX_RUN_PAYLOAD
from agent.wire.errors import ProtocolError
from agent.wire.link import LinkError
from agent.wire.record import record
from controller.cancel import CancelToken
from controller.client import Client, Observer, Target, reason_of
from controller.errors import BrokenError, CancelledError, HostError
from controller.fanout import fan_out
from controller.keyfile import ControllerKey
from controller.results import Result, Status
from controller.runs import Guard, Plan, Run, Silent, new_run_id
from controller.shell.keeper import Keeper
from controller.shell.state import FRESH, StateError, command_text, environment, read_state
from controller.shell.state import State as ShellState
from controller.shell.trailer import Trimmed

__all__ = ["Member", "News", "Order", "Reach", "Session"]

# A host that was waited for in vain is not waited for again before ten times as long has passed, in seconds at most a
# minute: else every command would take as long as the slowest of the dead.
_PATIENCE = 10
_LONGEST_PAUSE = 60.0

_UNCONFIRMED = "not waited for: the agent kills the command, and has not confirmed that it is dead"


@record
class Reach:
    """How to reach hosts. `connect_timeout` is in seconds, `width` how many at once, `clock` monotonic."""

    key: ControllerKey
    connect_timeout: float
    width: int
    clock: Callable[[], float] = time.monotonic


@record
class Order:
    """What every host is to run. `timeout` is in seconds, `max_output` in bytes for each stream."""

    command: str
    run: str
    timeout: float | None
    max_output: int | None
    keep: bool
    cancel: CancelToken


@record
class News:
    """Something that became of a host between two commands; `text` is "dropped: …" or "back"."""

    host: str
    text: str


class Member:
    """One host of a session. Used by one thread at a time."""

    def __init__(self, target: Target, reach: Reach, tell: Callable[[News], None]) -> None:
        self.target = target
        self.state: ShellState = FRESH
        self.client: Client | None = None
        self.status = Status.SKIPPED
        self.reason = "not tried yet"
        self._reach = reach
        self._tell = tell
        self._again = 0.0  # not to be tried before, on the monotonic clock
        self._dropped = False

    @property
    def name(self) -> str:
        """The host's name."""
        return self.target.name

    def fileno(self) -> int:
        """Return the descriptor of the connection that there is."""
        assert self.client is not None
        return self.client.fileno()

    def join(self, cancel: CancelToken, *, now: bool = False) -> None:
        """See to it that there is a connection. Raises HostError; at once after a long wait, unless it is to be `now`.

        What has come over an idle connection is looked at first: it may be the agent's farewell.
        """
        if self.client is not None and self.serve() is not None:
            return
        began = self._reach.clock()
        if began < self._again and not now:
            raise _StillError(self.status, self.reason)
        try:
            self.client = Client(self.target, self._reach.key, cancel, connect_timeout=self._reach.connect_timeout)
        except CancelledError:
            raise
        except HostError as error:
            self.status, self.reason = error.status, error.reason
            took = self._reach.clock() - began
            self._again = began + took + min(_PATIENCE * took, _LONGEST_PAUSE)
            raise
        self.status, self.reason, self._again = Status.OK, "", 0.0
        if self._dropped:
            self._dropped = False
            self._tell(News(self.name, "back"))

    def serve(self) -> float | None:
        """Serve the connection while nothing is asked of it; None when it is no more. See `Kept`."""
        assert self.client is not None
        link = self.client.link
        try:
            link.flush()
            for message in link.read():
                if isinstance(message, Closed):
                    raise BrokenError("the agent closed the connection")
                if isinstance(message, m.Goodbye):
                    raise BrokenError(f"the agent ended the connection: {message.text}")
            return link.tick()
        except HostError as error:
            self._drop(error.reason)
        except (OSError, LinkError, ProtocolError) as error:
            self._drop(reason_of(error))
        return None

    def close(self) -> None:
        """Close the connection, if there is one: the agent kills what still runs for it."""
        if self.client is not None:
            self.client.close()
            self.client = None

    def run(self, order: Order, observer: Guard) -> Result:
        """Run a command over the connection that there is."""
        assert self.client is not None
        token = os.urandom(16).hex()
        try:
            request = self._request(order, token)
        except ValueError as error:
            return Result(self.name, Status.FAILED, error=str(error))
        trimmed = Trimmed(observer, token)
        self.client.heed(order.cancel)
        result = self.client.run(request, trimmed, keep=order.keep)
        if self.client.link.connection.state is not State.READY:
            self._drop(result.error or "the connection was lost", told=True)
            return result
        trimmed.finish(self.name)
        return self._settle(result, trimmed, token)

    def _request(self, order: Order, token: str) -> m.Run:
        """Return what to ask. Raises ValueError for what no message has room for."""
        request = m.Run(
            command_text(order.command),
            host=self.name,
            run=order.run,
            environment=environment(self.state, token),
            timeout=order.timeout,
            max_output=order.max_output,
        )
        length = len(encode_payload(request))
        if length > MAX_RUN_PAYLOAD:
            raise ValueError(
                f"the command and the host's variables take {length} bytes, a message has room for {MAX_RUN_PAYLOAD}"
            )
        return request

    def _settle(self, result: Result, trimmed: Trimmed, token: str) -> Result:
        """Take the trailer's bytes out of a result, and the new state out of the trailer."""
        result = replace(
            result,
            stdout=trimmed.out.cut(result.stdout),
            stderr=trimmed.err.cut(result.stderr),
            stdout_bytes=result.stdout_bytes - trimmed.out.removed,
            stderr_bytes=result.stderr_bytes - trimmed.err.removed,
        )
        if trimmed.err.gone:
            lost, self.state = self.state.directory, replace(self.state, directory=None)
            return replace(
                result, rc=None, error=f"cannot enter {lost}: nothing was run, and the next command is at home"
            )
        if result.rc is None or result.status not in (Status.OK, Status.FAILED):
            return result  # killed: the state is what it was
        try:
            self.state = read_state(_told(trimmed, truncated=result.truncated), token)
        except StateError as error:
            note = f"directory and variables are as before: {error}"
            return replace(result, note=f"{result.note}; {note}" if result.note else note)
        return result

    def _drop(self, reason: str, *, told: bool = False) -> None:
        """Give the connection up. `told` says that a result has said so."""
        self.close()
        self.status, self.reason, self._dropped = Status.BROKEN, reason, not told
        if not told:
            self._tell(News(self.name, f"dropped: {reason}"))


class _StillError(HostError):
    """The host was out of reach a moment ago, and is not waited for again."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Session:
    """Use it in a `with` block: it closes the connections. `targets` are in inventory order."""

    def __init__(self, targets: Sequence[Target], reach: Reach) -> None:
        self._reach = reach
        self._news: list[News] = []
        self._lock = threading.Lock()  # guards the news
        self._keeper = Keeper()
        self._busy: dict[str, Client] = {}
        self._cut: set[str] = set()  # those that `abandon` found busy
        self.members = {target.name: Member(target, reach, self._tell) for target in targets}

    def __enter__(self) -> Session:
        self._keeper.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._keeper.__exit__()
        for member in self.members.values():
            member.close()

    def join(self, hosts: Iterable[str] | None = None, *, cancel: CancelToken | None = None) -> list[Result]:
        """Connect to those of `hosts` (all) that are not connected, and return what became of each, in their order."""
        token = cancel or CancelToken()
        found = {}
        targets = self._targets(hosts)
        width = min(self._reach.width, len(targets))

        def work(target: Target) -> Result:
            return self._with(target, token, lambda member: Result(member.name, Status.OK), now=True)

        for result in fan_out(targets, work, width=width, cancel=token, skipped=_skipped):
            found[result.host] = result
        return [found[target.name] for target in targets]

    def run(
        self,
        command: str,
        *,
        hosts: Iterable[str] | None = None,
        timeout: float | None = None,
        max_output: int | None = None,
        observer: Observer | None = None,
        keep: bool = True,
        cancel: CancelToken | None = None,
    ) -> Run[Result]:
        """Run a shell command on `hosts` (all). Iterate over what is returned: that does it. As `Fleet.run`."""
        token = cancel or CancelToken()
        guard = Guard(observer or Silent(), token)
        order = Order(command, new_run_id(), timeout, max_output, keep, token)
        targets = self._targets(hosts)

        def work(target: Target) -> Result:
            return self._with(target, token, lambda member: member.run(order, guard), now=False)

        plan = Plan(targets, work, _skipped, min(self._reach.width, len(targets)))
        return Run(plan, token, run_id=order.run, command=command, guard=guard)

    def abandon(self) -> None:
        """Cut the connections over which something runs: the agents kill it. May be called from a signal handler."""
        for name, client in self._busy.copy().items():  # a copy is made in one go, whatever threads do
            self._cut.add(name)
            client.interrupt()

    def news(self) -> list[News]:
        """Return what has become of hosts since the last call."""
        with self._lock:
            news, self._news = self._news, []
        return news

    def _was_cut(self, result: Result) -> bool:
        cut = result.host in self._cut
        self._cut.discard(result.host)
        return cut and result.status is Status.BROKEN

    def _tell(self, news: News) -> None:
        with self._lock:
            self._news.append(news)

    def _targets(self, hosts: Iterable[str] | None) -> list[Target]:
        return [self.members[name].target for name in (self.members if hosts is None else hosts)]

    def _with(self, target: Target, cancel: CancelToken, action: Callable[[Member], Result], *, now: bool) -> Result:
        """Do something with a host, connected if that can be, that is the keeper's before and after."""
        member = self.members[target.name]
        began = time.monotonic()
        self._keeper.take(member.name)
        try:
            member.join(cancel, now=now)
            assert member.client is not None
            self._cut.discard(member.name)
            self._busy[member.name] = member.client
            result = action(member)
            return replace(result, error=_UNCONFIRMED) if self._was_cut(result) else result
        except HostError as error:
            elapsed = 0.0 if isinstance(error, CancelledError) else time.monotonic() - began
            return Result(member.name, error.status, elapsed=elapsed, error=error.reason)
        finally:
            self._busy.pop(member.name, None)
            if member.client is not None:
                self._keeper.give(member)


def _told(trimmed: Trimmed, *, truncated: bool) -> bytes:
    """Return what the shell said of itself. Raises StateError when it did not."""
    # `exec 2>&1` takes it along.
    for cutter in (trimmed.err, trimmed.out):
        if cutter.body is not None:
            return cutter.body
    if trimmed.err.garbled or trimmed.out.garbled:
        raise StateError("something in the background wrote into what the shell told of them")
    if truncated:
        raise StateError("the output was cut off before its shell told them")
    raise StateError("its shell did not tell them (exec? a trap on EXIT?)")


def _skipped(target: Target) -> Result:
    return Result(target.name, Status.SKIPPED, error=CancelledError().reason)
