"""Frames: how messages follow one another in the stream of bytes after the login.

    u32 length of the payload | u8 type | u32 CRC-32 of type and payload | payload          (big endian)

TLS already keeps an attacker out. The checksum is end to end: it catches our own framing bugs and bad memory.

A reader here does one of three things: it consumes a whole frame and returns it, it raises ValueError, or it returns
None because it needs more bytes. It never waits for a payload that it would refuse.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from agent.wire.constants import MAX_HANDSHAKE_BODY

__all__ = ["FRAME_HEADER", "encode_frame", "encode_prefixed", "frame_header", "read_frame", "read_prefixed"]

FRAME_HEADER = struct.Struct(">IBI")
_PREFIX = struct.Struct(">H")
_TYPE_CHECKSUM = [zlib.crc32(bytes([code])) for code in range(256)]


def encode_frame(code: int, payload: bytes) -> bytes:
    """Return the frame of type `code` around `payload`."""
    return frame_header(code, payload) + payload


def frame_header(code: int, payload: bytes | memoryview) -> bytes:
    """Return what stands in front of `payload` in a frame of type `code`: for who sends a large one without a copy."""
    return FRAME_HEADER.pack(len(payload), code, zlib.crc32(payload, _TYPE_CHECKSUM[code]))


def read_frame(buffer: bytearray, limit: Callable[[int], int]) -> tuple[int, bytes] | None:
    """Take a frame off the front of `buffer`: (type, payload), or None when it is not all there yet.

    `limit` gives the longest payload, in bytes, that a type may have just now, and raises ValueError for a type that
    has no business there. It is asked as soon as the header is in, before any of the payload is.
    """
    if len(buffer) < FRAME_HEADER.size:
        return None
    length, code, checksum = FRAME_HEADER.unpack_from(buffer)
    longest = limit(code)
    if length > longest:
        raise ValueError(f"frame of {length} bytes, expected no more than {longest}")
    end = FRAME_HEADER.size + length
    if len(buffer) < end:
        return None
    with memoryview(buffer) as view:
        payload = bytes(view[FRAME_HEADER.size : end])
    del buffer[:end]
    if zlib.crc32(payload, _TYPE_CHECKSUM[code]) != checksum:
        raise ValueError(f"wrong checksum on a frame of type {code:#04x}")
    return code, payload


def encode_prefixed(body: bytes) -> bytes:
    """Return a message of the login: u16 length, body."""
    if not 0 < len(body) <= MAX_HANDSHAKE_BODY:
        raise ValueError(f"body of {len(body)} bytes")
    return _PREFIX.pack(len(body)) + body


def read_prefixed(buffer: bytearray) -> bytes | None:
    """Take the body of a message of the login off the front of `buffer`, or return None when it is not all there."""
    if len(buffer) < _PREFIX.size:
        return None
    (length,) = _PREFIX.unpack_from(buffer)
    if not 0 < length <= MAX_HANDSHAKE_BODY:
        raise ValueError(f"message of {length} bytes, expected 1 to {MAX_HANDSHAKE_BODY}")
    end = _PREFIX.size + length
    if len(buffer) < end:
        return None
    body = bytes(buffer[_PREFIX.size : end])
    del buffer[:end]
    return body
