"""The small tables, exact."""

import json

import pytest

from controller.output.listing import write_ping, write_ping_json, write_table
from controller.render import FormatError
from controller.results import PingResult, Status

ANSWERS = [
    PingResult("web1", Status.OK, "0.1.0", "3.11.7", "Linux 6.1", clock_offset=-0.00314159, rtt=0.0012345678),
    PingResult("web2\n", Status.OK, "\x1b[2J", "3.13.0", "x", clock_offset=12.0, rtt=0.25),
    PingResult("db1", Status.DENIED, error="not enrolled"),
]


def test_write_table(screen):
    write_table(screen.out, ["HOST", "GROUPS"], [["web1", "web,all"], ["a\nb", None], ["\u202e", ""]])
    assert screen.shown.decode().split("\n") == [
        "HOST    GROUPS",
        "web1    web,all",
        "a\\x0ab  -",
        "\\u202e",
        "",
    ]


def test_write_table_in_another_format(screen):
    write_table(screen.out, ["HOST"], [["web1"]], tablefmt="github")
    assert screen.shown == b"| HOST   |\n|--------|\n| web1   |\n"


def test_unknown_formats_are_refused(screen):
    for write in (
        lambda: write_table(screen.out, ["A"], [], tablefmt="x"),
        lambda: write_ping(screen.out, [], tablefmt="x"),
    ):
        with pytest.raises(FormatError):
            write()
    assert screen.shown == b""


def test_write_ping(screen):
    write_ping(screen.out, ANSWERS)
    assert screen.shown.decode().split("\n") == [
        "HOST      STATUS    AGENT    PYTHON    OS         CLOCK_OFFSET    RTT      ERROR",
        "web1      ok        0.1.0    3.11.7    Linux 6.1  -0.003s         0.0012s",
        "web2\\x0a  ok        \\x1b[2J  3.13.0    x          +12.000s        0.2500s",
        "db1       denied    -        -         -          -               -        not enrolled",
        "",
    ]


@pytest.mark.parametrize(("offset", "shown"), [(-0.0004, b"+0.000s"), (0.0004, b"+0.000s"), (-0.0006, b"-0.001s")])
def test_no_difference_has_no_minus(screen, offset, shown):
    write_ping(screen.out, [PingResult("web1", Status.OK, clock_offset=offset)])
    assert shown in screen.shown


def test_write_ping_colours_a_table_and_no_document(coloured, screen):
    write_ping(coloured.out, ANSWERS)
    assert b" \x1b[35mdenied\x1b[0m " in coloured.shown
    coloured.stdout.seek(0)
    coloured.stdout.truncate()
    write_ping(coloured.out, ANSWERS, tablefmt="html")
    assert b"\x1b" not in coloured.shown


def test_write_ping_json(screen, run):
    write_ping_json(screen.out, run, [ANSWERS[0], ANSWERS[2]])
    nothing = dict.fromkeys(["agent", "python", "os", "clock_offset", "rtt"])
    document = json.loads(screen.shown)
    assert list(document) == ["run", "summary", "results"]
    assert (document["run"]["id"], document["run"]["exit_code"]) == (run.id, run.exit_code)
    assert document["summary"] == {"ok": 1, "denied": 1}
    assert {"results": document["results"]} == {
        "results": [
            {
                "host": "web1",
                "status": "ok",
                "agent": "0.1.0",
                "python": "3.11.7",
                "os": "Linux 6.1",
                "clock_offset": -0.003142,
                "rtt": 0.001235,
                "error": None,
            },
            {"host": "db1", "status": "denied", **nothing, "error": "not enrolled"},
        ]
    }
