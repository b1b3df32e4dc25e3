"""How results are to look: the options that say it, and the sink that they mean."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from agent.wire.record import record
from controller.errors import FleetError

if TYPE_CHECKING:
    from controller.masks import Masks
    from controller.output import Colour, Sink, Writer
    from controller.output.line import StatusLine
    from controller.rows import Query

__all__ = ["Look", "writers"]

# All other ways stand alone.
_TOGETHER = (["--fold", "--diff"], ["--json", "--columns"], ["--format", "--columns"], ["--stream", "--fold"])
_MAY_LEAVE_OUT: tuple[list[str], ...] = ([], ["--format"], ["--fold"])


@record
class Look:
    """The options of `fleet run` about results."""

    tablefmt: str | None = None
    tty: bool = False
    raw: bool = False
    stream: bool = False
    json: bool = False
    jsonl: bool = False
    fold: bool = False
    diff: bool = False
    columns: bool = False
    mask: tuple[str, ...] = ()
    mask_host: bool = False
    mask_time: bool = False
    mask_number: bool = False
    sort: str | None = None
    where: str | None = None
    top: int | None = None
    quiet: bool = False
    output_dir: str | None = None
    color: str = "auto"

    def check(self, hosts: int) -> None:
        """Check that the options go together, and with the number of hosts. Raises FleetError."""
        chosen = self._ways()
        if self.stream and self.diff:
            why = "a difference takes whole outputs, and a stream keeps none"
            raise FleetError("--stream and --diff", why, "--stream --fold says who differs")
        if len(chosen) > 1 and chosen not in _TOGETHER:
            raise FleetError(" and ".join(chosen), "results can look only one way at a time")
        if self.quiet and chosen not in _MAY_LEAVE_OUT:
            raise FleetError(f"--quiet and {chosen[0]}", "only a table can leave hosts out")
        if self.raw and hosts != 1:
            raise FleetError("--raw", f"shows one host's bytes, and {hosts} hosts match", "try --stream or -o DIR")
        if self.tty and self.output_dir is not None:
            raise FleetError("--tty and --output-dir", "what a terminal shows is not kept")
        about_masks = {
            "--mask": bool(self.mask),
            "--mask-host": self.mask_host,
            "--mask-time": self.mask_time,
            "--mask-number": self.mask_number,
        }
        if not (self.fold or self.diff):
            _refuse(about_masks, "is for --fold and --diff")
        if not self.columns:
            about_rows = {"--sort": self.sort, "--where": self.where, "--top": self.top}
            _refuse({name: value is not None for name, value in about_rows.items()}, "is for --columns")

    def _ways(self) -> list[str]:
        ways = {
            "--format": self.tablefmt is not None,
            "--tty": self.tty,
            "--raw": self.raw,
            "--stream": self.stream,
            "--json": self.json,
            "--jsonl": self.jsonl,
            "--fold": self.fold,
            "--diff": self.diff,
            "--columns": self.columns,
        }
        return [name for name, given in ways.items() if given]

    @property
    def passes_on(self) -> bool:
        """Whether output goes straight through, so that no limit is needed to bound the memory it takes."""
        return (self.raw or self.stream) and self.output_dir is None

    def status_line(self) -> StatusLine | None:
        """Return the line that shows where a run stands; None without a terminal that it can be redrawn on."""
        if self.raw or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return None
        from controller.output import Writer
        from controller.output.line import StatusLine, terminal_is_ours

        err = sys.stderr.buffer
        return StatusLine(Writer(err, name="standard error"), ours=lambda: terminal_is_ours(err))

    def sink(self, line: StatusLine | None = None, hosts: Callable[[], Sequence[str]] = tuple) -> Sink:
        """Return where the results of `hosts` go, beside the status line.

        Raises FleetError for what an option says and nobody can do.
        """
        from controller.output import OutputError, Tee
        from controller.render import FormatError

        try:
            sink = self._sink(*writers(self.color, line), hosts)
            if self.output_dir is None:
                return sink
            from controller.output.folder import OutputDir

            return Tee(OutputDir(self.output_dir), sink)
        except OutputError as error:
            raise FleetError("--output-dir", str(error)) from None
        except FormatError as error:
            raise FleetError("--format", str(error)) from None

    def _sink(self, out: Writer, err: Writer, hosts: Callable[[], Sequence[str]]) -> Sink:
        if self.stream or self.raw:
            return self._passing(out, err, hosts)
        if self.fold or self.diff or self.columns:
            return self._together(out, err)
        if self.json or self.jsonl:
            from controller.output import documents

            return documents.Json(out) if self.json else documents.JsonLines(out)
        from controller.output import table
        from controller.render import DEFAULT_FORMAT

        return table.Table(out, err, tablefmt=self.tablefmt or DEFAULT_FORMAT, failures_only=self.quiet)

    def _passing(self, out: Writer, err: Writer, hosts: Callable[[], Sequence[str]]) -> Sink:
        """Return what shows output as it comes."""
        from controller.output import stream

        if self.stream:
            shown = stream.Stream(out, err, align=hosts() if out.terminal else ())
            if not self.fold:
                return shown
            from controller.output.digests import StreamFold

            return StreamFold(out, err, shown, masks=self._masks())
        return stream.Raw(out, err)

    def _together(self, out: Writer, err: Writer) -> Sink:
        """Return what shows hosts together rather than one by one."""
        from controller.render import DEFAULT_FORMAT

        if self.columns:
            from controller.output import columns

            query = self._query()
            if self.json:
                return columns.ColumnsJson(out, query=query)
            return columns.Columns(out, err, query=query, tablefmt=self.tablefmt or DEFAULT_FORMAT)
        masks = self._masks()
        if self.diff:
            from controller.output.diff import Diff

            return Diff(out, err, masks=masks)
        from controller.output.fold import Fold

        return Fold(out, err, masks=masks, failures_only=self.quiet)

    def _masks(self) -> Masks:
        from controller.masks import MaskError, Masks

        try:
            return Masks.of(self.mask, host=self.mask_host, time=self.mask_time, number=self.mask_number)
        except MaskError as error:
            raise FleetError("--mask", str(error)) from None

    def _query(self) -> Query:
        from controller.conditions import ConditionError, parse_conditions
        from controller.rows import Query

        if self.top is not None and self.top < 1:
            raise FleetError("--top", f"{self.top} is not a number of rows")
        sort, descending = self.sort, False
        if sort is not None:
            column, colon, order = sort.rpartition(":")
            if colon and order in ("asc", "desc"):
                sort, descending = column, order == "desc"
            if not sort.strip():
                raise FleetError("--sort", f"{self.sort!r} names no column", "--sort COL or --sort COL:desc")
        try:
            conditions = () if self.where is None else tuple(parse_conditions(self.where))
        except ConditionError as error:
            raise FleetError("--where", str(error), "for example: --where 'Use% > 80 and HOST ~ web'") from None
        return Query(conditions, sort, descending, self.top)


def _refuse(options: dict[str, bool], why: str) -> None:
    for name, given in options.items():
        if given:
            raise FleetError(name, why)


def writers(color: str, line: StatusLine | None = None) -> tuple[Writer, Writer]:
    """Return standard output and standard error, with the colour that is asked for; with `line`, so that what is
    written never mixes with that."""
    from controller.output import Colour

    made = [
        _writer(stream, line, name=name, colour=Colour.from_option(color, stream, os.environ))
        for stream, name in ((sys.stdout.buffer, "standard output"), (sys.stderr.buffer, "standard error"))
    ]
    return made[0], made[1]


def _writer(stream: BinaryIO, line: StatusLine | None, *, name: str, colour: Colour) -> Writer:
    from controller.output import Writer

    # What goes into a file is never on the screen.
    if line is None or not (stream.isatty() or stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)):
        return Writer(stream, name=name, colour=colour)
    from controller.output.line import Beside

    return Beside(stream, line, name=name, colour=colour)
