"""A script on its way: where it lies, what it may become, and what is left of it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat

import pytest

from agent import script as module
from agent.script import Incoming, ScriptError, ScriptFile
from agent.wire import messages as m

TEXT = b"#!/bin/sh\nexit 0\n"


@pytest.fixture
def no_memory(monkeypatch):
    """A system where no memory may be executed."""

    def refuse(name, *, executable):
        assert executable
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(module, "memory_file", refuse)


@pytest.fixture
def no_nameless_files(monkeypatch):
    """A file system on which every file has a name at first (open(2), O_TMPFILE)."""
    real = os.open

    def refuse(path, flags, *more, **others):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, *more, **others)

    monkeypatch.setattr(os, "open", refuse)


@pytest.fixture(params=["memory", "folder", "folder without nameless files"])
def file(request, tmp_path):
    if request.param != "memory":
        request.getfixturevalue("no_memory")
    if request.param == "folder without nameless files":
        request.getfixturevalue("no_nameless_files")
    before = os.listdir("/proc/self/fd")
    file = ScriptFile(str(tmp_path))
    yield file
    file.close()
    assert os.listdir(tmp_path) == []
    assert os.listdir("/proc/self/fd") == before


def test_what_is_written_can_be_read_and_executed_by_anybody_and_changed_by_nobody(file):
    file.write(TEXT[:5])
    file.write(TEXT[5:])
    fd = file.seal()
    assert os.pread(fd, 100, 0) == TEXT
    info = os.fstat(fd)
    assert (stat.S_IMODE(info.st_mode), info.st_nlink) == (0o555, 0)
    assert not os.get_inheritable(fd)
    with pytest.raises(OSError) as caught:
        os.write(fd, b"x")
    assert caught.value.errno == errno.EBADF


def test_in_memory_even_root_cannot_change_it(tmp_path):
    file = ScriptFile(None)
    file.write(TEXT)
    fd = file.seal()
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR) if os.geteuid() == 0 else None
    if again is not None:
        with pytest.raises(PermissionError):
            os.write(again, b"x")
        with pytest.raises(PermissionError):
            os.truncate(again, 0)
        os.close(again)
    file.close()


def test_a_folder_that_is_not_there(no_memory, tmp_path):
    with pytest.raises(FileNotFoundError):
        ScriptFile(str(tmp_path / "none"))


@pytest.mark.usefixtures("no_memory")
def test_no_place_at_all(tmp_path):
    with pytest.raises(PermissionError):
        ScriptFile(None)
    with pytest.raises(FileNotFoundError):
        ScriptFile(str(tmp_path / "none"))


def test_a_fault_that_no_folder_mends(monkeypatch, tmp_path):
    def refuse(name, *, executable):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(module, "memory_file", refuse)
    with pytest.raises(ScriptError, match=r"^cannot keep the script: Too many open files$") as caught:
        Incoming(m.Run("x", script=True), None, str(tmp_path))
    assert caught.value.reason == "Too many open files"


class Fed(list):
    """An execution that notes what it is fed."""

    feed = list.append


def end(stream, data=b""):
    return m.EndOfStream(stream, len(data), hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def incoming():
    incoming = Incoming(m.Run("x", script=True, stdin=True), None, None)
    yield incoming
    incoming.close()


def test_it_is_there_at_its_end(incoming):
    assert str(incoming) == "not come yet"
    assert not incoming.take(m.Script(TEXT[:4]))
    assert not incoming.take(m.Script(TEXT[4:]))
    assert incoming.take(end(m.Stream.SCRIPT, TEXT))
    assert str(incoming) == f"{len(TEXT)} bytes, SHA-256 {hashlib.sha256(TEXT).hexdigest()}"
    assert os.pread(incoming.seal(), 100, 0) == TEXT
    fed = Fed()
    incoming.feed_early(fed)
    assert fed == []


def test_input_that_comes_first_is_kept_in_order(incoming):
    for _ in range(300):
        incoming.take(m.Stdin(b"x" * 1000))
    last = end(m.Stream.STDIN, b"x" * 300_000)
    assert not incoming.take(last)
    fed = Fed()
    incoming.feed_early(fed)
    assert fed == [m.Stdin(b"x" * 262_144), m.Stdin(b"x" * 37_856), last]


def test_no_room(incoming, monkeypatch):
    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    with pytest.raises(ScriptError, match=r"^cannot keep the script: No space left on device$"):
        incoming.take(m.Script(b"x"))


def test_no_descriptor_to_read_it_by(incoming, monkeypatch):
    def full(path, flags):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(module.os, "open", full)
    with pytest.raises(ScriptError, match=r"^cannot keep the script: Too many open files$"):
        incoming.seal()


def test_what_else_comes_does_nothing(incoming):
    assert not incoming.take(m.Ping())
