"""One command of one session: real pipes, a job that ends when the test says so, and a clock that stands still."""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import termios
from collections.abc import Callable, Iterator

import pytest

from agent.execution import Execution
from agent.runner import Outcome
from agent.terminal import open_terminal
from agent.wire import messages as m
from agent.wire.connection import Connection, Role
from agent.wire.link import Link

PIECE = 64 * 1024
LINGER = 0.25
KILL_LIMIT = 10.0


class Full(Exception):
    """The socket takes nothing now."""


class Job:
    """The agent's side of a command, and the command's ends of its pipes."""

    def __init__(self, *, stdin: bool) -> None:
        self.stdout, self.out = os.pipe()
        self.stderr, self.err = os.pipe()
        self.stdin: int | None = None
        self.inp: int | None = None
        if stdin:
            self.inp, self.stdin = os.pipe()
            os.set_blocking(self.stdin, False)
            os.set_blocking(self.inp, False)
        for fd in (self.stdout, self.stderr):
            os.set_blocking(fd, False)
        self._news, self._tell = os.pipe()
        os.set_blocking(self._news, False)
        self._told: Outcome | None = None
        self._outcome: Outcome | None = None
        self.kills = 0
        self.closed = False

    def fileno(self) -> int:
        return self._news

    def poll(self) -> Outcome | None:
        """Take the news, which do not come again."""
        try:
            os.read(self._news, 100)
            self._told = self._outcome
        except BlockingIOError:
            pass
        return self._told

    def kill(self) -> bool:
        if self.poll() is not None:
            return False
        self.kills += 1
        return True

    def close_stdin(self) -> None:
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None

    def close(self) -> None:
        self.closed = True

    def end(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def write(self, fd: int, data: bytes) -> None:
        assert os.write(fd, data) == len(data)

    def close_output(self) -> None:
        for fd in (self.out, self.err):
            os.close(fd)
        self.out = self.err = -1

    def release(self) -> None:
        own = (self.stdout, self.stderr, self.out, self.err, self.stdin, self.inp, self._news, self._tell)
        for fd in own:
            if fd is not None and fd >= 0:
                os.close(fd)


class TerminalJob(Job):
    """The same on a terminal, which `out` is the command's end of."""

    def __init__(self) -> None:
        super().__init__(stdin=False)
        for fd in (self.stdout, self.out, self.err):
            os.close(fd)
        self.stdout, self.out = open_terminal(24, 80)
        self.stdin = os.dup(self.stdout)
        self.err = -1
        self.sizes: list[tuple[int, int]] = []

    def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    def close_stdin(self) -> None:
        super().close_stdin()
        os.dup2(self.stderr, self.stdout)

    def close_output(self) -> None:
        os.close(self.out)
        self.out = -1


class Wire:
    """The socket of a link, and the controller that reads it. With `room` 0 it takes nothing."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.controller = Connection(Role.CONTROLLER)
        self._events: list[m.Message] = []

    def recv(self, size: int) -> bytes:
        raise Full

    def send(self, data: memoryview) -> int:
        if self.room == 0:
            raise Full
        count = len(data) if self.room is None else min(self.room, len(data))
        if self.room is not None:
            self.room -= count
        self.controller.receive(bytes(data[:count]))
        while isinstance(event := self.controller.next_event(), m.Message):
            self._events.append(event)
        return count

    def take(self) -> list[m.Message]:
        """Return what has come since the last call."""
        events, self._events = self._events, []
        return events


class Rig:
    def __init__(self, run: m.Run) -> None:
        self.now = 50.0
        self.wire = Wire()
        self.job = Job(stdin=run.stdin) if run.terminal is None else TerminalJob()
        agent = Connection(Role.AGENT)
        log_in(agent, self.wire.controller)
        agent.receive(self.wire.controller.send(run))
        agent.next_event()
        self.link = Link(agent, self.wire, would_block=(Full,), clock=lambda: self.now, wall=float)
        self.execution = Execution(run, self.job, self.link, lambda: self.now)  # type: ignore[arg-type]

    def advance(self) -> None:
        """Do a round of the session's loop, with everything that is ready now."""
        if self.link.backlog:
            self.link.flush()
        fds = {*self.execution.readable(), *self.execution.writable()}
        self.execution.advance({fd for fd in fds if ready(fd)})

    def feed(self, message: m.Stdin | m.EndOfStream) -> None:
        """Let standard input come from the controller, as the connection passes it on."""
        self.link.connection.receive(self.wire.controller.send(message))
        event = self.link.connection.next_event()
        assert isinstance(event, m.Stdin | m.EndOfStream)
        self.execution.feed(event)

    def end(self, code: int | None = 0, signal: int | None = None, error: str | None = None) -> None:
        self.job.end(Outcome(code, signal, error))
        os.write(self.job._tell, b"!")


def ready(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd)
    return bool(poller.poll(0))


def log_in(agent: Connection, controller: Connection) -> None:
    for sender, receiver, message in (
        (controller, agent, m.Hello("ops", bytes(16), 1, bytes(32), 1, 1, 0)),
        (agent, controller, m.Challenge(1, 0, bytes(32))),
        (controller, agent, m.Proof(bytes(32), bytes(32))),
        (agent, controller, m.Welcome(bytes(32))),
    ):
        receiver.receive(sender.send(message))
        receiver.next_event()


def end_of(stream: m.Stream, data: bytes, total: int | None = None) -> m.EndOfStream:
    return m.EndOfStream(stream, len(data), hashlib.sha256(data).hexdigest(), len(data) if total is None else total)


OUT, ERR = m.Stream.STDOUT, m.Stream.STDERR


@pytest.fixture
def start() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def start(**options: object) -> Rig:
        rigs.append(Rig(m.Run("command", **options)))  # type: ignore[arg-type]
        return rigs[-1]

    yield start
    for rig in rigs:
        rig.job.release()


# Output and its end -----------------------------------------------------------------------------------------------


def test_output_goes_as_it_comes_and_the_exit_last(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.job.write(rig.job.out, b"one")
    rig.advance()
    assert rig.wire.take() == [m.Stdout(b"one")]
    rig.job.write(rig.job.err, b"two")
    rig.advance()
    assert rig.wire.take() == [m.Stderr(b"two")]
    rig.now += 1.5
    rig.job.close_output()
    rig.end(7)
    rig.advance()
    end = m.Exit(7, elapsed=1.5)
    assert rig.wire.take() == [end_of(OUT, b"one"), end_of(ERR, b"two"), end]
    assert rig.execution.exit == end


def test_command_that_closes_its_output_and_goes_on(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.job.close_output()
    rig.advance()
    assert rig.execution.readable() == [rig.job.fileno()]
    assert rig.execution.exit is None
    rig.end(7)
    rig.advance()
    assert rig.wire.take() == [end_of(OUT, b""), end_of(ERR, b""), m.Exit(7)]


def test_signal(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.job.close_output()
    rig.end(None, 9)
    rig.advance()
    assert rig.execution.exit == m.Exit(signal=9)


def test_command_that_could_not_be_started(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.job.close_output()
    rig.end(None, None, "no such directory: /nowhere")
    rig.advance()
    assert rig.execution.exit == m.Exit(error="no such directory: /nowhere")


def test_news_of_the_job_that_are_not_its_end(start: Callable[..., Rig]) -> None:
    rig = start()
    os.write(rig.job._tell, b"!")
    rig.advance()
    assert rig.execution.exit is None
    assert rig.execution.seconds_left() is None


def test_while_it_runs_one_piece_of_each_pipe_at_a_time(start: Callable[..., Rig]) -> None:
    """A command that writes without end must not keep the session from hearing its cancel."""
    rig = start()
    rig.job.write(rig.job.out, b"x" * PIECE)
    rig.job.write(rig.job.err, b"y" * 10)
    rig.advance()
    assert rig.wire.take() == [m.Stdout(b"x" * PIECE), m.Stderr(b"y" * 10)]


def test_only_a_pipe_through_which_much_goes_is_made_large(start: Callable[..., Rig]) -> None:
    """A user has room for a few dozen large ones, and then only for tiny ones, the commands' own among them."""
    rig = start()
    rig.job.write(rig.job.err, b"little")
    rig.job.write(rig.job.out, bytes(PIECE))
    rig.advance()
    sizes = [fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) for fd in (rig.job.stdout, rig.job.stderr)]
    assert sizes == [1 << 20, PIECE]


def test_no_output_is_read_while_the_controller_is_behind(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.wire.room = 0
    rig.job.write(rig.job.out, b"x" * 10)
    rig.advance()
    rig.job.write(rig.job.out, b"y" * 10)
    rig.job.write(rig.job.err, b"z" * 10)
    assert rig.execution.readable() == [rig.job.fileno()]
    rig.advance()
    rig.wire.room = None
    rig.advance()
    assert rig.wire.take() == [m.Stdout(b"x" * 10), m.Stdout(b"y" * 10), m.Stderr(b"z" * 10)]


def test_what_was_written_before_the_end_comes_also_to_a_slow_reader(start: Callable[..., Rig]) -> None:
    """The pipe is held open by what the command left behind, and the reader takes longer than anybody lingers."""
    rig = start()
    data = os.urandom(PIECE)
    rig.job.write(rig.job.out, data)
    rig.job.write(rig.job.err, b"last words")
    rig.end()
    rig.wire.room = 0
    for _ in range(8):
        rig.now += 10
        rig.advance()
        assert rig.execution.exit is None
        assert rig.execution.seconds_left() is None, "nothing is due before there is room"
        rig.wire.room = PIECE // 10
    rig.wire.room = None
    rig.advance()
    assert rig.execution.exit == m.Exit(0, elapsed=10.0, held=True)
    events = rig.wire.take()
    assert b"".join(event.data for event in events if isinstance(event, m.Stdout)) == data
    assert b"".join(event.data for event in events if isinstance(event, m.Stderr)) == b"last words"


def test_what_is_left_behind_is_waited_for_only_for_a_moment(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.job.write(rig.job.out, b"started\n")
    rig.end(3)
    rig.advance()
    assert rig.wire.take() == [m.Stdout(b"started\n")]
    assert rig.execution.exit is None
    assert rig.execution.readable() == [rig.job.stdout, rig.job.stderr]
    assert rig.execution.seconds_left() == pytest.approx(LINGER)
    rig.now += LINGER / 2
    rig.job.write(rig.job.out, b"late\n")
    rig.advance()
    assert rig.wire.take() == [m.Stdout(b"late\n")]
    rig.now += LINGER / 2
    assert rig.execution.seconds_left() == 0
    rig.advance()
    end = m.Exit(3, held=True)
    assert rig.wire.take() == [end_of(OUT, b"started\nlate\n"), end_of(ERR, b""), end]


def test_pipes_that_close_within_the_moment_are_not_held(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.end()
    rig.advance()
    assert rig.execution.exit is None
    rig.job.write(rig.job.out, b"late")
    rig.job.close_output()
    rig.advance()
    assert rig.execution.exit == m.Exit(0)
    assert rig.wire.take() == [m.Stdout(b"late"), end_of(OUT, b"late"), end_of(ERR, b""), m.Exit(0)]


def test_what_is_left_behind_and_writes_without_end_does_not_hold_a_slow_reader(start: Callable[..., Rig]) -> None:
    """Each piece that the reader has taken made room for another one, for ever."""
    rig = start()
    rig.job.write(rig.job.out, b"owed")
    rig.end()
    rig.wire.room = 0
    rig.advance()
    rig.now += 1
    rounds = 0
    while rig.execution.exit is None:
        rounds += 1
        assert rounds < 10, "no end"
        rig.job.write(rig.job.out, b"more")
        rig.advance()
        rig.wire.room = None if not rig.link.backlog else 10_000
        if rig.link.backlog:
            rig.link.flush()
        rig.wire.room = 0 if rig.execution.exit is None else None
    rig.wire.room = None
    rig.link.flush()
    assert rig.execution.exit.held
    assert b"".join(event.data for event in rig.wire.take() if isinstance(event, m.Stdout)).startswith(b"owed")


# Limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "kept", "total"),
    [(0, b"", 10), (1, b"0", 10), (9, b"012345678", 10), (10, b"0123456789", 10), (11, b"0123456789", 10)],
)
def test_output_limit(start: Callable[..., Rig], limit: int, kept: bytes, total: int) -> None:
    """The rest is read, so that the command can go on, and counted."""
    rig = start(max_output=limit)
    for piece in (b"0123", b"456", b"789"):
        rig.job.write(rig.job.out, piece)
        rig.advance()
    rig.job.write(rig.job.err, b"e")
    rig.job.close_output()
    rig.end()
    rig.advance()
    events = rig.wire.take()
    assert b"".join(event.data for event in events if isinstance(event, m.Stdout)) == kept
    ends = [event for event in events if isinstance(event, m.EndOfStream)]
    assert ends == [end_of(OUT, kept, total), end_of(ERR, b"e"[:limit], 1)]


def test_timeout(start: Callable[..., Rig]) -> None:
    rig = start(timeout=5.0)
    assert rig.execution.seconds_left() == 5
    rig.now += 4.5
    rig.advance()
    assert rig.execution.seconds_left() == 0.5
    assert rig.job.kills == 0
    rig.now += 0.5
    rig.advance()
    rig.advance()
    assert rig.job.kills == 1
    assert rig.execution.exit is None, "not before it is dead"
    rig.job.close_output()
    rig.end(None, 15)
    rig.advance()
    assert rig.execution.exit == m.Exit(signal=15, reason=m.Reason.TIMEOUT, elapsed=5.0)


def test_cancel(start: Callable[..., Rig]) -> None:
    rig = start(timeout=5.0)
    rig.execution.kill(m.Reason.CANCELLED)
    rig.now += 5
    rig.advance()
    assert rig.job.kills == 1
    rig.job.close_output()
    rig.end(None, 9)
    rig.advance()
    assert rig.execution.exit == m.Exit(signal=9, reason=m.Reason.CANCELLED, elapsed=5.0), "the first reason stands"


def test_cancel_after_the_end_changes_nothing(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.end()
    rig.advance()
    rig.execution.kill(m.Reason.CANCELLED)
    assert rig.job.kills == 0
    rig.job.close_output()
    rig.advance()
    assert rig.execution.exit == m.Exit(0)


@pytest.mark.parametrize("reason", [m.Reason.CANCELLED, m.Reason.TIMEOUT])
def test_killed_in_the_moment_of_its_end(start: Callable[..., Rig], reason: m.Reason) -> None:
    """The news of the end have come, and nobody has polled for them yet: it is reported at once, and as its own."""
    rig = start(timeout=5.0)
    rig.job.close_output()
    rig.end(7)
    if reason is m.Reason.CANCELLED:
        rig.execution.kill(reason)
    else:
        rig.now += 5
    rig.execution.advance(set())
    assert rig.job.kills == 0
    assert rig.execution.exit == m.Exit(7, elapsed=0.0 if reason is m.Reason.CANCELLED else 5.0)


def test_what_cannot_be_killed_is_reported_all_the_same(start: Callable[..., Rig]) -> None:
    """A process that sleeps in the kernel takes no signal."""
    rig = start()
    rig.execution.kill(m.Reason.CANCELLED)
    assert rig.execution.seconds_left() == KILL_LIMIT
    rig.now += KILL_LIMIT
    rig.advance()
    assert rig.execution.exit is None
    rig.now += LINGER
    rig.advance()
    expected = m.Exit(reason=m.Reason.CANCELLED, elapsed=10.0, held=True, error="still not dead 10 s after SIGKILL")
    assert rig.execution.exit == expected


def test_close(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.execution.close()
    assert rig.job.closed


# Standard input -----------------------------------------------------------------------------------------------------


def test_input_arrives_and_ends(start: Callable[..., Rig]) -> None:
    rig = start(stdin=True)
    rig.feed(m.Stdin(b"one"))
    rig.feed(m.Stdin(b"two"))
    assert os.read(rig.job.inp, 100) == b"onetwo"  # type: ignore[arg-type]
    assert rig.execution.writable() == []
    rig.feed(end_of(m.Stream.STDIN, b"onetwo"))
    assert rig.job.stdin is None
    assert os.read(rig.job.inp, 100) == b""  # type: ignore[arg-type]


def test_input_that_does_not_fit_waits_and_then_ends(start: Callable[..., Rig]) -> None:
    rig = start(stdin=True)
    data = bytes(100_000)  # more than a pipe holds
    rig.feed(m.Stdin(data))
    rig.feed(end_of(m.Stream.STDIN, data))
    assert rig.execution.writable() == [rig.job.stdin]
    rig.advance()
    seen = b""
    while rig.job.stdin is not None:
        seen += os.read(rig.job.inp, 100_000)  # type: ignore[arg-type]
        rig.advance()
    seen += os.read(rig.job.inp, 100_000)  # type: ignore[arg-type]
    assert seen == data
    assert os.read(rig.job.inp, 1) == b""  # type: ignore[arg-type]
    assert rig.execution.writable() == []


def test_room_is_told_in_large_steps(start: Callable[..., Rig]) -> None:
    rig = start(stdin=True)
    step = 128 * 1024
    taken = 0
    for _ in range(8):
        rig.feed(m.Stdin(bytes(32 * 1024)))
        taken += len(os.read(rig.job.inp, 1 << 20))  # type: ignore[arg-type]
    assert taken == 2 * step
    assert rig.wire.take() == [m.Window(step), m.Window(step)]


def test_command_that_does_not_read_its_input(start: Callable[..., Rig]) -> None:
    """`head` closes it: the rest goes nowhere, and the controller may send on."""
    rig = start(stdin=True)
    os.close(rig.job.inp)  # type: ignore[arg-type]
    rig.job.inp = None
    rig.feed(m.Stdin(bytes(200 * 1024)))
    assert rig.wire.take() == [m.Window(200 * 1024)]
    assert rig.execution.writable() == []
    rig.feed(m.Stdin(b"x"))
    rig.feed(end_of(m.Stream.STDIN, bytes(200 * 1024) + b"x"))
    assert rig.job.stdin is None


def test_input_after_it_was_closed_goes_nowhere(start: Callable[..., Rig]) -> None:
    rig = start()
    rig.execution.feed(m.Stdin(b"x"))
    assert rig.execution.writable() == []
    assert rig.wire.take() == []


# A terminal ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_terminal(start: Callable[..., Rig]) -> Rig:
    rig = start(stdin=True, terminal="xterm", rows=24, columns=80)
    rig.advance()
    rig.link.flush()
    assert rig.wire.take() == [end_of(ERR, b"")]
    return rig


def test_the_end_of_a_terminal_is_no_error(on_terminal: Rig) -> None:
    rig = on_terminal
    rig.job.write(rig.job.out, b"last\n")
    rig.job.close_output()
    rig.end(3)
    rig.advance()
    assert rig.wire.take() == [m.Stdout(b"last\r\n"), end_of(OUT, b"last\r\n"), m.Exit(3)]


def test_a_terminal_that_is_closed_takes_no_keys(on_terminal: Rig) -> None:
    rig = on_terminal
    rig.feed(m.Stdin(b"\r" * 100_000))
    rig.job.close_output()
    rig.link.queue(m.Pong())
    rig.wire.room = 0
    rig.link.flush()
    assert rig.execution.writable() == [], "it would be ready for ever"
    rig.wire.room = None
    rig.link.flush()
    while rig.execution.readable() != [rig.job.fileno()]:
        rig.advance()
    rig.wire.take()
    rig.feed(m.Stdin(b"x" * 100_000))
    assert rig.execution.writable() == []
    assert sum(event.bytes for event in rig.wire.take() if isinstance(event, m.Window)) == 200_000


def test_the_size_is_passed_on(on_terminal: Rig) -> None:
    on_terminal.execution.resize(m.Resize(50, 132))
    assert isinstance(on_terminal.job, TerminalJob)
    assert on_terminal.job.sizes == [(50, 132)]


def test_a_terminal_that_is_held_gives_what_it_had_to_a_slow_reader(on_terminal: Rig) -> None:
    """No call tells how much there is in it; and what is left behind must not keep the command from its end."""
    rig = on_terminal
    rig.job.write(rig.job.out, b"x" * 6000)
    rig.end()
    rig.wire.room = 0
    for _ in range(5):
        rig.now += 10
        rig.advance()
        assert rig.execution.exit is None
        rig.wire.room = 1000
    rig.wire.room = None
    rig.advance()
    assert rig.execution.exit == m.Exit(0, elapsed=10.0, held=True)
    assert b"".join(event.data for event in rig.wire.take() if isinstance(event, m.Stdout)) == b"x" * 6000


def test_a_terminal_that_is_written_to_for_ever_has_an_end(on_terminal: Rig) -> None:
    rig = on_terminal
    rig.end()
    rig.advance()
    rig.now += LINGER
    seen = 0
    while rig.execution.exit is None:
        rig.wire.room = 0
        rig.job.write(rig.job.out, b"y" * 4000)
        rig.advance()
        rig.wire.room = None
        rig.link.flush()
        seen += 1
        assert seen < 100
    assert rig.execution.exit == m.Exit(0, held=True)


def test_the_end_of_input_hangs_up_and_waits_for_nobody(on_terminal: Rig) -> None:
    rig = on_terminal
    attributes = termios.tcgetattr(rig.job.out)
    attributes[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(rig.job.out, termios.TCSANOW, attributes)
    rig.feed(m.Stdin(b"z" * 200_000))
    assert rig.execution.writable() != []
    rig.feed(end_of(m.Stream.STDIN, b"z" * 200_000))
    assert rig.job.stdin is None
    assert rig.execution.writable() == []
    rig.advance()
    rig.link.flush()
    assert rig.wire.take() == [end_of(OUT, b"")]


def test_a_pipe_that_fails_in_another_way_is_not_hidden(start: Callable[..., Rig]) -> None:
    rig = start(stdin=True)
    for fd, use in ((rig.job.stdout, rig.advance), (rig.job.stdin, lambda: rig.feed(m.Stdin(b"x")))):
        spare = os.open("/", os.O_RDONLY)
        os.dup2(spare, fd)  # type: ignore[arg-type]
        os.close(spare)
        with pytest.raises(OSError, match=r"Bad file descriptor|Is a directory"):
            use()
