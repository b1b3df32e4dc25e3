"""The new file beside the old one: its names, its remains, and who may not pass something off as them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.tree.errors import FileError
from agent.tree.paths import Folder
from agent.tree.writer import Temporary, is_ours, part_name, take_part, temporary_name

SIZE = 100_000


@pytest.fixture
def folder(base: Path) -> Iterator[Folder]:
    one = Folder.at(str(base))
    yield one
    one.release()


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(name: str, number: int) -> None:
        def failing(*args: object, **options: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, name, failing)

    return install


def written(folder: Folder) -> Temporary:
    temporary = Temporary.create(folder, "f", "t")
    temporary.write(bytes(SIZE))
    return temporary


def take(folder: Folder) -> Temporary | None:
    return take_part(folder, "f", "u", using=lambda: None)


@pytest.mark.parametrize("name", ["f", "x" * 255, "\udcff" * 255, "ä" * 127, ".hidden"])
def test_names_fit(name: str) -> None:
    temporary = temporary_name(name, "0123456789abcdefc" + "f" * 8)
    assert len(os.fsencode(temporary)) <= 255
    assert is_ours(temporary)
    assert is_ours(temporary, "0123456789abcdef")
    assert not is_ours(temporary, "1123456789abcdef")
    assert is_ours(part_name(name))
    assert not is_ours(name)


def test_kept_and_taken_again(folder: Folder, base: Path) -> None:
    written(folder).keep()
    assert [path.name for path in base.iterdir()] == [".f.fleet-part"]
    again = take(folder)
    assert again is not None
    assert list(again.read_again()) == [True]
    assert again.offset == SIZE
    assert take(folder) is None  # it is somebody's now
    again.write(b"more")
    again.replace()
    assert (base / "f").read_bytes() == bytes(SIZE) + b"more"


def test_remains_that_cannot_be_kept_are_removed(folder: Folder, base: Path, fail: Callable[..., None]) -> None:
    temporary = written(folder)
    fail("rename", errno.EIO)
    temporary.keep()
    assert list(base.iterdir()) == []


def test_what_cannot_be_removed_stays(folder: Folder, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = written(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda *args, **options: (_ for _ in ()).throw(OSError(errno.EIO, "")))
        temporary.discard()
    (base / ".f.fleet-t").unlink()


@pytest.mark.parametrize(("call", "left"), [("rename", [".f.fleet-part"]), ("open", [])])
def test_remains_that_cannot_be_taken(
    folder: Folder, base: Path, fail: Callable[..., None], call: str, left: list[str]
) -> None:
    written(folder).keep()
    fail(call, errno.EMFILE)
    assert take(folder) is None
    assert [path.name for path in base.glob(".*")] == left


def test_remains_that_are_swapped_while_they_are_taken(
    folder: Folder, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(folder).keep()
    real = os.rename

    def rename(*args: object, **options: object) -> None:
        (base / ".f.fleet-part").unlink()
        (base / ".f.fleet-part").write_bytes(b"somebody else's")
        real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", rename)
    assert take(folder) is None
    assert list(base.iterdir()) == []


@pytest.mark.parametrize(
    ("step", "call", "text"),
    [
        (lambda one: list(one.read_again()), "pread", "cannot read the new file: input/output error"),
        (lambda one: one.restart(), "ftruncate", "cannot write the new file: input/output error"),
        (lambda one: one.hole(5), "ftruncate", "cannot write the new file: input/output error"),
    ],
)
def test_errors(
    folder: Folder, fail: Callable[..., None], step: Callable[[Temporary], object], call: str, text: str
) -> None:
    temporary = written(folder)
    fail(call, errno.EIO)
    with pytest.raises(FileError) as caught:
        step(temporary)
    assert str(caught.value) == text
    temporary.discard()


def test_a_large_file_is_written_out_on_the_way(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, start, length, advice: calls.append((start, length)))
    temporary = Temporary.create(folder, "f", "t")
    piece = bytes(1 << 20)
    for _ in range(70):
        temporary.write(piece)
    temporary.discard()
    assert calls == [(0, 32 << 20), (32 << 20, 32 << 20)]


def test_enough_space(folder: Folder) -> None:
    temporary = Temporary.create(folder, "f", "t", min_free=1)
    piece = bytes(1 << 20)
    for _ in range(33):
        temporary.write(piece)
    assert temporary.offset == 33 << 20
    temporary.discard()
