"""Errors in the words of the command line.

fleet: WHAT: WHY
hint: the next step
"""

from __future__ import annotations

import sys

__all__ = ["complain"]


def complain(what: str, why: str, hint: str | None, code: int) -> int:
    """Say what is wrong on standard error, and return `code`, for the process to exit with."""
    from controller.text import clean_line

    sys.stderr.write(f"fleet: {clean_line(what)}: {clean_line(why)}\n")
    if hint is not None:
        sys.stderr.write(f"hint: {clean_line(hint)}\n")
    return code
