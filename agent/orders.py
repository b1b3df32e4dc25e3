"""What the agent and a worker say to each other: one datagram for each order and each report, descriptors beside it.

Not the wire: both ends are forks of one process, so there are no versions and nothing hostile in it. The rule: a
datagram is small. A command may be 128 KiB, more than an unprivileged socket buffer takes in one piece, so a large one
travels in a memfd, whose descriptor goes with those of the command's own pipes.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Mapping, Sequence

from agent.memfd import memory_file
from agent.wire.record import record

__all__ = ["Command", "Ended", "Kill", "Outcome", "Ready", "Run", "Started", "receive", "send", "send_run"]

_MAX_DATAGRAM = 16 * 1024
_MAX_SMALL = 8 * 1024  # bytes of a command that goes without a memfd
_MAX_DESCRIPTORS = 5


@record
class Command:
    """What to start. `environment` is the whole of it; strings are bytes by `os.fsencode`, so any byte but NUL can
    be said. Without `stdin` the command reads from /dev/null. `user` is a name, None for the agent's own. A `script`
    is a program that comes as a descriptor; then `argv` is what to call it, and its arguments. With `home` the
    directory is one that nobody asked for: where the user may not enter it, the command starts in the root. With
    `terminal` it leads a terminal of that size, and has no pipes."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    stdin: bool = False
    user: str | None = None
    script: bool = False
    home: bool = False
    terminal: bool = False
    rows: int = 0
    columns: int = 0

    @property
    def descriptors(self) -> int:
        """How many the command gets: (script,) then (stdin,) stdout and stderr, or its end of the terminal."""
        return self.script + (1 if self.terminal else self.stdin + 2)


@record
class Outcome:
    """How a command ended: by itself with `code` (0..255), by `signal`, or not at all, and `error` says why.

    `left` counts the processes that the command started and that outlive it.
    """

    code: int | None
    signal: int | None
    error: str | None = None
    left: int = 0


@record
class Run:
    """Agent to worker: start this. `descriptors` are those of `Command.descriptors`, and belong to the receiver."""

    command: Command
    descriptors: tuple[int, ...]


@record
class Kill:
    """Agent to worker: end what runs. `grace` is the time from SIGTERM to SIGKILL, in seconds."""

    grace: float


@record
class Ready:
    """Worker to agent, once and before it takes any order: I am process `pid`."""

    pid: int


@record
class Started:
    """Worker to agent: the command runs, its shell is process `pid`."""

    pid: int


@record
class Ended:
    """Worker to agent: it is over. `again` says that the worker waits for another order."""

    outcome: Outcome
    again: bool


_SMALL_RUN = b"C"
_LARGE_RUN = b"M"
_KINDS = {Kill: b"K", Ready: b"R", Started: b"S", Ended: b"E"}
_PLAIN: dict[bytes, type[Kill | Ready | Started]] = {_KINDS[kind]: kind for kind in (Kill, Ready, Started)}


def send_run(channel: socket.socket, command: Command, descriptors: Sequence[int]) -> None:
    """Send a `Run`. The caller keeps its own descriptors. Raises OSError."""
    text = json.dumps(_values(command), default=dict).encode("ascii")
    if len(text) <= _MAX_SMALL:
        socket.send_fds(channel, [_SMALL_RUN + text], descriptors)
        return
    memory = memory_file("command")
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(text)
        socket.send_fds(channel, [_LARGE_RUN], [memory, *descriptors])
    finally:
        os.close(memory)


def send(channel: socket.socket, message: Kill | Ready | Started | Ended) -> None:
    """Send any other message. Raises OSError."""
    channel.send(_KINDS[type(message)] + json.dumps(_values(message)).encode("ascii"))


def _values(message: Command | Outcome | Kill | Ready | Started | Ended) -> list[object]:
    values = [getattr(message, name) for name in message.__match_args__]
    return [_values(value) if isinstance(value, Outcome) else value for value in values]


def receive(channel: socket.socket) -> Run | Kill | Ready | Started | Ended | None:
    """Return the next message, None when the other side has closed or died.

    Raises BlockingIOError on a non-blocking channel when there is none yet, and OSError (EMFILE) when this process
    has no room for a command's descriptors.
    """
    data, ancillary = _next_datagram(channel)
    if not data:
        return None
    kind = data[:1]
    if kind in (_SMALL_RUN, _LARGE_RUN):
        return _run(data[1:], [fd for *_, raw in ancillary for fd in memoryview(raw).cast("i")])
    values = json.loads(data[1:])
    if kind == _KINDS[Ended]:
        outcome, again = values
        return Ended(Outcome(*outcome), again)
    return _PLAIN[kind](*values)


def _next_datagram(channel: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]]]:
    space = socket.CMSG_SPACE(_MAX_DESCRIPTORS * 4)
    while True:
        try:
            data, ancillary, _, _ = channel.recvmsg(_MAX_DATAGRAM, space, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # The other side closed with something of ours unread. Linux says so once, before it gives out what the
            # other side said last: the outcome of a command that an order to kill has crossed.
            continue
        return data, ancillary


def _run(text: bytes, descriptors: list[int]) -> Run:
    try:
        if not text:
            with open(descriptors.pop(0), "rb") as file:
                file.seek(0)  # the offset is shared with the writer
                text = file.read()
        argv, environment, *others = json.loads(text)
        command = Command(tuple(argv), environment, *others)
        if len(descriptors) != command.descriptors:
            raise IndexError
    except IndexError:
        for fd in descriptors:
            os.close(fd)
        # The kernel cuts off what does not fit under RLIMIT_NOFILE, without an error (unix(7), MSG_CTRUNC).
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None
    return Run(command, tuple(descriptors))
