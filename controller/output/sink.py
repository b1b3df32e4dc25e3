"""What a way of showing results has to offer, and what it is told. No way of showing them is here.

The fan-out calls `start`, `stdout`, `stderr` and `end` from the thread of the host's connection, so the calls for one
host come in order and those for different hosts at once; each sink sees to its own locking. `finish` comes once, from
the main thread, when all is over. Any call may raise BrokenPipeError (the reader has gone: stop, and say nothing) or
OutputError (stop, and say why).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from agent.wire.record import record
from controller.results import Result

if TYPE_CHECKING:
    from controller.runs import Run

__all__ = ["RunInfo", "Sink", "Tee"]


@record
class RunInfo:
    """A whole run. `started` is seconds since the epoch, `elapsed` seconds, `hosts` how many were asked for."""

    id: str
    command: str
    started: float
    elapsed: float
    exit_code: int
    hosts: int

    @classmethod
    def of(cls, run: Run[Any], code: int) -> RunInfo:
        """Return what there is to know of a run that ends with this exit code."""
        return cls(run.id, run.command, run.started, run.elapsed, code, len(run.hosts))


class Sink(Protocol):
    """One way in which results look."""

    @property
    def keeps(self) -> bool:
        """Whether `end` and `finish` need the output of a host in its result, so that memory has to be spent on it."""

    def start(self, host: str) -> None:
        """The command is being started on `host`."""

    def stdout(self, host: str, data: bytes) -> None:
        """`host` wrote `data`, cut anywhere, to its standard output."""

    def stderr(self, host: str, data: bytes) -> None:
        """`host` wrote `data`, cut anywhere, to its standard error."""

    def end(self, result: Result) -> None:
        """All is known about one host, also about one that was never reached or started."""

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """All is known about all hosts; `results` is in inventory order."""


class Tee:
    """Several sinks as one, called in the order given. Files first: a closed pipe must not cost them anything."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks
        self.keeps = any(sink.keeps for sink in sinks)

    def start(self, host: str) -> None:
        for sink in self._sinks:
            sink.start(host)

    def stdout(self, host: str, data: bytes) -> None:
        for sink in self._sinks:
            sink.stdout(host, data)

    def stderr(self, host: str, data: bytes) -> None:
        for sink in self._sinks:
            sink.stderr(host, data)

    def end(self, result: Result) -> None:
        for sink in self._sinks:
            sink.end(result)

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        for sink in self._sinks:
            sink.finish(run, results)
