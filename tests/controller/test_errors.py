"""The errors' fields and texts."""

from __future__ import annotations

import pytest

from controller.errors import BrokenError, CancelledError, DeniedError, FleetError, HostError, UnreachableError
from controller.results import Status


def test_a_fleet_error():
    error = FleetError("hosts.ini:3", "no such group", "did you mean web?", exit_code=3)
    assert (error.what, error.why, error.hint, error.exit_code) == (
        "hosts.ini:3",
        "no such group",
        "did you mean web?",
        3,
    )
    assert str(error) == "hosts.ini:3: no such group"
    assert (FleetError("a", "b").hint, FleetError("a", "b").exit_code) == (None, 2)


@pytest.mark.parametrize(
    ("kind", "status"),
    [(UnreachableError, Status.UNREACHABLE), (DeniedError, Status.DENIED), (BrokenError, Status.BROKEN)],
)
def test_a_host_error(kind, status):
    error = kind("no route")
    assert isinstance(error, HostError)
    assert (error.status, error.reason, str(error)) == (status, "no route", "no route")


def test_cancelled():
    error = CancelledError()
    assert (error.status, str(error)) == (Status.SKIPPED, "not started: the run was cancelled")
