"""Reading one file to be sent: in pieces, with its holes, and with the SHA-256 of the whole in the same pass.

What is sent is the file as long as it was when it was opened: what a log grows by meanwhile belongs to the next pull.
Files that the kernel makes up (/proc, /sys) are longer or shorter than they say; those are read to their end.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Generator, Iterator

from agent.tree.digests import FileIdentity
from agent.tree.errors import FileError
from agent.wire.constants import MAX_DATA_PAYLOAD, MAX_HOLE

__all__ = ["PAGE", "PIECE", "Content", "digest_of", "zeros"]

PIECE = MAX_DATA_PAYLOAD
# Files up to this size, in bytes, are read in one piece, as an object of its own.
PAGE = PIECE // 4 - 1
_ZEROS = bytes(1 << 20)


class Content:
    """An open file that is being read. Owns `fd`.

    `size` is known from the start, but None for a file that does not say. `digest` runs over all that was read.
    """

    def __init__(self, fd: int, *, limit: int | None) -> None:
        info = os.fstat(fd)
        self.fd = fd
        # A file of no blocks and no bytes may be one of /proc, or really empty: both end where reading ends.
        self.size: int | None = info.st_size or None
        self.digest = hashlib.sha256()
        self.offset = 0
        self._limit = limit
        self._view: memoryview | None = None
        self._sparse = info.st_blocks * 512 < info.st_size
        self._data_ends = 0  # up to where it is known that there is no hole

    def use(self, buffer: memoryview) -> None:
        """Let large pieces be views of `buffer`, which has PIECE bytes: each is good until the next one is asked for.

        A new object for each would cost more than reading does.
        """
        self._view = buffer

    def identity(self) -> FileIdentity:
        """Return what the file is known by now."""
        return FileIdentity.of(os.fstat(self.fd))

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)

    def rewind(self) -> None:
        """Start anew from the first byte."""
        self.digest = hashlib.sha256()
        self.offset = self._data_ends = 0

    def pieces(self) -> Iterator[bytes | memoryview | int]:
        """Yield the rest: data, or the length of a hole. Raises FileError."""
        while self.size is None or self.offset < self.size:
            if self._sparse and (hole := self._hole()):
                zeros(self.digest, hole)
                self.offset += hole
                yield hole
                continue
            data = self._read()
            if not data:
                if self.size is None or self._says_a_page():
                    return
                raise FileError("", f"shrank to {self.offset} of {self.size} bytes while it was read")
            self.digest.update(data)
            self.offset += len(data)
            if self.size is None and self._limit is not None and self.offset > self._limit:
                raise FileError("", f"more than the limit of {self._limit} bytes")
            yield data

    def _says_a_page(self) -> bool:
        """Whether this is one of the kernel's files that say a whole page and hold less (/sys)."""
        return self.size is not None and self.size <= PAGE and os.fstat(self.fd).st_size == self.size

    def prefix(self, length: int) -> Iterator[None]:
        """Read the first `length` bytes into the digest, yielding between pieces. Raises FileError."""
        while self.offset < length:
            data = self._read(length - self.offset)
            if not data:
                raise FileError("", f"shrank to {self.offset} bytes while it was read")
            self.digest.update(data)
            self.offset += len(data)
            yield

    def _read(self, most: int = PIECE) -> bytes | memoryview:
        if self.size is not None:
            most = min(most, self.size - self.offset)
        if self._sparse:
            most = min(most, self._data_ends - self.offset) if self._data_ends > self.offset else most
        try:
            if self._view is None or most <= PAGE:
                return os.pread(self.fd, min(most, PIECE), self.offset)
            return self._view[: os.preadv(self.fd, [self._view[:most]], self.offset)]
        except OSError as error:
            raise FileError.from_os("read it", error) from None

    def _hole(self) -> int:
        """Return the length of the hole at the present place, 0 when there is data."""
        assert self.size is not None
        if self.offset < self._data_ends:
            return 0
        try:
            data = min(os.lseek(self.fd, self.offset, os.SEEK_DATA), self.size)
            if data == self.offset:
                self._data_ends = min(os.lseek(self.fd, self.offset, os.SEEK_HOLE), self.size)
        except OSError as error:
            if error.errno != errno.ENXIO:  # the file system knows no holes
                self._sparse = False
                return 0
            data = self.size  # nothing but a hole up to the end
        return min(data - self.offset, MAX_HOLE)


def zeros(digest: hashlib._Hash, length: int) -> None:
    """Add so many zero bytes to a digest."""
    while length:
        part = min(length, len(_ZEROS))
        digest.update(memoryview(_ZEROS)[:part])
        length -= part


def digest_of(fd: int, *, longest: int) -> Generator[bool, None, tuple[int, str]]:
    """Return (size, SHA-256) of an open file, yielding between pieces. Raises FileError.

    `longest` is the file's size; what grows as fast as it is read would have no end, so no more than that is read, and
    one byte to see that it has grown. One that says 0 (/proc) is read once.
    """
    digest = hashlib.sha256()
    offset = 0
    while True:
        # Not always a whole piece: to make room for one costs more than a small file takes to read.
        most = min(PIECE, longest + 1 - offset) if longest else PIECE
        try:
            data = os.pread(fd, most, offset)
        except OSError as error:
            raise FileError.from_os("read it", error) from None
        digest.update(data)
        offset += len(data)
        if len(data) < most or offset > longest:
            return offset, digest.hexdigest()
        yield True
