"""`Tails`: the last line that each host wrote, for who asks while a run goes on.

Nothing of a run depends on it, and it sees all output, so it costs next to nothing: no line is looked for before
somebody asks.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.results import Result

TYPE_CHECKING = False  # see `controller`

if TYPE_CHECKING:
    from controller.output import RunInfo, Sink

__all__ = ["Tails"]

_KEPT = 512  # bytes of each host: more than any terminal is wide
_INSIDE = bytes(range(0x80, 0xC0))  # what no character of UTF-8 begins with


class Tails:
    """Passes everything on to a sink, and remembers the end of what each host wrote, whichever stream it was."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._ends: dict[str, bytes] = {}
        self.keeps = sink.keeps
        self.borrows: bool = getattr(sink, "borrows", False)

    def last_line(self, host: str) -> bytes | None:
        """Return the end of the last line with something in it, b"" for none yet, and None before the command began.

        A carriage return ends a line as well: that is how programs show their progress.
        """
        end = self._ends.get(host)
        if end is None:
            return None
        if len(end) == _KEPT:
            end = end.lstrip(_INSIDE)
        lines = end.replace(b"\r", b"\n").split(b"\n")
        return next((line for line in reversed(lines) if line.strip()), b"")

    def start(self, host: str) -> None:
        """Note that the command runs."""
        self._ends[host] = b""
        self._sink.start(host)

    def stdout(self, host: str, data: bytes) -> None:
        """Pass it on."""
        self._note(host, data)
        self._sink.stdout(host, data)

    def stderr(self, host: str, data: bytes) -> None:
        """Pass it on."""
        self._note(host, data)
        self._sink.stderr(host, data)

    def end(self, result: Result) -> None:
        """Forget the host."""
        self._ends.pop(result.host, None)
        self._sink.end(result)

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Pass it on."""
        self._sink.finish(run, results)

    def _note(self, host: str, data: bytes) -> None:
        end = bytes(data[-_KEPT:])  # a copy: a slice must not keep a whole buffer alive
        self._ends[host] = end if len(end) == _KEPT else (self._ends.get(host, b"") + end)[-_KEPT:]
