"""A link on a scripted socket and with a clock that stands still unless told."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.connection import Closed, Connection, Role, State
from agent.wire.errors import LocalProtocolError, RemoteProtocolError
from agent.wire.link import AnswersUnreadError, Link, LinkError, PeerSilentError, WriteStuckError

RECORD = 16 * 1024  # TLS takes no more at a time


class NotNow(Exception):
    """What this socket says when it would block."""


class Socket:
    """`incoming` are the answers of `recv`, one each: bytes, or an exception. `room` is how many bytes `send` takes
    before it would block; None is without end."""

    def __init__(self) -> None:
        self.incoming: list[bytes | Exception] = []
        self.room: int | None = None
        self.sent: list[bytes] = []
        self.corked: list[tuple[bool, int]] = []  # each time with the number of pieces sent by then
        self.asked: list[int] = []

    def recv(self, size: int) -> bytes:
        self.asked.append(size)
        answer = self.incoming.pop(0) if self.incoming else NotNow()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def send(self, data: memoryview) -> int:
        if self.room == 0:
            raise NotNow
        count = min(len(data), RECORD, len(data) if self.room is None else self.room)
        if self.room is not None:
            self.room -= count
        self.sent.append(bytes(data[:count]))
        return count


class Rig:
    """An agent's link after the login, its socket, its clock, and the controller's connection at the other end."""

    def __init__(self, agent: Connection, controller: Connection) -> None:
        self.now = 1000.0
        self.socket = Socket()
        self.controller = controller
        self.link = Link(
            agent,
            self.socket,
            would_block=(NotNow,),
            clock=lambda: self.now,
            wall=lambda: 7.5,
            cork=lambda on: self.socket.corked.append((on, len(self.socket.sent))),
        )

    def come(self, *messages: m.Message) -> None:
        """Let messages arrive in one piece."""
        self.socket.incoming.append(b"".join(map(self.controller.send, messages)))

    def went(self) -> list[object]:
        """Return the messages that the other side has by now."""
        self.controller.receive(b"".join(self.socket.sent) or b"")
        self.socket.sent.clear()
        events: list[object] = []
        while isinstance(event := self.controller.next_event(), m.Message):
            events.append(event)
        return events


@pytest.fixture
def rig(ready: object) -> Rig:
    """A link in READY."""
    return Rig(ready.agent, ready.controller)  # type: ignore[attr-defined]


@pytest.fixture
def busy(running: object) -> Rig:
    """A link in RUNNING."""
    return Rig(running.agent, running.controller)  # type: ignore[attr-defined]


# Sending ----------------------------------------------------------------------------------------------------------


def test_send_goes_at_once(busy: Rig) -> None:
    busy.link.send(m.Stdout(b"one"))
    assert busy.went() == [m.Stdout(b"one")]
    assert not busy.link.backlog


def test_what_is_queued_goes_with_the_next_in_one_piece(busy: Rig) -> None:
    busy.link.queue(m.Stdout(b"one"))
    busy.link.queue(m.Stderr(b"two"))
    assert not busy.socket.sent
    assert not busy.link.backlog  # nothing is stuck
    busy.link.send(m.Stdout(b"three"))
    assert len(busy.socket.sent) == 1
    assert busy.went() == [m.Stdout(b"one"), m.Stderr(b"two"), m.Stdout(b"three")]


def test_flush_sends_what_is_queued_and_then_nothing(busy: Rig) -> None:
    busy.link.queue(m.Stdout(b"one"))
    busy.link.flush()
    busy.link.flush()
    assert busy.went() == [m.Stdout(b"one")]


def test_partial_sends_lose_and_repeat_nothing(busy: Rig) -> None:
    busy.socket.room = 5
    busy.link.send(m.Stdout(b"x" * 100))
    busy.link.send(m.Stderr(b"y" * 100))
    assert busy.link.backlog
    while busy.link.backlog:
        busy.socket.room = 7
        busy.link.flush()
    assert max(map(len, busy.socket.sent)) <= 7
    assert busy.went() == [m.Stdout(b"x" * 100), m.Stderr(b"y" * 100)]


def test_a_socket_without_room_is_asked_once(busy: Rig) -> None:
    busy.socket.room = 0
    busy.link.send(m.Stdout(b"one"))
    assert busy.link.backlog
    assert not busy.socket.sent
    busy.socket.room = None
    busy.link.flush()
    assert busy.went() == [m.Stdout(b"one")]


def test_a_large_message_fills_records_to_the_last_byte(busy: Rig) -> None:
    """What is left over, be it the nine bytes of its header, would be a record of its own."""
    small, large = m.Stderr(b"y" * 50), m.Stdout(b"x" * (3 * RECORD - 9 - 59))
    busy.link.queue(small)
    busy.link.send(large)
    assert list(map(len, busy.socket.sent)) == [RECORD] * 3
    assert busy.went() == [small, large]


@pytest.mark.parametrize("size", [RECORD - 9, RECORD, RECORD + 1, 2 * RECORD - 9, 256 * 1024])
def test_large_messages_of_any_size_go_whole(busy: Rig, size: int) -> None:
    busy.link.send(m.Stdout(b"x" * size))
    assert len(busy.socket.sent) == (size + 9 + RECORD - 1) // RECORD
    assert busy.went() == [m.Stdout(b"x" * size)]


def test_several_records_are_corked_and_a_single_one_is_not(busy: Rig) -> None:
    busy.link.send(m.Stdout(b"x" * 100))
    assert busy.socket.corked == []
    busy.link.send(m.Stdout(b"x" * 3 * RECORD))
    assert busy.socket.corked == [(True, 1), (False, 5)]


def test_what_stays_behind_is_not_corked(busy: Rig) -> None:
    busy.socket.room = RECORD + 5
    busy.link.send(m.Stdout(b"x" * 3 * RECORD))
    assert busy.socket.corked == [(True, 0), (False, 2)]
    busy.now += 59
    busy.socket.room = 7
    busy.link.flush()
    busy.now += 59
    assert busy.link.tick() == 1, "seconds since a byte has moved"
    busy.socket.room = None
    busy.link.flush()
    assert busy.went() == [m.Stdout(b"x" * 3 * RECORD)]


def test_an_error_takes_the_cork_off(busy: Rig) -> None:
    def broken(data: memoryview) -> int:
        raise BrokenPipeError(32, "gone")

    busy.socket.send = broken  # type: ignore[method-assign]
    with pytest.raises(BrokenPipeError):
        busy.link.send(m.Stdout(b"x" * 3 * RECORD))
    assert busy.socket.corked == [(True, 0), (False, 0)]


def test_other_errors_of_the_socket_pass_through(busy: Rig) -> None:
    def broken(data: memoryview) -> int:
        raise BrokenPipeError(32, "gone")

    busy.socket.send = broken  # type: ignore[method-assign]
    with pytest.raises(BrokenPipeError):
        busy.link.send(m.Stdout(b"one"))
    busy.socket.incoming = [ConnectionResetError(104, "reset")]
    with pytest.raises(ConnectionResetError):
        list(busy.link.read())


def test_a_message_that_may_not_be_sent_is_our_error(rig: Rig) -> None:
    with pytest.raises(LocalProtocolError, match=r"^agent may not send Stdout in state ready$"):
        rig.link.queue(m.Stdout(b"x"))
    assert not rig.socket.sent


# Receiving --------------------------------------------------------------------------------------------------------


def test_messages_come_in_order_from_pieces_of_any_size(rig: Rig) -> None:
    run, cancel = m.Run("true", stdin=True), m.Cancel()
    data = rig.controller.send(run) + rig.controller.send(m.Stdin(b"abc")) + rig.controller.send(cancel)
    rig.socket.incoming = [data[:3], data[3:50], data[50:]]
    assert list(rig.link.read(to_the_end=True)) == [run, m.Stdin(b"abc"), cancel]


def test_after_a_short_piece_the_next_poll_tells_of_more(rig: Rig) -> None:
    run, data = m.Run("true", stdin=True), m.Stdin(b"x" * (RECORD - 9))
    rig.come(run)
    rig.come(data)  # fills its piece, so there may be more
    rig.come(m.Cancel())
    assert list(rig.link.read()) == [run]
    assert len(rig.socket.asked) == 1
    assert list(rig.link.read()) == [data, m.Cancel()]
    assert len(rig.socket.asked) == 3


def test_read_stops_after_some_time_to_let_others_have_their_turn(rig: Rig) -> None:
    rig.come(m.Run("true", stdin=True))
    for _ in range(40):
        rig.come(m.Stdin(b"x"))
    assert [len(list(rig.link.read(to_the_end=True))) for _ in range(4)] == [16, 16, 9, 0]
    assert set(rig.socket.asked) == {16 * 1024}


class Records(Socket):
    """A TLS connection that has got `records`; what is left of the last one that was begun is no news to a poll."""

    def __init__(self, records: list[bytes]) -> None:
        super().__init__()
        self.records = records
        self._begun = b""

    def pending(self) -> int:
        return len(self._begun)

    def recv(self, size: int) -> bytes:
        if not self._begun:
            if not self.records:
                raise NotNow
            self._begun = self.records.pop(0)
        data, self._begun = self._begun[:size], self._begun[size:]
        return data

    def read(self, size: int, place: memoryview) -> int:
        data = self.recv(size)
        place[: len(data)] = data
        return len(data)


@pytest.mark.parametrize("count", range(1, 12))
def test_nothing_is_left_where_no_poll_tells_of_it(in_state: Any, count: int) -> None:
    """A peer need not begin a record with each frame."""
    writer, reader = (in_state(role, State.PUSHING) for role in (Role.CONTROLLER, Role.AGENT))
    said = [*[f.Data(bytes([number]) * 100_000) for number in range(count)], m.Ping(1), m.Pong(2)]
    stream = b"".join(map(writer.send, said))
    socket = Records([stream[place : place + RECORD] for place in range(0, len(stream), RECORD)])
    link = Link(reader, socket, would_block=(NotNow,), clock=lambda: 0.0, wall=lambda: 0.0)
    heard = []
    while socket.records:
        heard += [f.Data(bytes(message.data)) if isinstance(message, f.Data) else message for message in link.read()]
    assert not socket.pending()
    assert heard == [message for message in said if message != m.Ping(1)]


def test_what_is_in_the_connection_already_comes_without_reading(rig: Rig) -> None:
    rig.link.connection.receive(rig.controller.send(m.Run("true")))
    assert list(rig.link.events()) == [m.Run("true")]
    assert not rig.socket.asked


def test_orderly_end(rig: Rig) -> None:
    rig.come(m.Run("true"))
    rig.socket.incoming[0] = b""
    assert list(rig.link.read()) == [Closed()]
    assert len(rig.socket.asked) == 1
    assert rig.link.connection.state is State.CLOSED


def test_end_while_a_command_runs_is_none(busy: Rig) -> None:
    busy.socket.incoming = [b""]
    with pytest.raises(RemoteProtocolError, match=r"^the connection ended in state running$"):
        list(busy.link.read())


def test_nothing_is_read_behind_the_peers_last_word(ready: object) -> None:
    controller = Rig(ready.controller, ready.agent)  # type: ignore[attr-defined]
    controller.come(m.Goodbye("stopping", "the agent stops"))
    assert list(controller.link.read()) == [m.Goodbye("stopping", "the agent stops"), Closed()]


def test_what_came_before_an_error_is_shown_before_it(rig: Rig) -> None:
    rig.come(m.Run("true"))
    rig.socket.incoming.append(ConnectionResetError(104, "reset"))
    messages = rig.link.read(to_the_end=True)
    assert next(messages) == m.Run("true")
    with pytest.raises(ConnectionResetError):
        next(messages)


def test_an_error_keeps_nothing_in_memory(rig: Rig, uncollected: None) -> None:
    def broken(size: int) -> bytes:
        raise ConnectionResetError(104, "reset")

    rig.socket.recv = broken  # type: ignore[method-assign]
    try:
        next(rig.link.read())
    except ConnectionResetError:
        link = weakref.ref(rig.link)
    del rig.link
    assert link() is None


def test_a_ping_is_answered_and_not_shown(rig: Rig) -> None:
    rig.come(m.Ping(5), m.Run("true"))
    assert list(rig.link.read()) == [m.Run("true")]
    assert rig.went() == [m.Pong(5, 7.5)]


def test_a_pong_is_shown(rig: Rig) -> None:
    rig.come(m.Pong(5, 1.0))
    assert list(rig.link.read()) == [m.Pong(5, 1.0)]


def test_answers_that_nobody_reads_do_not_pile_up(rig: Rig) -> None:
    """A peer that pings, and reads no pong, would fill our memory."""
    rig.socket.room = 0
    for _ in range(1024):
        rig.come(m.Ping())
        assert list(rig.link.read()) == []
    rig.now += 3
    rig.come(m.Ping())
    with pytest.raises(AnswersUnreadError) as caught:
        list(rig.link.read())
    assert str(caught.value) == "the peer goes on asking and does not read the answers"
    assert caught.value.seconds == 3
    assert isinstance(caught.value, LinkError)


# The clocks -------------------------------------------------------------------------------------------------------


def test_a_silent_peer_is_pinged_and_then_given_up(rig: Rig) -> None:
    assert rig.link.tick() == 15
    rig.now += 10
    assert rig.link.tick() == 5
    assert not rig.socket.sent
    rig.now += 5
    assert rig.link.tick() == 30
    assert rig.went() == [m.Ping()]
    rig.now += 29
    assert rig.link.tick() == 1
    assert not rig.socket.sent, "one ping is enough"
    rig.now += 1
    with pytest.raises(PeerSilentError) as caught:
        rig.link.tick()
    assert str(caught.value) == "no sign of life for 45 s"
    assert caught.value.seconds == 45


def test_any_byte_is_a_sign_of_life(rig: Rig) -> None:
    rig.now += 15
    assert rig.link.tick() == 30
    rig.now += 29
    rig.socket.incoming = [b"\0"]
    assert list(rig.link.read()) == []
    assert rig.link.tick() == 15
    rig.now += 15
    rig.socket.sent.clear()
    assert rig.link.tick() == 30
    assert len(rig.socket.sent) == 1, "a new silence, a new ping"


def test_pings_also_while_a_command_runs(busy: Rig) -> None:
    busy.now += 16
    assert busy.link.tick() == 30
    assert busy.went() == [m.Ping()]


@pytest.mark.parametrize("role", list(Role))
def test_nobody_pings_in_the_login(role: Role) -> None:
    rig = Rig(Connection(role), Connection(role.peer))
    for _ in range(3):
        rig.now += 100
        assert rig.link.tick() == 1
    assert not rig.socket.sent


def test_stuck_bytes_have_a_clock_of_their_own(busy: Rig) -> None:
    busy.socket.room = 0
    busy.now += 100  # nothing waits: no time is counted
    busy.link.send(m.Stdout(b"x" * 100))
    assert busy.link.tick() == 60
    busy.now += 59
    assert busy.link.tick() == 1
    busy.socket.room = 1
    busy.link.flush()
    assert busy.link.tick() == 60, "one byte has moved"
    busy.now += 60
    with pytest.raises(WriteStuckError) as caught:
        busy.link.tick()
    assert str(caught.value) == "the peer has taken nothing for 60 s"


def test_more_that_is_queued_behind_stuck_bytes_gains_no_time(busy: Rig) -> None:
    busy.socket.room = 0
    busy.link.send(m.Stdout(b"x"))
    busy.now += 50
    busy.link.send(m.Stdout(b"y"))
    assert busy.link.tick() == 10


@pytest.mark.parametrize("before", [False, True], ids=["the ping is stuck", "output behind it is stuck"])
def test_no_answer_is_expected_while_bytes_are_stuck(busy: Rig, before: bool) -> None:
    """The peer is slow and alive: when all has gone it is asked anew, and has its time to answer."""
    busy.now += 15
    if before:
        busy.link.tick()
    busy.socket.room = 0
    if before:
        busy.link.send(m.Stdout(b"x"))
    assert busy.link.tick() in (30, 60)
    busy.now += 40
    assert busy.link.tick() == 20
    busy.socket.room = None
    busy.link.flush()
    assert busy.link.tick() == 30
    assert busy.went()[-1] == m.Ping()
    busy.now += 30
    with pytest.raises(PeerSilentError):
        busy.link.tick()


def test_bytes_of_a_stranger_are_not_gathered() -> None:
    """Before the login each read is looked at before the next: 4 KiB of nonsense must not become 256."""

    class Flood:
        reads = 0

        def recv(self, size: int, /) -> bytes:
            self.reads += 1
            return b"\xff" * size

        def send(self, data: memoryview, /) -> int:
            return len(data)

    flood = Flood()
    link = Link(Connection(Role.AGENT), flood, would_block=(BlockingIOError,), clock=lambda: 0.0, wall=lambda: 0.0)
    with pytest.raises(RemoteProtocolError):
        list(link.read())
    assert flood.reads == 1


def test_whether_large_data_comes_is_known_by_what_was_read_last(busy: Rig) -> None:
    assert not busy.link.bulk
    for size, bulk in ((1, False), (16 * 1024, True), (1, False)):
        busy.come(m.Stdin(b"x" * size))
        assert [len(message.data) for message in busy.link.read()] == [size]
        assert busy.link.bulk is bulk


def test_many_small_messages_that_are_held_back_become_a_backlog(busy: Rig) -> None:
    """Whoever queues without an end is told to stop, as with large ones; and nothing is lost or out of order."""
    count = 0
    while not busy.link.backlog:
        busy.link.queue(m.Stdout(b"%5d" % count * 200))
        count += 1
    assert 60 <= count <= 70, "a little more than 64 KiB"
    assert busy.socket.sent == []
    busy.link.flush()
    assert not busy.link.backlog
    assert [int(message.data[:5]) for message in busy.went()] == list(range(count))
