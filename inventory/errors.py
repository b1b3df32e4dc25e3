"""The errors of the package: what is wrong, where it stands, and what to do about it.

An error is a set of fields; its one line of text is formed in `__str__` and nowhere else. Text that came from a
file or a command line is escaped there, so that a hostile inventory cannot repaint the terminal it is shown on.
"""

from collections.abc import Iterable

# Long enough to recognise a line by, short enough to stay one line on a terminal.
SHOWN_LENGTH = 80


def printable(text: str) -> str:
    """Return `text` with every character that does not print written as an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def quoted(text: str) -> str:
    """Return `text` between quotes, escaped, and cut when it is long."""
    if len(text) > SHOWN_LENGTH:
        return repr(text[:SHOWN_LENGTH]) + "..."
    return repr(text)


class InventoryError(Exception):
    """An inventory, a pattern or a node set that cannot be used.

    `reason` says what was found and what was expected, `path` and `line` where (a line counts from 1), `text` is
    the offending piece as it was read, `hint` the next step. All but `reason` may be None.
    """

    def __init__(
        self,
        reason: str,
        *,
        path: str | None = None,
        line: int | None = None,
        text: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(reason, path, line, text, hint)
        self.reason = reason
        self.path = path
        self.line = line
        self.text = text
        self.hint = hint

    def __str__(self) -> str:
        words = printable(self.reason)
        if self.text is not None:
            words = f"{words}: {quoted(self.text)}"
        if self.path is None:
            return words
        return f"{location(self.path, self.line)}: {words}"

    def at(self, path: str, line: int | None = None) -> "InventoryError":
        """Return the same error with its place, unless it has one already."""
        if self.path is not None:
            return self
        return InventoryError(self.reason, path=path, line=line, text=self.text, hint=self.hint)


class TemplateError(InventoryError):
    """A command template that cannot be filled for one host."""

    def __init__(self, host: str, variable: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(reason, text=variable, hint=hint)
        self.host = host
        self.variable = variable

    def __str__(self) -> str:
        return f"{printable(self.host)}: {super().__str__()}"


def location(path: str, line: int | None) -> str:
    """Return `path:line` (or `path` alone) as errors and listings show it."""
    return printable(path) if line is None else f"{printable(path)}:{line}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the hint that names what in `known` looks most like `word`, or None when nothing does."""
    import difflib  # costs start-up time, and is wanted only when something went wrong

    choices = list(known)
    if len(choices) > NEAREST_FROM:
        # The comparison is quadratic in the length of a word; a fleet's names share their first letter.
        choices = [name for name in choices if name[:1] == word[:1]][:NEAREST_FROM]
    found = difflib.get_close_matches(word, choices, n=3)
    return f"did you mean {', '.join(quoted(name) for name in found)}?" if found else None


# Above this many names a suggestion would cost more than a second.
NEAREST_FROM = 5000
