"""Notices what happens around a run that may have nothing to write for long: one thread that waits for all of it.

Whoever read our output may go: `fleet run 'sleep 1000' | true` would otherwise keep the hosts busy for the whole time.
And a person may look on: what such a `Bystander` waits for is waited for here too, so that it needs no thread.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Collection
from typing import Protocol

from controller.cancel import CancelToken

__all__ = ["Bystander", "StdoutWatch"]


class Bystander(Protocol):
    """Somebody who wants to be called now and then while a run goes on."""

    def waits_for(self) -> tuple[Collection[int], float | None]:
        """Return descriptors to be read, and the seconds after which to be called anyway, None for never."""

    def called(self, ready: Collection[int], *, asked: bool) -> None:
        """Some of the descriptors can be read, or the time has come, or `StdoutWatch.ask` was called."""


class StdoutWatch:
    """While in the `with` block, sets `token` when the reader of the pipe `fd` has closed it, and calls `bystander`."""

    def __init__(self, fd: int, token: CancelToken, bystander: Bystander | None = None) -> None:
        self._fd = fd
        self._token = token
        self._bystander = bystander
        self._gone = False
        self._done, self._over = os.pipe()
        os.set_blocking(self._over, False)
        self._thread = threading.Thread(target=self._watch, name="watch stdout", daemon=True)

    def __enter__(self) -> StdoutWatch:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._over)
        self._thread.join()
        os.close(self._done)

    def check(self) -> None:
        """Raise BrokenPipeError, as a write would, once the reader has gone."""
        if self._gone:
            raise BrokenPipeError

    def ask(self) -> None:
        """Have the bystander called. May be called from a signal handler: it takes no lock and does not wait."""
        try:
            os.write(self._over, b"?")
        except BlockingIOError:
            pass  # asked thousands of times already, and not answered yet

    def _watch(self) -> None:
        watched = True
        while True:
            descriptors, seconds = self._bystander.waits_for() if self._bystander else ((), None)
            poller = select.poll()
            # Asking for nothing still reports errors: POLLERR when a pipe has no reader any more.
            if watched:
                poller.register(self._fd, 0)
            for descriptor in (self._done, *descriptors):
                poller.register(descriptor, select.POLLIN)
            events = dict(poller.poll(None if seconds is None else max(0, int(seconds * 1000))))
            if events.get(self._done, 0) & select.POLLHUP:
                return
            if watched and self._fd in events:
                watched = False
                self._gone = True
                self._token.set()
            asked = self._done in events and bool(os.read(self._done, 65536))
            if self._bystander:
                self._bystander.called([fd for fd in descriptors if fd in events], asked=asked)
