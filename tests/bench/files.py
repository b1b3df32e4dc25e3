"""What files cost against scp and rsync: `python tests/bench/files.py` (options as of run.py).

Both sides copy between the same two folders, with the same cipher; ours with digests and fsync, which no peer does.
FLEET_BENCH_DIR names the folder; without it the files are where the rest of the rig is, in memory where there is some.
Every run starts from the same state: what it is to make is removed first, within the measured time, for both.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import measure
import run
from measure import Sample, Tool, forget_peak, median, peak
from rig import FAST, addresses
from rows import MIB, ROWS, Bench, Figure

_CIPHER = ("-c", "aes128-gcm@openssh.com")
_HOST = "127.0.1.1"
_MANY = 256


@contextmanager
def folder(bench: Bench) -> Iterator[Path]:
    """Make a folder for one row's files."""
    with tempfile.TemporaryDirectory(prefix="files-", dir=os.environ.get("FLEET_BENCH_DIR", bench.rig.folder)) as name:
        yield Path(name)


def ssh(bench: Bench, *options: str) -> str:
    """Return the remote shell of rsync."""
    return shlex.join(["ssh", "-F", str(bench.rig.ssh_config), *options])


def shell(*commands: str) -> Tool:
    """Return a tool that runs commands one after the other, in a process group of its own."""
    return Tool(["sh", "-ec", "; ".join(commands)])


def fleet(bench: Bench, hosts: int, command: str, *arguments: str | Path) -> str:
    """Return a fleet command line for so many hosts."""
    inventory = bench.rig.fleet_run(hosts)[3]
    return shlex.join([*bench.rig.fleet(command), "-i", inventory, *map(str, arguments)]) + " >/dev/null"


def push_large(bench: Bench) -> list[Figure]:
    """Push 1 GiB to one host."""
    with folder(bench) as place:
        source, target = place / "source", place / "target"
        write(source, 1024 * MIB)
        scp = shlex.join(["scp", "-q", "-F", str(bench.rig.ssh_config), *_CIPHER, str(source), f"{_HOST}:{target}"])
        tools = {
            "fleet": shell(f"rm -f {target}", fleet(bench, 1, "push", source, target)),
            "scp": shell(f"rm -f {target}", scp),
        }
        return [against("push 1 GiB / scp", bench, tools, 5, most=1.0)]


def pull_large(bench: Bench) -> list[Figure]:
    """Pull 256 MiB from one host."""
    with folder(bench) as place:
        source, target = place / "source", place / "target"
        write(source, 256 * MIB)
        rsync = shlex.join(["rsync", "-W", "-e", ssh(bench, *_CIPHER), f"{_HOST}:{source}", f"{target}/"])
        tools = {
            "fleet": shell(f"rm -rf {target}", fleet(bench, 1, "pull", source, target)),
            "rsync": shell(f"rm -rf {target}", f"mkdir {target}", rsync),
        }
        return [against("pull 256 MiB / rsync -W", bench, tools, 7, most=1.0)]


def small_files(bench: Bench) -> list[Figure]:
    """Push 2,000 small files, and then once more."""
    with folder(bench) as place:
        source, target = place / "source", place / "target"
        for number in range(2000):
            path = source / f"d{number % 50}" / f"f{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(500 + number % 4000))
        target.mkdir()
        rsync = shlex.join(["rsync", "-a", "-e", ssh(bench), str(source), f"{_HOST}:{target}/"])
        push = fleet(bench, 1, "push", "-p", source, f"{target}/")
        clear = f"rm -rf {target}/source"
        first = against(
            "2,000 files / rsync -a", bench, {"fleet": shell(clear, push), "rsync": shell(clear, rsync)}, 7, most=1.0
        )
        again = against("the same, unchanged", bench, {"fleet": shell(push), "rsync": shell(rsync)}, 9, most=1.0)
        return [first, again]


def push_many(bench: Bench) -> list[Figure]:
    """Push 10 KB to 256 hosts. A template makes each host's file another one: what is there already is not sent."""
    with folder(bench) as place:
        source, target = place / "source", place / "target"
        source.write_text("{host}\n" + "0123456789abcdef\n" * 600)
        target.mkdir()
        tools = {
            "fleet": shell(fleet(bench, _MANY, "push", "--template", source, target / "file")),
            "scp": shell(xargs(bench, f"{source} {{}}:{target}/{{}}")),
        }
        plain = shell(fleet(bench, _MANY, "run", "true"))
        figures = [against("push 10 KB to 256 hosts / xargs -P64 scp", bench, tools, 5, least=8)]
        samples = bench.turns({"fleet": tools["fleet"], "run": plain}, 5)
        ours, logins = (median(samples[name], lambda sample: sample.cpu) for name in ("fleet", "run"))
        cpu = Figure("the same, controller CPU / `run true`", f"{ours:.2f} s", f"{logins:.2f} s", ours / logins)
        return [*figures, cpu]


def pull_many(bench: Bench) -> list[Figure]:
    """Pull 1 MiB from 256 hosts."""
    with folder(bench) as place:
        source, target = place / "source", place / "target"
        write(source, MIB)
        clear = (f"rm -rf {target}", f"mkdir {target}")
        tools = {
            "fleet": shell(*clear, fleet(bench, _MANY, "pull", source, target)),
            "scp": shell(*clear, xargs(bench, f"{{}}:{source} {target}/{{}}")),
        }
        return [against("pull 1 MiB from 256 hosts / xargs -P64 scp", bench, tools, 5, least=6)]


def memory(bench: Bench) -> list[Figure]:
    """Push and pull one file of 5 GiB and 100,000 small ones; the peak of each side, over what `fleet run true` takes.

    FLEET_BENCH_DIR should be on a disk: three times 5 GiB are needed.
    """
    usual = peaks(bench, shell(fleet(bench, 1, "run", "true")))
    figures = []
    for what, make in (("5 GiB", make_large), ("100,000 files", make_many)):
        with folder(bench) as place:
            source, pushed, pulled = place / "source", place / "pushed", place / "pulled"
            make(source)
            for name, tool in (
                ("push", shell(fleet(bench, 1, "push", source, pushed))),
                ("pull", shell(fleet(bench, 1, "pull", source, pulled))),
            ):
                for side, before, now in zip(("controller", "agent"), usual, peaks(bench, tool), strict=True):
                    more = (now - before) / MIB
                    told = [f"{value / MIB:.1f} MiB" for value in (now, before)]
                    figures.append(Figure(f"{name} {what}, peak of the {side}", *told, more, unit=" MiB", most=32))
    return figures


def peaks(bench: Bench, tool: Tool) -> tuple[int, int]:
    """Run a tool once; return the highest RSS of the controller and of the agent, in bytes."""
    forget_peak(bench.rig.agent.pid)
    sample = measure.run(tool, bench.rig.environment)
    return sample.peak, peak(bench.rig.agent.pid)


def make_large(path: Path) -> None:
    """Make a file without holes."""
    write(path, 5 * 1024 * MIB)


def make_many(path: Path) -> None:
    """Make a tree of 100,000 files."""
    for number in range(100):
        (path / f"d{number}").mkdir(parents=True)
        for name in range(1000):
            (path / f"d{number}" / f"f{name}").write_bytes(b"%d\n" % name)


def xargs(bench: Bench, arguments: str) -> str:
    """Return a command that runs scp for each of many hosts, 64 at once."""
    names = bench.rig.folder / "names"
    names.write_text("\n".join(addresses(_MANY)) + "\n")
    scp = shlex.join(["scp", "-q", "-F", str(bench.rig.ssh_config), *FAST])
    return f"xargs -P64 -I{{}} {scp} {arguments} <{names}"


def write(path: Path, size: int) -> None:
    """Write a file that nothing can compress."""
    with open(path, "wb") as file:
        for _ in range(0, size, MIB):
            file.write(os.urandom(MIB))


def against(
    what: str,
    bench: Bench,
    tools: dict[str, Tool],
    rounds: int,
    *,
    most: float | None = None,
    least: float | None = None,
) -> Figure:
    """Measure ours and the peer's in turns. The value is our share of its time, or how many times faster we are."""
    peer = next(name for name in tools if name != "fleet")
    if shutil.which(peer) is None or bench.rig.ssh_config is None:
        return Figure(what, "", f"{peer} or sshd is not installed", most=most, least=least)
    samples = bench.turns(tools, rounds)
    pick: list[Callable[[list[Sample]], float]] = [
        lambda runs: median(runs, lambda sample: sample.wall),
        lambda runs: min(sample.wall for sample in runs),
    ]
    pairs = [(which(samples["fleet"]), which(samples[peer])) for which in pick]
    value, best = (theirs / mine if least is not None else mine / theirs for mine, theirs in pairs)
    unit = "x" if least is None else "x faster"
    ours, theirs = (f"{number:.3f} s" for number in pairs[0])
    return Figure(what, ours, theirs, value, best, unit, most, least, samples)


if __name__ == "__main__":
    ROWS.clear()
    ROWS.update(push=push_large, pull=pull_large, small=small_files)
    ROWS.update(push256=push_many, pull256=pull_many, memory=memory)
    sys.exit(run.main())
