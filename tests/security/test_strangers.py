"""Strangers who never log in: slow, silent, many, abrupt, or of another protocol. Others get in all the same."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from agent.wire import messages as m

PATIENCE = 30.0
DEADLINE = 10.0  # seconds from accept to the proof


def silent(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(source, 0))


def client_hello(newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = newest
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def ended(sock: socket.socket) -> bool:
    """Read what is there; return whether the other side has closed the connection."""
    try:
        return not sock.recv(65536)
    except (ConnectionResetError, ssl.SSLEOFError):
        return True
    except (ssl.SSLWantReadError, BlockingIOError, TimeoutError):
        return False


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def until_flat(agent: Any, before: int) -> None:
    """Check that the agent's descriptors come back to what they were; a login in between is time enough."""
    for _ in range(200):
        if agent.descriptors() <= before:
            return
        agent.works()
    raise AssertionError(f"{agent.descriptors()} descriptors, before {before}")


# Slow -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_deadline(_shared_agent: Any) -> Iterator[Callable[[], float]]:
    """Connect, say nothing, and let the others' tests go on meanwhile: how long until it is closed?"""
    sock = silent(_shared_agent.port)
    began = time.monotonic()
    took: list[float] = []

    def wait() -> None:
        if ended(sock):
            took.append(time.monotonic() - began)

    thread = threading.Thread(target=wait)
    thread.start()

    def seconds() -> float:
        thread.join(PATIENCE)
        return took[0]

    yield seconds
    thread.join(PATIENCE)
    sock.close()


@pytest.fixture(autouse=True)
def _begin(real_deadline: Callable[[], float]) -> None:
    """Start the long wait with the first test here."""


def drips(kit: SimpleNamespace, agent: Any) -> dict[str, tuple[Any, Iterator[bytes]]]:
    """Return a socket for each way of being slow, and the pieces that it sends one after the other."""

    def pieces(data: bytes) -> Iterator[bytes]:
        return (data[position : position + 1] for position in range(len(data)))

    def tls() -> Any:
        return kit.Peer(agent.port)

    after_hello, hello_only = tls(), tls()
    hello = hello_only.connection.send(hello_only.hello(agent.keys))
    after_hello.begin(agent.keys)
    return {
        "nothing": (silent(agent.port), pieces(b"")),
        "client hello in bytes": (silent(agent.port), pieces(client_hello())),
        "half a client hello": (silent(agent.port), iter([client_hello()[:100]])),
        "tls and nothing": (tls().tls, pieces(b"")),
        "hello in bytes": (hello_only.tls, pieces(hello)),
        "no proof": (after_hello.tls, pieces(b"")),
        "proof in bytes": (after_hello.tls, pieces(b"\0\x40" + bytes(62))),
    }


def test_1_2_3_every_way_of_being_slow_ends_at_the_deadline(agents: Any, kit: SimpleNamespace) -> None:
    """A deadline for each read would never pass for somebody who sends a byte now and then: it is one for all."""
    agent = agents.start(prepare="import agent.login; agent.login.LOGIN_DEADLINE = 1.0")
    began = time.monotonic()
    slow = drips(kit, agent)
    for sock, _ in slow.values():
        sock.setblocking(False)
    waiting = dict(slow)
    while waiting:
        assert time.monotonic() - began < PATIENCE, waiting
        ready = select.select([sock for sock, _ in waiting.values()], [], [], 0.05)[0]
        for name, (sock, pieces) in list(waiting.items()):
            if sock in ready and ended(sock):
                del waiting[name]
            elif piece := next(pieces, b""):
                with contextlib.suppress(OSError):
                    sock.send(piece)
    connections = len({id(sock) for sock, _ in slow.values()})
    agent.logged(r"no login within 1 s from 127\.0\.0\.1:\d+$", count=connections)
    for sock, _ in slow.values():
        sock.close()
    agent.works()


# Another protocol ---------------------------------------------------------------------------------------------------

FOREIGN = {
    "http": b"GET / HTTP/1.1\r\nHost: web1\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "tls 1.2": client_hello(ssl.TLSVersion.TLSv1_2),
    "sslv2": bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0") + bytes(16),
    "alerts": b"\x15\x03\x01\x00\x02\x01\x00" * 1000,
    "record of 65535 bytes": b"\x16\x03\x01\xff\xff" + bytes(65535),
    "application data": b"\x17\x03\x03\x00\x20" + bytes(32),
    "zeros": bytes(4096),
    "our own hello without tls": b"\0\x45FLTH" + bytes(65),
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_4_another_protocol(agent: Any, data: bytes) -> None:
    mark = agent.mark()
    with silent(agent.port) as sock:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := sock.recv(4096):
                answer += piece
    assert len(answer) <= 7, "more than an alert"
    agent.logged(r"malformed login from 127\.0\.0\.1:\d+: TLS failed: [a-z0-9 ]+$", since=mark)


def test_4_a_client_of_tls_1_2(agent: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with silent(agent.port) as sock, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        context.wrap_socket(sock)


# Many -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def descriptors() -> Iterator[int]:
    """Raise our own limit; return how many descriptors a test may hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard - 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def log_in_often(agent: Any, kit: SimpleNamespace, count: int, source: str) -> float:
    """Log in `count` times, each of which must succeed. Returns the longest time, in seconds."""
    longest = 0.0
    for _ in range(count):
        began = time.monotonic()
        with kit.Peer(agent.port, source=source) as peer:
            peer.log_in(agent.keys)
        longest = max(longest, time.monotonic() - began)
    return longest


def test_5_silent_flood_from_one_source(agents: Any, kit: SimpleNamespace, descriptors: int) -> None:
    """It gets sixteen places and a queue, not the agent."""
    agent = agents.start()
    before = agent.resident()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(silent(agent.port, "127.0.0.66")) for _ in range(min(2000, descriptors))]
        longest = log_in_often(agent, kit, 100, "127.0.0.1")
        assert agent.descriptors() < len(crowd) + 600
        grown = agent.resident() - before
        print(
            f"longest login of 100 beside {len(crowd)} silent connections: {longest * 1000:.0f} ms, +{grown >> 20} MiB"
        )
        assert grown < 20 << 20
    agent.works()


def test_5_flood_that_dials_again_and_again(agents: Any, kit: SimpleNamespace, descriptors: int) -> None:
    agent = agents.start()
    enough = threading.Event()
    count = 0

    def flood() -> None:
        nonlocal count
        crowd: list[socket.socket] = []
        while not enough.is_set():
            try:
                crowd.append(silent(agent.port, "127.0.0.66"))
            except OSError:
                continue
            count += 1
            if len(crowd) > 500:
                crowd.pop(0).close()
        for sock in crowd:
            sock.close()

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        longest = log_in_often(agent, kit, 50, "127.0.0.1")
    finally:
        enough.set()
        thread.join(PATIENCE)
    print(f"longest login of 50 beside {count} silent connections one after the other: {longest * 1000:.0f} ms")
    assert count > 100
    agent.works()


def test_6_silent_flood_from_many_sources(agents: Any, kit: SimpleNamespace, descriptors: int) -> None:
    """Now no place is free; the one that has been held longest is taken back for whoever waits."""
    agent = agents.start()
    with contextlib.ExitStack() as stack:
        sources = [f"127.0.0.{number}" for number in range(100, 150) for _ in range(16)]
        for source in sources[:descriptors]:
            stack.enter_context(silent(agent.port, source))
        longest = log_in_often(agent, kit, 10, "127.0.0.1")
        print(f"longest login of 10 beside 50 sources with 16 silent connections each: {longest * 1000:.0f} ms")
        assert longest < DEADLINE
    agent.works()


def test_8_connections_that_are_closed_at_once(agents: Any) -> None:
    agent = agents.start()
    agent.works()
    before = agent.descriptors()
    for number in range(3000):
        sock = silent(agent.port, f"127.0.0.{2 + number % 3}")
        if number % 2:
            reset(sock)
        else:
            sock.close()
    until_flat(agent, before)
    assert not [line for line in agent.log() if "malformed" in line or "crashed" in line], "a line for each stranger"


# Abrupt -----------------------------------------------------------------------------------------------------------


def _after_tls(peer: Any, agent: Any) -> None: ...


def _in_the_hello(peer: Any, agent: Any) -> None:
    peer.raw(b"\0\x45FLT")


def _before_the_challenge_is_read(peer: Any, agent: Any) -> None:
    peer.send(peer.hello(agent.keys))


def _after_the_challenge(peer: Any, agent: Any) -> None:
    peer.begin(agent.keys)


def _in_the_proof(peer: Any, agent: Any) -> None:
    peer.begin(agent.keys)
    peer.raw(b"\0\x40" + bytes(10))


def _before_the_verdict_is_read(peer: Any, agent: Any) -> None:
    peer.begin(agent.keys)
    peer.send(peer.proof(agent.keys))


def _after_the_login(peer: Any, agent: Any) -> None:
    peer.log_in(agent.keys)


def _in_a_request(peer: Any, agent: Any) -> None:
    peer.log_in(agent.keys).raw(b"\0\0\1\0\x10")


def _behind_a_request(peer: Any, agent: Any) -> None:
    peer.log_in(agent.keys).send(m.Run("sleep 1000"))


STEPS = [
    _after_tls,
    _in_the_hello,
    _before_the_challenge_is_read,
    _after_the_challenge,
    _in_the_proof,
    _before_the_verdict_is_read,
    _after_the_login,
    _in_a_request,
    _behind_a_request,
]


@pytest.mark.parametrize("step", STEPS)
def test_7_reset_at_each_step(agent: Any, kit: SimpleNamespace, step: Callable[[Any, Any], None]) -> None:
    agent.works()
    before, mark = agent.descriptors(), agent.mark()
    peer = kit.Peer(agent.port)
    step(peer, agent)
    peer.reset()
    until_flat(agent, before)
    assert not [line for line in agent.log(mark) if "crashed" in line]


@pytest.mark.parametrize("data", [b"", b"\x16", client_hello()[:100], client_hello()], ids=["0", "1", "half", "whole"])
def test_7_reset_before_and_in_tls(agent: Any, data: bytes) -> None:
    agent.works()
    before, mark = agent.descriptors(), agent.mark()
    for _ in range(20):
        sock = silent(agent.port)
        sock.sendall(data)
        reset(sock)
    until_flat(agent, before)
    assert not [line for line in agent.log(mark) if "crashed" in line]


# The real deadline: last, since the others' time counts.


def test_1_the_deadline_is_ten_seconds(agent: Any, real_deadline: Callable[[], float]) -> None:
    assert DEADLINE - 0.1 < real_deadline() < DEADLINE + 5
    agent.logged(r"no login within 10 s from 127\.0\.0\.1:\d+$")
