"""Node sets against the real ClusterShell: expanding, folding, operators, groups.

`DIFFERENCES` holds everything that comes out otherwise on purpose, with the reason, tested on both sides.
"""

from __future__ import annotations

import random
import time

import pytest
from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
from ClusterShell.NodeUtils import GroupResolver, GroupSource

from inventory import InventoryError, expand, fold

GROUPS = {
    "web": ["web1", "web2", "web3"],
    "db": ["db1", "db2"],
    "rack1": ["web1", "db1"],
    "rack2": ["web2", "web3", "db2"],
    "all": ["web1", "web2", "web3", "db1", "db2", "lone"],
}

NODE_SETS = """
node
node1
node1,node2
node[1-3]
node[1,3,5]
node[1-3,7,9-10]
node[01-12]
node[001-100]
node[0-3]
node[00-03]
node[09-10]
node[9-11]
node[1-10/2]
node[0-20/5,3]
node[01-09/4]
node[1-3,2-5]
node[ 1 - 3 , 5 ]
node[1-3]-ib
node[1-3].example.com
[1-3]
1
n1[0-9]
n[1-3]5
n[01-03]5
n0[1-3]
n1[2]3
dc[1-2]n[1-3]
dc[1-2]n[01-03]-ib[0-1]
a[1-2]b[1-2]c[1-2]d[1-2]
10.0.0.[1-20]
10.[0-1].0.[1-2]
fe80::[1-3]
n1,n01,n001
n[1,01,001]
n[8-12,008-012]
node[1-3],other[1-3]
db,web[1-3]
web-1,web_1,web.1
x1y2,x2y1,x1y1
node[1-5]!node3
node[1-5]&node[4-9]
node[1-5]^node[4-9]
node[1-5],node[7-9]!node8
n[1-5]!n3&n[2-9]^n9
a,b,c!b
a,b&b,c
a^a,b
a[1-3]b[1-3]!a2b[1-3]
a[1-3]b[1-3]&a[2-9]b[2-9]
a[1-3]b[1-3]^a[3-4]b[3-4]
 node1 , node2
node1 ! node1 , node2
n100000000000000000000000000001
n[100000000000000000000000000001-100000000000000000000000000003]
a%b1
a%sb[1-2]
""".strip("\n").split("\n")

WITH_GROUPS = """
@web
@web,@db
@web!web2
@web&@rack1
@rack1^@web
@*
@*!@db
@rack[1-2]
@rack[1-2]&@db
web1,@db
web*
*1
web?
*!web*
db*,lone
""".strip("\n").split("\n")

BAD = """
node[
node[1-3
node]
node1-3]
node[[1-2]]
node[]
node[a-c]
node[3-1]
node[1-03]
node[01-3]
node[1-2][3-4]
node[1-2]3[4-5]
node[1/2]
node[1-4/0]
node[1-4/x]
node[1,,2]
node[1-2-3-4-5]
node1,
,node1
node1,,node2
node1!
node1&
!node1
""".strip("\n").split("\n")


def cluster(text: str) -> NodeSet:
    resolver = GroupResolver(default_source=GroupSource("local", dict(GROUPS)))
    return NodeSet(text, resolver=resolver)


@pytest.mark.parametrize("text", NODE_SETS)
def test_the_same_names_and_folding(text: str) -> None:
    theirs = NodeSet(text, resolver=RESOLVER_NOGROUP)
    ours = expand(text)
    assert set(ours) == set(theirs)
    assert len(ours) == len(theirs)
    assert fold(ours) == str(ours) == str(theirs)
    assert list(expand(fold(ours))) == list(theirs)


@pytest.mark.parametrize("text", WITH_GROUPS)
def test_the_same_groups(text: str) -> None:
    assert set(expand(text, GROUPS)) == set(cluster(text))


@pytest.mark.parametrize("text", BAD)
def test_refused_by_both(text: str) -> None:
    with pytest.raises((NodeSetException, ValueError)):
        NodeSet(text, resolver=RESOLVER_NOGROUP)
    with pytest.raises(InventoryError):
        expand(text)


@pytest.mark.parametrize("text", ["@nope", "@rack[1-3]"])
def test_unknown_groups(text: str) -> None:
    """ClusterShell takes an unknown group of its own source for an empty one only when told to."""
    with pytest.raises(InventoryError, match="unknown group"):
        expand(text, GROUPS)


DIFFERENCES: list[tuple[str, str, list[str] | str, list[str] | str]] = [
    (
        "digits before a range stand before each of its numbers",
        "n1[9-10]",
        [f"n{number}" for number in range(19, 111)],
        ["n19", "n110"],
    ),
    (
        "digits after a range with a step stand after each of its numbers",
        "n[1-5/2]0",
        "illegal trailing digits",
        ["n10", "n30", "n50"],
    ),
    ("white space was meant for a comma", "n1 n2", ["n1 n2"], "a host name cannot hold ' ': 'n1 n2'"),
    (
        "numbers below nothing are no names of hosts",
        "n[-2-1]",
        ["n-2", "n-1", "n0", "n1"],
        "expected a range like 1-20 or 1-20/2, found '-2-1': 'n[-2-1]'",
    ),
    ("no inventory, no groups", "@web", ["@web"], "a group, and no inventory to find it in: '@web'"),
    ("a wildcard is no name", "web*", ["web*"], "a host name cannot hold '*': 'web*'"),
    ("a name must not become an option of ssh", "-x", ["-x"], "a host name cannot start with '-': '-x'"),
    (
        "the order is that in which the names are written",
        "web2,web1,db1",
        ["db1", "web1", "web2"],
        ["web2", "web1", "db1"],
    ),
]


@pytest.mark.parametrize(("reason", "text", "theirs", "ours"), DIFFERENCES, ids=[each[0] for each in DIFFERENCES])
def test_a_difference_on_purpose(reason: str, text: str, theirs: list[str] | str, ours: list[str] | str) -> None:
    try:
        assert list(NodeSet(text, resolver=RESOLVER_NOGROUP)) == theirs
    except NodeSetException as error:
        assert isinstance(theirs, str) and theirs in str(error)
    try:
        assert list(expand(text)) == ours
    except InventoryError as error:
        assert str(error) == ours


def generated(rnd: random.Random) -> set[str]:
    """Return names as fleets have them, and as they have not: every digit is drawn, and some of the padding."""
    shapes = ["web#", "db#", "n#", "dc#n#", "r#c#-u#", "web#.dc#.example.com", "10.0.#.#", "lone", "x", "#", "n#-ib"]
    chosen = rnd.sample(shapes, rnd.randrange(1, 3))
    top = rnd.choice([2, 4, 12, 120, 10**30])
    names = set()
    for _ in range(rnd.randrange(1, 24)):
        words = rnd.choice(chosen).split("#")
        numbers = [str(rnd.randrange(top)) for _ in words[1:]]
        numbers = [number.zfill(rnd.randrange(1, 5)) if rnd.random() < 0.2 else number for number in numbers]
        names.add("".join(word + number for word, number in zip(words, [*numbers, ""], strict=True)))
    return names


@pytest.mark.parametrize("seed", range(10))
def test_generated_sets_come_back(seed: int) -> None:
    """Ten thousand sets in all come back byte for byte, and a tenth of them are folded as ClusterShell folds them."""
    rnd = random.Random(seed)
    for number in range(1000):
        names = generated(rnd)
        folded = fold(names)
        back = list(expand(folded))
        assert set(back) == names and len(back) == len(names), names
        if number % 4 == 0:
            assert folded == str(NodeSet.fromlist(sorted(names), resolver=RESOLVER_NOGROUP)), names


@pytest.mark.parametrize("seed", range(4))
def test_generated_operations(seed: int) -> None:
    rnd = random.Random(seed)
    for _ in range(150):
        terms = [f"n[{low}-{low + rnd.randrange(5)}]" for low in (rnd.randrange(9) for _ in range(rnd.randrange(2, 6)))]
        terms = [f"d{rnd.randrange(1, 3)}{term}" if rnd.random() < 0.3 else term for term in terms]
        text = terms[0] + "".join(rnd.choice(",!&^") + term for term in terms[1:])
        theirs = NodeSet(text, resolver=RESOLVER_NOGROUP)
        ours = expand(text)
        assert set(ours) == set(theirs), text
        assert fold(ours) == str(theirs), text


def test_irregular_sets_are_folded_at_once() -> None:
    """ClusterShell takes 25 seconds for these; the limit is wide because the machine may be busy."""
    rnd = random.Random(1)
    names = {f"r{rnd.randrange(30)}c{rnd.randrange(30)}n{rnd.randrange(30)}" for _ in range(1500)}
    begin = time.process_time()
    folded = fold(names)
    assert time.process_time() - begin < 2
    assert set(expand(folded)) == names
