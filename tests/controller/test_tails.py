"""The last line that each host wrote."""

from __future__ import annotations

import pytest

from controller.results import Result, Status
from controller.tails import Tails


class Recorder:
    keeps = True

    def __init__(self):
        self.calls = []

    def start(self, host):
        self.calls.append(("start", host))

    def stdout(self, host, data):
        self.calls.append(("stdout", host, data))

    def stderr(self, host, data):
        self.calls.append(("stderr", host, data))

    def end(self, result):
        self.calls.append(("end", result))

    def finish(self, run, results):
        self.calls.append(("finish", run, results))


@pytest.fixture
def sink():
    return Recorder()


@pytest.fixture
def tails(sink):
    return Tails(sink)


def test_everything_is_passed_on(tails, sink):
    result = Result("web1", Status.OK)
    tails.start("web1")
    tails.stdout("web1", b"a")
    tails.stderr("web1", b"b")
    tails.end(result)
    tails.finish("run", [result])
    assert sink.calls == [
        ("start", "web1"),
        ("stdout", "web1", b"a"),
        ("stderr", "web1", b"b"),
        ("end", result),
        ("finish", "run", [result]),
    ]
    assert tails.keeps


@pytest.mark.parametrize(
    ("written", "last"),
    [
        ([], b""),
        ([b"\n", b" \n"], b""),
        ([b"one\ntwo\n"], b"two"),
        ([b"one\ntwo", b"more"], b"twomore"),
        ([b"one\n", b"\n", b"\r\n"], b"one"),
        ([b" 50%\r", b"100%"], b"100%"),
        ([b"a\n" + b"x" * 10_000], b"x" * 512),
        ([b"x" * 511, b"yz"], b"x" * 510 + b"yz"),
        ([b"\xe6\x97\xa5" * 300], b"\xe6\x97\xa5" * 170),
        ([memoryview(b"of a buffer\n")], b"of a buffer"),
    ],
)
def test_the_last_line_with_something_in_it(tails, written, last):
    tails.start("web1")
    for data in written:
        tails.stdout("web1", data)
    assert tails.last_line("web1") == last


def test_both_streams_count_and_hosts_are_apart(tails):
    assert tails.last_line("web1") is None
    tails.start("web1")
    tails.stdout("web1", b"out\n")
    tails.stderr("web1", b"err\n")
    tails.stdout("web2", b"other")
    assert (tails.last_line("web1"), tails.last_line("web2")) == (b"err", b"other")
    tails.end(Result("web1", Status.OK))
    tails.end(Result("web3", Status.SKIPPED))
    assert tails.last_line("web1") is None


def test_no_buffer_is_kept_alive(tails):
    tails.stdout("web1", b"x" * 100_000)
    assert sum(map(len, tails._ends.values())) == 512
