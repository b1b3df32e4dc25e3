"""What is masked, what is not, and that no output makes masking slow."""

import time

import pytest

from controller.masks import MaskError, Masks

TIME = Masks(time=True)
NUMBER = Masks(number=True)
HOST = Masks(host=True)


def test_nothing_is_masked_by_default():
    assert not Masks()
    assert Masks.of().apply(b"  web1  12:00  7 ", "web1") == b"  web1  12:00  7 "


def test_patterns_match_bytes_at_every_line():
    masks = Masks.of(["^id=.*$", "\udcff+"])
    assert masks
    assert masks.apply(b"a id=1\nid=2 b\n\xff\xff c  d\n", "h") == b"a id=1\n#\n# c  d\n"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("[a", "unterminated character set at position 1: '[a'"),
        ("a(b", "missing ), unterminated subpattern at position 2: 'a(b'"),
        ("x{2,1}", "min repeat greater than max repeat at position 3: 'x{2,1}'"),
        ("*", "nothing to repeat at position 1: '*'"),
        ("(" * 5000 + ")" * 5000, "too large"),
    ],
)
def test_a_pattern_that_is_none(pattern, text):
    with pytest.raises(MaskError) as caught:
        Masks.of([pattern])
    assert str(caught.value).startswith(text)
    assert caught.value.pattern == pattern


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (b"I am web1.example.com", b"I am # "),
        (b"I am web1, WEB1 and web1-eth0", b"I am # , # and # -eth0"),
        (b"web10 xweb1 web1x", b"web10 xweb1 web1x"),
    ],
)
def test_a_host_is_masked_by_its_name_and_first_label(text, masked):
    assert HOST.apply(text, "web1.example.com") == masked


def test_an_address_has_no_first_label():
    assert HOST.apply(b"192 192.0.2.1", "192.0.2.1") == b"192 # "


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-05",
        "2026-01-05 10:17:00",
        "2026-01-05T10:17:00.123456Z",
        "2026-01-05T10:17:00+01:00",
        "Mon 2026-01-05 10:17:00 UTC",
        "Mon Jan  5 10:17:00 UTC 2026",
        "Mon Jan  5 10:17:00 AM CET 2026",
        "Fri 02 Jan 2026 03:04:05 PM UTC",
        "Fri, 02 Jan 2026 03:04:05 GMT",
        "Jan  5 10:17:00",
        "02/Jan/2026:15:04:05 +0000",
        "10:17",
        "9:05 PM",
        "1-02:03:04",
        "2h 3min",
        "3 days",
        "2d4h",
        "0.05s",
        "12 ms",
    ],
)
def test_times(text):
    assert TIME.apply(f"at {text} done".encode(), "h") == b"at # done"


@pytest.mark.parametrize(
    "text", ["version 6.1.0", "port 8080", "00:11:22:33:44:55", "a10:17", "5 apples", "Jan", "sda1"]
)
def test_no_times(text):
    assert TIME.apply(text.encode(), "h") == text.encode()


@pytest.mark.parametrize("text", ["7", "7.5", "1,234,567", "99%", "9.8G", "12KiB", "188MB", "0x7ffe", "10.0.0.1"])
def test_numbers(text):
    assert NUMBER.apply(f"n {text} x".encode(), "h") == b"n # x"


@pytest.mark.parametrize("text", ["sda12", "eth0", "x_1", "none"])
def test_names_with_digits_are_no_numbers(text):
    assert NUMBER.apply(text.encode(), "h") == text.encode()


def test_numbers_of_different_widths_in_a_column_are_equal():
    one, other = b"/dev/vda  40G   9%  /\n", b"/dev/vda   7.5T 100% /\n"
    assert NUMBER.apply(one, "h") == NUMBER.apply(other, "h")


def test_masking_takes_linear_time():
    every = Masks(host=True, time=True, number=True)
    hostile = [b"1" * 400_000, b" " * 400_000, b"1:" * 200_000, b"1.1 " * 100_000, b"1s" * 200_000, b"web1" * 100_000]
    began = time.process_time()
    for data in hostile:
        every.apply(data + b"!", "web1")
    assert time.process_time() - began < 10
