"""The program: which command is meant, and the one place where errors become text and exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from controller.cli import arguments
from controller.cli.complaints import complain
from controller.cli.declare import Command
from controller.errors import FleetError
from controller.results import EXIT_CUT_OFF, EXIT_INTERRUPTED

__all__ = ["COMMANDS", "main"]

_EXIT_BUG = 1
_EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE: what a shell reports of `yes | head`

Commands = Mapping[str, Command]


def _run() -> Commands:
    from controller.cli.run import COMMANDS

    return COMMANDS


def _files() -> Commands:
    from controller.cli.files import COMMANDS

    return COMMANDS


def _hosts() -> Commands:
    from controller.cli.hosts import COMMANDS

    return COMMANDS


def _keys() -> Commands:
    from controller.cli.keys import COMMANDS

    return COMMANDS


def _shell() -> Commands:
    from controller.cli.shell import COMMANDS

    return COMMANDS


def _demo() -> Commands:
    from controller.cli.demo import COMMANDS

    return COMMANDS


# Each command, and what loads its module and gives its commands.
COMMANDS: dict[str, Callable[[], Commands]] = {
    "run": _run,
    "push": _files,
    "pull": _files,
    "rollback": _files,
    "shell": _shell,
    "ping": _hosts,
    "hosts": _hosts,
    "init": _keys,
    "enroll": _keys,
    "demo": _demo,
}


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words` (without the program's name). Returns the exit code."""
    _open_standard_streams()
    try:
        code = _obey(sys.argv[1:] if words is None else words)
        sys.stdout.flush()
        return code or 0
    except FleetError as error:
        return complain(error.what, error.why, error.hint, error.exit_code)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _leave_quietly()
    except Exception as error:
        return _complain_of(error)


def _obey(words: Sequence[str]) -> int | None:
    load = COMMANDS.get(words[0]) if words else None
    commands = all_commands() if load is None else load()
    if load is not None:
        command = commands[words[0]]
        values = arguments.read(command, words[1:])
        if values is not None:
            return command.function(**values)
    from controller.cli import program

    # An unknown command gets all of them, for typer to say which is the nearest.
    return program.run(commands, words)


def all_commands() -> dict[str, Command]:
    """Return every command, in the order of the table."""
    loaded: dict[str, Command] = {}
    for load in dict.fromkeys(COMMANDS.values()):
        loaded |= load()
    return {name: loaded[name] for name in COMMANDS}


def _complain_of(error: Exception) -> int:
    if (reason := _reason_of_failed_write(error)) is not None:
        return _give_up_writing(reason)
    if os.environ.get("FLEET_DEBUG") == "1":
        raise error
    return complain("bug", f"{type(error).__name__}: {error}", "FLEET_DEBUG=1 shows where; please report it", _EXIT_BUG)


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
    return complain("output", reason, None, EXIT_CUT_OFF)


def _leave_quietly() -> int:
    """End as a program does that SIGPIPE ends: whoever read our output has had enough."""
    from controller.output import silence

    silence(sys.stdout.buffer)
    return _EXIT_BROKEN_PIPE
