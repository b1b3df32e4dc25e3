"""Walking to files without being led astray: every directory on the way is opened, and only then used.

A path that is checked and then opened is two paths when somebody swaps a directory for a link in between. So nothing
here asks about a path: each name is opened in the directory that is open already, without following links, and what
is open is asked. Two kinds of path are walked:

* What the operator wrote. Links in it are followed where that gives nobody anything: a link that belongs to root or to
  us, or whose owner also owns what it points at (Apache's SymLinksIfOwnerMatch). /var/run stays usable, and a user's
  link to root's files does not.
* What a tree holds. Links in it are never followed.

Whether a directory lies in one that is allowed is decided by climbing from it to the root and comparing devices and
inodes, never by comparing strings. Names are bytes to the system; in `str` they are as `os.fsdecode` gives them.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from collections.abc import Collection

from agent.tree.errors import FileError

__all__ = [
    "Cursor",
    "Folder",
    "Identity",
    "Links",
    "check_name",
    "identity",
    "is_within",
    "kind_of",
    "open_path",
    "walk",
]

Identity = tuple[int, int]  # device and inode

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40  # as the kernel follows (path_resolution(7))
_MAX_NAME = 255  # bytes; NAME_MAX
_MAX_DEPTH = 4096


class Links(enum.Enum):
    """Which symbolic links to follow."""

    NEVER = "never"
    OWNED = "owned"  # by root, by us, or by the owner of what they point at
    ALWAYS = "always"


class Folder:
    """An open directory, by O_PATH: it may be one that we can enter and not read.

    Shared by counting: who keeps it calls `hold`, and later `release`. `path` is for messages alone.
    """

    __slots__ = ("_users", "fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self._users = 1

    @classmethod
    def root(cls) -> Folder:
        """Open the root directory. Raises FileError."""
        return cls(_open("/", "/", None), "/")

    @classmethod
    def at(cls, path: str) -> Folder:
        """Open a directory of one's own, links followed. Raises FileError."""
        try:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise FileError.from_os(f"enter {path}", error) from None
        return cls(fd, os.path.abspath(path))

    def hold(self) -> Folder:
        """Return this folder for one more user."""
        self._users += 1
        return self

    def release(self) -> None:
        """Close the folder when its last user has released it."""
        self._users -= 1
        if not self._users:
            os.close(self.fd)

    def join(self, name: str) -> str:
        """Return the path of something in the folder, for messages."""
        return f"{self.path.rstrip('/')}/{name}"

    def enter(self, name: str) -> Folder:
        """Open a directory in this one. Raises OSError: ENOTDIR also for a link."""
        return Folder(os.open(name, _FOLDER, dir_fd=self.fd), self.join(name))

    def parent(self) -> Folder:
        """Open the directory that this one lies in; the root is its own. Raises FileError."""
        return Folder(_open("..", self.path, self.fd), os.path.dirname(self.path))

    def lstat(self, name: str) -> os.stat_result | None:
        """Return what there is of that name, None if nothing. Raises FileError."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FileError.from_os(f"look at {name}", error) from None

    def names(self) -> list[str]:
        """Return the names in the folder, sorted. Raises FileError."""
        try:
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
            try:
                return sorted(os.listdir(fd))
            finally:
                os.close(fd)
        except OSError as error:
            raise FileError.from_os("list the directory", error) from None

    def sync(self) -> None:
        """Make the names in the folder last. Raises OSError."""
        try:
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        except PermissionError:  # we may write it and not read it: then nobody lets us sync it
            return
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class Cursor:
    """Finds the folders of a tree, given by their names below `base`; those on the way to the last one stay open.

    The base is borrowed. Links are not followed.
    """

    def __init__(self, base: Folder) -> None:
        self._names: tuple[str, ...] = ()
        self._folders = [base]

    def folder(self, names: tuple[str, ...]) -> Folder:
        """Return the folder, for use until the next call: who keeps it holds it. Raises OSError."""
        if names == self._names:
            return self._folders[-1]
        depth = 0
        for mine, wanted in zip(self._names, names, strict=False):
            if mine != wanted:
                break
            depth += 1
        self._leave(depth)
        for name in names[depth:]:
            self._folders.append(self._folders[-1].enter(name))
            self._names = (*self._names, name)
        return self._folders[-1]

    def close(self) -> None:
        """Close what was opened on the way."""
        self._leave(0)

    def _leave(self, depth: int) -> None:
        self._names = self._names[:depth]
        while len(self._folders) > depth + 1:
            self._folders.pop().release()


def walk(start: Folder, path: str, links: Links) -> tuple[Folder, str]:
    """Walk from `start` along what the operator wrote: (the last directory, the name in it that is none).

    The name is "" when the path is a directory, or ends in a slash. Whether there is something of that name is left
    to the caller. The folder is the caller's to release. Raises FileError.
    """
    return _Walk(links).go(start.hold(), path)


class _Walk:
    """One walk, which counts the links it follows."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._left = _MAX_LINKS

    def go(self, folder: Folder, path: str) -> tuple[Folder, str]:
        """Walk on from `folder`, which is released."""
        if path.startswith("/"):
            folder.release()
            folder = Folder.root()
        names = [name for name in path.split("/") if name not in ("", ".")]
        must_be_folder = path.endswith(("/", "/.")) or path == "."
        try:
            for number, name in enumerate(names):
                last = number == len(names) - 1
                following = self._step(folder, name, last and not must_be_folder)
                if following is None:
                    return folder, name
                folder.release()
                folder = following
        except BaseException:
            folder.release()
            raise
        return folder, ""

    def _step(self, folder: Folder, name: str, may_be_leaf: bool) -> Folder | None:
        """Return the directory `name`, None when it is something else and may be."""
        if name == "..":
            return folder.parent()
        check_name(name)
        try:
            return folder.enter(name)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                if may_be_leaf and error.errno == errno.ENOENT:
                    return None
                raise FileError.from_os(f"enter {folder.join(name)}", error) from None
        try:
            return self._follow(folder, name)
        except FileError:
            # A link to a directory that is not to be trusted must not pass for a name that is free to be replaced.
            if not may_be_leaf or _leads_to_folder(folder, name):
                raise
            return None

    def _follow(self, folder: Folder, name: str) -> Folder:
        """Return the directory that a link points at. Raises FileError where there is none, or it is not followed."""
        path = folder.join(name)
        owner, target = _read_link(folder, name)
        self._left -= 1
        if self._left < 0 or self._links is Links.NEVER:
            raise FileError(f"enter {path}", "too many links" if self._left < 0 else "is a symbolic link")
        # The last name of a link's target may be a link again: `may_be_leaf` is false, so it is followed, too.
        found, rest = self.go(folder.hold(), target.rstrip("/") + "/")
        assert not rest
        if self._links is Links.OWNED and owner not in (0, os.geteuid()) and os.fstat(found.fd).st_uid != owner:
            found.release()
            raise FileError(f"enter {path}", f"is a symbolic link of user {owner} to what belongs to somebody else")
        return found


def _read_link(folder: Folder, name: str) -> tuple[int, str]:
    """Return the owner and the target of one and the same link. Raises FileError for what is none."""
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd)
        try:
            info = os.fstat(fd)
            if not stat.S_ISLNK(info.st_mode):
                raise FileError(f"enter {folder.join(name)}", "not a directory")
            return info.st_uid, os.readlink("", dir_fd=fd)  # of what is open: readlinkat(2)
        finally:
            os.close(fd)
    except OSError as error:
        raise FileError.from_os(f"enter {folder.join(name)}", error) from None


def _leads_to_folder(folder: Folder, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder.fd).st_mode)
    except OSError:
        return False


def open_path(path: str, *, home: str, links: Links) -> tuple[Folder, str]:
    """Walk along an operator's path, from the root or from `home`, as `walk`. Raises FileError."""
    root = Folder.root()
    try:
        if path.startswith("/"):
            return walk(root, path, links)
        start, rest = walk(root, home.rstrip("/") + "/", Links.ALWAYS)  # the administrator chose it
        assert not rest
        try:
            return walk(start, path, links)
        finally:
            start.release()
    finally:
        root.release()


def identity(path: str) -> Identity | None:
    """Return which directory an administrator's path is, links followed; None when it is none."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return (info.st_dev, info.st_ino) if stat.S_ISDIR(info.st_mode) else None


def is_within(folder: Folder, roots: Collection[Identity]) -> bool:
    """Whether a folder is one of `roots`, or lies in one. Raises FileError."""
    here = folder.hold()
    try:
        for _ in range(_MAX_DEPTH):
            info = os.fstat(here.fd)
            if (info.st_dev, info.st_ino) in roots:
                return True
            above = here.parent()
            here.release()
            here = above
            up = os.fstat(here.fd)
            if (up.st_dev, up.st_ino) == (info.st_dev, info.st_ino):
                return False
        return False
    finally:
        here.release()


def check_name(name: str) -> None:
    """Refuse a name that nobody means: too long, or with what moves a terminal. Raises FileError."""
    length = len(os.fsencode(name))
    if length > _MAX_NAME:
        raise FileError("", f"name of {length} bytes, expected no more than {_MAX_NAME}")
    if not name.isprintable() and any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise FileError("", f"control character in the name {name!r}")


_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


def kind_of(mode: int) -> str:
    """Return what a file of that mode is, in words."""
    return next((words for test, words in _KINDS if test(mode)), "a regular file")


def _open(name: str, path: str, inside: int | None) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=inside)
    except OSError as error:
        raise FileError.from_os(f"enter {path}", error) from None
