"""Files that are sent from memory, to however many hosts: small ones, read once, and templates, filled in for each.

Nothing of them is ever in a folder of this machine: they may hold passwords, and whoever is stopped by a second Ctrl-C
or by SIGKILL clears nothing up.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence

from agent.tree.content import PAGE
from agent.tree.digests import Held
from agent.tree.entries import Item, Source
from agent.tree.errors import FileError
from agent.tree.following import READ
from agent.tree.options import SenderOptions
from agent.tree.patterns import Patterns
from agent.wire.file_messages import Entry, Kind
from agent.wire.record import record
from controller.differences import LARGEST, Content
from controller.sources import LocalSource

__all__ = ["HeldFile", "HeldFiles", "read_small"]

_MOST_HELD = 4 * 1024 * 1024  # bytes of all small files together


@record
class HeldFile:
    """A file called `name` in the transfer; `mtime` in nanoseconds. One that is not small is sent as others are, by its
    descriptor, and has no `held`."""

    name: str
    data: bytes
    mode: int
    mtime: int
    held: Held | None

    @classmethod
    def of(cls, name: str, data: bytes, mode: int, mtime: int) -> HeldFile:
        """Return the file that holds `data`."""
        held = Held(data, hashlib.sha256(data).hexdigest()) if 0 < len(data) <= PAGE else None
        return cls(name, data, mode, mtime, held)


def read_small(sources: Sequence[LocalSource], *, follow: bool) -> list[HeldFile]:
    """Read sources that are small files, each one; nothing when there is another among them.

    What this does not read, such as a directory, a link or what changes under our eyes, each transfer looks at itself.
    """
    files = []
    left = _MOST_HELD
    for source in sources:
        file = None if source.is_folder else _read_small(source, min(left, PAGE), follow=follow)
        if file is None:
            return []
        files.append(file)
        left -= len(file.data)
    return files


def _read_small(source: LocalSource, most: int, *, follow: bool) -> HeldFile | None:
    try:
        fd = os.open(source.path, READ & ~os.O_NOFOLLOW if follow else READ)
    except OSError:  # it is gone, or a link; who asks for it on behalf of a host finds words for that
        return None
    try:
        info = os.fstat(fd)
        # Those that the kernel makes up say that they are empty; one with holes or other names is sent with them.
        plain = stat.S_ISREG(info.st_mode) and info.st_nlink == 1 and info.st_blocks * 512 >= info.st_size
        if not plain or not 0 < info.st_size <= most:
            return None
        data = os.read(fd, info.st_size + 1)
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(data) != info.st_size:
        return None
    return HeldFile.of(source.name, data, stat.S_IMODE(info.st_mode), info.st_mtime_ns)


class HeldFiles:
    """Files as a sender wants them listed."""

    def __init__(self, files: Sequence[HeldFile], options: SenderOptions) -> None:
        self.options = options
        self._files = {file.name: file for file in files}
        self._excluded = Patterns(options.exclude)

    def items(self) -> Iterator[Item]:
        """Yield them all."""
        for name, file in self._files.items():
            if not self._excluded.match(name, folder=False):
                entry = Entry(name, Kind.FILE, file.mode, len(file.data), file.mtime)
                yield Item(entry, Source(None, (), name), held=file.held)

    def open(self, item: Item) -> int:
        """Open the content of a file, which has no name anywhere (memfd_create(2)). Raises FileError."""
        data = memoryview(self._files[item.entry.path].data)
        try:
            fd = os.memfd_create("fleet", os.MFD_CLOEXEC)
            try:
                while data:
                    data = data[os.write(fd, data) :]
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise FileError.from_os("hold it in memory", error) from None
        return fd

    def close(self) -> None:
        """There is nothing to give back."""

    def content(self, path: str) -> Content | None:
        """Return what there is to know of a file's content for a difference; None for one that is too large."""
        data = self._files[path].data
        return Content.of(data) if len(data) <= LARGEST else None
