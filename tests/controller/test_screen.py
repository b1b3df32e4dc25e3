"""What a host's programs switched on is undone, and nothing else."""

from __future__ import annotations

import pytest

from controller.screen import Screen

COLOURS = b"\x1b[0m"


def undone(*pieces):
    screen = Screen()
    for data in pieces:
        screen.see(data)
    return screen.undo()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (b"", b""),
        (b"plain text\r\n\xff", b""),
        (b"\x1b[31mred", COLOURS),
        (b"\x1b[?1049h", b"\x1b[?1049l" + COLOURS),
        (b"\x1b[?1049h\x1b[?1049l", COLOURS),
        (b"\x1b[?1049l", COLOURS),
        (b"\x1b[?25l", b"\x1b[?25h" + COLOURS),
        (b"\x1b[?25l\x1b[?25h", COLOURS),
        (b"\x1b[?1000;1006h", b"\x1b[?1000l\x1b[?1006l" + COLOURS),
        (b"\x1b[?7777h", COLOURS),
        (b"\x1b[?;h", COLOURS),
        (b"\x1b=", b"\x1b>" + COLOURS),
        (b"\x1b=\x1b>", COLOURS),
        (b"vi\x1b[?2004h\x1b[?1049hx\x1b[?2004l", b"\x1b[?1049l" + COLOURS),
        (b"\x1b[?" + b"1" * 100 + b"h\x1b[?25l", b"\x1b[?25h" + COLOURS),
        (b"\x1b[\x1b[?25l", b"\x1b[?25h" + COLOURS),
    ],
)
def test_undo(shown, expected):
    assert undone(shown) == expected
    assert undone(*(bytes([byte]) for byte in shown)) == expected
    for cut in range(len(shown)):
        assert undone(shown[:cut], shown[cut:]) == expected


def test_a_sequence_without_an_end_is_not_kept():
    screen = Screen()
    screen.see(b"\x1b[?" + b"1" * 1_000_000)
    for _ in range(100):
        screen.see(b"1" * 1000)
    assert len(screen._rest) <= 64
