"""Two messages as they look when we write them, as they nearly always do: read and written without a parser.

Each small file of a tree comes between an Open and a Close, so these two are most of what is said about a tree. The
bytes are those of `codec`, in a fifth of the time; whatever looks otherwise takes the way of all messages there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from agent.wire import file_messages as f
from agent.wire.record import record

__all__ = ["PLAIN", "Plain"]

_NUMBER = b"(0|[1-9][0-9]{0,18})"


@record
class Plain:
    """How a message looks as a rule: its bytes, None when it has none of that look, and the message of a match.

    `decode` raises ValueError for values that are out of range.
    """

    encode: Callable[[Any], bytes | None]
    pattern: bytes  # a regular expression of the whole
    decode: Callable[[re.Match[bytes]], f.FileMessage]


def _encode_open(message: f.Open) -> bytes | None:
    index, offset, size = message.index, message.offset, message.size
    # Not `isinstance`: a boolean is an int to Python, never to us.
    if type(index) is int and type(offset) is int and type(size) is int:
        return b'{"index":%d,"offset":%d,"size":%d}' % (index, offset, size)
    return None


def _encode_close(message: f.Close) -> bytes | None:
    if type(message.size) is int:
        return b'{"size":%d,"sha256":"%b"}' % (message.size, message.sha256.encode("ascii"))
    return None


PLAIN: dict[type[object], Plain] = {
    f.Open: Plain(
        _encode_open,
        rb'\{"index":%b,"offset":%b,"size":%b\}' % (_NUMBER, _NUMBER, _NUMBER),
        lambda match: f.Open(int(match[1]), int(match[2]), int(match[3])),
    ),
    f.Close: Plain(
        _encode_close,
        rb'\{"size":%b,"sha256":"([0-9a-f]{64})"\}' % _NUMBER,
        lambda match: f.Close(int(match[1]), match[2].decode("ascii")),
    ),
}
