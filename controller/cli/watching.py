"""What a person sees of a run while it goes on, and asks of it: the status line, Enter, and SIGUSR1.

Everything happens in the one thread that watches standard output anyway. Without a terminal there is SIGUSR1 alone,
and what writes the report is loaded when somebody asks.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from controller.stdout_watch import StdoutWatch

if TYPE_CHECKING:
    from types import FrameType

    from controller.cancel import CancelToken
    from controller.output import Writer
    from controller.output.line import StatusLine
    from controller.output.status import Running, Status
    from controller.results import Result
    from controller.runs import Run
    from controller.tails import Tails

__all__ = ["Watching", "shown_while"]

FIRST_AFTER = 0.5  # seconds before the first drawing: a quick run shows its results and nothing else
REDRAW_AFTER = 0.2  # seconds between two drawings, and between two looks at whether the terminal is ours
ASK_AGAIN_AFTER = 0.05  # seconds after which a report is tried again that would have landed inside a line of output
_WIDTH_OF_A_LOG = 200  # columns of a report that goes to no terminal


class Watching:
    """While in the `with` block, whoever looks on is told where `run` stands. Also what `StdoutWatch` is.

    `line` is None when none can be shown. With `enter`, a line from the terminal asks for a report; not when somebody
    else reads from it.
    """

    def __init__(
        self,
        run: Run[Result],
        tails: Tails,
        token: CancelToken,
        line: StatusLine | None,
        *,
        enter: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._tails = tails
        self._line = line
        self._stdin = _terminal_input() if enter else None
        self._clock = clock
        self._due = clock() + FIRST_AFTER
        self._asked = False
        self._over = False
        self._status: Status | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._watch = StdoutWatch(sys.stdout.fileno(), token, self)

    def __enter__(self) -> Watching:
        self._handle(signal.SIGUSR1, self._ask)
        if self._stdin is not None:
            # Reading in a shell's background would stop us; ignored, it fails with EIO (termios(3), tty_ioctl(4)).
            self._handle(signal.SIGTTIN, signal.SIG_IGN)
        self._watch.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close()
        self._watch.__exit__(*exc_info)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise BrokenPipeError once the reader of standard output has gone."""
        self._watch.check()

    def over(self) -> None:
        """Make room for the results: from now on nothing is shown any more. Raises as `check`."""
        self._close()
        self.check()

    def abandon(self) -> None:
        """Take the line away in a signal handler that ends the process."""
        if self._line is not None:
            self._line.abandon(sys.stderr.fileno())

    def waits_for(self) -> tuple[Collection[int], float | None]:
        """Return what the thread that watches is to wait for, and how many seconds at most."""
        if self._over:
            return (), None
        if self._asked:
            return (), ASK_AGAIN_AFTER
        wait = max(self._due - self._clock(), REDRAW_AFTER)
        if self._stdin is None:
            return (), (None if self._line is None else wait)
        return ((self._stdin,) if _may_read() else ()), wait

    def called(self, ready: Collection[int], *, asked: bool) -> None:
        """Show the line, or a report when somebody asked for one."""
        if ready and _may_read():
            asked = self._read() or asked
        self._asked = self._asked or asked
        if self._over:
            return
        if self._asked:
            self._asked = not self._report()
        elif self._line is not None and self._clock() >= self._due:
            from controller.output.line import terminal_width

            self._line.draw(self._made_status().line(terminal_width(sys.stderr.buffer)))

    def _made_status(self) -> Status:
        if self._status is None:
            from controller.output.status import Status

            self._status = Status(self._run)
        return self._status

    def _report(self) -> bool:
        from controller.output import OutputError, Writer
        from controller.output.status import report

        err = Writer(sys.stderr.buffer, name="standard error")
        text = report(self._run, self._tails, err.width or _WIDTH_OF_A_LOG)
        if self._line is not None:
            return self._line.say(text)
        try:
            err.line(text.removesuffix("\n"))
        except (BrokenPipeError, OutputError):
            pass  # who asked does not look any more
        return True

    def _read(self) -> bool:
        """Read a line from the terminal, and return whether there was one."""
        assert self._stdin is not None
        try:
            if os.read(self._stdin, 4096):
                return True
        except OSError:  # EIO
            if not _may_read():
                return False  # we went to the background in this moment
        self._stdin = None  # Ctrl-D, or the terminal has gone
        return False

    def _close(self) -> None:
        self._over = True
        if self._line is not None:
            self._line.close()

    def _handle(self, number: signal.Signals, handler: Any) -> None:
        if signal.getsignal(number) is not signal.SIG_IGN:
            self._before[number] = signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self._over:
            self._watch.ask()


def shown_while(run: Running, err: Writer) -> AbstractContextManager[object]:
    """Return what shows the line alone while in its `with` block: for what writes nothing before the end."""
    if not err.terminal or os.environ.get("TERM") == "dumb":
        return nullcontext()
    from controller.output.line import terminal_is_ours, terminal_width
    from controller.output.progress import Display
    from controller.output.status import Status

    stream = sys.stderr.buffer
    width, ours = partial(terminal_width, stream), partial(terminal_is_ours, stream)
    return Display(Status(run), err, redraw=True, width=width, ours=ours)


def _terminal_input() -> int | None:
    """Return the descriptor of the terminal that somebody may press Enter on; None when there is none.

    Who reads our output in a pipe may be a pager, which is waiting for keys of its own; and without a terminal to
    answer on, nobody expects an answer.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        return None
    return sys.stdin.fileno()


def _may_read() -> bool:
    """Whether reading from the terminal would take what is meant for us: at most an empty line.

    More than that is what somebody types ahead, for the shell.
    """
    import fcntl
    import termios

    from controller.output.line import terminal_is_ours

    if not terminal_is_ours(sys.stdin.buffer):
        return False
    try:
        typed = fcntl.ioctl(sys.stdin.fileno(), termios.FIONREAD, b"\0\0\0\0")
    except OSError:  # it has gone, which is seen by reading
        return True
    return int.from_bytes(typed, sys.byteorder) <= 1
