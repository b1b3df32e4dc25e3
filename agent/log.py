"""The agent's log: one line an event, on stderr, by the standard library's logging.

A log must never stop the work. When whoever reads stderr has stopped reading (a forgotten pipe), a line that would
block is dropped and counted, and the count is told as soon as there is room again. Text from others (commands, names)
goes through `quote`, so that an event stays one line and cannot move a terminal.
"""

from __future__ import annotations

import logging
import os
import re
import select
import stat
import threading
import traceback
from collections import Counter

__all__ = ["Refusals", "log", "quote", "set_up", "word"]

log = logging.getLogger("fleet-agent")

_LONGEST_QUOTE = 200  # characters of somebody's text in one line
_REPORT_EVERY = 60.0  # seconds between two lines about refused connections
_MAX_CAUSES = 1000
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")
# A pipe that polls as writable takes this much at once without blocking (PIPE_BUF, pipe(7)).
_LONGEST_LINE = 4096


class _Handler(logging.Handler):
    """Writes whole lines to a descriptor, or drops them."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._is_file = _is_file(fd)  # which never has anybody wait
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        line = _one_line(f"fleet-agent: {record.getMessage()}{_cause(record)}")
        if self._dropped and self._write(f"fleet-agent: {self._dropped} log lines were dropped\n".encode()):
            self._dropped = 0
        if self._dropped or not self._write(line):
            self._dropped += 1

    def _write(self, line: bytes) -> bool:
        try:
            ready = self._is_file or self._poll.poll(0)
            return bool(ready) and os.write(self._fd, line) == len(line)
        except OSError:  # nobody reads any more, or the disk is full: there is nowhere left to say so
            return False


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:  # whoever started us has closed it
        return False


class Refusals:
    """Connections that were refused, counted by cause: every thread adds, the main thread tells once in a while.

    Whoever causes them shall neither fill the disk nor, with the addresses of a whole IPv6 network, the memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._next_report = 0.0

    def add(self, cause: str) -> None:
        """Count one."""
        with self._lock:
            known = cause in self._counts or len(self._counts) < _MAX_CAUSES
            self._counts[cause if known else "others"] += 1

    def report(self, now: float) -> None:
        """Log what was counted, if it is time for it; `now` is on any clock, in seconds."""
        with self._lock:
            if not self._counts or now < self._next_report:
                return
            self._next_report = now + _REPORT_EVERY
            counts, self._counts = self._counts, Counter()
        # Not `most_common`, which imports a module when it is called: without descriptors that was the agent's end.
        worst = sorted(counts.items(), key=lambda item: -item[1])[:5]
        what = ", ".join(f"{cause} ({count})" for cause, count in worst)
        log.warning("refused %d connections: %s", counts.total(), what)


def set_up(fd: int = 2) -> None:
    """Send the agent's log to descriptor `fd`. Calling it again replaces the place."""
    log.handlers = [_Handler(fd)]
    log.propagate = False
    log.setLevel(logging.DEBUG if os.environ.get("FLEET_DEBUG") == "1" else logging.INFO)
    # A record costs less without what nobody prints (the logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def _cause(record: logging.LogRecord) -> str:
    """Return what an exception that is logged says, and where it was raised."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return ""
    where = traceback.extract_tb(error.__traceback__)[-1:]
    places = "".join(f" ({frame.filename}:{frame.lineno})" for frame in where)
    return f": {type(error).__name__}: {error}{places}"


def _one_line(text: str) -> bytes:
    """Return the line as it is written. What `quote` was forgotten on does not begin a new one either."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text.encode("utf-8", "backslashreplace")[: _LONGEST_LINE - 1] + b"\n"


def quote(text: str) -> str:
    """Show text of others: quoted, in one line, of bounded length."""
    shown = ascii(text)
    return shown if len(shown) <= _LONGEST_QUOTE else shown[:_LONGEST_QUOTE] + f"… ({len(text)} characters)"


def word(text: str) -> str:
    """Show somebody's name for something: as it is if it is one plain word, else quoted."""
    return text if _WORD.fullmatch(text) else quote(text)
