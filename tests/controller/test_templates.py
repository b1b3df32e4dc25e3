"""Files that are filled in for each host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller.errors import FleetError
from controller.held import HeldFile
from controller.sources import LocalSource, look_at
from controller.templates import read_templates
from inventory import ad_hoc


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "conf"
    path.write_bytes(b"name {host}; {{ \xff }}\n")
    path.chmod(0o640)
    os.utime(path, ns=(1, 2))
    return path


def test_each_host_has_its_own(conf: Path) -> None:
    (template,) = read_templates(look_at([str(conf)], follow=True))
    for host in ("web1", "web22"):
        text = f"name {host}; ".encode() + b"{ \xff }\n"
        assert template.fill(ad_hoc(host)[host]) == HeldFile.of("conf", text, 0o640, 2)


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
