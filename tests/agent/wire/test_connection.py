"""Who may say what when: the table, the login, frames, and the end of a connection."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.codec import FRAME_TYPES, LIMITS, encode_handshake, encode_payload
from agent.wire.connection import NEED_DATA, TABLE, Closed, Connection, Role, State
from agent.wire.constants import FEATURES
from agent.wire.errors import RemoteProtocolError
from agent.wire.frames import FRAME_HEADER, encode_frame
from agent.wire.messages import Message

CONTROLLER, AGENT = Role.CONTROLLER, Role.AGENT
STDIN, STDOUT, STDERR, SCRIPT = m.Stream
CODES = {kind: code for code, kind in FRAME_TYPES.items()}
LOGIN_STATES = (State.HELLO, State.CHALLENGE, State.PROOF, State.VERDICT)
FRAME_STATES = (State.READY, State.RUNNING, State.PUSHING, State.PULLING, State.RESTORING)
Pair = Any  # conftest's ConnectionPair
Samples = dict[type[Message], Message]


# The table ---------------------------------------------------------------------------------------------------------

EVERYTHING = list(itertools.product(Role, State, get_args(Message)))
NAMES = [f"{role.value}-{state.value}-{kind.__name__}" for role, state, kind in EVERYTHING]
# These are allowed by the table, and refused for another reason right after a command's start.
EARLY = {m.Exit: "Exit before the end of stdout"}


def fit(sender: Role, message: Message) -> Message:
    """Each side ends its own streams."""
    if isinstance(message, m.EndOfStream) and sender is CONTROLLER:
        return m.EndOfStream(STDIN, message.bytes, message.sha256, message.total)
    return message


@pytest.mark.parametrize(("role", "state", "kind"), EVERYTHING, ids=NAMES)
def test_sending(
    role: Role, state: State, kind: type[Message], samples: Samples, on_the_wire: Any, in_state: Any, check_local: Any
) -> None:
    connection = in_state(role, state)
    message = fit(role, samples[kind])
    after = TABLE[role][state].get(kind)
    if after is None:
        check_local(connection, message, f"{role.value} may not send {kind.__name__} in state {state.value}")
    elif kind in EARLY:
        check_local(connection, message, EARLY[kind])
    else:
        assert connection.send(message) == on_the_wire(message)
        assert connection.state is after


@pytest.mark.parametrize(("sender", "state", "kind"), EVERYTHING, ids=NAMES)
def test_receiving(
    sender: Role,
    state: State,
    kind: type[Message],
    samples: Samples,
    on_the_wire: Any,
    in_state: Any,
    check_remote: Any,
) -> None:
    connection = in_state(sender.peer, state)
    message = fit(sender, samples[kind])
    data = on_the_wire(message)
    after = TABLE[sender][state].get(kind)
    if state is State.CLOSED:
        connection.receive(data)
        assert connection.next_event() == Closed()
    elif kind is m.Refusal and state not in LOGIN_STATES:
        connection.receive(data)
        assert connection.next_event() is NEED_DATA  # its three bytes are no header yet
    elif after is None:
        check_remote(connection, data, what_is_said_of(sender, state, kind, data))
    elif kind in EARLY:
        check_remote(connection, data, EARLY[kind])
    else:
        connection.receive(data)
        assert connection.next_event() == message
        assert connection.state is after


def what_is_said_of(sender: Role, state: State, kind: type[Message], data: bytes) -> str:
    """Return the error for a message that is not in the table."""
    if state in LOGIN_STATES and not TABLE[sender][state]:
        return f"the peer spoke in state {state.value}, when it was our turn"
    if state in LOGIN_STATES and kind in CODES:
        return "message of 0 bytes, expected 1 to 1024"  # a frame's u32 length, read as a u16
    if state in LOGIN_STATES:
        return {
            State.HELLO: "not a fleet hello",
            State.CHALLENGE: "not a fleet challenge",
            State.PROOF: f"proof of {len(data) - 2} bytes",
            State.VERDICT: "malformed verdict",
        }[state]
    if kind not in CODES:
        return f"unknown frame type {data[4]:#04x}"
    return f"{sender.value} may not send {kind.__name__} in state {state.value}"


@pytest.mark.parametrize("state", LOGIN_STATES)
def test_run_before_the_login_is_no_key_of_the_table(state: State, in_state: Any, check_local: Any) -> None:
    for role in Role:
        assert not set(TABLE[role][state]) & set(FRAME_TYPES.values())
    check_local(in_state(CONTROLLER, state), m.Run("id"), f"controller may not send Run in state {state.value}")


def test_only_the_agents_welcome_opens_the_door() -> None:
    opens = [
        (role, state, kind)
        for role, states in TABLE.items()
        for state, kinds in states.items()
        for kind, after in kinds.items()
        if state in LOGIN_STATES and after not in (*LOGIN_STATES, State.CLOSED)
    ]
    assert opens == [(AGENT, State.VERDICT, m.Welcome)]


def test_the_table_has_every_role_and_state() -> None:
    assert set(TABLE) == set(Role)
    assert all(set(states) == set(State) for states in TABLE.values())


# The login ---------------------------------------------------------------------------------------------------------


def test_login(pair: Pair) -> None:
    pair.login()
    assert pair.controller.hello == pair.agent.hello == encode_handshake(in_order()[0])
    assert pair.controller.challenge == pair.agent.challenge == encode_handshake(in_order()[1])


def in_order() -> list[Message]:
    return [
        m.Hello("ops", b"\x11" * 16, 1, b"\xaa" * 32, 1, 1, 0),
        m.Challenge(1, FEATURES, b"\xbb" * 32),
        m.Proof(b"\xcc" * 32, b"\xdd" * 32),
        m.Welcome(b"\xee" * 32, b'{"agent":"1.0"}'),
    ]


def test_refusal(pair: Pair) -> None:
    pair.send(CONTROLLER, in_order()[0])
    pair.send(AGENT, in_order()[1])
    pair.send(CONTROLLER, in_order()[2])
    assert pair.send(AGENT, m.Refusal()) == b"\0\1\1"
    assert pair.controller.state is pair.agent.state is State.CLOSED
    assert pair.controller.next_event() == Closed()


@pytest.mark.parametrize("position", range(4))
def test_login_messages_whole_and_byte_by_byte(
    position: int, arrives: Callable[..., None], on_the_wire: Any, in_state: Any
) -> None:
    state = LOGIN_STATES[position]
    sender = AGENT if position % 2 else CONTROLLER
    message = in_order()[position]
    data = on_the_wire(message)
    if state is State.VERDICT:
        arrives(lambda: in_state(sender.peer, state), data, [message], b"\0\0")
        return
    connection = in_state(sender.peer, state)
    connection.receive(data)
    assert connection.next_event() == message
    connection = in_state(sender.peer, state)
    for byte in data[:-1]:
        connection.receive(bytes([byte]))
        assert connection.next_event() is NEED_DATA
    connection.receive(data[-1:])
    assert connection.next_event() == message


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("with_a_run", [False, True])
def test_nothing_may_follow_before_the_answer(
    position: int, with_a_run: bool, on_the_wire: Any, in_state: Any, check_remote: Any
) -> None:
    """A request sent along with the proof must not be there when the login is done: it is refused at once."""
    sender = AGENT if position % 2 else CONTROLLER
    connection = in_state(sender.peer, LOGIN_STATES[position])
    next_state = LOGIN_STATES[position + 1].value
    data = on_the_wire(in_order()[position]) + (on_the_wire(m.Run("id")) if with_a_run else b"\0")
    check_remote(connection, data, f"the peer spoke in state {next_state}, when it was our turn")


def test_frames_may_come_right_behind_the_welcome(pair: Pair, on_the_wire: Any, in_state: Any) -> None:
    connection = in_state(CONTROLLER, State.VERDICT)
    connection.receive(on_the_wire(in_order()[3]) + on_the_wire(m.Ping(1)))
    assert connection.next_event() == in_order()[3]
    assert connection.next_event() == m.Ping(1)


def test_hostile_openings(check_remote: Any) -> None:
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b"\x16\x03\x01\x02\x00\x01\x00"):
        length = int.from_bytes(text[:2], "big")
        check_remote(Connection(AGENT), text, f"message of {length} bytes, expected 1 to 1024")


@pytest.mark.parametrize("length", [0, 1025, 65535])
def test_a_length_of_the_login_is_refused_before_its_body(length: int, check_remote: Any) -> None:
    text = f"message of {length} bytes, expected 1 to 1024"
    check_remote(Connection(AGENT), length.to_bytes(2, "big"), text)


@pytest.mark.parametrize("length", [1, 65, 130, 1024])
def test_a_hello_of_a_wrong_length(length: int, check_remote: Any) -> None:
    check_remote(Connection(AGENT), length.to_bytes(2, "big") + b"F" * length, "not a fleet hello")


# Frames ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_frames_whole_byte_by_byte_and_with_trailing_bytes(
    kind: type[Message], samples: Samples, arrives: Callable[..., None], on_the_wire: Any, in_state: Any
) -> None:
    for sender, state in itertools.product(Role, FRAME_STATES):
        if kind in TABLE[sender][state] and kind not in EARLY:
            message = fit(sender, samples[kind])
            arrives(lambda s=sender, t=state: in_state(s.peer, t), on_the_wire(message), [message], b"\0\0\0\1\1half")


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_a_frame_is_refused_by_its_header_and_takes_no_memory(
    kind: type[Message], in_state: Any, check_remote: Any
) -> None:
    places = [(role, state) for role in (AGENT, CONTROLLER) for state in FRAME_STATES if kind in TABLE[role][state]]
    sender, state = places[0]
    for length in (LIMITS[kind] + 1, 2**32 - 1):
        connection = in_state(sender.peer, state)
        header = FRAME_HEADER.pack(length, CODES[kind], 0)
        tracemalloc.start()
        check_remote(connection, header, f"frame of {length} bytes, expected no more than {LIMITS[kind]}")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 128 * 1024
    waiting = in_state(sender.peer, state)
    waiting.receive(FRAME_HEADER.pack(LIMITS[kind], CODES[kind], 0))
    assert waiting.next_event() is NEED_DATA


def test_a_message_out_of_turn_is_refused_by_its_header(ready: Pair, check_remote: Any) -> None:
    header = FRAME_HEADER.pack(5, CODES[m.Stdout], 0)
    check_remote(ready.controller, header, "agent may not send Stdout in state ready")


@pytest.mark.parametrize("code", sorted(set(range(256)) - set(FRAME_TYPES)))
def test_unknown_types(code: int, in_state: Any, check_remote: Any) -> None:
    check_remote(in_state(AGENT, State.READY), FRAME_HEADER.pack(0, code, 0), f"unknown frame type {code:#04x}")


def test_a_wrong_checksum(ready: Pair, on_the_wire: Any, check_remote: Any) -> None:
    data = bytearray(on_the_wire(m.Run("true")))
    data[-1] ^= 1
    check_remote(ready.agent, bytes(data), "wrong checksum on a frame of type 0x10")


def test_a_bad_payload(ready: Pair, check_remote: Any) -> None:
    check_remote(ready.agent, encode_frame(CODES[m.Run], b"[]"), "not a JSON object")


def test_a_hundred_thousand_levels(ready: Pair, check_remote: Any) -> None:
    check_remote(ready.agent, encode_frame(CODES[m.Run], b"[" * 100_000), "JSON nested too deep")


def test_what_is_too_long_is_not_sent(ready: Pair, check_local: Any) -> None:
    run = m.Run("x" * 1024 * 1024)
    size = len(encode_payload(run))
    check_local(ready.controller, run, f"Run of {size} bytes, expected no more than 1048576")


def test_what_the_peer_would_refuse_is_not_sent(ready: Pair, check_local: Any) -> None:
    check_local(ready.controller, m.Run("\ud800"), "lone surrogate in 'command'")


def test_a_memoryview_is_copied(ready: Pair, on_the_wire: Any) -> None:
    """The owner reads into one buffer again and again."""
    data = bytearray(on_the_wire(m.Ping(5)))
    ready.agent.receive(memoryview(data))
    data[:] = bytes(len(data))
    assert ready.agent.next_event() == m.Ping(5)


def test_many_small_messages_in_one_read(ready: Pair, on_the_wire: Any) -> None:
    ready.agent.receive(on_the_wire(m.Ping(1)) * 10_000)
    for _ in range(10_000):
        assert ready.agent.next_event() == m.Ping(1)
    assert ready.agent.next_event() is NEED_DATA


def test_repr(ready: Pair) -> None:
    ready.agent.receive(b"abc")
    assert repr(ready.agent) == "<Connection role=agent state=ready buffered=3>"


def test_peers() -> None:
    assert CONTROLLER.peer is AGENT
    assert AGENT.peer is CONTROLLER


# The end of the connection -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
def test_an_orderly_end(ready: Pair, role: Role) -> None:
    connection = ready.ends[role]
    connection.receive(b"")
    assert connection.next_event() == Closed()
    assert connection.state is State.CLOSED
    assert connection.next_event() == Closed()


def test_messages_before_the_end_are_still_given(ready: Pair, on_the_wire: Any) -> None:
    ready.controller.receive(on_the_wire(m.Goodbye("stopping", "bye")))
    ready.controller.receive(b"")
    assert ready.controller.next_event() == m.Goodbye("stopping", "bye")
    assert ready.controller.next_event() == Closed()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", [state for state in State if state not in (State.READY, State.CLOSED)])
def test_an_end_where_there_should_be_none(role: Role, state: State, in_state: Any, check_remote: Any) -> None:
    check_remote(in_state(role, state), b"", f"the connection ended in state {state.value}")


def test_an_end_at_every_byte_of_a_command(pair: Pair, in_state: Any) -> None:
    """A cut connection is never taken for a complete command, wherever the cut is."""
    pair.run()
    agent = pair.agent
    data = b"".join(
        [
            agent.send(m.Stdout(b"out")),
            agent.send(agent.end_of(STDOUT)),
            agent.send(agent.end_of(STDERR)),
            agent.send(m.Exit(0)),
        ]
    )
    for length in range(1, len(data)):
        controller = in_state(CONTROLLER, State.READY)
        controller.send(m.Run("true"))
        controller.receive(data[:length])
        while (event := controller.next_event()) is not NEED_DATA:
            assert not isinstance(event, m.Exit)
        controller.receive(b"")
        with pytest.raises(RemoteProtocolError, match=r"^the connection ended (inside a message|in state running)$"):
            controller.next_event()


def test_an_end_inside_a_message(ready: Pair, on_the_wire: Any, check_remote: Any) -> None:
    ready.agent.receive(on_the_wire(m.Ping(1))[:-1])
    check_remote(ready.agent, b"", "the connection ended inside a message")


def test_nothing_is_sent_after_an_error(ready: Pair, check_remote: Any, check_local: Any) -> None:
    check_remote(ready.agent, b"\xff" * 9, "unknown frame type 0xff")
    check_local(ready.agent, m.Ping(), "agent may not send Ping in state closed")


@settings(derandomize=True, database=None, deadline=None, max_examples=500)
@given(st.sampled_from(Role), st.sampled_from(State), st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_give_messages_or_a_remote_error(
    in_state: Any, role: Role, state: State, pieces: list[bytes]
) -> None:
    connection = in_state(role, state)
    try:
        for piece in pieces:
            connection.receive(piece)
            while connection.next_event() is not NEED_DATA and connection.state is not State.CLOSED:
                pass
    except RemoteProtocolError:
        assert connection.state is State.CLOSED


# Payloads received in place ----------------------------------------------------------------------------------------


def receive_in_place(connection: Connection, data: bytes, step: int) -> Iterator[bytes]:
    """Give `data` as a link does, into the connection's own place where it offers one; yield the contents."""
    while data:
        room = connection.room()
        count = min(step, len(data), FRAME_HEADER.size if room is None else len(room))
        if room is None:
            connection.receive(data[:count])
        else:
            room[:count] = data[:count]
            connection.received(count)
        data = data[count:]
        event = connection.next_event()
        if event is not NEED_DATA:
            assert isinstance(event, f.Data)
            yield bytes(event.data)


@pytest.mark.parametrize("step", [1, 100, 10**6])
def test_data_in_place(step: int, on_the_wire: Any, in_state: Any) -> None:
    connection = in_state(AGENT, State.PUSHING)
    pieces = [b"first" * 50, b"second", b"x"]
    data = b"".join(on_the_wire(f.Data(piece)) for piece in pieces)
    assert list(receive_in_place(connection, data, step)) == pieces


# Only payloads that are worth it are received in place.
ONE, TWO = b"one " * 4096, b"two " * 4096


@pytest.mark.parametrize("kind", [m.Stdout, m.Stderr])
def test_the_place_is_good_until_more_comes(kind: type[Message], on_the_wire: Any, in_state: Any) -> None:
    connection = in_state(CONTROLLER, State.RUNNING)
    connection.receive(on_the_wire(kind(ONE)) + on_the_wire(kind(TWO)))
    first = connection.next_event()
    assert isinstance(first, kind)
    assert first.data == ONE
    assert connection.next_event() == kind(TWO)
    assert first.data == TWO  # it was a view


def test_a_small_payload_is_for_ever(on_the_wire: Any, in_state: Any) -> None:
    connection = in_state(AGENT, State.PUSHING)
    connection.receive(on_the_wire(f.Data(b"one")) + on_the_wire(f.Data(b"two")))
    events = [connection.next_event() for _ in range(2)]
    assert events == [f.Data(b"one"), f.Data(b"two")]
    assert not connection._direct._view


def test_the_place_is_given_back(on_the_wire: Any, in_state: Any) -> None:
    connection = in_state(CONTROLLER, State.PULLING)
    connection.receive(on_the_wire(f.Data(ONE)) + on_the_wire(m.Error("failed", "no")))
    assert connection.next_event() == f.Data(ONE)
    assert connection._direct._view
    assert connection.next_event() == m.Error("failed", "no")
    assert connection.state is State.READY
    assert not connection._direct._view


def test_a_wrong_checksum_in_place(on_the_wire: Any, in_state: Any, check_remote: Any) -> None:
    data = bytearray(on_the_wire(f.Data(ONE)))
    data[-1] ^= 1
    check_remote(in_state(AGENT, State.PUSHING), bytes(data), "wrong checksum on a frame of type 0x45")


def test_an_end_in_a_payload_in_place(on_the_wire: Any, in_state: Any, check_remote: Any) -> None:
    connection = in_state(AGENT, State.PUSHING)
    connection.receive(on_the_wire(f.Data(ONE))[:-1])
    assert connection.next_event() is NEED_DATA
    assert len(connection.room()) == 1
    check_remote(connection, b"", "the connection ended inside a message")


def test_a_whole_file_in_place(on_the_wire: Any, in_state: Any, arrives: Callable[..., None]) -> None:
    message = f.Whole(5, "0" * 64, bytes(range(256)) * 200)
    arrives(lambda: in_state(AGENT, State.PUSHING), on_the_wire(message), [message], b"\0")


def test_a_feature_that_was_not_agreed_upon(
    on_the_wire: Any, in_state: Any, check_local: Any, check_remote: Any, samples: Samples
) -> None:
    whole = samples[f.Whole]
    for role in Role:
        state = State.PUSHING if role is CONTROLLER else State.PULLING
        writer, reader = in_state(role, state), in_state(role.peer, state)
        writer.features = reader.features = 0
        text = f"{role.value} may not send Whole, a feature that was not agreed upon"
        check_local(writer, whole, text)
        check_remote(reader, on_the_wire(whole), text)


@pytest.mark.parametrize("features", [0, FEATURES])
def test_the_features_of_the_challenge_are_agreed_upon(features: int) -> None:
    ends = [Connection(CONTROLLER), Connection(AGENT)]
    hello = in_order()[0]
    ends[1].receive(ends[0].send(hello))
    assert ends[1].next_event() == hello
    ends[0].receive(ends[1].send(m.Challenge(1, features, bytes(32))))
    ends[0].next_event()
    assert [end.features for end in ends] == [features, features]


def test_a_payload_of_data_is_not_copied(in_state: Any) -> None:
    buffer = bytearray(b"content")
    header, payload = in_state(CONTROLLER, State.PUSHING).send_parts(f.Data(memoryview(buffer)))
    assert len(header) == FRAME_HEADER.size
    assert payload.obj is buffer


def test_what_crossed_with_an_error_is_let_pass(pair: Pair, samples: Samples) -> None:
    """The agent refuses a push while the controller is sending it; and the next request is a new one."""
    pair.login()
    pair.send(CONTROLLER, f.Push("/etc/"))
    data = b"".join(pair.controller.send(samples[kind]) for kind in (f.Entries, f.Open, f.Data, f.Hole, f.Close))
    refusal = pair.agent.send(m.Error("denied", "no"))
    pair.agent.receive(data)
    assert [pair.agent.next_event() for _ in range(5)] == [
        samples[kind] for kind in (f.Entries, f.Open, f.Data, f.Hole, f.Close)
    ]
    assert pair.agent.state is State.READY
    pair.controller.receive(refusal)
    assert pair.controller.next_event() == m.Error("denied", "no")
    pair.send(CONTROLLER, f.Pull(("/x",)))
    assert pair.agent.state is State.PULLING
