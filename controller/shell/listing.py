"""What `set` and `export -p` print, read strictly: names and values, and never a guess.

POSIX says of both that the output can be given back to the shell, not how it looks. dash and busybox write
``A='it'"'"'s'``; bash ``A='it'\\''s'``, ``A=plain``, ``export A="with \\$"`` and ``A=$'\\001'``. All are words made of
the pieces below; what looks otherwise (arrays, functions) is skipped. The text comes from a host and may be hostile:
reading it takes time by its length, and nothing is ever executed.
"""

from __future__ import annotations

import re

__all__ = ["read_listing"]

_PIECES = (
    rb"'[^']*+'",
    rb'"(?:[^"\\$`]|\\.)*+"',
    rb"\$'(?:[^'\\]|\\.)*+'",
    rb"\\[^\n]",
    rb"[^\x00\t\n '\"\\$`()<>|&;]++",
)
_PIECE = re.compile(b"|".join(_PIECES), re.DOTALL)
# Before the name stands what the shell would have to be told: `export`, `declare -x`, `typeset -x`.
_HEAD = re.compile(rb"(?:export |(?:declare|typeset) -[A-Za-z]++ )?([A-Za-z_][A-Za-z0-9_]*+)(=?+)")
_VALUE = re.compile(b"(?:%b)*+" % b"|".join(_PIECES), re.DOTALL)
# Up to its closing bracket: a line inside a value of an array's must not pass for a variable.
_ARRAY = re.compile(rb"\((?:%b|[ \t\n])*+" % b"|".join(_PIECES), re.DOTALL)

_IN_DOUBLE_QUOTES = re.compile(rb'\\([$`"\\\n])')
_IN_DOLLAR_QUOTES = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_ESCAPES = {
    b"a": b"\a", b"b": b"\b", b"e": b"\x1b", b"E": b"\x1b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t",
    b"v": b"\v", b"\\": b"\\", b"'": b"'", b'"': b'"', b"?": b"?",
}  # fmt: skip


def read_listing(text: bytes) -> dict[bytes, bytes | None]:
    """Return each variable of a listing with its value; None for a name without one (`export A`)."""
    found: dict[bytes, bytes | None] = {}
    position = 0
    while position < len(text):
        end = position
        if head := _HEAD.match(text, position):
            name, equals = head.groups()
            end = _end_of_value(text, head.end()) if equals else head.end()
            if text[end : end + 1] == b"\n":
                try:
                    found[name] = _value(text[head.end() : end]) if equals else None
                except ValueError:
                    pass  # an escape that is not known: better no value than a wrong one
        # On behind what was understood, never back into it: what is inside of quotes is no line of the listing.
        position = text.find(b"\n", end) + 1 or len(text)
    return found


def _end_of_value(text: bytes, start: int) -> int:
    """Return where the value ends, or what of it can be understood; an array never ends in a newline."""
    pattern = _ARRAY if text[start : start + 1] == b"(" else _VALUE
    match = pattern.match(text, start)
    assert match is not None  # both match at least nothing, or the bracket
    return match.end()


def _value(word: bytes) -> bytes:
    """Return what a word stands for. Raises ValueError for an escape that is not known."""
    value = b"".join(_plain(piece) for piece in _PIECE.findall(word))
    if b"\0" in value:
        raise ValueError("NUL in a value")
    return value


def _plain(piece: bytes) -> bytes:
    match piece[:1]:
        case b"'":
            return piece[1:-1]
        case b'"':
            return _IN_DOUBLE_QUOTES.sub(lambda found: found[1].strip(b"\n"), piece[1:-1])
        case b"$":
            return _IN_DOLLAR_QUOTES.sub(_unescaped, piece[2:-1])
        case b"\\":
            return piece[1:]
    return piece


def _unescaped(found: re.Match[bytes]) -> bytes:
    octal, hexadecimal, letter = found.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    if letter not in _ESCAPES:
        raise ValueError(f"unknown escape {letter!r}")
    return _ESCAPES[letter]
