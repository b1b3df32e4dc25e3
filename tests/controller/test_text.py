"""Nothing that a host prints may move the terminal, and nothing harmless may be changed."""

import random
import re
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.text import Cleaner, clean, clean_bytes, clean_line, settled

# The same examples in every run, and no complaint when the machine is busy.
STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

CASES = [
    (b"", ""),
    (b"plain ~ text\n\tand a tab\n", "plain ~ text\n\tand a tab\n"),
    ("año, 日本, 🚀\n".encode(), "año, 日本, 🚀\n"),
    (b"\x1b[2J\x1b[1;1Hweb2 | fake\n", "\\x1b[2J\\x1b[1;1Hweb2 | fake\n"),
    (b"\x1b]0;owned\x07ok\n", "\\x1b]0;owned\\x07ok\n"),
    (b"50%\r100%\n", "50%\\x0d100%\n"),
    (b"a\r\nb\r\r\nc", "a\nb\\x0d\nc"),
    (b"ab\x08\x7f\x00", "ab\\x08\\x7f\\x00"),
    ("\u009b31m red".encode(), "\\x9b31m red"),
    ("\u202erm -rf\u202c \u2066x\u2069 \u200e\u200f\u061c".encode(), None),
    ("one\u2028two\u2029three\u0085four".encode(), "one\\u2028two\\u2029three\\x85four"),
    (b"caf\xc3\xa9 \xff\xfe\n", "café \\xff\\xfe\n"),
    (b"cut \xe6\x97", "cut \\xe6\\x97"),
    (b"\xc3(\xa9", "\\xc3(\\xa9"),  # what is left of it without the ASCII would be a whole character
    (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),  # a surrogate, which UTF-8 must not hold
    (b"\xc0\x80 \xf5\x80\x80\x80", "\\xc0\\x80 \\xf5\\x80\\x80\\x80"),
    ("é\x1bé".encode(), "é\\x1bé"),
]


def bad(character):
    bidi = unicodedata.bidirectional(character) in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    return (
        (unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} and character not in "\n\t")
        or bidi
        or character in "\u200e\u200f\u061c"
    )


@pytest.mark.parametrize(("data", "text"), CASES)
def test_clean_bytes(data, text):
    got = clean_bytes(data).decode()
    assert not any(map(bad, got))
    if text is not None:
        assert got == text


@pytest.mark.parametrize(("data", "text"), CASES)
@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_cleaner_does_not_care_where_the_stream_is_cut(data, text, step):
    cleaner = Cleaner()
    got = b"".join(cleaner.feed(data[start : start + step]) for start in range(0, len(data), step)) + cleaner.finish()
    assert got == clean_bytes(data)
    assert cleaner.finish() == b""


def test_clean_escapes_every_bad_character_and_no_other():
    for code in range(0x110000):
        character = chr(code)
        # Between harmless ones, so that neither the ASCII shortcut nor the search is all that runs.
        got = clean(f"a{character}b")
        if bad(character):
            assert re.fullmatch(r"a\\(x[0-9a-f]{2}|u[0-9a-f]{4})b", got), hex(code)
        else:
            assert got == f"a{character}b", hex(code)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u202e", "\\u202e"),
        ("\x1b", "\\x1b"),
        ("\ud800x", "\\ud800x"),
        ("name\udcff", "name\\xff"),  # how os.fsdecode carries a byte that is no UTF-8
        ("a\r\nb", "a\nb"),
    ],
)
def test_clean(text, shown):
    assert clean(text) == shown


def test_clean_line_is_one_line():
    assert clean_line("web1\nweb2\tx\r\ny\x1b") == "web1\\x0aweb2\\x09x\\x0ay\\x1b"


def test_safe_bytes_are_not_copied():
    for data in (b"Filesystem Use%\n" * 1000, "Größe\n".encode() * 1000):
        assert clean_bytes(data) is data


@STEADY
@given(st.binary())
def test_any_bytes_become_safe_utf8(data):
    assert not any(map(bad, clean_bytes(data).decode()))


@STEADY
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_str_and_bytes_agree(text):
    assert clean_bytes(text.encode()) == clean(text).encode()


@STEADY
@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"x", b"\xff", b"\xe2\x80", b"\xae", "日".encode(), b"\xf0\x9f", b"\xc3"]))
)
def test_pieces_of_hostile_text_agree_with_the_whole(pieces):
    cleaner = Cleaner()
    assert b"".join(map(cleaner.feed, pieces)) + cleaner.finish() == clean_bytes(b"".join(pieces))


@pytest.mark.parametrize(
    ("data", "cut"),
    [
        (b"", 0),
        (b"ab", 2),
        (b"ab\r", 2),
        (b"a\r\n", 3),
        ("aé".encode(), 3),
        ("aé".encode()[:2], 1),
        ("a日".encode()[:3], 1),
        ("a🚀".encode()[:4], 1),
        ("a🚀".encode(), 5),
        (b"a\xff", 2),  # never the start of anything: not waited for
        (b"a\x80\x80\x80\x80", 5),
        (b"\xe6\x97", 0),
    ],
)
def test_settled(data, cut):
    assert settled(data, len(data)) == cut


def test_a_flood_of_hostile_bytes_costs_linear_time():
    """Each shape would need hours if any of them made the work quadratic."""
    rng = random.Random(7)
    for data in (b"\x1b" * 1_000_000, b"\r" * 1_000_000, b"\xe2\x80\xae" * 300_000, rng.randbytes(500_000)):
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", clean_bytes(data))
