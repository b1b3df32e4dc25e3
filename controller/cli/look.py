"""How results are to look: the options that say it, and the sink that they mean."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.errors import FleetError

if TYPE_CHECKING:
    from controller.output import Sink, Writer

__all__ = ["Look", "writers"]


@dataclass(frozen=True, slots=True)
class Look:
    """The options of `fleet run` about results."""

    tablefmt: str | None = None
    raw: bool = False
    stream: bool = False
    json: bool = False
    jsonl: bool = False
    quiet: bool = False
    output_dir: str | None = None
    color: str = "auto"

    def check(self, hosts: int) -> None:
        """Check that the options go together, and with the number of hosts. Raises FleetError."""
        chosen = [
            name
            for name, given in (
                ("--format", self.tablefmt is not None),
                ("--raw", self.raw),
                ("--stream", self.stream),
                ("--json", self.json),
                ("--jsonl", self.jsonl),
            )
            if given
        ]
        if len(chosen) > 1:
            raise FleetError(" and ".join(chosen), "results can look only one way at a time")
        if self.quiet and chosen and chosen != ["--format"]:
            raise FleetError(f"--quiet and {chosen[0]}", "only a table can leave hosts out")
        if self.raw and hosts != 1:
            raise FleetError("--raw", f"shows one host's bytes, and {hosts} hosts match", "try --stream or -o DIR")

    @property
    def passes_on(self) -> bool:
        """Whether output goes straight through, so that no limit is needed to bound the memory it takes."""
        return (self.raw or self.stream) and self.output_dir is None

    def sink(self) -> Sink:
        """Return where results go. Raises FleetError for a folder that cannot be written and an unknown format."""
        from controller.output import OutputError, Tee
        from controller.output.folder import OutputDir
        from controller.render import FormatError

        try:
            sink = self._sink(*writers(self.color))
            return sink if self.output_dir is None else Tee(OutputDir(self.output_dir), sink)
        except OutputError as error:
            raise FleetError("--output-dir", str(error)) from None
        except FormatError as error:
            raise FleetError("--format", str(error)) from None

    def _sink(self, out: Writer, err: Writer) -> Sink:
        from controller.output import documents, stream, table
        from controller.render import DEFAULT_FORMAT

        if self.raw:
            return stream.Raw(out, err)
        if self.stream:
            return stream.Stream(out, err)
        if self.json:
            return documents.Json(out)
        if self.jsonl:
            return documents.JsonLines(out)
        return table.Table(out, err, tablefmt=self.tablefmt or DEFAULT_FORMAT, failures_only=self.quiet)


def writers(color: str) -> tuple[Writer, Writer]:
    """Return standard output and standard error, with the colour that is asked for."""
    from controller.output import Colour, Writer

    out, err = sys.stdout.buffer, sys.stderr.buffer
    return (
        Writer(out, colour=Colour.from_option(color, out, os.environ)),
        Writer(err, name="standard error", colour=Colour.from_option(color, err, os.environ)),
    )
