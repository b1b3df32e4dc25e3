"""The program: the list of commands, and the one place where errors become text and exit codes.

fleet: WHAT: WHY
hint: the next step
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from controller.cli import demo, hosts, keys, run
from controller.errors import FleetError
from controller.results import EXIT_INTERRUPTED, EXIT_USAGE

__all__ = ["main"]

_EXIT_BUG = 1
_EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE: what a shell reports of `yes | head`

# What typer raises for wrong usage; it says so in the class that BadParameter comes from.
_UsageError = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="fleet",
    help="Run shell commands and move files on many hosts at once.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: loading rich costs more than the rest of `fleet --help`.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
run.register(app)
hosts.register(app)
keys.register(app)
demo.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (without the program's name). Returns the exit code."""
    _open_standard_streams()
    try:
        code = app(args=arguments, prog_name="fleet", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except FleetError as error:
        return _complain(error.what, error.why, error.hint, error.exit_code)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _leave_quietly()
    except Exception as error:
        if isinstance(error, _UsageError):
            return _complain_of_usage(error)
        if os.environ.get("FLEET_DEBUG") == "1":
            raise
        return _complain(
            "bug", f"{type(error).__name__}: {error}", "FLEET_DEBUG=1 shows where; please report it", _EXIT_BUG
        )


def _open_standard_streams() -> None:
    """Put /dev/null where a standard stream was closed (`fleet … >&-`).

    Else the next file that we open would take its number, and what is meant for the screen would go into it.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # it stays open as long as we live
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _complain(what: str, why: str, hint: str | None, code: int) -> int:
    from controller.text import clean_line

    sys.stderr.write(f"fleet: {clean_line(what)}: {clean_line(why)}\n")
    if hint is not None:
        sys.stderr.write(f"hint: {clean_line(hint)}\n")
    return code


def _complain_of_usage(error: Exception) -> int:
    message = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "fleet"
    reason = message[:1].lower() + message[1:].rstrip(".")
    return _complain("usage", reason, f"{command} --help", EXIT_USAGE)


def _leave_quietly() -> int:
    """End as a program does that SIGPIPE ends: whoever read our output has had enough."""
    from controller.output import silence

    silence(sys.stdout.buffer)
    return _EXIT_BROKEN_PIPE
