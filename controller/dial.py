"""From a host's address to a connected TCP socket, within a deadline and interruptible at every step."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from agent.wire.record import record
from controller.cancel import CancelToken
from controller.errors import CancelledError, UnreachableError

__all__ = ["Waiter", "dial"]

# poll(2) takes its milliseconds as an int: 24 days at most.
_LONGEST_POLL = 86400.0

_Address = tuple[socket.AddressFamily, Any]


@record
class Waiter:
    """Waits for descriptors until `deadline` (on the monotonic clock) or until the run is cancelled."""

    deadline: float
    cancel: CancelToken
    clock: Callable[[], float] = time.monotonic

    def wait(self, fd: int, events: int) -> bool:
        """Wait for `events` on `fd`. Returns False when time is up; raises CancelledError when the run is cancelled."""
        poller = select.poll()
        poller.register(fd, events)
        poller.register(self.cancel, select.POLLIN)
        while (left := self.deadline - self.clock()) > 0:
            ready = dict(poller.poll(min(left, _LONGEST_POLL) * 1000))
            if self.cancel.fileno() in ready:
                raise CancelledError
            if fd in ready:
                return True
        return False


def dial(address: str, port: int, waiter: Waiter, timeout: float) -> socket.socket:
    """Connect to `address` (a name, or an IPv4 or IPv6 address). The socket is non-blocking, with TCP_NODELAY.

    Every address of a name is tried in turn; `timeout` (seconds) is for messages, `waiter` holds the deadline.
    Raises UnreachableError, which says whether it was the name, a refusal, the route or the time; CancelledError.
    """
    failure = UnreachableError(f"no address for {address}")
    for family, where in _addresses(address, port, waiter, timeout):
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:  # a kernel without IPv6, say: another address of the name may do
            failure = UnreachableError(f"cannot make a socket for {where[0]}: {os.strerror(error.errno or 0).lower()}")
            continue
        try:
            _connect(sock, where, waiter, timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except UnreachableError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


def _connect(sock: socket.socket, where: Any, waiter: Waiter, timeout: float) -> None:
    shown = f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"
    code = sock.connect_ex(where)
    if code == errno.EINPROGRESS:
        if not waiter.wait(sock.fileno(), select.POLLOUT):
            raise UnreachableError(f"no answer from {shown} within {timeout:g} s")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code == errno.ECONNREFUSED:
        raise UnreachableError(f"connection refused by {shown}")
    if code in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        raise UnreachableError(f"no route to {shown}")
    if code == errno.ETIMEDOUT:
        raise UnreachableError(f"no answer from {shown}")
    if code:
        raise UnreachableError(f"cannot connect to {shown}: {os.strerror(code).lower()}")


def _addresses(name: str, port: int, waiter: Waiter, timeout: float) -> list[_Address]:
    """Look a name up; an address needs no lookup."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
        except (OSError, ValueError):  # ValueError: a NUL, or what no bytes stand for
            continue
        return [(family, (name, port))]
    # In another notation, or with a zone.
    # Given text, it would load the tables of IDNA, to encode what has no need of them.
    literal = name.encode("ascii") if name.isascii() else name
    try:
        found = socket.getaddrinfo(literal, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return [(entry[0], entry[4]) for entry in found]
    except (socket.gaierror, UnicodeError):
        return _Lookup(name, port).result(waiter, timeout)


class _Lookup:
    """A name's addresses, looked up in a thread of its own: getaddrinfo(3) knows neither deadline nor interruption.

    A lookup that is given up goes on in the background until the resolver gives up too, and its answer is dropped.
    """

    def __init__(self, name: str, port: int) -> None:
        self._name = name
        self._port = port
        self._found: list[_Address] = []
        self._error: str | None = None
        self._reader, self._writer = socket.socketpair()
        threading.Thread(target=self._look_up, name=f"lookup {name}", daemon=True).start()

    def result(self, waiter: Waiter, timeout: float) -> list[_Address]:
        """Wait for the answer. Raises UnreachableError and CancelledError."""
        with self._reader:
            if not waiter.wait(self._reader.fileno(), select.POLLIN):
                raise UnreachableError(f"no answer about the name {self._name!r} within {timeout:g} s (DNS)")
        if self._error is not None:
            raise UnreachableError(f"cannot resolve {self._name!r}: {self._error} (DNS)")
        return self._found

    def _look_up(self) -> None:
        with self._writer:  # closing it is the signal
            try:
                found = socket.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
                self._found = [(entry[0], entry[4]) for entry in found]
            except socket.gaierror as error:
                self._error = (error.strerror or str(error)).lower()
            except UnicodeError:  # longer than 63 bytes between dots, or not encodable in IDNA
                self._error = "not a host name"
