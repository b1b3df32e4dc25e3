"""Files that are filled in for each host, in memory."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from agent.tree.errors import FileError
from agent.tree.options import SenderOptions
from agent.wire.file_messages import Entry, Kind
from controller.differences import LARGEST, Content
from controller.errors import FleetError
from controller.sources import LocalSource, look_at
from controller.templates import Filled, read_templates
from inventory import ad_hoc


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "conf"
    path.write_bytes(b"name {host}; {{ \xff }}\n")
    path.chmod(0o640)
    os.utime(path, ns=(1, 2))
    return path


def filled(path: Path, host: str = "web1", **options: object) -> Filled:
    templates = read_templates(look_at([str(path)], follow=True))
    return Filled(templates, ad_hoc(host)[host], SenderOptions(**options))  # type: ignore[arg-type]


def test_each_host_has_its_own(conf: Path) -> None:
    for host in ("web1", "web22"):
        text = f"name {host}; ".encode() + b"{ \xff }\n"
        files = filled(conf, host)
        (item,) = files.items()
        assert item.entry == Entry("conf", Kind.FILE, 0o640, len(text), 2)
        fd = files.open(item)
        info = os.fstat(fd)
        assert (os.pread(fd, 100, 0), stat.S_ISREG(info.st_mode), info.st_nlink) == (text, True, 0)
        os.close(fd)
        assert files.content("conf") == Content.of(text)
        files.close()


def test_what_is_left_out(conf: Path) -> None:
    assert list(filled(conf, exclude=("co*",)).items()) == []


def test_no_difference_of_what_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "conf").write_bytes(b"x" * (LARGEST + 1))
    assert filled(tmp_path / "conf").content("conf") is None


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_what_cannot_be_filled_in(conf: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    files = filled(conf)
    (item,) = files.items()
    before = set(os.listdir("/proc/self/fd"))

    def fail(*args: object) -> int:
        raise OSError(errno.ENFILE, "")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(FileError, match=r"^cannot fill it in: too many open files in system$"):
        files.open(item)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_short_write_is_continued(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = filled(conf)
    (item,) = files.items()
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    fd = files.open(item)
    assert os.pread(fd, 100, 0) == b"name web1; { \xff }\n"
    os.close(fd)


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
