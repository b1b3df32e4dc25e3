"""Folding at its edges; that it is ClusterShell's, and comes back, is tested against ClusterShell itself."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from inventory import InventoryError, expand, fold
from inventory.folding import MANY, united


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], ""),
        (["web"], "web"),
        (["web", "web"], "web"),
        (["node7", "node007"], "node[7,007]"),
        (["n1", "n2", "n3", "n10", "n09", "x-1-a", "x-2-a"], "n[1-3,09-10],x-[1-2]-a"),
        (["web1.dc1.ex.com", "web1.dc2.ex.com", "web2.dc1.ex.com"], "web1.dc[1-2].ex.com,web2.dc1.ex.com"),
        (["n" + "9" * 30, "n1" + "0" * 30], f"n[{'9' * 30}-1{'0' * 30}]"),
        (["0", "00", "1"], "[0-1,00]"),
        (["dba", "db1", "db"], "db,db1,dba"),
    ],
)
def test_folded(names: list[str], folded: str) -> None:
    assert fold(names) == folded
    assert fold(reversed(names)) == folded


@pytest.mark.parametrize("name", ["", "a,b", "a[1]", "@web", "a b", "a\n", "x!y"])
def test_what_is_no_name_cannot_be_folded(name: str) -> None:
    with pytest.raises(InventoryError):
        fold(["web1", name])


def test_large_products() -> None:
    names = [f"dc{dc}r{rack:02d}n{node}" for dc, rack, node in itertools.product(range(5), range(20), range(50))]
    assert len(names) > MANY
    assert fold(names) == "dc[0-4]r[00-19]n[0-49]"
    folded = fold(names[:-1])
    assert folded == "dc[0-3]r[00-19]n[0-49],dc4r[00-18]n[0-49],dc4r19n[0-48]"
    assert set(expand(folded)) == set(names[:-1])


@pytest.mark.parametrize(("count", "top"), [(600, 12), (1500, 30), (5000, 40)])
def test_irregular_sets(count: int, top: int) -> None:
    rnd = random.Random(count)
    names = {f"r{rnd.randrange(top)}c{rnd.randrange(top)}n{rnd.randrange(top)}" for _ in range(count)}
    begin = time.process_time()
    folded = fold(names)
    assert time.process_time() - begin < 2
    assert len(folded) < sum(map(len, names))
    assert set(expand(folded)) == names


def test_merging_ends_after_a_number_of_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set can be made in which every merge makes just one more possible."""
    names = {f"a{x}b{y}c{z}" for x in range(9) for y in range(9) for z in range(9) if (x + y * z) % 3}
    whole = fold(names)
    monkeypatch.setattr("inventory.folding.PASSES", 1)
    assert len(fold(names)) > len(whole)
    assert set(expand(fold(names))) == set(expand(whole)) == names


def test_united() -> None:
    assert united((1, 2), (1, 4)) == (1, 6)
    assert united((1, 2), (2, 2)) == (3, 2)
    assert united((1, 2), (2, 4)) is None
