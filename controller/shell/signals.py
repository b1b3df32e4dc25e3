"""The signals that end the wait for a line: none of them is lost, whatever readline(3) does at that moment.

A handler in Python runs when the main thread has a look. Inside input() that is when select(2) fails with EINTR, which
it does not for a signal that came just before the call; and what a handler raises inside of a completer is dropped. So
a thread hears of each signal as well, and sends it again for as long as the wait goes on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["SignalledError", "Signals"]

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_PAUSE = 0.05  # seconds until a signal is sent again; somebody waits for it
_OVER = 0  # no signal has this number


class SignalledError(Exception):
    """A signal that ends the prompt came while it waited. `number` is which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """While in the block, SIGTERM and SIGHUP raise SignalledError, and SIGINT KeyboardInterrupt. For the main thread.

    They are raised in `wait`, or at the end of the block. Who died of them would leave the terminal as readline has it.
    Those that are ignored stay so, as after nohup(1).
    """

    def __init__(self) -> None:
        self._heard: int | None = None
        self._over = threading.Event()
        self._before: dict[int, Any] = {}
        self._other_wake = -1
        self._reader = self._writer = -1
        self._thread = threading.Thread(target=self._repeat, args=[threading.get_ident()], name="signals", daemon=True)

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, *_ENDING):  # that of Python raises, so it is the first to go
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._writer, False)  # as set_wakeup_fd wants it
        self._other_wake = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        signal.set_wakeup_fd(self._other_wake)
        self._over.set()
        os.write(self._writer, bytes([_OVER]))
        self._thread.join()  # nothing is sent again after that
        os.close(self._reader)
        os.close(self._writer)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._heard is not None:
            error = self._error(self._heard)
            if kind is not type(error):
                raise error

    def wait(self, read: Callable[..., str], *arguments: str) -> str:
        """Return what `read` returns, a function that is not written in Python."""
        if self._heard is not None:  # before the thread was there
            raise self._error(self._heard)
        return read(*arguments)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._heard not in _ENDING:
            self._heard = number
        # Not in a completer, which drops what is raised in it, and not while the block is being left.
        if frame is not None and frame.f_code is Signals.wait.__code__:
            raise self._error(self._heard)

    def _error(self, number: int) -> BaseException:
        return KeyboardInterrupt() if number == signal.SIGINT else SignalledError(number)

    def _repeat(self, waiting: int) -> None:
        """Send the thread that waits again what it was sent, until it has left the block."""
        number = _OVER
        while number not in self._before:  # there are others, SIGCHLD say
            number = os.read(self._reader, 1)[0]
            if number == _OVER:
                return
        while not self._over.wait(_PAUSE):
            signal.pthread_kill(waiting, number)
