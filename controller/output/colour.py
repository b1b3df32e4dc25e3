"""Whether to colour and how: one policy object for each stream. It knows styles, not sinks.

Rule: colour is a second sign, never the only one. Whatever is red has a word or a mark as well, because pipes, logs
and some eyes do not see it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import BinaryIO

from agent.wire.record import record
from controller.results import Status

__all__ = ["Colour", "ColourWhen", "Style"]


class ColourWhen(enum.StrEnum):
    """The values of ``--color``."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Style(enum.Enum):
    """What a piece of text is, as the SGR parameter (ECMA-48, 8.3.117) that shows it."""

    GOOD = "32"
    FAILED = "31"
    CUT_OFF = "33"
    UNREACHED = "35"
    HEADING = "1"
    HOST = "36"


_STYLE_OF_CLASS = {0: Style.GOOD, 5: Style.FAILED, 3: Style.CUT_OFF, 4: Style.UNREACHED}


@record
class Colour:
    """The colour policy of one stream."""

    enabled: bool = False

    @classmethod
    def from_option(cls, option: str, stream: BinaryIO, environ: Mapping[str, str]) -> Colour:
        """Return the policy for `stream` under ``--color option``.

        ``auto`` colours a terminal unless NO_COLOR is set and not empty (no-color.org) or TERM is ``dumb``; an explicit
        ``always`` beats both. Raises ValueError for any other word.
        """
        when = ColourWhen(option)
        if when is not ColourWhen.AUTO:
            return cls(enabled=when is ColourWhen.ALWAYS)
        wanted = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        return cls(enabled=wanted and stream.isatty())

    def paint(self, text: str, style: Style) -> str:
        """Return `text` in `style`, or as it is when this stream has no colour."""
        return f"\x1b[{style.value}m{text}\x1b[0m" if self.enabled else text

    def status(self, status: Status, text: str | None = None) -> str:
        """Return `text` (default: the status word) in the colour of `status`."""
        return self.paint(status.value if text is None else text, _STYLE_OF_CLASS[status.exit_class])
