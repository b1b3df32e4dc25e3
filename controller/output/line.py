r"""`StatusLine`: one line at the foot of a terminal, redrawn in place, that never mixes with what else is written.

What it says is not its business. The rule: whoever writes to that terminal while the line may be there writes through
a `Beside`, which takes the line away first and puts it back when whole lines have been passed on.
"""

from __future__ import annotations

import os
import termios
import threading
import time
from collections.abc import Callable
from typing import BinaryIO

from controller.output.colour import Colour
from controller.output.writer import OutputError, Writer

__all__ = ["ERASE", "Beside", "StatusLine", "terminal_is_ours", "terminal_width"]

ERASE = b"\r\x1b[K"  # to the start of the line, and erase to its end (ECMA-48, EL)
_WIDTH = 80  # columns of a terminal that does not say
_LEAVING = 0.2  # seconds that leaving at once may wait for a drawing to be through
_QUIET = 0.1  # seconds that the reader of a pipe has to write what it was given to the same terminal


def terminal_width(stream: BinaryIO) -> int:
    """Return how many columns the terminal behind `stream` has, asked anew each time: windows change."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        return _WIDTH


def terminal_is_ours(stream: BinaryIO) -> bool:
    """Whether the terminal behind `stream` is for us to draw on and to read from, asked anew each time.

    It is not while we are in a shell's background, where the line would land in what the user is typing, nor while a
    pager that reads our output has it in its own hands (no lines are put together then: `stty -icanon`).
    """
    try:
        descriptor = stream.fileno()
        if not termios.tcgetattr(descriptor)[3] & termios.ICANON:
            return False
    except (OSError, ValueError, termios.error):
        return True  # no terminal: nobody else draws there
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:  # ENOTTY: it does not control our session, and so has no background
        return True


class StatusLine:
    """The line on the terminal behind `err`. May be called from any thread, and never raises for a terminal that is
    gone: what is drawn here is for whoever looks, and nobody does any more."""

    def __init__(
        self,
        err: Writer,
        *,
        ours: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ours` says whether the terminal may be drawn on at the moment; `clock` is in seconds."""
        self._err = err
        self._ours = ours
        self._clock = clock
        self._not_before = clock()
        self._lock = threading.Lock()
        self._drawn = b""  # what is on the screen, or will be again when the output beside it is through
        self._aside = False
        self.gone = False  # whether the terminal is

    @property
    def shown(self) -> bool:
        """Whether there is a line on the screen."""
        return bool(self._drawn) and not self._aside

    def draw(self, text: str) -> None:
        """Show `text`, which fits into the terminal, in place of what is there."""
        ours = self._ours()
        with self._lock:
            if self.gone or self._aside or self._clock() < self._not_before:
                return  # it is in the middle of a line of output, or may be
            self._drawn = ERASE + text.encode("utf-8", "backslashreplace") if ours else b""
            self._put(self._drawn)

    def erase(self) -> None:
        """Take the line away for good, or until it is drawn anew."""
        with self._lock:
            if self._drawn and not self._aside:
                self._put(ERASE)
            self._drawn = b""

    def close(self) -> None:
        """Take the line away for ever: what is written from now on is alone on the screen."""
        with self._lock:
            if self._drawn and not self._aside:
                self._put(ERASE)
            self._drawn = b""
            self.gone = True

    def abandon(self, descriptor: int) -> None:
        """Take the line off the terminal `descriptor` in a signal handler that ends the process.

        A thread that draws at this moment is waited for, but not for long: the lock may be held by what the signal has
        interrupted.
        """
        self.gone = True  # nothing is drawn from now on
        mine = self._lock.acquire(timeout=_LEAVING)
        if self.shown:
            os.write(descriptor, ERASE)
        if mine:
            self._lock.release()

    def say(self, text: str) -> bool:
        """Write whole lines above the line. Returns False, and writes nothing, in the middle of other output."""
        with self._lock:
            if self._aside:
                return False
            lead = ERASE if self._drawn else b""
            self._put(lead + text.encode("utf-8", "backslashreplace") + self._drawn)
            return True

    def step_aside(self) -> None:
        """Make room for output. Nothing is drawn until `step_back`."""
        with self._lock:
            if not self._aside:
                self._aside = True
                if self._drawn:
                    self._put(ERASE)

    def step_back(self, *, at_once: bool) -> None:
        """Show the line again: all output so far was whole lines, and has been passed on. If it may not be on the
        screen yet, that is left to the next drawing."""
        with self._lock:
            if not self._aside:
                return
            self._aside = False
            if at_once:
                self._put(self._drawn)
            else:
                self._drawn = b""
                self._not_before = self._clock() + _QUIET

    def _put(self, data: bytes) -> None:
        if self.gone or not data:
            return
        try:
            self._err.write(data)
            self._err.flush()
        except (BrokenPipeError, OutputError):
            self.gone = True


class Beside(Writer):
    """A `Writer` of whole lines, whose writes are followed by a flush, to a terminal with a status line.

    Or to a pipe: most likely, what reads it (tee, grep) writes to the same terminal, and does so at once.
    """

    def __init__(self, stream: BinaryIO, line: StatusLine, *, name: str, colour: Colour) -> None:
        super().__init__(stream, name=name, colour=colour)
        self._line = line

    def write(self, data: bytes | memoryview) -> None:
        """Take the line away, and write."""
        if data:
            self._line.step_aside()
            super().write(data)

    def flush(self) -> None:
        """Pass on what was written, and show the line again."""
        super().flush()
        self._line.step_back(at_once=self.terminal)
