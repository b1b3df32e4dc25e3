"""The cryptography of the login: how each side proves to the other that it holds the host's key.

A variation on SCRAM (RFC 5802) with 256-bit random keys in place of passwords. The controller keeps one master
secret; each host's keys are stretched from it with a random host id and an epoch, never with the host's name (a name
that is used again must not bring an old key back). The agent keeps only a verifier, so a stolen agent file opens no
host. Both proofs cover a transcript of the two opening messages and of the very TLS connection they travel on.

Everything here is a pure function of its arguments: no clock, no randomness, no I/O. Keep it so: `check_proof` is
meant to be able to move into a process of its own that alone holds the verifiers.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from collections.abc import Callable
from dataclasses import field

from agent.wire.record import record

__all__ = [
    "CONTROLLER_NAME",
    "AuthenticationError",
    "HostKeys",
    "ManInTheMiddleError",
    "Verifier",
    "channel_binding",
    "check_proof",
    "client_proof",
    "derive_keys",
    "server_proof",
    "server_proof_matches",
    "transcript_hash",
]

CONTROLLER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

_KEY_LENGTH = 32
_HOST_ID_LENGTH = 16
_PROOF_LENGTH = 64  # channel binding, then the masked client key
# The client Finished of TLS 1.3 is one hash long: 32 bytes with SHA-256 suites, 48 with SHA-384. Anything shorter
# means that Python gave us no binding, and without one a relay that stole the TLS key goes unnoticed.
_SHORTEST_TLS_UNIQUE = 32


class AuthenticationError(Exception):
    """The proof does not hold. Says nothing of the reason on purpose: the peer must not learn it."""

    def __str__(self) -> str:
        return "authentication failed"


class ManInTheMiddleError(AuthenticationError):
    """The proof is right but was made for another TLS connection: somebody relays."""

    def __init__(self, controller: str) -> None:
        super().__init__(controller)
        self.controller = controller

    def __str__(self) -> str:
        return f"controller {self.controller} authenticated through another TLS channel: man in the middle"


@record
class HostKeys:
    """The three keys of one controller for one host, 32 bytes each."""

    client_key: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@record
class Verifier:
    """What an agent keeps: enough to check a controller and to prove itself, not enough to log in anywhere."""

    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def derive_keys(master: bytes, controller: str, host_id: bytes, epoch: int) -> HostKeys:
    """Stretch a controller's master secret to the keys for one host.

    `master` is 32 bytes, `host_id` 16 bytes, `epoch` 0..2**32-1. Raises ValueError for anything else.
    """
    if len(master) != _KEY_LENGTH:
        raise ValueError(f"a master key is {_KEY_LENGTH} bytes, not {len(master)}")
    if len(host_id) != _HOST_ID_LENGTH:
        raise ValueError(f"a host id is {_HOST_ID_LENGTH} bytes, not {len(host_id)}")
    if not CONTROLLER_NAME.fullmatch(controller):
        raise ValueError(f"not a controller name: {controller!r}")
    if not 0 <= epoch < 2**32:
        raise ValueError(f"epoch {epoch} is not in 0..{2**32 - 1}")
    name = controller.encode("ascii")
    base = _hmac(master, b"fleet/1 host key\0" + bytes([len(name)]) + name + host_id + struct.pack(">I", epoch))
    client_key = _hmac(base, b"fleet/1 client key")
    return HostKeys(client_key, _sha256(client_key), _hmac(base, b"fleet/1 server key"))


def channel_binding(certificate: bytes, tls_unique: bytes | None) -> bytes:
    """Name this TLS connection in 32 bytes that nobody else's connection has.

    `certificate` is the server certificate's DER. `tls_unique` is what Python calls so: the client Finished, which
    under TLS 1.3 is a MAC over the whole TLS handshake. The certificate alone is not enough, because a relay that
    stole its key shows the same one. This is the one place to change when Python offers tls-exporter (RFC 9266).
    Raises ValueError when there is no usable `tls_unique`: there is no weaker fallback.
    """
    if tls_unique is None or not _SHORTEST_TLS_UNIQUE <= len(tls_unique) <= 255:
        raise ValueError("this TLS connection has no channel binding")
    return _sha256(b"fleet/1 channel binding\0" + _sha256(certificate) + bytes([len(tls_unique)]) + tls_unique)


def transcript_hash(hello: bytes, challenge: bytes, binding: bytes) -> bytes:
    """Return the 32 bytes that both proofs cover. The messages are the bodies as they were on the wire."""
    return _sha256(
        b"fleet/1 transcript\0"
        + struct.pack(">I", len(hello))
        + hello
        + struct.pack(">I", len(challenge))
        + challenge
        + binding
    )


def client_proof(client_key: bytes, transcript: bytes) -> bytes:
    """Return the controller's proof: its key, masked by a MAC that only the agent can compute (32 bytes)."""
    return _xor(client_key, _hmac(_sha256(client_key), b"fleet/1 client proof\0" + transcript))


def server_proof(server_key: bytes, transcript: bytes, proof: bytes, info: bytes) -> bytes:
    """Return the agent's proof (32 bytes) over the transcript, the controller's `proof` and its own `info`."""
    return _hmac(server_key, b"fleet/1 server proof\0" + transcript + proof + _sha256(info))


def server_proof_matches(server_key: bytes, transcript: bytes, proof: bytes, info: bytes, received: bytes) -> bool:
    """Whether the agent's proof holds, in constant time. Until it does, no byte of a request may be sent."""
    return hmac.compare_digest(server_proof(server_key, transcript, proof, info), received)


def check_proof(
    find: Callable[[], Verifier | None],
    *,
    controller: str,
    hello: bytes,
    challenge: bytes,
    binding: bytes,
    claimed_binding: bytes,
    proof: bytes,
    decoy: bytes,
) -> tuple[Verifier, bytes]:
    """Check a controller's proof on the agent. Returns the verifier and the transcript's hash.

    `find` looks the controller up; where it finds none, `decoy` (32 random bytes of this process) stands in, so that
    an unknown controller, a wrong host id and a wrong key cost the same time and get the same answer. The proof is
    first checked over the binding that the controller *claims*: one that holds there but not here was relayed.

    Raises AuthenticationError, or ManInTheMiddleError when a true controller spoke through another TLS connection, and
    ValueError for a proof that is not 32 bytes (a `Proof` message always holds that many).
    """
    known = find()
    verifier = known or Verifier(decoy, decoy)
    transcript = transcript_hash(hello, challenge, claimed_binding)
    mask = _hmac(verifier.stored_key, b"fleet/1 client proof\0" + transcript)
    client_key = _xor(proof, mask)
    proven = hmac.compare_digest(_sha256(client_key), verifier.stored_key) and known is not None
    same_channel = hmac.compare_digest(claimed_binding, binding)
    if proven and not same_channel:
        raise ManInTheMiddleError(controller)
    if not (proven and same_channel):
        raise AuthenticationError
    return verifier, transcript


def _hmac(key: bytes, message: bytes) -> bytes:
    # Not `hmac.digest`: it lets go of Python's lock, for a microsecond, and may wait long to have it again.
    return hmac.new(key, message, "sha256").digest()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _xor(left: bytes, right: bytes) -> bytes:
    if len(left) != len(right):  # large integers would take a proof without its leading zero bytes for the whole one
        raise ValueError(f"{len(left)} bytes against {len(right)}")
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")
