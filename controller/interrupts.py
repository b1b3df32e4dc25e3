"""Ctrl-C once: cancel and report. Twice: leave at once. SIGTERM and SIGHUP: as Ctrl-C once.

Leaving at once is safe for the hosts: the connections are gone with this process, and agents kill what they ran for it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from controller.cancel import CancelToken

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While in the `with` block, signals cancel `token`. `received` is the first one, None if there was none.

    Without `hurry` a second Ctrl-C changes nothing: for who has something to clear away on this machine. `again` is
    what it does instead of leaving. `last` is called when it does leave at once, in the signal handler.
    """

    def __init__(
        self,
        token: CancelToken,
        *,
        hurry: bool = True,
        again: Callable[[], object] | None = None,
        last: Callable[[], object] = lambda: None,
    ) -> None:
        self._token = token
        self._hurry = hurry
        self._again = again
        self._last = last
        self._before: dict[signal.Signals, Any] = {}
        self.received: int | None = None

    def __enter__(self) -> Interrupts:
        for number in _SIGNALS:
            # nohup(1) sets SIGHUP to be ignored, a shell SIGINT for what runs in its background: leave that as it is.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int | None:
        """Return 128 + the signal, as shells report it, or None."""
        return None if self.received is None else 128 + self.received

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            if self._again is not None:
                self._again()
            elif self._hurry:
                self._leave(number)
        self.received = self.received or number
        self._token.set()

    def _leave(self, number: int) -> None:
        try:
            self._last()
        finally:
            os._exit(128 + number)
