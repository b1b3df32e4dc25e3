"""When a person who looks on is told something: with a clock, a run and a terminal that tests own."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import signal
import sys
from dataclasses import dataclass, field

import pytest

from controller.cancel import CancelToken
from controller.cli import watching as module
from controller.cli.watching import ASK_AGAIN_AFTER, FIRST_AFTER, REDRAW_AFTER, Watching
from controller.output import Writer
from controller.output.line import ERASE, StatusLine
from controller.tails import Tails


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Nothing:
    keeps = False


@dataclass
class FakeRun:
    hosts: list[str] = field(default_factory=lambda: ["web1", "web2"])
    running: dict[str, float] = field(default_factory=lambda: {"web1": 0.0})
    results: list[object] = field(default_factory=list)
    elapsed: float = 7.0
    cancelled: bool = False


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def screen():
    return io.BytesIO()


@pytest.fixture
def line(screen):
    return StatusLine(Writer(screen, terminal=True))


class Standard:
    """A standard stream on a descriptor."""

    def __init__(self, descriptor, mode):
        self.buffer = open(descriptor, mode, buffering=0, closefd=False)  # noqa: SIM115
        self.isatty, self.fileno = self.buffer.isatty, self.buffer.fileno

    def close(self):
        self.buffer.close()


@dataclass
class Terminal:
    """The three standard streams on a terminal; what is typed is written to `keyboard`."""

    byteorder = sys.byteorder
    keyboard: int
    stdin: Standard
    stdout: Standard
    stderr: Standard


@pytest.fixture
def terminal(monkeypatch):
    keyboard, descriptor = pty.openpty()
    terminal = Terminal(keyboard, *(Standard(descriptor, mode) for mode in ("rb", "wb", "wb")))
    monkeypatch.setattr(module, "sys", terminal)  # pytest has its own ideas of what the real one holds
    yield terminal
    for stream in (terminal.stdin, terminal.stdout, terminal.stderr):
        stream.close()
    os.close(keyboard)
    os.close(descriptor)


def watching(clock, line=None, **options):
    return Watching(FakeRun(), Tails(Nothing()), CancelToken(), line, clock=clock, **options)


def test_a_quick_run_draws_nothing(clock, line, screen, terminal):
    watch = watching(clock, line)
    assert watch.waits_for() == ((terminal.stdin.fileno(),), FIRST_AFTER)
    clock.now += FIRST_AFTER - 0.01
    watch.called([], asked=False)
    assert screen.getvalue() == b""


def test_the_line_is_drawn_again_and_again_until_it_is_over(clock, line, screen, terminal):
    watch = watching(clock, line)
    clock.now += FIRST_AFTER
    assert watch.waits_for()[1] == REDRAW_AFTER
    watch.called([], asked=False)
    watch.called([], asked=False)
    watch.over()
    assert watch.waits_for() == ((), None)
    watch.called([], asked=True)
    drawn = ERASE + b"0/2 done  0:07  waiting for web1"
    assert screen.getvalue() == drawn * 2 + ERASE


def test_without_a_terminal_there_is_nothing_to_wait_for(clock, terminal):
    terminal.stdin.isatty = lambda: False
    watch = watching(clock)
    assert watch.waits_for() == ((), None)
    watch.called([], asked=False)
    watch.abandon()


def test_enter_is_read_and_answered(clock, line, screen, terminal):
    watch = watching(clock, line)
    fd = terminal.stdin.fileno()
    assert watch.waits_for()[0] == (fd,)
    os.write(terminal.keyboard, b"\n")
    assert select.select([terminal.stdin], [], [], 60)[0]
    watch.called([fd], asked=False)
    assert screen.getvalue().startswith(b"fleet: 0/2 done after 0:07, 1 running\n  web1  ")
    assert watch.waits_for()[0] == (fd,)


def test_what_is_typed_ahead_is_left_alone(clock, line, screen, terminal):
    watch = watching(clock, line)
    fd = terminal.stdin.fileno()
    os.write(terminal.keyboard, b"ls\n")
    assert select.select([fd], [], [], 60)[0]  # the kernel passes on what is typed when it has the time
    watch.called([fd], asked=False)
    assert screen.getvalue() == b""
    assert watch.waits_for() == ((), FIRST_AFTER)
    assert os.read(fd, 100) == b"ls\n"
    assert watch.waits_for() == ((fd,), FIRST_AFTER)


def test_a_terminal_that_cannot_say_what_was_typed(clock, line, screen, terminal, monkeypatch):
    watch = watching(clock, line)

    def fail(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(fcntl, "ioctl", fail)
    assert watch.waits_for() == ((terminal.stdin.fileno(),), FIRST_AFTER)


def test_the_end_of_the_input_is_the_end_of_it(clock, line, screen, terminal):
    watch = watching(clock, line)
    os.write(terminal.keyboard, b"\x04")
    assert select.select([terminal.stdin], [], [], 60)[0]
    watch.called([terminal.stdin.fileno()], asked=False)
    assert screen.getvalue() == b""
    assert watch.waits_for() == ((), FIRST_AFTER)


@pytest.mark.parametrize("ours", [False, True])
def test_reading_that_fails(clock, line, monkeypatch, terminal, ours):
    """With EIO: we are in the background by now, or the terminal has gone."""
    watch = watching(clock, line)
    fd = terminal.stdin.fileno()
    answers = [True, ours, True]
    monkeypatch.setattr(module, "_may_read", lambda: answers.pop(0))

    def fail(descriptor, count):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", fail)
        watch.called([fd], asked=False)
    assert watch.waits_for()[0] == (() if ours else (fd,))


def test_a_terminal_that_is_not_ours_is_not_read(clock, line, screen, monkeypatch, terminal):
    watch = watching(clock, line)
    monkeypatch.setattr(module, "_may_read", lambda: False)
    assert watch.waits_for() == ((), FIRST_AFTER)
    watch.called([terminal.stdin.fileno()], asked=False)  # it changed in this moment
    assert screen.getvalue() == b""


def test_a_report_waits_for_the_end_of_a_line(clock, line, screen, terminal):
    watch = watching(clock, line)
    line.step_aside()
    watch.called([], asked=True)
    assert screen.getvalue() == b""
    assert watch.waits_for() == ((), ASK_AGAIN_AFTER)
    line.step_back(at_once=True)
    watch.called([], asked=False)
    assert screen.getvalue().startswith(b"fleet: 0/2 done")
    assert watch.waits_for()[1] == FIRST_AFTER


def test_nobody_has_to_be_able_to_press_enter(clock, line, terminal):
    assert watching(clock, line, enter=False).waits_for() == ((), FIRST_AFTER)


def test_who_reads_our_output_may_want_the_keys(clock, line, terminal):
    reader, writer = os.pipe()
    with open(writer, "wb", buffering=0) as terminal.stdout:
        assert watching(clock, line).waits_for() == ((), FIRST_AFTER)
    os.close(reader)


def test_no_report_to_who_has_gone(clock, terminal):
    reader, writer = os.pipe()
    os.close(reader)
    was, terminal.stderr = terminal.stderr, Standard(writer, "wb")
    watch = watching(clock)
    watch.called([], asked=True)
    assert watch.waits_for() == ((), None), "it is not tried again"
    terminal.stderr.close()
    terminal.stderr = was
    os.close(writer)


def test_signals_are_as_before_in_the_end(clock, line, terminal):
    numbers = (signal.SIGUSR1, signal.SIGTTIN)
    before = [signal.getsignal(number) for number in numbers]
    with watching(clock, line) as watch:
        assert signal.getsignal(signal.SIGTTIN) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGUSR1) not in before
        watch.check()
        watch.over()
        os.kill(os.getpid(), signal.SIGUSR1)
    assert [signal.getsignal(number) for number in numbers] == before
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with watching(clock):
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before[0])
