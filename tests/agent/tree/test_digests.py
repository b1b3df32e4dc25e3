"""The digest of a file that goes to many: read once, and never taken for that of another content."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.tree import content as reading
from agent.tree.digests import Digests, FileIdentity, Held, State
from agent.tree.entries import Item, Listing
from agent.tree.options import SenderOptions
from agent.wire.file_messages import FileStatus

NOW = 1_700_000_000.0
OLD = FileIdentity(1, 2, 300_000, int((NOW - 60) * 1e9), int((NOW - 60) * 1e9))
DIGEST = "a" * 64


@pytest.fixture
def digests() -> Digests:
    return Digests(wall=lambda: NOW, patience=0.0)


def test_the_first_computes_and_the_others_wait(digests: Digests) -> None:
    assert digests.begin(OLD) is State.YOURS
    assert digests.begin(OLD) is State.OTHERS
    digests.end(OLD, DIGEST, OLD)
    assert [digests.begin(OLD) for _ in range(2)] == [DIGEST, DIGEST]


def test_who_gives_up_leaves_it_to_the_next(digests: Digests) -> None:
    assert digests.begin(OLD) is State.YOURS
    digests.end(OLD, None, None)
    assert digests.begin(OLD) is State.YOURS


def test_a_file_that_changed_while_it_was_read_is_not_known(digests: Digests) -> None:
    assert digests.begin(OLD) is State.YOURS
    digests.end(OLD, DIGEST, FileIdentity(1, 2, 300_001, OLD.modified, OLD.changed))
    assert digests.begin(OLD) is State.YOURS


@pytest.mark.parametrize("field", ["modified", "changed"])
def test_a_file_that_changed_a_moment_ago_is_not_known(digests: Digests, field: str) -> None:
    """It may be written once more within the same step of its times."""
    times = {"modified": OLD.modified, "changed": OLD.changed, field: int((NOW - 1.9) * 1e9)}
    young = FileIdentity(1, 2, 3, **times)
    assert digests.begin(young) is State.YOURS
    digests.end(young, DIGEST, young)
    assert digests.begin(young) is State.YOURS


def test_other_files_do_not_wait(digests: Digests) -> None:
    assert digests.begin(OLD) is State.YOURS
    assert digests.begin(FileIdentity(1, 3, 300_000, OLD.modified, OLD.changed)) is State.YOURS


def test_the_end_wakes_who_waits() -> None:
    digests = Digests(wall=lambda: NOW, patience=60.0)
    assert digests.begin(OLD) is State.YOURS
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(digests.begin(OLD)))
    waiting.start()
    digests.end(OLD, DIGEST, OLD)
    waiting.join(60)
    assert found == [DIGEST]


# Small files in memory ----------------------------------------------------------------------------------------------

CONTENT = Held(b"content", DIGEST)
LARGE_ENOUGH = len(CONTENT.data) + 600


def test_small_files_are_kept_while_there_is_room() -> None:
    digests = Digests(room=2 * LARGE_ENOUGH, wall=lambda: NOW)
    files = [FileIdentity(1, number, 7, OLD.modified, OLD.changed) for number in range(3)]
    digests.keep(files[0], CONTENT, files[0])
    for file in files:
        digests.keep(file, CONTENT, file)
    assert [digests.held(file) for file in files] == [CONTENT, CONTENT, None]
    assert digests.held(None) is None


def test_no_small_file_is_kept_without_room() -> None:
    digests = Digests(room=LARGE_ENOUGH - 1, wall=lambda: NOW)
    digests.keep(OLD, CONTENT, OLD)
    assert digests.held(OLD) is None


def test_a_small_file_that_changes_is_not_kept() -> None:
    digests = Digests(room=LARGE_ENOUGH, wall=lambda: NOW)
    other = FileIdentity(1, 2, 300_001, OLD.modified, OLD.changed)
    young = FileIdentity(1, 2, 7, OLD.modified, int((NOW - 1.9) * 1e9))
    digests.keep(OLD, CONTENT, other)
    digests.keep(young, CONTENT, young)
    assert [digests.held(one) for one in (OLD, other, young)] == [None] * 3


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened to be sent, from now on."""
    names: list[str] = []
    real = Listing.open

    def opening(self: Listing, item: Item) -> int:
        names.append(item.names[-1])
        return real(self, item)

    monkeypatch.setattr(Listing, "open", opening)
    return names


def test_a_tree_of_small_files_is_read_once(push: Callable[..., Any], tmp_path: Path, opened: list[str]) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    contents = {"small": b"content", "empty": b"", "large": b"x" * (reading.PAGE + 1)}
    for name, content in contents.items():
        (tree / name).write_bytes(content)
    later = tree.stat().st_ctime + 3
    digests = Digests(room=1 << 20, wall=lambda: later)
    for number in range(3):
        base = tmp_path / f"host{number}"
        base.mkdir()
        push(tree, base=base, digests=digests)
        assert {path.name: path.read_bytes() for path in (base / "tree").iterdir()} == contents
    assert sorted(opened) == ["empty"] * 3 + ["large"] * 3 + ["small"]


def test_a_small_file_that_was_written_anew_is_read_anew(
    push: Callable[..., Any], tmp_path: Path, opened: list[str]
) -> None:
    """Also when it is as long as before, and as old as it was by its own account."""
    original = tmp_path / "original"
    digests = Digests(room=1 << 20, wall=lambda: 1e10)
    for number, content in enumerate((b"one", b"two", b"two")):
        if not original.exists() or original.read_bytes() != content:
            original.write_bytes(content)
            os.utime(original, ns=(1, 1))
        base = tmp_path / f"host{number}"
        base.mkdir()
        push(original, base=base, digests=digests)
        assert (base / "original").read_bytes() == content
    assert opened == ["original", "original"]


# Digests of large ones ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [False, True])
def test_a_large_file_for_many_is_hashed_once(
    push: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    content = b"x" * 600_000
    original = tmp_path / "original"
    original.write_bytes(content)
    later = original.stat().st_ctime + 3
    digests = Digests(wall=lambda: later)
    read: list[int] = []
    pieces = reading.Content.pieces

    def counted(self: reading.Content) -> Any:
        for piece in pieces(self):
            read.append(len(piece))  # type: ignore[arg-type]
            yield piece

    monkeypatch.setattr(reading.Content, "pieces", counted)
    for number in range(3):
        base = tmp_path / f"host{number}"
        base.mkdir()
        (base / "original").write_bytes(content)
        outcomes = push(original, base=base, digests=digests, sending=SenderOptions(check=check))
        (outcome,) = outcomes.values()
        assert (outcome.status, outcome.sha256) == (FileStatus.UNCHANGED, hashlib.sha256(content).hexdigest())
    assert sum(read) == 600_000


def test_a_transfer_waits_for_the_one_that_reads(push: Callable[..., Any], tmp_path: Path, base: Path) -> None:
    """Somebody reads the file, gives up, and then this transfer does it."""
    original = tmp_path / "original"
    original.write_bytes(b"x" * 600_000)
    (base / "original").write_bytes(b"x" * 600_000)
    digests = Digests(patience=0.0)
    identity = FileIdentity.of(original.stat())
    assert digests.begin(identity) is State.YOURS
    begin, asked = digests.begin, []

    def count(one: FileIdentity) -> str | State:
        asked.append(one)
        if len(asked) == 3:
            digests.end(identity, None, None)
        return begin(one)

    digests.begin = count  # type: ignore[method-assign]
    (outcome,) = push(original, base=base, digests=digests).values()
    assert outcome.status is FileStatus.UNCHANGED
    assert asked == [identity] * 3
