"""Which words of a command line are a script's own, and what the other options about what is run become."""

from __future__ import annotations

import io
import sys

import pytest

from controller.cli.declare import Argument, Option, Parameter
from controller.cli.what_options import mark_arguments, open_stdin, read_shell, read_user
from controller.errors import FleetError

PARAMETERS = [
    Parameter("script", str | None, None, Option("--script", help="S.")),
    Parameter("limit", list[str] | None, None, Option("-l", "--limit", help="L.")),
    Parameter("fold", bool, False, Option("-b", "--fold", help="B.")),
    Parameter("quiet", bool, False, Option("-q", "--quiet", help="Q.")),
    Parameter("command", list[str] | None, None, Argument("COMMAND", help="C.")),
]


def marked(line):
    """Mark the arguments of a line in which `S` stands for the script."""
    return " ".join(mark_arguments(PARAMETERS, line.replace("S", "--script f").split()))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # What is no option of run is the first argument, and all that follows are arguments too.
        ("S -v x", "--script f -- -v x"),
        ("-l web S -v -l x", "-l web --script f -- -v -l x"),
        ("S -l web -v", "--script f -l web -- -v"),
        ("S -bq -v", "--script f -bq -- -v"),
        ("S -bv", "--script f -- -bv"),
        ("S -bl web -v", "--script f -bl web -- -v"),
        ("S -lweb -v", "--script f -lweb -- -v"),
        ("S --limit=web -v", "--script f --limit=web -- -v"),
        ("--script=f --verbose", "--script=f -- --verbose"),
        ("S --verbose=3", "--script f -- --verbose=3"),
        # Nothing to mark.
        ("S -b -q", "--script f -b -q"),
        ("S x -v", "--script f x -v"),
        ("S - -v", "--script f - -v"),
        ("S -- -b", "--script f -- -b"),
        ("S", "--script f"),
        ("--script", "--script"),
        ("S -l", "--script f -l"),
        ("", ""),
        # No script before it: the program says that there is no such option.
        ("-v S", "-v --script f"),
        ("x S -v", "x --script f -v"),
        ("-l S -v", "-l --script f -v"),
    ],
)
def test_where_the_arguments_of_a_script_begin(line, expected):
    assert marked(line) == expected


@pytest.mark.parametrize(("word", "near"), [("--limt", "--limit"), ("--limi=web", "--limit"), ("--quite", "--quiet")])
def test_what_may_be_misspelt_is_nobodys(word, near):
    with pytest.raises(FleetError) as caught:
        marked(f"S {word} web")
    assert str(caught.value) == f"usage: no such option: {word.partition('=')[0]}"
    assert caught.value.hint == f"did you mean {near}? if it is the script's, put -- before it"
    assert marked(f"S -- {word}") == f"--script f -- {word}"


def test_users_and_shells():
    assert read_user("www-data") == "www-data"
    assert read_shell("/bin/ksh") == "/bin/ksh"
    for wrong in ("", "a\0b"):
        with pytest.raises(ValueError) as caught:
            read_user(wrong)
        assert str(caught.value) == f"{wrong!r} is not a name"
    for wrong in ("", "bash", "./bash", "~/bash", "/a\0b"):
        with pytest.raises(ValueError) as caught:
            read_shell(wrong)
        assert str(caught.value) == f"{wrong!r} is not an absolute path"


def test_an_input_that_is_ours_or_a_file(tmp_path, monkeypatch):
    assert open_stdin(None, ["-"]) is None
    (tmp_path / "x").write_bytes(b"one\ntwo\n")
    assert open_stdin(str(tmp_path / "x"), ["-"]).source().read(99) == b"one\ntwo\n"
    with (tmp_path / "x").open("rb") as file:
        file.readline()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        assert open_stdin("-", ["hosts.ini"]).source().read(99) == b"two\n"
        with pytest.raises(FleetError) as caught:
            open_stdin("-", ["hosts.ini", "-"])
    assert str(caught.value) == "--stdin: the inventory is read from standard input already"
    assert caught.value.hint == "put one of the two in a file"
