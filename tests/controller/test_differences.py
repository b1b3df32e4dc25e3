"""Differences between texts, and what becomes of those that are none."""

from __future__ import annotations

import hashlib

import pytest

from controller.differences import LARGEST, Content, Differences

TEXT = b"text\n"


def difference(old: bytes | None, new: bytes) -> str:
    return Differences().text("web1", "/etc/x", None if old is None else Content.of(old), Content.of(new))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"a\nb\n", b"a\nc\n", "--- /etc/x\n+++ /etc/x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"),
        (None, b"a\n", "--- /dev/null\n+++ /etc/x\n@@ -0,0 +1 @@\n+a\n"),
        (b"a\n", b"", "--- /etc/x\n+++ /etc/x\n@@ -1 +0,0 @@\n-a\n"),
        (b"a", b"a\n", "--- /etc/x\n+++ /etc/x\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"),
        (
            b"".join(b"%d\n" % number for number in range(20)),
            b"".join(b"%d\n" % number for number in range(20) if number != 10),
            "--- /etc/x\n+++ /etc/x\n@@ -8,7 +8,6 @@\n 7\n 8\n 9\n-10\n 11\n 12\n 13\n",
        ),
        # Other ends of lines are characters like any.
        (b"a\rb\x0cc\n", b"a\rb\x0cd\n", "--- /etc/x\n+++ /etc/x\n@@ -1 +1 @@\n-a\rb\x0cc\n+a\rb\x0cd\n"),
    ],
)
def test_texts(old: bytes | None, new: bytes, expected: str) -> None:
    assert difference(old, new) == expected


def short(data: bytes) -> str:
    return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:12]}"


@pytest.mark.parametrize("data", [b"a\0b", b"\xff", bytes(LARGEST + 1)])
def test_what_is_no_text(data: bytes) -> None:
    assert difference(TEXT, data) == f"/etc/x: {short(TEXT)} -> {short(data)}\n"
    assert difference(data, TEXT) == f"/etc/x: {short(data)} -> {short(TEXT)}\n"
    assert difference(None, data) == f"/etc/x: nothing -> {short(data)}\n"


def test_what_takes_too_long_to_compare() -> None:
    """A host could answer with a text that keeps us busy for minutes."""
    old = b"".join(b"%d\n" % (number % 3000) for number in range(30_000))
    new = b"".join(b"%d\n" % (number % 2999) for number in range(30_000))
    assert difference(old, new) == f"/etc/x: {short(old)} -> {short(new)}\n"
    # One line in the middle of as many others is no work.
    assert difference(old, old.replace(b"\n2999\n", b"\nx\n", 1)) == (
        "--- /etc/x\n+++ /etc/x\n@@ -2997,7 +2997,7 @@\n 2996\n 2997\n 2998\n-2999\n+x\n 0\n 1\n 2\n"
    )


def test_a_host_has_so_much_and_no_more() -> None:
    differences = Differences()
    texts = [
        differences.text("web1", f"/{number}", None, Content.of(b"x" * 200_000 + b"%d\n" % number))
        for number in range(6)
    ]
    assert [len(text) > 200_000 for text in texts] == [True] * 5 + [False]
    assert len(differences.text("web2", "/9", None, Content.of(b"y" * 200_000))) > 200_000


def test_equal_ones_are_kept_once() -> None:
    differences = Differences()
    texts = [differences.text(host, "/etc/x", Content.of(b"a\n"), Content.of(b"b\n")) for host in ("web1", "web2")]
    assert texts[0] is texts[1]
