"""Output as it arrives: `Stream` names the host on each line, `Raw` is one host's bytes and nothing else.

Neither keeps output. What `Stream` holds back for each host and stream is the line that has not ended yet, and of
that at most 1 MiB.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from controller.output.colour import Style
from controller.output.sink import RunInfo
from controller.output.width import display_width
from controller.output.words import remarks, summary
from controller.output.writer import Writer
from controller.results import Result
from controller.text import clean_bytes, clean_line, settled

__all__ = ["LONGEST_LINE", "Raw", "Stream"]

LONGEST_LINE = 1024 * 1024  # bytes; a longer line is shown in pieces of this size, as lines of their own

# Work on this many bytes at once: from 128 KiB up, malloc takes each buffer from the kernel and gives it back, and the
# page faults make it four times slower.
_PIECE = 64 * 1024
_NEAR = 1024


class _Lines:
    """Bytes of one stream of one host -> whole lines, each under the host's name."""

    def __init__(self, prefix: bytes, *, harmless: bool) -> None:
        self._prefix = prefix
        self._harmless = harmless
        self._pending = b""

    def feed(self, data: memoryview) -> bytes | memoryview:
        """Return the lines that `data` completes.

        No Python code runs for a single line, and nothing is copied for being cut: this is the fast path.
        """
        end = _end_of_lines(data)
        if not end:
            return self._grow(bytes(data))
        shown = self._prefixed(self._pending, data[:end])
        self._pending = b""
        rest = self._grow(bytes(data[end:]))
        return b"".join((shown, rest)) if rest else shown

    def finish(self) -> bytes | memoryview:
        """Return the last line when it had no newline."""
        last, self._pending = self._pending, b""
        return self._prefixed(last + b"\n") if last else b""

    def _grow(self, data: bytes) -> bytes | memoryview:
        """Keep the start of a line; return pieces of it, as lines, once it is too long to keep."""
        line = self._pending + data
        if len(line) <= LONGEST_LINE:
            self._pending = line
            return b""
        pieces = []
        start = 0
        while len(line) - start > LONGEST_LINE:
            # Between characters, so that each piece is as valid as the line was.
            cut = settled(line, start + LONGEST_LINE)
            pieces.append(line[start:cut])
            start = cut
        self._pending = line[start:]
        return self._prefixed(b"\n".join(pieces) + b"\n")

    def _prefixed(self, *parts: bytes | memoryview) -> memoryview:
        """Return lines, given in parts and with a newline at the end, with the prefix before each."""
        if self._harmless:
            parts = (clean_bytes(b"".join(parts)),)
        # The added newline makes the first line like all others; it and the prefix after the last line are cut off.
        marked = b"".join((b"\n", *parts)).replace(b"\n", b"\n" + self._prefix)
        return memoryview(marked)[1 : len(marked) - len(self._prefix)]


def _end_of_lines(data: memoryview) -> int:
    """Return where the last whole line ends, 0 when none does."""
    # A view cannot be searched. Nearly always the newline is near the end.
    start = max(0, len(data) - _NEAR)
    end = bytes(data[start:]).rfind(b"\n") + 1
    return start + end if end else bytes(data[:start]).rfind(b"\n") + 1


class Stream:
    """Live lines: ``host: line`` for standard output, ``host! line`` for standard error.

    Lines of different hosts never mix, a line without a newline at the end gets one, and a line of more than 1 MiB
    is shown in pieces. Both go to `stdout`; why a host is not good, and the summary, go to `stderr`.
    """

    keeps = False
    borrows = True

    def __init__(self, stdout: Writer, stderr: Writer, *, align: Sequence[str] = ()) -> None:
        """The lines of the hosts in `align` begin in one column. Without it there is one blank behind the mark."""
        self._out = stdout
        self._messages = stderr
        self._column = max((display_width(clean_line(host)) for host in align), default=0)
        self._lock = threading.Lock()
        self._lines: dict[tuple[str, str], _Lines] = {}

    def start(self, host: str) -> None:
        """Nothing is shown before there is a line."""

    def stdout(self, host: str, data: bytes) -> None:
        """Show the lines that `data` completes."""
        self._feed(host, ":", data)

    def stderr(self, host: str, data: bytes) -> None:
        """Show the lines that `data` completes, marked."""
        self._feed(host, "!", data)

    def end(self, result: Result) -> None:
        """Show the last, unended lines of a host, and what is to be said of it."""
        self.close(result.host)
        name = clean_line(result.host)
        with self._lock:
            for remark in remarks(result):
                self._messages.line(f"{name}: {remark}")

    def close(self, host: str) -> None:
        """Show the last, unended lines of a host."""
        with self._lock:
            for mark in ":!":
                lines = self._lines.pop((host, mark), None)
                if lines is not None:
                    self._out.write(lines.finish())
                    self._out.flush()

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Say the summary."""
        with self._lock:
            self._messages.line(summary(results, run.elapsed, self._messages.colour))

    def _feed(self, host: str, mark: str, data: bytes) -> None:
        with self._lock:
            lines = self._lines.get((host, mark))
            if lines is None:
                lines = self._lines[host, mark] = self._named(host, mark)
            view = memoryview(data)
            for start in range(0, len(data), _PIECE):
                self._out.write(lines.feed(view[start : start + _PIECE]))
            self._out.flush()

    def _named(self, host: str, mark: str) -> _Lines:
        style = Style.FAILED if mark == "!" else Style.HOST
        name = clean_line(host)
        blanks = " " * max(1, self._column - display_width(name) + 1)
        prefix = self._out.colour.paint(name + mark, style) + blanks
        return _Lines(prefix.encode("utf-8", "backslashreplace"), harmless=self._out.terminal)


class Raw:
    """One host's bytes exactly as they are, its two streams on our two. The caller sees to it that it is one host."""

    keeps = False
    borrows = True

    def __init__(self, stdout: Writer, stderr: Writer) -> None:
        self._out = stdout
        self._err = stderr
        self._lock = threading.Lock()

    def start(self, host: str) -> None:
        """Nothing is shown but output."""

    def stdout(self, host: str, data: bytes) -> None:
        """Pass `data` on."""
        self._pass_on(self._out, data)

    def stderr(self, host: str, data: bytes) -> None:
        """Pass `data` on."""
        self._pass_on(self._err, data)

    def end(self, result: Result) -> None:
        """Say what the exit code cannot: why there is no output, or not all of it."""
        if result.rc is None or result.truncated:
            with self._lock:
                for remark in remarks(result):
                    self._err.line(f"fleet: {clean_line(result.host)}: {remark}")

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Nothing is added: what was written is the result."""

    def _pass_on(self, writer: Writer, data: bytes) -> None:
        with self._lock:
            writer.write(data)
            writer.flush()
