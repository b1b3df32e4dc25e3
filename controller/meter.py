"""What has moved in one host's transfer: numbers that its thread writes and others read at any moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Meter", "Unwatched", "Watcher"]


@dataclass(slots=True)
class Meter:
    """`moved` are bytes of content that went over the line; `done` counts beside them what did not have to.

    `total` is how many bytes are listed so far, in `files` files; `complete` says that the list is at its end. All
    are in bytes but `files`.
    """

    moved: int = 0
    done: int = 0
    total: int = 0
    files: int = 0
    complete: bool = False


class Watcher(Protocol):
    """Who wants to know how far a transfer has come. Called from the threads of the connections."""

    def start(self, host: str) -> Meter:
        """A host is begun with; return where to count."""

    def end(self, host: str) -> None:
        """A host is done with, however it ended."""


class Unwatched:
    """Nobody watches."""

    def start(self, host: str) -> Meter:
        """Count, for nobody."""
        return Meter()

    def end(self, host: str) -> None:
        """Ignore it."""
