"""Logins that are wrong: malformed, replayed, out of turn, or by nobody that the agent knows."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.wire import messages as m
from agent.wire.constants import FEATURES

HELLO = struct.Struct(">4sHHII32s16sB")


def packed(keys: Any, *, name: bytes | None = None, versions: tuple[int, int] = (1, 1), features: int = 0) -> bytes:
    """Return the body of a hello without asking whether it is a good one."""
    name = keys.controller.name.encode() if name is None else name
    identity = keys.identity
    head = HELLO.pack(b"FLTH", *versions, features, identity.epoch, bytes(32), identity.host_id, len(name) & 0xFF)
    return head + name


# A hello that is none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0", "message of 0 bytes, expected 1 to 1024"),
        (b"\0\1F", "not a fleet hello"),
        (b"\0\x41" + b"FLTH" + bytes(61), "not a fleet hello"),
        (b"\0\x82" + b"FLTH" + bytes(126), "not a fleet hello"),
        (struct.pack(">H", 1025), "message of 1025 bytes, expected 1 to 1024"),
        (struct.pack(">H", 65535), "message of 65535 bytes, expected 1 to 1024"),
        (b"\0\x45" + b"HTLF" + bytes(65), "not a fleet hello"),
        (b"GET / HTTP/1.1\r\nHost: web1\r\n\r\n", "message of 18245 bytes, expected 1 to 1024"),
    ],
    ids=["0 bytes", "1 byte", "65 bytes", "130 bytes", "1025 bytes", "65535 bytes", "no magic", "http in tls"],
)
def test_9_hello_of_a_wrong_length(agent: Any, peer: Any, data: bytes, reason: str) -> None:
    mark = agent.mark()
    peer.raw(data)
    assert peer.rest() == b""
    assert agent.logged(rf"malformed login from 127\.0\.0\.1:\d+: {reason}$", since=mark)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"a" * 65,
        b"OPS",
        b"op\0s",
        b"ops\n",
        b"../ops",
        "\N{LATIN SMALL LETTER U WITH DIAERESIS}ps".encode(),
        b"\xff\xfe",
    ],
)
def test_10_controller_name_that_is_none(agent: Any, peer: Any, name: bytes) -> None:
    mark = agent.mark()
    peer.body(packed(agent.keys, name=name))
    assert peer.rest() == b""
    (line,) = agent.logged("malformed login", since=mark)
    assert line.endswith((": malformed controller name", ": not a fleet hello"))


def test_10_name_length_that_lies(agent: Any, peer: Any) -> None:
    mark = agent.mark()
    peer.body(packed(agent.keys) + b"x")
    assert peer.rest() == b""
    agent.logged("malformed controller name$", since=mark)


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        ((2, 1), "impossible versions 2 to 1"),
        ((0, 0), "impossible versions 0 to 0"),
        ((0, 1), "impossible versions 0 to 1"),
    ],
)
def test_11_impossible_versions(agent: Any, peer: Any, versions: tuple[int, int], reason: str) -> None:
    mark = agent.mark()
    peer.body(packed(agent.keys, versions=versions))
    assert peer.rest() == b""
    agent.logged(reason, since=mark)


def test_11_version_that_only_the_other_side_has(agent: Any, peer: Any) -> None:
    """The agent says which version it speaks, so that the controller can say who is too old, and ends."""
    mark = agent.mark()
    challenge = peer.begin(agent.keys, min_version=2, max_version=9)
    assert challenge.version == 1
    assert peer.rest() == b""
    agent.logged("no common protocol version: controller has 2 to 9, agent 1 to 1$", since=mark)


def test_11_features_that_nobody_knows_are_not_taken_up(agent: Any, peer: Any) -> None:
    assert peer.begin(agent.keys, features=0xFFFFFFFF).features == FEATURES
    peer.send(peer.proof(agent.keys))
    assert isinstance(peer.event(), m.Welcome)


# Refusals ---------------------------------------------------------------------------------------------------------


def _change(keys: Any, what: str) -> Any:
    identity, key = keys.identity, keys.controller
    return {
        "unknown controller": lambda: replace(keys, controller=replace(key, name="opx")),
        "wrong host": lambda: replace(keys, identity=replace(identity, host_id=bytes(16))),
        "old epoch": lambda: replace(keys, identity=replace(identity, epoch=identity.epoch - 1)),
        "future epoch": lambda: replace(keys, identity=replace(identity, epoch=2**32 - 1)),
        "wrong key": lambda: replace(keys, controller=replace(key, master=bytes(32))),
    }[what]()


@pytest.mark.parametrize("what", ["unknown controller", "wrong host", "old epoch", "future epoch", "wrong key"])
def test_12_every_refusal_is_the_same_bytes(agent: Any, peer: Any, what: str) -> None:
    """Who guesses names learns nothing from the answers, not even from their lengths."""
    mark = agent.mark()
    keys = _change(agent.keys, what)
    challenge = peer.begin(keys)
    assert (challenge.version, challenge.features) == (1, 0)
    peer.send(peer.proof(keys))
    assert peer.rest() == b"\x00\x01\x01"
    (line,) = agent.logged("authentication failed", since=mark)
    assert line.startswith("fleet-agent: authentication failed from 127.0.0.1:")


@pytest.mark.parametrize("length", [1, 31, 32, 63, 65, 96])
def test_13_proof_of_a_wrong_length(agent: Any, peer: Any, length: int) -> None:
    mark = agent.mark()
    peer.begin(agent.keys)
    peer.body(bytes(length))
    assert peer.rest() == b""
    agent.logged(f"malformed login from .*: proof of {length} bytes$", since=mark)


def test_13_proof_of_no_bytes(agent: Any, peer: Any) -> None:
    mark = agent.mark()
    peer.begin(agent.keys)
    peer.body(b"")
    assert peer.rest() == b""
    agent.logged("malformed login from .*: message of 0 bytes, expected 1 to 1024$", since=mark)


def test_14_replayed_login(agent: Any, kit: SimpleNamespace) -> None:
    """The bytes of a good login, recorded inside TLS, are worth nothing on another connection."""
    with kit.Peer(agent.port) as first:
        hello = first.hello(agent.keys)
        first.send(hello)
        first.event()
        proof = first.proof(agent.keys)
        first.send(proof)
        assert isinstance(first.event(), m.Welcome)
    mark = agent.mark()
    with kit.Peer(agent.port) as second:
        second.send(hello)
        second.event()
        second.send(proof)
        assert second.rest() == b"\x00\x01\x01"
    agent.logged("authentication failed from", since=mark)


def test_14_reflected_proof(agent: Any, peer: Any) -> None:
    """The agent's own words sent back to it prove nothing."""
    mark = agent.mark()
    challenge = peer.begin(agent.keys)
    peer.send(m.Proof(peer.binding(), challenge.nonce))
    assert peer.rest() == b"\x00\x01\x01"
    agent.logged("authentication failed from", since=mark)


# Requests before their time ---------------------------------------------------------------------------------------


def request(kit: SimpleNamespace, path: Path) -> bytes:
    """Return a whole `run` as it would be after the login."""
    from agent.wire.codec import encode_payload
    from agent.wire.frames import encode_frame

    return encode_frame(0x10, encode_payload(m.Run(f"touch {path}")))


def test_15_request_in_the_place_of_the_hello(agent: Any, peer: Any, kit: SimpleNamespace, tmp_path: Path) -> None:
    mark = agent.mark()
    peer.raw(request(kit, tmp_path / "made"))
    assert peer.rest() == b""
    agent.logged("malformed login", since=mark)
    agent.works()
    assert not (tmp_path / "made").exists()


def test_15_request_in_the_place_of_the_proof(agent: Any, peer: Any, kit: SimpleNamespace, tmp_path: Path) -> None:
    mark = agent.mark()
    peer.begin(agent.keys)
    peer.raw(request(kit, tmp_path / "made"))
    assert peer.rest() == b""
    agent.logged("malformed login", since=mark)
    agent.works()
    assert not (tmp_path / "made").exists()


def test_15_everything_in_one_piece(agent: Any, peer: Any, kit: SimpleNamespace, tmp_path: Path) -> None:
    mark = agent.mark()
    hello = peer.connection.send(peer.hello(agent.keys))
    peer.raw(hello + struct.pack(">H", 64) + bytes(64) + request(kit, tmp_path / "made"))
    assert peer.rest() == b""
    agent.logged("malformed login .*: the peer spoke in state challenge, when it was our turn$", since=mark)
    agent.works()
    assert not (tmp_path / "made").exists()


def _in_one_record(peer: Any, proof: bytes, request: bytes) -> None:
    peer.raw(proof + request)


def _in_one_segment(peer: Any, proof: bytes, request: bytes) -> None:
    peer.tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    peer.raw(proof)
    peer.raw(request)
    peer.tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


@pytest.mark.parametrize("how", [_in_one_record, _in_one_segment])
@pytest.mark.parametrize("good", [True, False], ids=["good proof", "bad proof"])
def test_15_request_behind_the_proof(
    agent: Any,
    peer: Any,
    kit: SimpleNamespace,
    tmp_path: Path,
    how: Callable[[Any, bytes, bytes], None],
    good: bool,
) -> None:
    """A controller that sends a request before it has checked the agent's proof is none of ours, whoever it is."""
    mark = agent.mark()
    peer.begin(agent.keys)
    proof = peer.connection.send(peer.proof(agent.keys if good else kit.Keys()))
    how(peer, proof, request(kit, tmp_path / "made"))
    assert peer.rest() == b""
    agent.logged("malformed login .*: the peer spoke in state verdict, when it was our turn$", since=mark)
    agent.works()
    assert not (tmp_path / "made").exists()
