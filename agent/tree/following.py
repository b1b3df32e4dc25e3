"""Links among what is to be sent: left as links, or followed, by the rules of `paths`, wherever a name may be one.

What a followed link points at must lie in the roots, if there are any; and where links are followed that are OWNED, it
must belong to the link's owner, unless that is root or we.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection

from agent.tree.errors import FileError
from agent.tree.paths import Folder, Identity, Links, is_within, walk
from agent.wire.record import record

__all__ = ["READ", "Follower", "enter"]

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a FIFO must not wait for its writer
_LINKS = 40  # as the kernel follows (path_resolution(7))


@record
class Follower:
    """The rules of one listing."""

    follow: bool
    links: Links
    roots: Collection[Identity] | None

    def look(self, folder: Folder, name: str) -> tuple[Folder, str, os.stat_result] | None:
        """Return where a name really is: itself, or with `follow` what a link points at; None when there is nothing.

        The folder is the caller's to release. Raises FileError.
        """
        if not name:
            return folder.hold(), "", os.fstat(folder.fd)
        info = folder.lstat(name)
        if info is None:
            return None
        folder.hold()
        if not self.follow:
            return folder, name, info
        for _ in range(_LINKS):
            if not stat.S_ISLNK(info.st_mode):
                return folder, name, info
            folder, name, info = self._take(folder, name)
        folder.release()
        raise FileError.from_os("follow the link", OSError(errno.ELOOP, ""))

    def _take(self, folder: Folder, name: str) -> tuple[Folder, str, os.stat_result]:
        """Take one link. Releases `folder`."""
        try:
            owner = os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_uid
            target = os.readlink(name, dir_fd=folder.fd)
            where, rest = walk(folder, target, self.links)
        except OSError as error:
            raise FileError.from_os("follow the link", error) from None
        finally:
            folder.release()
        try:
            info = where.lstat(rest) if rest else os.fstat(where.fd)
            if info is None:
                raise FileError("", f"is a link to {target}, which is not there")
            if self.roots is not None and not is_within(where, self.roots):
                raise FileError("", f"is a link to {target}, which is outside of what may be pulled")
            if self.links is Links.OWNED and owner not in (0, os.geteuid()) and info.st_uid != owner:
                raise FileError("", f"is a link of user {owner} to what belongs to somebody else")
        except FileError:
            where.release()
            raise
        return where, rest, info

    def open(self, folder: Folder, names: tuple[str, ...]) -> int:
        """Open a file by names that may be links: each is followed by the same rules as when it was listed.

        Raises FileError, and OSError.
        """
        here = folder.hold()
        try:
            for number, name in enumerate(names):
                found = self.look(here, name)
                if found is None:
                    raise FileError("", "vanished")
                here.release()
                here, real, _ = found
                if number == len(names) - 1:
                    return os.open(real, READ, dir_fd=here.fd) if real else os.open(".", READ, dir_fd=here.fd)
                if real:
                    inner = enter(here, real)
                    here.release()
                    here = inner
        finally:
            here.release()
        raise FileError("", "vanished")


def enter(folder: Folder, name: str) -> Folder:
    """Open a directory in another, or that itself when there is no name. Raises FileError."""
    if not name:
        return folder.hold()
    try:
        return folder.enter(name)
    except OSError as error:
        raise FileError.from_os("enter the directory", error) from None
