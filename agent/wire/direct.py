"""The payload of one large frame, received in place: from the network into a buffer, and from there to its user.

A new object for each quarter of a megabyte costs more than decrypting it. So the payloads of files' `Data` lie in one
buffer, over and over: each is good until the next one begins. The rules of a frame are those of `frames`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from agent.wire.constants import MAX_DATA_PAYLOAD
from agent.wire.frames import FRAME_HEADER

__all__ = ["DirectPayload"]


class DirectPayload:
    """Receives the payloads of frames of type `code`. The buffer is there only while such frames come."""

    def __init__(self, code: int) -> None:
        self._code = code
        self._start = zlib.crc32(bytes([code]))
        self._view = memoryview(b"")
        self._length = 0
        self._filled = 0
        self._checksum = 0
        self.open = False  # whether a frame's header is in, and its payload is not yet taken

    @property
    def full(self) -> bool:
        """Whether the whole payload is in."""
        return self.open and self._filled == self._length

    def begin(self, buffer: bytearray, limit: Callable[[int], int]) -> bool:
        """Take the header off the front of `buffer` if it is one of ours, and as much of the payload as is there.

        Raises ValueError as `frames.read_frame`.
        """
        if len(buffer) < FRAME_HEADER.size or buffer[4] != self._code:
            return False
        length, code, checksum = FRAME_HEADER.unpack_from(buffer)
        longest = limit(code)
        if length > longest:
            raise ValueError(f"frame of {length} bytes, expected no more than {longest}")
        if not self._view:
            self._view = memoryview(bytearray(MAX_DATA_PAYLOAD))
        self._length, self._filled, self._checksum, self.open = length, 0, checksum, True
        del buffer[: FRAME_HEADER.size]
        count = min(length, len(buffer))
        with memoryview(buffer) as view:
            self._view[:count] = view[:count]
        del buffer[:count]
        self._filled = count
        return True

    def room(self) -> memoryview | None:
        """Return where the next bytes of the stream belong, None when that is not here."""
        return self._view[self._filled : self._length] if self.open and self._filled < self._length else None

    def received(self, count: int) -> None:
        """Note that the first `count` bytes of `room` have come."""
        self._filled += count

    def take(self) -> memoryview:
        """Return the whole payload. Raises ValueError."""
        self.open = False
        payload = self._view[: self._length]
        if zlib.crc32(payload, self._start) != self._checksum:
            raise ValueError(f"wrong checksum on a frame of type {self._code:#04x}")
        return payload

    def forget(self) -> None:
        """Give the buffer back: no such frames come for now."""
        if not self.open:
            self._view = memoryview(b"")
