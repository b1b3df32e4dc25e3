"""The program as typer has it: the help, and the errors of command lines that are wrong. The only user of typer."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from controller.cli.arguments import prepared
from controller.cli.complaints import complain
from controller.cli.declare import HELP, Command, Option, Parameter
from controller.results import EXIT_USAGE

__all__ = ["program", "run"]

# What typer raises for wrong usage; it says so in the class that BadParameter comes from.
_UsageError = typer.BadParameter.__mro__[2]


def run(commands: Mapping[str, Command], words: Sequence[str]) -> int | None:
    """Run a command line with these commands alone: to make an option costs time, and there are many."""
    try:
        code: int | None = program(commands)(args=list(words), prog_name="fleet", standalone_mode=False)
        return code
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # typer ends the process when nobody reads the help
            raise BrokenPipeError from None
        raise
    except Exception as error:
        if isinstance(error, _UsageError):
            return _complain_of_usage(error)
        raise


def program(commands: Mapping[str, Command]) -> typer.Typer:
    """Return the program with these commands."""
    app = typer.Typer(
        name="fleet",
        help="Run shell commands and move files on many hosts at once.",
        add_completion=False,
        # Plain help: loading rich costs more than the rest of the program.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": list(HELP), "max_content_width": 100},
    )
    app.callback()(_no_options)  # else a program with one command would be that command
    for name, command in commands.items():
        parameters = list(command.parameters())
        settings = {"allow_interspersed_args": command.interspersed}
        app.command(name, cls=_prepared(command, parameters), context_settings=settings)(_typed(command, parameters))
    return app


def _no_options() -> None:
    """Run shell commands and move files on many hosts at once."""


def _typed(command: Command, parameters: Iterable[Parameter]) -> Any:
    """Return the command's function with a signature in typer's words."""

    def call(**arguments: object) -> int | None:
        return command.function(**arguments)

    call.__doc__ = command.function.__doc__
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                parameter.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if parameter.default is ... else parameter.default,
                annotation=Annotated[parameter.annotation, _in_typers_words(parameter)],
            )
            for parameter in parameters
        ]
    )
    return call


def _in_typers_words(parameter: Parameter) -> Any:
    said = parameter.said
    if isinstance(said, Option):
        return typer.Option(*said.names, metavar=said.metavar, help=said.help, rich_help_panel=said.panel)
    return typer.Argument(metavar=said.metavar or None, help=said.help, hidden=said.hidden)


def _prepared(command: Command, parameters: Sequence[Parameter]) -> type[TyperCommand]:
    """Return the class of a command that gets its words prepared."""

    class Prepared(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, prepared(command, parameters, args))

    return Prepared


def _complain_of_usage(error: Exception) -> int:
    message = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "fleet"
    reason = message[:1].lower() + message[1:].rstrip(".")
    return complain("usage", reason, f"{command} --help", EXIT_USAGE)
