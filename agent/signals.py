"""The signals that the agent obeys: SIGTERM and SIGINT stop it, SIGHUP has it read its settings and keys again.

A handler here does no more than set a flag (anything else in a handler has cost others a root shell). Who waits polls
the descriptor, and then looks at the flags.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

__all__ = ["Signals"]


class Signals:
    """Flags set by signals, and a descriptor that wakes who waits for them."""

    def __init__(self) -> None:
        self.stop: int | None = None
        self.reload = False
        self._reader, self._writer = socket.socketpair()
        self._before: dict[int, Any] = {}
        self._before_wakeup = -1

    def __enter__(self) -> Signals:
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        # A flag alone would not end a poll: system calls are taken up again after a handler (PEP 475).
        self._before_wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._before_wakeup)
        self._reader.close()
        self._writer.close()

    def _handle(self, number: int, frame: object) -> None:
        if number == signal.SIGHUP:
            self.reload = True
        else:
            self.stop = self.stop or number

    def fileno(self) -> int:
        """Return the descriptor that is readable after a signal."""
        return self._reader.fileno()

    def drain(self) -> None:
        """Forget the wake-ups so far."""
        try:
            while self._reader.recv(4096):
                pass
        except BlockingIOError:
            pass

    def raise_again(self) -> None:
        """End the process by the signal that stopped it."""
        if self.stop is not None:
            signal.signal(self.stop, signal.SIG_DFL)
            os.kill(os.getpid(), self.stop)
