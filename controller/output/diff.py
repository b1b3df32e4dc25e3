"""`Diff`: what each group of hosts has that the largest has not, as unified diffs.

--- web[01-18] (18)
+++ web20
@@ -1,3 +1,3 @@

Lines are compared masked and shown as they were. What hosts wrote is hostile: comparing takes bounded time, and what
is no text or too much of it is shown by size and digest.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Sequence

from controller.masks import Masks
from controller.output.colour import Style
from controller.output.fold import heading, said_of, write_groups
from controller.output.groups import Group, Groups
from controller.output.sink import RunInfo
from controller.output.words import size, summary
from controller.output.writer import Writer
from controller.results import Result
from controller.text import clean_bytes, clean_line

__all__ = ["Diff"]

_CONTEXT = 3  # lines around a change, as diff -u has them
# difflib takes time by the product of the numbers of lines, without those that both begin and end with: this many take
# less than a second, and a host could choose the worst case.
_MOST_WORK = 2_000_000
_MOST_WORK_OF_ALL = 20_000_000  # so that many groups take no longer than some
_MOST_LINES = 5_000  # of one diff
_LARGEST = 4 * 1024 * 1024  # bytes of an output that is split into lines
_SHORT = 12  # digits of a digest: as many as people compare
_STYLES = {b"+": Style.GOOD, b"-": Style.FAILED, b"@": Style.HOST}


class Diff:
    """A unified diff of each group against the largest (of equals, that of the lowest code, then the first host).

    What is not good is told behind a tab, where patch(1) looks for a time. Hosts without a result to compare follow
    under their reason. When all are equal, only `stderr` says so.
    """

    keeps = False

    def __init__(self, stdout: Writer, stderr: Writer, *, masks: Masks | None = None) -> None:
        self._out = stdout
        self._messages = stderr
        self._masks = masks or Masks()
        self._groups = Groups(self._masks)
        self._work_left = _MOST_WORK_OF_ALL

    def start(self, host: str) -> None:
        """Differences are written at the end."""

    def stdout(self, host: str, data: bytes) -> None:
        """Keep it until the host's group is known."""
        self._groups.stdout(host, data)

    def stderr(self, host: str, data: bytes) -> None:
        """Keep it until the host's group is known."""
        self._groups.stderr(host, data)

    def end(self, result: Result) -> None:
        """Put the host into its group."""
        self._groups.end(result)

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Write the differences and say the summary."""
        self._groups.end_all(results)
        groups = self._groups.sorted()
        compared = [group for group in groups if _has_output(group.result)]
        if compared:
            reference = min(compared, key=lambda group: (-len(group.hosts), *group.order))
            others = [group for group in compared if group is not reference]
            for other in others:
                self._write_difference(reference, other)
            if not others:
                self._messages.line(f"no differences: {clean_line(heading(reference))}{_reason(reference)}")
        write_groups(self._out, [group for group in groups if not _has_output(group.result)])
        self._out.flush()
        self._messages.line(summary(results, run.elapsed, self._messages.colour))

    def _write_difference(self, one: Group, other: Group) -> None:
        for mark, group in ((b"---", one), (b"+++", other)):
            title = f"{clean_line(heading(group))}{_reason(group)}"
            self._write_line(mark + b" " + title.encode("utf-8", "backslashreplace"), Style.HEADING)
        for number, line in enumerate(self._difference(one.result, other.result)):
            if number == _MOST_LINES:
                self._write_line(b"[more than %d lines of differences]" % _MOST_LINES, None)
                break
            shown = clean_bytes(line) if self._out.terminal else line
            self._write_line(shown, _STYLES.get(line[:1]))

    def _difference(self, one: Result, other: Result) -> Iterator[bytes]:
        """Yield the lines of the difference between two results, from the first hunk on."""
        before, after = _joined(one), _joined(other)
        if before == after:
            yield b"[the same output]"
            return
        if _unfit(before) or _unfit(after):
            yield _digests(before, after)
            return
        compared = (_compared(before, one.host, self._masks), _compared(after, other.host, self._masks))
        start, end = _common(*compared)
        work = (len(compared[0]) - start - end) * (len(compared[1]) - start - end)
        if work > min(_MOST_WORK, self._work_left):
            yield _digests(before, after)
            return
        self._work_left -= work
        if compared[0] == compared[1]:
            yield b"[the same output where it is not masked]"
            return
        # Of what is the same at both ends, only the context of a change has to be looked at.
        skip, keep = max(0, start - _CONTEXT), max(0, end - _CONTEXT)
        one_part, other_part = (part[skip : len(part) - keep] for part in compared)
        matcher = difflib.SequenceMatcher(None, one_part, other_part)
        lines = (before.split(b"\n")[skip:], after.split(b"\n")[skip:])
        for hunk in matcher.get_grouped_opcodes(_CONTEXT):
            yield from _hunk(hunk, *lines, skip)

    def _write_line(self, line: bytes, style: Style | None) -> None:
        if style is not None and self._out.colour.enabled:
            line = self._out.colour.paint(line.decode("utf-8", "surrogateescape"), style).encode(
                "utf-8", "surrogateescape"
            )
        self._out.write(line + b"\n")


def _has_output(result: Result) -> bool:
    """Whether there is something to compare: a command that ran, or was cut off and had written by then."""
    return result.status.reached or bool(result.stdout or result.stderr)


def _reason(group: Group) -> str:
    said = "; ".join(said_of(group))
    return f"\t{said}" if said else ""


def _joined(result: Result) -> bytes:
    """Return both outputs as one text, standard error marked as in a fold; without the last newline."""
    blocks = [result.stdout.removesuffix(b"\n")] if result.stdout else []
    if result.stderr:
        blocks.append(b"! " + result.stderr.removesuffix(b"\n").replace(b"\n", b"\n! "))
    return b"\n".join(blocks)


def _unfit(data: bytes) -> bool:
    return len(data) > _LARGEST or b"\0" in data


def _digests(before: bytes, after: bytes) -> bytes:
    words = [f"{size(len(data))}, sha256 {hashlib.sha256(data).hexdigest()[:_SHORT]}" for data in (before, after)]
    kind = "binary" if b"\0" in before or b"\0" in after else "large"
    return f"[{kind} output: {words[0]} -> {words[1]}]".encode()


def _compared(data: bytes, host: str, masks: Masks) -> list[bytes]:
    """Return the lines to compare. A mask that took newlines with it cannot be used: lines would not be the same."""
    masked = masks.apply(data, host).split(b"\n")
    lines = data.split(b"\n")
    return masked if len(masked) == len(lines) else lines


def _common(before: list[bytes], after: list[bytes]) -> tuple[int, int]:
    """Return how many lines two texts begin and end with in common."""
    shorter = min(len(before), len(after))
    start = 0
    while start < shorter and before[start] == after[start]:
        start += 1
    end = 0
    while end < shorter - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return start, end


def _hunk(
    hunk: Sequence[tuple[str, int, int, int, int]], before: list[bytes], after: list[bytes], skip: int
) -> Iterator[bytes]:
    """Yield a hunk of two texts that begin `skip` lines after the outputs do."""
    first, last = hunk[0], hunk[-1]
    yield b"@@ -%b +%b @@" % (_range(first[1] + skip, last[2] + skip), _range(first[3] + skip, last[4] + skip))
    for tag, one, one_end, other, other_end in hunk:
        if tag == "equal":
            yield from (b" " + line for line in before[one:one_end])
        else:
            yield from (b"-" + line for line in before[one:one_end])
            yield from (b"+" + line for line in after[other:other_end])


def _range(start: int, stop: int) -> bytes:
    """Return lines as a unified diff names them: from 1, with their number unless it is 1, and 0 before the first."""
    length = stop - start
    if length == 1:
        return b"%d" % (start + 1)
    return b"%d,%d" % (start + (1 if length else 0), length)
