"""Rolling back: what a push with backups replaced is put back, file by file, where nobody has changed it since.

Digests decide, and for links what they point at. A file that is not what the push left there is refused; one that is
already what the push found there is unchanged. So a rollback that is given twice does no harm, and reaches no further
back than it was told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterator

from agent.journal import Journal, Replaced, Undo
from agent.tree.errors import FileError, TransferError
from agent.tree.paths import Folder, Identity, Links, is_within, open_path
from agent.tree.states import NOTHING, state_of
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import FileStatus, Outcome

__all__ = ["LastRun", "Restorer"]

_AT_ONCE = 32  # outcomes in a message


class LastRun:
    """The answer to which push is the last one, driven as a receiver is."""

    def __init__(self, last: str | None, send: Callable[[m.Message], None]) -> None:
        self._last = last
        self._send = send
        self.done = False

    @classmethod
    def find(cls, journal: Journal, controller: str, send: Callable[[m.Message], None]) -> LastRun:
        """Look it up. Raises TransferError."""
        try:
            return cls(_newest(_undos_of(journal, controller)), send)
        except OSError as error:
            raise TransferError("failed", str(FileError.from_os("read the journal", error))) from None

    def take(self, message: m.Message) -> None:
        """Refuse a message: the answer needs none."""
        raise RemoteProtocolError(f"{type(message).__name__} is not for a rollback")

    def step(self) -> bool:
        """Give the answer; there is no more to do then."""
        if not self.done:
            self._send(f.Done(self._last))
            self.done = True
        return False

    def close(self) -> None:
        """There is nothing to give back."""


class Restorer:
    """One rollback, driven as a receiver is."""

    def __init__(
        self,
        replaced: Iterator[Replaced],
        roots: Collection[Identity] | None,
        send: Callable[[m.Message], None],
    ) -> None:
        self._replaced = replaced
        self._roots = roots
        self._send = send
        self._work = self._run()
        self.done = False

    @classmethod
    def find(
        cls,
        journal: Journal,
        rollback: f.Rollback,
        controller: str,
        roots: Collection[Identity] | None,
        send: Callable[[m.Message], None],
    ) -> Restorer:
        """Find the push: the one that is named, or the controller's last. Raises TransferError."""
        try:
            undos = _undos_of(journal, controller)
            run = rollback.target if rollback.target is not None else _newest(undos)
            # One agent may be several hosts of an inventory, and has a record for each then.
            undos = [undo for undo in undos if undo.run == run]
            if not undos:
                what = (
                    "no push with backups" if rollback.target is None else f"no push {rollback.target!r} with backups"
                )
                raise TransferError("failed", f"{what} of controller {controller} to roll back")
            return cls(journal.replaced(undos), roots, send)
        except OSError as error:
            raise TransferError("failed", str(FileError.from_os("read the journal", error))) from None

    def take(self, message: m.Message) -> None:
        """Refuse a message: a rollback needs none."""
        raise RemoteProtocolError(f"{type(message).__name__} is not for a rollback")

    def step(self) -> bool:
        """Do a piece of work; return whether there is more."""
        return next(self._work)

    def close(self) -> None:
        """Stop."""
        self._work.close()

    def _run(self) -> Generator[bool, None, None]:
        outcomes: list[Outcome] = []
        for replaced in self._replaced:
            outcomes.append((yield from self._restore(replaced)))
            if len(outcomes) >= _AT_ONCE:
                self._send(f.Outcomes(tuple(outcomes)))
                outcomes = []
            yield True
        self._send(f.Outcomes(tuple(outcomes), settled=True))
        self._send(f.Done())
        self.done = True
        while True:
            yield False

    def _restore(self, replaced: Replaced) -> Generator[bool, None, Outcome]:
        path = replaced.path
        try:
            # The place that it lies in, and not what is there: a link to a directory, or a directory, may be.
            place, name = os.path.split(path)
            folder, _ = open_path(f"{place}/", home="/", links=Links.NEVER)
            try:
                if self._roots is not None and not is_within(folder, self._roots):
                    raise FileError("", "may not be pushed to any more")
                return (yield from _restore_in(folder, name, replaced))
            finally:
                folder.release()
        except FileError as error:
            return Outcome(path, FileStatus.FAILED, error=str(error))


def _restore_in(folder: Folder, name: str, replaced: Replaced) -> Generator[bool, None, Outcome]:
    """Put back what had that name, if that is still what it was, and what has it now is what the push left there."""
    path, backup = replaced.path, os.path.basename(replaced.backup)
    now = yield from state_of(folder, name)
    found = NOTHING if now is None else now.text
    if found not in (replaced.old, replaced.new):
        gone = replaced.new == NOTHING
        raise FileError("", "was deleted, and something else is there now" if gone else "has changed since")
    kept = (yield from state_of(folder, backup)) if found == replaced.new else None
    # A file may have been replaced by one of the same content, as a hard link: that is back when its backup is gone.
    if now is not None and found == replaced.old and kept is None:
        return Outcome(path, FileStatus.UNCHANGED, bytes=now.size, sha256=now.sha256, note="is back already")
    if kept is None or kept.text != replaced.old:
        raise FileError("", f"its backup {backup} {'has changed since' if kept else 'is gone'}")
    _put_back(folder, backup, name)
    changes = "content"
    if now is None:
        changes = "created"
    elif now.is_link or kept.is_link:
        changes = "link"
    return Outcome(path, FileStatus.CHANGED, bytes=kept.size, sha256=kept.sha256, changes=changes)


def _undos_of(journal: Journal, controller: str) -> list[Undo]:
    return [undo for undo in journal.undos() if undo.controller == controller]


def _newest(undos: list[Undo]) -> str | None:
    """Return the last run. The ids begin with the time on the controller's clock, the same for all of its hosts."""
    return max((undo.run for undo in undos), default=None)


def _put_back(folder: Folder, backup: str, name: str) -> None:
    try:
        os.rename(backup, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        folder.sync()
    except OSError as error:
        raise FileError.from_os("put it back", error) from None
