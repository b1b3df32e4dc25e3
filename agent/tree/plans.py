"""What is to be done about one entry: the record that goes through a receiver's hands, and the rules it is made by.

The rules ask what is there and decide; they change nothing. So a check, which changes nothing, is the same code up to
the last step, and says what would be done.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from agent.tree.errors import FileError
from agent.tree.options import ReceiverOptions
from agent.tree.paths import kind_of
from agent.tree.writer import Attributes, Temporary
from agent.wire.file_messages import Entry, FileStatus, Kind, Outcome

__all__ = ["Plan", "attributes", "lost_bits", "refuse_what_is_there"]

_PERMISSIONS = 0o777  # setuid and setgid bits are never taken over: only an operator's `mode` may ask for them
_SPECIAL = ((stat.S_ISUID, "setuid"), (stat.S_ISGID, "setgid"))


@dataclass(slots=True)
class Plan:
    """One entry of a batch. `ready` says that nothing more comes for it; `names` lead to it from the base."""

    index: int
    entry: Entry
    names: tuple[str, ...]
    path: str
    ready: bool = False
    old: os.stat_result | None = None
    old_sha256: str | None = None
    same: bool = False  # what is there has the content already
    temporary: Temporary | None = None
    wanted_from: int = 0  # where the sender was asked to continue
    size: int = 0
    sha256: str | None = None
    created: bool = False
    listed: frozenset[str] | None = None  # of a LEAVE: the names that the sender has there
    error: str | None = None
    status: FileStatus = FileStatus.UNCHANGED
    changes: list[str] = field(default_factory=list)
    note: str = ""
    kept: bool = False  # what is replaced is there under another name, and can be put back

    @property
    def old_is_file(self) -> bool:
        """Whether there is a regular file now."""
        return self.old is not None and stat.S_ISREG(self.old.st_mode)

    def fail(self, error: FileError | str) -> None:
        """Give up on the entry. The first reason stands."""
        self.ready = True
        if self.error is None:
            self.error = str(error)
            self.status = FileStatus.FAILED
            self.changes.clear()
        if self.temporary is not None:
            temporary, self.temporary = self.temporary, None
            temporary.discard()

    def change(self, *words: str) -> None:
        """Note what changes, or would."""
        self.changes += words
        self.status = FileStatus.CHANGED

    def remark(self, words: str) -> None:
        """Add to what people are told."""
        self.note = f"{self.note}; {words}" if self.note and words else self.note or words

    def outcome(self) -> Outcome:
        """Return what became of it."""
        return Outcome(
            self.path,
            self.status,
            self.index,
            self.size,
            self.sha256,
            self.error,
            ", ".join(self.changes),
            self.note,
            self.kept,
        )


def refuse_what_is_there(kind: Kind, old: os.stat_result | None) -> None:
    """Refuse to put something of that kind in the place of what is there. Raises FileError.

    A file or link takes the place of a file or link, a directory is added to; nothing else is ever replaced.
    """
    if old is None:
        return
    if kind is Kind.DIRECTORY:
        if not stat.S_ISDIR(old.st_mode):
            raise FileError("", f"is {kind_of(old.st_mode)}, which a directory does not replace")
    elif not stat.S_ISREG(old.st_mode) and not stat.S_ISLNK(old.st_mode):
        raise FileError("", f"is {kind_of(old.st_mode)}, which is not replaced")


def attributes(options: ReceiverOptions, plan: Plan, *, new: bool) -> tuple[Attributes, list[str]]:
    """Return what a file or directory is to have, and in words what of that differs from what is there.

    `new` says that it is a new inode, which is given everything; one that is there is given what differs. What the
    operator did not ask for stays as it was; there was none: as the sender has it, but for the umask. For a diff the
    words say from what to what: "mode 0644 -> 0600", "owner 0:0 -> 33:33".
    """
    entry, old = plan.entry, plan.old
    owner = -1 if options.owner is None else options.owner
    group = -1 if options.group is None else options.group
    asked_mode = options.mode if entry.kind in (Kind.FILE, Kind.HARDLINK) else None
    mode = asked_mode if asked_mode is not None else _mode_of_new(entry, options.umask)
    words = []
    mtime = entry.mtime if options.preserve else None
    if old is not None and not plan.created and not stat.S_ISLNK(old.st_mode):
        old_mode = stat.S_IMODE(old.st_mode)
        if asked_mode is None:
            mode = old_mode & _PERMISSIONS if new else old_mode
        if mode != old_mode:
            words.append(f"mode {old_mode:04o} -> {mode:04o}" if options.diff else "mode")
        ids = (old.st_uid if owner == -1 else owner, old.st_gid if group == -1 else group)
        if ids != (old.st_uid, old.st_gid):
            words.append(f"owner {old.st_uid}:{old.st_gid} -> {ids[0]}:{ids[1]}" if options.diff else "owner")
        if mtime is not None and mtime != old.st_mtime_ns:
            words.append("times")
        if new:
            owner, group = ids
    must_own = options.owner is not None or options.group is not None
    return Attributes(mode, owner, group, mtime, must_own), words


def _mode_of_new(entry: Entry, umask: int) -> int:
    mode = entry.mode & _PERMISSIONS & ~umask
    if entry.kind in (Kind.DIRECTORY, Kind.LEAVE) and (not umask or mode & 0o022):
        # Without it, whoever may write there could remove what is somebody else's (chmod(1), "restricted deletion").
        mode |= entry.mode & stat.S_ISVTX
    return mode


def lost_bits(options: ReceiverOptions, plan: Plan) -> str:
    """Say which bits a new file or directory does not get though the sender's, or the one it replaces, has them."""
    is_file = plan.entry.kind is Kind.FILE
    if is_file and options.mode is not None:
        return ""
    replaces = plan.old is not None and plan.old_is_file
    mode = plan.old.st_mode if plan.old is not None and replaces else plan.entry.mode
    names = [name for bit, name in _SPECIAL if mode & bit]
    if not names:
        return ""
    return f"without the {' and '.join(names)} bit{'s'[: len(names) - 1]} of the {'old file' if replaces else 'source'}"
