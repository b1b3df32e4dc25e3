"""Files that are filled in for each host: read once, filled and sent from memory.

Nothing of them is ever in a folder of this machine: they may hold passwords, and whoever is stopped by a second Ctrl-C
or by SIGKILL clears nothing up.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from agent.tree.entries import Item, Source
from agent.tree.errors import FileError
from agent.tree.options import SenderOptions
from agent.tree.patterns import Patterns
from agent.wire.file_messages import Entry, Kind
from agent.wire.record import record
from controller.differences import LARGEST, Content
from controller.errors import FleetError
from controller.sources import LocalSource
from inventory import Host, InventoryError, fill

__all__ = ["Filled", "Template", "read_templates"]

_MOST_OF_TEMPLATE = 1024 * 1024  # bytes: it is filled in memory, for many hosts at once


@record
class Template:
    """A source with the text in it that is filled in for each host; `mtime` in nanoseconds."""

    source: LocalSource
    text: str
    mode: int
    mtime: int

    def fill(self, host: Host) -> bytes:
        """Return the text with the host's values in it, unquoted. Raises FleetError for one that is not defined."""
        try:
            return fill(self.text, host, quote=False).encode("utf-8", "surrogateescape")
        except InventoryError as error:
            raise FleetError(self.source.path, str(error), error.hint) from None


def read_templates(sources: Sequence[LocalSource]) -> list[Template]:
    """Read sources to be filled in for each host. Raises FleetError for a directory, and for what is no text."""
    return [_read_template(source) for source in sources]


def _read_template(source: LocalSource) -> Template:
    if source.is_folder:
        raise FleetError("--template", f"fills in files, and {source.path} is a directory")
    try:
        with open(source.path, "rb") as file:
            info = os.fstat(file.fileno())
            data = file.read(_MOST_OF_TEMPLATE + 1)
    except OSError as error:
        raise FleetError(source.path, (error.strerror or str(error)).lower()) from None
    if len(data) > _MOST_OF_TEMPLATE:
        raise FleetError(source.path, f"more than {_MOST_OF_TEMPLATE} bytes, which is too long for --template")
    if b"\0" in data:
        raise FleetError(source.path, "holds a NUL byte: no text for --template")
    # Bytes that are not UTF-8 pass through as they are.
    text = data.decode("utf-8", "surrogateescape")
    return Template(source, text, stat.S_IMODE(info.st_mode), info.st_mtime_ns)


class Filled:
    """The templates filled in for one host, as a sender wants them listed."""

    def __init__(self, templates: Sequence[Template], host: Host, options: SenderOptions) -> None:
        self.options = options
        self._templates = {template.source.name: template for template in templates}
        self._data = {name: template.fill(host) for name, template in self._templates.items()}
        self._excluded = Patterns(options.exclude)

    def items(self) -> Iterator[Item]:
        """Yield them all."""
        for name, template in self._templates.items():
            if not self._excluded.match(name, folder=False):
                entry = Entry(name, Kind.FILE, template.mode, len(self._data[name]), template.mtime)
                yield Item(entry, Source(None, (), name))

    def open(self, item: Item) -> int:
        """Open the content of a file, which has no name anywhere (memfd_create(2)). Raises FileError."""
        data = memoryview(self._data[item.entry.path])
        try:
            fd = os.memfd_create("fleet", os.MFD_CLOEXEC)
            try:
                while data:
                    data = data[os.write(fd, data) :]
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise FileError.from_os("fill it in", error) from None
        return fd

    def close(self) -> None:
        """There is nothing to give back."""

    def content(self, path: str) -> Content | None:
        """Return what there is to know of a file's content for a difference; None for one that is too large."""
        data = self._data[path]
        return Content.of(data) if len(data) <= LARGEST else None
