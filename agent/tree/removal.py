"""Removing what the sender does not have, and telling of everything that went; a check tells and removes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from agent.tree.errors import FileError
from agent.tree.paths import Folder
from agent.wire.file_messages import FileStatus, Outcome

__all__ = ["remove"]

_DEEPEST = 256  # directories within directories, each of which is open meanwhile


def remove(folder: Folder, name: str, *, check: bool, depth: int = 0) -> Iterator[Outcome]:
    """Remove a name and everything below it, never through a link. Yields an outcome for each, the contents first."""
    path = folder.join(name)
    info = None
    try:
        info = folder.lstat(name)
        if info is None:
            return
        if not stat.S_ISDIR(info.st_mode):
            if not check:
                os.unlink(name, dir_fd=folder.fd)
        else:
            if depth == _DEEPEST:
                raise FileError("delete it", f"more than {_DEEPEST} directories deep")
            inner = folder.enter(name)
            try:
                for one in inner.names():
                    yield from remove(inner, one, check=check, depth=depth + 1)
            finally:
                inner.release()
            if not check:
                os.rmdir(name, dir_fd=folder.fd)
    except OSError as error:
        yield Outcome(path, FileStatus.FAILED, error=str(FileError.from_os("delete it", error)))
        return
    except FileError as error:
        yield Outcome(path, FileStatus.FAILED, error=str(error))
        return
    size = info.st_size if stat.S_ISREG(info.st_mode) else 0
    yield Outcome(path, FileStatus.DELETED, bytes=size, changes="deleted")
