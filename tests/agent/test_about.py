"""What an agent says of itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import about


def test_a_system_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise OSError

    monkeypatch.setattr(about, "pretty_name", fail)
    assert about.about()["os"] == f"{os.uname().sysname} {os.uname().release}"[:100]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', "Debian GNU/Linux 12 (bookworm)"),
        ("PRETTY_NAME=Alpine\n", "Alpine"),
        ("PRETTY_NAME='Void Linux'", "Void Linux"),
    ],
)
def test_a_system_by_its_name(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "os-release").write_text(text)
    assert about.pretty_name(str(tmp_path / "os-release")) == name
