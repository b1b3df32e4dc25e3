"""Progress: what the line says, and how it is drawn, with a clock and a waiter that tests own."""

from __future__ import annotations

import io
import os
import pty
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.output.line import terminal_width
from controller.output.progress import PLAIN_AFTER, REDRAW_AFTER, Display, Progress
from controller.output.writer import Writer

MIB = 1 << 20
PATIENCE = 30.0  # seconds; reached only by a test that fails


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# The line -------------------------------------------------------------------------------------------------------------


def test_one_host_with_a_bar(clock: Clock) -> None:
    progress = Progress(1, clock=clock)
    meter = progress.start("web1")
    meter.total, meter.complete, meter.files = 10 * MIB, True, 1
    assert progress.line() == "web1  [>                   ]   0%  0 B of 10.0 MiB  0 B/s"
    clock.now += 2
    meter.moved = meter.done = 4 * MIB
    assert progress.line() == "web1  [========>           ]  40%  4.0 MiB of 10.0 MiB  2.0 MiB/s  0:03 left"
    clock.now += 2
    meter.moved = meter.done = 10 * MIB
    assert progress.line() == "web1  [====================] 100%  10.0 MiB of 10.0 MiB  2.5 MiB/s  0:00 left"[:79]


def test_one_host_whose_list_is_not_complete(clock: Clock) -> None:
    progress = Progress(1, clock=clock)
    meter = progress.start("web1")
    meter.total, meter.done, meter.moved, meter.files = 10 * MIB, 4 * MIB, 4 * MIB, 17
    clock.now += 2
    assert progress.line() == "web1  4.0 MiB  2.0 MiB/s  17 files"


def test_what_did_not_have_to_move_counts_as_done_and_not_for_the_rate(clock: Clock) -> None:
    progress = Progress(1, clock=clock)
    meter = progress.start("web1")
    meter.total, meter.complete = 100 * MIB, True
    meter.done, meter.moved = 52 * MIB, 2 * MIB
    clock.now += 1
    assert progress.line(120).endswith("52%  52.0 MiB of 100.0 MiB  2.0 MiB/s  0:24 left")


def test_the_rate_is_that_of_the_last_seconds(clock: Clock) -> None:
    progress = Progress(1, clock=clock)
    meter = progress.start("web1")
    for _ in range(20):
        clock.now += 1
        meter.moved += MIB
        line = progress.line()
    assert "1.0 MiB/s" in line
    for _ in range(6):
        clock.now += 1
        line = progress.line()
    assert "  0 B/s" in line, "a transfer that stands still"


def test_long_times(clock: Clock) -> None:
    progress = Progress(1, clock=clock)
    meter = progress.start("web1")
    meter.total, meter.complete = 3723 * MIB, True
    clock.now += 1
    meter.moved = MIB
    assert progress.line(120).endswith("1:02:03 left")
    meter.total = 1 << 60
    assert progress.line(120).endswith("99:00:00 left")


def test_many_hosts(clock: Clock) -> None:
    progress = Progress(3, clock=clock)
    assert progress.line() == "0/3 hosts  0 B  0 B/s"
    fast, slow = progress.start("web1"), progress.start("web2")
    clock.now += 4
    fast.moved, slow.moved = 6 * MIB, 2 * MIB
    assert progress.line() == "0/3 hosts  8.0 MiB  2.0 MiB/s  slowest: web2"
    slow.total, slow.done, slow.complete = 8 * MIB, 2 * MIB, True
    assert progress.line() == "0/3 hosts  8.0 MiB  2.0 MiB/s  slowest: web2 (25%)"
    progress.end("web2")
    assert progress.line() == "1/3 hosts  8.0 MiB  2.0 MiB/s  slowest: web1"
    progress.end("web1")
    progress.end("web3")  # was never started
    assert progress.line() == "3/3 hosts  8.0 MiB  2.0 MiB/s"


def test_a_host_that_has_just_begun_is_not_the_slowest(clock: Clock) -> None:
    progress = Progress(2, clock=clock)
    progress.start("web1").moved = MIB
    clock.now += 1
    progress.start("web2")
    assert progress.line().endswith("slowest: web1")


def test_a_line_is_shorter_than_the_terminal_is_wide(clock: Clock) -> None:
    progress = Progress(1, clock=clock)
    progress.start("w" * 100)
    assert progress.line(40) == "w" * 39
    assert progress.line(0) == ""


def test_names_that_would_move_the_terminal(clock: Clock) -> None:
    progress = Progress(2, clock=clock)
    progress.start("web\x1b[2J")
    assert "slowest: web\\x1b[2J" in progress.line()


# Drawing --------------------------------------------------------------------------------------------------------------


class Waits:
    """Lets the drawing thread go on so many times, doing something each time, and then stops it."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        self._steps = list(steps)
        self.seconds: list[float] = []
        self.over = threading.Event()

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        if self._steps:
            self._steps.pop(0)()
            return False
        self.over.set()
        return True


def draw(err: Writer, waits: Waits, progress: Progress, *, redraw: bool, width: int = 40) -> None:
    with Display(progress, err, redraw=redraw, width=lambda: width, wait=waits):
        assert waits.over.wait(PATIENCE)


def test_on_a_terminal_one_line_is_redrawn_and_gone_at_the_end(clock: Clock) -> None:
    progress = Progress(2, clock=clock)
    stream = io.BytesIO()
    waits = Waits(lambda: None, lambda: progress.end("web1"))
    draw(Writer(stream, terminal=True), waits, progress, redraw=True)
    assert stream.getvalue() == b"\r\x1b[K0/2 hosts  0 B  0 B/s\r\x1b[K1/2 hosts  0 B  0 B/s\r\x1b[K"
    assert waits.seconds == [REDRAW_AFTER] * 3


def test_a_short_transfer_draws_nothing(clock: Clock) -> None:
    stream = io.BytesIO()
    draw(Writer(stream, terminal=True), Waits(), Progress(1, clock=clock), redraw=True)
    assert stream.getvalue() == b""


def test_elsewhere_a_plain_line_now_and_then(clock: Clock) -> None:
    stream = io.BytesIO()
    waits = Waits(lambda: None, lambda: None)
    draw(Writer(stream), waits, Progress(1, clock=clock), redraw=False)
    assert stream.getvalue() == b"0/1 hosts  0 B  0 B/s\n" * 2
    assert waits.seconds == [PLAIN_AFTER] * 3
    assert PLAIN_AFTER == 10.0


class Gone(io.BytesIO):
    def write(self, data: object) -> int:
        raise BrokenPipeError


class Full(io.BytesIO):
    def write(self, data: object) -> int:
        raise OSError(28, "no space")


@pytest.mark.parametrize("stream", [Gone(), Full()])
@pytest.mark.parametrize("redraw", [True, False])
def test_nobody_looks_any_more(stream: io.BytesIO, redraw: bool, clock: Clock) -> None:
    with Display(Progress(1, clock=clock), Writer(stream), redraw=redraw, wait=lambda seconds: False):
        pass  # leaving waits for the thread, which has ended by itself


def test_a_display_ends_at_once_when_the_work_is_done() -> None:
    stream = io.BytesIO()
    with Display(Progress(1), Writer(stream), redraw=False):
        pass
    assert stream.getvalue() == b""


def test_the_width_of_a_terminal(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        assert terminal_width(file) == 80
    assert terminal_width(io.BytesIO()) == 80
    controller, terminal = pty.openpty()
    try:
        with open(terminal, "wb", closefd=False) as stream:
            assert terminal_width(stream) == 80  # one that says 0
            import fcntl
            import struct
            import termios

            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 132, 0, 0))
            assert terminal_width(stream) == 132
    finally:
        os.close(controller)
        os.close(terminal)
