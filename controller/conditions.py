"""What ``--where`` says, as a small language: ``Use% > 80 and 'Mounted on' ~ ^/srv``.

    conditions = condition { "and" condition }
    condition  = name operator value
    operator   = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"

Names and values with an operator, the word "and", or blanks at their ends stand in quotes. Pure; nothing is evaluated
but these comparisons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from agent.wire.record import record
from controller.values import value

__all__ = ["Condition", "ConditionError", "parse_conditions"]

_OPERATOR = re.compile(r"==|!=|<=|>=|!~|[=<>~]")
_NAME = re.compile(r"[^=!<>~'\"]+")
_VALUE = re.compile(r"(?!and\b)(?:(?!\sand(?:\s|$)).)+", re.IGNORECASE | re.DOTALL)
_AND = re.compile(r"and(?=\s|$)", re.IGNORECASE)
_BLANKS = re.compile(r"\s*")

_ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


class ConditionError(ValueError):
    """A condition cannot be read. `position` is where, from 1, and `expected` what should stand there."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        super().__init__(text, position, expected)
        self.text = text
        self.position = position
        self.expected = expected

    def __str__(self) -> str:
        at = self.position - 1
        where = f"{self.text[:at].rstrip()} >>> {self.text[at:].lstrip()}".strip()
        return f"expected {self.expected} at position {self.position}: {where}"


@record
class Condition:
    """One comparison of the column `name` with `text`. `pattern` is `text` as a regular expression, for ``~``."""

    name: str
    operator: str
    text: str
    pattern: re.Pattern[str] | None = None

    def holds(self, cell: str) -> bool:
        """Whether it is true of a cell.

        Two values (numbers, sizes, shares, times) are compared as such. What is none is equal only as text, and
        neither less nor more than a number.
        """
        if self.pattern is not None:
            return (self.pattern.search(cell) is not None) is (self.operator == "~")
        one, other = value(cell), value(self.text)
        if self.operator in ("=", "!="):
            same = cell == self.text if one is None or other is None else one == other
            return same is (self.operator == "=")
        if one is not None and other is not None:
            return _ORDERS[self.operator](one, other)
        return False


def parse_conditions(text: str) -> list[Condition]:
    """Read what must all hold. Raises ConditionError."""
    reader = _Reader(text)
    found = [reader.condition()]
    while not reader.at_end():
        reader.take(_AND, "'and' or the end")
        found.append(reader.condition())
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def at_end(self) -> bool:
        self._skip()
        return self._at == len(self._text)

    def condition(self) -> Condition:
        name = self._word(_NAME, "a column")
        operator = self.take(_OPERATOR, "one of = != < <= > >= ~ !~")
        self._skip()
        start = self._at
        text = self._word(_VALUE, "a value")
        if operator in ("~", "!~"):
            return Condition(name, operator, text, self._pattern(text, start))
        if operator in _ORDERS and value(text) is None:
            raise ConditionError(self._text, start + 1, f"a number, size or time after {operator}")
        return Condition(name, "=" if operator == "==" else operator, text)

    def take(self, pattern: re.Pattern[str], expected: str) -> str:
        self._skip()
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ConditionError(self._text, self._at + 1, expected)
        self._at = match.end()
        return match[0]

    def _word(self, bare: re.Pattern[str], expected: str) -> str:
        self._skip()
        quote = self._text[self._at : self._at + 1]
        if quote not in ("'", '"'):
            return self.take(bare, expected).rstrip()
        end = self._text.find(quote, self._at + 1)
        if end < 0:
            raise ConditionError(self._text, len(self._text) + 1, f"the closing {quote}")
        word = self._text[self._at + 1 : end]
        self._at = end + 1
        return word

    def _pattern(self, text: str, start: int) -> re.Pattern[str]:
        try:
            return re.compile(text)
        except re.error as error:
            quoted = self._text[start] in "'\""
            position = start + quoted + (error.pos or 0) + 1
            raise ConditionError(self._text, position, f"a regular expression ({error.msg})") from None

    def _skip(self) -> None:
        match = _BLANKS.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
