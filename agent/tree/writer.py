"""One file that is being written: beside its target, under a name of its own, closed to others until it is whole.

The old file is there, untouched, until the rename; the rename comes after the data has been synced and its digest
compared, and replaces the name itself, never what a link of that name points at.

What is worth to be continued is written under a fixed name (`.NAME.fleet-part`) from its first byte on, so the next
transfer finds it however this one ends. Whoever writes it holds a lock on it, which the kernel takes back when its
process dies: who gets the lock has it for himself, and who does not writes under a name of his own. It leaves the
fixed name when it is whole, before it is given its owner and mode: what has been open to others is not continued.
"""

from __future__ import annotations

import errno
import fcntl
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
    if len(name) > _ROOM or not name.isascii():
        name = os.fsdecode(os.fsencode(name)[:_ROOM])
    return f".{name}{_MARK}{token}"


def part_name(name: str) -> str:
    """Return the name under which an interrupted transfer of `name` is kept."""
    return temporary_name(name, _PART)


def is_ours(name: str, token: str = "") -> bool:
    """Whether a name is a temporary one: any, or that of one transfer."""
    return name.startswith(".") and f"{_MARK}{token}" in name


class Temporary:
    """A file of ours on its way. `fd` is None when it was closed for now. Owns its folder's hold.

    `name` is what it is called now, and `own_name` what nobody but this transfer will ever call it.
    """

    __slots__ = (
        "_attributes",
        "_min_free",
        "_own_name",
        "_settled",
        "_written_out",
        "digest",
        "fd",
        "folder",
        "name",
        "offset",
        "target",
    )

    def __init__(self, folder: Folder, target: str, name: str, fd: int, *, own_name: str, min_free: int = 0) -> None:
        self.folder = folder.hold()
        self.target = target
        self.name = name
        self.fd: int | None = fd
        self.offset = 0
        self.digest = hashlib.sha256()
        self._own_name = own_name
        self._written_out = 0
        self._min_free = min_free
        self._attributes: Attributes | None = None
        self._settled = False

    @classmethod
    def create(cls, folder: Folder, target: str, token: str, *, size: int = 0, min_free: int = 0) -> Temporary:
        """Make an empty one for `size` bytes: where the next transfer finds it, if worth it. Raises FileError."""
        own = temporary_name(target, token)
        if size >= WORTH_KEEPING:
            part = part_name(target)
            if (fd := _create_part(folder, part)) is not None:
                return cls(folder, target, part, fd, own_name=own, min_free=min_free)
        try:
            fd = os.open(own, _CREATE, 0o600, dir_fd=folder.fd)
        except OSError as error:
            raise FileError.from_os("create the new file", error) from None
        return cls(folder, target, own, fd, own_name=own, min_free=min_free)

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
        """Note owner, mode and times of the whole file, which it has after `settle`. Raises FileError."""
        self._attributes = attributes
        if self.name == self._own_name:
            self.settle()

    def settle(self) -> None:
        """Leave the name that others look for, then set owner, mode and times. Raises FileError."""
        assert self.fd is not None
        attributes, self._attributes = self._attributes, None
        if attributes is None:
            return
        self._settled = True
        if self.name != self._own_name:
            self._rename_to_own()
        attributes.apply(self.fd)

    def _rename_to_own(self) -> None:
        # A sender may have a file of its own that is called as our remains are, and which has come meanwhile.
        if not self._is_at(self.name):
            raise FileError("rename the new file", "it was replaced meanwhile")
        try:
            os.rename(self.name, self._own_name, src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd)
        except OSError as error:
            raise FileError.from_os("rename the new file", error) from None
        self.name = self._own_name

    def sync(self) -> None:
        """Make the data last, and settle it. Raises FileError."""
        assert self.fd is not None
        try:
            if self._attributes is not None and self.offset >= _WRITE_OUT:
                os.fdatasync(self.fd)  # which takes long, and until then the next transfer could go on from here
            self.settle()
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
        if self.name != self._own_name:
            self._rename_to_own()
        try:
            os.rename(self.name, self.target, src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd)
        except OSError as error:
            raise FileError.from_os("rename the new file", error) from None
        self.close()
        self.folder.release()

    def discard(self) -> None:
        """Remove it, and let go of it."""
        if self.name == self._own_name or self._is_at(self.name):
            unlink_quietly(self.folder, self.name)  # before it is unlocked, and somebody else's
        self.close()
        self.folder.release()

    def keep(self) -> None:
        """Leave it for the next transfer of the same file if that is worth it, and let go of it."""
        # How much of an earlier one's we have read again says nothing about how much there is.
        if self.fd is None or self._settled or os.fstat(self.fd).st_size < WORTH_KEEPING or not self._is_found():
            self.discard()
            return
        self.close()
        self.folder.release()

    def _is_found(self) -> bool:
        """Whether the next transfer finds it, or does from now on."""
        assert self.fd is not None
        if self.name != self._own_name:
            return True
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # where that cannot be, nobody could take it either
            # Never a rename: what has that name may be under way.
            part = part_name(self.target)
            os.link(self.name, part, src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd, follow_symlinks=False)
        except OSError:
            return False
        unlink_quietly(self.folder, self.name)
        return True

    def _is_at(self, name: str) -> bool:
        assert self.fd is not None
        return _is_at(self.folder, name, self.fd)

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
    """Take what an interrupted transfer of `target` left, if it is ours and nobody else has it or ever had.

    `using` is called before. The digest and the offset of the result are still at the start.
    """
    part = part_name(target)
    if not _is_part(folder.lstat(part)):
        return None
    using()
    try:
        fd = os.open(part, _REOPEN, dir_fd=folder.fd)
    except OSError:
        return None
    if not (_is_part(os.fstat(fd)) and _lock(fd) and _is_at(folder, part, fd)):
        os.close(fd)  # it is under way, or was until a moment ago, or somebody has put something else in its place
        return None
    return Temporary(folder, target, part, fd, own_name=temporary_name(target, token), min_free=min_free)


def _create_part(folder: Folder, part: str) -> int | None:
    """Make and lock it, None where that cannot be. What else may be wrong is met again under the other name."""
    try:
        fd = os.open(part, _CREATE, 0o600, dir_fd=folder.fd)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # another transfer has found it already
        os.close(fd)
        return None
    except OSError:  # there are no locks on that file system
        unlink_quietly(folder, part)
        os.close(fd)
        return None
    if not _is_at(folder, part, fd):  # another had found it, and is done with it
        os.close(fd)
        return None
    return fd


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(folder: Folder, name: str, fd: int) -> bool:
    """Whether an open file has that name now."""
    try:
        there, here = os.stat(name, dir_fd=folder.fd, follow_symlinks=False), os.fstat(fd)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


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
