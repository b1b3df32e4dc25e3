"""A command that looks at a new file before it takes the place of the old one: `nginx -t -c %s`, `visudo -cf %s`.

It runs as every command does, in a tree that can be killed, but for its output: what it says is kept as far as a
person reads it. Its pipes and its end are polled as one descriptor.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
from collections.abc import Callable

from agent.environment import account, clean_environment
from agent.runner import Command, Job, Outcome, Runner, RunnerError
from agent.tree.errors import FileError

__all__ = ["LIMIT", "Validator"]

LIMIT = 60.0  # seconds
_KEPT = 2000  # bytes of output


class Validator:
    """A running validation. See `agent.tree.committer.Validation`."""

    def __init__(
        self, runner: Runner, shell: str, command: str, path: str, *, host: str, run: str, clock: Callable[[], float]
    ) -> None:
        """Start `command`, in which `%s` stands for the quoted `path`. Raises FileError."""
        who = account()
        text = command.replace("%s", shlex.quote(path))
        environment = clean_environment(who, host=host, run=run, extra={})
        try:
            self._job: Job = runner.run(Command((shell, "-c", text), environment, who.directory))
        except RunnerError as error:
            raise FileError("validate", error.reason) from None
        self._clock = clock
        self._deadline = clock() + LIMIT
        self._late = False
        self._output = b""
        self._poller = select.epoll()
        for fd in (self._job.fileno(), self._job.stdout, self._job.stderr):
            self._poller.register(fd, select.EPOLLIN)

    def fileno(self) -> int:
        """Return what turns readable when there is something to `poll`."""
        return self._poller.fileno()

    def seconds_left(self) -> float:
        """Return when `poll` wants to be called at the latest."""
        return max(0.0, self._deadline - self._clock())

    def poll(self) -> str | None:
        """Return None while it runs, "" when it was content, else what is wrong."""
        if self._clock() >= self._deadline and not self._late:
            self._late = self._job.kill()
        self._read(self._job.stdout)
        self._read(self._job.stderr)
        outcome = self._job.poll()
        if outcome is None:
            return None
        self._read(self._job.stdout)
        self._read(self._job.stderr)
        return self._verdict(outcome)

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._poller.close()
        self._job.close()

    def _read(self, fd: int) -> None:
        """Take what is in a pipe, so that the command does not stand still."""
        while True:
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                return
            if not data:
                self._forget(fd)
                return
            self._output += data[: _KEPT - len(self._output)]

    def _forget(self, fd: int) -> None:
        try:
            self._poller.unregister(fd)
        except FileNotFoundError:  # an end is seen each time one looks
            pass

    def _verdict(self, outcome: Outcome) -> str:
        if self._late:
            return f"the command was killed after {LIMIT:.0f} s"
        if outcome.error is not None:
            return outcome.error
        if outcome.code == 0:
            return ""
        how = f"exit {outcome.code}" if outcome.code is not None else signal.Signals(outcome.signal or 0).name
        said = self._output.decode("utf-8", "replace").strip()
        return f"{how}: {said}" if said else how
