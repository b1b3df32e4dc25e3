"""A seal on a new file: what it takes for the same, and what it says when the system fails it."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.tree.errors import FileError
from agent.tree.paths import Folder
from agent.tree.seal import Seal
from agent.tree.writer import Attributes, Temporary

SIZE = 600_000  # three pieces


@pytest.fixture
def temporary(base: Path) -> Iterator[Temporary]:
    """Return a whole file that waits for its place."""
    folder = Folder.at(str(base))
    one = Temporary.create(folder, "file", "0")
    one.write(bytes(SIZE))
    one.finish(Attributes(0o644))
    yield one
    one.discard()
    folder.release()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes a function of `os` fail."""

    def install(name: str) -> None:
        def fail(*args: object, **options: object) -> None:
            raise OSError(errno.EIO, "")

        monkeypatch.setattr(os, name, fail)

    return install


def check(seal: Seal, content: bytes = bytes(SIZE)) -> int:
    """Check it and close it; return how often it let others have their turn."""
    try:
        return len(list(seal.check(hashlib.sha256(content).hexdigest())))
    finally:
        seal.close()


@pytest.mark.parametrize("closed", [False, True])
def test_nothing_has_changed(temporary: Temporary, closed: bool) -> None:
    if closed:
        temporary.close()
    before = len(os.listdir("/proc/self/fd"))
    assert check(Seal(temporary, times=True)) == SIZE // (256 * 1024)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_written_again_is_synced_again(temporary: Temporary, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    check(Seal(temporary, times=False))
    assert synced == []
    seal = Seal(temporary, times=False)
    path = f"{temporary.folder.path}/{temporary.name}"
    os.utime(path, ns=(1, 1))
    check(seal)
    assert synced == [seal._fd]


def test_a_sync_that_fails(temporary: Temporary, failing: Callable[[str], None]) -> None:
    seal = Seal(temporary, times=False)
    os.utime(f"{temporary.folder.path}/{temporary.name}", ns=(1, 1))
    failing("fsync")
    with pytest.raises(FileError) as caught:
        check(seal)
    assert str(caught.value) == "cannot sync the new file: input/output error"


@pytest.mark.parametrize(("call", "closed"), [("dup", False), ("open", True)])
def test_a_file_that_cannot_be_held(
    temporary: Temporary, failing: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, call: str, closed: bool
) -> None:
    if closed:
        temporary.close()
    failing(call)
    with pytest.raises(FileError) as caught:
        Seal(temporary, times=False)
    assert str(caught.value) == "cannot read the new file: input/output error"
    monkeypatch.undo()


def test_another_content(temporary: Temporary) -> None:
    with pytest.raises(FileError) as caught:
        check(Seal(temporary, times=False), b"something else")
    assert str(caught.value) == "the validation command changed the file"
