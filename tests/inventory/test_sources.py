"""What `-i` may name: files, directories, lists, standard input, and what is sent to Ansible."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from inventory import Inventory, InventoryError, load

Read = Callable[..., Inventory]
Write = Callable[..., str]


def silent(text: str) -> None:
    raise AssertionError(text)


def test_standard_input() -> None:
    assert load(["-"], stdin=io.BytesIO(b"[web]\r\nweb1\n"), warn=silent).groups["web"] == ("web1",)
    listing = b'{"web": {"hosts": ["web1"]}, "_meta": {"hostvars": {"web1": {"x": 1}}}}'
    assert load(["-"], stdin=io.BytesIO(listing), warn=silent)["web1"].variables == {"x": 1}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"web1 x\n", "stdin:1: expected key=value after the host: 'x'"),
        (b'{"a": ', "stdin:1: not JSON (expecting value at column 7)"),
        (b"\xff", "stdin:1: expected UTF-8, found the byte 0xff at column 1"),
        (b"all:\n  hosts:\n", "stdin: a YAML inventory is not read here"),
    ],
)
def test_bad_standard_input(data: bytes, error: str) -> None:
    with pytest.raises(InventoryError) as caught:
        load(["-"], stdin=io.BytesIO(data), warn=silent)
    assert str(caught.value) == error


def test_standard_input_is_there_once() -> None:
    with pytest.raises(InventoryError, match=r"^-: there is no standard input to read$"):
        load(["-"], warn=silent)
    with pytest.raises(InventoryError, match=r"^-: standard input can be read once$"):
        load(["-", "-"], stdin=io.BytesIO(b"a"), warn=silent)


def test_no_source_is_an_empty_inventory() -> None:
    assert len(load([], warn=silent)) == 0


def test_a_list(tmp_path: Path) -> None:
    inventory = load(["web1:22, 10.0.0.1,web1:23,,"], warn=silent)
    assert inventory.names == ("web1", "10.0.0.1")
    assert inventory["web1"].variables == {"ansible_port": "22"}


@pytest.mark.parametrize(
    ("source", "error", "hint"),
    [
        ("web[01:03],", "a list of hosts holds no ranges: 'web[01:03]'", "node sets are targets: -w web[01:03]"),
        ("a b,", "a host name cannot hold ' ': 'a b'", None),
        ("-x,", "a host name cannot start with '-': '-x'", None),
    ],
)
def test_bad_lists(source: str, error: str, hint: str | None) -> None:
    with pytest.raises(InventoryError) as caught:
        load([source], warn=silent)
    assert (str(caught.value), caught.value.hint) == (error, hint)


def test_a_file_with_a_comma_in_its_name(write: Write) -> None:
    assert load([write("web1\n", "a,b")], warn=silent).names == ("web1",)


@pytest.mark.parametrize("name", ["hosts", "hosts.yml", "hosts.yaml"])
@pytest.mark.parametrize(
    "text", ["---\nall:\n", "all:\n  hosts:\n", "# c\n\nplugin: aws_ec2\n", "--- # x\n", '"all":\n']
)
def test_yaml_is_sent_to_ansible(text: str, name: str, write: Write) -> None:
    path = write(text, name)
    with pytest.raises(InventoryError) as caught:
        load([path], warn=silent)
    assert str(caught.value) == f"{path}: a YAML inventory is not read here"
    assert caught.value.hint == f"let Ansible read it: ansible-inventory -i {path} --list | fleet run -i - ..."


def test_names_decide_when_the_text_does_not(write: Write) -> None:
    for name, what in [("a.yml", "YAML"), ("a.toml", "TOML")]:
        with pytest.raises(InventoryError, match=f"a {what} inventory is not read here"):
            load([write("[web]\n", name)], warn=silent)
    assert load([write('{"web": ["web1"]}', "b.yml")], warn=silent).names == ("web1",)


@pytest.mark.parametrize("name", ["missing", "missing/below", "a\0b", "x" * 300])
def test_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="cannot be read"):
        load([str(tmp_path / name)], warn=silent)


def test_a_script_that_is_not_executable(read: Read) -> None:
    with pytest.raises(InventoryError) as caught:
        read("#!/usr/bin/python3\nimport json\n", "inv.py")
    assert str(caught.value).endswith("inv.py:2: expected key=value after the host: 'json'")
    assert caught.value.hint is not None and caught.value.hint.startswith("a script must be executable: chmod +x ")
    with pytest.raises(InventoryError) as caught:
        read("import json\n")
    assert caught.value.hint is None


def test_a_directory_in_a_circle(write: Write, tmp_path: Path) -> None:
    write("web1\n", "inv/hosts")
    (tmp_path / "inv" / "loop").symlink_to(tmp_path / "inv")
    with pytest.raises(InventoryError, match=r"inv/loop: a symbolic link to a directory that it is in$"):
        load([str(tmp_path / "inv")], warn=silent)


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    with pytest.raises(InventoryError, match=r"a: cannot be read \(no such file or directory\)$"):
        load([str(tmp_path)], warn=silent)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InventoryError, match=r"a: cannot be read \(too many levels of symbolic links\)$"):
        load([str(tmp_path)], warn=silent)


def test_a_fifo_in_a_directory_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InventoryError, match=r"fifo: not a file$"):
        load([str(tmp_path)], warn=silent)


def test_one_bad_file_refuses_the_directory(write: Write, tmp_path: Path) -> None:
    write("web1\n", "inv/a")
    path = write("web2 oops\n", "inv/b")
    with pytest.raises(InventoryError) as caught:
        load([str(tmp_path / "inv")], warn=silent)
    assert str(caught.value) == f"{path}:1: expected key=value after the host: 'oops'"


def test_a_host_and_a_group_of_one_name_are_named(read: Read, warnings: list[str]) -> None:
    read("[db]\ndb\n")
    assert warnings == ["'db' is a host and a group; a pattern of that name means the host"]
