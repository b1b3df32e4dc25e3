"""How far a transfer has come, as one line for a person who waits. Never part of the results.

`Progress` knows what moves and says it in a line; `Display` puts that line on standard error: redrawn in place on a
terminal and gone at the end, or now and then as a line of its own in a log. The threads of the connections count, and
one thread draws, so a slow terminal holds up no connection.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from controller.meter import Meter
from controller.output.line import StatusLine
from controller.output.words import clock_time, size
from controller.output.writer import OutputError, Writer
from controller.text import clean_line

__all__ = ["Display", "Progress", "Says"]

REDRAW_AFTER = 0.2  # seconds between two drawings on a terminal; the first one comes after as long, too
PLAIN_AFTER = 10.0  # seconds between two lines where nothing can be redrawn
_WINDOW = 5.0  # seconds that the rate is measured over: shorter is nervous, longer hides a stall
_BAR = 20  # characters
_WIDTH = 80  # of a terminal that does not say


class Progress:
    """What moves on every host. `hosts` is how many there are in all; `clock` is monotonic, in seconds."""

    def __init__(self, hosts: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._hosts = hosts
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Meter, float]] = {}
        self._ended = 0
        self._moved_by_ended = 0
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def start(self, host: str) -> Meter:
        """Return the meter of a host, from which is read what moves there."""
        meter = Meter()
        with self._lock:
            self._running[host] = (meter, self._clock())
        return meter

    def end(self, host: str) -> None:
        """Note that nothing moves on that host any more, or never did."""
        with self._lock:
            meter, _ = self._running.pop(host, (Meter(), 0.0))
            self._ended += 1
            self._moved_by_ended += meter.moved

    def line(self, width: int = _WIDTH) -> str:
        """Return where things stand, in fewer than `width` characters."""
        now = self._clock()
        with self._lock:
            running = list(self._running.items())
            moved = self._moved_by_ended + sum(meter.moved for _, (meter, _) in running)
            ended = self._ended
        rate = self._rate(now, moved)
        if self._hosts == 1 and running:
            host, (meter, _) = running[0]
            text = _one_host(clean_line(host), meter, rate)
        else:
            text = f"{ended}/{self._hosts} hosts  {size(moved)}  {size(int(rate))}/s"
            if running:
                text += f"  slowest: {_slowest(running, now)}"
        # A full last column would make some terminals wrap, and then a line is left over at each redrawing.
        return text[: max(0, width - 1)]

    def _rate(self, now: float, moved: int) -> float:
        self._seen.append((now, moved))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        return (moved - before) / (now - since) if now > since else 0.0


def _one_host(host: str, meter: Meter, rate: float) -> str:
    """Return a bar when it is known how much there is in all, and else what has come so far."""
    if not meter.complete or not meter.total:
        return f"{host}  {size(meter.done)}  {size(int(rate))}/s  {meter.files} files"
    done = min(meter.done, meter.total)
    filled = _BAR * done // meter.total
    bar = ("=" * filled + ">" * (filled < _BAR)).ljust(_BAR)
    text = f"{host}  [{bar}] {100 * done // meter.total:3}%  {size(done)} of {size(meter.total)}  {size(int(rate))}/s"
    return f"{text}  {clock_time((meter.total - done) / rate)} left" if rate > 0 else text


def _slowest(running: list[tuple[str, tuple[Meter, float]]], now: float) -> str:
    """Return the host that moves least in its time, with the share of it that is done where that is known."""

    def speed(item: tuple[str, tuple[Meter, float]]) -> tuple[float, float]:
        meter, since = item[1]
        return meter.moved / (now - since) if now > since else float("inf"), since

    host, (meter, _) = min(running, key=speed)
    share = f" ({100 * min(meter.done, meter.total) // meter.total}%)" if meter.complete and meter.total else ""
    return clean_line(host) + share


class Says(Protocol):
    """Something that goes on, and can say in a line where it stands."""

    def line(self, width: int) -> str:
        """Return it in fewer than `width` characters."""


class Display:
    """Shows where something stands while in the `with` block.

    On a terminal one line is redrawn in place, and erased at the end; elsewhere lines are written under each other.
    `wait` takes seconds and returns whether to stop: what `threading.Event.wait` does.
    """

    def __init__(
        self,
        progress: Says,
        err: Writer,
        *,
        redraw: bool,
        width: Callable[[], int] = lambda: _WIDTH,
        ours: Callable[[], bool] = lambda: True,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._progress = progress
        self._err = err
        self._redraw = redraw
        self._width = width
        self._over = threading.Event()
        self._wait = wait or self._over.wait
        self._line = StatusLine(err, ours=ours)
        self._thread = threading.Thread(target=self._draw, name="progress", daemon=True)

    def __enter__(self) -> Display:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def _draw(self) -> None:
        try:
            while not (self._line.gone or self._wait(REDRAW_AFTER if self._redraw else PLAIN_AFTER)):
                self._show()
            self._line.erase()
        except (BrokenPipeError, OutputError):
            return  # whoever looked has gone; the results have a stream of their own

    def _show(self) -> None:
        if self._redraw:
            self._line.draw(self._progress.line(self._width()))
        else:
            self._err.line(self._progress.line(_WIDTH * 2))
