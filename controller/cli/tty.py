"""A terminal on one host, joined to the one here: for `fleet run --tty` and `fleet shell HOST`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from controller.cli import options as o
from controller.cli.run import Request, begin
from controller.errors import FleetError
from controller.results import EXIT_CUT_OFF

if TYPE_CHECKING:
    from controller.api import Fleet
    from controller.results import Result
    from controller.terminal import LocalTerminal, LostTerminalError

__all__ = ["LOGIN_SHELL", "open_terminal"]

# Of the account that the command runs as.
LOGIN_SHELL = 'exec "$SHELL" -l'


def open_terminal(fleet: Fleet, targets: o.Targets, request: Request, *, what: str, return_own: bool) -> int:
    """Run a request on the one host that `targets` mean, on a terminal, and return the exit code.

    `return_own` asks for that of the command itself. `what` the user has asked for stands in errors. Raises FleetError.
    """
    hosts = fleet.select(targets.limit or (), targets.exclude or ())
    if len(hosts) != 1:
        raise FleetError(
            what, f"is for one host, and {len(hosts)} hosts match", "choose one: -l HOST" if what == "--tty" else None
        )
    if not os.isatty(0):
        raise FleetError(what, "standard input is no terminal")

    from controller.cancel import CancelToken
    from controller.interrupts import Interrupts
    from controller.results import largest_code
    from controller.stdout_watch import StdoutWatch
    from controller.terminal import LocalTerminal, LostTerminalError

    token = CancelToken()
    # A second Ctrl-C leaves nothing at once: the terminal is in a state that nobody could work with.
    with LocalTerminal() as terminal, Interrupts(token, hurry=False) as interrupts, StdoutWatch(1, token) as watch:
        going = begin(fleet, targets, request, cancel=token, terminal=terminal)
        try:
            results = list(going)
        except LostTerminalError as error:
            raise _as_error_of_output(error) from None
        watch.check()
        _tell(results[0], terminal)
    return interrupts.exit_code or (largest_code(results) if return_own else going.exit_code)


def _as_error_of_output(error: LostTerminalError) -> Exception:
    if isinstance(error.error, BrokenPipeError):
        return BrokenPipeError()  # without a number: typer has an end of its own for EPIPE
    from controller.output import silence

    silence(sys.stdout.buffer)  # the interpreter would try once more at exit, and complain in its own words
    return FleetError("output", f"cannot write standard output: {error}", exit_code=EXIT_CUT_OFF)


def _tell(result: Result, terminal: LocalTerminal) -> None:
    """Say what the exit code cannot: why there is none."""
    if result.rc is not None and result.status.reached:
        return
    from controller.cli.look import writers
    from controller.output.words import remarks
    from controller.text import clean_line

    terminal.start_line()
    for remark in remarks(result):
        writers("never")[1].line(f"fleet: {clean_line(result.host)}: {remark}")
