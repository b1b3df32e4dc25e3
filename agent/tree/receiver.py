"""The receiving side of a transfer: the agent's in a push, the controller's in a pull.

Messages in by `take`, messages out by the `send` that it is given, work in bounded pieces by `step`. It waits for
nothing itself: `readable` names the descriptors whose news it waits for, while a command validates a new file.

Nothing that the sender says chooses a place: `place` alone maps its paths to names below `base`, and raises for what
nobody asked for. From there on every name is opened in the directory before it and no link is followed, so a link
that came a moment ago leads nowhere. A sender that breaks a rule is broken off; what merely fails is an outcome.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from agent.tree.committer import Committer, Hooks
from agent.tree.comparer import Comparer
from agent.tree.incoming import Incoming
from agent.tree.options import ReceiverOptions
from agent.tree.paths import Folder
from agent.tree.plans import Plan
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.constants import MAX_BATCH_ENTRIES, MAX_BATCHES
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import Entry, Outcome

__all__ = ["Receiver"]

_OUTCOME_BYTES = 128 * 1024  # of JSON in one message, about


@dataclass(slots=True)
class _Batch:
    """Entries that are not settled yet."""

    first: int
    entries: tuple[Entry, ...]
    last: bool
    plans: list[Plan] = field(default_factory=list)
    compared: bool = False


class Receiver:
    """One transfer into `base`, which is borrowed. `done` turns true with the last word.

    `send` queues a message; `report` is told each outcome, which with `tell` goes to the sender, too. `made` says that
    the base was made for this transfer, and is closed to others.
    """

    def __init__(
        self,
        base: Folder,
        place: Callable[[str], tuple[str, ...]],
        options: ReceiverOptions,
        send: Callable[[m.Message], None],
        *,
        report: Callable[[Outcome], None] = lambda outcome: None,
        tell: bool = False,
        hooks: Hooks | None = None,
        token: str = "",
        made: bool = False,
    ) -> None:
        hooks = hooks or Hooks()
        token = token or os.urandom(8).hex()
        self._options = options
        self._send = send
        self._report = report
        self._tell = tell
        self._comparer = Comparer(base, place, options, token, hooks, made=made)
        self._committer = Committer(options, token, hooks, self._comparer.find, place)
        self._incoming = Incoming(options, token, hooks, self._comparer.find, send)
        self._batches: deque[_Batch] = deque()
        self._listed = 0
        self._last_came = False
        self._lied = False
        self._work = self._run()
        self.done = False

    def take(self, message: m.Message) -> None:
        """Take a message of the sender; a Pong is none, and is ignored. Raises RemoteProtocolError."""
        try:
            if isinstance(message, f.Entries):
                self._take_entries(message)
            elif not isinstance(message, m.Pong):
                self._incoming.take(message, self._plan)
        except RemoteProtocolError:
            self._lied = True
            raise

    def step(self) -> bool:
        """Do a piece of work. Returns whether there is more to do before news comes."""
        return next(self._work)

    def readable(self) -> list[int]:
        """Return the descriptors that `step` waits for."""
        validation = self._committer.validation
        return [] if validation is None else [validation.fileno()]

    def close(self) -> None:
        """Give up what has not taken its place. What is worth it stays for the next transfer of the same files, but for
        what came from a sender that lied."""
        self._work.close()
        for batch in self._batches:
            for plan in batch.plans:
                if plan.temporary is not None:
                    temporary, plan.temporary = plan.temporary, None
                    temporary.discard() if self._lied else temporary.keep()
        self._committer.close()
        if not self._lied:
            self._comparer.open_directories()
        self._comparer.close()

    def _take_entries(self, message: f.Entries) -> None:
        if self._last_came:
            raise RemoteProtocolError("entries after the last batch")
        if len(self._batches) >= MAX_BATCHES:
            raise RemoteProtocolError(f"more than {MAX_BATCHES} batches under way")
        if len(message.entries) > MAX_BATCH_ENTRIES:
            raise RemoteProtocolError(f"{len(message.entries)} entries, expected no more than {MAX_BATCH_ENTRIES}")
        self._batches.append(_Batch(self._listed, message.entries, message.last))
        self._listed += len(message.entries)
        self._last_came = message.last

    def _plan(self, index: int) -> Plan:
        """Return the plan of an entry under way."""
        for batch in self._batches:
            if batch.first <= index < batch.first + len(batch.plans):
                return batch.plans[index - batch.first]
        raise RemoteProtocolError(f"entry {index} is not under way")

    # The work -------------------------------------------------------------------------------------------------------

    def _run(self) -> Generator[bool, None, None]:
        while True:
            fresh = next((batch for batch in self._batches if not batch.compared), None)
            due = bool(self._batches) and self._batches[0] is not fresh and self._is_due(self._batches[0])
            # What is compared first keeps the sender busy with contents; it may wait for room to list more, though.
            if fresh is not None and not (due and len(self._batches) == MAX_BATCHES):
                yield from self._compare(fresh)
                yield True
            elif due:
                yield from self._settle(self._batches[0])
                yield True
            elif self._last_came and not self._batches:
                self._send(f.Done())
                self.done = True
                break
            else:
                yield False
        while True:
            yield False

    def _compare(self, batch: _Batch) -> Generator[bool, None, None]:
        wants = []
        for place, entry in enumerate(batch.entries):
            plan, want = yield from self._comparer.compare(batch.first + place, entry)
            batch.plans.append(plan)
            if want is not None:
                wants.append(want)
        batch.compared = True
        self._incoming.expect(wants)
        self._send(f.Wants(tuple(wants)))

    def _is_due(self, batch: _Batch) -> bool:
        """Whether the oldest batch is complete, or a part of it is and must do."""
        return all(plan.ready for plan in batch.plans) or (self._incoming.heavy and batch.plans[0].ready)

    def _settle(self, batch: _Batch) -> Generator[bool, None, None]:
        ready = 0
        while ready < len(batch.plans) and batch.plans[ready].ready:
            ready += 1
        whole = ready == len(batch.plans)
        plans = batch.plans[:ready]
        outcomes = yield from self._committer.commit(plans)
        self._incoming.committed()
        self._comparer.settled(plans)
        self._tell_outcomes(outcomes)
        if whole:
            self._batches.popleft()
            self._send(f.Outcomes((), settled=True))
        else:
            del batch.plans[:ready]
            batch.first += ready

    def _tell_outcomes(self, outcomes: list[Outcome]) -> None:
        pending: list[Outcome] = []
        size = 0
        for outcome in outcomes:
            self._report(outcome)
            pending.append(outcome)
            size += 200 + 6 * (len(outcome.path) + len(outcome.error or "") + len(outcome.note))
            if size >= _OUTCOME_BYTES:
                self._tell_some(pending)
                pending, size = [], 0
        self._tell_some(pending)

    def _tell_some(self, outcomes: list[Outcome]) -> None:
        if self._tell and outcomes:
            self._send(f.Outcomes(tuple(outcomes)))
