"""Rollbacks over many hosts: which push is meant, and then that one alone, everywhere.

Without a run it is the newest that any of the hosts has, and not each host's own: where that push replaced nothing, an
older one must stand. So all are asked first, in a round that changes nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

from agent.wire import file_messages as f
from controller import transfer
from controller.client import Client, Target
from controller.errors import FleetError
from controller.fanout import fan_out
from controller.files import Going, plan_of
from controller.ledger import Ledger
from controller.meter import Meter, Unwatched
from controller.results import Result, Status
from controller.runs import Plan, Run, new_run_id

__all__ = ["plan_rollback"]

# No push has that id. An agent that does not know the question takes it for one, and says that there is no such push.
_ASKING = "(the last)"
_TOO_OLD = "its agent is too old to say which push was the last one: name it, as in fleet rollback RUN"


def plan_rollback(going: Going, target_run: str | None) -> Run[Result]:
    """Return the run that puts back what a push replaced: that of an id, or the last one. Raises FleetError."""
    if target_run is None:
        return _LastPush(going, new_run_id())
    if "\0" in target_run:
        raise FleetError("RUN", f"{target_run!r} is not the id of a run")
    run_id = new_run_id()

    def work(target: Target, meter: Meter, client: Client) -> Result:
        return _roll_back(going, run_id, target_run, target, meter, client)

    return Run(plan_of(going, work), going.token, run_id=run_id, command=shlex.join(["rollback", target_run]))


def _roll_back(going: Going, run_id: str, push: str, target: Target, meter: Meter, client: Client) -> Result:
    ledger = Ledger(target.name, meter, keep=going.keep)
    request = f.Rollback(push, host=target.name, run=run_id)
    return transfer.rollback(client, request, ledger, going.timeout)


class _LastPush(Run[Result]):
    """The rollback of the last push, in two rounds. Who has nothing to do in the second is not reached again."""

    def __init__(self, going: Going, run_id: str) -> None:
        self._going = going
        self._request = f.Rollback(_ASKING, run=run_id, ask=True)
        self._answers: dict[str, str | None] = {}  # by host: the run of its last push
        self._settled: dict[str, Result] = {}  # of hosts with which we are done after the first round
        self._last = ""
        second = plan_of(going, self._second)
        plan = Plan(
            going.targets,
            lambda target: self._known(target) or second.work(target),
            lambda target: self._settled.get(target.name) or second.skipped(target),
            going.width,
        )
        super().__init__(plan, going.token, run_id=run_id, command="rollback")

    def _outcomes_as_they_come(self) -> Iterator[Result]:
        first = plan_of(replace(self._going, watcher=None), self._ask)
        token = self._going.token
        asked = list(fan_out(first.targets, first.work, width=first.width, cancel=token, skipped=first.skipped))
        if not token.is_set:  # else we know of too few which push it was
            self._last = max((run for run in self._answers.values() if run is not None), default="")
            self.command = shlex.join(["rollback", *([self._last] if self._last else [])])
        for result in asked:
            if result.host not in self._answers:
                self._settled[result.host] = result
            elif not token.is_set and self._answers[result.host] != self._last:
                self._settled[result.host] = self._without_part(result)
        yield from super()._outcomes_as_they_come()

    def _ask(self, target: Target, meter: Meter, client: Client) -> Result:
        """Do a host's first round."""
        question = transfer.Asking()
        ledger = Ledger(target.name, meter, keep=False)
        request = replace(self._request, host=target.name)
        result = transfer.converse(client, request, question, ledger, self._going.timeout)
        if question.done:
            self._answers[target.name] = question.last
        elif result.status is Status.FAILED and _ASKING in (result.error or ""):
            return replace(result, error=_TOO_OLD)
        return result

    def _without_part(self, asked: Result) -> Result:
        """Return the result of a host where there is nothing to put back."""
        if self._last:
            return replace(asked, note=f"had no part in the push {self._last}")
        name = self._going.key.name
        return replace(asked, status=Status.FAILED, error=f"no push with backups of controller {name} to roll back")

    def _known(self, target: Target) -> Result | None:
        """Return a result that is there already, and say that the host is done with."""
        result = self._settled.get(target.name)
        if result is not None:
            watcher = self._going.watcher or Unwatched()
            watcher.start(target.name)
            watcher.end(target.name)
        return result

    def _second(self, target: Target, meter: Meter, client: Client) -> Result:
        return _roll_back(self._going, self.id, self._last, target, meter, client)
