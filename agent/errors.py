"""What the agent says to the person in front of it when something is wrong: one class, one shape of text.

Not for what a peer did (that is `agent.wire.errors`) and not for bugs.
"""

from __future__ import annotations

__all__ = ["AgentError"]


class AgentError(Exception):
    """Something the user can mend. `what` is the thing it is about, `why` the reason, `hint` the next step, if any."""

    def __init__(self, what: str, why: str, hint: str | None = None) -> None:
        super().__init__(what, why, hint)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"
