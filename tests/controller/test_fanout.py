"""The pool: order, width, cancelling, crashes, and limits of the system."""

from __future__ import annotations

import resource
import threading

import pytest

from controller.cancel import CancelToken
from controller.errors import FleetError
from controller.fanout import fan_out, fit_to_limits

PATIENCE = 30.0


def pool_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fan-out")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert pool_threads() == []


def run(targets, work, *, width, cancel=None):
    return fan_out(
        targets, work, width=width, cancel=cancel or CancelToken(), skipped=lambda target: ("skipped", target)
    )


def test_results_come_as_they_finish():
    gates = {name: threading.Event() for name in "abc"}
    gates["c"].set()

    def work(name):
        assert gates[name].wait(PATIENCE)
        return name

    results = run("abc", work, width=3)
    assert next(results) == "c"
    gates["a"].set()
    assert next(results) == "a"
    gates["b"].set()
    assert list(results) == ["b"]


def test_work_is_begun_in_order():
    begun = []

    def work(number):
        begun.append(number)
        return number

    assert list(run(range(50), work, width=1)) == list(range(50))
    assert begun == list(range(50))


@pytest.mark.parametrize("width", [1, 3, 8])
def test_as_many_at_once_as_wanted_and_never_more(width):
    lock, most, now = threading.Lock(), [0], [0]
    together = threading.Barrier(width)

    def work(number):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait(PATIENCE)  # passes only when `width` of them are here
        with lock:
            now[0] -= 1
        return number

    assert sorted(run(range(width * 4), work, width=width)) == list(range(width * 4))
    assert most == [width]


def test_no_more_threads_than_targets():
    counts = []
    assert list(run([1], lambda number: counts.append(len(pool_threads())) or number, width=1000)) == [1]
    assert counts == [1]


def test_no_targets():
    assert list(run([], lambda target: target, width=4)) == []


def test_cancelled_before_it_began():
    token = CancelToken()
    token.set()
    assert list(run("ab", lambda target: pytest.fail("begun"), width=2, cancel=token)) == [
        ("skipped", "a"),
        ("skipped", "b"),
    ]


def test_cancelled_in_the_middle():
    token = CancelToken()

    def work(number):
        if number == 1:
            token.set()
        return number

    assert list(run(range(4), work, width=1, cancel=token)) == [0, 1, ("skipped", 2), ("skipped", 3)]


def test_a_crash_is_raised_and_cancels_the_others():
    token = CancelToken()
    begun = threading.Event()

    def work(name):
        if name == "crash":
            assert begun.wait(PATIENCE)
            raise ZeroDivisionError("a bug")
        begun.set()
        poller = __import__("select").poll()
        poller.register(token, 1)
        assert poller.poll(PATIENCE * 1000)
        return name

    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(run(["slow", "crash", "never"], work, width=2, cancel=token))
    assert token.is_set


def test_leaving_early_cancels_and_waits():
    token = CancelToken()
    ended = []

    def work(name):
        if name == "slow":
            poller = __import__("select").poll()
            poller.register(token, 1)
            assert poller.poll(PATIENCE * 1000)
            ended.append(name)
        return name

    results = run(["slow", "quick", "late"], work, width=2, cancel=token)
    assert next(results) == "quick"
    results.close()
    assert ended == ["slow"]
    assert token.is_set


def threads_that_start(monkeypatch, count):
    """Let only so many threads start, as `ulimit -u` does."""
    original, started = threading.Thread.start, []

    def start(thread):
        if len(started) == count:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    return started


def test_fewer_threads_than_wanted_do_the_work(monkeypatch):
    started = threads_that_start(monkeypatch, 2)
    assert sorted(run(range(10), lambda number: number, width=5)) == list(range(10))
    assert len(started) == 2


def test_no_thread_at_all(monkeypatch):
    threads_that_start(monkeypatch, 0)
    with pytest.raises(FleetError) as caught:
        list(run(range(3), lambda number: number, width=3))
    assert (str(caught.value), caught.value.hint) == ("fan-out: can't start new thread", "see ulimit -u")


def test_the_stack_size_is_put_back():
    before = threading.stack_size()
    list(run("ab", lambda target: target, width=2))
    assert threading.stack_size() == before


# The limit on open files

ENDLESS = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "width", "each", "expected", "raised"),
    [
        (1024, 4096, 64, 1, 64, None),
        (1024, 4096, 984, 1, 984, None),
        (1024, 4096, 985, 1, 985, 1025),
        (1024, 4096, 2000, 1, 2000, 2040),
        (1024, 1024, 2000, 1, 984, 1024),
        (1024, 4096, 2000, 3, 1352, 4096),
        (1024, ENDLESS, 2000, 1, 2000, 2040),
        (ENDLESS, ENDLESS, 2000, 1, 2000, None),
        (20, 20, 64, 1, 1, 20),
        (41, 41, 64, 2, 1, 41),
    ],
)
def test_fitting_to_the_limit(monkeypatch, soft, hard, width, each, expected, raised):
    calls = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: calls.append((which, limits)))
    assert fit_to_limits(width, each=each) == expected
    assert calls == ([] if raised is None else [(resource.RLIMIT_NOFILE, (raised, hard))])
