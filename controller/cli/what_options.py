"""The options of `fleet run` about what is run: a script, an input, another user, another shell; and what they mean.

A script's own arguments follow the options of `run`. What is no option of `run` is the first of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from controller.cli.declare import HELP, Option, Parameter
from controller.errors import FleetError

if TYPE_CHECKING:
    from controller.script import Script
    from controller.stdin import Input

__all__ = [
    "ScriptOption",
    "ShellOption",
    "StdinOption",
    "UserOption",
    "mark_arguments",
    "open_stdin",
    "read_script",
    "read_shell",
    "read_user",
]

_WHAT = "What is run"

ScriptOption = Annotated[
    str | None,
    Option(
        "--script",
        metavar="FILE",
        help="Send this local script and run it by its #!, with ARGS (what follows the options; after -- if they look"
        " like options of run).",
        panel=_WHAT,
    ),
]
StdinOption = Annotated[
    str | None,
    Option(
        "--stdin",
        metavar="FILE",
        help="Standard input for every host; - is our own. [default: empty]",
        panel=_WHAT,
    ),
]
UserOption = Annotated[
    str | None,
    Option(
        "--user",
        metavar="NAME",
        help="Whom to run it as, if the agent is root. [default: the agent's user]",
        panel=_WHAT,
    ),
]
ShellOption = Annotated[
    str | None,
    Option(
        "--shell",
        metavar="PATH",
        help="The shell that reads the command. [default: that in the agent's settings]",
        panel=_WHAT,
    ),
]


def mark_arguments(parameters: Sequence[Parameter], words: list[str]) -> list[str]:
    """Put ``--`` before the first argument of a script that looks like an option and is none.

    Raises FleetError for one that may be a misspelt option: with it, the script could run on other hosts than meant.
    """
    takes_value = {name: parameter.kind is not bool for parameter in parameters for name in parameter.names}
    takes_value |= dict.fromkeys(HELP, False)
    has_script = False
    rest = iter(range(len(words)))
    for index in rest:
        word = words[index]
        if word in ("-", "--") or not word.startswith("-"):
            break
        has_script = has_script or word.partition("=")[0] == "--script"
        value_follows = _value_follows(word, takes_value)
        if value_follows is None:
            if has_script:
                _refuse_if_misspelt(word, takes_value)
                return [*words[:index], "--", *words[index:]]
            break
        if value_follows:
            next(rest, None)
    return words


def _value_follows(word: str, takes_value: Mapping[str, bool]) -> bool | None:
    """Return whether the next word is the value of this one, None when this is no option."""
    if word.startswith("--"):
        name, equals, _ = word.partition("=")
        return takes_value[name] and not equals if name in takes_value else None
    for place, letter in enumerate(word[1:], 2):  # several in one word, the last perhaps with its value
        if f"-{letter}" not in takes_value:
            return None
        if takes_value[f"-{letter}"]:
            return place == len(word)
    return False


def _refuse_if_misspelt(word: str, known: Iterable[str]) -> None:
    from difflib import get_close_matches

    name = word.partition("=")[0]
    near = get_close_matches(name[2:], [option[2:] for option in known if option.startswith("--")], 1, 0.8)
    if name.startswith("--") and near:
        raise FleetError(
            "usage", f"no such option: {name}", f"did you mean --{near[0]}? if it is the script's, put -- before it"
        )


def read_script(path: str | None, arguments: Sequence[str]) -> Script | None:
    """Read the script that is to be run, if there is one. Raises FleetError."""
    if path is None:
        return None
    from controller.script import Script

    return Script.read(path, arguments, what="--script")


def open_stdin(given: str | None, inventories: Sequence[str]) -> Input | None:
    """Open what the commands read, if it is anything. Raises FleetError."""
    if given is None:
        return None
    from controller.stdin import open_input

    if given != "-":
        return open_input(given, "--stdin")
    if "-" in inventories:
        raise FleetError("--stdin", "the inventory is read from standard input already", "put one of the two in a file")
    return open_input(sys.stdin.buffer, "--stdin")


def read_user(value: object) -> str:
    """Return a user's name. Raises ValueError."""
    name = str(value)
    if not name or "\0" in name:
        raise ValueError(f"{name!r} is not a name")
    return name


def read_shell(value: object) -> str:
    """Return the path of a shell. Raises ValueError."""
    path = str(value)
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{path!r} is not an absolute path")
    return path
