"""Someone in between, and someone in the agent's place: refused, and told nothing of a request."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.certificate import make_certificate
from agent.tls import server_context
from agent.wire.constants import HELLO_LENGTHS, PROOF_LENGTH
from controller.errors import DeniedError, UnreachableError

ALERT = r"ALERT from 127\.0\.0\.1:\d+: controller ops authenticated through another TLS channel: man in the middle$"
SECRET = "echo the-secret-command"

# What a controller says before it knows who is there: two messages of fixed form, each behind its length.
MOST_BEFORE_PROOF = 2 + HELLO_LENGTHS[1] + 2 + PROOF_LENGTH


@pytest.fixture
def stolen(agents: Any, tmp_path: Path) -> tuple[Any, bytes]:
    """An agent whose TLS key has been stolen: the thief has the same certificate and key."""
    theft = tmp_path / "stolen.pem"
    agent = agents.start(
        prepare=f"""
import agent.tls
def make_and_lose(make=agent.tls.make_certificate):
    made = make()
    with open({str(theft)!r}, "wb") as file:
        file.write(made.pem)
    return made
agent.tls.make_certificate = make_and_lose
"""
    )
    return agent, theft.read_bytes()


def context_with(pem: bytes, folder: Path) -> ssl.SSLContext:
    file = folder / "server.pem"
    file.write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    context.load_cert_chain(file)
    return context


def check_refused(agent: Any, relay: Any, port: int) -> None:
    with pytest.raises(DeniedError) as caught:
        agent.run(SECRET, port)
    assert str(caught.value) == (
        f"web1 (127.0.0.1:{port}) refused our key: wrong machine at this address, revoked or rotated, not enrolled,"
        " or someone in between; see the agent's log"
    )
    assert b"secret" not in relay.seen
    assert len(relay.seen) <= MOST_BEFORE_PROOF
    agent.logged(ALERT)
    assert not [line for line in agent.log() if "runs" in line]
    agent.works()


def test_16_man_in_the_middle_with_a_certificate_of_his_own(
    agents: Any, server: Callable[..., int], kit: SimpleNamespace
) -> None:
    agent = agents.start()
    relay = kit.Relay(server_context()[0], agent.port)
    check_refused(agent, relay, server(relay))


def test_17_man_in_the_middle_with_the_stolen_tls_key(
    stolen: tuple[Any, bytes], server: Callable[..., int], kit: SimpleNamespace, tmp_path: Path
) -> None:
    """The certificate is the agent's own and its signature holds; that it is another TLS connection tells on him."""
    agent, pem = stolen
    with kit.Peer(agent.port) as peer:
        assert peer.tls.getpeercert(True) == ssl.PEM_cert_to_DER_cert(pem.decode().partition("-----BEGIN EC")[0])
    relay = kit.Relay(context_with(pem, tmp_path), agent.port)
    check_refused(agent, relay, server(relay))


def test_17_relayed_login_with_a_binding_that_was_replaced(
    stolen: tuple[Any, bytes], server: Callable[..., int], kit: SimpleNamespace, tmp_path: Path
) -> None:
    """He may put the right binding in the place of the controller's, but then the proof does not hold."""
    agent, pem = stolen

    def relay(sock: Any) -> None:
        with (
            context_with(pem, tmp_path).wrap_socket(sock, server_side=True) as controller,
            kit.Peer(agent.port) as peer,
        ):
            peer.raw(controller.recv(4096))
            controller.sendall(peer.tls.recv(4096))
            proof = controller.recv(4096)
            peer.raw(proof[:2] + peer.binding() + proof[34:])
            controller.sendall(peer.tls.recv(4096))

    with pytest.raises(DeniedError, match="refused our key"):
        agent.run(SECRET, server(relay))
    agent.logged("authentication failed from")
    agent.works()


def test_18_the_agents_certificate_without_its_key(
    agent: Any, server: Callable[..., int], kit: SimpleNamespace, tmp_path: Path
) -> None:
    """The thief shows the true certificate, and a key file that claims its public key around another secret (OpenSSL
    compares no more than that). TLS itself must catch him: there is no certificate authority, but there is a signature.
    """
    pem = make_certificate().pem
    certificate, mark, key = pem.partition(b"-----BEGIN EC PRIVATE KEY-----\n")
    der = bytearray(base64.b64decode(key.partition(b"-----END")[0]))
    secret = der.index(b"\x04\x20") + 2
    der[secret + 31] ^= 1
    forged = certificate + mark + base64.encodebytes(bytes(der)) + b"-----END EC PRIVATE KEY-----\n"

    def serve(sock: Any) -> None:
        with pytest.raises(ssl.SSLError, match="DECRYPT_ERROR"):
            context_with(forged, tmp_path).wrap_socket(sock, server_side=True)

    port = server(serve)
    with pytest.raises(UnreachableError) as caught:
        agent.run(SECRET, port)
    assert str(caught.value) == f"not a fleet agent at 127.0.0.1:{port}: TLS failed: bad signature"


def test_19_impostor_without_the_hosts_key(agent: Any, server: Callable[..., int], kit: SimpleNamespace) -> None:
    """He lets everybody in, to see what they want. He sees nothing."""
    impostor = kit.FalseAgent(kit.Keys(), lambda peer: peer.rest(), server_context()[0])
    port = server(impostor)
    with pytest.raises(DeniedError) as caught:
        agent.run(SECRET, port)
    assert str(caught.value) == (
        f"IMPOSTOR: the peer at 127.0.0.1:{port} could not prove that it holds web1's key; nothing was sent"
    )
    assert impostor.received == b""


def test_19_impostor_with_the_keys_of_another_host(
    agent: Any, server: Callable[..., int], kit: SimpleNamespace
) -> None:
    """One host that was taken over cannot stand in for another."""
    other = kit.Keys(controller=agent.keys.controller)

    impostor = kit.FalseAgent(other, lambda peer: peer.rest(), server_context()[0])
    with pytest.raises(DeniedError, match="IMPOSTOR"):
        agent.run(SECRET, server(impostor))
    assert impostor.received == b""


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"\0\x20" + bytes(32), "proof of 31 bytes"),
        (b"\0\1\2", "malformed verdict"),
        (b"\0\0", "message of 0 bytes, expected 1 to 1024"),
        (b"\xff\xff", "message of 65535 bytes, expected 1 to 1024"),
    ],
)
def test_19_garbage_in_the_place_of_a_verdict(
    agent: Any, server: Callable[..., int], kit: SimpleNamespace, answer: bytes, reason: str
) -> None:
    seen = b""

    def serve(sock: Any) -> None:
        nonlocal seen
        with server_context()[0].wrap_socket(sock, server_side=True) as tls:
            tls.recv(4096)
            tls.sendall(b"\0\x2aFLTC" + b"\0\1" + bytes(4) + bytes(32))
            tls.recv(4096)
            tls.sendall(answer)
            try:
                seen = tls.recv(4096)
            except ConnectionResetError:
                pass

    port = server(serve)
    with pytest.raises(UnreachableError) as caught:
        agent.run(SECRET, port)
    assert str(caught.value) == f"not a fleet agent at 127.0.0.1:{port}: {reason}"
    assert seen == b""


def test_20_wrong_machine_at_the_address(agents: Any, kit: SimpleNamespace) -> None:
    """Two hosts of one controller have changed addresses: neither runs what was meant for the other."""
    key = kit.Keys().controller
    web, db = agents.start(keys=kit.Keys(controller=key)), agents.start(keys=kit.Keys(controller=key))
    for agent, there in ((web, db), (db, web)):
        with pytest.raises(DeniedError, match="refused our key: wrong machine at this address"):
            agent.run(SECRET, there.port)
        there.logged("authentication failed from")
    for agent in (web, db):
        agent.works()
