"""PROTOCOL.md says what the code does: its tables, field lists and numbers are compared, its session is replayed."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

import agent.wire
from agent.wire import constants
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.codec import DATA, FRAME_TYPES, LIMITS
from agent.wire.connection import NEED_DATA, TABLE, Connection, Role, State
from agent.wire.errors import RemoteProtocolError

DOCUMENT = (Path(agent.wire.__file__).parent / "PROTOCOL.md").read_text(encoding="ascii")
PAYLOADS = {**dict.fromkeys(DATA, "bytes"), f.Whole: "binary"}  # all others are JSON
RECORDS = (f.Entry, f.Want, f.Outcome)
CODES = {kind: code for code, kind in FRAME_TYPES.items()}

Line = tuple[Role, str, bytes]


def rows(header: str, text: str = DOCUMENT) -> list[list[str]]:
    """Return the cells of the first table with that header."""
    lines = text[text.index(header) :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


# Tables ------------------------------------------------------------------------------------------------------------


def what_may_be_said(role: Role, state: State) -> str:
    """Return a cell of the state table."""
    words = [
        kind.__name__ if after is state else f"{kind.__name__} -> {after.value}"
        for kind, after in TABLE[role][state].items()
    ]
    return ", ".join(words) or "nothing"


def test_the_state_table() -> None:
    expected = [
        [state.value, what_may_be_said(Role.CONTROLLER, state), what_may_be_said(Role.AGENT, state)] for state in State
    ]
    assert rows("| state | the controller may send | the agent may send |") == expected


def test_the_frame_types() -> None:
    def senders(kind: type[m.Message]) -> str:
        names = [role.value for role in Role if any(kind in kinds for kinds in TABLE[role].values())]
        return "both" if len(names) == 2 else names[0]

    expected = [
        [f"{code:#04x}", kind.__name__, senders(kind), PAYLOADS.get(kind, "JSON"), str(LIMITS[kind])]
        for code, kind in FRAME_TYPES.items()
    ]
    assert rows("| type | message | sent by | payload | at most |") == expected


def shown(value: object) -> str:
    """Return a constant as the table of limits has it."""
    if isinstance(value, bytes):
        return value.decode("ascii")
    if isinstance(value, tuple):
        return f"{value[0]} to {value[1]}"
    return f"{value:g} s" if isinstance(value, float) else str(value)


def test_the_limits() -> None:
    expected = {name: shown(value) for name, value in vars(constants).items() if name.isupper()}
    assert {row[0].strip("`"): row[1] for row in rows("| name | value | what |")} == expected


TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "Mapping[str, str]": "object of strings",
    "Stream": "stream",
    "Reason": "reason",
    "Kind": "kind",
    "FileStatus": "file status",
    "tuple[str, ...]": "array of strings",
    "tuple[int, ...]": "array of integers",
    "tuple[Entry, ...]": "array of entries",
    "tuple[Want, ...]": "array of wants",
    "tuple[Outcome, ...]": "array of outcomes",
}


def described(field: Field[Any]) -> list[str]:
    """Return name, type and default of a field as the field lists have them."""
    plain, _, optional = str(field.type).partition(" | ")
    kind = TYPES[plain] + (" or null" if optional else "")
    if field.default_factory is not MISSING:
        return [f"`{field.name}`", kind, json.dumps(field.default_factory())]
    return [f"`{field.name}`", kind, "required" if field.default is MISSING else json.dumps(field.default)]


@pytest.mark.parametrize("kind", (*FRAME_TYPES.values(), *RECORDS), ids=lambda kind: kind.__name__)
def test_the_field_lists(kind: type[m.Message]) -> None:
    section = DOCUMENT.split(f"\n### {kind.__name__}\n", 1)[1].split("\n## ")[0].split("\n### ")[0]
    expected = [] if kind in PAYLOADS else [described(field) for field in fields(kind)]
    found = [row[:3] for row in rows("| key | type | default | meaning |", section)] if "| key |" in section else []
    assert found == expected


def test_every_stream_and_reason_is_named() -> None:
    for word in (*m.Stream, *m.Reason, *f.Kind, *f.FileStatus):
        assert f'"{word}"' in DOCUMENT


# The session -------------------------------------------------------------------------------------------------------


def session() -> list[Line]:
    """Return (who speaks, the message's name, its bytes) for each message of the document's session."""
    (block,) = re.findall(r"^```session\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    lines: list[Line] = []
    for line in block.splitlines():
        if line.startswith("    "):
            role, name, data = lines[-1]
            lines[-1] = role, name, data + bytes.fromhex(line)
        else:
            role, name = line.split()
            lines.append((Role(role), name, b""))
    return lines


SESSION = session()


def test_the_session_shows_all_of_a_command() -> None:
    names = [name for _, name, _ in SESSION]
    assert names[:5] == ["Hello", "Challenge", "Proof", "Welcome", "Run"]
    assert names[-1] == "Exit"
    assert {"Stdin", "Window", "Stdout", "Stderr", "Ping", "Pong"} < set(names)
    assert names.count("EndOfStream") == 3


def replay(feed: Callable[[Connection, bytes], None]) -> Iterator[m.Message]:
    """Let each role in turn hear the other's bytes, as `feed` gives them, and say itself what it is said to say."""
    ends = {role: Connection(role) for role in Role}
    for role, name, data in SESSION:
        listener = ends[role.peer]
        feed(listener, data)
        message = listener.next_event()
        assert type(message).__name__ == name
        assert not isinstance(message, type(NEED_DATA))
        assert ends[role].send(message) == data  # type: ignore[arg-type]
        assert ends[role].state is listener.state
        yield message  # type: ignore[misc]
    assert ends[Role.AGENT].state is State.READY


def whole(connection: Connection, data: bytes) -> None:
    connection.receive(data)


def byte_by_byte(connection: Connection, data: bytes) -> None:
    for place in range(len(data) - 1):
        connection.receive(data[place : place + 1])
        assert connection.next_event() is NEED_DATA
    connection.receive(data[-1:])


@pytest.mark.parametrize("feed", [whole, byte_by_byte])
def test_replay(feed: Callable[[Connection, bytes], None]) -> None:
    assert [type(message).__name__ for message in replay(feed)] == [name for _, name, _ in SESSION]


@pytest.mark.parametrize("position", range(len(SESSION)), ids=[f"{n}-{line[1]}" for n, line in enumerate(SESSION)])
def test_replay_with_trailing_bytes(position: int) -> None:
    """The same message comes when more lies behind it; in the login, where it is our turn then, that is refused."""
    place = iter(range(len(SESSION)))

    def feed(connection: Connection, data: bytes) -> None:
        connection.receive(data + data[:8] if next(place) == position else data)

    messages = replay(feed)
    for _ in range(position):
        next(messages)
    name = SESSION[position][1]
    if name in ("Hello", "Challenge", "Proof"):
        with pytest.raises(RemoteProtocolError, match=r"^the peer spoke in state \w+, when it was our turn$"):
            next(messages)
    else:
        assert type(next(messages)).__name__ == name


# A second implementation, written from the document alone: it uses nothing of agent.wire ---------------------------


def mac(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def test_the_login_of_the_session_by_hand() -> None:
    bodies = [data[2:] for _, _, data in SESSION[:4]]
    for (_, _, data), body in zip(SESSION, bodies, strict=False):
        assert struct.unpack_from(">H", data) == (len(body),)
    hello, challenge, proof, verdict = bodies
    assert hello == b"FLTH" + struct.pack(">HHII", 1, 1, 0, 1) + b"\xaa" * 32 + b"\x11" * 16 + b"\x03ops"
    assert challenge == b"FLTC" + struct.pack(">HI", 1, 0) + b"\xbb" * 32

    base = mac(bytes(range(32)), b"fleet/1 host key\0" + b"\x03ops" + b"\x11" * 16 + struct.pack(">I", 1))
    client_key, server_key = mac(base, b"fleet/1 client key"), mac(base, b"fleet/1 server key")
    stored_key = sha(client_key)
    binding = sha(b"fleet/1 channel binding\0" + sha(b"CERT") + b"\x30" + b"\xcc" * 48)
    transcript = sha(
        b"fleet/1 transcript\0" + struct.pack(">I", 68) + hello + struct.pack(">I", 42) + challenge + binding
    )
    mask = mac(stored_key, b"fleet/1 client proof\0" + transcript)
    assert proof == binding + xor(client_key, mask)
    assert sha(xor(proof[32:], mask)) == stored_key
    server_label = b"fleet/1 server proof\0" + transcript + proof[32:]
    assert verdict[:33] == b"\0" + mac(server_key, server_label + sha(verdict[33:]))
    assert json.loads(verdict[33:])["permissions"] == ["run"]

    for name, value in (("StoredKey", stored_key), ("cb", binding), ("T", transcript), ("proof", proof[32:])):
        assert re.search(rf"^    {name} +{value.hex()}$", DOCUMENT, re.MULTILINE)
    assert f"\n    {mac(server_key, server_label + sha(b'')).hex()}\n" in DOCUMENT


def test_the_frames_of_the_session_by_hand() -> None:
    types = {row[1]: int(row[0], 16) for row in rows("| type | message | sent by | payload | at most |")}
    streams = {"Stdin": b"", "Stdout": b"", "Stderr": b""}
    ended = set()
    for _, name, data in SESSION[4:]:
        length, code, checksum = struct.unpack(">IBI", data[:9])
        payload = data[9:]
        assert length == len(payload)
        assert code == types[name]
        assert checksum == zlib.crc32(data[4:5] + payload)
        if name in streams:
            streams[name] += payload
        elif name == "EndOfStream":
            end = json.loads(payload)
            content = streams[end["stream"].capitalize()]
            assert (end["bytes"], end["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
            ended.add(end["stream"])
        elif name == "Exit":
            assert ended == {"stdin", "stdout", "stderr"}
            assert json.loads(payload)["code"] == 3
    assert streams == {"Stdin": b"hello\n", "Stdout": b"hello\n", "Stderr": b"oops\n"}
