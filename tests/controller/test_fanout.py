"""The pool: order, width, cancelling, crashes, and limits of the system."""

from __future__ import annotations

import queue
import resource
import select
import threading

import pytest

from controller.cancel import CancelToken
from controller.errors import FleetError
from controller.fanout import Pace, fan_out, fit_to_limits

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


def test_results_are_collected_while_others_wait_for_their_turn(monkeypatch):
    gathered, naps = threading.Event(), []

    def sleep(seconds):
        naps.append(seconds)
        gathered.set()

    monkeypatch.setattr("controller.fanout.time.sleep", sleep)

    def work(number):
        # The second is under way, the third is not begun, when whoever has the first result comes for the next.
        return number != 1 or gathered.wait(PATIENCE)

    assert list(run(range(3), work, width=1)) == [True, True, True]
    assert 0 < naps[0] <= 0.01


def test_no_result_is_held_back_once_all_work_is_begun(monkeypatch):
    naps = []
    monkeypatch.setattr("controller.fanout.time.sleep", naps.append)
    together, second = threading.Barrier(2), threading.Event()

    def work(number):
        together.wait(PATIENCE)
        return number == 0 or second.wait(PATIENCE)

    results = run(range(2), work, width=2)
    assert next(results) is True
    threading.Timer(0.0, second.set).start()
    assert list(results) == [True]
    assert naps == []


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


# How many threads there are


class Machine:
    """A clock and the processor time that we have used, both told by the test."""

    def __init__(self, width):
        self.now = 100.0
        self.used = 5.0
        self.pace = Pace(width, clock=lambda: self.now, processor=lambda: self.used)

    def after(self, seconds, *, share, finished=False):
        """Let time pass, of which we used that share; return how many threads to start."""
        self.now += seconds
        self.used += seconds * share
        return self.pace.more(finished=finished)


@pytest.mark.parametrize(("width", "first"), [(1, 1), (8, 8), (9, 8), (2000, 8)])
def test_a_few_threads_at_first(width, first):
    machine = Machine(width)
    assert machine.pace.threads == first
    assert machine.pace.patience == (0.25 if first == width else 0.01), "there is no hurry when all are there"


def test_hosts_that_are_waited_for_get_all_threads_soon():
    machine = Machine(64)
    assert [machine.after(0.01, share=0.2) for _ in range(4)] == [8, 16, 32, 0]
    assert (machine.pace.threads, machine.pace.patience) == (64, 0.25)


def test_the_width_is_kept():
    machine = Machine(20)
    assert [machine.after(0.01, share=0) for _ in range(3)] == [8, 4, 0]


def test_no_more_while_this_machine_has_enough_to_do():
    machine = Machine(64)
    assert [machine.after(0.01, share=0.9, finished=True) for _ in range(100)] == [0] * 100
    assert machine.after(0.01, share=0.1, finished=True) == 0, "one pause is not yet idleness"
    assert sum(machine.after(0.01, share=0.1, finished=True) for _ in range(10)) == 56


def test_too_soon_nothing_is_decided():
    machine = Machine(64)
    assert [machine.after(0.001, share=0, finished=True) for _ in range(9)] == [0] * 9
    assert machine.after(0.001, share=0, finished=True) == 8


def test_hosts_that_keep_us_busy_without_end_do_not_keep_others_out():
    """64 hosts that write as fast as they can: all are under way in less than half a second."""
    machine = Machine(64)
    steps = [machine.after(0.01, share=1.0) for _ in range(40)]
    assert sum(steps) == 56
    assert [step for step in steps if step] == [8, 16, 32]
    assert steps.index(8) == 9


def test_all_hosts_run_at_once_where_none_comes_to_an_end():
    """More than are begun at first: they wait for each other."""
    together = threading.Barrier(40)
    assert sorted(run(range(40), lambda number: (together.wait(PATIENCE), number)[1], width=40)) == list(range(40))


def test_threads_that_are_not_to_be_had_later_are_done_without(monkeypatch):
    start = threading.Thread.start
    gate = threading.Event()

    def few(thread):
        if thread.name == "fan-out 8":
            gate.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    assert sorted(run(range(30), lambda number: (gate.wait(PATIENCE), number)[1], width=30)) == [*range(30)]


def test_a_signal_that_comes_as_the_wait_begins_is_heard(monkeypatch):
    """Python runs its handlers between two instructions: one that comes after the last of them is not, until the wait
    is over. Here that is a handler that somebody else has to wake."""
    token, asked = CancelToken(), []

    class Deaf(queue.SimpleQueue):
        def get(self, block=True, timeout=None):
            asked.append(timeout)
            if len(asked) == 2:
                token.set()  # what the handler does, at the first chance that it has
            return super().get(block, timeout)

    monkeypatch.setattr(queue, "SimpleQueue", Deaf)

    def work(number):
        assert select.select([token], [], [], PATIENCE)[0]
        return number

    assert list(run([1], work, width=1, cancel=token)) == [1]
    assert asked[0] == 0.25
