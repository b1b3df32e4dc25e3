"""What a prompt looks like, and what is not worth saying."""

from __future__ import annotations

import io

import pytest

from agent.wire.record import record
from controller.output import RunInfo, Writer
from controller.results import Result, Status
from controller.shell.dialogue import Choice, Dialogue
from controller.shell.session import News
from controller.shell.shown import Shy, news_lines, reasons, sink_for
from controller.shell.state import FRESH


@record
class Member:
    client: object
    state: object = FRESH


class Session:
    def __init__(self, up, down=()):
        self.members = {name: Member(object() if name in up else None) for name in [*up, *down]}


@pytest.mark.parametrize(
    ("up", "down", "prompt"),
    [
        (["web1"], [], "web1 (1)> "),
        (["web1", "web2"], ["web3"], "web[1-2] (2 of 3)> "),
        ([], ["web1"], "nobody (0 of 1)> "),
        ([f"a{number}" + "x" * number for number in range(20)], [], "a0,a1x,a2xx,a3xxx,a4xxxx,a5xxxxx,a6xx... (20)> "),
    ],
)
def test_the_prompt(up, down, prompt):
    dialogue = Dialogue(None, Session(up, down), Choice(), Writer(io.BytesIO()), Writer(io.BytesIO()))
    assert dialogue.prompt() == prompt


def told(results, *, out=b"", hosts=None, **look):
    shown, said = io.BytesIO(), io.BytesIO()
    sink = sink_for(Writer(shown), Writer(said), **{"folded": True, "compared": False, **look})
    assert not sink.keeps
    for result in results:
        sink.start(result.host)
        if out:
            sink.stdout(result.host, out)
        sink.end(result)
    sink.finish(RunInfo("id", "true", 0.0, 0.5, 0, hosts or len(results)), results)
    return shown.getvalue().decode(), said.getvalue().decode()


GOOD = Result("web1", Status.OK, rc=0)


@pytest.mark.parametrize("look", [{}, {"folded": False}, {"compared": True}])
def test_nothing_is_said_of_what_is_simply_well(look):
    assert told([GOOD], **look) == ("", "")
    assert told([GOOD], out=b"x\n", **look) != ("", "")
    assert told([Result("web1", Status.FAILED, rc=1)], **look) != ("", "")
    assert told([Result("web1", Status.OK, rc=0, note="remark")], **look) != ("", "")
    assert told([GOOD], hosts=2, **look) != ("", "")


def test_standard_error_is_something_to_say():
    said = io.BytesIO()
    from controller.output.fold import Fold

    sink = Shy(Fold(Writer(io.BytesIO()), Writer(said)))
    sink.stderr("web1", b"x\n")
    sink.finish(RunInfo("id", "true", 0.0, 0.5, 0, 1), [GOOD])
    assert said.getvalue() == b"1 ok of 1 host in 0.50s\n"


def test_reasons_are_folded():
    results = [
        GOOD,
        Result("web3", Status.UNREACHABLE, error="connection refused by 192.0.2.3:7422"),
        Result("web2", Status.UNREACHABLE, error="connection refused by 192.0.2.2:7422"),
        Result("db1", Status.DENIED, error="not enrolled\x1b"),
    ]
    assert reasons(results) == [
        "web[2-3] (2): unreachable: connection refused by 192.0.2.2:7422;"
        " as web2 has it, others differ in name or address",
        "db1: denied: not enrolled\\x1b",
    ]


def test_news_is_folded():
    news = [News("web1", "dropped: x\n"), News("web2", "dropped: x\n"), News("web1", "back")]
    assert news_lines(news) == ["web[1-2]: dropped: x\\x0a", "web1: back"]
