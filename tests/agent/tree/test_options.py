"""Each option of a receiver, by what is there afterwards and what is said of it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.tree.committer import Hooks
from agent.tree.errors import FileError
from agent.tree.options import ReceiverOptions, SenderOptions
from agent.wire import file_messages as f
from agent.wire.file_messages import FileStatus, Outcome

Push = Callable[..., dict[str, Outcome]]
CHANGED, UNCHANGED, DELETED, SKIPPED, FAILED = FileStatus


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def tree_of(path: Path) -> dict[str, bytes | str | None]:
    """Return everything below a directory: contents, targets of links, None for a directory."""
    found: dict[str, bytes | str | None] = {}
    for one in sorted(path.rglob("*")):
        name = str(one.relative_to(path))
        found[name] = os.readlink(one) if one.is_symlink() else None if one.is_dir() else one.read_bytes()
    return found


@pytest.fixture
def file(source: Path) -> Path:
    path = source / "file"
    path.write_bytes(b"new\n")
    path.chmod(0o644)
    return path


@pytest.fixture
def old(base: Path) -> Path:
    path = base / "file"
    path.write_bytes(b"old\n")
    path.chmod(0o600)
    return path


# Modes, owners, times ----------------------------------------------------------------------------------------------


def test_a_file_that_is_there_keeps_its_mode(push: Push, file: Path, old: Path, base: Path) -> None:
    assert push(file, base=base)["file"].changes == "content"
    assert mode(old) == 0o600


def test_an_asked_for_mode(push: Push, file: Path, old: Path, base: Path) -> None:
    options = ReceiverOptions(mode=0o640)
    assert push(file, base=base, options=options)["file"].changes == "content, mode"
    assert mode(old) == 0o640
    assert push(file, base=base, options=options)["file"].status is UNCHANGED
    outcome = push(file, base=base, options=ReceiverOptions(mode=0o600))["file"]
    assert (outcome.status, outcome.changes, mode(old)) == (CHANGED, "mode", 0o600)


def test_directories_do_not_get_the_files_mode(push: Push, source: Path, base: Path) -> None:
    (source / "d").mkdir(mode=0o755)
    (source / "d/f").touch(mode=0o600)
    push(source / "d", base=base, options=ReceiverOptions(mode=0o644))
    assert (mode(base / "d"), mode(base / "d/f")) == (0o755, 0o644)


@pytest.mark.parametrize("bits", [0o4755, 0o2755, 0o1755])
def test_special_bits_come_only_when_asked_for(push: Push, file: Path, base: Path, bits: int) -> None:
    file.chmod(bits)
    push(file, base=base)
    assert mode(base / "file") == 0o755
    push(file, base=base, options=ReceiverOptions(preserve=True))
    assert mode(base / "file") == 0o755
    push(file, base=base, options=ReceiverOptions(mode=bits))
    assert mode(base / "file") == bits
    file.write_bytes(b"newer")
    push(file, base=base)  # nor does new content come under the old one's special bits
    assert mode(base / "file") == 0o755


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0o4755, "setuid bit"),
        (0o2755, "setgid bit"),
        (0o6755, "setuid and setgid bits"),
        (0o1755, None),  # of a file it means nothing
        (0o755, None),
    ],
)
def test_special_bits_are_not_left_out_in_silence(
    push: Push, file: Path, base: Path, bits: int, words: str | None, check: bool
) -> None:
    def note(**options: object) -> str:
        sending = SenderOptions(check=check)
        return push(file, base=base, options=ReceiverOptions(check=check, **options), sending=sending)["file"].note

    file.chmod(bits)
    assert note() == (f"without the {words} of the source" if words else "")
    assert note(mode=bits) == ""
    (base / "file").write_bytes(b"old")
    (base / "file").chmod(bits)
    file.chmod(0o6644)  # what is there keeps its own mode, so the source's says nothing
    assert note() == (f"without the {words} of the old file" if words else "")


def test_special_bits_of_what_has_the_content_stay(push: Push, file: Path, base: Path) -> None:
    (base / "file").write_bytes(file.read_bytes())
    (base / "file").chmod(0o4711)
    for options in (ReceiverOptions(), ReceiverOptions(preserve=True)):
        push(file, base=base, options=options)
        assert mode(base / "file") == 0o4711
    outcome = push(file, base=base, options=ReceiverOptions(preserve=True))["file"]
    assert (outcome.status, outcome.note) == (UNCHANGED, "")


@pytest.mark.parametrize("there", [None, 0o1777, 0o2775, 0o700])
def test_modes_of_directories(push: Push, source: Path, base: Path, there: int | None) -> None:
    """New ones are what the source's are, the sticky bit included; what is there keeps its own, whatever is kept."""
    for name, bits in (("tmp", 0o1777), ("closed", 0o1700), ("group", 0o2775)):
        (source / "d" / name).mkdir(parents=True)
        (source / "d" / name).chmod(bits)
        if there is not None:
            (base / "d" / name).mkdir(parents=True)
            (base / "d" / name).chmod(there)
    for options in (ReceiverOptions(), ReceiverOptions(preserve=True), ReceiverOptions(preserve=True)):
        outcomes = push(source / "d", base=base, options=options)
        found = tuple(mode(base / "d" / name) for name in ("tmp", "closed", "group"))
        assert found == ((0o1777, 0o1700, 0o775) if there is None else (there,) * 3)
        assert not {"mode"} & {outcome.changes for outcome in outcomes.values()}
    assert {outcome.status for outcome in outcomes.values()} == {UNCHANGED}


def test_the_setgid_bit_of_a_directory_is_not_left_out_in_silence(push: Push, source: Path, base: Path) -> None:
    (source / "d").mkdir()
    (source / "d").chmod(0o2775)
    assert push(source / "d", base=base)["d"].note == "without the setgid bit of the source"
    assert push(source / "d", base=base)["d"].note == ""


def test_the_umask_of_a_pull(push: Push, file: Path, source: Path, base: Path) -> None:
    file.chmod(0o666)
    (source / "d").mkdir()
    (source / "d").chmod(0o1777)
    push(file, source / "d", base=base, options=ReceiverOptions(umask=0o027))
    assert (mode(base / "file"), mode(base / "d")) == (0o640, 0o750)  # nobody else may write there: no sticky bit
    (base / "d").rmdir()
    push(source / "d", base=base, options=ReceiverOptions(umask=0o002))
    assert mode(base / "d") == 0o1775


def test_a_file_is_closed_to_others_until_it_has_its_mode(transfer: type, file: Path, base: Path) -> None:
    seen = []

    def look(message: object) -> object:
        seen.extend(mode(path) for path in base.iterdir())
        return message

    before = os.umask(0)
    try:
        file.chmod(0o666)
        transfer([file], base, tamper=look, features=0).run()  # so that there are moments to look at
    finally:
        os.umask(before)
    assert set(seen) == {0o600}
    assert mode(base / "file") == 0o666


def test_preserve(push: Push, source: Path, base: Path) -> None:
    (source / "d").mkdir()
    (source / "d/f").write_bytes(b"x")
    os.utime(source / "d/f", ns=(1, 1_500_000_000_123_456_789))
    os.utime(source / "d", ns=(1, 1_400_000_000_000_000_000))
    options = ReceiverOptions(preserve=True)
    push(source / "d", base=base, options=options)
    assert (base / "d/f").stat().st_mtime_ns == 1_500_000_000_123_456_789
    assert (base / "d").stat().st_mtime_ns == 1_400_000_000_000_000_000
    assert {outcome.status for outcome in push(source / "d", base=base, options=options).values()} == {UNCHANGED}
    (source / "d/f").chmod(0o700)
    os.utime(source / "d", ns=(1, 5))
    outcomes = push(source / "d", base=base, options=options)
    assert outcomes["d/f"].status is UNCHANGED  # times alone: what is there keeps its mode
    assert outcomes["d"].changes == "times"
    assert (base / "d").stat().st_mtime_ns == 5
    assert mode(base / "d/f") == 0o644


def test_quick_looks_at_size_and_time_alone(push: Push, file: Path, old: Path, base: Path) -> None:
    os.utime(old, ns=(1, file.stat().st_mtime_ns))
    assert push(file, base=base, options=ReceiverOptions(quick=True))["file"] == Outcome(
        f"{base}/file", UNCHANGED, 0, 4
    )
    assert old.read_bytes() == b"old\n"
    os.utime(old, ns=(1, 1))
    assert push(file, base=base, options=ReceiverOptions(quick=True))["file"].status is CHANGED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners(push: Push, source: Path, base: Path) -> None:
    (source / "d").mkdir()
    (source / "d/f").write_bytes(b"x")
    (source / "d/l").symlink_to("f")
    options = ReceiverOptions(owner=61_001, group=61_002)
    push(source / "d", base=base, options=options)
    for name in ("d", "d/f", "d/l"):
        info = (base / name).lstat()
        assert (info.st_uid, info.st_gid) == (61_001, 61_002)
    assert {outcome.status for outcome in push(source / "d", base=base, options=options).values()} == {UNCHANGED}
    (source / "d/f").write_bytes(b"y")
    push(source / "d", base=base)  # nobody asked for another owner: it stays
    assert (base / "d/f").stat().st_uid == 61_001
    assert push(source / "d", base=base, options=ReceiverOptions(owner=0))["d/f"].changes == "owner"
    assert (base / "d/f").stat().st_uid == 0


def test_another_name_of_the_file_does_not_change_with_it(push: Push, file: Path, base: Path) -> None:
    """A user may link somebody's file into his directory; whoever pushes there must not change that one."""
    victim = base / "victim"
    victim.write_bytes(b"new\n")
    victim.chmod(0o600)
    os.link(victim, base / "file")
    push(file, base=base, options=ReceiverOptions(mode=0o666))
    assert (mode(victim), mode(base / "file")) == (0o600, 0o666)


# What is not replaced ----------------------------------------------------------------------------------------------


def test_a_directory_is_never_replaced(push: Push, file: Path, base: Path) -> None:
    (base / "file").mkdir()
    (base / "file/keep").touch()
    outcome = push(file, base=base)["file"]
    assert (outcome.status, outcome.error) == (FAILED, "is a directory, which is not replaced")
    assert tree_of(base) == {"file": None, "file/keep": b""}


def test_a_file_is_not_replaced_by_a_directory(push: Push, source: Path, base: Path) -> None:
    (source / "d/e").mkdir(parents=True)
    (source / "d/e/f").touch()
    (base / "d").write_bytes(b"keep")
    outcomes = push(source / "d", base=base)
    assert outcomes["d"].error == "is a regular file, which a directory does not replace"
    assert {outcome.status for outcome in outcomes.values()} == {FAILED}
    assert outcomes["d/e/f"].error == "cannot enter its directory: not a directory"
    assert tree_of(base) == {"d": b"keep"}


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_what_is_no_file_is_not_replaced(push: Push, file: Path, base: Path, kind: str) -> None:
    os.mknod(base / "file", 0o600 | {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}[kind])
    words = {"fifo": "a FIFO", "socket": "a socket"}[kind]
    assert push(file, base=base)["file"].error == f"is {words}, which is not replaced"


def test_a_link_is_replaced_and_never_followed(push: Push, file: Path, base: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"keep")
    (base / "file").symlink_to(outside)
    assert push(file, base=base)["file"].status is CHANGED
    assert outside.read_bytes() == b"keep"
    assert tree_of(base) == {"file": b"new\n"}


def test_a_link_to_a_directory_is_not_entered(push: Push, source: Path, base: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (base / "d").symlink_to(outside)
    (source / "d").mkdir()
    (source / "d/f").write_bytes(b"x")
    outcomes = push(source / "d", base=base)
    assert outcomes["d"].error == "is a symbolic link, which a directory does not replace"
    assert outcomes["d/f"].status is FAILED
    assert tree_of(outside) == {}


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\x7f", "x" * 256])
def test_names_that_nobody_means(transfer: type, file: Path, base: Path, name: str) -> None:
    def rename(message: object) -> object:
        return f.Entries((f.Entry(name, f.Kind.FILE),), True) if isinstance(message, f.Entries) else message

    run = transfer([file], base, tamper=rename)
    (outcome,) = run.run().values()
    reason = (
        "name of 256 bytes, expected no more than 255"
        if len(name) == 256
        else f"control character in the name {name!r}"
    )
    assert outcome.error == reason


def test_names_are_bytes(push: Push, source: Path, base: Path) -> None:
    name = os.fsdecode(b"\xff\xfe \xc3\xa4")
    (source / name).write_bytes(b"x")
    assert [*push(source / name, base=base)] == [name]
    assert [*tree_of(base)] == [name]


# Links -------------------------------------------------------------------------------------------------------------


def test_links_change(push: Push, source: Path, base: Path) -> None:
    (source / "l").symlink_to("a")
    assert push(source / "l", base=base)["l"].changes == "created"
    assert push(source / "l", base=base)["l"].status is UNCHANGED
    (source / "l").unlink()
    (source / "l").symlink_to("/elsewhere")
    assert push(source / "l", base=base)["l"].changes == "link"
    assert tree_of(base) == {"l": "/elsewhere"}


def test_hard_links_stay_links(push: Push, source: Path, base: Path) -> None:
    (source / "d").mkdir()
    (source / "d/a").write_bytes(b"x")
    os.link(source / "d/a", source / "d/b")
    os.link(source / "d/a", source / "d/c")
    push(source / "d", base=base)
    assert (base / "d/a").stat().st_nlink == 3
    (base / "d/c").unlink()
    (base / "d/c").write_bytes(b"other")
    outcomes = push(source / "d", base=base)
    assert {path: outcome.status for path, outcome in outcomes.items()} == {
        "d": UNCHANGED,
        "d/a": UNCHANGED,
        "d/b": UNCHANGED,
        "d/c": CHANGED,
    }
    assert (base / "d/c").samefile(base / "d/a")


def test_follow(push: Push, source: Path, base: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"content")
    (source / "d").mkdir()
    (source / "d/l").symlink_to("../../target")
    (source / "d/dangling").symlink_to("nothing")
    (source / "d/loop").symlink_to("..")
    (source / "d/circle").symlink_to("circle")
    outcomes = push(source / "d", base=base, sending=SenderOptions(follow=True))
    assert tree_of(base)["d/l"] == b"content"
    assert outcomes["d/dangling"].error == "is a link to nothing, which is not there"
    assert outcomes["d/circle"].error == "cannot follow the link: too many levels of symbolic links"
    assert outcomes["d/loop/d"].error == "is a link to a directory that it lies in"


# Backups -----------------------------------------------------------------------------------------------------------


class Notes(Hooks):
    def __init__(self) -> None:
        self.notes: list[tuple[str, str, str, str]] = []

    def replaced(self, path: str, backup: str, old: str, new: str) -> bool:
        self.notes.append((path, backup, old, new))
        return True


def test_backup(push: Push, file: Path, old: Path, base: Path) -> None:
    hooks = Notes()
    options = ReceiverOptions(backup=".orig")
    push(file, base=base, options=options, hooks=hooks)
    assert tree_of(base) == {"file": b"new\n", "file.orig": b"old\n"}
    assert mode(base / "file.orig") == 0o600
    digests = [hashlib.sha256(text).hexdigest() for text in (b"old\n", b"new\n")]
    assert hooks.notes == [(f"{base}/file", f"{base}/file.orig", *digests)]
    push(file, base=base, options=options, hooks=hooks)  # unchanged: the backup stays
    assert tree_of(base) == {"file": b"new\n", "file.orig": b"old\n"}
    file.write_bytes(b"newest\n")
    push(file, base=base, options=options, hooks=hooks)
    assert tree_of(base) == {"file": b"newest\n", "file.orig": b"new\n"}
    assert len(hooks.notes) == 2


def test_backup_of_a_new_file_is_none(push: Push, file: Path, base: Path) -> None:
    push(file, base=base, options=ReceiverOptions(backup="~"))
    assert tree_of(base) == {"file": b"new\n"}


def test_backup_of_links(push: Push, source: Path, base: Path) -> None:
    (source / "d").mkdir()
    (source / "d/l").symlink_to("new")
    (source / "d/f").write_bytes(b"new")
    (base / "d").mkdir()
    (base / "d/l").symlink_to("old")
    (base / "d/f").symlink_to("somewhere")
    push(source / "d", base=base, options=ReceiverOptions(backup="~"))
    assert tree_of(base / "d") == {"l": "new", "l~": "old", "f": b"new", "f~": "somewhere"}


# Check and diff ----------------------------------------------------------------------------------------------------


def test_a_check_changes_nothing(transfer: type, source: Path, base: Path) -> None:
    tree = source / "d"
    (tree / "new/deep").mkdir(parents=True)
    (tree / "new/deep/f").write_bytes(b"1")
    (tree / "same").write_bytes(b"same")
    (tree / "differs").write_bytes(b"new")
    (tree / "link").symlink_to("x")
    os.link(tree / "same", tree / "twin")
    (base / "d/gone/deep").mkdir(parents=True)
    (base / "d/gone/deep/f").write_bytes(b"12345")
    (base / "d/same").write_bytes(b"same")
    (base / "d/differs").write_bytes(b"old")
    for name in ("same", "differs"):
        (base / "d" / name).chmod(0o644)
    before = tree_of(base)
    run = transfer(
        [tree],
        base,
        options=ReceiverOptions(check=True, diff=True, delete=True, mode=0o640),
        sending=SenderOptions(check=True),
    )
    outcomes = run.run()
    assert tree_of(base) == before
    assert {path: (outcome.status.value, outcome.changes) for path, outcome in outcomes.items()} == {
        "d": ("unchanged", ""),
        "d/new": ("changed", "created"),
        "d/new/deep": ("changed", "created"),
        "d/new/deep/f": ("changed", "created"),
        "d/same": ("changed", "mode 0644 -> 0640"),
        "d/differs": ("changed", "content, mode 0644 -> 0640"),
        "d/link": ("changed", "created"),
        "d/twin": ("changed", "created"),
        "d/gone": ("deleted", "deleted"),
        "d/gone/deep": ("deleted", "deleted"),
        "d/gone/deep/f": ("deleted", "deleted"),
    }
    assert outcomes["d/differs"].sha256 == hashlib.sha256(b"new").hexdigest()
    assert outcomes["d/gone/deep/f"].bytes == 5
    assert not any(isinstance(message, f.Data) and message.data == b"new" for message in run.log)
    sha256 = hashlib.sha256(b"old").hexdigest()
    index = outcomes["d/differs"].index
    assert run.watcher.olds == [("d/differs", f.Old(index, 3, sha256, True), b"old")]


def links(path: Path) -> None:
    """Fill a directory with every kind of name of a file."""
    (path / "e").mkdir(parents=True)
    (path / "a").write_bytes(b"new")
    (path / "a").chmod(0o644)
    (path / "l").symlink_to("a")
    (path / "e/l").symlink_to("nothing")
    os.link(path / "a", path / "b")
    os.link(path / "a", path / "e/c")
    (path / "0").mkdir()
    (path / "0/f").write_bytes(b"other")
    os.link(path / "0/f", path / "g")


def nothing(path: Path) -> None:
    """Leave it."""


def other_content(path: Path) -> None:
    (path / "a").write_bytes(b"old")


def other_links(path: Path) -> None:
    (path / "b").unlink()
    (path / "b").write_bytes(b"new")
    (path / "l").unlink()
    (path / "l").symlink_to("b")


def first_is_gone(path: Path) -> None:
    (path / "a").unlink()


def directory_of_the_first_is_gone(path: Path) -> None:
    (path / "0/f").unlink()
    (path / "0").rmdir()


def directory_is_gone(path: Path) -> None:
    (path / "e/c").unlink()
    (path / "e/l").unlink()
    (path / "e").rmdir()


@pytest.mark.parametrize(
    "change",
    [
        None,
        nothing,
        other_content,
        other_links,
        first_is_gone,
        directory_is_gone,
        directory_of_the_first_is_gone,
    ],
)
@pytest.mark.parametrize("options", [{}, {"mode": 0o600}, {"owner": os.geteuid()}], ids=str)
def test_a_check_says_what_would_be_done(
    push: Push, source: Path, base: Path, change: Callable[[Path], None] | None, options: dict[str, int]
) -> None:
    links(source / "d")
    if change is not None:
        links(base / "d")
        change(base / "d")
    check, real = (
        push(
            source / "d",
            base=base,
            options=ReceiverOptions(check=check, **options),  # type: ignore[arg-type]
            sending=SenderOptions(check=check),
        )
        for check in (True, False)
    )
    assert {path: (one.status, one.changes, one.error) for path, one in check.items()} == {
        path: (one.status, one.changes, one.error) for path, one in real.items()
    }
    assert not [one.error for one in real.values() if one.error]


@pytest.mark.parametrize(("content", "text"), [(b"a\0b", False), (b"x" * 262_145, False), (b"x" * 262_144, True)])
def test_a_diff_of_what_is_no_short_text(
    transfer: type, file: Path, old: Path, base: Path, content: bytes, text: bool
) -> None:
    old.write_bytes(content)
    run = transfer([file], base, options=ReceiverOptions(diff=True))
    run.run()
    sha256 = hashlib.sha256(content).hexdigest()
    assert run.watcher.olds == [("file", f.Old(0, len(content), sha256, text), content if text else None)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_diff_says_from_which_owner_to_which(push: Push, source: Path, base: Path) -> None:
    (source / "d").mkdir()
    (base / "d").mkdir()
    for path in (source / "d/f", base / "d/f"):
        path.write_bytes(b"x")
        path.chmod(0o644)
    os.chown(base / "d/f", 1, 2)
    options = ReceiverOptions(diff=True, check=True, owner=3, mode=0o4755)
    outcomes = push(source / "d", base=base, options=options, sending=SenderOptions(check=True))
    assert outcomes["d/f"].changes == "mode 0644 -> 4755, owner 1:2 -> 3:2"
    assert outcomes["d"].changes == "owner 0:0 -> 3:0"


def test_a_diff_of_an_empty_file(transfer: type, file: Path, old: Path, base: Path) -> None:
    old.write_bytes(b"")
    run = transfer([file], base, options=ReceiverOptions(diff=True))
    run.run()
    assert run.watcher.olds == [("file", f.Old(0, 0, hashlib.sha256(b"").hexdigest()), None)]


def test_a_diff_of_a_file_that_takes_the_place_of_a_link(push: Push, file: Path, base: Path) -> None:
    (base / "file").symlink_to("elsewhere")
    outcome = push(file, base=base, options=ReceiverOptions(diff=True))["file"]
    assert (outcome.changes, outcome.note) == ("content", "takes the place of a symbolic link")


def test_no_diff_of_what_does_not_change(transfer: type, file: Path, base: Path) -> None:
    (base / "file").write_bytes(b"new\n")
    run = transfer([file], base, options=ReceiverOptions(diff=True))
    run.run()
    assert run.watcher.olds == []


# Delete ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(source: Path, base: Path) -> Path:
    """Return a source directory; its counterpart has more."""
    (source / "d/e").mkdir(parents=True)
    (source / "d/keep").write_bytes(b"1")
    for name in ("keep", "gone", "e/gone", "cache/x", "file.log", "file~"):
        (base / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "d" / name).write_bytes(b"1")
    (base / "outside").write_bytes(b"1")
    return source / "d"


def test_delete(push: Push, full: Path, base: Path, tmp_path: Path) -> None:
    (base / "d/link").symlink_to(tmp_path)
    outcomes = push(full, base=base, options=ReceiverOptions(delete=True))
    gone = {path for path, outcome in outcomes.items() if outcome.status is DELETED}
    assert gone == {"d/" + name for name in ("gone", "e/gone", "cache", "cache/x", "file.log", "file~", "link")}
    assert tree_of(base) == {"d": None, "d/e": None, "d/keep": b"1", "outside": b"1"}


def test_delete_leaves_what_is_excluded(push: Push, full: Path, base: Path) -> None:
    exclude = ("*.log", "cache/")
    options = ReceiverOptions(delete=True, exclude=exclude, backup="~")
    outcomes = push(full, base=base, options=options, sending=SenderOptions(exclude=exclude))
    assert {*tree_of(base / "d")} == {"e", "e/gone~", "keep", "gone~", "cache", "cache/x", "file.log", "file~"}
    assert outcomes["d/gone"].note == "kept as gone~"


def test_delete_does_not_empty_what_the_source_does_not_cover(push: Push, full: Path, base: Path) -> None:
    """Files that are pushed into a directory say nothing of what else is in it."""
    push(full / "keep", base=base / "d", options=ReceiverOptions(delete=True))
    assert (base / "d/gone").exists()


def test_delete_does_not_empty_a_directory_for_an_empty_source(push: Push, source: Path, base: Path) -> None:
    (source / "d").mkdir()
    (base / "d").mkdir()
    (base / "d/x").touch()
    outcomes = push(source / "d", base=base, options=ReceiverOptions(delete=True))
    assert outcomes["d"].error == "the source has nothing in it: refused to empty it"
    assert (base / "d/x").exists()


def test_delete_trusts_no_list_that_is_not_complete(transfer: type, full: Path, base: Path) -> None:
    (full / "e").rmdir()

    def cut(message: object) -> object:
        if isinstance(message, f.Entries):
            entries = [entry for entry in message.entries if entry.kind is not f.Kind.LEAVE]
            entries.append(f.Entry("d", f.Kind.LEAVE, complete=False))
            return f.Entries(tuple(entries), message.last)
        return message

    transfer([full], base, options=ReceiverOptions(delete=True), tamper=cut).run()
    assert (base / "d/gone").exists()


def test_delete_in_the_place_itself(push: Push, full: Path, base: Path) -> None:
    push(f"{full}/.", base=base / "d", options=ReceiverOptions(delete=True))
    assert tree_of(base) == {"d": None, "d/e": None, "d/keep": b"1", "outside": b"1"}


def test_a_set_aside_name_that_is_in_the_way(push: Push, full: Path, base: Path) -> None:
    (base / "d/cache~").mkdir()
    (base / "d/cache~/x").touch()
    outcomes = push(full, base=base, options=ReceiverOptions(delete=True, backup="~"))
    assert outcomes["d/cache"].error == "cannot keep it as cache~: directory not empty"
    assert (base / "d/cache/x").exists()


# Excluding and limits ----------------------------------------------------------------------------------------------


def test_exclude(push: Push, full: Path, base: Path) -> None:
    (full / "x.log").touch()
    outcomes = push(full, base=base, sending=SenderOptions(exclude=("*.log", "e/")))
    assert {*outcomes} == {"d", "d/keep"}


def test_limits(push: Push, source: Path, base: Path) -> None:
    (source / "d").mkdir()
    for number in range(5):
        (source / f"d/{number}").write_bytes(b"x" * number)
    outcomes = push(source / "d", base=base, sending=SenderOptions(max_size=2, max_files=5))
    assert {path: outcome.status for path, outcome in outcomes.items()} == {
        "d": CHANGED,
        "d/0": CHANGED,
        "d/1": CHANGED,
        "d/2": CHANGED,
        "d/3": SKIPPED,
        "d/4": FAILED,
    }
    assert outcomes["d/3"].note == "3 bytes, more than the limit of 2"
    assert outcomes["d/4"].error == "more than 5 files: the rest is left out"


def test_free_space_is_watched(push: Push, source: Path, base: Path) -> None:
    (source / "f").write_bytes(bytes(40 * 1024 * 1024))
    (base / "f").write_bytes(b"old")
    options = ReceiverOptions(min_free=2**62)
    outcome = push(source / "f", base=base, options=options)["f"]
    assert outcome.error == f"cannot write the new file: less than {2**62} bytes would stay free on the disk"
    assert tree_of(base) == {"f": b"old"}


# Validation --------------------------------------------------------------------------------------------------------


class Verdict:
    """A validation that takes three looks."""

    def __init__(self, text: str, fd: int) -> None:
        self.text, self.fd, self.looks, self.closed = text, fd, 0, False

    def fileno(self) -> int:
        return self.fd

    def poll(self) -> str | None:
        self.looks += 1
        return self.text if self.looks == 3 else None

    def close(self) -> None:
        self.closed = True


class Validating(Hooks):
    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[tuple[str, bytes, int]] = []
        self.verdicts: list[Verdict] = []

    def validate(self, path: str) -> Verdict:
        if self.text == "raise":
            raise FileError("validate", "no more processes")
        self.asked.append((path, Path(path).read_bytes(), mode(Path(path))))
        self.verdicts.append(Verdict(self.text, 0))
        return self.verdicts[-1]


@pytest.mark.parametrize("text", ["", "exit 1: line 3 is bad", "raise"])
def test_validate(push: Push, file: Path, old: Path, base: Path, text: str) -> None:
    hooks = Validating(text)
    options = ReceiverOptions(validate=True, mode=0o604)
    outcome = push(file, base=base, options=options, hooks=hooks, wait=lambda receiver: None)["file"]
    if text:
        assert outcome.error == ("cannot validate: no more processes" if text == "raise" else f"not valid: {text}")
        assert tree_of(base) == {"file": b"old\n"}
    else:
        assert outcome.status is CHANGED
        assert tree_of(base) == {"file": b"new\n"}
    if text != "raise":
        ((path, content, mode_then),) = hooks.asked
        assert path.startswith(f"{base}/.file.fleet-")
        assert (content, mode_then) == (b"new\n", 0o604)
        assert hooks.verdicts[0].closed


def test_the_default_hooks_have_no_command(push: Push, file: Path, base: Path) -> None:
    outcome = push(file, base=base, options=ReceiverOptions(validate=True))["file"]
    assert outcome.error == "cannot validate: there is no command"
