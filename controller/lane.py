"""How many threads may take large data apart at once: decrypt it, check it, hash it.

All of that lets go of the interpreter's lock, some microseconds at a time. With a thread for each of 64 hosts that
send as fast as they can, each takes the lock from the next one after every 16 KiB, and a tenth of the time goes into
waking each other. A few at a time have the same done sooner. What hosts do not wait for each other in are the network,
the disk, and whatever is done with the data.
"""

from __future__ import annotations

import os
from functools import cache
from queue import SimpleQueue
from types import TracebackType

__all__ = ["Lane", "lane"]


class Lane:
    """Lets `width` threads at once into its `with` block, which is to be short and to wait for nothing."""

    def __init__(self, width: int) -> None:
        # Not a semaphore: that one is written in Python.
        self._tokens: SimpleQueue[None] = SimpleQueue()
        for _ in range(width):
            self._tokens.put(None)

    def __enter__(self) -> None:
        self._tokens.get()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tokens.put(None)


@cache
def lane() -> Lane:
    """Return the one lane of this process: half of the processors, the other half is for what is done with the data."""
    return Lane(max(1, (os.cpu_count() or 1) // 2))
