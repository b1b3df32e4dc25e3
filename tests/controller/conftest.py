"""An agent that does what a test tells it: real TLS and the real protocol, up to the point where it misbehaves."""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from agent.tls import server_context
from agent.wire import messages as m
from agent.wire.connection import Closed, Connection, NeedData, Role
from agent.wire.handshake import channel_binding, client_proof, derive_keys, server_proof, transcript_hash
from controller.cancel import CancelToken
from controller.client import Client, Target
from controller.keyfile import ControllerKey
from controller.registry import Identity
from controller.terminal import LocalTerminal

PATIENCE = 30.0  # seconds; reached only by a test that fails
KEY = ControllerKey("ops", bytes(range(32)))
IDENTITY = Identity(b"\x42" * 16, 1)


@cache
def _context() -> tuple[ssl.SSLContext, bytes]:
    return server_context()


class Talk:
    """One conversation, from the agent's side. `heard` is every byte that came after the controller's proof."""

    def __init__(self, sock: ssl.SSLSocket, certificate: bytes) -> None:
        self.sock = sock
        self.connection = Connection(Role.AGENT)
        self.keys = derive_keys(KEY.master, KEY.name, IDENTITY.host_id, IDENTITY.epoch)
        self.heard = b""
        self._binding = channel_binding(certificate, sock.get_channel_binding("tls-unique"))
        self._proven = False

    def receive(self) -> m.Message | Closed:
        """Return the next message."""
        while isinstance(event := self.connection.next_event(), NeedData):
            data = self.sock.recv(65536)
            if self._proven:
                self.heard += data
            self.connection.receive(data)
        return event

    def send(self, *messages: m.Message) -> None:
        """Send messages, all in one piece."""
        self.sock.sendall(b"".join(self.connection.send(message) for message in messages))

    def open(self, version: int = 1, features: int = 0) -> bytes:
        """Answer the hello, and return the proof that comes for that, once it was checked."""
        hello = self.receive()
        assert isinstance(hello, m.Hello)
        assert (hello.controller, hello.host_id, hello.epoch) == (KEY.name, IDENTITY.host_id, IDENTITY.epoch)
        self.send(m.Challenge(version, features, b"\xbb" * 32))
        proof = self.receive()
        assert isinstance(proof, m.Proof)
        self._proven = True
        assert proof.binding == self._binding
        assert proof.proof == client_proof(self.keys.client_key, self.transcript)
        return proof.proof

    @property
    def transcript(self) -> bytes:
        return transcript_hash(self.connection.hello, self.connection.challenge, self._binding)

    def login(self, info: bytes = b'{"agent": "9.9", "python": "3.11.7", "os": "Linux", "host": "box"}') -> None:
        """Do the whole login as an agent should."""
        proof = self.open()
        self.send(m.Welcome(server_proof(self.keys.server_key, self.transcript, proof, info), info))

    def run(self) -> m.Run:
        """Do the login, and return the request that comes then."""
        self.login()
        request = self.receive()
        assert isinstance(request, m.Run)
        return request

    def ends(self, held_back: int = 0) -> list[m.EndOfStream]:
        """Return the ends of both output streams as they have to be now."""
        return [self.connection.end_of(stream, held_back) for stream in (m.Stream.STDOUT, m.Stream.STDERR)]

    def exit(self, **fields: object) -> None:
        """End both streams and the command."""
        self.send(*self.ends(), m.Exit(**fields))  # type: ignore[arg-type]

    def until_closed(self) -> None:
        """Read until the controller has gone."""
        try:
            while data := self.sock.recv(65536):
                self.heard += data if self._proven else b""
        except OSError:
            pass

    def say_goodbye(self) -> None:
        """End the connection properly, without waiting for the controller to do the same."""
        try:
            self.sock.unwrap()
        except OSError:
            pass

    def cut(self) -> None:
        """Cut the connection without a goodbye of TLS."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class FakeAgent:
    """Listens on loopback, takes one connection, and follows `script`, in a thread. Without `tls` the script gets the
    bare socket."""

    def __init__(self, script: Callable[..., None], *, tls: bool = True) -> None:
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.where = f"127.0.0.1:{self.port}"
        self.talk: Talk | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def target(self) -> Target:
        return Target("web1", "127.0.0.1", self.port, IDENTITY)

    def client(self, cancel: CancelToken | None = None, *, connect_timeout: float = PATIENCE) -> Client:
        return Client(self.target, KEY, cancel or CancelToken(), connect_timeout=connect_timeout)

    def join(self) -> None:
        """Wait until the script has ended, and fail as it failed."""
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive(), "the fake agent hangs"
        if self.error is not None:
            raise self.error

    def _serve(self) -> None:
        try:
            self._listener.settimeout(PATIENCE)
            sock, _ = self._listener.accept()
            sock.settimeout(PATIENCE)
            with sock:
                if not self._tls:
                    self._script(sock)
                    return
                context, certificate = _context()
                with context.wrap_socket(sock, server_side=True) as wrapped:
                    self.talk = Talk(wrapped, certificate)
                    self._script(self.talk)
        except BaseException as error:
            self.error = error


@pytest.fixture
def fake() -> Iterator[Callable[..., FakeAgent]]:
    """Return a function that starts a fake agent with a script, which must have ended well when the test is over."""
    agents: list[FakeAgent] = []

    def start(script: Callable[..., None], *, tls: bool = True) -> FakeAgent:
        agents.append(FakeAgent(script, tls=tls))
        return agents[-1]

    yield start
    for agent in agents:
        agent.join()


@pytest.fixture
def key() -> ControllerKey:
    return KEY


@pytest.fixture
def identity() -> Identity:
    return IDENTITY


class Here:
    """A terminal whose user is the test: `user` is where it types and reads."""

    def __init__(self) -> None:
        self.user, self.stdin = os.openpty()
        self.stdout = os.dup(self.stdin)
        os.set_blocking(self.user, False)
        self.modes = termios.tcgetattr(self.stdin)
        self.local = LocalTerminal(self.stdin, self.stdout, self.stdout)

    @property
    def is_raw(self) -> bool:
        modes = termios.tcgetattr(self.stdin)
        return modes != self.modes and not modes[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    @property
    def is_in_order(self) -> bool:
        return termios.tcgetattr(self.stdin) == self.modes

    def shown(self) -> bytes:
        try:
            return os.read(self.user, 65536)
        except BlockingIOError:
            return b""

    def until(self, text: bytes) -> bytes:
        """Wait until this has been shown; return all that was since the last time."""
        seen = b""
        while text not in seen:
            seen += self.some()
        return seen

    def some(self) -> bytes:
        """Wait until something has been shown, and return it."""
        assert select.select([self.user], [], [], PATIENCE)[0], "nothing is shown"
        return os.read(self.user, 65536)

    def type(self, keys: bytes) -> None:
        assert os.write(self.user, keys) == len(keys)

    def hang_up(self) -> None:
        os.close(self.user)
        self.user = -1

    def release(self) -> None:
        for fd in (self.user, self.stdin, self.stdout):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def here() -> Iterator[Here]:
    here = Here()
    yield here
    here.release()
