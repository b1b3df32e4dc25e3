"""How the results of pushes and pulls look, and the run itself: from a `Fleet` to an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.wire.record import record
from controller.cli import options as o
from controller.cli.look import writers
from controller.errors import FleetError
from controller.results import EXIT_CUT_OFF
from controller.settings import Settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from controller.api import Fleet
    from controller.cancel import CancelToken
    from controller.meter import Watcher
    from controller.output import Writer
    from controller.output.documents import Json, JsonLines
    from controller.output.files import FileTable
    from controller.output.progress import Progress
    from controller.results import Result
    from controller.runs import Run
    from inventory import Inventory

__all__ = ["FileLook", "carry_out"]


@record
class FileLook:
    """The options about results. Checked when it is made. Raises FleetError."""

    tablefmt: str | None = None
    json: bool = False
    jsonl: bool = False
    quiet: bool = False
    progress: bool = False
    color: str = "auto"
    check: bool = False
    backup: bool = False

    def __post_init__(self) -> None:
        ways = {"--format": self.tablefmt is not None, "--json": self.json, "--jsonl": self.jsonl}
        chosen = [name for name, given in ways.items() if given]
        if len(chosen) > 1:
            raise FleetError(" and ".join(chosen), "results can look only one way at a time")
        if self.quiet and chosen and chosen != ["--format"]:
            raise FleetError(f"--quiet and {chosen[0]}", "only a table can leave hosts out")

    @property
    def keep(self) -> bool:
        """Whether every file is to be in the results."""
        return self.json or self.jsonl

    def sink(self, out: Writer, err: Writer) -> FileTable | Json | JsonLines:
        """Return where results go. Raises FleetError for an unknown format."""
        from controller.output import documents, files
        from controller.render import DEFAULT_FORMAT, FormatError

        if self.json:
            return documents.Json(out)
        if self.jsonl:
            return documents.JsonLines(out)
        try:
            tablefmt = self.tablefmt or DEFAULT_FORMAT
            return files.FileTable(out, err, tablefmt=tablefmt, failures_only=self.quiet, check=self.check)
        except FormatError as error:
            raise FleetError("--format", str(error)) from None

    def display(self, progress: Progress, err: Writer) -> AbstractContextManager[object]:
        """Return what shows progress: on a terminal, and elsewhere when it is asked for."""
        from contextlib import nullcontext

        from controller.output.line import terminal_is_ours, terminal_width
        from controller.output.progress import Display

        redraw = err.terminal and os.environ.get("TERM") != "dumb"
        if not redraw and not self.progress:
            return nullcontext()
        stream = sys.stderr.buffer
        return Display(
            progress,
            err,
            redraw=redraw,
            width=lambda: terminal_width(stream),
            ours=lambda: terminal_is_ours(stream),
        )


def carry_out(
    targets: o.Targets, known: Inventory, settings: Settings, look: FileLook, begin: Callable[..., Run[Result]]
) -> int:
    """Do it, show it, and return the exit code. `begin` makes the run of a fleet."""
    from controller.cancel import CancelToken
    from controller.interrupts import Interrupts
    from controller.output import OutputError, RunInfo
    from controller.output.progress import Progress
    from controller.stdout_watch import StdoutWatch

    out, err = writers(look.color)
    sink = look.sink(out, err)
    token = CancelToken()
    progress = Progress(len(targets.select(known)))
    going = _begin(begin, targets.fleet(known, settings), targets, look, progress, token)
    with Interrupts(token) as interrupts, StdoutWatch(sys.stdout.fileno(), token) as watch:
        with look.display(progress, err):
            for result in going:
                watch.check()
                sink.end(result)
        watch.check()
        code = interrupts.exit_code or going.exit_code
        info = RunInfo.of(going, code)
        try:
            sink.finish(info, going.results)
        except OutputError as error:
            raise FleetError("output", str(error), exit_code=code or EXIT_CUT_OFF) from None
        if look.check and not look.keep:
            err.line("check: nothing was changed")
        elif look.backup and not look.keep and any(result.tally and result.tally.kept for result in going.results):
            err.line(f"to undo it: fleet rollback {going.id}")
    return code


def _begin(
    begin: Callable[..., Run[Result]],
    fleet: Fleet,
    targets: o.Targets,
    look: FileLook,
    watcher: Watcher,
    token: CancelToken,
) -> Run[Result]:
    return begin(
        fleet,
        limit=targets.limit or (),
        exclude=targets.exclude or (),
        keep=look.keep,
        watcher=watcher,
        cancel=token,
    )
