"""The command `fleet-agent`, in this process and as the one file `fleet-agent.pyz`."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

import agent
from agent import cli
from agent.config import Config, Listen
from agent.errors import AgentError
from agent.wire.enrolment import Enrolment, dumps

OPS = Enrolment("ops", "web1", b"\x11" * 16, 1, b"\xaa" * 32, b"\xbb" * 32)
SOURCE = Path(agent.__file__).parent

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def enrolment(tmp_path: Path) -> Path:
    path = tmp_path / "web1.enrol"
    path.write_text(dumps(OPS))
    path.chmod(0o600)
    return path


@pytest.fixture
def home(tmp_path: Path, enrolment: Path, capsys: Captured) -> Path:
    path = tmp_path / "agent"
    assert cli.main(["init", "--dir", str(path), "--enrolment", str(enrolment)]) == 0
    capsys.readouterr()
    return path


def complaint(capsys: Captured, *arguments: str, code: int = 1) -> str:
    """Return what stderr says of a command that fails with `code` and prints nothing else."""
    assert cli.main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_version(capsys: Captured) -> None:
    assert cli.main(["version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["fleet-agent 0.1.0", f"Python {sys.version.split()[0]}", ssl.OPENSSL_VERSION, "protocol 1"]


def test_init_and_check(tmp_path: Path, enrolment: Path, capsys: Captured) -> None:
    home = tmp_path / "agent"
    arguments = ["init", "--dir", str(home), "--enrolment", str(enrolment), "--listen", "127.0.0.1:0"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == f"added controller ops (this host is web1, epoch 1) in {home}\n"
    assert cli.main(arguments) == 0
    assert capsys.readouterr() == (
        f"replaced controller ops (this host is web1, epoch 1) in {home}\n",
        "an agent that runs already takes it in on SIGHUP (systemctl reload fleet-agent)\n",
    )
    assert cli.main(["check", "--dir", str(home)]) == 0
    assert capsys.readouterr() == (
        f"folder      {home}\n"
        "listen      127.0.0.1:0\n"
        "shell       /bin/sh\n"
        "controller  ops: pull, push, run from anywhere; host web1, epoch 1\n",
        "",
    )


def test_a_pool_is_named_as_what_it_is(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "pool.enrol"
    path.write_text(dumps(Enrolment("ops", "web", b"\x11" * 16, 1, b"\xaa" * 32, b"\xbb" * 32, pool="web")))
    path.chmod(0o600)
    assert cli.main(["init", "--dir", str(tmp_path / "agent"), "--enrolment", str(path)]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line == "pool web: every host of it holds these same keys and could pose as any other"


def test_check_says_what_each_controller_may(home: Path, capsys: Captured) -> None:
    with (home / "agent.toml").open("a") as file:
        file.write('[controllers.ops]\npermissions = ["push"]\nfrom = ["10.0.0.0/8", "::1"]\n')
        file.write("[controllers.eve]\npermissions = []\n")
    assert cli.main(["check", "--dir", str(home)]) == 0
    captured = capsys.readouterr()
    assert "controller  ops: push from 10.0.0.0/8, ::1/128; host web1, epoch 1\n" in captured.out
    assert captured.err == "note: agent.toml has a section for eve, which is not enrolled\n"
    (home / "agent.toml").write_text("[controllers.ops]\npermissions = []")
    assert cli.main(["check", "--dir", str(home)]) == 0
    assert "ops: ping alone from anywhere" in capsys.readouterr().out


def test_check_says_where_each_controller_may_push_and_pull(home: Path, capsys: Captured) -> None:
    settings = '[controllers.ops]\npermissions = ["push"{}]\npush = ["/etc", "/none/\\u001b[2J"]\npull = ["/usr"]\n'
    for more, pull in (("", ""), (', "pull"', "            pull from /usr\n")):
        (home / "agent.toml").write_text(settings.format(more) + f'home = "{home}"\n')
        assert cli.main(["check", "--dir", str(home)]) == 0
        assert capsys.readouterr().out.partition("epoch 1\n")[2] == (
            f"            push to /etc, /none/\\x1b[2J (no directory)\n{pull}            home {home}\n"
        )


def test_check_fails_with_the_next_step(home: Path, capsys: Captured) -> None:
    check = ("check", "--dir", str(home))
    (home / "controllers/ops.enrol").chmod(0o644)
    assert complaint(capsys, *check) == (
        f"fleet-agent: {home}/controllers/ops.enrol: is open to its group or others (mode 0644)\n"
        f"hint: chmod 600 {home}/controllers/ops.enrol\n"
    )
    (home / "controllers/ops.enrol").unlink()
    assert complaint(capsys, *check) == (
        f"fleet-agent: {home}: no controller is enrolled\nhint: fleet-agent init --enrolment FILE\n"
    )
    (home / "agent.toml").write_text('shell = "/bin/nosh"')
    assert complaint(capsys, *check) == (
        f"fleet-agent: /bin/nosh: there is no such program\nhint: set shell in {home}/agent.toml\n"
    )
    (home / "agent.toml").write_text('lisen = "127.0.0.1:0"')
    assert complaint(capsys, *check) == (
        f'fleet-agent: {home}/agent.toml:1: unknown key "lisen": did you mean "listen"?\n'
    )
    shutil.rmtree(home)
    assert complaint(capsys, *check) == (
        f"fleet-agent: {home}: there is no such folder\nhint: fleet-agent init --enrolment FILE\n"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["init"], "the following arguments are required: --enrolment"),
        (["init", "--enrolment", ""], "argument --enrolment: is empty"),
        (["check", "--dir", ""], "argument --dir: is empty"),
        (["check", "extra"], "unrecognized arguments: extra"),
        (["init", "--enrolment", "x", "--listen", "localhost:1"], "--listen: 'localhost' is not an IP address"),
        (["init", "--enrolment", "x", "--listen", "[::]:65536"], "--listen: port 65536 is not in 0..65535"),
    ],
)
def test_wrong_usage_is_2(capsys: Captured, arguments: list[str], reason: str) -> None:
    assert complaint(capsys, *arguments, code=2) == f"fleet-agent: usage: {reason}\nhint: fleet-agent --help\n"


def test_an_unknown_command_is_2(capsys: Captured) -> None:
    assert complaint(capsys, "start", code=2).startswith(
        "fleet-agent: usage: argument COMMAND: invalid choice: 'start'"
    )


def test_names_from_outside_cannot_move_the_terminal(capsys: Captured, tmp_path: Path) -> None:
    text = complaint(capsys, "init", "--enrolment", f"{tmp_path}/a\x1b[2J\nb\udcff", "--dir", str(tmp_path))
    assert text == f"fleet-agent: {tmp_path}/a\\x1b[2J\\nb\\udcff: no such file or directory\n"


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cli.default_directory() == "/etc/fleet-agent"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ada")
    assert cli.default_directory() == "/home/ada/.config/fleet-agent"


def test_our_own_bugs_are_one_line_unless_asked(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_version", lambda arguments: 1 // 0)
    monkeypatch.delenv("FLEET_DEBUG", raising=False)
    assert complaint(capsys, "version") == (
        "fleet-agent: bug: ZeroDivisionError: integer division or modulo by zero\nhint: FLEET_DEBUG=1 shows where\n"
    )
    monkeypatch.setenv("FLEET_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["version"])


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_version", interrupted)
    assert cli.main(["version"]) == 130


# serve -------------------------------------------------------------------------------------------------------------


class FakeRunner:
    """Stands for the runner; notes whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    from agent.runner import Runner

    fake = FakeRunner()
    monkeypatch.setattr(Runner, "start", lambda: fake)
    return fake


@pytest.mark.parametrize(
    ("extra", "listen"), [([], Listen()), (["--listen", "[::1]:0"], Listen("::1", 0))], ids=["file", "option"]
)
def test_serve_hands_over(
    home: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, extra: list[str], listen: Listen
) -> None:
    calls: list[tuple[str, Config, object]] = []

    def serve(directory: str, settings: Config, runner: object) -> int:
        calls.append((directory, settings, runner))
        return 7

    monkeypatch.setattr("agent.server.serve", serve)
    assert cli.main(["serve", "--dir", str(home), *extra]) == 7
    assert calls == [(str(home), Config(listen=listen), runner)]
    assert runner.closed


def test_serve_that_fails_lets_the_runner_go(
    home: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def serve(directory: str, settings: Config, runner: object) -> int:
        raise AgentError("cannot listen on 0.0.0.0:7422", "address already in use", "another agent?")

    monkeypatch.setattr("agent.server.serve", serve)
    assert complaint(capsys, "serve", "--dir", str(home)) == (
        "fleet-agent: cannot listen on 0.0.0.0:7422: address already in use\nhint: another agent?\n"
    )
    assert runner.closed


def test_the_runner_starts_before_anything_heavy_is_loaded() -> None:
    """Its helper keeps what is in memory at the fork, and so does each supervisor that is forked from it."""
    script = """
import sys
before = set(sys.modules)  # what measures coverage is loaded already
from agent import cli, runner
def start():
    heavy = {"ssl", "_ssl", "tomllib", "logging", "agent.admission", "agent.server"}
    print(*sorted(heavy & set(sys.modules) - before))
    raise SystemExit(0)
runner.Runner.start = start
cli.main(["serve"])
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=SOURCE.parent
    )
    assert result.stdout.split() == []


# As a program ------------------------------------------------------------------------------------------------------


def test_to_import_the_program_does_not_run_it() -> None:
    assert importlib.import_module("agent.__main__").run is cli.run


def test_a_reader_that_has_gone_is_no_traceback(home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "agent", "check", "--dir", str(home)]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=SOURCE.parent, check=False)
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, b"")


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build fleet-agent.pyz as the README says: a copy of the package alone, and zipapp."""
    stage, target = tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("dist") / "fleet-agent.pyz"
    shutil.copytree(SOURCE, stage / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    zipapp.create_archive(stage, target, interpreter="/usr/bin/env python3", main="agent.cli:run", compressed=True)
    return target


def run_pyz(pyz: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(pyz), *map(str, arguments)]  # -I: nothing of the checkout on sys.path
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_the_one_file_does_it_all(pyz: Path, tmp_path: Path, enrolment: Path) -> None:
    version = run_pyz(pyz, "version", cwd=tmp_path)
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.startswith("fleet-agent 0.1.0\n")
    home = tmp_path / "agent"
    init = run_pyz(pyz, "init", "--enrolment", enrolment, "--dir", home, "--listen", "127.0.0.1:0", cwd=tmp_path)
    assert (init.returncode, init.stderr) == (0, "")
    check = run_pyz(pyz, "check", "--dir", home, cwd=tmp_path)
    assert (check.returncode, check.stderr) == (0, "")
    assert "controller  ops: pull, push, run" in check.stdout
    missing = run_pyz(pyz, "check", "--dir", tmp_path / "none", cwd=tmp_path)
    assert missing.returncode == 1  # zipapp alone would lose it


def test_the_one_file_serves_until_sigterm(pyz: Path, home: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-I", str(pyz), "serve", "--dir", str(home), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        try:
            ready = process.stderr.readline()
            assert re.fullmatch(r"fleet-agent: listening on 127\.0\.0\.1:[0-9]+\n", ready)
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
            assert process.wait() == -signal.SIGTERM
        finally:
            process.kill()


def test_closed_standard_streams_are_not_given_to_others(tmp_path: Path) -> None:
    program = """\
import os, sys
from agent import cli
cli.main(["version"])
taken = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(taken, str(taken).encode())
"""
    found = tmp_path / "found"
    command = ["/bin/sh", "-c", 'exec "$0" -c "$1" "$2" <&- >&- 2>&-', sys.executable, program, str(found)]
    subprocess.run(command, check=False)
    assert int(found.read_text()) > 2
