"""`Fleet` against fake agents: where its key and registry come from, and what becomes of each failure."""

from __future__ import annotations

import io
import resource
import sys

import pytest

from agent.wire import messages as m
from controller import Fleet, Script, keyfile
from controller.cancel import CancelToken
from controller.enroll import enroll
from controller.errors import FleetError
from controller.registry import FILE_NAME, update
from controller.results import Status
from inventory import load

SCRIPT = Script("check.sh", b"#!/bin/sh\n")


@pytest.fixture
def folder(tmp_path, key, identity, monkeypatch):
    """A folder with the fake agents' key, and a registry that knows web1."""
    monkeypatch.delenv("FLEET_KEY", raising=False)
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text(f"fleet-key-1 {key.name} {key.master.hex()}\n")
    update(str(tmp_path / FILE_NAME), lambda before: before.adding(hosts={"web1": identity}))
    return tmp_path


@pytest.fixture
def fleet(folder):
    """Return a function that makes a fleet of one host, at a fake agent."""

    def make(agent, **options):
        (folder / "hosts.ini").write_text(f"web1 fleet_host=127.0.0.1 fleet_port={agent.port}\n")
        return Fleet(folder / "hosts.ini", key=str(folder / "key"), **options)

    return make


def test_a_run(fake, fleet):
    requests = []

    def script(talk):
        requests.append(talk.run())
        talk.send(m.Stdout(b"hello"))
        talk.exit(code=0)

    run = fleet(fake(script)).run("uptime", timeout=9.0, environment={"A": "b"}, directory="/d", max_output=None)
    (result,) = run
    assert (result.host, result.status, result.stdout) == ("web1", Status.OK, b"hello")
    assert requests == [
        m.Run("uptime", host="web1", run=run.id, environment={"A": "b"}, directory="/d", timeout=9.0, max_output=None)
    ]


def test_a_script_with_an_input_as_somebody(fake, fleet):
    requests = []

    def story(talk):
        requests.append(talk.run())
        while not isinstance(message := talk.receive(), m.EndOfStream):
            requests.append(message)
        requests.append(message.stream)
        assert talk.receive() == m.Stdin(b"input")
        assert talk.receive().stream is m.Stream.STDIN
        talk.exit(code=0)

    content = b"#!/bin/sh\necho {host}\n"
    script = Script("check.sh", content, ("-v", "{host} {{}}"))
    run = fleet(fake(story)).run(script=script, stdin=b"input", user="www", template=True)
    assert run.command == "check.sh -v '{host} {{}}'"
    (result,) = run
    assert result.status is Status.OK
    assert requests == [
        m.Run(
            "check.sh", host="web1", run=run.id, max_output=16 * 2**20, user="www",
            stdin=True, script=True, arguments=("-v", "web1 {}"),
        ),
        m.Script(content),
        m.Stream.SCRIPT,
    ]  # fmt: skip


def test_the_arguments_of_a_script_are_as_they_are_without_a_template(fake, fleet):
    def story(talk):
        assert talk.run().arguments == ("{host}",)
        talk.send(m.Error("denied", "no"))
        talk.until_closed()

    (result,) = fleet(fake(story)).run(script=Script("x", b"#!/bin/sh\n", ("{host}",)))
    assert result.status is Status.DENIED


def test_a_shell(fake, fleet):
    def story(talk):
        assert talk.run().shell == "/bin/ksh"
        talk.exit(code=0)

    (result,) = fleet(fake(story)).run("true", shell="/bin/ksh")
    assert result.status is Status.OK


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "command: is empty"),
        ({"command": "true", "script": SCRIPT}, "script: is run in the place of a command: give one of the two"),
        ({"script": SCRIPT, "shell": "/bin/sh"}, "run: both a script and a shell"),
        ({"command": "true", "shell": "sh"}, "run: the shell is no absolute path"),
        ({"command": "true", "user": "a\0"}, "run: NUL in a name"),
        ({"script": Script("x", SCRIPT.content, ("a\0",))}, "run: NUL in an argument"),
        ({"script": Script(" ", SCRIPT.content)}, "run: empty command"),
        (
            {"script": Script("x", SCRIPT.content, ("{no}",)), "template": True},
            "template: h1: undefined variable: 'no'",
        ),
        ({"command": "true", "stdin": "/no/such"}, "stdin: /no/such: no such file or directory"),
        (
            {"command": "true", "stdin": io.BytesIO()},
            "stdin: expected bytes, a path, or an open file with a descriptor",
        ),
    ],
)
def test_what_cannot_be_run(folder, options, why):
    with pytest.raises(FleetError) as caught:
        Fleet(hosts="h[1-2]", key=str(folder / "key")).run(**options)
    assert str(caught.value) == why


def test_an_input_takes_a_descriptor_of_each_host(folder, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (44, 44))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    fleet = Fleet(hosts="h[1-9]", key=str(folder / "key"), warn=lambda text: None)
    assert (fleet.run("true").width, fleet.run("true", stdin=b"").width) == (4, 2)


def test_a_template_is_filled_for_each_host(fake, fleet):
    def script(talk):
        assert talk.run().command == "echo web1"
        talk.exit(code=0)

    assert [result.status for result in fleet(fake(script)).run("echo {host}", template=True)] == [Status.OK]


def test_a_host_that_does_not_answer(folder):
    (folder / "hosts.ini").write_text("web1 fleet_host=127.0.0.1\n")
    (result,) = Fleet(folder / "hosts.ini", key=str(folder / "key"), port=1).run("true", limit="web1")
    assert (result.status, result.rc, result.started) == (Status.UNREACHABLE, None, None)
    assert result.elapsed >= 0


def test_cancelled_before_it_connected(fake, fleet):
    token = CancelToken()

    def script(talk):
        talk.receive()
        token.set()
        talk.until_closed()

    (result,) = fleet(fake(script)).run("true", cancel=token)
    assert (result.status, result.elapsed, result.error) == (Status.SKIPPED, 0.0, "not started: the run was cancelled")


def test_skipped(folder):
    token = CancelToken()
    token.set()
    fleet = Fleet(hosts="web[1-2]", key=str(folder / "key"))
    for run in (fleet.run("true", cancel=token), fleet.ping(cancel=token)):
        assert [(result.host, result.status, result.error) for result in run] == [
            ("web1", Status.SKIPPED, "not started: the run was cancelled"),
            ("web2", Status.SKIPPED, "not started: the run was cancelled"),
        ]


def test_a_ping(fake, fleet):
    def script(talk):
        talk.login()
        talk.send(m.Pong(talk.receive().token, 5.0))
        talk.until_closed()

    (result,) = fleet(fake(script)).ping()
    assert (result.host, result.status, result.agent, result.python, result.os) == (
        "web1",
        Status.OK,
        "9.9",
        "3.11.7",
        "Linux",
    )
    assert result.clock_offset < -1e9
    assert result.rtt > 0


def test_a_ping_that_fails(fake, fleet):
    def script(talk):
        talk.open()
        talk.send(m.Refusal())

    (result,) = fleet(fake(script)).ping()
    assert (result.status, result.agent, result.rtt) == (Status.DENIED, None, None)
    assert "refused our key" in result.error


# Where things come from


def test_the_key_comes_from_an_argument_the_environment_or_its_usual_place(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("FLEET_KEY", str(folder / "key"))
    assert next(iter(Fleet(hosts="other").run("true"))).error == "not enrolled: mend with: fleet enroll other"
    with pytest.raises(FleetError, match=r"^/no/key: there is no such file$"):
        Fleet(hosts="other", key="/no/key").run("true")
    monkeypatch.delenv("FLEET_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x"))
    with pytest.raises(FleetError) as caught:
        Fleet(hosts="other").ping()
    assert (str(caught.value), caught.value.hint) == (f"{tmp_path}/x/fleet/key: there is no such file", "fleet init")


def test_the_registry_is_beside_the_key_or_where_it_is_said_to_be(folder, tmp_path):
    (tmp_path / "spoilt").write_text("{")
    with pytest.raises(FleetError) as caught:
        Fleet(hosts="web1", key=str(folder / "key"), registry=str(tmp_path / "spoilt")).run("true")
    assert caught.value.what == str(tmp_path / "spoilt")
    assert caught.value.hint.startswith("restore it")


def test_a_pool_is_looked_up_among_pools(folder):
    key = keyfile.load(str(folder / "key"))
    enroll(key, str(folder / FILE_NAME), pool="ci", out_dir=str(folder))
    (folder / "hosts.ini").write_text("a fleet_pool=ci fleet_host=127.0.0.1 fleet_port=1\nb fleet_pool=cd\n")
    results = {result.host: result for result in Fleet(folder / "hosts.ini", key=str(folder / "key")).ping()}
    assert results["a"].status is Status.UNREACHABLE
    assert results["b"].error == "not enrolled: no pool 'cd' in the registry; mend with: fleet enroll --pool cd"


def test_inventories_of_every_kind(folder, monkeypatch):
    (folder / "a.ini").write_text("a\n")
    (folder / "b.ini").write_text("b\n")
    paths = [str(folder / "a.ini"), str(folder / "b.ini")]
    assert [host.name for host in Fleet(paths).select()] == ["a", "b"]
    assert [host.name for host in Fleet(load(paths, warn=pytest.fail)).select(exclude="a")] == ["b"]
    assert [host.name for host in Fleet(paths, hosts="b,c").select()] == ["b", "c"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped\n")))
    assert [host.name for host in Fleet("-").select()] == ["piped"]


def test_a_process_without_standard_input(folder, monkeypatch):
    (folder / "a.ini").write_text("a\n")
    for stdin in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert [host.name for host in Fleet(folder / "a.ini").select()] == ["a"]


def test_the_fan_out_shrinks_with_a_word(folder, monkeypatch, capsys):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (43, 43))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    said = []
    options = {"key": str(folder / "key"), "hosts": "h[1-9]", "fanout": 5}
    assert Fleet(**options, warn=said.append).run("true").width == 3
    assert said == ["fan-out lowered from 5 to 3: no more open files are allowed (ulimit -n)"]
    assert Fleet(**options).ping().width == 3
    assert capsys.readouterr() == ("", f"fleet: {said[0]}\n")


def test_no_wider_than_there_are_hosts(folder):
    assert Fleet(hosts="h[1-3]", key=str(folder / "key"), fanout=64).run("true").width == 3
    assert Fleet(hosts="h[1-3]", key=str(folder / "key"), fanout=2).run("true").width == 2


def test_an_empty_registry_is_nobody(tmp_path, folder):
    fleet = Fleet(hosts="web1", key=str(folder / "key"), registry=str(tmp_path / "none.json"))
    assert [result.status for result in fleet.run("true")] == [Status.DENIED]
