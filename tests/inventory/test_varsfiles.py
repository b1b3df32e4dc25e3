"""Files of variables: what is skipped and said, what is refused. What is read is tested against Ansible itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from inventory import Inventory, InventoryError, load, origins

Write = Callable[..., str]


@pytest.fixture
def beside(write: Write, warnings: list[str]) -> Callable[[], Inventory]:
    """Return a function that loads `[web]\\nweb1` with the files that were written beside it."""
    path = write("[web]\nweb1\n")
    return lambda: load([path], warn=warnings.append)


def test_yaml_is_named_once(beside: Callable[[], Inventory], write: Write, warnings: list[str], tmp_path: Path) -> None:
    write("x: 1\n", "group_vars/all.yml")
    write("x: 1\n", "group_vars/web/a.yaml")
    write("x: 1\n", "host_vars/web1")
    assert beside()["web1"].variables == {}
    assert warnings == [
        f"{tmp_path}/group_vars/all.yml and 2 more: not read, not JSON; convert it, or let Ansible read it: "
        f"ansible-inventory -i {tmp_path}/hosts.ini --list | fleet run -i - ..."
    ]
    warnings.clear()
    os.unlink(tmp_path / "group_vars/web/a.yaml")
    os.unlink(tmp_path / "host_vars/web1")
    beside()
    assert len(warnings) == 1 and warnings[0].startswith(f"{tmp_path}/group_vars/all.yml: not read, not JSON")


def test_an_encrypted_file_is_named(beside: Callable[[], Inventory], write: Write, warnings: list[str]) -> None:
    write("$ANSIBLE_VAULT;1.1;AES256\n6231\n", "group_vars/web")
    beside()
    assert len(warnings) == 1 and "group_vars/web: not read, not JSON" in warnings[0]


def test_hosts_that_are_not_there_are_named(
    beside: Callable[[], Inventory], write: Write, warnings: list[str], tmp_path: Path
) -> None:
    write("{}", "host_vars/web9.json")
    write("{}", "host_vars/notes.md")
    write("{}", "group_vars/elsewhere.json")
    assert beside()["web1"].variables == {}
    assert warnings == [f"{tmp_path}/host_vars/web9.json: variables of a host that is not in the inventory"]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("group_vars/web.json", "[1]", "web.json:1: expected an object of variables"),
        ("group_vars/web.json", "x: 1", "web.json:1: not JSON (expecting value at column 1)"),
        ("group_vars/web", '{"x": 1,\n 2}', "web:2: not JSON"),
        ("group_vars/web", "[1, 2]", "web:1: expected an object of variables"),
        ("host_vars/web1.json", '{\n"fleet_port": 0}', "web1.json:2: fleet_port must be a number from 1 to 65535: '0'"),
        ("host_vars/web1.json", b"\xff", "web1.json:1: expected UTF-8, found the byte 0xff at column 1"),
    ],
)
def test_refused(name: str, text: str | bytes, error: str, beside: Callable[[], Inventory], write: Write) -> None:
    write(text, name)
    with pytest.raises(InventoryError) as caught:
        beside()
    assert error in str(caught.value)


def test_a_directory_in_a_circle(beside: Callable[[], Inventory], write: Write, tmp_path: Path) -> None:
    write("{}", "group_vars/web/a.json")
    (tmp_path / "group_vars/web/loop").symlink_to(tmp_path / "group_vars/web")
    with pytest.raises(InventoryError, match=r"web/loop: a symbolic link to a directory that it is in$"):
        beside()


def test_a_fifo_is_not_waited_for(beside: Callable[[], Inventory], tmp_path: Path) -> None:
    (tmp_path / "host_vars").mkdir()
    os.mkfifo(tmp_path / "host_vars/web1")
    with pytest.raises(InventoryError, match=r"host_vars/web1: not a file$"):
        beside()


def test_a_file_where_a_directory_belongs(beside: Callable[[], Inventory], write: Write) -> None:
    write("x", "group_vars")
    assert beside()["web1"].variables == {}


def test_places(beside: Callable[[], Inventory], write: Write, tmp_path: Path) -> None:
    write('{\n"x": 1,\n"y": 1}', "group_vars/web.json")
    write('{"y": 2}', "host_vars/web1.json")
    assert origins(beside(), "web1") == [
        ("x", 1, f"{tmp_path}/group_vars/web.json:2"),
        ("y", 2, f"{tmp_path}/host_vars/web1.json:1"),
    ]


def test_beside_the_working_directory(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("web1\n")
    write('{"x": 1}', "group_vars/all.json")
    monkeypatch.chdir(tmp_path)
    assert load(["hosts.ini"], warn=lambda text: None)["web1"].variables == {"x": 1}


def test_two_sources_in_one_directory_are_told_of_once(write: Write, warnings: list[str]) -> None:
    first, second = write("web1\n", "a"), write("web2\n", "b")
    write("x: 1", "group_vars/all.yml")
    load([first, second], warn=warnings.append)
    assert len(warnings) == 1
