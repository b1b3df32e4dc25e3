"""Print what showing results costs: `python tests/bench/show.py`, with the interpreter that fleet is installed for.

No host is reached: the results of 1,000 hosts are made here and given to a sink as a run gives them. Each figure is
the best of some runs, because a busy machine only ever adds to it. Nothing here is a test: what is not reached is
shown, and the exit code is then 1.
"""

from __future__ import annotations

import io
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence

from controller.masks import Masks
from controller.output import Colour, RunInfo, Sink, Writer
from controller.output.columns import Columns
from controller.output.diff import Diff
from controller.output.fold import Fold
from controller.results import Result, Status
from controller.rows import Query

HOSTS = 1000
ROUNDS = 5
RUN = RunInfo("r", "command", 0.0, 1.0, 0, HOSTS)
PIECE = 64 * 1024  # bytes; as output comes from a connection


def outputs_in_groups(size: int, groups: int) -> list[bytes]:
    """Return an output of lines for each host; each group has its own."""
    rnd = random.Random(1)
    lines = [b"%08d %s\n" % (number, rnd.randbytes(30).hex().encode()) for number in range(size // 70 + 1)]
    made = []
    for group in range(groups):
        lines[10 + group] = b"what only this group has: %d\n" % group
        made.append(b"".join(lines)[:size])
    return [bytearray(made[host % groups]) for host in range(HOSTS)]  # type: ignore[misc]  # no two are one object


def disk_usage() -> list[bytes]:
    """Return what ``df -h`` says on each host: ten file systems, no two hosts the same."""
    rnd = random.Random(2)
    made = []
    for _ in range(HOSTS):
        lines = ["Filesystem      Size  Used Avail Use% Mounted on"]
        for number in range(10):
            used = rnd.randrange(100)
            lines.append(
                f"/dev/vd{'abcdefghij'[number]}1        99G   {used:2}G   {99 - used:2}G  {used:2}% /srv/{number}"
            )
        made.append("\n".join(lines).encode() + b"\n")
    return made


def show(sink: Sink, outputs: Sequence[bytes]) -> None:
    """Give the results to the sink, as a run does."""
    results = []
    for number, data in enumerate(outputs):
        host = f"web{number:04}"
        sink.start(host)
        for start in range(0, len(data), PIECE):
            sink.stdout(host, bytes(data[start : start + PIECE]))
        result = Result(
            host, Status.OK, 0, stdout=bytes(data) if sink.keeps else b"", stdout_bytes=len(data), started=0.0
        )
        results.append(result)
        sink.end(result)
    sink.finish(RUN, results)


class Idle:
    """A sink that does nothing: what giving it the results costs is not the sink's."""

    def __init__(self, *, keeps: bool) -> None:
        self.keeps = keeps

    def start(self, host: str) -> None: ...
    def stdout(self, host: str, data: bytes) -> None: ...
    def stderr(self, host: str, data: bytes) -> None: ...
    def end(self, result: Result) -> None: ...
    def finish(self, run: RunInfo, results: Sequence[Result]) -> None: ...


def writer() -> Writer:
    return Writer(io.BytesIO(), colour=Colour(), terminal=False)


def best(make: Callable[[], Sink], outputs: Sequence[bytes]) -> float:
    """Return the seconds that the sink itself takes."""
    times = []
    for _ in range(ROUNDS):
        spent = []
        for sink in (make(), Idle(keeps=make().keeps)):
            begin = time.process_time()
            show(sink, outputs)
            spent.append(time.process_time() - begin)
        times.append(spent[0] - spent[1])
    return min(times)


def peak(make: Callable[[], Sink], outputs: Sequence[bytes]) -> float:
    """Return the megabytes that the sink adds at its peak."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    show(make(), outputs)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (most - before) / 1e6


def row(what: str, found: float, unit: str, most: float | None) -> bool:
    """Print one row and return whether it holds."""
    holds = most is None or found <= most
    bound = "" if most is None else f"<= {most:g} {unit} {'yes' if holds else 'NO'}"
    print(f"{what:72} {found:8.3f} {unit:3} {bound}", flush=True)
    return holds


def main() -> int:
    """Measure every row. Returns 0 when all is reached."""
    grouped, disks = outputs_in_groups(100_000, 10), disk_usage()
    query = Query(sort="Use%", descending=True)
    rows: list[tuple[str, Callable[[], Sink], Sequence[bytes], float | None]] = [
        ("-b, 1,000 hosts x 100 KB, 10 groups", lambda: Fold(writer(), writer()), grouped, 0.5),
        ("the same with --diff", lambda: Diff(writer(), writer()), grouped, None),
        ("the same with --mask-host", lambda: Fold(writer(), writer(), masks=Masks(host=True)), grouped, None),
        ("--columns, 1,000 x df -h", lambda: Columns(writer(), writer()), disks, 0.5),
        ("the same with --sort 'Use%:desc'", lambda: Columns(writer(), writer(), query=query), disks, 0.5),
    ]
    holds = True
    for what, make, outputs, most in rows:
        holds &= row(what, best(make, outputs), "s", most)
    holds &= row("memory of -b, all the same", peak(rows[0][1], grouped), "MB", 20)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
