"""Differences of files, equal ones once: `web[01-38]: this diff (38 hosts)` and then the diff; of a check, the list.

What hosts had in their files is as hostile as any output of theirs, so on a terminal it is made harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from agent.wire.file_messages import FileStatus
from controller.output.colour import Style
from controller.output.writer import Writer
from controller.results import Result, Tally
from controller.text import clean, clean_line
from inventory import fold

__all__ = ["write_changes", "write_differences"]

_STYLES = {"+": Style.GOOD, "-": Style.FAILED, "@": Style.HOST}


def write_differences(out: Writer, results: Sequence[Result]) -> None:
    """Write the differences of all hosts, the most frequent first; hosts with the same ones are folded."""
    texts = [tuple(file.diff for file in result.files if file.diff) for result in results]
    for group, hosts in _groups(results, texts):
        _write_heading(out, hosts, "this diff")
        for text in group:
            _write_text(out, text)
    out.flush()


def write_changes(out: Writer, results: Sequence[Result]) -> None:
    """Write what would change in the files whose difference was not asked for, or is none of texts."""
    lines = [tuple(_changes(result)) for result in results]
    for group, hosts in _groups(results, lines):
        _write_heading(out, hosts, "would change")
        width = max(len(words) for words, _ in group)
        for words, path in group:
            out.write(f"{words:{width}}  {path}\n".encode("utf-8", "backslashreplace"))
    out.flush()


def _changes(result: Result) -> Iterator[tuple[str, str]]:
    """Yield (what, path), and the number of those that are not kept."""
    tally = result.tally or Tally()
    more = tally.changed + tally.deleted
    for file in result.files:
        if file.status in (FileStatus.CHANGED, FileStatus.DELETED):
            more -= 1
            if not file.diff:
                yield clean_line(file.changes or file.status.value), clean_line(file.path)
    if more:
        yield "[more]", f"{more} others"


_Texts = TypeVar("_Texts", bound=tuple[object, ...])


def _groups(results: Sequence[Result], texts: Sequence[_Texts]) -> list[tuple[_Texts, list[str]]]:
    """Return the hosts of each text, the most frequent first."""
    groups: dict[_Texts, list[str]] = {}
    for result, text in zip(results, texts, strict=True):
        if text:
            groups.setdefault(text, []).append(result.host)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def _write_heading(out: Writer, hosts: list[str], words: str) -> None:
    count = "1 host" if len(hosts) == 1 else f"{len(hosts)} hosts"
    heading = f"{clean_line(fold(hosts))}: {words} ({count})"
    out.write(out.colour.paint(heading, Style.HEADING).encode() + b"\n")


def _write_text(out: Writer, text: str) -> None:
    for line in text.removesuffix("\n").split("\n"):
        shown = clean(line) if out.terminal else line
        style = _STYLES.get(line[:1])
        painted = shown if style is None else out.colour.paint(shown, style)
        out.write(painted.encode("utf-8", "surrogateescape") + b"\n")
