"""How wide text is on a terminal, and text that is cut to fit. Nothing here knows what the text is.

Widths are those of Unicode's East Asian Width (UAX #11), as terminals have them: wide characters (CJK, emoji) take two
columns, combining ones none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["ELLIPSIS", "display_width", "fitted", "fitted_lines", "padded"]

ELLIPSIS = "\u2026"
_TAB = 8


def display_width(text: str) -> int:
    """Return the number of columns that `text`, a line without tabs, takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    import unicodedata  # not free, and few outputs need it

    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """Return `text` filled with blanks up to `columns`, against the right side where asked."""
    blanks = " " * (columns - display_width(text))
    return blanks + text if right else text + blanks


def fitted(text: str, columns: int) -> str:
    """Return `text`, a line without tabs, in at most `columns`: what is too long ends in an ellipsis."""
    if display_width(text) <= columns:
        return text
    if text.isascii():
        return text[: columns - 1] + ELLIPSIS if columns else ""
    kept: list[str] = []
    left = columns - 1
    for character in text:
        left -= _columns(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + ELLIPSIS if columns else ""


def fitted_lines(pieces: Iterable[bytes], columns: int) -> Iterator[bytes]:
    """Yield UTF-8 text, which comes in pieces of whole characters, with lines cut to `columns` and tabs as blanks.

    Of a line, no more is kept than can be shown, however long it is.
    """
    pending = ""
    enough = 4 * columns + 1  # characters; combining ones take no column, but no line needs more of them
    for piece in pieces:
        *lines, rest = piece.decode("utf-8", "replace").split("\n")
        if lines:
            first = (pending + lines[0])[:enough]
            done = [fitted(line[:enough].expandtabs(_TAB), columns) for line in (first, *lines[1:])]
            yield ("\n".join(done) + "\n").encode()
            pending = ""
        pending = (pending + rest)[:enough]
    if pending:
        yield fitted(pending.expandtabs(_TAB), columns).encode()
