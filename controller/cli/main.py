"""The program: the list of commands, and the one place where errors become text and exit codes.

fleet: WHAT: WHY
hint: the next step
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Sequence

import typer

from controller.errors import FleetError
from controller.results import EXIT_CUT_OFF, EXIT_INTERRUPTED, EXIT_USAGE

__all__ = ["COMMANDS", "main", "program"]

_EXIT_BUG = 1
_EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE: what a shell reports of `yes | head`

# What typer raises for wrong usage; it says so in the class that BadParameter comes from.
_UsageError = typer.BadParameter.__mro__[2]


def _register_run(app: typer.Typer) -> None:
    from controller.cli import run

    run.register(app)


def _register_files(app: typer.Typer) -> None:
    from controller.cli import files

    files.register(app)


def _register_hosts(app: typer.Typer) -> None:
    from controller.cli import hosts

    hosts.register(app)


def _register_keys(app: typer.Typer) -> None:
    from controller.cli import keys

    keys.register(app)


def _register_demo(app: typer.Typer) -> None:
    from controller.cli import demo

    demo.register(app)


Register = Callable[[typer.Typer], None]

# Each command, and what loads its module and adds its commands.
COMMANDS: dict[str, Register] = {
    "run": _register_run,
    "push": _register_files,
    "pull": _register_files,
    "rollback": _register_files,
    "ping": _register_hosts,
    "hosts": _register_hosts,
    "init": _register_keys,
    "enroll": _register_keys,
    "demo": _register_demo,
}


def program(parts: Iterable[Register]) -> typer.Typer:
    """Return the program with these commands alone: to make an option costs time, and there are many."""
    app = typer.Typer(
        name="fleet",
        help="Run shell commands and move files on many hosts at once.",
        add_completion=False,
        # Plain help: loading rich costs more than the rest of the program.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_no_options)  # else a program with one command would be that command
    for register in dict.fromkeys(parts):
        register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (without the program's name). Returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    _open_standard_streams()
    # An unknown command gets all of them, for typer to say which is the nearest.
    parts = [COMMANDS[words[0]]] if words and words[0] in COMMANDS else COMMANDS.values()
    try:
        code = program(parts)(args=list(words), prog_name="fleet", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except FleetError as error:
        return _complain(error.what, error.why, error.hint, error.exit_code)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _leave_quietly()
    except Exception as error:
        return _complain_of(error)


def _no_options() -> None:
    """Run shell commands and move files on many hosts at once."""


def _complain_of(error: Exception) -> int:
    if isinstance(error, _UsageError):
        return _complain_of_usage(error)
    if (reason := _reason_of_failed_write(error)) is not None:
        return _give_up_writing(reason)
    if os.environ.get("FLEET_DEBUG") == "1":
        raise error
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
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  # it stays open as long as we live
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
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


def _reason_of_failed_write(error: Exception) -> str | None:
    """Say why results could not be written; None for an error of another kind."""
    from controller.output import OutputError

    if isinstance(error, OutputError):
        return str(error)
    # `--help` is written by typer, which passes on what the system says. These are errors of writing alone.
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return str(OutputError.from_os_error("standard output", error))
    return None


def _give_up_writing(reason: str) -> int:
    from controller.output import silence

    silence(sys.stdout.buffer)  # the interpreter would try once more at exit, and complain in its own words
    return _complain("output", reason, None, EXIT_CUT_OFF)


def _leave_quietly() -> int:
    """End as a program does that SIGPIPE ends: whoever read our output has had enough."""
    from controller.output import silence

    silence(sys.stdout.buffer)
    return _EXIT_BROKEN_PIPE
