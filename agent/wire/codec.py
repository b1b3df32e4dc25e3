"""Messages to bytes and back, exactly: what is too long, too short, of the wrong type or left over is an error.

Three kinds of body: the login's are fixed layouts, data messages are the bare bytes (a whole file, behind its digest),
all others are JSON objects. A reader raises ValueError for anything it does not like; `connection` decides whose fault
that was.

Keys of JSON objects that a message does not know are ignored, so that a later version may add some. Everything else
that two parsers might take differently is refused: duplicate keys, NaN and infinities, lone surrogates other than those
that stand for bytes, a boolean where a number belongs.
"""

from __future__ import annotations

import enum
import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.constants import (
    CHALLENGE_LENGTH,
    CHALLENGE_MAGIC,
    HELLO_LENGTHS,
    HELLO_MAGIC,
    MAX_BATCH_PAYLOAD,
    MAX_CONTROL_PAYLOAD,
    MAX_DATA_PAYLOAD,
    MAX_HANDSHAKE_BODY,
    MAX_INTEGER_DIGITS,
    MAX_RUN_PAYLOAD,
    MAX_WHOLE,
    PROOF_LENGTH,
)
from agent.wire.plain import PLAIN
from agent.wire.record import record

__all__ = [
    "DATA",
    "FRAME_TYPES",
    "LIMITS",
    "decode_handshake",
    "decode_json",
    "decode_payload",
    "encode_handshake",
    "encode_payload",
]

# Type codes are grouped: 0x0_ connection, 0x1_ from the controller, 0x2_ from the agent, 0x3_ either way, 0x4_ files.
FRAME_TYPES: dict[int, type[m.Message]] = {
    0x01: m.Ping,
    0x02: m.Pong,
    0x03: m.Goodbye,
    0x04: m.Error,
    0x10: m.Run,
    0x11: m.Stdin,
    0x12: m.Cancel,
    0x13: m.Script,
    0x14: m.Resize,
    0x20: m.Stdout,
    0x21: m.Stderr,
    0x22: m.Exit,
    0x23: m.Window,
    0x30: m.EndOfStream,
    0x40: f.Push,
    0x41: f.Pull,
    0x42: f.Rollback,
    0x43: f.Entries,
    0x44: f.Open,
    0x45: f.Data,
    0x46: f.Hole,
    0x47: f.Close,
    0x48: f.Same,
    0x49: f.Gone,
    0x4A: f.Wants,
    0x4B: f.Old,
    0x4C: f.Outcomes,
    0x4D: f.Done,
    0x4E: f.Whole,
}

_WHOLE = struct.Struct(">Q32s")  # index and SHA-256, before the content

# The longest payload of each type, in bytes; checked before a byte of it is read.
LIMITS: dict[type[m.Message], int] = {
    **dict.fromkeys(FRAME_TYPES.values(), MAX_CONTROL_PAYLOAD),
    m.Run: MAX_RUN_PAYLOAD,
    m.Stdin: MAX_DATA_PAYLOAD,
    m.Script: MAX_DATA_PAYLOAD,
    m.Stdout: MAX_DATA_PAYLOAD,
    m.Stderr: MAX_DATA_PAYLOAD,
    f.Push: MAX_RUN_PAYLOAD,
    f.Pull: MAX_RUN_PAYLOAD,
    f.Entries: MAX_BATCH_PAYLOAD,
    f.Data: MAX_DATA_PAYLOAD,
    f.Wants: MAX_BATCH_PAYLOAD,
    f.Outcomes: MAX_BATCH_PAYLOAD,
    f.Whole: _WHOLE.size + MAX_WHOLE,
}

# Messages whose payload are the bare bytes.
DATA = (m.Stdin, m.Script, m.Stdout, m.Stderr, f.Data)
# What travels in arrays inside of messages.
_RECORDS = (f.Entry, f.Want, f.Outcome)

_HELLO = struct.Struct(">4sHHII32s16sB")
_CHALLENGE = struct.Struct(">4sHI32s")
_ACCEPTED, _REFUSED = b"\0", b"\1"

# Anywhere, also in a string: whoever finds none need not look at any integer.
_LONG_INTEGER = re.compile(rb"[0-9]{%d}" % (MAX_INTEGER_DIGITS + 1))
# A surrogate that does not stand for a byte (PEP 383) has no meaning here and cannot be encoded anywhere.
_LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


# The login's bodies ------------------------------------------------------------------------------------------------


def encode_handshake(message: m.Message) -> bytes:
    """Return the body of a message of the login. Raises ValueError for one that does not belong there."""
    if isinstance(message, m.Hello):
        name = message.controller.encode("ascii")
        return (
            _HELLO.pack(
                HELLO_MAGIC,
                message.min_version,
                message.max_version,
                message.features,
                message.epoch,
                message.nonce,
                message.host_id,
                len(name),
            )
            + name
        )
    if isinstance(message, m.Challenge):
        return _CHALLENGE.pack(CHALLENGE_MAGIC, message.version, message.features, message.nonce)
    if isinstance(message, m.Proof):
        return message.binding + message.proof
    if isinstance(message, m.Refusal):
        return _REFUSED
    if isinstance(message, m.Welcome):
        if len(message.proof) + len(message.info) >= MAX_HANDSHAKE_BODY:
            raise ValueError(f"info of {len(message.info)} bytes")
        return _ACCEPTED + message.proof + message.info
    raise ValueError(f"{type(message).__name__} is no message of the login")


def _decode_hello(body: bytes) -> m.Hello:
    shortest, longest = HELLO_LENGTHS
    if not shortest <= len(body) <= longest or body[:4] != HELLO_MAGIC:
        raise ValueError("not a fleet hello")
    _, low, high, features, epoch, nonce, host_id, length = _HELLO.unpack_from(body)
    name = body[_HELLO.size :]
    if len(name) != length or not name.isascii():
        raise ValueError("malformed controller name")
    return m.Hello(name.decode("ascii"), host_id, epoch, nonce, low, high, features)


def _decode_challenge(body: bytes) -> m.Challenge:
    if len(body) != CHALLENGE_LENGTH or body[:4] != CHALLENGE_MAGIC:
        raise ValueError("not a fleet challenge")
    _, version, features, nonce = _CHALLENGE.unpack(body)
    return m.Challenge(version, features, nonce)


def _decode_proof(body: bytes) -> m.Proof:
    if len(body) != PROOF_LENGTH:
        raise ValueError(f"proof of {len(body)} bytes")
    return m.Proof(body[:32], body[32:])


def _decode_verdict(body: bytes) -> m.Welcome | m.Refusal:
    if body == _REFUSED:
        return m.Refusal()
    if body[:1] != _ACCEPTED:
        raise ValueError("malformed verdict")
    return m.Welcome(body[1:33], body[33:])


_Record = TypeVar("_Record")

_HANDSHAKE_DECODERS: dict[type[m.Message], Callable[[bytes], m.Message]] = {
    m.Hello: _decode_hello,
    m.Challenge: _decode_challenge,
    m.Proof: _decode_proof,
    m.Welcome: _decode_verdict,
}


def decode_handshake(expected: type[m.Message], body: bytes) -> m.Message:
    """Read the body of the login's message `expected` (Welcome stands for either verdict). Raises ValueError."""
    return _HANDSHAKE_DECODERS[expected](body)


# Payloads of frames ------------------------------------------------------------------------------------------------


def encode_payload(message: m.Message) -> bytes | memoryview:
    """Return the payload of a message that travels in a frame. Raises ValueError for one that nobody would read."""
    if isinstance(message, DATA):
        return message.data
    if isinstance(message, f.Whole):
        return _WHOLE.pack(message.index, bytes.fromhex(message.sha256)) + message.data
    if (plain := PLAIN.get(type(message))) is not None and (payload := plain.encode(message)) is not None:
        return payload
    # The reader's checks, so that we send nothing that the peer would break the connection over.
    values = {name: check(getattr(message, name), name) for name, check in _SCHEMAS[type(message)].checks.items()}
    return _ENCODER.encode(values).encode("ascii")


def decode_payload(kind: type[m.Message], payload: bytes | memoryview) -> m.Message:
    """Read the payload of a frame that holds a `kind`. Raises ValueError."""
    if issubclass(kind, DATA):
        return kind(payload)
    if kind is f.Whole:
        return _decode_whole(payload)
    if (plain := PLAIN.get(kind)) is not None and (match := re.fullmatch(plain.pattern, payload)) is not None:
        return plain.decode(match)
    return _make(kind, decode_json(bytes(payload)))


def _decode_whole(payload: bytes | memoryview) -> f.Whole:
    if len(payload) < _WHOLE.size:
        raise ValueError(f"whole file in {len(payload)} bytes, expected no less than {_WHOLE.size}")
    index, digest = _WHOLE.unpack_from(payload)
    return f.Whole(index, digest.hex(), payload[_WHOLE.size :])


def _make(kind: type[_Record], values: Mapping[str, object]) -> _Record:
    schema = _SCHEMAS[kind]
    checks = schema.checks
    arguments = {name: checks[name](value, name) for name, value in values.items() if name in checks}
    for name in schema.required:
        if name not in arguments:
            raise ValueError(f"no {name!r}")
    make: Callable[..., _Record] = kind
    return make(**arguments)


def decode_json(payload: bytes) -> dict[str, object]:
    """Read one JSON object strictly. Raises ValueError, never RecursionError."""
    try:
        decoder = _DECODER if _LONG_INTEGER.search(payload) is None else _DECODER_OF_LONG_INTEGERS
        value = decoder.decode(payload.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number")


def _short_integer(digits: str) -> int:
    # Python's own guard can be switched off from outside (PYTHONINTMAXSTRDIGITS).
    count = len(digits.removeprefix("-"))
    if count > MAX_INTEGER_DIGITS:
        raise ValueError(f"integer of {count} digits, expected no more than {MAX_INTEGER_DIGITS}")
    return int(digits)


# Made once: `json.loads` and `json.dumps` with options make a new one for each message.
_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
# A call for each integer is a tenth of what it costs to read a list of files: only where there are such digits at all.
_DECODER_OF_LONG_INTEGERS = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_int=_short_integer, parse_constant=_no_constant
)
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


# One checker for each type that a field may have. A boolean is an int to Python, never to us.


def _string(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is not a string")
    if not value.isascii() and _LONE_SURROGATE.search(value):
        raise ValueError(f"lone surrogate in {name!r}")
    return value


def _integer(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name!r} is not an integer")
    return value


def _number(value: object, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name!r} is not a number")
    if not abs(value) < 1e300:  # 1e999 reads as infinity
        raise ValueError(f"{name!r} is too large")
    return float(value)


def _boolean(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name!r} is not a boolean")
    return value


def _string_map(value: object, name: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name!r} is not an object")
    return {_string(key, name): _string(item, name) for key, item in value.items()}


def _list_of(check: Check) -> Check:
    def check_all(value: object, name: str) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name!r} is not an array")
        return tuple([check(item, name) for item in value])

    return check_all


def _record_of(kind: type[Any]) -> Check:
    """Check an object in an array: on its way out it becomes an object without what is default, on its way in a
    `kind`."""

    @cache
    def layout() -> tuple[list[tuple[str, object, Check]], Callable[[object], tuple[object, ...]]]:
        specs, checks = fields(kind), _SCHEMAS[kind].checks
        rows = [(spec.name, spec.default, checks[spec.name]) for spec in specs]
        return rows, attrgetter(*[spec.name for spec in specs])

    def check(value: object, name: str) -> object:
        if isinstance(value, kind):
            rows, items_of = layout()
            return {
                key: check_item(item, key)
                for (key, default, check_item), item in zip(rows, items_of(value), strict=True)
                if item != default
            }
        if not isinstance(value, Mapping):
            raise ValueError(f"{name!r} holds what is no object")
        return _make(kind, value)

    return check


Check = Callable[[object, str], object]


def _word_of(words: type[enum.StrEnum]) -> Check:
    known = {word.value: word for word in words}

    def check(value: object, name: str) -> enum.StrEnum:
        word = known.get(value) if isinstance(value, str) else None
        if word is None:
            _string(value, name)
            raise ValueError(f"{name!r} is not one of {', '.join(known)}")
        return word

    return check


_CHECKS: dict[object, Check] = {
    "str": _string,
    "int": _integer,
    "float": _number,
    "bool": _boolean,
    "Mapping[str, str]": _string_map,
    "Stream": _word_of(m.Stream),
    "Reason": _word_of(m.Reason),
    "Kind": _word_of(f.Kind),
    "FileStatus": _word_of(f.FileStatus),
    "tuple[str, ...]": _list_of(_string),
    "tuple[int, ...]": _list_of(_integer),
    **{f"tuple[{kind.__name__}, ...]": _list_of(_record_of(kind)) for kind in _RECORDS},
}


def _optional(check: Check) -> Check:
    def check_optional(value: object, name: str) -> object:
        return None if value is None else check(value, name)

    return check_optional


@record
class _Schema:
    """What the fields of a message must be, and which must be there."""

    checks: Mapping[str, Check]
    required: tuple[str, ...]


def _schema(kind: type[Any]) -> _Schema:
    """Return the schema of a dataclass, from its own fields."""
    checks, required = {}, []
    for spec in fields(kind):
        plain, _, none = str(spec.type).partition(" | ")
        check = _CHECKS[plain]
        checks[spec.name] = _optional(check) if none else check
        if spec.default is MISSING and spec.default_factory is MISSING:
            required.append(spec.name)
    return _Schema(checks, tuple(required))


class _Schemas(dict[type[Any], _Schema]):
    """The schemas, made when they are asked for: no run needs more than a few of them."""

    def __missing__(self, kind: type[Any]) -> _Schema:
        schema = self[kind] = _schema(kind)
        return schema


_SCHEMAS = _Schemas()
