"""A script on its way to this host: kept where nobody else can reach it until all of it is there and agrees.

It lies in memory, or, where the system lets no memory be executed, in a file of the agent's own folder. Neither has a
name, so nothing is left of it when the last descriptor closes, however the agent ends. The rule: from `seal` on nobody
changes a byte of it, not even the user it runs as.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from agent.execution import Execution
from agent.memfd import memory_file
from agent.orders import Command
from agent.wire import messages as m
from agent.wire.constants import MAX_DATA_PAYLOAD

__all__ = ["Incoming", "ScriptError", "ScriptFile"]

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
# Whoever it runs as may read and execute it, which takes a descriptor.
_MODE = 0o555


class ScriptFile:
    """A file without a name. `folder` is for where there can be none in memory; None is for no such place."""

    def __init__(self, folder: str | None) -> None:
        """Make it. Raises OSError."""
        self._in_memory = True
        try:
            self._fd = memory_file("fleet-script", executable=True)
        except OSError as problem:
            if folder is None or problem.errno not in (errno.EACCES, errno.EPERM, errno.ENOSYS):
                raise
            self._in_memory = False
            # Not in a folder for all: Python looks for modules where a script lies.
            self._fd = _nameless_file(folder)

    def write(self, data: bytes | memoryview) -> None:
        """Add to it. Raises OSError."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def seal(self) -> int:
        """Take no more, and return the descriptor to run it from, which is this object's. Raises OSError."""
        os.fchmod(self._fd, _MODE)
        if self._in_memory:
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
        # What is open for writing is not executed (ETXTBSY, execve(2)).
        readable = os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
        os.close(self._fd)
        self._fd = readable
        return readable

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def _nameless_file(folder: str) -> int:
    """Return a file in `folder` that nobody can open by a name. Raises OSError.

    As `tempfile` does it, whose import takes a megabyte of every agent.
    """
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        if problem.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # the file system, or the kernel, has none
            raise
    name = os.path.join(folder, f".script-{os.urandom(16).hex()}")
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(name)
    return fd


class ScriptError(Exception):
    """A script that cannot be kept. `reason` is why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot keep the script: {self.reason}"


class Incoming:
    """A request whose script comes, and the standard input that may come before the script is all there."""

    def __init__(self, run: m.Run, command: Command, folder: str | None) -> None:
        """Make room for it; `folder` is as in ScriptFile. Raises ScriptError."""
        self.run = run
        self.command = command
        with _reasons():
            self._file = ScriptFile(folder)
        self._end: m.EndOfStream | None = None
        self._input = bytearray()  # no larger than the window
        self._input_end: m.EndOfStream | None = None

    def __str__(self) -> str:
        return "not come yet" if self._end is None else f"{self._end.bytes} bytes, SHA-256 {self._end.sha256}"

    def take(self, message: m.Message) -> bool:
        """Take what comes. Returns whether the script is all there. Raises ScriptError."""
        if isinstance(message, m.Script):
            with _reasons():
                self._file.write(message.data)
        elif isinstance(message, m.Stdin):
            self._input += message.data
        elif isinstance(message, m.EndOfStream):
            if message.stream is m.Stream.SCRIPT:
                self._end = message
            else:
                self._input_end = message
        return self._end is not None

    def seal(self) -> int:
        """Return the descriptor to run the script from, which is this object's. Raises ScriptError."""
        with _reasons():
            return self._file.seal()

    def feed_early(self, execution: Execution) -> None:
        """Hand over the standard input that has come."""
        for start in range(0, len(self._input), MAX_DATA_PAYLOAD):
            execution.feed(m.Stdin(bytes(self._input[start : start + MAX_DATA_PAYLOAD])))
        if self._input_end is not None:
            execution.feed(self._input_end)

    def close(self) -> None:
        """Let go of the script."""
        self._file.close()


@contextmanager
def _reasons() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise ScriptError(os.strerror(problem.errno or 0)) from problem
