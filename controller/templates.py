"""Files that are filled in for each host: read once, and filled in memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from agent.wire.record import record
from controller.errors import FleetError
from controller.held import HeldFile
from controller.sources import LocalSource
from inventory import Host, InventoryError, fill

__all__ = ["Template", "read_templates"]

_MOST_OF_TEMPLATE = 1024 * 1024  # bytes: it is filled in memory, for many hosts at once


@record
class Template:
    """A source with the text in it that is filled in for each host; `mtime` in nanoseconds."""

    source: LocalSource
    text: str
    mode: int
    mtime: int

    def text_for(self, host: Host) -> bytes:
        """Return the text with the host's values in it, unquoted. Raises FleetError for one that is not defined."""
        try:
            return fill(self.text, host, quote=False).encode("utf-8", "surrogateescape")
        except InventoryError as error:
            raise FleetError(self.source.path, str(error), error.hint) from None

    def fill(self, host: Host) -> HeldFile:
        """Return the file for a host. Raises as `text_for`."""
        return HeldFile.of(self.source.name, self.text_for(host), self.mode, self.mtime)


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
