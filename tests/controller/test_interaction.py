"""Two terminals joined: every key there, every byte here, and every way in which it can end."""

from __future__ import annotations

import os
import signal
import socket
import struct
import termios
from fcntl import ioctl

import pytest

from agent.wire import messages as m
from agent.wire.constants import STDIN_WINDOW
from controller import interaction as module
from controller.cancel import CancelToken
from controller.escapes import HELP
from controller.interaction import interact
from controller.results import Status
from controller.terminal import LostTerminalError

KILLED = "but the agent has not confirmed that the command is dead"


@pytest.fixture
def cancel():
    return CancelToken()


@pytest.fixture
def hold(fake, here, cancel):
    """Return a function that joins the terminal here to an agent's with a script, and returns the result."""

    def hold(script, *, local=None, **request):
        run = m.Run("sh", stdin=True, terminal="xterm", rows=24, columns=80, **request)
        with fake(script).client(cancel) as client, local or here.local as terminal:
            result = interact(client, run, terminal, cancel)
            assert here.user < 0 or here.is_in_order
        return result

    ioctl(here.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    return hold


def greet(talk, here):
    """Let the command begin, and wait until the terminal here is raw: before that, keys mean other things."""
    talk.run()
    talk.send(m.Stdout(b"$ "))
    here.until(b"$ ")


def test_keys_go_there_and_output_comes_here(hold, here):
    def script(talk):
        request = talk.run()
        assert (request.command, request.terminal, request.rows, request.columns) == ("sh", "xterm", 24, 80)
        talk.send(m.Stdout(b"$ "))
        here.until(b"$ ")
        assert here.is_raw
        for key in (b"l", b"s", b"\r", b"\x03", b"\x1a", b"\x11\x13\xff\x00"):
            here.type(key)
            assert talk.receive() == m.Stdin(key)
            talk.send(m.Stdout(b"<" + key + b">"))
            assert here.until(key + b">") == b"<" + key + b">"
        talk.send(m.Stdout(b"bye\r\n"))
        talk.exit(code=7, elapsed=2.0)

    result = hold(script)
    assert (result.status, result.rc, result.error, result.elapsed) == (Status.FAILED, 7, None, 2.0)
    assert here.shown() == b"bye\r\n"


def test_a_command_that_ends_at_once(hold, here):
    def script(talk):
        talk.run()
        talk.send(m.Stderr(b"odd"))
        talk.exit(code=0)

    assert hold(script).status is Status.OK
    assert here.shown() == b"odd"


def test_a_command_that_cannot_be_started(hold, here):
    def script(talk):
        talk.run()
        talk.exit(error="cannot open a terminal: Too many open files")

    result = hold(script)
    assert (result.status, result.rc, result.error) == (
        Status.FAILED, None, "cannot open a terminal: Too many open files"
    )  # fmt: skip


def test_a_controller_that_may_not(hold):
    def script(talk):
        talk.run()
        talk.send(m.Error("denied", "controller ops may not run commands on this host"))

    result = hold(script)
    assert (result.status, result.error) == (Status.DENIED, "controller ops may not run commands on this host")


def test_what_no_message_has_room_for(hold):
    def script(talk):
        talk.login()
        talk.until_closed()

    result = hold(script, environment={"A": "x" * 2_000_000})
    assert result.status is Status.FAILED
    assert result.error.startswith("cannot be sent: Run of 2000")


# Size


def resize(here, rows, columns):
    ioctl(here.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def test_another_size_is_told_when_a_signal_wakes_us(hold, here):
    def script(talk):
        greet(talk, here)
        resize(here, 40, 132)
        os.kill(os.getpid(), signal.SIGWINCH)
        assert talk.receive() == m.Resize(40, 132)
        talk.exit(code=0)

    assert hold(script).status is Status.OK


def test_a_size_that_changed_before_the_command_began(hold, here):
    def script(talk):
        talk.run()
        assert talk.receive() == m.Resize(50, 100)
        talk.exit(code=0)

    resize(here, 50, 100)
    assert hold(script).status is Status.OK


# Escapes


def test_the_way_out(hold, here):
    def script(talk):
        greet(talk, here)
        here.type(b"ls\r~.")
        talk.until_closed()

    result = hold(script)
    assert (result.status, result.error) == (Status.CANCELLED, "ended by ~.")


def test_the_way_out_is_there_when_the_host_takes_nothing(hold, here, monkeypatch):
    monkeypatch.setattr(module, "_MOST_KEYS", 64)

    def script(talk):
        greet(talk, here)
        left = STDIN_WINDOW
        while left:  # the window is used up, and no Window comes
            here.type(b"x" * min(left, 2000))
            left -= min(left, 2000)
            while talk.connection.stdin_window > left:
                talk.receive()
        here.type(b"held\r")
        here.type(b"~.")
        talk.until_closed()

    assert hold(script).error == "ended by ~."


def test_keys_wait_for_room_and_go_then(hold, here):
    def script(talk):
        greet(talk, here)
        left = STDIN_WINDOW
        while left:
            here.type(b"x" * min(left, 2000))
            left -= min(left, 2000)
            while talk.connection.stdin_window > left:
                talk.receive()
        here.type(b"more")
        talk.send(m.Stdout(b"!"))
        here.until(b"!")
        talk.send(m.Window(3))
        assert talk.receive() == m.Stdin(b"mor")
        talk.send(m.Window(100))
        assert talk.receive() == m.Stdin(b"e")
        talk.exit(code=0)

    assert hold(script).status is Status.OK


def test_the_help_is_shown_here_alone(hold, here):
    def script(talk):
        greet(talk, here)
        here.type(b"~?")
        assert here.until(b"send one ~\r\n") == HELP.replace("\n", "\r\n").encode()
        here.type(b"~~\r")
        assert talk.receive() == m.Stdin(b"~\r")
        talk.exit(code=0)

    assert hold(script).status is Status.OK


# Ends that are no ends of the command


def test_the_connection_is_cut(hold, here):
    def script(talk):
        talk.run()
        talk.send(m.Stdout(b"\x1b[?1049hvi"))
        here.until(b"vi")
        talk.cut()

    result = hold(script)
    assert result.status is Status.BROKEN
    assert result.error.startswith("the connection was lost: ")
    assert here.shown() == b"\x1b[?1049l\x1b[0m"


def test_the_agent_leaves(hold):
    def script(talk):
        talk.run()
        talk.send(m.Goodbye("stopping", "the agent stops"))

    assert hold(script).error == "the agent ended the connection: the agent stops"


def test_the_agent_closes(hold):
    def script(talk):
        talk.run()
        talk.say_goodbye()

    result = hold(script)
    assert (result.status, result.error) == (
        Status.BROKEN, "the connection was lost: the connection ended in state running"
    )  # fmt: skip


def test_the_agent_breaks_the_protocol(hold):
    def script(talk):
        talk.run()
        talk.sock.sendall(b"\xff" * 100)
        talk.until_closed()

    assert hold(script).error == "the connection was lost: unknown frame type 0xff"


def test_the_request_does_not_even_go(fake, here, cancel):
    def script(talk):
        talk.login()
        talk.until_closed()

    with fake(script).client(cancel) as client, here.local as terminal:
        socket.socket.shutdown(client._sock, socket.SHUT_RDWR)
        result = interact(client, m.Run("sh", stdin=True, terminal="xterm"), terminal, cancel)
    assert result.status is Status.BROKEN
    assert result.error.startswith("the connection was lost: ")


# Cancelled, and out of time


def test_cancelled(hold, here, cancel):
    def script(talk):
        greet(talk, here)
        cancel.set()
        assert talk.receive() == m.Cancel()
        talk.send(m.Stdout(b"Hangup\r\n"))
        talk.exit(signal=1, reason=m.Reason.CANCELLED)

    result = hold(script)
    assert (result.status, result.signal, result.error) == (Status.CANCELLED, "SIGHUP", "killed")
    assert here.shown() == b"Hangup\r\n"


def test_cancelled_and_not_confirmed(hold, here, cancel, monkeypatch):
    monkeypatch.setattr(module, "_CANCEL_LIMIT", 0.0)

    def script(talk):
        talk.run()
        cancel.set()
        talk.until_closed()

    assert hold(script).error == f"cancelled, {KILLED}"


def test_time_is_up_and_the_agent_says_nothing(hold, monkeypatch):
    monkeypatch.setattr(module, "_TIMEOUT_SLACK", 0.0)

    def script(talk):
        talk.run()
        talk.until_closed()

    assert hold(script, timeout=0.01).error == f"time is up, {KILLED}"


def test_time_is_up(hold):
    def script(talk):
        talk.run()
        talk.exit(signal=15, reason=m.Reason.TIMEOUT)

    result = hold(script, timeout=60.0)
    assert (result.status, result.error) == (Status.TIMEOUT, "killed after 60 s")


# The terminal here


def test_it_hangs_up(hold, here, cancel):
    def script(talk):
        greet(talk, here)
        here.type(b"last")
        assert talk.receive() == m.Stdin(b"last")
        here.hang_up()
        end = talk.receive()
        assert isinstance(end, m.EndOfStream)
        assert (end.stream, end.bytes) == (m.Stream.STDIN, 4)
        talk.exit(signal=1)

    result = hold(script)
    assert (result.status, result.signal) == (Status.FAILED, "SIGHUP")


def test_it_hangs_up_and_the_host_goes_on_writing(fake, here, cancel):
    def script(talk):
        greet(talk, here)
        here.hang_up()
        talk.receive()
        talk.send(m.Stdout(b"x"))
        talk.until_closed()

    with (
        fake(script).client(cancel) as client,
        here.local as terminal,
        pytest.raises(LostTerminalError, match="Input/output error"),
    ):
        interact(client, m.Run("sh", stdin=True, terminal="xterm"), terminal, cancel)


def test_keys_that_are_gone_when_we_look(hold, here, monkeypatch):
    found = []

    def script(talk):
        greet(talk, here)
        here.type(b"x")
        assert talk.receive() == m.Stdin(b"x")
        talk.exit(code=0)

    read = here.local.read
    monkeypatch.setattr(here.local, "read", lambda: found.append(None) if not found else read())
    assert hold(script).status is Status.OK


def test_a_terminal_that_takes_nothing_holds_the_host_back_and_not_the_keys(hold, here):
    data = os.urandom(100_000)

    def script(talk):
        greet(talk, here)
        talk.send(m.Stdout(data))
        talk.send(m.Stdout(b"."))
        here.type(b"\x03")
        assert talk.receive() == m.Stdin(b"\x03")
        seen = b""
        while len(seen) < len(data) + 1:
            seen += here.some()
        assert seen == data + b"."
        talk.exit(code=0)

    assert hold(script).status is Status.OK


def test_a_terminal_that_takes_nothing_does_not_hold_who_cancels(hold, here, cancel):
    def script(talk):
        talk.run()
        talk.send(m.Stdout(bytes(100_000)))
        talk.exit(code=0)
        cancel.set()
        talk.until_closed()

    assert hold(script).rc in (0, None)
