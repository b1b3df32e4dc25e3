"""The machine is at its limits: no descriptors, no processes, no threads, no room for the log. The agent lives."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import ssl
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.wire import messages as m
from controller.errors import HostError

LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0}))"


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_46_no_descriptor_is_left(agents: Any, kit: SimpleNamespace) -> None:
    """More connections than descriptors: the surplus is turned away without spinning, and then all is as before."""
    agent = agents.start(prepare=LIMITED.format(64))
    with contextlib.ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", agent.port), kit.PATIENCE)) for _ in range(150)
        ]
        agent.logged(r"refused \d+ connections: too many open files \(\d+\)$")
        before = processor_seconds(agent.process.pid)
        _wait_for_closed(crowd, 20, kit.PATIENCE)
        assert processor_seconds(agent.process.pid) - before < 1.0
    _until_it_works(agent)
    assert len([line for line in agent.log() if "refused" in line]) == 1, "once a minute is enough"


def _wait_for_closed(crowd: list[socket.socket], count: int, patience: float) -> None:
    """Wait until so many connections have been closed by the other side."""
    open_ones = set(crowd)
    while len(crowd) - len(open_ones) < count:
        ready = select.select(open_ones, [], [], patience)[0]
        assert ready, "too few are turned away"
        open_ones.difference_update(ready)  # nobody says anything: what is readable is at its end


def _until_it_works(agent: Any) -> None:
    """Log in until that succeeds: a crowd that has left is not gone before each of its threads has looked."""
    for _ in range(100):
        with contextlib.suppress(HostError):
            agent.client(timeout=1.0).close()
            break
    agent.works()


def test_46_no_descriptor_for_a_command(agents: Any, kit: SimpleNamespace) -> None:
    """One connection that holds a session each takes all but a few: commands are refused in words, then run again."""
    agent = agents.start(prepare=LIMITED.format(40))
    with contextlib.ExitStack() as stack:
        peers = []
        with contextlib.suppress(OSError):
            for _ in range(60):
                peers.append(stack.enter_context(kit.Peer(agent.port)).log_in(agent.keys))
        assert len(peers) > 10
        peers[0].send(m.Run("echo hello"))
        events = []
        while not events or not isinstance(events[-1], m.Exit):
            events.append(peers[0].event())
        assert (events[-1].error or "").endswith(": Too many open files"), events
        agent.logged("cannot start: cannot .*: Too many open files$")
        for peer in peers[1:]:
            peer.tls.close()
    _until_it_works(agent)


def test_46_reload_without_descriptors(agents: Any, kit: SimpleNamespace) -> None:
    agent = agents.start(prepare=LIMITED.format(40))
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            for _ in range(60):
                stack.enter_context(kit.Peer(agent.port)).log_in(agent.keys)
        agent.signal(signal.SIGHUP)
        agent.logged("cannot reload, the old keys stay: .*[Tt]oo many open files")
    _until_it_works(agent)


def test_47_no_process_can_be_started(agents: Any, kit: SimpleNamespace) -> None:
    """fork fails (EAGAIN): the command is refused in words."""
    agent = agents.start(
        ordinary_user=True,  # root has no such limit
        prepare="""
import resource, agent.runner
def limited(*arguments, spawn=agent.spawning.spawn_until_closed):
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    spawn(*arguments)
agent.spawning.spawn_until_closed = limited
""",
    )
    result = agent.run("echo hello")
    assert result.status == "failed"
    assert "Resource temporarily unavailable" in result.error
    agent.logged("Resource temporarily unavailable")
    with agent.client() as client:
        assert client.ping().rtt > 0


def test_47_no_thread_can_be_started(agents: Any, kit: SimpleNamespace) -> None:
    agent = agents.start(
        prepare="""
import threading
start, left = threading.Thread.start, [3]
def fail(thread):
    if left[0]:
        left[0] -= 1
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = fail
"""
    )
    for _ in range(3):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            kit.Peer(agent.port)
    agent.logged(r"cannot start a thread for 127\.0\.0\.1:\d+$", count=3)
    agent.works()


def test_48_no_room_for_the_log(agents: Any, kit: SimpleNamespace) -> None:
    """A log is no reason to stop working, and there is no place left to say that it is not written."""
    with open("/dev/full", "wb") as full:
        agent = agents.start(stderr=full)
    agent.works()
    with kit.Peer(agent.port) as peer:
        peer.raw(b"\0\0")
        assert peer.rest() == b""
    agent.works()


def test_48_nobody_reads_the_log(agents: Any, kit: SimpleNamespace) -> None:
    """A forgotten pipe: what does not fit is dropped, and counted for whoever comes to read."""
    reading, writing = os.pipe()
    agent = agents.start(stderr=writing)
    os.close(writing)
    line = "x" * 150
    with agent.client() as client:
        for _ in range(400):
            assert client.run(m.Run(f": {line}"), kit.Quiet(), keep=True).status == "ok"
    text = b""
    drained = threading.Event()

    def read() -> None:
        nonlocal text
        while piece := os.read(reading, 65536):
            text += piece
            drained.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert drained.wait(kit.PATIENCE)
    agent.works()
    agent.works()
    agent.stop()
    thread.join(kit.PATIENCE)
    os.close(reading)
    lines = text.decode().splitlines()
    assert [entry for entry in lines if entry.endswith(" log lines were dropped")]
    assert all(entry.startswith("fleet-agent: ") for entry in lines)


def test_48_nobody_can_read_the_log_any_more(agents: Any, kit: SimpleNamespace) -> None:
    reading, writing = os.pipe()
    agent = agents.start(stderr=writing)
    os.close(writing)
    os.close(reading)
    agent.works()


# Text from others in the log ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "true\nfleet-agent: ops from 10.0.0.1 runs"},
        {"command": "true \x1b[2J\x07"},
        {"host": "web1\r\nfleet-agent: fake"},
        {"run": "r1) \nfleet-agent: ALERT"},
        {"run": "r" * 10000},
        {"user": "nobody-here\nfleet-agent: fake\x1b]0;title\x07"},
        {"directory": "/nowhere\nfleet-agent: fake\x9b2J"},
        {"directory": "/" + "d" * 100000},
        {"user": "u" * 100000},
        {"command": ": " + "c" * 100000},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_text_of_others_stays_in_its_line(
    agents: Any, agent: Any, kit: SimpleNamespace, changes: dict[str, str]
) -> None:
    """A controller that may run commands cannot write lines of its own into the log, nor end its session by a name."""
    mark = agent.mark()
    with agent.client() as client:
        for _ in range(2):
            result = client.run(m.Run(**{"command": "true", **changes}), kit.Quiet(), keep=True)
            assert result.status in ("ok", "failed"), result
    agent.works()
    for line in agent.log(mark):
        assert line.isprintable()
        assert line.startswith("fleet-agent: ")
        assert not line.startswith(("fleet-agent: fake", "fleet-agent: ALERT"))
        assert len(line) < 4096
        assert "crashed" not in line
