"""Files and folders that decide who may do what here: used only where nobody else could have written them.

The rules are OpenSSH's StrictModes (sshd_config(5)): the file is ours or root's, is no symbolic link, and others may
not write it; where it holds a key, they may not read it either. What is checked is the open descriptor, never the
path, so that nothing can be swapped between the check and the read. Nothing here knows what the files mean.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat

from agent.errors import AgentError
from agent.wire.record import record

__all__ = ["PRIVATE", "UNWRITABLE", "Folder", "TrustError", "fault", "make_folders", "read_file"]

# What the group and others may not do: the bits that a mode must not have.
PRIVATE = 0o077
UNWRITABLE = 0o022


class TrustError(AgentError):
    """A file or folder that cannot be used, or should not be trusted."""

    @classmethod
    def from_os(cls, path: str, error: OSError) -> TrustError:
        """Put a failed system call in our words."""
        if error.errno == errno.ELOOP:  # what O_NOFOLLOW answers
            return cls(path, "is a symbolic link", "name the file itself")
        return cls(path, (error.strerror or str(error)).lower())


def fault(info: os.stat_result, *, uid: int, forbidden: int) -> tuple[str, str] | None:
    """Say what is wrong with an owner or a mode, and the command that mends it but for the path; None if nothing is."""
    if info.st_uid not in (uid, 0):
        expected = f"user {uid} or root" if uid else "root"
        return f"belongs to user {info.st_uid}, expected {expected}", f"chown {uid}"
    mode = stat.S_IMODE(info.st_mode)
    if mode & forbidden:
        how = "is writable by" if forbidden == UNWRITABLE else "is open to"
        return f"{how} its group or others (mode {mode:04o})", f"chmod {mode & ~forbidden:o}"
    return None


def read_file(path: str, *, limit: int, forbidden: int = PRIVATE) -> str:
    """Return the text of a regular file of at most `limit` bytes, after its owner and mode were checked.

    Raises TrustError.
    """
    return _read(path, path, None, limit, forbidden)


def make_folders(path: str) -> None:
    """Make a folder, and what is missing above it, each closed to others from the start. Raises TrustError."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path) or "."
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700)
        except OSError as error:
            if not os.path.isdir(folder):  # else somebody was quicker
                raise TrustError.from_os(folder, error) from None


@record
class Folder:
    """An open folder whose owner and mode were checked; everything in it is reached through its descriptor.

    `path` is for messages alone. Use it in a `with` block, which closes it.
    """

    path: str
    descriptor: int

    @classmethod
    def open(cls, path: str, *, forbidden: int) -> Folder:
        """Open the folder that the user named, which may be a symbolic link.

        Raises TrustError, but FileNotFoundError where there is nothing: the caller knows the next step.
        """
        return cls(path, _open_folder(path, path, None, 0, forbidden))

    def inner(self, name: str, *, forbidden: int) -> Folder:
        """Open a folder in this one, which may not be a symbolic link. Raises as `open`."""
        path = os.path.join(self.path, name)
        return Folder(path, _open_folder(name, path, self.descriptor, os.O_NOFOLLOW, forbidden))

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.descriptor)

    def names(self) -> list[str]:
        """Return the names of what is in the folder, sorted, without the hidden ones."""
        return sorted(name for name in os.listdir(self.descriptor) if not name.startswith("."))

    def read(self, name: str, *, limit: int, forbidden: int = PRIVATE) -> str:
        """Return the text of a file in the folder, as `read_file`."""
        return _read(name, os.path.join(self.path, name), self.descriptor, limit, forbidden)

    def replace(self, name: str, text: str) -> None:
        """Write a file of mode 0600, whole or not at all, also after a power cut.

        Raises TrustError; then the earlier file is as it was.
        """
        temporary = f".{name}.{os.urandom(8).hex()}.tmp"  # hidden, so that a leftover is no entry of the folder
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(temporary, flags, 0o600, dir_fd=self.descriptor)
            try:
                with open(descriptor, "wb") as file:
                    file.write(text.encode())
                    file.flush()
                    os.fsync(descriptor)
                os.replace(temporary, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
            except BaseException:
                os.unlink(temporary, dir_fd=self.descriptor)
                raise
            os.fsync(self.descriptor)
        except OSError as error:
            raise TrustError.from_os(os.path.join(self.path, name), error) from None


def _open_folder(name: str, path: str, inside: int | None, extra_flags: int, forbidden: int) -> int:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | extra_flags, dir_fd=inside)
    except FileNotFoundError:
        raise
    except NotADirectoryError:  # also what O_DIRECTORY with O_NOFOLLOW says of a symbolic link
        raise TrustError(path, "is not a folder") from None
    except OSError as error:
        raise TrustError.from_os(path, error) from None
    try:
        _check(descriptor, path, forbidden)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read(name: str, path: str, inside: int | None, limit: int, forbidden: int) -> str:
    # O_NONBLOCK: opening a FIFO must not wait for its writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=inside)
    except OSError as error:
        raise TrustError.from_os(path, error) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TrustError(path, "is not a regular file")
        _check(descriptor, path, forbidden)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise TrustError.from_os(path, error) from None
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise TrustError(path, f"is longer than {limit} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TrustError(f"{path}:{line}", f"not UTF-8: byte 0x{data[error.start]:02x}") from None


def _check(descriptor: int, path: str, forbidden: int) -> None:
    if found := fault(os.fstat(descriptor), uid=os.geteuid(), forbidden=forbidden):
        why, command = found
        raise TrustError(path, why, f"{command} {shlex.quote(path)}")
