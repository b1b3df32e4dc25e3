"""Output of real commands, read; what is no table, refused; and nothing lost or slow, whatever comes."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.columns import is_header, parse

RECORDED = Path(__file__).parent / "recorded"
EXPECTED = json.loads((RECORDED / "expected.json").read_text())
STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDED.glob("*.txt")))
def test_recorded_output_is_read_to_the_last_cell(name):
    table = parse((RECORDED / name).read_text())
    expected = EXPECTED[name]
    assert table is not None
    assert list(table.names) == expected["names"]
    assert [list(row) for row in table.rows] == expected["rows"]
    assert list(table.rest) == expected["rest"]


def test_there_are_enough_recordings_of_more_than_one_distribution():
    assert len(EXPECTED) >= 40
    for distribution in ("debian", "rhel", "alpine"):
        assert sum(name.startswith(distribution) for name in EXPECTED) >= 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "hello",
        "hello world",
        "Linux web1 6.1.0-28-amd64 #1 SMP x86_64 GNU/Linux\n",
        " 10:00:12 up 34 days,  2:11,  2 users,  load average: 0.08, 0.03, 0.01\n",
        "Hello, dear admin.\nThis is a message, of the day, in three lines.\nBye, now.\n",
        "The quick brown fox jumps\nover the lazy dog and then\nit is gone for good\n",
        "total 12\n-rw-r--r-- 1 root root  220 Jan  5 10:00 a\n-rw-r--r-- 1 root root 3526 Jan  5 10:00 b\n",
        "1,2\n3,4\n",
        "a,b\n1,2,3\n",
        "a,\n1,2\n",
        'a,b\n"unclosed,1\n',
        "one\ntwo\nthree\n",
        "Name  Size\n",
        "Filesystem  Size  Use\n/dev/mapper/long\n",
        "------\n------\n",
        "A  B\n" + "x" * 9_000_000,
        "  ".join(f"N{number}" for number in range(300)) + "\n" + "  ".join("1" * 300) + "\n",
    ],
)
def test_what_is_no_table(text):
    assert parse(text) is None


def test_lines_may_end_with_cr_lf():
    table = parse("Name  Size\r\na     1\r\n")
    assert (table.names, table.rows) == (("Name", "Size"), (("a", "1"),))


def test_names_that_occur_twice_are_numbered():
    assert parse("x\tx\tx\n1\t2\t3\n").names == ("x", "x 2", "x 3")


def test_a_header_that_comes_again_is_no_row():
    table = parse("PID USER\n  1 root\nPID USER\n  2 anna\n")
    assert table.rows == (("1", "root"), ("2", "anna"))
    assert table.furniture == ()
    assert table.rest == ("PID USER",)


def test_a_wide_value_that_closes_the_gap_takes_nothing_from_its_neighbours():
    table = parse("NAME   SIZE   FREE KIND\na      10     5    x\nb      1234567 7   y z\nc      1      2    w\n")
    assert table.rows == (("a", "10", "5", "x"), ("b", "1234567", "7", "y z"), ("c", "1", "2", "w"))


def test_cells_that_are_not_there_in_a_row_with_a_closed_gap_go_to_the_nearest_name():
    header = "NAME   SIZE   FREE   KIND  NOTE\n"
    rows = [f"n{number}     10     5      x     y\n" for number in range(9)]
    table = parse(header + "".join(rows) + "wide-name-here 5\n")
    assert table.rows[-1] == ("wide-name-here", "", "5", "", "")


def test_too_many_guesses_are_no_table():
    assert parse("NAME   SIZE   FREE\nwide-name-here        5\nother-wide-name 7\n") is None


def test_a_device_without_the_rest_of_its_row_is_a_row():
    table = parse("Filesystem  Size  Use\n/dev/mapper/long\nshm         5     7\n/dev/mapper/last-one\n")
    assert [row[0] for row in table.rows] == ["/dev/mapper/long", "shm", "/dev/mapper/last-one"]


def test_wide_characters_and_bytes_that_are_no_text():
    table = parse("NAME    SIZE\nna\u00efve   5\n\udcff\udcfe      7\n")
    assert table.rows == (("na\u00efve", "5"), ("\udcff\udcfe", "7"))


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("CONTAINER ID   IMAGE   NAMES\n", ("CONTAINER ID", "IMAGE", "NAMES"), True),
        ("Peer Address:PortProcess\n", ("Peer Address:Port", "Process"), True),
        ("a,b\n", ("a", "b"), True),
        ("USER TTY\nroot x\n", ("USER", "TTY"), False),
        ("USER\n", ("USER", "TTY"), False),
        ("", ("USER", "TTY"), False),
        (" 10:00:12 up 34 days,  2:11,  2 users,  load average: 0.08, 0.03\nUSER     TTY\n", ("USER", "TTY"), True),
    ],
)
def test_a_table_without_a_row_is_known_by_its_header(text, names, expected):
    assert is_header(text, names) is expected


LINES = st.text(alphabet="aB0 .,|\t-=%:/\u25cf\u00e4\udcff'\"", max_size=40)


@STEADY
@given(st.lists(LINES, max_size=8))
def test_nothing_is_lost_of_any_text(lines):
    text = "\n".join(lines)
    table = parse(text)
    if table is None:
        return
    assert len(set(table.names)) == len(table.names) >= 2
    assert all(len(row) == len(table.names) for row in table.rows)
    kept = "".join(["".join(table.names), *map("".join, table.rows), *table.rest, *table.furniture])
    for character in "aB0.%/\u00e4\udcff":
        assert kept.count(character) >= text.count(character)


COLUMN = st.tuples(
    st.text(alphabet="ABCDEFG", min_size=1, max_size=6),
    st.booleans(),
    st.lists(st.text(alphabet="abc123/", min_size=1, max_size=9), min_size=3, max_size=3),
)


@STEADY
@given(st.lists(COLUMN, min_size=2, max_size=6, unique_by=lambda column: column[0]), st.integers(1, 3))
def test_what_was_laid_out_is_read_back(columns, gap):
    laid_out = []
    for name, right, cells in columns:
        width = max(map(len, [name, *cells]))
        laid_out.append([cell.rjust(width) if right else cell.ljust(width) for cell in (name, *cells)])
    text = "\n".join((" " * gap).join(cells) for cells in zip(*laid_out, strict=True))
    table = parse(text)
    assert table is not None
    assert table.names == tuple(name for name, _, _ in columns)
    assert table.rows == tuple(zip(*(cells for _, _, cells in columns), strict=True))


HOSTILE = [
    "-" * 1_000_000 + "x",
    "a" + " " * 1_000_000 + "b\nc" + " " * 1_000_000 + "d",
    "A B\n" + "x\n" * 200_000 + "y" * 1_000_000,
    ("A  " * 150 + "\n") + ("x" * 3000 + " y " * 500 + "\n") * 50,
    "A,B\n" + "1," * 300_000,
    "|" * 300_000 + "\n" + "|" * 300_000,
    ",".join(f"c{number}" for number in range(100_000)) + "\n" + "," * 99_999,
    "r x " + " " * 400 + "\n" * 3 + ("r x " + " " * 400 + "\n") * 500,
    "\n\n".join(["A  B  C\n1 2 3 4 5"] * 5000),
    "LOAD   = " + "x" * 1_000_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_takes_long(text):
    began = time.process_time()
    parse(text)
    assert time.process_time() - began < 5
