"""Connecting: every way in which it fails, in time, and every step at which it can be cancelled."""

from __future__ import annotations

import errno
import select
import socket
import threading
import time

import pytest

from controller.cancel import CancelToken
from controller.dial import Waiter, dial
from controller.errors import CancelledError, UnreachableError

PATIENCE = 30.0


def waiter(seconds=PATIENCE, token=None):
    return Waiter(time.monotonic() + seconds, token or CancelToken())


def failure(address, port=7, seconds=PATIENCE, token=None):
    with pytest.raises(UnreachableError) as caught:
        dial(address, port, waiter(seconds, token), seconds)
    return str(caught.value)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def refusing():
    """A port where nobody listens, and nobody else can."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def names(monkeypatch):
    """Return a function that decides what names mean. Addresses still mean themselves."""
    original = socket.getaddrinfo

    def decide(answer):
        def getaddrinfo(host, port, *arguments, flags=0, **options):
            if flags & socket.AI_NUMERICHOST:
                return original(host, port, *arguments, flags=flags, **options)
            found = answer(host) if callable(answer) else answer
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, number)) for address, number in found]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return decide


def test_an_address(listener):
    with dial("127.0.0.1", listener.getsockname()[1], waiter(), PATIENCE) as sock:
        assert sock.getpeername() == listener.getsockname()
        assert sock.getblocking() is False
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.get_inheritable()


def test_an_ipv6_address():
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    port = listener.getsockname()[1]
    with listener, dial("::1", port, waiter(), PATIENCE) as sock:
        assert sock.family is socket.AF_INET6
    assert failure("::1", port) == f"connection refused by [::1]:{port}"


def test_refused(refusing):
    assert failure("127.0.0.1", refusing) == f"connection refused by 127.0.0.1:{refusing}"


def test_a_name_with_several_addresses_tries_them_in_turn(names, listener, refusing):
    names([("127.0.0.1", refusing), listener.getsockname(), ("127.0.0.1", refusing)])
    with dial("web1", 7, waiter(), PATIENCE) as sock:
        assert sock.getpeername() == listener.getsockname()


def test_a_name_whose_addresses_all_fail_tells_of_the_last(names, refusing):
    names([("127.0.0.2", refusing), ("127.0.0.1", refusing)])
    assert failure("web1") == f"connection refused by 127.0.0.1:{refusing}"


def test_a_name_without_addresses(names):
    names([])
    assert failure("web1") == "no address for web1"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
        (
            socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
            "temporary failure in name resolution",
        ),
        (socket.gaierror("odd"), "odd"),
        (UnicodeError("label too long"), "not a host name"),
    ],
)
def test_a_name_that_does_not_resolve(names, error, reason):
    def answer(host):
        raise error

    names(answer)
    assert failure("web1") == f"cannot resolve 'web1': {reason} (DNS)"


@pytest.fixture
def silent_dns(names):
    """A resolver that answers only when the test is over; the event tells that it was asked."""
    asked, answer = threading.Event(), threading.Event()

    def wait(host):
        asked.set()
        answer.wait(PATIENCE)
        return []

    names(wait)
    yield asked
    answer.set()
    for thread in threading.enumerate():
        if thread.name == "lookup web1":
            thread.join(PATIENCE)


def test_a_resolver_that_never_answers(silent_dns):
    assert failure("web1", seconds=0.05) == "no answer about the name 'web1' within 0.05 s (DNS)"


def test_cancelled_while_the_resolver_thinks(silent_dns):
    token = CancelToken()
    threading.Thread(target=lambda: silent_dns.wait(PATIENCE) and token.set()).start()
    with pytest.raises(CancelledError):
        dial("web1", 7, waiter(token=token), PATIENCE)


@pytest.fixture
def deaf():
    """The port of a listener with a full backlog: the kernel drops what comes next."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        while True:
            sock = socket.socket()
            sock.setblocking(False)
            waiting.append(sock)
            sock.connect_ex(listener.getsockname())
            if not select.select([], [sock], [], 0.1)[1]:
                break
        yield listener.getsockname()[1]
        for sock in waiting:
            sock.close()


def test_nobody_answers_in_time(deaf):
    assert failure("127.0.0.1", deaf, seconds=0.05) == f"no answer from 127.0.0.1:{deaf} within 0.05 s"


def test_cancelled_while_connecting(deaf):
    token = CancelToken()
    token.set()
    with pytest.raises(CancelledError):
        dial("127.0.0.1", deaf, waiter(token=token), PATIENCE)


def test_no_time_left(deaf):
    assert failure("127.0.0.1", deaf, seconds=-1) == f"no answer from 127.0.0.1:{deaf} within -1 s"


class Stub(socket.socket):
    """A socket whose connection fails as the test says."""

    code = 0

    def connect_ex(self, address):
        return self.code


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.EHOSTUNREACH, "no route to 127.0.0.1:7"),
        (errno.ENETUNREACH, "no route to 127.0.0.1:7"),
        (errno.ETIMEDOUT, "no answer from 127.0.0.1:7"),
        (errno.EACCES, "cannot connect to 127.0.0.1:7: permission denied"),
    ],
)
def test_what_the_system_says(monkeypatch, code, text):
    monkeypatch.setattr(Stub, "code", code)
    monkeypatch.setattr(socket, "socket", Stub)
    assert failure("127.0.0.1") == text


def test_an_address_of_a_family_that_this_kernel_lacks_is_passed_over(monkeypatch, names, listener):
    original = socket.socket
    refused = []

    def make(*arguments, **options):
        if not refused and arguments[1:] and arguments[1] & socket.SOCK_NONBLOCK:  # ours, not the lookup's pair
            refused.append(arguments)
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return original(*arguments, **options)

    names([("127.0.0.2", 7), listener.getsockname()])
    monkeypatch.setattr(socket, "socket", make)
    with dial("web1", 7, waiter(), PATIENCE) as sock:
        assert sock.getpeername() == listener.getsockname()
    assert refused


def test_no_socket_at_all(monkeypatch):
    def make(*arguments, **options):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", make)
    assert failure("127.0.0.1") == "cannot make a socket for 127.0.0.1: too many open files"


def test_a_failure_of_another_kind_leaves_no_socket_open(monkeypatch, listener):
    made = []

    class Bad(socket.socket):
        def setsockopt(self, *arguments):
            made.append(self)
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(socket, "socket", Bad)
    with pytest.raises(OSError, match="Invalid argument"):
        dial("127.0.0.1", listener.getsockname()[1], waiter(), PATIENCE)
    assert made[0].fileno() == -1


def test_a_wait_longer_than_the_kernel_counts():
    near, far = socket.socketpair()
    with near, far:
        far.send(b"x")
        assert waiter(365 * 86400.0).wait(near.fileno(), select.POLLIN)


def test_a_wait_goes_on_until_its_own_end(monkeypatch):
    monkeypatch.setattr("controller.dial._LONGEST_POLL", 0.001)
    times = iter([0.0, 1.0, 2.0, 3.0])
    near, far = socket.socketpair()
    with near, far:
        assert Waiter(2.5, CancelToken(), lambda: next(times)).wait(near.fileno(), select.POLLIN) is False
    assert next(times, None) is None
