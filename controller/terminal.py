"""The terminal that fleet was started on: raw while a host's is shown on it, and as it was whatever happens.

Signals only put a byte into a pipe, which the conversation polls beside the keys; what they mean is done by the
thread that holds it. So there is one thread that ever sets modes, but for the last one out. No network in here.
"""

from __future__ import annotations

import os
import select
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from controller.screen import Screen

__all__ = ["LocalTerminal", "LostTerminalError"]

# SIGTSTP and SIGCONT are sent by others: Ctrl-Z is a key like all others, and means the command on the host.
_SIGNALS = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
_READ_SIZE = 16 * 1024
# Written at once, in bytes. A terminal that says it has room has at least so much, and does not block us.
_WRITE_SIZE = 1024


class LostTerminalError(Exception):
    """What comes from the host cannot be shown. `error` is what the system said."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error

    def __str__(self) -> str:
        return self.error.strerror or str(self.error)


class LocalTerminal:
    """Standard input, which has to be a terminal, and standard output, which may be anything.

    Enter it in the main thread, which alone may set signal handlers; `fileno()` is readable when `heed` has something
    to do. The rest is for the one thread that holds the conversation.
    """

    def __init__(self, stdin: int = 0, stdout: int = 1, stderr: int = 2) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self._stderr = stderr
        self._before: list[Any] = termios.tcgetattr(stdin)
        self._raw = False
        self._at_start_of_line = True
        self._screen = Screen()
        self._handlers: dict[signal.Signals, Any] = {}
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._other_wake = -1

    def __enter__(self) -> LocalTerminal:
        # By the interpreter's own handler, at once. One in Python runs when the main thread next has a look, which may
        # be after a wait that it had just begun.
        self._other_wake = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in _SIGNALS:
            # A shell without job control has SIGTSTP ignored: leave that as it is.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, _unheard)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._other_wake)
        self._restore()
        os.close(self._woken)
        os.close(self._wake)

    def fileno(self) -> int:
        """Return the descriptor that is readable after a signal."""
        return self._woken

    @property
    def kind(self) -> str:
        """Return what programs have to know of it (TERM)."""
        return os.environ.get("TERM") or "dumb"

    @property
    def size(self) -> tuple[int, int]:
        """Return rows and columns, 0 for what is not known."""
        try:
            columns, rows = os.get_terminal_size(self.stdin)
        except OSError:  # it has hung up
            return 0, 0
        return rows, columns

    @contextmanager
    def raw(self) -> Iterator[None]:
        """Let every key through, and all output as it is, while in the `with` block."""
        self._make_raw()
        try:
            yield
        finally:
            self._restore()

    def heed(self) -> None:
        """Do what signals ask for: stop and go on with the terminal in order. A new size is for the caller to see."""
        try:
            numbers = os.read(self._woken, 4096)
        except BlockingIOError:
            return
        if numbers.rfind(signal.SIGTSTP) > numbers.rfind(signal.SIGCONT):
            self._restore()
            signal.raise_signal(signal.SIGSTOP)  # to this thread, so that it does not get beyond this line
            self._make_raw()
        elif signal.SIGCONT in numbers:  # after a SIGSTOP, which nobody can prepare for
            self._make_raw()

    def read(self) -> bytes | None:
        """Return keys that were typed, b"" when the terminal has hung up, None when there are none yet."""
        try:
            return os.read(self.stdin, _READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def write(self, data: bytes | bytearray) -> int:
        """Show the start of `data`; return how much, 0 when there is no room now. Raises LostTerminalError."""
        poller = select.poll()
        poller.register(self.stdout, select.POLLOUT)
        if not poller.poll(0):
            return 0
        try:
            count = os.write(self.stdout, data[:_WRITE_SIZE])
        except BlockingIOError:
            return 0
        except OSError as error:
            raise LostTerminalError(error) from error
        self._at_start_of_line = data[count - 1 : count] == b"\n"
        self._screen.see(bytes(data[:count]))
        return count

    def say(self, text: str) -> None:
        """Show lines of our own, in raw mode, on standard error."""
        self._put(text.replace("\n", "\r\n"))

    def start_line(self) -> None:
        """See to it that a message of ours does not begin behind the host's last words."""
        if not self._at_start_of_line and os.isatty(self.stdout):
            self._put("\n")

    def put_back(self) -> None:
        """Switch off what programs on the host had switched on, and cannot switch off any more."""
        if os.isatty(self.stdout):
            self._put(self._screen.undo().decode("ascii"))

    def _put(self, text: str) -> None:
        try:
            os.write(self._stderr, text.encode())
        except OSError:  # whoever cannot see it misses nothing that counts
            pass

    def _make_raw(self) -> None:
        """Change the modes as cfmakeraw(3) does, from what they were at first."""
        if not self._in_foreground():
            self._raw = False  # it is somebody else's now; to read from it will stop us until it is ours again
            return
        modes = list(self._before)
        modes[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP)
        modes[0] &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
        modes[1] &= ~termios.OPOST
        modes[2] = modes[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        modes[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        modes[6] = list(modes[6])
        modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
        self._raw = True
        self._set(modes)

    def _restore(self) -> None:
        if self._raw:
            self._set(self._before)
            self._raw = False

    def _set(self, modes: list[Any]) -> None:
        try:
            termios.tcsetattr(self.stdin, termios.TCSADRAIN, modes)
        except termios.error:  # it has hung up: there are no modes any more
            pass

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self.stdin) == os.getpgrp()
        except OSError:  # not the one that controls us: then nobody's foreground is in the way
            return True


def _unheard(number: int, frame: FrameType | None) -> None:
    """Do nothing: what is to be done is told by the byte in the pipe."""
