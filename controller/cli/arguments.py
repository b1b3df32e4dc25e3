"""A command line read quickly: for the many that are right, and need neither help nor an error.

What is wrong, or asks for help, or is not understood for whatever reason, is None here and goes to typer, which knows
what to say. The rule: what this reader returns is what typer would have made of the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from controller.cli.declare import Argument, Command, Option, Parameter

__all__ = ["prepared", "read"]


class _NotSoSimpleError(Exception):
    """Typer's affair."""


def read(command: Command, words: Sequence[str]) -> dict[str, object] | None:
    """Return the arguments of the command's function by name, None when that is not so simple."""
    parameters = list(command.parameters())
    reader = _Reader(parameters)
    try:
        rest = reader.read(prepared(command, parameters, words), interspersed=command.interspersed)
        return reader.arguments(rest)
    except (_NotSoSimpleError, ValueError):
        return None


def prepared(command: Command, parameters: Sequence[Parameter], words: Sequence[str]) -> list[str]:
    """Return the words as a reader may take them: options that may stand without a value (``--backup``) have theirs."""
    bare = {
        name: f"{name}={parameter.said.bare}"
        for parameter in parameters
        if isinstance(parameter.said, Option) and parameter.said.bare is not None
        for name in parameter.names
    }
    end = words.index("--") if "--" in words else len(words)
    return command.prepare(
        parameters, [bare.get(word, word) if place < end else word for place, word in enumerate(words)]
    )


class _Reader:
    """The words of one command line, taken one by one (POSIX utility conventions, with GNU's long options)."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._parameters = parameters
        self._options = {name: parameter for parameter in parameters for name in parameter.names}
        self._given: dict[str, list[object]] = {}

    def read(self, words: list[str], *, interspersed: bool) -> list[str]:
        """Note the options, and return what is none."""
        todo = words[::-1]
        rest: list[str] = []
        while todo:
            word = todo.pop()
            if word == "--":
                break
            if word.startswith("--"):
                self._long(word, todo)
            elif word.startswith("-") and word != "-":
                self._short(word, todo)
            else:
                rest.append(word)
                if not interspersed:
                    break
        return rest + todo[::-1]

    def arguments(self, rest: list[str]) -> dict[str, object]:
        """Return all that the function takes."""
        values: dict[str, object] = {}
        for parameter in self._parameters:
            given = self._given.get(parameter.name, [])
            if isinstance(parameter.said, Argument):
                given, rest = (list(rest), []) if parameter.many else (list(rest[:1]), rest[1:])
            if not given and parameter.default is ...:
                raise _NotSoSimpleError
            values[parameter.name] = _value(parameter, given) if given else parameter.default
        if rest:
            raise _NotSoSimpleError
        return values

    def _long(self, word: str, todo: list[str]) -> None:
        name, equals, value = word.partition("=")
        parameter = self._find(name)
        if parameter.kind is bool:
            if equals:
                raise _NotSoSimpleError
            self._note(parameter, True)
        else:
            self._note(parameter, value if equals else _next(todo))

    def _short(self, word: str, todo: list[str]) -> None:
        """Take ``-b``, ``-bq``, ``-f 5``, ``-f5`` and ``-bf5``."""
        letters = word[1:]
        while letters:
            parameter = self._find("-" + letters[0])
            letters = letters[1:]
            if parameter.kind is bool:
                self._note(parameter, True)
            else:
                self._note(parameter, letters or _next(todo))
                return

    def _find(self, name: str) -> Parameter:
        parameter = self._options.get(name)
        if parameter is None:
            raise _NotSoSimpleError
        return parameter

    def _note(self, parameter: Parameter, value: object) -> None:
        self._given.setdefault(parameter.name, []).append(value)


def _value(parameter: Parameter, given: list[object]) -> object:
    """Return what was given in the parameter's type; of what may not be repeated, the last. Raises ValueError."""
    kind: Callable[[object], object] = parameter.kind
    return [kind(value) for value in given] if parameter.many else kind(given[-1])


def _next(todo: list[str]) -> str:
    if not todo:
        raise _NotSoSimpleError
    return todo.pop()
