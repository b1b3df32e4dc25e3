"""What is known of files that are sent to many: the SHA-256 of each is computed once, whoever asks for it first, and
small ones are read once, as far as there is room.

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

__all__ = ["Digests", "FileIdentity", "Held", "State"]

_OLD_ENOUGH = 2.0  # seconds since the last change
_MORE_THAN_DATA = 600  # bytes that a small file takes in memory besides its content, about
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


@record
class Held:
    """The content of a small file that is in memory, and its SHA-256."""

    data: bytes
    sha256: str


class State(enum.Enum):
    """What is to be done about a digest that is not known."""

    YOURS = "yours"  # compute it, then call `end`
    OTHERS = "others"  # somebody does: ask again


class Digests:
    """The digests of files that have been read, and the contents of small ones in up to `room` bytes of memory. `wall`
    is the clock of file times, in seconds."""

    def __init__(self, *, room: int = 0, wall: Callable[[], float] = time.time, patience: float = _PATIENCE) -> None:
        self._room = room
        self._wall = wall
        self._patience = patience
        self._held: dict[FileIdentity, Held] = {}
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

    def held(self, identity: FileIdentity | None) -> Held | None:
        """Return the content of a small file, if it is known which one it is, and if it is in memory."""
        return None if identity is None else self._held.get(identity)

    def keep(self, identity: FileIdentity, content: Held, now: FileIdentity) -> None:
        """Keep the content of a small file that is known by `now` after it was read, if there is room."""
        if now != identity or not self._is_old(identity):
            return
        size = len(content.data) + _MORE_THAN_DATA
        with self._news:
            if identity not in self._held and size <= self._room:
                self._room -= size
                self._held[identity] = content

    def _is_old(self, identity: FileIdentity) -> bool:
        return max(identity.modified, identity.changed) / 1e9 + _OLD_ENOUGH < self._wall()
