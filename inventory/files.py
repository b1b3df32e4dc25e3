"""Reading what others wrote: whole, once, of bounded size, and as UTF-8.

Its rule: what is handed on is the content the file had at one moment. A file that was being written while it was
read would give some of its hosts, and a run on some hosts looks like a run on all.
"""

import os
import re
import stat
from typing import BinaryIO

from inventory.errors import InventoryError

# 60,000 hosts with their cloud variables are some 100 MiB of JSON.
MAX_BYTES = 256 * 1024 * 1024
_CHUNK = 1024 * 1024
# Tab and line feed alone. What other control characters do depends on who reads: Ansible ends a line at a form
# feed, an editor does not, so a host could hide behind one.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")


def read_bytes(path: str, *, limit: int = MAX_BYTES, regular: bool = False) -> bytes:
    """Return the content of the file `path`, which may be a pipe unless `regular` is true.

    Raises:
        InventoryError: it cannot be read, is over `limit` bytes, or changed meanwhile.
    """
    # A FIFO that lies in a directory has nobody at its other end; opening it would wait for ever.
    more = os.O_NONBLOCK if regular else 0
    try:
        with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | more)) as stream:
            before = os.fstat(stream.fileno())
            if regular and not stat.S_ISREG(before.st_mode):
                raise InventoryError("not a file", path=path)
            data = read_stream(stream, path, limit=limit)
            after = os.fstat(stream.fileno())
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if stat.S_ISREG(before.st_mode) and _stamp(before) != _stamp(after):
        raise InventoryError("changed while it was read", path=path, hint="run the command again")
    return data


def read_stream(stream: BinaryIO, path: str, *, limit: int = MAX_BYTES) -> bytes:
    """Return all that `stream` holds; `path` is its name in errors."""
    pieces = []
    size = 0
    while piece := stream.read(_CHUNK):
        size += len(piece)
        if size > limit:
            raise InventoryError(f"over the limit of {limit} bytes", path=path)
        pieces.append(piece)
    return b"".join(pieces)


def unreadable(path: str, error: Exception) -> InventoryError:
    """Return the error for a path that the system will not give us."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InventoryError(f"cannot be read ({reason.lower()})", path=path)


def decode(data: bytes, path: str) -> str:
    """Return `data` as text, without byte order mark, its lines ended by a line feed alone.

    Comment lines may be in any encoding, as for Ansible: they are emptied when they are not UTF-8.

    Raises:
        InventoryError: not UTF-8, with the line.
    """
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _decode_lines(data, path)


def refuse_control(text: str, path: str) -> None:
    """Refuse text that holds control characters.

    Raises:
        InventoryError: with the line.
    """
    found = _CONTROL.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise InventoryError(f"control character U+{ord(found[0]):04X}", path=path, line=line)


def _decode_lines(data: bytes, path: str) -> str:
    lines = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            if not line.lstrip().startswith((b"#", b";")):
                byte = line[error.start]
                reason = f"expected UTF-8, found the byte 0x{byte:02x} at column {error.start + 1}"
                raise InventoryError(reason, path=path, line=number) from None
            lines.append("")
    return "\n".join(lines)


# What Ansible leaves out of a directory: hidden files, directories of variables, and leavings of editors and tools.
_LEFT_OUT = (
    r"^\.|^(host_vars|group_vars|vars_plugins)$"
    r"|(\.(pyc|pyo|swp|bak|rpm|md|txt|rst|orig|cfg|retry)|~)$"
)


def listed(directory: str, above: tuple[str, ...] = ()) -> tuple[list[str], tuple[str, ...]]:
    """Return the names in `directory` that count, in ASCII order, and `above` with the directory itself.

    `above` are the real paths of the directories it was reached through.

    Raises:
        InventoryError: it cannot be read, or is one of `above`: a symbolic link goes in a circle.
    """
    real = os.path.realpath(directory)
    if real in above:
        raise InventoryError("a symbolic link to a directory that it is in", path=directory)
    try:
        entries = sorted(os.listdir(os.fsencode(directory)))
    except OSError as error:
        raise unreadable(directory, error) from None
    names = [os.fsdecode(entry) for entry in entries]
    return [name for name in names if not re.search(_LEFT_OUT, name)], (*above, real)


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
