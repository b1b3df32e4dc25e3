"""`Status`: where a run stands, in one line for who waits, or host by host for who asks. Never part of the results.

Only text is made here, from a run that goes on in other threads; where and when it is shown is decided elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from controller.output.width import display_width, fitted, padded
from controller.output.words import clock_time, counts
from controller.results import PingResult, Result
from controller.tails import Tails
from controller.text import clean_bytes, clean_line
from inventory import fold

__all__ = ["Running", "Status", "report"]

# Folding a thousand regular names takes 2 ms; some hundreds that have no pattern take 50 ms, five times a second.
_MOST_FOLDED = 200
_NARROWEST = 20  # columns for the last line of a host, however long the names are


class Running(Protocol):
    """What is asked of a `Run`, of commands or of pings."""

    @property
    def hosts(self) -> list[str]: ...
    @property
    def running(self) -> dict[str, float]: ...
    @property
    def results(self) -> list[Result] | list[PingResult]: ...
    @property
    def elapsed(self) -> float: ...
    @property
    def cancelled(self) -> bool: ...


class Status:
    """A run in one line: ``7/10 done, 1 failed  0:12  waiting for web[3,7-8]``."""

    def __init__(self, run: Running) -> None:
        self._run = run
        self._folded: tuple[list[str], str] = ([], "")

    def line(self, width: int) -> str:
        """Return the line, cut so that it leaves the last of `width` columns free: a full line makes some terminals
        wrap, and then one is left over at each redrawing."""
        text = f"{_counted(self._run)}  {clock_time(int(self._run.elapsed))}"
        running = self._run.running
        if running:
            text += f"  waiting for {self._fold(list(running))}"
        return fitted(text, max(0, width - 1))

    def _fold(self, hosts: list[str]) -> str:
        before, folded = self._folded
        if hosts != before:
            folded = clean_line(fold(islice(hosts, _MOST_FOLDED)))
            if len(hosts) > _MOST_FOLDED:
                folded += f" and {len(hosts) - _MOST_FOLDED} more"
            self._folded = (hosts, folded)
        return folded


def _counted(run: Running) -> str:
    """Return how many hosts are done, and what became of those that are not good."""
    results = run.results
    bad = [f"{number} {status}" for status, number in counts(results).items() if not status.good]
    text = ", ".join([f"{len(results)}/{len(run.hosts)} done", *bad])
    return f"cancelling: {text}" if run.cancelled else text


def report(run: Running, tails: Tails, width: int, *, clock: Callable[[], float] = time.monotonic) -> str:
    """Return lines of fewer than `width` columns: who runs, for how many seconds, and the last line that each wrote.

    What stands in brackets is ours: ``[connecting]`` before the command was started, ``[no output yet]`` after.
    """
    running = run.running
    now = clock()
    heading = f"fleet: {_counted(run)} after {clock_time(int(run.elapsed))}, {len(running) or 'nothing'} running"
    names = [clean_line(host) for host in running]
    times = [f"{now - began:.1f}s" for began in running.values()]
    longest, slowest = max(map(display_width, names), default=0), max(map(len, times), default=0)
    lines = [fitted(heading, max(_NARROWEST, width - 1))]
    for host, name, spent in zip(running, names, times, strict=True):
        lead = f"  {padded(name, longest)}  {spent.rjust(slowest)}  "
        lines.append(lead + fitted(_said(tails.last_line(host)), max(_NARROWEST, width - 1 - display_width(lead))))
    return "".join(f"{line}\n" for line in lines)


def _said(line: bytes | None) -> str:
    if line is None:
        return "[connecting]"
    if not line:
        return "[no output yet]"
    return clean_line(clean_bytes(line).decode().strip().expandtabs())
