"""The enrolment file: round trip, and every way in which a text is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.wire.enrolment import MAX_EPOCH, Enrolment, EnrolmentError, dumps, loads, name_fault, parse_hex

ENROLMENT = Enrolment("ops", "web1", b"\x11" * 16, 3, b"\xaa" * 32, b"\xbb" * 32)
TEXT = """\
{
  "fleet": "enrolment/1",
  "controller": "ops",
  "host": "web1",
  "host_id": "11111111111111111111111111111111",
  "epoch": 3,
  "stored_key": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
  "server_key": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
  "pool": null
}
"""


def changed(**values: object) -> str:
    """Return TEXT with keys changed, or taken out where the value is ...."""
    document = json.loads(TEXT) | values
    return json.dumps({key: value for key, value in document.items() if value is not ...})


def refused(text: str) -> str:
    with pytest.raises(EnrolmentError) as caught:
        loads(text)
    assert caught.value.reason == str(caught.value)
    return str(caught.value)


def test_the_text_is_exactly_this() -> None:
    assert dumps(ENROLMENT) == TEXT
    assert loads(TEXT) == ENROLMENT


def test_a_pool_and_any_printable_name_survive() -> None:
    for enrolment in (
        replace(ENROLMENT, host="web", pool="web"),
        replace(ENROLMENT, host="Zürich-01.example.org"),
        replace(ENROLMENT, epoch=MAX_EPOCH),
    ):
        assert loads(dumps(enrolment)) == enrolment


def test_repr_shows_no_key() -> None:
    assert "aa" not in repr(ENROLMENT)
    assert "bb" not in repr(ENROLMENT)
    assert "\\x11" in repr(ENROLMENT)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON: Expecting value"),
        (TEXT[:-20], "not JSON: "),
        (TEXT + "x", "not JSON: Extra data"),
        ("[]", "not a JSON object"),
        ("[" * 4000, ("JSON nested too deep", "not JSON: Expecting value")),  # Python 3.13 goes deeper
        ("{}", "not a fleet enrolment: it does not say enrolment/1"),
        (changed(fleet="enrolment/2"), "not a fleet enrolment: it does not say enrolment/1"),
        (changed(host=...), "no 'host'"),
        (changed(pool=...), "no 'pool'"),
        (changed(only="read"), "a key that this version does not know"),
        (TEXT.replace('"epoch": 3', '"epoch": 3, "epoch": 4'), "duplicate key"),
        (changed(epoch=float("nan")), "NaN is not a number"),
        ("\ud800", "not UTF-8"),
        ("x" * 4097, "4097 characters, expected no more than 4096"),
        (changed(controller=7), "'controller' is not a string"),
        (changed(controller="Ops"), "malformed controller name"),
        (changed(controller="../ops"), "malformed controller name"),
        (changed(controller="ops\n"), "malformed controller name"),
        (changed(controller="o" * 65), "malformed controller name"),
        (changed(host=None), "'host' is not a string"),
        (changed(host="a/b"), "host name has a '/'"),
        (changed(pool=".hidden"), "pool name begins with '.'"),
        (changed(pool=["web"]), "'pool' is not a string"),
        (changed(epoch="3"), "'epoch' is not an integer"),
        (changed(epoch=3.0), "'epoch' is not an integer"),
        (changed(epoch=True), "epoch is not in 1..4294967295"),
        (changed(epoch=0), "epoch is not in 1..4294967295"),
        (changed(epoch=-1), "epoch is not in 1..4294967295"),
        (changed(epoch=2**32), "epoch is not in 1..4294967295"),
        (changed(host_id="11" * 15), "'host_id' is not 32 lower-case hexadecimal digits"),
        (changed(host_id=11), "'host_id' is not 32 lower-case hexadecimal digits"),
        (changed(stored_key="AA" * 32), "'stored_key' is not 64 lower-case hexadecimal digits"),
        (changed(stored_key="aa " * 21 + "a"), "'stored_key' is not 64 lower-case hexadecimal digits"),
        (changed(server_key="bb" * 33), "'server_key' is not 64 lower-case hexadecimal digits"),
        (changed(server_key="zz" * 32), "'server_key' is not 64 lower-case hexadecimal digits"),
    ],
)
def test_refused(text: str, reason: str | tuple[str, ...]) -> None:
    assert refused(text).startswith(reason)


def test_no_refusal_repeats_a_key() -> None:
    for text in (changed(extra=1), changed(epoch=0), changed(server_key="bb" * 31), TEXT.replace("}", "")):
        assert "aaaa" not in refused(text)
        assert "bbbb" not in refused(text)


def test_every_cut_is_refused() -> None:
    for end in range(len(TEXT) - 2):
        refused(TEXT[:end])


def test_a_value_of_the_wrong_length_cannot_be_made() -> None:
    for field, data, text in (
        ("host_id", b"1", "host_id has 1 bytes, expected 16"),
        ("stored_key", b"", "stored_key has 0 bytes, expected 32"),
        ("server_key", b"x" * 33, "server_key has 33 bytes, expected 32"),
    ):
        with pytest.raises(EnrolmentError) as caught:
            replace(ENROLMENT, **{field: data})  # type: ignore[arg-type]
        assert str(caught.value) == text


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("web1", None),
        ("10.0.0.1", None),
        ("fe80::1", None),
        ("rack 4", None),
        ("ü" * 100, None),
        ("", "is empty"),
        ("ü" * 101, "has 202 bytes, expected no more than 200"),
        ("..", "begins with '.'"),
        (".ssh", "begins with '.'"),
        ("-rf", "begins with '-'"),
        ("a/../../b", "has a '/'"),
        ("a\0b", "has a character that cannot be printed"),
        ("a\nb", "has a character that cannot be printed"),
        ("a\x1b[2J", "has a character that cannot be printed"),
        ("a\u202eb", "has a character that cannot be printed"),
        ("a\udcffb", "has a character that cannot be printed"),
    ],
)
def test_name_fault(name: str, fault: str | None) -> None:
    assert name_fault(name) == fault


def test_parse_hex() -> None:
    assert parse_hex("00ff", 2) == b"\x00\xff"
    assert parse_hex("00FF", 2) is None
    assert parse_hex("00f", 2) is None
    assert parse_hex(None, 0) is None
