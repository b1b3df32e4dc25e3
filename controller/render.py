"""Tables by tabulate, and the only module that imports it (30 ms, so inside functions and only for tables).

Strings in, strings out: nothing here knows results or writes anything. Cells are shown as they are; tabulate's
guesses (numbers, stripped blanks) are turned off. What comes from a host has to be cleaned by the caller: a stray
line separator in a cell makes tabulate lose text.

Without the wcwidth package tabulate counts characters, not columns: what follows a cell with wide characters (CJK,
emoji) is shifted in its row. Output stands in the last column, so in the default format nothing does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.wire.record import record
from controller.text import clean_line

__all__ = ["DEFAULT_FORMAT", "FormatError", "Frame", "check_format", "formats", "frame", "table"]

# No rules and no borders: lines can be cut with awk and copied, and one long line of output does not draw a rule as
# long over the screen.
DEFAULT_FORMAT = "plain"

_COLOUR = "\x1b\\[[0-9;]*m"


class FormatError(Exception):
    """There is no table format of this name. `known` are those there are."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = tuple(known)

    def __str__(self) -> str:
        return f"unknown table format '{clean_line(self.name)}': choose one of {', '.join(self.known)}"


def formats() -> list[str]:
    """Return the names of all table formats, sorted."""
    from tabulate import tabulate_formats

    return sorted(tabulate_formats)


def check_format(name: str) -> str:
    """Return `name` when it is a table format. Raises FormatError (tabulate itself would fall back in silence)."""
    if name == DEFAULT_FORMAT:
        return name
    known = formats()
    if name not in known:
        raise FormatError(name, known)
    return name


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, tablefmt: str = DEFAULT_FORMAT) -> str:
    """Return the whole table, without a newline at the end. Cells may have several lines.

    ``tsv`` is read by programs, line by line, so newlines, tabs and backslashes in its cells are written ``\\\\n``,
    ``\\\\t`` and ``\\\\\\\\``, as ``mysql --batch`` does.
    """
    from tabulate import tabulate

    if tablefmt == "tsv":
        rows = [[_tsv_cell(cell) for cell in row] for row in rows]
    return str(
        tabulate(
            rows,
            headers,
            tablefmt=tablefmt,
            disable_numparse=True,
            preserve_whitespace=True,
            stralign="left",  # `pretty` would centre each line of an output
        )
    )


def _tsv_cell(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


@record
class Frame:
    """A table in the default format without its last column.

    `header` is the first line, `prefixes` are the rows up to where their last cell starts, and `indent` is the column
    at which it does.
    """

    header: str
    prefixes: tuple[str, ...]
    indent: int


def frame(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Frame:
    """Lay out the table of `headers` for `rows`, which have no last cell. All cells are single lines.

    For last cells that are too large to pass through tabulate: written behind the prefixes, they look exactly as
    tabulate would have shown them. It is not asked, because to import it takes a tenth of a whole `fleet run true`; a
    test holds the two equal.
    """
    cells = [tuple(headers[:-1]), *map(tuple, rows)]
    # tabulate makes a column as wide as its widest cell, and at least two wider than its header.
    widths = [max(_width(column[0]) + 2, *map(_width, column)) for column in zip(*cells, strict=True)]
    lines = [
        "".join(cell + " " * (width - _width(cell)) + "  " for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]
    return Frame(lines[0] + headers[-1], tuple(lines[1:]), len(lines[0]))


def _width(cell: str) -> int:
    """Return how many characters of a cell are seen: colours (SGR, ECMA-48 8.3.117) are not."""
    return len(re.sub(_COLOUR, "", cell) if "\x1b" in cell else cell)
