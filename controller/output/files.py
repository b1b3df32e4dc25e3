"""`FileTable`: what a push, a pull or a rollback did, a row for each host, in inventory order, when all is over.

Everything in a row is one harmless line; what is wrong with files stands under their host in the last column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controller.output.colour import Style
from controller.output.differences import write_changes, write_differences
from controller.output.sink import RunInfo
from controller.output.words import size, summary
from controller.output.writer import Writer
from controller.render import DEFAULT_FORMAT, check_format, frame, table
from controller.results import FileResult, Result, Status, Tally
from controller.text import clean_line

__all__ = ["FileTable"]

_HEADERS = ("HOST", "STATUS", "BYTES", "TIME", "RATE", "SHA256")
_MOST_COMPLAINTS = 20  # lines for each host
_BAD = ("failed", "skipped")


class FileTable:
    """``HOST  STATUS  BYTES  TIME  RATE  SHA256``, before it the differences, and a summary on `stderr`.

    BYTES are those that went over the line. In place of SHA256, where there is not just one file, stands how many
    files there are; what `fleet` has to say stands in brackets: ``[error: no space left on device]``.
    """

    keeps = False

    def __init__(
        self,
        stdout: Writer,
        stderr: Writer,
        *,
        tablefmt: str = DEFAULT_FORMAT,
        failures_only: bool = False,
        check: bool = False,
    ) -> None:
        """Prepare a table in a format of tabulate. With `failures_only`, good hosts have no row, and when all are
        good, nothing at all is written. With `check` files that would change are listed before it. Raises FormatError
        for an unknown format."""
        self._out = stdout
        self._messages = stderr
        self._format = check_format(tablefmt)
        self._failures_only = failures_only
        self._check = check

    def end(self, result: Result) -> None:
        """Rows are written at the end."""

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Write differences and table, and say the summary."""
        shown = [result for result in results if not (self._failures_only and result.status.good)]
        if not shown and self._failures_only:
            return
        write_differences(self._out, shown)
        if self._check:
            write_changes(self._out, shown)
        if self._format == DEFAULT_FORMAT:
            lines = "\n".join(self._lines(shown))
        else:
            rows = [(*self._cells(result), "\n".join(_last_cell(result))) for result in shown]
            lines = table(_HEADERS, rows, tablefmt=self._format)
        self._out.write(lines.encode("utf-8", "backslashreplace") + b"\n")
        self._out.flush()
        self._messages.line(summary(results, run.elapsed, self._messages.colour))

    def _lines(self, results: Sequence[Result]) -> Iterator[str]:
        """Yield the lines of the table in the default format."""
        layout = frame(_HEADERS, [self._cells(result) for result in results])
        yield self._out.colour.paint(layout.header, Style.HEADING)
        for result, prefix in zip(results, layout.prefixes, strict=True):
            first, *others = list(_last_cell(result)) or [""]
            yield (prefix + first).rstrip()
            yield from (" " * layout.indent + line for line in others)

    def _cells(self, result: Result) -> tuple[str, ...]:
        """Return all but the last."""
        tally = result.tally or Tally()
        started = result.started is not None or result.elapsed > 0
        moving = bool(tally.bytes) and result.elapsed > 0
        return (
            clean_line(result.host),
            self._out.colour.status(result.status) if self._format == DEFAULT_FORMAT else result.status.value,
            str(tally.bytes) if started else "-",
            f"{result.elapsed:.2f}s" if started else "-",
            f"{size(int(tally.bytes / result.elapsed))}/s" if moving else "-",
        )


def _last_cell(result: Result) -> Iterator[str]:
    """Yield the lines of the last column."""
    tally = result.tally or Tally()
    if tally.sha256 is not None and result.status.good:
        yield tally.sha256
    elif result.status.good or tally != Tally():
        yield f"[{_numbers(tally)}]"
    complaints = [_complaint(file) for file in result.files if file.status.value in _BAD or file.note]
    if result.error is not None and not (result.status is Status.FAILED and complaints):
        yield f"[error: {clean_line(result.error)}]"
    yield from complaints[:_MOST_COMPLAINTS]
    missing = max(tally.failed + tally.skipped, len(complaints)) - min(len(complaints), _MOST_COMPLAINTS)
    if missing > 0:
        yield f"[and {missing} more]"
    if result.note is not None:
        yield f"[note: {clean_line(result.note)}]"


def _numbers(tally: Tally) -> str:
    """Return the counts that are not 0: "3 changed, 1 deleted"."""
    words = ("changed", "unchanged", "deleted", "skipped", "failed")
    parts = [f"{number} {word}" for word in words if (number := getattr(tally, word))]
    return ", ".join(parts) or "no files"


def _complaint(file: FileResult) -> str:
    kind = "error" if file.status.value == "failed" else "note"
    return f"[{kind}: {clean_line(file.path)}: {clean_line(file.error or file.note or file.status.value)}]"
