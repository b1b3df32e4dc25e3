"""`StreamFold`: a live stream, and at the end which hosts wrote the same. No byte is shown twice, and none is kept.

= web[01-18,20] (19): same, 12 lines
= web19: differs, 13 lines
= db1: failed: exit code 3; 2 lines

Of each stream of each host there is a digest, and with masks the line that has not ended yet, of that at most 64 KiB.
So masks see one line at a time here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from agent.wire.record import record
from controller.masks import Masks
from controller.output.colour import Style
from controller.output.fold import heading
from controller.output.groups import Group, Groups, identity
from controller.output.sink import RunInfo
from controller.output.stream import LONGEST_LINE, Stream
from controller.output.words import remarks, summary
from controller.output.writer import Writer
from controller.results import Result
from controller.text import clean_line

__all__ = ["StreamFold"]

_MARK = "= "  # no line of output starts so: what stands there is a host's name, and no name holds this sign
_PIECE = LONGEST_LINE  # bytes looked at together; no more, so that of all lines in there the first alone can be longer


@record
class _Sum:
    """What is known of a stream that has ended. `exact` is the digest without masks."""

    masked: bytes
    exact: bytes
    lines: int


@record
class _Written:
    """What is known of what a host wrote."""

    out: _Sum
    err: _Sum
    error: str | None


class _Digest:
    """Takes in one stream of one host, cut anywhere."""

    def __init__(self, masks: Masks, host: str) -> None:
        self._masks = masks
        self._host = host
        self._exact = hashlib.sha256()
        self._masked = hashlib.sha256() if masks else self._exact
        self._lines = 0
        self._ended = True  # the last line, if there is one
        self._pending = b""

    def feed(self, data: bytes) -> None:
        """Take in what was written."""
        self._exact.update(data)
        self._lines += data.count(b"\n")
        self._ended = data.endswith(b"\n")
        if self._masks:
            for start in range(0, len(data), _PIECE):
                self._mask(data[start : start + _PIECE])

    def finish(self) -> _Sum:
        """Return what is known when the stream has ended."""
        if self._pending:
            self._masked.update(self._masks.apply(self._pending, self._host))
        return _Sum(self._masked.digest(), self._exact.digest(), self._lines + (not self._ended))

    def _mask(self, data: bytes) -> None:
        """Mask whole lines. Where they were cut on the way must not tell, nor may it tell where longer ones are cut."""
        text = self._pending + data
        end = text.rfind(b"\n") + 1
        first = text.find(b"\n") if end else len(text)
        start = 0
        while first - start > LONGEST_LINE:
            self._masked.update(self._masks.apply(text[start : start + LONGEST_LINE], self._host))
            start += LONGEST_LINE
        if end:
            self._masked.update(self._lines_masked(text[start:end]))
        self._pending = text[max(start, end) :]

    def _lines_masked(self, lines: bytes) -> bytes:
        if not self._masks.patterns:
            return self._masks.apply(lines, self._host)  # our own never look beyond a line
        each = lines.removesuffix(b"\n").split(b"\n")
        return b"\n".join([self._masks.apply(line, self._host) for line in each]) + b"\n"


class StreamFold:
    """What `stream` shows, then a line for each group of hosts that are the same, failures last, and the summary.

    Why a host is not good is said there, once for the whole group.
    """

    keeps = False

    def __init__(self, stdout: Writer, stderr: Writer, stream: Stream, *, masks: Masks | None = None) -> None:
        self._out = stdout
        self._messages = stderr
        self._stream = stream
        self._masks = masks or Masks()
        self._coming: dict[tuple[str, bool], _Digest] = {}
        self._groups = Groups()
        self._ended: set[str] = set()

    def start(self, host: str) -> None:
        """Nothing is shown before there is a line."""

    def stdout(self, host: str, data: bytes) -> None:
        """Show the lines that `data` completes."""
        self._digest(host, error=False).feed(data)
        self._stream.stdout(host, data)

    def stderr(self, host: str, data: bytes) -> None:
        """Show the lines that `data` completes, marked."""
        self._digest(host, error=True).feed(data)
        self._stream.stderr(host, data)

    def end(self, result: Result) -> None:
        """Show the last, unended lines of a host, and put it into its group."""
        self._stream.close(result.host)
        if result.host not in self._ended:
            self._ended.add(result.host)
            self._put(result)

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Write the groups and say the summary."""
        for result in results:
            self.end(result)
        for group in self._groups.sorted():
            self._write(group, alone=len(results) == 1)
        self._out.flush()
        self._messages.line(summary(results, run.elapsed, self._messages.colour))

    def _digest(self, host: str, *, error: bool) -> _Digest:
        found = self._coming.get((host, error))
        if found is None:
            found = self._coming[host, error] = _Digest(self._masks, host)
        return found

    def _put(self, result: Result) -> None:
        out, err = (self._coming.pop((result.host, error), None) for error in (False, True))
        if result.status.exit_class == 4:  # what came over a line that was cut is not trusted
            out = err = None
        nothing = _Digest(Masks(), result.host)
        written = _Written((out or nothing).finish(), (err or nothing).finish(), result.error)
        self._groups.put(result, identity(result, written.out.masked, written.err.masked), written)

    def _write(self, group: Group, *, alone: bool) -> None:
        result = group.result
        colour = self._out.colour
        title = clean_line(heading(group))
        shown = colour.paint(title, Style.HEADING) if result.status.good else colour.status(result.status, title)
        line = f"{_MARK}{shown}: {'; '.join(_said(group, alone=alone))}\n"
        self._out.write(line.encode("utf-8", "backslashreplace"))


def _said(group: Group, *, alone: bool) -> list[str]:
    result, written = group.result, group.exact
    assert isinstance(written, _Written)
    said = remarks(result)
    if result.status.reached or written.out.lines or written.err.lines:
        what = _counted(written)
        if result.status.good and not alone:
            what = f"{'same' if len(group.hosts) > 1 else 'differs'}, {what}"
        said.append(what)
    if group.varies:
        said.append("some differ where masked" if written.out.lines or written.err.lines else "at different addresses")
    return said


def _counted(written: _Written) -> str:
    out, err = written.out.lines, written.err.lines
    lines = f"{out} line{'' if out == 1 else 's'}"
    if err:
        return f"{lines} and {err} on stderr"
    return lines if out else "no output"
