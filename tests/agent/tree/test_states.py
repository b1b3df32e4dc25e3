"""What is under a name, as a line that is compared later."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.tree.errors import FileError
from agent.tree.paths import Folder
from agent.tree.states import State, state_of


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder.at(str(tmp_path))
    yield folder
    folder.release()


def state(folder: Folder, name: str) -> State | None:
    work = state_of(folder, name)
    while True:
        try:
            next(work)
        except StopIteration as end:
            found: State | None = end.value
            return found


def test_nothing(folder: Folder) -> None:
    assert state(folder, "x") is None


@pytest.mark.parametrize("data", [b"", b"text", bytes(1_000_000)])
def test_a_file(folder: Folder, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    found = state(folder, "x")
    assert found == State(digest, len(data), digest)
    assert not found.is_link


@pytest.mark.parametrize("target", ["there", "", "\udcff", "0" * 64])
def test_a_link(folder: Folder, tmp_path: Path, target: str) -> None:
    """It is never taken for a file, whatever it points at."""
    (tmp_path / "x").symlink_to(target or ".")
    found = state(folder, "x")
    assert found == State(f"-> {target or '.'}")
    assert found.is_link


def test_what_is_neither(folder: Folder, tmp_path: Path) -> None:
    """A FIFO is not opened: that would wait for a writer."""
    for name in ("d", "e"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "fifo")
    found = [state(folder, name) for name in ("d", "e", "fifo")]
    assert found == [State(f"inode {(tmp_path / name).stat().st_ino}") for name in ("d", "e", "fifo")]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES])
def test_a_file_that_cannot_be_opened(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "x").touch()

    def fail(*args: object, **options: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fail)
        if number == errno.ENOENT:  # it went a moment ago
            assert state(folder, "x") is None
        else:
            with pytest.raises(FileError, match=r"^cannot read x: permission denied$"):
                state(folder, "x")
