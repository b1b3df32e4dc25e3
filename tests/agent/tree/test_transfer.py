"""One transfer after the other, whole: what is there afterwards, and what is said of it."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.tree.options import ReceiverOptions
from agent.tree.paths import Folder
from agent.tree.places import Named
from agent.tree.receiver import Receiver
from agent.wire import file_messages as f
from agent.wire.constants import FEATURES
from agent.wire.file_messages import FileStatus, Outcome

Push = Callable[..., dict[str, Outcome]]
CHANGED, UNCHANGED, FAILED = FileStatus.CHANGED, FileStatus.UNCHANGED, FileStatus.FAILED


def test_one_file(push: Push, source: Path, base: Path) -> None:
    file = source / "nginx.conf"
    file.write_bytes(b"worker_processes 4;\n")
    file.chmod(0o640)
    sha256 = hashlib.sha256(b"worker_processes 4;\n").hexdigest()
    path = f"{base}/nginx.conf"
    expected = Outcome(path, CHANGED, 0, 20, sha256, changes="created")
    assert push(file, base=base) == {"nginx.conf": expected}
    assert (base / "nginx.conf").read_bytes() == b"worker_processes 4;\n"
    assert (base / "nginx.conf").stat().st_mode & 0o7777 == 0o640
    assert push(file, base=base) == {"nginx.conf": Outcome(path, UNCHANGED, 0, 20, sha256)}
    file.write_bytes(b"worker_processes 8;\n")
    assert push(file, base=base)["nginx.conf"].changes == "content"
    assert (base / "nginx.conf").read_bytes() == b"worker_processes 8;\n"


def test_nothing_stays_in_memory(transfer: type, source: Path, base: Path, uncollected: None) -> None:
    (source / "tree").mkdir()
    (source / "tree" / "link").symlink_to("target")
    (base / "source" / "tree").mkdir(parents=True)
    (base / "source" / "tree" / "link").symlink_to("another")
    kept: set[weakref.ref[object]] = set()

    def look(receiver: Receiver) -> None:
        kept.update(map(weakref.ref, (receiver, receiver._comparer, receiver._committer, receiver._incoming)))

    transfer([source], base, ReceiverOptions(backup="~"), look=look).run()
    assert (base / "source" / "tree" / "link~").is_symlink()
    assert [one() for one in kept] == [None] * 4


def test_small_files_for_a_receiver_that_knows_no_whole_ones(transfer: type, source: Path, base: Path) -> None:
    """In one message each or in three: the same files, holes and all, and the same outcomes."""
    (source / "text").write_text("text")
    (source / "empty").touch()
    with open(source / "holes", "wb") as file:
        file.truncate(8192)
    outcomes, said = [], []
    for features in (0, FEATURES):
        target = base / str(features)
        target.mkdir()
        one = transfer([source], target, features=features)
        outcomes.append({path: replace(outcome, path="") for path, outcome in one.run().items()})
        said.append(Counter(type(message).__name__ for message in one.log))
        assert (target / "source" / "text").read_text() == "text"
        assert (target / "source" / "empty").read_bytes() == b""
        assert (target / "source" / "holes").read_bytes() == bytes(8192)
    assert outcomes[0] == outcomes[1]
    kinds = ("Open", "Data", "Hole", "Close", "Whole")
    assert [[count[kind] for kind in kinds] for count in said] == [[3, 1, 1, 3, 0], [2, 0, 1, 2, 1]]


def test_a_small_tree(push: Push, source: Path, base: Path) -> None:
    tree = source / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "empty").mkdir(mode=0o711)
    (tree / "a/b/deep").write_bytes(os.urandom(700_000))
    (tree / "a/small").write_bytes(b"small")
    (tree / "none").touch()
    (tree / "link").symlink_to("a/small")
    os.link(tree / "a/small", tree / "twin")
    outcomes = push(tree, base=base)
    assert {path: outcome.changes for path, outcome in outcomes.items()} == dict.fromkeys(
        [
            "tree",
            "tree/a",
            "tree/a/b",
            "tree/a/b/deep",
            "tree/a/small",
            "tree/empty",
            "tree/link",
            "tree/none",
            "tree/twin",
        ],
        "created",
    )
    assert (base / "tree/a/b/deep").read_bytes() == (tree / "a/b/deep").read_bytes()
    assert (base / "tree/link").readlink() == Path("a/small")
    assert (base / "tree/twin").samefile(base / "tree/a/small")
    assert (base / "tree/empty").stat().st_mode & 0o7777 == 0o711
    assert (base / "tree").stat().st_mode == tree.stat().st_mode
    assert {outcome.status for outcome in push(tree, base=base).values()} == {UNCHANGED}


def test_a_new_name(push: Push, source: Path, base: Path) -> None:
    (source / "file").write_bytes(b"x")
    assert [*push(source / "file", base=base, place=Named("other"))] == ["other"]
    assert [path.name for path in base.iterdir()] == ["other"]


def test_more_than_one_batch(transfer: type, source: Path, base: Path) -> None:
    """And more than four of them, each settled before the fifth is listed."""
    (source / "d").mkdir()
    for number in range(2600):
        (source / f"d/{number:04}").write_bytes(b"%d" % number)
    run = transfer([source / "d"], base)
    outcomes = run.run()
    assert len(outcomes) == 2601
    assert (base / "d/2599").read_bytes() == b"2599"
    assert sum(isinstance(message, f.Entries) for message in run.log) == 6
    again = transfer([source / "d"], base)
    assert {outcome.status for outcome in again.run().values()} == {UNCHANGED}
    assert sum(isinstance(message, f.Same) for message in again.log) < 30
    assert [outcome.index for outcome in again.watcher.outcomes][:5] == [0, 1, 2, 3, 4]


def test_long_names_make_small_batches(transfer: type, source: Path, base: Path) -> None:
    odd = "\udcff" * 200
    (source / "d").mkdir()
    for number in range(600):
        (source / "d" / f"{number:03}{odd}").touch()
    run = transfer([source / "d"], base)
    assert len(run.run()) == 601
    assert sum(isinstance(message, f.Entries) for message in run.log) > 4


def test_a_large_file_that_is_the_same(push: Push, source: Path, base: Path) -> None:
    data = os.urandom(1_000_000)
    (source / "big").write_bytes(data)
    (base / "big").write_bytes(data)
    assert push(source / "big", base=base)["big"].status is UNCHANGED
    other = data[:-1] + bytes([data[-1] ^ 1])
    (source / "big").write_bytes(other)
    assert push(source / "big", base=base)["big"].changes == "content"
    assert (base / "big").read_bytes() == other


def test_nothing_is_looked_for_in_a_new_directory(
    transfer: type, source: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But there is in one that was made before, by another source of the same transfer."""
    for name in ("one/d/sub", "two/d"):
        (source / name).mkdir(parents=True)
    for name in ("one/d/x", "one/d/sub/y", "two/d/x", "two/d/z"):
        (source / name).write_text(name)
    looked_for = []
    real = Folder.lstat

    def lstat(folder: Folder, name: str) -> os.stat_result | None:
        if folder.path.startswith(str(base)):
            looked_for.append(name)
        return real(folder, name)

    monkeypatch.setattr(Folder, "lstat", lstat)
    outcomes = transfer([source / "one/d", source / "two/d"], base).run()
    assert [name for name in looked_for if len(name) == 1] == ["d", "d", "d", "x", "z", "d"]
    assert {path: outcome.changes for path, outcome in outcomes.items() if not path.endswith("sub")} == {
        "d": "",
        "d/x": "created",
        "d/sub/y": "created",
        "d/z": "created",
    }
    assert (base / "d/x").read_text() == "two/d/x"
    assert (base / "d/sub/y").read_text() == "one/d/sub/y"
