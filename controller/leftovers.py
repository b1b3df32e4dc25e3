"""What a pull that was killed has left below its folder, and how the next one finds it.

While a pull makes temporary names, a file `.fleet-TOKEN` in its folder says in which directories it does. That file is
locked, by a lock that the kernel takes back however the pull ends: so a pull at its start can tell the dead ones from
those that are under way beside it, in this process and in others. The rule: removed are names that hold the token of
a dead one, in directories below the folder, and no link is followed to them; whatever such a file may say.

What is worth to be continued is no leftover. It has another name, by which the receiver finds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from typing import BinaryIO

from agent.tree.committer import Hooks
from agent.tree.errors import FileError
from agent.tree.paths import Cursor, Folder
from agent.tree.writer import unlink_quietly

__all__ = ["Mark", "sweep"]

_HEAD = "temporary names of a pull under way"
_MARK = re.compile(r"\.fleet-([0-9a-f]{16})")
_LONGEST = 64 * 1024  # bytes of a line: a path of 4096 bytes, escaped
_REMEMBERED = 256  # directories that need no second line
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ATTEMPTS = 3


class Mark(Hooks):
    """The file that tells of one pull into `base`, which is borrowed. It is made with the first temporary name."""

    def __init__(self, base: Folder) -> None:
        self.token = os.urandom(8).hex()
        self._base = base
        self._name = f".fleet-{self.token}"
        self._fd: int | None = None
        self._known: set[str] = set()

    def using(self, folder: Folder, name: str) -> None:
        """Note the directory. Where that cannot be, the pull goes on without."""
        below = folder.path.removeprefix(self._base.path.rstrip("/")).strip("/")
        if below in self._known:
            return
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known.add(below)
        try:
            if self._fd is None:
                self._fd = self._make()
            os.write(self._fd, json.dumps(below).encode("ascii") + b"\n")
        except OSError:  # a full disk, or one that knows no locks: the files themselves will tell, if it matters
            return

    def close(self) -> None:
        """Remove it: nothing temporary is left."""
        if self._fd is not None:
            unlink_quietly(self._base, self._name)
            os.close(self._fd)
            self._fd = None

    def _make(self) -> int:
        for _ in range(_ATTEMPTS):
            fd = os.open(self._name, _CREATE, 0o600, dir_fd=self._base.fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:
                    os.write(fd, json.dumps(_HEAD).encode("ascii") + b"\n")
                    return fd
            except BlockingIOError:  # another pull takes it for a dead one's, and removes it
                pass
            except OSError:
                unlink_quietly(self._base, self._name)
                os.close(fd)
                raise
            os.close(fd)
        raise FileExistsError(self._name)


def sweep(base: Folder) -> None:
    """Remove what dead pulls left below a folder. What cannot be removed stays, and hinders nobody."""
    try:
        names = base.names()
    except FileError:
        return
    for name in names:
        if (match := _MARK.fullmatch(name)) is not None:
            try:
                _sweep_one(base, name, match[1])
            except OSError:
                continue


def _sweep_one(base: Folder, name: str, token: str) -> None:
    """Remove what one pull left, and then its mark. Raises OSError."""
    with open(os.open(name, _OPEN, dir_fd=base.fd), "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) != 0o600:
            return
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or its pull is under way
        if not os.fstat(file.fileno()).st_nlink:  # it was, until a moment ago
            return
        first = file.readline(_LONGEST)
        if first and first != json.dumps(_HEAD).encode("ascii") + b"\n":
            return  # a file that is only called so
        cursor = Cursor(base)
        try:
            for below in _directories(file):
                _sweep_folder(cursor, below, re.compile(rf"\..+\.fleet-{token}[a-z][0-9a-f]+", re.DOTALL))
        finally:
            cursor.close()
        unlink_quietly(base, name)


def _directories(file: BinaryIO) -> Iterator[tuple[str, ...]]:
    """Yield the names that lead to each directory, up to a line that was cut."""
    while line := file.readline(_LONGEST):
        try:
            below = json.loads(line)
        except ValueError:
            return
        names = tuple(below.split("/")) if isinstance(below, str) and below else ()
        if not any(name in ("", ".", "..") or "\0" in name for name in names):
            yield names


def _sweep_folder(cursor: Cursor, names: tuple[str, ...], temporary: re.Pattern[str]) -> None:
    try:
        folder = cursor.folder(names)
        found = folder.names()
    except (OSError, FileError):  # it is gone, or a link now
        return
    for name in found:
        if temporary.fullmatch(name):
            unlink_quietly(folder, name)
