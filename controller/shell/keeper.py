"""Connections on which nobody asks anything are served all the same: an agent takes a silent controller for dead.

One thread for all of them. A connection belongs to the keeper from `give` to `take`, and to the taker until it is given
back; nobody else touches it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Keeper", "Kept"]


class Kept(Protocol):
    """What the keeper serves."""

    @property
    def name(self) -> str:
        """The host's name."""

    def fileno(self) -> int:
        """Return the descriptor to poll for input."""

    def serve(self) -> float | None:
        """Do what is due. Returns the seconds after which to do it again, None when the connection is no more."""


@dataclass(slots=True)
class _Place:
    """A connection that is kept, and when it is to be looked at."""

    one: Kept
    due: float = 0.0  # on the monotonic clock


class Keeper:
    """Use it in a `with` block: the thread runs as long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what is kept, and is held while one is served
        self._kept: dict[str, _Place] = {}
        self._bell, self._ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._over = False
        self._thread = threading.Thread(target=self._run, name="keep connections", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over = True
        self._wake()
        self._thread.join()
        os.close(self._ring)
        os.close(self._bell)

    def give(self, one: Kept) -> None:
        """Hand a connection over."""
        with self._lock:
            self._kept[one.name] = _Place(one)
        self._wake()

    def take(self, name: str) -> None:
        """Have a connection back, if it was here: it is not touched after that."""
        with self._lock:
            self._kept.pop(name, None)

    def _wake(self) -> None:
        try:
            os.write(self._ring, b"!")
        except BlockingIOError:  # it has been called often enough
            pass

    def _run(self) -> None:
        ready: set[int] = set()
        while True:
            if self._bell in ready:
                os.read(self._bell, 65536)
            if self._over:  # after the read, which may have taken the very ring that says so
                return
            ready = self._poll(self._serve(ready))

    def _serve(self, ready: set[int]) -> float | None:
        """Serve those that are ready or due; return the seconds until the next is due, None with none."""
        soonest = None
        with self._lock:
            for name, place in list(self._kept.items()):
                now = time.monotonic()
                if now >= place.due or place.one.fileno() in ready:
                    left = place.one.serve()
                    if left is None:
                        del self._kept[name]
                        continue
                    place.due = now + left
                soonest = place.due if soonest is None else min(soonest, place.due)
        return None if soonest is None else max(0.0, soonest - time.monotonic())

    def _poll(self, timeout: float | None) -> set[int]:
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        with self._lock:
            for place in self._kept.values():
                poller.register(place.one.fileno(), select.POLLIN)
        # Rounded up: waking a moment too early would only spin.
        return {fd for fd, _ in poller.poll(None if timeout is None else int(timeout * 1000) + 1)}
