"""Host patterns of inventories: ports and ranges."""

from __future__ import annotations

import pytest

from inventory import InventoryError
from inventory.addresses import expand_ranges, is_address, split_port


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("web1", ("web1", None)),
        ("web1:22", ("web1", "22")),
        ("web[1:3]:22", ("web[1:3]", "22")),
        ("web[1:3]", ("web[1:3]", None)),
        ("[::1]:22", ("::1", "22")),
        ("[web1]:22", ("web1", "22")),
        ("::1", ("::1", None)),
        ("fe80::1:22", ("fe80::1:22", None)),
        ("2001:db8::[1:f]", ("2001:db8::[1:f]", None)),
        ("[2001:db8::[1:f]]:22", ("2001:db8::[1:f]", "22")),
        ("we b:22", ("we b:22", None)),
        ("web1:", ("web1:", None)),
        ("web1:ssh", ("web1:ssh", None)),
        (":22", (":22", None)),
    ],
)
def test_split_port(pattern: str, parts: tuple[str, str | None]) -> None:
    assert split_port(pattern) == parts


@pytest.mark.parametrize(
    ("text", "answer"),
    [("web", True), ("web-", False), ("a.b.c", True),
     ("a..b", False), ("::1", True), ("1:2:3", False), ("fe80::1%eth0", False)],
)  # fmt: skip
def test_is_address(text: str, answer: bool) -> None:
    assert is_address(text) is answer


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("web", ["web"]),
        ("w[1:3]", ["w1", "w2", "w3"]),
        ("w[9:11]", ["w9", "w10", "w11"]),
        ("w[09:11]x", ["w09x", "w10x", "w11x"]),
        ("w[1:6:2]", ["w1", "w3", "w5"]),
        ("w[:2]", ["w0", "w1", "w2"]),
        ("[a:c]", ["a", "b", "c"]),
        ("[y:B]", ["y", "z", "A", "B"]),
        ("[a:g:3]", ["a", "d", "g"]),
        ("[a:b][1:2]", ["a1", "a2", "b1", "b2"]),
        ("w[3:3]", ["w3"]),
    ],
)
def test_ranges(pattern: str, names: list[str]) -> None:
    assert expand_ranges(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("w[1:3", "unclosed range: 'w[1:3'"),
        ("w[[1:3]", "a range must run between two numbers or two letters: 'w[[1:3]'"),
        ("w1:3]", "a range is closed that was not opened: 'w1:3]'"),
        ("w[1]", "a range must be [begin:end] or [begin:end:step]: 'w[1]'"),
        ("w[1:2:3:4]", "a range must be [begin:end] or [begin:end:step]: 'w[1:2:3:4]'"),
        ("w[]", "a range must be [begin:end] or [begin:end:step]: 'w[]'"),
        ("w[1:]", "a range must have an end: 'w[1:]'"),
        ("w[5:1]", "a range cannot end at 1 before it begins at 5: 'w[5:1]'"),
        ("w[b:a]", "a range cannot end at a before it begins at b: 'w[b:a]'"),
        ("w[01:100]", "the ends 01 and 100 of a range are padded differently: 'w[01:100]'"),
        ("w[1:02]", "the ends 1 and 02 of a range are padded differently: 'w[1:02]'"),
        ("w[1:3:0]", "the step of a range must be a number above 0: 'w[1:3:0]'"),
        ("w[1:3:x]", "the step of a range must be a number above 0: 'w[1:3:x]'"),
        ("w[1:3:-1]", "the step of a range must be a number above 0: 'w[1:3:-1]'"),
        ("w[a:3]", "a range must run between two numbers or two letters: 'w[a:3]'"),
        ("w[-1:3]", "a range must run between two numbers or two letters: 'w[-1:3]'"),
        ("w[٣:٤]", "a range must run between two numbers or two letters: 'w[٣:٤]'"),
        ("w[1:1000000000000]", "a range of 1000000000000 hosts is over the limit of 1000000: 'w[1:1000000000000]'"),
        ("[1:1000][1:1001]", "a range of 1001000 hosts is over the limit of 1000000: '[1:1000][1:1001]'"),
        (f"w[1:1{'0' * 60}]", f"a range of 1{'0' * 60} hosts is over the limit of 1000000: 'w[1:1{'0' * 60}]'"),
    ],
)
def test_bad_ranges(pattern: str, error: str) -> None:
    with pytest.raises(InventoryError) as caught:
        expand_ranges(pattern)
    assert str(caught.value) == error


def test_hints() -> None:
    for pattern, hint in [
        ("w[1-3]", "in an inventory the range is written [1:3]"),
        ("w[1:3", "a range is written [01:20]"),
    ]:
        with pytest.raises(InventoryError) as caught:
            expand_ranges(pattern)
        assert caught.value.hint == hint
