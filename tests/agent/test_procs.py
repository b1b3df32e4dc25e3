"""What /proc tells, and the tree: found by both ways that Linux offers, and never confused with anybody else."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from agent import procs
from agent.procs import Stat, Tree, descendants, exit_after, kill_session, reset_signals, stat


def test_stat_of_a_name_made_to_confuse(tmp_path):
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/sleep")
    process = subprocess.Popen([odd, "1000"], start_new_session=True)
    try:
        now = stat(process.pid)
        assert now == Stat(now.state, os.getpid(), process.pid, process.pid)
        assert now.alive
    finally:
        process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert stat(process.pid).state == "Z" and not stat(process.pid).alive
    process.wait()
    assert stat(process.pid) is None


@pytest.mark.parametrize("children_files", [True, False], ids=["children files", "scan of all"])
def test_descendants(monkeypatch, children_files):
    if not children_files:
        monkeypatch.setattr(procs.os.path, "exists", lambda path: False)
    text = "setsid sh -c 'sleep 1000 & echo $! $$; wait' & wait"
    with subprocess.Popen(["/bin/sh", "-c", text], stdout=subprocess.PIPE, text=True) as shell:
        sleep, inner = map(int, shell.stdout.readline().split())
        assert list(descendants(shell.pid)) == [inner, sleep]
        assert list(descendants(sleep)) == []
        for pid in (shell.pid, inner, sleep):
            os.kill(pid, signal.SIGKILL)


def test_descendants_are_yielded_before_their_children_are_looked_for():
    """Whoever kills while reading gives a fork storm no time."""
    text = "sh -c 'sleep 1000 & echo $!; wait' & wait"
    with subprocess.Popen(["/bin/sh", "-c", text], stdout=subprocess.PIPE, text=True) as shell:
        sleep = int(shell.stdout.readline())
        found = descendants(shell.pid)
        inner = next(found)
        handle = os.pidfd_open(inner)
        os.kill(inner, signal.SIGKILL)
        assert select.select([handle], [], [], 20)[0]
        os.close(handle)
        assert list(found) == []
        os.kill(sleep, signal.SIGKILL)
        shell.kill()


def test_descendants_of_a_process_that_is_gone():
    with subprocess.Popen(["/bin/true"]) as process:
        pass
    assert list(descendants(process.pid)) == []
    assert procs._children(process.pid) == []


def test_kill_session_takes_one_session_and_no_more():
    text = "setsid sh -c 'echo $$; exec sleep 1000' & sh -m -c 'sleep 1000 & echo up; wait' & wait"
    with subprocess.Popen(["/bin/sh", "-c", text], stdout=subprocess.PIPE, text=True, start_new_session=True) as shell:
        lines = {shell.stdout.readline(), shell.stdout.readline()} - {"up\n"}
        outsider = os.pidfd_open(int(lines.pop()))
        kill_session(shell.pid)
        assert shell.wait(20) == -signal.SIGKILL
        assert not select.select([outsider], [], [], 0)[0]
        signal.pidfd_send_signal(outsider, signal.SIGKILL)
        assert shell.stdout.read() == ""  # the others had it open
        os.close(outsider)


@pytest.mark.parametrize("group", [0, 1, os.getpgrp()])
def test_no_signal_ever_goes_to_ourselves_or_to_everybody(group, monkeypatch):
    sent = []
    monkeypatch.setattr(procs.os, "killpg", lambda *arguments: sent.append(arguments))
    procs._signal_group(group if group <= 1 else os.getpgrp(), signal.SIGKILL)
    assert sent == []
    procs._signal_group(2, signal.SIGKILL)
    assert sent == [(2, signal.SIGKILL)]


def test_a_signal_to_a_group_that_is_gone_or_not_ours(child, stranger):
    with subprocess.Popen(["/bin/true"], start_new_session=True) as process:
        pass
    procs._signal_group(process.pid, signal.SIGKILL)
    with subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True) as process:
        child(lambda: procs._signal_group(process.pid, signal.SIGKILL), uid=stranger)
        if stranger is not None:
            assert process.poll() is None
        process.terminate()


def test_reset_signals(child):
    def scenario():
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGRTMAX})
        reset_signals()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
        assert signal.getsignal(signal.SIGUSR1) is signal.getsignal(signal.SIGRTMIN) is signal.SIG_DFL
        ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
        assert ignored == {signal.SIGPIPE, signal.SIGXFSZ}
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            os.kill(os.getpid(), number)  # and we live

    child(scenario)


def test_exit_after_never_comes_back(capfd):
    def status_of(function):
        pid = os.fork()
        if pid == 0:
            try:
                sys.excepthook = sys.__excepthook__
                sys.stderr = sys.__stderr__
                exit_after(function)
            finally:
                os.write(2, b"came back")  # the finally of the caller
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert status_of(lambda: None) == 0
    assert capfd.readouterr().err == ""
    assert status_of(lambda: 1 // 0) == 1
    assert status_of(sys.exit) == 1
    errors = capfd.readouterr().err
    assert "ZeroDivisionError" in errors and "came back" not in errors


def test_a_tree_keeps_the_status_of_the_watched_process_alone(child):
    def scenario():
        tree = Tree()
        assert not tree.reap()
        other = subprocess.Popen(["/bin/sh", "-c", "exit 1"])
        watched = subprocess.Popen(["/bin/sh", "-c", "exit 2"])
        tree.watch(watched.pid)
        assert tree.status is None
        while tree.reap():
            assert select.select([tree.fileno()], [], [], 20)[0]
        assert os.waitstatus_to_exitcode(tree.status) == 2
        assert not select.select([tree.fileno()], [], [], 0)[0]
        tree.watch(other.pid)
        assert tree.status is None
        other.returncode = watched.returncode = 0

    child(scenario)


def test_a_tree_that_grows_as_fast_as_it_is_read_does_not_hold_the_reader(child, monkeypatch):
    def scenario():
        def endless(root):
            while True:
                yield process.pid

        process = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
        process.returncode = 0
        tree = Tree()
        with monkeypatch.context() as patch:
            patch.setattr(procs, "_signal_group", lambda group, number: None)
            patch.setattr(procs, "descendants", endless)
            assert tree.terminate(0.01)
            assert tree.kill(0.01)
        assert tree.living() == [process.pid]
        assert tree.terminate(20) is False

    child(scenario)


def test_all_are_found_before_the_first_is_asked_and_each_is_killed_when_found(child, monkeypatch):
    """A parent that ends at once would hide its children; one that is not killed at once has more of them."""

    def scenario():
        def listed(root):
            for _ in range(2):
                events.append("found")
                yield process.pid

        process = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
        process.returncode = 0
        tree = Tree()
        events = []
        monkeypatch.setattr(procs, "descendants", listed)
        monkeypatch.setattr(procs, "_signal_group", lambda group, number: events.append(number))
        tree.terminate(0.0)
        assert events == ["found", signal.SIGTERM, signal.SIGCONT]  # in no time only the first
        events.clear()
        tree.terminate(0.01)
        assert events == ["found", "found", signal.SIGTERM, signal.SIGCONT]
        events.clear()
        tree.kill(0.001)
        os.kill(process.pid, signal.SIGKILL)
        assert events[:4] == ["found", signal.SIGKILL, "found", signal.SIGKILL]

    child(scenario)


def test_a_kernel_that_knows_no_subreaper(child, monkeypatch):
    class Libc:
        def prctl(self, *arguments):
            return -1

    monkeypatch.setattr(procs, "_LIBC", Libc())
    with pytest.raises(OSError, match="cannot become a child subreaper"):
        Tree()
