"""Inventories in JSON: wrong types, places, old forms. What is read is tested against Ansible itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inventory import Inventory, InventoryError, origins

Read = Callable[..., Inventory]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"g": 5}', ":1: expected an object, found a number: 'g'"),
        ('{"g": "x"}', ":1: expected an object, found a string: 'g'"),
        ('{"g": true}', ":1: expected an object, found a boolean: 'g'"),
        ('{\n"g": {"hosts": "web1"}}', ":2: expected a list of names, found a string: 'hosts'"),
        ('{\n"g": {"hosts": [\n5]}}', ":2: expected a name, found a number: 'hosts'"),
        ('{\n"g": {"children": [null]}}', ":2: expected a name, found null: 'children'"),
        ('{\n"g": {"children": 1.5}}', ":2: expected a list of names, found a number: 'children'"),
        ('{"g": {"vars": [1]}}', ":1: expected an object of variables, found a list: 'vars'"),
        ('{"g": {"hosts": {"a": 1}}}', ":1: expected an object of variables, found a number: 'a'"),
        ('{"_meta": []}', ":1: expected an object, found a list: '_meta'"),
        ('{"_meta": {"hostvars": 1}}', ":1: expected an object, found a number: 'hostvars'"),
        ('{"g": ["a"], "_meta": {"hostvars": {\n"a": 1}}}', ":2: expected an object of variables, found a number: 'a'"),
        ('{"g": ["a"], "_meta": {"hostvars": {\n"a": {\n"fleet_port": 0}}}}',
         ":3: fleet_port must be a number from 1 to 65535: '0'"),
        ('{"g": {"vars": {\n"fleet_host": 1}}}', ":2: fleet_host must be one word: '1'"),
        ('{"g": {"vars": {\n"ansible_group_priority": "x"}}}', ":2: ansible_group_priority must be a number: 'x'"),
        ('{"g": {"hosts": {\n"a": {"fleet_pool": ""}}}}', ":2: fleet_pool must be one word: ''"),
        ('{"g": ["a b"]}', ":1: a host name cannot hold ' ': 'a b'"),
        ('{"g": ["a[1:2]"]}', ":1: a host name cannot hold '[': 'a[1:2]'"),
        ('{"g": [\n"a\\u0000"]}', ":1: a host name cannot hold the character U+0000: 'a\\x00'"),
        ('{"g": {"hosts": {\n"a[1:": {}}}}', ":2: unclosed range: 'a[1:'"),
        ('{"g\\n": ["a"]}', ":1: a group name cannot hold the character U+000A: 'g\\n'"),
        ('{"": ["a"]}', ":1: expected a group name, found nothing"),
        ('{"g": {"children": [\n"g"]}}', ":1: group 'g' would be inside itself"),
        ('{"g": {"children": {"h": {"children": {\n"g": {}}}}}}', ":1: group 'h' would be inside itself"),
        ('{"g": {"children": ["h"]},\n"h": {"children": ["g"]}}', ":2: group 'g' would be inside itself"),
    ],
)  # fmt: skip
def test_refused(text: str, error: str, read: Read) -> None:
    with pytest.raises(InventoryError) as caught:
        read(text, "hosts.json")
    assert str(caught.value).endswith(f"/hosts.json{error}")


@pytest.mark.parametrize("hosts", ['["a", "b", "c", "d"]', '{"a[1:4]": {}}'])
def test_too_many_hosts(hosts: str, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inventory.tree.MAX_HOSTS", 3)
    with pytest.raises(InventoryError, match=r":2: 4 hosts are over the limit of 3$"):
        read(f'{{"g": {{\n"hosts": {hosts}}}}}')


def test_null_is_nothing(read: Read) -> None:
    inventory = read(
        '{"g": null, "h": {"hosts": null, "vars": null, "children": null}, "_meta": null, "i": {"hosts": ["a"]}}'
    )
    assert inventory.names == ("a",)
    assert {"g", "h", "i"} <= set(inventory.groups)


def test_unknown_keys_are_named(read: Read, warnings: list[str]) -> None:
    inventory = read('{"g": {"hosts": ["a"],\n"childern": ["h"]}}')
    assert inventory.names == ("a",)
    assert len(warnings) == 1
    assert warnings[0].endswith("/hosts.ini:2: ignored, not hosts, vars or children: 'childern'")


def test_variables_of_strangers_are_named(read: Read, warnings: list[str]) -> None:
    read('{"g": ["a"], "_meta": {"hostvars": {"b": {}, "c": {}}}}')
    assert len(warnings) == 1
    assert warnings[0].endswith("/hosts.ini:1: variables of a host in no group: 'b' and 1 more")
    warnings.clear()
    read('{"g": ["a"], "_meta": {"hostvars": {"b": {}}}}')
    assert warnings[0].endswith("/hosts.ini:1: variables of a host in no group: 'b'")


def test_places_of_variables(read: Read) -> None:
    inventory = read(
        '{"g": {"hosts": ["a"],\n "vars": {"x": 1,\n  "y": null}},\n"_meta": {"hostvars": {"a": {\n "z": [1]}}}}'
    )
    places = [(name, value, place.rsplit(":", 1)[1]) for name, value, place in origins(inventory, "a")]
    assert places == [("x", 1, "2"), ("y", None, "3"), ("z", [1], "5")]


def test_ports_in_the_form_of_yaml(read: Read) -> None:
    inventory = read(
        '{"g": {"hosts": {\n"a:22": {},\n"b[1:2]:23": {"ansible_port": 24}}}, "h": {"hosts": {"a:25": {}}}}'
    )
    assert [host.variables["ansible_port"] for host in inventory] == ["22", 24, 24]
    assert origins(inventory, "a")[0][2].endswith("hosts.ini:2")


def test_changed_types_are_read_or_refused(read: Read, tmp_path: Path) -> None:
    """Any value put anywhere gives an inventory or an InventoryError, and nothing else."""
    whole: Any = {
        "g": {"hosts": ["a", "b"], "vars": {"x": 1, "fleet_port": 7}, "children": ["h"]},
        "h": {"hosts": {"c": {"y": 2}}, "children": {"i": {"hosts": {}}}},
        "_meta": {"hostvars": {"a": {"z": 3}}},
    }
    rnd = random.Random(3)
    wrong: list[Any] = [
        None,
        True,
        0,
        -1.5,
        "",
        "x",
        "g",
        "a b",
        [],
        [[]],
        ["g"],
        {},
        {"hosts": 1},
        {"children": ["g"]},
    ]

    def change(value: Any) -> Any:
        if rnd.random() < 0.15 or not isinstance(value, dict | list) or not value:
            return rnd.choice(wrong) if rnd.random() < 0.4 else value
        if isinstance(value, list):
            return [change(each) for each in value]
        return {key: change(each) for key, each in value.items()}

    for _ in range(400):
        try:
            for host in read(json.dumps(change(whole))):
                assert host.groups
        except InventoryError as error:
            assert "\n" not in str(error)
