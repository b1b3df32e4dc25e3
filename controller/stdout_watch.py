"""Notices that whoever read our output has gone, also while there is nothing to write.

`fleet run 'sleep 1000' | true` would otherwise keep the hosts busy for the whole time.
"""

from __future__ import annotations

import os
import select
import threading

from controller.cancel import CancelToken

__all__ = ["StdoutWatch"]


class StdoutWatch:
    """While in the `with` block, sets `token` when the reader of the pipe `fd` has closed it."""

    def __init__(self, fd: int, token: CancelToken) -> None:
        self._fd = fd
        self._token = token
        self._gone = False
        self._done, self._over = os.pipe()
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

    def _watch(self) -> None:
        poller = select.poll()
        # Asking for nothing still reports errors: POLLERR when a pipe has no reader any more, POLLHUP for `_done`.
        poller.register(self._fd, 0)
        poller.register(self._done, 0)
        if all(fd != self._done for fd, _ in poller.poll()):
            self._gone = True
            self._token.set()
