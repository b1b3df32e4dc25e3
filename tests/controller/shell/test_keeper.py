"""Connections that are kept: served when something comes or is due, not touched once taken."""

from __future__ import annotations

import os
import queue
import threading

import pytest

from controller.shell.keeper import Keeper

PATIENCE = 30.0  # seconds; reached only by a test that fails


class Line:
    """Something with a descriptor; `served` tells of each time, `answers` are what it then says."""

    def __init__(self, name, answers=()):
        self.name = name
        self.served = queue.SimpleQueue()
        self._answers = list(answers)
        self._reader, self._writer = os.pipe()

    def fileno(self):
        return self._reader

    def serve(self):
        os.set_blocking(self._reader, False)
        try:
            text = os.read(self._reader, 100)
        except BlockingIOError:
            text = b""
        self.served.put(text)
        return self._answers.pop(0) if self._answers else 1000.0

    def send(self):
        os.write(self._writer, b"hello")

    def next(self):
        return self.served.get(timeout=PATIENCE)

    def close(self):
        os.close(self._reader)
        os.close(self._writer)


@pytest.fixture
def line():
    made = []

    def make(*arguments):
        made.append(Line(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_what_is_given_is_looked_at_once_and_when_something_comes(line):
    one = line("web1")
    with Keeper() as keeper:
        keeper.give(one)
        assert one.next() == b""
        one.send()
        assert one.next() == b"hello"
    assert one.served.empty()


def test_what_is_due_is_served_though_nothing_comes(line):
    one = line("web1", [0.0, 0.001])
    with Keeper() as keeper:
        keeper.give(one)
        assert [one.next() for _ in range(3)] == [b""] * 3


def test_what_is_taken_is_left_alone(line):
    one, other = line("web1"), line("web2")
    with Keeper() as keeper:
        keeper.give(one)
        keeper.give(other)
        one.next()
        other.next()
        keeper.take("web1")
        keeper.take("nobody")
        one.send()
        other.send()
        assert other.next() == b"hello"
    assert one.served.empty()


def test_what_is_no_more_is_forgotten(line):
    one, other = line("web1", [None]), line("web2")
    with Keeper() as keeper:
        keeper.give(one)
        one.next()
        keeper.give(other)
        one.send()
        other.next()
        other.send()
        assert other.next() == b"hello"
    assert one.served.empty()


def test_it_may_be_called_more_often_than_it_listens():
    keeper = Keeper()
    for _ in range(70_000):  # more than a pipe has room for
        keeper._wake()
    with keeper:
        pass


def test_an_end_that_comes_with_the_last_ring_is_heard(line, monkeypatch):
    """The ring that says so is read together with the one before it, and there is no other for a long time."""
    read = os.read
    reading, ended = threading.Event(), threading.Event()

    def read_late(fd, size):
        if fd == keeper._bell and threading.current_thread() is keeper._thread:
            reading.set()
            assert ended.wait(PATIENCE)
        return read(fd, size)

    monkeypatch.setattr("controller.shell.keeper.os.read", read_late)
    keeper = Keeper()
    with keeper:
        keeper.give(line("web1"))
        assert reading.wait(PATIENCE)
        keeper._over = True  # what the end does, in that very moment
        keeper._wake()
        ended.set()
        keeper._thread.join(PATIENCE)
        assert not keeper._thread.is_alive()
