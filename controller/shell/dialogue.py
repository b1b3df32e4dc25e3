"""What one prompt can do: run a command on the hosts it is about, and show it. Where lines come from is not here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from agent.wire.record import record
from controller.api import Fleet, check_command
from controller.cancel import CancelToken
from controller.errors import FleetError
from controller.interrupts import Interrupts
from controller.output import OutputError, RunInfo, Writer
from controller.results import EXIT_CUT_OFF, EXIT_INTERRUPTED, Result, Status, exit_code
from controller.runs import Run
from controller.settings import DEFAULT_MAX_OUTPUT
from controller.shell.session import Session
from controller.shell.shown import news_lines, reasons, sink_for
from controller.stdout_watch import StdoutWatch
from controller.text import clean_line
from inventory import fold

__all__ = ["Choice", "Dialogue"]

_NOTHING = nullcontext()
_LONGEST_SET = 40  # characters of a prompt; the number of hosts tells the rest


@record
class Choice:
    """Which hosts a prompt is about, as options say it, and how long a command may take (seconds)."""

    limit: Sequence[str] = ()
    exclude: Sequence[str] = ()
    timeout: float | None = None


@dataclass(slots=True)
class Dialogue:
    """A session with somebody in front of it, or a file. `hosts` are those that the next command is for."""

    fleet: Fleet
    session: Session
    choice: Choice
    out: Writer
    err: Writer
    folded: bool = True
    compared: bool = False
    pattern: str | None = None
    interrupted: int | None = None  # the exit code of the last command that a signal stopped, if one did
    hosts: list[str] = field(default_factory=list)
    _seen: set[Status] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.hosts = list(self.session.members)

    @property
    def exit_code(self) -> int:
        """Return the exit code that all results so far stand for."""
        return exit_code(self._seen)

    def prompt(self) -> str:
        """Return what to ask with: the hosts that are in, and their number."""
        connected = [name for name in self.hosts if self.session.members[name].client is not None]
        names = clean_line(fold(connected)) or "nobody"
        if len(names) > _LONGEST_SET:
            names = names[: _LONGEST_SET - 3] + "..."
        count = f"{len(connected)}" if len(connected) == len(self.hosts) else f"{len(connected)} of {len(self.hosts)}"
        return f"{names} ({count})> "

    def join(self) -> list[Result]:
        """Connect to those hosts that are not, and return what became of each. Ctrl-C ends the waiting."""
        token = CancelToken()
        with Interrupts(token) as interrupts:
            results = self.session.join(self.hosts, cancel=token)
        self.interrupted = interrupts.exit_code
        return results

    def tell_reasons(self, results: Sequence[Result]) -> None:
        """Say who cannot be reached, and why."""
        for line in reasons(results):
            self.err.line(line)

    def tell_news(self) -> None:
        """Say who dropped and who is back."""
        for line in news_lines(self.session.news()):
            self.err.line(line)

    def limit(self, pattern: str | None) -> None:
        """Take only the hosts that match `pattern` as well, or all again. Raises FleetError."""
        limits = [*self.choice.limit, *([] if pattern is None else [pattern])]
        self.hosts = [host.name for host in self.fleet.select(limits, self.choice.exclude)]
        self.pattern = pattern

    def limits(self) -> list[str]:
        """Return the patterns that mean `hosts`."""
        return [*self.choice.limit, *([] if self.pattern is None else [self.pattern])]

    def run(self, command: str) -> None:
        """Run a command and show its results. Raises FleetError."""
        check_command(command)
        sink = sink_for(self.out, self.err, folded=self.folded, compared=self.compared)

        def begin(token: CancelToken) -> Run[Result]:
            return self.session.run(
                command,
                hosts=self.hosts,
                timeout=self.choice.timeout,
                max_output=DEFAULT_MAX_OUTPUT,
                observer=sink,
                keep=sink.keeps,
                cancel=token,
            )

        self.carry_out(begin, sink.end, sink.finish)

    def carry_out(
        self,
        begin: Callable[[CancelToken], Run[Result]],
        end: Callable[[Result], None],
        finish: Callable[[RunInfo, Sequence[Result]], None],
        display: AbstractContextManager[object] = _NOTHING,
    ) -> None:
        """Do something on hosts to its end, or until it is interrupted. Raises FleetError for output nobody takes."""
        token = CancelToken()
        going = begin(token)
        interrupts = Interrupts(token, again=self.session.abandon)
        try:
            with interrupts, StdoutWatch(sys.stdout.fileno(), token) as watch:
                with display:
                    for result in going:
                        watch.check()
                        end(result)
                watch.check()
                code = interrupts.exit_code or going.exit_code
                if interrupts.received is not None and self.err.terminal:
                    self.err.line("")  # the terminal has shown ^C
                info = RunInfo.of(going, code)
                finish(info, going.results)
        except OutputError as error:
            raise FleetError("output", str(error), exit_code=going.exit_code or EXIT_CUT_OFF) from None
        finally:
            self.interrupted = interrupts.exit_code
            self._seen.update(result.status for result in going.results)

    @property
    def leaving(self) -> int | None:
        """Return the exit code of a signal that ends the prompt and not only the command; Ctrl-C does not."""
        return None if self.interrupted == EXIT_INTERRUPTED else self.interrupted
