"""What a command has started is soon dead after a cut, a cancel, or the agent's own end: all of it.

As whoever runs the tests, and as an ordinary user too: control groups are root's, and without them the worker that
watches over the command must do. Every process of a command holds a FIFO open; its end is the proof.
"""

from __future__ import annotations

import os
import signal
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from agent.wire import messages as m
from agent.wire.connection import Closed

LIMIT = 10.0  # seconds: five are promised, on a machine that has nothing else to do

# Each writes a line to descriptor 9 for each process that it leaves, then waits.
TREES = {
    "children": "sleep 1000 & echo >&9; sleep 1000 & echo >&9; wait",
    "a session of its own": "setsid sh -c 'echo >&9; exec sleep 1000' & sleep 1000",
    "nohup": "nohup sh -c 'echo >&9; exec sleep 1000' >/dev/null 2>&1 & sleep 1000",
    "an orphan": "(setsid sh -c '(echo >&9; exec sleep 1000) & exit' & exit) ; sleep 1000",
    "no environment": "env -i setsid sh -c 'echo >&9; exec sleep 1000' & sleep 1000",
    "deaf to signals": "trap '' TERM HUP INT; setsid sh -c 'echo >&9; sleep 1000; sleep 1000' & sleep 1000; sleep 1000",
    "stopped": "sh -c 'echo >&9; kill -STOP $$; sleep 1000' & sleep 1000",
    "a stopped shell": "echo >&9; kill -STOP $$; sleep 1000",
}


@pytest.fixture(params=[False, True], ids=["as we are", "as an ordinary user"])
def either(agents: Any, request: pytest.FixtureRequest) -> Any:
    return agents.start(ordinary_user=request.param)


def start(agent: Any, kit: SimpleNamespace, marker: Any, command: str, lines: int) -> Any:
    """Run a command and return the connection it belongs to, once its processes are there."""
    peer = kit.Peer(agent.port).log_in(agent.keys)
    peer.send(m.Run(f"{marker.open}{command}"))
    marker.wait_for_lines(lines)
    assert marker.alive()
    return peer


@pytest.mark.parametrize("ordinary", [False, True], ids=["as we are", "as an ordinary user"])
def test_35_39_nothing_survives_a_cut(agents: Any, kit: SimpleNamespace, ordinary: bool) -> None:
    """All at once, each on a connection of its own, which then are all reset."""
    agent = agents.start(ordinary_user=ordinary)
    peers, markers = [], []
    try:
        for name, tree in TREES.items():
            markers.append(kit.Marker())
            peers.append(start(agent, kit, markers[-1], tree, 2 if name == "children" else 1))
        for number, peer in enumerate(peers):
            if number % 2:
                peer.reset()
            else:
                peer.tls.close()
        for name, marker in zip(TREES, markers, strict=True):
            assert marker.seconds_to_death() < LIMIT, name
    finally:
        for marker in markers:
            marker.close()
    agent.works()


def test_36_nothing_survives_of_a_fork_storm(either: Any, kit: SimpleNamespace, marker: Any) -> None:
    """Each generation leaves a process, starts the next, both in sessions of their own, and goes: whoever lists them
    is always late."""
    generation = 'echo >&9; setsid sleep 1000 & sleep 0.005; setsid sh -c "$GENERATION" &'
    storm = f"export GENERATION='{generation}'; " + 'sh -c "$GENERATION" & ' * 4 + "sleep 1000"
    peer = start(either, kit, marker, storm, 200)
    peer.reset()
    assert marker.seconds_to_death() < LIMIT
    either.works()


@pytest.mark.parametrize("grace", [False, True], ids=["deaf", "obedient"])
def test_cancel_reports_when_all_are_dead(agent: Any, kit: SimpleNamespace, marker: Any, grace: bool) -> None:
    tree = TREES["children" if grace else "deaf to signals"]
    peer = start(agent, kit, marker, tree, 1)
    peer.send(m.Cancel())
    while not isinstance(event := peer.event(), m.Exit):
        assert isinstance(event, m.EndOfStream)
    assert event.reason is m.Reason.CANCELLED
    assert event.elapsed < LIMIT
    assert not marker.alive()
    peer.tls.close()


def test_timeout_kills_the_tree(agent: Any, kit: SimpleNamespace, marker: Any) -> None:
    result = agent.run(f"{marker.open}{TREES['a session of its own']}", timeout=0.3)
    assert result.status == "timeout"
    assert not marker.alive()


def test_37_background_process_that_holds_the_output(agent: Any, kit: SimpleNamespace, marker: Any) -> None:
    """The result is there when the shell has ended, and the process lives on: that is what was asked for."""
    result = agent.run(f"{marker.open}sleep 1000 & echo $!; exit 4")
    assert (result.status, result.rc) == ("failed", 4)
    assert result.note == "a background process still holds the output"
    assert result.elapsed < LIMIT
    assert marker.alive()
    os.kill(int(result.stdout), signal.SIGKILL)
    assert marker.seconds_to_death() < LIMIT


def test_33_revoked_controller_is_cut_off_at_once(agents: Any, kit: SimpleNamespace, marker: Any) -> None:
    """Its key is taken away while a command of it runs."""
    agent = agents.start()
    idle = kit.Peer(agent.port).log_in(agent.keys)
    busy = start(agent, kit, marker, TREES["deaf to signals"], 1)
    record = agent.folder / "agent" / "controllers" / "ops.enrol"
    record.rename(agent.folder / "revoked")
    began = os.times().elapsed
    agent.signal(signal.SIGHUP)
    assert idle.rest() == b""
    busy.rest()
    assert os.times().elapsed - began < 1.0
    agent.logged("reloaded: 0 controllers, 2 sessions ended$")
    assert marker.seconds_to_death() < LIMIT
    with kit.Peer(agent.port) as peer:
        peer.begin(agent.keys)
        peer.send(peer.proof(agent.keys))
        assert peer.rest() == b"\x00\x01\x01"
    (agent.folder / "revoked").rename(record)
    mark = agent.mark()
    agent.signal(signal.SIGHUP)
    agent.logged("reloaded: 1 controllers, 0 sessions ended$", since=mark)
    agent.works()
    for peer in (idle, busy):
        peer.tls.close()


def test_33_reload_of_keys_that_cannot_be_read_changes_nothing(agents: Any, kit: SimpleNamespace) -> None:
    agent = agents.start()
    record = agent.folder / "agent" / "controllers" / "ops.enrol"
    with kit.Peer(agent.port) as peer:
        peer.log_in(agent.keys)
        record.chmod(0o644)
        agent.signal(signal.SIGHUP)
        agent.logged(r"cannot reload, the old keys stay: .*/ops\.enrol: is open to its group or others \(mode 0644\)$")
        peer.send(m.Ping(1))
        assert isinstance(peer.event(), m.Pong)
    agent.works()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_43_stopped_while_commands_run(agents: Any, kit: SimpleNamespace, marker: Any, number: int) -> None:
    """They are cancelled, and say so; the idle are told; then the agent ends by the signal that stopped it."""
    agent = agents.start()
    idle = kit.Peer(agent.port).log_in(agent.keys)
    login = kit.Peer(agent.port)
    login.begin(agent.keys)
    busy = start(agent, kit, marker, TREES["a session of its own"], 1)
    agent.signal(number)
    assert idle.event() == m.Goodbye("stopping", "the agent stops")
    assert idle.event() == Closed()
    assert login.rest() == b""
    while not isinstance(event := busy.event(), m.Exit):
        assert isinstance(event, m.EndOfStream)
    assert event.reason is m.Reason.CANCELLED
    assert not marker.alive()
    assert busy.event() == m.Goodbye("stopping", "the agent stops")
    assert agent.process.wait(kit.PATIENCE) == -number
    assert agent.logged("stopping: 3 connections open$")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", agent.port))
    for peer in (idle, login, busy):
        peer.tls.close()


def test_43_stopped_while_nobody_reads(agents: Any, kit: SimpleNamespace, marker: Any) -> None:
    """A controller that has stopped reading cannot be told; that does not keep the agent, nor what it ran."""
    agent = agents.start(prepare="import agent.server; agent.server._STOP_LIMIT = 0.5")
    with kit.Peer(agent.port) as peer:
        peer.log_in(agent.keys)
        peer.send(m.Run(f"{marker.open}echo >&9; trap '' TERM; yes"))
        marker.wait_for_lines(1)
        # Its output is stuck before the agent is stopped: all that the kernel holds for us is full.
        while not isinstance(peer.event(), m.Stdout):
            pass
        agent.works()
        agent.signal(signal.SIGTERM)
        assert agent.process.wait(kit.PATIENCE) == -signal.SIGTERM
        assert marker.seconds_to_death() < LIMIT


@pytest.mark.parametrize("tree", ["children", "a session of its own", "an orphan", "stopped"])
def test_nothing_survives_the_agents_own_death(either: Any, kit: SimpleNamespace, marker: Any, tree: str) -> None:
    """SIGKILL, as by the kernel when memory is short: the agent can do nothing any more, and nothing attached stays."""
    peer = start(either, kit, marker, TREES[tree], 2 if tree == "children" else 1)
    either.signal(signal.SIGKILL)
    assert marker.seconds_to_death() < LIMIT
    peer.rest()
    peer.tls.close()


def test_the_next_agent_on_the_port(agents: Any, kit: SimpleNamespace) -> None:
    """Connections of the one that was killed still hang in the kernel: the port is free all the same."""
    first = agents.start()
    peer = kit.Peer(first.port).log_in(first.keys)
    first.signal(signal.SIGKILL)
    first.process.wait(kit.PATIENCE)
    second = agents.start(keys=first.keys, port=first.port)
    assert second.port == first.port
    second.works()
    peer.tls.close()
