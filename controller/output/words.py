"""The sentences about results that several sinks share: the summary, sizes, times, why a host is not good.

Pure functions of results; the words of a host (its name, an error text) come out as one harmless line each.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from controller.output.colour import Colour
from controller.results import PingResult, Result, Status
from controller.text import clean_line

__all__ = ["clock_time", "counts", "remarks", "size", "summary", "timestamp", "truncation"]

# Good first, then what ran, what was stopped, what was never reached.
_ORDER = (
    Status.OK,
    Status.CHANGED,
    Status.UNCHANGED,
    Status.FAILED,
    Status.TIMEOUT,
    Status.CANCELLED,
    Status.SKIPPED,
    Status.UNREACHABLE,
    Status.DENIED,
    Status.BROKEN,
)

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def counts(results: Sequence[Result | PingResult]) -> dict[Status, int]:
    """Return how many hosts have each status, in a fixed order, without those that no host has."""
    found = Counter(result.status for result in results)
    return {status: found[status] for status in _ORDER if found[status]}


def summary(results: Sequence[Result | PingResult], elapsed: float, colour: Colour) -> str:
    """Return the last line of a run: ``3 ok, 1 failed of 4 hosts in 0.42s``. `elapsed` is in seconds."""
    parts = [colour.status(status, f"{number} {status}") for status, number in counts(results).items()]
    hosts = "1 host" if len(results) == 1 else f"{len(results)} hosts"
    return f"{', '.join(parts) or 'none'} of {hosts} in {elapsed:.2f}s"


def size(count: int) -> str:
    """Return a number of bytes for people: ``17 B``, ``1.2 GiB``."""
    if count < 1024:
        return f"{count} B"
    value, unit = count / 1024, 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:  # from there on, one decimal would be rounded to 1024.0
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}"


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 in UTC, whole seconds: ``2026-01-01T00:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def clock_time(seconds: float) -> str:
    """Return a duration as a clock shows it: ``0:05``, ``12:00``, ``1:02:03``."""
    whole = min(int(seconds + 0.5), 99 * 3600)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def truncation(kept: int, written: int) -> str:
    """Return the mark that stands where output is missing."""
    return f"[truncated: {size(kept)} of {size(written)}]"


def remarks(result: Result) -> list[str]:
    """Return what a person has to be told of `result` beside its output; nothing of a host that is simply ``ok``."""
    said = []
    if not result.status.good or result.error is not None:
        reason = _reason(result)
        said.append(f"{result.status}: {reason}" if reason else result.status.value)
    if result.truncated:
        said.append(f"output truncated: the command wrote {size(result.stdout_bytes + result.stderr_bytes)}")
    if result.note is not None:
        said.append(f"note: {clean_line(result.note)}")
    return said


def _reason(result: Result) -> str:
    if result.error is not None:
        return clean_line(result.error)
    if result.signal is not None:
        return f"killed by {clean_line(result.signal)}"
    return "" if result.rc is None else f"exit code {result.rc}"
