"""A bounded pool: the same work on many targets, at most `width` at once, one thread for each open connection.

Results come in the order in which they finish. Knows nothing of hosts, commands or how results look.
"""

from __future__ import annotations

import queue
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from agent.wire.record import record
from controller.cancel import CancelToken
from controller.errors import FleetError

__all__ = ["Pace", "fan_out", "fit_to_limits"]

_Target = TypeVar("_Target")
_Result = TypeVar("_Result")

# Descriptors that are not connections: the standard streams, the key, name lookups, files being written.
_SPARE_DESCRIPTORS = 40
# Address space for each thread; the default of 8 MiB is more than a machine gives to 2,000 connections. Far less is not
# enough: Python counts on some 2 MiB before it calls a hostile agent's deeply nested JSON too deep.
_STACK_SIZE = 4 * 1024 * 1024
# See `Pace`: threads at first; seconds between two looks; the share of one processor that is much, and how much the
# last look counts in it; seconds without a result after which others get their turn.
_FIRST = 8
_GLANCE = 0.01
_BUSY = 0.4
_SMOOTHING = 0.5
_STANDSTILL = 0.1
# Seconds in which results are collected while others wait for their turn: each time somebody is woken for one, a thread
# that works must give way.
_GATHER = 0.01
_HEARTBEAT = 0.25  # seconds between two looks when there is nothing to decide


@record
class _Crash:
    """An exception out of the work, to be raised by who waits for the result."""

    error: BaseException


def fit_to_limits(width: int, *, each: int = 1) -> int:
    """Return the width that this process may have: each of that many connections takes `each` descriptors.

    Raises the soft limit (RLIMIT_NOFILE, getrlimit(2)) as far as needed and allowed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = width * each + _SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return width
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(width, (soft - _SPARE_DESCRIPTORS) // each))


def fan_out(
    targets: Sequence[_Target],
    work: Callable[[_Target], _Result],
    *,
    width: int,
    cancel: CancelToken,
    skipped: Callable[[_Target], _Result],
) -> Iterator[_Result]:
    """Yield `work(target)` for each target as it finishes.

    Once `cancel` is set, no work is begun any more: `skipped` makes the result of what had not begun. An exception out
    of `work` is a bug: everything is cancelled and it is raised here. Leaving the iteration early cancels too.
    """
    pool = _Pool(targets, work, cancel, skipped)
    pace = Pace(min(width, len(targets)))
    try:
        pool.start(pace.threads)
        for _ in targets:
            while (result := pool.next_result(pace.patience)) is None:
                pool.start(pace.more(finished=False))
            pool.start(pace.more(finished=True))
            if isinstance(result, _Crash):
                raise result.error
            yield result
            pool.gather()
    except BaseException:
        cancel.set()
        raise
    finally:
        pool.join()


class Pace:
    """How many threads to have, of at most `width`: all of them where hosts are waited for, few where we are.

    Logins from many hosts at once cost this machine a fifth more than a few at a time (what they work on fits into no
    cache), so there is nothing to win by more of them while one processor is busy for us most of the time. A host that
    is waited for, or that writes without end, must not keep others from their turn: with no result for a moment there
    are more threads in any case. `clock` and `processor` give seconds.
    """

    def __init__(
        self,
        width: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self._width = width
        self._clock = clock
        self._processor = processor
        self.threads = min(width, _FIRST)
        self._seen = self._finished = clock()
        self._used = processor()
        self._share: float | None = None  # of one processor, in the last looks

    @property
    def patience(self) -> float:
        """The seconds after which to ask again, without a result."""
        # Never for ever: a signal that comes just before the wait has its handler run only when that is over.
        return _GLANCE if self.threads < self._width else _HEARTBEAT

    def more(self, *, finished: bool) -> int:
        """Return how many threads to start now; `finished` says that there was a result since the last question."""
        now = self._clock()
        if finished:
            self._finished = now
        elapsed = now - self._seen
        if self.threads == self._width or elapsed < _GLANCE:
            return 0
        used = self._processor()
        share = (used - self._used) / elapsed
        self._seen, self._used = now, used
        self._share = share if self._share is None else self._share + (share - self._share) * _SMOOTHING
        if self._share > _BUSY and now - self._finished < _STANDSTILL:
            return 0
        more = min(self.threads, self._width - self.threads)
        self.threads += more
        self._finished = now  # for the new ones
        return more


class _Pool(Generic[_Target, _Result]):
    def __init__(
        self,
        targets: Sequence[_Target],
        work: Callable[[_Target], _Result],
        cancel: CancelToken,
        skipped: Callable[[_Target], _Result],
    ) -> None:
        self._results: queue.SimpleQueue[_Result | _Crash] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._todo = iter(targets)
        self._left = len(targets)  # that no thread has begun
        self._lock = threading.Lock()
        self._work = work
        self._cancel = cancel
        self._skipped = skipped

    def start(self, count: int) -> None:
        """Start up to `count` more threads: as many as the system gives. Raises FleetError when there is none."""
        if not count or not self._left:
            return
        before = threading.stack_size(_STACK_SIZE)
        try:
            for _ in range(count):
                name = f"fan-out {len(self._threads)}"
                thread = threading.Thread(target=self._serve, name=name, daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError as error:  # no more threads (ulimit -u, a container's pids limit)
            if not self._threads:
                raise FleetError("fan-out", str(error), "see ulimit -u") from None
        finally:
            threading.stack_size(before)

    def next_result(self, patience: float) -> _Result | _Crash | None:
        """Return the next result; None when there is none within so many seconds."""
        try:
            return self._results.get(timeout=patience)
        except queue.Empty:
            return None

    def gather(self) -> None:
        """Let some results come, unless there is one. Does nothing once all work is begun: the end is not delayed."""
        if self._left and self._results.empty():
            time.sleep(_GATHER)

    def join(self) -> None:
        """Wait for all threads."""
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            with self._lock:
                try:
                    target = next(self._todo)
                except StopIteration:
                    return
                self._left -= 1
            try:
                self._results.put(self._skipped(target) if self._cancel.is_set else self._work(target))
            except BaseException as error:
                self._results.put(_Crash(error))
                self._cancel.set()
                return
