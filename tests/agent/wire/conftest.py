"""Two connections back to back, a connection in any state, and the three ways to give bytes to one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.codec import FRAME_TYPES, encode_handshake, encode_payload
from agent.wire.connection import NEED_DATA, Closed, Connection, Role, State
from agent.wire.constants import FEATURES
from agent.wire.errors import LocalProtocolError, RemoteProtocolError
from agent.wire.frames import encode_frame, encode_prefixed
from agent.wire.messages import Message

# One of each message, in the role that sends it. Runs and streams are chosen so that each stands alone.
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HELLO = m.Hello("ops", b"\x11" * 16, 1, b"\xaa" * 32, 1, 1, 0)
CHALLENGE = m.Challenge(1, FEATURES, b"\xbb" * 32)
PROOF = m.Proof(b"\xcc" * 32, b"\xdd" * 32)
WELCOME = m.Welcome(b"\xee" * 32, b'{"agent":"1.0"}')

_CODES = {kind: code for code, kind in FRAME_TYPES.items()}


class ConnectionPair:
    """A controller's and an agent's connection with a perfect link between: what one sends must arrive equal."""

    def __init__(self) -> None:
        self.ends = {role: Connection(role) for role in Role}
        self.controller = self.ends[Role.CONTROLLER]
        self.agent = self.ends[Role.AGENT]

    def send(self, sender: Role, *messages: m.Message) -> bytes:
        """Send `messages` from `sender`, check that the other side gets the same, return the bytes of all."""
        source, sink = self.ends[sender], self.ends[sender.peer]
        sent = b""
        for message in messages:
            data = source.send(message)
            sink.receive(data)
            arrived = sink.next_event()
            assert arrived == message
            assert type(arrived) is type(message)
            assert source.state is sink.state
            if sink.state is not State.CLOSED:
                assert sink.next_event() is NEED_DATA
            sent += data
        return sent

    def login(self) -> ConnectionPair:
        """Go through the four opening messages. Nobody looks at the proofs: that is not the connection's affair."""
        self.send(Role.CONTROLLER, HELLO)
        self.send(Role.AGENT, CHALLENGE)
        self.send(Role.CONTROLLER, PROOF)
        self.send(Role.AGENT, WELCOME)
        assert self.controller.state is State.READY
        return self

    def run(self, run: m.Run | None = None) -> ConnectionPair:
        """Log in and start a command."""
        self.login().send(Role.CONTROLLER, run or m.Run("true"))
        return self

    def end(self, stream: m.Stream, held_back: int = 0) -> bytes:
        """Let the side that writes `stream` end it."""
        sender = Role.CONTROLLER if stream in (m.Stream.STDIN, m.Stream.SCRIPT) else Role.AGENT
        return self.send(sender, self.ends[sender].end_of(stream, held_back))

    def end_output(self) -> None:
        """End both output streams."""
        self.end(m.Stream.STDOUT)
        self.end(m.Stream.STDERR)


def collect(connection: Connection) -> list[object]:
    """Return what the connection has to say until it wants more bytes or is closed."""
    events: list[object] = []
    while connection.state is not State.CLOSED and (event := connection.next_event()) is not NEED_DATA:
        events.append(event)
    return events


def check_arrival(make: Callable[[], Connection], data: bytes, expected: Iterable[object], trailing: bytes) -> None:
    """Feed `data` whole, byte by byte, and with `trailing` bytes after it: the same messages must come each time."""
    wanted = list(expected)

    whole = make()
    whole.receive(data)
    assert collect(whole) == wanted

    slow = make()
    seen: list[object] = []
    for position in range(len(data)):
        assert len(seen) < len(wanted), "the messages were there before their last byte"
        slow.receive(data[position : position + 1])
        seen += collect(slow)
    assert seen == wanted

    early = make()
    early.receive(data + trailing)
    assert collect(early) == wanted


def on_the_wire(message: Message) -> bytes:
    """Return a message's bytes without asking a connection whether it may be sent."""
    kind = type(message)
    if kind in _CODES:
        return encode_frame(_CODES[kind], encode_payload(message))
    return encode_prefixed(encode_handshake(message))


def in_state(role: Role, state: State) -> Connection:
    """Return a connection in `state`; a command has a standard input, a script to come and no output so far."""
    connection = Connection(role)
    if state is State.RUNNING:
        connection.state = State.READY
        run = m.Run("cat", stdin=True, script=True)
        if role is Role.CONTROLLER:
            connection.send(run)
        else:
            connection.receive(on_the_wire(run))
            connection.next_event()
        connection._streams.window -= 1  # room for a Window
    connection.state = state
    connection.features = FEATURES
    return connection


def check_remote(connection: Connection, data: bytes, text: str) -> None:
    """Let the peer say `data`: it is the peer's fault, for that reason, and nothing more comes."""
    connection.receive(data)
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    assert str(caught.value) == text
    assert connection.state is State.CLOSED
    assert connection.next_event() == Closed()


def check_local(connection: Connection, message: Message, text: str) -> None:
    """Try to say `message`: it is our fault, for that reason."""
    with pytest.raises(LocalProtocolError) as caught:
        connection.send(message)
    assert str(caught.value) == text
    assert connection.state is State.CLOSED


@pytest.fixture
def pair() -> ConnectionPair:
    """Two fresh connections."""
    return ConnectionPair()


@pytest.fixture
def ready(pair: ConnectionPair) -> ConnectionPair:
    """Two connections after the login."""
    return pair.login()


@pytest.fixture
def running(pair: ConnectionPair) -> ConnectionPair:
    """Two connections in a script with a standard input."""
    return pair.run(m.Run("cat", stdin=True, script=True))


# A conftest cannot be imported, so its functions are handed to the tests. They hold no state: one for all tests.


@pytest.fixture(scope="session", name="arrives")
def give_check_arrival() -> Callable[..., None]:
    return check_arrival


@pytest.fixture(scope="session", name="on_the_wire")
def give_on_the_wire() -> Callable[..., bytes]:
    return on_the_wire


@pytest.fixture(scope="session", name="in_state")
def give_in_state() -> Callable[..., Connection]:
    return in_state


@pytest.fixture(scope="session", name="check_remote")
def give_check_remote() -> Callable[..., None]:
    return check_remote


@pytest.fixture(scope="session", name="check_local")
def give_check_local() -> Callable[..., None]:
    return check_local


@pytest.fixture
def samples() -> dict[type[m.Message], m.Message]:
    """One of each message, fit for a command that has just begun and has a standard input."""
    messages: list[m.Message] = [
        HELLO,
        CHALLENGE,
        PROOF,
        WELCOME,
        m.Refusal(),
        m.Ping(7),
        m.Pong(7, 1.5),
        m.Goodbye("stopping", "the agent stops"),
        m.Error("refused", "no such user"),
        m.Run("df -h", host="web1", run="r1", environment={"LANG": "C"}, directory="/", user="www", timeout=5.0),
        m.Script(b"#!/bin/sh\n"),
        m.Resize(24, 80),
        m.Stdin(b"in"),
        m.Cancel(),
        m.Stdout(b"out"),
        m.Stderr(b"err"),
        m.Exit(0, elapsed=0.25),
        m.Window(1),
        m.EndOfStream(m.Stream.STDOUT, 0, EMPTY, 0),
        f.Push("/etc/", host="web1", run="r1", mode=0o640, owner="www", backup="~", exclude=("*.o",)),
        f.Pull(("/var/log/*.log",), host="web1", run="r1", follow=True, max_size=1, max_files=2),
        f.Rollback("r1", host="web1", run="r2"),
        f.Entries((f.Entry("a", f.Kind.FILE, 0o644, 5, 1),), last=True),
        f.Open(0, 1, 2),
        f.Data(b"data"),
        f.Hole(4096),
        f.Close(5, EMPTY),
        f.Whole(0, EMPTY, b"whole"),
        f.Same((0, 1)),
        f.Gone(0, "no such file"),
        f.Wants((f.Want(0, EMPTY, 4, EMPTY),)),
        f.Old(0, 5, EMPTY, content=True),
        f.Outcomes((f.Outcome("/etc/a", f.FileStatus.CHANGED, 0, 5, EMPTY, kept=True),), settled=True),
        f.Done("r1"),
    ]
    return {type(message): message for message in messages}
