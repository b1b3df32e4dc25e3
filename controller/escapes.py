"""What is typed at a terminal on a host: bytes for the host, and the escapes that are for fleet itself.

As in ssh(1), an escape is a tilde right after a newline (or first of all) and the character after it. Pure: bytes in,
bytes and escapes out. The rule: whatever is no escape goes through as it is.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

__all__ = ["HELP", "Escape", "Keys"]

_TILDE = ord("~")
_NEWLINES = b"\r\n"  # Return is a carriage return on a raw terminal


class Escape(enum.Enum):
    """What fleet does itself."""

    END = "."
    HELP = "?"


_ESCAPES = {ord(escape.value): escape for escape in Escape}

HELP = """\
At the start of a line:
  ~.  end the session: the host kills what runs in it
  ~?  show this
  ~~  send one ~
"""


class Keys:
    """Tells the two apart, however the bytes come."""

    def __init__(self) -> None:
        self._at_start = True
        self._tilde = False  # one that is held until it is clear what it means

    def feed(self, data: bytes) -> Iterator[bytes | Escape]:
        """Yield what `data` holds, in its order."""
        plain = bytearray()
        for byte in data:
            if self._tilde:
                self._tilde = False
                if byte in _ESCAPES:
                    if plain:
                        yield bytes(plain)
                        plain.clear()
                    yield _ESCAPES[byte]
                    self._at_start = True
                    continue
                if byte != _TILDE:
                    plain.append(_TILDE)
            elif byte == _TILDE and self._at_start:
                self._tilde = True
                continue
            plain.append(byte)
            self._at_start = byte in _NEWLINES
        if plain:
            yield bytes(plain)
