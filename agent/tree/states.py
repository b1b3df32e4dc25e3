"""What is under a name, in a line that can be noted and compared later: also after a restart, and by another process.

A file is its content, a symbolic link what it points at. Everything else is itself and nobody's copy: a directory is as
large as its tree, and that is not read to move it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator

from agent.tree.content import digest_of
from agent.tree.errors import FileError
from agent.tree.paths import Folder
from agent.wire.record import record

__all__ = ["NOTHING", "State", "state_of"]

NOTHING = ""  # the text of a name that nothing has
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@record
class State:
    """`text` is what is compared; `size` (bytes) and `sha256` are of a file's content."""

    text: str
    size: int = 0
    sha256: str | None = None

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.text.startswith(_LINK)


_LINK = "-> "


def state_of(folder: Folder, name: str) -> Generator[bool, None, State | None]:
    """Return what is there, None for nothing; yields while it reads. Raises FileError."""
    try:
        info = folder.lstat(name)
        if info is None:
            return None
        if stat.S_ISLNK(info.st_mode):
            return State(_LINK + os.readlink(name, dir_fd=folder.fd))
        if not stat.S_ISREG(info.st_mode):
            return State(f"inode {info.st_ino}")
        fd = os.open(name, _READ, dir_fd=folder.fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError.from_os(f"read {name}", error) from None
    try:
        size, sha256 = yield from digest_of(fd, longest=os.fstat(fd).st_size)
        return State(sha256, size, sha256)
    finally:
        os.close(fd)
