"""The agent's records: what is swept and what is not, and what can be rolled back."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.journal import Journal, Replaced, open_and_sweep
from agent.log import log
from agent.tree.errors import FileError
from agent.tree.paths import Folder

DAY = 24 * 3600.0
TOKEN = "0123456789abcdef"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    (tmp_path / "agent").mkdir()
    journal = Journal.open(str(tmp_path / "agent"))
    yield journal
    journal.close()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    before = log.handlers, log.level, log.propagate
    log.handlers, log.propagate = [Handler()], False
    log.setLevel(logging.INFO)
    yield found
    log.handlers, log.propagate = before[0], before[2]
    log.setLevel(before[1])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with temporary names of a transfer, and much that is not its."""
    path = tmp_path / "place"
    path.mkdir()
    for name in (f".a.fleet-{TOKEN}c1", f".b.fleet-{TOKEN}l2", ".c.fleet-fedcba9876543210c1", "d", f"e.fleet-{TOKEN}"):
        (path / name).touch()
    return path


def dead(journal: Journal, *places: Path | str, killed: bool = False) -> None:
    """Leave the record of a transfer that was cut off, or whose agent was killed."""
    record = journal.begin(TOKEN)
    for place in places:
        record.note(str(place))
    if killed:
        os.close(record._fd)
    else:
        record.close(clean=False)


def names(path: Path) -> set[str]:
    return {one.name for one in path.iterdir()}


def records(tmp_path: Path) -> set[str]:
    return names(tmp_path / "agent/transfers")


def test_only_its_own_names_are_swept(journal: Journal, place: Path, tmp_path: Path) -> None:
    dead(journal, place)
    assert journal.sweep(0.0) == 2
    assert names(place) == {".c.fleet-fedcba9876543210c1", "d", f"e.fleet-{TOKEN}"}
    assert records(tmp_path) == set()


def test_a_living_transfer_is_left_alone(journal: Journal, place: Path, tmp_path: Path) -> None:
    record = journal.begin(TOKEN)
    record.note(str(place))
    other = Journal.open(str(tmp_path / "agent"))
    assert other.sweep(0.0) == 0
    assert len(names(place)) == 5
    other.close()
    record.close(clean=True)
    assert records(tmp_path) == set()


def test_remains_of_a_transfer_that_died_with_its_agent_go_at_once(
    journal: Journal, place: Path, tmp_path: Path
) -> None:
    part, under_way = place / ".x.fleet-part", place / ".y.fleet-part"
    part.touch()
    under_way.touch()
    dead(journal, place, killed=True)
    with under_way.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # by another agent, say
        assert journal.sweep(0.0) == 3
        assert (part.exists(), under_way.exists()) == (False, True)
        assert records(tmp_path) == {TOKEN}
    assert journal.sweep(0.0) == 1
    assert not under_way.exists()
    assert records(tmp_path) == set()


def test_remains_that_cannot_be_asked_for_a_lock_go(
    journal: Journal, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / ".x.fleet-part").touch()
    (place / ".y.fleet-part").touch()
    dead(journal, place, killed=True)
    lock, opened = fcntl.flock, os.open

    def no_lock(fd: int, how: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("-part"):
            raise OSError(errno.ENOLCK, "No locks available")
        lock(fd, how)

    def no_open(path: str, *arguments: int, **options: int) -> int:
        if path == ".y.fleet-part":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(fcntl, "flock", no_lock)
    monkeypatch.setattr(os, "open", no_open)
    assert journal.sweep(0.0) == 4


def test_remains_are_kept_for_a_day(journal: Journal, place: Path, tmp_path: Path) -> None:
    part = place / ".x.fleet-part"
    part.touch()
    now = part.stat().st_mtime
    dead(journal, place)
    assert journal.sweep(now + DAY - 1) == 2
    assert part.exists()
    assert records(tmp_path) == {TOKEN}
    assert journal.sweep(now + DAY + 1) == 1
    assert not part.exists()
    assert records(tmp_path) == set()


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_remains_that_are_not_ours(journal: Journal, place: Path, tmp_path: Path, kind: str) -> None:
    part = place / ".x.fleet-part"
    part.symlink_to(place / "d") if kind == "link" else part.mkdir()
    dead(journal, place)
    journal.sweep(time.time() + 2 * DAY)
    assert part.is_symlink() or part.is_dir()


def test_a_directory_that_is_a_link_now(journal: Journal, place: Path, tmp_path: Path) -> None:
    """Somebody swapped it while the agent was dead: nothing of ours is where the link leads."""
    (tmp_path / "link").symlink_to(place)
    dead(journal, tmp_path / "link", tmp_path / "gone", place / "d")
    assert journal.sweep(0.0) == 0
    assert len(names(place)) == 5
    assert records(tmp_path) == set()


def test_a_record_that_was_cut(journal: Journal, place: Path, tmp_path: Path) -> None:
    text = json.dumps(str(place)) + '\n"/half'
    (tmp_path / "agent/transfers" / TOKEN).write_text(text)
    assert journal.sweep(0.0) == 2


def test_a_record_that_cannot_be_read(journal: Journal, place: Path, tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "agent/transfers/x").symlink_to("/etc/passwd")
    dead(journal, place)
    assert journal.sweep(0.0) == 2
    assert lines == ["cannot sweep the record x: too many levels of symbolic links"]


def test_a_folder_that_cannot_be_listed(
    journal: Journal, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(journal, place)

    def fail(folder: Folder) -> list[str]:
        raise FileError("list the directory", "input/output error")

    monkeypatch.setattr(Folder, "names", fail)
    assert journal.sweep(0.0) == 0


def test_a_folder_is_noted_once(journal: Journal, tmp_path: Path) -> None:
    record = journal.begin(TOKEN)
    for place in ["/a", "/a", *map(str, range(300)), "/a"]:
        record.note(place)
    lines = (tmp_path / "agent/transfers" / TOKEN).read_text().splitlines()
    assert lines == [json.dumps(place) for place in ["/a", *map(str, range(300)), "/a"]]
    record.close(clean=True)


def test_a_token_is_used_once(journal: Journal) -> None:
    record = journal.begin(TOKEN)
    with pytest.raises(FileExistsError):
        journal.begin(TOKEN)
    record.close(clean=True)


def test_a_folder_that_is_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "transfers").mkdir(mode=0o700)
    (tmp_path / "transfers").chmod(0o755)
    with pytest.raises(PermissionError, match=r"transfers is open to others$"):
        Journal.open(str(tmp_path))


def test_a_lock_is_gone_with_its_holder(journal: Journal, tmp_path: Path) -> None:
    record = journal.begin(TOKEN)
    with open(tmp_path / "agent/transfers" / TOKEN) as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        record.close(clean=False)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Rolling back ------------------------------------------------------------------------------------------------------


def test_undos(journal: Journal, tmp_path: Path) -> None:
    first = [Replaced("/a", "/a~", "1", "2"), Replaced("/\udcff", "/\udcff~", "3", "4")]
    for controller, run, replaced in (("ops", "r1", first), ("eve", "r2", first[:1]), ("ops", "r3", first[:1])):
        writer = journal.begin_undo(controller, run, TOKEN)
        writer.sync()
        for one in replaced:
            writer.note(one)
        writer.sync()
        writer.close()
        writer.close()
    undos = journal.undos()
    assert [(undo.controller, undo.run) for undo in undos] == [("ops", "r1"), ("eve", "r2"), ("ops", "r3")]
    assert list(journal.replaced(undos[:1])) == first[::-1]
    assert list(journal.replaced([undos[0], undos[2]])) == first[:1] + first[::-1]
    assert journal.sweep(0.0) == 0
    assert len(records(tmp_path)) == 3


def push(journal: Journal, controller: str, run: str, *replaced: Replaced) -> None:
    writer = journal.begin_undo(controller, run, TOKEN)
    for one in replaced:
        writer.note(one)
    writer.close()


SOME = Replaced("/a", "/a~", "1", "2")


def test_a_push_that_replaced_nothing_is_remembered(journal: Journal) -> None:
    push(journal, "ops", "r1")
    push(journal, "ops", "r2", SOME)
    first, second = journal.undos()
    assert (first.run, first.empty, second.run, second.empty) == ("r1", True, "r2", False)
    assert list(journal.replaced([first])) == []


def test_the_oldest_go(journal: Journal) -> None:
    for number in range(20):
        push(journal, "ops", f"r{number}", SOME)
    push(journal, "eve", "e", SOME)
    assert [undo.run for undo in journal.undos()] == [f"r{number}" for number in range(4, 20)] + ["e"]


def test_the_oldest_that_replaced_nothing_go_and_drive_out_no_other(journal: Journal) -> None:
    push(journal, "ops", "some", SOME)
    push(journal, "eve", "e")
    for number in range(70):
        push(journal, "ops", f"r{number}")
    assert [undo.run for undo in journal.undos()] == ["some", "e"] + [f"r{number}" for number in range(6, 70)]


def test_a_record_that_cannot_be_begun(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left on device"):
        patched.setattr(os, "write", full)
        journal.begin_undo("ops", "r1", TOKEN)
    assert records(tmp_path) == set()


def test_notes_are_synced_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    writer = journal.begin_undo("ops", "r1", TOKEN)
    writer.sync()
    writer.sync()
    assert len(synced) == 1
    writer.note(SOME)
    writer.sync()
    assert len(synced) == 2
    writer.close()
    writer.sync()
    assert len(synced) == 2


def test_a_record_of_nobody_is_swept(journal: Journal, tmp_path: Path) -> None:
    """Its agent was killed before it had written whose it is."""
    path = tmp_path / "agent/transfers/1-x.undo"
    path.write_text('{"contr')
    push(journal, "ops", "r1")
    now = path.stat().st_mtime
    journal.sweep(now + DAY - 1)
    assert path.exists()
    journal.sweep(now + DAY + 1)
    assert not path.exists()
    assert [undo.run for undo in journal.undos()] == ["r1"]


def test_an_undo_that_was_cut(journal: Journal, tmp_path: Path) -> None:
    lines = ['{"controller": "ops", "run": "r1"}', '{"path": "/a", "backup": "/b", "old": "1", "new": "2"}', '{"pa']
    folder = tmp_path / "agent/transfers"
    (folder / "1-x.undo").write_text("\n".join(lines))
    (folder / "2-x.undo").write_text("")
    (folder / "3-x.undo").write_text("[1]\n")
    undos = journal.undos()
    assert list(journal.replaced(undos)) == [Replaced("/a", "/b", "1", "2")]


def test_an_undo_with_other_lines(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "agent/transfers/1-x.undo").write_text('{"controller": "ops"}\n[]\n{"path": 1}\n{"path": "/a"}\n')
    assert list(journal.replaced(journal.undos())) == []


def test_the_folder_is_made_once(tmp_path: Path) -> None:
    for _ in range(2):
        Journal.open(str(tmp_path)).close()
    assert os.stat(tmp_path / "transfers").st_mode & 0o777 == 0o700


def test_the_start_of_an_agent(place: Path, tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "agent").mkdir()
    before = Journal.open(str(tmp_path / "agent"))
    dead(before, place)
    before.close()
    journal = open_and_sweep(str(tmp_path / "agent"), 0.0)
    assert journal is not None
    journal.close()
    assert lines == ["removed 2 temporary files of interrupted transfers"]
    journal = open_and_sweep(str(tmp_path / "agent"), 0.0)
    assert journal is not None
    journal.close()
    assert len(lines) == 1


def test_a_start_without_a_journal(tmp_path: Path, lines: list[str]) -> None:
    assert open_and_sweep(str(tmp_path / "none"), 0.0) is None
    assert lines == [f"cannot keep a journal of transfers in {tmp_path}/none: no such file or directory"]
    (tmp_path / "transfers").mkdir()
    (tmp_path / "transfers").chmod(0o777)
    assert open_and_sweep(str(tmp_path), 0.0) is None
    assert lines[1].endswith("transfers is open to others")
