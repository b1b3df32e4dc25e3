"""The text of errors: one line, with the place, escaped."""

from __future__ import annotations

import pytest

from inventory import InventoryError, TemplateError
from inventory.errors import NEAREST_FROM, nearest, printable, quoted


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InventoryError("broken"), "broken"),
        (InventoryError("broken", text="x"), "broken: 'x'"),
        (InventoryError("broken", path="a/b"), "a/b: broken"),
        (InventoryError("unclosed range", path="hosts.ini", line=3, text="web[01-"),
         "hosts.ini:3: unclosed range: 'web[01-'"),
        (InventoryError("odd", path="a\x1b[31m\nb", line=1), "a\\x1b[31m\\nb:1: odd"),
        (InventoryError("odd", text="\x1b]0;\x07\n\u202e"), "odd: '\\x1b]0;\\x07\\n\\u202e'"),
        (InventoryError("odd \x1b", text="\udcff"), "odd \\x1b: '\\udcff'"),
        (InventoryError("long", text="x" * 200), f"long: '{'x' * 80}'..."),
        (TemplateError("web1", "port", "undefined variable"), "web1: undefined variable: 'port'"),
    ],
)  # fmt: skip
def test_text(error: InventoryError, text: str) -> None:
    assert str(error) == text
    assert "\n" not in str(error)


def test_a_place_is_added_once() -> None:
    error = InventoryError("broken", text="x", hint="mend it")
    placed = error.at("a", 2)
    assert (placed.path, placed.line, placed.text, placed.hint) == ("a", 2, "x", "mend it")
    assert placed.at("b", 3) is placed


def test_printable_text_is_left_alone() -> None:
    assert printable("größe [1-3]") == "größe [1-3]"
    assert quoted("it's") == '"it\'s"'


def test_nearest() -> None:
    assert nearest("web11", ["web1", "web2", "db1"]) == "did you mean 'web1', 'web2'?"
    assert nearest("wbe1", ["web1", "web2", "db1"]) == "did you mean 'web1'?"
    assert nearest("zzzzzz", ["web1"]) is None
    many = [f"n{number}" for number in range(NEAREST_FROM)] + ["web1"]
    assert nearest("wbe1", many) == "did you mean 'web1'?"
