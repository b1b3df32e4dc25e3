r"""Text from hosts made unable to move the terminal.

A host may print anything: escape sequences that repaint the screen or set the window's title, a carriage return that
overwrites its own line, bidi controls that show `rm` as something else. Here each such character is replaced by its
escaped form (``\x1b``, ``\u202e``) and each byte that is no UTF-8 by ``\xff``, so that it is seen and does nothing.

This is for text that a person reads on a terminal. It is not reversible (a host may print a backslash itself) and not
for files and pipes, which get the bytes as they were.
"""

from __future__ import annotations

import re

__all__ = ["Cleaner", "clean", "clean_bytes", "clean_line", "settled"]

# What a terminal obeys, or what makes a line look like another one. ESC and the rest of C0 and DEL; C1, because U+009B
# alone starts a control sequence (ECMA-48, 5.3); the bidi controls of UAX #9 ("Trojan Source", CVE-2021-42574); the
# line and paragraph separators, which some viewers take for the end of a line; lone surrogates, which no encoder
# accepts. Newline and tab stay.
_UNSAFE_RANGES = (
    (0x00, 0x08),
    (0x0B, 0x1F),
    (0x7F, 0x9F),
    (0x061C, 0x061C),
    (0x200E, 0x200F),
    (0x2028, 0x202E),
    (0x2066, 0x2069),
    (0xD800, 0xDFFF),
)
_UNSAFE = "[" + "".join(f"{chr(low)}-{chr(high)}" for low, high in _UNSAFE_RANGES) + "]"


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8, as PEP 383 ("surrogateescape") carries it in a str
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


_ESCAPES = {
    code: _escaped(code)
    for low, high in (*_UNSAFE_RANGES[:-1], (0xDC80, 0xDCFF))  # other surrogates: see _escape
    for code in range(low, high + 1)
}
_PLAIN = bytes([0x09, 0x0A, *range(0x20, 0x7F)])
_CONTROLS = bytes([*range(0x09), *range(0x0B, 0x20), 0x7F])
_HIGH = bytes(range(0x80, 0x100))


def clean(text: str) -> str:
    """Return `text` with every character that could move the terminal escaped, and CR LF as a newline."""
    if text.isascii() and not text.encode("ascii").translate(None, _PLAIN):
        return text
    return _escape(text)


def clean_line(text: str) -> str:
    """Return `text` as one safe line: as `clean` does, with newlines and tabs escaped too."""
    return clean(text).replace("\n", "\\x0a").replace("\t", "\\x09")


def clean_bytes(data: bytes) -> bytes:
    """Return `data` as safe UTF-8. Bytes that are no UTF-8 become ``\\xff``; `data` itself comes back if it was safe.

    Most output is plain ASCII, and `bytes.translate` proves that at memory speed. Where there is more, only what
    translate left over decides what has to be done (whole characters, because every byte of one is above 0x7f).
    """
    rest = data.translate(None, _PLAIN)
    if not rest:
        return data
    controls = rest.translate(None, _HIGH)
    if controls:
        data = _escape_controls(data, controls)
    if len(controls) == len(rest):
        return data
    return data if _high_is_safe(data, rest) else _escape(data.decode("utf-8", "surrogateescape")).encode()


def _escape_controls(data: bytes, controls: bytes) -> bytes:
    """Escape those C0 and DEL bytes in `data` that are among `controls`: coloured output is common, so it is quick."""
    data = data.replace(b"\r\n", b"\n")
    for code in sorted(set(controls)):
        data = data.replace(bytes([code]), _escaped(code).encode())
    return data


def _high_is_safe(data: bytes, rest: bytes) -> bool:
    """Return whether all beyond ASCII in `data` is valid and harmless; `rest` is `data` without plain ASCII."""
    try:
        if re.search(_UNSAFE, rest.translate(None, _CONTROLS).decode()):
            return False
        # Bytes of a broken character may look whole once what stood between them is gone, so this decides.
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _escape(text: str) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if not re.search(_UNSAFE, text):
        return text
    # No bytes from a host decode to the surrogates that are left; a str of another origin may hold them.
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


def settled(data: bytes, end: int) -> int:
    """Return the largest cut <= `end` that splits neither a UTF-8 character nor a CR LF of `data`.

    What follows the cut is at most 3 bytes long. Bytes that cannot be the start of a character are not waited for.
    """
    if data[end - 1 : end] == b"\r":
        return end - 1
    for back in range(1, min(3, end) + 1):
        byte = data[end - back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return end - back if byte < 0xF8 and needed > back else end
    return end


class Cleaner:
    """`clean_bytes` for a stream that comes in pieces cut anywhere."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what is safe to show now; the start of a character or of a CR LF waits for its rest."""
        if self._held:
            data = self._held + data
        cut = settled(data, len(data))
        self._held = data[cut:]
        return clean_bytes(data[:cut])

    def finish(self) -> bytes:
        """Return what was held back: the stream ended inside a character."""
        held, self._held = self._held, b""
        return clean_bytes(held)
