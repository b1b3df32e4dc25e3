"""What cells are worth, and the order that follows."""

import pytest

from controller.values import natural, sort_by_value, value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0), ("-5", -5), ("+7", 7), ("1,234", 1234), ("1,234,567.5", 1234567.5), ("9,8", 9.8), ("87%", 87),
        ("9.8G", 9.8 * 2**30), ("10T", 10 * 2**40), ("4.0K", 4096), ("4k", 4096), ("23Gi", 23 * 2**30), ("0B", 0),
        ("1.5GiB", 1.5 * 2**30), ("188MB", 188e6), ("12kB", 12e3), ("2 kiB", 2048), ("9,8G", 9.8 * 2**30),
        ("0:05", 5), ("301:12", 301 * 60 + 12), ("01:02:03", 3723), ("1-02:03:04", 93784), ("2:07.31", 127.31),
        ("5m", 300), ("2d4h", 187200), ("3 days", 259200), ("18 hours ago", 64800), ("3h 19min ago", 11940),
        ("16min left", 960), ("12ms", 0.012), ("10s", 10), ("2 months", 60 * 86400),
    ],
)  # fmt: skip
def test_values(text, expected):
    assert value(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    ["", "-", "abc", "1.2.3", "192.0.2.1", "5 apples", "inf", "nan", "1e5", "12G7", "--5", "1 2", "9" * 41, "7h x"],
)
def test_no_values(text):
    assert value(text) is None


def test_numbers_then_texts_then_nothing_both_ways():
    cells = ["b10", "", "10T", "b2", "9.8G", "-", "0"]
    assert sort_by_value(cells, str) == ["0", "9.8G", "10T", "b2", "b10", "", "-"]
    assert sort_by_value(cells, str, descending=True) == ["10T", "9.8G", "0", "b10", "b2", "", "-"]


def test_equal_rows_keep_their_order_both_ways():
    rows = [("1K", "a"), ("1024", "b"), ("2", "c"), ("1024", "d")]
    first = lambda row: row[0]  # noqa: E731
    assert [name for _, name in sort_by_value(rows, first)] == ["c", "a", "b", "d"]
    assert [name for _, name in sort_by_value(rows, first, descending=True)] == ["a", "b", "d", "c"]


def test_natural_order():
    words = ["web10", "web2", "192.0.2.10", "192.0.2.9", "Web1", "", "x007", "x7", "x08"]
    assert sorted(words, key=natural) == ["", "192.0.2.9", "192.0.2.10", "Web1", "web2", "web10", "x007", "x7", "x08"]
