"""Exact bytes of every message, and everything hostile that a peer may put into a body."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import fields
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire import codec
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.codec import decode_handshake, decode_json, decode_payload, encode_handshake, encode_payload
from agent.wire.messages import Message

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HELLO = (
    b"FLTH\x00\x01\x00\x02\x00\x00\x00\x05\x00\x00\x00\x07" + b"\xaa" * 32 + b"\x11" * 16 + b"\x03ops"
)  # magic, versions 1 to 2, features 5, epoch 7, nonce, host id, name

LOGIN_VECTORS: list[tuple[type[Message], Message, bytes]] = [
    (m.Hello, m.Hello("ops", b"\x11" * 16, 7, b"\xaa" * 32, 1, 2, 5), HELLO),
    (m.Challenge, m.Challenge(2, 5, b"\xbb" * 32), b"FLTC\x00\x02\x00\x00\x00\x05" + b"\xbb" * 32),
    (m.Proof, m.Proof(b"\x01" * 32, b"\x02" * 32), b"\x01" * 32 + b"\x02" * 32),
    (m.Welcome, m.Refusal(), b"\x01"),
    (m.Welcome, m.Welcome(b"\x03" * 32, b""), b"\x00" + b"\x03" * 32),
    (m.Welcome, m.Welcome(b"\x03" * 32, b'{"a":1}'), b"\x00" + b"\x03" * 32 + b'{"a":1}'),
]

VECTORS: list[tuple[Message, bytes]] = [
    (m.Ping(7), b'{"token":7}'),
    (m.Pong(7, 1.5), b'{"token":7,"time":1.5}'),
    (m.Goodbye("stopping", "bye"), b'{"code":"stopping","text":"bye"}'),
    (m.Error("refused", "no such user"), b'{"code":"refused","text":"no such user"}'),
    (
        m.Run("true"),
        b'{"command":"true","host":"","run":"","environment":{},"directory":null,"user":null,"timeout":null,'
        b'"max_output":null,"stdin":false,"shell":null,"script":false,"arguments":[],"terminal":null,"rows":0,"columns":0}',
    ),
    (
        m.Run(
            "echo \udcff\n",
            "web1",
            "r1",
            {"A": "b"},
            "/tmp",
            "www",
            2.5,
            10,
            True,
            None,
            True,
            ("-v",),
            "xterm",
            24,
            80,
        ),
        b'{"command":"echo \\udcff\\n","host":"web1","run":"r1","environment":{"A":"b"},"directory":"/tmp",'
        b'"user":"www","timeout":2.5,"max_output":10,"stdin":true,"shell":null,"script":true,"arguments":["-v"],'
        b'"terminal":"xterm","rows":24,"columns":80}',
    ),
    (m.Cancel(), b"{}"),
    (
        m.Exit(3, elapsed=0.25),
        b'{"code":3,"signal":null,"reason":"exit","elapsed":0.25,"held":false,"error":null}',
    ),
    (
        m.Exit(None, 9, m.Reason.TIMEOUT, 1.0, True),
        b'{"code":null,"signal":9,"reason":"timeout","elapsed":1.0,"held":true,"error":null}',
    ),
    (m.Window(65536), b'{"bytes":65536}'),
    (
        m.EndOfStream(m.Stream.STDERR, 0, EMPTY, 5),
        b'{"stream":"stderr","bytes":0,"sha256":"' + EMPTY.encode() + b'","total":5}',
    ),
    (m.Stdin(b"\0\xff"), b"\0\xff"),
    (m.Script(b"#!/bin/sh\n"), b"#!/bin/sh\n"),
    (m.Resize(24, 80), b'{"rows":24,"columns":80}'),
    (m.Stdout(b"out\n"), b"out\n"),
    (m.Stderr(b"{}"), b"{}"),
    (
        f.Push("/etc/", several=True, mode=0o640, owner="www", backup="~", exclude=("*.o", "/tmp/")),
        b'{"destination":"/etc/","host":"","run":"","several":true,"mode":416,"owner":"www","group":null,'
        b'"preserve":false,"backup":"~","check":false,"diff":false,"validate":null,"delete":false,'
        b'"exclude":["*.o","/tmp/"],"quick":false}',
    ),
    (
        f.Pull(("/var/log/*.log", "\udcff"), follow=True, max_files=5),
        b'{"paths":["/var/log/*.log","\\udcff"],"host":"","run":"","follow":true,"exclude":[],"max_size":null,'
        b'"max_files":5}',
    ),
    (f.Rollback("r1"), b'{"target":"r1","host":"","run":"","ask":false}'),
    (
        f.Entries(
            (
                f.Entry("a", f.Kind.DIRECTORY, 0o755),
                f.Entry("a/b", f.Kind.FILE, 0o644, 5, -1),
                f.Entry("a/c", f.Kind.SYMLINK, target="b"),
                f.Entry("a", f.Kind.LEAVE, complete=False),
            ),
            last=True,
        ),
        b'{"entries":[{"path":"a","kind":"directory","mode":493},{"path":"a/b","kind":"file","mode":420,"size":5,'
        b'"mtime":-1},{"path":"a/c","kind":"symlink","target":"b"},{"path":"a","kind":"leave","complete":false}],'
        b'"last":true}',
    ),
    (f.Open(3, 4, 5), b'{"index":3,"offset":4,"size":5}'),
    (f.Data(b"data"), b"data"),
    (f.Hole(4096), b'{"length":4096}'),
    (f.Close(5, EMPTY), b'{"size":5,"sha256":"' + EMPTY.encode() + b'"}'),
    (f.Whole(3, EMPTY, b"data"), bytes(7) + b"\x03" + bytes.fromhex(EMPTY) + b"data"),
    (f.Same((1, 2)), b'{"indexes":[1,2]}'),
    (f.Gone(1, "gone"), b'{"index":1,"error":"gone"}'),
    (
        f.Wants((f.Want(0), f.Want(1, EMPTY, 7, EMPTY))),
        b'{"wants":[{"index":0},{"index":1,"whole":"'
        + EMPTY.encode()
        + b'","offset":7,"prefix":"'
        + EMPTY.encode()
        + b'"}]}',
    ),
    (f.Old(1, 5, EMPTY, True), b'{"index":1,"size":5,"sha256":"' + EMPTY.encode() + b'","content":true}'),
    (
        f.Outcomes((f.Outcome("/a", f.FileStatus.FAILED, 1, error="no"), f.Outcome("/b", f.FileStatus.DELETED))),
        b'{"outcomes":[{"path":"/a","status":"failed","index":1,"error":"no"},{"path":"/b","status":"deleted"}],'
        b'"settled":false}',
    ),
    (f.Rollback("?", ask=True), b'{"target":"?","host":"","run":"","ask":true}'),
    (f.Done("r1"), b'{"last":"r1"}'),
]

CONTROL = [kind for kind in codec.FRAME_TYPES.values() if kind not in (*codec.DATA, f.Whole)]


def payload_of(message: Message, **changed: object) -> bytes:
    """Return the JSON of `message` with some keys changed."""
    return json.dumps({**json.loads(encode_payload(message)), **changed}).encode()


def check_error(kind: type[Message], payload: bytes, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        decode_payload(kind, payload)
    assert str(caught.value) == text


# The login ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expected", "message", "body"), LOGIN_VECTORS)
def test_login_vectors(expected: type[Message], message: Message, body: bytes) -> None:
    assert encode_handshake(message) == body
    assert decode_handshake(expected, body) == message


@pytest.mark.parametrize("kind", [m.Hello, m.Challenge, m.Proof, m.Welcome], ids=lambda kind: kind.__name__)
def test_a_body_cut_short_or_drawn_out(kind: type[Message]) -> None:
    body = next(body for expected, _, body in LOGIN_VECTORS if expected is kind and len(body) > 1)
    shortest = {m.Hello: "not a fleet hello", m.Challenge: "not a fleet challenge"}
    for length in range(len(body)):
        with pytest.raises(ValueError) as caught:
            decode_handshake(kind, body[:length])
        text = shortest.get(kind)
        if kind is m.Hello and length >= 66:
            text = "malformed controller name"
        elif kind is m.Proof:
            text = f"proof of {length} bytes"
        elif kind is m.Welcome:
            text = f"proof of {length - 1} bytes" if length else "malformed verdict"
        assert str(caught.value) == text


def test_a_hello_with_leftover_bytes() -> None:
    with pytest.raises(ValueError, match=r"^malformed controller name$"):
        decode_handshake(m.Hello, HELLO + b"x")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"GET / HTTP/1.1\r\nHost: web1\r\n\r\n".ljust(80), "not a fleet hello"),
        (b"SSH-2.0-OpenSSH_9.6\r\n".ljust(80), "not a fleet hello"),
        (b"FLTC" + HELLO[4:], "not a fleet hello"),
        (HELLO[:-4] + b"\x41" + b"a" * 65, "not a fleet hello"),  # 130 bytes
        (HELLO[:-4] + b"\x40" + b"a" * 63, "malformed controller name"),
        (HELLO[:-4] + b"\x00", "not a fleet hello"),  # 65 bytes
        (HELLO[:-4] + b"\x00" + b"a", "malformed controller name"),
        (HELLO[:-3] + b"OPS", "malformed controller name"),
        (HELLO[:-3] + b"o\0s", "malformed controller name"),
        (HELLO[:-3] + b"op\n", "malformed controller name"),
        (HELLO[:-3] + b"../", "malformed controller name"),
        (HELLO[:-3] + b"o\xc3\xb6", "malformed controller name"),
        (HELLO[:-3] + b"o\xff\xfe", "malformed controller name"),
        (HELLO[:4] + b"\x00\x03\x00\x02" + HELLO[8:], "impossible versions 3 to 2"),
        (HELLO[:4] + b"\x00\x00\x00\x00" + HELLO[8:], "impossible versions 0 to 0"),
    ],
)
def test_hostile_hellos(body: bytes, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        decode_handshake(m.Hello, body)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (m.Challenge, b"FLTC" + bytes(39), "not a fleet challenge"),
        (m.Challenge, b"FLTH" + bytes(38), "not a fleet challenge"),
        (m.Challenge, b"FLTC" + bytes(38), "version 0 out of range"),
        (m.Proof, bytes(65), "proof of 65 bytes"),
        (m.Welcome, b"\x02" + bytes(32), "malformed verdict"),
        (m.Welcome, b"\x01\x01", "malformed verdict"),
        (m.Welcome, b"\x00", "proof of 0 bytes"),
    ],
)
def test_hostile_answers(kind: type[Message], body: bytes, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        decode_handshake(kind, body)
    assert str(caught.value) == text


def test_a_frames_message_is_none_of_the_login() -> None:
    with pytest.raises(ValueError, match=r"^Run is no message of the login$"):
        encode_handshake(m.Run("true"))


def test_the_longest_info() -> None:
    welcome = m.Welcome(bytes(32), b"x" * 991)
    assert len(encode_handshake(welcome)) == 1024
    with pytest.raises(ValueError, match=r"^info of 992 bytes$"):
        encode_handshake(m.Welcome(bytes(32), b"x" * 992))


# Payloads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("message", "payload"), VECTORS, ids=lambda value: type(value).__name__)
def test_vectors(message: Message, payload: bytes) -> None:
    assert encode_payload(message) == payload
    decoded = decode_payload(type(message), payload)
    assert decoded == message
    assert type(decoded) is type(message)


def test_there_is_a_vector_of_every_type() -> None:
    assert {type(message) for message, _ in VECTORS} == set(codec.FRAME_TYPES.values())


def test_a_whole_file_that_is_cut() -> None:
    payload = encode_payload(f.Whole(3, EMPTY, b""))
    assert decode_payload(f.Whole, payload) == f.Whole(3, EMPTY, b"")
    for length in range(len(payload)):
        with pytest.raises(ValueError, match=rf"^whole file in {length} bytes, expected no less than 40$"):
            decode_payload(f.Whole, payload[:length])
    with pytest.raises(ValueError, match=r"^index 18446744073709551615 out of range$"):
        decode_payload(f.Whole, b"\xff" * 40)


def test_a_stream_and_a_reason_arrive_as_such() -> None:
    end = decode_payload(m.EndOfStream, encode_payload(m.EndOfStream(m.Stream.STDIN, 0, EMPTY, 0)))
    assert isinstance(end, m.EndOfStream)
    assert end.stream is m.Stream.STDIN
    exit_ = decode_payload(m.Exit, encode_payload(m.Exit(signal=15, reason=m.Reason.CANCELLED)))
    assert isinstance(exit_, m.Exit)
    assert exit_.reason is m.Reason.CANCELLED


def test_whole_numbers_are_numbers() -> None:
    run = decode_payload(m.Run, b'{"command":"x","timeout":5}')
    assert run == m.Run("x", timeout=5.0)
    assert isinstance(run, m.Run)
    assert type(run.timeout) is float


def test_white_space_and_order_do_not_matter() -> None:
    assert decode_payload(m.Goodbye, b' {\n"text" : "t", "code":"c"}\t') == m.Goodbye("c", "t")


@pytest.mark.parametrize("kind", CONTROL, ids=lambda kind: kind.__name__)
def test_unknown_keys_are_ignored(kind: type[Message]) -> None:
    for message, payload in VECTORS:
        if type(message) is kind:
            more = json.loads(payload) | {"later": [1, {"x": None}], "__class__": "x", "_private": 1, "": 0}
            assert decode_payload(kind, json.dumps(more).encode()) == message


def required_fields() -> Iterator[tuple[type[Message], str]]:
    yield from [
        (m.Goodbye, "code"),
        (m.Goodbye, "text"),
        (m.Error, "code"),
        (m.Error, "text"),
        (m.Run, "command"),
        (m.Resize, "rows"),
        (m.Resize, "columns"),
        (m.Window, "bytes"),
        (m.EndOfStream, "stream"),
        (m.EndOfStream, "bytes"),
        (m.EndOfStream, "sha256"),
        (m.EndOfStream, "total"),
        (f.Push, "destination"),
        (f.Pull, "paths"),
        (f.Open, "index"),
        (f.Hole, "length"),
        (f.Close, "size"),
        (f.Close, "sha256"),
        (f.Same, "indexes"),
        (f.Gone, "index"),
        (f.Gone, "error"),
        (f.Old, "index"),
        (f.Old, "size"),
        (f.Old, "sha256"),
    ]


@pytest.mark.parametrize("kind", CONTROL, ids=lambda kind: kind.__name__)
def test_missing_keys(kind: type[Message], samples: dict[type[Message], Message]) -> None:
    """Each key in turn is left out: required ones are missed, the others get their default."""
    for field in fields(kind):
        values = json.loads(encode_payload(samples[kind]))
        del values[field.name]
        payload = json.dumps(values).encode()
        if (kind, field.name) in set(required_fields()):
            check_error(kind, payload, f"no {field.name!r}")
        else:
            default = field.default if not callable(field.default_factory) else field.default_factory()
            assert getattr(decode_payload(kind, payload), field.name) == default


# For each type of field: what it is called in the error, and values that are none of it.
WRONG: dict[str, tuple[str, list[object]]] = {
    "str": ("a string", [None, 1, 1.5, True, [], {}, ["x"]]),
    "int": ("an integer", [None, 1.0, 1.5, True, False, "1", [], {}]),
    "float": ("a number", [None, True, False, "1", "NaN", [], {}]),
    "bool": ("a boolean", [None, 0, 1, 0.0, "true", [], {}]),
    "Mapping[str, str]": ("an object", [None, 1, True, "x", [], [["a", "b"]]]),
    "Stream": ("a string", [None, 1, True, [], {}]),
    "Reason": ("a string", [None, 1, True, [], {}]),
    **{
        f"tuple[{kind}, ...]": ("an array", [None, 1, True, "x", {}])
        for kind in ("str", "int", "Entry", "Want", "Outcome")
    },
}


@pytest.mark.parametrize("kind", CONTROL, ids=lambda kind: kind.__name__)
def test_wrong_types(kind: type[Message], samples: dict[type[Message], Message]) -> None:
    for field in fields(kind):
        plain, _, optional = str(field.type).partition(" | ")
        wanted, values = WRONG[plain]
        for value in values:
            if value is None and optional:
                continue
            check_error(kind, payload_of(samples[kind], **{field.name: value}), f"{field.name!r} is not {wanted}")


@pytest.mark.parametrize("value", [1, None, True, [], {}, 1.5])
def test_wrong_types_in_the_environment(value: object) -> None:
    check_error(m.Run, payload_of(m.Run("x"), environment={"A": value}), "'environment' is not a string")


@pytest.mark.parametrize(
    ("kind", "name", "items", "text"),
    [
        (f.Pull, "paths", [1], "'paths' is not a string"),
        (f.Pull, "paths", ["\ud800"], "lone surrogate in 'paths'"),
        (f.Same, "indexes", [True], "'indexes' is not an integer"),
        (f.Entries, "entries", ["x"], "'entries' holds what is no object"),
        (f.Entries, "entries", [None], "'entries' holds what is no object"),
        (f.Entries, "entries", [{}], "no 'path'"),
        (f.Entries, "entries", [{"path": "x"}], "no 'kind'"),
        (f.Entries, "entries", [{"path": "x", "kind": "device"}], "'kind' is not one of " + ", ".join(f.Kind)),
        (f.Entries, "entries", [{"path": "../x", "kind": "file"}], "path with an empty name or dots: '../x'"),
        (f.Entries, "entries", [{"path": "x", "kind": "file", "mode": "7"}], "'mode' is not an integer"),
        (f.Wants, "wants", [{"index": 0, "whole": "x"}], "malformed digest"),
        (f.Outcomes, "outcomes", [{"path": "x", "status": "ok"}], "'status' is not one of " + ", ".join(f.FileStatus)),
    ],
)
def test_wrong_items_of_arrays(
    kind: type[Message], name: str, items: list[object], text: str, samples: dict[type[Message], Message]
) -> None:
    check_error(kind, payload_of(samples[kind], **{name: items}), text)


def test_unknown_keys_of_records_are_ignored() -> None:
    payload = b'{"entries":[{"path":"a","kind":"file","later":1}],"more":2}'
    assert decode_payload(f.Entries, payload) == f.Entries((f.Entry("a", f.Kind.FILE),))


def test_a_record_is_checked_on_its_way_out() -> None:
    with pytest.raises(ValueError, match=r"^lone surrogate in 'path'$"):
        encode_payload(f.Entries((f.Entry("\ud800", f.Kind.FILE),)))


@pytest.mark.parametrize("word", ["", "stdlog", "STDOUT", "stdout ", "\udcff" * 999])
def test_unknown_streams(word: str) -> None:
    sample = m.EndOfStream(m.Stream.STDOUT, 0, EMPTY, 0)
    check_error(m.EndOfStream, payload_of(sample, stream=word), "'stream' is not one of stdin, stdout, stderr, script")


def test_unknown_reasons() -> None:
    check_error(m.Exit, payload_of(m.Exit(0), reason="bored"), "'reason' is not one of exit, timeout, cancelled")


@pytest.mark.parametrize(
    ("message", "changed", "text"),
    [
        (m.Window(1), {"bytes": 0}, "window of 0 bytes"),
        (m.Exit(0), {"code": 256}, "exit code 256"),
        (m.Exit(0), {"elapsed": -1}, "elapsed time of -1.0 seconds"),
        (m.Run("x"), {"command": ""}, "empty command"),
        (m.Run("x"), {"command": "a\0b"}, "NUL in the command"),
        (m.Ping(1), {"token": -1}, "token -1 out of range"),
    ],
)
def test_ranges_hold_for_what_comes_in(message: Message, changed: dict[str, object], text: str) -> None:
    check_error(type(message), payload_of(message, **changed), text)


@pytest.mark.parametrize("kind", [m.Stdin, m.Stdout, m.Stderr], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("size", [0, 262145])
def test_data_of_a_wrong_size(kind: type[Message], size: int) -> None:
    check_error(kind, bytes(size), f"{size} bytes of data, expected 1 to 262144")


# Hostile JSON ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "not JSON: Expecting value"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes"),
        (b'{"token":1', "not JSON: Expecting ',' delimiter"),
        (b'{"token":1}x', "not JSON: Extra data"),
        (b'{"token":1}{"token":2}', "not JSON: Extra data"),
        (b'{"token":1}\0', "not JSON: Extra data"),
        (b'{"token":01}', "not JSON: Expecting ',' delimiter"),
        (b'{"token":+1}', "not JSON: Expecting value"),
        (b'{"token":0x1}', "not JSON: Expecting ',' delimiter"),
        (b"{'token':1}", "not JSON: Expecting property name enclosed in double quotes"),
        (b'{"tok\nen":1}', "not JSON: Invalid control character at"),
        (b'{"tok\\qen":1}', "not JSON: Invalid \\escape"),
        (b'\xef\xbb\xbf{"token":1}', "not JSON: Expecting value"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b'"{}"', "not a JSON object"),
        (b'{"token":1,"token":1}', "duplicate key"),
        (b'{"token":1,"tok\\u0065n":2}', "duplicate key"),
        (b'{"token":1,"later":{"a":1,"a":1}}', "duplicate key"),
        (b'{"token":1,"later":1,"later":1}', "duplicate key"),
        (b'{"token":NaN}', "NaN is not a number"),
        (b'{"token":Infinity}', "Infinity is not a number"),
        (b'{"token":-Infinity}', "-Infinity is not a number"),
        (b'{"token":1,"later":NaN}', "NaN is not a number"),
        (b'{"token":1e999}', "'token' is not an integer"),
        (b'{"token":1e0}', "'token' is not an integer"),
        (b'{"token":' + b"9" * 5000 + b"}", "integer of 5000 digits, expected no more than 20"),
        (b'{"token":1,"later":-' + b"9" * 5000 + b"}", "integer of 5000 digits, expected no more than 20"),
        (b'{"token":1,"later":100000000000000000000}', "integer of 21 digits, expected no more than 20"),
        (b'{"token":99999999999999999999}', "token 99999999999999999999 out of range"),
        (b'{"token":"\xff"}', "not UTF-8"),
        (b'{"token":"\xed\xa0\x80"}', "not UTF-8"),  # a surrogate in UTF-8 is none
        (b'{"token":"\xc0\xaf"}', "not UTF-8"),
        (b"\xff\xfe{\0}\0", "not UTF-8"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"[" * 100_000, "JSON nested too deep"),
        (b'{"token":1,"later":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "JSON nested too deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "JSON nested too deep"),
    ],
    ids=lambda value: (
        value[:24].decode("latin-1").encode("unicode_escape").decode() if isinstance(value, bytes) else ""
    ),
)
def test_hostile_json(payload: bytes, text: str) -> None:
    check_error(m.Ping, payload, text)


def test_the_limit_of_integers_is_our_own() -> None:
    """Python's can be switched off (PYTHONINTMAXSTRDIGITS), and then a peer could burn our time."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        payload = b'{"command":"x","max_output":' + b"9" * 1_000_000 + b"}"
        check_error(m.Run, payload, "integer of 1000000 digits, expected no more than 20")
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1e300"])
def test_numbers_beyond_a_float(number: bytes) -> None:
    check_error(m.Run, b'{"command":"x","timeout":' + number + b"}", "'timeout' is too large")


@pytest.mark.parametrize("text", ["\\ud800", "\\udbff", "\\udc00", "\\udc7f", "\\udd00", "\\udfff", "a\\ud83dz"])
def test_lone_surrogates(text: str) -> None:
    check_error(m.Run, b'{"command":"' + text.encode() + b'"}', "lone surrogate in 'command'")
    for place in ('{"%s":"x"}', '{"X":"%s"}'):
        payload = '{"command":"x","environment":' + place % text + "}"
        check_error(m.Run, payload.encode(), "lone surrogate in 'environment'")


@pytest.mark.parametrize(
    ("text", "value"), [("\\udc80", "\udc80"), ("\\udcff", "\udcff"), ("\\ud83d\\ude00", "\U0001f600")]
)
def test_surrogates_that_stand_for_something(text: str, value: str) -> None:
    assert decode_payload(m.Run, b'{"command":"' + text.encode() + b'"}') == m.Run(value)


def test_the_sender_is_held_to_the_same_rules() -> None:
    """What the peer would refuse is an error before it is sent."""
    with pytest.raises(ValueError, match=r"^lone surrogate in 'command'$"):
        encode_payload(m.Run("\ud800"))
    with pytest.raises(ValueError, match=r"^lone surrogate in 'environment'$"):
        encode_payload(m.Run("x", environment={"A": "\ud800"}))
    with pytest.raises(ValueError, match=r"^'token' is not an integer$"):
        encode_payload(m.Ping(True))
    with pytest.raises(ValueError, match=r"^'text' is not a string$"):
        encode_payload(m.Error("refused", None))  # type: ignore[arg-type]


def test_any_mapping_may_be_an_environment() -> None:
    run = m.Run("x", environment=MappingProxyType({"A": "b"}))
    assert decode_payload(m.Run, encode_payload(run)) == m.Run("x", environment={"A": "b"})


def test_decode_json_gives_the_object() -> None:
    assert decode_json(b'{"agent":"1.0","limits":{"a":[1,2.5,null,true]}}') == {
        "agent": "1.0",
        "limits": {"a": [1, 2.5, None, True]},
    }


@settings(derandomize=True, database=None, deadline=None, max_examples=500)
@given(st.sampled_from(CONTROL), st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_value_error(kind: type[Message], payload: bytes) -> None:
    try:
        assert type(decode_payload(kind, payload)) is kind
    except ValueError:
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@settings(derandomize=True, database=None, deadline=None, max_examples=500)
@given(st.data(), st.sampled_from(CONTROL))
def test_any_values_give_a_message_or_a_value_error(data: st.DataObject, kind: type[Message]) -> None:
    values = data.draw(st.fixed_dictionaries({}, optional={field.name: JSON for field in fields(kind)}))
    try:
        message = decode_payload(kind, json.dumps(values).encode())
    except ValueError:
        return
    assert decode_payload(kind, encode_payload(message)) == message
