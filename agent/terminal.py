"""Pseudo-terminals: made by the agent, led by a command, sized as the controller's own (pty(7), tty_ioctl(4)).

Knows descriptors only: who starts what with them is the affair of `runner` (the agent's end) and `worker` (the
command's end). The rule: nothing of a terminal outlives its descriptors, so there is nothing to clear away.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import struct
import termios

__all__ = ["HOLDS", "TerminalError", "give_to", "open_terminal", "resize", "take_control"]

# Bytes that a terminal may hold of what was written and not yet read, at the most: 8 KiB and 4 KiB, and their slack.
# No call tells how many there are: FIONREAD leaves the first of the two buffers out.
HOLDS = 64 * 1024

_IUTF8 = 0o40000  # bits/termios.h: erasing takes a whole character. `termios` has no name for it


class TerminalError(Exception):
    """There is no terminal to be had. `reason` is for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot open a terminal: {self.reason}"


def open_terminal(rows: int, columns: int) -> tuple[int, int]:
    """Return a new terminal's two ends, the agent's and the command's. A size of 0 is an unknown one.

    Raises TerminalError.
    """
    try:
        ours, theirs = os.openpty()
    except OSError as problem:
        raise TerminalError(_reason(problem)) from problem
    attributes = termios.tcgetattr(theirs)
    attributes[0] |= _IUTF8
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    resize(ours, rows, columns)
    os.set_blocking(ours, False)
    return ours, theirs


def resize(terminal: int, rows: int, columns: int) -> None:
    """Set the size. The kernel tells the processes in the foreground (SIGWINCH) when it is another one."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def give_to(terminal: int, user: int) -> None:
    """Make the command's end the user's, who must be able to open it again as /dev/tty's own name.

    The group `tty`, where there is one, may write to it, as `write` and `wall` do; nobody else.
    """
    try:
        group = grp.getgrnam("tty").gr_gid
    except KeyError:
        os.fchown(terminal, user, -1)
        os.fchmod(terminal, 0o600)
        return
    os.fchown(terminal, user, group)
    os.fchmod(terminal, 0o620)


def take_control() -> None:
    """Make standard input the terminal that controls this process's session, which it leads."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _reason(problem: OSError) -> str:
    if problem.errno == errno.ENOSPC:  # of /dev/ptmx, which has nothing to do with a disk
        return "all are in use (/proc/sys/kernel/pty/max)"
    return os.strerror(problem.errno or 0)
