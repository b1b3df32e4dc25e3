"""What the agent's log says at the end of a transfer: one line, with the first thing that went wrong.

The outcomes go to the controller, file by file; whoever looks after the machine reads here that its disk was full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from agent.log import log, quote, word
from agent.tree.sender import SenderWatcher
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.file_messages import Entry, FileStatus, Kind

__all__ = ["Tally"]

_FAILED = "failed"
_LONGEST_PATH = 120  # characters
_OTHERS = ("changed", "unchanged", "deleted", "listed", "bytes", "skipped")


class Tally(SenderWatcher):
    """Counts what becomes of one transfer's files. `kind` is the name of the request, `run` its id.

    Of a push or a rollback the outcomes are counted as they go out, by `telling`; of a pull what is sent, as the
    watcher of its sender.
    """

    def __init__(self, kind: str, run: str) -> None:
        self._kind = kind
        self._run = run
        self._numbers: Counter[str] = Counter()
        self._reason: str | None = None

    def telling(self, send: Callable[[m.Message], None]) -> Callable[[m.Message], None]:
        """Return what does the same as `send`, and counts outcomes."""

        def tell(message: m.Message) -> None:
            if isinstance(message, f.Outcomes):
                for outcome in message.outcomes:
                    self._numbers[outcome.status.value] += 1
                    if outcome.status is FileStatus.FAILED:
                        self._note(outcome.path, outcome.error or "")
            send(message)

        return tell

    def listed(self, entry: Entry) -> None:
        """Count an entry of a pull."""
        if entry.kind is Kind.FAILED:
            self.gone(entry, entry.reason)
        elif entry.kind is not Kind.LEAVE:
            self._numbers["skipped" if entry.kind is Kind.SKIPPED else "listed"] += 1

    def sent(self, size: int) -> None:
        """Count the content of a pull."""
        self._numbers["bytes"] += size

    def gone(self, entry: Entry, reason: str) -> None:
        """Count what cannot be sent."""
        self._numbers[_FAILED] += 1
        self._note(entry.path, reason)

    def end(self, *, done: bool) -> None:
        """Log the line; `done` says that the transfer came to its end."""
        failed = self._numbers[_FAILED]
        parts = [] if done else ["cut off"]
        parts += [f"{number} {what}" for what in _OTHERS if (number := self._numbers[what])]
        parts += [f"{failed} failed: {quote(self._reason or '')}"] if failed else []
        level = log.warning if failed or not done else log.info
        level("run %s: %s: %s", word(self._run), self._kind, ", ".join(parts) or "nothing")

    def _note(self, path: str, reason: str) -> None:
        if self._reason is None:
            # What is quoted is cut at its end: a deep path must not push the reason out.
            shown = path if len(path) <= _LONGEST_PATH else f"...{path[-_LONGEST_PATH:]}"
            self._reason = f"{shown}: {reason}"
