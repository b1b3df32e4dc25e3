"""The sentences, word for word."""

import pytest

from controller.output import Colour
from controller.output.words import counts, remarks, size, summary, timestamp, truncation
from controller.results import Result, Status


def results(*words):
    return [Result(f"web{number}", Status(word)) for number, word in enumerate(words)]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["unreachable", "ok", "failed", "ok", "ok"], "3 ok, 1 failed, 1 unreachable of 5 hosts in 0.42s"),
        (["ok"], "1 ok of 1 host in 0.42s"),
        ([], "none of 0 hosts in 0.42s"),
        (["unchanged", "broken", "changed"], "1 changed, 1 unchanged, 1 broken of 3 hosts in 0.42s"),
    ],
)
def test_summary(words, line):
    assert summary(results(*words), 0.4211, Colour()) == line


def test_summary_in_colour():
    assert summary(results("ok"), 1, Colour(True)) == "\x1b[32m1 ok\x1b[0m of 1 host in 1.00s"


def test_counts_add_up_in_a_fixed_order_whatever_the_status():
    every = counts(results(*reversed(list(Status)), *Status))
    assert sum(every.values()) == 2 * len(Status)
    assert list(every) == [
        "ok",
        "changed",
        "unchanged",
        "failed",
        "timeout",
        "cancelled",
        "skipped",
        "unreachable",
        "denied",
        "broken",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (16 << 20, "16.0 MiB"),
        (1_288_490_189, "1.2 GiB"),
        ((1 << 20) - 1, "1.0 MiB"),  # not 1024.0 KiB
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_size(count, text):
    assert size(count) == text


def test_truncation():
    assert truncation(16 << 20, 1_288_490_189) == "[truncated: 16.0 MiB of 1.2 GiB]"


def test_timestamp():
    assert timestamp(1767225600.9) == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (Result("a", Status.OK, rc=0), []),
        (Result("a", Status.FAILED, rc=3), ["failed: exit code 3"]),
        (Result("a", Status.FAILED, signal="SIGKILL"), ["failed: killed by SIGKILL"]),
        (Result("a", Status.SKIPPED), ["skipped"]),
        (Result("a", Status.UNREACHABLE, error="refused\n\x1b"), ["unreachable: refused\\x0a\\x1b"]),
        (
            Result("a", Status.OK, rc=0, truncated=True, stdout_bytes=1024, stderr_bytes=1024, note="pipe held"),
            ["output truncated: the command wrote 2.0 KiB", "note: pipe held"],
        ),
    ],
)
def test_remarks(result, said):
    assert remarks(result) == said
