"""The login of one controller: TLS, its proof, and ours, within one total deadline, however it spreads its bytes.

Until a peer's proof has been checked, nothing that it says has any effect; and of a failure it learns no more than that
there was one.
"""

from __future__ import annotations

import json
import os
import select
import ssl
from collections.abc import Iterator

from agent.services import Services, StoppingError
from agent.wire import messages as m
from agent.wire.connection import Closed
from agent.wire.constants import (
    FEATURES,
    LOGIN_DEADLINE,
    MIN_PROTOCOL_VERSION,
    NONCE_LENGTH,
    PROTOCOL_VERSION,
)
from agent.wire.handshake import AuthenticationError, channel_binding, check_proof, server_proof
from agent.wire.link import Link
from agent.wire.record import record

__all__ = ["Login", "LoginError", "LoginTimeoutError", "log_in"]


@record
class Login:
    """Who is on the other side."""

    controller: str
    host_id: bytes
    epoch: int


class LoginError(Exception):
    """The login went wrong. `reason` is for our log: the peer learns nothing of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LoginTimeoutError(LoginError):
    """The login took too long."""


def log_in(sock: ssl.SSLSocket, link: Link, services: Services, source: str, accepted: float) -> Login:
    """Do TLS and the login of a connection from the address `source`, `accepted` at that time on the services' clock.

    Raises LoginError, AuthenticationError, StoppingError, OSError (TLS and network) and ProtocolError.
    """
    return _Talk(sock, link, services, source, accepted + LOGIN_DEADLINE).log_in()


class _Talk:
    """One login, led to its end by the connection's thread."""

    def __init__(self, sock: ssl.SSLSocket, link: Link, services: Services, source: str, deadline: float) -> None:
        self._socket = sock
        self._link = link
        self._services = services
        self._source = source
        self._deadline = deadline

    def log_in(self) -> Login:
        self._tls_handshake()
        binding = channel_binding(self._services.certificate, self._socket.get_channel_binding("tls-unique"))
        hello = self._receive(m.Hello)
        assert isinstance(hello, m.Hello)
        version = min(hello.max_version, PROTOCOL_VERSION)
        agreed = version >= max(hello.min_version, MIN_PROTOCOL_VERSION)
        if not agreed:
            version = PROTOCOL_VERSION  # outside what the controller offers: it can say which versions there are
        self._send(m.Challenge(version, FEATURES & hello.features, os.urandom(NONCE_LENGTH)))
        if not agreed:
            raise LoginError(
                f"no common protocol version: controller has {hello.min_version} to {hello.max_version},"
                f" agent {MIN_PROTOCOL_VERSION} to {PROTOCOL_VERSION}"
            )
        proof = self._receive(m.Proof)
        assert isinstance(proof, m.Proof)
        self._verify(hello, proof, binding)
        return Login(hello.controller, hello.host_id, hello.epoch)

    def _verify(self, hello: m.Hello, proof: m.Proof, binding: bytes) -> None:
        connection = self._link.connection
        services = self._services
        try:
            verifier, transcript = check_proof(
                lambda: services.find(hello.controller, hello.host_id, hello.epoch, self._source),
                controller=hello.controller,
                hello=connection.hello,
                challenge=connection.challenge,
                binding=binding,
                claimed_binding=proof.binding,
                proof=proof.proof,
                decoy=services.decoy,
            )
        except AuthenticationError:
            self._send(m.Refusal())
            raise
        info = self._info(hello.controller)
        self._send(m.Welcome(server_proof(verifier.server_key, transcript, proof.proof, info), info))

    def _info(self, controller: str) -> bytes:
        info = {**self._services.about, "permissions": sorted(self._services.permissions(controller))}
        return json.dumps(info).encode("ascii")

    def _tls_handshake(self) -> None:
        while True:
            try:
                self._socket.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)

    def _receive(self, kind: type[m.Message]) -> m.Message:
        answers: Iterator[m.Message | Closed] = self._link.events()  # what came with the last one
        while True:
            for message in list(answers):
                assert isinstance(message, kind)  # by the table of the connection
                return message
            self._wait(select.POLLIN | (select.POLLOUT if self._link.backlog else 0))
            # A request that was sent behind the proof, before ours, must not pass for one that came after the login.
            answers = self._link.read(to_the_end=kind is m.Proof)

    def _send(self, message: m.Message) -> None:
        self._link.send(message)
        while self._link.backlog:
            self._wait(select.POLLOUT)
            self._link.flush()

    def _wait(self, events: int) -> None:
        """Wait for the socket, until the login's deadline."""
        left = self._deadline - self._services.clock()
        poller = select.poll()
        poller.register(self._socket, events)
        poller.register(self._services.stop, select.POLLIN)
        ready = dict(poller.poll(max(0.0, left) * 1000)) if left > 0 else {}
        if self._services.stop in ready:
            raise StoppingError
        if not ready:
            raise LoginTimeoutError(f"no login within {LOGIN_DEADLINE:.0f} s")
