"""What can be pushed, looked at before any host is reached."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from agent.wire.file_messages import TOP
from controller.differences import LARGEST, Content
from controller.errors import FleetError
from controller.results import Status
from controller.sources import Filler, FillError, LocalSource, look_at, opened, read_templates, reader
from inventory import ad_hoc


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
    with opened([LocalSource(f"{tmp_path}/file", "file"), LocalSource(f"{tmp_path}/gone/file", "file")]) as (
        sources,
        _,
    ):
        assert (sources[0].folder is not None, sources[0].names, sources[0].path) == (True, ("file",), "file")
        assert (sources[1].folder, sources[1].path) == (None, "file")
        assert sources[1].reason == f"cannot enter {tmp_path}/gone: no such file or directory"
    assert set(os.listdir("/proc/self/fd")) == before


# Templates ------------------------------------------------------------------------------------------------------------


def test_templates(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_bytes(b"name {host}; {{ \xff }}\n")
    path.chmod(0o640)
    os.utime(path, ns=(1, 2))
    templates = read_templates(look_at([str(path)], follow=True))
    filler = Filler(templates)
    hosts = ad_hoc("web[1-2]")
    with filler.opened(hosts["web1"]) as (sources, made), filler.opened(hosts["web2"]) as (_, others):
        (source,) = sources
        assert (source.path, made[0].name, others[0].name) == ("conf", "conf", "conf")
        made_path = Path(made[0].path)
        assert os.path.join(source.folder.path, *source.names) == str(made_path)
        assert made_path.read_bytes() == b"name web1; { \xff }\n"
        assert Path(others[0].path).read_bytes() == b"name web2; { \xff }\n"
        info = made_path.stat()
        assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (0o640, 2)
        assert stat.S_IMODE(made_path.parent.stat().st_mode) == 0o700
    assert not made_path.parent.exists()
    with filler.opened(hosts["web1"]) as (_, made):
        assert Path(made[0].path).exists()
    assert not Path(made[0].path).parent.exists()


def test_a_full_disk_under_the_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").write_text("{host}\n")
    filler = Filler(read_templates(look_at([f"{tmp_path}/conf"], follow=True)))
    host = ad_hoc("web1")["web1"]
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "utime", full)
    with pytest.raises(FillError) as caught, filler.opened(host):
        pass
    assert str(caught.value) == "cannot fill in the template: no space left on device"
    assert caught.value.status is Status.FAILED
    assert os.listdir(folder) == []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nothing"))
    with pytest.raises(FillError, match="cannot fill in the template: no such file or directory"), filler.opened(host):
        pass


def test_templates_without_a_value(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("listen {port_of_ours};")
    (template,) = read_templates(look_at([str(path)], follow=True))
    with pytest.raises(FleetError, match="undefined variable") as caught:
        template.fill(ad_hoc("web1")["web1"])
    assert (caught.value.what, "port_of_ours" in caught.value.why, "web1" in caught.value.why) == (
        str(path),
        True,
        True,
    )


def test_what_is_no_template(tmp_path: Path) -> None:
    def reason(source: LocalSource) -> str:
        with pytest.raises(FleetError) as caught:
            read_templates([source])
        return str(caught.value)

    path = tmp_path / "file"
    path.write_bytes(b"a\0b")
    assert reason(LocalSource(str(path), "file")) == f"{path}: holds a NUL byte: no text for --template"
    path.write_bytes(b"a" * (1 << 20) + b"b")
    assert (
        reason(LocalSource(str(path), "file")) == f"{path}: more than 1048576 bytes, which is too long for --template"
    )
    path.unlink()
    assert reason(LocalSource(str(path), "file")) == f"{path}: no such file or directory"
    folder = LocalSource(str(tmp_path), "folder", is_folder=True)
    assert reason(folder) == f"--template: fills in files, and {tmp_path} is a directory"


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
