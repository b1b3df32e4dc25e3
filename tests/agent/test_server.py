"""The daemon's life, in this very process: `serve` has the main thread, as it wants, and the test a thread of its own.

Attacks on an agent in a process of its own are in tests/security.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import config, server, store
from agent import log as log_module
from agent.admission import Admission, Outcome
from agent.config import Config, Listen
from agent.errors import AgentError
from agent.login import LoginError, LoginTimeoutError
from agent.runner import Runner
from agent.server import serve
from agent.session import Session
from agent.signals import Signals
from agent.wire import enrolment
from agent.wire import messages as m
from agent.wire.errors import RemoteProtocolError
from agent.wire.handshake import AuthenticationError, ManInTheMiddleError, derive_keys
from agent.wire.link import PeerSilentError
from controller.cancel import CancelToken
from controller.client import Client, Target
from controller.errors import HostError
from controller.keyfile import ControllerKey
from controller.registry import Identity

PATIENCE = 20.0
KEY = ControllerKey("ops", bytes(32))
IDENTITY = Identity(b"h" * 16, 1)


class Quiet:
    def start(self, host: str) -> None: ...
    def stdout(self, host: str, data: bytes) -> None: ...
    def stderr(self, host: str, data: bytes) -> None: ...


class Live:
    """An agent of this process. `lines` is its log."""

    def __init__(self, folder: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.settings = Config(listen=Listen("127.0.0.1", 0))
        self.lines: list[str] = []
        self.port = 0
        self._runner = runner
        self._news = threading.Condition()
        self._problem: list[BaseException] = []
        monkeypatch.setattr(server, "set_up", self._set_up)
        monkeypatch.setattr(Signals, "raise_again", lambda signals: None)

    def _set_up(self) -> None:
        """Keep the log: what `serve` would have sent to stderr."""
        reading, writing = os.pipe()
        log_module.set_up(writing)
        self._writing = writing
        self._reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._reader.start()

    def _read(self, reading: int) -> None:
        with open(reading, encoding="utf-8") as file:
            for line in file:
                with self._news:
                    self.lines.append(line.removeprefix("fleet-agent: ").rstrip("\n"))
                    if line.startswith("fleet-agent: listening on "):
                        self.port = int(line.rpartition(":")[2])
                    self._news.notify_all()

    def logged(self, text: str, count: int = 1) -> str:
        """Wait for a line that has `text` in it."""
        with self._news:
            assert self._news.wait_for(lambda: sum(text in line for line in self.lines) >= count, PATIENCE), (
                f"no {text!r} in {self.lines}"
            )
            return next(line for line in self.lines if text in line)

    def serve(self, script: Callable[[Live], None], number: int = signal.SIGTERM) -> int:
        """Serve until `script`, in another thread, is over."""

        def work() -> None:
            try:
                self.logged("listening on ")
                script(self)
            except BaseException as error:
                self._problem.append(error)
            finally:
                os.kill(os.getpid(), number)

        thread = threading.Thread(target=work)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        thread.start()
        try:
            code = serve(str(self.folder), self.settings, self._runner)
        finally:
            thread.join(PATIENCE)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            os.close(self._writing)
            self._reader.join(PATIENCE)
        for problem in self._problem:
            raise problem
        return code

    # What a controller does.

    def client(self, timeout: float = PATIENCE) -> Client:
        return Client(Target("web1", "127.0.0.1", self.port, IDENTITY), KEY, CancelToken(), connect_timeout=timeout)

    def works(self) -> None:
        with self.client() as client:
            result = client.run(m.Run("echo works", timeout=PATIENCE), Quiet(), keep=True)
        assert result.stdout == b"works\n", result

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)


@pytest.fixture
def live(tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    keys = derive_keys(KEY.master, KEY.name, IDENTITY.host_id, IDENTITY.epoch)
    record = enrolment.Enrolment("ops", "web1", IDENTITY.host_id, IDENTITY.epoch, keys.stored_key, keys.server_key)
    file = tmp_path / "enrolment"
    file.write_text(enrolment.dumps(record))
    file.chmod(0o600)
    store.add(str(tmp_path / "agent"), str(file))
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    before = log_module.log.handlers, log_module.log.propagate, log_module.log.level
    yield Live(tmp_path / "agent", runner, monkeypatch)
    log_module.log.handlers, log_module.log.propagate = before[:2]
    log_module.log.setLevel(before[2])


# Start and stop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_a_signal(live: Live, number: int) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]

    def script(live: Live) -> None:
        assert live.lines == [f"listening on 127.0.0.1:{live.port}"]
        live.works()

    assert live.serve(script, number) == 0
    assert live.logged("stopping: ").endswith(" connections open")
    with pytest.raises(ConnectionRefusedError):
        live.connect()
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == handlers


def test_the_signal_is_raised_again_with_its_default_action() -> None:
    code = "import os\nfrom agent.signals import Signals\nwith Signals() as signals:\n    os.kill(os.getpid(), 15)\n"
    ended = subprocess.run([sys.executable, "-P", "-c", f"{code}signals.raise_again()"], timeout=PATIENCE)
    assert ended.returncode == -signal.SIGTERM


def test_the_first_signal_stands() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.stop == signal.SIGINT
        signals.drain()
        signals.drain()
        assert not signals.reload
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.reload


def test_the_signal_is_sent_to_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
    monkeypatch.setattr(os, "kill", lambda *what: sent.append(what))
    before = signal.getsignal(signal.SIGTERM)
    signals.raise_again()
    assert signal.signal(signal.SIGTERM, before) is signal.SIG_DFL
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_signals_that_did_not_come_end_nothing() -> None:
    with Signals() as signals:
        pass
    signals.raise_again()


def test_nobody_is_enrolled(live: Live) -> None:
    (live.folder / "controllers" / "ops.enrol").unlink()
    live.serve(lambda live: None)
    assert live.lines[1] == "no controller is enrolled: nobody can log in"


def test_a_python_that_is_not_safe_is_named(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_OLDEST_SAFE", (99, 1))
    live.serve(lambda live: None)
    assert live.lines[1] == "this Python is older than 99.1, and lets TLS be bypassed (CVE-2023-40217)"


def test_two_agents_on_one_port(live: Live) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        live.settings = Config(listen=Listen("127.0.0.1", port))
        live._set_up()
        with pytest.raises(AgentError) as caught:
            serve(str(live.folder), live.settings, live._runner)
        os.close(live._writing)
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: address already in use"
    assert caught.value.hint == "does another agent run here? choose another port with --listen"


def test_an_address_that_is_not_ours(live: Live) -> None:
    live.settings = Config(listen=Listen("192.0.2.1", 0))
    live._set_up()
    with pytest.raises(AgentError) as caught:
        serve(str(live.folder), live.settings, live._runner)
    os.close(live._writing)
    assert str(caught.value) == "cannot listen on 192.0.2.1:0: cannot assign requested address"
    assert caught.value.hint is None


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6(live: Live) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    live.settings = Config(listen=Listen("::1", 0))

    def script(live: Live) -> None:
        with socket.create_connection(("::1", live.port), PATIENCE) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            line = live.logged("malformed login from [::1]:")
            assert line.endswith(": TLS failed: http request")

    live.serve(script)
    assert live.lines[0] == f"listening on [::1]:{live.port}"


# Who waits for us -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_ready_and_stopping_are_told(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        if abstract:
            manager.bind(b"")
            monkeypatch.setenv("NOTIFY_SOCKET", "@" + manager.getsockname()[1:].decode())
        else:
            monkeypatch.chdir(tmp_path)
            manager.bind("notify")
            monkeypatch.setenv("NOTIFY_SOCKET", "notify")
        manager.settimeout(PATIENCE)
        live.serve(lambda live: None)
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("path", ["/nowhere/notify", "x" * 200])
def test_nobody_hears_that_we_are_ready(live: Live, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    live.serve(lambda live: live.works())
    live.logged("cannot tell NOTIFY_SOCKET: ", count=2)


# Reload -----------------------------------------------------------------------------------------------------------


def test_reload_ends_the_sessions_of_who_is_revoked(live: Live) -> None:
    def script(live: Live) -> None:
        with live.client() as client:
            (live.folder / "controllers" / "ops.enrol").unlink()
            os.kill(os.getpid(), signal.SIGHUP)
            assert live.logged("reloaded: ") == "reloaded: 0 controllers, 1 sessions ended"
            with pytest.raises(HostError):
                client.ping()
        with pytest.raises(HostError, match="refused our key"):
            live.client()

    live.serve(script)


def test_reload_spares_the_others(live: Live) -> None:
    def script(live: Live) -> None:
        with live.client() as client, live.connect():
            os.kill(os.getpid(), signal.SIGHUP)
            assert live.logged("reloaded: ") == "reloaded: 1 controllers, 0 sessions ended"
            assert client.ping().rtt > 0
        (live.folder / "agent.toml").write_text('[controllers.ops]\nfrom = ["10.0.0.0/8"]\n')
        os.kill(os.getpid(), signal.SIGHUP)
        live.logged("reloaded: ", count=2)
        with pytest.raises(HostError, match="refused our key"):
            live.client()

    live.serve(script)


def test_reload_between_a_proof_and_its_session(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys are taken away when the login has just been checked, and nobody can be found to end."""
    log_in = server._log_in

    def slow(session: Session, where: str) -> Any:
        outcome = log_in(session, where)
        login, session.login = session.login, None
        (live.folder / "controllers" / "ops.enrol").unlink()
        os.kill(os.getpid(), signal.SIGHUP)
        live.logged("reloaded: 0 controllers, 0 sessions ended")
        session.login = login
        return outcome

    monkeypatch.setattr(server, "_log_in", slow)

    def script(live: Live) -> None:
        with live.client() as client, pytest.raises(HostError):
            client.ping()

    live.serve(script)


@pytest.mark.parametrize(
    "error", [AgentError("/etc/x", "is open to others"), OSError(errno.EMFILE, "Too many open files")]
)
def test_reload_that_fails_changes_nothing(live: Live, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(path: object) -> None:
        raise error

    def script(live: Live) -> None:
        monkeypatch.setattr(config, "load", fail)
        os.kill(os.getpid(), signal.SIGHUP)
        assert live.logged("cannot reload") == f"cannot reload, the old keys stay: {error}"
        live.works()

    live.serve(script)


# Connections ------------------------------------------------------------------------------------------------------


def test_no_more_sessions_than_allowed(live: Live) -> None:
    live.settings = Config(listen=Listen("127.0.0.1", 0), max_sessions=1)

    def script(live: Live) -> None:
        with live.client() as first:
            with live.connect() as second:
                assert second.recv(1) == b""
            assert first.ping().rtt > 0
        live.logged("refused 1 connections: 127.0.0.1 (1)")

    live.serve(script)


def test_who_waits_in_vain_is_closed(live: Live) -> None:
    live.settings = Config(listen=Listen("127.0.0.1", 0), max_unauthenticated_per_source=1)

    def script(live: Live) -> None:
        with live.connect(), live.connect() as second:
            assert second.recv(1) == b""
        live.logged("refused 1 connections: 127.0.0.1 (1)")

    live.serve(script)


def test_place_that_was_held_too_long_is_taken_back(live: Live) -> None:
    live.settings = Config(listen=Listen("127.0.0.1", 0), max_unauthenticated=1)

    def script(live: Live) -> None:
        with live.connect() as silent:
            # Whoever comes at the same moment may lose patience at the same moment.
            with contextlib.suppress(HostError):
                live.client().close()
            live.works()
            assert silent.recv(1) == b""

    live.serve(script)


def test_waiting_connection_whose_peer_has_left(live: Live) -> None:
    live.settings = Config(listen=Listen("127.0.0.1", 0), max_unauthenticated_per_source=1)

    def script(live: Live) -> None:
        with live.connect():
            live.connect().close()
        live.works()

    live.serve(script)


def test_session_that_crashes_takes_nothing_with_it(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticate = Session.authenticate
    left = [1]

    def crash(session: Session) -> Any:
        if left:
            left.pop()
            raise ZeroDivisionError("by zero")
        return authenticate(session)

    monkeypatch.setattr(Session, "authenticate", crash)

    def script(live: Live) -> None:
        with live.connect() as sock:
            assert sock.recv(1) == b""
        line = live.logged("crashed")
        assert "ZeroDivisionError: by zero (" in line
        assert "test_server.py:" in line
        live.works()

    live.serve(script)


def test_socket_that_dies_before_its_session(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset that comes when nobody looks is no crash: that would shut its source out for a while."""
    left = [1]

    def reset(*arguments: Any) -> Session:
        if left:
            left.pop()
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        return Session(*arguments)

    monkeypatch.setattr(server, "Session", reset)
    monkeypatch.setenv("FLEET_DEBUG", "1")

    def script(live: Live) -> None:
        with live.connect() as sock:
            assert sock.recv(1) == b""
        live.logged("lost: [Errno 104] Connection reset by peer")
        live.works()

    live.serve(script)
    assert not [line for line in live.lines if "crashed" in line]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ManInTheMiddleError("ops"), "ALERT from {}: controller ops authenticated through another TLS channel: man in"),
        (AuthenticationError(), "authentication failed from {}"),
        (LoginTimeoutError("no login within 10 s"), "no login within 10 s from {}"),
        (LoginError("no common version"), "malformed login from {}: no common version"),
        (RemoteProtocolError("not a fleet hello"), "malformed login from {}: not a fleet hello"),
    ],
)
def test_how_a_login_that_failed_is_told(
    live: Live, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(session: Session) -> Any:
        raise error

    monkeypatch.setattr(Session, "authenticate", fail)

    def script(live: Live) -> None:
        with live.connect() as sock:
            where = f"127.0.0.1:{sock.getsockname()[1]}"
            assert sock.recv(1) == b""
        live.logged(line.format(where))

    live.serve(script)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RemoteProtocolError("unknown frame type 0x7f"), " broke the protocol: unknown frame type 0x7f"),
        (PeerSilentError(45.0), "lost the connection to 127.0.0.1:"),
    ],
)
def test_how_a_session_that_failed_is_told(
    live: Live, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(session: Session) -> Any:
        raise error

    monkeypatch.setattr(Session, "serve", fail)

    def script(live: Live) -> None:
        with live.client():
            live.logged(line)

    live.serve(script)


def test_login_while_the_agent_stops(live: Live) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    peers: list[ssl.SSLSocket] = []
    live.serve(lambda live: peers.append(context.wrap_socket(live.connect(), suppress_ragged_eofs=False)))
    with peers[0], pytest.raises(ssl.SSLEOFError):
        peers[0].recv(1)
    assert live.lines[1:] == ["stopping: 1 connections open"]


def test_every_end_of_a_login_has_its_line(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_DEBUG", "1")

    def script(live: Live) -> None:
        with live.client():
            live.logged("ops logged in from 127.0.0.1:")
        with live.connect() as sock:
            sock.sendall(b"\x16")
        live.logged(" lost: ")
        with live.connect() as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert live.logged("malformed login").endswith(": TLS failed: http request")

    live.serve(script)


def test_no_thread_can_be_started(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    left = [1, 1]

    def fail(thread: threading.Thread) -> None:
        if left and thread.name == "connection":
            left.pop()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)

    def script(live: Live) -> None:
        for _ in range(2):
            with live.connect() as sock:
                assert sock.recv(1) == b""
        live.logged("cannot start a thread for 127.0.0.1:", count=2)
        live.works()

    live.serve(script)


def test_session_that_does_not_end(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent waits for it, but not for ever."""
    monkeypatch.setattr(server, "_STOP_LIMIT", 0.1)
    release = threading.Event()
    monkeypatch.setattr(Session, "serve", lambda session: release.wait(PATIENCE))
    clients: list[Client] = []

    live.serve(lambda live: clients.append(live.client()))
    assert live.lines[-2:] == ["stopping: 1 connections open", "1 connections did not end within 0 s"]
    release.set()
    clients[0].close()


def test_connection_is_lost_while_serving(live: Live) -> None:
    def script(live: Live) -> None:
        with live.client() as client:
            client._link.send(m.Run("sleep 1000"))
            live.logged(" runs 'sleep 1000'")
        live.logged("lost the connection to 127.0.0.1:")

    live.serve(script)


# No descriptors ---------------------------------------------------------------------------------------------------


class Listener(socket.socket):
    """A listening socket whose first calls of `accept` fail."""

    errors: list[int]

    def accept(self) -> Any:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def fail(*errors: int) -> None:
        listen = server._listen

        def wrapped(where: Listen) -> Listener:
            listener = Listener(fileno=listen(where).detach())
            listener.setblocking(False)
            listener.errors = list(errors)
            return listener

        monkeypatch.setattr(server, "_listen", wrapped)

    return fail


def test_accept_that_fails_for_its_connection_alone(live: Live, failing: Callable[..., None]) -> None:
    failing(errno.ECONNABORTED, errno.EPROTO)
    live.serve(lambda live: live.works())
    assert not [line for line in live.lines if "refused" in line]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_no_descriptor_is_left(live: Live, failing: Callable[..., None], number: int) -> None:
    """One connection is accepted with the spare descriptor, and dropped."""
    failing(number)

    def script(live: Live) -> None:
        with live.connect() as sock:
            assert sock.recv(1) == b""
        live.works()

    live.serve(script)
    assert live.lines[1] == f"refused 1 connections: {os.strerror(number).lower()} (1)"


def test_not_even_the_spare_descriptor_is_left(
    live: Live, failing: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(errno.EMFILE, errno.EMFILE, errno.EMFILE, errno.EMFILE)
    monkeypatch.setattr(server, "_open_spare", lambda: None)
    live.serve(lambda live: live.works())
    live.logged("too many open files (1)")


def test_the_spare_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = server._open_spare()
    assert fd is not None
    assert not os.get_inheritable(fd)
    os.close(fd)
    monkeypatch.setattr(os, "devnull", "/nowhere/null")
    assert server._open_spare() is None


# Small things -----------------------------------------------------------------------------------------------------


def test_what_a_controller_is_told(live: Live) -> None:
    def script(live: Live) -> None:
        with live.client() as client:
            info = client.ping().info
        assert info.python == ".".join(map(str, sys.version_info[:3]))
        assert info.host == os.uname().nodename
        assert info.os

    live.serve(script)


def test_memory_is_given_back_when_everybody_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(server.memory, "give_back", lambda: given.append(1))
    idle = object.__new__(server._Server)
    idle._open, idle._worked = set(), False
    idle._rest()
    assert given == []
    idle._worked, idle._open = True, {object()}  # type: ignore[arg-type]
    idle._rest()
    assert given == []
    idle._open = set()
    idle._rest()
    idle._rest()
    assert given == [1]


def test_who_only_looks_whether_somebody_listens_is_not_punished(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A monitor connects and leaves, again and again. It was gone before its thread looked."""
    ends: list[Outcome] = []
    leave = Admission.leave

    def note(self: Admission[Any], item: Any, outcome: Outcome) -> None:
        ends.append(outcome)
        leave(self, item, outcome)

    serve_session = server._Server._serve_session

    def serve_late(self: server._Server, arrival: Any) -> None:
        assert select.select([arrival.sock], [], [], 20)[0]  # until it has left
        serve_session(self, arrival)

    monkeypatch.setattr(Admission, "leave", note)
    monkeypatch.setattr(server._Server, "_serve_session", serve_late)

    def script(live: Live) -> None:
        for _ in range(3):
            live.connect().close()
        live.works()

    live.serve(script)
    assert ends[:3] == [Outcome.ABANDONED] * 3
