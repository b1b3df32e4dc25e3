"""Names that are taken and names that are not, and the variables that are ours."""

from __future__ import annotations

import pytest

from inventory import InventoryError
from inventory.names import (
    MAX_NAME_BYTES,
    Value,
    check_group_name,
    check_host_name,
    check_variables,
    port_number,
    priority,
)


@pytest.mark.parametrize(
    "name",
    ["web1", "web1.example.com", "::1",
     "fe80::1%eth0", "root@web1", "a_b", "日本", "x" * MAX_NAME_BYTES, "é" * 127, "..x", "n~1"],
)  # fmt: skip
def test_host_names(name: str) -> None:
    check_host_name(name)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", "expected a host name, found nothing"),
        ("a b", "a host name cannot hold ' ': 'a b'"),
        ("a\x00b", "a host name cannot hold the character U+0000: 'a\\x00b'"),
        ("a\x1b[2J", "a host name cannot hold the character U+001B: 'a\\x1b[2J'"),
        ("a\x85", "a host name cannot hold the character U+0085: 'a\\x85'"),
        ("a\u200bb", "a host name cannot hold the character U+200B: 'a\\u200bb'"),
        ("a\u202eb", "a host name cannot hold the character U+202E: 'a\\u202eb'"),
        ("a\ud800", "a host name cannot hold the character U+D800: 'a\\ud800'"),
        ("a/b", "a host name cannot hold '/': 'a/b'"),
        ("a,b", "a host name cannot hold ',': 'a,b'"),
        ("a[1]", "a host name cannot hold '[': 'a[1]'"),
        ("-v", "a host name cannot start with '-': '-v'"),
        ("@web", "a host name cannot start with '@': '@web'"),
        ("~web", "a host name cannot start with '~': '~web'"),
        ("..", "a host name cannot start with '.': '..'"),
        ("x" * 256, f"a host name of 256 bytes is over the limit of 255: '{'x' * 80}'..."),
        ("é" * 128, f"a host name of 256 bytes is over the limit of 255: '{'é' * 80}'..."),
    ],
)
def test_no_host_names(name: str, error: str) -> None:
    with pytest.raises(InventoryError) as caught:
        check_host_name(name)
    assert str(caught.value) == error


def test_a_variable_for_a_host_has_a_hint() -> None:
    with pytest.raises(InventoryError) as caught:
        check_host_name("ansible_user=root")
    assert caught.value.hint == "variables of a group belong in a [GROUP:vars] section"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", "expected a group name, found nothing"),
        ("a\nb", "a group name cannot hold the character U+000A: 'a\\nb'"),
        ("g" * 256, f"a group name of 256 bytes is over the limit of 255: '{'g' * 80}'..."),
    ],
)
def test_no_group_names(name: str, error: str) -> None:
    with pytest.raises(InventoryError) as caught:
        check_group_name(name)
    assert str(caught.value) == error


def test_group_names_may_be_any_text() -> None:
    check_group_name("tag Name=web/1")


@pytest.mark.parametrize(("value", "port"), [(1, 1), (65535, 65535), ("7422", 7422), ("007", 7)])
def test_ports(value: Value, port: int) -> None:
    assert port_number(value) == port


@pytest.mark.parametrize(
    "value", [0, 65536, -1, "0", "65536", "", "x", "7422 ", "٣", "1e3", 74.0, True, None, [7422], "9" * 5000]
)
def test_no_ports(value: Value) -> None:
    with pytest.raises(InventoryError, match="fleet_port must be a number from 1 to 65535"):
        port_number(value)


@pytest.mark.parametrize("name", ["fleet_host", "fleet_pool"])
@pytest.mark.parametrize("value", ["", "a b", "a\n", "a\x00", 5, None, [], {"a": 1}])
def test_no_words(name: str, value: Value) -> None:
    with pytest.raises(InventoryError, match=f"{name} must be one word"):
        check_variables({name: value})


def test_a_word_of_bounded_length() -> None:
    with pytest.raises(InventoryError, match="fleet_host of 256 bytes is over the limit of 255"):
        check_variables({"fleet_host": "x" * 256})


def test_variables_of_others_are_not_checked() -> None:
    check_variables(
        {"ansible_port": "x y", "fleet_prot": 0, "fleet_host": "10.0.0.1", "fleet_port": 1, "fleet_pool": "p"}
    )


@pytest.mark.parametrize(("value", "number"), [(5, 5), ("-3", -3), ("+7", 7), ("010", 10)])
def test_priorities(value: Value, number: int) -> None:
    assert priority(value) == number


@pytest.mark.parametrize("value", ["", "high", "1.5", True, None, 2.0])
def test_no_priorities(value: Value) -> None:
    with pytest.raises(InventoryError, match="ansible_group_priority must be a number"):
        priority(value)
