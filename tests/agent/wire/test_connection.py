"""Who may say what when, the streams' ends, and any legal conversation cut into any pieces."""

from __future__ import annotations

import hashlib
import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire import messages as m
from agent.wire.codec import FRAME_TYPES, LIMITS, encode_handshake, encode_payload
from agent.wire.connection import NEED_DATA, TABLE, Closed, Connection, Role, State
from agent.wire.constants import STDIN_WINDOW
from agent.wire.errors import LocalProtocolError, RemoteProtocolError
from agent.wire.frames import FRAME_HEADER, encode_frame, encode_prefixed
from agent.wire.messages import Message

CONTROLLER, AGENT = Role.CONTROLLER, Role.AGENT
STDIN, STDOUT, STDERR = m.Stream
CODES = {kind: code for code, kind in FRAME_TYPES.items()}
LOGIN_STATES = (State.HELLO, State.CHALLENGE, State.PROOF, State.VERDICT)
Pair = Any  # conftest's ConnectionPair
Samples = dict[type[Message], Message]


def on_the_wire(message: Message) -> bytes:
    """Return a message's bytes without asking a connection whether it may be sent."""
    kind = type(message)
    if kind in CODES:
        return encode_frame(CODES[kind], encode_payload(message))
    return encode_prefixed(encode_handshake(message))


def in_state(role: Role, state: State) -> Connection:
    """Return a connection in `state`; a command has a standard input and no output so far."""
    connection = Connection(role)
    if state is State.RUNNING:
        connection.state = State.READY
        run = m.Run("cat", stdin=True)
        if role is CONTROLLER:
            connection.send(run)
        else:
            connection.receive(on_the_wire(run))
            connection.next_event()
        connection.stdin_window -= 1  # room for a Window
    connection.state = state
    return connection


def check_remote(connection: Connection, data: bytes, text: str) -> None:
    connection.receive(data)
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    assert str(caught.value) == text
    assert connection.state is State.CLOSED
    assert connection.next_event() == Closed()


def check_local(connection: Connection, message: Message, text: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        connection.send(message)
    assert str(caught.value) == text
    assert connection.state is State.CLOSED


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
def test_sending(role: Role, state: State, kind: type[Message], samples: Samples) -> None:
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
def test_receiving(sender: Role, state: State, kind: type[Message], samples: Samples) -> None:
    connection = in_state(sender.peer, state)
    message = fit(sender, samples[kind])
    data = on_the_wire(message)
    after = TABLE[sender][state].get(kind)
    if state is State.CLOSED:
        connection.receive(data)
        assert connection.next_event() == Closed()
    elif kind is m.Refusal and state in (State.READY, State.RUNNING):
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
def test_run_before_the_login_is_no_key_of_the_table(state: State) -> None:
    for role in Role:
        assert not set(TABLE[role][state]) & set(FRAME_TYPES.values())
    check_local(in_state(CONTROLLER, state), m.Run("id"), f"controller may not send Run in state {state.value}")


def test_only_the_agents_welcome_opens_the_door() -> None:
    opens = [
        (role, state, kind)
        for role, states in TABLE.items()
        for state, kinds in states.items()
        for kind, after in kinds.items()
        if after in (State.READY, State.RUNNING) and state not in (State.READY, State.RUNNING)
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
        m.Challenge(1, 0, b"\xbb" * 32),
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
def test_login_messages_whole_and_byte_by_byte(position: int, arrives: Callable[..., None]) -> None:
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
@pytest.mark.parametrize("trailing", [b"\0", on_the_wire(m.Run("id"))], ids=["one byte", "a whole run"])
def test_nothing_may_follow_before_the_answer(position: int, trailing: bytes) -> None:
    """A request sent along with the proof must not be there when the login is done: it is refused at once."""
    sender = AGENT if position % 2 else CONTROLLER
    connection = in_state(sender.peer, LOGIN_STATES[position])
    next_state = LOGIN_STATES[position + 1].value
    data = on_the_wire(in_order()[position]) + trailing
    check_remote(connection, data, f"the peer spoke in state {next_state}, when it was our turn")


def test_frames_may_come_right_behind_the_welcome(pair: Pair) -> None:
    connection = in_state(CONTROLLER, State.VERDICT)
    connection.receive(on_the_wire(in_order()[3]) + on_the_wire(m.Ping(1)))
    assert connection.next_event() == in_order()[3]
    assert connection.next_event() == m.Ping(1)


def test_hostile_openings() -> None:
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b"\x16\x03\x01\x02\x00\x01\x00"):
        length = int.from_bytes(text[:2], "big")
        check_remote(Connection(AGENT), text, f"message of {length} bytes, expected 1 to 1024")


@pytest.mark.parametrize("length", [0, 1025, 65535])
def test_a_length_of_the_login_is_refused_before_its_body(length: int) -> None:
    text = f"message of {length} bytes, expected 1 to 1024"
    check_remote(Connection(AGENT), length.to_bytes(2, "big"), text)


@pytest.mark.parametrize("length", [1, 65, 130, 1024])
def test_a_hello_of_a_wrong_length(length: int) -> None:
    check_remote(Connection(AGENT), length.to_bytes(2, "big") + b"F" * length, "not a fleet hello")


# Frames ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_frames_whole_byte_by_byte_and_with_trailing_bytes(
    kind: type[Message], samples: Samples, arrives: Callable[..., None]
) -> None:
    for sender, state in itertools.product(Role, (State.READY, State.RUNNING)):
        if kind in TABLE[sender][state] and kind not in EARLY:
            message = fit(sender, samples[kind])
            arrives(lambda s=sender, t=state: in_state(s.peer, t), on_the_wire(message), [message], b"\0\0\0\1\1half")


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_a_frame_is_refused_by_its_header_and_takes_no_memory(kind: type[Message]) -> None:
    sender = next(role for role in (AGENT, CONTROLLER) if kind in TABLE[role][State.RUNNING] | TABLE[role][State.READY])
    state = next(state for state in (State.READY, State.RUNNING) if kind in TABLE[sender][state])
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


def test_a_message_out_of_turn_is_refused_by_its_header(ready: Pair) -> None:
    header = FRAME_HEADER.pack(5, CODES[m.Stdout], 0)
    check_remote(ready.controller, header, "agent may not send Stdout in state ready")


@pytest.mark.parametrize("code", sorted(set(range(256)) - set(FRAME_TYPES)))
def test_unknown_types(code: int) -> None:
    check_remote(in_state(AGENT, State.READY), FRAME_HEADER.pack(0, code, 0), f"unknown frame type {code:#04x}")


def test_a_wrong_checksum(ready: Pair) -> None:
    data = bytearray(on_the_wire(m.Run("true")))
    data[-1] ^= 1
    check_remote(ready.agent, bytes(data), "wrong checksum on a frame of type 0x10")


def test_a_bad_payload(ready: Pair) -> None:
    check_remote(ready.agent, encode_frame(CODES[m.Run], b"[]"), "not a JSON object")


def test_a_hundred_thousand_levels(ready: Pair) -> None:
    check_remote(ready.agent, encode_frame(CODES[m.Run], b"[" * 100_000), "JSON nested too deep")


def test_what_is_too_long_is_not_sent(ready: Pair) -> None:
    run = m.Run("x" * 1024 * 1024)
    size = len(encode_payload(run))
    check_local(ready.controller, run, f"Run of {size} bytes, expected no more than 1048576")


def test_what_the_peer_would_refuse_is_not_sent(ready: Pair) -> None:
    check_local(ready.controller, m.Run("\ud800"), "lone surrogate in 'command'")


def test_a_memoryview_is_copied(ready: Pair) -> None:
    """The owner reads into one buffer again and again."""
    data = bytearray(on_the_wire(m.Ping(5)))
    ready.agent.receive(memoryview(data))
    data[:] = bytes(len(data))
    assert ready.agent.next_event() == m.Ping(5)


def test_many_small_messages_in_one_read(ready: Pair) -> None:
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


# A whole command ---------------------------------------------------------------------------------------------------


def test_a_command_with_everything(pair: Pair) -> None:
    pair.run(m.Run("cat; echo oops >&2", stdin=True))
    pair.send(CONTROLLER, m.Stdin(b"hello\n"))
    pair.send(AGENT, m.Window(6), m.Ping(1))
    pair.send(CONTROLLER, m.Pong(1, 2.0))
    pair.end(STDIN)
    pair.send(AGENT, m.Stdout(b"hel"), m.Stderr(b"oops\n"), m.Stdout(b"lo\n"))
    pair.end_output()
    pair.send(AGENT, m.Exit(0))
    assert pair.controller.state is pair.agent.state is State.READY
    pair.send(CONTROLLER, m.Run("again"))
    pair.end_output()
    pair.send(AGENT, m.Exit(signal=9, reason=m.Reason.TIMEOUT), m.Goodbye("stopping", "bye"))
    assert pair.controller.next_event() == Closed()


def test_the_end_holds_count_digest_and_total(running: Pair) -> None:
    running.send(AGENT, m.Stdout(b"ab"), m.Stdout(b"c"))
    end = running.agent.end_of(STDOUT, 7)
    assert end == m.EndOfStream(STDOUT, 3, hashlib.sha256(b"abc").hexdigest(), 10)
    running.send(AGENT, end)


def test_streams_start_afresh_with_each_command(running: Pair) -> None:
    running.send(AGENT, m.Stdout(b"ab"))
    running.end_output()
    running.send(AGENT, m.Exit(0))
    running.send(CONTROLLER, m.Run("again"))
    assert running.agent.end_of(STDOUT).bytes == 0
    running.end_output()
    running.send(AGENT, m.Exit(0))


def test_a_refused_request_leaves_the_connection_ready(running: Pair) -> None:
    running.send(AGENT, m.Error("refused", "no such user"))
    assert running.controller.state is State.READY
    running.send(CONTROLLER, m.Run("true"))


@pytest.mark.parametrize("missing", [STDOUT, STDERR])
def test_exit_before_an_end(running: Pair, missing: m.Stream) -> None:
    running.end(STDERR if missing is STDOUT else STDOUT)
    data = on_the_wire(m.Exit(0))
    check_remote(running.controller, data, f"Exit before the end of {missing}")
    check_local(running.agent, m.Exit(0), f"Exit before the end of {missing}")


def test_an_end_with_a_wrong_count(running: Pair) -> None:
    running.send(AGENT, m.Stdout(b"abc"))
    digest = hashlib.sha256(b"abc").hexdigest()
    short, long = m.EndOfStream(STDOUT, 2, digest, 2), m.EndOfStream(STDOUT, 4, digest, 4)
    check_remote(running.controller, on_the_wire(short), "stdout ended after 3 bytes, expected 2")
    check_local(running.agent, long, "stdout ended after 3 bytes, expected 4")


def test_a_lost_frame_is_noticed_at_the_end(running: Pair) -> None:
    """A frame has no number: the count finds that a whole one is missing, the digest that two are not in order."""
    agent = running.agent
    for data in (b"one", b"two"):
        agent.send(m.Stdout(data))
    running.controller.receive(on_the_wire(m.Stdout(b"two")))
    running.controller.next_event()
    end = on_the_wire(agent.end_of(STDOUT))
    check_remote(running.controller, end, "stdout ended after 3 bytes, expected 6")


def test_frames_out_of_order_are_noticed_at_the_end(running: Pair) -> None:
    agent = running.agent
    frames = [agent.send(m.Stdout(data)) for data in (b"one", b"two")]
    running.controller.receive(frames[1] + frames[0])
    assert running.controller.next_event() == m.Stdout(b"two")
    assert running.controller.next_event() == m.Stdout(b"one")
    check_remote(running.controller, on_the_wire(agent.end_of(STDOUT)), "wrong checksum on stdout")


@pytest.mark.parametrize("digest", ["0" * 64, hashlib.sha256(b"abc").hexdigest().upper(), "\u00e9" * 64])
def test_an_end_with_a_wrong_digest(running: Pair, digest: str) -> None:
    running.send(AGENT, m.Stdout(b"abc"))
    end = m.EndOfStream(STDOUT, 3, digest, 3)
    check_remote(running.controller, on_the_wire(end), "wrong checksum on stdout")
    check_local(running.agent, end, "wrong checksum on stdout")


@pytest.mark.parametrize("stream", m.Stream)
def test_data_after_the_end(running: Pair, stream: m.Stream) -> None:
    sender = CONTROLLER if stream is STDIN else AGENT
    message = {STDIN: m.Stdin, STDOUT: m.Stdout, STDERR: m.Stderr}[stream](b"late")
    running.end(stream)
    check_remote(running.ends[sender.peer], on_the_wire(message), f"data on {stream}, which is not open")
    check_local(running.ends[sender], message, f"data on {stream}, which is not open")


@pytest.mark.parametrize("stream", m.Stream)
def test_the_end_twice(running: Pair, stream: m.Stream) -> None:
    sender = CONTROLLER if stream is STDIN else AGENT
    end = running.ends[sender].end_of(stream)
    running.send(sender, end)
    check_remote(running.ends[sender.peer], on_the_wire(end), f"end of {stream}, which is not open")
    check_local(running.ends[sender], end, f"end of {stream}, which is not open")


@pytest.mark.parametrize("stream", m.Stream)
@pytest.mark.parametrize("state", [State.READY, State.RUNNING])
def test_nobody_ends_the_others_streams(stream: m.Stream, state: State) -> None:
    """A controller that ended stdout would make the agent's next byte the agent's fault."""
    thief = AGENT if stream is STDIN else CONTROLLER
    end = in_state(thief, State.RUNNING).end_of(stream)
    text = f"{thief.value} may not end {stream}"
    if m.EndOfStream in TABLE[thief][state]:
        check_remote(in_state(thief.peer, state), on_the_wire(end), text)
        check_local(in_state(thief, state), end, text)


def test_there_is_nothing_to_end_before_the_first_command(ready: Pair) -> None:
    with pytest.raises(LocalProtocolError, match=r"^there is no stdout to end$"):
        ready.agent.end_of(STDOUT)


# Standard input ----------------------------------------------------------------------------------------------------


def test_no_stdin_was_promised(pair: Pair) -> None:
    pair.run(m.Run("true"))
    assert pair.controller.stdin_window == 0
    with pytest.raises(LocalProtocolError, match=r"^there is no stdin to end$"):
        pair.controller.end_of(STDIN)
    empty = m.EndOfStream(STDIN, 0, hashlib.sha256().hexdigest(), 0)
    check_remote(pair.agent, on_the_wire(empty), "end of stdin, which is not open")
    check_local(pair.controller, m.Stdin(b"x"), "data on stdin, which is not open")


def test_stdin_without_a_promise_is_refused(pair: Pair) -> None:
    pair.run(m.Run("true"))
    check_remote(pair.agent, on_the_wire(m.Stdin(b"x")), "data on stdin, which is not open")


def test_a_window_without_a_promise_is_refused(pair: Pair) -> None:
    pair.run(m.Run("true"))
    check_remote(pair.controller, on_the_wire(m.Window(1)), "window of stdin, which is not open")
    check_local(pair.agent, m.Window(1), "window of stdin, which is not open")


def fill_window(pair: Pair) -> None:
    chunk = 262_144
    for _ in range(STDIN_WINDOW // chunk):
        pair.send(CONTROLLER, m.Stdin(bytes(chunk)))
    assert pair.controller.stdin_window == pair.agent.stdin_window == 0


def test_stdin_up_to_its_window_and_no_further(running: Pair) -> None:
    assert running.controller.stdin_window == STDIN_WINDOW
    fill_window(running)
    running.send(AGENT, m.Window(3))
    running.send(CONTROLLER, m.Stdin(b"abc"))
    check_remote(running.agent, on_the_wire(m.Stdin(b"x")), "1 bytes of stdin with a window of 0")
    check_local(running.controller, m.Stdin(b"xy"), "2 bytes of stdin with a window of 0")


def test_a_window_gives_back_what_was_sent_and_no_more(running: Pair) -> None:
    running.send(CONTROLLER, m.Stdin(b"abc"))
    running.send(AGENT, m.Window(2), m.Window(1))
    text = f"window of {STDIN_WINDOW + 1} bytes, expected no more than {STDIN_WINDOW}"
    check_remote(running.controller, on_the_wire(m.Window(1)), text)
    check_local(running.agent, m.Window(1), text)


def test_the_window_may_still_move_after_the_end_of_stdin(running: Pair) -> None:
    """The command reads what lies in the pipe after the controller has ended the stream."""
    running.send(CONTROLLER, m.Stdin(b"abc"))
    running.end(STDIN)
    running.send(AGENT, m.Window(3))


def test_input_that_crossed_the_exit_is_harmless(running: Pair) -> None:
    """The agent has sent Exit, the controller has not seen it yet: what it says until then means nothing."""
    controller, agent = running.controller, running.agent
    from_agent = agent.send(agent.end_of(STDOUT)) + agent.send(agent.end_of(STDERR)) + agent.send(m.Exit(0))
    crossing = [m.Stdin(b"late"), m.Cancel()]
    from_controller = b"".join(controller.send(message) for message in crossing)
    end = controller.end_of(STDIN)
    from_controller += controller.send(end)

    agent.receive(from_controller)
    for message in (*crossing, end):
        assert agent.next_event() == message
        assert agent.state is State.READY
    controller.receive(from_agent)
    for _ in range(3):
        controller.next_event()
    assert controller.state is State.READY

    running.send(CONTROLLER, m.Run("next", stdin=True))
    assert agent.stdin_window == STDIN_WINDOW
    running.send(CONTROLLER, m.Stdin(b"x"))
    running.end(STDIN)


# The end of the connection -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
def test_an_orderly_end(ready: Pair, role: Role) -> None:
    connection = ready.ends[role]
    connection.receive(b"")
    assert connection.next_event() == Closed()
    assert connection.state is State.CLOSED
    assert connection.next_event() == Closed()


def test_messages_before_the_end_are_still_given(ready: Pair) -> None:
    ready.controller.receive(on_the_wire(m.Goodbye("stopping", "bye")))
    ready.controller.receive(b"")
    assert ready.controller.next_event() == m.Goodbye("stopping", "bye")
    assert ready.controller.next_event() == Closed()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", [*LOGIN_STATES, State.RUNNING])
def test_an_end_where_there_should_be_none(role: Role, state: State) -> None:
    check_remote(in_state(role, state), b"", f"the connection ended in state {state.value}")


def test_an_end_at_every_byte_of_a_command(pair: Pair) -> None:
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


def test_an_end_inside_a_message(ready: Pair) -> None:
    ready.agent.receive(on_the_wire(m.Ping(1))[:-1])
    check_remote(ready.agent, b"", "the connection ended inside a message")


def test_nothing_is_sent_after_an_error(ready: Pair) -> None:
    check_remote(ready.agent, b"\xff" * 9, "unknown frame type 0xff")
    check_local(ready.agent, m.Ping(), "agent may not send Ping in state closed")


# Any conversation --------------------------------------------------------------------------------------------------

SMALL = st.binary(min_size=1, max_size=40)
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(["\udc80", "\udcff"]), max_size=10)
PLAIN = TEXT.map(lambda text: text.replace("\0", ""))
RUNS = st.builds(
    m.Run,
    command=PLAIN.map(lambda text: text + "x"),
    host=PLAIN,
    run=PLAIN,
    environment=st.dictionaries(PLAIN.map(lambda text: text.replace("=", "") + "X"), PLAIN, max_size=2),
    directory=st.none() | PLAIN,
    user=st.none() | PLAIN,
    timeout=st.none() | st.floats(0.001, 1e8),
    max_output=st.none() | st.integers(0, 2**63 - 1),
    stdin=st.booleans(),
)
TOKENS = st.integers(0, 2**63 - 1)
EXITS = st.builds(m.Exit, code=st.integers(0, 255), reason=st.sampled_from(m.Reason), held=st.booleans()) | st.builds(
    m.Exit, signal=st.integers(1, 64), elapsed=st.floats(0, 1e6), error=st.none() | TEXT
)
PLANS: dict[type[Message], st.SearchStrategy[Any]] = {
    m.Ping: st.builds(m.Ping, TOKENS),
    m.Pong: st.builds(m.Pong, TOKENS, st.floats(0, 1e11)),
    m.Goodbye: st.builds(m.Goodbye, TEXT, TEXT),
    m.Error: st.builds(m.Error, TEXT, TEXT),
    m.Run: RUNS,
    m.Stdin: st.builds(m.Stdin, SMALL),
    m.Cancel: st.builds(m.Cancel),
    m.Stdout: st.builds(m.Stdout, SMALL),
    m.Stderr: st.builds(m.Stderr, SMALL),
    m.Exit: EXITS,
}


class Conversation:
    """Draws messages that are legal, from the rules as written in PROTOCOL.md and not from the connection's code."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.open: dict[m.Stream, bytes] = {}
        self.under_way = 0

    def next(self, sender: Role, state: State) -> Message:
        """Return one message that `sender` may send in `state`."""
        mine = {STDIN} if sender is CONTROLLER else {STDOUT, STDERR}
        kinds = set(TABLE[sender][state]) - {m.EndOfStream, m.Window, m.Stdin, m.Stdout, m.Stderr, m.Exit}
        ends: list[m.Stream] = []
        if state is State.RUNNING:
            ends = sorted(mine & self.open.keys())
            kinds |= {{STDIN: m.Stdin, STDOUT: m.Stdout, STDERR: m.Stderr}[stream] for stream in ends}
            if sender is AGENT and not {STDOUT, STDERR} & self.open.keys():
                kinds.add(m.Exit)
        choices: list[object] = sorted(kinds, key=lambda kind: kind.__name__) + list(ends)
        if sender is AGENT and state is State.RUNNING and self.under_way:
            choices.append(m.Window)
        choice = self.draw(st.sampled_from(choices))
        if isinstance(choice, m.Stream):
            data = self.open.pop(choice)
            held_back = self.draw(st.integers(0, 2**40))
            return m.EndOfStream(choice, len(data), hashlib.sha256(data).hexdigest(), len(data) + held_back)
        if choice is m.Window:
            taken = self.draw(st.integers(1, self.under_way))
            self.under_way -= taken
            return m.Window(taken)
        return self._keep(self.draw(PLANS[choice]))  # type: ignore[index]

    def _keep(self, message: Message) -> Message:
        if isinstance(message, m.Run):
            self.open = dict.fromkeys(m.Stream if message.stdin else (STDOUT, STDERR), b"")
            self.under_way = 0
        elif isinstance(message, m.Stdin | m.Stdout | m.Stderr):
            stream = m.Stream(type(message).__name__.lower())
            self.open[stream] += message.data
            self.under_way += len(message.data) if stream is STDIN else 0
        return message


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.data())
def test_any_legal_conversation_in_any_pieces_arrives_equal(data: st.DataObject) -> None:
    ends = {role: in_state(role, State.READY) for role in Role}
    conversation = Conversation(data.draw)
    for _ in range(data.draw(st.integers(1, 8))):
        sender = data.draw(st.sampled_from(Role))
        said: list[Message] = []
        sent = b""
        for _ in range(data.draw(st.integers(1, 6))):
            if ends[sender].state is State.CLOSED:
                break
            message = conversation.next(sender, ends[sender].state)
            said.append(message)
            sent += ends[sender].send(message)

        sink = ends[sender.peer]
        cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
        heard: list[object] = []
        for start, stop in itertools.pairwise([0, *cuts, len(sent)]):
            if start < stop:
                sink.receive(sent[start:stop])
            while sink.state is not State.CLOSED and (event := sink.next_event()) is not NEED_DATA:
                heard.append(event)
        assert heard == said
        assert sink.state is ends[sender].state
        if sink.state is State.CLOSED:
            return


@settings(derandomize=True, database=None, deadline=None, max_examples=500)
@given(st.sampled_from(Role), st.sampled_from(State), st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_give_messages_or_a_remote_error(role: Role, state: State, pieces: list[bytes]) -> None:
    connection = in_state(role, state)
    try:
        for piece in pieces:
            connection.receive(piece)
            while connection.next_event() is not NEED_DATA and connection.state is not State.CLOSED:
                pass
    except RemoteProtocolError:
        assert connection.state is State.CLOSED
