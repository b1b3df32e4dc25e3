"""Every error of every system call that touches the new file: the old one is whole, one sentence, nothing is left."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.tree import syncing
from agent.tree.options import ReceiverOptions
from agent.wire.file_messages import FileStatus, Outcome

Push = Callable[..., dict[str, Outcome]]

# Those that the manual pages name, and a few that file systems give besides.
COMMON = [errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.ESTALE]
CALLS: dict[str, tuple[str, list[int]]] = {
    "open": ("create the new file", [*COMMON, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.ELOOP]),
    "pwrite": ("write the new file", [*COMMON, errno.EFBIG, errno.EINVAL]),
    "fsync": ("sync the new file", COMMON),
    "fchmod": ("set the mode", COMMON),
    "fchown": ("set the owner", COMMON),
    "utime": ("set the times", COMMON),
    "rename": ("rename the new file", [*COMMON, errno.EBUSY, errno.EXDEV, errno.ENOTDIR]),
}
CASES = [(call, action, number) for call, (action, numbers) in CALLS.items() for number in numbers]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes a function of `os` fail where `when` holds for its arguments."""

    def install(name: str, number: int, when: Callable[..., bool] = lambda *args, **options: True) -> None:
        real = getattr(os, name)

        def failing(*args: object, **options: object) -> object:
            if when(*args, **options):
                raise OSError(number, os.strerror(number))
            return real(*args, **options)

        monkeypatch.setattr(os, name, failing)

    return install


def is_new_file(first: object, *rest: object, **options: object) -> bool:
    """Whether a call is about the temporary file, by its name or as a descriptor."""
    if isinstance(first, int):
        return ".fleet-" in os.readlink(f"/proc/self/fd/{first}")
    return isinstance(first, str) and ".fleet-" in first


@pytest.fixture
def sizes(source: Path, base: Path) -> Iterator[None]:
    (source / "file").write_bytes(os.urandom(300_000))
    (base / "file").write_bytes(b"old")
    yield


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize(("call", "action", "number"), CASES, ids=[f"{c}-{errno.errorcode[n]}" for c, _, n in CASES])
def test_a_call_fails(
    push: Push, fail: Callable[..., None], source: Path, base: Path, call: str, action: str, number: int
) -> None:
    fail(call, number, is_new_file)
    options = ReceiverOptions(mode=0o640, owner=os.getuid(), group=os.getgid(), preserve=True)
    outcome = push(source / "file", base=base, options=options)["file"]
    assert outcome.error == f"cannot {action}: {os.strerror(number).lower()}"
    assert (outcome.status, outcome.bytes if call == "pwrite" else 0) == (FileStatus.FAILED, 0)
    assert (base / "file").read_bytes() == b"old"
    assert [path.name for path in base.iterdir()] == ["file"]


@pytest.mark.usefixtures("sizes")
def test_an_owner_that_nobody_asked_for_may_stay_ours(
    push: Push, fail: Callable[..., None], source: Path, base: Path
) -> None:
    fail("fchown", errno.EPERM, is_new_file)
    assert push(source / "file", base=base)["file"].status is FileStatus.CHANGED


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("call", ["open", "pread"])
@pytest.mark.parametrize("diff", [True, False])
def test_an_old_file_that_may_not_be_read(
    push: Push, fail: Callable[..., None], source: Path, base: Path, call: str, diff: bool
) -> None:
    """It is replaced, but a diff must not show it as new."""

    def is_old(first: object, *rest: object, **options: object) -> bool:
        folder = options.get("dir_fd", first)
        if call == "pread":
            return os.readlink(f"/proc/self/fd/{first}") == str(base / "file")
        return first == "file" and os.readlink(f"/proc/self/fd/{folder}") == str(base)

    (base / "file").write_bytes(bytes(300_000))
    fail(call, errno.EACCES, is_old)
    outcome = push(source / "file", base=base, options=ReceiverOptions(diff=diff))["file"]
    action = "read the old file" if call == "open" else "read it"
    assert (outcome.status, outcome.changes) == (FileStatus.CHANGED, "content")
    assert outcome.note == (f"cannot {action}: permission denied" if diff else "")


@pytest.mark.usefixtures("sizes")
def test_a_short_write_is_continued(push: Push, monkeypatch: pytest.MonkeyPatch, source: Path, base: Path) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:100_000], offset))
    push(source / "file", base=base)
    assert (base / "file").read_bytes() == (source / "file").read_bytes()


@pytest.mark.usefixtures("sizes")
def test_the_disk_is_full_halfway(push: Push, fail: Callable[..., None], source: Path, base: Path) -> None:
    fail("pwrite", errno.ENOSPC, lambda fd, data, offset: offset > 0)
    outcome = push(source / "file", base=base)["file"]
    assert outcome.error == "cannot write the new file: no space left on device"
    assert (base / "file").read_bytes() == b"old"


def test_one_of_many_fails(push: Push, fail: Callable[..., None], source: Path, base: Path) -> None:
    (source / "d").mkdir()
    for number in range(30):
        (source / f"d/{number}").write_bytes(b"x")
    fail("open", errno.ENOSPC, lambda name, *rest, **options: str(name).startswith(".17.fleet-"))
    outcomes = push(source / "d", base=base)
    assert [path for path, outcome in outcomes.items() if outcome.error] == ["d/17"]
    assert len(list((base / "d").iterdir())) == 29


@pytest.mark.parametrize("number", [2, 20])
@pytest.mark.parametrize(("call", "action"), [("rename", "rename the new file"), ("fchmod", "set the mode")])
def test_one_of_many_large_ones_fails(
    push: Push, fail: Callable[..., None], source: Path, base: Path, number: int, call: str, action: str
) -> None:
    """The first ones are settled when all are synced; those behind them at once, for their descriptors are needed."""
    (source / "d").mkdir()
    for one in range(30):
        (source / f"d/{one:02}").write_bytes(bytes(70_000 + one))

    def is_it(first: int | str, *rest: object, **options: object) -> bool:
        name = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else first
        return f".{number:02}.fleet-" in name

    fail(call, errno.EIO, is_it)
    outcomes = push(source / "d", base=base)
    assert {path: outcome.error for path, outcome in outcomes.items() if outcome.error} == {
        f"d/{number:02}": f"cannot {action}: input/output error"
    }
    assert sorted(path.name for path in (base / "d").iterdir()) == [f"{one:02}" for one in range(30) if one != number]


def test_many_are_synced_at_once(push: Push, monkeypatch: pytest.MonkeyPatch, source: Path, base: Path) -> None:
    calls: list[str] = []
    real = syncing._syncfs
    (source / "d").mkdir()
    for number in range(30):
        (source / f"d/{number}").write_bytes(b"x")

    def syncfs(fd: int) -> int:
        calls.append("syncfs")
        assert not any((base / "d" / str(number)).exists() for number in range(30)), "renamed before it was synced"
        return real(fd)

    monkeypatch.setattr(syncing, "_syncfs", syncfs)
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("fsync"))
    push(source / "d", base=base)
    assert calls == ["syncfs", "fsync", "fsync"]  # the data of all; then the two directories


def test_a_sync_of_many_fails(push: Push, monkeypatch: pytest.MonkeyPatch, source: Path, base: Path) -> None:
    monkeypatch.setattr(syncing, "_syncfs", lambda fd: -1)
    monkeypatch.setattr(syncing.ctypes, "get_errno", lambda: errno.EIO)
    (source / "d").mkdir()
    for number in range(30):
        (source / f"d/{number}").write_bytes(b"x")
    outcomes = push(source / "d", base=base)
    assert {outcome.error for path, outcome in outcomes.items() if path != "d"} == {
        "cannot sync the new file: input/output error"
    }
    assert list((base / "d").iterdir()) == []


def test_a_directory_cannot_be_synced(push: Push, fail: Callable[..., None], source: Path, base: Path) -> None:
    """The new name is there, and may not be after a power cut: that is no success."""
    (source / "file").write_bytes(b"x")
    fail("fsync", errno.EIO, lambda fd: os.readlink(f"/proc/self/fd/{fd}") == str(base))
    assert push(source / "file", base=base)["file"].error == "cannot sync the directory: input/output error"


@pytest.mark.parametrize(
    ("call", "number", "text"),
    [
        ("mkdir", errno.EROFS, "cannot make the directory: read-only file system"),
        ("symlink", errno.ENOSPC, "cannot make the link: no space left on device"),
        ("link", errno.EMLINK, "cannot make the link: too many links"),
    ],
)
def test_what_is_no_file_cannot_be_made(
    push: Push, fail: Callable[..., None], source: Path, base: Path, call: str, number: int, text: str
) -> None:
    (source / "d").mkdir()
    (source / "d/f").write_bytes(b"x")
    (source / "d/s").symlink_to("f")
    os.link(source / "d/f", source / "d/h")
    fail(call, number)
    what = {"mkdir": "d", "symlink": "d/s", "link": "d/h"}[call]
    assert push(source / "d", base=base)[what].error == text


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_backup_where_links_cannot_be(
    push: Push, fail: Callable[..., None], source: Path, base: Path, number: int
) -> None:
    (source / "file").write_bytes(b"new")
    (base / "file").write_bytes(b"old")
    fail("link", number)
    push(source / "file", base=base, options=ReceiverOptions(backup="~"))
    assert ((base / "file").read_bytes(), (base / "file~").read_bytes()) == (b"new", b"old")


@pytest.mark.parametrize("linked", [True, False])
def test_the_last_rename_fails_after_the_backup(
    push: Push, fail: Callable[..., None], source: Path, base: Path, linked: bool
) -> None:
    (source / "file").write_bytes(b"new")
    (base / "file").write_bytes(b"old")
    if not linked:
        fail("link", errno.EPERM)
    fail("rename", errno.EIO, lambda name, target, **options: target == "file" and ".fleet-" in name)
    outcome = push(source / "file", base=base, options=ReceiverOptions(backup="~"))["file"]
    assert outcome.error == "cannot rename the new file: input/output error"
    assert {path.name: path.read_bytes() for path in base.iterdir()} == {"file": b"old"}


@pytest.mark.parametrize(("call", "number"), [("link", errno.EIO), ("rename", errno.ENOSPC)])
def test_the_backup_fails(
    push: Push, fail: Callable[..., None], source: Path, base: Path, call: str, number: int
) -> None:
    (source / "file").write_bytes(b"new")
    (base / "file").write_bytes(b"old")
    fail(call, number)
    outcome = push(source / "file", base=base, options=ReceiverOptions(backup="~"))["file"]
    assert outcome.error == f"cannot keep the old file: {os.strerror(number).lower()}"
    assert {path.name: path.read_bytes() for path in base.iterdir()} == {"file": b"old"}


@pytest.mark.parametrize("call", ["unlink", "rmdir"])
def test_a_deletion_fails(push: Push, fail: Callable[..., None], source: Path, base: Path, call: str) -> None:
    (source / "d").mkdir()
    (source / "d/f").touch()
    (base / "d/x").mkdir(parents=True)
    (base / "d/y").touch()
    fail(call, errno.EBUSY, lambda name, **options: name in ("x", "y"))
    outcomes = push(source / "d", base=base, options=ReceiverOptions(delete=True))
    failed = outcomes["d/y" if call == "unlink" else "d/x"]
    assert (failed.status, failed.error) == (FileStatus.FAILED, "cannot delete it: device or resource busy")


def test_an_old_file_that_cannot_be_read_is_replaced(
    push: Push, fail: Callable[..., None], source: Path, base: Path
) -> None:
    (source / "file").write_bytes(b"new")
    (base / "file").write_bytes(b"old")
    fail("open", errno.EACCES, lambda name, *rest, **options: name == "file" and in_folder(options, base))
    assert push(source / "file", base=base)["file"].status is FileStatus.CHANGED
    assert (base / "file").read_bytes() == b"new"


def in_folder(options: dict[str, object], base: Path) -> bool:
    return os.readlink(f"/proc/self/fd/{options['dir_fd']}") == str(base)


def test_a_link_cannot_take_its_place(push: Push, fail: Callable[..., None], source: Path, base: Path) -> None:
    (source / "l").symlink_to("x")
    fail("rename", errno.EIO)
    assert push(source / "l", base=base)["l"].error == "cannot make the link: input/output error"
    assert list(base.iterdir()) == []


def test_a_link_that_is_there_cannot_be_read(push: Push, fail: Callable[..., None], source: Path, base: Path) -> None:
    (source / "l").symlink_to("x")
    (base / "l").symlink_to("y")
    fail("readlink", errno.EIO, lambda name, **options: "dir_fd" in options and in_folder(options, base))
    assert push(source / "l", base=base)["l"].error == "cannot read the link: input/output error"


def test_an_old_file_that_breaks_off_is_replaced(
    push: Push, monkeypatch: pytest.MonkeyPatch, source: Path, base: Path
) -> None:
    (source / "file").write_bytes(b"new")
    (base / "file").write_bytes(b"old")
    real = os.pread

    def pread(fd: int, size: int, place: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").startswith(str(base)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, size, place)

    monkeypatch.setattr(os, "pread", pread)
    assert push(source / "file", base=base, options=ReceiverOptions(diff=True))["file"].changes == "content"


def test_a_backup_that_cannot_be_taken_back(push: Push, fail: Callable[..., None], source: Path, base: Path) -> None:
    """Then the old file is whole, under the name of its backup."""
    (source / "file").write_bytes(b"new")
    (base / "file").write_bytes(b"old")
    fail("link", errno.EPERM)
    fail("rename", errno.EIO, lambda name, target, **options: target == "file")
    assert push(source / "file", base=base, options=ReceiverOptions(backup="~"))["file"].status is FileStatus.FAILED
    assert {path.name: path.read_bytes() for path in base.iterdir()} == {"file~": b"old"}


def test_a_directory_that_nobody_may_read_is_not_synced(
    push: Push, fail: Callable[..., None], source: Path, base: Path
) -> None:
    (source / "file").write_bytes(b"new")
    fail("open", errno.EACCES, lambda name, flags, *rest, **options: name == "." and not flags & os.O_PATH)
    assert push(source / "file", base=base)["file"].status is FileStatus.CHANGED


def test_attributes_of_what_may_not_be_opened(push: Push, fail: Callable[..., None], source: Path, base: Path) -> None:
    (source / "d").mkdir()
    (base / "d").mkdir()
    os.utime(base / "d", ns=(1, 1))
    fail("open", errno.EACCES, lambda name, flags, *rest, **options: name == "d" and not flags & os.O_PATH)
    outcomes = push(source / "d", base=base, options=ReceiverOptions(preserve=True))
    assert outcomes["d"].error == "cannot change its attributes: permission denied"


def test_deeper_than_anybody_deletes(push: Push, source: Path, base: Path) -> None:
    (source / "d").mkdir()
    (source / "d/keep").touch()
    here = base / "d"
    here.mkdir()
    for _ in range(258):
        here /= "x"
        here.mkdir()
    outcomes = push(source / "d", base=base, options=ReceiverOptions(delete=True))
    errors = {outcome.error for outcome in outcomes.values() if outcome.error}
    assert "cannot delete it: more than 256 directories deep" in errors
    assert (base / "d/x").exists()
