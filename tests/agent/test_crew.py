"""Threads for connections: used again, never more idle than needed, and none left behind."""

from __future__ import annotations

import threading
import time
import weakref
from queue import SimpleQueue

import pytest

from agent.crew import STACK_SIZE, Crew


@pytest.fixture
def started(monkeypatch):
    """Every thread that was started, with the stack size it got."""
    threads = []
    start = threading.Thread.start

    def note(thread):
        threads.append((thread, threading.stack_size()))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note)
    yield threads
    for thread, _ in threads:
        thread.join(10)
        assert not thread.is_alive()


def wait_until(condition):
    """Look again and again: what a thread does after its item tells nobody."""
    never = threading.Event()
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        never.wait(0.001)


def test_an_idle_thread_takes_the_next_item(started):
    done = SimpleQueue()
    crew = Crew(lambda item: done.put((item, threading.get_ident())), idle_limit=0.5)
    crew.start("a")
    first = done.get(timeout=10)
    wait_until(lambda: crew._idle == 1)
    crew.start("b")
    second = done.get(timeout=10)
    assert (first[0], second[0]) == ("a", "b") and first[1] == second[1]
    assert [size for _, size in started] == [STACK_SIZE]


def test_nobody_waits_for_a_thread_that_is_busy(started):
    """Both items are worked on at once, else the barrier would not open."""
    together = threading.Barrier(2, timeout=10)
    done = SimpleQueue()
    crew = Crew(lambda item: done.put((item, together.wait())), idle_limit=0)
    crew.start(1)
    crew.start(2)
    assert {done.get(timeout=10)[0] for _ in range(2)} == {1, 2}
    assert len(started) == 2


def test_a_promised_thread_is_not_promised_twice(started):
    """One idle thread and two items: the second gets a thread of its own."""
    together = threading.Barrier(2, timeout=10)
    done = SimpleQueue()

    def work(item):
        if item != "alone":
            together.wait()
        done.put(item)

    crew = Crew(work, idle_limit=0.5)
    crew.start("alone")
    done.get(timeout=10)
    wait_until(lambda: crew._idle == 1)
    crew.start(1)
    crew.start(2)
    assert {done.get(timeout=10), done.get(timeout=10)} == {1, 2}
    assert len(started) == 2


def test_threads_end_when_there_is_nothing_to_do(started):
    done = SimpleQueue()
    crew = Crew(done.put, idle_limit=0.01)
    for item in range(3):
        crew.start(item)
    assert {done.get(timeout=10) for _ in range(3)} == {0, 1, 2}
    for thread, _ in started:
        thread.join(10)
    assert crew._idle == 0
    crew.start(3)  # and a new one is made where all have gone
    assert done.get(timeout=10) == 3


def test_an_item_that_comes_as_the_time_runs_out_is_not_lost(started):
    """The thread was promised the item, and looks once more before it goes."""
    done = SimpleQueue()
    crew = Crew(done.put, idle_limit=0)

    class Late(SimpleQueue):
        def get(self, block=True, timeout=None):
            try:
                return super().get(block, timeout)
            finally:
                if late:
                    crew.start(late.pop())

    late = ["late"]
    crew._items = Late()
    crew.start("first")
    assert [done.get(timeout=10), done.get(timeout=10)] == ["first", "late"]
    assert len(started) == 1


def test_no_more_than_enough_are_kept(started, monkeypatch):
    together = threading.Barrier(3, timeout=10)
    crew = Crew(lambda wait: wait(), idle_limit=60)
    monkeypatch.setattr("agent.crew._MAX_IDLE", 1)
    for _ in range(3):
        crew.start(together.wait)
    wait_until(lambda: sum(thread.is_alive() for thread, _ in started) == 1)
    wait_until(lambda: crew._idle == 1)
    monkeypatch.setattr("agent.crew._MAX_IDLE", 0)
    crew.start(list)
    assert len(started) == 3


def test_an_item_is_forgotten_when_it_is_done(started):
    class Item:
        pass

    done = threading.Event()
    crew = Crew(lambda item: done.set(), idle_limit=0.5)
    item = Item()
    gone = threading.Event()
    weakref.finalize(item, gone.set)
    crew.start(item)
    del item
    assert done.wait(10) and gone.wait(10)


def test_no_thread_at_all_is_an_error(monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    before = threading.stack_size()
    with pytest.raises(RuntimeError):
        Crew(lambda item: None).start(1)
    assert threading.stack_size() == before
