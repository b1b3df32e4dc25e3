"""A command's streams: their counts, digests and ends, and the window of the standard input."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from agent.wire import messages as m
from agent.wire.connection import TABLE, Closed, Role, State
from agent.wire.constants import MAX_SCRIPT, STDIN_WINDOW
from agent.wire.errors import LocalProtocolError

CONTROLLER, AGENT = Role.CONTROLLER, Role.AGENT
STDIN, STDOUT, STDERR, SCRIPT = m.Stream
Pair = Any  # conftest's ConnectionPair


# A whole command ---------------------------------------------------------------------------------------------------


def test_a_command_with_everything(pair: Pair) -> None:
    pair.run(m.Run("cat; echo oops >&2", stdin=True))
    pair.send(CONTROLLER, m.Stdin(b"hello\n"))
    pair.send(AGENT, m.Window(6), m.Ping(1))
    pair.send(CONTROLLER, m.Pong(1, 2.0))
    pair.end(STDIN)
    pair.send(AGENT, m.Stdout(b"hel"), m.Stderr(b"oops\n"), m.Stdout(b"lo\n"))
    pair.end_output()
    pair.send(AGENT, m.Exit(0))
    assert pair.controller.state is pair.agent.state is State.READY
    pair.send(CONTROLLER, m.Run("again"))
    pair.end_output()
    pair.send(AGENT, m.Exit(signal=9, reason=m.Reason.TIMEOUT), m.Goodbye("stopping", "bye"))
    assert pair.controller.next_event() == Closed()


def test_the_end_holds_count_digest_and_total(running: Pair) -> None:
    running.send(AGENT, m.Stdout(b"ab"), m.Stdout(b"c"))
    end = running.agent.end_of(STDOUT, 7)
    assert end == m.EndOfStream(STDOUT, 3, hashlib.sha256(b"abc").hexdigest(), 10)
    running.send(AGENT, end)


def test_streams_start_afresh_with_each_command(running: Pair) -> None:
    running.send(AGENT, m.Stdout(b"ab"))
    running.end_output()
    running.send(AGENT, m.Exit(0))
    running.send(CONTROLLER, m.Run("again"))
    assert running.agent.end_of(STDOUT).bytes == 0
    running.end_output()
    running.send(AGENT, m.Exit(0))


def test_a_refused_request_leaves_the_connection_ready(running: Pair) -> None:
    running.send(AGENT, m.Error("refused", "no such user"))
    assert running.controller.state is State.READY
    running.send(CONTROLLER, m.Run("true"))


@pytest.mark.parametrize("missing", [STDOUT, STDERR])
def test_exit_before_an_end(
    running: Pair, missing: m.Stream, on_the_wire: Any, check_remote: Any, check_local: Any
) -> None:
    running.end(STDERR if missing is STDOUT else STDOUT)
    data = on_the_wire(m.Exit(0))
    check_remote(running.controller, data, f"Exit before the end of {missing}")
    check_local(running.agent, m.Exit(0), f"Exit before the end of {missing}")


def test_an_end_with_a_wrong_count(running: Pair, on_the_wire: Any, check_remote: Any, check_local: Any) -> None:
    running.send(AGENT, m.Stdout(b"abc"))
    digest = hashlib.sha256(b"abc").hexdigest()
    short, long = m.EndOfStream(STDOUT, 2, digest, 2), m.EndOfStream(STDOUT, 4, digest, 4)
    check_remote(running.controller, on_the_wire(short), "stdout ended after 3 bytes, expected 2")
    check_local(running.agent, long, "stdout ended after 3 bytes, expected 4")


def test_a_lost_frame_is_noticed_at_the_end(running: Pair, on_the_wire: Any, check_remote: Any) -> None:
    """A frame has no number: the count finds that a whole one is missing, the digest that two are not in order."""
    agent = running.agent
    for data in (b"one", b"two"):
        agent.send(m.Stdout(data))
    running.controller.receive(on_the_wire(m.Stdout(b"two")))
    running.controller.next_event()
    end = on_the_wire(agent.end_of(STDOUT))
    check_remote(running.controller, end, "stdout ended after 3 bytes, expected 6")


def test_frames_out_of_order_are_noticed_at_the_end(running: Pair, on_the_wire: Any, check_remote: Any) -> None:
    agent = running.agent
    frames = [agent.send(m.Stdout(data)) for data in (b"one", b"two")]
    running.controller.receive(frames[1] + frames[0])
    assert running.controller.next_event() == m.Stdout(b"two")
    assert running.controller.next_event() == m.Stdout(b"one")
    check_remote(running.controller, on_the_wire(agent.end_of(STDOUT)), "wrong checksum on stdout")


@pytest.mark.parametrize("digest", ["0" * 64, hashlib.sha256(b"abc").hexdigest().upper(), "\u00e9" * 64])
def test_an_end_with_a_wrong_digest(
    running: Pair, digest: str, on_the_wire: Any, check_remote: Any, check_local: Any
) -> None:
    running.send(AGENT, m.Stdout(b"abc"))
    end = m.EndOfStream(STDOUT, 3, digest, 3)
    check_remote(running.controller, on_the_wire(end), "wrong checksum on stdout")
    check_local(running.agent, end, "wrong checksum on stdout")


@pytest.mark.parametrize("stream", m.Stream)
def test_data_after_the_end(
    running: Pair, stream: m.Stream, on_the_wire: Any, check_remote: Any, check_local: Any
) -> None:
    sender = CONTROLLER if stream in (STDIN, SCRIPT) else AGENT
    message = {STDIN: m.Stdin, STDOUT: m.Stdout, STDERR: m.Stderr, SCRIPT: m.Script}[stream](b"late")
    running.end(stream)
    check_remote(running.ends[sender.peer], on_the_wire(message), f"data on {stream}, which is not open")
    check_local(running.ends[sender], message, f"data on {stream}, which is not open")


@pytest.mark.parametrize("stream", m.Stream)
def test_the_end_twice(running: Pair, stream: m.Stream, on_the_wire: Any, check_remote: Any, check_local: Any) -> None:
    sender = CONTROLLER if stream in (STDIN, SCRIPT) else AGENT
    end = running.ends[sender].end_of(stream)
    running.send(sender, end)
    check_remote(running.ends[sender.peer], on_the_wire(end), f"end of {stream}, which is not open")
    check_local(running.ends[sender], end, f"end of {stream}, which is not open")


@pytest.mark.parametrize("stream", m.Stream)
@pytest.mark.parametrize("state", [State.READY, State.RUNNING])
def test_nobody_ends_the_others_streams(
    stream: m.Stream, state: State, on_the_wire: Any, in_state: Any, check_remote: Any, check_local: Any
) -> None:
    """A controller that ended stdout would make the agent's next byte the agent's fault."""
    thief = AGENT if stream in (STDIN, SCRIPT) else CONTROLLER
    end = in_state(thief, State.RUNNING).end_of(stream)
    text = f"{thief.value} may not end {stream}"
    if m.EndOfStream in TABLE[thief][state]:
        check_remote(in_state(thief.peer, state), on_the_wire(end), text)
        check_local(in_state(thief, state), end, text)


def test_there_is_nothing_to_end_before_the_first_command(ready: Pair) -> None:
    with pytest.raises(LocalProtocolError, match=r"^there is no stdout to end$"):
        ready.agent.end_of(STDOUT)


# Standard input ----------------------------------------------------------------------------------------------------


def test_no_stdin_was_promised(pair: Pair, on_the_wire: Any, check_remote: Any, check_local: Any) -> None:
    pair.run(m.Run("true"))
    assert pair.controller.stdin_window == 0
    with pytest.raises(LocalProtocolError, match=r"^there is no stdin to end$"):
        pair.controller.end_of(STDIN)
    empty = m.EndOfStream(STDIN, 0, hashlib.sha256().hexdigest(), 0)
    check_remote(pair.agent, on_the_wire(empty), "end of stdin, which is not open")
    check_local(pair.controller, m.Stdin(b"x"), "data on stdin, which is not open")


def test_stdin_without_a_promise_is_refused(pair: Pair, on_the_wire: Any, check_remote: Any) -> None:
    pair.run(m.Run("true"))
    check_remote(pair.agent, on_the_wire(m.Stdin(b"x")), "data on stdin, which is not open")


def test_a_window_without_a_promise_is_refused(
    pair: Pair, on_the_wire: Any, check_remote: Any, check_local: Any
) -> None:
    pair.run(m.Run("true"))
    check_remote(pair.controller, on_the_wire(m.Window(1)), "window of stdin, which is not open")
    check_local(pair.agent, m.Window(1), "window of stdin, which is not open")


def fill_window(pair: Pair) -> None:
    chunk = 262_144
    for _ in range(STDIN_WINDOW // chunk):
        pair.send(CONTROLLER, m.Stdin(bytes(chunk)))
    assert pair.controller.stdin_window == pair.agent.stdin_window == 0


def test_stdin_up_to_its_window_and_no_further(
    running: Pair, on_the_wire: Any, check_remote: Any, check_local: Any
) -> None:
    assert running.controller.stdin_window == STDIN_WINDOW
    fill_window(running)
    running.send(AGENT, m.Window(3))
    running.send(CONTROLLER, m.Stdin(b"abc"))
    check_remote(running.agent, on_the_wire(m.Stdin(b"x")), "1 bytes of stdin with a window of 0")
    check_local(running.controller, m.Stdin(b"xy"), "2 bytes of stdin with a window of 0")


def test_a_window_gives_back_what_was_sent_and_no_more(
    running: Pair, on_the_wire: Any, check_remote: Any, check_local: Any
) -> None:
    running.send(CONTROLLER, m.Stdin(b"abc"))
    running.send(AGENT, m.Window(2), m.Window(1))
    text = f"window of {STDIN_WINDOW + 1} bytes, expected no more than {STDIN_WINDOW}"
    check_remote(running.controller, on_the_wire(m.Window(1)), text)
    check_local(running.agent, m.Window(1), text)


def test_the_window_may_still_move_after_the_end_of_stdin(running: Pair) -> None:
    """The command reads what lies in the pipe after the controller has ended the stream."""
    running.send(CONTROLLER, m.Stdin(b"abc"))
    running.end(STDIN)
    running.send(AGENT, m.Window(3))


def test_input_that_crossed_the_exit_is_harmless(running: Pair) -> None:
    """The agent has sent Exit, the controller has not seen it yet: what it says until then means nothing."""
    controller, agent = running.controller, running.agent
    from_agent = agent.send(agent.end_of(STDOUT)) + agent.send(agent.end_of(STDERR)) + agent.send(m.Exit(0))
    crossing = [m.Stdin(b"late"), m.Script(b"late"), m.Resize(1, 2), m.Cancel()]
    from_controller = b"".join(controller.send(message) for message in crossing)
    end = controller.end_of(STDIN)
    from_controller += controller.send(end)

    agent.receive(from_controller)
    for message in (*crossing, end):
        assert agent.next_event() == message
        assert agent.state is State.READY
    controller.receive(from_agent)
    for _ in range(3):
        controller.next_event()
    assert controller.state is State.READY

    running.send(CONTROLLER, m.Run("next", stdin=True))
    assert agent.stdin_window == STDIN_WINDOW
    running.send(CONTROLLER, m.Stdin(b"x"))
    running.end(STDIN)


# The script --------------------------------------------------------------------------------------------------------


def test_a_script_without_a_promise_is_refused(
    pair: Pair, on_the_wire: Any, check_remote: Any, check_local: Any
) -> None:
    pair.run(m.Run("true", stdin=True))
    check_remote(pair.agent, on_the_wire(m.Script(b"x")), "data on script, which is not open")
    check_local(pair.controller, m.Script(b"x"), "data on script, which is not open")


def test_a_script_up_to_its_limit_and_no_further(
    running: Pair, on_the_wire: Any, check_remote: Any, check_local: Any
) -> None:
    chunk = 262_144
    for _ in range(MAX_SCRIPT // chunk):
        running.send(CONTROLLER, m.Script(bytes(chunk)))
    text = f"script of {MAX_SCRIPT + 1} bytes, expected no more than {MAX_SCRIPT}"
    check_remote(running.agent, on_the_wire(m.Script(b"x")), text)
    check_local(running.controller, m.Script(b"x"), text)


def test_a_whole_script(running: Pair) -> None:
    running.send(CONTROLLER, m.Script(b"#!/bin/sh\n"), m.Script(b"cat\n"))
    running.end(SCRIPT)
    running.send(AGENT, m.Stdout(b"x"))
    running.end_output()
    running.send(AGENT, m.Exit(0))
