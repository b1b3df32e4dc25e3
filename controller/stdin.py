"""Standard input for commands: one input here, and for each host a source of its own that is read as the host takes it.

What is given is opened and looked at once, before any host is reached. A file is read by each source at its own place;
what has no places (a pipe, a terminal) goes straight to the only host, or is spooled for several. So memory does not
grow with the hosts or with the bytes. The rule: an input that cannot be read to its end never looks as if it had ended.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
from collections.abc import Callable
from typing import BinaryIO, Protocol, runtime_checkable

from controller.errors import FleetError, InputError

__all__ = ["Fail", "Given", "Input", "Source", "open_file", "open_input", "reading_failed"]

Fail = Callable[[InputError], None]
Given = bytes | str | os.PathLike[str] | BinaryIO


class Source(Protocol):
    """Where one command's standard input comes from. One thread uses it."""

    def fileno(self) -> int | None:
        """Return the descriptor that polls as readable when `read` may give something, None when it would now."""

    def read(self, limit: int, /) -> bytes | None:
        """Return the next 1 to `limit` bytes, b"" at the end, None when there are none yet. Never blocks for long."""

    def close(self) -> None:
        """Give back what this source alone holds."""


@runtime_checkable
class Input(Protocol):
    """One input for all hosts of a run."""

    def begin(self, hosts: int, fail: Fail) -> None:
        """Get ready for sources of so many hosts. `fail` is told, from any thread, when no more can be read.

        Raises FleetError.
        """

    def source(self) -> Source:
        """Return a source that starts at the beginning. May be called from any thread."""

    def close(self) -> None:
        """Give everything back. Sources are of no use afterwards."""


def open_input(given: Given | Input, what: str = "stdin") -> Input:
    """Open bytes, the file of a path, or an open file with a descriptor, which is read from where it stands.

    What is open already is returned as it is. `what` is what errors are about. Raises FleetError.
    """
    if isinstance(given, Input):
        return given
    if isinstance(given, bytes):
        return _Bytes(given)
    if isinstance(given, str | os.PathLike):
        fd, name, place = open_file(os.fspath(given), what), os.fspath(given), 0
    else:
        fd, name = _duplicate(given, what), "standard input"
        place = given.tell() if given.seekable() else 0
    mode = os.fstat(fd).st_mode
    fault = None
    if stat.S_ISDIR(mode):
        fault = "is a directory"
    elif fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
        fault = "is not open for reading"
    if fault is not None:
        os.close(fd)
        raise FleetError(what, f"{name}: {fault}")
    return _File(fd, place, what) if stat.S_ISREG(mode) else _Stream(fd, what)


def open_file(path: str, what: str) -> int:
    """Open a file of this machine for reading; a FIFO waits for its writer. Raises FleetError."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        hint = "FILE is a file on this machine" if isinstance(error, FileNotFoundError) else None
        raise FleetError(what, f"{path}: {_reason(error)}", hint) from None
    except ValueError:
        raise FleetError(what, f"{path!r}: holds a NUL byte, which no path can") from None


def reading_failed(what: str, doing: str, error: OSError) -> InputError:
    """Return the error of an input that failed when the run was under way."""
    return InputError(what, f"{doing}: {_reason(error)}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _duplicate(file: BinaryIO, what: str) -> int:
    try:
        return os.dup(file.fileno())
    except (OSError, ValueError, AttributeError):  # no descriptor; closed; no file at all
        raise FleetError(what, "expected bytes, a path, or an open file with a descriptor") from None


class _Owner:
    """Holds a descriptor until it is closed, or forgotten: a run may be made and never done."""

    def __init__(self, fd: int, what: str) -> None:
        self.fd = fd
        self.what = what
        self.fail: Fail = _ignore

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def failed(self, error: OSError) -> None:
        self.fail(reading_failed(self.what, "cannot be read", error))


def _ignore(error: InputError) -> None:
    """Nobody has begun."""


class _Bytes:
    """Bytes that a program has."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)

    def begin(self, hosts: int, fail: Fail) -> None:
        """Nothing can fail."""

    def source(self) -> Source:
        return _Pieces(self._piece)

    def close(self) -> None:
        """Nothing is held."""

    def _piece(self, limit: int, place: int) -> bytes:
        return bytes(self._content[place : place + limit])


class _File(_Owner):
    """A regular file, which all hosts read through one descriptor, each at its own place."""

    def __init__(self, fd: int, place: int, what: str) -> None:
        super().__init__(fd, what)
        self._start = place

    def begin(self, hosts: int, fail: Fail) -> None:
        self.fail = fail

    def source(self) -> Source:
        return _Pieces(self._piece, self._start)

    def _piece(self, limit: int, place: int) -> bytes | None:
        try:
            return os.pread(self.fd, limit, place)
        except OSError as error:
            self.failed(error)
            return None


class _Pieces:
    """Reads what can be read at any place and at once."""

    def __init__(self, piece: Callable[[int, int], bytes | None], place: int = 0) -> None:
        self._piece = piece
        self._place = place

    def fileno(self) -> None:
        return None

    def read(self, limit: int, /) -> bytes | None:
        data = self._piece(limit, self._place)
        self._place += len(data or b"")
        return data

    def close(self) -> None:
        """Nothing is held."""


class _Stream(_Owner):
    """A pipe, a terminal, a socket, a device: what is read is gone from it."""

    def __init__(self, fd: int, what: str) -> None:
        super().__init__(fd, what)
        self._several: Input | None = None

    def begin(self, hosts: int, fail: Fail) -> None:
        self.fail = fail
        if hosts > 1:
            from controller.spool import Spool

            self._several = Spool(self.fd, self.what)
            self._several.begin(hosts, fail)

    def source(self) -> Source:
        return _Live(self) if self._several is None else self._several.source()

    def close(self) -> None:
        if self._several is not None:
            self._several.close()
        super().close()


class _Live:
    """The stream itself, for the only host."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._poller = select.poll()
        self._poller.register(stream.fd, select.POLLIN)

    def fileno(self) -> int:
        return self._stream.fd

    def read(self, limit: int, /) -> bytes | None:
        # The descriptor may be shared with others (a shell, a parent), so it is left as it is, blocking or not.
        if not self._poller.poll(0):
            return None
        try:
            return os.read(self._stream.fd, limit)
        except BlockingIOError:
            return None
        except OSError as error:
            self._stream.failed(error)
            return None

    def close(self) -> None:
        """The stream is not ours."""
