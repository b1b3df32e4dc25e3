"""What is taken out of outputs before they are compared: what differs on every host, and says nothing.

Pure: bytes in, bytes out. Masked text is compared and never shown. Outputs come from hosts, so each pattern of ours
takes time linear in them, whatever they hold; a pattern of the user's takes the time that it takes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.wire.record import record

__all__ = ["MaskError", "Masks"]

_SIGN = b"#"

_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_CLOCK = rb"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?[AP]M\b)?"
_ZONE = rb"(?: ?(?:Z|UTC|GMT|CES?T|[ECMP][SD]T|[+-]\d\d:?\d\d)\b)?"
_UNIT = rb"(?:[num]?s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|weeks?|months?|years?)"
# Bounded repetitions and a look-behind, so that no run of digits is read again and again.
_TIMES = (
    rb"(?<![\w.:])(?:"
    rb"(?:" + _DAY + rb",? )?(?:" + _MONTH + rb" \d{1,2}|\d{1,2}[ /-]" + _MONTH + rb"),?"
    rb"(?:[ /-](?:19|20)\d\d\b)?(?:[ :]" + _CLOCK + _ZONE + rb")?(?: (?:19|20)\d\d\b)?"
    rb"|(?:" + _DAY + rb" )?\d{4}-\d\d-\d\d(?:[T ]" + _CLOCK + _ZONE + rb")?"
    rb"|(?:\d{1,5}-)?" + _CLOCK + _ZONE + rb"(?![\w:])"
    rb"|(?:\d{1,12}(?:\.\d{1,9})? ?" + _UNIT + rb"(?![A-Za-z]) ?)+"
    rb")"
)
_NUMBERS = (
    rb"(?<![A-Za-z_\d])"  # sda1, eth0 and web2 are names
    rb"(?:0x[0-9A-Fa-f]+|\d+(?:[.,]\d+)*(?:%|[KMGTPE](?:i?B?)(?![A-Za-z])|[kB]B?(?![A-Za-z]))?)"
)


class MaskError(ValueError):
    """A mask is no regular expression. `position` counts from 1, None when there is none to tell."""

    def __init__(self, pattern: str, reason: str, position: int | None) -> None:
        super().__init__(pattern, reason, position)
        self.pattern = pattern
        self.reason = reason
        self.position = position

    def __str__(self) -> str:
        where = "" if self.position is None else f" at position {self.position}"
        return f"{self.reason}{where}: {self.pattern!r}"


def _with_blanks(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a mask that takes a blank on either side with it: a longer number has fewer before it."""
    return re.compile(rb" ?(?:" + pattern + rb") ?")


_TIME_MASK = _with_blanks(_TIMES)
_NUMBER_MASK = _with_blanks(_NUMBERS)
_BLANKS = re.compile(rb"  +")


@record
class Masks:
    """What to mask. `patterns` are the user's own; where the others are on, a run of blanks counts as one."""

    patterns: tuple[re.Pattern[bytes], ...] = ()
    host: bool = False
    time: bool = False
    number: bool = False

    @classmethod
    def of(cls, patterns: Sequence[str] = (), *, host: bool = False, time: bool = False, number: bool = False) -> Masks:
        """Return the masks of these options. Patterns match bytes, ``^`` and ``$`` at every line. Raises MaskError."""
        return cls(tuple(_compiled(pattern) for pattern in patterns), host, time, number)

    def __bool__(self) -> bool:
        return bool(self.patterns or self.host or self.time or self.number)

    def apply(self, data: bytes, host: str) -> bytes:
        """Return `data`, which came from `host`, with a sign in place of all that is masked."""
        for pattern in self.patterns:
            data = pattern.sub(_SIGN, data)
        if (self.host or self.time or self.number) and b"  " in data:
            data = _BLANKS.sub(b" ", data)
        if self.host:
            data = _without_host(data, host)
        if self.time:
            data = _TIME_MASK.sub(b" # ", data)
        if self.number:
            data = _NUMBER_MASK.sub(b" # ", data)
        return data


def _compiled(pattern: str) -> re.Pattern[bytes]:
    try:
        return re.compile(pattern.encode("utf-8", "surrogateescape"), re.MULTILINE)
    except re.error as error:
        raise MaskError(pattern, error.msg, None if error.pos is None else error.pos + 1) from None
    except (RecursionError, OverflowError):
        raise MaskError(pattern, "too large", None) from None


def _without_host(data: bytes, host: str) -> bytes:
    """Mask a host's name as the inventory has it, and its first label: a machine knows itself by that."""
    short, dot, _ = host.partition(".")
    names = [host, short] if dot and not short.isdigit() else [host]  # of 192.0.2.1, the 192 is no name
    words = [name.encode("utf-8", "surrogateescape").lower() for name in names]
    lowered = data.lower()
    if not any(word in lowered for word in words):  # much quicker than the search below, and the common case
        return data
    either = b"|".join(map(re.escape, words))
    mask = re.compile(rb" ?(?<![A-Za-z0-9])(?:" + either + rb")(?![A-Za-z0-9]) ?", re.IGNORECASE)
    return mask.sub(b" # ", data)
