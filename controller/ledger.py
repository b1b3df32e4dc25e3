"""What has become of the files of one host's transfer so far, and in the end the host's result.

The list of files may have a hundred thousand lines for each of a thousand hosts, so unless all are wanted only those
are kept that need attention; the numbers count everything.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from agent.tree.sender import SenderWatcher
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import Entry, FileStatus, Kind, Old, Outcome
from controller.differences import UNKNOWN, Content, Differences, attributes, without_attributes
from controller.meter import Meter
from controller.results import FileResult, Result, Status, Tally

__all__ = ["DiffMaker", "Ledger"]

# A host could tell of ever more files that it says it deleted.
_MOST_KEPT = 1_000_000
_MOST_OF_INTEREST = 1_000
_CREATED = "created"
_CAME = (_CREATED, "content")  # what the changes of a file begin with whose content went over the line
# Bytes of old contents that wait for their outcome: four batches of files, each with as much as a message holds, would
# be half a gigabyte for each host.
_MOST_HELD = 8 * 1024 * 1024
_EMPTY = Content.of(b"")


class DiffMaker:
    """Makes the differences of one host; `read` gives the new content of an entry, None when it is too large."""

    def __init__(self, differences: Differences, host: str, read: Callable[[str], Content | None]) -> None:
        self._differences = differences
        self._host = host
        self._read = read
        self._paths: dict[int, str] = {}  # of files that are under way
        self._old: dict[int, Content] = {}
        self._held = 0  # bytes
        self._next = 0

    def listed(self, entry: Entry) -> None:
        """Note an entry; they are numbered as they come."""
        if entry.kind is Kind.FILE:
            self._paths[self._next] = entry.path
        self._next += 1

    def old(self, old: Old, content: bytes | None) -> None:
        """Note what a file holds that changes. Raises RemoteProtocolError when that was told before."""
        if old.index in self._old or old.index not in self._paths:
            raise RemoteProtocolError(f"the old content of entry {old.index}, which nobody waits for")
        if content is not None and len(content) != old.size:
            raise RemoteProtocolError(f"{len(content)} bytes of old content, expected {old.size}")
        if content is None and old.sha256 != _EMPTY.sha256:
            self._old[old.index] = Content(old.size, old.sha256)
            return
        # The digest names a text that hosts share, so it is ours and not what a host says.
        kept = Content.of(content) if content is not None else _EMPTY
        if self._held + kept.size > _MOST_HELD:
            kept = Content(kept.size, kept.sha256)
        self._held += kept.size if kept.data is not None else 0
        self._old[old.index] = kept

    def made(self, outcome: Outcome) -> str | None:
        """Return the difference that an outcome stands for, attributes first; None when there is none."""
        if outcome.index is None:
            return None
        path = self._paths.pop(outcome.index, None)
        old = self._old.pop(outcome.index, None)
        if old is not None and old.data is not None:
            self._held -= old.size
        if outcome.status is not FileStatus.CHANGED:
            return None
        text = attributes(outcome.path, outcome.changes)
        if path is not None and (old is not None or outcome.changes.startswith(_CAME)):
            text += self._content(path, old, outcome)
        return text or None

    def _content(self, path: str, old: Content | None, outcome: Outcome) -> str:
        new = self._read(path) or Content(outcome.bytes, outcome.sha256 or "")
        if old is None and not outcome.changes.startswith(_CREATED):
            old = UNKNOWN
        if old is not None and old.sha256 == new.sha256:
            return ""
        return self._differences.text(self._host, outcome.path, old, new)


class Ledger(SenderWatcher):
    """Notes outcomes, and counts `meter` up. With `keep` all files are in the result, with `changes` what changed."""

    def __init__(
        self, host: str, meter: Meter, *, keep: bool, changes: bool = False, differences: DiffMaker | None = None
    ) -> None:
        self._host = host
        self._meter = meter
        self._keep = keep
        self._interesting = {FileStatus.FAILED, FileStatus.SKIPPED}
        if changes:
            self._interesting |= {FileStatus.CHANGED, FileStatus.DELETED}
        self._differences = differences
        self._started = time.time()
        self._began = time.monotonic()
        self._files: list[FileResult] = []
        self._numbers: Counter[FileStatus] = Counter()
        self._contents = self._kept = 0
        self._sha256: str | None = None
        self._first_failure: str | None = None
        self._expected = 0  # outcomes that are to come

    # What a sender tells -----------------------------------------------------------------------------------------

    def sent(self, size: int) -> None:
        """Content went out, or was there."""
        self._meter.done += size

    def listed(self, entry: Entry) -> None:
        """An entry is under way."""
        self._expected += 1
        self._meter.files += entry.kind is not Kind.LEAVE
        if entry.kind is Kind.FILE:
            self._meter.total += entry.size
        if self._differences is not None:
            self._differences.listed(entry)

    def old(self, entry: Entry, old: Old, content: bytes | None) -> None:
        """A file holds this before it changes."""
        if self._differences is None:
            raise RemoteProtocolError("old content, which nobody asked for")
        self._differences.old(old, content)

    def outcome(self, outcome: Outcome) -> None:
        """Note what became of a file. Raises RemoteProtocolError for more of that than there are files."""
        if outcome.index is not None:
            self._expected -= 1
            if self._expected < 0:
                raise RemoteProtocolError("more outcomes than entries")
        if not outcome.changes.startswith(_CAME) and outcome.index is not None:
            self._meter.done += outcome.bytes  # it was there, and nobody had to send it
        self._kept += outcome.kept
        self._numbers[outcome.status] += 1
        if outcome.sha256 is not None:
            self._contents += 1
            self._sha256 = outcome.sha256
        if outcome.status is FileStatus.FAILED and self._first_failure is None:
            self._first_failure = f"{outcome.path}: {outcome.error}"
        diff = self._differences.made(outcome) if self._differences is not None else None
        of_interest = outcome.status in self._interesting or bool(outcome.note or diff)
        if len(self._files) < (_MOST_KEPT if self._keep else _MOST_OF_INTEREST * of_interest):
            self._files.append(_file_of(outcome, diff))

    # The result --------------------------------------------------------------------------------------------------

    def result(self, *, note: str | None = None) -> Result:
        """Return the result of a transfer that came to its end."""
        failed = self._numbers[FileStatus.FAILED]
        if failed:
            more = f" (and {failed - 1} more)" if failed > 1 else ""
            return self._result(Status.FAILED, f"{self._first_failure}{more}", note)
        if note is None and self._numbers.keys() == {FileStatus.SKIPPED}:
            note = "nothing was transferred: all that was asked for was skipped"
        touched = self._numbers[FileStatus.CHANGED] + self._numbers[FileStatus.DELETED]
        return self._result(Status.CHANGED if touched else Status.UNCHANGED, None, note)

    def failure(self, status: Status, reason: str, *, note: str | None = None) -> Result:
        """Return the result of a transfer that did not."""
        return self._result(status, reason, note)

    def _result(self, status: Status, error: str | None, note: str | None) -> Result:
        return Result(
            self._host,
            status,
            started=self._started,
            elapsed=time.monotonic() - self._began,
            error=error,
            note=note,
            files=tuple(self._files),
            tally=self._tally(),
        )

    def _tally(self) -> Tally:
        numbers = {status.value: self._numbers[status] for status in FileStatus}
        single = self._sha256 if self._contents == 1 and sum(self._numbers.values()) == 1 else None
        return Tally(bytes=self._meter.moved, sha256=single, kept=self._kept, **numbers)


def _file_of(outcome: Outcome, diff: str | None) -> FileResult:
    return FileResult(
        outcome.path,
        outcome.status,
        outcome.bytes,
        outcome.sha256,
        outcome.error,
        outcome.changes if diff is None else without_attributes(outcome.changes),
        outcome.note,
        diff,
    )
