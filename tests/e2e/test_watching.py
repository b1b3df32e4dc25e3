"""What a person sees while a run goes on, on a real terminal and in a real shell's background; pipes see nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pexpect
import pytest

ERASE = "\r\x1b[K"
STATUS = re.compile(r"\d/\d done")


class Gate:
    """A FIFO that commands wait at: `read x < {gate}`."""

    def __init__(self, path):
        self.path = path
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR)

    def __str__(self):
        return f"read x < {self.path}"

    def open(self, count=1):
        os.write(self.fd, b"\n" * count)


@pytest.fixture
def gate(tmp_path):
    gate = Gate(tmp_path / "gate")
    yield gate
    os.close(gate.fd)


@pytest.fixture
def spawn(lab):
    """Start `fleet`, or another program, on a terminal of its own."""
    children = []

    def start(*arguments, program=lab.program, columns=80, env=None):
        environment = lab.environment(**{"TERM": "xterm", "NO_COLOR": "1", **(env or {})})
        child = pexpect.spawn(
            program, list(arguments), env=environment, cwd=str(lab.folder), timeout=60, encoding="utf-8",
            dimensions=(24, columns),
        )  # fmt: skip
        child.delaybeforesend = None
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def rest(child):
    """Return what comes until the end."""
    child.expect(pexpect.EOF)
    return child.before.replace("\r\n", "\n")


def screen(text):
    """Return the lines that stay, where each erasing takes away what stands on the last one."""
    return [line.rpartition(ERASE)[2] for line in text.replace("\r\n", "\n").removesuffix("\n").split("\n")]


def test_the_line_says_who_is_waited_for_and_is_gone_at_the_end(spawn, gate):
    child = spawn("run", "-l", "web1,gone,db1", f'test $FLEET_HOST != web1 || {gate}; echo "it $FLEET_HOST"')
    child.expect_exact("2/3 done, 1 unreachable  0:0")
    child.expect(r"\d  waiting for web1")
    before = child.before + child.after
    gate.open()
    text = rest(child)
    shown = screen(text)
    assert [row.split()[0] for row in shown[:4]] == ["HOST", "web1", "db1", "gone"]
    assert text.count(ERASE) >= 1
    assert not any(STATUS.search(row) for row in shown)
    assert "HOST" not in before


def test_a_quick_run_shows_its_results_and_nothing_else(spawn):
    assert "\x1b" not in rest(spawn("run", "-l", "web1", "true"))


@pytest.mark.parametrize("columns", [20, 40])
def test_the_line_fits_the_terminal(spawn, gate, columns):
    child = spawn("run", "-l", "good", str(gate), columns=columns)
    child.expect("0/3 done  [^\r]*…\r")
    assert len(child.after) <= columns
    gate.open(3)
    rest(child)


def test_lines_of_a_stream_stand_alone(spawn, gate):
    child = spawn("run", "--stream", "-l", "web1,db1", f"echo one; {gate}; echo two; {gate}; printf three")
    child.expect("waiting for db1,web1")
    first = child.before
    gate.open(2)
    child.expect_exact("two")
    gate.open(2)
    shown = screen(first) + screen(child.before + child.after + rest(child))
    lines = [row for row in shown if row.startswith(("web1", "db1"))]
    assert sorted(lines) == sorted(f"{host} {word}" for host in ("web1:", "db1: ") for word in ("one", "two", "three"))
    assert shown[-1].startswith("2 ok of 2 hosts in ")


def test_json_on_a_terminal_is_whole(spawn, gate):
    import json

    child = spawn("run", "--json", "-l", "web1", f"{gate}; echo hello")
    child.expect_exact("waiting for web1")
    gate.open()
    assert json.loads("\n".join(screen(rest(child))))["results"][0]["stdout"] == "hello\n"


def test_raw_has_no_line(spawn, gate):
    child = spawn("run", "--raw", "-l", "web1", f"echo ready; {gate}; echo on; {gate}; echo off")
    child.expect_exact("ready")
    gate.open()
    child.expect_exact("on")
    os.kill(child.pid, signal.SIGUSR1)
    child.expect_exact("fleet: 0/1 done")
    gate.open()
    assert ERASE not in rest(child)


def test_a_terminal_that_cannot_redraw_has_no_line_and_still_answers(spawn, post, gate):
    child = spawn("run", "-l", "web1", f"echo hi; echo ready > {post}; {gate}", env={"TERM": "dumb"})
    assert post.line() == "ready"
    child.sendline("")
    child.expect(r"fleet: 0/1 done after 0:0\d, 1 running\r\n")
    gate.open()
    assert "\x1b" not in child.before + rest(child)


def test_enter_tells_who_runs_and_what_each_wrote_last(spawn, gate):
    command = f"case $FLEET_HOST in web1) printf 'one\\ntwo \\033[31m\\n';; esac; {gate}"
    child = spawn("run", "-l", "web1,web2,gone", command)
    child.expect_exact("waiting for web[1-2]")
    child.sendline("")
    child.expect(r"fleet: 1/3 done, 1 unreachable after 0:0\d, 2 running\r\n")
    child.expect(r"  web[12]  +\d+\.\ds  [^\r]*\r\n  web[12]  +\d+\.\ds  [^\r]*\r\n")
    said = dict(line.split(maxsplit=2)[::2] for line in child.after.splitlines())
    assert said == {"web1": "two \\x1b[31m", "web2": "[no output yet]"}
    child.expect_exact("waiting for web[1-2]")
    gate.open(2)
    assert screen(rest(child))[-1].startswith("2 ok, 1 unreachable of 3 hosts in ")


@pytest.mark.parametrize("look", [[], ["--stream"], ["--json"]])
def test_sigusr1_is_answered_without_a_terminal_too(lab, post, gate, look):
    quiet = lab.start("run", *look, "-l", "web1", f"echo hello; echo ready > {post}; {gate}", stderr=subprocess.PIPE)
    assert post.line() == "ready"
    quiet.send_signal(signal.SIGUSR1)
    assert re.fullmatch(rb"fleet: 0/1 done after 0:0\d, 1 running\n", quiet.stderr.readline())
    said = quiet.stderr.readline()
    assert re.fullmatch(rb"  web1  \d+\.\ds  (hello|\[no output yet\])\n", said), said
    gate.open()
    out, err = quiet.communicate(timeout=60)
    assert quiet.returncode == 0
    assert b"fleet:" not in out + err


def test_ctrl_c_twice_leaves_no_line(spawn, post, gone):
    child = spawn("run", "-l", "web1", f"trap 'echo term > {post}' TERM; echo $$ > {post}; while :; do sleep 0.1; done")
    processes = post.processes(1)
    child.expect_exact("waiting for web1")
    child.sendintr()
    assert post.line() == "term"
    child.expect_exact("cancelling: 0/1 done")
    child.sendintr()
    assert rest(child).endswith(ERASE)
    child.wait()
    assert child.exitstatus == 130
    gone(processes)


# A shell's background -------------------------------------------------------------------------------------------------


@pytest.fixture
def bash(spawn):
    child = spawn("--norc", "--noprofile", "-i", program="/bin/bash", env={"PS1": "PROMPT ", "HISTFILE": ""})
    child.expect_exact("PROMPT ")
    return child


def test_in_the_background_it_neither_stops_nor_reads_nor_draws(lab, bash, gate):
    bash.sendline(f"{lab.program} run -l web1 '{gate}; echo hello' & echo $?; sleep 0.7")
    bash.expect_exact("PROMPT ")
    bash.sendline("echo mi''ne; jobs")
    bash.expect_exact("mine\r\n")
    bash.expect_exact("Running")
    bash.expect_exact("PROMPT ")
    bash.sendline("")
    bash.expect_exact("PROMPT ")
    gate.open()
    bash.sendline("wait; echo over $?")
    bash.expect_exact("1 ok of 1 host in ")
    assert "waiting" not in bash.before
    bash.expect_exact("over 0\r\n")


def test_brought_to_the_front_it_draws_and_answers(lab, bash, gate):
    bash.sendline(f"{lab.program} run -l web1 '{gate}; echo hello' &")
    bash.expect_exact("PROMPT ")
    bash.sendline("fg")
    bash.expect_exact("waiting for web1")
    bash.sendline("")
    bash.expect_exact("[no output yet]")
    bash.send("\x1a")
    bash.expect_exact("Stopped")
    bash.sendline("bg; echo in the ba''ck")
    bash.expect_exact("in the back\r\n")
    bash.sendline("echo ty''ped")
    bash.expect_exact("typed\r\n")
    gate.open()
    bash.sendline("wait; echo over $?")
    bash.expect_exact("1 ok of 1 host in ")
    bash.expect_exact("over 0\r\n")


def test_what_is_typed_ahead_is_for_the_shell(lab, bash, gate):
    bash.sendline(f"{lab.program} run -l web1 '{gate}; echo hello'")
    bash.expect_exact("waiting for web1")
    bash.sendline("echo typed ah''ead")
    bash.expect_exact("waiting for web1")
    gate.open()
    bash.expect_exact("1 ok of 1 host in ")
    bash.expect_exact("typed ahead\r\n")


def test_standard_input_that_is_no_terminal_is_left_alone(lab, bash):
    bash.sendline(f"printf 'a\\nb\\n' | {{ {lab.program} run -q -l web1 'sleep 0.7'; cat; }}; echo en''d")
    bash.expect_exact("end\r\n")
    assert bash.before.endswith("a\r\nb\r\n")


def test_keys_go_to_who_reads_our_output(lab, bash, gate, tmp_path):
    # What stands for a pager reads the terminal behind our back.
    pager = tmp_path / "pager"
    pager.write_text(
        "stty -icanon </dev/tty; echo started\n"
        "dd bs=1 count=2 </dev/tty 2>/dev/null; echo\n"
        "stty icanon </dev/tty; cat\n"
    )
    bash.sendline(f"{lab.program} run --stream -l web1 '{gate}; sleep 0.7; {gate}; echo x' | sh {pager}; echo en''d")
    bash.expect_exact("started\r\n")
    gate.open()
    bash.send("k")
    bash.expect("k")
    bash.send("j")
    bash.expect_exact("j\r\n")
    gate.open()
    bash.expect_exact("web1: x\r\n")
    bash.expect_exact("end\r\n")


def test_the_pipe_of_a_stream_gets_no_part_of_the_line(lab, bash, gate, tmp_path):
    bash.sendline(f"{lab.program} run --stream -l web1,db1 'echo one; {gate}; echo two' | cat > {tmp_path}/out")
    bash.expect_exact("waiting for db1,web1")
    gate.open(2)
    bash.expect_exact("2 ok of 2 hosts in ")
    bash.expect_exact("PROMPT ")
    expected = [f"{host}: {word}" for host in ("db1", "web1") for word in ("one", "two")]
    assert sorted((tmp_path / "out").read_text().splitlines()) == expected


def test_what_goes_into_a_file_leaves_the_line_alone(lab, bash, gate, tmp_path):
    command = f"while :; do echo x; sleep 0.05; done & {gate}; kill $!"
    bash.sendline(f"{lab.program} run --stream -l web1 '{command}' > {tmp_path}/out")
    bash.expect_exact("waiting for web1")
    bash.expect(r"0/1 done  0:0\d  waiting for web1\r\x1b\[K0/1 done")
    gate.open()
    bash.expect_exact("1 ok of 1 host in ")
    assert set((tmp_path / "out").read_text().splitlines()) == {"web1: x"}


def test_ping_has_a_line_too(lab, spawn, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, and nobody answers
        inventory = tmp_path / "hosts.ini"
        inventory.write_text(f"web1 fleet_host=127.0.0.1 fleet_port={silent.getsockname()[1]}\n")
        child = spawn("ping", "-i", str(inventory))
        child.expect_exact("0/1 done  0:0")
        child.expect_exact("waiting for web1")
        child.sendintr()
        shown = screen(rest(child))
    assert [row.split()[0] for row in shown if row and "^C" not in row] == ["HOST", "web1", "1"]


def test_a_stream_is_folded_at_the_end(lab):
    command = "echo same; test $FLEET_HOST != db1 || echo more; test $FLEET_HOST != web2 || exit 3"
    done = lab.fleet("run", "--stream", "-b", "-l", "good,gone", command)
    lines = done.out.splitlines()
    assert sorted(lines[:4]) == ["db1: more", "db1: same", "web1: same", "web2: same"]
    assert lines[4:7] == ["= db1: differs, 2 lines", "= web1: differs, 1 line", "= web2: failed: exit code 3; 1 line"]
    assert lines[7].startswith("= gone: unreachable: ")
    assert (done.code, done.err) == (4, "2 ok, 1 failed, 1 unreachable of 4 hosts in 0.00s\n")
    masked = lab.fleet("run", "--stream", "--fold", "--mask-host", "-l", "good", "echo I am $FLEET_HOST")
    assert masked.out.splitlines()[3:] == ["= db1,web[1-2] (3): same, 1 line; some differ where masked"]


def test_a_stream_has_no_difference(lab):
    done = lab.fleet("run", "--stream", "--diff", "-l", "web1", "true")
    assert tuple(done) == (
        2,
        "",
        "fleet: --stream and --diff: a difference takes whole outputs, and a stream keeps none\n"
        "hint: --stream --fold says who differs\n",
    )
