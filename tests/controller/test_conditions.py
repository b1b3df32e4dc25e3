"""The language of --where: what it means, and what is said of what it cannot read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.conditions import ConditionError, parse_conditions


def holds(text, cell):
    (condition,) = parse_conditions(text)
    return condition.holds(cell)


def test_names_and_values_may_have_blanks_and_quotes():
    text = "Use%>80 AND 'Mounted on' ~ ^/srv and COMMAND = salt or pepper and \"a=b\" != 'x and y'"
    assert [(found.name, found.operator, found.text) for found in parse_conditions(text)] == [
        ("Use%", ">", "80"),
        ("Mounted on", "~", "^/srv"),
        ("COMMAND", "=", "salt or pepper"),
        ("a=b", "!=", "x and y"),
    ]


@pytest.mark.parametrize(
    ("text", "true", "false"),
    [
        ("x > 80", ["81", "87%", "1K", "1m21s"], ["80", "9%", "abc", "", "-"]),
        ("x >= 1G", ["1G", "1024M", "2T"], ["1GB", "999M"]),
        ("x < 1:00", ["0:59", "5"], ["1-00:00:00", "x"]),
        ("x <= 7", ["7", "-8"], ["7.1"]),
        ("x = 1K", ["1K", "1024", "1.0KiB"], ["1", "k"]),
        ("x == root", ["root"], ["Root", "root2", ""]),
        ("x != root", ["", "Root"], ["root"]),
        ("x = ''", [""], ["-"]),
        ("x ~ ^/(srv|var)", ["/srv/a", "/var"], ["/x/var"]),
        ("x !~ ^a", ["ba", ""], ["a"]),
    ],
)
def test_comparisons(text, true, false):
    assert [holds(text, cell) for cell in true] == [True] * len(true)
    assert [holds(text, cell) for cell in false] == [False] * len(false)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a column at position 1: >>>"),
        ("Use% 80", "expected one of = != < <= > >= ~ !~ at position 8: Use% 80 >>>"),
        ("Use% >", "expected a value at position 7: Use% > >>>"),
        ("> 80", "expected a column at position 1: >>> > 80"),
        ("a = 1 and", "expected a column at position 10: a = 1 and >>>"),
        ("a = 1 and and", "expected one of = != < <= > >= ~ !~ at position 14: a = 1 and and >>>"),
        ("a = and", "expected a value at position 5: a = >>> and"),
        ("a = 'x", "expected the closing ' at position 7: a = 'x >>>"),
        ("'a", "expected the closing ' at position 3: 'a >>>"),
        ("a = 'x' 'y'", "expected 'and' or the end at position 9: a = 'x' >>> 'y'"),
        ("a > b", "expected a number, size or time after > at position 5: a > >>> b"),
        ("a ~ [b", "expected a regular expression (unterminated character set) at position 5: a ~ >>> [b"),
        (
            "a ~ 'x(' and b = 1",
            "expected a regular expression (missing ), unterminated subpattern) at position 7: a ~ 'x >>> (' and b = 1",
        ),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(text, said):
    with pytest.raises(ConditionError) as caught:
        parse_conditions(text)
    assert str(caught.value) == said
    assert caught.value.text == text
    assert 1 <= caught.value.position <= len(text) + 1


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.text(alphabet="ab =!<>~'\"0%[]and", max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        found = parse_conditions(text)
    except ConditionError as error:
        assert 1 <= error.position <= len(text) + 1
    else:
        assert found
        assert all(condition.holds("7") in (True, False) for condition in found)
