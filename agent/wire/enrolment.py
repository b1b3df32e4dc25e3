"""The one file that brings a host's keys from a controller to its agent: a JSON object of eight keys.

Text in, `Enrolment` out, and back; whoever reads or writes the file minds its mode and owner. Unlike messages on the
wire, an enrolment with a key that is not known here is refused: a later version may add a restriction, and an agent
that does not know it must not act as if there were none.

No error repeats a value from the file, since half of them are secrets.
"""

from __future__ import annotations

import json
import re
from dataclasses import field

from agent.wire.codec import decode_json
from agent.wire.constants import HOST_ID_LENGTH
from agent.wire.handshake import CONTROLLER_NAME
from agent.wire.record import record

__all__ = [
    "FORMAT",
    "MAX_EPOCH",
    "MAX_NAME_BYTES",
    "MAX_TEXT_BYTES",
    "Enrolment",
    "EnrolmentError",
    "dumps",
    "is_epoch",
    "loads",
    "name_fault",
    "parse_hex",
]

FORMAT = "enrolment/1"
MAX_EPOCH = 2**32 - 1  # it travels as a u32
# NAME_MAX is 255 bytes on every Linux filesystem (limits.h(0p)), and a name becomes a file name with things around it.
MAX_NAME_BYTES = 200
MAX_TEXT_BYTES = 4096  # a real one is shorter than 700; read no more of a file than this

_KEY_LENGTH = 32
_HEX = r"(?:[0-9a-f]{2})*"
_KEYS = ("fleet", "controller", "host", "host_id", "epoch", "stored_key", "server_key", "pool")


class EnrolmentError(Exception):
    """The text is no enrolment. `reason` says why and holds nothing secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


@record
class Enrolment:
    """What one agent must know of one controller.

    `host_id` is 16 bytes, the two keys are 32 bytes each and together make the verifier; `pool` names the pool that
    shares this enrolment, and then `host` is the pool's name too. Raises EnrolmentError for anything else.
    """

    controller: str
    host: str
    host_id: bytes
    epoch: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    pool: str | None = None

    def __post_init__(self) -> None:
        if not CONTROLLER_NAME.fullmatch(self.controller):
            raise EnrolmentError("malformed controller name")
        for what, name in (("host", self.host), ("pool", self.pool)):
            if name is not None and (fault := name_fault(name)):
                raise EnrolmentError(f"{what} name {fault}")
        if not is_epoch(self.epoch):
            raise EnrolmentError(f"epoch is not in 1..{MAX_EPOCH}")
        _check_length("host_id", self.host_id, HOST_ID_LENGTH)
        _check_length("stored_key", self.stored_key, _KEY_LENGTH)
        _check_length("server_key", self.server_key, _KEY_LENGTH)


def dumps(enrolment: Enrolment) -> str:
    """Return the text of the file, with its final newline."""
    values = {
        "fleet": FORMAT,
        "controller": enrolment.controller,
        "host": enrolment.host,
        "host_id": enrolment.host_id.hex(),
        "epoch": enrolment.epoch,
        "stored_key": enrolment.stored_key.hex(),
        "server_key": enrolment.server_key.hex(),
        "pool": enrolment.pool,
    }
    return json.dumps(values, indent=2) + "\n"


def loads(text: str) -> Enrolment:
    """Read the text of an enrolment file. Raises EnrolmentError."""
    if len(text) > MAX_TEXT_BYTES:
        raise EnrolmentError(f"{len(text)} characters, expected no more than {MAX_TEXT_BYTES}")
    try:
        values = decode_json(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise EnrolmentError(str(error)) from None
    if values.get("fleet") != FORMAT:
        raise EnrolmentError(f"not a fleet enrolment: it does not say {FORMAT}")
    if missing := [key for key in _KEYS if key not in values]:
        raise EnrolmentError(f"no {missing[0]!r}")
    if len(values) > len(_KEYS):
        raise EnrolmentError("a key that this version does not know")
    pool = values["pool"]
    return Enrolment(
        controller=_string(values["controller"], "controller"),
        host=_string(values["host"], "host"),
        host_id=_hex(values["host_id"], "host_id"),
        epoch=_epoch(values["epoch"]),
        stored_key=_hex(values["stored_key"], "stored_key"),
        server_key=_hex(values["server_key"], "server_key"),
        pool=None if pool is None else _string(pool, "pool"),
    )


def name_fault(name: str) -> str | None:
    """Say why `name` cannot name a host or a pool, or return None when it can.

    A name becomes a file name and is shown on terminals: no way out of a folder, nothing hidden, nothing that a shell
    glob would hand to a command as an option, no control or bidirectional characters.
    """
    if not name:
        return "is empty"
    if not name.isprintable():  # controls, surrogates, bidi marks (Unicode "Other" and "Separator" but the space)
        return "has a character that cannot be printed"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"has {len(name.encode())} bytes, expected no more than {MAX_NAME_BYTES}"
    if "/" in name:
        return "has a '/'"
    if name[0] in ".-":
        return f"begins with {name[0]!r}"
    return None


def is_epoch(value: object) -> bool:
    """Whether `value` is the number of an enrolment: the first is 1. A boolean is none, whatever Python thinks."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_EPOCH


def parse_hex(value: object, length: int) -> bytes | None:
    """Return the `length` bytes that `value` spells in lower-case hexadecimal, or None.

    `bytes.fromhex` alone would take upper case and blanks too: two spellings of one id.
    """
    if not isinstance(value, str) or len(value) != 2 * length or not re.fullmatch(_HEX, value):
        return None
    return bytes.fromhex(value)


def _string(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise EnrolmentError(f"{key!r} is not a string")
    return value


def _epoch(value: object) -> int:
    if not isinstance(value, int):
        raise EnrolmentError("'epoch' is not an integer")
    return value


def _hex(value: object, key: str) -> bytes:
    length = HOST_ID_LENGTH if key == "host_id" else _KEY_LENGTH
    data = parse_hex(value, length)
    if data is None:
        raise EnrolmentError(f"{key!r} is not {2 * length} lower-case hexadecimal digits")
    return data


def _check_length(what: str, data: bytes, length: int) -> None:
    if len(data) != length:
        raise EnrolmentError(f"{what} has {len(data)} bytes, expected {length}")
