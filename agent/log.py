"""The agent's log: one line an event, on stderr, by the standard library's logging.

A log must never stop the work. When whoever reads stderr has stopped reading (a forgotten pipe), a line that would
block is dropped and counted, and the count is told as soon as there is room again. Text from others (commands, names) goes
through `quote`, so that an event stays one line and cannot move a terminal.
"""

from __future__ import annotations

import logging
import os
import select

__all__ = ["log", "quote", "set_up"]

log = logging.getLogger("fleet-agent")

_LONGEST_QUOTE = 200  # characters of somebody's text in one line
# A pipe that polls as writable takes this much at once without blocking (PIPE_BUF, pipe(7)).
_LONGEST_LINE = 4096


class _Handler(logging.Handler):
    """Writes whole lines to a descriptor, or drops them."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        text = f"fleet-agent: {record.getMessage()}".encode("utf-8", "backslashreplace")
        line = text[: _LONGEST_LINE - 1] + b"\n"
        if self._dropped and self._write(f"fleet-agent: {self._dropped} log lines were dropped\n".encode()):
            self._dropped = 0
        if self._dropped or not self._write(line):
            self._dropped += 1

    def _write(self, line: bytes) -> bool:
        try:
            return bool(self._poll.poll(0)) and os.write(self._fd, line) == len(line)
        except OSError:  # nobody reads any more, or the disk is full: there is nowhere left to say so
            return False


def set_up(fd: int = 2) -> None:
    """Send the agent's log to descriptor `fd`. Calling it again replaces the place."""
    log.handlers = [_Handler(fd)]
    log.propagate = False
    log.setLevel(logging.DEBUG if os.environ.get("FLEET_DEBUG") == "1" else logging.INFO)
    # A record costs less without what nobody prints.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def quote(text: str) -> str:
    """Show text of others: quoted, in one line, of bounded length."""
    shown = ascii(text)
    return shown if len(shown) <= _LONGEST_QUOTE else shown[:_LONGEST_QUOTE] + f"… ({len(text)} characters)"
