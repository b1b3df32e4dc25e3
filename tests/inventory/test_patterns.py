"""Patterns: node sets in -l and -x, files, hints, errors. Ansible's own are tested against Ansible itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from inventory import Inventory, InventoryError, fold, match, select

Read = Callable[..., Inventory]

TEXT = """\
lone
[web]
web[01:12]
[db]
db[1:2]
fe80::[1:3]
[prod:children]
web
db
[empty]
"""


@pytest.fixture
def inventory(read: Read) -> Inventory:
    return read(TEXT)


def names(inventory: Inventory, *limits: str, exclude: tuple[str, ...] = ()) -> str:
    return fold(host.name for host in select(inventory, limits=limits, exclude=exclude))


@pytest.mark.parametrize(
    ("pattern", "folded"),
    [
        ("web[01-03]", "web[01-03]"),
        ("web[01-12/5],db1", "db1,web[01,06,11]"),
        ("web[01,03]", "web[01,03]"),
        ("web0[1-3]", "web[01-03]"),
        ("web[01-05]!web03", "web[01-02,04-05]"),
        ("web!web[01-10]", "web[11-12]"),
        ("web[01-05]&web[04-09]", "web[04-05]"),
        ("web[01-05]^web[04-06]", "web[01-03,06]"),
        ("web,db1!web[01-11]", "db1,web12"),
        ("@web!@web&@db,lone", "lone"),
        ("@web", "web[01-12]"),
        ("@*!@prod", "lone"),
        ("prod:!web[01-11]", "db[1-2],fe80::[1-3],web12"),
        ("prod,&web[01-02]", "web[01-02]"),
        ("prod:!@db", "web[01-12]"),
        ("fe80::[1-3]", "fe80::[1-3]"),
        ("fe80::[1-3],web01", "fe80::[1-3],web01"),
        ("fe80::1", "fe80::1"),
        ("web[0]:db[0]:!lone", "db1,web01"),
        ("web[0]", "web01"),
        ("db[1]", "db2"),
        ("web*!web[01-11]", "web12"),
        ("!web[01-12]:!db", "lone"),
        ("empty,lone", "lone"),
        ("~(?i)WEB0[12]$", "web[01-02]"),
        ("~fe80.*[!&^1]$", "fe80::[1]".replace("[1]", "1")),
    ],
)
def test_patterns(pattern: str, folded: str, inventory: Inventory) -> None:
    assert names(inventory, pattern) == folded
    assert names(inventory, exclude=(pattern,)) != names(inventory)


@pytest.mark.parametrize(
    ("pattern", "error", "hint"),
    [
        ("", "an empty pattern: ''", None),
        (" , ", "an empty pattern: ' , '", None),
        ("wbe", "unknown host or group: 'wbe'", "did you mean 'web'?"),
        ("web:!wbe", "unknown host or group: 'wbe'", "did you mean 'web'?"),
        ("web:&wbe", "unknown host or group: 'wbe'", "did you mean 'web'?"),
        ("zzzzz", "unknown host or group: 'zzzzz'", None),
        ("web01:80", "unknown host or group: 'web01:80'", "did you mean 'web10', 'web08', 'web01'?"),
        ("web[01-14]", "unknown host 'web13' and 1 more: 'web[01-14]'", "did you mean 'web12', 'web11', 'web10'?"),
        ("web[12-13]", "unknown host 'web13': 'web[12-13]'", "did you mean 'web12', 'web11', 'web10'?"),
        ("web[12]", "index 12 is out of range, 'web' has 12 hosts: 'web[12]'", None),
        ("web[-13]", "index -13 is out of range, 'web' has 12 hosts: 'web[-13]'", None),
        ("web[12:]", "index 12 is out of range, 'web' has 12 hosts: 'web[12:]'", None),
        ("empty[0]", "index 0 is out of range, 'empty' has 0 hosts: 'empty[0]'", None),
        ("web[3:1]", "a slice cannot end at 1 before it begins at 3: 'web[3:1]'", None),
        ("xyzzy[1:3]", "unknown host or group: 'xyzzy'", "hosts by number are written xyzzy[1-3]"),
        ("xyzzy[1]", "unknown host or group: 'xyzzy'", None),
        ("x*", "no host and no group matches: 'x*'", None),
        ("~x", "no host and no group matches: '~x'", None),
        ("web[a-c]", "no host and no group matches: 'web[a-c]'", None),
        ("~[", "unclosed bracket: '~['", None),
        ("~(", "not a regular expression (missing ), unterminated subpattern at position 0): '~('", None),
        ("~*", "not a regular expression (nothing to repeat at position 0): '~*'", None),
        ("web[", "unclosed bracket: 'web['", None),
        ("web[1-3", "unclosed bracket: 'web[1-3'", None),
        ("web:!", "nothing after '!': '!'", None),
        ("web,&", "nothing after '&': '&'", None),
        ("web!", "nothing beside '!': 'web!'", None),
        ("!web!db", "nothing beside '!': '!web!db'", None),
        ("web:!db!lone", "unknown host or group: 'web:'", "did you mean 'web', 'web12', 'web11'?"),
        ("a:b:c[3-1]", "unknown host or group: 'a'", None),
        ("@nope", "neither a group nor a file: '@nope'", "did you mean 'ungrouped'?"),
        ("@wbe", "neither a group nor a file: '@wbe'", "did you mean 'web'?"),
        ("@web[1-2]", "unknown group: 'web1'", "did you mean 'web'?"),
        ("@no/such", "no/such: cannot be read (no such file or directory)", None),
        ("web:!web", "no host matched: '-l web:!web'", None),
        ("empty", "no host matched: '-l empty'", None),
        ("web01\x1b[31m", "unclosed bracket: 'web01\\x1b[31m'", None),
        ("web\udcff", "unknown host or group: 'web\\udcff'", "did you mean 'web', 'web12', 'web11'?"),
    ],
)
def test_refused(pattern: str, error: str, hint: str | None, inventory: Inventory) -> None:
    with pytest.raises(InventoryError) as caught:
        select(inventory, limits=[pattern])
    assert str(caught.value) == error
    assert caught.value.hint == hint


def test_limits_intersect_and_order_is_the_inventorys(inventory: Inventory) -> None:
    hosts = select(inventory, limits=["db2,web03,web01", "prod:!web01"])
    assert [host.name for host in hosts] == ["web03", "db2"]
    assert match(inventory, "db2,web03,web01") == ["db2", "web03", "web01"]
    assert [host.name for host in select(inventory)] == list(inventory.names)


def test_excluded_hosts(inventory: Inventory) -> None:
    assert names(inventory, "web", exclude=("web[01-10]", "db")) == "web[11-12]"
    assert names(inventory, exclude=("web*", "@db")) == "lone"
    with pytest.raises(InventoryError, match=r"^no host matched: '-l web -x prod'$"):
        select(inventory, limits=["web"], exclude=["prod"])
    with pytest.raises(InventoryError, match=r"^unknown host or group: 'dbl'$"):
        select(inventory, exclude=["dbl"])


def test_an_inventory_of_no_hosts(read: Read) -> None:
    with pytest.raises(InventoryError, match=r"^the inventory holds no hosts$"):
        select(read("[web]\n"), limits=["web"])


def test_limit_files(inventory: Inventory, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("# failed yesterday\r\nweb01\r\n\r\n db\r\n!db1\r\nfe80::[1-2]\r\n", "site.retry")
    assert names(inventory, f"@{path}") == "db2,fe80::[1-3],web01"
    assert names(inventory, f"lone,@{path}") == "db2,fe80::[1-3],lone,web01"
    monkeypatch.chdir(Path(path).parent)
    assert names(inventory, "@site.retry") == "db2,fe80::[1-3],web01"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "limit: a file of hosts that names none"),
        (b"# none\n\n", "limit: a file of hosts that names none"),
        (b"web01\n\xff\n", "limit:2: expected UTF-8, found the byte 0xff at column 1"),
        (b"nope\n", "unknown host or group: 'nope'"),
    ],
)
def test_bad_limit_files(data: bytes, error: str, inventory: Inventory, write: Callable[..., str]) -> None:
    path = write(data, "limit")
    with pytest.raises(InventoryError) as caught:
        select(inventory, limits=[f"@{path}"])
    assert str(caught.value).endswith(error)


def test_a_file_and_a_group_of_one_name(
    inventory: Inventory, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(write("lone\n", "web")).parent)
    with pytest.raises(InventoryError) as caught:
        select(inventory, limits=["@web"])
    assert str(caught.value) == "both a file and a group: '@web'"
    assert caught.value.hint == "say @./web for the file, web for the group"
    assert names(inventory, "@./web") == "lone"


def test_an_index_of_no_group_is_a_node_set(read: Read) -> None:
    inventory = read("web1\nweb2\n")
    assert names(inventory, "web[1]") == "web1"


def test_what_is_folded_can_be_pasted_back(inventory: Inventory) -> None:
    rnd = random.Random(2)
    for _ in range(200):
        chosen = set(rnd.sample(inventory.names, rnd.randrange(1, len(inventory))))
        assert {host.name for host in select(inventory, limits=[fold(chosen)])} == chosen


def test_any_pattern_is_read_or_refused(inventory: Inventory) -> None:
    rnd = random.Random(13)
    words = [
        "web",
        "web01",
        "db",
        "prod",
        "~",
        "@",
        "[",
        "]",
        "1",
        "-",
        ":",
        ",",
        "!",
        "&",
        "^",
        "*",
        "?",
        " ",
        "(",
        "\\",
        "0",
    ]
    for _ in range(3000):
        pattern = "".join(rnd.choice(words) for _ in range(rnd.randrange(1, 7)))
        try:
            assert select(inventory, limits=[pattern])
        except InventoryError as error:
            assert "\n" not in str(error)
