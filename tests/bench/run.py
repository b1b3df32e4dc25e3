"""Print the whole table of speed and memory: `python tests/bench/run.py` (add ``--install`` once, for the peers).

The interpreter has to be the one of the environment that fleet is installed in, which should hold nothing else, as a
user's does: `python3 -m venv there && there/bin/pip install . && there/bin/python tests/bench/run.py`.

The peers are a real sshd with ssh and
pdsh, on loopback, set up and taken down here; each figure is a ratio of runs that took turns, so that it holds on any
machine and on a busy one. Nothing here is a test: what is not reached is shown, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from measure import FailedRunError
from rig import PACKAGES, RigError, missing_peers, rig
from rows import ROWS, Bench, Figure

_WIDTHS = (66, 44, 26, 28, 12)


def main() -> int:
    """Measure the rows that were asked for. Returns 0 when all that must be reached is."""
    arguments = _arguments()
    if arguments.install:
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES], check=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # as Ctrl-C, through all that has to be ended
    try:
        figures = _measure(arguments.only or list(ROWS), arguments.rounds)
    except KeyboardInterrupt:
        return 130
    except RigError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if arguments.json is not None:
        with open(arguments.json, "w") as file:
            json.dump([dataclasses.asdict(figure) | {"holds": figure.holds} for figure in figures], file, indent=1)
    return 1 if any(figure.holds is False for figure in figures) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--install", action="store_true", help="install the peers with apt-get first (as root)")
    parser.add_argument("--only", action="append", choices=list(ROWS), help="this row alone; repeatable")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of every row, instead of the row's own number")
    parser.add_argument("--json", metavar="FILE", help="also write the figures with every sample to FILE")
    return parser.parse_args()


def _measure(names: Sequence[str], rounds: int | None) -> list[Figure]:
    figures: list[Figure] = []
    missing = missing_peers()
    print(f"{_machine()}; missing peers: {', '.join(missing) or 'none'}\n", flush=True)
    _print_row("what", "fleet, median", "peer, median", "ratio (of the best runs)", "must reach")
    with rig() as running:
        if running.ssh_config is None:
            missing += [name for name in ("ssh", "pdsh") if name not in missing]  # they have nobody to talk to
        bench = Bench(running, missing, lambda usual: usual if rounds is None else rounds)
        for name in names:
            try:
                found = ROWS[name](bench)
            except FailedRunError as error:
                found = [Figure(name, f"failed: {error}", value=float("nan"), most=0)]
            for figure in found:
                figures.append(figure)
                _show(figure)
    print(f"\nload average at the end: {' '.join(f'{load:.1f}' for load in os.getloadavg())}")
    return figures


def _show(figure: Figure) -> None:
    value = "-" if figure.value is None else f"{figure.value:.3g}{figure.unit}"
    if figure.best is not None:
        value += f" ({figure.best:.3g})"
    bound = ""
    if figure.holds is not None:
        sign, number = ("<=", figure.most) if figure.most is not None else (">=", figure.least)
        bound = f"{sign} {number:g} {'yes' if figure.holds else 'NO'}"
    _print_row(figure.what, figure.ours, figure.peer, value, bound)


def _print_row(*cells: str) -> None:
    print("  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip(), flush=True)


def _machine() -> str:
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load average {loads}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
