"""`fleet hosts` from inside: the checks before any inventory is read."""

from __future__ import annotations

import pytest

from controller.cli import hosts as module
from controller.errors import FleetError


def test_one_way_at_a_time():
    with pytest.raises(FleetError, match=r"^--json and --graph and --fold and --host: one at a time$"):
        module.hosts(json=True, graph=True, fold=True, host="a")


def test_formats():
    assert module._format(None) == "plain"
    assert module._format("github") == "github"
    with pytest.raises(FleetError, match=r"^--format: unknown table format 'x': choose one of "):
        module._format("x")
