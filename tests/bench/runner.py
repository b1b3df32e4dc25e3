"""What the runner costs: a job against a bare Popen, memory, and the time it takes to kill a tree.

Run it from the top of the tree: ``python tests/bench/runner.py``. Nothing is asserted; the two ways of running a job
take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from agent.runner import Command, Job, Outcome, Runner

ROUNDS = 300
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/", "LANG": "C.UTF-8"}
DEAF_TREE = "for i in 1 2 3 4 5 6; do setsid sleep 999 & done; echo up; while :; do wait; done"
# Twenty chains of processes that each fork their successor and die, at once.
STORM = "f() { f & }; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do f & done; echo up; sleep 999"


def shell(text: str) -> Command:
    return Command(("/bin/sh", "-c", text), ENVIRONMENT, "/")


def bare(text: str) -> bytes:
    """Run a command as a program with one thread would."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=ENVIRONMENT,
        cwd="/",
    )
    output, _ = process.communicate()
    return output


def finish(job: Job) -> tuple[bytes, Outcome]:
    """Read a job to its end."""
    output = b""
    outcome = None
    poller = select.poll()
    for fd in (job.fileno(), job.stdout, job.stderr):
        poller.register(fd, select.POLLIN)
    pipes = 2
    while outcome is None or pipes:
        for fd, _ in poller.poll():
            if fd == job.fileno():
                outcome = job.poll()
                if outcome is not None:
                    poller.unregister(fd)
                continue
            data = os.read(fd, 65536)
            output += data if fd == job.stdout else b""
            if not data:
                poller.unregister(fd)
                pipes -= 1
    job.close()
    return output, outcome


def through(runner: Runner, text: str) -> bytes:
    return finish(runner.run(shell(text)))[0]


def milliseconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return (time.perf_counter() - began) * 1000


def compare(runner: Runner, text: str) -> None:
    ways = {"bare": lambda: bare(text), "runner": lambda: through(runner, text)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    first = milliseconds(ways["runner"])
    for _ in range(ROUNDS):
        for name, way in ways.items():
            times[name].append(milliseconds(way))
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"{text:10} bare {middle['bare']:.2f} ms, runner {middle['runner']:.2f} ms, "
        f"added {middle['runner'] - middle['bare']:+.2f} ms; first job {first:.2f} ms; median of {ROUNDS}"
    )


def memory(pid: int) -> str:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return f"RSS {sizes['Rss'] / 1024:.1f}, PSS {sizes['Pss'] / 1024:.1f}, private {private / 1024:.1f} MiB"


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def killing(runner: Runner, name: str, text: str, grace: float) -> None:
    times = []
    for _ in range(5):
        job = runner.run(shell("trap '' TERM; " + text))
        select.select([job.stdout], [], [])

        def kill(job: Job = job) -> None:
            job.kill(grace)
            assert finish(job)[1].left == 0

        times.append(milliseconds(kill))
    values = ", ".join(f"{value - grace * 1000:.1f}" for value in times)
    print(f"kill {name} (without the grace): {values} ms")


def main() -> None:
    for cgroup in (True, False):
        runner = Runner.start(cgroup=cgroup)
        (spawner,) = children(os.getpid())
        print(f"--- cgroup={cgroup}, Python {sys.version.split()[0]}")
        print(f"agent:   {memory(os.getpid())}")
        print(f"spawner: {memory(spawner)}")
        compare(runner, "true")
        compare(runner, "echo hi")
        print(f"worker:  {memory(children(spawner)[0])}")
        killing(runner, "seven processes that ignore SIGTERM", DEAF_TREE, 0.05)
        killing(runner, "a fork storm that ignores SIGTERM", STORM, 0.05)
        runner.close()


if __name__ == "__main__":
    main()
