"""A new file while a command that validates it has its name: what takes the old one's place must be what was sent.

The command runs with our rights, so it may write the file, change its mode, or put something else in its place; what is
reported of the file, its SHA-256 before all, would then be of another one.
"""

from __future__ import annotations

import os
from collections.abc import Generator

from agent.tree.content import digest_of
from agent.tree.errors import FileError
from agent.tree.writer import Temporary

__all__ = ["Seal"]

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Seal:
    """A finished file as it is now. Owns a descriptor: while that is open no other file can get the inode's number."""

    def __init__(self, temporary: Temporary, *, times: bool) -> None:
        """Note what it is; `times` says that its modification time counts. Raises FileError."""
        self._folder = temporary.folder
        self._name = temporary.name
        self._times = times
        try:
            if temporary.fd is not None:  # its mode may forbid to open it again
                self._fd = os.dup(temporary.fd)
            else:
                self._fd = os.open(self._name, _READ, dir_fd=self._folder.fd)
        except OSError as error:
            raise FileError.from_os("read the new file", error) from None
        self._before = os.fstat(self._fd)

    def check(self, sha256: str | None) -> Generator[bool, None, None]:
        """Require that the name leads to the same file with that content; yields between pieces. Raises FileError."""
        now = self._folder.lstat(self._name)
        if now is None or self._known_by(now) != self._known_by(self._before):
            raise FileError("", "the validation command changed the file")
        _, found = yield from digest_of(self._fd, longest=self._before.st_size)
        if found != sha256:
            raise FileError("", "the validation command changed the file")
        if now.st_ctime_ns != self._before.st_ctime_ns:
            self._sync()  # it may have written the same again

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

    def _known_by(self, info: os.stat_result) -> tuple[int, ...]:
        mtime = info.st_mtime_ns if self._times else 0
        return (
            *(info.st_dev, info.st_ino, info.st_mode, info.st_uid, info.st_gid),
            *(info.st_nlink, info.st_size, mtime),
        )

    def _sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise FileError.from_os("sync the new file", error) from None
