"""Errors in the words of the command line.

fleet: WHAT: WHY
hint: the next step
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

__all__ = ["complain"]


def complain(what: str, why: str, hint: str | None, code: int) -> int:
    """Say what is wrong on standard error, and return `code`, for the process to exit with.

    With FLEET_DEBUG=1 the traceback of the exception that is handled comes first.
    """
    from controller.text import clean_line

    if os.environ.get("FLEET_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    with suppress(OSError):  # a full disk: the exit code still says it
        sys.stderr.write(f"fleet: {clean_line(what)}: {clean_line(why)}\n")
        if hint is not None:
            sys.stderr.write(f"hint: {clean_line(hint)}\n")
    return code
