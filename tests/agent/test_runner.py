"""Commands as the agent's threads see them: started, watched and ended without blocking, and exact to the bit."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from agent import runner as module
from agent.orders import send_run
from agent.runner import Command, Outcome, RunnerError

NOT_DEADLY = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


def worker_of(runner, commands):
    """Return the process number of the worker that the next command gets too."""
    return int(commands.run(runner, "echo $PPID").stdout)


def spawner_of(runner, commands):
    worker = worker_of(runner, commands)
    with open(f"/proc/{worker}/stat") as file:
        return int(file.read().rpartition(") ")[2].split()[1])


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


# What a command says, and how it ends


def test_the_two_outputs_and_the_code(runner, commands):
    finished = commands.run(runner, "head -c 5000000 /dev/zero; echo err >&2; exit 3")
    assert (finished.stdout, finished.stderr) == (bytes(5_000_000), b"err\n")
    assert finished.outcome == Outcome(3, None)


def test_every_exit_code_is_exact(runner, commands):
    outcomes = [commands.run(runner, f"exit {code}").outcome for code in range(256)]
    assert outcomes == [Outcome(code, None) for code in range(256)]


def test_every_signal_is_exact_and_no_exit_code(runner, commands):
    for number in signal.valid_signals() - NOT_DEADLY - STOPPING:
        assert commands.run(runner, f"ulimit -c 0; kill -{number:d} $$").outcome == Outcome(None, number)
        assert commands.run(runner, f"exit {128 + number}").outcome == Outcome(128 + number, None)


def test_the_end_of_the_shell_counts_not_that_of_its_pipes(runner, commands):
    job = runner.run(commands.shell("exec >&- 2>&-; read line; exit 7", stdin=True))
    for pipe in (job.stdout, job.stderr):
        assert commands.readable(pipe) and os.read(pipe, 1) == b""
    assert job.poll() is None
    os.write(job.stdin, b"go\n")
    assert commands.outcome(job) == Outcome(7, None)
    assert job.poll() == Outcome(7, None)
    job.close()


def test_input_reaches_the_command_and_has_an_end(runner, commands):
    job = runner.run(commands.shell("cat; echo end", stdin=True))
    os.write(job.stdin, b"a\0b\n")
    job.close_stdin()
    job.close_stdin()
    assert job.stdin is None
    assert commands.finish(job).stdout == b"a\0b\nend\n"


def test_without_input_a_command_reads_nothing(runner, commands):
    job = runner.run(commands.shell("cat; readlink /proc/self/fd/0"))
    assert job.stdin is None
    assert commands.finish(job).stdout == b"/dev/null\n"


def test_our_pipes_never_block(runner, commands):
    with runner.run(commands.shell("read line", stdin=True)) as job:
        for pipe in (job.stdout, job.stderr):
            with pytest.raises(BlockingIOError):
                os.read(pipe, 1)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(job.stdin, bytes(1 << 20))
        assert all(stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in (job.stdin, job.stdout, job.stderr))
        assert fcntl.fcntl(job.stdout, fcntl.F_GETPIPE_SZ) >= 1 << 16


def test_pipes_stay_small_where_large_ones_are_refused(runner, commands, monkeypatch):
    monkeypatch.setattr(module, "_PIPE_SIZE", 0xFFFF_FFFF)
    with runner.run(commands.shell("exec cat", stdin=True)) as job:
        module.enlarge(job.stdout)
        assert [fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) for fd in (job.stdin, job.stdout)] == [1 << 16] * 2


# What cannot start


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (Command(("/no/sh", "-c", "true"), {}, "/"), "cannot start /no/sh: No such file or directory"),
        (Command(("/bin/sh",), {}, "/nope"), "no such directory: /nope"),
        (Command(("/bin/sh", "-c", "\0"), {}, "/"), "cannot start /bin/sh: embedded null byte"),
        (Command(("/bin/sh",), {}, "/", user="no-such-user"), "unknown user 'no-such-user'"),
        (Command((), {}, "/"), "no program is named"),
    ],
)
def test_a_command_that_cannot_start_says_why_and_the_next_one_runs(runner, commands, command, error):
    worker = worker_of(runner, commands)
    finished = commands.finish(runner.run(command))
    assert finished.outcome == Outcome(None, None, error)
    assert (finished.stdout, finished.stderr) == (b"", b"")
    assert worker_of(runner, commands) == worker


# Killing


def test_only_the_first_kill_counts(runner, commands):
    job = runner.run(commands.shell("trap 'sleep 0.05; exit 9' TERM; echo up; while :; do sleep 0.01; done"))
    assert commands.line(job) == "up"
    job.kill(20)
    job.kill(0)
    assert commands.outcome(job) == Outcome(9, None)
    job.close()


def test_close_kills_what_runs(runner, commands, mark, tmp_path):
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    job = runner.run(commands.shell(f"exec 9>{tmp_path}/alive; sleep 1000.{mark} & echo up; sleep 1000.{mark}; :"))
    assert commands.line(job) == "up"
    before = open_descriptors()
    job.close()
    job.close()
    assert open_descriptors() == before - 3
    assert commands.readable(alive) and os.read(alive, 1) == b""
    os.close(alive)
    assert commands.run(runner, "echo hi").stdout == b"hi\n"


def test_a_command_that_kills_its_worker_is_killed_too(everywhere, commands, mark):
    """`kill -9 $PPID`: what is below the worker would be free otherwise."""

    def scenario(runner):
        text = f"sleep 1000.{mark} & sleep 1000.{mark} & echo up; read go; kill -9 $PPID; sleep 1000.{mark}; :"
        job = runner.run(commands.shell(text, stdin=True))
        assert commands.line(job) == "up"
        while job._worker.session is None:
            assert commands.readable(job.fileno()) and job.poll() is None
        os.write(job.stdin, b"go\n")
        assert commands.outcome(job) == Outcome(None, signal.SIGKILL)
        assert commands.readable(job.stdout) and os.read(job.stdout, 1) == b""  # nobody holds it: all are dead
        job.kill()
        job.close()
        assert commands.run(runner, "echo hi").stdout == b"hi\n"

    everywhere(scenario)


def test_kill_tells_whether_there_was_something_to_kill(runner, commands):
    with runner.run(commands.shell("read go; exit 7", stdin=True)) as job:
        while job._worker.session is None:
            assert commands.readable(job.fileno()) and job.poll() is None
        os.write(job.stdin, b"go\n")
        assert commands.readable(job.fileno())  # the end, which nobody has polled for
        assert job.kill() is False
        assert job.poll() == Outcome(7, None)
    with runner.run(commands.shell("sleep 1000")) as job:
        assert job.kill() is True
        assert job.kill() is True
        assert commands.outcome(job) == Outcome(None, signal.SIGTERM)


def test_a_worker_that_dies_while_it_is_woken_is_no_error(runner, commands):
    """Its number may even belong to somebody else by then."""
    job = runner.run(commands.shell("echo up; read go", stdin=True))
    assert commands.line(job) == "up"
    assert job.poll() is None
    with subprocess.Popen(["/bin/true"]) as gone:
        pass
    job._worker.pid = gone.pid
    job.kill(0)
    assert commands.outcome(job).signal is not None
    job.close()


def test_a_command_that_stops_its_worker_can_be_killed(runner, commands, mark):
    job = runner.run(commands.shell(f"kill -STOP $PPID; echo up; sleep 1000.{mark}; :"))
    assert commands.line(job) == "up"
    job.kill(0)
    assert commands.outcome(job).signal is not None
    assert commands.with_mark(mark) == []
    job.close()


@pytest.mark.parametrize("stop", [":", "kill -STOP $PPID"], ids=["", "worker stopped"])
def test_nothing_is_left_when_the_agent_is_killed(commands, mark, tmp_path, stop):
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    tree = (
        f"exec 9>{tmp_path}/alive; trap '' TERM; setsid sleep 1000.{mark} & {stop}; echo up >&9; sleep 1000.{mark}; :"
    )
    reading, writing = os.pipe()
    agent = os.fork()
    if agent == 0:
        runner = commands.start()
        number = spawner_of(runner, commands)  # its worker stays idle or takes the job
        job = runner.run(commands.shell(tree))
        os.write(writing, f"{number}\n".encode())
        select.select([job.fileno()], [], [], 0)
        signal.pause()
    os.close(writing)
    with open(reading) as file:
        handle = os.pidfd_open(int(file.readline()))
    assert commands.readable(alive) and os.read(alive, 3) == b"up\n"
    os.kill(agent, signal.SIGKILL)
    os.waitpid(agent, 0)
    began = time.monotonic()
    assert commands.readable(alive) and os.read(alive, 1) == b""
    assert time.monotonic() - began < 5
    assert commands.with_mark(mark) == []
    commands.gone(handle)
    os.close(alive)


# Workers, kept and let go


def test_no_worker_before_the_first_command_then_one_for_all(runner, commands):
    children = f"/proc/{runner._spawner.pid}/task/{runner._spawner.pid}/children"
    with open(children) as file:
        assert file.read() == ""
    workers = {worker_of(runner, commands) for _ in range(5)}
    with open(children) as file:
        assert {int(word) for word in file.read().split()} == workers
    assert len(workers) == 1


def test_only_so_many_idle_workers_are_kept(runner, commands, monkeypatch):
    monkeypatch.setattr(module, "_MAX_IDLE", 4)
    jobs = [runner.run(commands.shell("echo $PPID; read go", stdin=True)) for _ in range(7)]
    workers = [int(commands.line(job)) for job in jobs]
    assert len(set(workers)) == 7
    handles = [os.pidfd_open(worker) for worker in workers]
    for job in jobs:
        job.close_stdin()
        assert commands.outcome(job) == Outcome(1, None)
        job.close()
    for handle in handles[4:]:
        commands.gone(handle)
    assert not any(commands.readable(handle, 0) for handle in handles[:4])
    for handle in handles[:4]:
        os.close(handle)


def test_a_worker_idle_for_long_gets_no_command(runner, commands, monkeypatch):
    """It is about to leave: a command sent at that moment would be lost."""
    old = worker_of(runner, commands)
    handle = os.pidfd_open(old)
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 49)
    assert worker_of(runner, commands) == old
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 49 + 51)
    assert worker_of(runner, commands) != old
    commands.gone(handle)


def test_a_worker_that_was_killed_while_idle_is_replaced(runner, commands):
    worker = worker_of(runner, commands)
    handle = os.pidfd_open(worker)
    os.kill(worker, signal.SIGKILL)
    commands.gone(handle)
    assert worker_of(runner, commands) != worker


def test_a_worker_that_dies_before_it_starts_the_command(runner, commands):
    worker = worker_of(runner, commands)
    handle = os.pidfd_open(worker)
    os.kill(worker, signal.SIGSTOP)
    job = runner.run(commands.shell("echo hi"))
    os.kill(worker, signal.SIGKILL)
    commands.gone(handle)
    assert commands.outcome(job) == Outcome(None, None, "the worker died, perhaps before it started the command")
    job.close()
    assert commands.run(runner, "echo hi").stdout == b"hi\n"


def test_threads_share_a_runner(runner, commands):
    wrong = []

    def work(number):
        for turn in range(10):
            finished = commands.run(runner, f"echo {number} {turn}; exit {number}")
            if (finished.stdout, finished.outcome) != (f"{number} {turn}\n".encode(), Outcome(number, None)):
                wrong.append(finished)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# When something is missing


@pytest.mark.parametrize(
    ("idle", "last_step"), [(0, "make a channel to a worker"), (1, "hand over the command")], ids=["first", "next"]
)
def test_too_few_descriptors_is_an_error_that_leaves_none_open(child, commands, idle, last_step):
    """At whatever step they run out."""

    def scenario():
        runner = commands.start()
        for _ in range(idle):
            commands.run(runner, "true")
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        before = open_descriptors()
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        fillers = [os.dup(1)]
        while fillers[-1] <= highest:
            fillers.append(os.dup(1))  # no holes: the limit counts numbers
        errors = []
        for free in range(7):
            resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1 + free, most))
            with pytest.raises(RunnerError) as caught:
                runner.run(commands.shell("true " + "x" * 10_000, stdin=True))
            errors.append(str(caught.value))
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        for fd in fillers:
            os.close(fd)
        text = "Too many open files"
        assert errors == [f"cannot make pipes: {text}"] * 6 + [f"cannot {last_step}: {text}"]
        assert open_descriptors() == before
        assert commands.run(runner, "echo hi").stdout == b"hi\n"
        runner.close()

    child(scenario)


@pytest.mark.parametrize("order", ["refused first", "asked first"])
def test_too_many_processes_is_an_error_and_not_the_end(child, commands, stranger, monkeypatch, order):
    """Whether the refusal comes before the command is sent to the worker that is not, or after."""

    def send_late(channel, *arguments):
        hung_up = select.poll()
        hung_up.register(channel, 0)
        assert hung_up.poll(20_000)
        return send_run(channel, *arguments)

    def scenario():
        runner = commands.start()
        if order == "refused first":
            monkeypatch.setattr(module, "send_run", send_late)
        most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        refused = os.strerror(errno.EAGAIN)
        resource.prlimit(runner._spawner.pid, resource.RLIMIT_NPROC, (0, most))
        finished = commands.run(runner, "echo hi")
        assert finished.outcome == Outcome(None, None, f"cannot start a worker: {refused}")
        monkeypatch.undo()
        resource.prlimit(runner._spawner.pid, resource.RLIMIT_NPROC, (most, most))
        worker = worker_of(runner, commands)
        resource.prlimit(worker, resource.RLIMIT_NPROC, (0, most))
        finished = commands.run(runner, "echo hi")
        assert finished.outcome == Outcome(None, None, f"cannot start /bin/sh: {refused}")
        resource.prlimit(worker, resource.RLIMIT_NPROC, (most, most))
        assert worker_of(runner, commands) == worker
        runner.close()

    child(scenario, uid=stranger)


def test_a_runner_that_cannot_start_leaves_nothing_open(monkeypatch):
    def fail():
        raise OSError(errno.EAGAIN, "no")

    before = open_descriptors()
    monkeypatch.setattr(module.os, "fork", fail)
    with pytest.raises(OSError, match="no"):
        module.Runner.start()
    assert open_descriptors() == before


def test_a_spawner_that_died_is_replaced_and_nothing_that_runs_notices(runner, commands, caplog):
    worker_of(runner, commands)
    job = runner.run(commands.shell("read go; echo went", stdin=True))
    before = open_descriptors()
    os.kill(dead := runner._spawner.pid, signal.SIGKILL)
    os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
    first = commands.run(runner, "ulimit -n; pwd; umask; echo $PPID")
    assert first.outcome == Outcome(0, None)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    *lines, worker = first.stdout.decode().splitlines()
    assert lines == [str(soft), "/", "0022"]
    assert caplog.messages == ["the process that starts commands has died: starting another"]
    assert runner._spawner.pid != dead == spawner_before(dead)
    assert worker_of(runner, commands) == int(worker), "it is used again"
    assert spawner_of(runner, commands) == runner._spawner.pid
    assert open_descriptors() == before + 1, "the channel of one more worker"
    os.write(job.stdin, b"\n")
    finished = commands.finish(job)
    assert (finished.outcome, finished.stdout) == (Outcome(0, None), b"went\n")


def spawner_before(pid):
    """Return the number of a spawner that somebody has waited for."""
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return pid


def test_commands_of_a_second_spawner_have_the_limit_that_the_agent_was_started_with(child, commands):
    def scenario():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        runner = commands.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.kill(runner._spawner.pid, signal.SIGKILL)
        os.waitpid(runner._spawner.pid, 0)
        assert commands.run(runner, "ulimit -n").stdout == b"200\n"
        runner.close()

    child(scenario)


def test_a_second_spawner_that_cannot_be_started_is_an_error_until_it_can(runner, commands, monkeypatch):
    os.kill(runner._spawner.pid, signal.SIGKILL)
    os.waitpid(runner._spawner.pid, 0)
    before = open_descriptors()
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(RunnerError) as caught:
        runner.run(commands.shell("echo hi"))
    assert str(caught.value) == "cannot reach the spawner: No such file or directory"
    assert (caught.value.action, caught.value.reason) == ("reach the spawner", "No such file or directory")
    assert open_descriptors() == before
    monkeypatch.undo()
    assert commands.run(runner, "echo hi").stdout == b"hi\n"


# The end


def test_close_kills_what_runs_and_ends_the_others(commands, mark):
    runner = commands.start()
    job = runner.run(commands.shell(f"echo $PPID; setsid sleep 1000.{mark} & sleep 1000.{mark}; :"))
    busy = os.pidfd_open(int(commands.line(job)))
    idle = os.pidfd_open(worker_of(runner, commands))
    handle = os.pidfd_open(runner._spawner.pid)
    runner.close()
    runner.close()
    assert commands.readable(handle, 0)
    commands.gone(idle)
    assert commands.outcome(job) == Outcome(None, signal.SIGTERM)
    assert commands.with_mark(mark) == []
    job.close()
    commands.gone(busy)
    os.close(handle)
    with pytest.raises(RunnerError, match=r"^cannot start a command: the runner is closed$"):
        runner.run(commands.shell("true"))


def test_a_kill_after_close_is_no_error(commands, mark):
    """Here the command takes its time to clean up, so that the kill comes in between."""
    runner = commands.start()
    text = f"trap 'echo bye; read go; exit 3' TERM; echo up; while :; do sleep 0.01; : {mark}; done"
    job = runner.run(commands.shell(text, stdin=True))
    assert commands.line(job) == "up"
    closing = threading.Thread(target=runner.close)  # it waits until all are dead
    closing.start()
    assert commands.line(job) == "bye"
    job.kill(0)
    job.close_stdin()
    assert commands.outcome(job) == Outcome(3, None)
    closing.join()
    job.close()


def test_a_worker_given_back_after_the_end_goes(commands):
    runner = commands.start()
    job = runner.run(commands.shell("echo $PPID"))
    worker = os.pidfd_open(int(commands.line(job)))
    assert commands.outcome(job) == Outcome(0, None)
    runner.close()
    job.close()
    commands.gone(worker)


def test_close_does_not_wait_for_a_spawner_that_was_stopped(commands, monkeypatch):
    monkeypatch.setattr(module, "_CLOSE_LIMIT", 0.01)
    runner = commands.start()
    handle = os.pidfd_open(runner._spawner.pid)
    os.kill(runner._spawner.pid, signal.SIGSTOP)
    os.waitpid(runner._spawner.pid, os.WUNTRACED)
    runner.close()
    commands.gone(handle)
