"""Whoever reads our output may go at any time."""

from __future__ import annotations

import os
import queue
import select
import threading

import pytest

from controller.cancel import CancelToken
from controller.stdout_watch import StdoutWatch


def test_the_reader_goes():
    reader, writer = os.pipe()
    token = CancelToken()
    with StdoutWatch(writer, token) as watch:
        watch.check()
        os.close(reader)
        assert select.select([token], [], [], 30)[0]
        with pytest.raises(BrokenPipeError):
            watch.check()
    os.close(writer)


def test_the_reader_has_gone_already():
    reader, writer = os.pipe()
    os.close(reader)
    token = CancelToken()
    with StdoutWatch(writer, token):
        assert select.select([token], [], [], 30)[0]
    os.close(writer)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/full"])
def test_what_has_no_reader_has_none_to_lose(path):
    token = CancelToken()
    with open(path, "wb") as file, StdoutWatch(file.fileno(), token) as watch:
        pass
    watch.check()
    assert not token.is_set


def test_the_end_of_the_block_is_the_end_of_the_watch():
    reader, writer = os.pipe()
    token = CancelToken()
    with StdoutWatch(writer, token) as watch:
        assert "watch stdout" in [thread.name for thread in threading.enumerate()]
    assert "watch stdout" not in [thread.name for thread in threading.enumerate()]
    os.close(reader)
    watch.check()
    assert not token.is_set
    os.close(writer)


class Onlooker:
    """Waits for a pipe, and notes what it is called with."""

    def __init__(self, *descriptors, seconds=None):
        self.descriptors = descriptors
        self.seconds = seconds
        self.calls = queue.SimpleQueue()

    def waits_for(self):
        return self.descriptors, self.seconds

    def called(self, ready, *, asked):
        for descriptor in ready:
            os.read(descriptor, 100)
        self.calls.put((list(ready), asked))


@pytest.fixture
def output():
    reader, writer = os.pipe()
    yield writer
    os.close(reader)
    os.close(writer)


def test_a_bystander_is_called_for_what_it_waits_for(output):
    reader, writer = os.pipe()
    onlooker = Onlooker(reader)
    with StdoutWatch(output, CancelToken(), onlooker) as watch:
        os.write(writer, b"x")
        assert onlooker.calls.get(timeout=30) == ([reader], False)
        watch.ask()
        assert onlooker.calls.get(timeout=30) == ([], True)
    os.close(reader)
    os.close(writer)


def test_a_bystander_is_called_when_the_time_has_come(output):
    onlooker = Onlooker(seconds=0.001)
    with StdoutWatch(output, CancelToken(), onlooker):
        assert onlooker.calls.get(timeout=30) == ([], False)
        assert onlooker.calls.get(timeout=30) == ([], False)


def test_a_bystander_is_called_after_the_reader_has_gone():
    reader, writer = os.pipe()
    token, onlooker = CancelToken(), Onlooker()
    with StdoutWatch(writer, token, onlooker) as watch:
        os.close(reader)
        assert onlooker.calls.get(timeout=30) == ([], False)
        assert token.is_set
        watch.ask()
        assert onlooker.calls.get(timeout=30) == ([], True)
    os.close(writer)


def test_nobody_has_to_be_there_to_be_asked(output):
    with StdoutWatch(output, CancelToken()) as watch:
        watch.ask()
    assert not watch._token.is_set


def test_asking_never_waits(output):
    watch = StdoutWatch(output, CancelToken())  # and nobody reads what is asked
    for _ in range(100_000):
        watch.ask()
    with watch:
        pass
