"""Where a pull lands: by the operator's words alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agent.tree.paths import Folder
from agent.wire.errors import RemoteProtocolError
from controller.errors import FleetError
from controller.landing import Landing, LandingError, Limits


def landing(path: Path, *remote: str, hosts: tuple[str, ...] = ("web1",), flat: bool = False) -> Landing:
    return Landing(str(path), remote or ("/etc/motd",), hosts, flat=flat, limits=Limits(max_size=5))


def refused(path: Path, *remote: str, hosts: tuple[str, ...] = ("web1",), flat: bool = False) -> str:
    with pytest.raises(FleetError) as caught:
        landing(path, *remote, hosts=hosts, flat=flat)
    return str(caught.value)


def test_each_host_has_its_folder(tmp_path: Path) -> None:
    place_of = landing(tmp_path / "a/b", "/etc/motd", "/var/log/*.log", hosts=("web1", "../x"))
    with place_of.open("../x") as (folder, place):
        (tmp_path / "a/b/%2E.%2Fx/file").touch()
        assert folder.path == f"{tmp_path}/a/b/%2E.%2Fx"
        assert place("motd") == ("motd",)
        assert place("x.log/inner") == ("x.log", "inner")
        with pytest.raises(RemoteProtocolError, match="'passwd' was not asked for"):
            place("passwd")
    assert sorted(os.listdir(tmp_path / "a/b")) == ["%2E.%2Fx"]


def test_a_folder_that_stays_empty_goes(tmp_path: Path) -> None:
    with landing(tmp_path).open("web1"):
        assert os.listdir(tmp_path) == ["web1"]
    assert os.listdir(tmp_path) == []


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "web1").mkdir(mode=0o700)
    with landing(tmp_path).open("web1"):
        pass
    assert (tmp_path / "web1").stat().st_mode & 0o777 == 0o700


def test_flat(tmp_path: Path) -> None:
    with landing(tmp_path, flat=True).open("web1") as (folder, place):
        assert folder.path == str(tmp_path)
        assert place("motd") == ("motd.web1",)
    assert os.listdir(tmp_path) == []


def test_options(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        options = landing(tmp_path).options
    finally:
        os.umask(mask)
    assert (options.umask, options.max_size, options.delete) == (0o027, 5, False)
    assert 0 < options.min_free <= 256 * 1024 * 1024


def test_paths_without_a_name(tmp_path: Path) -> None:
    for path in ("/", ".", "a/..", "./"):
        assert refused(tmp_path, path) == f"REMOTE: no name at the end of {path!r}"
    assert refused(tmp_path, "*/../x") == "REMOTE: '..' after a pattern in '*/../x'"


def test_two_of_one_name(tmp_path: Path) -> None:
    assert refused(tmp_path, "/a/x", "/b/x") == "/b/x: has the same name as /a/x, and both would go to one place"
    landing(tmp_path, "/a/x", "/a/x")
    landing(tmp_path, "/a/*", "/b/*")  # what the hosts have there is not known


def test_flat_names_that_meet(tmp_path: Path) -> None:
    expected = "--flat: files of b.a and of a could get the same name"
    assert refused(tmp_path, hosts=("a", "b.a"), flat=True) == expected
    landing(tmp_path, hosts=("a", "b.a"))
    landing(tmp_path, hosts=("a.x", "b.a"), flat=True)


def test_a_folder_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert refused(tmp_path / "file") == f"{tmp_path}/file: file exists"
    assert refused(tmp_path / "file/x") == f"{tmp_path}/file/x: not a directory"
    assert refused(tmp_path / "\0") == f"{tmp_path}/\0: holds a NUL byte"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert refused(tmp_path) == f"{tmp_path}: permission denied"
    fields = list(os.statvfs("/"))
    fields[8] |= os.ST_RDONLY
    monkeypatch.setattr(os, "fstatvfs", lambda fd: os.statvfs_result(fields))
    assert refused(tmp_path) == f"{tmp_path}: read-only file system"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_in_the_place_of_the_folder(tmp_path: Path, kind: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    if kind == "file":
        (tmp_path / "web1").touch()
    else:
        (tmp_path / "web1").symlink_to("elsewhere")
    with pytest.raises(LandingError) as caught, landing(tmp_path).open("web1"):
        pass
    assert str(caught.value) == f"{tmp_path}/web1 is there and is no directory; links are not followed"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(LandingError) as caught, landing(tmp_path).open("x" * 256):
        pass
    assert str(caught.value) == f"cannot make {tmp_path}/{'x' * 256}: file name too long"


def test_a_folder_that_cannot_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def enter(folder: Folder, name: str) -> Folder:
        raise PermissionError(errno.EACCES, "")

    (tmp_path / "web1").mkdir()
    place_of = landing(tmp_path)
    monkeypatch.setattr(Folder, "enter", enter)
    with pytest.raises(LandingError) as caught, place_of.open("web1"):
        pass
    assert str(caught.value) == f"cannot enter {tmp_path}/web1: permission denied"


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    place_of = landing(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(LandingError) as caught, place_of.open("web1"):
        pass
    assert str(caught.value) == f"cannot make {tmp_path}/gone/web1: no such file or directory"


def test_a_folder_that_is_swapped_for_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    place_of = landing(tmp_path / "local")
    (tmp_path / "local").rename(tmp_path / "moved")
    (tmp_path / "local").symlink_to("elsewhere")
    with place_of.open("web1"):
        assert os.listdir(tmp_path / "moved") == ["web1"]
    assert os.listdir(tmp_path / "elsewhere") == []


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with landing(tmp_path).open("web1"), landing(tmp_path, flat=True).open("web1"):
        pass
    assert set(os.listdir("/proc/self/fd")) == before


def test_two_hosts_of_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that knows no upper and lower case."""
    monkeypatch.setattr("controller.landing.file_name", str.lower)
    place_of = landing(tmp_path, hosts=("Web1", "web1"))
    with place_of.open("Web1"), pytest.raises(LandingError) as caught, place_of.open("web1"):
        pass
    assert str(caught.value) == f"{tmp_path}/web1 is the folder of Web1 already"
