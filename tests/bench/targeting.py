"""Print what targeting costs: `python tests/bench/targeting.py`, with the interpreter that fleet is installed for.

An inventory of 50,000 hosts in 500 groups is read and narrowed, from INI and from JSON; names are folded and node
sets expanded; `fleet run --list-hosts` is set against `fleet --help`, and reading against `ansible-inventory --list`.
Everything of ours runs in a process of its own, three times, and the median counts. Nothing here is a test: what is
not reached is shown, and the exit code is then 1.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from inventory import as_ansible_list, expand, fold, load, select

ROUNDS = 3
PATTERN = "web*:&prod:!rack7"
BIN = Path(sys.executable).parent


def write_inventories(directory: Path) -> None:
    """Write the 50,000 hosts, with variables as people have them, in both forms; and ten hosts."""
    lines = []
    for rack in range(500):
        lines.append(f"[rack{rack}]")
        for unit in range(100):
            number = rack * 100 + unit
            address = f"10.{number >> 16}.{(number >> 8) & 255}.{number & 255}"
            name = f"web{number:05d}.dc{rack % 10}.example.com"
            lines.append(f"{name} ansible_host={address} fleet_port=7422 role=app{number % 7}")
    lines += ["[prod:children]", *(f"rack{rack}" for rack in range(0, 500, 2)), "[prod:vars]", "env=prod"]
    (directory / "big.ini").write_text("\n".join(lines) + "\n")
    listed = as_ansible_list(load([str(directory / "big.ini")], warn=print))
    (directory / "big.json").write_text(json.dumps(listed))
    (directory / "ten.ini").write_text("web[01:10]\n")


def read_ini(directory: Path) -> None:
    """Read and narrow the INI file."""
    assert len(select(load([str(directory / "big.ini")], warn=print), limits=[PATTERN])) == 25_000


def read_json(directory: Path) -> None:
    """Read and narrow the JSON file."""
    assert len(select(load([str(directory / "big.json")], warn=print), limits=[PATTERN])) == 25_000


def fold_regular(directory: Path) -> None:
    """Fold one range of names."""
    assert fold(f"web{number:05d}" for number in range(50_000)) == "web[00000-49999]"


def fold_two_dimensions(directory: Path) -> None:
    """Fold a product of two ranges."""
    assert fold(f"dc{number // 1000}n{number % 1000}" for number in range(50_000)) == "dc[0-49]n[0-999]"


def fold_irregular(directory: Path) -> None:
    """Fold what hardly folds."""
    rnd = random.Random(1)
    fold({f"r{rnd.randrange(30)}c{rnd.randrange(30)}n{rnd.randrange(30)}" for _ in range(1500)})


def expand_a_million(directory: Path) -> None:
    """Look at the start and the length of a large set."""
    nodes = expand("n[1-1000000]")
    assert len(list(itertools.islice(nodes, 10))) == 10 and len(nodes) == 1_000_000


ACTIONS: dict[str, Callable[[Path], None]] = {
    action.__name__: action
    for action in (
        write_inventories,
        read_ini,
        read_json,
        fold_regular,
        fold_two_dimensions,
        fold_irregular,
        expand_a_million,
    )
}
# Seconds, and bytes of memory at most for the whole process.
ROWS: list[tuple[str, str, float, int | None]] = [
    ("INI of 50,000 hosts in 500 groups: read, and -l " + PATTERN, "read_ini", 1.0, 150_000_000),
    ("the same from JSON", "read_json", 1.0, None),
    ("fold 50,000 regular names", "fold_regular", 0.5, None),
    ("fold 50,000 names of two dimensions", "fold_two_dimensions", 0.5, None),
    ("fold 1,500 irregular names of three dimensions", "fold_irregular", 0.1, None),
    ("first 10 names and length of n[1-1000000]", "expand_a_million", 0.010, None),
]


def measured(action: str, directory: Path, *, rounds: int = ROUNDS) -> tuple[float, int]:
    """Return the median of the seconds of an action in processes of their own, and the largest peak in bytes."""
    runs = []
    for _ in range(rounds):
        command = [sys.executable, __file__, action, str(directory)]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    return statistics.median(run[0] for run in runs), max(run[1] for run in runs)


def wall(*command: str) -> float:
    """Return the seconds that a command takes, its output thrown away."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def show(what: str, found: str, wanted: str, holds: bool) -> bool:
    """Print one row and return whether it holds."""
    print(f"{what:66} {found:>28} {wanted:>28} {'ok' if holds else 'NOT REACHED'}", flush=True)
    return holds


def main() -> int:
    """Measure every row. Returns 0 when all is reached."""
    holds = True
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        # In a process of its own as well: the peak of a child is never below what its parent holds.
        measured("write_inventories", directory, rounds=1)
        ours = 0.0
        for what, action, seconds, memory in ROWS:
            took, peak = measured(action, directory)
            ours = took if action == "read_ini" else ours
            fits = took <= seconds and (memory is None or peak <= memory)
            limit = f"{seconds:g} s" + (f", {memory // 1_000_000} MB" if memory else "")
            holds &= show(what, f"{took:.4f} s, {peak // 1_000_000} MB", limit, fits)
        theirs = wall(str(BIN / "ansible-inventory"), "-i", str(directory / "big.ini"), "--list")
        what = "ansible-inventory --list of the same INI"
        holds &= show(what, f"{theirs:.1f} s, {theirs / ours:.0f} times ours", "20 times", theirs >= 20 * ours)
        holds &= start_up(directory)
    return 0 if holds else 1


def start_up(directory: Path) -> bool:
    """Compare whole processes: listing ten hosts, and help."""
    fleet = str(BIN / "fleet")
    lists, helps = [], []
    for _ in range(7):
        lists.append(wall(fleet, "run", "-i", str(directory / "ten.ini"), "--list-hosts", "true"))
        helps.append(wall(fleet, "--help"))
    one, other = statistics.median(lists), statistics.median(helps)
    found = f"{one:.3f} s, {one / other:.2f} times"
    return show("fleet run --list-hosts on 10 hosts, against fleet --help", found, "1.5 times", one <= 1.5 * other)


def run_one(action: str, directory: str) -> int:
    """Run one action in this process and print its seconds and the peak in bytes."""
    begin = time.perf_counter()
    ACTIONS[action](Path(directory))
    took = time.perf_counter() - begin
    print(json.dumps([took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("ANSIBLE_DEPRECATION_WARNINGS", "false")
    sys.exit(run_one(*sys.argv[1:]) if len(sys.argv) == 3 else main())
