"""How wide text is, and text that is cut: on a terminal alone."""

import fcntl
import os
import pty
import struct
import termios

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.output import Writer
from controller.output.table import Table
from controller.output.width import display_width, fitted, fitted_lines, padded
from controller.results import Result, Status

STEADY = settings(deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("abc", 3), ("\u00e4b", 2), ("e\u0301", 1), ("\u6f22\u5b57", 4), ("\U0001f600x", 3), ("a\u200bb", 2)],
)
def test_width(text, columns):
    assert display_width(text) == columns
    assert padded(text, 6) == text + " " * (6 - columns)
    assert padded(text, 6, right=True) == " " * (6 - columns) + text


@pytest.mark.parametrize(
    ("text", "columns", "cut"),
    [
        ("abcd", 4, "abcd"),
        ("abcde", 4, "abc\u2026"),
        ("abcde", 1, "\u2026"),
        ("abcde", 0, ""),
        ("\u6f22\u5b57x", 5, "\u6f22\u5b57x"),
        ("\u6f22\u5b57xy", 5, "\u6f22\u5b57\u2026"),
        ("\u6f22\u5b57xy", 4, "\u6f22\u2026"),
        ("\u6f22", 1, "\u2026"),
        ("\u6f22", 0, ""),
    ],
)
def test_cut(text, columns, cut):
    assert fitted(text, columns) == cut


@STEADY
@given(st.lists(st.text(alphabet="ab\t\u6f22\u0301\n", max_size=12), max_size=6), st.integers(1, 12))
def test_lines_are_cut_alike_however_they_are_split(pieces, columns):
    whole = "".join(pieces)
    lines = [fitted(line.expandtabs(8), columns) for line in whole.split("\n")]
    expected = "\n".join(lines).encode()
    assert b"".join(fitted_lines([piece.encode() for piece in pieces], columns)) == expected


def test_a_line_without_an_end_takes_no_memory():
    pieces = (b"x" * 65536 for _ in range(1000))
    assert b"".join(fitted_lines(pieces, 10)) == b"xxxxxxxxx\xe2\x80\xa6"


def results(text, **more):
    return [Result("web1", Status.OK, 0, stdout=text, started=1.0, elapsed=0.5, **more)]


def test_a_table_on_a_terminal_is_cut_at_its_output(screen, run):
    out = Writer(screen.stdout, terminal=True, width=60)
    Table(out, screen.err).finish(run, results(b"short\n" + b"y" * 100 + b"\n\tz\n", stderr=b"e" * 100))
    assert screen.shown.decode().splitlines() == [
        "HOST    STATUS    RC    TIME    OUTPUT",
        "web1    ok        0     0.50s   short",
        " " * 32 + "y" * 27 + "\u2026",
        " " * 32 + " " * 8 + "z",
        " " * 32 + "! " + "e" * 25 + "\u2026",
    ]


def test_a_very_narrow_terminal_still_shows_some_output(screen, run):
    out = Writer(screen.stdout, terminal=True, width=10)
    Table(out, screen.err).finish(run, results(b"y" * 100))
    assert screen.shown.decode().splitlines()[1].endswith(" " + "y" * 19 + "\u2026")


def test_nothing_is_cut_in_a_pipe(screen, run):
    assert Writer(screen.stdout).width is None
    Table(Writer(screen.stdout), screen.err).finish(run, results(b"y" * 1000))
    assert b"y" * 1000 + b"\n" in screen.shown


def test_what_is_wrong_and_how_to_mend_it_is_never_cut(screen, run):
    out = Writer(screen.stdout, terminal=True, width=60)
    error = "not enrolled: mend with: fleet enroll a-host-with-a-name-that-is-not-short"
    Table(out, screen.err).finish(run, [Result("web1", Status.DENIED, error=error)])
    assert f"[error: {error}]\n" in screen.shown.decode()


def test_the_width_is_that_of_the_terminal_at_the_moment():
    master, slave = pty.openpty()
    with open(slave, "wb", buffering=0) as stream:
        writer = Writer(stream)
        assert writer.terminal
        assert writer.width is None  # 0 columns: nobody has said how many
        for columns in (80, 200):
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            assert writer.width == columns
    os.close(master)


def test_a_terminal_that_cannot_be_asked_has_no_width(terminal):
    assert terminal.out.width is None
