"""Processes as /proc shows them, and the tree below one process: watched, told to stop, killed to the last one.

Nothing here knows of jobs, sockets or cgroups. The rule of the tree: the process that owns it is a child subreaper,
so whatever a command does (setsid, double fork, nohup, an empty environment) its orphans become our children and never
init's. "No child left" therefore means "no descendant left", and is the one proof of it that a race cannot spoil.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from agent.wire.record import record

__all__ = ["Stat", "Tree", "descendants", "exit_after", "kill_session", "reset_signals", "stat"]

# Loaded here, so that the spawner does it once and not each worker.
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
# Between two rounds of killing, in seconds. A death ends the pause early.
_PAUSE = 0.002
# Python ignores these two at its start; it gives its children the default back (Popen's restore_signals), and our own
# writes to a closed socket must stay errors.
_KEPT_IGNORED = {signal.SIGPIPE, signal.SIGXFSZ}
# Not for us to die of: a terminal's Ctrl-C, or a service manager that signals every process of the unit, must reach
# the agent and the commands. We end when the agent does.
_UNHEARD = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


@record
class Stat:
    """The first fields of proc_pid_stat(5)."""

    state: str
    parent: int
    group: int
    session: int

    @property
    def alive(self) -> bool:
        """Whether it can still do anything: a zombie only waits for its parent."""
        return self.state not in "ZX"


def stat(pid: int) -> Stat | None:
    """Return what /proc tells about a process, None when there is none of that number."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold blanks and brackets: only what stands behind the last bracket is safe to split.
    state, parent, group, session = text[text.rindex(b")") + 2 :].split(maxsplit=4)[:4]
    return Stat(state.decode(), int(parent), int(group), int(session))


def descendants(root: int) -> Iterator[int]:
    """Yield every process below `root`, each before its own children are looked for.

    So whoever stops or kills as it goes meets a tree that cannot grow behind its back. What forks or dies meanwhile
    may still be missing, gone, or come twice.
    """
    # A kernel without CONFIG_PROC_CHILDREN leaves only to look at all processes.
    by_file = os.path.exists(f"/proc/{root}/task/{root}/children")
    list_children = _children if by_file else _children_by_scan()
    found = [root]
    while found:
        for child in list_children(found.pop()):
            yield child
            found.append(child)


def kill_session(session: int) -> None:
    """Kill (SIGKILL) every process of a session that can be found. For a tree whose owner is dead."""
    for pid in _all_pids():
        if (now := stat(pid)) is not None and now.session == session:
            _signal_group(now.group, signal.SIGKILL)


def reset_signals() -> None:
    """Give this process, and so its children, the default action for each signal and an empty mask.

    Whoever started the agent may have ignored or blocked some (nohup, a shell's ``&``, a daemon tool), and exec keeps
    both; a command that ignores SIGINT or SIGTERM for no reason of its own cannot be stopped properly.
    """
    for number in signal.valid_signals() - _KEPT_IGNORED - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    for number in _UNHEARD:
        signal.signal(number, _unheard)  # a handler, not SIG_IGN: exec turns it back into the default
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def exit_after(function: Callable[[], None]) -> NoReturn:
    """Call `function` in a forked process and end the process there, whatever happens: the caller's frames, its
    ``finally`` blocks and its buffered output belong to the process it was forked from."""
    status = 1
    try:
        function()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


class Tree:
    """All processes below this one. Make it once, in a process that has one thread and no children yet."""

    def __init__(self) -> None:
        if _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot become a child subreaper")
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _unheard)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._poller = select.poll()
        self._poller.register(self._woken, select.POLLIN)
        self._watched = 0
        self.status: int | None = None  # how the watched process ended, in the form of waitpid(2)

    def fileno(self) -> int:
        """Return a descriptor that is readable when some child may have ended."""
        return self._woken

    def watch(self, pid: int) -> None:
        """Keep the status of this child when it ends. It must not have been reaped yet."""
        self._watched = pid
        self.status = None

    def reap(self) -> bool:
        """Take the status of every child that has ended. Returns whether there are others. Never blocks."""
        self._drain()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._watched:
                self.status = status

    def living(self) -> list[int]:
        """Return the processes that are not dead, at this moment."""
        return [pid for pid in set(descendants(os.getpid())) if (now := stat(pid)) and now.alive]

    def terminate(self, grace: float, *, hang_up: bool = False) -> bool:
        """Ask every process to end and wait at most `grace` seconds. Returns whether any is left.

        With `hang_up` they are told that their terminal has gone: a shell that people type at ignores SIGTERM.
        """
        end = time.monotonic() + grace
        # All are found first: a child whose parent ends at once would be missed.
        for group in set(self._groups(end)):
            if hang_up:
                _signal_group(group, signal.SIGHUP)
            _signal_group(group, signal.SIGTERM)
            _signal_group(group, signal.SIGCONT)  # a stopped process acts on SIGTERM only then
        while left := self.reap():
            seconds = end - time.monotonic()
            if seconds <= 0:
                break
            self._pause(seconds)
        return left

    def kill(self, limit: float) -> bool:
        """Kill every process, at most for `limit` seconds. Returns whether any is left: one in an uninterruptible
        sleep, or one that belongs to another user."""
        end = time.monotonic() + limit
        while left := self.reap():
            for group in self._groups(end):
                _signal_group(group, signal.SIGKILL)
            self._pause(_PAUSE)
            if time.monotonic() >= end:
                break
        return left and self.reap()

    def _groups(self, end: float) -> Iterator[int]:
        """Yield the process groups below while they are found, until the time `end`: a tree may grow as fast as it
        is read. To signal a group is atomic where its members one by one are a race: none of them can fork while a
        signal for it is pending."""
        for pid in descendants(os.getpid()):
            # A group never reaches beyond its session, and each command has its own: nobody else is in it. Asked
            # for just before it is used, since numbers are given out again.
            if (now := stat(pid)) is not None:
                yield now.group
            if time.monotonic() >= end:
                return

    def _pause(self, seconds: float) -> None:
        self._poller.poll(seconds * 1000)

    def _drain(self) -> None:
        try:
            os.read(self._woken, 4096)
        except BlockingIOError:
            pass


def _signal_group(group: int, number: signal.Signals) -> None:
    if group == os.getpgrp() or group <= 1:
        return  # not below us: a number that was given out again between listing and looking
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # gone; or made setuid by the command, and not ours to end
        pass


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):  # it, or one of its threads, has just ended
        pass
    return found


def _children_by_scan() -> Callable[[int], list[int]]:
    families: dict[int, list[int]] = {}
    for pid in _all_pids():
        if (now := stat(pid)) is not None:
            families.setdefault(now.parent, []).append(pid)
    return lambda parent: families.get(parent, [])


def _all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _unheard(_number: int, _frame: object) -> None:
    """Do nothing."""
