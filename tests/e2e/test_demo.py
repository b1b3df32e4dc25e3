"""`fleet demo`: agents made from nothing, and nothing left of them afterwards, however it ends."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def scratch(tmp_path):
    """The folder where a demo makes its temporary one."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def agents_of(folder):
    """Return the numbers of the processes that have `folder` in their command line."""
    found = []
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and str(folder).encode() in Path(entry.path, "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def test_default(new_lab, scratch):
    done = new_lab.fleet("demo", env={"TMPDIR": str(scratch)})
    assert (done.code, done.err) == (0, "3 ok of 3 hosts in 0.00s\n")
    lines = done.out.splitlines()
    assert re.match(r"HOST    STATUS    RC    TIME    OUTPUT$", lines[0])
    assert [line.split()[:3] for line in lines if line.startswith("demo")] == [
        ["demo1", "ok", "0"], ["demo2", "ok", "0"], ["demo3", "ok", "0"]
    ]  # fmt: skip
    assert "Filesystem" in done.out
    assert (list(scratch.iterdir()), agents_of(scratch)) == ([], [])


def test_with_a_number_and_a_command(new_lab, scratch):
    done = new_lab.fleet("demo", "-n", "2", "echo", "$FLEET_HOST", "-n; exit 3", env={"TMPDIR": str(scratch)})
    assert tuple(done) == (
        5,
        "HOST    STATUS    RC    TIME    OUTPUT\n"
        "demo1   failed    3     0.00s   demo1 -n\n"
        "demo2   failed    3     0.00s   demo2 -n\n",
        "2 failed of 2 hosts in 0.00s\n",
    )
    assert (list(scratch.iterdir()), agents_of(scratch)) == ([], [])


def test_it_does_not_touch_the_users_own_fleet(new_lab):
    assert new_lab.fleet("demo", "-n", "1", "true").code == 0
    assert list(new_lab.folder.iterdir()) == []


def test_keep_and_stop(new_lab, gone):
    folder = new_lab.folder / "it's kept"
    done = new_lab.fleet("demo", "-n", "2", "--keep", str(folder), "echo hello")
    try:
        assert tuple(done) == (
            0,
            "HOST    STATUS    RC    TIME    OUTPUT\n"
            "demo1   ok        0     0.00s   hello\n"
            "demo2   ok        0     0.00s   hello\n",
            "2 ok of 2 hosts in 0.00s\n"
            "the agents keep running; try:\n"
            f"  . '{str(folder).replace(chr(39), chr(39) + chr(34) + chr(39) + chr(34) + chr(39))}/env'\n"
            "  fleet ping\n"
            "  fleet run uptime\n"
            f"  fleet demo --stop '{str(folder).replace(chr(39), chr(39) + chr(34) + chr(39) + chr(34) + chr(39))}'\n",
        )
        names = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.startswith(".")}
        assert {"hosts.ini", "key", "enrolled.json", "env", "agents", "agents/demo1", "agents/demo2"} <= names
        assert not [name for name in names if name.endswith(".enrol") and "controllers" not in name]
        assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        processes = [
            os.pidfd_open(int((folder / f"agents/demo{number}/pid").read_text().split()[0])) for number in (1, 2)
        ]

        # A shell can source the file, also in a path with blanks and quotes.
        shell = 'cd / && . "$1/env" && exec "$2" ping --json'
        pinged = subprocess.run(
            ["/bin/sh", "-c", shell, "sh", str(folder), new_lab.program],
            env=new_lab.environment(FLEET_KEY=None, FLEET_INVENTORY=None),
            capture_output=True,
            check=True,
        )
        assert pinged.stdout.count(b'"status": "ok"') == 2

        again = new_lab.fleet("demo", "--keep", str(folder), "true")
        assert (again.code, again.out) == (2, "")
        assert again.err.startswith(
            f"fleet: {folder}: is not empty\nhint: choose another folder, or end what runs there: "
        )
    finally:
        stopped = new_lab.fleet("demo", "--stop", str(folder))
    assert tuple(stopped) == (0, f"ended 2 agents; what they left is in {folder}\n", "")
    gone(processes)
    assert agents_of(folder) == []
    assert tuple(new_lab.fleet("demo", "--stop", str(folder))) == (2, "", f"fleet: {folder}: there is no demo here\n")


def test_stop_spares_a_stranger_with_a_used_number(new_lab):
    folder = new_lab.folder / "d"
    (folder / "agents/demo1").mkdir(parents=True)
    (folder / "agents/demo2").mkdir()
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (folder / "agents/demo1/pid").write_text(f"{stranger.pid} 1\n")
    (folder / "agents/demo2/pid").write_text("4194399 1\n")  # over the largest number there is
    done = new_lab.fleet("demo", "--stop", str(folder))
    assert tuple(done) == (0, f"ended 0 agents; what they left is in {folder}\n", "")
    assert stranger.poll() is None
    stranger.communicate(b"\n")
    assert stranger.returncode == 0


@pytest.mark.parametrize("text", ["", "x\n", "1\n", "1 2 3\n", "-1 x\n"])
def test_stop_with_a_spoilt_note(new_lab, text):
    folder = new_lab.folder / "d/agents/demo1"
    folder.mkdir(parents=True)
    (folder / "pid").write_text(text)
    assert tuple(new_lab.fleet("demo", "--stop", "d")) == (
        2, "", "fleet: d/agents/demo1/pid: is not what a demo wrote there\n"
    )  # fmt: skip


def test_stop_where_nothing_is(new_lab):
    assert tuple(new_lab.fleet("demo", "--stop", "nowhere")) == (2, "", "fleet: nowhere: there is no demo here\n")


def test_keep_where_no_folder_can_be(new_lab):
    (new_lab.folder / "file").write_text("")
    assert tuple(new_lab.fleet("demo", "--keep", "file/below")) == (2, "", "fleet: file/below: not a directory\n")
    done = new_lab.fleet("demo", "--keep", "/proc/fleet")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fleet: /proc/fleet: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_command_leaves_nothing(new_lab, scratch, post, gone, end, number):
    running = new_lab.start("demo", "-n", "2", f"echo $$ > {post}; exec sleep 1000", env={"TMPDIR": str(scratch)})
    processes = post.processes(2)
    running.send_signal(number)
    done = end(running)
    assert (done.code, done.err) == (128 + number, "2 cancelled of 2 hosts in 0.00s\n")
    gone(processes)
    assert (list(scratch.iterdir()), agents_of(scratch)) == ([], [])


def test_ctrl_c_again_and_again_leaves_nothing(new_lab, scratch, post, gone, end):
    command = f"echo $$ > {post}; exec sleep 1000"
    running = new_lab.start("demo", "-n", "1", command, env={"TMPDIR": str(scratch)})
    processes = post.processes(1)
    for _ in range(20):
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
    assert end(running).code == 130
    gone(processes)
    assert (list(scratch.iterdir()), agents_of(scratch)) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", ["folder", "init", "serve", "pid"])
def test_a_signal_while_it_starts_leaves_nothing(new_lab, scratch, end, step, number):
    # The demo is stopped at a step by an audit hook, which sends the signal to it there.
    (new_lab.folder / "sitecustomize.py").write_text(
        f"""\
import os, sys
def hook(event, arguments):
    if sys.argv[0].endswith("/fleet"):
        if event == "tempfile.mkdtemp" and {step!r} == "folder" and "fleet-demo" in str(arguments):
            os.kill(os.getpid(), {int(number)})
        if event == "subprocess.Popen" and {step!r} in arguments[1]:
            os.kill(os.getpid(), {int(number)})
        if event == "open" and {step!r} == "pid" and str(arguments[0]).endswith("/pid"):
            os.kill(os.getpid(), {int(number)})
sys.addaudithook(hook)
"""
    )
    env = {"TMPDIR": str(scratch), "PYTHONPATH": str(new_lab.folder)}
    done = end(new_lab.start("demo", "-n", "2", "echo ran", env=env))
    assert done.code == 128 + number
    assert "ran" not in done.out
    assert (list(scratch.iterdir()), agents_of(scratch)) == ([], [])


@pytest.mark.parametrize("command", ["init", "serve"])
def test_an_agent_that_does_not_start_is_reported(new_lab, scratch, command):
    (new_lab.folder / "sitecustomize.py").write_text(
        f"""\
import os, sys
if sys.argv[0] == "-m" and {command!r} in sys.orig_argv:
    print("fleet-agent: cannot do that today", file=sys.stderr, flush=True)
    os._exit(1)
"""
    )
    env = {"TMPDIR": str(scratch), "PYTHONPATH": str(new_lab.folder)}
    done = new_lab.fleet("demo", "-n", "2", "echo ran", env=env)
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(r"fleet: agent demo[12]: cannot do that today\n", done.err)  # whichever died first
    assert (list(scratch.iterdir()), agents_of(scratch)) == ([], [])


def test_an_agent_that_dies_without_a_word_is_reported(new_lab, scratch):
    (new_lab.folder / "sitecustomize.py").write_text(
        "import os, sys\nif sys.argv[0] == '-m' and 'serve' in sys.orig_argv:\n    os._exit(1)\n"
    )
    env = {"TMPDIR": str(scratch), "PYTHONPATH": str(new_lab.folder)}
    done = new_lab.fleet("demo", "-n", "1", "echo ran", env=env)
    assert tuple(done) == (2, "", "fleet: agent demo1: ended without a word\n")
    assert (list(scratch.iterdir()), agents_of(scratch)) == ([], [])


def test_a_folder_named_agent_here_is_not_what_is_started(new_lab):
    (new_lab.folder / "agent").mkdir()
    (new_lab.folder / "agent/__init__.py").write_text("raise SystemExit('the wrong one')\n")
    assert new_lab.fleet("demo", "-n", "1", "true").code == 0


def test_output_that_nobody_reads_leaves_nothing(new_lab, scratch, end):
    with open("/dev/full", "wb") as full:
        done = end(new_lab.start("demo", "-n", "1", "true", env={"TMPDIR": str(scratch)}, stdout=full))
    assert (done.code, done.stderr.decode().splitlines()[-1]) == (
        3, "fleet: output: cannot write standard output: No space left on device"
    )  # fmt: skip
    assert (list(scratch.iterdir()), agents_of(scratch)) == ([], [])
