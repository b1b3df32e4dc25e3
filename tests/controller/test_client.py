"""Every way in which a host can answer, or not, against an agent that follows a script."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import threading
import weakref

import pytest

import agent.wire.link
from agent.wire import messages as m
from agent.wire.codec import encode_payload
from agent.wire.frames import encode_frame
from controller import client as module
from controller.cancel import CancelToken
from controller.client import AgentInfo, Client, Target
from controller.errors import BrokenError, CancelledError, DeniedError, UnreachableError
from controller.results import Status

EMPTY_DIGEST = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Recorder:
    """Keeps what an observer is told."""

    def __init__(self):
        self.told = []
        self.started = threading.Event()

    def start(self, host):
        self.told.append(("start", host))
        self.started.set()

    def stdout(self, host, data):
        self.told.append(("stdout", host, data))

    def stderr(self, host, data):
        self.told.append(("stderr", host, data))


@pytest.fixture
def observer():
    return Recorder()


@pytest.fixture
def run(fake, observer):
    """Return a function that runs a command at an agent with the given script, and returns the result."""

    def run(script, *, cancel=None, keep=True, **request):
        with fake(script).client(cancel) as client:
            return client.run(m.Run(request.pop("command", "true"), **request), observer, keep=keep)

    return run


# Commands that end


def test_ok(run, observer):
    def script(talk):
        assert talk.run() == m.Run("df -h", host="web1", run="r1")
        talk.send(m.Stdout(b"a"), m.Stderr(b"b"), m.Stdout(b"c"))
        talk.exit(code=0, elapsed=1.5)

    result = run(script, command="df -h", host="web1", run="r1")
    assert (result.host, result.status, result.rc, result.signal) == ("web1", Status.OK, 0, None)
    assert (result.stdout, result.stderr, result.stdout_bytes, result.stderr_bytes) == (b"ac", b"b", 2, 1)
    assert (result.elapsed, result.error, result.note, result.truncated) == (1.5, None, None, False)
    assert result.started > 0
    assert observer.told == [
        ("start", "web1"), ("stdout", "web1", b"a"), ("stderr", "web1", b"b"), ("stdout", "web1", b"c")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "status", "rc", "name", "error"),
    [
        ({"code": 7}, Status.FAILED, 7, None, None),
        ({"code": 255}, Status.FAILED, 255, None, None),
        ({"signal": 9}, Status.FAILED, None, "SIGKILL", None),
        ({"signal": signal.SIGRTMIN + 3}, Status.FAILED, None, "SIGRTMIN+3", None),
        ({"error": "no such directory: /x"}, Status.FAILED, None, None, "no such directory: /x"),
        ({"signal": 15, "reason": m.Reason.TIMEOUT}, Status.TIMEOUT, None, "SIGTERM", "killed after 60 s"),
        ({"code": 0, "reason": m.Reason.TIMEOUT}, Status.TIMEOUT, 0, None, "killed after 60 s"),
        ({"reason": m.Reason.TIMEOUT, "error": "not dead"}, Status.TIMEOUT, None, None, "not dead"),
        ({"signal": 15, "reason": m.Reason.CANCELLED}, Status.CANCELLED, None, "SIGTERM", "killed"),
        ({"reason": m.Reason.CANCELLED, "error": "not dead"}, Status.CANCELLED, None, None, "not dead"),
    ],
)
def test_other_ends(run, fields, status, rc, name, error):
    def script(talk):
        talk.run()
        talk.exit(**fields)

    result = run(script, timeout=60.0)
    assert (result.status, result.rc, result.signal, result.error) == (status, rc, name, error)


def test_truncated_output_is_counted(run):
    def script(talk):
        talk.run()
        talk.send(m.Stdout(b"abc"))
        talk.send(*talk.ends(held_back=7), m.Exit(0))

    result = run(script, max_output=3)
    assert (result.stdout, result.stdout_bytes, result.stderr_bytes, result.truncated) == (b"abc", 10, 7, True)


def test_a_pipe_that_is_still_held_is_noted(run):
    def script(talk):
        talk.run()
        talk.exit(code=0, held=True)

    assert run(script).note == "a background process still holds the output"


def test_keep_false_keeps_nothing(run, observer):
    def script(talk):
        talk.run()
        talk.send(m.Stdout(b"abc"))
        talk.exit(code=0)

    result = run(script, keep=False)
    assert (result.stdout, result.stdout_bytes) == (b"", 3)
    assert ("stdout", "web1", b"abc") in observer.told


def test_several_requests_on_one_connection(fake, observer):
    def script(talk):
        talk.run()
        talk.send(m.Stdout(b"one"))
        talk.exit(code=1)
        assert isinstance(talk.receive(), m.Run)
        talk.exit(code=2)

    with fake(script).client() as client:
        first = client.run(m.Run("a"), observer, keep=True)
        second = client.run(m.Run("b"), observer, keep=True)
    assert (first.rc, first.stdout, second.rc, second.stdout) == (1, b"one", 2, b"")


def test_a_client_that_is_closed_is_not_in_memory(fake, observer, uncollected):
    with fake(lambda talk: (talk.run(), talk.exit(code=0))).client() as client:
        assert client.run(m.Run("true"), observer, keep=True).status is Status.OK
    gone = weakref.ref(client)
    del client
    assert gone() is None


def test_a_ping_of_the_agent_is_answered(run):
    def script(talk):
        talk.run()
        talk.send(m.Ping(77))
        pong = talk.receive()
        assert isinstance(pong, m.Pong)
        assert pong.token == 77
        talk.exit(code=0)

    assert run(script).status is Status.OK


def test_a_request_larger_than_the_sockets_take_at_once(run, monkeypatch):
    dial = module.dial

    def dial_narrowly(*arguments):
        sock = dial(*arguments)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        return sock

    def script(talk):
        talk.login()
        assert len(talk.receive().environment["A"]) == 900_000
        talk.exit(code=0)

    monkeypatch.setattr(module, "dial", dial_narrowly)
    assert run(script, environment={"A": "x" * 900_000}).status is Status.OK


# Commands that are refused, or never leave


def test_denied(run):
    def script(talk):
        talk.run()
        talk.send(m.Error("denied", "you may not"))

    result = run(script)
    assert (result.status, result.error, result.rc) == (Status.DENIED, "you may not", None)


def test_refused_for_another_reason(run):
    def script(talk):
        talk.run()
        talk.send(m.Error("busy", "no more than 10 commands"))

    result = run(script)
    assert (result.status, result.error) == (Status.BROKEN, "no more than 10 commands")


def test_too_long_a_command_is_not_sent(fake, observer):
    def script(talk):
        talk.login()
        talk.until_closed()

    agent = fake(script)
    with agent.client() as client:
        result = client.run(m.Run("\u00e9" * 65536), observer, keep=True)
    agent.join()
    assert (result.status, result.rc) == (Status.FAILED, None)
    assert result.error == "command too long: 131072 bytes, the kernel takes at most 131071"
    assert (agent.talk.heard, observer.told) == (b"", [])


def test_a_request_that_no_message_has_room_for_is_not_sent(fake, observer):
    def script(talk):
        talk.login()
        talk.until_closed()

    agent = fake(script)
    with agent.client() as client:
        result = client.run(m.Run("true", environment={"A": "x" * 2**20}), observer, keep=True)
    agent.join()
    assert (result.status, result.rc, agent.talk.heard) == (Status.FAILED, None, b"")
    assert re.fullmatch(r"cannot be sent: Run of \d+ bytes, expected no more than 1048576", result.error)


# Streams that cannot be trusted


def frames(talk):
    """Return the frames of a whole command."""
    send = talk.connection.send
    made = [send(m.Stdout(b"secret")), send(m.Stderr(b"more"))]
    return [*made, *(send(end) for end in talk.ends()), send(m.Exit(0))]


@pytest.mark.parametrize("how", ["closed", "cut"])
@pytest.mark.parametrize("inside", [0, 3, 9])
@pytest.mark.parametrize("count", range(5))
def test_a_stream_that_ends_early_is_broken(run, count, inside, how):
    def script(talk):
        talk.run()
        made = frames(talk)
        # The header of a frame is 9 bytes.
        talk.sock.sendall(b"".join(made[:count]) + made[count][:inside])
        if how == "closed":
            talk.say_goodbye()
        else:
            talk.sock.shutdown(socket.SHUT_RDWR)

    result = run(script)
    assert (result.status, result.rc, result.stdout, result.stderr, result.stdout_bytes) == (
        Status.BROKEN, None, b"", b"", 0
    )  # fmt: skip
    reason = {
        "cut": "the peer cut the connection",
        "closed": "the connection ended inside a message" if inside else "the connection ended in state running",
    }
    assert result.error == f"the connection was lost: {reason[how]}"


def test_a_reset_connection_is_broken(run):
    def script(talk):
        talk.run()
        talk.send(m.Stdout(b"secret"))
        talk.cut()

    result = run(script)
    assert (result.status, result.stdout) == (Status.BROKEN, b"")
    assert result.error in (
        "the connection was lost: connection reset by peer", "the connection was lost: the peer cut the connection"
    )  # fmt: skip


def raw_end(total=6, sent=6, digest=EMPTY_DIGEST):
    return encode_frame(0x30, encode_payload(m.EndOfStream(m.Stream.STDOUT, sent, digest, total)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (raw_end(), "wrong checksum on stdout"),
        (raw_end(total=5, sent=5), "stdout ended after 6 bytes, expected 5"),
        (encode_frame(0x22, encode_payload(m.Exit(0))), "Exit before the end of stdout"),
        (encode_frame(0x10, encode_payload(m.Run("rm -rf /"))), "agent may not send Run in state running"),
        (b"\0\0\0\1\x20\0\0\0\0x", "wrong checksum on a frame of type 0x20"),
        (b"\xff\xff\xff\xff\x20\0\0\0\0", "frame of 4294967295 bytes, expected no more than 262144"),
        (b"\0\0\0\1\x7f\0\0\0\0x", "unknown frame type 0x7f"),
    ],
)
def test_an_agent_that_breaks_the_protocol_is_broken(run, data, reason):
    def script(talk):
        talk.run()
        talk.send(m.Stdout(b"secret"))
        talk.sock.sendall(data)
        talk.until_closed()

    result = run(script)
    assert (result.status, result.stdout, result.error) == (Status.BROKEN, b"", f"the connection was lost: {reason}")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_an_agent_that_sends_more_than_it_was_asked_for_is_broken(run, stream):
    def script(talk):
        talk.run()
        message = m.Stdout if stream == "stdout" else m.Stderr
        talk.send(message(b"0123456789"), message(b"x"))
        talk.until_closed()

    result = run(script, max_output=10)
    assert (result.status, result.stdout, result.stderr) == (Status.BROKEN, b"", b"")
    assert result.error == f"the agent sent more than the 10 bytes of {stream} it was asked for"


def test_an_agent_that_says_goodbye_in_a_command_is_broken(run):
    def script(talk):
        talk.run()
        talk.send(m.Stdout(b"secret"), m.Goodbye("stopping", "the agent stops"))

    result = run(script)
    assert (result.status, result.stdout) == (Status.BROKEN, b"")
    assert result.error == "the agent ended the connection: the agent stops"


def test_an_agent_that_falls_silent_is_broken(run, monkeypatch):
    monkeypatch.setattr(agent.wire.link, "PING_AFTER", 0.05)
    monkeypatch.setattr(agent.wire.link, "DEAD_AFTER", 0.1)

    def script(talk):
        talk.run()
        talk.until_closed()

    result = run(script)
    assert (result.status, result.error) == (Status.BROKEN, "the connection was lost: no sign of life for 0 s")


# Time and cancelling


def test_cancel_reaches_the_agent_which_confirms(run):
    token = CancelToken()

    def script(talk):
        talk.run()
        token.set()
        assert isinstance(talk.receive(), m.Cancel)
        talk.send(m.Stdout(b"last words"))
        talk.exit(signal=15, reason=m.Reason.CANCELLED)

    result = run(script, cancel=token)
    assert (result.status, result.signal, result.stdout) == (Status.CANCELLED, "SIGTERM", b"last words")


def test_an_agent_that_never_confirms_a_cancel_is_broken(run, monkeypatch):
    monkeypatch.setattr(module, "_CANCEL_LIMIT", 0.05)
    token = CancelToken()

    def script(talk):
        talk.run()
        token.set()
        assert isinstance(talk.receive(), m.Cancel)
        talk.until_closed()

    result = run(script, cancel=token)
    assert (result.status, result.error) == (
        Status.BROKEN, "cancelled, but the agent has not confirmed that the command is dead"
    )  # fmt: skip


def test_an_agent_that_ignores_the_timeout_is_broken(run, monkeypatch):
    monkeypatch.setattr(module, "_TIMEOUT_SLACK", 0.02)

    def script(talk):
        talk.run()
        talk.until_closed()

    result = run(script, timeout=0.02)
    assert (result.status, result.error) == (
        Status.BROKEN, "time is up, but the agent has not confirmed that the command is dead"
    )  # fmt: skip


def test_cancelled_in_the_tls_handshake(fake):
    token = CancelToken()

    def script(sock):
        sock.recv(1)
        token.set()
        while sock.recv(65536):
            pass

    with pytest.raises(CancelledError, match="not started: the run was cancelled"):
        fake(script, tls=False).client(token)


def test_cancelled_in_the_login(fake):
    token = CancelToken()

    def script(talk):
        talk.receive()
        token.set()
        talk.until_closed()

    with pytest.raises(CancelledError):
        fake(script).client(token)


def test_cancelled_before_anything(key, identity):
    token = CancelToken()
    token.set()
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(CancelledError):
        Client(Target("web1", "127.0.0.1", listener.getsockname()[1], identity), key, token, connect_timeout=9)


# The login


def refused(agent, error, **options):
    """Check that logging in raises `error`, and return its text."""
    with pytest.raises(error) as caught:
        agent.client(**options)
    return str(caught.value)


def test_what_a_proven_agent_says_of_itself(fake):
    def script(talk):
        talk.login()
        talk.until_closed()

    with fake(script).client() as client:
        assert client.info == AgentInfo("9.9", "3.11.7", "Linux", "box")


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (b"not json", AgentInfo()),
        (b"\xff\xfe", AgentInfo()),
        (b"[]", AgentInfo()),
        (b'{"agent": 1, "python": null, "os": "Linux", "more": []}', AgentInfo(os="Linux")),
    ],
)
def test_an_agent_with_odd_words_is_an_agent(fake, info, expected):
    def script(talk):
        talk.login(info)
        talk.until_closed()

    with fake(script).client() as client:
        assert client.info == expected


def test_refusal(fake):
    def script(talk):
        talk.open()
        talk.send(m.Refusal())

    agent = fake(script)
    assert refused(agent, DeniedError) == (
        f"web1 ({agent.where}) refused our key: wrong machine at this address, revoked or rotated, not enrolled, or"
        " someone in between; see the agent's log"
    )


@pytest.mark.parametrize("info", [b"{}", b'{"agent": "9.9"}', b"\xff" * 400])
def test_an_impostor_gets_not_one_byte_of_the_request(fake, observer, info):
    def script(talk):
        talk.open()
        talk.send(m.Welcome(b"\x5a" * 32, info))
        talk.until_closed()

    agent = fake(script)
    with pytest.raises(DeniedError) as caught, agent.client() as client:
        client.run(m.Run("echo SECRET"), observer, keep=True)
    agent.join()
    assert str(caught.value) == (
        f"IMPOSTOR: the peer at {agent.where} could not prove that it holds web1's key; nothing was sent"
    )
    assert agent.talk.heard == b""
    assert observer.told == []


def test_a_proof_over_other_words_is_an_impostors(fake):
    def script(talk):
        from agent.wire.handshake import server_proof

        proof = talk.open()
        talk.send(m.Welcome(server_proof(talk.keys.server_key, talk.transcript, proof, b"{}"), b'{"os": "x"}'))
        talk.until_closed()

    agent = fake(script)
    assert refused(agent, DeniedError).startswith("IMPOSTOR: ")
    agent.join()
    assert agent.talk.heard == b""


@pytest.mark.parametrize("version", [2, 65535])
def test_an_agent_that_is_too_new(fake, version):
    def script(talk):
        talk.receive()
        talk.send(m.Challenge(version, 0, b"\xbb" * 32))
        talk.until_closed()

    assert refused(fake(script), UnreachableError) == (
        f"the agent is too new: it speaks protocol version {version}, we need version 1"
    )


def test_an_agent_that_is_too_old(fake, monkeypatch):
    monkeypatch.setattr(module, "MIN_PROTOCOL_VERSION", 2)
    monkeypatch.setattr(module, "PROTOCOL_VERSION", 3)

    def script(talk):
        talk.receive()
        talk.send(m.Challenge(1, 0, b"\xbb" * 32))
        talk.until_closed()

    assert refused(fake(script), UnreachableError) == (
        "the agent is too old: it speaks protocol version 1, we need versions 2 to 3"
    )


def test_features_that_were_not_offered(fake):
    def script(talk):
        talk.receive()
        talk.send(m.Challenge(1, 4, b"\xbb" * 32))
        talk.until_closed()

    assert refused(fake(script), UnreachableError) == "the agent chose features that we did not offer"


def test_an_agent_that_leaves_in_the_login(fake):
    def script(talk):
        talk.receive()
        talk.say_goodbye()

    agent = fake(script)
    assert refused(agent, UnreachableError) == (
        f"not a fleet agent at {agent.where}: the connection ended in state challenge"
    )


def test_a_tls_server_that_is_no_agent(fake):
    def script(talk):
        talk.sock.recv(1)
        talk.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        talk.until_closed()

    agent = fake(script)
    assert refused(agent, UnreachableError) == (
        f"not a fleet agent at {agent.where}: message of 18516 bytes, expected 1 to 1024"
    )


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 64])
def test_what_does_not_speak_tls_is_no_agent(fake, banner):
    def script(sock):
        sock.sendall(banner)
        sock.recv(65536)

    agent = fake(script, tls=False)
    assert re.fullmatch(rf"not a fleet agent at {agent.where}: TLS failed: [a-z ]+", refused(agent, UnreachableError))


def test_a_peer_that_closes_at_once(fake):
    def script(sock):
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    agent = fake(script, tls=False)
    assert refused(agent, UnreachableError) == (
        f"not a fleet agent at {agent.where}: TLS failed: the peer cut the connection"
    )


def test_a_peer_that_resets(fake):
    def script(sock):
        sock.recv(1)  # and the rest stays unread, so that closing is a reset

    agent = fake(script, tls=False)
    assert refused(agent, UnreachableError) == (
        f"the connection to {agent.where} was lost in the login: connection reset by peer"
    )


def test_a_peer_that_says_nothing(fake):
    def script(sock):
        while sock.recv(65536):
            pass

    agent = fake(script, tls=False)
    assert refused(agent, UnreachableError, connect_timeout=0.2) == (
        f"no answer from the agent at {agent.where} within 0.2 s"
    )


def test_an_agent_that_goes_silent_in_the_login(fake):
    def script(talk):
        talk.receive()
        talk.until_closed()

    agent = fake(script)
    assert refused(agent, UnreachableError, connect_timeout=1.0) == (
        f"no answer from the agent at {agent.where} within 1 s"
    )


def test_an_ipv6_address_is_shown_in_brackets(key, identity):
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        port = listener.getsockname()[1]
        with pytest.raises(UnreachableError) as caught:
            Client(Target("web1", "::1", port, identity), key, CancelToken(), connect_timeout=0.1)
    assert str(caught.value) == f"no answer from the agent at [::1]:{port} within 0.1 s"


@pytest.mark.parametrize(
    ("pool", "text"),
    [
        (None, "not enrolled: mend with: fleet enroll web1"),
        ("ci", "not enrolled: no pool 'ci' in the registry; mend with: fleet enroll --pool ci"),
    ],
)
def test_a_host_without_keys_is_not_even_called(key, pool, text):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with pytest.raises(DeniedError) as caught:
            Client(
                Target("web1", "127.0.0.1", listener.getsockname()[1], None, pool),
                key,
                CancelToken(),
                connect_timeout=9,
            )
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert str(caught.value) == text


def test_a_handshake_whose_first_words_do_not_fit(fake, monkeypatch):
    def script(talk):
        talk.login()
        talk.until_closed()

    original, calls = ssl.SSLSocket.do_handshake, []

    def do_handshake(sock, block=False):
        if not sock.server_side and not calls:
            calls.append(sock)
            raise ssl.SSLWantWriteError
        original(sock, block)

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", do_handshake)
    with fake(script).client() as client:
        assert client.info.agent == "9.9"
    assert calls


def test_a_socket_that_tls_will_not_have_is_closed(fake, monkeypatch):
    def script(sock):
        assert sock.recv(1) == b""

    class NoContext:
        def wrap_socket(self, sock, **options):
            raise OSError(12, "Cannot allocate memory")

    agent = fake(script, tls=False)
    monkeypatch.setattr(module, "_context", NoContext)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        agent.client()


# Pings


def test_ping(fake):
    def script(talk):
        talk.login()
        ping = talk.receive()
        assert isinstance(ping, m.Ping)
        talk.send(m.Ping(5), m.Pong(ping.token, 1e9))
        talk.until_closed()

    with fake(script).client() as client:
        pinged = client.ping()
    assert pinged.info == AgentInfo("9.9", "3.11.7", "Linux", "box")
    assert 0 < pinged.rtt < 30
    assert pinged.clock_offset < -1e8


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (
            lambda talk: talk.send(m.Goodbye("stopping", "the agent stops")),
            "the agent ended the connection: the agent stops",
        ),
        (lambda talk: talk.say_goodbye(), "the agent at {where} closed the connection"),
        (lambda talk: talk.sock.shutdown(socket.SHUT_RDWR), "the connection was lost: the peer cut the connection"),
        (lambda talk: talk.sock.sendall(b"\0\0\0\0\x7f\0\0\0\0"), "the connection was lost: unknown frame type 0x7f"),
    ],
)
def test_a_ping_that_fails(fake, act, text):
    def script(talk):
        talk.login()
        talk.receive()
        act(talk)

    agent = fake(script)
    with agent.client() as client, pytest.raises(BrokenError) as caught:
        client.ping()
    assert str(caught.value) == text.format(where=agent.where)


def test_a_ping_without_answer(fake):
    def script(talk):
        talk.login()
        talk.until_closed()

    agent = fake(script)
    with agent.client(connect_timeout=1.0) as client, pytest.raises(UnreachableError, match=r"within 1 s$"):
        client.ping()


def test_a_closed_client(fake):
    def script(talk):
        talk.login()
        talk.until_closed()

    client = fake(script).client()
    client.close()
    client.close()
    with pytest.raises(BrokenError, match=r"^the connection was lost: bad file descriptor$"):
        client.ping()
