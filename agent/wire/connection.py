"""One connection's protocol as an object: bytes in, messages out. It does no I/O and has no clock.

Theory of operation. There is one conversation, and so one state, which both sides follow by the same table: who may
say what in which state, and the state after it. Nothing else decides that; a command before the login, for one, is
refused because `Run` is no key in the states of the login. This file does not care which role we play: a message
that we send and one that we receive go through the same steps, so that we cannot be stricter with others than with
ourselves.

The two sides of a running command speak at the same time, so the controller may still send input, its end, or a
`Cancel` when the agent has just sent `Exit`. The table therefore lets those pass in READY, where they mean nothing.

Beside the state there are the streams: each has a count of bytes and a running SHA-256 on both sides, and its
`EndOfStream` must agree. `Exit` may not come before both output streams have ended.
"""

from __future__ import annotations

import enum

from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.codec import (
    FRAME_TYPES,
    LIMITS,
    decode_handshake,
    decode_payload,
    encode_handshake,
    encode_payload,
)
from agent.wire.constants import WHOLE_FILES
from agent.wire.direct import DirectPayload, checksum_starts
from agent.wire.errors import ConnectionEndedError, LocalProtocolError, RemoteProtocolError
from agent.wire.frames import encode_prefixed, frame_header, read_frame, read_prefixed
from agent.wire.record import record
from agent.wire.streams import Streams

__all__ = ["NEED_DATA", "TABLE", "Closed", "Connection", "NeedData", "Role", "State"]


class Role(enum.Enum):
    """Which side of the connection."""

    CONTROLLER = "controller"
    AGENT = "agent"

    # The table is asked for every message, and Enum's own hash is written in Python. Members are singletons.
    __hash__ = object.__hash__

    @property
    def peer(self) -> Role:
        """Return the other side."""
        return Role.AGENT if self is Role.CONTROLLER else Role.CONTROLLER


class State(enum.Enum):
    """Where the conversation is. The first four are named after the message that comes next."""

    HELLO = "hello"
    CHALLENGE = "challenge"
    PROOF = "proof"
    VERDICT = "verdict"
    READY = "ready"
    RUNNING = "running"
    PUSHING = "pushing"
    PULLING = "pulling"
    RESTORING = "restoring"
    CLOSED = "closed"

    __hash__ = object.__hash__


class NeedData(enum.Enum):
    """The type of NEED_DATA."""

    NEED_DATA = "need data"


@record
class Closed:
    """The peer closed the connection where it may."""


NEED_DATA = NeedData.NEED_DATA

# What the two parts in a transfer of files say: the sender is the controller in a push, the agent in a pull.
_SENDER: tuple[type[m.Message], ...] = (f.Entries, f.Open, f.Data, f.Hole, f.Close, f.Whole, f.Same, f.Gone)
_RECEIVER: tuple[type[m.Message], ...] = (f.Wants, f.Old, f.Data, f.Outcomes)

# Who may say what, and the state after it. A message that is not here is an error.
TABLE: dict[Role, dict[State, dict[type[m.Message], State]]] = {
    Role.CONTROLLER: {
        State.HELLO: {m.Hello: State.CHALLENGE},
        State.CHALLENGE: {},
        State.PROOF: {m.Proof: State.VERDICT},
        State.VERDICT: {},
        State.READY: {
            m.Ping: State.READY,
            m.Pong: State.READY,
            m.Run: State.RUNNING,
            # Sent before the agent's Exit arrived: see "Theory of operation".
            **dict.fromkeys((m.Stdin, m.Script, m.EndOfStream, m.Resize, m.Cancel), State.READY),
            f.Push: State.PUSHING,
            f.Pull: State.PULLING,
            f.Rollback: State.RESTORING,
            # Sent before the agent's Error arrived.
            **dict.fromkeys((*_SENDER, *_RECEIVER, f.Done), State.READY),
        },
        State.RUNNING: {
            m.Ping: State.RUNNING,
            m.Pong: State.RUNNING,
            m.Stdin: State.RUNNING,
            m.Script: State.RUNNING,
            m.EndOfStream: State.RUNNING,
            m.Resize: State.RUNNING,
            m.Cancel: State.RUNNING,
        },
        State.PUSHING: dict.fromkeys((m.Ping, m.Pong, *_SENDER), State.PUSHING),
        State.PULLING: {**dict.fromkeys((m.Ping, m.Pong, *_RECEIVER), State.PULLING), f.Done: State.READY},
        State.RESTORING: dict.fromkeys((m.Ping, m.Pong), State.RESTORING),
        State.CLOSED: {},
    },
    Role.AGENT: {
        State.HELLO: {},
        State.CHALLENGE: {m.Challenge: State.PROOF},
        State.PROOF: {},
        State.VERDICT: {m.Welcome: State.READY, m.Refusal: State.CLOSED},
        State.READY: {m.Ping: State.READY, m.Pong: State.READY, m.Goodbye: State.CLOSED},
        State.RUNNING: {
            m.Ping: State.RUNNING,
            m.Pong: State.RUNNING,
            m.Stdout: State.RUNNING,
            m.Stderr: State.RUNNING,
            m.EndOfStream: State.RUNNING,
            m.Window: State.RUNNING,
            m.Error: State.READY,
            m.Exit: State.READY,
            m.Goodbye: State.CLOSED,
        },
        State.PUSHING: {
            **dict.fromkeys((m.Ping, m.Pong, *_RECEIVER), State.PUSHING),
            f.Done: State.READY,
            m.Error: State.READY,
            m.Goodbye: State.CLOSED,
        },
        State.PULLING: {
            **dict.fromkeys((m.Ping, m.Pong, *_SENDER), State.PULLING),
            m.Error: State.READY,
            m.Goodbye: State.CLOSED,
        },
        State.RESTORING: {
            **dict.fromkeys((m.Ping, m.Pong, f.Outcomes), State.RESTORING),
            f.Done: State.READY,
            m.Error: State.READY,
            m.Goodbye: State.CLOSED,
        },
        State.CLOSED: {},
    },
}

# What the one message of each state of the login is read as. Welcome stands for either verdict.
_LOGIN: dict[State, type[m.Message]] = {
    State.HELLO: m.Hello,
    State.CHALLENGE: m.Challenge,
    State.PROOF: m.Proof,
    State.VERDICT: m.Welcome,
}
_CODES = {kind: code for code, kind in FRAME_TYPES.items()}
_DIRECT = checksum_starts(_CODES[kind] for kind in (f.Data, f.Whole, m.Stdout, m.Stderr))
_OF_FILES = frozenset({f.Push, f.Pull, f.Rollback, f.Done, *_SENDER, *_RECEIVER})
_WRITER = {
    m.Stream.STDIN: Role.CONTROLLER,
    m.Stream.SCRIPT: Role.CONTROLLER,
    m.Stream.STDOUT: Role.AGENT,
    m.Stream.STDERR: Role.AGENT,
}


class Connection:
    """The protocol of one connection, seen from `role`.

    Three calls do it all: `receive` takes bytes from the network, `next_event` gives the messages in them, `send` turns
    a message into bytes for the network. Raises RemoteProtocolError where the peer broke the protocol and
    LocalProtocolError where we would; after either the connection is CLOSED. Any other exception is a bug.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self._peer = role.peer
        self.state = State.HELLO
        self.hello = b""  # bodies of the two opening messages as they were on the wire, for the transcript
        self.challenge = b""
        self.features = 0  # those that both sides have
        self._buffer = bytearray()
        self._direct = DirectPayload(_DIRECT)
        self._end_of_input = False
        self._streams = Streams()

    def __repr__(self) -> str:
        return f"<Connection role={self.role.value} state={self.state.value} buffered={len(self._buffer)}>"

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes from the network. Empty `data` means that the peer has closed its side."""
        if not data:
            self._end_of_input = True
            return
        room = self._direct.room()
        if room is not None:
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self._direct.received(count)
            data = data[count:]
        self._buffer += data

    def room(self) -> memoryview | None:
        """Return a place for the next bytes from the network, None when there is none better than `receive`.

        Whoever puts bytes there tells `received`. What lies there becomes the data of a message, and is overwritten by
        the next one's: see `DirectPayload`.
        """
        return self._direct.room()

    def received(self, count: int) -> None:
        """Take the first `count` bytes in `room`, at least one. When there is none left, call `next_event`."""
        self._direct.received(count)

    @property
    def stdin_window(self) -> int:
        """How many bytes of standard input may still be sent."""
        return self._streams.window

    def next_event(self) -> m.Message | NeedData | Closed:
        """Return the next message, NEED_DATA when it is not all there, or Closed at the peer's orderly end.

        The end of input anywhere else (inside a message, in the login, in a command) is a ConnectionEndedError.
        """
        if self.state is State.CLOSED:
            return Closed()
        try:
            message = self._read_login() if self.state in _LOGIN else self._read_frame()
        except ValueError as error:
            self.state = State.CLOSED
            raise RemoteProtocolError(str(error)) from None
        if message is not None:
            return message
        if not self._end_of_input:
            return NEED_DATA
        state, self.state = self.state, State.CLOSED
        if self._buffer or self._direct.open:
            raise ConnectionEndedError("the connection ended inside a message")
        if state is not State.READY:
            raise ConnectionEndedError(f"the connection ended in state {state.value}")
        return Closed()

    def send(self, message: m.Message) -> bytes:
        """Return the bytes of `message`, and take the conversation to the state after it."""
        return b"".join(self.send_parts(message))

    def send_parts(self, message: m.Message) -> tuple[bytes, bytes | memoryview]:
        """Do as `send`, and return the bytes in two parts: the second is the payload of a frame, and no copy of it."""
        try:
            return self._write(message)
        except ValueError as error:
            self.state = State.CLOSED
            raise LocalProtocolError(str(error)) from None

    def end_of(self, stream: m.Stream, held_back: int = 0) -> m.EndOfStream:
        """Return the last message of a stream that we send. `held_back` counts bytes that an output limit cut off."""
        try:
            return self._streams.end_of(stream, held_back)
        except ValueError as error:
            raise LocalProtocolError(str(error)) from None

    # Reading and writing: the same steps in the opposite order.

    def _write(self, message: m.Message) -> tuple[bytes, bytes | memoryview]:
        kind = type(message)
        after = self._after(self.role, kind)
        payload: bytes | memoryview = b""
        if self.state in _LOGIN:
            body = encode_handshake(message)
            header = encode_prefixed(body)
            self._remember(message, body)
        else:
            payload = encode_payload(message)
            if len(payload) > LIMITS[kind]:
                raise ValueError(f"{kind.__name__} of {len(payload)} bytes, expected no more than {LIMITS[kind]}")
            header = frame_header(_CODES[kind], payload)
        self._account(self.role, message)
        self.state = after
        return header, payload

    def _read_login(self) -> m.Message | None:
        kind = _LOGIN[self.state]
        if not TABLE[self._peer][self.state]:
            self._expect_silence()
            return None
        body = read_prefixed(self._buffer)
        if body is None:
            return None
        message = decode_handshake(kind, body)
        after = self._after(self._peer, type(message))
        self._remember(message, body)
        self.state = after
        if after in _LOGIN:
            # Whoever sends more before our answer cannot have checked it. A request behind the proof, above all, must
            # not be lying here when the login is done.
            self._expect_silence()
        return message

    def _expect_silence(self) -> None:
        if self._buffer:
            raise ValueError(f"the peer spoke in state {self.state.value}, when it was our turn")

    def _read_frame(self) -> m.Message | None:
        if self._direct.open or self._direct.begin(self._buffer, self._limit):
            if not self._direct.full:
                return None
            code, place = self._direct.take()
            message = decode_payload(FRAME_TYPES[code], place)
        else:
            frame = read_frame(self._buffer, self._limit)
            if frame is None:
                return None
            code, payload = frame
            message = decode_payload(FRAME_TYPES[code], payload)
        after = self._after(self._peer, type(message))
        self._account(self._peer, message)
        self.state = after
        if after is State.READY:
            self._direct.forget()
        return message

    # The rules.

    def _after(self, sender: Role, kind: type[m.Message]) -> State:
        after = TABLE[sender][self.state].get(kind)
        if after is None:
            raise ValueError(f"{sender.value} may not send {kind.__name__} in state {self.state.value}")
        if kind is f.Whole and not self.features & WHOLE_FILES:
            raise ValueError(f"{sender.value} may not send {kind.__name__}, a feature that was not agreed upon")
        return after

    def _limit(self, code: int) -> int:
        kind = FRAME_TYPES.get(code)
        if kind is None:
            raise ValueError(f"unknown frame type {code:#04x}")
        self._after(self._peer, kind)
        return LIMITS[kind]

    def _remember(self, message: m.Message, body: bytes) -> None:
        if isinstance(message, m.Hello):
            self.hello = body
        elif isinstance(message, m.Challenge):
            self.challenge, self.features = body, message.features

    def _account(self, sender: Role, message: m.Message) -> None:
        """Keep the streams' counts, and check what they must agree with."""
        if type(message) in _OF_FILES:  # they have no streams, and there are six thousand of them for 2,000 files
            return
        match message:
            case m.Stdout() | m.Stderr() | m.Stdin() | m.Script():
                if self.state is State.RUNNING:
                    self._streams.data(message)
            case m.EndOfStream():
                if sender is not _WRITER[message.stream]:
                    raise ValueError(f"{sender.value} may not end {message.stream}")
                if self.state is State.RUNNING:
                    self._streams.end(message)
            case m.Run():
                self._streams.begin(message)
            case m.Window():
                self._streams.open_window(message)
            case m.Exit():
                self._streams.check_ended()
