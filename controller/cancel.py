"""One wake-up descriptor that every loop polls: how a run is stopped from outside.

Set once, it stays readable for ever (nobody reads the byte), so any number of threads see it.
"""

from __future__ import annotations

import os

__all__ = ["CancelToken"]


class CancelToken:
    """A flag with a descriptor. `set` may be called from a signal handler and from any thread, more than once."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self._set = False

    def __del__(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    @property
    def is_set(self) -> bool:
        """Whether the run is to stop."""
        return self._set

    def fileno(self) -> int:
        """Return the descriptor that is readable once the token is set."""
        return self._reader

    def set(self) -> None:
        """Stop the run."""
        if not self._set:
            self._set = True
            os.write(self._writer, b"!")
