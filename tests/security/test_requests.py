"""Controllers that have logged in and then send what they should not, or do not read what they get."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agent.wire import messages as m

MIB = 1024 * 1024

PING, RUN, STDIN, STDOUT, EXIT, END = 0x01, 0x10, 0x11, 0x20, 0x22, 0x30


def frame(code: int, payload: bytes, *, length: int | None = None, checksum: int | None = None) -> bytes:
    length = len(payload) if length is None else length
    checksum = zlib.crc32(bytes([code]) + payload) if checksum is None else checksum
    return struct.pack(">IBI", length, code, checksum) + payload


def check_closed(agent: Any, controller: Any, data: bytes, reason: str) -> None:
    mark = agent.mark()
    controller.raw(data)
    controller.rest()
    (line,) = agent.logged("broke the protocol", since=mark)
    assert line.partition(" broke the protocol: ")[2] == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(PING, b"", length=2**32 - 1), "frame of 4294967295 bytes, expected no more than 16384"),
        (frame(RUN, b"", length=MIB + 1), "frame of 1048577 bytes, expected no more than 1048576"),
        (frame(PING, b"{}", checksum=1), "wrong checksum on a frame of type 0x01"),
        (frame(0x7F, b"{}"), "unknown frame type 0x7f"),
        (frame(0x00, b""), "unknown frame type 0x00"),
        (frame(STDOUT, b"x"), "controller may not send Stdout in state ready"),
        (frame(EXIT, b"{}"), "controller may not send Exit in state ready"),
    ],
)
def test_21_22_frames_that_are_none(agent: Any, controller: Any, data: bytes, reason: str) -> None:
    check_closed(agent, controller, data, reason)


def test_21_a_length_that_is_too_long_takes_no_memory(agent: Any, kit: SimpleNamespace) -> None:
    before = agent.resident()
    for _ in range(20):
        with kit.Peer(agent.port) as peer:
            peer.log_in(agent.keys)
            peer.raw(frame(RUN, bytes(1000), length=2**31))
            peer.rest()
    assert agent.resident() - before < 4 * MIB


NESTED = b'{"token":' + b"[" * 16000
JSON = [
    (b"", "not JSON: Expecting value"),
    (b"[]", "not a JSON object"),
    (b"{", "not JSON: Expecting property name enclosed in double quotes"),
    (b'{"token":1}{}', "not JSON: Extra data"),
    (b'{"token":1,"token":1}', "duplicate key"),
    (b'{"token":NaN}', "NaN is not a number"),
    (b'{"token":-Infinity}', "-Infinity is not a number"),
    (b'{"token":' + b"9" * 5000 + b"}", "integer of 5000 digits, expected no more than 20"),
    (b'{"token":true}', "'token' is not an integer"),
    (b'{"token":"1"}', "'token' is not an integer"),
    (b'{"token":-1}', "token -1 out of range"),
    (b'{"token":1e999}', "'token' is not an integer"),
    (b"\xff\xfe", "not UTF-8"),
    (NESTED, "JSON nested too deep"),
    (NESTED[:9] + b'{"a":' * 3000, "JSON nested too deep"),
]


@pytest.mark.parametrize(("payload", "reason"), JSON, ids=[reason for _, reason in JSON[:-1]] + ["nested objects"])
def test_24_json_that_is_none(agent: Any, controller: Any, payload: bytes, reason: str) -> None:
    mark = agent.mark()
    controller.raw(frame(PING, payload))
    controller.rest()
    (line,) = agent.logged("broke the protocol", since=mark)
    said = line.partition(" broke the protocol: ")[2]
    # How deep is too deep is the interpreter's affair: another one finds that the end is missing.
    assert said.startswith(
        (reason.partition(": ")[0], "not JSON") if payload.count(b"{") > 1000 else reason.partition(": ")[0]
    )


RUNS = [
    (b"{}", "no 'command'"),
    (b'{"command":7}', "'command' is not a string"),
    (b'{"command":""}', "empty command"),
    (b'{"command":" \\n"}', "empty command"),
    (b'{"command":"a\\u0000b"}', "NUL in the command"),
    (b'{"command":"\\ud800"}', "lone surrogate in 'command'"),
    (b'{"command":"true","timeout":0}', "timeout of 0.0 seconds"),
    (b'{"command":"true","timeout":-1}', "timeout of -1.0 seconds"),
    (b'{"command":"true","timeout":1e999}', "'timeout' is too large"),
    (b'{"command":"true","max_output":-1}', "output limit of -1 bytes"),
    (b'{"command":"true","environment":{"A=B":""}}', "not a name of an environment variable: 'A=B'"),
    (b'{"command":"true","environment":{"A":1}}', "'environment' is not a string"),
    (b'{"command":"true","environment":[]}', "'environment' is not an object"),
    (b'{"command":"true","stdin":1}', "'stdin' is not a boolean"),
    (b'{"command":"true","user":"a\\u0000"}', "NUL in a name"),
    (b"[" * 1000000, "JSON nested too deep"),
]


@pytest.mark.parametrize(("payload", "reason"), RUNS, ids=[reason for _, reason in RUNS])
def test_24_25_requests_that_are_none(agent: Any, controller: Any, payload: bytes, reason: str) -> None:
    check_closed(agent, controller, frame(RUN, payload), reason)


def test_24_keys_that_nobody_knows_change_nothing(agent: Any, controller: Any) -> None:
    """A later controller may say more; nothing of it is taken for an attribute of ours."""
    values = {"token": 7, "__class__": "Run", "_private": 1, "__init__": None, "command": "touch /"}
    controller.raw(frame(PING, json.dumps(values).encode()))
    pong = controller.event()
    assert isinstance(pong, m.Pong)
    assert pong.token == 7


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(RUN, b'{"command":"true"}'), "controller may not send Run in state running"),
        (frame(STDIN, b"x"), "data on stdin, which is not open"),
        (
            frame(END, json.dumps({"stream": "stdout", "bytes": 0, "sha256": "0" * 64, "total": 0}).encode()),
            "controller may not end stdout",
        ),
        (frame(PING, b"{}", checksum=7), "wrong checksum on a frame of type 0x01"),
    ],
)
def test_22_23_wrong_frame_while_a_command_runs_kills_it(
    agent: Any, controller: Any, marker: Any, data: bytes, reason: str
) -> None:
    controller.send(m.Run(f"{marker.open} echo >&9; setsid sleep 1000 & sleep 1000"))
    marker.wait_for_lines(1)
    check_closed(agent, controller, data, reason)
    assert marker.seconds_to_death() < 5


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (m.EndOfStream(m.Stream.STDIN, 2, "0" * 64, 2), "stdin ended after 1 bytes, expected 2"),
        (m.EndOfStream(m.Stream.STDIN, 1, "0" * 64, 1), "wrong checksum on stdin"),
    ],
)
def test_22_stdin_that_does_not_add_up(agent: Any, controller: Any, end: m.EndOfStream, reason: str) -> None:
    controller.send(m.Run("cat", stdin=True), m.Stdin(b"x"))
    from agent.wire.codec import encode_payload

    check_closed(agent, controller, frame(END, encode_payload(end)), reason)


def test_22_more_stdin_than_there_is_room_for(agent: Any, controller: Any) -> None:
    """Else a command that does not read would fill the agent's memory."""
    controller.send(m.Run("exec sleep 1000", stdin=True))
    mark = agent.mark()
    # One MiB goes into the pipe, and then as much may wait.
    with pytest.raises(OSError):
        for _ in range(64):
            controller.raw(frame(STDIN, bytes(256 * 1024)))
        controller.rest()
        raise ConnectionResetError
    agent.logged("broke the protocol: 262144 bytes of stdin with a window of", since=mark)


# Permissions ------------------------------------------------------------------------------------------------------


def test_26_run_without_the_permission(agents: Any, kit: SimpleNamespace) -> None:
    agent = agents.start(settings='[controllers.ops]\npermissions = ["pull"]\n')
    result = agent.run("touch /tmp/never")
    assert (result.status, result.error) == ("denied", "controller ops may not run commands on this host")
    agent.logged(r"ops from 127\.0\.0\.1 may not run commands here: refused 'touch /tmp/never'$")
    with agent.client() as client:  # which lives on
        assert client.run(m.Run("true"), kit.Quiet(), keep=True).status == "denied"
        assert client.ping().rtt > 0


def test_26_login_from_a_network_that_is_not_allowed(agents: Any, kit: SimpleNamespace) -> None:
    """The source is the socket's, and the answer that of a wrong key."""
    agent = agents.start(settings='[controllers.ops]\nfrom = ["127.0.0.2/32"]\n')
    with kit.Peer(agent.port) as peer:
        peer.begin(agent.keys)
        peer.send(peer.proof(agent.keys))
        assert peer.rest() == b"\x00\x01\x01"
    with kit.Peer(agent.port, source="127.0.0.2") as peer:
        peer.log_in(agent.keys)


# Too much, too fast, and nobody who reads -------------------------------------------------------------------------


def test_28_a_burst_of_pings(agent: Any, controller: Any) -> None:
    count = 10_000
    controller.raw(b"".join(frame(PING, b'{"token":%d}' % number) for number in range(count)))
    for number in range(count):
        pong = controller.event()
        assert isinstance(pong, m.Pong)
        assert pong.token == number


def pings(controller: Any, size: int) -> bytes:
    return frame(PING, b"{}") * (size // 11)


def refused_requests(controller: Any, size: int) -> bytes:
    return frame(RUN, b'{"command":"true"}') * (size // 27)


@pytest.mark.parametrize("what", [pings, refused_requests])
def test_28_questions_without_end_whose_answers_nobody_reads(
    agents: Any, kit: SimpleNamespace, what: Callable[[Any, int], bytes]
) -> None:
    """Each question has an answer, and the answers would pile up in the agent: it ends the connection."""
    agent = agents.start(settings='[controllers.ops]\npermissions = ["pull"]\n')
    agent.works = lambda: agent.client().close()
    before = agent.resident()
    with kit.Peer(agent.port) as peer:
        peer.log_in(agent.keys)
        piece = what(peer, 4 * MIB)
        with pytest.raises(OSError):
            for _ in range(16):
                peer.raw(piece)
        agent.logged("the peer goes on asking and does not read the answers$")
    assert agent.resident() - before < 10 * MIB
    agent.works()


def test_29_command_whose_output_nobody_reads(agents: Any, kit: SimpleNamespace, tmp_path: Any) -> None:
    """`yes` stops in the middle of a write, and the agent's memory stays as it was."""
    agent = agents.start()
    before = agent.resident()
    with kit.Peer(agent.port) as peer:
        peer.log_in(agent.keys)
        # The command tells by a file how far it has come: it is stuck when that no longer grows.
        progress = tmp_path / "progress"
        peer.send(m.Run(f"exec dd if=/dev/zero bs=64k status=none 2>/dev/null | tee {progress} 2>/dev/null"))
        grown = wait_until_stuck(agent, progress)
        assert grown > MIB
        print(
            f"agent grew by {(agent.resident() - before) / MIB:.1f} MiB, the command got rid of {grown / MIB:.1f} MiB"
        )
        assert agent.resident() - before < 10 * MIB
        # It is still there, hears the controller, and kills the command when told.
        agent.works()
        peer.send(m.Cancel())
        while not isinstance(event := peer.event(), m.Exit):
            pass
        assert event.reason is m.Reason.CANCELLED


def wait_until_stuck(agent: Any, progress: Any) -> int:
    """Wait until a file no longer grows: the time that several logins take has passed without a byte."""
    size = -1
    while not progress.exists() or (now := progress.stat().st_size) != size or size < 1:
        size = now if progress.exists() else -1
        for _ in range(5):
            agent.works()
    return size


def test_29_a_write_that_stays_stuck_ends_the_session(agents: Any, kit: SimpleNamespace, marker: Any) -> None:
    agent = agents.start(prepare="import agent.wire.link; agent.wire.link.STUCK_AFTER = 0.5")
    with kit.Peer(agent.port) as peer:
        peer.log_in(agent.keys)
        peer.send(m.Run(f"{marker.open} yes"))
        agent.logged(r"lost the connection to 127\.0\.0\.1:\d+: the peer has taken nothing for \d s$")
        assert marker.seconds_to_death() < 5
    agent.works()


def test_29_a_half_open_connection_holds_no_job(agents: Any, kit: SimpleNamespace, marker: Any) -> None:
    """The peer's machine is gone without a word: nothing ever comes, not even a FIN."""
    agent = agents.start(
        prepare="import agent.wire.link as link; link.PING_AFTER = 0.2; link.DEAD_AFTER = 0.6",
    )
    with kit.Peer(agent.port) as peer:
        peer.log_in(agent.keys)
        peer.send(m.Run(f"{marker.open} echo >&9; exec sleep 1000"))
        marker.wait_for_lines(1)
        assert isinstance(peer.event(), m.Ping)
        agent.logged(r"lost the connection to 127\.0\.0\.1:\d+: no sign of life for 1 s$")
        assert marker.seconds_to_death() < 5
    agent.works()


def test_orderly_end_is_no_event(agent: Any, kit: SimpleNamespace) -> None:
    """A controller that has nothing more to ask leaves, with TLS's goodbye or without, and no line is spent on it."""
    mark = agent.mark()
    with kit.Peer(agent.port) as peer:
        peer.log_in(agent.keys)
        with pytest.raises(OSError):
            peer.tls.unwrap()
    with kit.Peer(agent.port) as peer:
        peer.log_in(agent.keys)
    agent.works()
    assert not [line for line in agent.log(mark) if "lost" in line or "broke" in line]
