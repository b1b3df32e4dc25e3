"""One session over real TLS on loopback; the other end is the controller's connection, led by hand.

The session runs in a thread, as in the agent; what it raises is what the test asks for.
"""

from __future__ import annotations

import grp
import hashlib
import json
import logging
import os
import pwd
import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import script as script_module
from agent.log import log
from agent.login import Login, LoginError, LoginTimeoutError
from agent.runner import Runner, RunnerError
from agent.services import Services, StoppingError
from agent.session import Session
from agent.tls import server_context
from agent.wire import messages as m
from agent.wire.codec import FRAME_TYPES, encode_payload
from agent.wire.connection import NEED_DATA, Closed, Connection, Role
from agent.wire.constants import FEATURES
from agent.wire.errors import RemoteProtocolError
from agent.wire.frames import encode_frame
from agent.wire.handshake import (
    AuthenticationError,
    ManInTheMiddleError,
    Verifier,
    channel_binding,
    client_proof,
    derive_keys,
    server_proof_matches,
    transcript_hash,
)

PATIENCE = 20.0
CODES = {kind: code for code, kind in FRAME_TYPES.items()}
KEYS = derive_keys(bytes(32), "ops", b"h" * 16, 1)


class Clock:
    """Real time, and as much more as a test adds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Rig:
    def __init__(self, runner: Runner) -> None:
        context, certificate = server_context()
        self.clock = Clock()
        self.permissions = frozenset({"run"})
        self.known: Verifier | None = Verifier(KEYS.stored_key, KEYS.server_key)
        self.asked: list[tuple[str, bytes, int, str]] = []
        reading, self.stop = os.pipe()
        self.services = Services(
            context=context,
            certificate=certificate,
            find=self._find,
            permissions=lambda name: self.permissions,
            runner=runner,
            shell="/bin/sh",
            files=None,  # type: ignore[arg-type]  # transfers have tests of their own
            about={"agent": "9.9", "host": "web1"},
            stop=reading,
            clock=self.clock,
        )
        self.connection = Connection(Role.CONTROLLER)
        self._thread: threading.Thread | None = None
        self._result: list[Any] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.sock = socket.create_connection(listener.getsockname(), PATIENCE)
            self.server_side, _ = listener.accept()
        self.session = Session(self.server_side, "10.0.0.9", self.services, self.clock())
        self.tls: ssl.SSLSocket | None = None

    def _find(self, *who: Any) -> Verifier | None:
        self.asked.append(who)
        return self.known

    # The session's side.

    def begin(self, *steps: Callable[[], object]) -> None:
        """Let the session take these steps in its thread."""

        def work() -> None:
            try:
                for step in steps:
                    self._result.append(step())
            except BaseException as error:
                self._result.append(error)
            finally:
                self.session.close()

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def authenticate(self) -> None:
        self.begin(self.session.authenticate)

    def serve(self) -> None:
        """Log in and serve."""
        self.begin(self.session.authenticate, self.session.serve)
        self.log_in()

    def result(self) -> Any:
        """Return what the last step has returned or raised."""
        assert self._thread is not None
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self._result[-1]

    # The controller's side.

    def handshake(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.tls = context.wrap_socket(self.sock, suppress_ragged_eofs=False)

    def send(self, *messages: m.Message) -> None:
        assert self.tls is not None
        self.tls.sendall(b"".join(map(self.connection.send, messages)))

    def event(self) -> Any:
        assert self.tls is not None
        while (event := self.connection.next_event()) is NEED_DATA:
            self.connection.receive(self.tls.recv(65536))
        return event

    def until_exit(self) -> tuple[bytes, bytes, m.Exit]:
        data = {m.Stdout: b"", m.Stderr: b""}
        while not isinstance(event := self.event(), m.Exit):
            if isinstance(event, m.Stdout | m.Stderr):
                data[type(event)] += event.data
        return data[m.Stdout], data[m.Stderr], event

    def until_line(self, line: str) -> None:
        """Read output up to the end of a first line, which is that one. More may have come with it: a prompt."""
        text = b""
        while b"\n" not in text:
            if isinstance(event := self.event(), m.Stdout):
                text += event.data
        assert text.partition(b"\n")[0].decode() == f"{line}\r"

    def hello(self, **changes: Any) -> None:
        hello = m.Hello("ops", b"h" * 16, 1, bytes(32), 1, 1, 0)
        self.handshake()
        self.send(replace(hello, **changes))

    def proof(self, client_key: bytes = KEYS.client_key) -> m.Proof:
        assert self.tls is not None
        binding = channel_binding(self.tls.getpeercert(True) or b"", self.tls.get_channel_binding("tls-unique"))
        self.transcript = transcript_hash(self.connection.hello, self.connection.challenge, binding)
        return m.Proof(binding, client_proof(client_key, self.transcript))

    def log_in(self) -> m.Welcome:
        self.hello()
        assert isinstance(self.event(), m.Challenge)
        proof = self.proof()
        self.send(proof)
        welcome = self.event()
        assert isinstance(welcome, m.Welcome)
        assert server_proof_matches(KEYS.server_key, self.transcript, proof.proof, welcome.info, welcome.proof)
        return welcome

    def release(self) -> None:
        for sock in (self.tls, self.sock):
            if sock is not None:
                sock.close()
        if self.session is not None:
            self.session.close()
        if self._thread is not None:
            self._thread.join(PATIENCE)
        os.close(self.stop)
        os.close(self.services.stop)


@pytest.fixture
def rig(shared_runner: Runner) -> Iterator[Rig]:
    rig = Rig(shared_runner)
    yield rig
    rig.release()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    before = log.handlers, log.level, log.propagate
    log.handlers, log.propagate = [Handler()], False
    log.setLevel(logging.DEBUG)
    yield found
    log.handlers, log.propagate = before[0], before[2]
    log.setLevel(before[1])


# The login --------------------------------------------------------------------------------------------------------


def test_login(rig: Rig) -> None:
    rig.authenticate()
    welcome = rig.log_in()
    assert rig.result() == Login("ops", b"h" * 16, 1)
    assert rig.session.login == Login("ops", b"h" * 16, 1)
    assert rig.asked == [("ops", b"h" * 16, 1, "10.0.0.9")]
    assert json.loads(welcome.info) == {"agent": "9.9", "host": "web1", "permissions": ["run"]}


@pytest.mark.parametrize(
    ("low", "high", "version"),
    [(1, 1, 1), (1, 7, 1)],
)
def test_version_that_both_have(rig: Rig, low: int, high: int, version: int) -> None:
    rig.authenticate()
    rig.hello(min_version=low, max_version=high, features=0xFFFF)
    challenge = rig.event()
    assert (challenge.version, challenge.features) == (version, FEATURES)


def test_no_version_that_both_have(rig: Rig) -> None:
    rig.authenticate()
    rig.hello(min_version=2, max_version=3)
    assert rig.event().version == 1
    error = rig.result()
    assert isinstance(error, LoginError)
    assert str(error) == "no common protocol version: controller has 2 to 3, agent 1 to 1"
    assert rig.session.login is None


def test_unknown_controller(rig: Rig) -> None:
    rig.known = None
    rig.authenticate()
    rig.hello()
    rig.event()
    rig.send(rig.proof())
    assert rig.event() == m.Refusal()
    assert type(rig.result()) is AuthenticationError
    assert rig.session.login is None


def test_wrong_key(rig: Rig) -> None:
    rig.authenticate()
    rig.hello()
    rig.event()
    rig.send(rig.proof(bytes(32)))
    assert rig.event() == m.Refusal()
    assert type(rig.result()) is AuthenticationError


def test_proof_for_another_connection(rig: Rig) -> None:
    rig.authenticate()
    rig.hello()
    rig.event()
    binding = bytes(32)
    transcript = transcript_hash(rig.connection.hello, rig.connection.challenge, binding)
    rig.send(m.Proof(binding, client_proof(KEYS.client_key, transcript)))
    assert rig.event() == m.Refusal()
    error = rig.result()
    assert isinstance(error, ManInTheMiddleError)
    assert str(error) == "controller ops authenticated through another TLS channel: man in the middle"


def test_a_request_behind_the_proof(rig: Rig) -> None:
    """It was sent before we have proven ourselves, also when it has a TLS record of its own."""
    rig.authenticate()
    rig.hello()
    rig.event()
    proof = rig.proof()
    assert rig.tls is not None
    rig.tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    rig.send(proof)
    rig.tls.sendall(encode_frame(CODES[m.Run], encode_payload(m.Run("true"))))
    rig.tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    error = rig.result()
    assert isinstance(error, RemoteProtocolError)
    assert str(error) == "the peer spoke in state verdict, when it was our turn"
    assert rig.session.login is None


def _nothing(rig: Rig) -> None: ...


def _tls(rig: Rig) -> None:
    rig.handshake()


def _hello(rig: Rig) -> None:
    rig.hello()
    rig.event()


@pytest.mark.parametrize("step", [_nothing, _tls, _hello])
def test_one_deadline_for_all_of_the_login(rig: Rig, step: Callable[[Rig], None]) -> None:
    """It has passed when the session looks at the clock again, which it does at each byte."""
    rig.authenticate()
    step(rig)
    rig.clock.ahead = 10.0
    if rig.tls is None:
        rig.sock.sendall(b"\x16")
    else:
        rig.tls.sendall(b"\0")
    error = rig.result()
    assert isinstance(error, LoginTimeoutError)
    assert str(error) == "no login within 10 s"


def test_the_deadline_counts_from_the_accept(rig: Rig) -> None:
    """Who has waited for a place has that much less."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    rig.session.close()
    rig.session = Session(sock, "10.0.0.9", rig.services, rig.clock() - 9.95)
    rig.authenticate()
    assert isinstance(rig.result(), LoginTimeoutError)
    client.close()


@pytest.mark.parametrize("step", [_nothing, _tls, _hello])
def test_the_agent_stops_in_the_login(rig: Rig, step: Callable[[Rig], None]) -> None:
    rig.authenticate()
    step(rig)
    os.write(rig.stop, b"!")
    assert isinstance(rig.result(), StoppingError)


@pytest.mark.parametrize("step", [_nothing, _tls, _hello])
def test_the_peer_goes_in_the_login(rig: Rig, step: Callable[[Rig], None]) -> None:
    rig.authenticate()
    step(rig)
    (rig.tls or rig.sock).close()
    assert isinstance(rig.result(), OSError)


def test_an_end_that_tls_announces_in_the_login(rig: Rig) -> None:
    rig.authenticate()
    _hello(rig)
    assert rig.tls is not None
    rig.tls.settimeout(0)
    with pytest.raises(ssl.SSLError):
        rig.tls.unwrap()
    error = rig.result()
    assert isinstance(error, RemoteProtocolError)
    assert str(error) == "the connection ended in state proof"


def test_interrupted_in_the_login(rig: Rig) -> None:
    rig.authenticate()
    _hello(rig)
    rig.session.interrupt()
    assert isinstance(rig.result(), OSError)
    rig.session.interrupt()  # when there is nothing left to interrupt


def test_tls_that_cannot_send_waits_for_room(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handshake asks for room once, then goes on."""
    handshake = rig.session._socket.do_handshake
    raised: list[int] = []

    def want_write() -> None:
        if not raised:
            raised.append(1)
            raise ssl.SSLWantWriteError
        handshake()

    monkeypatch.setattr(rig.session._socket, "do_handshake", want_write)
    rig.authenticate()
    rig.log_in()
    assert isinstance(rig.result(), Login)


def test_challenge_that_does_not_go_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    send = rig.session._socket.send
    raised: list[int] = []

    def full(data: memoryview) -> int:
        if not raised:
            raised.append(1)
            raise ssl.SSLWantWriteError
        return send(data)

    monkeypatch.setattr(rig.session._socket, "send", full)
    rig.authenticate()
    rig.log_in()
    assert isinstance(rig.result(), Login)
    assert raised


# Requests ---------------------------------------------------------------------------------------------------------


def test_run(rig: Rig, lines: list[str]) -> None:
    rig.serve()
    rig.send(m.Run("echo $FLEET_HOST $FLEET_RUN $A; pwd >&2; exit 3", "web1", "r1", {"A": "b"}, directory="/"))
    out, err, end = rig.until_exit()
    assert (out, err, end.code) == (b"web1 r1 b\n", b"/\n", 3)
    rig.tls.close()  # type: ignore[union-attr]
    assert rig.result() is None
    first, second = lines
    assert first.startswith("ops from 10.0.0.9 as 'web1' runs 'echo $FLEET_HOST")
    assert first.endswith(" (run r1)")
    assert second.startswith("run r1: exit 3 after 0.")
    assert second.endswith(" s (exit)")


def test_several_commands_one_after_the_other(rig: Rig) -> None:
    rig.serve()
    for number in range(3):
        rig.send(m.Run(f"exit {number}"))
        assert rig.until_exit()[2].code == number


def test_signal_is_logged(rig: Rig, lines: list[str]) -> None:
    rig.serve()
    rig.send(m.Run("kill -9 $$", run="r\n1"))
    assert rig.until_exit()[2].signal == 9
    rig.tls.close()  # type: ignore[union-attr]
    assert rig.result() is None
    assert lines[-1].startswith("run 'r\\n1': signal 9 after 0.")


def test_stdin(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("cat", stdin=True), m.Stdin(b"one\n"))
    assert rig.event() == m.Stdout(b"one\n")
    rig.send(m.Stdin(b"two\n"))
    rig.send(rig.connection.end_of(m.Stream.STDIN))
    assert rig.until_exit()[0] == b"two\n"


def test_what_crosses_with_the_exit_means_nothing(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("exit 0", stdin=True))
    rig.until_exit()
    rig.send(m.Stdin(b"late"), m.Cancel(), m.Ping(3))
    assert rig.event().token == 3


def test_terminal(rig: Rig) -> None:
    rig.serve()
    text = 'printf "%s " "$TERM"; stty size; read answer; echo "<$answer>"; stty size; exit 4'
    rig.send(m.Run(text, stdin=True, terminal="vt220", rows=31, columns=99))
    rig.until_line("vt220 31 99")
    rig.send(m.Resize(32, 100), m.Stdin(b"yes\r"))
    out, err, end = rig.until_exit()
    assert out.split(b"\r\n") == [b"yes", b"<yes>", b"32 100", b""]
    assert (err, end.code) == (b"", 4)
    rig.send(m.Resize(1, 1), m.Ping(3))
    assert rig.event().token == 3


def test_the_kind_of_terminal_can_be_another(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("echo $TERM", stdin=True, terminal="xterm", environment={"TERM": "dumb"}))
    assert rig.until_exit()[0] == b"dumb\r\n"


def test_the_end_of_input_hangs_a_terminal_up(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("echo ready; sleep 1000", stdin=True, terminal="xterm"))
    rig.until_line("ready")
    rig.send(rig.connection.end_of(m.Stream.STDIN))
    assert rig.until_exit()[2].signal == 1


def test_cancel_of_a_shell_that_people_type_at(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("PS1=; echo ready; exec sh -i", stdin=True, terminal="xterm"))
    rig.until_line("ready")
    rig.send(m.Cancel())
    end = rig.until_exit()[2]
    assert (end.reason, end.error) == (m.Reason.CANCELLED, None)
    assert end.elapsed < 2.5


def test_cancel(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("echo; exec sleep 1000"))
    assert isinstance(rig.event(), m.Stdout)
    rig.send(m.Cancel())
    end = rig.until_exit()[2]
    assert (end.reason, end.signal) == (m.Reason.CANCELLED, 15)


def test_timeout(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("exec sleep 1000", timeout=0.1))
    assert rig.until_exit()[2].reason is m.Reason.TIMEOUT


def test_without_the_permission(rig: Rig, lines: list[str]) -> None:
    rig.permissions = frozenset({"pull"})
    rig.serve()
    rig.send(m.Run("touch /x"))
    assert rig.event() == m.Error("denied", "controller ops may not run commands on this host")
    assert lines == ["ops from 10.0.0.9 may not run commands here: refused 'touch /x'"]
    rig.permissions = frozenset({"run"})  # read again for each request
    rig.send(m.Run("exit 4"))
    assert rig.until_exit()[2].code == 4


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"user": "nobody-has-this-name"}, "unknown user 'nobody-has-this-name'"),
        ({"user": "a\nb"}, "unknown user 'a\\nb'"),
        ({"directory": "/" + "d" * 5000}, "cannot enter the directory: its path has 5001 bytes, at most 4095"),
        ({"directory": "/nowhere"}, "no such directory: /nowhere"),
    ],
)
def test_what_cannot_be_started(rig: Rig, lines: list[str], options: dict[str, str], error: str) -> None:
    rig.serve()
    rig.send(m.Run("true", **options))  # type: ignore[arg-type]
    out, err, end = rig.until_exit()
    assert (out, err, replace(end, elapsed=0.0)) == (b"", b"", m.Exit(error=error))
    rig.send(m.Run("exit 5"))
    assert rig.until_exit()[2].code == 5
    assert any(line.endswith(error) for line in lines)


def test_runner_that_can_start_nothing(rig: Rig, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise RunnerError("make pipes", "Too many open files")

    monkeypatch.setattr(rig.services.runner, "run", refuse)
    rig.serve()
    rig.send(m.Run("true"))
    assert rig.until_exit()[2] == m.Exit(error="cannot make pipes: Too many open files")
    assert lines[1] == "cannot start: cannot make pipes: Too many open files"


# Scripts, users and shells ------------------------------------------------------------------------------------------

SCRIPT = b'#!/bin/sh\necho "$FLEET_SCRIPT" "$#" "$@"; cat\n'


def _script(rig: Rig, text: bytes = SCRIPT, pieces: int = 3) -> None:
    step = len(text) // pieces + 1
    rig.send(*(m.Script(text[start : start + step]) for start in range(0, len(text), step)))
    rig.send(rig.connection.end_of(m.Stream.SCRIPT))


def test_a_script_is_run_when_it_is_all_there(rig: Rig, lines: list[str]) -> None:
    rig.serve()
    rig.send(m.Run("check.sh", "web1", "r1", script=True, arguments=("-v", "a b"), directory="/"))
    _script(rig)
    assert rig.until_exit()[:2] == (b"check.sh 2 -v a b\n", b"")
    rig.tls.close()  # type: ignore[union-attr]
    assert rig.result() is None
    assert lines[:2] == [
        "ops from 10.0.0.9 as 'web1' runs the script \"check.sh -v 'a b'\" (run r1)",
        f"run r1: the script has {len(SCRIPT)} bytes, SHA-256 {hashlib.sha256(SCRIPT).hexdigest()}",
    ]
    assert lines[2].startswith("run r1: exit 0 after 0.")


def test_a_script_may_be_called_anything_and_told_otherwise(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("a b", script=True, environment={"FLEET_SCRIPT": "mine"}))
    _script(rig)
    assert rig.until_exit()[0] == b"mine 0\n"


def test_input_before_the_script_is_not_lost(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("x", script=True, stdin=True), m.Stdin(b"one "))
    rig.send(m.Script(SCRIPT[:9]), m.Stdin(b"two "), m.Script(SCRIPT[9:]))
    rig.send(rig.connection.end_of(m.Stream.SCRIPT), m.Stdin(b"three"))
    rig.send(rig.connection.end_of(m.Stream.STDIN))
    assert rig.until_exit()[0] == b"x 0\none two three"


def test_several_scripts_one_after_the_other(rig: Rig) -> None:
    rig.serve()
    for number in range(3):
        rig.send(m.Run("x", script=True))
        _script(rig, b"#!/bin/sh\nexit %d\n" % number)
        assert rig.until_exit()[2].code == number
        rig.send(m.Run(f"exit {number}"))
        assert rig.until_exit()[2].code == number


def test_the_time_of_a_script_begins_when_it_starts(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("x", script=True, timeout=50.0), m.Ping(1))
    assert isinstance(rig.event(), m.Pong)
    rig.clock.ahead += 40
    _script(rig, b"#!/bin/sh\nexit 3\n")
    end = rig.until_exit()[2]
    assert (end.code, end.reason) == (3, m.Reason.EXIT)
    assert end.elapsed < 30


def test_a_script_that_is_cancelled_on_its_way(rig: Rig, lines: list[str]) -> None:
    rig.serve()
    rig.send(m.Run("x", script=True), m.Script(b"#!/bin/sh\n"), m.Cancel())
    error = "cancelled before its script was there"
    assert rig.until_exit()[2] == m.Exit(reason=m.Reason.CANCELLED, error=error)
    assert lines[1] == f"cannot start: {error}"
    # What was on its way meanwhile means nothing, and the connection is as good as before.
    rig.send(m.Script(b"late"), m.Run("exit 4"))
    assert rig.until_exit()[2].code == 4


def test_a_refused_script_may_still_be_on_its_way(rig: Rig) -> None:
    rig.permissions = frozenset()
    rig.serve()
    rig.send(m.Run("x", script=True), m.Script(b"#!/bin/sh\n"))
    rig.send(rig.connection.end_of(m.Stream.SCRIPT))
    assert rig.event() == m.Error("denied", "controller ops may not run commands on this host")
    rig.send(m.Script(b"late"), m.Ping(1))
    assert isinstance(rig.event(), m.Pong)


def test_a_script_that_was_changed_on_its_way_is_not_run(rig: Rig, tmp_path: Path) -> None:
    rig.serve()
    rig.send(m.Run("x", script=True), m.Script(b"#!/bin/sh\ntouch %s\n" % bytes(tmp_path / "ran")))
    end = replace(rig.connection.end_of(m.Stream.SCRIPT), sha256="0" * 64)
    assert rig.tls is not None
    rig.tls.sendall(encode_frame(CODES[m.EndOfStream], encode_payload(end)))
    assert str(rig.result()) == "wrong checksum on script"
    assert not (tmp_path / "ran").exists()


def test_a_connection_that_is_lost_with_a_script_on_its_way(rig: Rig) -> None:
    before = len(os.listdir("/proc/self/fd"))
    rig.serve()
    rig.send(m.Run("x", script=True), m.Script(b"#!/bin/sh\n"), m.Ping(1))
    assert isinstance(rig.event(), m.Pong)
    assert rig.tls is not None
    rig.tls.close()  # without TLS's goodbye
    assert isinstance(rig.result(), ssl.SSLEOFError)
    assert len(os.listdir("/proc/self/fd")) == before - 2  # both ends of the connection, and the script


def test_an_agent_that_stops_with_a_script_on_its_way(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("x", script=True), m.Script(b"#!/bin/sh\n"), m.Ping(1))
    assert isinstance(rig.event(), m.Pong)
    os.write(rig.stop, b"!")
    assert rig.event() == m.Goodbye("stopping", "the agent stops")
    assert isinstance(rig.result(), StoppingError)


@pytest.mark.parametrize("place", ["begin", "write", "start"])
def test_no_room_for_a_script(rig: Rig, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise RunnerError("make pipes", "full") if place == "start" else OSError(28, "full")

    if place == "begin":
        monkeypatch.setattr(script_module, "memory_file", full)
    elif place == "write":
        monkeypatch.setattr(script_module.ScriptFile, "write", full)
    else:
        monkeypatch.setattr(rig.services.runner, "run", full)
    rig.serve()
    rig.send(m.Run("x", script=True))
    _script(rig)
    reason = "cannot make pipes: full" if place == "start" else "cannot keep the script: No space left on device"
    assert rig.until_exit()[2] == m.Exit(error=reason)
    rig.send(m.Ping(1))
    assert isinstance(rig.event(), m.Pong)


def test_the_shell_that_was_asked_for(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("a command", shell="/bin/echo"))
    assert rig.until_exit()[0] == b"-c a command\n"
    rig.send(m.Run("true", shell="/no/shell"))
    assert rig.until_exit()[2].error == "cannot start /no/shell: No such file or directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_user_has_its_own_surroundings(rig: Rig, lines: list[str]) -> None:
    entry = pwd.getpwnam("nobody")
    assert not os.path.exists(entry.pw_dir)
    rig.serve()
    rig.send(m.Run("id -un; id -gn; pwd; echo $HOME $USER $LOGNAME $SHELL", run="r1", user="nobody"))
    group = grp.getgrgid(entry.pw_gid).gr_name
    expected = f"nobody\n{group}\n/\n{entry.pw_dir} nobody nobody {entry.pw_shell}\n"
    assert rig.until_exit()[0].decode() == expected
    assert lines[0].endswith(" as user nobody (run r1)")


def test_a_number_is_no_name(rig: Rig) -> None:
    rig.serve()
    for name in ("0", "65534", "+0", " root", "nobody "):
        rig.send(m.Run("id", user=name))
        assert rig.until_exit()[2].error == f"unknown user '{name}'"


# The end ----------------------------------------------------------------------------------------------------------


def test_controller_that_leaves(rig: Rig) -> None:
    rig.serve()
    rig.tls.settimeout(0)  # type: ignore[union-attr]
    with pytest.raises(ssl.SSLError):
        rig.tls.unwrap()  # type: ignore[union-attr]
    assert rig.result() is None


def test_a_session_that_is_over_is_not_in_memory(rig: Rig, uncollected: None) -> None:
    rig.serve()
    rig.send(m.Run("echo one"))
    assert rig.until_exit()[0] == b"one\n"
    assert rig.tls is not None
    rig.tls.close()
    assert rig.result() is None
    session = weakref.ref(rig.session)
    rig.session = None  # type: ignore[assignment]
    rig._thread = None
    assert session() is None


def test_cut_while_a_command_runs_kills_it(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("echo $$; exec sleep 1000"))
    handle = os.pidfd_open(int(rig.event().data))
    rig.tls.close()  # type: ignore[union-attr]
    assert isinstance(rig.result(), ssl.SSLEOFError)
    assert select.select([handle], [], [], PATIENCE)[0], "it lives"
    os.close(handle)


def test_stop_while_idle(rig: Rig) -> None:
    rig.serve()
    os.write(rig.stop, b"!")
    assert rig.event() == m.Goodbye("stopping", "the agent stops")
    assert rig.event() == Closed()
    assert isinstance(rig.result(), StoppingError)


def test_stop_while_a_command_runs(rig: Rig) -> None:
    """It is cancelled and reported, then the session ends at once."""
    rig.serve()
    rig.send(m.Run("echo; exec sleep 1000"))
    rig.event()
    os.write(rig.stop, b"!")
    end = rig.until_exit()[2]
    assert (end.reason, end.signal) == (m.Reason.CANCELLED, 15)
    assert rig.event() == m.Goodbye("stopping", "the agent stops")
    assert isinstance(rig.result(), StoppingError)


def test_request_that_crosses_with_the_stop_is_not_started(rig: Rig) -> None:
    rig.serve()
    rig.send(m.Run("echo; exec sleep 1000"))
    rig.event()
    os.write(rig.stop, b"!")
    assert rig.until_exit()[2].reason is m.Reason.CANCELLED
    rig.connection.send(m.Run("echo never"))
    assert isinstance(rig.result(), StoppingError)


def test_interrupted_by_another_thread(rig: Rig) -> None:
    rig.serve()
    rig.session.interrupt()
    assert rig.result() is None


def test_output_to_a_slow_reader_arrives_whole(rig: Rig) -> None:
    """More than the kernel holds for us: the session waits for room, and goes on."""
    rig.serve()
    rig.send(m.Run("head -c 20000000 /dev/zero"))
    out, _, end = rig.until_exit()
    assert (len(out), end.code) == (20_000_000, 0)


def test_refusal_of_the_protocol(rig: Rig) -> None:
    rig.serve()
    rig.tls.sendall(b"\0\0\0\0\x7f\0\0\0\0")  # type: ignore[union-attr]
    assert isinstance(rig.result(), RemoteProtocolError)
