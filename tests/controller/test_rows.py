"""Tables of many hosts as one."""

import pytest

from controller.columns import Table
from controller.conditions import parse_conditions
from controller.rows import Query, UnknownColumnError, fitting, main_names

NAMES = ("HOST", "Size", "Use%", "use%")
ROWS = [("a", "9.8G", "5%", "x"), ("b", "10T", "99%", "y"), ("c", "1M", "50%", "z")]


def query(where=None, **more):
    return Query(tuple(parse_conditions(where)) if where else (), **more)


def hosts(asked):
    return [row[0] for row in asked.choose(NAMES, ROWS)]


def test_everything_in_its_order_by_default():
    assert hosts(Query()) == ["a", "b", "c"]


def test_conditions_order_and_number():
    assert hosts(query("Use% > 5 and Size < 1T")) == ["c"]
    assert hosts(query(sort="Size")) == ["c", "a", "b"]
    assert hosts(query(sort="size", descending=True, top=2)) == ["b", "a"]
    assert hosts(query("HOST != b", sort="HOST", descending=True, top=9)) == ["c", "a"]


@pytest.mark.parametrize(
    ("asked", "option", "name"),
    [
        (query(sort="Avail"), "--sort", "Avail"),
        (query("USE% > 1"), "--where", "USE%"),
        (query("x = 1", sort="y"), "--where", "x"),
    ],
)
def test_a_column_that_is_not_there_or_could_be_two(asked, option, name):
    with pytest.raises(UnknownColumnError) as caught:
        asked.choose(NAMES, ROWS)
    assert str(caught.value) == f"{option}: no column {name!r}: there are HOST, Size, Use%, use%"
    assert caught.value.known == NAMES


def test_the_names_that_most_have_win_in_the_order_of_the_first():
    one, two, other = Table(("A", "B"), ()), Table(("B", "A"), ()), Table(("C", "D"), ())
    assert main_names([other, one, two]) == ("A", "B")
    assert main_names([other, one]) == ("C", "D")
    assert main_names([]) is None


def test_columns_are_put_in_order_and_strangers_do_not_fit():
    table = Table(("B", "A"), (("2", "1"),))
    assert list(fitting(table, ("A", "B"))) == [("1", "2")]
    assert fitting(table, ("B", "A")) == (("2", "1"),)
    assert fitting(table, ("A", "C")) is None
