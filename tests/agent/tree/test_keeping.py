"""What is kept as a backup is what was compared, whatever others do to it between the two."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.tree.committer import Hooks
from agent.tree.errors import FileError
from agent.tree.options import ReceiverOptions
from agent.tree.paths import Folder
from agent.tree.receiver import Receiver
from agent.wire.file_messages import FileStatus, Outcome

Push = Callable[..., dict[str, Outcome]]
Meddle = Callable[[], object]
KEEP = ReceiverOptions(backup="~")
MEANWHILE = "cannot keep the old file: it was replaced meanwhile"


class Meddling(Hooks):
    """Does something when a file is about to be kept, or noted; notes what is."""

    def __init__(self, *, before: Meddle = lambda: None, noting: Meddle = lambda: None) -> None:
        self.before = before
        self.noting = noting
        self.notes: list[tuple[str, str]] = []

    def using(self, folder: Folder, name: str) -> None:
        if name.startswith(".file~.fleet-"):
            self.before()

    def replaced(self, path: str, backup: str, old: str, new: str) -> bool:
        self.noting()
        self.notes.append((old, new))
        return True


def texts(place: Path) -> dict[str, str]:
    return {one.name: os.readlink(one) if one.is_symlink() else one.read_text() for one in place.iterdir()}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def file(source: Path, base: Path) -> Path:
    """Return a file to push; there is another of its name."""
    (source / "file").write_text("new")
    (base / "file").write_text("old")
    return source / "file"


@pytest.fixture(params=[True, False], ids=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system knows hard links, or it does not."""

    def link(*args: object, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not request.param:
        monkeypatch.setattr(os, "link", link)


def put(path: Path, text: str) -> None:
    """Put another file in the place of one, as editors and agents do."""
    other = path.with_name("other")
    other.write_text(text)
    other.rename(path)


@pytest.mark.usefixtures("links")
def test_another_agent_was_quicker(push: Push, file: Path, base: Path) -> None:
    """The original is under the name of the backup then, and stays there."""
    hooks = Meddling(before=lambda: push(file, base=base, options=KEEP))
    outcome = push(file, base=base, options=KEEP, hooks=hooks)["file"]
    assert (outcome.status, outcome.error, outcome.kept) == (FileStatus.FAILED, MEANWHILE, False)
    assert texts(base) == {"file": "new", "file~": "old"}
    assert hooks.notes == []


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("how", ["replaced", "written to", "a link", "gone"])
def test_somebody_was_there(push: Push, file: Path, base: Path, how: str) -> None:
    (base / "file~").write_text("oldest")

    def meddle() -> None:
        if how == "written to":
            with open(base / "file", "a") as there:
                there.write("er")
        elif how == "replaced":
            put(base / "file", "mine")
        else:
            (base / "file").unlink()
            if how == "a link":
                (base / "file").symlink_to("mine")

    outcome = push(file, base=base, options=KEEP, hooks=Meddling(before=meddle))["file"]
    assert outcome.status is FileStatus.FAILED
    assert outcome.error in (MEANWHILE, "cannot keep the old file: no such file or directory")
    left = {"replaced": {"file": "mine"}, "written to": {"file": "older"}, "a link": {"file": "mine"}, "gone": {}}[how]
    assert texts(base) == {"file~": "oldest", **left}


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("how", ["replaced", "touched"])
def test_the_content_is_still_what_was_compared(push: Push, file: Path, base: Path, how: str) -> None:
    def meddle() -> None:
        put(base / "file", "old") if how == "replaced" else os.utime(base / "file", ns=(1, 1))

    hooks = Meddling(before=meddle)
    outcome = push(file, base=base, options=KEEP, hooks=hooks)["file"]
    assert (outcome.status, outcome.kept) == (FileStatus.CHANGED, True)
    assert texts(base) == {"file": "new", "file~": "old"}
    assert hooks.notes == [(digest("old"), digest("new"))]


def test_it_is_replaced_at_the_last_moment(push: Push, file: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With links it cannot be: what is kept is held by its second name."""
    (base / "file~").write_text("oldest")
    hooks = Meddling(noting=lambda: put(base / "file", "mine"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", lambda *args, **options: (_ for _ in ()).throw(OSError(errno.EPERM, "")))
        assert push(file, base=base, options=KEEP, hooks=hooks)["file"].error == MEANWHILE
    assert texts(base) == {"file": "mine", "file~": "oldest"}


def test_it_is_replaced_before_it_is_read(push: Push, file: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest would be of another file than the one that was looked at."""
    real = os.open
    (base / "file~").write_text("oldest")

    def slow(name: object, *args: object, **options: object) -> int:
        if name == "file" and os.readlink(f"/proc/self/fd/{options['dir_fd']}") == str(base):
            put(base / "file", "mine")
        return real(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", slow)
    assert push(file, base=base, options=KEEP)["file"].error == MEANWHILE
    assert texts(base) == {"file": "mine", "file~": "oldest"}


def test_a_link_is_replaced_meanwhile(push: Push, source: Path, base: Path) -> None:
    (source / "file").symlink_to("new")
    (base / "file").symlink_to("old")

    def meddle() -> None:
        (base / "other").symlink_to("mine")
        (base / "other").rename(base / "file")

    assert push(source / "file", base=base, options=KEEP, hooks=Meddling(before=meddle))["file"].error == MEANWHILE
    assert texts(base) == {"file": "mine"}


def test_what_cannot_be_read_is_kept_and_not_noted(
    push: Push, file: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def closed(name: object, *args: object, **options: object) -> int:
        folder = options.get("dir_fd")
        if str(name).startswith(("file", ".file~")) and os.readlink(f"/proc/self/fd/{folder}") == str(base):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", closed)
    hooks = Meddling()
    outcome = push(file, base=base, options=KEEP, hooks=hooks)["file"]
    assert (outcome.status, outcome.kept, hooks.notes) == (FileStatus.CHANGED, False, [])
    monkeypatch.undo()
    assert texts(base) == {"file": "new", "file~": "old"}


def test_a_transfer_that_is_given_up_while_it_reads_the_old(
    push: Push, cut: type[Exception], source: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No temporary name is left then."""
    (source / "file").symlink_to("new")
    (base / "file").write_bytes(bytes(1_000_000))  # more than is read at once
    reading: list[bool] = []
    step = Receiver.step

    def one_step(receiver: Receiver) -> bool:
        if reading:
            raise cut
        return step(receiver)

    monkeypatch.setattr(Receiver, "step", one_step)
    with pytest.raises(cut):
        push(source / "file", base=base, options=KEEP, hooks=Meddling(before=lambda: reading.append(True)))
    assert os.listdir(base) == ["file"]
    assert not (base / "file").is_symlink()


@pytest.mark.parametrize("kind", ["file", "link"])
@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_whether_it_is_kept_is_told_of_what_failed(
    push: Push, source: Path, base: Path, monkeypatch: pytest.MonkeyPatch, kind: str, call: str
) -> None:
    """A file that took its place and may not last took its place: the old one can be put back."""
    (source / "file").symlink_to("new") if kind == "link" else (source / "file").write_text("new")
    (base / "file").write_text("old")
    real = getattr(os, call)

    def fail(first: object, *rest: object, **options: object) -> object:
        if rest == ("file",) or (call == "fsync" and os.readlink(f"/proc/self/fd/{first}") == str(base)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(first, *rest, **options)

    monkeypatch.setattr(os, call, fail)
    outcome = push(source / "file", base=base, options=KEEP, hooks=Meddling())["file"]
    assert (outcome.status, outcome.kept) == (FileStatus.FAILED, call == "fsync")
    assert texts(base) == ({"file": "new", "file~": "old"} if call == "fsync" else {"file": "old"})


# Deleting -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(source: Path, base: Path) -> Path:
    """Return a directory to push; there is one more file in it there."""
    for place in (source, base):
        (place / "d").mkdir()
        (place / "d/same").touch()
    (base / "d/x").write_text("old")
    return source / "d"


DELETE = ReceiverOptions(backup="~", delete=True)


def test_what_is_deleted_was_replaced_meanwhile(push: Push, tree: Path, base: Path) -> None:
    (base / "d/x~").write_text("oldest")
    hooks = Meddling(noting=lambda: put(base / "d/x", "mine"))
    outcome = push(tree, base=base, options=DELETE, hooks=hooks)["d/x"]
    assert (outcome.status, outcome.error) == (FileStatus.FAILED, "cannot keep it as x~: it was replaced meanwhile")
    assert texts(base / "d") == {"same": "", "x": "mine", "x~": "oldest"}


def test_a_deletion_that_cannot_be_noted(push: Push, tree: Path, base: Path) -> None:
    def fail() -> None:
        raise FileError("note it for a rollback", "no space left on device")

    outcome = push(tree, base=base, options=DELETE, hooks=Meddling(noting=fail))["d/x"]
    assert (outcome.status, outcome.error) == (
        FileStatus.FAILED,
        "cannot note it for a rollback: no space left on device",
    )
    assert texts(base / "d") == {"same": "", "x": "old"}


def test_a_check_keeps_nothing(push: Push, tree: Path, base: Path) -> None:
    hooks = Meddling()
    options = ReceiverOptions(backup="~", delete=True, check=True)
    outcome = push(tree, base=base, options=options, hooks=hooks)["d/x"]
    assert (outcome.status, outcome.note, outcome.kept) == (FileStatus.DELETED, "kept as x~", False)
    assert (texts(base / "d"), hooks.notes) == ({"same": "", "x": "old"}, [])


def test_a_file_that_is_gone_before_it_is_deleted(
    push: Push, tree: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = Meddling(noting=(base / "d/x").unlink)
    outcome = push(tree, base=base, options=DELETE, hooks=hooks)["d/x"]
    assert outcome.error == "cannot keep it as x~: it was replaced meanwhile"
    assert texts(base / "d") == {"same": ""}
