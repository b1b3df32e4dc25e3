"""`Table`: one row for each host, in inventory order, when all is over.

Outputs may be large, so in the default format they never pass through tabulate: it lays out the columns before the
output, and the output is written behind them, piece by piece. The text is the same as tabulate's; the memory is one
piece. All other formats need every cell at once and cost some copies of the outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agent.wire.record import record
from controller.output.colour import Style
from controller.output.sink import RunInfo
from controller.output.width import fitted_lines
from controller.output.words import summary, truncation
from controller.output.writer import Writer
from controller.render import DEFAULT_FORMAT, check_format, frame, table
from controller.results import Result
from controller.text import Cleaner, clean_bytes, clean_line

__all__ = ["Table"]

_HEADERS = ("HOST", "STATUS", "RC", "TIME", "OUTPUT")
_PIECE = 64 * 1024  # bytes; larger buffers are fresh pages from the kernel each time, and slower
_NARROWEST = 20  # columns; an output that had less would be cut to nothing, so the terminal wraps it
_ERROR_MARK = "! "  # before each line of standard error, as in `host! line` of a stream


@record
class _Part:
    """A block of lines in an OUTPUT cell. `ours` are our own words, harmless already."""

    data: bytes
    mark: str = ""
    ours: bool = False


class Table:
    """The default: ``HOST  STATUS  RC  TIME  OUTPUT``, then a summary on `stderr`.

    In OUTPUT stands standard output, then standard error with ``! `` before each line; blank lines and blanks at the
    ends go, as with tabulate. What `fleet` itself has to say stands in brackets: ``[error: connection refused]``.
    On a terminal, and nowhere else, lines of a host's output that are too long for it end in an ellipsis.
    """

    keeps = True

    def __init__(
        self, stdout: Writer, stderr: Writer, *, tablefmt: str = DEFAULT_FORMAT, failures_only: bool = False
    ) -> None:
        """Prepare a table in a format of tabulate. With `failures_only`, good hosts have no row, and when all are
        good, nothing at all is written. Raises FormatError for an unknown format."""
        self._out = stdout
        self._messages = stderr
        self._format = check_format(tablefmt)
        self._failures_only = failures_only

    def start(self, host: str) -> None:
        """Rows are written at the end."""

    def stdout(self, host: str, data: bytes) -> None:
        """The result keeps it."""

    def stderr(self, host: str, data: bytes) -> None:
        """The result keeps it."""

    def end(self, result: Result) -> None:
        """Rows are written at the end."""

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Write the table and say the summary."""
        shown = [result for result in results if not (self._failures_only and result.status.good)]
        if not shown and self._failures_only:
            return
        if self._format == DEFAULT_FORMAT:
            self._write_rows(shown)
        else:
            self._write_whole(shown)
        self._out.flush()
        self._messages.line(summary(results, run.elapsed, self._messages.colour))

    def _write_rows(self, results: Sequence[Result]) -> None:
        layout = frame(_HEADERS, [self._cells(result) for result in results])
        self._out.write(self._out.colour.paint(layout.header, Style.HEADING).encode() + b"\n")
        width = self._out.width
        room = None if width is None else max(_NARROWEST, width - layout.indent)
        for result, prefix in zip(results, layout.prefixes, strict=True):
            cell = _Cell(self._out, prefix, layout.indent)
            for part in _parts(result):
                pieces = _pieces(part, harmless=self._out.terminal)
                if room is not None and not part.ours:  # what is wrong, and how to mend it, is never cut
                    pieces = fitted_lines(pieces, room - len(part.mark))
                cell.add(pieces, part.mark)
            cell.end()

    def _write_whole(self, results: Sequence[Result]) -> None:
        rows = [(*self._cells(result), _output(result)) for result in results]
        self._out.write(table(_HEADERS, rows, tablefmt=self._format).encode() + b"\n")

    def _cells(self, result: Result) -> tuple[str, str, str, str]:
        """Return all but the output. Documents (HTML, LaTeX) get no colour."""
        coloured = self._format == DEFAULT_FORMAT
        status = self._out.colour.status(result.status) if coloured else result.status.value
        code = "-" if result.rc is None else str(result.rc)
        started = result.started is not None or result.elapsed > 0
        return (
            clean_line(result.host),
            status,
            code if result.signal is None else clean_line(result.signal),
            f"{result.elapsed:.2f}s" if started else "-",
        )


def _parts(result: Result) -> Iterator[_Part]:
    """Return what stands in the OUTPUT cell of `result`, in order."""
    if result.stdout:
        yield _Part(result.stdout)
    if result.truncated and len(result.stdout) < result.stdout_bytes:
        yield _ours(truncation(len(result.stdout), result.stdout_bytes))
    if result.stderr:
        yield _Part(result.stderr, mark=_ERROR_MARK)
    if result.truncated and len(result.stderr) < result.stderr_bytes:
        yield _ours(truncation(len(result.stderr), result.stderr_bytes), mark=_ERROR_MARK)
    if result.error is not None:
        yield _ours(f"[error: {clean_line(result.error)}]")
    if result.note is not None:
        yield _ours(f"[note: {clean_line(result.note)}]")


def _ours(text: str, *, mark: str = "") -> _Part:
    return _Part(text.encode(), mark=mark, ours=True)


def _pieces(part: _Part, *, harmless: bool) -> Iterator[bytes]:
    """Cut `part` into pieces that need little memory, made harmless for a terminal where asked."""
    if part.ours or not harmless:
        yield from (part.data[start : start + _PIECE] for start in range(0, len(part.data), _PIECE))
        return
    cleaner = Cleaner()
    for start in range(0, len(part.data), _PIECE):
        yield cleaner.feed(part.data[start : start + _PIECE])
    yield cleaner.finish()


class _Cell:
    """Writes the lines of one last cell: the first behind the row's prefix, the others under it."""

    def __init__(self, out: Writer, prefix: str, indent: int) -> None:
        self._out = out
        self._lead = prefix.encode()  # what the cell's next line starts with
        self._margin = b" " * indent
        self._empty = True

    def add(self, pieces: Iterable[bytes], mark: str) -> None:
        """Write a block of lines, each after `mark`. Blanks at the ends of lines and blank last lines go."""
        sign = self._sign(mark)
        margin = self._margin + sign
        blanks = b""  # whether they are at the end of a line, or of all, is known when more comes
        inside = False
        for piece in pieces:
            text = blanks + piece
            body = text.rstrip()
            blanks = text[len(body) :]
            if not body:
                continue
            if not inside:
                self._begin(body, sign)
                inside = True
            self._out.write(_indented(body, margin))
        if inside:
            self._out.write(b"\n")

    def end(self) -> None:
        """End the row; without any line so far, it is the prefix alone."""
        if self._empty:
            self._out.write(self._lead.rstrip() + b"\n")

    def _begin(self, body: bytes, sign: bytes) -> None:
        lead = (self._lead if self._empty else self._margin) + sign
        self._out.write(lead.rstrip() if body.startswith(b"\n") else lead)
        self._empty = False

    def _sign(self, mark: str) -> bytes:
        return self._out.colour.paint(mark.rstrip(), Style.FAILED).encode() + b" " if mark else b""


def _indented(text: bytes, margin: bytes) -> bytes:
    """Return `text` with `margin` after each newline and no blanks at the end of a line, the margin's included."""
    lines = [line.rstrip() for line in text.split(b"\n")]
    indented = (b"\n" + margin).join(lines)
    return indented.replace(margin + b"\n", margin.rstrip() + b"\n") if b"" in lines else indented


def _output(result: Result) -> str:
    """Return the whole OUTPUT cell as text. Control characters are escaped in files too: HTML, LaTeX and Markdown
    have no place for them, and tabulate would take some for the end of a line."""
    blocks = []
    for part in _parts(result):
        text = (part.data if part.ours else clean_bytes(part.data)).decode().rstrip()
        if text:
            blocks += [(part.mark + line).rstrip() for line in text.split("\n")] if part.mark else [text]
    return "\n".join(blocks)
