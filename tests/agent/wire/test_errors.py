"""Whom an error blames, and what it says."""

from __future__ import annotations

import pytest

from agent.wire.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from agent.wire.handshake import AuthenticationError, ManInTheMiddleError


@pytest.mark.parametrize("kind", [ProtocolError, LocalProtocolError, RemoteProtocolError])
def test_a_protocol_error_keeps_its_reason_and_says_it(kind: type[ProtocolError]) -> None:
    error = kind("frame of 9 bytes, expected no more than 8")
    assert error.reason == "frame of 9 bytes, expected no more than 8"
    assert str(error) == error.reason
    assert error.args == (error.reason,)


def test_local_and_remote_have_one_base_and_are_not_each_other() -> None:
    assert issubclass(LocalProtocolError, ProtocolError)
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError)


def test_a_protocol_error_is_no_value_error() -> None:
    """The connection turns every ValueError into one of these: it must not catch its own."""
    assert not issubclass(ProtocolError, ValueError)


def test_a_failed_login_says_nothing_of_the_reason() -> None:
    assert str(AuthenticationError()) == "authentication failed"


def test_a_relay_is_named_with_the_controller_it_used() -> None:
    error = ManInTheMiddleError("ops")
    assert isinstance(error, AuthenticationError)
    assert error.controller == "ops"
    assert str(error) == "controller ops authenticated through another TLS channel: man in the middle"
