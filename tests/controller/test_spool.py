"""A stream in a temporary file: how far it reads ahead, and what a full disk does."""

from __future__ import annotations

import errno
import os
import queue
import select
import tempfile
import threading

import pytest

from controller import spool as module
from controller.errors import FleetError
from controller.spool import Spool

PATIENCE = 20.0


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


@pytest.fixture
def begun():
    """Return a function that begins to spool; what fails is in the spool's `errors`."""
    spools = []

    def begin(fd, **options):
        spool = Spool(fd, "--stdin", **options)
        spool.errors = queue.Queue()
        spool.begin(2, spool.errors.put)
        spools.append(spool)
        return spool

    yield begin
    for spool in spools:
        spool.close()


def test_it_reads_no_further_than_it_may_ahead_of_the_quickest(pipe, begun, tmp_path):
    """What is in the file is bounded by what somebody has taken."""
    content, ahead, piece = 1_000_000, 100_000, 65536
    spool = begun(pipe[0], ahead=ahead)
    source, slow = spool.source(), spool.source()
    assert slow.read(1) is None
    thread = threading.Thread(target=fill, args=(pipe[1], content))
    thread.start()
    taken = 0
    while taken < content:
        if (fd := source.fileno()) is not None:
            assert select.select([fd], [], [], PATIENCE)[0]
        taken += len(source.read(10_000) or b"")
        assert os.fstat(spool._file).st_size < taken + ahead + piece
    thread.join()
    assert slow.read(1) == b"x"
    source.close()
    slow.close()


def fill(pipe, count):
    os.set_blocking(pipe, True)
    while count:
        count -= os.write(pipe, b"x" * min(count, 65536))


def test_closing_does_not_wait_for_the_stream(pipe):
    """Neither for its next byte, nor for room."""
    reading, writing = pipe
    for content in (b"", b"xx"):
        os.write(writing, content)
        spool = Spool(reading, "--stdin", ahead=1)
        spool.begin(2, lambda error: None)
        source = spool.source()
        spool.close()
        source.close()


def test_one_that_was_never_begun_can_be_closed(pipe):
    Spool(pipe[0], "--stdin").close()


def test_no_place_for_the_file(pipe, monkeypatch):
    def full(**options):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(FleetError) as caught:
        Spool(pipe[0], "--stdin").begin(2, lambda error: None)
    assert str(caught.value) == "--stdin: cannot be spooled: No usable temporary directory found in ['/tmp']"
    assert (caught.value.hint, caught.value.exit_code) == ("TMPDIR says where", 2)


def test_a_full_disk_is_one_error_and_no_end(pipe, begun, monkeypatch):
    def full(spool, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Spool, "_write", full)
    spool = begun(pipe[0])
    source = spool.source()
    os.write(pipe[1], b"x")
    error = spool.errors.get(timeout=PATIENCE)
    where = tempfile.gettempdir()
    assert str(error) == f"--stdin: cannot be spooled in {where}: no space left on device"
    assert error.exit_code == 3
    assert source.read(9) is None
    source.close()
    assert spool.errors.empty()


def test_a_stream_that_breaks_has_not_ended(begun, tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    spool = begun(folder)
    source = spool.source()
    assert str(spool.errors.get(timeout=PATIENCE)) == "--stdin: cannot be read: is a directory"
    assert source.read(9) is None
    source.close()
    os.close(folder)


def test_a_stream_that_somebody_else_has_read(pipe, begun, monkeypatch):
    """It polls as readable, and then there is nothing."""
    reading, writing = pipe
    tries = []
    read = os.read

    def stolen(fd, size):
        tries.append(1)
        if len(tries) == 1:
            raise BlockingIOError
        return read(fd, size)

    monkeypatch.setattr(module.os, "read", stolen)
    spool = begun(reading)
    source = spool.source()
    assert source.read(9) is None
    os.write(writing, b"x")
    assert select.select([source.fileno()], [], [], PATIENCE)[0]
    assert source.read(9) == b"x"
    assert len(tries) >= 2
    source.close()


def test_a_spool_that_cannot_be_read_back(pipe, begun, monkeypatch):
    spool = begun(pipe[0])
    source = spool.source()
    assert source.read(9) is None
    os.write(pipe[1], b"x")
    assert select.select([source.fileno()], [], [], PATIENCE)[0]

    def broken(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.os, "pread", broken)
    assert source.read(9) is None
    assert str(spool.errors.get(timeout=PATIENCE)) == "--stdin: cannot be read from its spool: input/output error"
    source.close()
