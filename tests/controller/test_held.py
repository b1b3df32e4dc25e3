"""Files that are sent from memory."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.tree.content import PAGE
from agent.tree.digests import Held
from agent.tree.errors import FileError
from agent.tree.options import SenderOptions
from agent.wire.file_messages import Entry, Kind
from controller import held
from controller.differences import LARGEST, Content
from controller.held import HeldFile, HeldFiles, read_small
from controller.sources import look_at

TEXT = b"one \xff\n"
SHA = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "conf"
    path.write_bytes(TEXT)
    path.chmod(0o640)
    os.utime(path, ns=(1, 2))
    return path


def small(*paths: Path, follow: bool = False) -> list[HeldFile]:
    return read_small(look_at([str(path) for path in paths], follow=follow), follow=follow)


def files_of(data: bytes, **options: object) -> HeldFiles:
    return HeldFiles([HeldFile.of("conf", data, 0o640, 2)], SenderOptions(**options))  # type: ignore[arg-type]


def test_what_a_sender_is_told() -> None:
    files = files_of(TEXT)
    (item,) = files.items()
    assert item.entry == Entry("conf", Kind.FILE, 0o640, len(TEXT), 2)
    assert item.held == Held(TEXT, SHA)
    assert files.content("conf") == Content.of(TEXT)
    files.close()


@pytest.mark.parametrize("size", [0, PAGE + 1, LARGEST + 1])
def test_what_is_sent_as_a_file(size: int) -> None:
    """Empty ones and large ones go as all others of their kind do."""
    files = files_of(bytes(size))
    (item,) = files.items()
    assert item.held is None
    fd = files.open(item)
    info = os.fstat(fd)
    assert (info.st_size, stat.S_ISREG(info.st_mode), info.st_nlink) == (size, True, 0)
    os.close(fd)
    assert files.content("conf") == (Content.of(bytes(size)) if size <= LARGEST else None)


def test_what_is_left_out() -> None:
    assert list(files_of(TEXT, exclude=("co*",)).items()) == []


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_no_room_in_memory(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    files = files_of(TEXT)
    (item,) = files.items()
    before = set(os.listdir("/proc/self/fd"))

    def fail(*args: object) -> int:
        raise OSError(errno.ENFILE, "")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(FileError, match=r"^cannot hold it in memory: too many open files in system$"):
        files.open(item)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_short_write_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of(TEXT)
    (item,) = files.items()
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    fd = files.open(item)
    assert os.pread(fd, 100, 0) == TEXT
    os.close(fd)


def test_small_files_are_read(conf: Path, tmp_path: Path) -> None:
    largest = tmp_path / "largest"
    largest.write_bytes(b"x" * PAGE)
    info = largest.stat()
    assert small(conf, largest) == [
        HeldFile("conf", TEXT, 0o640, 2, Held(TEXT, SHA)),
        HeldFile.of("largest", b"x" * PAGE, stat.S_IMODE(info.st_mode), info.st_mtime_ns),
    ]


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(PAGE)


def _linked_twice(path: Path) -> None:
    path.write_bytes(TEXT)
    os.link(path, path.with_name("other name"))


UNFIT: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.touch(),
    "too large": lambda path: path.write_bytes(b"x" * (PAGE + 1)),
    "a directory": lambda path: path.mkdir(),
    "a link": lambda path: path.symlink_to("conf"),
    "with holes": _sparse,
    "with two names": _linked_twice,
}


@pytest.mark.parametrize("kind", UNFIT)
def test_one_that_is_no_small_file(conf: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "unfit"
    UNFIT[kind](path)
    assert small(conf, path) == []


def test_what_a_link_leads_to(conf: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("conf")
    assert small(link, follow=True) == [HeldFile("link", TEXT, 0o640, 2, Held(TEXT, SHA))]


def test_many_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(TEXT)
    monkeypatch.setattr(held, "_MOST_HELD", 2 * len(TEXT))
    assert [file.name for file in small(*paths)] == ["a", "b"]
    monkeypatch.setattr(held, "_MOST_HELD", 2 * len(TEXT) - 1)
    assert small(*paths) == []


def test_one_that_has_gone(conf: Path) -> None:
    sources = look_at([str(conf)], follow=False)
    conf.unlink()
    assert read_small(sources, follow=False) == []


def test_a_pipe_in_its_place(conf: Path) -> None:
    """It is not waited for."""
    sources = look_at([str(conf)], follow=False)
    conf.unlink()
    os.mkfifo(conf)
    assert read_small(sources, follow=False) == []


@pytest.mark.parametrize("change", [b"", TEXT + b"!"], ids=["shorter", "longer"])
def test_one_that_changes_while_it_is_read(conf: Path, monkeypatch: pytest.MonkeyPatch, change: bytes) -> None:
    def read(fd: int, size: int) -> bytes:
        conf.write_bytes(change)
        return os.pread(fd, size, 0)

    monkeypatch.setattr(os, "read", read)
    assert small(conf) == []


def test_one_that_cannot_be_read(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(fd: int, size: int) -> bytes:
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, "read", read)
    before = set(os.listdir("/proc/self/fd"))
    assert small(conf) == []
    assert set(os.listdir("/proc/self/fd")) == before
