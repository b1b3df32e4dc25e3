"""Node sets: what is refused, and that nothing is made before it is looked at.

What is read is tested against ClusterShell itself.
"""

from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest

from inventory import InventoryError, NodeSet, expand, fold

GROUPS = {"all": ["web1", "web2", "db1"], "web": ["web1", "web2"]}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "an empty node set: ''"),
        ("  ", "an empty node set: '  '"),
        ("a,", "nothing beside ',': 'a,'"),
        ("a,,b", "nothing beside ',': 'a,,b'"),
        ("!a", "nothing beside '!': '!a'"),
        ("a&", "nothing beside '&': 'a&'"),
        ("a[1-3", "unclosed range: 'a[1-3'"),
        ("a[1[2]]", "a range inside a range: 'a[1[2]]'"),
        ("a1]", "a range is closed that was not opened: 'a1]'"),
        ("a[]", "expected a range like 1-20 or 1-20/2, found '': 'a[]'"),
        ("a[x]", "expected a range like 1-20 or 1-20/2, found 'x': 'a[x]'"),
        ("a[1-2-3]", "expected a range like 1-20 or 1-20/2, found '1-2-3': 'a[1-2-3]'"),
        ("a[1,,2]", "expected a range like 1-20 or 1-20/2, found '': 'a[1,,2]'"),
        ("a[٣]", "expected a range like 1-20 or 1-20/2, found '٣': 'a[٣]'"),
        (f"a[{'9' * 5000}]", f"expected a range like 1-20 or 1-20/2, found '{'9' * 5000}': 'a[{'9' * 78}'..."),
        ("a[3-1]", "a range cannot end at 1 before it begins at 3: 'a[3-1]'"),
        ("a[01-100]", "the ends 01 and 100 of a range are padded differently: 'a[01-100]'"),
        ("a[1-02]", "the ends 1 and 02 of a range are padded differently: 'a[1-02]'"),
        ("a[1-9/0]", "a step must be above 0 and follow a range: 'a[1-9/0]'"),
        ("a[1/2]", "a step must be above 0 and follow a range: 'a[1/2]'"),
        ("a[1-2][3-4]", "two ranges side by side: 'a[1-2][3-4]'"),
        ("a[1-2]0[3-4]", "two ranges side by side: 'a[1-2]0[3-4]'"),
        ("a[1-1000000000000]", "a set of 1000000000000 hosts is over the limit of 1000000: 'a[1-1000000000000]'"),
        ("a[1-1000]b[1-1001]", "a set of 1001000 hosts is over the limit of 1000000: 'a[1-1000]b[1-1001]'"),
        ("a b", "a host name cannot hold ' ': 'a b'"),
        ("a/b", "a host name cannot hold '/': 'a/b'"),
        ("-o[1-2]", "a host name cannot start with '-': '-o[1-2]'"),
        ("a\x1b", "a host name cannot hold the character U+001B: 'a\\x1b'"),
        ("a\udcff", "a host name cannot hold the character U+DCFF: 'a\\udcff'"),
        (f"{'x' * 250}[100000-100001]", f"a host name of 256 bytes is over the limit of 255: '{'x' * 80}'..."),
        ("@web", "a group, and no inventory to find it in: '@web'"),
        ("web*", "a host name cannot hold '*': 'web*'"),
    ],
)
def test_refused(text: str, error: str) -> None:
    with pytest.raises(InventoryError) as caught:
        expand(text)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("@wbe", "unknown group: 'wbe'", "did you mean 'web'?"),
        ("@web[1-2]", "unknown group: 'web1'", "did you mean 'web'?"),
        ("x*", "no host matches: 'x*'", None),
        ("a[1:3]", "expected a range like 1-20 or 1-20/2, found '1:3': 'a[1:3]'",
         "in a node set the range is written [1-3]"),
        ("a b", "a host name cannot hold ' ': 'a b'", "names are separated by commas"),
        ("x=1", "a host name cannot hold '=': 'x=1'", "variables of a group belong in a [GROUP:vars] section"),
    ],
)  # fmt: skip
def test_hints(text: str, error: str, hint: str | None) -> None:
    with pytest.raises(InventoryError) as caught:
        expand(text, GROUPS)
    assert (str(caught.value), caught.value.hint) == (error, hint)


def test_the_limit_counts_all_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inventory.nodeset.MAX_HOSTS", 10)
    for text in ("a[1-10]", "a[1-6],a[4-10]", "a[1-5],b[1-5]", "a[1-10]^a[5-10],b[1-6]"):
        assert len(expand(text)) == 10
    for text in ("a[1-6],a[5-11]", "a[1-9],b[1-2]", "a[1-9]^b[1-2]", "a[1-11]!a[2-11]"):
        with pytest.raises(InventoryError, match="a set of 11 hosts is over the limit of 10"):
            expand(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("web2,web1,web2", ["web2", "web1"]),
        ("b[2-3],a[1-2]", ["b2", "b3", "a1", "a2"]),
        ("a[1-2]b[1-2]", ["a1b1", "a1b2", "a2b1", "a2b2"]),
        ("n[3,1-2]", ["n3", "n1", "n2"]),
        ("a,b,c^b,d", ["a", "c", "d"]),
        ("b,a&a,b", ["a", "b"]),
    ],
)
def test_the_order_is_as_written(text: str, names: list[str]) -> None:
    assert list(expand(text)) == names


def test_nothing_is_made_before_it_is_looked_at() -> None:
    tracemalloc.start()
    try:
        nodes = expand("n[1-1000000]")
        assert len(nodes) == 1_000_000
        assert list(itertools.islice(nodes, 3)) == ["n1", "n2", "n3"]
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_membership_and_text() -> None:
    nodes = expand("n[01-10]")
    assert "n07" in nodes and "n7" not in nodes and 7 not in nodes
    assert str(nodes) == "n[01-10]"
    assert (len(NodeSet()), list(NodeSet()), str(NodeSet())) == (0, [], "")


def test_groups_and_wildcards() -> None:
    assert list(expand("@web", GROUPS)) == ["web1", "web2"]
    assert list(expand("@*", GROUPS)) == GROUPS["all"]
    assert list(expand("web[1-2]*", GROUPS)) == ["web1", "web2"]
    assert list(expand("new9", GROUPS)) == ["new9"]


def test_any_text_is_read_or_refused() -> None:
    rnd = random.Random(11)
    for _ in range(3000):
        text = "".join(rnd.choice("ab019[]-,/!&^@*? .:\0\xe9") for _ in range(rnd.randrange(1, 12)))
        try:
            nodes = expand(text, GROUPS)
            if len(nodes) < 1000:
                names = list(nodes)
                assert len(set(names)) == len(names) == len(nodes), text
                assert set(expand(fold(names))) == set(names) if names else fold(names) == ""
        except InventoryError as error:
            assert "\n" not in str(error)
