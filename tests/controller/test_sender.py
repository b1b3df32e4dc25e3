"""A script and a standard input on their way to one command, against an agent that follows a script of its own."""

from __future__ import annotations

import os
import threading

import pytest

import agent.wire.link
from agent.wire import messages as m
from agent.wire.codec import FRAME_TYPES, encode_payload
from agent.wire.constants import STDIN_WINDOW
from agent.wire.frames import encode_frame
from controller.cancel import CancelToken
from controller.results import Status
from controller.runs import Silent
from controller.sender import Delivery
from controller.stdin import open_input

CODES = {kind: code for code, kind in FRAME_TYPES.items()}
SCRIPT = b"#!/bin/sh\n".ljust(200_000, b"#")


def never(error):
    raise AssertionError(error)


@pytest.fixture
def run(fake):
    """Return a function that runs a command with a script, or an input, or both, and returns the result."""

    def run(story, script=None, stdin=None, *, cancel=None, observer=None, **request):
        delivery = Delivery(script, None if stdin is None else open_input(stdin))
        delivery.begin(1, never)
        asked = m.Run("x", script=script is not None, stdin=stdin is not None, **request)
        try:
            with fake(story).client(cancel) as client:
                return delivery.run(client, asked, observer or Silent(), keep=True)
        finally:
            delivery.close()

    return run


def read(talk, stream):
    """Return what comes on a stream, to its end."""
    data = b""
    while not isinstance(message := talk.receive(), m.EndOfStream):
        assert isinstance(message, m.Script if stream is m.Stream.SCRIPT else m.Stdin)
        data += message.data
    assert message.stream is stream
    return data


def test_the_script_comes_first_and_then_the_input(run):
    def story(talk):
        assert talk.run() == m.Run("x", script=True, arguments=("-v",), stdin=True)
        assert read(talk, m.Stream.SCRIPT) == SCRIPT
        assert read(talk, m.Stream.STDIN) == b"input"
        talk.exit(code=3)

    assert run(story, SCRIPT, b"input", arguments=("-v",)).rc == 3


@pytest.mark.parametrize("content", [b"", b"x", b"x" * (STDIN_WINDOW - 1)])
def test_an_input_that_fits(run, content):
    def story(talk):
        talk.run()
        assert read(talk, m.Stream.STDIN) == content
        talk.exit(code=0)

    assert run(story, None, content).status is Status.OK


def test_no_more_is_sent_than_the_window_has_room_for(run):
    """And output flows meanwhile."""
    content = bytes(range(256)) * (3 * STDIN_WINDOW // 256)

    def story(talk):
        talk.run()
        found = b""
        while len(found) < STDIN_WINDOW:
            found += talk.receive().data
        assert len(found) == STDIN_WINDOW  # more would have been an error of the protocol
        talk.send(m.Ping(1), m.Stdout(b"not yet"))
        assert isinstance(talk.receive(), m.Pong)  # and not an input
        while len(found) < len(content):
            talk.send(m.Window(100_000))
            for expected in (65536, 34464):
                data = talk.receive().data
                assert len(data) <= expected
                found += data
        assert found == content
        talk.receive()
        talk.exit(code=0)

    result = run(story, None, content)
    assert (result.status, result.stdout) == (Status.OK, b"not yet")


def test_a_command_that_ends_before_its_input(run):
    def story(talk):
        talk.run()
        talk.receive()
        talk.exit(code=0)
        talk.until_closed()

    assert run(story, None, b"x" * 10 * STDIN_WINDOW).status is Status.OK


def test_a_live_input_that_never_ends(run):
    reading, writing = os.pipe()

    def story(talk):
        talk.run()
        os.write(writing, b"one")
        assert talk.receive() == m.Stdin(b"one")
        os.write(writing, b"two")
        assert talk.receive() == m.Stdin(b"two")
        talk.exit(code=0)
        talk.until_closed()

    with open(reading, "rb", buffering=0) as file:
        assert run(story, None, file).status is Status.OK
    os.close(writing)


def test_an_agent_that_refuses_while_the_script_is_on_its_way(run):
    def story(talk):
        talk.run()
        talk.send(m.Error("denied", "not here"))
        talk.until_closed()

    result = run(story, SCRIPT * 50)
    assert (result.status, result.error) == (Status.DENIED, "not here")


def test_an_agent_that_says_goodbye_to_a_script(run):
    def story(talk):
        talk.run()
        talk.send(m.Goodbye("stopping", "the agent stops"))
        talk.until_closed()

    result = run(story, SCRIPT * 50)
    assert (result.status, result.error) == (Status.BROKEN, "the agent ended the connection: the agent stops")


# Hostile agents


@pytest.mark.parametrize(
    ("stdin", "window", "error"),
    [
        (b"", 1, "the connection was lost: window of 1048577 bytes, expected no more than 1048576"),
        (None, 1, "the connection was lost: window of stdin, which is not open"),
    ],
)
def test_a_window_beyond(run, stdin, window, error):
    def story(talk):
        talk.run()
        talk.sock.sendall(encode_frame(CODES[m.Window], encode_payload(m.Window(window))))
        talk.until_closed()

    result = run(story, SCRIPT, stdin)
    assert (result.status, result.error) == (Status.BROKEN, error)


def test_an_agent_that_ends_our_input(run):
    def story(talk):
        talk.run()
        end = m.EndOfStream(m.Stream.SCRIPT, 0, "0" * 64, 0)
        talk.sock.sendall(encode_frame(CODES[m.EndOfStream], encode_payload(end)))
        talk.until_closed()

    result = run(story, SCRIPT)
    assert (result.status, result.error) == (Status.BROKEN, "the connection was lost: agent may not end script")


def test_an_agent_that_never_reads(run, monkeypatch):
    """The time of a command with a limit has not begun, and the link gives up by itself."""
    monkeypatch.setattr(agent.wire.link, "STUCK_AFTER", 0.3)
    over = threading.Event()

    def story(talk):
        talk.run()
        over.wait(30)

    result = run(story, b"#!" + b"x" * 16_000_000, timeout=0.001)
    over.set()
    assert (result.status, result.error) == (
        Status.BROKEN, "the connection was lost: the peer has taken nothing for 0 s"
    )  # fmt: skip


def test_the_time_of_a_script_begins_when_it_has_left(run, monkeypatch):
    from controller import client as module

    monkeypatch.setattr(module, "_TIMEOUT_SLACK", 0.0)

    def story(talk):
        talk.run()
        assert len(read(talk, m.Stream.SCRIPT)) == len(SCRIPT)
        talk.until_closed()

    result = run(story, SCRIPT, timeout=0.2)
    error = "time is up, but the agent has not confirmed that the command is dead"
    assert (result.status, result.error) == (Status.BROKEN, error)


# Cancelled


def test_cancelling_stops_the_input(run):
    token = CancelToken()

    class Observer(Silent):
        def stdout(self, host, data):
            token.set()

    def story(talk):
        talk.run()
        talk.send(m.Stdout(b"x"))
        while not isinstance(message := talk.receive(), m.Cancel):
            assert isinstance(message, m.Stdin)
            talk.send(m.Window(len(message.data)))
        talk.exit(signal=15, reason=m.Reason.CANCELLED)

    with open("/dev/zero", "rb", buffering=0) as endless:
        result = run(story, None, endless, cancel=token, observer=Observer())
    assert (result.status, result.signal) == (Status.CANCELLED, "SIGTERM")


def test_an_input_that_fails_does_not_look_as_if_it_had_ended(fake):
    token, errors = CancelToken(), []

    def fail(error):
        errors.append(str(error))
        token.set()

    def story(talk):
        talk.run()
        assert talk.receive() == m.Cancel()
        talk.exit(signal=15, reason=m.Reason.CANCELLED)

    delivery = Delivery(None, open_input("/proc/self/mem", "--stdin"))
    delivery.begin(1, fail)
    with fake(story).client(token) as client:
        result = delivery.run(client, m.Run("x", stdin=True), Silent(), keep=True)
    delivery.close()
    assert result.status is Status.CANCELLED
    assert set(errors) == {"--stdin: cannot be read: input/output error"}


def test_a_delivery_of_nothing():
    delivery = Delivery(b"#!x", None)
    delivery.begin(3, never)
    delivery.close()
