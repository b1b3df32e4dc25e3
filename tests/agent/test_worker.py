"""A worker: nothing is left of what it was told to kill, whatever the command does; and it says how it ended."""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import agent
from agent import procs
from agent.orders import Command, Ended, Kill, Outcome, Ready, Started, receive, send, send_run
from agent.procs import exit_after
from agent.worker import GRACE, LaunchError, Worker, launch

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}

# Each says "up" when all of it runs, and would run for ever. {m} is the mark on the command line of every process.
TREES = {
    "shell alone": "echo up; sleep 1000.{m}; sleep 1000.{m}",
    "background children": "sleep 1000.{m} & sleep 1000.{m} & echo up; wait; sleep 1000.{m}",
    "setsid": "setsid sleep 1000.{m} & setsid sh -c 'echo up; sleep 1000.{m}; :' & wait; sleep 1000.{m}",
    "double fork": "(setsid sh -c 'sleep 1000.{m} & echo up' &); sleep 1000.{m}",
    "nohup": "nohup sleep 1000.{m} & echo up; wait; sleep 1000.{m}",
    "empty environment": "env -i /bin/sh -c 'sleep 1000.{m} & sleep 1000.{m}' & echo up; wait; sleep 1000.{m}",
    "closed pipes": "(setsid sleep 1000.{m} >/dev/null 2>&1 </dev/null &); echo up; exec >&- 2>&-; sleep 1000.{m}",
    "stopped": "sh -c 'kill -STOP $$; sleep 1000.{m}' & echo up; kill -STOP $$; sleep 1000.{m}",
    "deaf": "trap '' TERM HUP; sh -c 'sleep 1000.{m}; :' & setsid sleep 1000.{m} & echo up; wait; sleep 1000.{m}",
    "deaf and stopped": "trap '' TERM; sh -c 'kill -STOP $$; sleep 1000.{m}' & echo up; sleep 1000.{m}",
}

# They do not keep still, and do not hear SIGTERM.
STORMS = {
    # Each process forks its successor and dies at once.
    "chains": "trap '' TERM; f() {{ : {m}; f & }}; for i in 1 2 3 4 5 6 7 8; do f & done; echo up; sleep 1000.{m}",
    "chains of sessions": (
        "trap '' TERM; export F='setsid sh -c \"$F\" {m} &';"
        'for i in 1 2 3 4 5 6; do sh -c "$F" {m} & done; echo up; sleep 1000.{m}'
    ),
    "growing": (
        "trap '' TERM; f() {{ while :; do sleep 1000.{m} & sleep 0.01; done; }}; f & f & f & echo up; sleep 1000.{m}"
    ),
    "restarted": "trap '' TERM; f() {{ while :; do sleep 1000.{m}; done; }}; f & f & f & echo up; wait; sleep 1000.{m}",
}


def pair():
    """Return our end of a channel and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(20)
    return ours, theirs


def after_ready(ours):
    """Say whether the worker is ready, and then has started its command."""
    return isinstance(receive(ours), Ready) and isinstance(receive(ours), Started)


def forked_worker(ours, theirs, **options):
    """Fork a worker and return a descriptor that is readable when it has gone."""
    pid = os.fork()
    if pid == 0:
        ours.close()
        exit_after(lambda: Worker(theirs, None, **options).serve())
    theirs.close()
    return os.pidfd_open(pid)


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_kill_leaves_nothing(everywhere, commands, mark, tree):
    def scenario(runner):
        job = runner.run(commands.shell(tree.format(m=mark)))
        assert commands.line(job) == "up"
        job.kill(0.2)
        outcome = commands.outcome(job)
        assert commands.with_mark(mark) == []
        assert outcome.code is None and outcome.signal in (signal.SIGTERM, signal.SIGKILL) and outcome.left == 0
        job.close()
        assert commands.run(runner, "echo still here").stdout == b"still here\n"

    everywhere(scenario)


@pytest.mark.parametrize("storm", STORMS.values(), ids=STORMS)
def test_kill_outruns_a_fork_storm(everywhere, commands, mark, storm):
    def scenario(runner):
        job = runner.run(commands.shell(storm.format(m=mark)))
        assert commands.line(job) == "up"
        job.kill(0.05)
        outcome = commands.outcome(job)
        assert commands.with_mark(mark) == []
        assert outcome == Outcome(None, signal.SIGKILL)
        job.close()

    everywhere(scenario)


def test_kill_of_a_fork_bomb(child, commands, mark, stranger):
    """The whole allowance of processes is used up, and the worker's own is not needed to end it."""

    def scenario():
        runner = commands.start()
        text = f"ulimit -u 150; trap '' TERM; f() {{ f | f & f; }}; echo up; : {mark}; f 2>/dev/null; sleep 1000.{mark}"
        job = runner.run(commands.shell(text))
        assert commands.line(job) == "up"
        job.kill(0.3)
        assert commands.outcome(job).left == 0
        assert commands.with_mark(mark) == []
        job.close()
        runner.close()

    child(scenario, uid=stranger)


def test_all_is_dead_in_five_seconds(runner, commands, mark):
    """With the grace that the agent uses, and a command that does not want to go."""
    job = runner.run(commands.shell(TREES["deaf"].format(m=mark)))
    assert commands.line(job) == "up"
    began = time.monotonic()
    job.kill()
    assert commands.outcome(job) == Outcome(None, signal.SIGKILL)
    assert GRACE <= time.monotonic() - began < 5
    assert commands.with_mark(mark) == []
    job.close()


def test_who_ends_in_the_grace_is_not_killed(runner, commands):
    job = runner.run(commands.shell("trap 'echo cleaned; exit 7' TERM; echo up; while :; do sleep 0.01; done"))
    assert commands.line(job) == "up"
    job.kill()
    assert commands.line(job) == "cleaned"
    assert commands.outcome(job) == Outcome(7, None)
    job.close()


def test_the_shells_own_end_is_told_also_when_others_had_to_be_killed(everywhere, commands, mark):
    def scenario(runner):
        deaf = f"trap '' TERM; echo up; sleep 1000.{mark}; :"
        job = runner.run(commands.shell(f"trap 'exit 7' TERM; sh -c \"{deaf}\" & wait"))
        assert commands.line(job) == "up"
        job.kill(0.1)
        assert commands.outcome(job) == Outcome(7, None)
        assert commands.with_mark(mark) == []
        job.close()

    everywhere(scenario)


def test_a_stopped_process_hears_that_it_should_end(runner, commands):
    job = runner.run(commands.shell("trap 'echo bye; exit 4' TERM; echo $$; kill -STOP $$; sleep 1000"))
    pid = int(commands.line(job))
    limit = time.monotonic() + 20
    while procs.stat(pid).state != "T":
        assert time.monotonic() < limit
    job.kill()
    assert commands.line(job) == "bye"
    assert commands.outcome(job) == Outcome(4, None)
    job.close()


def test_every_process_of_the_tree_is_asked_first(runner, commands, mark):
    """Parents that end at once do not hide their children from SIGTERM."""
    says = 'trap "echo bye; exit" TERM; echo up; while :; do sleep 0.01; done'
    text = f"sh -c '{says}; : {mark}' & setsid sh -c '{says}; : {mark}' & wait; sleep 1000.{mark}"
    job = runner.run(commands.shell(text))
    assert [commands.line(job), commands.line(job)] == ["up", "up"]
    job.kill()
    assert [commands.line(job), commands.line(job)] == ["bye", "bye"]
    assert commands.outcome(job) == Outcome(None, signal.SIGTERM)
    job.close()


def test_orphans_of_a_long_command_do_not_stay_as_zombies(runner, commands):
    text = """
        (for i in 1 2 3 4 5; do (true &); done) | cat  # ends when the last of them closes the pipe
        while ps -o state= --ppid $PPID | grep -q Z; do :; done
        echo clean
    """
    assert commands.run(runner, text).stdout == b"clean\n"


def test_unkillable_processes_are_counted_and_do_not_hold_the_report(commands, child, mark, monkeypatch):
    """One that sleeps in the kernel, or that the command made setuid: here, signals do not arrive."""

    def scenario():
        monkeypatch.setattr(procs, "_signal_group", lambda group, number: None)
        ours, theirs = pair()
        gone = forked_worker(ours, theirs, kill_limit=0.01)
        null = os.open("/dev/null", os.O_RDWR)
        reading, writing = os.pipe()
        send_run(ours, commands.shell(f"sleep 1000.{mark} & echo up; sleep 1000.{mark}; :"), [writing, null])
        assert after_ready(ours)
        assert os.read(reading, 3) == b"up\n"
        send(ours, Kill(0.0))
        assert receive(ours) == Ended(Outcome(None, None, "could not kill all: 3 left", 3), False)
        commands.gone(gone)
        assert len(commands.with_mark(mark)) == 3

    child(scenario)


def test_an_idle_worker_goes_after_its_time(commands, child):
    def scenario():
        ours, theirs = pair()
        commands.gone(forked_worker(ours, theirs, idle_limit=0.01))
        assert isinstance(receive(ours), Ready)
        assert receive(ours) is None

    child(scenario)


def test_a_worker_goes_with_the_agent(commands, child):
    def scenario():
        ours, theirs = pair()
        gone = forked_worker(ours, theirs)
        ours.close()
        commands.gone(gone)

    child(scenario)


def test_an_order_to_kill_that_comes_too_late_does_nothing(commands, child):
    """The command had ended by itself, and the report crossed the order: the next command must not pay for it."""

    def scenario():
        ours, theirs = pair()
        gone = forked_worker(ours, theirs)
        null = os.open("/dev/null", os.O_RDWR)
        send(ours, Kill(0.0))
        send_run(ours, commands.shell("exit 5"), [null, null])
        assert after_ready(ours)
        assert receive(ours) == Ended(Outcome(5, None), True)
        ours.close()
        commands.gone(gone)

    child(scenario)


def test_what_runs_dies_with_the_agent(commands, child, mark):
    """Also when the agent is gone before it could hear that the command runs."""

    def scenario():
        ours, theirs = pair()
        null = os.open("/dev/null", os.O_RDWR)
        send_run(ours, commands.shell(f"sleep 1000.{mark}; :"), [null, null])
        ours.shutdown(socket.SHUT_WR)
        commands.gone(forked_worker(ours, theirs))
        assert commands.with_mark(mark) == []

    child(scenario)


@pytest.mark.parametrize(("limit", "error"), [(7, "cannot take the command"), (8, "cannot start /bin/sh")])
def test_a_worker_out_of_descriptors_says_so_and_lives(runner, commands, limit, error):
    """At first not all of the pipes arrive; then Popen has no room for its own."""
    worker = int(commands.run(runner, "echo $PPID").stdout)
    soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (limit, hard))
    finished = commands.run(runner, "echo $PPID")
    assert finished.outcome == Outcome(None, None, f"{error}: Too many open files")
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (soft, hard))
    assert int(commands.run(runner, "echo $PPID").stdout) == worker


def test_launch_says_what_was_wrong(tmp_path):
    file = tmp_path / "file"
    file.write_text("not a program")
    null = os.open("/dev/null", os.O_RDWR)

    def reason(*argv, directory="/", environment=ENVIRONMENT, user=None):
        with pytest.raises(LaunchError) as caught:
            launch(Command(argv, environment, str(directory), user=user), (null, null))
        return str(caught.value)

    long = "x" * 256
    assert reason("/no/sh", "-c", "true") == "cannot start /no/sh: No such file or directory"
    assert reason("nosuchprogram") == "cannot start nosuchprogram: No such file or directory"
    assert reason(str(file)) == f"cannot start {file}: Permission denied"
    assert reason("/bin/sh", directory="/nope") == "no such directory: /nope"
    assert reason("/bin/sh", directory=file) == f"not a directory: {file}"
    assert reason("/bin/sh", directory=f"/{long}") == f"cannot enter directory, File name too long: /{long}"
    assert reason("/bin/sh", "-c", "echo \0") == "cannot start /bin/sh: embedded null byte"
    assert reason("/bin/sh", environment={"A=B": "1"}) == "cannot start /bin/sh: illegal environment variable name"
    assert reason("/bin/sh", user="no such") == "unknown user 'no such'"
    assert reason("/bin/sh", user="nul\0") == "unknown user 'nul\\x00'"
    os.close(null)


def test_launch_says_that_a_command_is_too_long():
    limit = 32 * resource.getpagesize() - 1
    null = os.open("/dev/null", os.O_RDWR)

    def reason(text, environment=ENVIRONMENT):
        with pytest.raises(LaunchError) as caught:
            launch(Command(("/bin/sh", "-c", text), environment, "/"), (null, null))
        return str(caught.value)

    assert reason("#" * (limit + 1)) == f"the command is too long: {limit + 1} bytes, at most {limit}"
    assert reason("#" + "\u20ac" * (limit // 3 + 1)).startswith("the command is too long: ")
    assert reason("true", {"A": "x" * limit}) == "cannot start /bin/sh: Argument list too long"
    os.close(null)


def test_a_user_that_the_agent_may_not_become(child, stranger):
    def scenario():
        with pytest.raises(LaunchError, match=r"^the agent is not root and cannot become 'root'$"):
            launch(Command(("/bin/sh",), ENVIRONMENT, "/", user="root"), (1, 1))

    child(scenario, uid=stranger)


def test_a_directory_that_the_agent_may_not_enter(child, stranger, tmp_path):
    def scenario():
        with pytest.raises(LaunchError, match=r"^no permission to enter directory: "):
            launch(Command(("/bin/sh",), ENVIRONMENT, str(tmp_path / "inner")), (1, 1))

    (tmp_path / "inner").mkdir()
    tmp_path.chmod(0)
    child(scenario, uid=stranger)


def test_an_ordinary_user_may_be_asked_for_itself(child, commands):
    nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())

    def scenario():
        runner = commands.start()
        finished = commands.run(runner, "id -u", user=nobody.pw_name)
        assert finished.stdout == f"{nobody.pw_uid}\n".encode()
        runner.close()

    child(scenario, uid=nobody.pw_uid if os.geteuid() == 0 else None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_root_becomes_another_user_with_its_groups(runner, commands):
    nobody = pwd.getpwnam("nobody")
    finished = commands.run(runner, "id -u; id -g; id -G", user="nobody")
    uid, gid, groups = finished.stdout.decode().splitlines()
    assert (int(uid), int(gid)) == (nobody.pw_uid, nobody.pw_gid)
    assert {int(word) for word in groups.split()} == set(os.getgrouplist("nobody", nobody.pw_gid))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_what_another_user_started_is_killed_to_the_last(runner, commands, mark):
    tree = f"trap '' TERM; setsid sleep 1000.{mark} & (setsid sleep 1000.{mark} &); echo up; sleep 1000.{mark}; :"
    job = runner.run(commands.shell(tree, user="nobody"))
    assert commands.line(job) == "up"
    job.kill(0.1)
    assert commands.outcome(job) == Outcome(None, signal.SIGKILL)
    assert commands.with_mark(mark) == []
    job.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_user_can_open_its_own_streams_again(runner, commands):
    """What `tee /dev/stderr` does, or a server that logs to /dev/stdout."""
    finished = commands.run(runner, "echo out > /dev/stdout; echo err > /dev/stderr", user="nobody")
    assert (finished.stdout, finished.stderr, finished.outcome.code) == (b"out\n", b"err\n", 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_root_that_may_not_give_its_pipes_away(monkeypatch):
    def refuse(*arguments):
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    reading, writing = os.pipe()
    pid = launch(Command(("/usr/bin/id", "-un"), ENVIRONMENT, "/", user="nobody"), (writing, writing))
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() == b"nobody\n"
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize(
    ("where", "home", "error"),
    [
        ("closed", False, "no permission to enter directory: {}"),
        ("closed/inner", False, "no permission to enter directory: {}"),
        ("none", False, "no such directory: {}"),
        ("file", False, "no permission to enter directory: {}"),
        ("program", False, "not a directory: {}"),
        ("open", False, None),
        ("open", True, None),
        ("closed", True, "/"),
        ("none", True, "/"),
    ],
)
def test_another_user_starts_where_it_may(runner, commands, where, home, error):
    """Root, who enters everything, does not open the door for it. At home it starts in the root then, as with sshd."""
    # Not in tmp_path, which is closed to others.
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        base.chmod(0o755)
        for name, mode in (("closed", 0o700), ("open", 0o755)):
            (base / name).mkdir(mode)
        (base / "closed/inner").mkdir()
        (base / "file").touch(0o644)
        (base / "program").touch(0o755)
        path = str(base / where)
        job = runner.run(Command(("/bin/pwd",), ENVIRONMENT, path, user="nobody", home=home))
        finished = commands.finish(job)
        if error is None or error == "/":
            assert finished.stdout.decode() == f"{error or path}\n"
        else:
            assert finished.outcome.error == error.format(path)
        # And the worker is root again, in its own groups.
        assert commands.run(runner, "id -u; id -G").stdout.split()[0] == b"0"


def test_a_home_of_our_own_that_cannot_be_entered(runner, commands, tmp_path):
    job = runner.run(Command(("/bin/pwd",), ENVIRONMENT, str(tmp_path / "none"), home=True))
    assert commands.finish(job).stdout == b"/\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")
def test_root_without_the_capability_says_so():
    """As in many containers."""
    script = """if True:
        from agent.worker import LaunchError, launch
        from agent.orders import Command
        try:
            launch(Command(("/bin/sh",), {}, "/", user="nobody"), (1, 1))
        except LaunchError as problem:
            print(problem)
    """

    def lose_capabilities():
        pr_capbset_drop, cap_setgid, cap_setuid = 24, 6, 7
        for capability in (cap_setgid, cap_setuid):
            assert ctypes.CDLL(None).prctl(pr_capbset_drop, capability, 0, 0, 0) == 0

    output = subprocess.check_output(
        [sys.executable, "-c", script], preexec_fn=lose_capabilities, cwd=Path(agent.__file__).parents[1], text=True
    )
    assert output == "cannot become 'nobody': Operation not permitted\n"


# What is left in the background


@pytest.mark.parametrize("text", ["sleep 1000.{m} & echo $!", "(setsid sh -c 'sleep 1000.{m} >&2 & echo $!' &) | cat"])
def test_a_background_process_outlives_its_command_and_the_runner(commands, mark, text):
    runner = commands.start()
    finished = commands.run(runner, text.format(m=mark))
    assert finished.outcome.code == 0
    assert finished.outcome.left in (1, 2)  # the inner shell may be about to go
    runner.close()
    pid = int(finished.stdout)
    assert f"sleep 1000.{mark} " in commands.with_mark(mark)
    handle = os.pidfd_open(pid)
    assert not commands.readable(handle, 0)
    os.kill(pid, signal.SIGKILL)
    commands.gone(handle)


def test_a_worker_with_something_in_the_background_takes_no_other_command(runner, commands, mark):
    first = commands.run(runner, f"sleep 1000.{mark} & echo $PPID")
    assert commands.run(runner, "echo $PPID").stdout != first.stdout


def test_a_kill_after_the_end_does_not_reach_what_was_left(runner, commands, mark):
    job = runner.run(commands.shell(f"sleep 1000.{mark} &"))
    assert commands.outcome(job).left == 1
    job.kill(0)
    job.close()
    assert commands.run(runner, "true").outcome == Outcome(0, None)
    assert len(commands.with_mark(mark)) == 1
