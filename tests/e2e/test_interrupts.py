"""Ctrl-C once and twice, SIGTERM, and output that nobody reads any more: what runs is killed, and nothing hangs."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

# A shell, a child in the background and one in a session of its own: none may survive. Each names itself.
TREE = "sleep 1000 & echo $! > {0}; setsid sh -c 'echo $$ > {0}; exec sleep 1000' & echo $$ > {0}; wait"


def test_ctrl_c_once_cancels_and_reports(lab, post, gone, end):
    running = lab.start("run", "--json", "-l", "web1:gone", TREE.format(post))
    processes = post.processes(3)
    running.send_signal(signal.SIGINT)
    done = end(running)
    assert (done.code, done.err) == (130, "")
    assert done.json["summary"] == {"cancelled": 1, "unreachable": 1}
    assert done.json["run"]["exit_code"] == 130
    assert done.json["results"][0]["error"] == "killed"
    gone(processes)


def test_ctrl_c_twice_leaves_at_once_and_the_agent_kills(lab, post, gone, end):
    # The command survives SIGTERM, so that the first Ctrl-C alone would take as long as the grace.
    command = f"trap 'echo term > {post}' TERM; sleep 1000 & echo $! > {post}; echo $$ > {post}; while :; do wait; done"
    running = lab.start("run", "-l", "web1", command)
    processes = post.processes(2)
    running.send_signal(signal.SIGINT)
    assert post.line() == "term"
    running.send_signal(signal.SIGINT)
    assert tuple(end(running)) == (130, "", "")
    gone(processes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_do_as_ctrl_c_once(lab, post, gone, end, number):
    running = lab.start("run", "-l", "web1", TREE.format(post))
    processes = post.processes(3)
    running.send_signal(number)
    assert tuple(end(running)) == (
        128 + number,
        "HOST    STATUS     RC       TIME    OUTPUT\nweb1    cancelled  SIGTERM  0.00s   [error: killed]\n",
        "1 cancelled of 1 host in 0.00s\n",
    )
    gone(processes)


def test_ctrl_c_while_connecting(lab, tmp_path, end):
    # Nobody accepts here: the kernel completes the connection, and TLS waits.
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "hosts.ini").write_text(f"web1 fleet_host=127.0.0.1 fleet_port={silent.getsockname()[1]}\n")
        running = lab.start("run", "-i", str(tmp_path / "hosts.ini"), "true")
        connection = silent.accept()[0]
        running.send_signal(signal.SIGINT)
        done = end(running)
        connection.close()
    assert tuple(done) == (
        130,
        "HOST    STATUS    RC    TIME    OUTPUT\n"
        "web1    skipped   -     -       [error: not started: the run was cancelled]\n",
        "1 skipped of 1 host in 0.00s\n",
    )


def test_ctrl_c_in_ping(lab, tmp_path, end):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "hosts.ini").write_text(f"web1 fleet_host=127.0.0.1 fleet_port={silent.getsockname()[1]}\n")
        running = lab.start("ping", "--json", "-i", str(tmp_path / "hosts.ini"), "-f", "1")
        connection = silent.accept()[0]
        running.send_signal(signal.SIGINT)
        done = end(running)
        connection.close()
    assert done.code == 130
    assert [result["status"] for result in done.json["results"]] == ["skipped"]


def test_head_ends_it_quietly_and_kills(lab, post, gone, end):
    running = lab.start("run", "--stream", "-l", "web1", f"echo $$ > {post}; exec yes")
    processes = post.processes(1)
    assert running.stdout.readline() == b"web1: y\n"
    running.stdout.close()
    running.stdout = None
    done = end(running)
    assert (done.code, done.stderr) == (141, b"")
    gone(processes)


@pytest.mark.parametrize("look", [[], ["--json"], ["--raw"], ["--stream"], ["--jsonl"]])
def test_a_reader_that_goes_while_nothing_is_written_ends_it_too(lab, post, gone, end, look):
    running = lab.start("run", *look, "-l", "web1", f"echo $$ > {post}; exec sleep 1000")
    processes = post.processes(1)
    running.stdout.close()
    running.stdout = None
    done = end(running)
    assert (done.code, done.stderr) == (141, b"")
    gone(processes)


def test_stdout_that_is_closed_from_the_start_is_nowhere(lab):
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", lab.program, "run", "-l", "web1", "echo hello"],
        env=lab.environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.startswith(b"1 ok of 1 host in ")


def test_all_standard_streams_closed(lab, tmp_path):
    script = f'"$@" <&- >&- 2>&-; echo $? > {tmp_path}/code'
    subprocess.run(
        ["/bin/sh", "-c", script, "sh", lab.program, "run", "-l", "web1", "exit 4"], env=lab.environment(), check=True
    )
    assert (tmp_path / "code").read_text() == "5\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "-l", "web1", "true"], 3),
        (["run", "-l", "web1", "false"], 5),
        (["run", "--raw", "-l", "web1", "echo hello"], 3),
        (["run", "--stream", "-l", "web1", "echo hello"], 3),
        (["run", "--json", "-l", "web1", "true"], 3),
        (["run", "--jsonl", "-l", "web1", "true"], 3),
        (["run", "--list-hosts", "true"], 3),
        (["run", "--dry-run", "true"], 3),
        (["ping", "-l", "web1"], 3),
        (["ping", "--json", "-l", "web1"], 3),
        (["hosts"], 3),
        (["hosts", "--json"], 3),
        (["--help"], 3),
    ],
)
def test_a_full_disk_is_said_once_and_is_no_success(lab, end, arguments, code):
    with open("/dev/full", "wb") as full:
        done = end(lab.start(*arguments, stdout=full))
    # Besides, there may be the summary, and what became of the host.
    errors = [line for line in done.stderr.decode().splitlines() if line.startswith("fleet: ") and "web1" not in line]
    assert (done.code, errors) == (code, ["fleet: output: cannot write standard output: No space left on device"])


def test_a_full_disk_kills_what_runs(lab, post, gone, end):
    with open("/dev/full", "wb") as full:
        running = lab.start(
            "run", "--stream", "-l", "web1", f"echo $$ > {post}; echo hello; exec sleep 1000", stdout=full
        )
        processes = post.processes(1)
        done = end(running)
    assert done.code == 3
    gone(processes)


def test_a_slow_reader_gets_everything(lab):
    # More than any pipe holds, read only when the command is long over.
    running = lab.start("run", "--raw", "-l", "web1", "seq 1 100000")
    expected = "".join(f"{number}\n" for number in range(1, 100_001)).encode()
    assert os.read(running.stdout.fileno(), 10) == expected[:10]
    rest, _ = running.communicate(timeout=60)
    assert expected[:10] + rest == expected
    assert running.returncode == 0
