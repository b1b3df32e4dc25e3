"""What is read and written without a parser: the same as with one."""

from __future__ import annotations

import json
import re

import pytest

from agent.wire import codec
from agent.wire import file_messages as f
from agent.wire.plain import PLAIN

SHA = "0123456789abcdef" * 4
MESSAGES = [
    f.Open(0, 0, 0),
    f.Open(12, 345, 6789),
    f.Open(2**63 - 1, 2**63 - 1, 2**63 - 1),
    f.Open(1),
    f.Close(0, SHA),
    f.Close(2**63 - 1, SHA),
]


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_the_same_bytes_and_the_same_message(monkeypatch: pytest.MonkeyPatch, message: f.Open | f.Close) -> None:
    quick = codec.encode_payload(message)
    assert codec.decode_payload(type(message), quick) == message
    assert (re.fullmatch(PLAIN[type(message)].pattern, quick) is not None) == (message != f.Open(1))
    monkeypatch.setattr(codec, "PLAIN", {})
    assert codec.encode_payload(message) == quick
    assert codec.decode_payload(type(message), quick) == message


ODD = [
    b'{"index":1,"offset":0,"size":2} ',
    b'{"size":2,"offset":0,"index":1}',
    b'{"index":01,"offset":0,"size":2}',
    b'{"index":1,"offset":0,"size":+2}',
    b'{"index":-1,"offset":0,"size":2}',
    b'{"index":1,"offset":0,"size":2.0}',
    b'{"index":1,"offset":3,"size":2}',
    b'{"index":9223372036854775808,"offset":0,"size":2}',
    b'{"index":99999999999999999999,"offset":0,"size":2}',
    b'{"index":1,"offset":0,"size":2}{"index":1}',
    b'{"index":true,"offset":0,"size":2}',
    '{"index":\u0661,"offset":0,"size":2}'.encode(),
    b'{"index":1,"offset":0,"size":2}\n',
]


@pytest.mark.parametrize("payload", ODD)
def test_what_looks_otherwise_is_judged_as_ever(monkeypatch: pytest.MonkeyPatch, payload: bytes) -> None:
    def judged() -> object:
        try:
            return codec.decode_payload(f.Open, payload)
        except ValueError as error:
            return str(error)

    quick = judged()
    monkeypatch.setattr(codec, "PLAIN", {})
    assert judged() == quick


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (f.Open(True, 0, 2), "'index' is not an integer"),
        (f.Open(1, False, 2), "'offset' is not an integer"),
        (f.Open(1, 0, True), "'size' is not an integer"),
        (f.Close(True, SHA), "'size' is not an integer"),
    ],
)
def test_a_boolean_is_no_number(message: f.Open | f.Close, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        codec.encode_payload(message)


def test_a_digest_in_capitals_is_refused() -> None:
    payload = json.dumps({"size": 1, "sha256": SHA.upper()}).encode()
    with pytest.raises(ValueError, match=r"^malformed digest$"):
        codec.decode_payload(f.Close, payload)
