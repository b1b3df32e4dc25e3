"""What a cell of a table is worth: numbers, sizes, shares and times as values, and an order for everything else.

``9.8G`` is less than ``10T``, ``9%`` less than ``87%``, ``59:00`` less than ``1-00:00:00``. Sizes of one letter are
powers of 1024, as df and free write them; ``kB``, ``MB``... are powers of 1000. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["natural", "sort_by_value", "value"]

_Row = TypeVar("_Row")

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?"
_PLAIN = re.compile(rf"([+-]?)({_NUMBER})\s?(%|[A-Za-z]*)")
_CLOCK = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)")
_TIMES = re.compile(rf"(?:(?:{_NUMBER})\s?[a-z]+\s?)+?(?:ago|left)?")
_TIME = re.compile(rf"({_NUMBER})\s?([a-z]+)")
_DIGITS = re.compile(r"(\d+)")
_LONGEST = 40  # characters; no number that people read is longer, and time stays bounded

_UNITS: dict[str, float] = {"": 1, "%": 1, "B": 1, "b": 1}
for _power, _letter in enumerate("KMGTPE", start=1):
    _UNITS |= {_letter: 1024.0**_power, f"{_letter}i": 1024.0**_power, f"{_letter}iB": 1024.0**_power}
    _UNITS[f"{_letter}B"] = 1000.0**_power
_UNITS |= {"k": 1024, "kB": 1000, "kiB": 1024}

_SECONDS: dict[str, float] = {
    **dict.fromkeys(("us", "usec"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400),
    **dict.fromkeys(("month", "months"), 30 * 86400),
    **dict.fromkeys(("y", "year", "years"), 365 * 86400),
}


def value(text: str) -> float | None:
    """Return what `text` is worth as a number, a size in bytes or a time in seconds; None when it is none of these."""
    if len(text) > _LONGEST or not any(map(str.isdigit, text)):
        return None
    text = text.strip()
    if match := _PLAIN.fullmatch(text):
        unit = _UNITS.get(match[3])
        if unit is not None:
            return (-1 if match[1] == "-" else 1) * _float(match[2]) * unit
    if match := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = match.groups()
        return int(days or 0) * 86400.0 + int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    if _TIMES.fullmatch(text):
        parts = [(_float(number), _SECONDS.get(unit)) for number, unit in _TIME.findall(text)]
        if all(unit is not None for _, unit in parts):
            return sum(number * unit for number, unit in parts if unit is not None)
    return None


def _float(text: str) -> float:
    head, comma, tail = text.rpartition(",")
    if comma and "." not in text and len(tail) != 3:  # a decimal comma, as some locales have it
        return float(f"{head.replace(',', '')}.{tail}")
    return float(text.replace(",", ""))


def natural(text: str) -> tuple[object, ...]:
    """Return what texts are sorted by: as people do, with web2 before web10."""
    words: list[object] = list(_DIGITS.split(text.casefold()))
    for number, digits in enumerate(words[1::2]):
        stripped = str(digits).lstrip("0")
        words[2 * number + 1] = (len(stripped), stripped, digits)
    return tuple(words)


def sort_by_value(rows: Sequence[_Row], cell: Callable[[_Row], str], *, descending: bool = False) -> list[_Row]:
    """Return rows by the value of a cell: numbers first, then texts, and cells with nothing (or ``-``) always last.

    Rows that are equal keep their order.
    """
    numbers: list[tuple[float, _Row]] = []
    texts: list[tuple[tuple[object, ...], _Row]] = []
    nothing: list[_Row] = []
    for row in rows:
        text = cell(row)
        number = value(text)
        if number is not None:
            numbers.append((number, row))
        elif text in ("", "-"):
            nothing.append(row)
        else:
            texts.append((natural(text), row))
    numbers.sort(key=lambda pair: pair[0], reverse=descending)
    texts.sort(key=lambda pair: pair[0], reverse=descending)
    return [*(row for _, row in numbers), *(row for _, row in texts), *nothing]
