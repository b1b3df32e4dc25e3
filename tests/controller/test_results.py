"""The words and exit codes that scripts rely on."""

import dataclasses

import pytest

from controller.results import FileResult, PingResult, Result, Status, exit_code, largest_code

CLASSES = {
    "ok": 0,
    "changed": 0,
    "unchanged": 0,
    "failed": 5,
    "timeout": 3,
    "cancelled": 3,
    "skipped": 3,
    "unreachable": 4,
    "denied": 4,
    "broken": 4,
}


def test_status_words_and_their_classes():
    assert {status.value: status.exit_class for status in Status} == CLASSES


@pytest.mark.parametrize("status", Status)
def test_good_and_reached_follow_the_class(status):
    assert status.good == (status in ("ok", "changed", "unchanged"))
    assert status.reached == (status in ("ok", "changed", "unchanged", "failed"))


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], 0),
        (["ok", "changed", "unchanged"], 0),
        (["ok", "failed"], 5),
        (["failed", "timeout"], 3),
        (["failed", "cancelled", "ok"], 3),
        (["skipped"], 3),
        (["timeout", "unreachable", "failed"], 4),
        (["denied", "skipped"], 4),
        (["broken"], 4),
    ],
)
def test_the_worst_class_wins(statuses, code):
    assert exit_code(Status(word) for word in statuses) == code


def ran(rc=None, signal=None):
    return Result("web1", Status.OK if rc == 0 else Status.FAILED, rc=rc, signal=signal)


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([], 0),
        ([ran(0), ran(0)], 0),
        ([ran(1), ran(255), ran(3)], 255),
        ([ran(3), ran(signal="SIGKILL")], 137),
        ([ran(signal="SIGTERM"), ran(200)], 200),
        ([ran()], 127),
        ([Result("web1", Status.CHANGED)], 0),
        ([ran(7), Result("web2", Status.UNREACHABLE)], 4),
        ([ran(7), Result("web2", Status.TIMEOUT)], 3),
    ],
)
def test_largest_code(results, code):
    assert largest_code(results) == code


@pytest.mark.parametrize("name", ["SIGRTMIN+3", "SIG_DFL", "Signals", "pthread_kill", "__class__", ""])
def test_a_signal_name_made_up_by_a_host_is_still_a_signal(name):
    assert largest_code([ran(signal=name)]) == 128


@pytest.mark.parametrize("value", [Result("a", Status.OK), FileResult("/x", Status.OK), PingResult("a", Status.OK)])
def test_results_are_frozen(value):
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.status = Status.FAILED
