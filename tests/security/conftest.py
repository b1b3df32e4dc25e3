"""Real agents as processes, and peers that do not keep to the rules: strangers, relays, cutters and false agents.

Every wait here ends by an event (a line in the log, a byte, the end of a process); the times are only for tests that
fail. Nothing is shared between tests but one agent, and after each test that uses it a new login must work.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent import store
from agent.tls import server_context
from agent.wire import enrolment
from agent.wire import messages as m
from agent.wire.connection import NEED_DATA, Closed, Connection, Role
from agent.wire.handshake import (
    Verifier,
    channel_binding,
    client_proof,
    derive_keys,
    server_proof,
    transcript_hash,
)
from controller.cancel import CancelToken
from controller.client import Client, Target
from controller.keyfile import ControllerKey
from controller.registry import Identity
from controller.results import Result

PATIENCE = 30.0  # seconds; reached only by a test that fails
ORDINARY_USER = 65534
# The agents can be of another Python than the tests; PYTHONPATH then names this project.
AGENT_PYTHON = os.environ.get("FLEET_TEST_AGENT_PYTHON", sys.executable)

# As an ordinary user the interpreter itself may be out of reach, so everything is loaded before root is given up.
# PR_SET_DUMPABLE (4): who changes its user without exec does not own its own files in /proc until it says so.
_AS_ORDINARY_USER = f"""
import ctypes, linecache, os, platform, shutil, sys, traceback
import agent.cli, agent.config, agent.lazily, agent.runner, agent.server, agent.store, agent.worker
os.setgroups([])
os.setresgid({ORDINARY_USER}, {ORDINARY_USER}, {ORDINARY_USER})
os.setresuid({ORDINARY_USER}, {ORDINARY_USER}, {ORDINARY_USER})
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
os.environ["HOME"] = sys.argv[3]
agent.cli.run()
"""


def tls_client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True)
class Keys:
    """A controller, and one host that it has enrolled."""

    controller: ControllerKey = field(default_factory=lambda: ControllerKey("ops", secrets.token_bytes(32)))
    identity: Identity = field(default_factory=lambda: Identity(secrets.token_bytes(16), 2))

    @property
    def verifier(self) -> Verifier:
        keys = self.derived
        return Verifier(keys.stored_key, keys.server_key)

    @property
    def derived(self) -> Any:
        return derive_keys(self.controller.master, self.controller.name, self.identity.host_id, self.identity.epoch)

    def enrolment(self) -> str:
        keys = self.derived
        return enrolment.dumps(
            enrolment.Enrolment(
                self.controller.name,
                "web1",
                self.identity.host_id,
                self.identity.epoch,
                keys.stored_key,
                keys.server_key,
            )
        )


class Quiet:
    """An observer that looks away."""

    def start(self, host: str) -> None: ...
    def stdout(self, host: str, data: bytes) -> None: ...
    def stderr(self, host: str, data: bytes) -> None: ...


class Agent:
    """An agent in a process of its own, its log, and a controller that it knows."""

    def __init__(self, folder: Path, keys: Keys, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.keys = keys
        self.process = process
        self.port = 0
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        if process.stderr is not None:
            self._reader.start()

    def _read_log(self) -> None:
        for line in self.process.stderr:
            with self._news:
                self._lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()

    # The log.

    def mark(self) -> int:
        """Return a place in the log, for `logged`."""
        with self._news:
            return len(self._lines)

    def log(self, since: int = 0) -> list[str]:
        with self._news:
            return self._lines[since:]

    def logged(self, pattern: str, *, since: int = 0, count: int = 1) -> list[str]:
        """Wait until `count` lines match; return the lines that do."""

        def found() -> list[str]:
            return [line for line in self._lines[since:] if re.search(pattern, line)]

        with self._news:
            done = self._news.wait_for(lambda: len(found()) >= count, PATIENCE)
            assert done, f"no {pattern!r} in the log: {self._lines[since:]}"
            return found()

    # What a controller does.

    def target(self, port: int | None = None, *, address: str = "127.0.0.1") -> Target:
        return Target("web1", address, port or self.port, self.keys.identity)

    def client(self, port: int | None = None, *, timeout: float = PATIENCE) -> Client:
        return Client(self.target(port), self.keys.controller, CancelToken(), connect_timeout=timeout)

    def run(self, command: str, port: int | None = None, *, login_timeout: float = PATIENCE, **options: Any) -> Result:
        options.setdefault("timeout", PATIENCE)
        with self.client(port, timeout=login_timeout) as client:
            return client.run(m.Run(command, host="web1", run="r1", **options), Quiet(), keep=True)

    def works(self) -> None:
        """Check that the agent runs, and that the next login and command work."""
        assert self.process.poll() is None, self.log()
        result = self.run("echo works")
        assert (result.status, result.stdout) == ("ok", b"works\n"), (result, self.log()[-5:])

    # The process.

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident(self) -> int:
        """Return the memory in use, in bytes (VmRSS, proc_pid_status(5))."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        if self.process.stderr is not None:
            # Whoever still holds the log (a spawner that was stopped, say) does not keep us.
            self._reader.join(1.0)
            if not self._reader.is_alive():
                self.process.stderr.close()
        return code


class Agents:
    """Makes agents under one folder, and ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._agents: list[Agent] = []
        self._folders: list[Path] = []

    def start(
        self,
        *,
        keys: Keys | None = None,
        settings: str = "",
        ordinary_user: bool = False,
        stderr: Any = subprocess.PIPE,
        port: int = 0,
        prepare: str = "",
        folder: Path | None = None,
    ) -> Agent:
        """Start an agent and wait until it is ready. `prepare` is code that its process runs before all else; `folder`
        is that of an agent with the same keys that is dead."""
        keys = keys or Keys()
        folder = folder or self._make_folder(keys, settings, ordinary_user)
        arguments = ["serve", "--dir", str(folder / "agent"), "--listen", f"127.0.0.1:{port}"]
        if ordinary_user and os.geteuid() == 0:
            prepare += _AS_ORDINARY_USER
        elif prepare:
            prepare += "\nimport agent.cli; agent.cli.run()"
        command = [AGENT_PYTHON, "-P", *(("-c", prepare) if prepare else ("-m", "agent")), *arguments]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(b"")  # an abstract address of the kernel's choice (unix(7), "autobind")
            ready.settimeout(PATIENCE)
            notify = "@" + ready.getsockname()[1:].decode()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, "NOTIFY_SOCKET": notify},
                start_new_session=True,
            )
            agent = Agent(folder, keys, process)
            self._agents.append(agent)
            self._wait_until_ready(ready, process, agent)
        agent.port = listening_port(process.pid)
        return agent

    def _wait_until_ready(self, ready: socket.socket, process: subprocess.Popen[bytes], agent: Agent) -> None:
        death = os.pidfd_open(process.pid)
        try:
            seen = select.select([ready, death], [], [], PATIENCE)[0]
            assert ready in seen, f"the agent did not start: {agent.log()}"
            assert ready.recv(100) == b"READY=1"
        finally:
            os.close(death)

    def _make_folder(self, keys: Keys, settings: str, ordinary_user: bool) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="fleet-", dir=None if ordinary_user else self._folder))
        if ordinary_user:  # pytest's own folders are closed to others
            self._folders.append(folder)
        file = folder / "enrolment"
        file.write_text(keys.enrolment())
        file.chmod(0o600)
        store.add(str(folder / "agent"), str(file))
        if settings:
            (folder / "agent" / "agent.toml").write_text(settings)
        if ordinary_user and os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, ORDINARY_USER, ORDINARY_USER)
        return folder

    def stop(self) -> None:
        try:
            for agent in self._agents:
                agent.stop()
        finally:
            for folder in self._folders:
                shutil.rmtree(folder)


def listening_port(pid: int) -> int:
    """Return the port that a process listens on, from /proc: its log may go nowhere."""
    sockets = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            sockets.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            return int(fields[1].partition(":")[2], 16)
    raise AssertionError("it does not listen")


class Peer:
    """A controller's end of a connection whose owner decides about every byte."""

    def __init__(self, port: int, *, source: str = "127.0.0.1") -> None:
        self.connection = Connection(Role.CONTROLLER)
        sock = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(source, 0))
        self.tls = tls_client().wrap_socket(sock, suppress_ragged_eofs=False)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.tls.close()

    def raw(self, data: bytes) -> None:
        self.tls.sendall(data)

    def body(self, body: bytes) -> None:
        """Send a message of the login, whatever is in it."""
        self.raw(struct.pack(">H", len(body)) + body)

    def send(self, *messages: m.Message) -> None:
        """Send messages in one piece."""
        self.raw(b"".join(map(self.connection.send, messages)))

    def event(self) -> m.Message | Closed:
        """Return the next message. Raises what the transport or the protocol says of an end that is not proper."""
        while (event := self.connection.next_event()) is NEED_DATA:
            self.connection.receive(self.tls.recv(65536))
        return event

    def rest(self) -> bytes:
        """Return all bytes until the agent ends the connection."""
        data = b""
        try:
            while piece := self.tls.recv(65536):
                data += piece
        except (ssl.SSLEOFError, ConnectionResetError):
            pass
        return data

    def binding(self) -> bytes:
        return channel_binding(self.tls.getpeercert(True), self.tls.get_channel_binding("tls-unique"))

    def hello(self, keys: Keys, **changes: Any) -> m.Hello:
        """Return this controller's hello, with changes."""
        fields: dict[str, Any] = {
            "controller": keys.controller.name,
            "host_id": keys.identity.host_id,
            "epoch": keys.identity.epoch,
            "nonce": secrets.token_bytes(32),
            "min_version": 1,
            "max_version": 1,
            "features": 0,
        }
        return m.Hello(**{**fields, **changes})

    def proof(self, keys: Keys) -> m.Proof:
        """Return the proof for the messages that have passed."""
        binding = self.binding()
        transcript = transcript_hash(self.connection.hello, self.connection.challenge, binding)
        return m.Proof(binding, client_proof(keys.derived.client_key, transcript))

    def begin(self, keys: Keys, **changes: Any) -> m.Challenge:
        """Send the hello and return the challenge."""
        self.send(self.hello(keys, **changes))
        challenge = self.event()
        assert isinstance(challenge, m.Challenge)
        return challenge

    def log_in(self, keys: Keys) -> Peer:
        self.begin(keys)
        self.send(self.proof(keys))
        assert isinstance(self.event(), m.Welcome)
        return self

    def reset(self) -> None:
        """End the connection with a RST."""
        self.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.tls.close()


class Thread:
    """A server for one test, in a thread of its own; what went wrong in it is raised when it is stopped."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self._serve = serve
        self._problem: BaseException | None = None
        self._stopping = False
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        try:
            while True:
                sock, _ = self._listener.accept()
                with sock:
                    if self._stopping:
                        return
                    sock.settimeout(PATIENCE)
                    self._serve(sock)
        except BaseException as problem:
            self._problem = problem

    def stop(self) -> None:
        self._stopping = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._listener.close()
        if self._problem is not None:
            raise self._problem


class Relay:
    """A man in the middle: he ends the controller's TLS with `context`, opens one of his own to the agent, and passes
    on every byte as it is. `seen` is what the controller told him."""

    def __init__(self, context: ssl.SSLContext, agent_port: int) -> None:
        self._context = context
        self._agent_port = agent_port
        self.seen = b""

    def __call__(self, sock: socket.socket) -> None:
        with (
            socket.create_connection(("127.0.0.1", self._agent_port), PATIENCE) as upstream,
            tls_client().wrap_socket(upstream) as agent,
            self._context.wrap_socket(sock, server_side=True) as controller,
        ):
            other = {controller: agent, agent: controller}
            while True:
                for end in select.select(other, [], [], PATIENCE)[0]:
                    data = end.recv(16384)
                    if end is controller:
                        self.seen += data
                    if not data:
                        return
                    other[end].sendall(data)


@dataclass(frozen=True)
class Pair:
    """What a cutter works on: everything between a controller and an agent, below TLS."""

    controller: socket.socket
    agent: socket.socket


UP, DOWN = "controller to agent", "agent to controller"


class Cutter:
    """A proxy below TLS. `change(direction, data)` returns what to pass on of a piece, and None to cut the connection
    after the bytes it has appended to `last`."""

    def __init__(self, agent_port: int) -> None:
        self._agent_port = agent_port
        self.change: Callable[[str, bytes], bytes | None] = lambda direction, data: data
        self.last = b""
        self.reset = False

    def __call__(self, sock: socket.socket) -> None:
        try:
            upstream = socket.create_connection(("127.0.0.1", self._agent_port), PATIENCE)
        except ConnectionRefusedError:  # a test has ended the agent, and the controller looks whether it is back
            return
        with upstream as agent:
            for end in (sock, agent):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._pass_on(Pair(sock, agent))
            except (ConnectionResetError, BrokenPipeError):
                pass
            if self.reset:
                for end in (sock, agent):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _pass_on(self, pair: Pair) -> None:
        routes = {pair.controller: (pair.agent, UP), pair.agent: (pair.controller, DOWN)}
        while True:
            for end in select.select(routes, [], [], PATIENCE)[0]:
                data = end.recv(65536)
                if not data:
                    return
                other, direction = routes[end]
                passed = self.change(direction, data)
                if passed is None:
                    other.sendall(self.last)
                    self.last = b""
                    return
                other.sendall(passed)


class FalseAgent:
    """A peer in the agent's place that speaks TLS and the login, and then does what `script` says.

    It takes any proof for a good one. `received` is what came from the controller after the proof, as `rest` read it.
    """

    def __init__(self, keys: Keys, script: Callable[[FalseAgent], None], context: ssl.SSLContext) -> None:
        self._keys = keys
        self._script = script
        self._context = context
        self.received = b""
        self.connection = Connection(Role.AGENT)
        self.tls: ssl.SSLSocket

    def __call__(self, sock: socket.socket) -> None:
        self.connection = Connection(Role.AGENT)
        with self._context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as self.tls:
            try:
                self._log_in()
                self._script(self)
            except (ConnectionError, ssl.SSLError):
                pass

    def event(self) -> m.Message | Closed:
        while (event := self.connection.next_event()) is NEED_DATA:
            self.connection.receive(self.tls.recv(65536))
        return event

    def send(self, message: m.Message) -> None:
        self.tls.sendall(self.connection.send(message))

    def raw(self, data: bytes) -> None:
        self.tls.sendall(data)

    def rest(self) -> None:
        """Read until the controller leaves."""
        try:
            while data := self.tls.recv(65536):
                self.received += data
        except (ssl.SSLEOFError, ConnectionResetError):
            pass

    def _log_in(self) -> None:
        hello = self.event()
        assert isinstance(hello, m.Hello)
        self.send(m.Challenge(1, 0, secrets.token_bytes(32)))
        proof = self.event()
        assert isinstance(proof, m.Proof)
        transcript = transcript_hash(self.connection.hello, self.connection.challenge, proof.binding)
        self.send(m.Welcome(server_proof(self._keys.derived.server_key, transcript, proof.proof, b"{}"), b"{}"))


class Marker:
    """Tells when processes have started, and when the last of them is dead, by a FIFO that all of them hold open.

    In a command, `marker.open` opens it as descriptor 9, which children inherit.
    """

    def __init__(self) -> None:
        # Also for an agent that runs as an ordinary user, to whom pytest's own folders are closed.
        self._folder = Path(tempfile.mkdtemp(prefix="fleet-"))
        self._folder.chmod(0o755)
        self._path = self._folder / "marker"
        os.mkfifo(self._path)
        os.chmod(self._path, 0o666)
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        self.open = f"exec 9>{self._path}; "

    def wait_for_lines(self, count: int) -> None:
        """Wait until `count` lines have been written to descriptor 9."""
        seen = 0
        while seen < count:
            assert select.select([self._fd], [], [], PATIENCE)[0], "it does not start"
            seen += os.read(self._fd, 65536).count(b"\n")

    def seconds_to_death(self) -> float:
        """Wait until nobody holds it any more; return how long that took."""
        began = time.monotonic()
        while True:
            assert select.select([self._fd], [], [], PATIENCE)[0], "it does not die"
            if not os.read(self._fd, 65536):
                return time.monotonic() - began

    def alive(self) -> bool:
        """Whether somebody holds it."""
        poller = select.poll()
        poller.register(self._fd, 0)  # POLLHUP comes unasked
        return not poller.poll(0)

    def close(self) -> None:
        os.close(self._fd)
        shutil.rmtree(self._folder)


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    """Start agents of one's own with it."""
    agents = Agents(tmp_path)
    yield agents
    agents.stop()


@pytest.fixture(scope="session")
def _shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    agents = Agents(tmp_path_factory.mktemp("shared"))
    yield agents.start()
    agents.stop()


@pytest.fixture
def agent(_shared_agent: Agent) -> Iterator[Agent]:
    """The shared agent, which must be as good as new after whatever a test does to it from outside."""
    yield _shared_agent
    _shared_agent.works()


@pytest.fixture
def server() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Return a function that serves connections in a thread, and returns the port."""
    threads: list[Thread] = []

    def start(serve: Callable[[socket.socket], None]) -> int:
        threads.append(Thread(serve))
        return threads[-1].port

    yield start
    for thread in threads:
        thread.stop()


@pytest.fixture
def peer(agent: Agent) -> Iterator[Peer]:
    """A peer of the shared agent, after TLS and before the login."""
    with Peer(agent.port) as peer:
        yield peer


@pytest.fixture
def controller(agent: Agent) -> Iterator[Peer]:
    """A peer of the shared agent that has logged in."""
    with Peer(agent.port) as peer:
        yield peer.log_in(agent.keys)


@pytest.fixture
def marker() -> Iterator[Marker]:
    marker = Marker()
    yield marker
    marker.close()


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """The classes of this file: a conftest cannot be imported."""
    return SimpleNamespace(
        Peer=Peer,
        Keys=Keys,
        Relay=Relay,
        Cutter=Cutter,
        FalseAgent=FalseAgent,
        Marker=Marker,
        Quiet=Quiet,
        UP=UP,
        DOWN=DOWN,
        PATIENCE=PATIENCE,
        tls_client=tls_client,
        server_context=server_context,
    )
