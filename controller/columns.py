"""Output that is a table -> names and rows, whatever command made it. Pure: text in, `Table` out, None for no table.

Read are tables aligned under a header (df, ps, ss, docker ps), separated by commas, semicolons, tabs or bars, and two
that have no header, `who` and `last`. Nothing is thrown away: what is in no row is in `rest`, or in `furniture` when
it is known to say nothing (titles, legends, lines of dashes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from agent.wire.record import record
from controller.aligned import read_aligned

__all__ = ["Table", "is_header", "parse"]

_DELIMITERS = ("\t", ",", ";", "|")
_CELLS_APART = re.compile(r"[\s,;|]+")
_NUMBER = re.compile(r"[\d.,:%+-]+")
_MARKS = "\u25cf\u25cb\u00d7\u21bb"  # before units in systemctl(1), where another column says the same
_LATEST_HEADER = 5  # lines before a header: dpkg -l has four
# Bounds for what hostile text can cost. No command that people read as a table writes so much.
_LARGEST = 8 * 1024 * 1024  # characters
_MOST_NAMES = 1000
_LONGEST_LOGIN = 512  # characters of a line of `who` or `last`

# What commands say around their tables and what says nothing. The first ones also part two tables.
_TITLE = re.compile(r"Active .* (?:connections|sockets).*|Kernel (?:IP routing|Interface) table")
_FURNITURE = re.compile(
    r" *\d\d:\d\d:\d\d up .* load average: .*"  # w
    r"|Desired=Unknown/.*|\| Status=Not/.*|\|/ Err\?=.*"  # dpkg -l
    r"|LOAD +(?:=|\u2192) .*|ACTIVE +(?:=|\u2192) .*|SUB +(?:=|\u2192) .*"  # systemctl list-units
    r"|\d+ (?:loaded units|unit files|timers|sockets|services) listed\..*|To show all installed unit files use .*"
    r"|Pass --all to see .*"
    r"|[wb]tmp begins .*"  # last
    r"|\(\d+ rows?\)"  # psql
    r"|procs -+memory-+ .*"  # vmstat
)

_DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d"
_LOGIN = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d(?::\d\d)?(?: \d{4})?"
_HEADERLESS: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    (
        ("NAME", "LINE", "TIME", "COMMENT"),  # as `who -H` has it
        re.compile(rf"(\S+) +(?:[+?-] )?(\S+) +({_DATE})(?: +(.*?))? *"),
    ),
    (
        ("USER", "LINE", "HOST", "LOGIN", "LOGOUT"),
        re.compile(rf"(\S+) +(system \w+|\(to lvl \d\)|\S+) +(|\S+) +({_LOGIN})(?: +(?:- +)?(.*?))? *"),
    ),
)


@record
class Table:
    """What was read. Every row has a cell for each of the `names`, which are all different."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    rest: tuple[str, ...] = ()
    furniture: tuple[str, ...] = ()


def parse(text: str) -> Table | None:
    """Return the table that `text` is, or the largest in it. None when there is none."""
    if len(text) > _LARGEST:
        return None
    lines = [line.rstrip("\r") for line in text.split("\n")]
    lines = [line if line.strip() else "" for line in lines]
    if not any(lines):
        return None
    return _delimited(lines) or _headerless(lines) or _largest_aligned(lines)


def is_header(text: str, names: Sequence[str]) -> bool:
    """Whether `text` is just the header of a table with these names, furniture aside: a table without a row."""
    lines = [line for line in text.split("\n") if line.strip() and not _is_furniture(line)]
    return len(lines) == 1 and _CELLS_APART.sub("", lines[0]) == _CELLS_APART.sub("", "".join(names))


def _is_furniture(line: str) -> bool:
    if not line.strip("-+=|: "):
        return "--" in line or "==" in line
    return bool(_FURNITURE.fullmatch(line) or _TITLE.fullmatch(line))


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], others: Sequence[str] = ()) -> Table:
    """Make a table of what was read; `others` are the lines in no row."""
    said = [line for line in others if line]
    furniture = tuple(line for line in said if _is_furniture(line))
    rest = tuple(line for line in said if not _is_furniture(line))
    return Table(_unique(names), tuple(tuple(row) for row in rows), rest, furniture)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Number names that occur again, as "Flags 2"."""
    found: list[str] = []
    for name in names:
        number, made = 1, name
        while made in found:
            number += 1
            made = f"{name} {number}"
        found.append(made)
    return tuple(found)


def _delimited(lines: Sequence[str]) -> Table | None:
    kept = [line for line in lines if line and not _is_furniture(line)]
    for delimiter in _DELIMITERS:
        if len(kept) > 1 and delimiter in kept[0] and delimiter in kept[-1]:
            table = _read_delimited(kept, delimiter, [line for line in lines if _is_furniture(line)])
            if table is not None:
                return table
    return None


def _read_delimited(lines: Sequence[str], delimiter: str, others: Sequence[str]) -> Table | None:
    """Read lines that all have the same number of cells, with the quotes of RFC 4180."""
    import csv

    try:
        rows = list(csv.reader([line + "\n" for line in lines], delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    if delimiter == "|":
        rows = [[cell.strip() for cell in row] for row in rows]
        for edge in (0, -1):  # the frame around a table
            if all(row and not row[edge] for row in rows):
                rows = [row[1:] if edge == 0 else row[:-1] for row in rows]
    names = [name.strip() for name in rows[0]]
    if not 2 <= len(names) <= _MOST_NAMES or any(len(row) != len(names) for row in rows):
        return None
    if not all(names) or any(_NUMBER.fullmatch(name) for name in names):
        return None
    return _table(names, rows[1:], others)


def _headerless(lines: Sequence[str]) -> Table | None:
    kept = [line for line in lines if line and not _is_furniture(line)]
    for names, pattern in _HEADERLESS:
        rows = list(_matched(kept, pattern))
        if rows and len(rows) == len(kept):
            return _table(names, rows, [line for line in lines if line and _is_furniture(line)])
    return None


def _matched(lines: Sequence[str], pattern: re.Pattern[str]) -> Iterator[list[str]]:
    """Yield the cells of lines up to the first that is of another shape."""
    for line in lines:
        match = pattern.fullmatch(line) if len(line) <= _LONGEST_LOGIN else None
        if match is None:
            return
        yield [cell or "" for cell in match.groups()]


def _largest_aligned(lines: Sequence[str]) -> Table | None:
    """Read every block of lines, and take the one with the most rows; all others are `rest`."""
    expanded = [line.expandtabs(8) for line in lines]
    best: tuple[int, int, list[str], list[list[str]], list[str]] | None = None
    for start, end in _blocks(expanded):
        read = _read_block(expanded[start:end])
        if read is not None and (best is None or len(read[1]) > len(best[3])):
            best = (start, end, *read)
    if best is None:
        return None
    start, end, names, rows, others = best
    return _table(names, rows, [*lines[:start], *others, *lines[end:]])


def _blocks(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield where lines begin and end that nothing parts: no blank line and no title."""
    start = 0
    for number, line in enumerate([*lines, ""]):
        if not line or _TITLE.fullmatch(line):
            if number > start:
                yield start, number
            start = number + 1


def _read_block(lines: Sequence[str]) -> tuple[list[str], list[list[str]], list[str]] | None:
    """Return names, rows, and the lines that are neither: what stands before the header, and it when it comes again."""
    for number, header in enumerate(lines[:_LATEST_HEADER]):
        body, others = [], []
        for line in lines[number + 1 :]:
            if line == header or _is_furniture(line):
                others.append(line)
            else:
                body.append(f" {line[1:]}" if line[0] in _MARKS else line)
        read = None if _is_furniture(header) else read_aligned(header, body)
        if read is not None:
            return *read, [*lines[:number], *others]
    return None
