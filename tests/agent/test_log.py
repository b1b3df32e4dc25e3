"""The agent's log: whole lines, or none, and never a wait."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.log import Refusals, log, quote, set_up, word


class Pipe:
    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)

    def lines(self) -> list[str]:
        data = b""
        try:
            while piece := os.read(self.reading, 1 << 20):
                data += piece
        except BlockingIOError:
            pass
        assert not data or data.endswith(b"\n")
        return data.decode().splitlines()

    def fill(self) -> int:
        """Leave no room; return how many bytes it took."""
        os.set_blocking(self.writing, False)
        count = 0
        try:
            while True:
                count += os.write(self.writing, b"\n" * 4096)
        except BlockingIOError:
            os.set_blocking(self.writing, True)
            return count

    def drain(self, count: int) -> None:
        while count:
            count -= len(os.read(self.reading, count))


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    before = log.handlers, log.propagate, log.level
    pipe = Pipe()
    set_up(pipe.writing)
    yield pipe
    log.handlers, log.propagate = before[:2]
    log.setLevel(before[2])
    for fd in (pipe.reading, pipe.writing):
        os.close(fd)


def test_one_line_an_event(pipe: Pipe) -> None:
    log.info("listening on %s", "127.0.0.1:7422")
    log.warning("second")
    assert pipe.lines() == ["fleet-agent: listening on 127.0.0.1:7422", "fleet-agent: second"]


@pytest.mark.parametrize(("value", "shown"), [("1", ["fleet-agent: detail"]), ("0", []), (None, [])])
def test_details_only_on_demand(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, value: str | None, shown: list[str]
) -> None:
    monkeypatch.delenv("FLEET_DEBUG", raising=False)
    if value is not None:
        monkeypatch.setenv("FLEET_DEBUG", value)
    set_up(pipe.writing)
    log.debug("detail")
    assert pipe.lines() == shown


def test_a_file(pipe: Pipe, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        set_up(file.fileno())
        log.info("one")
        log.info("two")
    assert (tmp_path / "log").read_text() == "fleet-agent: one\nfleet-agent: two\n"


def test_a_descriptor_that_is_closed(pipe: Pipe) -> None:
    """The lines are lost, and nothing else is."""
    closed = os.dup(pipe.writing)
    os.close(closed)
    set_up(closed)
    log.info("one")
    assert pipe.lines() == []


def test_set_up_twice_does_not_double_the_lines(pipe: Pipe) -> None:
    set_up(pipe.writing)
    log.info("once")
    assert pipe.lines() == ["fleet-agent: once"]
    assert log.name == "fleet-agent"
    assert not log.propagate
    assert logging.getLogger().level == logging.WARNING


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nfleet-agent: b", "a\\nfleet-agent: b"),
        ("\x1b[2J\r\x07\x9b", "\\x1b[2J\\r\\x07\\x9b"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}gpj", "\\u202egpj"),
        ("gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n", "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n"),
        ("\udcff", "\\udcff"),
    ],
)
def test_nothing_begins_a_line_of_its_own_or_moves_a_terminal(pipe: Pipe, text: str, line: str) -> None:
    # Given to the handler itself: pytest keeps what is logged, and cannot pass a lone surrogate between processes.
    log.handlers[0].handle(logging.makeLogRecord({"msg": text}))
    assert pipe.lines() == [f"fleet-agent: {line}"]


def test_long_lines_are_cut(pipe: Pipe) -> None:
    log.info("x" * 10_000)
    (line,) = pipe.lines()
    assert len(line) == 4095
    assert line.startswith("fleet-agent: xxx")


def test_an_exception_is_one_line_with_its_cause_and_place(pipe: Pipe) -> None:
    try:
        int("x\ny")
    except ValueError:
        log.exception("the session of %s crashed", "10.0.0.1:5")
    (line,) = pipe.lines()
    start = (
        "fleet-agent: the session of 10.0.0.1:5 crashed: ValueError: invalid literal for int() with base 10: 'x\\\\ny'"
    )
    assert line.startswith(start.replace("\\\\", "\\"))
    assert "test_log.py:" in line


def test_an_exception_that_is_none(pipe: Pipe) -> None:
    log.error("nothing is wrong", exc_info=True)
    assert pipe.lines() == ["fleet-agent: nothing is wrong"]


# Nobody reads -----------------------------------------------------------------------------------------------------


def test_a_full_pipe_drops_and_counts(pipe: Pipe) -> None:
    count = pipe.fill()
    for number in range(3):
        log.info("lost %d", number)
    pipe.drain(count)
    assert pipe.lines() == []
    log.info("found")
    log.info("again")
    assert pipe.lines() == ["fleet-agent: 3 log lines were dropped", "fleet-agent: found", "fleet-agent: again"]


def test_room_for_the_count_alone(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that has found no room after it counts as the first of the next."""
    count = pipe.fill()
    log.info("lost")
    pipe.drain(count)
    write = os.write
    left = [1]

    def write_once(fd: int, data: bytes) -> int:
        if not left:
            raise BlockingIOError
        left.pop()
        return write(fd, data)

    monkeypatch.setattr(os, "write", write_once)
    log.info("lost too")
    monkeypatch.undo()
    log.info("found")
    dropped = "fleet-agent: 1 log lines were dropped"
    assert pipe.lines() == [dropped, dropped, "fleet-agent: found"]


def test_half_a_line_is_no_line(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda fd, data: len(data) - 1)
    log.info("lost")
    monkeypatch.undo()
    log.info("found")
    assert pipe.lines() == ["fleet-agent: 1 log lines were dropped", "fleet-agent: found"]


def test_a_full_disk(pipe: Pipe) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    set_up(full)
    log.info("lost")
    os.close(full)
    log.info("nor is a descriptor that is no more an error")


def test_a_reader_that_has_gone() -> None:
    before = log.handlers
    reading, writing = os.pipe()
    set_up(writing)
    os.close(reading)
    log.info("lost")
    os.close(writing)
    log.handlers = before


# Text of others -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("df -h", "'df -h'"),
        ("a\nb\x1b\x9b\u202e", "'a\\nb\\x1b\\x9b\\u202e'"),
        ("it's", '"it\'s"'),
        ("\udcff", "'\\udcff'"),
        ("", "''"),
        ("x" * 198, "'" + "x" * 198 + "'"),
        ("x" * 199, "'" + "x" * 199 + "\N{HORIZONTAL ELLIPSIS} (199 characters)"),
    ],
)
def test_quote(text: str, shown: str) -> None:
    assert quote(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("20261125-r1.a_b", "20261125-r1.a_b"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "'" + "x" * 65 + "'"),
        ("", "''"),
        ("r1) ALERT", "'r1) ALERT'"),
        ("r1\n", "'r1\\n'"),
    ],
)
def test_word(text: str, shown: str) -> None:
    assert word(text) == shown


# Refusals -----------------------------------------------------------------------------------------------------------


def test_refusals_are_told_once_a_minute(pipe: Pipe) -> None:
    refusals = Refusals()
    refusals.report(1000.0)
    assert pipe.lines() == []
    refusals.add("10.0.0.1")
    refusals.report(1000.0)
    assert pipe.lines() == ["fleet-agent: refused 1 connections: 10.0.0.1 (1)"]
    for _ in range(3):
        refusals.add("10.0.0.1")
    for _ in range(5):
        refusals.add("10.0.0.2")
    refusals.report(1059.9)
    assert pipe.lines() == []
    refusals.report(1060.0)
    assert pipe.lines() == ["fleet-agent: refused 8 connections: 10.0.0.2 (5), 10.0.0.1 (3)"]
    refusals.report(1200.0)
    assert pipe.lines() == []


def test_refusals_of_endless_sources_take_no_endless_memory(pipe: Pipe) -> None:
    refusals = Refusals()
    for number in range(5000):
        refusals.add(f"2001:db8::{number:x}")
    refusals.add("2001:db8::1")
    refusals.report(0.0)
    (line,) = pipe.lines()
    assert line.startswith("fleet-agent: refused 5001 connections: others (4000), 2001:db8::1 (2), ")
    assert line.count("(") == 5
