"""What dead pulls left: found by their marks, and nothing else is touched."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.tree.paths import Folder
from controller.landing import Landing, Limits
from controller.leftovers import Mark, sweep

TOKEN = "0123456789abcdef"
HEAD = '"temporary names of a pull under way"\n'


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "web1/tree/deep").mkdir(parents=True)
    folder = Folder.at(str(tmp_path / "web1"))
    yield folder
    folder.release()


def tree(base: Folder) -> list[str]:
    top = Path(base.path)
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir() or path.is_symlink())


def dead(base: Folder, *lines: str, head: str = HEAD, token: str = TOKEN) -> Path:
    """Leave a mark as a pull does that is killed."""
    path = Path(base.path, f".fleet-{token}")
    path.write_text(head + "".join(f"{line}\n" for line in lines))
    path.chmod(0o600)
    return path


def touch(base: Folder, *names: str) -> None:
    for name in names:
        Path(base.path, name).touch()


def abandon(mark: Mark) -> None:
    """Let go of the lock, as the kernel does for a process that was killed."""
    assert mark._fd is not None
    os.close(mark._fd)
    mark._fd = None


def test_a_mark_tells_where(base: Folder) -> None:
    mark = Mark(base)
    assert tree(base) == []
    inner = base.enter("tree")
    for _ in range(2):
        mark.using(base, "x")
        mark.using(inner, "x")
    inner.release()
    name = f".fleet-{mark.token}"
    assert tree(base) == [name]
    assert Path(base.path, name).read_text() == HEAD + '""\n"tree"\n'
    assert Path(base.path, name).stat().st_mode & 0o777 == 0o600
    mark.close()
    mark.close()
    assert tree(base) == []


def test_what_a_dead_one_left_is_removed(base: Folder) -> None:
    mark = Mark(base)
    for folder in (base, inner := base.enter("tree")):
        mark.using(folder, "x")
    inner.release()
    token = mark.token
    touch(base, f".a.fleet-{token}c1", f"tree/.b\n.fleet-{token}l1f", "tree/.b.fleet-part", "a", "tree/.b.fleet-other")
    sweep(base)
    assert len(tree(base)) == 6, "it is under way"
    abandon(mark)
    sweep(base)
    assert tree(base) == ["a", "tree/.b.fleet-other", "tree/.b.fleet-part"]


def test_only_its_own_names(base: Folder) -> None:
    dead(base, '""')
    kept = [
        f".a.fleet-{TOKEN}",
        f"a.fleet-{TOKEN}c1",
        f".fleet-{TOKEN}c1",
        f".a.fleet-{TOKEN}c1.log",
        f"..fleet-{TOKEN}g",
    ]
    touch(base, *kept, f".b.fleet-{TOKEN}c2")
    sweep(base)
    assert tree(base) == sorted(kept)


@pytest.mark.parametrize(
    "line",
    ['".."', '"tree/../.."', '"/"', '"./tree"', '"link"', '"tree//deep"', '"gone"', '"a\\u0000b"', "5", "{", '"tree'],
)
def test_nothing_outside_is_touched(base: Folder, tmp_path: Path, line: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    victims = [
        tmp_path / f".a.fleet-{TOKEN}c1",
        outside / f".a.fleet-{TOKEN}c1",
        tmp_path / f"web1/tree/.a.fleet-{TOKEN}c1",
    ]
    for victim in victims:
        victim.touch()
    Path(base.path, "link").symlink_to(outside)
    dead(base, line)
    sweep(base)
    assert all(victim.exists() for victim in victims)
    assert not Path(base.path, f".fleet-{TOKEN}").exists()


@pytest.mark.parametrize("spoil", ["mode", "link", "fifo", "directory", "content", "name", "gone"])
def test_what_is_no_mark_stays(base: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str) -> None:
    path = Path(base.path, f".fleet-{TOKEN}")
    if spoil == "mode":
        dead(base, '""').chmod(0o644)
    elif spoil == "content":
        dead(base, '""', head='"else"\n')
    elif spoil == "link":
        dead(base, '""').rename(tmp_path / "mark")
        path.symlink_to(tmp_path / "mark")
    elif spoil == "fifo":
        os.mkfifo(path, 0o600)
    elif spoil == "directory":
        path.mkdir()
    elif spoil == "name":
        path = dead(base, '""').rename(f"{path}0")
    else:
        dead(base, '""')
        monkeypatch.setattr(fcntl, "flock", lambda file, how: path.unlink())
    touch(base, f".a.fleet-{TOKEN}c1")
    sweep(base)
    assert Path(base.path, f".a.fleet-{TOKEN}c1").exists()
    assert os.path.lexists(path) == (spoil != "gone")


def test_one_that_was_killed_before_it_wrote(base: Folder) -> None:
    dead(base, head="")
    sweep(base)
    assert tree(base) == []


def test_a_folder_that_cannot_be_listed(base: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    dead(base, '""')
    monkeypatch.setattr(os, "listdir", lambda fd: (_ for _ in ()).throw(OSError(errno.EACCES, "")))
    sweep(base)
    assert Path(base.path, f".fleet-{TOKEN}").exists()


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.ENOLCK])
def test_without_a_lock_there_is_no_mark(base: Folder, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    tried: list[int] = []

    def flock(fd: int, how: int) -> None:
        tried.append(how)
        if number == errno.EWOULDBLOCK:
            os.unlink(f"{base.path}/.fleet-{mark.token}")  # by the one that has the lock
        raise OSError(number, "")

    mark = Mark(base)
    monkeypatch.setattr(fcntl, "flock", flock)
    mark.using(base, "x")
    assert (tree(base), len(tried)) == ([], 3 if number == errno.EWOULDBLOCK else 1)
    mark.close()


def test_another_pull_removes_a_mark_that_is_being_made(base: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    removed: list[str] = []

    def flock(fd: int, how: int) -> None:
        if not removed:
            removed.append(f"{base.path}/.fleet-{mark.token}")
            os.unlink(removed[0])
        real(fd, how)

    mark = Mark(base)
    monkeypatch.setattr(fcntl, "flock", flock)
    mark.using(base, "x")
    assert Path(removed[0]).read_text() == HEAD + '""\n'
    mark.close()


def test_many_directories(base: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered is bounded; a directory that comes again is only noted twice."""
    monkeypatch.setattr("controller.leftovers._REMEMBERED", 2)
    mark = Mark(base)
    for name in ("a", "b", "c", "a"):
        folder = Folder(os.dup(base.fd), base.join(name))
        mark.using(folder, "x")
        folder.release()
    lines = Path(base.path, f".fleet-{mark.token}").read_text().splitlines()
    assert [json.loads(line) for line in lines[1:]] == ["a", "b", "c", "a"]
    mark.close()


@pytest.mark.parametrize("flat", [False, True])
def test_a_pull_sweeps_at_its_start(tmp_path: Path, base: Folder, flat: bool) -> None:
    folder = Folder.at(str(tmp_path)) if flat else base.hold()
    dead(folder, '""')
    touch(folder, f".a.fleet-{TOKEN}c1", "a")
    landing = Landing(str(tmp_path), ["/a"], ["web1"], flat=flat, limits=Limits())
    with landing.open("web1"):
        assert tree(folder) == ["a"]
    folder.release()
