"""What a host's programs have switched on in the terminal here, so that it can be switched off when they are cut off.

An editor that loses its connection cannot put the screen back. Nothing here changes what passes: it only looks on. The
rule: only what differs from how a terminal starts is undone, and only what is known here.
"""

from __future__ import annotations

import re

__all__ = ["Screen"]

# Private modes (xterm's ctlseqs): CSI ? n h switches on, CSI ? n l off. The values are how a terminal starts.
_DEFAULTS = {
    b"1": False,  # cursor keys send other sequences
    b"7": True,  # lines wrap
    b"25": True,  # the cursor is seen
    b"47": False,  # the alternate screen, in three ways
    b"1047": False,
    b"1049": False,
    b"1000": False,  # the mouse is reported, in several ways
    b"1002": False,
    b"1003": False,
    b"1004": False,
    b"1005": False,
    b"1006": False,
    b"1015": False,
    b"2004": False,  # what is pasted is marked
}
_SWITCH = re.compile(rb"\x1b\[\?([0-9;]+)([hl])|\x1b([=>])")
# The longest sequence that is worth waiting for, in bytes.
_LONGEST = 64


class Screen:
    """Looks at output as it passes."""

    def __init__(self) -> None:
        self._changed: dict[bytes, bool] = {}
        self._keypad = False
        self._rest = b""
        self._touched = False

    def see(self, data: bytes) -> None:
        """Take a piece of output; a sequence may be cut anywhere."""
        data = self._rest + data
        end = 0
        for match in _SWITCH.finditer(data):
            end = match.end()
            modes, state, keypad = match.groups()
            if keypad is not None:
                self._keypad = keypad == b"="
                continue
            for mode in modes.split(b";"):
                self._switch(mode, on=state == b"h")
        self._touched = self._touched or b"\x1b" in data
        start = data.rfind(b"\x1b", max(end, len(data) - _LONGEST))
        self._rest = data[start:] if start >= 0 else b""

    def undo(self) -> bytes:
        """Return what puts the terminal back, nothing when nothing was switched."""
        switches = [b"\x1b[?%s%s" % (mode, b"l" if on else b"h") for mode, on in self._changed.items()]
        if self._keypad:
            switches.append(b"\x1b>")
        if self._touched:
            switches.append(b"\x1b[0m")  # colours
        return b"".join(switches)

    def _switch(self, mode: bytes, *, on: bool) -> None:
        default = _DEFAULTS.get(mode)
        if default is None:
            return
        if on == default:
            self._changed.pop(mode, None)
        else:
            self._changed[mode] = on
