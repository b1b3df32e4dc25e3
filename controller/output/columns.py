"""`Columns` and `ColumnsJson`: the tables that hosts printed as one, with a HOST column in front.

Reading them is elsewhere. The rule here: every host is accounted for. One whose output is no such table, or says more
than it (standard error, a failure, lines in no row), is listed below with what is in no row, equal ones once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from agent.wire.record import record
from controller.columns import Table, is_header, parse
from controller.errors import FleetError
from controller.output.colour import Style
from controller.output.documents import encode, result_object, run_object, summary_object
from controller.output.fold import write_groups
from controller.output.groups import Groups
from controller.output.sink import RunInfo
from controller.output.width import display_width, fitted, padded
from controller.output.words import summary
from controller.output.writer import Writer
from controller.render import DEFAULT_FORMAT, check_format, table
from controller.results import EXIT_USAGE, Result
from controller.rows import HOST, Query, Row, UnknownColumnError, fitting, main_names
from controller.text import clean_line

__all__ = ["Columns", "ColumnsJson"]

_EVERYTHING = Query()
_NOTHING = "-"  # in place of an empty cell, so that a row has as many words as it has cells
_RIGHT = re.compile(r"[-+]?[\d.,]+(?:%|[A-Za-z]{1,3})?")
_GAP = "  "


@record
class _Gathered:
    """All hosts together: `names` are empty when there is no table; `rest` are hosts with what is in no row.

    `unknown` is the error of a query that could not be answered; `rows` are then all of them.
    """

    names: Row
    rows: Sequence[Row]
    rest: Sequence[Result]
    unknown: UnknownColumnError | None = None

    def complain(self, code: int) -> None:
        """Raise FleetError for a query that could not be answered. The run's own exit code stays, if it is not 0."""
        if self.unknown is not None:
            known = ", ".join(self.unknown.known)
            raise FleetError(
                self.unknown.option,
                f"no column {self.unknown.name!r}",
                f"there are {known}",
                exit_code=code or EXIT_USAGE,
            )


def _gather(results: Sequence[Result], query: Query) -> _Gathered:
    read: dict[bytes, Table | None] = {}
    for result in results:
        if result.stdout not in read:
            read[result.stdout] = parse(_text(result))
    tables = [None if result.truncated else read[result.stdout] for result in results]
    names = main_names(found for found in tables if found is not None)
    if names is None:
        return _Gathered((), [], results)
    rows: list[Row] = []
    rest: list[Result] = []
    for result, found in zip(results, tables, strict=True):
        own = fitting(found, names) if found is not None else [] if is_header(_text(result), names) else None
        if own is None:
            rest.append(result)
            continue
        rows += [(result.host, *row) for row in own]
        left = "".join(f"{line}\n" for line in found.rest) if found is not None else ""
        result = replace(result, stdout=left.encode("utf-8", "surrogateescape"))
        if not _silent(result):
            rest.append(result)
    names = (HOST, *(f"{name} 2" if name == HOST else name for name in names))
    try:
        return _Gathered(names, query.choose(names, rows), rest)
    except UnknownColumnError as error:
        return _Gathered(names, rows, rest, error)


def _text(result: Result) -> str:
    return result.stdout.decode("utf-8", "surrogateescape")


def _silent(result: Result) -> bool:
    """Whether there is nothing to say of a host beside its rows."""
    return result.status.good and not (result.stdout or result.stderr or result.error or result.note)


class _Silent:
    """What both have in common: nothing is written before the end, and results keep the output until then."""

    keeps = True

    def start(self, host: str) -> None:
        """Rows are written at the end."""

    def stdout(self, host: str, data: bytes) -> None:
        """The result keeps it."""

    def stderr(self, host: str, data: bytes) -> None:
        """The result keeps it."""

    def end(self, result: Result) -> None:
        """Rows are written at the end."""


class Columns(_Silent):
    """One table, below it what is in no row as `fold.Fold` shows it, and a summary on `stderr`.

    In the default format, numbers stand at the right side of their column, an empty cell is ``-``, and on a terminal
    rows are cut to its width. A column that is asked for and not there is an error once everything is written.
    """

    def __init__(
        self, stdout: Writer, stderr: Writer, *, query: Query = _EVERYTHING, tablefmt: str = DEFAULT_FORMAT
    ) -> None:
        """Prepare a table in a format of tabulate. Raises FormatError for an unknown one."""
        self._out = stdout
        self._messages = stderr
        self._query = query
        self._format = check_format(tablefmt)

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Write table and rest, and say the summary. Raises FleetError for a column that is not there."""
        gathered = _gather(results, self._query)
        if gathered.names:
            self._write_table(gathered.names, gathered.rows)
        groups = Groups()
        groups.end_all(gathered.rest)
        write_groups(self._out, groups.sorted())
        self._out.flush()
        if not gathered.names:
            self._messages.line("no host's output is a table")
        self._messages.line(summary(results, run.elapsed, self._messages.colour))
        gathered.complain(run.exit_code)

    def _write_table(self, names: Row, rows: Sequence[Row]) -> None:
        plain = self._format == DEFAULT_FORMAT
        harmless = self._out.terminal or not plain
        shown = [[_cell(cell, harmless=harmless) for cell in row] for row in (names, *rows)]
        if not plain:
            text = table(shown[0], shown[1:], tablefmt=self._format)
        else:
            heading, *lines = _laid_out(shown)
            if (width := self._out.width) is not None:
                heading, *lines = [fitted(line, width) for line in (heading, *lines)]
            text = "\n".join([self._out.colour.paint(heading, Style.HEADING), *lines])
        self._out.write(text.encode("utf-8", "surrogateescape") + b"\n")


def _cell(text: str, *, harmless: bool) -> str:
    if harmless:
        return clean_line(text)
    return text.replace("\n", "\\x0a")  # in quotes, a cell may have several lines; a row may not


def _laid_out(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each row, the first of which holds the names; no blanks at the ends."""
    columns = []
    for name, *cells in zip(*rows, strict=True):
        right = bool(cells) and all(_RIGHT.fullmatch(cell) for cell in cells if cell)
        cells = [name, *(cell or _NOTHING for cell in cells)]
        if all(map(str.isascii, cells)):
            width = max(map(len, cells))
            columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in cells])
        else:
            width = max(map(display_width, cells))
            columns.append([padded(cell, width, right=right) for cell in cells])
    return [_GAP.join(cells).rstrip(" ") for cells in zip(*columns, strict=True)]


class ColumnsJson(_Silent):
    """The same as one document: ``columns``, ``rows`` (an object each, HOST first), and ``rest``.

    In ``rest`` is a result object for each host of which the rows do not say everything; its ``stdout`` is what is in
    no row.
    """

    def __init__(self, stdout: Writer, *, query: Query = _EVERYTHING) -> None:
        self._out = stdout
        self._query = query

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Write the document. Raises FleetError for a column that is not there."""
        gathered = _gather(results, self._query)
        names = [_valid(name) for name in gathered.names]
        rows = [dict(zip(names, map(_valid, row), strict=True)) for row in gathered.rows]
        self._out.write(b'{"run": %b,\n "summary": %b,\n' % (encode(run_object(run)), encode(summary_object(results))))
        self._out.write(b' "columns": %b,\n' % encode(names))
        self._out.write(b' "rows": [%b],\n' % b",".join(b"\n  " + encode(row) for row in rows))
        rest = b",".join(b"\n  " + encode(result_object(result)) for result in gathered.rest)
        self._out.write(b' "rest": [%b]}\n' % rest)
        self._out.flush()
        gathered.complain(run.exit_code)


def _valid(text: str) -> str:
    """Return `text` with a sign for each byte that is no UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
