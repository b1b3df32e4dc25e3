"""One command of one session: its pipes or its terminal, its limits and its end, as messages on the session's link.

The session's thread polls; this object says on what, and is told what happened. The result is there when the shell
exits, not when its pipes close: `nginx &` must not hang a run for ever. What was in the pipes at that moment is always
delivered; what a process left behind writes later is waited for only for a moment.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass

from agent.runner import Job, Outcome, enlarge
from agent.terminal import HOLDS
from agent.wire import messages as m
from agent.wire.constants import MAX_DATA_PAYLOAD
from agent.wire.frames import FRAME_HEADER
from agent.wire.link import Link
from agent.wire.room import make_room

__all__ = ["Execution"]

# What a command that writes a little needs; from one that fills it, more is read at once, and always to one place.
_READ_SIZE = 64 * 1024
# As much as one frame may hold, less what stands in front of it: together they fill TLS records to the last byte.
_PIECE = MAX_DATA_PAYLOAD - FRAME_HEADER.size
# After the exit, how long to wait for the ends of pipes that somebody still holds, in seconds.
_LINGER = 0.25
# Tell the controller that there is room again in steps of this many bytes, not for each write.
_WINDOW_STEP = 128 * 1024
# A job that does not die in this time of being killed is reported all the same (a process in an uninterruptible
# sleep, on a dead NFS server say, takes no signal), in seconds.
_KILL_LIMIT = 10.0


@dataclass(slots=True)
class _Output:
    """One of the command's output pipes; the first may be its terminal."""

    fd: int
    stream: m.Stream
    message: Callable[[bytes | memoryview], m.Stdout | m.Stderr]
    sent: int = 0
    held_back: int = 0
    owed: int = 0  # bytes that were in the pipe when the shell exited; of a terminal, that may have been
    open: bool = True


class Execution:
    """A running command. Owned by the session's thread; `run.timeout` counts from its creation."""

    def __init__(self, run: m.Run, job: Job, link: Link, clock: Callable[[], float]) -> None:
        self._run = run
        self._job = job
        self._link = link
        self._clock = clock
        self._outputs = [
            _Output(job.stdout, m.Stream.STDOUT, m.Stdout),
            _Output(job.stderr, m.Stream.STDERR, m.Stderr),
        ]
        self._place: memoryview | None = None
        self._input = bytearray()
        self._input_ended = False
        self._taken = 0  # bytes of input that the command took since the last Window
        self._began = clock()
        self._ended = 0.0
        self._outcome: Outcome | None = None
        self._reason = m.Reason.EXIT
        self._killed: float | None = None
        self.exit: m.Exit | None = None  # set when all is reported

    # What to poll for, and until when.

    def readable(self) -> list[int]:
        """Return the descriptors to poll for input: none of the pipes while the controller is behind."""
        fds = [] if self._outcome else [self._job.fileno()]
        if not self._link.backlog:
            fds += [output.fd for output in self._outputs if output.open]
        return fds

    def writable(self) -> list[int]:
        """Return the descriptors to poll for room."""
        if not self._input or self._job.stdin is None:
            return []
        if self._run.terminal is not None and self._link.backlog:
            return []  # nobody reads now that it was closed, and until then it would poll as ready for ever
        return [self._job.stdin]

    def seconds_left(self) -> float | None:
        """Return when `advance` wants to be called at the latest, None when nothing is due."""
        deadlines = []
        if self._outcome is not None:
            if self._link.backlog:
                return None  # nothing can be reported before the controller has read
            deadlines.append(self._ended + _LINGER)
        elif self._killed is not None:
            deadlines.append(self._killed + _KILL_LIMIT)
        elif self._run.timeout is not None:
            deadlines.append(self._began + self._run.timeout)
        return max(0.0, min(deadlines) - self._clock()) if deadlines else None

    # What happened.

    def feed(self, message: m.Stdin | m.EndOfStream) -> None:
        """Take standard input from the controller."""
        if isinstance(message, m.Stdin):
            self._input += message.data
        else:
            self._input_ended = True
        self._write_input()

    def resize(self, message: m.Resize) -> None:
        """Give the command's terminal another size."""
        self._job.resize(message.rows, message.columns)

    def kill(self, reason: m.Reason) -> None:
        """End the command and everything it started. The first reason stands; one that has ended has its own."""
        if self._killed is not None or self._outcome is not None:
            return
        if self._job.kill():
            self._reason = reason
            self._killed = self._clock()
        elif (outcome := self._job.poll()) is not None:  # nobody will hear of it again
            self._note_end(outcome)

    def advance(self, ready: set[int]) -> None:
        """Do what can be done now; `ready` are the descriptors that polled as ready. Ends by setting `exit`."""
        if self._job.stdin is not None and self._job.stdin in ready:
            self._write_input()
        if self._outcome is None:
            self._look_for_the_end(ready)
        for output in self._outputs:
            while output.open and not self._link.backlog and (output.fd in ready or self._outcome is not None):
                if not self._read_output(output):
                    break
        if self._outcome is not None:
            self._finish()

    def close(self) -> None:
        """Give back what the command held; kill it if it still runs."""
        self._job.close()

    def _look_for_the_end(self, ready: set[int]) -> None:
        now = self._clock()
        if self._job.fileno() in ready and (outcome := self._job.poll()) is not None:
            self._note_end(outcome)
        elif self._killed is not None and now >= self._killed + _KILL_LIMIT:
            self._note_end(Outcome(None, None, error=f"still not dead {_KILL_LIMIT:.0f} s after SIGKILL"))
        elif self._run.timeout is not None and now >= self._began + self._run.timeout:
            self.kill(m.Reason.TIMEOUT)

    def _note_end(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._ended = self._clock()
        for output in self._outputs:
            output.owed = self._held_by(output) if output.open else 0

    def _read_output(self, output: _Output) -> bool:
        """Pass on one piece. Returns whether there may be more at once."""
        try:
            data = self._read(output.fd)
        except BlockingIOError:
            output.owed = 0
            return False
        except OSError as problem:
            if problem.errno != errno.EIO:
                raise
            data = b""  # a terminal that nobody has open any more
        if not data:
            self._end_output(output)
            return False
        if self._late() and output.owed <= 0:
            return False  # written after the end by what was left behind: lost, or a slow reader would never see an end
        output.owed -= len(data)
        room = len(data) if self._run.max_output is None else self._run.max_output - output.sent
        kept = data[:room]
        output.held_back += len(data) - len(kept)
        if kept:
            output.sent += len(kept)
            self._link.send(output.message(kept))
        # While the command runs, one piece from each pipe and then the socket's turn: Cancel must be heard.
        return self._outcome is not None and (output.owed > 0 or not self._late())

    def _read(self, fd: int) -> bytes | memoryview:
        """Read what is there. It is good until the next call, which is not made before the link has sent it."""
        if self._place is not None:
            return self._place[: os.readv(fd, [self._place])]
        data = os.read(fd, _READ_SIZE)
        if len(data) == _READ_SIZE:
            enlarge(fd)
            self._place = make_room(_PIECE)
        return data

    def _late(self) -> bool:
        """Whether nobody is waited for any more that still holds a pipe."""
        return self._outcome is not None and self._clock() >= self._ended + _LINGER

    def _end_output(self, output: _Output) -> None:
        output.open = False
        self._link.queue(self._link.connection.end_of(output.stream, output.held_back))

    def _finish(self) -> None:
        """Report the exit if all that must be delivered is."""
        assert self._outcome is not None
        still_open = [output for output in self._outputs if output.open]
        if still_open:
            if not self._late() or self._link.backlog or any(output.owed > 0 for output in still_open):
                return
            for output in still_open:
                self._end_output(output)
        outcome = self._outcome
        self.exit = m.Exit(
            code=outcome.code,
            signal=outcome.signal,
            reason=self._reason,
            elapsed=round(self._ended - self._began, 6),
            held=bool(still_open),
            error=outcome.error,
        )
        self._link.send(self.exit)

    def _write_input(self) -> None:
        fd = self._job.stdin
        if fd is None:
            self._input.clear()
            return
        if self._run.terminal is not None and not self._outputs[0].open:
            # Closed by all who had it. It would still take some, then say "not now" for ever.
            self._take(len(self._input))
            self._input.clear()
        try:
            while self._input:
                count = os.write(fd, self._input)
                del self._input[:count]
                self._take(count)
        except BlockingIOError:
            if not self._hung_up:
                return
            self._input.clear()  # whoever hangs up does not wait until all is read that was typed
        except OSError as problem:
            if problem.errno not in (errno.EPIPE, errno.EIO):
                raise
            # The command closed its input, as `head` does, or its terminal: the rest goes nowhere.
            self._take(len(self._input))
            self._input.clear()
        if self._input_ended:
            self._job.close_stdin()

    @property
    def _hung_up(self) -> bool:
        return self._input_ended and self._run.terminal is not None

    def _held_by(self, output: _Output) -> int:
        if self._run.terminal is not None and output.stream is m.Stream.STDOUT:
            return HOLDS
        return _bytes_in(output.fd)

    def _take(self, count: int) -> None:
        self._taken += count
        if self._taken >= _WINDOW_STEP:
            self._link.send(m.Window(self._taken))
            self._taken = 0


def _bytes_in(fd: int) -> int:
    """Return how many bytes wait in a pipe (FIONREAD, ioctl_pipe(2))."""
    (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))
    return int(count)
