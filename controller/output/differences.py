"""Differences of files, equal ones once: `web[01-38]: this diff (38 hosts)` and then the diff.

What hosts had in their files is as hostile as any output of theirs, so on a terminal it is made harmless.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.output.colour import Style
from controller.output.writer import Writer
from controller.results import Result
from controller.text import clean, clean_line
from inventory import fold

__all__ = ["write_differences"]

_STYLES = {"+": Style.GOOD, "-": Style.FAILED, "@": Style.HOST}


def write_differences(out: Writer, results: Sequence[Result]) -> None:
    """Write the differences of all hosts, the most frequent first; hosts with the same ones are folded."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        if texts := tuple(file.diff for file in result.files if file.diff):
            groups.setdefault(texts, []).append(result.host)
    for texts, hosts in sorted(groups.items(), key=lambda group: -len(group[1])):
        count = "1 host" if len(hosts) == 1 else f"{len(hosts)} hosts"
        heading = f"{clean_line(fold(hosts))}: this diff ({count})"
        out.write(out.colour.paint(heading, Style.HEADING).encode() + b"\n")
        for text in texts:
            _write_text(out, text)
    out.flush()


def _write_text(out: Writer, text: str) -> None:
    for line in text.removesuffix("\n").split("\n"):
        shown = clean(line) if out.terminal else line
        style = _STYLES.get(line[:1])
        painted = shown if style is None else out.colour.paint(shown, style)
        out.write(painted.encode("utf-8", "surrogateescape") + b"\n")
