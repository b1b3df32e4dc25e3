"""Hosts named on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inventory import Inventory, InventoryError, ad_hoc, load, select

Read = Callable[..., Inventory]


def test_without_an_inventory() -> None:
    inventory = ad_hoc("web[01-02],db")
    assert inventory.names == ("web01", "web02", "db")
    assert [host.address for host in inventory] == ["web01", "web02", "db"]
    assert inventory["db"].groups == ("ungrouped",)
    for text in ("@web", "web*", "web[", "a b", ""):
        with pytest.raises(InventoryError):
            ad_hoc(text)


def test_known_hosts_keep_what_is_known(read: Read) -> None:
    known = read("[web]\nweb[1:3] fleet_port=7433\n[prod:children]\nweb\n[prod:vars]\nenv=prod\n[db]\ndb1\n")
    inventory = ad_hoc("new9,web2,web1", known)
    assert inventory.names == ("new9", "web2", "web1")
    assert inventory["web2"] == known["web2"]
    assert inventory["new9"].groups == ("ungrouped",)
    assert inventory.groups["web"] == ("web1", "web2")
    assert ad_hoc("@web!web1", known).names == ("web2", "web3")
    assert ad_hoc("*1", known).names == ("db1", "web1")
    assert ad_hoc("@*", known).names == known.names


def test_files_of_variables_and_priorities_are_kept(write: Callable[..., str], tmp_path: Path) -> None:
    path = write("[a]\nh\n[b]\nh\n[a:vars]\nansible_group_priority=2\nx=a\n[b:vars]\nx=b\n")
    write('{"y": 1}', "host_vars/h.json")
    known = load([path], warn=lambda text: None)
    assert dict(ad_hoc("h", known)["h"].variables) == {"x": "a", "y": 1}


def test_targets_are_narrowed_as_others_are(read: Read) -> None:
    known = read("[web]\nweb[1:9]\n[db]\ndb1\n")
    inventory = ad_hoc("web9,web[1-4],new1", known)
    assert [host.name for host in select(inventory, exclude=["web[2-8]"])] == ["web9", "web1", "new1"]
    assert [host.name for host in select(inventory, exclude=["@web"])] == ["new1"]
    assert [host.name for host in select(inventory, exclude=["db1,db"])] == list(inventory.names)
    assert [host.name for host in select(inventory, limits=["web:!web5"])] == ["web9", "web1", "web2", "web3", "web4"]
    with pytest.raises(InventoryError, match="unknown host or group: 'wbe'"):
        select(inventory, exclude=["wbe"])
