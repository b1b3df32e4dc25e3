"""`from controller import Fleet`: the Python API, as the documentation shows it."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

import controller
from controller import Fleet, Result, Status
from controller.errors import FleetError


@pytest.fixture
def fleet(lab):
    return Fleet(str(lab.inventory), key=str(lab.key))


def test_results_come_as_they_finish(fleet, tmp_path):
    import os

    gate = tmp_path / "gate"
    os.mkfifo(gate)
    run = fleet.run(f"[ $FLEET_HOST != web1 ] || cat {gate}; echo $FLEET_HOST", limit="good")
    seen = []
    for result in run:
        seen.append(result.host)
        if len(seen) == 2:
            gate.write_text("")
        assert isinstance(result, Result)
        assert (result.status, result.rc, result.stdout) == (Status.OK, 0, f"{result.host}\n".encode())
    assert (sorted(seen[:2]), seen[2]) == (["db1", "web2"], "web1")
    assert [result.host for result in run.results] == ["web1", "web2", "db1"]
    assert run.exit_code == 0
    assert run.elapsed > 0


def test_a_result_is_frozen_and_its_words_are_the_same(fleet):
    (result,) = fleet.run("exit 3", limit="web1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.rc = 0
    assert (result.status, str(result.status), f"{result.status}") == ("failed", "failed", "failed")


def test_the_options_of_a_run(fleet, tmp_path):
    (result,) = fleet.run(
        "pwd; echo $A; echo 0123456789 >&2",
        limit=["web", "*1"], environment={"A": "b"}, directory=str(tmp_path), max_output=5, timeout=60.0,
    )  # fmt: skip
    assert result.stderr == b"01234"
    assert (result.stderr_bytes, result.truncated) == (11, True)
    assert result.stdout == str(tmp_path).encode()[:5]


def test_keep_false_keeps_nothing_and_tells_the_observer(fleet):
    heard = []

    class Ear:
        def start(self, host):
            heard.append(("start", host))

        def stdout(self, host, data):
            heard.append(("stdout", host, data))

        def stderr(self, host, data):
            heard.append(("stderr", host, data))

    (result,) = fleet.run("echo hello", limit="web1", observer=Ear(), keep=False)
    assert heard == [("start", "web1"), ("stdout", "web1", b"hello\n")]
    assert (result.stdout, result.stdout_bytes) == (b"", 6)


def test_an_observer_that_fails_cancels_the_run_and_is_raised(fleet, post, gone):
    class Broken(controller.runs.Silent if hasattr(controller, "runs") else object):
        def start(self, host):
            pass

        def stdout(self, host, data):
            raise OverflowError("full")

        def stderr(self, host, data):
            pass

    run = fleet.run(f"echo $$ > {post}; echo hello; exec sleep 1000", limit="web1", observer=Broken())
    with pytest.raises(OverflowError, match="full"):
        list(run)
    assert [result.status for result in run.results] == [Status.CANCELLED]
    gone([])


def test_leaving_early_kills_what_runs(fleet, post, gone):
    run = fleet.run(f"[ $FLEET_HOST = db1 ] || {{ echo $$ > {post}; exec sleep 1000; }}", limit="good")
    for result in run:
        assert result.host == "db1"
        processes = post.processes(2)
        break
    gone(processes)


def test_cancel_from_outside(fleet, post, gone):
    run = fleet.run(f"echo $$ > {post}; exec sleep 1000", limit="web1")
    import threading

    processes = []

    def cancel():
        processes.extend(post.processes(1))
        run.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    (result,) = run
    thread.join()
    assert result.status is Status.CANCELLED
    gone(processes)


def test_ping(fleet):
    results = list(fleet.ping(limit="good", exclude="db1"))
    assert sorted(result.host for result in results) == ["web1", "web2"]
    assert all(result.status is Status.OK and result.rtt > 0 for result in results)


def test_ad_hoc_hosts(lab):
    fleet = Fleet(hosts="newcomer", key=str(lab.key))
    assert [result.status for result in fleet.run("true")] == [Status.DENIED]
    assert [host.name for host in fleet.select()] == ["newcomer"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": ""}, "command: is empty"),
        ({"command": " \n"}, "command: is empty"),
        ({"command": "a\0b"}, "command: holds a NUL byte, which no command can"),
        ({"command": "true", "environment": {"A": "\0"}}, "run: NUL in the environment"),
        ({"command": "true", "environment": {"A=": ""}}, "run: not a name of an environment variable: 'A='"),
        ({"command": "true", "directory": "/\0"}, "run: NUL in a name"),
        ({"command": "true", "timeout": 0}, "run: timeout of 0 seconds"),
        ({"command": "true", "timeout": float("nan")}, "run: timeout of nan seconds"),
        ({"command": "true", "max_output": -1}, "run: output limit of -1 bytes"),
        ({"command": "true", "limit": "nobody"}, "inventory: unknown host or group: 'nobody'"),
        ({"command": "true", "exclude": "all"}, None),
    ],
)
def test_what_cannot_be_run(fleet, options, message):
    with pytest.raises(FleetError) as caught:
        fleet.run(**options)
    if message is not None:
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "inventory: there is none"),
        ({"inventory": []}, "inventory: there is none"),
        ({"hosts": "a", "fanout": 0}, "fanout: 0 is not a number of hosts"),
        ({"hosts": "a", "connect_timeout": 0}, "connect timeout: 0 is not a number of seconds"),
        ({"hosts": "a", "connect_timeout": float("nan")}, "connect timeout: nan is not a number of seconds"),
        ({"hosts": "a", "port": 0}, "port: 0 is not in 1..65535"),
        ({"hosts": "a", "port": 65536}, "port: 65536 is not in 1..65535"),
    ],
)
def test_what_cannot_be_a_fleet(options, message):
    with pytest.raises(FleetError) as caught:
        Fleet(**options)
    assert str(caught.value) == message


def test_only_what_is_promised_is_in_the_package():
    assert controller.__all__ == ["Fleet", "Result", "Script", "Status"]
    assert inspect.isclass(controller.Fleet)
    with pytest.raises(AttributeError, match="module 'controller' has no attribute 'Fleets'"):
        controller.Fleets  # noqa: B018
