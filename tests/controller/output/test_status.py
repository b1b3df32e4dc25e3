"""Where a run stands, in words."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from controller.output.status import Status, report
from controller.output.width import display_width
from controller.results import PingResult, Result
from controller.results import Status as Word
from controller.tails import Tails


class Nothing:
    keeps = False

    def start(self, host): ...
    def stdout(self, host, data): ...
    def stderr(self, host, data): ...


@dataclass
class FakeRun:
    hosts: list[str]
    running: dict[str, float] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    elapsed: float = 0.0
    cancelled: bool = False


@pytest.fixture
def run():
    hosts = [f"web{number}" for number in range(1, 11)]
    return FakeRun(hosts, dict.fromkeys(hosts, 100.0), elapsed=12.9)


@pytest.fixture
def tails():
    return Tails(Nothing())


def end(run, host, status=Word.OK):
    del run.running[host]
    run.results.append(Result(host, status))


def test_the_line(run):
    status = Status(run)
    assert status.line(80) == "0/10 done  0:12  waiting for web[1-10]"
    for host in ("web1", "web2", "web4"):
        end(run, host)
    end(run, "web9", Word.FAILED)
    end(run, "web10", Word.UNREACHABLE)
    end(run, "web5", Word.FAILED)
    assert status.line(80) == "6/10 done, 2 failed, 1 unreachable  0:12  waiting for web[3,6-8]"
    run.running.clear()
    run.cancelled = True
    assert status.line(80) == "cancelling: 6/10 done, 2 failed, 1 unreachable  0:12"


def test_hosts_beyond_the_fan_out_are_not_waited_for(run):
    run.running = {"web1": 100.0}
    assert Status(run).line(80) == "0/10 done  0:12  waiting for web1"


def test_pings(run):
    run.results = [PingResult("web1", Word.DENIED)]
    run.running = {}
    assert Status(run).line(80) == "1/10 done, 1 denied  0:12"


@pytest.mark.parametrize("width", [0, 1, 2, 10, 30, 31, 40])
@pytest.mark.parametrize("name", ["web-{}", "主機{}", "e\u0301{}"])
def test_the_line_leaves_the_last_column_free(name, width):
    hosts = [name.format("x" * number) for number in range(40)]
    run = FakeRun(hosts, dict.fromkeys(hosts, 0.0))
    assert display_width(Status(run).line(width)) <= max(0, width - 1)
    assert display_width(Status(run).line(40)) >= 38


def test_many_hosts_are_not_all_folded(monkeypatch):
    from controller.output import status as module

    folded = []
    monkeypatch.setattr(module, "fold", lambda hosts: folded.append(list(hosts)) or "web[0-199]")
    run = FakeRun(["x"] * 1000, {f"web{number}": 0.0 for number in range(1000)})
    status = Status(run)
    assert status.line(100) == "0/1000 done  0:00  waiting for web[0-199] and 800 more"
    status.line(100)
    assert [len(hosts) for hosts in folded] == [200], "what has not changed is not folded again"


def test_the_report(run, tails):
    run.running = {"web1": 100.0, "web10": 104.25, "web3": 112.0}
    end(run, "web1", Word.OK)
    run.running["web1"] = 100.0
    for host in ("web1", "web10"):
        tails.start(host)
    tails.stdout("web1", b"first\nGet:5 \x1b[31mfile\x1b[0m\t7\n")
    assert report(run, tails, 80, clock=lambda: 112.5).splitlines() == [
        "fleet: 1/10 done after 0:12, 3 running",
        "  web10   8.2s  [no output yet]",
        "  web3    0.5s  [connecting]",
        "  web1   12.5s  Get:5 \\x1b[31mfile\\x1b[0m       7",
    ]


def test_the_report_of_nothing(run, tails):
    run.running = {}
    run.cancelled = True
    assert report(run, tails, 80) == "fleet: cancelling: 0/10 done after 0:12, nothing running\n"


@pytest.mark.parametrize("written", [b"x" * 2000, "日本".encode() * 900, b"a\xcc\x81" * 900])
def test_lines_of_a_report_fit(tails, written):
    run = FakeRun(["主機"], {"主機": 0.0})
    tails.start("主機")
    tails.stderr("主機", written)
    line = report(run, tails, 60, clock=lambda: 1.0).splitlines()[1]
    assert display_width(line) in (58, 59)
    assert line.endswith("…")
    assert "\\x" not in line, "it does not begin inside a character"
    narrow = report(run, tails, 10, clock=lambda: 1.0).splitlines()
    assert display_width(narrow[0]) == 20
    assert display_width(narrow[1]) in (33, 34)
