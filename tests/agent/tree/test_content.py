"""Reading what is sent: its digest, its holes, and files that are not what they say."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.tree.content import PIECE, Content, digest_of, zeros
from agent.tree.errors import FileError
from agent.wire.constants import MAX_HOLE
from agent.wire.file_messages import Hole

MIB = 1 << 20
Open = Callable[..., Content]


@pytest.fixture
def content() -> Iterator[Open]:
    made: list[Content] = []

    def make(path: Path, limit: int | None = None, buffer: memoryview | None = None) -> Content:
        one = Content(os.open(path, os.O_RDONLY), limit=limit)
        made.append(one)
        if buffer is not None:
            one.use(buffer)
        return one

    yield make
    for one in made:
        one.close()


def sparse(path: Path, *data: tuple[int, bytes], size: int) -> Path:
    with open(path, "wb") as file:
        for place, text in data:
            file.seek(place)
            file.write(text)
        file.truncate(size)
    return path


def test_pieces(content: Open, tmp_path: Path) -> None:
    data = os.urandom(2 * PIECE + 5)
    (tmp_path / "f").write_bytes(data)
    one = content(tmp_path / "f")
    assert [len(piece) for piece in one.pieces()] == [PIECE, PIECE, 5]  # type: ignore[arg-type]
    assert one.digest.hexdigest() == hashlib.sha256(data).hexdigest()
    one.rewind()
    assert b"".join(bytes(piece) for piece in one.pieces()) == data  # type: ignore[arg-type]


def test_pieces_in_one_buffer(content: Open, tmp_path: Path) -> None:
    data = os.urandom(2 * PIECE + 5)
    (tmp_path / "f").write_bytes(data)
    buffer = memoryview(bytearray(PIECE))
    pieces = []
    for piece in content(tmp_path / "f", buffer=buffer).pieces():
        assert isinstance(piece, bytes) or piece.obj is buffer.obj  # type: ignore[union-attr]
        pieces.append(bytes(piece))  # type: ignore[arg-type]
    assert b"".join(pieces) == data


def test_an_empty_file(content: Open, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert list(content(tmp_path / "f").pieces()) == []


def test_holes(content: Open, tmp_path: Path) -> None:
    path = sparse(tmp_path / "f", (0, b"x" * 4096), (10 * MIB, b"y" * 4096), size=20 * MIB)
    one = content(path)
    assert list(one.pieces()) == [b"x" * 4096, 10 * MIB - 4096, b"y" * 4096, 10 * MIB - 4096]
    assert one.digest.hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()
    one.rewind()
    assert [piece for piece in one.pieces() if isinstance(piece, int)] == [10 * MIB - 4096] * 2


def test_a_large_hole_in_parts(content: Open, tmp_path: Path) -> None:
    one = content(sparse(tmp_path / "f", size=2 * MAX_HOLE + 5))
    assert list(one.pieces()) == [MAX_HOLE, MAX_HOLE, 5]


def test_a_file_system_without_holes(content: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lseek(fd: int, place: int, how: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "lseek", lseek)
    one = content(sparse(tmp_path / "f", size=2 * MIB))
    assert list(one.pieces()) == [bytes(PIECE)] * 8


def test_sparse_stays_sparse(transfer: type, source: Path, base: Path) -> None:
    path = sparse(source / "f", (5 * MIB, b"data"), size=100 * MIB)
    run = transfer([path], base)
    run.run()
    assert (base / "f").read_bytes() == path.read_bytes()
    assert (base / "f").stat().st_blocks <= path.stat().st_blocks + 16
    assert any(isinstance(message, Hole) for message in run.log)
    assert transfer([path], base).run()["f"].status.value == "unchanged"


def test_a_hole_that_cannot_be_left(transfer: type, source: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sparse(source / "f", size=100 * MIB)

    def ftruncate(fd: int, size: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(os, "ftruncate", ftruncate)
    assert transfer([path], base).run()["f"].error == "cannot write the new file: file too large"


def test_a_file_that_ends_early(content: Open, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(PIECE))
    one = content(tmp_path / "f")
    os.truncate(tmp_path / "f", 10)
    with pytest.raises(FileError, match=rf"^shrank to 10 of {PIECE} bytes while it was read$"):
        list(one.pieces())
    one.rewind()
    with pytest.raises(FileError, match=r"^shrank to 10 bytes while it was read$"):
        list(one.prefix(20))


def test_a_small_file_that_ends_early(content: Open, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    one = content(tmp_path / "f")
    os.truncate(tmp_path / "f", 5)
    with pytest.raises(FileError, match=r"^shrank to 5 of 10 bytes while it was read$"):
        list(one.pieces())


@pytest.mark.parametrize("path", ["/proc/version", "/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"])
def test_files_that_the_kernel_makes_up(transfer: type, base: Path, path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"no {path} here")
    name = os.path.basename(path)
    assert transfer([Path(path)], base).run()[name].error is None
    assert (base / name).read_bytes()[:20] == Path(path).read_bytes()[:20]


def test_an_endless_file_has_a_limit(content: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").touch()
    monkeypatch.setattr(os, "pread", lambda fd, size, place: bytes(size))
    with pytest.raises(FileError, match=r"^more than the limit of 1000000 bytes$"):
        list(content(tmp_path / "f", limit=1_000_000).pieces())


def test_read_errors(content: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"x")

    def pread(fd: int, size: int, place: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", pread)
    one = content(tmp_path / "f")
    with pytest.raises(FileError, match=r"^cannot read it: input/output error$"):
        list(one.pieces())
    with pytest.raises(FileError, match=r"^cannot read it: input/output error$"):
        list(digest_of(one.fd, longest=5))


def test_prefix(content: Open, tmp_path: Path) -> None:
    data = os.urandom(3 * PIECE)
    (tmp_path / "f").write_bytes(data)
    one = content(tmp_path / "f")
    list(one.prefix(PIECE + 7))
    assert one.digest.hexdigest() == hashlib.sha256(data[: PIECE + 7]).hexdigest()
    assert b"".join(bytes(piece) for piece in one.pieces()) == data[PIECE + 7 :]  # type: ignore[arg-type]


def test_a_digest_of_what_grows_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pread", lambda fd, size, place: bytes(size))
    steps = digest_of(0, longest=3 * PIECE)
    assert [*steps] == [True, True, True]  # and one byte more, which says that it has grown


def test_zeros() -> None:
    digest = hashlib.sha256()
    zeros(digest, 3 * MIB + 1)
    assert digest.digest() == hashlib.sha256(bytes(3 * MIB + 1)).digest()
