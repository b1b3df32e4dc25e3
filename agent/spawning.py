"""The agent's end of the spawner: to start it, to ask it for workers, and to start another when it has died.

The first is forked while the agent has one thread, and costs nothing. Should somebody kill it (the kernel, when memory
runs out), a new interpreter takes its place: the agent has threads by then and cannot be forked. Nothing that runs
notices, since workers answer to the agent and not to the spawner.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys

from agent import oom
from agent.spawner import spawn_until_closed

__all__ = ["Spawner"]

# The path is where this very program was found: the archive, or the folder it is installed in.
_AGAIN = "import sys; sys.path[:] = sys.argv[5:]; from agent.spawner import begin; begin(*sys.argv[1:5])"


class Spawner:
    """A spawner that runs. Not for several threads at once.

    `home` is where groups are made, None for no groups.
    """

    def __init__(self, control: socket.socket, pid: int, home: str | None, points: str | None, files: int) -> None:
        self._control = control
        self.pid = pid
        self._home = home
        self._points = points
        self._files = files

    @classmethod
    def fork(cls, home: str | None) -> Spawner:
        """Fork the first one. Raises OSError."""
        points = oom.protect()
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                control.close()
                raise
            if pid == 0:
                spawn_until_closed(theirs, home, points)
        return cls(control, pid, home, points, files)

    def ask(self, token: str, channel: socket.socket) -> None:
        """Have a worker forked, whose end of its channel is `channel`. Raises OSError, when it has died
        ConnectionError."""
        socket.send_fds(self._control, [token.encode()], [channel.fileno()])

    def replace(self) -> None:
        """Start another in the place of one that has died. Raises OSError."""
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            arguments = (str(theirs.fileno()), self._home or "", self._points or "", str(self._files))
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _AGAIN, *arguments, *map(os.path.abspath, sys.path)],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                )
            except OSError:
                control.close()
                raise
        process.returncode = 0  # we wait for it by its number, as for the first
        self._control.close()
        self._reap(block=False)
        self._control, self.pid = control, process.pid

    def close(self) -> None:
        """Tell it to go, once all workers have gone."""
        self._control.close()

    def wait(self, limit: float) -> None:
        """Wait until it has gone after `close`, at most so many seconds; then it is killed."""
        try:
            handle = os.pidfd_open(self.pid)
            try:
                if not select.select([handle], [], [], limit)[0]:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)  # stopped, perhaps
                self._reap(block=True)
            finally:
                os.close(handle)
        except ProcessLookupError:
            pass

    def _reap(self, *, block: bool) -> None:
        try:
            os.waitpid(self.pid, 0 if block else os.WNOHANG)
        except ChildProcessError:
            pass  # somebody else has waited for it: the agent may be process 1 of a container
