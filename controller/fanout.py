"""A bounded pool: the same work on many targets, at most `width` at once, one thread for each open connection.

Results come in the order in which they finish. Knows nothing of hosts, commands or how results look.
"""

from __future__ import annotations

import queue
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from agent.wire.record import record
from controller.cancel import CancelToken
from controller.errors import FleetError

__all__ = ["fan_out", "fit_to_limits"]

_Target = TypeVar("_Target")
_Result = TypeVar("_Result")

# Descriptors that are not connections: the standard streams, the key, name lookups, files being written.
_SPARE_DESCRIPTORS = 40
# Address space for each thread; the default of 8 MiB is more than a machine gives to 2,000 connections. Far less is not
# enough: Python counts on some 2 MiB before it calls a hostile agent's deeply nested JSON too deep.
_STACK_SIZE = 4 * 1024 * 1024


@record
class _Crash:
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
    threads = pool.start(min(width, len(targets)))
    try:
        for _ in targets:
            result = pool.results.get()
            if isinstance(result, _Crash):
                raise result.error
            yield result
    except BaseException:
        cancel.set()
        raise
    finally:
        for thread in threads:
            thread.join()


class _Pool(Generic[_Target, _Result]):
    def __init__(
        self,
        targets: Sequence[_Target],
        work: Callable[[_Target], _Result],
        cancel: CancelToken,
        skipped: Callable[[_Target], _Result],
    ) -> None:
        self.results: queue.SimpleQueue[_Result | _Crash] = queue.SimpleQueue()
        self._todo = iter(targets)
        self._lock = threading.Lock()
        self._work = work
        self._cancel = cancel
        self._skipped = skipped

    def start(self, count: int) -> list[threading.Thread]:
        """Start up to `count` threads: as many as the system gives. Raises FleetError when that is none."""
        threads: list[threading.Thread] = []
        before = threading.stack_size(_STACK_SIZE)
        try:
            for number in range(count):
                thread = threading.Thread(target=self._serve, name=f"fan-out {number}", daemon=True)
                thread.start()
                threads.append(thread)
        except RuntimeError as error:  # no more threads (ulimit -u, a container's pids limit)
            if not threads:
                raise FleetError("fan-out", str(error), "see ulimit -u") from None
        finally:
            threading.stack_size(before)
        return threads

    def _serve(self) -> None:
        while True:
            with self._lock:
                try:
                    target = next(self._todo)
                except StopIteration:
                    return
            try:
                self.results.put(self._skipped(target) if self._cancel.is_set else self._work(target))
            except BaseException as error:
                self.results.put(_Crash(error))
                self._cancel.set()
                return
