"""Hosts and inventories as others see them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inventory import Inventory, InventoryError

Read = Callable[..., Inventory]


@pytest.mark.parametrize(
    ("line", "address", "port", "pool"),
    [
        ("web1", "web1", None, None),
        ("web1:2222", "web1", None, None),
        ("web1 ansible_host=10.0.0.1 ansible_port=22", "10.0.0.1", None, None),
        ("web1 ansible_host=10.0.0.1 fleet_host=10.0.0.2 fleet_port=7433", "10.0.0.2", 7433, None),
        ("web1 ansible_host='{{ x }}' fleet_host=fe80::1%eth0 fleet_pool=blue", "fe80::1%eth0", None, "blue"),
    ],
)
def test_where_the_agent_is(line: str, address: str, port: int | None, pool: str | None, read: Read) -> None:
    host = read(line)["web1"]
    assert (host.address, host.port, host.pool) == (address, port, pool)


def test_the_port_may_be_a_number(read: Read) -> None:
    assert read('{"g": {"hosts": ["a"], "vars": {"fleet_port": 7433}}}')["a"].port == 7433


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "a\nb ansible_host='{{ ip }}'\n",
            "hosts.ini:2: ansible_host is a template, which only Ansible can fill: '{{ ip }}'",
        ),
        ("[g]\na\n[g:vars]\nansible_host=\n", "hosts.ini:4: ansible_host must be one word: ''"),
        ('{"g": {"hosts": ["a"], "vars": {\n"ansible_host": 5}}}', "hosts.ini:2: ansible_host must be one word: '5'"),
        ("a fleet_host='{{ ip }}' ansible_host=1.2.3.4\n", "hosts.ini:1: fleet_host must be one word: '{{ ip }}'"),
    ],
)
def test_addresses_that_cannot_be_used(text: str, error: str, read: Read) -> None:
    with pytest.raises(InventoryError) as caught:
        list(read(text))
    assert str(caught.value).endswith(error)


def test_an_address_that_is_not_asked_for_does_no_harm(read: Read) -> None:
    inventory = read("a\nb ansible_host='{{ ip }}'\n")
    assert inventory["a"].address == "a"


def test_the_container(read: Read) -> None:
    inventory = read("b\n[g]\na\n")
    assert len(inventory) == 2 and inventory.names == ("b", "a")
    assert [host.name for host in inventory] == ["b", "a"]
    assert "a" in inventory and "c" not in inventory and 5 not in inventory
    assert list(inventory.groups) == ["all", "ungrouped", "g"]
    assert len(inventory.groups) == 3 and "g" in inventory.groups and "x" not in inventory.groups
    assert inventory["a"] is inventory["a"]
    with pytest.raises(InventoryError) as caught:
        inventory["aa"]
    assert (str(caught.value), caught.value.hint) == ("unknown host: 'aa'", "did you mean 'a'?")
    with pytest.raises(KeyError):
        inventory.groups["x"]


def test_nothing_can_be_changed(read: Read) -> None:
    host = read("a x=1\n")["a"]
    with pytest.raises(AttributeError):
        host.name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        host.variables["x"] = "2"  # type: ignore[index]
    assert len({host, host}) == 1
