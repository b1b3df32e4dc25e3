"""What a command takes, said once, in the annotations of its function.

def run(command: Annotated[list[str] | None, Argument("COMMAND...", help="...")] = None, ...) -> int: ...

Two readers live on it: `arguments`, which is quick, and `program`, which makes a typer command of it and has the help
and the errors. Nothing here knows typer, because its import is a third of the time of `fleet run true`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

from agent.wire.record import record

__all__ = ["HELP", "Argument", "Command", "Option", "Parameter"]

HELP = ("-h", "--help")  # of every command, and known to typer alone


class Option:
    """An option. A boolean one takes no value; a list may be repeated; `bare` is the value of one given without any."""

    __slots__ = ("bare", "help", "metavar", "names", "panel")

    def __init__(
        self, *names: str, help: str, metavar: str | None = None, panel: str | None = None, bare: str | None = None
    ) -> None:
        self.names = names
        self.help = help
        self.metavar = metavar
        self.panel = panel
        self.bare = bare


class Argument:
    """A positional argument, the only one of its command; a list takes all there are."""

    __slots__ = ("help", "hidden", "metavar")

    def __init__(self, metavar: str = "", *, help: str = "", hidden: bool = False) -> None:
        self.metavar = metavar
        self.help = help
        self.hidden = hidden


@record
class Parameter:
    """One parameter of a command's function. `kind` is bool, int, float or str, that of the items if it is `many`."""

    name: str
    annotation: Any  # without what was said of it
    default: object  # ... when there is none
    said: Option | Argument

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of an option; an argument has none."""
        return self.said.names if isinstance(self.said, Option) else ()

    @property
    def kind(self) -> type:
        """Return the type that one value has."""
        kind: Any = self.annotation
        while inner := get_args(kind):  # of `list[str] | None` first the list, then the string
            kind = inner[0]
        assert isinstance(kind, type)
        return kind

    @property
    def many(self) -> bool:
        """Whether values are gathered in a list."""
        return "list" in str(self.annotation)


@record
class Command:
    """A command: its function, and whether options may follow its first argument.

    `prepare` rewrites the words before they are read, where options mean what neither reader knows.
    """

    function: Callable[..., int | None]
    interspersed: bool = True
    prepare: Callable[[Sequence[Parameter], list[str]], list[str]] = lambda parameters, words: words

    def parameters(self) -> Iterator[Parameter]:
        """Yield the parameters in their order.

        Does by itself what `inspect.signature` does, whose module takes longer to import than a command to be read.
        """
        function: Any = self.function
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        defaults = function.__defaults__ or ()
        padded = (...,) * (len(names) - len(defaults)) + defaults
        for name, default in zip(names, padded, strict=True):
            alias = eval(function.__annotations__[name], function.__globals__)
            yield Parameter(name, alias.__origin__, default, alias.__metadata__[0])
