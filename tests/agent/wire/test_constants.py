"""The numbers that follow from one another. That they are the ones of the specification is test_protocol_document's."""

from __future__ import annotations

from agent.wire import constants as c
from agent.wire import messages as m
from agent.wire.codec import encode_handshake
from agent.wire.handshake import CONTROLLER_NAME


def hello(name: str) -> bytes:
    return encode_handshake(m.Hello(name, bytes(c.HOST_ID_LENGTH), 0, bytes(c.NONCE_LENGTH), 1, 1, 0))


def test_the_lengths_of_the_login_are_those_of_its_layouts() -> None:
    assert (len(hello("a")), len(hello("a" * c.MAX_CONTROLLER_NAME))) == c.HELLO_LENGTHS
    assert len(encode_handshake(m.Challenge(1, 0, bytes(c.NONCE_LENGTH)))) == c.CHALLENGE_LENGTH
    assert len(encode_handshake(m.Proof(bytes(32), bytes(32)))) == c.PROOF_LENGTH
    assert len(encode_handshake(m.Welcome(bytes(c.SERVER_PROOF_LENGTH), b""))) == 1 + c.SERVER_PROOF_LENGTH


def test_a_controller_name_has_the_length_that_the_hello_has_room_for() -> None:
    assert CONTROLLER_NAME.fullmatch("a" * c.MAX_CONTROLLER_NAME)
    assert not CONTROLLER_NAME.fullmatch("a" * (c.MAX_CONTROLLER_NAME + 1))


def test_a_stranger_can_send_less_than_4_kib() -> None:
    """He speaks twice, a hello and a proof, each behind a u16."""
    assert 2 * (2 + c.MAX_HANDSHAKE_BODY) < 4096


def test_the_longest_command_fits_into_a_run_however_json_stretches_it() -> None:
    assert c.MAX_RUN_PAYLOAD > 6 * 128 * 1024


def test_a_full_data_frame_fits_into_the_window() -> None:
    assert c.MAX_DATA_PAYLOAD <= c.STDIN_WINDOW


def test_a_peer_gets_three_pings_before_it_is_dead() -> None:
    assert c.DEAD_AFTER == 3 * c.PING_AFTER
