"""Graphs and listings; that they are Ansible's is tested against Ansible itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inventory import Inventory, InventoryError, as_ansible_list, graph

Read = Callable[..., Inventory]

TEXT = "lone\n[web]\nweb1 x=1\n[a:children]\nweb\n[b:children]\nweb\n[empty]\n[all]\ntop\n"


def test_graph(read: Read) -> None:
    assert graph(read(TEXT)) == "\n".join(
        [
            "@all:",
            "  |--@ungrouped:",
            "  |  |--lone",
            "  |  |--top",
            "  |--@a:",
            "  |  |--@web:",
            "  |  |  |--web1",
            "  |--@b:",
            "  |  |--@web:",
            "  |  |  |--web1",
            "  |--@empty:",
        ]
    )


def test_listing(read: Read) -> None:
    assert as_ansible_list(read(TEXT)) == {
        "all": {"children": ["ungrouped", "a", "b", "empty"]},
        "ungrouped": {"hosts": ["lone", "top"]},
        "a": {"children": ["web"]},
        "b": {"children": ["web"]},
        "web": {"hosts": ["web1"]},
        "_meta": {"hostvars": {"web1": {"x": "1"}}, "profile": "inventory_legacy"},
    }


def test_a_graph_without_end(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group is a child of both before it: forty of them would draw 2**20 lines and more."""
    lines = "".join(
        f"[g{n}:children]\na{n}\nb{n}\n[a{n}:children]\ng{n + 1}\n[b{n}:children]\ng{n + 1}\n" for n in range(40)
    )
    monkeypatch.setattr("inventory.report.MAX_LINES", 10_000)
    with pytest.raises(InventoryError, match="a graph of over 10000 lines"):
        graph(read(lines + "[g40]\n"))


def test_a_chain_longer_than_the_stack(read: Read) -> None:
    inventory = read("".join(f"[g{n}:children]\ng{n + 1}\n" for n in range(1100)) + "[g1100]\nh\n")
    assert graph(inventory).endswith("--h")
    assert as_ansible_list(inventory)["g1100"] == {"hosts": ["h"]}
