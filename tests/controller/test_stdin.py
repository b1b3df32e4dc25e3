"""One standard input and its sources: files, bytes, and streams that go to one host or to several."""

from __future__ import annotations

import io
import os
import select
import threading

import pytest

from controller import stdin as module
from controller.errors import FleetError
from controller.stdin import open_input

PATIENCE = 20.0


def never(error):
    raise AssertionError(error)


def read_all(source, limit=65536):
    """Read a source to its end as a sender does."""
    found = []
    while True:
        fd = source.fileno()
        if fd is not None:
            assert select.select([fd], [], [], PATIENCE)[0], "nothing comes"
        data = source.read(limit)
        if data == b"":
            return found
        if data is not None:
            found.append(data)


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as one, open(writing, "wb", buffering=0) as other:
        yield one, other


def opened(given, hosts=1, fail=never):
    source = open_input(given)
    source.begin(hosts, fail)
    return source


def open_descriptors():
    return sorted(os.listdir("/proc/self/fd"))


# Bytes and files


@pytest.mark.parametrize("content", [b"", b"x", b"0123456789"])
def test_bytes(content):
    one = opened(content, hosts=2)
    first, second = one.source(), one.source()
    assert first.fileno() is None
    assert first.read(4) == content[:4]
    assert b"".join(read_all(second, 3)) == content
    assert b"".join(read_all(first, 100)) == content[4:]
    first.close()
    one.close()


def test_a_file_is_read_by_each_at_its_own_place(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    before = open_descriptors()
    for given in (str(path), path):
        one = opened(given, hosts=2)
        first, second = one.source(), one.source()
        assert first.read(4) == b"0123"
        assert read_all(second, 6) == [b"012345", b"6789"]
        assert read_all(first) == [b"456789"]
        first.close()
        one.close()
        one.close()  # once more is no mistake
    assert open_descriptors() == before


def test_an_open_file_is_read_from_where_it_stands(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"one\ntwo\n")
    with path.open("rb") as file:
        assert file.readline() == b"one\n"
        one = opened(file)
    assert read_all(one.source()) == [b"two\n"]
    one.close()


def test_an_input_that_is_forgotten_holds_nothing(tmp_path):
    before = open_descriptors()
    (tmp_path / "x").touch()
    opened(tmp_path / "x")
    assert open_descriptors() == before


def test_what_a_file_grows_by_meanwhile_is_read_too(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"one")
    one = opened(path)
    source = one.source()
    assert source.read(9) == b"one"
    with path.open("ab") as file:
        file.write(b"two")
    assert source.read(9) == b"two"
    assert source.read(9) == b""


def test_a_file_that_cannot_be_read_on_has_not_ended():
    """A file system that breaks down: /proc/self/mem has nothing at address 0."""
    errors = []
    one = opened("/proc/self/mem", fail=errors.append)
    assert one.source().read(9) is None
    (error,) = errors
    assert (str(error), error.exit_code) == ("stdin: cannot be read: input/output error", 3)


def test_an_error_before_the_beginning_is_nobodys():
    assert open_input("/proc/self/mem").source().read(9) is None


# Mistakes


def mistake(given):
    before = open_descriptors()
    with pytest.raises(FleetError) as caught:
        open_input(given, "--stdin")
    assert open_descriptors() == before
    assert caught.value.exit_code == 2
    return str(caught.value), caught.value.hint


def test_what_cannot_be_opened(tmp_path, monkeypatch):
    assert mistake("/no/such") == ("--stdin: /no/such: no such file or directory", "FILE is a file on this machine")
    assert mistake(str(tmp_path)) == (f"--stdin: {tmp_path}: is a directory", None)
    assert mistake("a\0b") == ("--stdin: 'a\\x00b': holds a NUL byte, which no path can", None)
    (tmp_path / "file").touch()
    assert mistake(str(tmp_path / "file/x")) == (f"--stdin: {tmp_path}/file/x: not a directory", None)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert mistake(str(loop)) == (f"--stdin: {loop}: too many levels of symbolic links", None)

    def deny(path, flags):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.os, "open", deny)
    assert mistake("/etc/shadow") == ("--stdin: /etc/shadow: permission denied", None)


def test_what_is_no_open_file(tmp_path):
    neither = "--stdin: expected bytes, a path, or an open file with a descriptor"
    assert mistake(io.BytesIO(b"x")) == (neither, None)
    assert mistake(None) == (neither, None)
    with (tmp_path / "x").open("wb") as file:
        assert mistake(file) == ("--stdin: standard input: is not open for reading", None)
    assert mistake(file) == (neither, None)  # closed by now


# One host


def test_the_only_host_has_the_stream_itself(pipe):
    reading, writing = pipe
    one = opened(reading)
    source = one.source()
    assert source.fileno() is not None
    assert source.read(9) is None
    assert not select.select([source.fileno()], [], [], 0)[0]
    writing.write(b"0123456789")
    assert source.read(4) == b"0123"
    assert source.read(9) == b"456789"
    assert source.read(9) is None
    writing.close()
    assert source.read(9) == b""
    source.close()
    one.close()


def test_a_stream_that_somebody_else_has_read(pipe, monkeypatch):
    reading = pipe[0]
    os.set_blocking(reading.fileno(), False)
    source = opened(reading).source()

    class Ready:
        def poll(self, timeout):
            return [(reading.fileno(), select.POLLIN)]

    monkeypatch.setattr(source, "_poller", Ready())
    assert source.read(9) is None


def test_a_stream_that_breaks(pipe, monkeypatch):
    errors = []
    source = opened(pipe[0], fail=errors.append).source()
    pipe[1].write(b"x")

    def broken(fd, size):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module.os, "read", broken)
    assert source.read(9) is None
    assert [str(error) for error in errors] == ["stdin: cannot be read: input/output error"]


def test_a_device_is_a_stream():
    one = opened("/dev/null", hosts=3)
    assert [read_all(one.source()) for _ in range(3)] == [[], [], []]
    one.close()


# Several hosts


def test_a_stream_is_spooled_for_several(pipe):
    before = open_descriptors()
    reading, writing = pipe
    one = opened(reading, hosts=3)
    first, second = one.source(), one.source()
    assert first.read(9) is None
    assert second.read(9) is None
    writing.write(b"one")
    for source in (first, second):
        assert select.select([source.fileno()], [], [], PATIENCE)[0]
        assert source.read(9) == b"one"
        assert source.fileno() is None  # there may be more: worth a try
        assert source.read(9) is None
    assert first.read(9) is None  # nothing has come since
    writing.write(b"two")
    writing.close()
    late = one.source()
    assert b"".join(read_all(late)) == b"onetwo"
    assert b"".join(read_all(first)) == b"two"
    assert first.read(9) == b""
    for source in (first, second, late):
        source.close()
    one.close()
    one.close()
    assert len(open_descriptors()) == len(before) - 1  # the writing end is closed by now


def test_several_threads_read_a_spool_that_grows(pipe):
    reading, writing = pipe
    content = bytes(range(256)) * 8192
    one = opened(reading, hosts=8)
    found = []

    def read():
        source = one.source()
        found.append(b"".join(read_all(source, 10_000)))
        source.close()

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    rest = memoryview(content)
    while rest:
        rest = rest[writing.write(rest[:100_000]) :]
    writing.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == [content] * 8
    one.close()
