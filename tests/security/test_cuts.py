"""The connection is cut, or changed, below TLS: never is that a success, and never does anybody wait for ever."""

from __future__ import annotations

import random
import ssl
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agent.tls import server_context
from agent.wire import link
from agent.wire import messages as m
from controller.errors import HostError
from controller.results import Result, Status

COMMAND = "echo out; echo err >&2; exit 3"
HEADER = 5  # bytes of a TLS record: type, version, length


class Records:
    """A change for a cutter that passes on `count` whole records of one direction, and `part` of the next."""

    def __init__(self, cutter: Any, direction: str, count: int, part: float = 0.0) -> None:
        self._cutter = cutter
        self._direction = direction
        self._left = count
        self._part = part
        self._buffer = b""
        self.lengths: list[int] = []

    def __call__(self, direction: str, data: bytes) -> bytes | None:
        if direction != self._direction:
            return data
        self._buffer += data
        passed = b""
        while len(self._buffer) >= HEADER:
            length = HEADER + int.from_bytes(self._buffer[3:5], "big")
            if self._left == 0:
                self._cutter.last = passed + self._buffer[: int(length * self._part)]
                return None
            if len(self._buffer) < length:
                break
            passed += self._buffer[:length]
            self.lengths.append(length)
            self._buffer = self._buffer[length:]
            self._left -= 1
        return passed


def outcome(agent: Any, port: int) -> Result | HostError:
    """Run the command through a cutter."""
    try:
        return agent.run(COMMAND, port, login_timeout=5.0)
    except HostError as error:
        return error


def check_whole(result: Any) -> None:
    assert (result.status, result.rc, result.stdout, result.stderr) == ("failed", 3, b"out\n", b"err\n")


def check_not_believed(result: Result | HostError) -> None:
    """Nothing of a cut run is taken for what the host said."""
    if isinstance(result, HostError):
        assert result.status in (Status.UNREACHABLE, Status.BROKEN, Status.DENIED)
    else:
        assert result.status is Status.BROKEN
        assert (result.rc, result.stdout, result.stderr) == (None, b"", b"")
        assert result.error


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("part", [0.0, 0.5], ids=["between records", "inside a record"])
def test_30_31_cut_at_every_record_of_the_agent(
    agent: Any, server: Callable[..., int], kit: SimpleNamespace, part: float, reset: bool
) -> None:
    cutter = kit.Cutter(agent.port)
    port = server(cutter)
    cutter.change = whole = Records(cutter, kit.DOWN, 1000)
    check_whole(outcome(agent, port))
    assert len(whole.lengths) > 7
    cutter.reset = reset
    for count in range(100):
        cutter.change = Records(cutter, kit.DOWN, count, part)
        result = outcome(agent, port)
        if isinstance(result, Result) and result.status is Status.FAILED:
            check_whole(result)  # the cut came behind the last record
            break
        check_not_believed(result)
    assert count > 7


@pytest.mark.parametrize("part", [0.0, 0.5], ids=["between records", "inside a record"])
def test_30_cut_at_every_record_of_the_controller(
    agent: Any, server: Callable[..., int], kit: SimpleNamespace, part: float
) -> None:
    cutter = kit.Cutter(agent.port)
    port = server(cutter)
    for count in range(100):
        cutter.change = Records(cutter, kit.UP, count, part)
        result = outcome(agent, port)
        if isinstance(result, Result) and result.status is Status.FAILED:
            check_whole(result)
            break
        check_not_believed(result)
    assert count > 4


OUTPUT = [
    m.Stdout(b"out\n"),
    m.Stream.STDOUT,  # its end
    m.Stderr(b"err\n"),
    m.Stream.STDERR,
    m.Exit(3),
]


@pytest.mark.parametrize("goodbye", [False, True], ids=["cut", "tls says goodbye"])
def test_30_cut_at_every_frame(agent: Any, server: Callable[..., int], kit: SimpleNamespace, goodbye: bool) -> None:
    """An agent that has proven itself dies between two messages, or in one. Each frame is a TLS record of its own."""
    cut = [0, 0]

    def script(false: Any) -> None:
        assert isinstance(false.event(), m.Run)
        for message in OUTPUT[: cut[0]]:
            false.send(false.connection.end_of(message) if isinstance(message, m.Stream) else message)
        if cut[1]:
            false.raw(false.connection.send(m.Ping())[: cut[1]])
        if goodbye:
            false.tls.setblocking(False)
            try:
                false.tls.unwrap()
            except ssl.SSLError:
                pass

    port = server(kit.FalseAgent(agent.keys, script, server_context()[0]))
    for frames in range(len(OUTPUT)):
        for inside in (0, 5, 10):
            cut[:] = [frames, inside]
            check_not_believed(outcome(agent, port))
    cut[:] = [len(OUTPUT), 0]
    check_whole(outcome(agent, port))


def test_30_a_request_that_was_cut_is_not_run(
    agent: Any, server: Callable[..., int], kit: SimpleNamespace, tmp_path: Any
) -> None:
    """Half of a long request has come when the connection ends: nothing is started."""
    cutter = kit.Cutter(agent.port)
    port = server(cutter)
    mark = agent.mark()
    with agent.client(port) as client:
        cutter.change = Records(cutter, kit.UP, 1)
        command = f"touch {tmp_path}/made; : {'x' * 40000}"
        assert client.run(m.Run(command), kit.Quiet(), keep=True).status is Status.BROKEN
    agent.works()
    assert not (tmp_path / "made").exists()
    assert not [line for line in agent.log(mark) if "touch" in line]


class Flip:
    """A change for a cutter that flips one bit, and counts what passes."""

    def __init__(self, direction: str, bit: int) -> None:
        self._direction = direction
        self._bit = bit
        self.passed: Counter[str] = Counter()

    def __call__(self, direction: str, data: bytes) -> bytes:
        start = self.passed[direction]
        self.passed[direction] += len(data)
        position = self._bit // 8 - start
        if direction != self._direction or not 0 <= position < len(data):
            return data
        changed = bytearray(data)
        changed[position] ^= 1 << self._bit % 8
        return bytes(changed)


def test_every_flipped_bit_is_noticed(
    agents: Any, server: Callable[..., int], kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 bits of a session, all over it. A flip in the length of a record makes one side wait for bytes that never
    come: the pings, which are quick here, end that."""
    monkeypatch.setattr(link, "PING_AFTER", 0.3)
    monkeypatch.setattr(link, "DEAD_AFTER", 0.9)
    agent = agents.start()
    cutter = kit.Cutter(agent.port)
    port = server(cutter)
    cutter.change = count = Flip(kit.UP, 10**9)
    check_whole(outcome(agent, port))
    dice = random.Random(7)
    seen: Counter[str] = Counter()
    for number in range(400):
        direction = (kit.UP, kit.DOWN)[number % 2]
        cutter.change = Flip(direction, dice.randrange(8 * (count.passed[direction] - 8)))
        try:
            result = agent.run(COMMAND, port, login_timeout=1.0)
        except HostError as error:
            seen[error.status] += 1
            continue
        seen[result.status] += 1
        if result.status is Status.FAILED:
            check_whole(result)  # the bit meant nothing: the version in the head of a record, say
        else:
            check_not_believed(result)
    print(dict(seen))
    assert seen[Status.UNREACHABLE] + seen[Status.BROKEN] > 350
    assert seen[Status.OK] == 0
    assert not [line for line in agent.log() if "crashed" in line]
    agent.works()
