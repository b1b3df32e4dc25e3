"""Small tables that are there at once: `fleet hosts`, `fleet ping`. Not for output of commands.

Every cell becomes one harmless line, whatever it holds and wherever it goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.output.documents import encode, run_object, summary_object
from controller.output.sink import RunInfo
from controller.output.writer import Writer
from controller.render import DEFAULT_FORMAT, check_format, table
from controller.results import PingResult
from controller.text import clean_line

__all__ = ["write_ping", "write_ping_json", "write_table"]

_PING_HEADERS = ("HOST", "STATUS", "AGENT", "PYTHON", "OS", "CLOCK_OFFSET", "RTT", "ERROR")


def write_table(
    out: Writer, headers: Sequence[str], rows: Sequence[Sequence[str | None]], *, tablefmt: str = DEFAULT_FORMAT
) -> None:
    """Write a table; a cell that is None is shown as ``-``. Raises FormatError for an unknown format."""
    cells = [["-" if cell is None else clean_line(cell) for cell in row] for row in rows]
    _write(out, headers, cells, check_format(tablefmt))


def _write(out: Writer, headers: Sequence[str], cells: Sequence[Sequence[str]], tablefmt: str) -> None:
    out.write(table(headers, cells, tablefmt=tablefmt).encode() + b"\n")
    out.flush()


def write_ping(out: Writer, results: Sequence[PingResult], *, tablefmt: str = DEFAULT_FORMAT) -> None:
    """Write a row for each host: who answers there, how far off its clock is, how long the way is."""
    coloured = check_format(tablefmt) == DEFAULT_FORMAT
    rows = []
    for result in results:
        facts = (
            result.agent,
            result.python,
            result.os,
            None if result.clock_offset is None else f"{round(result.clock_offset, 3) + 0.0:+.3f}s",  # never -0.000
            None if result.rtt is None else f"{result.rtt:.4f}s",
        )
        status = out.colour.status(result.status) if coloured else result.status.value
        known = ["-" if fact is None else clean_line(fact) for fact in facts]
        rows.append([clean_line(result.host), status, *known, clean_line(result.error or "")])
    _write(out, _PING_HEADERS, rows, tablefmt)


def write_ping_json(out: Writer, run: RunInfo, results: Sequence[PingResult]) -> None:
    """Write the document that `fleet run --json` writes, with other keys in the results; times are in seconds."""
    objects = [
        {
            "host": result.host,
            "status": result.status.value,
            "agent": result.agent,
            "python": result.python,
            "os": result.os,
            "clock_offset": _seconds(result.clock_offset),
            "rtt": _seconds(result.rtt),
            "error": result.error,
        }
        for result in results
    ]
    head = {"run": run_object(run), "summary": summary_object(results)}
    out.write(encode({**head, "results": objects}) + b"\n")
    out.flush()


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
