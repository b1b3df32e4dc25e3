"""One line at the foot of a terminal: where it is drawn, when it is not, and that output never meets it."""

from __future__ import annotations

import io
import os
import pty
import termios
import threading

import pytest

from controller.output import Colour, Writer
from controller.output.line import ERASE, Beside, StatusLine, terminal_is_ours, terminal_width


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def screen():
    return io.BytesIO()


@pytest.fixture
def line(screen, clock):
    return StatusLine(Writer(screen, terminal=True), clock=clock)


def beside(screen, line, terminal=True):
    writer = Beside(screen, line, name="standard output", colour=Colour())
    writer.terminal = terminal
    return writer


def test_it_is_redrawn_in_place_and_gone_at_the_end(screen, line):
    assert not line.shown
    line.draw("1/2")
    assert line.shown
    line.draw("2/2")
    line.erase()
    line.erase()
    assert not line.shown
    assert screen.getvalue() == b"\r\x1b[K1/2\r\x1b[K2/2\r\x1b[K"


def test_output_takes_its_place_and_pushes_it_down(screen, line):
    out = beside(screen, line)
    line.draw("status")
    out.write(b"one\n")
    assert not line.shown
    out.write(b"two\n")
    line.draw("not inside output")
    assert not line.say("not there either\n")
    out.flush()
    assert screen.getvalue() == ERASE + b"status" + ERASE + b"one\ntwo\n" + ERASE + b"status"
    assert line.shown
    line.draw("later")
    assert screen.getvalue().endswith(ERASE + b"later")


def test_without_a_line_output_is_as_it_is(screen, line):
    out = beside(screen, line)
    out.write(b"")
    out.write(b"one\n")
    out.flush()
    assert screen.getvalue() == b"one\n"


def test_the_reader_of_a_pipe_gets_time_to_write(screen, line, clock):
    out = beside(screen, line, terminal=False)
    line.draw("status")
    out.write(b"one\n")
    out.flush()
    clock.now += 0.09
    line.draw("too early")
    assert not line.shown
    clock.now += 0.02
    line.draw("now")
    assert screen.getvalue() == ERASE + b"status" + ERASE + b"one\n" + ERASE + b"now"


@pytest.mark.parametrize("terminal", [True, False])
def test_passing_nothing_on_leaves_the_line_where_it_is(screen, line, terminal):
    out = beside(screen, line, terminal)
    line.draw("status")
    out.write(b"")
    out.flush()
    assert line.shown
    assert screen.getvalue() == ERASE + b"status"
    out.write(b"one\n")
    assert screen.getvalue() == ERASE + b"status" + ERASE + b"one\n"


def test_what_is_said_stands_above_the_line(screen, line):
    assert line.say("no line yet\n")
    line.draw("status")
    assert line.say("a\nb\n")
    assert screen.getvalue() == b"no line yet\n" + ERASE + b"status" + ERASE + b"a\nb\n" + ERASE + b"status"


def test_nothing_is_drawn_on_a_terminal_that_is_not_ours(screen):
    ours = [True, False, True]
    line = StatusLine(Writer(screen, terminal=True), ours=lambda: ours.pop(0))
    line.draw("a")
    line.draw("b")
    assert not line.shown
    line.draw("c")
    assert screen.getvalue() == ERASE + b"a" + ERASE + b"c"


def test_a_line_that_was_closed_never_comes_back(screen, line):
    out = beside(screen, line)
    line.draw("status")
    line.close()
    line.draw("again")
    assert line.say("nobody hears it\n")
    out.write(b"result\n")
    out.flush()
    assert screen.getvalue() == ERASE + b"status" + ERASE + b"result\n"
    assert not line.shown


def test_closing_in_the_middle_of_output(screen, line):
    out = beside(screen, line)
    line.draw("status")
    out.write(b"result\n")
    line.close()
    out.flush()
    assert screen.getvalue() == ERASE + b"status" + ERASE + b"result\n"


@pytest.fixture
def pipe():
    """Return a pipe's writing end for what is erased, and a function that returns what came."""
    reader, writer = os.pipe()

    def read():
        os.close(writer)
        with open(reader, "rb") as file:
            return file.read()

    return writer, read


def test_who_leaves_at_once_takes_the_line_along(line, pipe):
    descriptor, read = pipe
    line.draw("status")
    line.abandon(descriptor)
    assert read() == ERASE


def test_who_leaves_at_once_leaves_other_text_alone(line, pipe):
    descriptor, read = pipe
    line.abandon(descriptor)
    line.draw("status")
    assert not line.shown
    assert read() == b""


def test_who_leaves_at_once_waits_for_a_drawing(pipe):
    """The line that another thread is about to draw is taken along, and not left on the screen by both."""
    descriptor, read = pipe
    drawing, go_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def write(self, data):
            drawing.set()
            assert go_on.wait(60)
            return os.write(descriptor, data)

    line = StatusLine(Writer(Slow(), terminal=True))
    thread = threading.Thread(target=line.draw, args=("status",))
    thread.start()
    assert drawing.wait(60)
    timer = threading.Timer(0.0, go_on.set)
    timer.start()
    line.abandon(descriptor)
    thread.join(60)
    timer.join(60)
    line.draw("again")
    assert read() == ERASE + b"status" + ERASE


def test_who_leaves_at_once_waits_for_nobody_who_waits_for_it(line, pipe, monkeypatch):
    """The signal has come to the thread that draws: it holds the lock, and goes on only when we are through."""
    monkeypatch.setattr("controller.output.line._LEAVING", 0.0)
    descriptor, read = pipe
    line.draw("status")
    with line._lock:
        line.abandon(descriptor)
    assert read() == ERASE


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "Input/output error")])
def test_a_terminal_that_is_gone_stops_nobody(error):
    class Gone(io.BytesIO):
        def write(self, data):
            raise error

    line = StatusLine(Writer(Gone(), terminal=True))
    line.draw("a")
    assert line.gone
    assert line.say("b\n")
    line.close()


def test_text_that_no_terminal_takes(screen, line):
    line.draw("\udcff")
    assert screen.getvalue() == ERASE + b"\\udcff"


# The terminal itself --------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal():
    controller, descriptor = pty.openpty()
    with open(descriptor, "wb") as stream:
        yield stream
    os.close(controller)


def test_what_is_no_terminal_belongs_to_nobody(tmp_path):
    with open(tmp_path / "file", "wb") as file:
        assert terminal_is_ours(file)
    assert terminal_is_ours(io.BytesIO())
    assert terminal_width(io.BytesIO()) == 80


def test_a_terminal_without_job_control_is_ours(terminal):
    assert terminal_is_ours(terminal)


def test_a_pager_has_the_terminal(terminal):
    attributes = termios.tcgetattr(terminal)
    attributes[3] &= ~termios.ICANON
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    assert not terminal_is_ours(terminal)


@pytest.mark.parametrize(("group", "ours"), [(0, True), (1, False)])
def test_the_background_of_a_shell(terminal, monkeypatch, group, ours):
    monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp() + group)
    assert terminal_is_ours(terminal) is ours
