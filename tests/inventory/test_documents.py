"""JSON: what is refused, and the lines of its places."""

from __future__ import annotations

import pytest

from inventory import InventoryError
from inventory.documents import Document, Member

TEXT = """\
{
  "web": {"hosts": ["web1"],
    "vars": {
      "a": [1, {"a": 2}],
      "a": 3, "b\\u0041": "}",
      "c": {}
    }
  },
  "_meta": {"hostvars": {
    "web1": {"x": 1}}}
}
"""


@pytest.mark.parametrize(
    ("pointer", "line"),
    [
        ((), 1),
        (("web",), 2),
        (("web", "hosts"), 2),
        (("web", "vars", "a"), 5),
        (("web", "vars", "bA"), 5),
        (("web", "vars", "c"), 6),
        (("web", "vars", "c", "none"), 6),
        (("web", "nothing"), 2),
        (("web", "hosts", "0"), 2),
        (("_meta", "hostvars", "web1", "x"), 10),
        (("nothing", "hostvars"), 1),
    ],
)
def test_lines(pointer: tuple[str, ...], line: int) -> None:
    assert Document("f", TEXT).line_of(pointer) == line
    assert Document("f", TEXT, lines=False).line_of(pointer) is None


def test_the_place_of_a_member() -> None:
    assert Member({"x": 1}, Document("f", TEXT), ("_meta", "hostvars", "web1")).place("x") == ("f", 10)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "f:1: not JSON (expecting property name enclosed in double quotes at column 2)"),
        ('{"a": 1,\n "b" 2}', "f:2: not JSON (expecting ':' delimiter at column 6)"),
        ('{"a": "\x01"}', "f:1: not JSON (invalid control character at at column 8)"),
        ('{"a": NaN}', "f: not JSON (NaN is no number there)"),
        ('{"a": -Infinity}', "f: not JSON (-Infinity is no number there)"),
        ('{"a": "\\ud800"}', "f: not JSON (half of a surrogate pair)"),
        ("[" * 200000, "f: not an inventory (nested too deep)"),
        ('{"a": ' + "9" * 5000 + "}", "f: not JSON (a number of too many digits)"),
    ],
)
def test_refused(text: str, error: str) -> None:
    with pytest.raises(InventoryError) as caught:
        Document("f", text).load()
    assert str(caught.value) == error


def test_the_line_in_a_text_without_lines_is_part_of_the_reason() -> None:
    with pytest.raises(InventoryError, match=r"^f: not JSON \(expecting ':' delimiter at line 2\)$"):
        Document("f", '{"a": 1,\n "b" 2}', lines=False).load()


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert Document("f", '{"a": "\\ud83d\\ude00"}').load() == {"a": "\U0001f600"}
