"""Commands as the agent's threads see them: started, watched and ended without blocking, and exact to the bit."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import signal
import stat
import threading
import time

import pytest

from agent import runner as module
from agent.runner import Command, Job, Outcome, RunnerError

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
    finished = commands.run(runner, "echo out; echo err >&2; exit 3")
    assert (finished.stdout, finished.stderr) == (b"out\n", b"err\n")
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


def test_large_output_is_whole(runner, commands):
    assert len(commands.run(runner, "head -c 5000000 /dev/zero").stdout) == 5_000_000


def test_input_reaches_the_command_and_has_an_end(runner, commands):
    job = runner.run(commands.shell("cat; echo end", stdin=True))
    os.write(job.stdin, b"a\0b\n")
    job.close_stdin()
    assert job.stdin is None
    job.close_stdin()
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
    monkeypatch.setattr(module, "_PIPE_SIZE", 1 << 40)
    assert commands.run(runner, "echo hi").stdout == b"hi\n"


# What a command finds around it


def test_a_command_starts_clean_whatever_the_agent_was_given(child, commands):
    """Ignored and blocked signals, limits and descriptors are inherited through exec: a command must not see ours."""

    def scenario():
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM, signal.SIGINT, signal.SIGALRM})
        os.umask(0o077)
        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, limit), most))
        kept = [os.dup2(1, fd) for fd in (50, 51)]
        runner = commands.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
        status = "grep -E 'Sig(Blk|Ign)' /proc/self/status; umask; ulimit -n"
        text = f"{status}; ls /proc/self/fd; pwd; ps -o sid= -p $$; echo $$"
        lines = commands.run(runner, text).stdout.decode().split()
        runner.close()
        assert lines[:4] == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
        assert lines[4:6] == ["0022", str(min(200, limit))]
        assert lines[6:11] == ["0", "1", "2", "3", "/"]  # 3 is the directory that ls reads
        assert lines[11] == lines[12], "a session of its own"
        assert kept

    child(scenario)


def test_a_command_gets_this_environment_and_no_other(runner, commands):
    environment = {"PATH": os.environ["PATH"], "A": "b c", "NOT_UTF8": os.fsdecode(b"\xff\xfe")}
    job = runner.run(Command(("/usr/bin/env", "-0"), environment, "/"))
    found = commands.finish(job).stdout.split(b"\0")[:-1]
    assert sorted(found) == sorted(os.fsencode(f"{name}={value}") for name, value in environment.items())


def test_a_command_starts_in_its_directory(runner, commands, tmp_path):
    job = runner.run(Command(("/bin/pwd",), {}, str(tmp_path)))
    assert commands.finish(job).stdout == os.fsencode(tmp_path) + b"\n"


def test_arguments_are_bytes(runner, commands):
    odd = bytes(range(1, 256))
    job = runner.run(Command(("/usr/bin/printf", "%s", os.fsdecode(odd)), {}, "/"))
    assert commands.finish(job).stdout == odd


def test_the_longest_command_that_linux_takes(runner, commands):
    limit = 32 * resource.getpagesize() - 1
    text = "echo \x01\u20ac #"
    text += "\x01" * (limit - len(text.encode()))
    assert commands.run(runner, text).stdout == "\x01\u20ac\n".encode()
    finished = commands.run(runner, text + "#")
    assert finished.outcome == Outcome(None, None, f"the command is too long: {limit + 1} bytes, at most {limit}")
    assert commands.run(runner, "echo hi").stdout == b"hi\n"


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


# What is left in the background


@pytest.mark.parametrize("text", ["sleep 1000.{m} & echo $!", "(setsid sh -c 'sleep 1000.{m} & echo $!' &) | cat"])
def test_a_background_process_outlives_its_command_and_the_runner(commands, mark, text):
    runner = commands.start()
    text = text.format(m=mark).replace("| cat", "| head -n 1")
    finished = commands.run(runner, text)
    assert finished.outcome == Outcome(0, None, None, 1)
    runner.close()
    pid = int(finished.stdout)
    assert len(commands.with_mark(mark)) == 1
    handle = os.pidfd_open(pid)
    assert not commands.readable(handle, 0)
    os.kill(pid, signal.SIGKILL)
    commands.gone(handle)


def test_a_worker_with_something_in_the_background_takes_no_other_command(runner, commands, mark):
    first = commands.run(runner, f"sleep 1000.{mark} & echo $PPID")
    handle = os.pidfd_open(worker) if os.path.exists(f"/proc/{(worker := int(first.stdout))}") else None
    assert worker_of(runner, commands) != worker
    if handle is not None:
        commands.gone(handle)


def test_a_kill_after_the_end_does_not_reach_what_was_left(runner, commands, mark):
    job = runner.run(commands.shell(f"sleep 1000.{mark} &"))
    assert commands.outcome(job).left == 1
    job.kill(0)
    job.close()
    assert worker_of(runner, commands)
    assert len(commands.with_mark(mark)) == 1


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
        os.write(job.stdin, b"go\n")
        assert commands.outcome(job) == Outcome(None, signal.SIGKILL)
        assert commands.readable(job.stdout) and os.read(job.stdout, 1) == b""  # nobody holds it: all are dead
        job.kill()
        job.close()
        assert commands.run(runner, "echo hi").stdout == b"hi\n"

    everywhere(scenario)


def test_a_command_that_stops_its_worker_can_be_killed(runner, commands, mark):
    job = runner.run(commands.shell(f"kill -STOP $PPID; echo up; sleep 1000.{mark}; :"))
    assert commands.line(job) == "up"
    while job.poll() is None and job._worker.started is None:
        assert commands.readable(job.fileno())
    job.kill(0)
    assert commands.outcome(job).signal is not None
    assert commands.with_mark(mark) == []
    job.close()


def test_nothing_is_left_when_the_agent_is_killed(commands, mark, tmp_path):
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    tree = f"exec 9>{tmp_path}/alive; trap '' TERM; setsid sleep 1000.{mark} & echo up >&9; sleep 1000.{mark}; :"
    reading, writing = os.pipe()
    agent = os.fork()
    if agent == 0:
        runner = commands.start()
        spawner = spawner_of(runner, commands)  # its worker stays idle or takes the job
        job = runner.run(commands.shell(tree))
        os.write(writing, f"{spawner}\n".encode())
        select.select([job.fileno()], [], [], 0)
        signal.pause()
    os.close(writing)
    with open(reading) as file:
        spawner = os.pidfd_open(int(file.readline()))
    assert commands.readable(alive) and os.read(alive, 3) == b"up\n"
    os.kill(agent, signal.SIGKILL)
    os.waitpid(agent, 0)
    began = time.monotonic()
    assert commands.readable(alive) and os.read(alive, 1) == b""
    assert time.monotonic() - began < 5
    assert commands.with_mark(mark) == []
    commands.gone(spawner)
    os.close(alive)


# Workers, kept and let go


def test_no_worker_before_the_first_command_then_one_for_all(runner, commands):
    children = f"/proc/{runner._spawner}/task/{runner._spawner}/children"
    with open(children) as file:
        assert file.read() == ""
    workers = {worker_of(runner, commands) for _ in range(5)}
    with open(children) as file:
        assert {int(word) for word in file.read().split()} == workers
    assert len(workers) == 1


def test_at_most_sixteen_idle_workers_are_kept(runner, commands):
    jobs = [runner.run(commands.shell("echo $PPID; read go", stdin=True)) for _ in range(19)]
    workers = [int(commands.line(job)) for job in jobs]
    assert len(set(workers)) == 19
    handles = [os.pidfd_open(worker) for worker in workers]
    for job in jobs:
        job.close_stdin()
        assert commands.outcome(job) == Outcome(1, None)
        job.close()
    for handle in handles[16:]:
        commands.gone(handle)
    assert not any(commands.readable(handle, 0) for handle in handles[:16])
    for handle in handles[:16]:
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
    assert commands.outcome(job) == Outcome(None, None, "the worker died before it started the command")
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


def test_too_few_descriptors_is_an_error_that_leaves_none_open(child, commands):
    """Whatever the step at which they run out, from the first pipe to the channel of a new worker."""

    def scenario():
        runner = commands.start()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        while os.dup(1) <= highest:
            pass  # no holes: the limit counts numbers
        used = highest + 2
        errors = []
        for free in range(14):
            before = open_descriptors()
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + free, most))
            job = None
            try:
                job = runner.run(commands.shell("true", stdin=True))
            except RunnerError as problem:
                errors.append(str(problem))
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            if isinstance(job, Job):
                assert commands.finish(job).outcome == Outcome(0, None)
                break
            assert open_descriptors() in (before, before + 1)  # one: the channel of a worker, kept for the next
        assert set(errors) == {
            "cannot make pipes: Too many open files",
            "cannot make a channel to a worker: Too many open files",
            "cannot hand over the command: Too many open files",
        }
        assert commands.run(runner, "echo hi").stdout == b"hi\n"
        runner.close()

    child(scenario)


def test_too_many_processes_is_an_error_and_not_the_end(child, commands, stranger):
    def scenario():
        runner = commands.start()
        most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        refused = os.strerror(errno.EAGAIN)
        resource.prlimit(runner._spawner, resource.RLIMIT_NPROC, (0, most))
        finished = commands.run(runner, "echo hi")
        assert finished.outcome == Outcome(None, None, f"cannot start a worker: {refused}")
        resource.prlimit(runner._spawner, resource.RLIMIT_NPROC, (most, most))
        worker = worker_of(runner, commands)
        resource.prlimit(worker, resource.RLIMIT_NPROC, (0, most))
        finished = commands.run(runner, "echo hi")
        assert finished.outcome == Outcome(None, None, f"cannot start /bin/sh: {refused}")
        resource.prlimit(worker, resource.RLIMIT_NPROC, (most, most))
        assert worker_of(runner, commands) == worker
        runner.close()

    child(scenario, uid=stranger)


def test_without_the_spawner_idle_workers_still_work(runner, commands):
    worker_of(runner, commands)
    os.kill(runner._spawner, signal.SIGKILL)
    os.waitpid(runner._spawner, 0)
    job = runner.run(commands.shell("read go", stdin=True))
    with pytest.raises(RunnerError) as caught:
        runner.run(commands.shell("echo hi"))
    assert str(caught.value) == "cannot reach the spawner: Broken pipe"
    assert (caught.value.action, caught.value.reason) == ("reach the spawner", "Broken pipe")
    job.close_stdin()
    assert commands.finish(job).outcome == Outcome(1, None)
    assert commands.run(runner, "echo hi").stdout == b"hi\n"


# The end


def test_close_kills_what_runs_and_ends_the_others(commands, mark):
    runner = commands.start()
    job = runner.run(commands.shell(f"echo $PPID; setsid sleep 1000.{mark} & sleep 1000.{mark}; :"))
    busy = os.pidfd_open(int(commands.line(job)))
    idle = os.pidfd_open(worker_of(runner, commands))
    spawner = os.pidfd_open(runner._spawner)
    runner.close()
    runner.close()
    assert commands.readable(spawner, 0)
    commands.gone(idle)
    assert commands.outcome(job) == Outcome(None, signal.SIGTERM)
    assert commands.with_mark(mark) == []
    job.close()
    commands.gone(busy)
    os.close(spawner)
    with pytest.raises(RunnerError, match=r"^cannot start a command: the runner is closed$"):
        runner.run(commands.shell("true"))


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
    handle = os.pidfd_open(runner._spawner)
    os.kill(runner._spawner, signal.SIGSTOP)
    os.waitpid(runner._spawner, os.WUNTRACED)
    runner.close()
    commands.gone(handle)
