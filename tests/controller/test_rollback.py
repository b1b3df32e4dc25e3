"""Which push a rollback means, and what becomes of hosts that say nothing of it. The conversations are made up."""

from __future__ import annotations

from typing import Any

import pytest

from agent.wire import file_messages as f
from agent.wire.file_messages import FileStatus, Outcome
from controller import files, transfer
from controller.cancel import CancelToken
from controller.client import Target
from controller.errors import FleetError, UnreachableError
from controller.files import Going
from controller.keyfile import ControllerKey
from controller.ledger import Ledger
from controller.meter import Meter
from controller.results import Result, Status
from controller.rollback import plan_rollback
from controller.runs import Run

OLDER, NEWER = "20260101-000000-ffffffffff", "20260101-000001-0000000000"
OLD_AGENT = "no push '(the last)' with backups of controller ops to roll back"


class Watching:
    """Counts which hosts were begun with and done with."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, host: str) -> Meter:
        self.calls.append(f"start {host}")
        return Meter()

    def end(self, host: str) -> None:
        self.calls.append(f"end {host}")


class Hosts:
    """What hosts answer: the run of their last push, None, or the error of the host; "gone" is not there at all."""

    def __init__(self, **answers: str | None) -> None:
        self.answers = answers
        self.requests: list[f.Rollback] = []
        self.watcher = Watching()
        self.token = CancelToken()
        self.cancel_after = 100  # requests

    def begin(self, run: str | None = None) -> Run[Result]:
        targets = [Target(name, "127.0.0.1", 1, None) for name in self.answers]
        key = ControllerKey("ops", bytes(32))
        going = Going((), targets, key, 1, 1.0, None, True, self.watcher, self.token)
        return plan_rollback(going, run)

    def connect(self, target: Target, *args: object, **options: object) -> Hosts:
        if self.answers[target.name] == "gone":
            raise UnreachableError("nobody there")
        return self

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def converse(self, client: Hosts, request: f.Rollback, part: Any, ledger: Ledger, timeout: None) -> Result:
        self.requests.append(request)
        if len(self.requests) == self.cancel_after:
            self.token.set()
        answer = self.answers[request.host]
        if not request.ask:
            part.take(f.Outcomes((Outcome("/x", FileStatus.CHANGED),)))
            part.take(f.Done())
        elif answer is None or answer.startswith("2026"):
            part.take(f.Done(answer))
        else:
            return ledger.failure(Status.FAILED, answer)
        return ledger.result()


@pytest.fixture
def roll_back(monkeypatch: pytest.MonkeyPatch) -> Any:
    def begin(hosts: Hosts, run: str | None = None) -> Run[Result]:
        monkeypatch.setattr(files, "Client", hosts.connect)
        monkeypatch.setattr(transfer, "converse", hosts.converse)
        return hosts.begin(run)

    return begin


def said(run: Run[Result]) -> list[tuple[str, Status, str | None]]:
    return [(result.host, result.status, result.note or result.error) for result in run]


def test_the_newest_push_of_all(roll_back: Any) -> None:
    hosts = Hosts(a=OLDER, b=NEWER, c=None, d=NEWER, e="gone", f="its disk is gone")
    run = roll_back(hosts)
    note = f"had no part in the push {NEWER}"
    assert said(run) == [
        ("a", Status.UNCHANGED, note),
        ("b", Status.CHANGED, None),
        ("c", Status.UNCHANGED, note),
        ("d", Status.CHANGED, None),
        ("e", Status.UNREACHABLE, "nobody there"),
        ("f", Status.FAILED, "its disk is gone"),
    ]
    assert run.command == f"rollback {NEWER}"
    assert [(one.host, one.target) for one in hosts.requests if not one.ask] == [("b", NEWER), ("d", NEWER)]
    assert {one.target for one in hosts.requests if one.ask} == {"(the last)"}
    assert hosts.watcher.calls == [f"{word} {name}" for name in "abcdef" for word in ("start", "end")]
    assert {one.run for one in hosts.requests} == {run.id}


def test_no_push_at_all(roll_back: Any) -> None:
    run = roll_back(Hosts(a=None, b="gone"))
    reason = "no push with backups of controller ops to roll back"
    assert said(run) == [("a", Status.FAILED, reason), ("b", Status.UNREACHABLE, "nobody there")]
    assert run.command == "rollback"


def test_a_push_by_its_id(roll_back: Any) -> None:
    """Nobody is asked."""
    hosts = Hosts(a=OLDER, b=None)
    run = roll_back(hosts, "r 1")
    assert [status for _, status, _ in said(run)] == [Status.CHANGED] * 2
    assert run.command == "rollback 'r 1'"
    assert [(one.host, one.target, one.ask) for one in hosts.requests] == [("a", "r 1", False), ("b", "r 1", False)]
    with pytest.raises(FleetError, match=r"^RUN: 'a\\x00b' is not the id of a run$"):
        roll_back(hosts, "a\0b")


def test_an_agent_that_does_not_know_the_question(roll_back: Any) -> None:
    """It is told of no push that it might have, so it puts nothing back."""
    hosts = Hosts(a=OLD_AGENT, b=NEWER)
    reason = "its agent is too old to say which push was the last one: name it, as in fleet rollback RUN"
    assert said(roll_back(hosts)) == [("a", Status.FAILED, reason), ("b", Status.CHANGED, None)]


@pytest.mark.parametrize("after", [1, 2])
def test_a_run_that_is_cancelled_among_the_questions(roll_back: Any, after: int) -> None:
    """Which push was the last one is not known then: nothing is put back."""
    hosts = Hosts(a=NEWER, b=OLDER)
    hosts.cancel_after = after
    words = "not started: the run was cancelled"
    assert said(roll_back(hosts)) == [("a", Status.SKIPPED, words), ("b", Status.SKIPPED, words)]
    assert all(one.ask for one in hosts.requests)


def test_a_run_that_is_cancelled_later(roll_back: Any) -> None:
    """What is known stays known."""
    hosts = Hosts(a=NEWER, b="gone", c=NEWER)
    hosts.cancel_after = 3
    assert [status for _, status, _ in said(roll_back(hosts))] == [Status.CHANGED, Status.UNREACHABLE, Status.SKIPPED]
