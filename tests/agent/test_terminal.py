"""A command on a terminal: it leads it, it hears the keys, it learns the size; and no terminal is left of it."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import re
import select
import signal
import socket
import stat
import struct
import termios

import pytest

from agent import terminal as module
from agent.orders import Command
from agent.runner import Outcome, RunnerError
from agent.terminal import TerminalError, give_to, open_terminal, resize
from agent.worker import LaunchError, launch

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PS1": "$ ", "TERM": "xterm"}
ROOT = os.geteuid() == 0


class Screen:
    """A job on a terminal, and all that it wrote there."""

    def __init__(self, job):
        self.job = job
        self.text = b""
        self._seen = 0

    def type(self, keys):
        assert os.write(self.job.stdin, keys) == len(keys)

    def until(self, pattern):
        """Wait for what matches, after what was waited for before; return the match."""
        while not (match := re.compile(pattern).search(self.text, self._seen)):
            assert self._read(), f"ended without {pattern!r}: {self.text!r}"
        self._seen = match.end()
        return match

    def end(self):
        """Read to the end of the terminal, and return how the command ended."""
        while self._read():
            pass
        while (outcome := self.job.poll()) is None:
            assert select.select([self.job], [], [], 20)[0], "no outcome"
        return outcome

    def _read(self):
        assert select.select([self.job.stdout], [], [], 20)[0], f"silence after {self.text!r}"
        try:
            data = os.read(self.job.stdout, 65536)
        except OSError as error:
            assert error.errno == errno.EIO
            return False
        self.text += data
        return bool(data)


@pytest.fixture
def on_screen(runner):
    """Return a function that starts a shell command on a terminal."""
    jobs = []

    def start(text, *, rows=24, columns=80, **options):
        command = Command(
            ("/bin/sh", "-c", text), ENVIRONMENT, "/", stdin=True, terminal=True, rows=rows, columns=columns, **options
        )
        jobs.append(runner.run(command))
        return Screen(jobs[-1])

    yield start
    for job in jobs:
        job.close()


class Device:
    """The terminal that a command has told the name of. Its number may be another one's by now, its birth not."""

    def __init__(self, screen):
        self._name = screen.until(rb"(/dev/pts/\d+)\r\n")[1].decode()
        self._born = os.stat(self._name).st_ctime_ns

    @property
    def exists(self):
        try:
            return os.stat(self._name).st_ctime_ns == self._born
        except FileNotFoundError:
            return False


# What it is


def test_the_command_leads_a_terminal(on_screen):
    screen = on_screen("tty; ps -o tty=,sid=,pgid=,tpgid= -p $$; echo $$; exit 7")
    assert screen.end() == Outcome(7, None)
    name, processes, pid = screen.text.decode().split("\r\n")[:3]
    assert re.fullmatch(r"/dev/pts/\d+", name)
    assert processes.split() == [name.removeprefix("/dev/"), pid, pid, pid]


def test_all_output_is_one_stream(on_screen, runner):
    screen = on_screen("echo out; echo err >&2; echo direct > /dev/tty")
    assert screen.end() == Outcome(0, None)
    assert screen.text == b"out\r\nerr\r\ndirect\r\n"
    assert os.read(screen.job.stderr, 1) == b""


def test_the_size_is_there_from_the_start(on_screen):
    screen = on_screen("stty size", rows=41, columns=132)
    screen.end()
    assert screen.text == b"41 132\r\n"


def test_a_size_that_is_not_known(on_screen):
    screen = on_screen("stty size", rows=0, columns=0)
    screen.end()
    assert screen.text == b"0 0\r\n"


def test_another_size_is_told_to_the_foreground(on_screen):
    screen = on_screen("trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.01; done")
    screen.until(b"ready")
    screen.job.resize(65535, 7)
    assert screen.end() == Outcome(3, None)
    assert b"65535 7" in screen.text


def test_another_size_after_the_end_or_without_a_terminal_is_nothing(on_screen, runner, commands):
    screen = on_screen("true")
    screen.end()
    screen.job.resize(10, 10)
    screen.job.close_stdin()
    screen.job.resize(10, 10)
    job = runner.run(commands.shell("true", stdin=True))
    job.resize(10, 10)
    commands.finish(job)


def test_erasing_takes_whole_characters(on_screen):
    screen = on_screen("echo ready; read x; printf '%s' \"$x\" | od -An -tx1")
    screen.until(b"ready\r\n")
    screen.type("aé\x7fb\r".encode())
    screen.end()
    assert screen.text.rpartition(b"\r\n ")[2] == b"61 62\r\n"


# What is typed


def test_ctrl_c_is_a_byte_that_interrupts_the_foreground(on_screen):
    screen = on_screen("trap 'echo kept' INT; sh -c 'echo ready; exec sleep 1000'; echo after")
    screen.until(b"ready")
    screen.type(b"\x03")
    assert screen.end() == Outcome(0, None)
    assert screen.text == b"ready\r\n^Ckept\r\nafter\r\n"


def test_job_control_and_the_end_of_input(on_screen):
    screen = on_screen("exec sh -i")
    screen.until(rb"\$ ")
    screen.type(b"sh -c 'echo up; exec sleep 1000'\r")
    screen.until(b"\nup\r\n")
    screen.type(b"\x1a")
    screen.until(rb"Stopped.*\n\$ ")
    screen.type(b"echo done\r")
    screen.until(rb"\ndone\r\n\$ ")
    screen.type(b"\x04")
    screen.until(rb"stopped jobs[^$]*\$ ")
    screen.type(b"\x04")
    assert screen.end().code == 0


def test_bytes_are_exact_on_a_raw_terminal(on_screen):
    every = bytes(range(256)) * 12
    screen = on_screen(f"stty raw -echo; echo ready; head -c {len(every)}; stty sane")
    screen.until(b"ready\n")
    screen.text = b""
    screen.type(every)
    screen.end()
    assert screen.text == every


def test_huge_output_is_whole(on_screen):
    screen = on_screen("stty -opost; seq 1 200000")
    assert screen.end() == Outcome(0, None)
    assert screen.text == "".join(f"{number}\n" for number in range(1, 200_001)).encode()


def test_output_that_is_read_late_is_whole(on_screen, commands):
    screen = on_screen("trap '' HUP; sleep 1000 & echo $!; seq 1 700", user=None)
    assert commands.outcome(screen.job) == Outcome(0, None, left=1)
    number = int(screen.until(rb"(\d+)\r\n")[1])
    screen.until(rb"\n700\r\n")
    os.kill(number, signal.SIGKILL)
    screen.end()


# The ends


def test_the_end_of_stdin_hangs_up(on_screen, mark):
    screen = on_screen(f"echo ready; sleep 1000.{mark}; :")
    screen.until(b"ready")
    screen.job.close_stdin()
    screen.job.close_stdin()
    assert screen.end().signal == signal.SIGHUP


def test_a_hang_up_gives_the_command_an_end_and_errors(on_screen, tmp_path):
    screen = on_screen(f"trap '' HUP; echo ready; cat; echo x; echo $? > {tmp_path}/code; exit 5")
    screen.until(b"ready")
    screen.job.close_stdin()
    assert screen.end() == Outcome(5, None)
    assert (tmp_path / "code").read_text() != "0\n"


def test_kill_ends_also_who_ignores_sigterm_at_once(on_screen, commands, mark):
    screen = on_screen("exec sh -i")
    screen.until(rb"\$ ")
    screen.type(f"(trap '' TERM; sleep 1000.{mark}) & sh -c 'echo up; sleep 1000.{mark}; :'\r".encode())
    screen.until(rb"\nup\r\n")
    screen.job.kill(20.0)
    outcome = commands.outcome(screen.job)
    assert outcome.left == 0
    assert commands.with_mark(mark) == []


def test_kill_leaves_nothing(everywhere, commands, mark):
    def scenario(runner):
        deaf, sleep = "trap '' HUP TERM", f"sleep 1000.{mark}"
        text = f"tty; {deaf}; (setsid sh -c '{sleep}; :') & echo up; {sleep}"
        job = runner.run(Command(("/bin/sh", "-c", text), ENVIRONMENT, "/", stdin=True, terminal=True))
        screen = Screen(job)
        device = Device(screen)
        screen.until(b"up")
        assert device.exists
        job.kill(0.1)
        assert commands.outcome(job) == Outcome(None, signal.SIGKILL)
        assert commands.with_mark(mark) == []
        job.close()
        assert not device.exists

    everywhere(scenario)


def test_no_descriptor_and_no_terminal_is_left(on_screen, runner, commands):
    commands.run(runner, "true")
    before = len(os.listdir("/proc/self/fd"))
    for text in ("exit 0", "exit 3", "kill -9 $$"):
        screen = on_screen(f"tty; read x; {text}")
        device = Device(screen)
        screen.type(b"\r")
        screen.end()
        screen.job.close()
        assert not device.exists
    screen = on_screen("sleep 1000")
    screen.job.close()
    commands.run(runner, "true")  # a worker in place of the one that is gone
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_command_that_cannot_be_started(runner, commands):
    for options, error in (
        ({"directory": "/nowhere"}, "no such directory: /nowhere"),
        ({"directory": "/", "user": "no-such-user"}, "unknown user 'no-such-user'"),
    ):
        command = Command(("/bin/true",), ENVIRONMENT, stdin=True, terminal=True, **options)
        screen = Screen(runner.run(command))
        assert screen.end() == Outcome(None, None, error)
        assert screen.text == b""
        screen.job.close()


def test_what_is_no_terminal_cannot_be_led():
    reading, writing = os.pipe()
    try:
        with pytest.raises(LaunchError, match=r"^cannot start /bin/true: it cannot have the terminal$"):
            launch(Command(("/bin/true",), ENVIRONMENT, "/", stdin=True, terminal=True), (reading,))
    finally:
        os.close(reading)
        os.close(writing)


# Whose it is


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_another_user_owns_it(on_screen):
    screen = on_screen("tty; id -un; stat -c '%U %a' $(tty); echo again > $(tty)", user="nobody")
    assert screen.end() == Outcome(0, None)
    mode = "620" if has_group_tty() else "600"
    assert screen.text.decode().split("\r\n")[1:-1] == ["nobody", f"nobody {mode}", "again"]


def has_group_tty():
    try:
        return bool(grp.getgrnam("tty"))
    except KeyError:
        return False


@pytest.mark.skipif(not ROOT, reason="only root can give a file away")
@pytest.mark.parametrize("known", [True, False])
def test_the_group_may_write_if_it_is_the_right_one(monkeypatch, known):
    def look_up(name):
        if not known:
            raise KeyError(name)
        return grp.struct_group(("tty", "x", 61234, []))

    monkeypatch.setattr(module.grp, "getgrnam", look_up)
    ours, theirs = open_terminal(1, 1)
    try:
        group = os.fstat(theirs).st_gid
        nobody = pwd.getpwnam("nobody").pw_uid
        give_to(theirs, nobody)
        status = os.fstat(theirs)
        assert status.st_uid == nobody
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == ((61234, 0o620) if known else (group, 0o600))
    finally:
        os.close(ours)
        os.close(theirs)


# When there is none


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "all are in use (/proc/sys/kernel/pty/max)"),
        (errno.EMFILE, "Too many open files"),
        (errno.ENOENT, "No such file or directory"),
    ],
)
def test_no_terminal_is_one_clear_error(monkeypatch, runner, code, reason):
    def refuse():
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module.os, "openpty", refuse)
    with pytest.raises(TerminalError) as caught:
        open_terminal(24, 80)
    assert str(caught.value) == f"cannot open a terminal: {reason}"
    with pytest.raises(RunnerError) as refused:
        runner.run(Command(("/bin/true",), ENVIRONMENT, "/", stdin=True, terminal=True))
    assert str(refused.value) == f"cannot open a terminal: {reason}"


@pytest.mark.parametrize("call", ["dup", "pipe2"])
def test_no_descriptors_beside_the_terminal(monkeypatch, runner, call):
    def refuse(*arguments):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(RunnerError, match=r"^cannot open a terminal: Too many open files$"):
            runner.run(Command(("/bin/true",), ENVIRONMENT, "/", stdin=True, terminal=True))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_terminal_is_made_non_blocking_and_not_inherited():
    ours, theirs = open_terminal(3, 4)
    try:
        assert not os.get_blocking(ours) and os.get_blocking(theirs)
        assert not os.get_inheritable(ours) and not os.get_inheritable(theirs)
        assert struct.unpack("HHHH", fcntl.ioctl(theirs, termios.TIOCGWINSZ, bytes(8))) == (3, 4, 0, 0)
        resize(ours, 5, 6)
        assert struct.unpack("HHHH", fcntl.ioctl(theirs, termios.TIOCGWINSZ, bytes(8))) == (5, 6, 0, 0)
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_order_comes_through_whole():
    from agent.orders import Run, receive, send_run

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = Command(("/bin/true",), ENVIRONMENT, "/", stdin=True, terminal=True, rows=9, columns=8)
    with ours, theirs:
        send_run(ours, command, [0])
        order = receive(theirs)
        assert isinstance(order, Run) and order.command == command and len(order.descriptors) == 1
        os.close(order.descriptors[0])
        send_run(ours, command, [0, 0])
        with pytest.raises(OSError, match="Too many open files"):
            receive(theirs)
