"""The streams of a command, on either side: what has passed of each, and what their ends must agree with.

No frames and no states of the conversation: `connection` decides what may come when. The rule: each stream has a count
of bytes and a running SHA-256, and exactly one end, which says the same.
"""

from __future__ import annotations

import hashlib

from agent.wire import messages as m
from agent.wire.constants import MAX_SCRIPT, STDIN_WINDOW

__all__ = ["Streams"]

_OUTPUT = (m.Stream.STDOUT, m.Stream.STDERR)
_STREAM_OF: dict[type[m.Message], m.Stream] = {
    m.Stdin: m.Stream.STDIN,
    m.Script: m.Stream.SCRIPT,
    m.Stdout: m.Stream.STDOUT,
    m.Stderr: m.Stream.STDERR,
}


class _Tally:
    """What has passed of one stream."""

    __slots__ = ("bytes", "digest", "ended")

    def __init__(self) -> None:
        self.bytes = 0
        self.digest = hashlib.sha256()
        self.ended = False


class Streams:
    """The streams of the command that runs, or that has run last. Each method raises ValueError for what is wrong."""

    def __init__(self) -> None:
        self.window = 0  # bytes of standard input that may still be sent
        self._tallies: dict[m.Stream, _Tally] = {}

    def begin(self, run: m.Run) -> None:
        """Start afresh, with the streams that `run` has."""
        self._tallies = {stream: _Tally() for stream in _OUTPUT}
        if run.stdin:
            self._tallies[m.Stream.STDIN] = _Tally()
        if run.script:
            self._tallies[m.Stream.SCRIPT] = _Tally()
        self.window = STDIN_WINDOW if run.stdin else 0

    def data(self, message: m.Stdin | m.Script | m.Stdout | m.Stderr) -> None:
        """Count and hash what passes."""
        stream, size = _STREAM_OF[type(message)], len(message.data)
        tally = self._open(stream, "data on")
        if stream is m.Stream.STDIN:
            if size > self.window:
                raise ValueError(f"{size} bytes of stdin with a window of {self.window}")
            self.window -= size
        tally.bytes += size
        if stream is m.Stream.SCRIPT and tally.bytes > MAX_SCRIPT:
            raise ValueError(f"script of {tally.bytes} bytes, expected no more than {MAX_SCRIPT}")
        tally.digest.update(message.data)

    def end(self, message: m.EndOfStream) -> None:
        """Close a stream, if its end agrees with what has passed."""
        tally = self._open(message.stream, "end of")
        if message.bytes != tally.bytes:
            raise ValueError(f"{message.stream} ended after {tally.bytes} bytes, expected {message.bytes}")
        if message.sha256 != tally.digest.hexdigest():
            raise ValueError(f"wrong checksum on {message.stream}")
        tally.ended = True

    def open_window(self, message: m.Window) -> None:
        """Let so many more bytes of standard input follow."""
        if m.Stream.STDIN not in self._tallies:
            raise ValueError("window of stdin, which is not open")
        self.window += message.bytes
        if self.window > STDIN_WINDOW:
            raise ValueError(f"window of {self.window} bytes, expected no more than {STDIN_WINDOW}")

    def check_ended(self) -> None:
        """Check that the output is all there."""
        for stream in _OUTPUT:
            if not self._tallies[stream].ended:
                raise ValueError(f"Exit before the end of {stream}")

    def end_of(self, stream: m.Stream, held_back: int) -> m.EndOfStream:
        """Return the end of what has passed. `held_back` counts bytes that an output limit cut off."""
        tally = self._tallies.get(stream)
        if tally is None:
            raise ValueError(f"there is no {stream} to end")
        return m.EndOfStream(stream, tally.bytes, tally.digest.hexdigest(), tally.bytes + held_back)

    def _open(self, stream: m.Stream, what: str) -> _Tally:
        tally = self._tallies.get(stream)
        if tally is None or tally.ended:
            raise ValueError(f"{what} {stream}, which is not open")
        return tally
