"""What the controller sends to one command: the script, then the standard input as fast as the command takes it.

It sends from the loop of the connection's one thread, a little each time, and never waits: so output, the clock and a
cancellation have their turn whatever the command does with its input.
"""

from __future__ import annotations

import select

from agent.wire import messages as m
from agent.wire.link import Link
from controller.client import Client, Observer
from controller.results import Result
from controller.stdin import Fail, Input, Source

__all__ = ["Delivery", "Sender"]

# Bytes in one message, and messages in one turn: 64 hosts have no more than 4 MiB in memory.
_PIECE = 64 * 1024
_PIECES_AT_ONCE = 4


class Sender:
    """The script and the standard input of one command, on its way over `link`. None where there is none."""

    def __init__(self, link: Link, script: bytes | None, source: Source | None) -> None:
        self._link = link
        self._script = None if script is None else memoryview(script)
        self._starting = script is not None
        self._source = source

    @property
    def starting(self) -> bool:
        """Whether the command cannot have started, because not all of its script has left."""
        if self._script is None and not self._link.backlog:
            self._starting = False
        return self._starting

    def register(self, poller: select.poll, timeout: float) -> float:
        """Have what is waited for polled, and return for how many seconds: at most `timeout`."""
        if not self._may_send():
            return timeout
        fd = self._fileno()
        if fd is None:
            return 0.0
        poller.register(fd, select.POLLIN)
        return timeout

    def advance(self, ready: set[int]) -> None:
        """Send what there is and what there is room for; `ready` are the descriptors that polled as readable."""
        for _ in range(_PIECES_AT_ONCE):
            if not self._may_send():
                return
            fd = self._fileno()
            if fd is not None and fd not in ready:
                return
            if self._script is not None:
                self._send_script(self._script)
            elif not self._send_input():
                return

    def _may_send(self) -> bool:
        if self._link.backlog:
            return False
        return self._script is not None or (self._source is not None and self._link.connection.stdin_window > 0)

    def _fileno(self) -> int | None:
        return None if self._script is not None or self._source is None else self._source.fileno()

    def _send_script(self, rest: memoryview) -> None:
        piece, rest = rest[:_PIECE], rest[_PIECE:]
        self._script = rest or None
        if piece:
            self._link.send(m.Script(bytes(piece)))
        if not rest:
            self._link.send(self._link.connection.end_of(m.Stream.SCRIPT))

    def _send_input(self) -> bool:
        """Send the next piece. Returns whether there may be more."""
        assert self._source is not None  # by `_may_send`
        data = self._source.read(min(_PIECE, self._link.connection.stdin_window))
        if data:
            self._link.send(m.Stdin(data))
        elif data is not None:
            self._source = None
            self._link.send(self._link.connection.end_of(m.Stream.STDIN))
        return bool(data)


class Delivery:
    """What the commands of a run get beside their requests: the content of one script, and one standard input."""

    def __init__(self, script: bytes | None, stdin: Input | None) -> None:
        self._script = script
        self._stdin = stdin

    def begin(self, hosts: int, fail: Fail) -> None:
        """Get ready for so many hosts; `fail` is told when the input fails meanwhile. Raises FleetError."""
        if self._stdin is not None:
            self._stdin.begin(hosts, fail)

    def run(self, client: Client, request: m.Run, observer: Observer, *, keep: bool) -> Result:
        """Do as `client.run`."""
        source = None if self._stdin is None else self._stdin.source()
        try:
            return client.run(request, observer, keep=keep, sender=Sender(client.link, self._script, source))
        finally:
            if source is not None:
                source.close()

    def close(self) -> None:
        """Give the input back."""
        if self._stdin is not None:
            self._stdin.close()
