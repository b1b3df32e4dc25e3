"""A script of this machine that is to be run on hosts: read once, looked at before any host is reached.

Nothing is interpreted here. The rule: what every kernel would refuse to run gets no further.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from dataclasses import field

from agent.wire.constants import MAX_SCRIPT
from agent.wire.record import record
from controller.errors import FleetError
from controller.stdin import open_file

__all__ = ["Script"]

_PIECE = 64 * 1024
# Of the first line the kernel reads no more than 256 bytes (BINPRM_BUF_SIZE, execve(2)).
_LONGEST_LINE = 4096
_ELF = b"\x7fELF"
_MARK = b"\xef\xbb\xbf"


@record
class Script:
    """A program for hosts: `content` begins with ``#!`` or is an ELF binary, `name` is what it is called.

    Raises FleetError.
    """

    name: str
    content: bytes = field(repr=False)
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("script", self.name, self.content)

    @property
    def label(self) -> str:
        """Return name and arguments as a shell would read them."""
        return shlex.join([self.name, *self.arguments])

    @classmethod
    def read(cls, path: str | os.PathLike[str], arguments: Iterable[str] = (), *, what: str = "script") -> Script:
        """Read a script from a file, or from a FIFO until its end. `what` is what errors are about.

        Raises FleetError.
        """
        path = os.fspath(path)
        fd = open_file(path, what)
        try:
            info = os.fstat(fd)
            is_file = stat.S_ISREG(info.st_mode)
            _check_size(what, path, info.st_size if is_file else 0)
            content = _read(fd, info.st_size + 1)
        except OSError as error:
            raise FleetError(what, f"{path}: {(error.strerror or str(error)).lower()}") from None
        finally:
            os.close(fd)
        _check(what, path, content)
        return cls(os.path.basename(path) if is_file else path, content, tuple(arguments))


def _read(fd: int, expected: int) -> bytes:
    """Read to the end, or to where it is too much. What has the expected size is never in memory twice."""
    pieces, size = [], 0
    while size <= MAX_SCRIPT and (piece := os.read(fd, max(expected, _PIECE))):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _check_size(what: str, path: str, size: int) -> None:
    if size > MAX_SCRIPT:
        limit = f"at most {MAX_SCRIPT // 2**20} MiB"
        raise FleetError(what, f"{path}: is too large, {limit}", "fleet push it, then run it there")


def _check(what: str, path: str, content: bytes) -> None:
    _check_size(what, path, len(content))
    if not content:
        raise FleetError(what, f"{path}: is empty")
    if content.startswith(_ELF):
        return
    if content.startswith(_MARK + b"#!"):
        hint = f"sed -i '1s/^\\xEF\\xBB\\xBF//' {shlex.quote(path)}"
        raise FleetError(what, f"{path}: begins with a byte order mark, which hides the #!", hint)
    if not content.startswith(b"#!"):
        raise FleetError(what, f"{path}: does not begin with #!", "the first line says what runs it, such as #!/bin/sh")
    line = content[:_LONGEST_LINE].partition(b"\n")[0]
    if line.endswith(b"\r"):
        hint = f"sed -i 's/\\r$//' {shlex.quote(path)}"
        raise FleetError(what, f"{path}: its lines end in CR LF, as on Windows; no system finds what runs it", hint)
    if not line[2:].strip(b" \t"):
        raise FleetError(what, f"{path}: nothing stands behind the #!", "such as #!/bin/sh")
