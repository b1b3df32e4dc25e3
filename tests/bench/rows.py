"""What is measured, row by row: our command, the peer's, and the ratio that must be reached."""

from __future__ import annotations

import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from measure import FailedRunError, Sample, Tool, count_output, median, proportional, resident, take_turns
from rig import FAST, Rig, addresses

MIB = 1 << 20
# Lines of 82 bytes, from a command that every host has.
_LINES = "yes 012345678901234567890123456789012345678901234567890123456789012345678901234567890 | head -c {}"
_BIG = 256 * MIB
_EACH = 10_000_000  # bytes of lines from each of 64 hosts


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `value` must be at most `most`, or at least `least`; with neither it is for information.

    A peer that is not installed leaves `value` None. `best` is the same figure from the best run of each side, which
    says how much a busy machine had to do with it.
    """

    what: str
    ours: str
    peer: str = ""
    value: float | None = None
    best: float | None = None
    unit: str = ""
    most: float | None = None
    least: float | None = None
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    @property
    def holds(self) -> bool | None:
        """Whether what must be reached is; None when there is nothing to say."""
        if self.value is None or (self.most is None and self.least is None):
            return None
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a row gets. `rounds` turns the row's own number of rounds into the one that was asked for."""

    rig: Rig
    missing: Sequence[str]
    rounds: Callable[[int], int]

    def turns(self, tools: dict[str, Tool], rounds: int) -> dict[str, list[Sample]]:
        """Measure the tools that are there."""
        there = {name: tool for name, tool in tools.items() if tool.command[0] not in self.missing}
        # Not counted: the first run of each fills caches, and shows at once whether the tool works.
        take_turns(there, 1, self.rig.environment)
        return take_turns(there, self.rounds(rounds), self.rig.environment)


def one_host(bench: Bench) -> list[Figure]:
    """`true` on one host, whole process."""
    rig = bench.rig
    tools = {
        "fleet": Tool(rig.fleet_run(1, "true")),
        "ssh": Tool(rig.ssh("127.0.1.1", "true")),
        "ssh fast": Tool(rig.ssh(*FAST, "127.0.1.1", "true")),
    }
    samples = bench.turns(tools, 15)
    return [
        _against("true, 1 host / ssh", samples, "ssh", most=0.5),
        _against("true, 1 host / ssh fast", samples, "ssh fast"),
    ]


def many_hosts(bench: Bench) -> list[Figure]:
    """`true` on 64 hosts."""
    tools = {"fleet": Tool(bench.rig.fleet_run(64, "true")), "pdsh": Tool(bench.rig.pdsh(64, "-f", "64", "true"))}
    return [_against("true, 64 hosts / pdsh", bench.turns(tools, 5), "pdsh", faster=True, least=10)]


def thousand_hosts(bench: Bench) -> list[Figure]:
    """`true` on 1,000 hosts, 64 at once; also the controller's own CPU."""
    tools = {
        "fleet": Tool(bench.rig.fleet_run(1000, "-f", "64", "true")),
        "pdsh": Tool(bench.rig.pdsh(1000, "-f", "64", "true")),
    }
    samples = bench.turns(tools, 2)
    fleet = samples["fleet"]
    return [
        _against("true, 1,000 hosts, -f 64 / pdsh", samples, "pdsh", faster=True, least=20),
        Figure(
            "the same, controller CPU a host",
            f"{median(fleet, _cpu):.2f} s in all",
            value=median(fleet, _cpu),
            best=min(map(_cpu, fleet)),
            unit=" ms",
            most=1.3,
            samples={"fleet": fleet},
        ),
    ]


def help_text(bench: Bench) -> list[Figure]:
    """`fleet --help`, against an interpreter that starts and stops: the machine's own, with all that it has installed.

    The one of a bare virtual environment is shown beside it. typer alone, without a single option, takes four times as
    long to import as that one takes to start.
    """
    machine = str(Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name)
    tools = {
        "fleet": Tool(bench.rig.fleet("--help")),
        "python3": Tool([machine, "-c", "pass"]),
        "venv": Tool([sys.executable, "-c", "pass"]),
    }
    turns = bench.turns(tools, 15)
    return [
        _against("fleet --help / python3 -c pass", turns, "python3", most=3),
        _against("fleet --help / python -c pass in a bare environment", turns, "venv"),
    ]


def raw_output(bench: Bench) -> list[Figure]:
    """256 MiB of lines from one host, as they are."""
    rig = bench.rig
    command = _LINES.format(_BIG)
    ours = rig.fleet_run(1, "--raw", command)
    peer = rig.ssh(*FAST, "127.0.1.1", command)
    _expect(_BIG, count_output(ours, rig.environment), "fleet run --raw")
    figures = []
    for where, pipe in (("/dev/null", False), ("| cat", True)):
        samples = bench.turns({"fleet": Tool(ours, pipe=pipe), "ssh": Tool(peer, pipe=pipe)}, 5)
        figures.append(_against(f"256 MiB --raw, {where} / ssh fast", samples, "ssh", most=1.2))
    return figures


def stream_output(bench: Bench) -> list[Figure]:
    """The same, each line under its host's name."""
    rig = bench.rig
    command = _LINES.format(_BIG)
    ours = rig.fleet_run(1, "--stream", command)
    prefixes = (_BIG + 81) // 82 * len("127.0.1.1: ")
    _expect(_BIG + prefixes + (1 if _BIG % 82 else 0), count_output(ours, rig.environment), "fleet run --stream")
    samples = bench.turns({"fleet": Tool(ours), "pdsh": Tool(rig.pdsh(1, command))}, 3)
    rates = [_BIG / 1e6 / sample.wall for sample in samples["fleet"]]
    rate = Figure("the same, a second", "", "", statistics.median(rates), max(rates), " MB", least=200)
    return [_against("256 MiB --stream / pdsh", samples, "pdsh", faster=True, least=5), rate]


def stream_of_many(bench: Bench) -> list[Figure]:
    """10 MB of lines from each of 64 hosts, live, and the memory that takes."""
    rig = bench.rig
    command = _LINES.format(_EACH)
    ours = rig.fleet_run(64, "-f", "64", "--stream", command)
    names = rig.folder / "names64"
    names.write_text("\n".join(addresses(64)) + "\n")
    peer = shlex.join(["xargs", "-P64", "-I{}", *rig.ssh(*FAST, "{}", command)]) + f" <{names}"
    samples = bench.turns({"fleet": Tool(ours), "xargs": Tool(["sh", "-c", peer])}, 3)
    peak = max(sample.peak for sample in samples["fleet"]) / 1e6
    return [
        _against("64 x 10 MB --stream / xargs -P64 ssh fast", samples, "xargs", most=1.2),
        Figure("the same, controller peak RSS", "", "", peak, None, " MB", most=150),
    ]


def memory(bench: Bench) -> list[Figure]:
    """The controller's memory for a table of 64 x 10 MB, and for one that ``--max-output`` cuts."""
    rig = bench.rig
    command = _LINES.format(_EACH)
    figures = []
    for what, kept, options in (("", _EACH, ()), (", --max-output 1 MiB", MIB, ("--max-output", str(MIB)))):
        tools = {"fleet": Tool(rig.fleet_run(64, "-f", "64", *options, command))}
        samples = take_turns(tools, bench.rounds(1), rig.environment)
        peak = max(sample.peak for sample in samples["fleet"])
        shown = 64 * kept
        figures.append(
            Figure(
                f"controller peak RSS, 64 x 10 MB of lines, table{what} / bytes shown",
                f"{peak / 1e6:.0f} MB in {median(samples['fleet'], _wall):.1f} s",
                f"{shown / 1e6:.0f} MB",
                peak / shown,
                most=None if options else 1.2,
                samples=samples,
            )
        )
    return figures


def agent_memory(bench: Bench) -> list[Figure]:
    """An agent that has nothing to do."""
    figures = []
    with bench.rig.another_agent() as fresh:
        time.sleep(1.0)
        figures.append(_idle("agent idle RSS, fresh", fresh.pid, most=20))
    # It gives memory back when nothing has happened for ten seconds.
    take_turns({"fleet": Tool(bench.rig.fleet_run(64, "true"))}, 1, bench.rig.environment, settle=15.0)
    figures.append(_idle("agent idle RSS, after all that was run before", bench.rig.agent.pid))
    return figures


def at_once(bench: Bench) -> list[Figure]:
    """2,000 connections at the same time with 4,096 descriptors: each command outlives the start of the last."""
    command = ["sh", "-c", 'ulimit -n 4096; exec "$0" "$@"', *bench.rig.fleet_run(2000, "-f", "2000", "sleep 10")]
    try:
        samples = take_turns({"fleet": Tool(command)}, 1, bench.rig.environment)
    except FailedRunError as error:
        return [Figure("2,000 connections at once, ulimit -n 4096", f"failed: {error}", value=0, least=1)]
    ours = f"2,000 ok in {median(samples['fleet'], _wall):.1f} s, of which `sleep` 10 s"
    return [Figure("2,000 connections at once, ulimit -n 4096", ours, value=1, least=1, samples=samples)]


ROWS: dict[str, Callable[[Bench], list[Figure]]] = {
    "help": help_text,
    "one": one_host,
    "64": many_hosts,
    "1000": thousand_hosts,
    "raw": raw_output,
    "stream": stream_output,
    "stream64": stream_of_many,
    "memory": memory,
    "agent": agent_memory,
    "2000": at_once,
}


def _wall(sample: Sample) -> float:
    return sample.wall


def _cpu(sample: Sample) -> float:
    return sample.cpu


def _against(
    what: str,
    samples: dict[str, list[Sample]],
    peer: str,
    *,
    faster: bool = False,
    most: float | None = None,
    least: float | None = None,
) -> Figure:
    """Return the ratio of the times: ours to the peer's, or with `faster` how many times faster we are."""
    ours = _times(samples["fleet"])
    if peer not in samples:
        return Figure(what, ours, f"{peer} is not installed", most=most, least=least, samples=samples)
    pairs = [
        (median(samples["fleet"], _wall), median(samples[peer], _wall)),
        (min(map(_wall, samples["fleet"])), min(map(_wall, samples[peer]))),
    ]
    value, best = (theirs / mine if faster else mine / theirs for mine, theirs in pairs)
    unit = "x faster" if faster else "x"
    kept = {name: samples[name] for name in ("fleet", peer)}
    return Figure(what, ours, _times(samples[peer]), value, best, unit, most, least, kept)


def _times(samples: Sequence[Sample]) -> str:
    return f"{median(samples, _wall):.3f} s (CPU {median(samples, _cpu):.3f})"


def _idle(what: str, pid: int, most: float | None = None) -> Figure:
    total, count = proportional(pid)
    rss = resident(pid) / 1e6
    return Figure(what, f"{rss:.1f} MB (PSS of all {count} processes {total / 1e6:.1f} MB)", "", rss, None, " MB", most)


def _expect(expected: int, found: int, what: str) -> None:
    if found != expected:
        raise FailedRunError(f"{what} wrote {found} bytes, expected {expected}")
