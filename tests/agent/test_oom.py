"""Who dies when memory runs out."""

from __future__ import annotations

import os
import signal

import pytest

from agent import oom
from agent.orders import Outcome

OWN = "/proc/self/oom_score_adj"


@pytest.mark.parametrize("before", ["0", "500", "-899"])
def test_protected_and_restored(tmp_path, before):
    file = tmp_path / "points"
    file.write_text(before + "\n")
    assert oom.protect(str(file)) == before
    assert file.read_text() == "-900"
    oom.restore(before, str(file))
    assert file.read_text() == before


@pytest.mark.parametrize("before", ["-900", "-1000"])
def test_who_is_safer_already_stays_so(tmp_path, before):
    file = tmp_path / "points"
    file.write_text(before + "\n")
    assert oom.protect(str(file)) is None
    oom.restore(None, str(file))
    assert file.read_text() == before + "\n"


def test_without_the_file_nothing_happens(tmp_path):
    assert oom.protect(str(tmp_path / "none")) is None
    oom.restore("0", str(tmp_path))  # a folder: it cannot be written


def test_an_ordinary_user_is_not_spared(child, stranger):
    def scenario():
        before = points()
        assert oom.protect() is None
        assert points() == before

    child(scenario, uid=stranger)


def test_the_agent_is_spared_and_its_commands_are_not(child, commands, monkeypatch):
    """With numbers that anybody may set: from what is allowed anyway, up and down again."""
    monkeypatch.setattr(oom, "_LAST", 0)

    def scenario():
        with open(OWN, "w") as file:
            file.write("500")
        runner = commands.start()
        for _ in range(2):  # also from a second spawner
            assert points() == "0"
            assert points(runner._spawner.pid) == "0"
            assert commands.run(runner, f"cat {OWN} /proc/$PPID/oom_score_adj").stdout == b"500\n" * 2
            runner._idle.pop().channel.close()
            os.kill(runner._spawner.pid, signal.SIGKILL)
            os.waitpid(runner._spawner.pid, 0)
            assert commands.run(runner, "true").outcome == Outcome(0, None)
        runner.close()

    child(scenario)


def points(process="self"):
    with open(f"/proc/{process}/oom_score_adj") as file:
        return file.read().strip()
