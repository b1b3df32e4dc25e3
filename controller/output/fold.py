"""`Fold`: equal results once, under the set of hosts that have them.

---------------
web[01-18,20] (19)
---------------
what each of them wrote

The set is a target as it stands: it can be pasted behind ``-w`` or ``-l``.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.masks import Masks
from controller.output.colour import Style
from controller.output.groups import Group, Groups
from controller.output.sink import RunInfo
from controller.output.words import remarks, summary, truncation
from controller.output.writer import Writer
from controller.results import Result
from controller.text import clean_bytes, clean_line
from inventory import fold

__all__ = ["Fold", "heading", "said_of", "write_groups"]

_RULE = "-" * 15
_ERROR_MARK = "!"  # before each line of standard error, as in `host! line` of a stream


class Fold:
    """Groups of equal results, larger ones first, then what is not good, and a summary on `stderr`.

    Standard error stands after standard output with ``! `` before each line. A pipe gets standard output as it was,
    with a newline at its end.
    """

    keeps = False

    def __init__(
        self, stdout: Writer, stderr: Writer, *, masks: Masks | None = None, failures_only: bool = False
    ) -> None:
        """With `failures_only`, good hosts are left out, and when all are good, nothing at all is written."""
        self._out = stdout
        self._messages = stderr
        self._failures_only = failures_only
        self._groups = Groups(masks or Masks())

    def start(self, host: str) -> None:
        """Groups are written at the end."""

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
        """Write the groups and say the summary."""
        self._groups.end_all(results)
        groups = self._groups.sorted()
        if self._failures_only:
            groups = [group for group in groups if not group.result.status.good]
            if not groups:
                return
        write_groups(self._out, groups)
        self._out.flush()
        self._messages.line(summary(results, run.elapsed, self._messages.colour))


def heading(group: Group) -> str:
    """Return the set of a group's hosts, with their number when it is more than one."""
    hosts = fold(group.hosts)
    return hosts if len(group.hosts) == 1 else f"{hosts} ({len(group.hosts)})"


def said_of(group: Group) -> list[str]:
    """Return what has to be told of a group beside its output: what went wrong, and whose text stands for all."""
    result = group.result
    said = remarks(result)
    if group.varies:
        where = "where masked" if result.stdout or result.stderr else "in name or address"
        said.append(f"as {clean_line(result.host)} has it, others differ {where}")
    return said


def write_groups(out: Writer, groups: Sequence[Group]) -> None:
    """Write groups, one after the other."""
    for group in groups:
        result = group.result
        title = clean_line(heading(group))
        shown = (
            out.colour.paint(title, Style.HEADING) if result.status.good else out.colour.status(result.status, title)
        )
        said = said_of(group)
        if not (result.stdout or result.stderr or said):
            said.append("no output")
        lines = [_RULE, f"{shown}: {'; '.join(said)}" if said else shown, _RULE]
        out.write("\n".join(lines).encode("utf-8", "backslashreplace") + b"\n")
        _write_output(out, result)


def _write_output(out: Writer, result: Result) -> None:
    cut = [
        truncation(len(kept), written) if result.truncated and len(kept) < written else ""
        for kept, written in ((result.stdout, result.stdout_bytes), (result.stderr, result.stderr_bytes))
    ]
    _write_lines(out, _shown(out, result.stdout), b"")
    _write_lines(out, cut[0].encode(), b"")
    mark = out.colour.paint(_ERROR_MARK, Style.FAILED).encode() + b" "
    _write_lines(out, _shown(out, result.stderr), mark)
    _write_lines(out, cut[1].encode(), mark)


def _shown(out: Writer, data: bytes) -> bytes:
    return clean_bytes(data) if out.terminal else data


def _write_lines(out: Writer, data: bytes, mark: bytes) -> None:
    """Write whole lines, each after `mark`."""
    if not data:
        return
    if mark:
        data = mark + data.removesuffix(b"\n").replace(b"\n", b"\n" + mark)
    out.write(data)
    if not data.endswith(b"\n"):
        out.write(b"\n")
