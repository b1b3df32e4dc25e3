"""A run under way, without any network: the outcomes come from plain functions."""

from __future__ import annotations

import re

import pytest

from controller.cancel import CancelToken
from controller.client import Target
from controller.errors import InputError
from controller.results import Result, Status
from controller.runs import Guard, Plan, Run, Silent, new_run_id

TARGETS = [Target(name, "127.0.0.1", 1, None) for name in ("a", "b", "c")]


def make(work, *, token=None, guard=None, width=1):
    plan = Plan(TARGETS, work, lambda target: Result(target.name, Status.SKIPPED), width)
    return Run(plan, token or CancelToken(), run_id="r1", command="true", guard=guard)


def ok(target):
    return Result(target.name, Status.OK, 0)


def test_what_a_run_knows():
    run = make(ok, width=2)
    assert (run.id, run.command, run.hosts, run.width) == ("r1", "true", ["a", "b", "c"], 2)
    assert (run.results, run.exit_code) == ([], 0)
    assert sorted(result.host for result in run) == ["a", "b", "c"]
    assert [result.host for result in run.results] == ["a", "b", "c"]
    assert run.started > 1e9
    assert run.elapsed >= 0


def test_results_are_in_inventory_order_and_the_worst_decides():
    run = make(lambda target: Result(target.name, Status.DENIED if target.name == "b" else Status.FAILED, 1))
    assert [result.host for result in run] == ["a", "b", "c"]
    assert run.exit_code == 4


def test_leaving_early_leaves_the_results_so_far():
    run = make(ok)
    for _ in run:
        break
    assert [result.host for result in run.results] == ["a"]


def test_a_run_is_done_once():
    done = []
    run = make(lambda target: done.append(target.name) or ok(target))
    assert len(list(run)) == 3
    with pytest.raises(RuntimeError, match=r"^run r1 was done already: what it gave is in its results$"):
        list(run)
    assert done == ["a", "b", "c"]


def test_what_is_given_back_however_it_ends():
    for count in (1, 3):
        closed = []
        plan = Plan(TARGETS, ok, None, 1)
        run = Run(plan, CancelToken(), run_id="r1", command="true", close=lambda closed=closed: closed.append(1))
        for _ in range(count):
            for _ in run:
                if count == 1:
                    break
            break
        assert closed == [1]


def test_an_input_that_fails_cancels_the_run_and_the_first_failure_is_raised():
    token = CancelToken()
    guard = Guard(Silent(), token)

    def work(target):
        guard.fail(InputError("--stdin", f"{target.name} fails"))
        return ok(target)

    run = make(work, token=token, guard=guard)
    with pytest.raises(InputError, match=r"^--stdin: a fails$") as caught:
        list(run)
    assert caught.value.exit_code == 3
    assert [result.status for result in run.results] == [Status.OK, Status.SKIPPED, Status.SKIPPED]
    guard.fail(ValueError("later"))
    assert guard.error is caught.value


def test_cancel():
    run = make(ok)
    run.cancel()
    assert [result.status for result in run] == [Status.SKIPPED] * 3
    assert run.exit_code == 3


class Failing(Silent):
    def __init__(self):
        self.calls = []

    def stdout(self, host, data):
        self.calls.append((host, data))
        raise OverflowError("the disk is full")


def test_a_guard_keeps_the_first_failure_cancels_and_drops_the_rest():
    token, observer = CancelToken(), Failing()
    guard = Guard(observer, token)
    guard.start("a")
    guard.stderr("a", b"x")
    assert (guard.error, token.is_set) == (None, False)
    guard.stdout("a", b"1")
    guard.stdout("b", b"2")
    guard.stderr("b", b"3")
    assert observer.calls == [("a", b"1")]
    assert (str(guard.error), token.is_set) == ("the disk is full", True)


def test_the_failure_of_an_observer_is_raised_when_all_is_over():
    token = CancelToken()
    guard = Guard(Failing(), token)

    def work(target):
        guard.stdout(target.name, b"x")
        return ok(target)

    run = make(work, token=token, guard=guard)
    with pytest.raises(OverflowError):
        list(run)
    assert [result.status for result in run.results] == [Status.OK, Status.SKIPPED, Status.SKIPPED]


def test_a_guard_without_a_failure():
    guard = Guard(Silent(), CancelToken())
    guard.start("a")
    guard.stdout("a", b"x")
    assert len(list(make(ok, guard=guard))) == 3


def test_ids_sort_by_time_and_are_nobody_elses():
    ids = [new_run_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{10}", one) for one in ids)


def test_ids_of_one_second_sort(monkeypatch):
    """The last of a script's pushes is the one that a rollback means."""
    times = iter([1_767_225_600_000_000_000, 1_767_225_600_000_020_000, 1_767_225_600_999_999_999])
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    ids = [new_run_id() for _ in range(3)]
    assert [one[:20] for one in ids] == ["20260101-000000-0000", "20260101-000000-0001", "20260101-000000-ffff"]


def test_what_is_running():
    seen = []
    token = CancelToken()

    def work(target):
        seen.append((list(run.running), run.cancelled))
        return ok(target)

    run = make(work, token=token)
    for _ in run:
        token.set()
    assert seen[0] == (["a"], False)
    assert run.cancelled
    assert run.running == {}
    again = make(lambda target: ok(target))
    again.running["x"] = 1.0
    assert again.running == {}, "it is a copy"


def test_a_guard_borrows_for_those_who_do() -> None:
    class Borrower(Silent):
        borrows = True

    assert [Guard(one, CancelToken()).borrows for one in (Borrower(), Silent())] == [True, False]
