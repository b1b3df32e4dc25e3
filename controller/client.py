"""One host's connection, as the controller sees it: connect, log in, run, ping.

One thread owns it, and blocks; cancelling wakes it through a descriptor that every wait polls. Before the agent has
proven that it holds the host's key, nothing of a request leaves this machine.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING

from agent.wire import messages as m
from agent.wire.connection import Closed, Connection, Role
from agent.wire.constants import (
    FEATURES,
    MIN_PROTOCOL_VERSION,
    NONCE_LENGTH,
    PROTOCOL_VERSION,
)
from agent.wire.errors import LocalProtocolError, ProtocolError
from agent.wire.handshake import channel_binding, client_proof, derive_keys, server_proof_matches, transcript_hash
from agent.wire.link import Link, LinkError
from agent.wire.record import record
from controller.agent_info import AgentInfo, read_info
from controller.cancel import CancelToken
from controller.dial import Waiter, dial
from controller.errors import BrokenError, DeniedError, HostError, UnreachableError
from controller.execution import Execution, Observer, farewell
from controller.keyfile import ControllerKey
from controller.lane import lane
from controller.registry import Identity
from controller.results import Result, Status

if TYPE_CHECKING:
    from controller.sender import Sender  # for few runs alone

__all__ = ["AgentInfo", "Client", "Observer", "Pinged", "Target", "reason_of"]

_TCP_CORK = getattr(socket, "TCP_CORK", None)  # Linux has it
_WOULD_BLOCK = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
# The agent gives a command 2.5 s after SIGTERM and has the whole tree dead within 5 s; the rest is for the network.
_CANCEL_LIMIT = 8.0
_TIMEOUT_SLACK = 10.0
# The kernel takes no longer argument (MAX_ARG_STRLEN, execve(2)), the terminating NUL included.
MAX_COMMAND = 128 * 1024 - 1


@record
class Target:
    """A host to reach. `identity` is None when it was never enrolled."""

    name: str
    address: str
    port: int
    identity: Identity | None
    pool: str | None = None


@record
class Pinged:
    """The answer to a ping: the round trip in seconds, and how far the agent's clock is ahead of ours, in seconds."""

    info: AgentInfo
    rtt: float
    clock_offset: float


class Client:
    """An authenticated connection to one host. Use it in a `with` block."""

    def __init__(self, target: Target, key: ControllerKey, cancel: CancelToken, *, connect_timeout: float) -> None:
        """Connect and log in, within `connect_timeout` seconds in all.

        Raises UnreachableError, DeniedError, BrokenError and CancelledError.
        """
        self.target = target
        self.info = AgentInfo()
        self._cancel = cancel
        self._timeout = connect_timeout
        self._socket: ssl.SSLSocket | None = None
        if target.identity is None:
            raise DeniedError(_not_enrolled(target))
        waiter = Waiter(time.monotonic() + connect_timeout, cancel)
        sock = dial(target.address, target.port, waiter, connect_timeout)
        try:
            self._socket = _context().wrap_socket(sock, do_handshake_on_connect=False, suppress_ragged_eofs=False)
        except BaseException:
            sock.close()
            raise
        try:
            self._link = Link(
                Connection(Role.CONTROLLER),
                self._socket,
                would_block=_WOULD_BLOCK,
                clock=time.monotonic,
                wall=time.time,
                cork=partial(_cork, self._socket),
            )
            self._open(key, target.identity, waiter)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection: the agent kills what still runs for it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def heed(self, cancel: CancelToken) -> None:
        """Let another token cancel what comes: on a connection that is kept, each request has one of its own."""
        self._cancel = cancel

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._sock.fileno()

    def interrupt(self) -> None:
        """Cut the connection from another thread, or a signal handler: its owner sees it lost. No TLS is touched."""
        sock = self._socket
        if sock is not None:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:  # the peer, or the owner, was quicker
                pass

    # Logging in -----------------------------------------------------------------------------------------------------

    def _open(self, key: ControllerKey, identity: Identity, waiter: Waiter) -> None:
        try:
            self._tls_handshake(waiter)
            self._log_in(key, identity, waiter)
        except ssl.SSLError as error:
            raise UnreachableError(f"not a fleet agent at {self._where}: TLS failed: {reason_of(error)}") from None
        except (OSError, LinkError) as error:
            raise UnreachableError(
                f"the connection to {self._where} was lost in the login: {reason_of(error)}"
            ) from None
        except ProtocolError as error:
            raise UnreachableError(f"not a fleet agent at {self._where}: {error}") from None

    @property
    def _where(self) -> str:
        address = self.target.address
        return f"[{address}]:{self.target.port}" if ":" in address else f"{address}:{self.target.port}"

    def _tls_handshake(self, waiter: Waiter) -> None:
        sock = self._sock
        while True:
            try:
                sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._await(waiter, select.POLLIN)
            except ssl.SSLWantWriteError:
                self._await(waiter, select.POLLOUT)

    def _log_in(self, key: ControllerKey, identity: Identity, waiter: Waiter) -> None:
        certificate = self._sock.getpeercert(binary_form=True)
        assert certificate is not None  # TLS 1.3 without pre-shared keys has no server without a certificate
        binding = channel_binding(certificate, self._sock.get_channel_binding("tls-unique"))
        hello = m.Hello(
            key.name,
            identity.host_id,
            identity.epoch,
            os.urandom(NONCE_LENGTH),
            MIN_PROTOCOL_VERSION,
            PROTOCOL_VERSION,
            FEATURES,
        )
        challenge = self._exchange(hello, waiter)
        if isinstance(challenge, m.Challenge):
            _check_version(challenge)
        connection = self._link.connection
        keys = derive_keys(key.master, key.name, identity.host_id, identity.epoch)
        transcript = transcript_hash(connection.hello, connection.challenge, binding)
        proof = client_proof(keys.client_key, transcript)
        verdict = self._exchange(m.Proof(binding, proof), waiter)
        if isinstance(verdict, m.Refusal):
            raise DeniedError(
                f"{self.target.name} ({self._where}) refused our key: wrong machine at this address, revoked or"
                " rotated, not enrolled, or someone in between; see the agent's log"
            )
        assert isinstance(verdict, m.Welcome)
        if not server_proof_matches(keys.server_key, transcript, proof, verdict.info, verdict.proof):
            raise DeniedError(
                f"IMPOSTOR: the peer at {self._where} could not prove that it holds {self.target.name}'s key;"
                " nothing was sent"
            )
        self.info = read_info(verdict.info)

    def _exchange(self, message: m.Message, waiter: Waiter) -> m.Message:
        """Send a message of the login and return the answer."""
        self._link.send(message)
        # What came with the last answer; to look for more so soon would be in vain.
        answers: Iterator[m.Message | Closed] = self._link.events()
        while True:
            for answer in answers:
                if isinstance(answer, Closed):
                    raise BrokenError(f"the agent at {self._where} closed the connection")
                return answer
            self._await(waiter, select.POLLIN | (select.POLLOUT if self._link.backlog else 0))
            self._link.flush()
            answers = self._link.read()

    def _await(self, waiter: Waiter, events: int) -> None:
        if not waiter.wait(self._sock.fileno(), events):
            raise UnreachableError(f"no answer from the agent at {self._where} within {self._timeout:g} s")

    @property
    def _sock(self) -> ssl.SSLSocket:
        assert self._socket is not None, "the client is closed"
        return self._socket

    # Requests -------------------------------------------------------------------------------------------------------

    def ping(self) -> Pinged:
        """Ask for a sign of life. Raises BrokenError and CancelledError."""
        began, sent_at = time.monotonic(), time.time()
        waiter = Waiter(began + self._timeout, self._cancel)
        try:
            pong = self._exchange(m.Ping(), waiter)
        except (OSError, LinkError, ProtocolError) as error:
            raise BrokenError(f"the connection was lost: {reason_of(error)}") from None
        rtt = time.monotonic() - began
        if not isinstance(pong, m.Pong):
            raise BrokenError(farewell(pong))
        # The agent's clock is taken to have been read halfway (as NTP does, RFC 5905).
        return Pinged(self.info, rtt, pong.time - (sent_at + rtt / 2))

    @property
    def link(self) -> Link:
        """The traffic with an agent that has proven itself, for conversations that are held elsewhere."""
        return self._link

    def received(self) -> Iterator[m.Message | Closed]:
        """Yield what has come, as `Link.read` does."""
        if not self._link.bulk:  # to wait for a turn takes longer than to read the answer to a small request
            yield from self._link.read()
            return
        messages, turn = self._link.read(), lane()
        while True:
            with turn:
                message = next(messages, None)
            if message is None:
                return
            yield message

    def wait(self, deadline: float | None, *, block: bool = True) -> bool:
        """Wait for the agent, or until the time has come (now, unless `block`). Returns False for a cancelled run."""
        return self._cancel.fileno() not in self._poll(deadline if block else 0.0, watch_cancel=True)

    def run(self, request: m.Run, observer: Observer, *, keep: bool, sender: Sender | None = None) -> Result:
        """Run a command to its end. The observer gets the output as it comes; with `keep` the result has it too.
        A request with a script or a standard input needs a `sender` of them.

        Never raises for what happens on the host: that is in the result.
        """
        execution = Execution(self.target.name, request, observer, keep=keep)
        length = len(request.command.encode("utf-8", "surrogateescape"))
        if length > MAX_COMMAND:
            reason = f"command too long: {length} bytes, the kernel takes at most {MAX_COMMAND}"
            return execution.failure(Status.FAILED, reason)
        try:
            try:
                self._link.send(request)
            except LocalProtocolError as error:  # an environment that no message has room for
                return execution.failure(Status.FAILED, f"cannot be sent: {error}")
            observer.start(self.target.name)
            for message in self._messages(request, sender):
                execution.take(message)
                if execution.over:
                    return execution.result()
        except HostError as error:
            return execution.failure(error.status, error.reason)
        except (OSError, LinkError, ProtocolError) as error:
            return execution.failure(Status.BROKEN, f"the connection was lost: {reason_of(error)}")
        raise AssertionError("the messages of a run end with its exit")

    def _messages(self, request: m.Run, sender: Sender | None) -> Iterator[m.Message]:
        """Yield what the agent sends, and watch the clock and the cancel token meanwhile."""
        deadline = None if request.timeout is None else time.monotonic() + request.timeout + _TIMEOUT_SLACK
        cancelled = False
        while True:
            ready = self._poll(deadline, watch_cancel=not cancelled, sender=sender)
            if self._cancel.fileno() in ready:
                cancelled = True
                sender = None
                deadline = time.monotonic() + _CANCEL_LIMIT
                self._link.send(m.Cancel())
            if self._link.backlog:
                self._link.flush()
            for message in self.received():
                if isinstance(message, Closed):
                    raise BrokenError("the agent closed the connection before the command's end")
                yield message
            if sender is not None:
                sender.advance(ready)
                if request.timeout is not None and sender.starting:
                    deadline = time.monotonic() + request.timeout + _TIMEOUT_SLACK
            if deadline is not None and time.monotonic() >= deadline:
                if cancelled:
                    raise BrokenError("cancelled, but the agent has not confirmed that the command is dead")
                raise BrokenError("time is up, but the agent has not confirmed that the command is dead")

    def _poll(self, deadline: float | None, *, watch_cancel: bool, sender: Sender | None = None) -> set[int]:
        timeout = self._link.tick()
        if deadline is not None:
            timeout = min(timeout, max(0.0, deadline - time.monotonic()))
        poller = select.poll()
        poller.register(self._sock, select.POLLIN | (select.POLLOUT if self._link.backlog else 0))
        if watch_cancel:
            poller.register(self._cancel, select.POLLIN)
        if sender is not None:
            timeout = sender.register(poller, timeout)
        return {fd for fd, _ in poller.poll(int(timeout * 1000) + 1 if timeout else 0)}


def _cork(sock: socket.socket, on: bool) -> None:
    if _TCP_CORK is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_CORK, on)


def _check_version(challenge: m.Challenge) -> None:
    if not MIN_PROTOCOL_VERSION <= challenge.version <= PROTOCOL_VERSION:
        age = "too old" if challenge.version < MIN_PROTOCOL_VERSION else "too new"
        need = (
            f"version {PROTOCOL_VERSION}"
            if MIN_PROTOCOL_VERSION == PROTOCOL_VERSION
            else f"versions {MIN_PROTOCOL_VERSION} to {PROTOCOL_VERSION}"
        )
        raise UnreachableError(f"the agent is {age}: it speaks protocol version {challenge.version}, we need {need}")
    if challenge.features & ~FEATURES:
        raise UnreachableError("the agent chose features that we did not offer")


def _not_enrolled(target: Target) -> str:
    if target.pool is not None:
        return f"not enrolled: no pool {target.pool!r} in the registry; mend with: fleet enroll --pool {target.pool}"
    return f"not enrolled: mend with: fleet enroll {target.name}"


def reason_of(error: Exception) -> str:
    """Return an error of a connection in words for people."""
    if isinstance(error, ssl.SSLEOFError):
        return "the peer cut the connection"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)


@cache
def _context() -> ssl.SSLContext:
    """Return the one TLS context: TLS 1.3, and no trust in certificates: the login proves who the peer is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
