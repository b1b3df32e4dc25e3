"""Host patterns of Ansible inventories: `name`, `name:port`, `[v6]:port`, and ranges such as `db[01:10:3]-[a:c]`.

Not the patterns of `-l` (see patterns) and not node sets, whose ranges have a dash (see nodeset). Its rule: what
Ansible would drop in silence (a range that ends before it begins) is an error.
"""

import itertools
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from inventory.errors import InventoryError
from inventory.names import MAX_HOSTS

_RANGE = r"\[(?:[0-9]+:[0-9]+|[A-Za-z]:[A-Za-z])(?::[0-9]+)?\]"
_LABEL = rf"(?:\w|{_RANGE})(?:[\w-]|{_RANGE})*(?<![_-])"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HEX_RANGE = r"\[[0-9a-fA-F]+:[0-9a-fA-F]+(?::[0-9]+)?\]"
_BRACKETED = re.compile(r"\[(.+)\]:([0-9]+)")
_WITH_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)")
_BRACKETS = r"\[([^\]]*)\]"
_LETTER = "[A-Za-z]"
# No more digits than a name has bytes; int() refuses some thousand of them with an error of its own.
_NUMBER = "[0-9]{1,255}"


def split_port(pattern: str) -> tuple[str, str | None]:
    """Split `name:port` or `[name]:port`; the port is None when there is none, or no address before it."""
    found = _BRACKETED.fullmatch(pattern) or _WITH_PORT.fullmatch(pattern)
    if found is not None and is_address(found[1]):
        return found[1], found[2]
    return pattern, None


def is_address(text: str) -> bool:
    """Tell whether `text` is a host name, an IPv4 or an IPv6 address; ranges may stand in it."""
    if _HOST_NAME.fullmatch(text):
        return True
    if text.count(":") < 2 or "%" in text:
        return False
    import ipaddress  # wanted for IPv6 alone, and not free at start-up

    try:
        ipaddress.IPv6Address(re.sub(_HEX_RANGE, "0", text))
    except ValueError:
        return False
    return True


def expand_ranges(pattern: str) -> list[str]:
    """Return the host names that `pattern` stands for, the last range running fastest.

    Raises:
        InventoryError: a range is wrong, or there are more than `MAX_HOSTS` names.
    """
    if "[" not in pattern and "]" not in pattern:
        return [pattern]
    pieces = re.split(_BRACKETS, pattern)
    literal, inside = pieces[::2], pieces[1::2]
    for piece in literal:
        if "[" in piece:
            raise InventoryError("unclosed range", text=pattern, hint="a range is written [01:20]")
        if "]" in piece:
            raise InventoryError("a range is closed that was not opened", text=pattern)
    axes = [_axis(text, pattern) for text in inside]
    count = math.prod(axis.size for axis in axes)
    if count > MAX_HOSTS:
        raise InventoryError(f"a range of {count} hosts is over the limit of {MAX_HOSTS}", text=pattern)
    names = []
    for values in itertools.product(*(axis.words for axis in axes)):
        pairs = zip(literal, values, strict=False)
        names.append("".join([*itertools.chain.from_iterable(pairs), literal[-1]]))
    return names


class Axis(NamedTuple):
    """One range: how many words it gives, known before any is made, and the words."""

    size: int
    words: Iterable[str]


def _axis(text: str, pattern: str) -> Axis:
    bounds = text.split(":")
    if len(bounds) not in (2, 3):
        hint = None
        if re.fullmatch("[0-9]+-[0-9]+", text):
            hint = f"in an inventory the range is written [{text.replace('-', ':')}]"
        raise InventoryError("a range must be [begin:end] or [begin:end:step]", text=pattern, hint=hint)
    begin, end = bounds[0] or "0", bounds[1]
    step = bounds[2] if len(bounds) == 3 else "1"
    if not end:
        raise InventoryError("a range must have an end", text=pattern)
    if not re.fullmatch("[0-9]{1,9}", step) or int(step) == 0:
        raise InventoryError("the step of a range must be a number above 0", text=pattern)
    if re.fullmatch(_LETTER, begin) and re.fullmatch(_LETTER, end):
        return _letters(begin, end, int(step), pattern)
    if re.fullmatch(_NUMBER, begin) and re.fullmatch(_NUMBER, end):
        return _numbers(begin, end, int(step), pattern)
    raise InventoryError("a range must run between two numbers or two letters", text=pattern)


def _letters(begin: str, end: str, step: int, pattern: str) -> Axis:
    import string  # brings a module of templates with it

    first, last = string.ascii_letters.index(begin), string.ascii_letters.index(end)
    if first > last:
        raise InventoryError(f"a range cannot end at {end} before it begins at {begin}", text=pattern)
    letters = string.ascii_letters[first : last + 1 : step]
    return Axis(len(letters), letters)


def _numbers(begin: str, end: str, step: int, pattern: str) -> Axis:
    padded = [len(bound) > 1 and bound[0] == "0" for bound in (begin, end)]
    if any(padded) and len(begin) != len(end):
        raise InventoryError(f"the ends {begin} and {end} of a range are padded differently", text=pattern)
    first, last = int(begin), int(end)
    if first > last:
        raise InventoryError(f"a range cannot end at {end} before it begins at {begin}", text=pattern)
    width = len(begin) if padded[0] else 0
    # Not len(range): that overflows on the very ranges which the limit is there for.
    count = (last - first) // step + 1
    return Axis(count, (str(number).zfill(width) for number in range(first, last + 1, step)))
