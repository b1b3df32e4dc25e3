"""A script as the kernel runs it: from an open descriptor, so that it needs no name, and no folder to lie in.

It is executed as /proc/self/fd/N, and its interpreter opens that name once more; the descriptor therefore stays open in
the command. The rule: whatever may not be executed is said in the words of who wrote the script.
"""

from __future__ import annotations

import errno
import fcntl
import os

__all__ = ["Program"]

# Scripts use small numbers for themselves (`exec 3>log`, `exec 9>lock`), and still read "$0" afterwards.
_OUT_OF_THE_WAY = 100
_FIRST_LINE = 256  # bytes that the kernel reads of it, execve(2)


class Program:
    """A script that can be executed. `fd` is ours, and stays the caller's to close by `close`."""

    def __init__(self, fd: int) -> None:
        """Take a copy of `fd`. Raises OSError."""
        try:
            self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
        except OSError:  # fewer descriptors are allowed (EINVAL), or none is left
            self.fd = os.dup(fd)

    @property
    def path(self) -> str:
        """Return the path to execute."""
        return f"/proc/self/fd/{self.fd}"

    def close(self) -> None:
        """Give the copy back."""
        os.close(self.fd)

    def reason(self, name: str, code: int) -> str:
        """Return why execve(2) refused to run the script `name`; `code` is its errno."""
        if code == errno.EACCES and os.fstatvfs(self.fd).f_flag & os.ST_NOEXEC:
            return f"cannot run {name}: no program may lie in memory here (vm.memfd_noexec), nor in the agent's folder"
        text = os.strerror(code)
        line = os.pread(self.fd, _FIRST_LINE, 0)
        if not line.startswith(b"#!"):
            more = {errno.ENOENT: "the loader that it names is not there", errno.ENOEXEC: "no program for this machine"}
            return f"cannot run {name}: {more.get(code, text)}"
        words = line[2:].partition(b"\n")[0].split()
        interpreter = os.fsdecode(words[0]) if words else "nothing"
        if code == errno.ENOENT:
            return f"cannot run {name}: its interpreter {interpreter} is not there"
        if code == errno.ENOEXEC:
            return f"cannot run {name}: its first line names no interpreter in {_FIRST_LINE - 1} bytes"
        return f"cannot run {name} with {interpreter}: {text}"
