"""Threads for connections, used again while there is work for them.

A thread is cheap to keep and dear to make: its start, its stack and the interpreter's own book-keeping are a tenth of
what a short connection costs. So one whose work is done waits for more, for a moment; an agent that has nothing to do
has none of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

__all__ = ["IDLE_LIMIT", "STACK_SIZE", "Crew"]

Item = TypeVar("Item")

# A thread with nothing to do ends after so long, in seconds: a burst of connections is over by then.
IDLE_LIMIT = 5.0
# Address space, hardly memory. Python 3.13 reads JSON 10,000 levels deep before its RecursionError, and with 1 MiB one
# nested message is a segmentation fault; 2 MiB are enough.
STACK_SIZE = 4 * 1024 * 1024
_MAX_IDLE = 64


class Crew(Generic[Item]):
    """Calls `work` with each item in a thread of its own. `work` must not raise."""

    def __init__(self, work: Callable[[Item], None], *, idle_limit: float = IDLE_LIMIT) -> None:
        self._work = work
        self._idle_limit = idle_limit
        self._items: SimpleQueue[Item] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait and have not been promised an item

    def start(self, item: Item) -> None:
        """Have an item worked on at once. Raises RuntimeError when no thread is idle, and the system gives no other."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._items.put(item)
                return
        before = threading.stack_size(STACK_SIZE)
        try:
            threading.Thread(target=self._serve, args=(item,), name="connection", daemon=True).start()
        finally:
            threading.stack_size(before)

    def _serve(self, item: Item | None) -> None:
        while item is not None:
            self._work(item)
            del item  # what it holds is not to live until the next one comes
            item = self._wait()

    def _wait(self) -> Item | None:
        """Return the next item, None when this thread is to end."""
        with self._lock:
            if self._idle >= _MAX_IDLE:
                return None
            self._idle += 1
        try:
            return self._items.get(timeout=self._idle_limit)
        except Empty:
            pass
        with self._lock:
            try:
                return self._items.get_nowait()  # it was put while our time ran out, and is ours or another's
            except Empty:
                self._idle -= 1
                return None
