"""The new file beside the old one: its names, its remains, and who may not pass something off as them."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from agent.tree import writer
from agent.tree.errors import FileError
from agent.tree.paths import Folder
from agent.tree.writer import Attributes, Temporary, is_ours, part_name, take_part, temporary_name

SIZE = 100_000


@pytest.fixture
def folder(base: Path) -> Iterator[Folder]:
    one = Folder.at(str(base))
    yield one
    one.release()


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(name: str, number: int, module: ModuleType = os) -> None:
        def failing(*args: object, **options: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(module, name, failing)

    return install


def written(folder: Folder) -> Temporary:
    return filled(Temporary.create(folder, "f", "t"))


def filled(temporary: Temporary) -> Temporary:
    temporary.write(bytes(SIZE))
    return temporary


def findable(folder: Folder, token: str = "t") -> Temporary:
    """Return one that the next transfer finds."""
    return filled(Temporary.create(folder, "f", token, size=SIZE))


def names(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir())


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


@pytest.mark.parametrize("call", ["link", "flock"])
def test_remains_that_cannot_be_kept_are_removed(
    folder: Folder, base: Path, fail: Callable[..., None], call: str
) -> None:
    temporary = written(folder)
    fail(call, errno.EIO, fcntl if call == "flock" else os)
    temporary.keep()
    assert names(base) == []


def test_remains_never_take_the_place_of_others(folder: Folder, base: Path) -> None:
    (base / ".f.fleet-part").write_bytes(b"somebody else's")
    written(folder).keep()
    assert (base / ".f.fleet-part").read_bytes() == b"somebody else's"
    assert names(base) == [".f.fleet-part"]


def test_one_that_is_worth_it_is_found_from_the_start(folder: Folder, base: Path) -> None:
    one = findable(folder)
    assert names(base) == [".f.fleet-part"]
    assert take(folder) is None, "it is locked"
    other = findable(folder, "u")  # of another transfer at the same time
    assert names(base) == [".f.fleet-part", ".f.fleet-u"]
    other.keep()
    assert names(base) == [".f.fleet-part"]
    one.finish(Attributes(mode=0o644))
    assert names(base) == [".f.fleet-part"]
    one.sync()
    assert names(base) == [".f.fleet-t"], "open to others, and so never continued"
    one.replace()
    assert names(base) == ["f"]
    assert (base / "f").stat().st_mode & 0o777 == 0o644


def test_whole_but_not_settled_is_kept(folder: Folder, base: Path) -> None:
    one = findable(folder)
    one.finish(Attributes(mode=0o666))
    one.keep()
    assert names(base) == [".f.fleet-part"]
    assert (base / ".f.fleet-part").stat().st_mode & 0o777 == 0o600
    again = take(folder)
    assert again is not None
    again.discard()


def test_settled_is_not_kept(folder: Folder, base: Path) -> None:
    one = findable(folder)
    one.finish(Attributes(mode=0o666))
    one.settle()
    one.keep()
    assert names(base) == []


def test_given_up_while_it_is_read_again(folder: Folder, base: Path) -> None:
    findable(folder).keep()
    again = take(folder)
    assert again is not None
    assert again.offset == 0
    again.keep()
    assert names(base) == [".f.fleet-part"]
    assert (base / ".f.fleet-part").stat().st_size == SIZE


@pytest.mark.parametrize("step", ["settle", "replace"])
def test_one_whose_name_was_taken_away(folder: Folder, base: Path, step: str) -> None:
    """A sender has a file that is called as the remains are: it must not get the target's name."""
    one = findable(folder)
    (base / ".f.fleet-part").unlink()
    (base / ".f.fleet-part").write_bytes(b"theirs")
    one.finish(Attributes())
    with pytest.raises(FileError, match=r"^cannot rename the new file: it was replaced meanwhile$"):
        one.settle() if step == "settle" else one.replace()
    one.discard()
    assert (base / ".f.fleet-part").read_bytes() == b"theirs"
    assert names(base) == [".f.fleet-part"]


def test_one_that_cannot_leave_its_name(folder: Folder, base: Path, fail: Callable[..., None]) -> None:
    one = findable(folder)
    one.finish(Attributes())
    fail("rename", errno.EIO)
    with pytest.raises(FileError, match=r"^cannot rename the new file: input/output error$"):
        one.settle()
    one.discard()
    assert names(base) == []


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.ENOLCK])
def test_a_lock_that_is_not_to_be_had(folder: Folder, base: Path, fail: Callable[..., None], number: int) -> None:
    fail("flock", number, fcntl)
    one = findable(folder)
    # Somebody else has found it; or there are no locks, and nobody would ever take it.
    assert names(base) == ([".f.fleet-part"] if number == errno.EWOULDBLOCK else []) + [".f.fleet-t"]
    one.discard()


def test_another_has_found_it_and_is_done(folder: Folder, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: (base / ".f.fleet-part").unlink())
    one = findable(folder)
    assert names(base) == [".f.fleet-t"]
    one.discard()


def test_what_cannot_be_removed_stays(folder: Folder, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = written(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda *args, **options: (_ for _ in ()).throw(OSError(errno.EIO, "")))
        temporary.discard()
    (base / ".f.fleet-t").unlink()


@pytest.mark.parametrize("call", ["open", "flock"])
def test_remains_that_cannot_be_taken(folder: Folder, base: Path, fail: Callable[..., None], call: str) -> None:
    written(folder).keep()
    fail(call, errno.EMFILE, fcntl if call == "flock" else os)
    assert take(folder) is None
    assert names(base) == [".f.fleet-part"]


@pytest.mark.parametrize("spoil", ["replaced", "renamed"])
def test_remains_that_are_swapped_while_they_are_taken(
    folder: Folder, base: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    written(folder).keep()
    real = fcntl.flock

    def flock(fd: int, how: int) -> None:
        (base / ".f.fleet-part").rename(base / "f")
        if spoil == "replaced":
            (base / ".f.fleet-part").write_bytes(b"somebody else's")
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert take(folder) is None
    assert (base / "f").read_bytes() == bytes(SIZE)


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


@pytest.mark.parametrize("size", [SIZE - 1, SIZE])
def test_what_takes_long_to_sync_can_be_continued_meanwhile(
    folder: Folder, base: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(writer, "_WRITE_OUT", SIZE)
    seen: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: seen.append(("fdatasync", names(base))))
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append(("fsync", names(base))))
    one = Temporary.create(folder, "f", "t", size=size)
    one.write(bytes(size))
    one.finish(Attributes())
    one.sync()
    long = [("fdatasync", [".f.fleet-part"])] if size == SIZE else []
    assert seen == [*long, ("fsync", [".f.fleet-t"])]
    one.discard()
