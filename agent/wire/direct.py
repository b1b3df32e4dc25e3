"""The payload of one large frame, received in place: from the network into a buffer, and from there to its user.

A new object for each quarter of a megabyte costs more than decrypting it, and so does gathering a payload from pieces
of 16 KiB. So large payloads of data messages lie in one buffer, over and over: each is good until the next one begins.
The rules of a frame are those of `frames`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping

from agent.wire.constants import MAX_DATA_PAYLOAD
from agent.wire.frames import FRAME_HEADER
from agent.wire.room import make_room

__all__ = ["DirectPayload", "checksum_starts"]

# Smaller ones come whole in one read or two. The buffer is not worth making for what `true` or `df` say.
_WORTH_A_PLACE = 16 * 1024


def checksum_starts(codes: Iterable[int]) -> dict[int, int]:
    """Return where the checksum of a frame of each of these types begins: it is of the type, and then the payload."""
    return {code: zlib.crc32(bytes([code])) for code in codes}


class DirectPayload:
    """Receives the payloads of large frames of the types in `starts` (see `checksum_starts`).

    The buffer is there only while such frames come.
    """

    def __init__(self, starts: Mapping[int, int]) -> None:
        self._starts = starts
        self._view = memoryview(b"")
        self._code = 0
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
        if len(buffer) < FRAME_HEADER.size or buffer[4] not in self._starts:
            return False
        length, code, checksum = FRAME_HEADER.unpack_from(buffer)
        if length < _WORTH_A_PLACE:
            return False
        longest = limit(code)
        if length > longest:
            raise ValueError(f"frame of {length} bytes, expected no more than {longest}")
        if not self._view:
            self._view = make_room(MAX_DATA_PAYLOAD)
        self._code, self._length, self._checksum, self.open = code, length, checksum, True
        count = min(length, len(buffer) - FRAME_HEADER.size)
        with memoryview(buffer) as view:
            self._view[:count] = view[FRAME_HEADER.size : FRAME_HEADER.size + count]
        del buffer[: FRAME_HEADER.size + count]
        self._filled = count
        return True

    def room(self) -> memoryview | None:
        """Return where the next bytes of the stream belong, None when that is not here."""
        return self._view[self._filled : self._length] if self.open and self._filled < self._length else None

    def received(self, count: int) -> None:
        """Note that the first `count` bytes of `room` have come."""
        self._filled += count

    def take(self) -> tuple[int, memoryview]:
        """Return the frame's type and its whole payload. Raises ValueError."""
        self.open = False
        payload = self._view[: self._length]
        if zlib.crc32(payload, self._starts[self._code]) != self._checksum:
            raise ValueError(f"wrong checksum on a frame of type {self._code:#04x}")
        return self._code, payload

    def forget(self) -> None:
        """Give the buffer back: no such frames come for now."""
        if not self.open:
            self._view = memoryview(b"")
