"""One file that is being written: beside its target, under a name of its own, closed to others until it is whole.

The old file is there, untouched, until the rename; the rename comes after the data has been synced and its digest
compared, and replaces the name itself, never what a link of that name points at. What is left of an interrupted
transfer is renamed to a fixed name (`.NAME.fleet-part`), by which the next one finds it, and takes it away from every
other by renaming it again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator

from agent.tree.content import PIECE, zeros
from agent.tree.errors import FileError
from agent.tree.paths import Folder
from agent.wire.record import record

__all__ = [
    "WORTH_KEEPING",
    "Attributes",
    "Temporary",
    "is_ours",
    "part_name",
    "take_part",
    "temporary_name",
    "unlink_quietly",
]

_MARK = ".fleet-"
_PART = "part"
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REOPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ROOM = 200  # bytes of the target's name in a temporary one
WORTH_KEEPING = 64 * 1024  # bytes; less is sent again sooner than it is compared
# Every so many bytes the kernel is told to start writing: else a large file is synced in one long wait at its end.
_WRITE_OUT = 32 * 1024 * 1024


@record
class Attributes:
    """What a finished file is to have. None and -1 leave it as it is; `must_own` makes a refused owner an error."""

    mode: int | None = None
    owner: int = -1
    group: int = -1
    mtime: int | None = None
    must_own: bool = False

    def apply(self, fd: int) -> None:
        """Give them to an open file. Raises FileError."""
        if self.owner != -1 or self.group != -1:
            self._own(fd)  # before the mode: a change of the owner clears setuid and setgid (chown(2))
        action = "set the mode"
        try:
            if self.mode is not None:
                os.fchmod(fd, self.mode)
            action = "set the times"
            if self.mtime is not None:
                os.utime(fd, ns=(self.mtime, self.mtime))
        except OSError as error:
            raise FileError.from_os(action, error) from None

    def _own(self, fd: int) -> None:
        try:
            os.fchown(fd, self.owner, self.group)
        except OSError as error:
            # An ordinary user's new file cannot be given to the owner of the old one; that was not asked for either.
            if self.must_own or error.errno != errno.EPERM:
                raise FileError.from_os("set the owner", error) from None


def temporary_name(name: str, token: str) -> str:
    """Return a name beside `name` that nobody else uses."""
    return f".{os.fsdecode(os.fsencode(name)[:_ROOM])}{_MARK}{token}"


def part_name(name: str) -> str:
    """Return the name under which an interrupted transfer of `name` is kept."""
    return temporary_name(name, _PART)


def is_ours(name: str, token: str = "") -> bool:
    """Whether a name is a temporary one: any, or that of one transfer."""
    return name.startswith(".") and f"{_MARK}{token}" in name


class Temporary:
    """A file of ours on its way. `fd` is None when it was closed for now. Owns its folder's hold."""

    __slots__ = ("_finished", "_min_free", "_written_out", "digest", "fd", "folder", "name", "offset", "target")

    def __init__(self, folder: Folder, target: str, name: str, fd: int, *, min_free: int = 0) -> None:
        self.folder = folder.hold()
        self.target = target
        self.name = name
        self.fd: int | None = fd
        self.offset = 0
        self.digest = hashlib.sha256()
        self._written_out = 0
        self._min_free = min_free
        self._finished = False

    @classmethod
    def create(cls, folder: Folder, target: str, token: str, *, min_free: int = 0) -> Temporary:
        """Make an empty one. Raises FileError."""
        name = temporary_name(target, token)
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=folder.fd)
        except OSError as error:
            raise FileError.from_os("create the new file", error) from None
        return cls(folder, target, name, fd, min_free=min_free)

    def write(self, data: bytes | memoryview) -> None:
        """Write the next bytes. Raises FileError."""
        assert self.fd is not None
        self.digest.update(data)
        try:
            written = os.pwrite(self.fd, data, self.offset)
            while written < len(data):
                written += os.pwrite(self.fd, memoryview(data)[written:], self.offset + written)
        except OSError as error:
            raise FileError.from_os("write the new file", error) from None
        self.offset += len(data)
        if self.offset - self._written_out >= _WRITE_OUT:
            self._write_out()

    def hole(self, length: int) -> None:
        """Leave out so many bytes, which read as zeros. Raises FileError."""
        assert self.fd is not None
        zeros(self.digest, length)
        self.offset += length
        try:
            os.ftruncate(self.fd, self.offset)
        except OSError as error:
            raise FileError.from_os("write the new file", error) from None

    def read_again(self) -> Iterator[bool]:
        """Take what an earlier transfer wrote into the digest; yields between pieces. Raises FileError."""
        assert self.fd is not None
        while True:
            try:
                data = os.pread(self.fd, PIECE, self.offset)
            except OSError as error:
                raise FileError.from_os("read the new file", error) from None
            if not data:
                return
            self.digest.update(data)
            self.offset += len(data)
            yield True

    def restart(self) -> None:
        """Forget what was written. Raises FileError."""
        assert self.fd is not None
        self.digest = hashlib.sha256()
        self.offset = self._written_out = 0
        try:
            os.ftruncate(self.fd, 0)
        except OSError as error:
            raise FileError.from_os("write the new file", error) from None

    def finish(self, attributes: Attributes) -> None:
        """Set owner, mode and times of the whole file. Raises FileError."""
        assert self.fd is not None
        self._finished = True
        attributes.apply(self.fd)

    def sync(self) -> None:
        """Make the data last. Raises FileError."""
        assert self.fd is not None
        try:
            os.fsync(self.fd)
        except OSError as error:
            raise FileError.from_os("sync the new file", error) from None

    def close(self) -> None:
        """Close the file, which stays where it is."""
        if self.fd is not None:
            fd, self.fd = self.fd, None
            os.close(fd)

    def replace(self) -> None:
        """Give it the target's name, and let go of it. Raises FileError, and then it is still there."""
        try:
            os.rename(self.name, self.target, src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd)
        except OSError as error:
            raise FileError.from_os("rename the new file", error) from None
        self.close()
        self.folder.release()

    def discard(self) -> None:
        """Remove it, and let go of it."""
        self.close()
        unlink_quietly(self.folder, self.name)
        self.folder.release()

    def keep(self) -> None:
        """Leave it for the next transfer of the same file if that is worth it, and let go of it."""
        if self.offset < WORTH_KEEPING or self._finished:  # whole ones take their place soon: there are few of them
            self.discard()
            return
        self.close()
        try:
            part = part_name(self.target)
            os.rename(self.name, part, src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd)
        except OSError:
            self.discard()
            return
        self.folder.release()

    def _write_out(self) -> None:
        assert self.fd is not None
        start, self._written_out = self._written_out, self.offset
        # Linux starts writing dirty pages and does not wait (mm/fadvise.c); os has no sync_file_range(2).
        os.posix_fadvise(self.fd, start, self.offset - start, os.POSIX_FADV_DONTNEED)
        if self._min_free:
            space = os.fstatvfs(self.fd)
            if space.f_bavail * space.f_frsize < self._min_free:
                raise FileError("write the new file", f"less than {self._min_free} bytes would stay free on the disk")


def take_part(
    folder: Folder, target: str, token: str, *, using: Callable[[], None], min_free: int = 0
) -> Temporary | None:
    """Take what an interrupted transfer of `target` left, if it is ours and nobody else has ever had it.

    `using` is called before it gets the name with `token`. The digest and the offset of the result are still at the
    start.
    """
    part = part_name(target)
    if not _is_part(folder.lstat(part)):
        return None
    name = temporary_name(target, token)
    using()
    try:
        os.rename(part, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    except OSError:  # another transfer was quicker
        return None
    try:
        fd = os.open(name, _REOPEN, dir_fd=folder.fd)
    except OSError:
        unlink_quietly(folder, name)
        return None
    part_file = Temporary(folder, target, name, fd, min_free=min_free)
    if not _is_part(os.fstat(fd)):  # somebody has put something else in its place
        part_file.discard()
        return None
    return part_file


def unlink_quietly(folder: Folder, name: str) -> None:
    """Remove a temporary name, if it is still there."""
    try:
        os.unlink(name, dir_fd=folder.fd)
    except OSError:  # somebody else did, or the disk is gone: there is nothing left that we could do
        pass


def _is_part(info: os.stat_result | None) -> bool:
    """Whether that can be trusted to be what we wrote: one name, our own, closed to others from the start."""
    return (
        info is not None
        and stat.S_ISREG(info.st_mode)
        and info.st_uid == os.geteuid()
        and info.st_nlink == 1
        and stat.S_IMODE(info.st_mode) == 0o600
    )
