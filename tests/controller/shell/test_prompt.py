"""Lines from a file, completion, and a history that is private and bounded."""

from __future__ import annotations

import io
import os
import stat
import sys

import pytest

from controller.output import Writer
from controller.shell import prompt
from controller.shell.prompt import Completer, Stream, Terminal, history_path


def lines(data):
    stream = Stream(io.BytesIO(data))
    return list(iter(lambda: stream.next("unused"), None))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", []),
        (b"a\nb", ["a", "b"]),
        (b"\n\n", ["", ""]),
        (b"a\\\nb\n", ["ab"]),
        (b"a\\\\\nb\n", ["a\\\\", "b"]),
        (b"a\\\\\\\nb\n", ["a\\\\b"]),
        (b"a\\\n", ["a"]),
        (b"a\\", ["a"]),
        (b"\\\n", []),
        (b"\xff\xc3\xa9\n", ["\udcffé"]),
        (b"a\r\n", ["a\r"]),
    ],
)
def test_lines_of_a_file(data, found):
    assert lines(data) == found


COMPLETE = [
    ("", ":f", [":fold "]),
    ("", ":", [":fold ", ":limit ", ":put "]),
    ("", "ls", []),
    (":fold ", "o", ["on", "off"]),
    (":diff ", "of", ["off"]),
    (":fold on ", "o", []),
    (":limit ", "w", ["web", "web1"]),
    (":limit ", "db:!w", ["db:!web", "db:!web1"]),
    (":limit ", "db,", ["db,db", "db,web", "db,web1"]),
    (":limit ", "", ["db", "web", "web1"]),
    (":limit ", "x", []),
    (":limit web ", "x", []),
    ("echo ", "w", []),
    (":get ", "o", []),
]


@pytest.mark.parametrize(("before", "word", "found"), COMPLETE)
def test_completion(before, word, found):
    assert Completer(["db", "web", "web1"], ["fold", "limit", "put"])(before, word) == found


def test_completion_of_local_files(tmp_path, monkeypatch):
    (tmp_path / "one[1]").write_text("")
    (tmp_path / "only").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    complete = Completer([], [])
    assert complete(":put ", f"{tmp_path}/on") == [f"{tmp_path}/one[1]", f"{tmp_path}/only/"]
    assert complete(":put x ", f"{tmp_path}/one[") == [f"{tmp_path}/one[1]"]
    assert complete(":get /etc/x ", "~/onl") == [f"{tmp_path}/only/"]


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/fleet/history"),
        ({"XDG_STATE_HOME": "s", "HOME": "/h"}, "/h/.local/state/fleet/history"),
        ({"HOME": "/h"}, "/h/.local/state/fleet/history"),
        ({}, os.path.expanduser("~/.local/state/fleet/history")),
    ],
)
def test_where_the_history_is(environ, path):
    assert history_path(environ) == path


class Readline:
    """What is used of the module, without a terminal."""

    def __init__(self):
        self.lines = []
        self.completer = None
        self.buffer, self.begin = "", 0

    def set_completer(self, completer):
        self.completer = completer

    def set_completer_delims(self, delims):
        assert delims == " \t"

    def parse_and_bind(self, text):
        assert text == "tab: complete"

    def set_auto_history(self, on):
        assert on is False

    def clear_history(self):
        self.lines.clear()

    def add_history(self, line):
        self.lines.append(line)

    def get_current_history_length(self):
        return len(self.lines)

    def get_history_item(self, number):
        return self.lines[number - 1]

    def get_line_buffer(self):
        return self.buffer

    def get_begidx(self):
        return self.begin


class Typed:
    """A terminal on which these lines are typed."""

    def __init__(self, monkeypatch, typed, history, readline=None):
        self.readline = readline
        self.err = io.BytesIO()
        monkeypatch.setattr(prompt, "_readline", lambda: readline)
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        self.terminal = Terminal(Writer(self.err), lambda before, word: [before + word, "x"], history)

    def next(self):
        return self.terminal.next("web1 (1)> ")

    @property
    def said(self):
        return self.err.getvalue().decode()


def test_without_readline(monkeypatch, tmp_path):
    shell = Typed(monkeypatch, "one\ntwo\\\nthree\n", str(tmp_path / "history"))
    assert [shell.next(), shell.next(), shell.next()] == ["one", "twothree", None]
    assert shell.said == "web1 (1)> web1 (1)> > web1 (1)> \n"
    assert not (tmp_path / "history").exists()


def test_what_is_remembered(monkeypatch, tmp_path):
    history = tmp_path / "state" / "fleet" / "history"
    shell = Typed(monkeypatch, "one\none\n secret\n\n   \ntwo\none\n", str(history), Readline())
    while shell.next() is not None:
        pass
    assert shell.readline.lines == ["one", "two", "one"]
    assert history.read_text() == "one\ntwo\none\n"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) & 0o077 == 0
    assert Typed(monkeypatch, "", str(history), Readline()).readline.lines == ["one", "two", "one"]


def test_a_history_that_others_can_read_is_made_private(monkeypatch, tmp_path):
    (tmp_path / "history").write_bytes(b"one\n\xff\nhalf a li")
    (tmp_path / "history").chmod(0o644)
    assert Typed(monkeypatch, "", str(tmp_path / "history"), Readline()).readline.lines == ["one", "\ufffd"]
    assert stat.S_IMODE((tmp_path / "history").stat().st_mode) == 0o600


@pytest.mark.parametrize(("count", "left"), [(1500, 1500), (2001, 1000)])
def test_a_long_history_is_cut(monkeypatch, tmp_path, count, left):
    history = tmp_path / "history"
    history.write_text("".join(f"{number}\n" for number in range(count)))
    shell = Typed(monkeypatch, "", str(history), Readline())
    assert shell.readline.lines == [str(number) for number in range(count - 1000, count)]
    assert len(history.read_text().splitlines()) == left


def test_a_history_that_cannot_be_written_is_said_once(monkeypatch, tmp_path):
    history = tmp_path / "fleet" / "history"
    shell = Typed(monkeypatch, "one\ntwo\n", str(history), Readline())
    history.unlink()
    history.mkdir()
    assert [shell.next(), shell.next()] == ["one", "two"]
    assert shell.said == f"web1 (1)> fleet: history: {history}: is a directory\nweb1 (1)> "
    assert shell.readline.lines == ["one", "two"]
    assert f"fleet: history: {history}: is a directory\n" in Typed(monkeypatch, "", str(history), Readline()).said


def test_no_history_at_all(monkeypatch):
    shell = Typed(monkeypatch, "one\n", None, Readline())
    assert shell.next() == "one"
    assert shell.readline.lines == ["one"]


def test_the_completer_that_readline_gets(monkeypatch):
    shell = Typed(monkeypatch, "", None, Readline())
    shell.readline.buffer, shell.readline.begin = ":limit we", 7
    assert [shell.readline.completer("we", number) for number in range(3)] == [":limit we", "x", None]


def test_readline_is_there_or_it_is_not(monkeypatch):
    assert prompt._readline().__name__ == "readline"
    monkeypatch.setitem(sys.modules, "readline", None)
    assert prompt._readline() is None


def test_what_is_no_text(monkeypatch, tmp_path):
    shell = Typed(monkeypatch, "", None, Readline())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff\n"), encoding="utf-8"))
    with pytest.raises(prompt.FleetError, match=r"^line: is not text: byte 3 is no UTF-8$"):
        shell.next()
