"""What is known of files that are sent to many: the SHA-256 of each is computed once, whoever asks for it first.

For the threads of all transfers. Files are known by what the system says of them, and only if that is old enough: a
file that was written a moment ago may be written again without a change of its times (their steps are milliseconds).
"""

from __future__ import annotations

import enum
import os
import threading
import time
from collections.abc import Callable

from agent.wire.record import record

__all__ = ["Digests", "FileIdentity", "State"]

_OLD_ENOUGH = 2.0  # seconds since the last change
_PATIENCE = 0.05  # seconds that a transfer may be kept from its connection


@record
class FileIdentity:
    """What a file is known by as long as nobody changes it; times in nanoseconds."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, info: os.stat_result) -> FileIdentity:
        """Return the identity of the file with these attributes."""
        return cls(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


class State(enum.Enum):
    """What is to be done about a digest that is not known."""

    YOURS = "yours"  # compute it, then call `end`
    OTHERS = "others"  # somebody does: ask again


class Digests:
    """The digests of files that have been read. `wall` is the clock of file times, in seconds."""

    def __init__(self, *, wall: Callable[[], float] = time.time, patience: float = _PATIENCE) -> None:
        self._wall = wall
        self._patience = patience
        self._news = threading.Condition()
        self._known: dict[FileIdentity, str] = {}
        self._under_way: set[FileIdentity] = set()

    def begin(self, identity: FileIdentity) -> str | State:
        """Return the digest, or what to do about it. Waits for a moment where somebody else computes it."""
        with self._news:
            if identity in self._under_way:
                self._news.wait(self._patience)
            if identity in self._under_way:
                return State.OTHERS
            known = self._known.get(identity)
            if known is None:
                self._under_way.add(identity)
            return known or State.YOURS

    def end(self, identity: FileIdentity, digest: str | None, now: FileIdentity | None) -> None:
        """Note the digest of a file that is now known by `now`; None where it has not been read to its end."""
        with self._news:
            self._under_way.discard(identity)
            if digest is not None and now == identity and self._is_old(identity):
                self._known[identity] = digest
            self._news.notify_all()

    def _is_old(self, identity: FileIdentity) -> bool:
        return max(identity.modified, identity.changed) / 1e9 + _OLD_ENOUGH < self._wall()
