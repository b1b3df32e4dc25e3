"""Commands, started and watched from the agent's threads without ever blocking them.

The agent starts no process itself. `Runner.start` forks the spawner while there is one thread; the spawner forks
workers; a worker starts the command, waits for it and kills its tree (`agent.worker`). Here are only the agent's ends:
pipes, one channel for each worker, and the pool of those that wait. The rule: closing a channel is enough to have
everything behind it end, and the kernel does that also when the agent is killed.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
import time
from types import TracebackType

from agent import cgroups, procs
from agent.cgroups import Cgroup
from agent.orders import Command, Ended, Kill, Outcome, Ready, Started, receive, send, send_run
from agent.spawning import Spawner
from agent.terminal import TerminalError, open_terminal, resize
from agent.worker import GRACE, IDLE_LIMIT

__all__ = ["GRACE", "Command", "Job", "Outcome", "Runner", "RunnerError", "enlarge"]

_PIPE_SIZE = 1 << 20
# As many as the controller's default fan-out, so that a wave of commands finds the workers of the wave before it.
_MAX_IDLE = 64
# Workers leave by themselves at IDLE_LIMIT; so near to it none gets a command, which might be lost. In seconds.
_FRESH = IDLE_LIMIT - 10
# For the workers to end, and with them what they ran: a killed tree is dead within five seconds. In seconds.
_CLOSE_LIMIT = 6.0


class RunnerError(Exception):
    """Nothing can be started at present. `action` is what failed, `reason` why."""

    def __init__(self, action: str, reason: str) -> None:
        super().__init__(action, reason)
        self.action = action
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot {self.action}: {self.reason}"


class _Worker:
    """The agent's end of one worker's channel, and what is known of the worker."""

    def __init__(self, channel: socket.socket, cgroup: Cgroup | None) -> None:
        self.channel = channel
        self.cgroup = cgroup
        self.idle_since = 0.0
        self.pid: int | None = None
        self.session: int | None = None  # that of the command

    def kill_orphans(self) -> None:
        """Kill what a dead worker left. Without a group that finds only what stayed in the command's session."""
        if self.cgroup is not None:
            self.cgroup.kill()
        if self.session is not None:
            procs.kill_session(self.session)


class Job:
    """A command that runs, or has ended. It belongs to one thread, which polls `fileno()` and its pipes.

    `stdout` and `stderr` are the reading ends, `stdin` the writing end (None when there is none, or when it is closed);
    all are non-blocking. They hold an EOF as soon as nobody else has them open, which may be long after the outcome.
    With a `terminal`, `stdin` and `stdout` are both the agent's end of it (where the EOF is an EIO) and `stderr` is at
    its end from the start.
    """

    def __init__(
        self,
        runner: Runner,
        worker: _Worker,
        stdout: int,
        stderr: int,
        stdin: int | None,
        *,
        terminal: bool = False,
    ) -> None:
        self._runner = runner
        self._worker = worker
        self._outcome: Outcome | None = None
        self._again = False
        self._killed = False
        self._closed = False
        self._terminal = terminal
        self.stdout = stdout
        self.stderr = stderr
        self.stdin = stdin

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor that is readable when `poll` has news. Not to be polled after the outcome."""
        return self._worker.channel.fileno()

    def poll(self) -> Outcome | None:
        """Return how the command ended, None while it runs. Never blocks."""
        while self._outcome is None:
            try:
                message = receive(self._worker.channel)
            except BlockingIOError:
                return None
            match message:
                case Ready(pid):
                    self._worker.pid = pid
                case Started(pid):
                    self._worker.session = pid
                case Ended(outcome, again):
                    self._outcome, self._again = outcome, again
                case _:
                    self._outcome = self._lost()
        return self._outcome

    def kill(self, grace: float = GRACE) -> bool:
        """Have the command and everything it started killed: SIGTERM, after `grace` seconds SIGKILL. Never blocks;
        the outcome comes as always, when all are dead. Only the first call counts. Returns False when there is nothing
        to kill: it has ended, and `fileno()`, with no more news of that, is not to be polled any more."""
        if self.poll() is not None:
            return False
        if self._killed:
            return True
        self._killed = True
        try:
            send(self._worker.channel, Kill(grace))
        except OSError:  # it is dead: `poll` will find out
            pass
        self._wake_worker()
        return True

    def close_stdin(self) -> None:
        """Let the command see the end of its input; a terminal hangs up (SIGHUP), and what it held is lost."""
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None
            if self._terminal:
                os.dup2(self.stderr, self.stdout, inheritable=False)  # so that it, too, is at its end

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size. Without one, or when it has hung up, nothing happens."""
        if self._terminal and self.stdin is not None:
            resize(self.stdin, rows, columns)

    def close(self) -> None:
        """Close the pipes and give the worker back. A command that still runs is killed, and nobody waits for it."""
        if self._closed:
            return
        self._closed = True
        self.close_stdin()
        os.close(self.stdout)
        os.close(self.stderr)
        if self.poll() is None:
            self._wake_worker()
        self._runner._give_back(self._worker, again=self._again)

    def _lost(self) -> Outcome:
        """The worker died, which no worker does by itself: somebody killed it, perhaps the command."""
        self._worker.kill_orphans()
        if self._worker.session is None:
            return Outcome(None, None, error="the worker died, perhaps before it started the command")
        return Outcome(None, signal.SIGKILL)

    def _wake_worker(self) -> None:
        # A command may have stopped its parent process (`kill -STOP $PPID`): it could neither hear nor obey us.
        if self._worker.pid is not None:
            try:
                os.kill(self._worker.pid, signal.SIGCONT)
            except OSError:  # gone, and the number with it
                pass


class Runner:
    """Starts commands. `run` may be called from any thread."""

    def __init__(self, spawner: Spawner, home: str | None) -> None:
        self._home = home
        self._lock = threading.Lock()  # guards the four below
        self._spawner = spawner
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False

    @classmethod
    def start(cls, *, cgroup: bool = True) -> Runner:
        """Fork the spawner and return. To be called before any thread exists, before limits are raised, and as early
        as possible: the spawner keeps what is in memory now. `cgroup` says whether to use groups where possible.

        Raises OSError.
        """
        home = cgroups.own_directory() if cgroup else None
        if home is not None:
            cgroups.sweep(home)
        return cls(Spawner.fork(home), home)

    def run(self, command: Command, script: int | None = None) -> Job:
        """Start a command. That it could not be started may also come later, as the outcome's `error`.
        `script` is the program of a command with `script`, open for reading; it stays the caller's.

        Raises RunnerError when nothing can be started: no descriptors or terminals are left, or the spawner is gone.
        """
        ours, theirs = _make_terminal(command) if command.terminal else _make_pipes(2 + command.stdin)
        try:
            worker = self._hand_over(command, theirs if script is None else [script, *theirs])
        except RunnerError:
            _close(ours)
            raise
        finally:
            _close(theirs)
        *stdin, stdout, stderr = ours
        return Job(self, worker, stdout, stderr, stdin[0] if stdin else None, terminal=command.terminal)

    def close(self) -> None:
        """Let the spawner and the idle workers go. What still runs is killed; its jobs learn of it as always."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for worker in self._idle:
                worker.channel.close()
            for worker in self._busy:
                worker.channel.shutdown(socket.SHUT_WR)  # to close it is up to the thread that owns the job
            self._idle.clear()
            self._spawner.close()
        self._spawner.wait(_CLOSE_LIMIT)

    def _hand_over(self, command: Command, descriptors: list[int]) -> _Worker:
        while True:
            worker = self._take()
            try:
                send_run(worker.channel, command, descriptors)
                return worker
            except ConnectionError:
                if not worker.idle_since:
                    return worker  # the spawner could not fork it, and has left us a message that says why
                self._give_back(worker, again=False)  # somebody killed it while it was idle
            except OSError as problem:
                self._give_back(worker, again=True)
                raise RunnerError("hand over the command", os.strerror(problem.errno or 0)) from problem

    def _take(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise RunnerError("start a command", "the runner is closed")
            oldest = time.monotonic() - _FRESH
            while self._idle and self._idle[0].idle_since < oldest:
                self._idle.pop(0).channel.close()
            worker = self._idle.pop() if self._idle else self._new_worker()
            self._busy.add(worker)
            return worker

    def _new_worker(self) -> _Worker:
        token = os.urandom(8).hex()
        try:
            channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as problem:
            raise RunnerError("make a channel to a worker", os.strerror(problem.errno or 0)) from problem
        with theirs:
            try:
                self._ask(token, theirs)
            except OSError as problem:
                channel.close()
                raise RunnerError("reach the spawner", os.strerror(problem.errno or 0)) from problem
        channel.setblocking(False)
        return _Worker(channel, Cgroup.named(self._home, token) if self._home is not None else None)

    def _ask(self, token: str, channel: socket.socket) -> None:
        try:
            self._spawner.ask(token, channel)
        except ConnectionError:
            from agent.log import log  # workers are forks of what has been imported, and have no log

            log.error("the process that starts commands has died: starting another")
            self._spawner.replace()
            self._spawner.ask(token, channel)

    def _give_back(self, worker: _Worker, *, again: bool) -> None:
        with self._lock:
            self._busy.discard(worker)
            keep = again and not self._closed and len(self._idle) < _MAX_IDLE
            if keep:
                worker.idle_since = time.monotonic()
                worker.session = None
                self._idle.append(worker)
        if not keep:
            worker.channel.close()


def _make_pipes(count: int) -> tuple[list[int], list[int]]:
    """Return our ends and the command's: of stdin if `count` is 3, of stdout and of stderr."""
    ours: list[int] = []
    theirs: list[int] = []
    try:
        for number in range(count):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            is_stdin = count - number == 3
            mine = writing if is_stdin else reading
            ours.append(mine)
            theirs.append(reading if is_stdin else writing)
            os.set_blocking(mine, False)
            if is_stdin:
                enlarge(mine)
    except OSError as problem:
        _close(ours + theirs)
        raise RunnerError("make pipes", os.strerror(problem.errno or 0)) from problem
    return ours, theirs


def _make_terminal(command: Command) -> tuple[list[int], list[int]]:
    """Return our ends of stdin, stdout and stderr, and the command's end of its terminal."""
    ours: list[int] = []
    try:
        stdout, theirs = open_terminal(command.rows, command.columns)
    except TerminalError as problem:
        raise RunnerError("open a terminal", problem.reason) from problem
    try:
        # Two numbers for one terminal, so that each can be polled for what it is there for.
        ours = [os.dup(stdout), stdout]
        stderr, nobody = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as problem:
        _close([*(ours or [stdout]), theirs])
        raise RunnerError("open a terminal", os.strerror(problem.errno or 0)) from problem
    os.close(nobody)
    return [*ours, stderr], [theirs]


def enlarge(pipe: int) -> None:
    """Make a pipe large, for fewer and larger reads and writes: one through which much goes, and no other.

    An ordinary user has room for 64 of them, and then all of that user's new pipes get two pages (pipe(7)). Anything
    else, a terminal say, is left as it is.
    """
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    except OSError:
        pass


def _close(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)
