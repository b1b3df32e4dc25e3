"""Running a command to its end and noting what it took; several of them, taking turns.

Taking turns (A B A B ...) is what makes a ratio hold on a machine whose speed drifts.
"""

from __future__ import annotations

import os
import resource
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds of wall and of CPU, and the peak RSS in bytes, of the process and the children it waited for.

    The peak is never below that of this process: the kernel counts the moment between fork and exec.
    """

    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Tool:
    """A command to be measured. With `pipe` its output goes through ``cat``, else straight to /dev/null."""

    command: Sequence[str]
    pipe: bool = False


class FailedRunError(Exception):
    """A measured command did not do its work: its time would mean nothing."""


def run(tool: Tool, environment: Mapping[str, str], *, limit: float = 600.0) -> Sample:
    """Run it once. Raises FailedRunError when it ends with anything but 0, or after `limit` seconds."""
    with tempfile.TemporaryFile() as errors, open(os.devnull, "wb") as nothing:
        reader = None
        if tool.pipe:
            reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=nothing)
        began = time.perf_counter()
        process = subprocess.Popen(
            tool.command,
            stdin=subprocess.DEVNULL,
            stdout=nothing if reader is None else reader.stdin,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        try:
            code, usage = _wait(process, limit)
            if reader is not None:
                assert reader.stdin is not None
                reader.stdin.close()
                reader.wait()
            wall = time.perf_counter() - began
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if reader is not None:
                reader.kill()
                reader.wait()
        if code:
            errors.seek(0)
            raise FailedRunError(
                f"{tool.command[0]} ended with {code}: {errors.read()[-300:].decode(errors='replace')}"
            )
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _wait(process: subprocess.Popen[bytes], limit: float) -> tuple[int, resource.struct_rusage]:
    def expire(number: int, frame: object) -> None:
        raise FailedRunError(f"{process.args!r} took more than {limit:.0f} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def take_turns(
    tools: Mapping[str, Tool], rounds: int, environment: Mapping[str, str], *, settle: float = 0.3
) -> dict[str, list[Sample]]:
    """Run each tool `rounds` times. `settle` is the pause after each run, for the servers' last work, in seconds."""
    samples: dict[str, list[Sample]] = {name: [] for name in tools}
    for _ in range(rounds):
        for name, tool in tools.items():
            samples[name].append(run(tool, environment))
            time.sleep(settle)
    return samples


def median(samples: Sequence[Sample], what: Callable[[Sample], float]) -> float:
    """Return the median of one property."""
    return statistics.median(map(what, samples))


def count_output(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command and return how many bytes it wrote: a fast tool that loses output is not fast."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    assert process.stdout is not None
    count = 0
    with process:
        while data := process.stdout.read(1 << 20):
            count += len(data)
    return count


def resident(pid: int) -> int:
    """Return the RSS of a process, in bytes (VmRSS, proc_pid_status(5))."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS:") * 1024


def peak(pid: int) -> int:
    """Return the highest RSS of a process since `forget_peak`, in bytes (VmHWM, proc_pid_status(5))."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:") * 1024


def forget_peak(pid: int) -> None:
    """Let the highest RSS of a process be what it is now (proc_pid_clear_refs(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def proportional(pid: int) -> tuple[int, int]:
    """Return the PSS of a process and everything below it, in bytes, and the number of processes."""
    families: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_bytes()
            except OSError:  # gone meanwhile
                continue
            families.setdefault(int(stat.rpartition(b")")[2].split()[1]), []).append(int(name))
    todo, total, count = [pid], 0, 0
    while todo:
        one = todo.pop()
        todo += families.get(one, [])
        total += _kilobytes(Path(f"/proc/{one}/smaps_rollup"), "Pss:") * 1024
        count += 1
    return total, count


def _kilobytes(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0
