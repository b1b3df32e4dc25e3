"""Tables whose columns stand under their names, read without knowing which command made them. Pure.

Theory of operation. Columns of blanks that go through all rows cut the rows into strips. A strip belongs to the name
in the header that stands over it; one under no name (the "ago" of "2 days ago") belongs to the name on its left. Where
a wide value has closed the gap, several names share a strip: there the words of a row are counted, and when they are
as many as the names, each has its own; otherwise the nearest name takes a word.

Two blanks in the header always part two names. One blank is inside a name ("Mounted on") or between two ("RO TYPE"),
and `_names` says how that is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agent.wire.record import record

__all__ = ["NAMELESS", "read_aligned"]

NAMELESS = "ROW"  # the first column of `free`, which has no name

_WORDS = re.compile(r"\S+")
_STRIPS = re.compile("1+")
_NOT_BLANK = re.compile(r"[^ ]")
_BITS = bytes(0x30 if byte == 0x20 else 0x31 for byte in range(256))
# Names of two words whose values may be too short, or too long, to show that they are one name.
_PAIRS = frozenset(
    {
        ("Local", "Address"), ("Local", "Address:Port"), ("Peer", "Address"), ("Peer", "Address:Port"),
        ("Foreign", "Address"), ("CONTAINER", "ID"), ("IMAGE", "ID"), ("NETWORK", "ID"), ("VOLUME", "NAME"),
    }
)  # fmt: skip
# ss(8) leaves no blank between these two when nothing stands under the second.
_GLUED = re.compile(r"(?<=Port)(?=Process$)")
_NUMERIC = re.compile(r"[\d.,:/%+-]+")
_GUESSED = 0.2  # the share of rows that may have to be guessed before this is no table
# Bounds for the time that hostile text can cost: gaps are looked for in so many columns, between so many names.
_WIDEST = 4096
_MOST_NAMES = 200


@record
class _Name:
    """A name in the header, from column `start` up to `end`."""

    text: str
    start: int
    end: int


@dataclass(slots=True)
class _Strip:
    """Columns `start` up to the next strip, and which names they belong to: `first` up to `last`."""

    start: int
    first: int
    last: int


def read_aligned(header: str, body: Sequence[str]) -> tuple[list[str], list[list[str]]] | None:
    """Return the names and the rows of a table; None when it is none. No line has tabs or is blank."""
    heads = _words(header)
    if not 2 <= len(heads) <= _MOST_NAMES or not body or not _plausible(heads):
        return None
    body, wrapped = _unwrapped(heads, body)
    spans = [(match.start(), match.end()) for match in _STRIPS.finditer(_occupied(body))]
    names = _names(heads, spans)
    if len(names) < 2 or not spans:
        return None
    if spans[0][1] <= names[0].start:
        names.insert(0, _Name(NAMELESS, spans[0][0], spans[0][1]))
    strips = _strips(names, spans)
    rows: list[list[str]] = []
    guessed = 0
    for line in body:
        cells, sure = _cells(line, names, strips)
        if not sure and len(words := line.split()) == len(names):
            cells, sure = words, True  # a wide value has pushed the others away from their names
        guessed += not sure
        rows.append(cells)
    for number, text in wrapped.items():
        rows[number][0] = text
    if guessed > _GUESSED * len(rows) or not any(sum(map(bool, row)) > 1 for row in rows):
        return None
    return [name.text for name in names], rows


def _words(header: str) -> list[_Name]:
    found = []
    for match in _WORDS.finditer(header):
        start = match.start()
        for text in _GLUED.split(match[0]):
            found.append(_Name(text, start, start + len(text)))
            start += len(text)
    return found


def _plausible(words: Sequence[_Name]) -> bool:
    """Whether this may be a header: no numbers, no sentence, no line drawn with dashes."""
    return not any(
        _NUMERIC.fullmatch(word.text) or word.text.endswith((",", ".", ";")) or "--" in word.text for word in words
    )


def _unwrapped(words: Sequence[_Name], body: Sequence[str]) -> tuple[list[str], dict[int, str]]:
    """Join rows that go on in the next line: older df(1) and that of BusyBox do so after a long device.

    Returns the rows without such first cells, and these cells by the number of the row.
    """
    lines: list[str] = []
    wrapped: dict[int, str] = {}
    goes_on = False
    for line in body:
        if goes_on and not line[: words[0].end].strip():
            lines[-1] = line
            goes_on = False
            continue
        text = line.rstrip()
        goes_on = words[0].start == 0 and " " not in text and len(text) >= words[1].start
        if goes_on:
            wrapped[len(lines)] = text
        lines.append("" if goes_on else line)
    return lines, wrapped


def _occupied(lines: Sequence[str]) -> str:
    """Return a digit for each column: 1 where any of the lines has something."""
    width = min(_WIDEST, max(map(len, lines)))
    bits = 0
    for line in lines:
        line = line[:width].ljust(width) or " "
        if line.isascii():
            row = line.encode("ascii").translate(_BITS)
        else:
            row = _NOT_BLANK.sub("1", line).replace(" ", "0").encode("ascii")
        bits |= int(row, 2)
    return f"{bits:0{width}b}"


def _names(words: Sequence[_Name], spans: Sequence[tuple[int, int]]) -> list[_Name]:
    """Join the words of a header to names.

    One blank parts two names when values stand under both words with a gap between. Where that does not tell, it is
    inside a name if the second word is in small letters after a capital ("Mounted on"), and otherwise if no other
    single blank parts names here: then the columns are two blanks apart, and this is none ("CONTAINER ID   IMAGE").
    """
    under = [{number for number, span in enumerate(spans) if _over(word, span)} for word in words]
    close = [one.end + 1 == two.start for one, two in pairwise(words)]
    pairs = [_is_pair(one.text, two.text) for one, two in pairwise(words)]
    parted = [bool(one and two and not one & two) for one, two in pairwise(under)]
    single = any(near and part and not pair for near, part, pair in zip(close, parted, pairs, strict=True))
    names = [words[0]]
    for number, word in enumerate(words[1:]):
        if close[number] and (pairs[number] or (not parted[number] and not single)):
            last = names[-1]
            names[-1] = _Name(f"{last.text} {word.text}", last.start, word.end)
        else:
            names.append(word)
    return names


def _is_pair(one: str, two: str) -> bool:
    return (one, two) in _PAIRS or (one[:1].isupper() and two.isalpha() and two.islower())


def _over(name: _Name, span: tuple[int, int]) -> bool:
    return name.start < span[1] and span[0] < name.end


def _strips(names: Sequence[_Name], spans: Sequence[tuple[int, int]]) -> list[_Strip]:
    """Give each span to the names that it belongs to; spans that share a name become one strip."""
    strips: list[_Strip] = []
    for span in spans:
        over = [number for number, name in enumerate(names) if _over(name, span)]
        if over:
            first, last = over[0], over[-1]
        else:  # under no name: the nearest on the left has it
            first = last = max((number for number, name in enumerate(names) if name.start < span[0]), default=0)
        if strips and first <= strips[-1].last:
            strips[-1].last = max(last, strips[-1].last)
        else:
            strips.append(_Strip(span[0], first, last))
    return strips


def _cells(line: str, names: Sequence[_Name], strips: Sequence[_Strip]) -> tuple[list[str], bool]:
    """Return the cells of a row, and whether none had to be guessed."""
    cells = [""] * len(names)
    sure = True
    ends = [strip.start for strip in strips[1:]]
    for strip, end in zip(strips, [*ends, len(line)], strict=True):
        text = line[strip.start : end].strip(" ")
        count = strip.last - strip.first + 1
        if count == 1 or not text:
            cells[strip.first] = text
            continue
        words = text.split(None, count - 1) if strip.last == len(names) - 1 else text.split()
        if len(words) == count:
            cells[strip.first : strip.last + 1] = words
        else:
            sure = False
            for number, word in _nearest(line, names, strip, end):
                cells[number] = f"{cells[number]} {word}".lstrip()
    return cells, sure


def _nearest(line: str, names: Sequence[_Name], strip: _Strip, end: int) -> Iterator[tuple[int, str]]:
    """Yield the words of a strip, each with the number of the name that is nearest to it, in the order of names."""
    number = strip.first
    for match in _WORDS.finditer(line, strip.start, end):
        start, stop = match.span()
        choices = range(number, strip.last + 1)
        # Words stand under the left or the right end of their name.
        number = min(choices, key=lambda choice: min(abs(start - names[choice].start), abs(stop - names[choice].end)))
        yield number, match[0]
