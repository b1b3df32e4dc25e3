"""Frames and prefixed bodies: exact bytes, cut anywhere, and refused by their header alone."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import pytest

from agent.wire.constants import MAX_HANDSHAKE_BODY
from agent.wire.frames import FRAME_HEADER, encode_frame, encode_prefixed, read_frame, read_prefixed

# type, payload, the whole frame; the checksums come from `gzip`, not from this code
VECTORS = [
    (0x12, b"{}", "00000002 12 029c03b0 7b7d"),
    (0x20, b"hello\n", "00000006 20 d5297761 68656c6c6f0a"),
    (0x21, b"\0", "00000001 21 cd46071c 00"),
]


def any_length(code: int) -> int:
    return 2**32


@pytest.mark.parametrize(("code", "payload", "text"), VECTORS)
def test_vectors(code: int, payload: bytes, text: str) -> None:
    data = bytes.fromhex(text)
    assert encode_frame(code, payload) == data

    buffer = bytearray(data)
    assert read_frame(buffer, any_length) == (code, payload)
    assert buffer == b""

    buffer = bytearray()
    for position in range(len(data) - 1):
        buffer += data[position : position + 1]
        assert read_frame(buffer, any_length) is None
    buffer += data[-1:]
    assert read_frame(buffer, any_length) == (code, payload)

    buffer = bytearray(data + b"trailing")
    assert read_frame(buffer, any_length) == (code, payload)
    assert buffer == b"trailing"


def test_an_empty_payload_is_a_frame() -> None:
    assert read_frame(bytearray(encode_frame(0x01, b"")), any_length) == (0x01, b"")


def test_two_frames_come_one_after_the_other() -> None:
    buffer = bytearray(encode_frame(1, b"a") + encode_frame(2, b"b"))
    assert read_frame(buffer, any_length) == (1, b"a")
    assert read_frame(buffer, any_length) == (2, b"b")
    assert read_frame(buffer, any_length) is None


def test_every_flipped_bit_is_noticed() -> None:
    data = encode_frame(0x20, b"the payload")
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        if bit < 32:  # the length: too long waits for the rest, too short breaks the checksum
            longer = struct.unpack_from(">I", changed)[0] > len(b"the payload")
            if longer:
                assert read_frame(changed, any_length) is None
                continue
        with pytest.raises(ValueError, match=r"^wrong checksum on a frame of type 0x[0-9a-f]{2}$"):
            read_frame(changed, any_length)


def test_a_wrong_checksum_names_the_type() -> None:
    with pytest.raises(ValueError, match=r"^wrong checksum on a frame of type 0x20$"):
        read_frame(bytearray(FRAME_HEADER.pack(1, 0x20, 0) + b"x"), any_length)


def test_the_checksum_covers_the_type() -> None:
    with pytest.raises(ValueError, match=r"^wrong checksum on a frame of type 0x21$"):
        read_frame(bytearray(FRAME_HEADER.pack(1, 0x21, zlib.crc32(b"\x20x")) + b"x"), any_length)


@pytest.mark.parametrize("length", [9, 2**31, 2**32 - 1])
def test_the_header_alone_refuses_a_length_and_takes_no_memory(length: int) -> None:
    buffer = bytearray(FRAME_HEADER.pack(length, 0x20, 0))
    asked = []

    def limit(code: int) -> int:
        asked.append(code)
        return 8

    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"^frame of {length} bytes, expected no more than 8$"):
            read_frame(buffer, limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert asked == [0x20]
    assert peak < 64 * 1024


def test_the_header_alone_refuses_a_type() -> None:
    def limit(code: int) -> int:
        raise ValueError(f"no {code}")

    with pytest.raises(ValueError, match=r"^no 153$"):
        read_frame(bytearray(FRAME_HEADER.pack(0, 0x99, 0)), limit)


def test_the_longest_payload_is_allowed() -> None:
    assert read_frame(bytearray(encode_frame(0x20, b"x" * 8)), lambda code: 8) == (0x20, b"x" * 8)


# The login's u16 length --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"x", b"FLTH and so on", b"z" * MAX_HANDSHAKE_BODY])
def test_prefixed_bodies(body: bytes) -> None:
    data = encode_prefixed(body)
    assert data == len(body).to_bytes(2, "big") + body

    buffer = bytearray(data + b"trailing")
    assert read_prefixed(buffer) == body
    assert buffer == b"trailing"

    buffer = bytearray()
    for position in range(len(data) - 1):
        buffer += data[position : position + 1]
        assert read_prefixed(buffer) is None
    buffer += data[-1:]
    assert read_prefixed(buffer) == body


@pytest.mark.parametrize("length", [0, 1025, 65535])
def test_the_prefix_alone_refuses_a_length(length: int) -> None:
    with pytest.raises(ValueError, match=rf"^message of {length} bytes, expected 1 to 1024$"):
        read_prefixed(bytearray(length.to_bytes(2, "big")))


@pytest.mark.parametrize("length", [0, 1025])
def test_a_body_that_nobody_would_read_is_not_sent(length: int) -> None:
    with pytest.raises(ValueError, match=rf"^body of {length} bytes$"):
        encode_prefixed(b"x" * length)
