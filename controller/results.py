"""What a run can say about a host: one status word, one frozen result, one table of exit codes.

Nothing here does I/O or knows how a result is shown; the words are the same in tables, JSON and Python.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Iterable
from dataclasses import field

from agent.wire.record import record

TYPE_CHECKING = False  # see `controller`

if TYPE_CHECKING:
    from agent.wire.file_messages import FileStatus  # every command loads this module, and most need no wire

__all__ = [
    "EXIT_CUT_OFF",
    "EXIT_INTERRUPTED",
    "EXIT_USAGE",
    "FileResult",
    "PingResult",
    "Result",
    "Status",
    "Tally",
    "exit_code",
    "largest_code",
]

EXIT_USAGE = 2
EXIT_CUT_OFF = 3
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as every shell reports it


class Status(enum.StrEnum):
    """One word for each host. The value is what users see."""

    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    UNREACHABLE = "unreachable"
    DENIED = "denied"
    BROKEN = "broken"
    # Files alone: these two stand in place of `ok`.
    CHANGED = "changed"
    UNCHANGED = "unchanged"

    @property
    def exit_class(self) -> int:
        """Return the exit code that this status alone would give."""
        return _EXIT_CLASS[self]

    @property
    def good(self) -> bool:
        """Whether nothing went wrong on the host."""
        return _EXIT_CLASS[self] == 0

    @property
    def reached(self) -> bool:
        """Whether the agent answered and what it said is trusted and complete."""
        return _EXIT_CLASS[self] in (0, 5)


_EXIT_CLASS = {
    Status.OK: 0,
    Status.CHANGED: 0,
    Status.UNCHANGED: 0,
    Status.FAILED: 5,
    Status.TIMEOUT: 3,
    Status.CANCELLED: 3,
    Status.SKIPPED: 3,
    Status.UNREACHABLE: 4,
    Status.DENIED: 4,
    Status.BROKEN: 4,
}

# Worst first. A host that could not be reached may have missed the change altogether, so it outranks a host that
# was cut off, which outranks one that ran to its end and said no (the order of pssh's exit codes).
_WORST_FIRST = (4, 3, 5)


@record
class FileResult:
    """What happened to one file of a push or a pull.

    `bytes` is the content's size; `changes` are words for what changed, such as "content, mode"; `note` is a remark
    on a file that is fine; `diff` is the text of a difference that was asked for.
    """

    path: str
    status: Status | FileStatus
    bytes: int = 0
    sha256: str | None = None
    error: str | None = None
    changes: str = ""
    note: str = ""
    diff: str | None = None


@record
class Tally:
    """What a push or a pull did on one host, in numbers of files, directories and links.

    `bytes` are those of content that went over the line. `sha256` is the digest of the one file that there was, None
    when there were more, or none. `kept` counts what was replaced or deleted and can be put back by a rollback.
    """

    bytes: int = 0
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0
    skipped: int = 0
    failed: int = 0
    sha256: str | None = None
    kept: int = 0


@record
class Result:
    """The outcome on one host.

    `rc` is the exit code (0..255) or None when the command did not exit by itself; `signal` is a name such as
    ``"SIGKILL"``. `stdout` and `stderr` are the bytes kept, `stdout_bytes` and `stderr_bytes` count all that the
    command wrote, and `truncated` says that the two differ. `started` is seconds since the epoch on this machine's
    clock, None when nothing was started; `elapsed` is in seconds. `error` says why there is no better status;
    `note` is a remark on a result that stands, such as a pipe that a background process still holds. `files` and
    `tally` are those of a push or a pull; `files` may leave out what needs no attention, `tally` counts everything.
    """

    host: str
    status: Status
    rc: int | None = None
    signal: str | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    truncated: bool = False
    started: float | None = None
    elapsed: float = 0.0
    error: str | None = None
    note: str | None = None
    files: tuple[FileResult, ...] = field(default=())
    tally: Tally | None = None


@record
class PingResult:
    """The outcome of a ping: who answered, or why nobody did.

    `agent` and `python` are versions, `os` a name; all three are the host's own words. `clock_offset` (the host's
    clock minus ours) and `rtt` are in seconds. All are None when there was no authenticated answer.
    """

    host: str
    status: Status
    agent: str | None = None
    python: str | None = None
    os: str | None = None
    clock_offset: float | None = None
    rtt: float | None = None
    error: str | None = None


def exit_code(statuses: Iterable[Status]) -> int:
    """Return the exit code of a run over hosts with these statuses: the worst class, in the order 4 > 3 > 5 > 0."""
    seen = {status.exit_class for status in statuses}
    return next((code for code in _WORST_FIRST if code in seen), 0)


def largest_code(results: Iterable[Result]) -> int:
    """Return the exit code under ``--return-max``: the largest remote one when every host was reached.

    A command that died of signal N counts as 128 + N, as in a shell; a command that could not be started as 127.
    When any host was not reached, or was cut off, the ordinary exit code stands.
    """
    kept = list(results)
    if not all(result.status.reached for result in kept):
        return exit_code(result.status for result in kept)
    return max((_remote_code(result) for result in kept), default=0)


def _remote_code(result: Result) -> int:
    if result.rc is not None:
        return result.rc
    if result.signal is not None:
        # The name came from the host. One that this machine does not know (SIGRTMIN+3, a lie) still counts as a signal.
        return 128 + signal.Signals.__members__.get(result.signal, 0)
    return 127 if result.status is Status.FAILED else 0
