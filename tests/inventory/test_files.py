"""Reading files: limits, encodings, changes meanwhile."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from inventory import InventoryError
from inventory.files import decode, listed, read_bytes, read_stream, refuse_control


def test_a_file_is_read(write: Callable[..., str]) -> None:
    assert read_bytes(write(b"\0\xff")) == b"\0\xff"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing", "no such file or directory"), (".", "is a directory"), ("a\0b", "embedded null byte")],
)
def test_unreadable(path: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=rf"cannot be read \({reason}\)$"):
        read_bytes(str(tmp_path / path) if path != "." else str(tmp_path))


def test_a_file_over_the_limit(write: Callable[..., str]) -> None:
    path = write(b"x" * 11)
    assert len(read_bytes(path, limit=11)) == 11
    with pytest.raises(InventoryError, match=r": over the limit of 10 bytes$"):
        read_bytes(path, limit=10)


def test_a_stream_is_read_in_pieces() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(1)

    assert read_stream(Slow(b"abc"), "stdin") == b"abc"
    with pytest.raises(InventoryError, match=r"^stdin: over the limit of 2 bytes$"):
        read_stream(Slow(b"abc"), "stdin", limit=2)


@pytest.mark.parametrize("change", [b"longer than before", b"same"])
def test_a_file_that_changes_while_it_is_read(
    change: bytes, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(b"SAME")
    fstat = os.fstat
    calls: list[int] = []

    def fstat_and_change(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        if not calls:
            Path(path).write_bytes(change)
            os.utime(path, ns=(1, 1))
        calls.append(descriptor)
        return status

    monkeypatch.setattr("inventory.files.os.fstat", fstat_and_change)
    with pytest.raises(InventoryError, match=r"hosts\.ini: changed while it was read$"):
        read_bytes(path)


def test_an_error_while_reading(write: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("inventory.files.read_stream", broken)
    with pytest.raises(InventoryError, match=r"cannot be read \(input/output error\)$"):
        read_bytes(write(b"x"))


def test_a_pipe_is_read_unless_a_file_is_wanted(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"web1\n")
    os.close(writer)
    assert read_bytes(f"/dev/fd/{reader}") == b"web1\n"
    os.close(reader)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InventoryError, match=r"fifo: not a file$"):
        read_bytes(str(tmp_path / "fifo"), regular=True)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"\xef\xbb\xbfa\r\nb", "a\nb"),
        (b"# \xff\nb", "\nb"),
        (b"a\n  ;\xff\n", "a\n\n"),
        ("größe".encode(), "größe"),
    ],
)
def test_decode(data: bytes, text: str) -> None:
    assert decode(data, "f") == text


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\xff", "f:1: expected UTF-8, found the byte 0xff at column 1"),
        (b"a\n#\xff\nb \xc3\n", "f:3: expected UTF-8, found the byte 0xc3 at column 3"),
        ("x".encode("utf-16"), "f:1: expected UTF-8, found the byte 0xff at column 1"),
    ],
)
def test_not_utf8(data: bytes, error: str) -> None:
    with pytest.raises(InventoryError) as caught:
        decode(data, "f")
    assert str(caught.value) == error


@pytest.mark.parametrize("char", ["\x00", "\x0b", "\x0c", "\r", "\x1b", "\x7f", "\x85", "\u2028"])
def test_control_characters(char: str) -> None:
    refuse_control("a\tb\nc", "f")
    with pytest.raises(InventoryError, match=rf"^f:2: control character U\+{ord(char):04X}$"):
        refuse_control(f"a\n{char}b", "f")


def test_a_directory_is_listed_in_ascii_order(tmp_path: Path) -> None:
    for name in ("b", "a", "B", "é", ".x", "a~", "n.md", "group_vars", "host_vars"):
        (tmp_path / name).touch()
    names, above = listed(str(tmp_path))
    assert names == ["B", "a", "b", "é"]
    with pytest.raises(InventoryError, match="a symbolic link to a directory that it is in"):
        listed(str(tmp_path), above)
    with pytest.raises(InventoryError, match=r"cannot be read \(no such file or directory\)"):
        listed(str(tmp_path / "missing"))
