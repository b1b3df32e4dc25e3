"""Listings of variables: what each shell prints is read exactly, and what no shell prints is not guessed at."""

from __future__ import annotations

import shutil
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.shell.listing import read_listing

SHELLS = [shell for shell in (["/bin/sh"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]

VALUES = st.binary(max_size=40).filter(lambda value: b"\0" not in value) | st.text(
    "ab'\"\\$`!*~#=() \n\t\x01\x7fé\u2028", max_size=20
).map(str.encode)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("lang", ["C", "C.UTF-8"])
@settings(max_examples=25, deadline=None)
@given(exported=VALUES, plain=VALUES)
def test_what_a_real_shell_lists_is_read_back(shell, lang, exported, plain):
    # Not by name: a variable of the environment would be exported in the second listing too.
    script = 'plain=$hidden; unset hidden; export -p; echo "a line between"; set'
    done = subprocess.run(
        [*shell, "-c", script],
        env={"exported": exported, "hidden": plain, "LANG": lang, "PATH": "/usr/bin:/bin"},
        capture_output=True, check=True,
    )  # fmt: skip
    first, _, second = done.stdout.partition(b"a line between\n")
    assert read_listing(first)[b"exported"] == exported
    assert b"plain" not in read_listing(first)
    assert read_listing(second)[b"exported"] == exported
    assert read_listing(second)[b"plain"] == plain


READ = [
    (b"A='x'\n", {b"A": b"x"}),
    (b"A=\n", {b"A": b""}),
    (b"A=''\n", {b"A": b""}),
    (b"A='it'\"'\"'s'\n", {b"A": b"it's"}),  # dash, busybox
    (b"A='it'\\''s'\n", {b"A": b"it's"}),  # bash
    (b"A='two\nlines'\nB=2\n", {b"A": b"two\nlines", b"B": b"2"}),
    (b"A='one\nB=no'\nC=3\n", {b"A": b"one\nB=no", b"C": b"3"}),
    (b'export A="a \\$ \\` \\" \\\\ \\x b"\n', {b"A": b'a $ ` " \\ \\x b'}),
    (b'A="a\\\nb"\n', {b"A": b"ab"}),
    (b"A=$'\\001\\x41\\e\\n\\t\\'\\\\\\\"'\n", {b"A": b"\x01A\x1b\n\t'\\\""}),
    (b"A=a\\ b\n", {b"A": b"a b"}),
    (b"A=\xc3\xa9\xff\n", {b"A": b"\xc3\xa9\xff"}),
    (b"A=\x01\r\x7f\n", {b"A": b"\x01\r\x7f"}),  # bash --posix
    (b"export A\nexport B='1'\n", {b"A": None, b"B": b"1"}),
    (b'declare -x A="1"\ntypeset -x B=2\n', {b"A": b"1", b"B": b"2"}),
    (b"A=1\nA=2\n", {b"A": b"2"}),
    # Skipped, and what follows is read.
    (b"A=([0]=\"x\" [1]='y\nZ=1')\nB=2\n", {b"B": b"2"}),
    (b"A=()\nB=2\n", {b"B": b"2"}),
    (b"f () \n{ \n    C=3\n}\nB=2\n", {b"B": b"2"}),
    (b"A=`id`\nB=2\n", {b"B": b"2"}),
    (b"A=$(id)\nB=2\n", {b"B": b"2"}),
    (b'A="$B"\nB=2\n', {b"B": b"2"}),
    (b"A=$'\\q'\nB=2\n", {b"B": b"2"}),
    (b"A=$'\\0'\nB=2\n", {b"B": b"2"}),
    (b"A=x;id\nB=2\n", {b"B": b"2"}),
    (b"A=x id\nB=2\n", {b"B": b"2"}),
    (b"1A=x\n =y\n\n-\nB=2\n", {b"B": b"2"}),
    (b"export  A=1\nB=2\n", {b"B": b"2"}),
    (b"A\\=1\nB=2\n", {b"B": b"2"}),
    # Cut anywhere: nothing of what is not whole.
    (b"B=2\nA='x", {b"B": b"2"}),
    (b"B=2\nA=x", {b"B": b"2"}),
    (b'B=2\nA="x\\', {b"B": b"2"}),
    (b"B=2\nA=(x", {b"B": b"2"}),
    (b"B=2\nA=", {b"B": b"2"}),
    (b"B=2\nexport ", {b"B": b"2"}),
    (b"", {}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "found"), READ, ids=[repr(row[0])[:40] for row in READ])
def test_a_listing(text, found):
    assert read_listing(text) == found


@given(st.binary(max_size=200) | st.text("A=B'\"\\$`(\n) x", max_size=200).map(str.encode))
def test_any_bytes_are_read_or_skipped(text):
    for name, value in read_listing(text).items():
        assert name.decode("ascii").isidentifier()
        assert value is None or b"\0" not in value


@pytest.mark.parametrize(
    "unit", [b"A='\n", b'A="\n', b"A=(\n", b"A=('\"\n", b"A=$'\\\n", b"A=(\"'\"'\n", b"\\\n", b"A=x\\"]
)
def test_hostile_text_takes_time_by_its_length(unit):
    began = time.process_time()
    read_listing(unit * (1024 * 1024 // len(unit)))
    assert time.process_time() - began < 10  # one that looks back takes hours
