"""What goes wrong, as the user sees it: one class for each way of ending, each with its fields.

`FleetError` ends the whole command: `fleet: WHAT: WHY`, then perhaps a hint. `HostError` ends one host, and becomes
the status and the `error` of its result.
"""

from __future__ import annotations

from controller.results import EXIT_CUT_OFF, EXIT_USAGE, Status

__all__ = ["BrokenError", "CancelledError", "DeniedError", "FleetError", "HostError", "InputError", "UnreachableError"]


class FleetError(Exception):
    """A mistake of the user's, or something in the way on this machine. Nothing was run.

    `what` is the thing it is about (a file, an option), `why` the reason, `hint` the next step if there is one.
    """

    def __init__(self, what: str, why: str, hint: str | None = None, *, exit_code: int = EXIT_USAGE) -> None:
        super().__init__(what, why)
        self.what = what
        self.why = why
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


class InputError(FleetError):
    """The standard input for the hosts failed when the run was under way: the run was cancelled, its results stand."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why, exit_code=EXIT_CUT_OFF)


class HostError(Exception):
    """One host has no proper result; `status` says which way, `reason` why."""

    status: Status

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class UnreachableError(HostError):
    """No agent answered."""

    status = Status.UNREACHABLE


class DeniedError(HostError):
    """The agent answered, and one side did not convince the other."""

    status = Status.DENIED


class BrokenError(HostError):
    """The conversation was cut or garbled: nothing that came is trusted."""

    status = Status.BROKEN


class CancelledError(HostError):
    """The run was cancelled before the host's command had started."""

    status = Status.SKIPPED

    def __init__(self) -> None:
        super().__init__("not started: the run was cancelled")
