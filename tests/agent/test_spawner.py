"""The spawner: it lives as long as the agent, refuses politely, and lets nothing of the agent through to a command."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
import warnings

import pytest

from agent.orders import Command, Ended, Outcome, Ready, Started, receive, send_run
from agent.procs import descendants, stat
from agent.spawner import spawn_until_closed


@pytest.fixture
def spawner():
    """Return the agent's end of the control channel and the process number."""
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest-xdist has a thread, the agent has none
        pid = os.fork()
    if pid == 0:
        spawn_until_closed(theirs, None)
    theirs.close()
    yield control, pid
    control.close()
    os.waitpid(pid, 0)


def order_worker(control):
    """Return our end of the channel to a new worker."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(20)
    with theirs:
        socket.send_fds(control, [b"token"], [theirs.fileno()])
    return ours


def after_ready(channel):
    """Say whether the worker is ready, and then has started its command."""
    return isinstance(receive(channel), Ready) and isinstance(receive(channel), Started)


def descriptors_of(pid):
    return {os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")}


def test_it_ends_with_the_agent(spawner, commands):
    control, pid = spawner
    handle = os.pidfd_open(pid)
    assert not commands.readable(handle, 0)
    control.close()
    commands.gone(handle)


def test_signals_to_all_processes_of_the_agent_do_not_end_it(spawner, commands):
    """A terminal's Ctrl-C, a service manager's SIGTERM: it is for the agent to say what ends."""
    control, pid = spawner
    null = os.open("/dev/null", os.O_RDWR)
    for _ in range(2):
        with order_worker(control) as channel:
            send_run(channel, commands.shell("kill -TERM $PPID; kill -INT $PPID; exit 4"), [null, null])
            assert after_ready(channel)
            assert receive(channel) == Ended(Outcome(4, None), True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            os.kill(pid, number)
    os.close(null)


def test_spawner_and_workers_hold_nothing_of_the_agent(spawner, commands):
    control, pid = spawner
    with order_worker(control) as channel:
        reading, writing = os.pipe()
        null = os.open("/dev/null", os.O_RDWR)
        send_run(channel, commands.shell("echo $PPID"), [writing, null])
        os.close(writing)
        assert after_ready(channel)
        assert isinstance(receive(channel), Ended)
        worker = int(os.read(reading, 100))
        assert os.read(reading, 1) == b"", "nobody but the command had its pipe"
        error = os.readlink("/proc/self/fd/2").partition(":")[0]
        assert descriptors_of(pid) == {"/dev/null", "socket", error}
        assert descriptors_of(worker) == {"/dev/null", "socket", "pipe", error}
        assert len(os.listdir(f"/proc/{pid}/fd")) == 4
        assert len(os.listdir(f"/proc/{worker}/fd")) == 6
        for process in (pid, worker):
            assert stat(process).session == pid
            assert os.readlink(f"/proc/{process}/cwd") == "/"
        os.close(reading)
        os.close(null)


def test_dead_workers_do_not_stay_as_zombies(spawner, commands):
    control, pid = spawner
    null = os.open("/dev/null", os.O_RDWR)
    for _ in range(3):
        reading, writing = os.pipe()
        with order_worker(control) as channel:
            send_run(channel, commands.shell("echo $PPID"), [writing, null])
            worker = os.pidfd_open(int(os.read(reading, 100)))
        commands.gone(worker)
        os.close(reading)
        os.close(writing)
    os.close(null)
    limit = time.monotonic() + 20
    while list(descendants(pid)) and time.monotonic() < limit:
        pass  # the last one may be in the middle of going
    assert list(descendants(pid)) == []


def test_an_order_without_a_channel_is_nothing(spawner, commands):
    control, _ = spawner
    control.send(b"token")
    with order_worker(control) as channel:
        null = os.open("/dev/null", os.O_RDWR)
        send_run(channel, commands.shell("exit 4"), [null, null])
        assert after_ready(channel)
        assert receive(channel) == Ended(Outcome(4, None), True)
        os.close(null)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_fork_that_fails_is_told_if_anybody_still_wants_to_know(child, commands, monkeypatch, wanted):
    def scenario():
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            monkeypatch.setattr(os, "fork", fail)
            spawn_until_closed(theirs, None)
        theirs.close()
        handle = os.pidfd_open(pid)
        channel = order_worker(control)
        if wanted:
            error = "cannot start a worker: Cannot allocate memory"
            assert receive(channel) == Ended(Outcome(None, None, error), False)
            assert receive(channel) is None
        channel.close()
        assert not commands.readable(handle, 0)
        control.close()
        commands.gone(handle)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def fail():
        raise OSError(12, "whatever")

    child(scenario)


def test_an_agent_started_without_standard_descriptors(child, commands):
    """``fleet-agent serve <&- >&-``: the channels get the numbers 0 and 1 then, and the command's pipes too."""

    def scenario():
        os.close(0)
        os.close(1)
        runner = commands.start()
        finished = commands.run(runner, "echo out; echo err >&2; cat")
        runner.close()
        assert (finished.stdout, finished.stderr, finished.outcome.code) == (b"out\n", b"err\n", 0)

    child(scenario)


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
        assert lines[0:3:2] == ["SigBlk:", "SigIgn:"]
        # 32 and 33 are glibc's own: its posix_spawn, with which pytest-xdist may have been started, ignores them.
        assert [int(mask, 16) & ~(0b11 << 31) for mask in lines[1:4:2]] == [0, 0]
        assert lines[4:6] == ["0022", str(min(200, limit))]
        assert lines[6:11] == ["0", "1", "2", "3", "/"]  # 3 is the directory that ls reads
        assert lines[11] == lines[12], "a session of its own"
        assert kept

    child(scenario)


def test_a_command_gets_this_environment_and_no_other(runner, commands):
    environment = {"PATH": "/usr/bin:/bin", "A": "b c", "NOT_UTF8": os.fsdecode(b"\xff\xfe")}
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
