"""A local user who owns the directory and swaps directories, files and links while we work there as root.

    FLEET_ATTACK_SECONDS=4 pytest tests/agent/tree/test_attacker.py

gives each test that long; without it each does a bounded number of rounds. Where we are not root, the attacker is we.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.tree.entries import Listing
from agent.tree.errors import FileError
from agent.tree.options import ReceiverOptions, SenderOptions
from agent.tree.paths import Links
from agent.tree.sources import find_matches
from agent.wire.file_messages import Kind

SECONDS = float(os.environ.get("FLEET_ATTACK_SECONDS", "0"))
ROUNDS = 40
NOBODY = 61_345
SECRET = b"the secret of root"


def rounds(enough: Callable[[], bool] = lambda: True) -> Iterator[int]:
    end = time.monotonic() + SECONDS
    number = 0
    while number < ROUNDS or time.monotonic() < end or not (enough() or number > 5000):
        yield number
        number += 1


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """Return a directory of ours that nobody may touch, with a file in it."""
    path = tmp_path / "vault"
    (path / "e").mkdir(parents=True)
    for name in ("f", "e/f", "gone"):
        (path / name).write_bytes(SECRET)
        (path / name).chmod(0o600)
    return path


def state_of(path: Path) -> list[tuple[object, ...]]:
    """Return all that may not change of the vault; numbers of links too, for nobody may make one."""
    found: list[tuple[object, ...]] = []
    for one in [path, *sorted(path.rglob("*"))]:
        info = one.lstat()
        content = one.read_bytes() if one.is_file() else None
        found.append((one, content, info.st_mode, info.st_uid, info.st_nlink, info.st_mtime_ns, info.st_ino))
    return found


@contextlib.contextmanager
def attack(where: Path, name: str, target: Path) -> Iterator[None]:
    """Let another user swap `where`/`name` for a link to `target` and back, without end."""
    if os.geteuid() == 0:
        os.chown(where, NOBODY, NOBODY)
    ready, started = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest-xdist has a thread; the child uses nothing of it
        pid = os.fork()
    if pid == 0:
        try:
            swap(where, name, target, started)
        finally:
            os._exit(0)
    os.close(started)
    try:
        assert os.read(ready, 1) == b"!", "the attacker did not start"
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)


def swap(where: Path, name: str, target: Path, started: int) -> None:
    folder = os.open(where, os.O_PATH)  # the way here may be closed to others
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    os.symlink(target, "link", dir_fd=folder)
    said = False
    while True:
        for one, other in ((name, "aside"), ("link", name), (name, "link"), ("aside", name)):
            try:
                os.rename(one, other, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:  # our victim has just made, or removed, something there
                pass
        if not said:
            os.write(started, b"!")
            said = True


OPTIONS = {
    "plain": ReceiverOptions(),
    "backup and mode": ReceiverOptions(backup="~", mode=0o604),
    "preserve": ReceiverOptions(preserve=True, mode=0o640),
    "delete": ReceiverOptions(delete=True),
    "owner": ReceiverOptions(owner=os.getuid(), group=os.getgid(), mode=0o600),
    "diff": ReceiverOptions(diff=True, backup=".old"),
}


@pytest.fixture
def tree(source: Path) -> Path:
    """Return a directory to push, whose names are those of the vault."""
    path = source / "d"
    (path / "e").mkdir(parents=True)
    (path / "f").write_bytes(b"pushed")
    (path / "e/f").write_bytes(b"pushed too")
    (path / "l").symlink_to("f")
    os.link(path / "f", path / "h")
    return path


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("swapped", ["d", "d/e", "d/f"])
def test_push(transfer: type, tree: Path, base: Path, vault: Path, name: str, swapped: str) -> None:
    """Whatever is swapped, nothing in the vault is written, removed, linked to, or has its mode or owner changed."""
    transfer([tree], base).run()
    where, _, leaf = f"{base}/{swapped}".rpartition("/")
    before = state_of(vault)
    with attack(Path(where), leaf, vault / "f" if leaf == "f" else vault / "e" if leaf == "e" else vault):
        for number in rounds():
            (tree / "f").write_bytes(b"pushed %d" % number)
            transfer([tree], base, options=OPTIONS[name]).run()
    assert state_of(vault) == before
    for path in base.rglob(".*.fleet-*"):  # what was moved away from under us, with us at work in it
        path.unlink()


@pytest.mark.parametrize("swapped", ["d", "d/e", "d/f"])
@pytest.mark.parametrize("follow", [False, True])
def test_pull(tree: Path, base: Path, vault: Path, swapped: str, follow: bool) -> None:
    """Whatever is swapped, nothing of the vault is read: also where links are followed, for they are not ours."""
    if follow and os.geteuid() != 0:
        pytest.skip("links of our own are followed")
    for path in [tree, *tree.rglob("*")]:
        if os.geteuid() == 0:
            os.lchown(path, NOBODY, NOBODY)
    where, _, leaf = f"{tree.parent}/{swapped}".rpartition("/")
    read: list[bytes] = []
    with attack(Path(where), leaf, vault / "f" if leaf == "f" else vault / "e" if leaf == "e" else vault):
        for _ in rounds(lambda: bool(read)):
            for content in contents(tree, follow=follow):
                assert not content.startswith(SECRET)
                read.append(content)
    assert read


def contents(path: Path, *, follow: bool) -> Iterator[bytes]:
    """Yield the contents that a pull would send."""
    source = find_matches(str(path), home="/", links=Links.OWNED, roots=None)
    listing = Listing(iter([source]), SenderOptions(follow=follow), Links.OWNED)
    try:
        for item in listing.items():
            if item.entry.kind is Kind.FILE:
                try:
                    fd = listing.open(item)
                except FileError:
                    continue
                yield os.pread(fd, 100, 0)
                os.close(fd)
    finally:
        listing.close()
        if source.folder is not None:
            source.folder.release()


def test_the_attacker_does_swap(tmp_path: Path, vault: Path) -> None:
    """The test of the tests: whoever looks at a path and then opens it does read the vault."""
    where = tmp_path / "where"
    (where / "d").mkdir(parents=True)
    (where / "d/f").write_bytes(b"harmless")
    escaped = False
    with attack(where, "d", vault):
        for _ in range(20_000):
            if not os.path.islink(where / "d"):
                try:
                    escaped = escaped or (where / "d/f").read_bytes() == SECRET
                except OSError:
                    continue
            if escaped:
                break
    assert escaped
