"""The tree that parsers write into: order, depth, cycles."""

from __future__ import annotations

import pytest

from inventory import InventoryError
from inventory.tree import Tree, ancestors, check_count, depths, members


def test_members_come_level_by_level() -> None:
    tree = Tree()
    top, left, right, low = (tree.group(name) for name in ("top", "left", "right", "low"))
    tree.adopt(top, left)
    tree.adopt(top, right)
    tree.adopt(left, low)
    tree.adopt(right, low)
    for name, group in [("l", low), ("r", right), ("t", top), ("e", left), ("t", low)]:
        tree.host(name, group)
    tree.settle()
    assert members(top) == ("t", "e", "r", "l")
    assert members(tree.all) == ("t", "e", "r", "l")
    assert depths(tree) == {"all": 0, "ungrouped": 1, "top": 1, "left": 2, "right": 2, "low": 3}
    assert {group.name for group in ancestors([low])} == {"left", "right", "top", "all"}


def test_a_group_is_adopted_once() -> None:
    tree = Tree()
    a, b = tree.group("a"), tree.group("b")
    tree.adopt(a, b)
    tree.adopt(a, b)
    assert list(a.children) == ["b"]
    for parent, child in [(b, a), (a, a)]:
        with pytest.raises(InventoryError, match="group 'a' would be inside itself"):
            tree.adopt(parent, child)


def test_ungrouped_hosts_are_those_of_no_group() -> None:
    tree = Tree()
    tree.host("both", tree.ungrouped)
    tree.host("both", tree.group("g"))
    tree.host("lone", tree.ungrouped)
    tree.host("top", tree.all)
    tree.settle()
    assert members(tree.ungrouped) == ("lone", "top")


def test_a_chain_longer_than_the_stack() -> None:
    tree = Tree()
    for number in range(3000):
        tree.adopt(tree.group(f"g{number + 1}"), tree.group(f"g{number}"))
    tree.host("h", tree.group("g0"))
    tree.settle()
    assert members(tree.all) == ("h",)
    assert depths(tree)["g0"] == 3001


def test_the_number_of_hosts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inventory.tree.MAX_HOSTS", 1)
    tree = Tree()
    tree.host("a", tree.ungrouped)
    check_count(tree)
    tree.host("b", tree.ungrouped)
    with pytest.raises(InventoryError, match="2 hosts are over the limit of 1"):
        check_count(tree)
