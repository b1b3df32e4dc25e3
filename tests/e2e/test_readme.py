"""Every command of the README, run: what it shows must happen, and what it promises to be enough must be enough."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = os.path.dirname(sys.executable)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(block: str, prompt: str = "$ ") -> list[str]:
    return [line.removeprefix(prompt) for line in block.splitlines() if line.startswith(prompt)]


def block_with(text: str) -> str:
    (found,) = [block for block in blocks("console") if text in block]
    return found


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a user would type it, stopping at the first command that fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "XDG_"))}
    path = f"{environment.pop('first', BIN)}:{BIN}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env={**kept, "HOME": str(folder), "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a user has after a clone."""
    folder = tmp_path / "fleet"
    folder.mkdir()
    for name in ("agent", "controller", "inventory", ".ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_the_session_at_the_top_is_what_a_user_sees(new_lab) -> None:
    shown = block_with("fleet run 'df -h /'").splitlines()
    assert new_lab.fleet("init", "--name", "ops").code == 0
    assert new_lab.fleet("enroll", "web[1-2]", "db1", "-o", "enrolments").code == 0
    ports = [
        new_lab.agent(new_lab.folder / f"enrolments/{name}.enrol", new_lab.folder / name).port
        for name in ("web1", "web2")
    ]
    new_lab.inventory.write_text(
        f"web1 fleet_port={ports[0]}\nweb2 fleet_port={ports[1]}\ndb1 fleet_port=1\n[all:vars]\nfleet_host=127.0.0.1\n"
    )
    (command,) = re.findall(r"^fleet run '(.*)'$", commands(block_with("fleet run 'df -h /'"))[0])
    done = new_lab.fleet("run", command)
    rows = [line.split()[:3] for line in done.out.splitlines() if not line.startswith(" ")]
    assert rows == [line.split()[:3] for line in shown[1:] if line.startswith(("HOST", "web", "db"))]
    assert done.err == "2 ok, 1 unreachable of 3 hosts in 0.00s\n"
    assert re.sub(r"0\.05s", "0.00s", shown[-3]) + "\n" == done.err
    assert done.code == int(shown[-1]) == 4


def test_one_command_sets_up_everything_and_runs_the_demo(checkout: Path) -> None:
    demo, _ = [block.strip() for block in blocks("sh")]
    done = shell(demo, checkout)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:3] for line in done.stdout.splitlines() if line.startswith("demo")] == [
        [f"demo{number}", "ok", "0"] for number in (1, 2, 3)
    ]
    assert done.stdout.count("Filesystem") == 3


def test_the_other_command_is_how_the_tests_are_run_everywhere() -> None:
    _, tests = [block.strip() for block in blocks("sh")]
    assert tests in (ROOT / ".ci" / "run").read_text().splitlines()
    assert tests.endswith(".venv/bin/pytest -n auto")


def test_the_demo_that_stays_up(tmp_path: Path) -> None:
    script = commands(block_with("fleet demo --keep demo"))
    done = shell("\n".join(script), tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(re.findall(r"demo\d: (?:one|two)", done.stdout)) == [
        f"demo{number}: {word}" for number in (1, 2, 3) for word in ("one", "two")
    ]
    assert '"host": "demo1"' in done.stdout and '"host": "demo2"' not in done.stdout
    assert done.stdout.endswith("ended 3 agents; what they left is in demo\n")


def test_reading_many_answers(tmp_path: Path) -> None:
    """The recording, played again: the same but for times, ports and the sizes of this machine's disk."""
    block = block_with("fleet run --diff")
    keep = shell("fleet demo -n 20 --keep d true", tmp_path)
    assert keep.returncode == 0, keep.stderr
    try:
        # One of them is down.
        port = re.search(r"^demo17 .*fleet_port=(\d+)", (tmp_path / "d/hosts.ini").read_text(), re.MULTILINE)[1]
        os.kill(int((tmp_path / "d/agents/demo17/pid").read_text().split()[0]), signal.SIGTERM)
        shell(f"while (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null; do :; done", tmp_path)
        for command in commands(block):
            shown = block.split(f"$ {command}\n")[1].split("$ fleet")[0]
            done = shell(f". d/env; {command} 2>&1 || true", tmp_path)
            assert plain(done.stdout) == plain(shown.replace("38341", port))
    finally:
        shell("fleet demo --stop d", tmp_path)


def plain(screen: str) -> str:
    """Leave out what differs from run to run and from machine to machine."""
    screen = re.sub(r"in \d+\.\d\ds$", "in 0.00s", screen, flags=re.MULTILINE)
    screen = re.sub(r"^(demo\d|HOST) +.* (/|Mounted on)$", r"\1 \2", screen, flags=re.MULTILINE)
    return screen


def test_files(new_lab) -> None:
    """As on three hosts with homes of their own, one of which has another file than the others."""
    folder = new_lab.folder
    assert new_lab.fleet("init", "--name", "ops").code == 0
    assert new_lab.fleet("enroll", "web[1-3]", "-o", "enrolments").code == 0
    hosts = ["[web]"]
    for name in ("web1", "web2", "web3"):
        (folder / f"home/{name}/conf").mkdir(parents=True)
        (folder / f"home/{name}/conf/app.conf").write_text(f"workers = {16 if name == 'web3' else 4}\n")
        settings = f'[controllers.ops]\nhome = "{folder}/home/{name}"\n'
        agent = new_lab.agent(folder / f"enrolments/{name}.enrol", folder / name, settings)
        hosts.append(f"{name} fleet_host=127.0.0.1 fleet_port={agent.port}")
    new_lab.inventory.write_text("\n".join(hosts) + "\n")
    (folder / "app.conf").write_text("workers = 8\n")

    def run(command: str) -> str:
        done = shell(command, folder, FLEET_INVENTORY=str(new_lab.inventory), FLEET_KEY=str(new_lab.key))
        assert (done.returncode, done.stderr.splitlines()[0][:23]) == (0, "3 changed of 3 hosts in"), done.stderr
        return done.stdout

    def there() -> list[str]:
        return [(folder / f"home/web{number}/conf/app.conf").read_text() for number in (1, 2, 3)]

    before = there()
    check, push, rollback, pull = commands(block_with("fleet rollback"))
    shown = run(check)
    assert shown.count("-workers = 4\n+workers = 8\n") == 2 and shown.count("-workers = 16\n+workers = 8\n") == 1
    assert there() == before
    run(push)
    assert there() == ["workers = 8\n"] * 3
    run(rollback)
    assert there() == before
    run(pull)
    assert [(folder / f"fetched/web{number}/app.conf").read_text() for number in (1, 2, 3)] == before


@pytest.fixture
def wire(tmp_path: Path) -> Path:
    """Stand-ins for what the quick start needs of the world: scp to a host, a shell on it, and the agent's place there.

    The host is a folder; its agent listens where 192.0.2.10 would be.
    """
    tools, host = tmp_path / "tools", tmp_path / "web1"
    tools.mkdir()
    host.mkdir()
    for name, text in {
        "scp": f'test "$2" = root@web1: && cp -p "$1" {host}/',
        "fleet-agent": f'command=$1; shift; exec {BIN}/fleet-agent "$command" --dir {host}/etc "$@"',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    return tools


def test_the_quick_start(tmp_path: Path, wire: Path) -> None:
    mine = tmp_path / "me"
    mine.mkdir()
    host = tmp_path / "web1"
    first = shell("\n".join(commands(block_with("fleet init"))), mine, first=str(wire))
    assert first.returncode == 0, first.stderr

    init, serve = commands(block_with("root@web1#"), "root@web1# ")
    taken = shell(f"{init} --listen 127.0.0.1:0", host, first=str(wire))
    assert taken.returncode == 0, taken.stderr
    agent = subprocess.Popen(
        ["bash", "-c", f"exec {serve}"],
        cwd=host,
        env={**os.environ, "PATH": f"{wire}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert agent.stderr is not None
        match = re.fullmatch(r"fleet-agent: listening on 127\.0\.0\.1:(\d+)\n", agent.stderr.readline())
        assert match is not None
        rest = "\n".join(commands(block_with("> hosts.ini")))
        done = shell(rest.replace("192.0.2.10", "127.0.0.1"), mine, FLEET_PORT=match[1])
        assert done.returncode == 0, done.stderr
        assert [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("web1")] == [
            ["web1", "ok"]
        ] * 2
        assert "Filesystem" in done.stdout
    finally:
        agent.terminate()
        agent.communicate(timeout=60)


def test_the_agent_as_one_file(checkout: Path) -> None:
    done = shell("\n".join(commands(block_with("zipapp"))), checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fleet-agent 0.1.0\n")


def test_the_inventory_that_ansible_prints_is_read(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("web:\n  hosts:\n    web[1:2]:\n")
    listing = re.search(r"`(ansible-inventory --list \| fleet run -i - )uptime`", README)
    assert listing is not None
    done = shell(listing[1] + "--list-hosts uptime", tmp_path, ANSIBLE_INVENTORY=str(tmp_path / "hosts.yml"))
    assert (done.returncode, done.stdout) == (0, "web1\nweb2\n"), done.stderr


def test_the_python_example(new_lab, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = blocks("python")
    assert new_lab.fleet("init").code == 0
    assert new_lab.fleet("enroll", "web1", "-o", "enrolments").code == 0
    agent = new_lab.agent(new_lab.folder / "enrolments/web1.enrol", new_lab.folder / "web1")
    (new_lab.folder / "hosts.ini").write_text(f"[web]\nweb1 fleet_host=127.0.0.1 fleet_port={agent.port}\n")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=new_lab.folder, env=new_lab.environment(), capture_output=True, text=True
    )
    assert done.stdout.startswith("web1 ok 0 b' "), done.stderr
