"""A session against agents that follow a script: what is served while nobody asks, and what becomes of a lost one."""

from __future__ import annotations

import re
import threading

import pytest

from agent.wire import messages as m
from controller.cancel import CancelToken
from controller.client import Target
from controller.errors import HostError, UnreachableError
from controller.results import Status
from controller.shell import session as module
from controller.shell.session import News, Reach, Session

PATIENCE = 30.0  # seconds; reached only by a test that fails
TOKEN = re.compile(r"([0-9a-f]{32})\(")


@pytest.fixture
def reach(key):
    return Reach(key, PATIENCE, 4)


@pytest.fixture
def told(monkeypatch):
    """Set when a session has news."""
    event = threading.Event()
    tell = Session._tell

    def also(self, news):
        tell(self, news)
        event.set()

    monkeypatch.setattr(Session, "_tell", also)
    return event


def token_of(request):
    return TOKEN.search(request.environment["FLEET_SHELL"])[1].encode()


def trailer(request, body=b"/there\n0022\n%b.export A=1\n%b.B=2"):
    token = token_of(request)
    body = body.replace(b"%b", token)
    return token + b"(%d:" % len(body) + body + token + b")"


def test_an_idle_connection_answers_pings_and_says_goodbye(fake, reach, told):
    def script(talk):
        talk.login()
        talk.send(m.Ping(7))
        assert talk.receive().token == 7
        talk.send(m.Goodbye("stopping", "the agent stops"))
        talk.until_closed()

    agent = fake(script)
    with Session([agent.target], reach) as session:
        assert [result.status for result in session.join()] == [Status.OK]
        assert told.wait(PATIENCE)
        assert session.news() == [News("web1", "dropped: the agent ended the connection: the agent stops")]
        assert session.news() == []
        assert session.members["web1"].client is None


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda talk: talk.say_goodbye(), "the agent closed the connection"),
        (lambda talk: talk.cut(), "the peer cut the connection|connection reset by peer"),  # it depends on the Python
        (lambda talk: talk.sock.sendall(b"\xff" * 100), "unknown frame type 0xff"),
    ],
)
def test_a_connection_that_ends_is_news(fake, reach, told, end, reason):
    def script(talk):
        talk.login()
        end(talk)
        talk.until_closed()

    with Session([fake(script).target], reach) as session:
        session.join()
        assert told.wait(PATIENCE)
        (news,) = session.news()
        assert re.fullmatch(f"dropped: ({reason})", news.text)


def test_the_state_goes_with_the_next_command(fake, reach):
    seen = []

    def script(talk):
        first = talk.run()
        seen.append(first)
        talk.send(m.Stdout(b"hello"), m.Stderr(b"warning" + trailer(first)))
        talk.exit(code=3)
        second = talk.receive()
        seen.append(second)
        talk.exit(code=0)
        talk.until_closed()

    with Session([fake(script).target], reach) as session:
        (result,) = session.run("first", max_output=1000)
        assert (result.status, result.rc, result.stdout, result.stderr) == (Status.FAILED, 3, b"hello", b"warning")
        assert (result.stdout_bytes, result.stderr_bytes, result.note) == (5, 7, None)
        (result,) = session.run("second", timeout=9.0)
        assert result.note == (
            "directory and variables are as before: its shell did not tell them (exec? a trap on EXIT?)"
        )
        assert session.members["web1"].state.directory == "/there"
    assert [request.command for request in seen] == ['eval "$FLEET_SHELL"\nfirst', 'eval "$FLEET_SHELL"\nsecond']
    assert (seen[0].max_output, seen[1].timeout, seen[1].host) == (1000, 9.0, "web1")
    assert seen[1].environment["A"] == "1"
    assert "\nB='2'\n" in seen[1].environment["FLEET_SHELL"]
    assert "cd -- '/there' 2>/dev/null || " in seen[1].environment["FLEET_SHELL"]
    assert token_of(seen[0]) != token_of(seen[1])


@pytest.mark.parametrize(
    ("exit", "what", "note"),
    [
        (
            {"code": 0},
            lambda request: trailer(request)[:-1],
            "something in the background wrote into what the shell told",
        ),
        (
            {"code": 0},
            lambda request: trailer(request, b"nonsense"),
            "its shell told them in a way that cannot be read",
        ),
        ({"signal": 9}, trailer, None),
        ({"code": 0, "reason": m.Reason.CANCELLED}, trailer, None),
    ],
)
def test_a_state_that_is_not_to_be_believed(fake, reach, exit, what, note):
    def script(talk):
        request = talk.run()
        talk.send(m.Stderr(what(request)))
        talk.exit(**exit)
        talk.until_closed()

    with Session([fake(script).target], reach) as session:
        (result,) = session.run("command")
        assert not session.members["web1"].state.known
    assert result.stderr == b""
    assert (result.note is None) == (note is None)
    if note is not None:
        assert result.note.startswith(f"directory and variables are as before: {note}")


def test_a_held_pipe_and_a_lost_state_are_both_said(fake, reach):
    def script(talk):
        talk.run()
        talk.exit(code=0, held=True)
        talk.until_closed()

    with Session([fake(script).target], reach) as session:
        (result,) = session.run("command")
    assert result.note.startswith("a background process still holds the output; directory and variables are as before:")


def test_a_connection_that_breaks_under_a_command_is_in_its_result_alone(fake, reach):
    def script(talk):
        talk.run()
        talk.say_goodbye()

    with Session([fake(script).target], reach) as session:
        (result,) = session.run("command", keep=False)
        assert result.status is Status.BROKEN
        assert session.members["web1"].client is None
        assert session.news() == []


def test_a_permission_that_is_missing_leaves_the_connection(fake, reach):
    def script(talk):
        talk.run()
        talk.send(m.Error("denied", "controller ops may not run commands on this host"))
        talk.until_closed()

    with Session([fake(script).target], reach) as session:
        (result,) = session.run("command")
        assert (result.status, result.error) == (Status.DENIED, "controller ops may not run commands on this host")
        assert session.members["web1"].client is not None


class Refusals:
    """Takes the place of `Client` where nobody answers, and is the clock; an attempt takes so many seconds."""

    def __init__(self, took):
        self.now, self.tries, self._took = 1000.0, 0, took

    def __call__(self, *arguments, **options):
        self.tries += 1
        self.now += self._took
        raise UnreachableError("no answer")

    def clock(self):
        return self.now


@pytest.mark.parametrize(("took", "pause"), [(0.01, 0.1), (2.0, 20.0), (10.0, 60.0)])
def test_a_dead_host_does_not_hold_up_every_command(monkeypatch, key, identity, took, pause):
    host = Refusals(took)
    monkeypatch.setattr(module, "Client", host)
    member = module.Member(Target("web1", "127.0.0.1", 1, identity), Reach(key, 1.0, 1, host.clock), lambda news: None)

    def attempt(**how):
        with pytest.raises(HostError, match=r"^no answer$") as caught:
            member.join(CancelToken(), **how)
        assert caught.value.status is Status.UNREACHABLE
        return host.tries

    assert attempt() == 1
    host.now += pause - 0.001
    assert attempt() == 1
    assert attempt(now=True) == 2
    host.now += pause + 0.001
    assert attempt() == 3


def test_a_cancelled_run_does_not_count_against_a_host(reach, identity):
    token = CancelToken()
    token.set()
    with Session([Target("web1", "127.0.0.1", 1, identity)], reach) as session:
        assert [result.status for result in session.run("command", cancel=token)] == [Status.SKIPPED]
        assert [result.status for result in session.join(cancel=token)] == [Status.SKIPPED]
        assert session.members["web1"].reason == "not tried yet"


def test_abandoning_says_that_nobody_waited(fake, reach):
    running = threading.Event()

    def script(talk):
        talk.run()
        running.set()
        talk.until_closed()

    with Session([fake(script).target], reach) as session:
        threading.Thread(target=lambda: running.wait(PATIENCE) and session.abandon()).start()
        (result,) = session.run("command")
        session.abandon()  # there is nothing left to cut
    assert (result.status, result.error) == (
        Status.BROKEN, "not waited for: the agent kills the command, and has not confirmed that it is dead",
    )  # fmt: skip
