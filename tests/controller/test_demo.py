"""Making and ending a demo's agents, with processes that stand for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from controller import demo as module
from controller.cancel import CancelToken
from controller.demo import Demo, stop_kept
from controller.errors import CancelledError, FleetError

# What stands for `fleet-agent`: `init` makes the folder, `serve` does as the test says.
STAND_IN = """
import os, signal, socket, sys
folder = sys.argv[sys.argv.index("--dir") + 1]
if sys.argv[1] == "init":
    os.makedirs(folder)
    sys.exit()
def ready(text):
    print(text, file=sys.stderr, flush=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"READY=1", "\\0" + os.environ["NOTIFY_SOCKET"][1:])
"""
GOOD = "ready('fleet-agent: listening on 127.0.0.1:4711')\nsignal.pause()\n"


@pytest.fixture
def stand_in(monkeypatch):
    def use(serve):
        monkeypatch.setattr(module, "_AGENT", (sys.executable, "-c", STAND_IN + serve))

    return use


@pytest.fixture
def agents(monkeypatch):
    """Every process that was started."""
    made = []
    original = subprocess.Popen

    def start(*arguments, **options):
        made.append(original(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    yield made
    assert [process.args for process in made if process.poll() is None] == []


def test_agents_are_started_and_ended(tmp_path, stand_in, agents):
    stand_in(GOOD)
    with Demo(tmp_path, 2, CancelToken()) as demo:
        assert (demo.inventory, demo.key) == (f"{tmp_path}/hosts.ini", f"{tmp_path}/key")
        assert (tmp_path / "hosts.ini").read_text() == (
            "[demo]\ndemo1 fleet_host=127.0.0.1 fleet_port=4711\ndemo2 fleet_host=127.0.0.1 fleet_port=4711\n"
        )
        assert len(agents) == 4
    assert [process.returncode for process in agents] == [0, 0, -signal.SIGTERM, -signal.SIGTERM]


def test_an_agent_that_ignores_sigterm_is_killed(tmp_path, stand_in, agents, monkeypatch):
    monkeypatch.setattr(module, "_STOP_LIMIT", 0.05)
    stand_in("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + GOOD)
    with Demo(tmp_path, 1, CancelToken()):
        pass
    assert agents[-1].returncode == -signal.SIGKILL


def test_agents_that_do_not_get_ready_in_time(tmp_path, stand_in, agents, monkeypatch):
    monkeypatch.setattr(module, "_START_LIMIT", 0.3)
    stand_in("signal.pause()")
    with (
        pytest.raises(FleetError, match=r"^demo: the agents did not start within 0 s$"),
        Demo(tmp_path, 1, CancelToken()),
    ):
        pass


def test_an_agent_that_does_not_say_where_it_listens(tmp_path, stand_in, agents):
    stand_in("ready('what is a port')\nsignal.pause()")
    with pytest.raises(FleetError, match=r"^agent demo1: what is a port$"), Demo(tmp_path, 1, CancelToken()):
        pass


def test_other_notifications_are_not_taken_for_ready(tmp_path, stand_in, agents):
    stand_in(GOOD.replace("ready(", "ready('x'.replace('x', '')) if 0 else None\nready(", 1))
    stand_in(
        "with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:\n"
        "    sock.sendto(b'STATUS=nearly', '\\0' + os.environ['NOTIFY_SOCKET'][1:])\n" + GOOD
    )
    with Demo(tmp_path, 1, CancelToken()) as demo:
        assert "4711" in (demo.folder / "hosts.ini").read_text()


def test_an_agent_that_dies_says_why(tmp_path, stand_in, agents):
    stand_in("sys.exit('fleet-agent: no luck')")
    with pytest.raises(FleetError, match=r"^agent demo1: no luck$"), Demo(tmp_path, 1, CancelToken()):
        pass


def test_an_init_that_fails_says_why(tmp_path, agents, monkeypatch):
    monkeypatch.setattr(module, "_AGENT", (sys.executable, "-c", "import sys; sys.exit('fleet-agent: no luck')"))
    with pytest.raises(FleetError, match=r"^agent demo1: no luck$"), Demo(tmp_path, 2, CancelToken()):
        pass


def test_cancelled_from_the_start(tmp_path, stand_in, agents):
    stand_in(GOOD)
    token = CancelToken()
    token.set()
    with pytest.raises(CancelledError), Demo(tmp_path, 2, token):
        pass
    assert not (tmp_path / "hosts.ini").exists()


def test_what_the_system_refuses_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_AGENT", ("/no/such/program",))
    with (
        pytest.raises(FleetError, match=r"^demo: cannot start it: no such file or directory$"),
        Demo(tmp_path, 1, CancelToken()),
    ):
        pass


def test_detached_agents_live_on_and_can_be_ended(tmp_path, stand_in, agents):
    stand_in(GOOD)
    with Demo(tmp_path, 2, CancelToken()) as demo:
        demo.detach()
    processes = [int((tmp_path / f"agents/demo{number}/pid").read_text().split()[0]) for number in (1, 2)]
    assert stop_kept(tmp_path) == 2
    for process, agent in zip(processes, agents[2:], strict=True):
        agent.returncode = None
        assert agent.wait() == -signal.SIGTERM
        assert agent.pid == process
    with pytest.raises(FleetError, match=r"there is no demo here$"):
        stop_kept(tmp_path)


def test_a_kept_agent_that_ignores_sigterm_is_killed(tmp_path, stand_in, agents, monkeypatch):
    monkeypatch.setattr(module, "_STOP_LIMIT", 0.05)
    stand_in("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + GOOD)
    with Demo(tmp_path, 1, CancelToken()) as demo:
        demo.detach()
    assert stop_kept(tmp_path) == 1
    agents[-1].returncode = None
    assert agents[-1].wait() == -signal.SIGKILL


def test_the_environment_file_survives_any_path(tmp_path, stand_in, agents):
    folder = tmp_path / "it's $HOME `x`"
    folder.mkdir()
    stand_in(GOOD)
    with Demo(folder, 1, CancelToken()):
        script = '. "$1" && printf "%s\\n%s" "$FLEET_KEY" "$FLEET_INVENTORY"'
        done = subprocess.run(["/bin/sh", "-c", script, "sh", str(folder / "env")], stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode() == f"{folder}/key\n{folder}/hosts.ini"


def test_the_start_of_a_process_that_is_gone():
    assert module._start_time(os.getpid()) > 0
    assert module._start_time(4_194_399) == 0
