"""Tables as tabulate makes them, without its guesses."""

import subprocess
import sys

import pytest
import tabulate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.render import FormatError, check_format, formats, frame, table

# The same examples in every run, and no complaint when the machine is busy.
STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def test_cells_are_shown_as_they_are():
    rows = [["007", "  indented", "True"], ["1e3", "x", "1,000.50"], ["\u0663", "", "nan"]]
    assert table(["A", "B", "C"], rows).split("\n") == [
        "A    B           C",
        "007    indented  True",
        "1e3  x           1,000.50",
        "\u0663                nan",
    ]


def test_lines_of_a_cell_stay_under_each_other_in_every_format_that_can():
    for name in sorted(tabulate.multiline_formats):
        text = table(["HOST", "OUTPUT"], [["web1", "  one\n    two"]], tablefmt=name)
        first, second = (line for line in text.split("\n") if "one" in line or "two" in line)
        assert second.index("two") == first.index("one") + 2, name


def test_tsv_is_one_line_for_each_row():
    rows = [["web1", "a\tb\nc\\n"], ["web2", "x"]]
    assert table(["HOST", "OUTPUT"], rows, tablefmt="tsv").split("\n") == [
        "HOST  \tOUTPUT",
        "web1  \ta\\tb\\nc\\\\n",
        "web2  \tx",
    ]


def test_html_is_escaped():
    assert "&lt;script&gt;" in table(["A"], [["<script>"]], tablefmt="html")


def test_every_format_of_tabulate_is_known():
    assert formats() == sorted(tabulate.tabulate_formats)
    assert [check_format(name) for name in formats()] == formats()


@pytest.mark.parametrize("name", ["", "Plain", "markdown", "plain ", "\x1b[2J"])
def test_an_unknown_format_is_an_error_that_lists_them_all(name):
    with pytest.raises(FormatError) as caught:
        check_format(name)
    shown = name.replace("\x1b", "\\x1b")
    assert str(caught.value) == f"unknown table format '{shown}': choose one of {', '.join(formats())}"


def test_tabulate_is_left_as_it_was():
    before = {name: value for name, value in vars(tabulate).items() if name.isupper()}
    table(["A"], [["  x"]], tablefmt="grid")
    assert {name: value for name, value in vars(tabulate).items() if name.isupper()} == before


def test_frame():
    laid_out = frame(["HOST", "RC", "OUTPUT"], [["web1", "0"], ["a-longer-name", "SIGKILL"]])
    assert laid_out.header == "HOST           RC       OUTPUT"
    assert laid_out.prefixes == ("web1           0        ", "a-longer-name  SIGKILL  ")
    assert laid_out.indent == 24


def test_frame_without_rows():
    assert frame(["HOST", "OUTPUT"], []).prefixes == ()


CELL = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@STEADY
@given(st.lists(st.tuples(CELL, CELL), max_size=5))
def test_frame_is_where_tabulate_would_have_put_the_cells(rows):
    laid_out = frame(["A", "OUTPUT"], [[first] for first, _ in rows])
    shown = [laid_out.header, *(prefix + row[1] for prefix, row in zip(laid_out.prefixes, rows, strict=True))]
    assert "\n".join(shown) == tabulate.tabulate(rows, ["A", "OUTPUT"], tablefmt="plain", disable_numparse=True)


def test_importing_the_ways_to_show_results_loads_neither_tabulate_nor_json():
    modules = ("table", "stream", "documents", "folder", "listing")
    code = "import sys\nbefore = set(sys.modules)\n" + "".join(f"import controller.output.{name}\n" for name in modules)
    code += "print(sorted({'tabulate', 'json', 'typer', 'controller.render'} & set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['controller.render']\n"
