"""Control groups: found wherever they are mounted; real ones where this machine lets us, and files like them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from agent import cgroups, spawner
from agent.cgroups import Cgroup, own_directory, sweep

MODERN = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"""
CONTAINER = "41 31 0:38 /docker/abc /sys/fs/cgroup ro master:1 - cgroup2 cgroup rw"
ODD = r"41 31 0:38 / /mnt/my\040groups rw - cgroup2 none rw"


@pytest.fixture
def group(home):
    group = Cgroup.named(home, "test" + os.urandom(8).hex())
    yield group
    if Path(group.path).exists():
        group.kill()
        group.remove()


@pytest.mark.parametrize(
    ("groups", "mounts", "directory"),
    [
        ("0::/\n", MODERN, "/sys/fs/cgroup"),
        ("0::/system.slice/fleet-agent.service\n", MODERN, "/sys/fs/cgroup/system.slice/fleet-agent.service"),
        ("9:name=systemd:/x\n1:cpu:/y\n0::/\n", HYBRID, "/sys/fs/cgroup/unified"),
        ("1:cpu:/y\n0::/a b\n", HYBRID, "/sys/fs/cgroup/unified/a b"),
        ("0::/docker/abc\n", CONTAINER, "/sys/fs/cgroup"),
        ("0::/docker/abc/in\n", CONTAINER, "/sys/fs/cgroup/in"),
        ("0::/docker/abcd\n", CONTAINER, None),
        ("0::/elsewhere\n", CONTAINER, None),
        ("0::/../..\n", MODERN, None),
        ("0::/x\n", ODD, "/mnt/my groups/x"),
        ("1:cpu:/y\n", MODERN, None),
        ("0::/\n", "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755", None),
        ("", "", None),
    ],
)
def test_own_directory(tmp_path, groups, mounts, directory):
    (tmp_path / "cgroup").write_text(groups)
    (tmp_path / "mountinfo").write_text(mounts)
    assert own_directory(str(tmp_path)) == directory


def test_without_proc_there_is_no_directory(tmp_path):
    assert own_directory(str(tmp_path)) is None


def test_children_are_born_in_the_group_and_all_are_killed(group, child):
    def scenario():
        assert group.enter()
        with subprocess.Popen(["/bin/sh", "-c", "setsid sleep 1000 & sleep 1000"]) as process:
            assert f"/{group.name}\n" in Path(f"/proc/{process.pid}/cgroup").read_text()
            assert str(process.pid) in Path(group.path, "cgroup.procs").read_text().split()
            assert group.leave()
            assert str(os.getpid()) not in Path(group.path, "cgroup.procs").read_text().split()
            group.kill()
            assert process.wait(20) == -signal.SIGKILL

    child(scenario)


def test_a_group_in_use_is_not_removed(group, home, child):
    def scenario():
        assert group.enter()
        group.remove()
        sweep(home)
        assert Path(group.path).exists()
        assert group.leave()
        group.remove()
        assert not Path(group.path).exists()
        group.remove()
        group.kill()

    child(scenario)


def test_sweep_takes_empty_groups_of_workers_and_nothing_else(tmp_path):
    for name in ("fleet-worker-1", "fleet-worker-2", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "fleet-worker-2" / "in-use").touch()
    sweep(str(tmp_path))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["fleet-worker-2", "other"]
    sweep(str(tmp_path / "missing"))


def test_where_no_group_can_be_made_there_is_none(tmp_path):
    assert not Cgroup.named(str(tmp_path / "missing"), "1").enter()
    assert not Cgroup.named(str(tmp_path / "missing"), "1").leave()


def test_where_no_group_can_be_entered_none_is_left(tmp_path, monkeypatch):
    """As in a threaded subtree, or where only the directory is ours."""

    def refuse(path, text):
        raise PermissionError

    monkeypatch.setattr(cgroups, "_write", refuse)
    assert not Cgroup.named(str(tmp_path), "1").enter()
    assert list(tmp_path.iterdir()) == []


def test_a_group_that_another_sweep_took_is_made_again(tmp_path, monkeypatch):
    group = Cgroup.named(str(tmp_path), "1")
    outcomes = [FileNotFoundError, FileNotFoundError, None]

    def write(path, text):
        assert (path, text) == (f"{group.path}/cgroup.procs", "0")
        if (problem := outcomes.pop(0)) is not None:
            Path(group.path).rmdir()
            raise problem

    monkeypatch.setattr(cgroups, "_write", write)
    assert group.enter()
    assert Path(group.path).is_dir()
    outcomes = [FileNotFoundError] * 3
    assert not group.enter()


def test_an_old_kernel_has_each_member_killed_while_it_is_frozen(tmp_path):
    group = Cgroup.named(str(tmp_path), "1")
    Path(group.path).mkdir()
    with subprocess.Popen(["/bin/true"]) as gone:
        pass
    with subprocess.Popen(["/bin/sleep", "1000"]) as one, subprocess.Popen(["/bin/sleep", "1000"]) as two:
        Path(group.path, "cgroup.procs").write_text(f"{one.pid}\n{gone.pid}\n{two.pid}\n")
        Path(group.path, "cgroup.freeze").write_text("0")
        group.kill()
        assert (one.wait(20), two.wait(20)) == (-signal.SIGKILL, -signal.SIGKILL)
    assert Path(group.path, "cgroup.freeze").read_text() == "1"


def test_a_group_that_goes_while_it_is_killed(tmp_path, monkeypatch):
    def gone(path, text):
        raise OSError(19, "No such device")

    monkeypatch.setattr(cgroups, "_write", gone)
    Cgroup.named(str(tmp_path), "1").kill()


# As the runner uses them


def test_with_a_group_nothing_escapes_from_a_worker_that_was_killed(commands, home, mark):
    """What has left the session of the command is found by its group alone."""
    runner = commands.start()
    text = f"setsid sh -c 'echo up; exec sleep 1000.{mark}' & read go; kill -9 $PPID; sleep 1000.{mark}; :"
    job = runner.run(commands.shell(text, stdin=True))
    assert commands.line(job) == "up"
    os.write(job.stdin, b"go\n")
    commands.outcome(job)
    assert commands.readable(job.stdout) and os.read(job.stdout, 1) == b""
    job.close()
    runner.close()


def test_without_groups_none_is_made(commands, home):
    runner = commands.start(cgroup=False)
    ours = Path("/proc/self/cgroup").read_bytes()
    assert commands.run(runner, "cat /proc/self/cgroup").stdout == ours
    runner.close()
    runner = commands.start()
    assert commands.run(runner, "cat /proc/self/cgroup").stdout != ours
    runner.close()


def test_groups_do_not_pile_up(commands, home, mark, monkeypatch):
    """A worker takes its own away. What it cannot, since a process was left in it, goes when another one comes later,
    and what an agent left that was killed goes at the start of the next."""
    monkeypatch.setattr(spawner, "_SWEEP_EVERY", 0.0)
    abandoned = Cgroup.named(home, f"test-{mark}")
    Path(abandoned.path).mkdir()
    runner = commands.start()
    assert not Path(abandoned.path).exists()
    text = f"grep ^0 /proc/self/cgroup; echo $PPID; read go; sleep 1000.{mark} & echo $!"
    job = runner.run(commands.shell(text, stdin=True))
    group = Path(home) / Path(commands.line(job)).name
    worker = os.pidfd_open(int(commands.line(job)))
    os.write(job.stdin, b"go\n")
    left = os.pidfd_open(int(commands.line(job)))
    assert commands.finish(job).outcome.left == 1
    commands.gone(worker)
    assert group.exists()
    signal.pidfd_send_signal(left, signal.SIGKILL)
    commands.gone(left)
    limit = time.monotonic() + 20
    while "populated 1" in (group / "cgroup.events").read_text():
        assert time.monotonic() < limit
    last = commands.run(runner, "grep ^0 /proc/self/cgroup; echo $PPID").stdout.decode().split()
    assert not group.exists()
    group = Path(home) / Path(last[0]).name
    assert group.exists()
    handle = os.pidfd_open(int(last[1]))
    runner.close()
    commands.gone(handle)
    assert not group.exists()
