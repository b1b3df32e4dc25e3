"""The spawner: a small process with one thread, forked from the agent before the agent had any other.

It forks workers on demand and does nothing else. To fork the agent itself would be unsafe, since another thread may
hold any lock at that moment, and slow, since the agent is large; a new interpreter for each worker would cost ten times
the fork. It ends when the agent does.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import time
from functools import partial
from typing import NoReturn

from agent import oom
from agent.cgroups import Cgroup, sweep
from agent.orders import Ended, Outcome, send
from agent.procs import exit_after, reset_signals
from agent.worker import Worker

__all__ = ["MAX_TOKEN", "begin", "spawn_until_closed"]

MAX_TOKEN = 64
# A sweep touches every group there is: one before each fork made 2,000 forks cost two million of them. In seconds.
_SWEEP_EVERY = 10.0


def spawn_until_closed(control: socket.socket, home: str | None, points: str | None = None) -> NoReturn:
    """Be the spawner. Call it in the forked process. Each datagram on `control` is a token, by which the worker's
    group is named, and the worker's end of its channel. `home` is where groups are made, None for no groups. `points`
    is what workers give to `oom.restore`."""
    exit_after(lambda: _serve(_cut_loose(control), home, points))


def begin(control: str, home: str, points: str, files: str) -> NoReturn:
    """Be the spawner in a new interpreter, which was told all in words: the descriptor, the folder and the points of
    `spawn_until_closed` (empty for None), and how many files a command may have open (RLIMIT_NOFILE)."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), most))
    spawn_until_closed(socket.socket(fileno=int(control)), home or None, points or None)


def _serve(control: socket.socket, home: str | None, points: str | None) -> None:
    swept = time.monotonic()  # the runner has swept at its start
    while True:
        token, descriptors, _, _ = socket.recv_fds(control, MAX_TOKEN, 1)
        if not token:
            # A command may have stopped its worker (`kill -STOP $PPID`): it must learn that the agent is gone.
            os.killpg(0, signal.SIGCONT)
            _wait_for_workers()
            return
        if not descriptors:
            continue  # no room for it under our limit: the agent sees the channel closed
        channel = socket.socket(fileno=descriptors[0])
        if home is not None and time.monotonic() >= swept + _SWEEP_EVERY:
            sweep(home)
            swept = time.monotonic()
        try:
            pid = os.fork()
        except OSError as problem:
            _refuse(channel, problem)
            pid = -1
        if pid == 0:
            control.close()
            oom.restore(points)
            cgroup = Cgroup.named(home, token.decode()) if home is not None else None
            exit_after(partial(_work, channel, cgroup))
        channel.close()


def _wait_for_workers() -> None:
    """Be the last to go: when the agent has seen us end, nothing of it is left on the machine."""
    try:
        while True:  # with SIGCHLD ignored this returns only to say that there is nobody any more (wait(2))
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass


def _work(channel: socket.socket, cgroup: Cgroup | None) -> None:
    Worker(channel, cgroup).serve()


def _refuse(channel: socket.socket, problem: OSError) -> None:
    reason = f"cannot start a worker: {os.strerror(problem.errno or 0)}"
    try:
        send(channel, Ended(Outcome(None, None, error=reason), again=False))
    except ConnectionError:
        pass  # the agent no longer wants to know


def _cut_loose(control: socket.socket) -> socket.socket:
    """Let go of all that was inherited: descriptors, terminal, signal handling, directory, file mode mask."""
    kept = socket.socket(fileno=fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, 3))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)  # 2 stays: if we fail, the agent's log should show it
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != kept.fileno():
            os.closerange(fd, fd + 1)
    os.setsid()
    reset_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers are nobody's to wait for
    os.chdir("/")
    os.umask(0o022)
    return kept
