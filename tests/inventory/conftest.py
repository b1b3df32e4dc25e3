"""Fixtures for the tests of the inventory: files by their text, and the real Ansible in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inventory import Inventory, load

HERE = Path(__file__).parent


class AnsibleReader:
    """Requests to `ansible_reader.py`, one at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, **request: object) -> Any:
        """Return what Ansible makes of `sources`, `patterns` and `limits`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="session")
def ansible_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which Ansible finds no configuration of the machine's."""
    home = tmp_path_factory.mktemp("ansible-home")
    (home / "ansible.cfg").touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {
        **kept,
        "ANSIBLE_CONFIG": str(home / "ansible.cfg"),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_LOCAL_TEMP": str(home),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture(scope="session")
def ansible(ansible_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsibleReader]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "ansible_reader.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        cwd=tmp_path_factory.mktemp("ansible-cwd"),
        env=ansible_environment,
    )
    with process:
        yield AnsibleReader(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def warnings() -> list[str]:
    """Return the list that warnings of `read` go to."""
    return []


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a file below tmp_path and returns its path."""

    def write(content: str | bytes, name: str = "hosts.ini", mode: int = 0o644) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return str(path)

    return write


@pytest.fixture
def read(write: Callable[..., str], warnings: list[str]) -> Callable[..., Inventory]:
    """Return a function that writes an inventory and loads it."""

    def read(content: str | bytes, name: str = "hosts.ini", mode: int = 0o644) -> Inventory:
        return load([write(content, name, mode)], warn=warnings.append)

    return read
