"""Keys: an escape is told from what is for the host, however the bytes come."""

from __future__ import annotations

import pytest

from controller.escapes import HELP, Escape, Keys

END, SHOW = Escape.END, Escape.HELP


def fed(*pieces):
    """Return what comes of the pieces, with neighbouring bytes as one."""
    keys = Keys()
    found = []
    for data in pieces:
        for piece in keys.feed(data):
            if isinstance(piece, bytes) and found and isinstance(found[-1], bytes):
                found[-1] += piece
            else:
                found.append(piece)
    return found


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (b"", []),
        (b"ls\r", [b"ls\r"]),
        (b"~.", [END]),
        (b"ls\r~.", [b"ls\r", END]),
        (b"ls\n~.", [b"ls\n", END]),
        (b"a~.", [b"a~."]),
        (b" ~.", [b" ~."]),
        (b"~?", [SHOW]),
        (b"~?~.", [SHOW, END]),
        (b"~?x~.", [SHOW, b"x~."]),
        (b"~~", [b"~"]),
        (b"~~.", [b"~."]),
        (b"~~~.", [b"~~."]),
        (b"\r~~\r~.", [b"\r~\r", END]),
        (b"~/bin\r", [b"~/bin\r"]),
        (b"~\r~.", [b"~\r", END]),
        (b"~\r~x", [b"~\r~x"]),
        (b"~", []),
        (b"ls ~\r", [b"ls ~\r"]),
        (b"\x03~.", [b"\x03~."]),
        (b"x~?", [b"x~?"]),
        (bytes(range(256)), [bytes(range(256))]),
        (b"\r~\xff\x00", [b"\r~\xff\x00"]),
    ],
)
def test_keys(typed, expected):
    assert fed(typed) == expected
    assert fed(*(bytes([byte]) for byte in typed)) == expected
    for cut in range(len(typed)):
        assert fed(typed[:cut], typed[cut:]) == expected


def test_the_help_names_every_escape():
    assert all(f"~{escape.value} " in HELP for escape in Escape)
