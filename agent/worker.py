"""A worker: a process with one thread that runs one command at a time, and sees to it that nothing is left of it.

It is a fork of the spawner, never of the agent with its threads, and is used again for the next command as long as it
has no descendants: then a command costs no more than a `Popen` and two datagrams. Its rules:

* The command is over when the shell exits. What the shell left behind lives on, without us: the worker reports, then
  exits, and the processes become init's.
* When the agent says so, or is gone, everything below the worker dies, and only then is the end reported.
"""

from __future__ import annotations

import errno
import os
import pwd
import select
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

from agent.cgroups import Cgroup
from agent.orders import Command, Ended, Kill, Outcome, Ready, Run, Started, receive, send
from agent.procs import Tree
from agent.program import Program
from agent.terminal import give_to, take_control

__all__ = ["GRACE", "IDLE_LIMIT", "LaunchError", "Worker", "launch"]

# From SIGTERM to SIGKILL, and how long killing may take, in seconds: together less than the five that are promised.
GRACE = 2.5
_KILL_LIMIT = 2.0
# A worker that had nothing to do for so long goes, in seconds.
IDLE_LIMIT = 60.0


class LaunchError(Exception):
    """A command that could not be started. `reason` is one sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class _Identity(TypedDict, total=False):
    """Popen's arguments for another user."""

    user: int
    group: int
    extra_groups: list[int]


def launch(command: Command, descriptors: tuple[int, ...]) -> int:
    """Start a command in a session of its own and return its process number. Raises LaunchError."""
    if not command.argv:
        raise LaunchError("no program is named")
    program = None
    try:
        if command.script:
            program, descriptors = Program(descriptors[0]), descriptors[1:]
        stdin, stdout, stderr = _standard_streams(command, descriptors)
        identity = _identity(command.user)
        _hand_over(command, descriptors, identity)
        process = subprocess.Popen(
            command.argv,
            executable=program.path if program else None,
            pass_fds=(program.fd,) if program else (),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=_directory(command, identity),
            env=command.environment,
            start_new_session=True,
            preexec_fn=take_control if command.terminal else None,  # there is one thread
            **identity,
        )
    except OSError as problem:
        raise LaunchError(_reason(command, program, problem)) from problem
    except ValueError as problem:  # a NUL; a variable without a name; a character that no byte stands for
        raise LaunchError(f"cannot start {command.argv[0]}: {problem}") from problem
    except subprocess.SubprocessError as problem:  # what `take_control` raises comes back as this
        raise LaunchError(f"cannot start {command.argv[0]}: it cannot have the terminal") from problem
    finally:
        if program is not None:
            program.close()
    process.returncode = 0  # we wait for it, with all its descendants: Popen must not
    return process.pid


class Worker:
    """The loop of a worker. Make and use it in the process that is the worker."""

    def __init__(
        self,
        channel: socket.socket,
        cgroup: Cgroup | None,
        *,
        idle_limit: float = IDLE_LIMIT,
        kill_limit: float = _KILL_LIMIT,
    ) -> None:
        self._channel = channel
        self._tree = Tree()
        self._cgroup = cgroup if cgroup is not None and cgroup.enter() else None
        self._idle_limit = idle_limit
        self._kill_limit = kill_limit
        self._poller = select.poll()
        self._poller.register(channel, select.POLLIN)

    def serve(self) -> None:
        """Obey until the agent is gone, there has been nothing to do for long, or a command left something."""
        self._tell(Ready(os.getpid()))
        again = True
        while again and self._wait_for_order():
            try:
                order = receive(self._channel)
            except OSError as problem:
                again = self._report(Outcome(None, None, error=f"cannot take the command: {problem.strerror}"))
                continue
            match order:
                case Run(command, descriptors):
                    again = self._run(command, descriptors)
                case None:
                    break
        if self._cgroup is not None and self._cgroup.leave():
            self._cgroup.remove()

    def _wait_for_order(self) -> bool:
        return bool(self._poller.poll(self._idle_limit * 1000))

    def _run(self, command: Command, descriptors: tuple[int, ...]) -> bool:
        """Run one command to its end. Returns whether this worker can take another."""
        try:
            job = launch(command, descriptors)
        except LaunchError as problem:
            return self._report(Outcome(None, None, error=problem.reason))
        finally:
            for fd in descriptors:
                os.close(fd)
        self._tree.watch(job)
        self._tell(Started(job))
        order = self._supervise()
        if order is not None:
            return self._kill(order.grace, hang_up=command.terminal)
        left = len(self._tree.living()) if self._tree.reap() else 0
        return self._report(self._outcome(left=left), again=not left)

    def _supervise(self) -> Kill | None:
        """Wait until the shell has exited, or the order to kill has come."""
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        poller.register(self._tree.fileno(), select.POLLIN)
        while True:
            ready = [fd for fd, _ in poller.poll()]
            if self._channel.fileno() in ready:
                order = receive(self._channel)
                return order if isinstance(order, Kill) else Kill(GRACE)  # the agent is gone
            self._tree.reap()
            if self._tree.status is not None:
                return None

    def _kill(self, grace: float, *, hang_up: bool) -> bool:
        left = 0
        if self._tree.terminate(grace, hang_up=hang_up):
            # Out of our own group first: it is killed as a whole.
            if self._cgroup is not None and self._cgroup.leave():
                self._cgroup.kill()
            if self._tree.kill(self._kill_limit):
                left = len(self._tree.living())
        error = f"could not kill all: {left} left" if left else None
        return self._report(self._outcome(left=left, error=error), again=False)

    def _outcome(self, *, left: int, error: str | None = None) -> Outcome:
        if self._tree.status is None:
            return Outcome(None, None, error=error, left=left)
        code = os.waitstatus_to_exitcode(self._tree.status)
        return Outcome(code, None, error, left) if code >= 0 else Outcome(None, -code, error, left)

    def _report(self, outcome: Outcome, *, again: bool = True) -> bool:
        self._tell(Ended(outcome, again))
        return again

    def _tell(self, message: Ready | Started | Ended) -> None:
        try:
            send(self._channel, message)
        except ConnectionError:
            pass  # the agent is gone; the next look at the channel says so


def _standard_streams(command: Command, descriptors: tuple[int, ...]) -> tuple[int, int, int]:
    if command.terminal:
        (terminal,) = descriptors
        return terminal, terminal, terminal
    *stdin, stdout, stderr = descriptors
    return stdin[0] if stdin else subprocess.DEVNULL, stdout, stderr


def _identity(user: str | None) -> _Identity:
    if user is None:
        return {}
    try:
        entry = pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise LaunchError(f"unknown user {user!r}") from None
    if os.geteuid() == 0:
        groups = os.getgrouplist(user, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}
    if os.geteuid() == entry.pw_uid:
        return {}
    raise LaunchError(f"the agent is not root and cannot become {user!r}")


def _hand_over(command: Command, descriptors: tuple[int, ...], identity: _Identity) -> None:
    """Let pipes or the terminal belong to their user, who could not open /dev/stdout or /dev/tty again otherwise."""
    if not identity:
        return
    if command.terminal:
        give_to(descriptors[0], identity["user"])
        return
    for fd in descriptors:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            try:
                os.fchown(fd, identity["user"], identity["group"])
            except PermissionError:  # root without that capability, in a container: the command can do without
                return


def _directory(command: Command, identity: _Identity) -> str:
    """Return where to start. Popen enters it while it is still root, who may enter everything.

    Raises OSError as chdir(2) would for the user.
    """
    if not (identity or command.home):
        return command.directory
    with _acting_as(identity):
        if os.access(command.directory, os.X_OK, effective_ids=True):
            return command.directory
        if command.home:
            return "/"  # as sshd does
        os.stat(command.directory)  # says what is wrong on the way to it
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), command.directory)


@contextmanager
def _acting_as(identity: _Identity) -> Iterator[None]:
    """Be another user for a moment. That is safe: a worker has one thread, and starts nothing meanwhile."""
    if not identity:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups(identity["extra_groups"])
        os.setegid(identity["group"])
        os.seteuid(identity["user"])
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _reason(command: Command, program: Program | None, problem: OSError) -> str:
    text = os.strerror(problem.errno or 0)
    if command.user is not None and problem.errno == errno.EPERM:
        return f"cannot become {command.user!r}: {text}"  # root, but without the capability
    if problem.filename == command.directory:
        return _DIRECTORY_REASONS.get(problem.errno or 0, f"cannot enter directory, {text}") + f": {problem.filename}"
    if problem.errno == errno.E2BIG:
        longest = max(len(os.fsencode(argument)) for argument in command.argv)
        limit = 32 * os.sysconf("SC_PAGE_SIZE") - 1  # MAX_ARG_STRLEN with its NUL, execve(2)
        if longest > limit:
            what = "an argument" if command.script else "the command"
            return f"{what} is too long: {longest} bytes, at most {limit}"
    if program is not None:
        return program.reason(command.argv[0], problem.errno or 0)
    return f"cannot start {command.argv[0]}: {text}"


_DIRECTORY_REASONS = {
    errno.ENOENT: "no such directory",
    errno.ENOTDIR: "not a directory",
    errno.EACCES: "no permission to enter directory",
}
