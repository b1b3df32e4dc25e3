"""What can be pushed, looked at before any host is reached."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.wire.file_messages import TOP
from controller.differences import LARGEST, Content
from controller.errors import FleetError
from controller.sources import LocalSource, look_at, opened, reader


def refused(*paths: str | os.PathLike[str], follow: bool = False) -> str:
    with pytest.raises(FleetError) as caught:
        look_at([os.fspath(path) for path in paths], follow=follow)
    return str(caught.value)


def test_what_can_be_pushed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    paths = [f"{tmp_path}/file", f"{tmp_path}/folder/", f"{tmp_path}/link", f"{tmp_path}/."]
    assert look_at(paths, follow=False) == [
        LocalSource(paths[0], "file"),
        LocalSource(paths[1], "folder", is_folder=True),
        LocalSource(paths[2], "link"),
        LocalSource(paths[3], TOP, is_folder=True),
    ]


def test_a_path_that_is_given_twice_goes_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = f"{tmp_path}/file"
    assert look_at([path, path], follow=False) == [LocalSource(path, "file")]


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    open(path, "w").close()
    assert look_at([path], follow=False) == [LocalSource(path, "\udcff")]


def test_what_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing") == f"{tmp_path}/nothing: no such file or directory"
    (tmp_path / "link").symlink_to("nowhere")
    assert refused(tmp_path / "link", follow=True) == f"{tmp_path}/link: no such file or directory"
    (tmp_path / "file").touch()
    assert refused(f"{tmp_path}/file/") == f"{tmp_path}/file/: not a directory"
    assert refused(f"{tmp_path}/\0") == f"{tmp_path}/\0: holds a NUL byte"


def test_what_is_nothing_to_push(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert refused(tmp_path / "fifo") == f"{tmp_path}/fifo: is a FIFO"
    assert refused("/dev/null") == "/dev/null: is a character device"


def test_names_that_nobody_means(tmp_path: Path) -> None:
    (tmp_path / "new\nline").touch()
    assert refused(tmp_path / "new\nline").endswith(": control character in the name 'new\\nline'")
    assert refused("x" * 256) == f"{'x' * 256}: name of 256 bytes, expected no more than 255"


def test_two_of_one_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").touch()
    one, other = f"{tmp_path}/a/file", f"{tmp_path}/b/file"
    assert refused(one, other) == f"{other}: has the same name as {one}, and both would go to the same place"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o200)
    assert refused(tmp_path / "file") == f"{tmp_path}/file: permission denied"


def test_what_root_cannot_read_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert refused(tmp_path / "file") == f"{tmp_path}/file: permission denied"


def test_opening(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = set(os.listdir("/proc/self/fd"))
    with opened([LocalSource(f"{tmp_path}/file", "file"), LocalSource(f"{tmp_path}/gone/file", "file")]) as sources:
        assert (sources[0].folder is not None, sources[0].names, sources[0].path) == (True, ("file",), "file")
        assert (sources[1].folder, sources[1].path) == (None, "file")
        assert sources[1].reason == f"cannot enter {tmp_path}/gone: no such file or directory"
    assert set(os.listdir("/proc/self/fd")) == before


# What a difference is made of -----------------------------------------------------------------------------------------


def test_reading_new_contents(tmp_path: Path) -> None:
    (tmp_path / "tree/inner").mkdir(parents=True)
    (tmp_path / "tree/inner/file").write_bytes(b"1")
    (tmp_path / "top").mkdir()
    (tmp_path / "top/file").write_bytes(b"2")
    (tmp_path / "top/large").write_bytes(bytes(LARGEST + 1))
    read = reader([LocalSource(f"{tmp_path}/tree", "tree"), LocalSource(f"{tmp_path}/top", TOP)])
    assert read("tree/inner/file") == Content.of(b"1")
    assert read("file") == Content.of(b"2")
    assert read("large") is None
    assert read("gone") is None
