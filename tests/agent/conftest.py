"""Shared by the tests of what runs commands: commands to run, their ends, and what must not be left of them."""

from __future__ import annotations

import ctypes
import os
import secrets
import select
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import cgroups
from agent.runner import Command, Job, Outcome, Runner

PATIENCE = 20.0  # seconds; reached only by a test that fails
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True, slots=True)
class Finished:
    outcome: Outcome
    stdout: bytes
    stderr: bytes


class Commands:
    """What a test does with a runner; also in a forked process, so it holds no state."""

    def shell(self, text: str, **options: object) -> Command:
        return Command(("/bin/sh", "-c", text), ENVIRONMENT, "/", **options)  # type: ignore[arg-type]

    def start(self, **options: bool) -> Runner:
        with warnings.catch_warnings():
            # pytest-xdist has a thread of its own in this process; the agent has none when it forks.
            warnings.simplefilter("ignore", DeprecationWarning)
            return Runner.start(**options)

    def line(self, job: Job) -> str:
        """Read one line of the job's output."""
        text = b""
        while not text.endswith(b"\n"):
            assert self.readable(job.stdout), "no output"
            piece = os.read(job.stdout, 1)
            assert piece, "the output ended"
            text += piece
        return text.decode().rstrip("\n")

    def outcome(self, job: Job) -> Outcome:
        """Wait for the end of the job alone."""
        while (outcome := job.poll()) is None:
            assert self.readable(job.fileno()), "no outcome"
        return outcome

    def finish(self, job: Job) -> Finished:
        """Read a job to its end, and its pipes to theirs if nothing holds them; close it."""
        output = {job.stdout: b"", job.stderr: b""}
        waiting = {job.fileno(), *output}
        outcome = None
        while job.fileno() in waiting or (outcome is not None and not outcome.left and waiting):
            ready = select.select(waiting, [], [], PATIENCE)[0]
            assert ready, "the job does not end"
            for fd in ready:
                if fd == job.fileno():
                    outcome = job.poll()
                    waiting -= {fd} if outcome else set()
                elif data := os.read(fd, 1 << 16):
                    output[fd] += data
                else:
                    waiting.discard(fd)
        assert outcome is not None
        for fd in waiting:
            while select.select([fd], [], [], 0)[0] and (data := os.read(fd, 1 << 16)):
                output[fd] += data
        finished = Finished(outcome, output[job.stdout], output[job.stderr])
        job.close()
        return finished

    def run(self, runner: Runner, text: str, **options: object) -> Finished:
        return self.finish(runner.run(self.shell(text, **options)))

    def readable(self, fd: int, seconds: float = PATIENCE) -> bool:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def gone(self, pidfd: int) -> None:
        """Wait for the end of a process, and close its descriptor."""
        assert self.readable(pidfd), "the process does not end"
        os.close(pidfd)

    def with_mark(self, mark: str) -> list[str]:
        """Return the command lines of all processes that have `mark` in it."""
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    line = Path(entry.path, "cmdline").read_bytes()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if mark.encode() in line:
                    found.append(line.replace(b"\0", b" ").decode(errors="replace"))
        return found


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def runner(commands: Commands) -> Iterator[Runner]:
    runner = commands.start()
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def shared_runner() -> Iterator[Runner]:
    """One for all tests of a module that are not about runners: its start and its end take longer than most of them."""
    runner = Commands().start()
    yield runner
    runner.close()


@pytest.fixture
def mark() -> Iterator[str]:
    """Return a number that no other process has in its command line: ``sleep 1000.<mark>``. What a failed test
    left behind is killed."""
    mark = str(secrets.randbelow(10**12) + 10**12)
    yield mark
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and mark.encode() in Path(entry.path, "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            pass


def in_child(scenario: Callable[[], None], *, uid: int | None = None) -> None:
    """Run `scenario` in a forked process, as another user if `uid` is given, and fail as it fails."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as in Commands.start
        pid = os.fork()
    if pid == 0:
        try:
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                # Whoever changes its user without exec does not own its own files in /proc until it says so
                # (PR_SET_DUMPABLE).
                ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
            scenario()
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as file:
        problem = file.read()
    os.waitpid(pid, 0)
    if problem:
        pytest.fail(problem)


@pytest.fixture
def child() -> Callable[..., None]:
    """Return a function that runs a scenario in a process of its own, where it may do anything to that process."""
    return in_child


@pytest.fixture
def stranger() -> int | None:
    """Return the number of a user that nobody else is, None when we are an ordinary user already."""
    return 61_000 + os.getpid() % 4000 if os.geteuid() == 0 else None


@pytest.fixture
def home() -> str:
    """Return the directory of our own cgroup if we may make others in it."""
    directory = cgroups.own_directory()
    if directory is None or not os.access(directory, os.W_OK):
        pytest.skip("no cgroup v2 here in which we may make another")
    return directory


@pytest.fixture(params=["cgroup", "tree", "ordinary user"])
def everywhere(
    request: pytest.FixtureRequest, commands: Commands, stranger: int | None
) -> Callable[[Callable[[Runner], None]], None]:
    """Return a function that runs a scenario with a new runner: with cgroups, without, and as an ordinary user."""
    if request.param == "cgroup":
        request.getfixturevalue("home")

    def run(scenario: Callable[[Runner], None]) -> None:
        def with_runner() -> None:
            runner = commands.start(cgroup=request.param != "tree")
            try:
                scenario(runner)
            finally:
                runner.close()

        if request.param == "ordinary user":
            in_child(with_runner, uid=stranger)
        else:
            with_runner()

    return run
