"""A stream for several readers, each at its own place: kept in a temporary file without a name, which grows.

One thread reads the stream, and not far ahead of the quickest reader: an endless input fills no disk unless somebody
takes it all. A reader that has come to the end for now waits on a descriptor of its own. What is there stays there,
for hosts whose turn comes late.
"""

from __future__ import annotations

import os
import select
import tempfile
import threading

from controller.errors import FleetError
from controller.stdin import Fail, reading_failed

__all__ = ["Spool"]

_PIECE = 64 * 1024
# How far to read ahead of the quickest reader, in bytes: a few times what one connection has under way.
_AHEAD = 4 * 1024 * 1024


class Spool:
    """The input `fd`, spooled. The descriptor stays the caller's, and is open until `close`."""

    def __init__(self, fd: int, what: str, *, ahead: int = _AHEAD) -> None:
        self._fd = fd
        self._what = what
        self._ahead = ahead
        self._file = -1
        self._stop = -1
        self._changed = threading.Condition()  # guards what is below; also says that there is room again
        self._size = 0
        self._furthest = 0
        self._started = False
        self._ended = False
        self._closed = False
        self._waiting: set[_Reader] = set()
        self._thread = threading.Thread(target=self._feed, name="spool", daemon=True)

    def begin(self, hosts: int, fail: Fail) -> None:
        """Make the file. Raises FleetError when there is no place for the file."""
        self._fail = fail
        try:
            with tempfile.TemporaryFile(buffering=0) as file:
                self._file = os.dup(file.fileno())
        except OSError as error:
            raise FleetError(self._what, f"cannot be spooled: {error.strerror}", "TMPDIR says where") from None
        self._stop = os.eventfd(0)

    def source(self) -> _Reader:
        """Return a reader at the beginning. With the first one the reading begins."""
        with self._changed:
            if not self._started:
                self._started = True
                self._thread.start()
        return _Reader(self)

    def close(self) -> None:
        """Stop reading, and give the file back."""
        if self._stop < 0:
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        os.eventfd_write(self._stop, 1)
        if self._started:
            self._thread.join()
        for fd in (self._file, self._stop):
            os.close(fd)
        self._stop = -1

    # The thread.

    def _feed(self) -> None:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        poller.register(self._stop, select.POLLIN)
        while self._wait_for_room():
            if self._stop in {fd for fd, _ in poller.poll()}:
                return
            if not self._take_piece():
                return

    def _wait_for_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._size < self._furthest + self._ahead)
            return not self._closed

    def _take_piece(self) -> bool:
        """Move one piece from the stream to the file. Returns whether there may be more."""
        try:
            data = os.read(self._fd, _PIECE)
        except BlockingIOError:  # somebody else has read it
            return True
        except OSError as error:
            self._fail(reading_failed(self._what, "cannot be read", error))
            return False
        try:
            self._write(data)
        except OSError as error:
            self._fail(reading_failed(self._what, f"cannot be spooled in {tempfile.gettempdir()}", error))
            return False
        with self._changed:
            self._size += len(data)
            self._ended = not data
            for reader in self._waiting:
                reader.wake()
            self._waiting.clear()
        return bool(data)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    # The readers' threads.

    def read(self, reader: _Reader, place: int, limit: int) -> bytes | None:
        """Return what is at a place; None when there is nothing yet, and then `reader` is woken when there is."""
        with self._changed:
            count = min(limit, self._size - place)
            if not count:
                if self._ended:
                    return b""
                self._waiting.add(reader)
                return None
        try:
            data = os.pread(self._file, count, place)
        except OSError as error:
            self._fail(reading_failed(self._what, "cannot be read from its spool", error))
            return None
        with self._changed:
            if place + len(data) > self._furthest:
                self._furthest = place + len(data)
                self._changed.notify()
        return data

    def forget(self, reader: _Reader) -> None:
        """Wake this reader no more."""
        with self._changed:
            self._waiting.discard(reader)


class _Reader:
    """One host's place in the spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._place = 0
        self._dry = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int | None:
        return self._bell if self._dry else None

    def read(self, limit: int, /) -> bytes | None:
        if self._dry:
            try:
                os.eventfd_read(self._bell)
            except BlockingIOError:
                return None
        data = self._spool.read(self, self._place, limit)
        self._dry = data is None
        self._place += len(data or b"")
        return data

    def wake(self) -> None:
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        self._spool.forget(self)
        os.close(self._bell)
