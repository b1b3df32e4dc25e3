"""A script is read once, and what no kernel would run is refused before any host is reached."""

from __future__ import annotations

import os
import threading

import pytest

from agent.wire.constants import MAX_SCRIPT
from controller import Script
from controller import script as module
from controller.errors import FleetError

TEXT = b"#!/bin/sh\nexit 0\n"


def test_a_script_of_a_program():
    script = Script("check it", TEXT, ("-v", "a b", ""))
    assert script.label == "'check it' -v 'a b' ''"
    assert "exit" not in repr(script)
    assert Script("x", b"\x7fELF...").arguments == ()


def test_a_script_of_a_file(tmp_path):
    path = tmp_path / "check.sh"
    path.write_bytes(TEXT)
    assert Script.read(path, ["-v"]) == Script("check.sh", TEXT, ("-v",))
    assert Script.read(str(path)).label == "check.sh"


def test_a_script_of_a_fifo_is_read_until_its_end(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)

    def write():
        with open(path, "wb", buffering=0) as file:
            file.write(TEXT)
            file.write(b"x" * 200_000)

    thread = threading.Thread(target=write)
    thread.start()
    script = Script.read(path)
    thread.join()
    assert (script.name, script.content) == (path, TEXT + b"x" * 200_000)


def test_the_largest_script(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(TEXT.ljust(MAX_SCRIPT, b"#"))
    assert len(Script.read(path).content) == MAX_SCRIPT


@pytest.mark.parametrize(
    ("content", "why", "hint"),
    [
        (b"", "is empty", None),
        (b"echo\n", "does not begin with #!", "the first line says what runs it, such as #!/bin/sh"),
        (b" #!/bin/sh\n", "does not begin with #!", "the first line says what runs it, such as #!/bin/sh"),
        (b"#", "does not begin with #!", "the first line says what runs it, such as #!/bin/sh"),
        ("#!/bin/sh".encode("utf-16"), "does not begin with #!", "the first line says what runs it, such as #!/bin/sh"),
        (
            b"\xef\xbb\xbf#!/bin/sh\n",
            "begins with a byte order mark, which hides the #!",
            r"sed -i '1s/^\xEF\xBB\xBF//' 'a b'",
        ),
        (
            b"#!/bin/sh\r\necho\r\n",
            "its lines end in CR LF, as on Windows; no system finds what runs it",
            r"sed -i 's/\r$//' 'a b'",
        ),
        (
            b"#!/bin/sh\r",
            "its lines end in CR LF, as on Windows; no system finds what runs it",
            r"sed -i 's/\r$//' 'a b'",
        ),
        (b"#!\n/bin/sh\n", "nothing stands behind the #!", "such as #!/bin/sh"),
        (b"#! \t", "nothing stands behind the #!", "such as #!/bin/sh"),
    ],
)
def test_what_cannot_be_run(content, why, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b").write_bytes(content)
    with pytest.raises(FleetError) as caught:
        Script.read("a b", what="--script")
    assert (str(caught.value), caught.value.hint) == (f"--script: a b: {why}", hint)
    with pytest.raises(FleetError) as caught:
        Script("a b", content)
    assert (str(caught.value), caught.value.hint) == (f"script: a b: {why}", hint)


def test_crs_behind_the_first_line_are_its_own_affair():
    assert Script("x", b"#!/bin/sh\necho\r\n").name == "x"


def test_a_hint_that_mends_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "it's"
    for content in (b"#!/bin/sh\r\nexit 0\r\n", b"\xef\xbb\xbf#!/bin/sh\nexit 0\n"):
        path.write_bytes(content)
        with pytest.raises(FleetError) as caught:
            Script.read("it's")
        assert os.system(caught.value.hint) == 0
        assert Script.read("it's").content == TEXT


def test_what_is_too_large_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "big"
    path.touch()
    os.truncate(path, 100_000_000)
    monkeypatch.setattr(module.os, "read", None)
    with pytest.raises(FleetError) as caught:
        Script.read(path)
    assert str(caught.value) == f"script: {path}: is too large, at most 16 MiB"
    assert caught.value.hint == "fleet push it, then run it there"


def test_an_endless_script():
    with pytest.raises(FleetError, match=r"^script: /dev/zero: is too large, at most 16 MiB$"):
        Script.read("/dev/zero")


@pytest.mark.parametrize(
    ("path", "why", "hint"),
    [
        ("none", "no such file or directory", "FILE is a file on this machine"),
        (".", "is a directory", None),
        ("/proc/self/mem", "input/output error", None),
        ("a\0b", "holds a NUL byte, which no path can", None),
    ],
)
def test_what_cannot_be_read(tmp_path, monkeypatch, path, why, hint):
    monkeypatch.chdir(tmp_path)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FleetError) as caught:
        Script.read(path, what="--script")
    shown = repr(path) if "\0" in path else path
    assert (str(caught.value), caught.value.hint) == (f"--script: {shown}: {why}", hint)
    assert os.listdir("/proc/self/fd") == before
