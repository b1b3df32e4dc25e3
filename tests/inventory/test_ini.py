"""INI inventories: what is refused, and the places of variables. What is read is tested against Ansible itself."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from inventory import Inventory, InventoryError, origins
from inventory.ini import literal

Read = Callable[..., Inventory]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("web[01-\n", ":1: unclosed range: 'web[01-'"),
        ("a\nb\nweb[01:\n", ":3: unclosed range: 'web[01:'"),
        ("web1 x\n", ":1: expected key=value after the host: 'x'"),
        ("web1 x=1 # c\nweb2 # c\nweb3 x\n", ":3: expected key=value after the host: 'x'"),
        ("web1 x='1\n", ':1: no closing quotation in the line of a host: "web1 x=\'1"'),
        ("web1 x=1\\\n", ":1: no escaped character in the line of a host: 'web1 x=1\\\\'"),
        ("'' x=1\n", ":1: expected a host name, found nothing"),
        ("a\nweb1:\n", ":2: expected a port after the colon: 'web1:'"),
        ("web[1:3]:\n", ":1: expected a port after the colon: 'web[1:3]:'"),
        ("[web\nx\n", ":1: unclosed range: '[web'"),
        ("[we b]\n", ":1: expected [group], [group:children] or [group:vars]: '[we b]'"),
        ("[]\n", ":1: expected [group], [group:children] or [group:vars]: '[]'"),
        ("[web:hosts:x]\n", ":1: expected [group], [group:children] or [group:vars]: '[web:hosts:x]'"),
        ("[web:kids]\n", ":1: unknown type 'kids' of section, expected hosts, children or vars: '[web:kids]'"),
        ("[web:vars]\nx=1\n", ":1: variables of a group that is declared nowhere: '[web:vars]'"),
        ("[a]\n[web:vars]\n[b]\n", ":2: variables of a group that is declared nowhere: '[web:vars]'"),
        ("[web]\n[web:vars]\nx\n", ":3: expected key=value: 'x'"),
        ("[web]\n[web:vars]\n=1\n", ":3: expected key=value: '=1'"),
        ("[p:children]\n\nweb\n", ":3: a child of 'p' that is declared nowhere: 'web'"),
        ("[p:children]\nweb\n[web:vars]\nx=1\n", ":2: a child of 'p' that is declared nowhere: 'web'"),
        ("[p:children]\nweb x\n", ":2: expected the name of a group: 'web x'"),
        ("[p:children]\np\n", ":2: group 'p' would be inside itself"),
        ("[a:children]\nb\n[b:children]\nc\n[c:children]\na\n", ":6: group 'a' would be inside itself"),
        ("[a:children]\nb\n[c:children]\na\n[b:children]\nc\n", ":6: group 'c' would be inside itself"),
        ("[web:children]\nall\n", ":2: group 'all' would be inside itself"),
        ("web1 fleet_port=0\n", ":1: fleet_port must be a number from 1 to 65535: '0'"),
        ("web1 fleet_port='70000'\n", ":1: fleet_port must be a number from 1 to 65535: '70000'"),
        ("[w]\na\n[w:vars]\nfleet_port=x\n", ":4: fleet_port must be a number from 1 to 65535: 'x'"),
        ("web1 fleet_host=\n", ":1: fleet_host must be one word: ''"),
        ("[w]\na\n[w:vars]\nansible_group_priority=x\n", ":4: ansible_group_priority must be a number: 'x'"),
        ("a\0b\n", ":1: control character U+0000"),
        ("a\n# \x1b[31m\n", ":2: control character U+001B"),
        ("a\rb\n", ":1: control character U+000D"),
        (f"{'x' * 256}\n", f":1: a host name of 256 bytes is over the limit of 255: '{'x' * 80}'..."),
        (f"[{'g' * 256}]\n", f":1: a group name of 256 bytes is over the limit of 255: '{'g' * 80}'..."),
        ("a\nb # \xe9\nc\xe9 # d\n".encode("latin-1"), ":2: expected UTF-8, found the byte 0xe9 at column 5"),
    ],
)
def test_refused(text: str | bytes, error: str, read: Read) -> None:
    with pytest.raises(InventoryError) as caught:
        read(text)
    message = str(caught.value)
    assert message.endswith(f"/hosts.ini{error}")
    assert "\n" not in message


def test_too_many_hosts(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inventory.tree.MAX_HOSTS", 3)
    assert len(read("n[1:3]\nn[2:3]\n")) == 3
    with pytest.raises(InventoryError, match=r"hosts\.ini:2: 4 hosts are over the limit of 3$"):
        read("n[1:3]\nn[3:4]\n")


def test_comments_may_be_in_any_encoding(read: Read) -> None:
    assert read("# \xe9\n  ; \xe9\nweb1\n".encode("latin-1")).names == ("web1",)


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf[web]\r\nweb1 x=1\r\nweb2\r\n", b"[web]\r\nweb1 x=1\r\nweb2"])
def test_windows_files(text: bytes, read: Read) -> None:
    inventory = read(text)
    assert inventory.groups["web"] == ("web1", "web2")
    assert dict(inventory["web1"].variables) == {"x": "1"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("'q'", "q"),
        ('"a\\tb"', "a\tb"),
        ("'\\d'", "\\d"),
        ("8080 # note", "8080"),
        ("['a#b', 1] # note", "['a#b', 1]"),
        ("# only", "# only"),
        ("['a#b']", "['a#b']"),
        ("a#b", "a#b"),
        ("'half", "'half"),
        ("b'bytes'", "bytes"),
        ("{[]: 'x'}", "{[]: 'x'}"),
        ("(" * 5000 + "'x'", "(" * 5000 + "'x'"),
        ("None # x", "None # x"),
    ],
)
def test_literals(text: str, value: str) -> None:
    assert literal(text) == value


def test_places_of_variables(read: Read) -> None:
    inventory = read("web1 a=1\n[web]\nweb1 b=2\n[web:vars]\nc=3\na=0\n[all:vars]\nd=4\n")
    places = [(name, value, place.rsplit("/", 1)[1]) for name, value, place in origins(inventory, "web1")]
    assert places == [
        ("a", "1", "hosts.ini:1"),
        ("b", "2", "hosts.ini:3"),
        ("c", "3", "hosts.ini:5"),
        ("d", "4", "hosts.ini:8"),
    ]


def test_damaged_files_are_read_or_refused(read: Read) -> None:
    """Cut anywhere, or with any byte changed, a file is an inventory or an InventoryError, and nothing else."""
    whole = b"[web]\nweb[01:03] a=1 b='x y'\ndb:22\n[p:children]\nweb\n[p:vars]\nk=\"v\" # c\n[::1]:22 x=1\n"
    rnd = random.Random(7)
    damaged = [whole[:length] for length in range(len(whole))]
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rnd.randrange(1, 4)):
            data[rnd.randrange(len(data))] = rnd.choice(b"[]:='\"#\\\x00\xff \n0a,")
        damaged.append(bytes(data))
    for data in damaged:
        try:
            for host in read(data):
                assert host.name in host.name
        except InventoryError as error:
            assert error.path is not None and "\n" not in str(error)
