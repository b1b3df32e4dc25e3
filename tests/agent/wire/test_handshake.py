"""The login's cryptography: the published vector, every bit flipped, replay, reflection, and relays.

Whole logins go through two real connections, with a tamperer between that may change any body on its way.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from agent.wire import codec, handshake
from agent.wire import messages as m
from agent.wire.connection import Connection, Role, State
from agent.wire.errors import RemoteProtocolError
from agent.wire.handshake import (
    AuthenticationError,
    HostKeys,
    ManInTheMiddleError,
    Verifier,
    channel_binding,
    check_proof,
    client_proof,
    derive_keys,
    server_proof,
    server_proof_matches,
    transcript_hash,
)

MASTER = bytes(range(32))
HOST_ID = b"\x11" * 16
HELLO = m.Hello("ops", HOST_ID, 1, b"\xaa" * 32, 1, 1, 0)
CHALLENGE = m.Challenge(1, 0, b"\xbb" * 32)
CERTIFICATE = b"CERT"
TLS_UNIQUE = b"\xcc" * 48
DECOY = b"\x5a" * 32
INFO = b'{"agent":"1.0"}'
KEYS = derive_keys(MASTER, "ops", HOST_ID, 1)
BINDING = channel_binding(CERTIFICATE, TLS_UNIQUE)

Tamper = Callable[[str, bytes], bytes]


def untouched(name: str, body: bytes) -> bytes:
    return body


@dataclass
class Login:
    """One login as both sides see it. Each of the four bodies passes through `tamper`."""

    keys: HostKeys = KEYS
    hello: m.Hello = HELLO
    challenge: m.Challenge = CHALLENGE
    controller_binding: bytes = BINDING
    agent_binding: bytes = BINDING
    tamper: Tamper = untouched

    def go(self) -> None:
        """Raises what the side that notices raises."""
        controller, agent = Connection(Role.CONTROLLER), Connection(Role.AGENT)
        hello = self._pass(controller, agent, "hello", self.hello)
        assert isinstance(hello, m.Hello)
        challenge = self._pass(agent, controller, "challenge", self.challenge)
        assert isinstance(challenge, m.Challenge)

        transcript = transcript_hash(controller.hello, controller.challenge, self.controller_binding)
        proof = client_proof(self.keys.client_key, transcript)
        proof_message = self._pass(controller, agent, "proof", m.Proof(self.controller_binding, proof))
        assert isinstance(proof_message, m.Proof)

        known = {("ops", HOST_ID, 1): Verifier(KEYS.stored_key, KEYS.server_key)}
        verifier, agents_transcript = check_proof(
            lambda: known.get((hello.controller, hello.host_id, hello.epoch)),
            controller=hello.controller,
            hello=agent.hello,
            challenge=agent.challenge,
            binding=self.agent_binding,
            claimed_binding=proof_message.binding,
            proof=proof_message.proof,
            decoy=DECOY,
        )
        answer = server_proof(verifier.server_key, agents_transcript, proof_message.proof, INFO)
        welcome = self._pass(agent, controller, "verdict", m.Welcome(answer, INFO))
        if not isinstance(welcome, m.Welcome):
            raise AuthenticationError
        if not server_proof_matches(self.keys.server_key, transcript, proof, welcome.info, welcome.proof):
            raise AuthenticationError

    def _pass(self, source: Connection, sink: Connection, name: str, message: m.Message) -> object:
        body = source.send(message)[2:]
        changed = self.tamper(name, body)
        sink.receive(len(changed).to_bytes(2, "big") + changed)
        return sink.next_event()


def check(
    proof: bytes,
    *,
    find: Callable[[], Verifier | None] = lambda: Verifier(KEYS.stored_key, KEYS.server_key),
    hello: bytes = codec.encode_handshake(HELLO),
    challenge: bytes = codec.encode_handshake(CHALLENGE),
    binding: bytes = BINDING,
    claimed: bytes = BINDING,
) -> tuple[Verifier, bytes]:
    """Call `check_proof` as an agent does, with the vector's values."""
    return check_proof(
        find,
        controller="ops",
        hello=hello,
        challenge=challenge,
        binding=binding,
        claimed_binding=claimed,
        proof=proof,
        decoy=DECOY,
    )


def vector_proof() -> bytes:
    transcript = transcript_hash(codec.encode_handshake(HELLO), codec.encode_handshake(CHALLENGE), BINDING)
    return client_proof(KEYS.client_key, transcript)


# The vector --------------------------------------------------------------------------------------------------------


def test_the_published_vector() -> None:
    assert KEYS.stored_key.hex() == "1e8501980254e1691ca4784273713511349f2e8934afb19c5d865a51d57af85f"
    assert BINDING.hex() == "0a31895d09d69f90a970de333ee4eacb3937483bc8076a867b4d4e72d00409aa"
    transcript = transcript_hash(codec.encode_handshake(HELLO), codec.encode_handshake(CHALLENGE), BINDING)
    assert transcript.hex() == "8214711e6320b1ccf6f455e9baf9a4da8fc928350ed40f611fb58b9d32f366a4"
    proof = client_proof(KEYS.client_key, transcript)
    assert proof.hex() == "286cc6a5faa1b0ce02cee27085768e3fca28a0faca58cc01dcf3782677118a3d"
    answer = server_proof(KEYS.server_key, transcript, proof, b"")
    assert answer.hex() == "19ef3fb8087d976327d8f342b0938eebd6e76d77d489258401b6db077991ec58"
    assert check(proof) == (Verifier(KEYS.stored_key, KEYS.server_key), transcript)


def test_the_vector_again_without_this_code() -> None:
    """The formulas of PROTOCOL.md, written out with hashlib alone: the vector does not rest on itself."""

    def mac(key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, hashlib.sha256).digest()

    base = mac(MASTER, b"fleet/1 host key\x00" + b"\x03ops" + HOST_ID + b"\x00\x00\x00\x01")
    client_key = mac(base, b"fleet/1 client key")
    assert HostKeys(client_key, hashlib.sha256(client_key).digest(), mac(base, b"fleet/1 server key")) == KEYS


def test_right_key() -> None:
    Login().go()


# Keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"master": b"short"}, "a master key is 32 bytes, not 5"),
        ({"master": bytes(33)}, "a master key is 32 bytes, not 33"),
        ({"host_id": b""}, "a host id is 16 bytes, not 0"),
        ({"host_id": bytes(17)}, "a host id is 16 bytes, not 17"),
        ({"controller": ""}, "not a controller name: ''"),
        ({"controller": "Ops"}, "not a controller name: 'Ops'"),
        ({"controller": "a" * 65}, f"not a controller name: {'a' * 65!r}"),
        ({"controller": "ops\n"}, r"not a controller name: 'ops\n'"),
        ({"epoch": -1}, "epoch -1 is not in 0..4294967295"),
        ({"epoch": 2**32}, "epoch 4294967296 is not in 0..4294967295"),
    ],
)
def test_keys_are_not_derived_from_nonsense(changed: dict[str, object], text: str) -> None:
    arguments = {"master": MASTER, "controller": "ops", "host_id": HOST_ID, "epoch": 1, **changed}
    with pytest.raises(ValueError) as caught:
        derive_keys(**arguments)  # type: ignore[arg-type]
    assert str(caught.value) == text


def test_each_input_gives_other_keys() -> None:
    variants = [
        KEYS,
        derive_keys(bytes(32), "ops", HOST_ID, 1),
        derive_keys(MASTER, "op", HOST_ID, 1),
        derive_keys(MASTER, "ops", bytes(16), 1),
        derive_keys(MASTER, "ops", HOST_ID, 2),
    ]
    every_key = {key for keys in variants for key in (keys.client_key, keys.stored_key, keys.server_key)}
    assert len(every_key) == 3 * len(variants)


def test_keys_do_not_show_in_logs() -> None:
    assert repr(KEYS) == "HostKeys()"
    assert repr(Verifier(b"secret", b"secret")) == "Verifier()"


@pytest.mark.parametrize("tls_unique", [None, b"", b"x" * 12, b"x" * 31, b"x" * 256])
def test_there_is_no_weaker_binding(tls_unique: bytes | None) -> None:
    """A Python without the value gives None, and TLS 1.2 gives 12 bytes."""
    with pytest.raises(ValueError, match=r"^this TLS connection has no channel binding$"):
        channel_binding(CERTIFICATE, tls_unique)


def test_a_binding_depends_on_the_certificate_and_on_the_connection() -> None:
    assert channel_binding(b"OTHER", TLS_UNIQUE) != BINDING
    assert channel_binding(CERTIFICATE, b"\xcd" * 48) != BINDING
    assert channel_binding(CERTIFICATE, b"\xcc" * 32) != BINDING


def test_a_transcript_has_one_reading() -> None:
    """The lengths are in it: a byte cannot move from one message to the next."""
    assert transcript_hash(b"ab", b"c", BINDING) != transcript_hash(b"a", b"bc", BINDING)


# Wrong from the start ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "login",
    [
        Login(keys=derive_keys(bytes(32), "ops", HOST_ID, 1)),
        Login(hello=m.Hello("nobody", HOST_ID, 1, b"\xaa" * 32, 1, 1, 0)),
        Login(hello=m.Hello("ops", b"\x12" * 16, 1, b"\xaa" * 32, 1, 1, 0)),
        Login(hello=m.Hello("ops", HOST_ID, 0, b"\xaa" * 32, 1, 1, 0)),
        Login(hello=m.Hello("ops", HOST_ID, 2, b"\xaa" * 32, 1, 1, 0)),
    ],
    ids=["wrong key", "unknown controller", "wrong host id", "old epoch", "future epoch"],
)
def test_refused_with_one_text(login: Login) -> None:
    with pytest.raises(AuthenticationError) as caught:
        login.go()
    assert type(caught.value) is AuthenticationError
    assert str(caught.value) == "authentication failed"


def test_the_true_keys_under_a_false_name_do_not_help() -> None:
    """The decoy is no key that anybody could hold: even who knows it is refused, for want of an entry."""
    stored = hashlib.sha256(DECOY).digest()
    transcript = transcript_hash(codec.encode_handshake(HELLO), codec.encode_handshake(CHALLENGE), BINDING)
    mask = hmac.digest(DECOY, b"fleet/1 client proof\0" + transcript, "sha256")
    proof = bytes(left ^ right for left, right in zip(DECOY, mask, strict=True))
    assert stored != DECOY
    for candidate in (proof, client_proof(DECOY, transcript), vector_proof()):
        with pytest.raises(AuthenticationError):
            check(candidate, find=lambda: None)


def test_a_stolen_verifier_opens_no_host() -> None:
    """The agent's file holds the stored key: used as the client key it proves nothing."""
    with pytest.raises(AuthenticationError):
        Login(keys=HostKeys(KEYS.stored_key, KEYS.stored_key, KEYS.server_key)).go()


def count_primitives(monkeypatch: pytest.MonkeyPatch, attempt: Callable[[], object]) -> Counter[str]:
    """Run `attempt` (which must fail or not, as it likes) and count what it asks of hashlib and hmac."""
    counts: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            sizes = ",".join(str(len(item)) for item in arguments if isinstance(item, bytes))
            counts[f"{name}({sizes})"] += 1
            return function(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(handshake, "hashlib", SimpleNamespace(sha256=counted("sha256", hashlib.sha256)))
        patch.setattr(
            handshake,
            "hmac",
            SimpleNamespace(
                new=counted("hmac", hmac.new),
                compare_digest=counted("compare", hmac.compare_digest),
            ),
        )
        try:
            attempt()
        except AuthenticationError:
            counts["refused"] += 1
    return counts


def test_unknown_and_wrong_cost_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same primitives on the same sizes, so that time tells nobody which controllers are enrolled."""
    proof = vector_proof()
    unknown = count_primitives(monkeypatch, lambda: check(proof, find=lambda: None))
    wrong_key = count_primitives(monkeypatch, lambda: check(bytes(32)))
    relayed_wrong_key = count_primitives(monkeypatch, lambda: check(bytes(32), binding=bytes(32)))
    assert unknown == wrong_key == relayed_wrong_key
    assert unknown["refused"] == 1
    assert unknown["compare(32,32)"] == 2
    assert sum(unknown.values()) > 5

    right = count_primitives(monkeypatch, lambda: check(proof))
    assert right["refused"] == 0
    assert unknown - Counter(refused=1) == right


def test_proofs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count_primitives(
        monkeypatch, lambda: server_proof_matches(KEYS.server_key, bytes(32), bytes(32), b"", bytes(32))
    )
    assert counts["compare(32,32)"] == 1


# Changed on the way ------------------------------------------------------------------------------------------------

BODIES = {"hello": 68, "challenge": 42, "proof": 64, "verdict": 33 + len(INFO)}


@pytest.mark.parametrize("name", BODIES)
def test_every_flipped_bit_is_refused(name: str) -> None:
    seen = []

    def flip(bit: int) -> Tamper:
        def tamper(which: str, body: bytes) -> bytes:
            if which != name:
                return body
            seen.append(bit)
            changed = bytearray(body)
            changed[bit // 8] ^= 1 << bit % 8
            return bytes(changed)

        return tamper

    for bit in range(BODIES[name] * 8):
        with pytest.raises((AuthenticationError, RemoteProtocolError)):
            Login(tamper=flip(bit)).go()
    assert len(seen) == BODIES[name] * 8


@pytest.mark.parametrize("name", BODIES)
def test_cut_short_or_drawn_out_is_refused(name: str) -> None:
    def resize(length: int) -> Tamper:
        return lambda which, body: (body + b"\0")[:length] if which == name else body

    for length in [*range(BODIES[name]), BODIES[name] + 1]:
        with pytest.raises((AuthenticationError, RemoteProtocolError)):
            Login(tamper=resize(length)).go()


def test_a_proof_of_another_length_is_never_stretched_to_fit() -> None:
    """A proof that begins with a zero byte must not be accepted without it, as a number would be."""
    proof = hello = b"\xff"
    for count in range(100_000):
        hello = codec.encode_handshake(m.Hello("ops", HOST_ID, 1, count.to_bytes(32, "big"), 1, 1, 0))
        transcript = transcript_hash(hello, codec.encode_handshake(CHALLENGE), BINDING)
        proof = client_proof(KEYS.client_key, transcript)
        if proof[0] == 0:
            break
    assert check(proof, hello=hello)
    for changed in (proof[1:], proof[:-1], proof + b"\0", b"\0" + proof, b""):
        with pytest.raises(ValueError, match=r"^\d+ bytes against 32$"):
            check(changed, hello=hello)


# Played again, sent back, passed on --------------------------------------------------------------------------------


def test_replay_against_the_agent() -> None:
    """All that a controller said in one login, said again: the agent's nonce is another one."""
    recorded: dict[str, bytes] = {}

    def record(name: str, body: bytes) -> bytes:
        recorded[name] = body
        return body

    Login(tamper=record).go()

    def replay(name: str, body: bytes) -> bytes:
        return recorded[name] if name in ("hello", "proof") else body

    with pytest.raises(AuthenticationError):
        Login(challenge=m.Challenge(1, 0, b"\xbc" * 32), tamper=replay).go()


def test_replay_on_another_tls_connection_even_with_the_same_nonces() -> None:
    other = channel_binding(CERTIFICATE, b"\xcd" * 48)
    with pytest.raises(ManInTheMiddleError):
        check(vector_proof(), binding=other)
    with pytest.raises(AuthenticationError) as caught:
        check(vector_proof(), binding=other, claimed=other)
    assert type(caught.value) is AuthenticationError


def test_replay_against_the_controller() -> None:
    """All that an agent said in one login, said again: the controller's nonce is another one."""
    recorded: dict[str, bytes] = {}

    def record(name: str, body: bytes) -> bytes:
        recorded[name] = body
        return body

    Login(tamper=record).go()
    controller = Connection(Role.CONTROLLER)
    controller.send(m.Hello("ops", HOST_ID, 1, b"\xab" * 32, 1, 1, 0))
    controller.receive(len(recorded["challenge"]).to_bytes(2, "big") + recorded["challenge"])
    assert controller.next_event() == CHALLENGE
    transcript = transcript_hash(controller.hello, controller.challenge, BINDING)
    proof = client_proof(KEYS.client_key, transcript)
    controller.send(m.Proof(BINDING, proof))
    controller.receive(len(recorded["verdict"]).to_bytes(2, "big") + recorded["verdict"])
    welcome = controller.next_event()
    assert isinstance(welcome, m.Welcome)
    assert not server_proof_matches(KEYS.server_key, transcript, proof, welcome.info, welcome.proof)


def test_reflection_of_the_hello() -> None:
    controller = Connection(Role.CONTROLLER)
    controller.receive(controller.send(HELLO))
    with pytest.raises(RemoteProtocolError, match=r"^not a fleet challenge$"):
        controller.next_event()


def test_reflection_of_the_proof_as_the_agents_own() -> None:
    """The binding is found so that the reflected body even reads as a welcome; the two proofs still differ."""
    binding = BINDING
    for count in range(10_000):
        binding = channel_binding(CERTIFICATE, count.to_bytes(48, "big"))
        if binding[0] == 0:
            break
    transcript = transcript_hash(codec.encode_handshake(HELLO), codec.encode_handshake(CHALLENGE), binding)
    proof = client_proof(KEYS.client_key, transcript)
    controller = Connection(Role.CONTROLLER)
    controller.send(HELLO)
    body = codec.encode_handshake(CHALLENGE)
    controller.receive(len(body).to_bytes(2, "big") + body)
    controller.next_event()
    controller.receive(controller.send(m.Proof(binding, proof)))
    welcome = controller.next_event()
    assert isinstance(welcome, m.Welcome)
    assert not server_proof_matches(KEYS.server_key, transcript, proof, welcome.info, welcome.proof)
    assert not server_proof_matches(KEYS.server_key, transcript, proof, b"", proof)


def test_the_agents_proof_is_no_controllers_proof() -> None:
    _, transcript = check(vector_proof())
    with pytest.raises(AuthenticationError):
        check(server_proof(KEYS.server_key, transcript, vector_proof(), b""))


@pytest.mark.parametrize(
    "seen_by_controller",
    [channel_binding(b"RELAY'S OWN", b"\xcd" * 48), channel_binding(CERTIFICATE, b"\xcd" * 48)],
    ids=["own certificate", "stolen TLS key"],
)
def test_a_relay_is_told_from_a_wrong_key(seen_by_controller: bytes) -> None:
    with pytest.raises(ManInTheMiddleError) as caught:
        Login(controller_binding=seen_by_controller).go()
    assert str(caught.value) == "controller ops authenticated through another TLS channel: man in the middle"


def test_a_relay_that_puts_the_agents_binding_in_is_a_wrong_key() -> None:
    """He may know the agent's binding, but the controller's proof was made over another one."""
    other = channel_binding(CERTIFICATE, b"\xcd" * 48)

    def swap(name: str, body: bytes) -> bytes:
        return BINDING + body[32:] if name == "proof" else body

    with pytest.raises(AuthenticationError) as caught:
        Login(controller_binding=other, tamper=swap).go()
    assert type(caught.value) is AuthenticationError


def test_a_downgrade_is_refused() -> None:
    """Who takes features or versions out of the opening messages changes the transcript."""
    rich = m.Hello("ops", HOST_ID, 1, b"\xaa" * 32, 1, 2, 0b101)

    def strip(name: str, body: bytes) -> bytes:
        return codec.encode_handshake(HELLO) if name == "hello" else body

    with pytest.raises(AuthenticationError):
        Login(hello=rich, tamper=strip).go()


@pytest.mark.parametrize("info", [b"", b"{}", INFO + b" "])
def test_the_agents_proof_covers_its_info(info: bytes) -> None:
    proof = vector_proof()
    _, transcript = check(proof)
    answer = server_proof(KEYS.server_key, transcript, proof, INFO)
    assert server_proof_matches(KEYS.server_key, transcript, proof, INFO, answer)
    assert not server_proof_matches(KEYS.server_key, transcript, proof, info, answer)


def test_a_refusal_is_always_the_same_byte() -> None:
    pair = Connection(Role.CONTROLLER), Connection(Role.AGENT)
    pair[1].state = State.VERDICT
    assert pair[1].send(m.Refusal()) == b"\x00\x01\x01"
