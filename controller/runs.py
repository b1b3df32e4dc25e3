"""A run that is under way: what it is made of, and the iteration that does it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from agent.wire.record import record
from controller.cancel import CancelToken
from controller.client import Observer, Target
from controller.fanout import fan_out
from controller.results import PingResult, Result, exit_code

__all__ = ["Guard", "Plan", "Run", "Silent", "new_run_id"]

Outcome = TypeVar("Outcome", Result, PingResult)


class Silent:
    """Nobody watches."""

    def start(self, host: str) -> None:
        """Ignore it."""

    def stdout(self, host: str, data: bytes) -> None:
        """Ignore it."""

    def stderr(self, host: str, data: bytes) -> None:
        """Ignore it."""


class Guard:
    """Stands between the connections and an observer that may fail: a closed pipe, a full disk.

    The first failure cancels the run and is kept for the main thread; what comes later is dropped, so that the
    connections can be brought to an orderly end.
    """

    def __init__(self, observer: Observer, cancel: CancelToken) -> None:
        self._observer = observer
        self._cancel = cancel
        self.borrows: bool = getattr(observer, "borrows", False)
        self.error: Exception | None = None

    def start(self, host: str) -> None:
        self._call(lambda: self._observer.start(host))

    def stdout(self, host: str, data: bytes) -> None:
        self._call(lambda: self._observer.stdout(host, data))

    def stderr(self, host: str, data: bytes) -> None:
        self._call(lambda: self._observer.stderr(host, data))

    def fail(self, error: Exception) -> None:
        """Cancel the run because of `error`, which the main thread raises. From any thread; the first one stands."""
        if self.error is None:
            self.error = error
            self._cancel.set()

    def _call(self, tell: Callable[[], None]) -> None:
        if self.error is None:
            try:
                tell()
            except Exception as error:  # whatever it is, the main thread raises it
                self.fail(error)


@record
class Plan(Generic[Outcome]):
    """How to get an outcome of each target."""

    targets: Sequence[Target]
    work: Callable[[Target], Outcome]
    skipped: Callable[[Target], Outcome]
    width: int


class Run(Generic[Outcome]):
    """Work on many hosts that is under way, or about to be. Iterate over it once: outcomes come as hosts finish.

    Leaving the iteration early cancels what runs. `results` has what has come so far, in inventory order.
    """

    def __init__(
        self,
        plan: Plan[Outcome],
        cancel: CancelToken,
        *,
        run_id: str,
        command: str,
        guard: Guard | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.id = run_id
        self.command = command
        self.started = time.time()
        self.hosts = [target.name for target in plan.targets]
        self.width = plan.width
        self._plan: Plan[Outcome] = plan
        self._cancel = cancel
        self._guard = guard
        self._close = close
        self._began = time.monotonic()
        self._begun = False
        self._outcomes: dict[str, Outcome] = {}
        self._running: dict[str, float] = {}

    def __iter__(self) -> Iterator[Outcome]:
        if self._begun:
            # To do it all again on every host is hardly what was meant.
            raise RuntimeError(f"run {self.id} was done already: what it gave is in its results")
        self._begun = True
        try:
            yield from self._outcomes_as_they_come()
        finally:
            if self._close is not None:
                self._close()
        if self._guard is not None and self._guard.error is not None:
            raise self._guard.error

    def _outcomes_as_they_come(self) -> Iterator[Outcome]:
        plan = self._plan
        for outcome in fan_out(plan.targets, self._work, width=plan.width, cancel=self._cancel, skipped=plan.skipped):
            self._outcomes[outcome.host] = outcome
            self._running.pop(outcome.host, None)
            yield outcome

    def _work(self, target: Target) -> Outcome:
        self._running[target.name] = time.monotonic()
        return self._plan.work(target)

    @property
    def running(self) -> dict[str, float]:
        """Return the hosts that are being worked on, in the order in which that began, and when (`time.monotonic`).

        As `results` and `elapsed`, it may be asked for from any thread.
        """
        return self._running.copy()

    @property
    def cancelled(self) -> bool:
        """Whether nothing new is started any more, and what runs is being killed."""
        return self._cancel.is_set

    @property
    def results(self) -> list[Outcome]:
        """Return the outcomes so far, in inventory order."""
        outcomes = self._outcomes.copy()
        return [outcomes[host] for host in self.hosts if host in outcomes]

    @property
    def elapsed(self) -> float:
        """Return the seconds since the run was made."""
        return time.monotonic() - self._began

    @property
    def exit_code(self) -> int:
        """Return the exit code that the outcomes so far stand for."""
        return exit_code(outcome.status for outcome in self.results)

    def cancel(self) -> None:
        """Start nothing new and kill what runs. May be called from a signal handler and from any thread."""
        self._cancel.set()


def new_run_id() -> str:
    """Return an id that sorts by time, to 15 microseconds, and that nobody else has."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    fraction = f"{(rest << 16) // 1_000_000_000:04x}"
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime(seconds)) + fraction + os.urandom(3).hex()
