"""The receiver's part in a pull, on a leash: what a host may cost this machine beside the files that were asked for.

The receiver itself keeps to names and announced sizes. Here is what is the operator's concern alone: room on the local
disk, files that do not say how long they are, and lists without end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.tree.options import ReceiverOptions
from agent.tree.paths import Folder
from agent.tree.places import Asked, answers
from agent.tree.receiver import Receiver
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import Entry, Kind, Outcome
from agent.wire.record import record
from controller.errors import HostError
from controller.ledger import Ledger
from controller.leftovers import Mark
from controller.meter import Meter
from controller.output.words import size
from controller.results import Status

__all__ = ["NoRoomError", "Pulling"]

# Of a file that does not say its size, such as those of /proc, unless --max-size says otherwise.
_MOST_UNANNOUNCED = 64 * 1024 * 1024
_LOOK_AFTER = 8 * 1024 * 1024  # bytes between two looks at the disk


class NoRoomError(HostError):
    """The local disk is not to be filled any further."""

    status = Status.FAILED

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(f"no room on the local disk: {size(needed)} needed, {size(max(free, 0))} may be used")
        self.needed = needed
        self.free = free


@dataclass(slots=True)
class _Coming:
    """The file that is coming: how much of it may be, and how much has."""

    path: str
    most: int
    seen: int


@record
class _NotSent:
    """What the host says that it does not send: the path there, and its reason where there may be another."""

    path: str
    reason: str | None = None


class _Files:
    """The files that may still come, by their index, and what the host says of others; tells `ledger` the outcomes.

    It is apart from what drives the receiver: that would hold itself by what the receiver reports to.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.coming: dict[int, Entry] = {}
        self.theirs: dict[int, _NotSent] = {}
        self._ledger = ledger

    def report(self, outcome: Outcome) -> None:
        """Take an outcome from the receiver."""
        if outcome.index is not None:
            self.coming.pop(outcome.index, None)
            theirs = self.theirs.pop(outcome.index, None)
            # A host may give up on a file that has failed here before: that was our side, and has our path.
            if theirs is not None and theirs.reason in (None, outcome.error):
                outcome = replace(outcome, path=theirs.path)
        self._ledger.outcome(outcome)


class Pulling:
    """Receives into `folder`; `place` says where in it a path belongs. `ledger` and `meter` are told what comes."""

    def __init__(
        self,
        folder: Folder,
        place: Asked,
        options: ReceiverOptions,
        send: Callable[[m.Message], None],
        ledger: Ledger,
        meter: Meter,
    ) -> None:
        self._mark = Mark(folder)
        self._files = _Files(ledger)
        self._receiver = Receiver(
            folder, place, options, send, report=self._files.report, hooks=self._mark, token=self._mark.token
        )
        self._folder = folder
        self._options = options
        self._ledger = ledger
        self._meter = meter
        self._place = place
        self._unanswered = place.demanded(options.exclude)
        self._index = 0
        self._count = 0
        self._coming: _Coming | None = None
        self._until_look = _LOOK_AFTER

    @property
    def done(self) -> bool:
        """Whether everything is in its place."""
        return self._receiver.done

    def take(self, message: m.Message) -> None:
        """Judge a message, count it, and pass it on. Raises RemoteProtocolError and NoRoomError."""
        if isinstance(message, f.Data | f.Whole):
            if isinstance(message, f.Whole):
                self._opened(message.index, 0, len(message.data))
            self._meter.moved += len(message.data)
            self._content(len(message.data))
            self._look_at_disk(len(message.data))
        elif isinstance(message, f.Hole):
            self._content(message.length)
        elif isinstance(message, f.Open):
            self._opened(message.index, message.offset, message.size)
        elif isinstance(message, f.Entries):
            message = self._entries(message)
        elif isinstance(message, f.Same):
            for index in message.indexes:
                self._files.coming.pop(index, None)
        elif isinstance(message, f.Gone):
            entry = self._files.coming.pop(message.index, None) or self._coming
            if entry is not None:
                self._files.theirs[message.index] = _NotSent(self._place.remote(entry.path), message.error)
        self._receiver.take(message)

    def step(self) -> bool:
        """Do a piece of work."""
        return self._receiver.step()

    def close(self) -> None:
        """Keep what is worth it for the next time, and nothing else that is not whole."""
        self._receiver.close()
        self._mark.close()

    def _entries(self, message: f.Entries) -> f.Entries:
        """Return the batch, with what there is no room for as failed, before anybody asks for it."""
        entries = []
        room = self._room()
        limit = self._options.max_files
        for entry in message.entries:
            self._count += entry.kind is not Kind.LEAVE
            if limit is not None and self._count > limit + 1:  # one more says that there are more
                raise RemoteProtocolError(f"more than the {limit} files that were asked for")
            self._ledger.listed(entry)
            if self._unanswered:
                self._unanswered = [remote for remote in self._unanswered if not answers(entry.path, remote)]
            if entry.kind is Kind.FILE:
                if entry.size > room:
                    entry = replace(entry, kind=Kind.FAILED, reason=str(NoRoomError(entry.size, room)))
                else:
                    self._files.coming[self._index] = entry
            elif entry.kind in (Kind.FAILED, Kind.SKIPPED):
                self._files.theirs[self._index] = _NotSent(self._place.remote(entry.path))
            entries.append(entry)
            self._index += 1
        self._meter.complete = message.last
        if message.last and self._unanswered and (limit is None or self._count <= limit):
            for entry in entries:
                self._place(entry.path)  # whoever sends something else is told that
            raise RemoteProtocolError(f"nothing about {self._unanswered[0]!r}, which was asked for")
        return replace(message, entries=tuple(entries))

    def _opened(self, index: int, offset: int, size: int | None) -> None:
        entry = self._files.coming.pop(index, None)
        if entry is None:
            raise RemoteProtocolError(f"entry {index} was not asked for")
        announced = self._options.max_size or _MOST_UNANNOUNCED if size is None else size
        if announced > entry.size and size is not None and announced - offset > self._room():
            raise NoRoomError(announced - offset, self._room())  # it has grown since it was listed
        self._coming = _Coming(entry.path, announced, offset)
        self._ledger.sent(offset)

    def _content(self, length: int) -> None:
        if self._coming is None:
            raise RemoteProtocolError("content that belongs to no file")
        self._coming.seen += length
        if self._coming.seen > self._coming.most:
            raise RemoteProtocolError(f"more than the {self._coming.most} bytes of {self._coming.path!r}")
        self._ledger.sent(length)

    def _look_at_disk(self, length: int) -> None:
        self._until_look -= length
        if self._until_look <= 0:
            self._until_look = _LOOK_AFTER
            if (room := self._room()) <= 0:
                raise NoRoomError(_LOOK_AFTER, room)

    def _room(self) -> int:
        """Return how many bytes may still be written."""
        space = os.fstatvfs(self._folder.fd)
        return space.f_bavail * space.f_frsize - self._options.min_free
