"""Patterns of names: what a transfer leaves out, in the words of rsync(1), and what it takes.

    *.log        a name, in any directory          a/b     the end of a path, whole names
    /conf/x      from the transfer's top           cache/  directories alone

`*` and `?` do not match a slash, `**` does, `[a-z]` and `[!a-z]` are sets; a backslash takes the next character as it
is. Text in, yes or no out; nothing here touches a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["Patterns", "is_pattern", "matches_name"]

_MAGIC = r"[*?\[]"


class Patterns:
    """A list of exclude patterns."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._anything: list[re.Pattern[str]] = []
        self._folders: list[re.Pattern[str]] = []
        for pattern in patterns:
            where = self._folders if pattern.endswith("/") else self._anything
            if bare := pattern.rstrip("/"):
                start = "" if bare.startswith("/") else "(?:.*/)?"
                where.append(re.compile(start + _expression(bare.lstrip("/")), re.DOTALL))

    def __bool__(self) -> bool:
        return bool(self._anything or self._folders)

    def match(self, path: str, *, folder: bool) -> bool:
        """Whether `path`, relative to the transfer, is to be left out; `folder` says that it is a directory."""
        if any(pattern.fullmatch(path) for pattern in self._anything):
            return True
        return folder and any(pattern.fullmatch(path) for pattern in self._folders)


def is_pattern(name: str) -> bool:
    """Whether a name on the remote side stands for several."""
    return re.search(_MAGIC, name) is not None


def matches_name(pattern: str, name: str) -> bool:
    """Whether a single name fits a pattern, as a shell sees it: a leading dot must be written out."""
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return re.fullmatch(_expression(pattern), name, re.DOTALL) is not None


def _expression(pattern: str) -> str:
    """Return the regular expression of a pattern."""
    result = ""
    place = 0
    while place < len(pattern):
        char = pattern[place]
        place += 1
        if char == "*":
            crossing = pattern.startswith("*", place)
            while pattern.startswith("*", place):
                place += 1
            result += ".*" if crossing else "[^/]*"
        elif char == "?":
            result += "[^/]"
        elif char == "[" and (end := _end_of_set(pattern, place)):
            result += _set(pattern[place : end - 1])
            place = end
        else:
            if char == "\\" and place < len(pattern):
                char = pattern[place]
                place += 1
            result += re.escape(char)
    return result


def _end_of_set(pattern: str, place: int) -> int:
    """Return where the set that begins before `place` is over, 0 when it is no set. A `]` in front belongs to it."""
    start = place + pattern.startswith(("!", "^"), place)
    return pattern.find("]", start + 1) + 1


def _set(body: str) -> str:
    negated = body.startswith(("!", "^"))
    # Each character by itself but for ranges: nothing of it may mean more to `re` than it does here.
    inside = re.sub(r"[\\\]\[^&~|]", r"\\\g<0>", body[negated:])
    return f"(?!/)[{'^' if negated else ''}{inside}]"
