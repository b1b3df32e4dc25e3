"""Where the sinks write: a binary stream with its colour policy, and errors that say what went wrong.

Nothing here knows results. The rule: a write returns when the stream has taken every byte. A slow reader slows the
writer down and never makes memory grow.
"""

from __future__ import annotations

import os
import select
from typing import BinaryIO

from controller.output.colour import Colour

__all__ = ["OutputError", "Writer", "silence"]

_PLAIN = Colour()


class OutputError(Exception):
    """Results cannot be written where they were asked for. `path` is the file or a name for the stream."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot write {self.path}: {self.reason}"

    @classmethod
    def from_os_error(cls, path: str, exc: OSError) -> OutputError:
        """Return the error for `path` with the system's own words."""
        return cls(path, exc.strerror or str(exc))


class Writer:
    """One of the streams that results or messages go to.

    `terminal` says that a person looks at it, so text from hosts has to be made harmless. `width` is that of the
    terminal, when it is not to be asked. `name` stands in errors.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        name: str = "standard output",
        colour: Colour = _PLAIN,
        terminal: bool | None = None,
        width: int | None = None,
    ) -> None:
        self._stream = stream
        self._closed = False
        self._width = width
        self.name = name
        self.colour = colour
        self.terminal = stream.isatty() if terminal is None else terminal

    @property
    def width(self) -> int | None:
        """Return how many columns the terminal has now; None for all that is no terminal, or does not know."""
        if self._width is not None or not self.terminal:
            return self._width
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or None
        except OSError:
            return None

    def write(self, data: bytes | memoryview) -> None:
        """Hand all of `data` to the stream, waiting for a slow reader.

        Raises BrokenPipeError when the reader has gone, now or at an earlier write, and OutputError for everything
        else (a full disk).
        """
        left = memoryview(data)
        while left:
            left = left[self._write_some(left) :]

    def _write_some(self, data: memoryview) -> int:
        self._check()
        try:
            written = self._stream.write(data)
        except BlockingIOError as exc:
            # Whoever shares the terminal with us (ssh, node) may have made it non-blocking behind our back.
            self._wait()
            return exc.characters_written
        except BrokenPipeError:
            self._closed = True
            raise
        except OSError as exc:
            raise OutputError.from_os_error(self.name, exc) from exc
        if written is None:  # an unbuffered stream says "would block" in this way
            self._wait()
        return written or 0

    def flush(self) -> None:
        """Pass on what the stream holds back. Raises as `write` does."""
        self._check()
        while True:
            try:
                return self._stream.flush()
            except BlockingIOError:
                self._wait()
            except BrokenPipeError:
                self._closed = True
                raise
            except OSError as exc:
                raise OutputError.from_os_error(self.name, exc) from exc

    def line(self, text: str) -> None:
        """Write one line of our own text and pass it on."""
        self.write(text.encode("utf-8", "backslashreplace") + b"\n")
        self.flush()

    def _check(self) -> None:
        # Once is enough: a buffered stream keeps what it could not write and would try it again at each call.
        if self._closed:
            raise BrokenPipeError(f"{self.name} is closed")

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._stream, select.POLLOUT)
        poller.poll()


def silence(stream: BinaryIO) -> None:
    """Send whatever is still written to `stream` nowhere: for a standard stream whose reader has gone.

    The interpreter flushes its standard streams at exit and would complain about what their buffers still hold (see
    "Note on SIGPIPE" in the documentation of the signal module).
    """
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, stream.fileno())
    finally:
        os.close(devnull)
