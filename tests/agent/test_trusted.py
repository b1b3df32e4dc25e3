"""Owners, modes, links and odd files: what is refused, and in which words."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from agent import trusted
from agent.trusted import PRIVATE, UNWRITABLE, Folder, TrustError, fault, make_folders, read_file

ME = os.geteuid()


def info(*, uid: int, mode: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, uid, 0, 0, 0, 0))


def private(path: Path, content: bytes = b"text", mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def refusal(path: str, limit: int = 100, forbidden: int = PRIVATE) -> TrustError:
    with pytest.raises(TrustError) as caught:
        read_file(path, limit=limit, forbidden=forbidden)
    return caught.value


@pytest.mark.parametrize(
    ("uid", "owner", "mode", "forbidden", "expected"),
    [
        (1000, 1000, 0o600, PRIVATE, None),
        (1000, 0, 0o600, PRIVATE, None),
        (0, 0, 0o400, PRIVATE, None),
        (1000, 1000, 0o644, UNWRITABLE, None),
        (1000, 1001, 0o600, PRIVATE, ("belongs to user 1001, expected user 1000 or root", "chown 1000")),
        (0, 1000, 0o600, PRIVATE, ("belongs to user 1000, expected root", "chown 0")),
        (0, 0, 0o644, PRIVATE, ("is open to its group or others (mode 0644)", "chmod 600")),
        (0, 0, 0o610, PRIVATE, ("is open to its group or others (mode 0610)", "chmod 600")),
        (0, 0, 0o664, UNWRITABLE, ("is writable by its group or others (mode 0664)", "chmod 644")),
        (0, 0, 0o1777, UNWRITABLE, ("is writable by its group or others (mode 1777)", "chmod 1755")),
    ],
)
def test_fault(uid: int, owner: int, mode: int, forbidden: int, expected: tuple[str, str] | None) -> None:
    assert fault(info(uid=owner, mode=stat.S_IFREG | mode), uid=uid, forbidden=forbidden) == expected


def test_a_private_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = private(tmp_path / "a", "Zürich\n".encode())
    assert read_file(path, limit=8) == "Zürich\n"
    assert str(refusal(path, limit=7)) == f"{path}: is longer than 7 bytes"
    assert read_file(private(tmp_path / "b", b"x", 0o644), limit=8, forbidden=UNWRITABLE) == "x"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "my key", mode=mode)
    error = refusal(path)
    assert str(error) == f"{path}: is open to its group or others (mode {mode:04o})"
    assert error.hint == f"chmod 600 '{path}'"


def test_a_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = private(tmp_path / "key")
    if ME == 0:
        os.chown(path, 12345, -1)
        assert str(refusal(path)) == f"{path}: belongs to user 12345, expected root"
    else:
        monkeypatch.setattr(os, "geteuid", lambda: ME + 1)
        assert str(refusal(path)) == f"{path}: belongs to user {ME}, expected user {ME + 1} or root"


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    target = private(tmp_path / "target")
    link, fifo, folder = tmp_path / "link", tmp_path / "fifo", tmp_path / "folder"
    link.symlink_to(target)
    os.mkfifo(fifo, 0o600)
    folder.mkdir(0o700)
    error = refusal(str(link))
    assert (str(error), error.hint) == (f"{link}: is a symbolic link", "name the file itself")
    assert str(refusal(str(fifo))) == f"{fifo}: is not a regular file"
    assert str(refusal(str(folder))) == f"{folder}: is not a regular file"
    assert str(refusal(str(tmp_path / "none"))) == f"{tmp_path}/none: no such file or directory"


def test_bytes_that_are_not_utf_8_are_placed(tmp_path: Path) -> None:
    path = private(tmp_path / "a", b"one\ntwo \xff\n")
    assert str(refusal(path)) == f"{path}:2: not UTF-8: byte 0xff"


def test_a_failing_read_is_told() -> None:
    # A regular file, ours and 0600, whose first page nobody can read.
    assert str(refusal("/proc/self/mem")) == "/proc/self/mem: input/output error"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    good, bad = private(tmp_path / "a"), private(tmp_path / "b", mode=0o644)
    folder = tmp_path / "c"
    folder.mkdir(0o777)
    folder.chmod(0o777)
    for _ in range(3):
        read_file(good, limit=9)
        refusal(bad)
        refusal(str(tmp_path))
        with pytest.raises(TrustError):
            Folder.open(str(folder), forbidden=PRIVATE)
        with Folder.open(str(tmp_path), forbidden=UNWRITABLE) as opened:
            opened.replace("d", "x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_make_folders_closes_all_that_it_makes(tmp_path: Path) -> None:
    make_folders(f"{tmp_path}/a/b/c")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/c")] == [0o700] * 3
    (tmp_path / "a").chmod(0o755)
    make_folders(f"{tmp_path}/a/b")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755


def test_make_folders_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrustError) as caught:
        make_folders(f"{tmp_path}/file/a")
    assert str(caught.value) == f"{tmp_path}/file: file exists"


def test_make_folders_beside_somebody_quicker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.mkdir

    def late(path: str, mode: int) -> None:
        real(path, mode)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "mkdir", late)
    make_folders(f"{tmp_path}/a/b")
    assert (tmp_path / "a/b").is_dir()


def test_make_folders_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_folders("a/b")
    assert (tmp_path / "a/b").is_dir()


def test_a_folder_is_checked(tmp_path: Path) -> None:
    folder, link, file = tmp_path / "folder", tmp_path / "link", tmp_path / "file"
    folder.mkdir(0o700)
    folder.chmod(0o775)
    link.symlink_to(folder)
    file.touch()
    with pytest.raises(TrustError) as caught:
        Folder.open(str(folder), forbidden=UNWRITABLE)
    assert str(caught.value) == f"{folder}: is writable by its group or others (mode 0775)"
    assert caught.value.hint == f"chmod 755 {folder}"
    folder.chmod(0o755)
    with Folder.open(str(link), forbidden=UNWRITABLE) as opened:  # the user may name a link
        assert opened.path == str(link)
    with Folder.open(str(tmp_path), forbidden=UNWRITABLE) as outer:  # but inside the folder nothing is followed
        for name in ("link", "file"):
            with pytest.raises(TrustError) as caught:
                outer.inner(name, forbidden=UNWRITABLE)
            assert str(caught.value) == f"{tmp_path}/{name}: is not a folder"
        with pytest.raises(FileNotFoundError):
            outer.inner("none", forbidden=UNWRITABLE)
        with pytest.raises(TrustError) as caught:
            outer.inner("n" * 256, forbidden=UNWRITABLE)
        assert str(caught.value).endswith(": file name too long")


def test_replace_is_whole_private_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with Folder.open(str(tmp_path), forbidden=UNWRITABLE) as folder:
        folder.replace("a", "one")
        first = (tmp_path / "a").stat()
        folder.replace("a", "two")
        assert folder.read("a", limit=10) == "two"
        assert folder.names() == ["a"]
    assert os.listdir(tmp_path) == ["a"]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert (tmp_path / "a").stat().st_ino != first.st_ino  # a new file, so no reader saw half of it


def test_replace_does_not_write_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "a").symlink_to(victim)
    with Folder.open(str(tmp_path), forbidden=UNWRITABLE) as folder:
        folder.replace("a", "two")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "a").is_symlink()


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private(tmp_path / "a", b"old")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trusted.os, "fsync", full)
    with Folder.open(str(tmp_path), forbidden=UNWRITABLE) as folder, pytest.raises(TrustError) as caught:
        folder.replace("a", "new")
    assert str(caught.value) == f"{tmp_path}/a: no space left on device"
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_hidden_names_are_no_entries(tmp_path: Path) -> None:
    for name in ("b", "a", ".a.0123.tmp"):
        (tmp_path / name).touch()
    with Folder.open(str(tmp_path), forbidden=UNWRITABLE) as folder:
        assert folder.names() == ["a", "b"]
