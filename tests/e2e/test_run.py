"""`fleet run` as its users see it: status words, exit codes, and every way in which results can look."""

from __future__ import annotations

import base64
import json
import os
import re
import signal

import pytest

RESULT_KEYS = [
    "host", "status", "rc", "signal", "stdout", "stderr", "stdout_bytes", "stderr_bytes", "truncated", "started",
    "elapsed", "error",
]  # fmt: skip
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


# Status words and exit codes


def test_ok_is_0_with_a_table_on_stdout_and_a_summary_on_stderr(lab):
    assert tuple(lab.fleet("run", "-l", "good", "echo hello")) == (
        0,
        "HOST    STATUS    RC    TIME    OUTPUT\n"
        "web1    ok        0     0.00s   hello\n"
        "web2    ok        0     0.00s   hello\n"
        "db1     ok        0     0.00s   hello\n",
        "3 ok of 3 hosts in 0.00s\n",
    )


def test_failed_is_5(lab):
    assert tuple(lab.fleet("run", "-l", "web1", "echo out; echo err >&2; exit 7")) == (
        5,
        "HOST    STATUS    RC    TIME    OUTPUT\n"
        "web1    failed    7     0.00s   out\n"
        "                                ! err\n",
        "1 failed of 1 host in 0.00s\n",
    )


def test_a_command_killed_by_a_signal_failed(lab):
    assert tuple(lab.fleet("run", "-l", "web1", "kill -KILL $$")) == (
        5,
        "HOST    STATUS    RC       TIME    OUTPUT\nweb1    failed    SIGKILL  0.00s\n",
        "1 failed of 1 host in 0.00s\n",
    )


def test_timeout_is_3_and_its_whole_tree_is_dead(lab, post, gone):
    done = lab.fleet("run", "-l", "web1", "-t", "0.5", f"sleep 1000 & echo $! > {post}; echo $$ > {post}; wait")
    assert (done.code, done.err) == (3, "1 timeout of 1 host in 0.00s\n")
    assert done.out == (
        "HOST    STATUS    RC       TIME    OUTPUT\nweb1    timeout   SIGTERM  0.00s   [error: killed after 0.5 s]\n"
    )
    for number in (post.line(), post.line()):
        with pytest.raises(ProcessLookupError):
            os.kill(int(number), 0)


def test_unreachable_denied_and_ok_in_one_table_with_4(lab):
    where = re.escape("127.0.0.1")
    done = lab.fleet("run", "-l", "web1:bad", "echo hello")
    assert (done.code, done.err) == (4, "1 ok, 1 unreachable, 2 denied of 4 hosts in 0.00s\n")
    assert re.fullmatch(
        "HOST      STATUS       RC    TIME    OUTPUT\n"
        "web1      ok           0     0.00s   hello\n"
        rf"gone      unreachable  -     0.00s   \[error: connection refused by {where}:\d+\]\n"
        rf"stranger  denied       -     0.00s   \[error: stranger \({where}:\d+\) refused our key: wrong machine at"
        r" this address, revoked or rotated, not enrolled, or someone in between; see the agent's log\]\n"
        r"newcomer  denied       -     0.00s   \[error: not enrolled: mend with: fleet enroll newcomer\]\n",
        done.out,
    )


def test_a_name_that_does_not_resolve_is_unreachable(lab, tmp_path):
    name = "x" * 64  # no label may be so long, so nobody asks a name server
    assert lab.fleet("enroll", name, "-o", "enrolments").code == 0
    done = lab.fleet("run", "--json", "-w", name, "true", cwd=tmp_path, env={"FLEET_INVENTORY": None})
    (result,) = done.json["results"]
    assert (done.code, result["status"], result["error"]) == (
        4, "unreachable", f"cannot resolve '{name}': not a host name (DNS)"
    )  # fmt: skip


def test_a_cut_connection_is_broken_and_what_came_is_not_shown(lab, tmp_path, relay, post, gone, end):
    (tmp_path / "hosts.ini").write_text(f"web1 fleet_host=127.0.0.1 fleet_port={relay.port}\n")
    command = f"echo secret; echo $$ > {post}; exec sleep 1000"
    running = lab.start("run", "-i", str(tmp_path / "hosts.ini"), command)
    processes = post.processes(1)
    relay.cut()
    done = end(running)
    assert tuple(done) == (
        4,
        "HOST    STATUS    RC    TIME    OUTPUT\n"
        "web1    broken    -     0.00s   [error: the connection was lost: the peer cut the connection]\n",
        "1 broken of 1 host in 0.00s\n",
    )
    gone(processes)


def test_cancelled_and_skipped_are_named_after_ctrl_c(lab, post, gone, end):
    running = lab.start(
        "run",
        "-f",
        "1",
        "-l",
        "good",
        f"case $FLEET_HOST in web1) echo first;; *) echo $$ > {post}; exec sleep 1000; esac",
    )
    processes = post.processes(1)
    running.send_signal(signal.SIGINT)
    assert tuple(end(running)) == (
        130,
        "HOST    STATUS     RC       TIME    OUTPUT\n"
        "web1    ok         0        0.00s   first\n"
        "web2    cancelled  SIGTERM  0.00s   [error: killed]\n"
        "db1     skipped    -        -       [error: not started: the run was cancelled]\n",
        "1 ok, 1 cancelled, 1 skipped of 3 hosts in 0.00s\n",
    )
    gone(processes)


@pytest.mark.parametrize(
    ("hosts", "command", "code"),
    [
        ("web1:gone", "sleep 1000", 4),  # 3 and 4
        ("web1:gone", "false", 4),  # 5 and 4
        ("good", "case $FLEET_HOST in web1) exit 9;; *) sleep 1000; esac", 3),  # 5 and 3
        ("good", "case $FLEET_HOST in web1) exit 9;; esac", 5),  # 0 and 5
    ],
)
def test_the_worst_class_wins(lab, hosts, command, code):
    assert lab.fleet("run", "-t", "0.3", "-l", hosts, command).code == code


@pytest.mark.parametrize(
    ("hosts", "command", "code"),
    [
        ("good", "case $FLEET_HOST in web1) exit 9;; db1) exit 77;; esac", 77),
        ("good", "true", 0),
        ("web1", "kill -KILL $$", 137),
        ("web1:gone", "exit 9", 4),
    ],
)
def test_return_max(lab, hosts, command, code):
    assert lab.fleet("run", "-S", "-l", hosts, command).code == code


# How results look


def test_github_table(lab):
    assert lab.fleet("run", "-l", "web", "--format", "github", "echo a; echo b").out == (
        "| HOST   | STATUS   | RC   | TIME   | OUTPUT   |\n"
        "|--------|----------|------|--------|----------|\n"
        "| web1   | ok       | 0    | 0.00s  | a        |\n"
        "|        |          |      |        | b        |\n"
        "| web2   | ok       | 0    | 0.00s  | a        |\n"
        "|        |          |      |        | b        |\n"
    )


def test_tsv_is_one_line_a_host(lab):
    out = lab.fleet("run", "-l", "web1", "--format", "tsv", r"printf 'a\tb\nc'").out
    assert [[cell.strip(" ") for cell in line.split("\t")] for line in out.splitlines()] == [
        ["HOST", "STATUS", "RC", "TIME", "OUTPUT"],
        ["web1", "ok", "0", "0.00s", r"a\tb\nc"],
    ]


def test_html_escapes_what_hosts_say(lab):
    out = lab.fleet("run", "-l", "web1", "--format", "html", "echo '<script>'").out
    assert "<td>&lt;script&gt;</td>" in out
    assert "<script>" not in out


def test_raw_is_byte_exact(lab):
    data = bytes(range(256)) * 4
    shown = "".join(f"\\{byte:03o}" for byte in data)
    done = lab.fleet("run", "--raw", "-l", "web1", f"printf '{shown}'; printf 'e\\377' >&2; exit 5")
    assert (done.code, done.stdout, done.stderr) == (5, data, b"e\xff")


def test_raw_says_why_there_is_nothing(lab):
    done = lab.fleet("run", "--raw", "-w", "newcomer", "true")
    assert tuple(done) == (
        4, "", "fleet: newcomer: denied: not enrolled: mend with: fleet enroll newcomer\n"
    )  # fmt: skip


def test_raw_is_for_one_host(lab):
    assert tuple(lab.fleet("run", "--raw", "-l", "good", "true")) == (
        2,
        "",
        "fleet: --raw: shows one host's bytes, and 3 hosts match\nhint: try --stream or -o DIR\n",
    )


def test_stream_names_the_host_on_each_line(lab):
    done = lab.fleet(
        "run", "--stream", "-l", "good", r"printf 'one\ntwo'; printf 'three\n' >&2; [ $FLEET_HOST = web1 ]"
    )
    assert done.code == 5
    lines = done.out.splitlines()
    for host in ("web1", "web2", "db1"):
        assert [line for line in lines if line.startswith(f"{host}: ")] == [f"{host}: one", f"{host}: two"]
        assert [line for line in lines if line.startswith(f"{host}! ")] == [f"{host}! three"]
    assert len(lines) == 9
    assert sorted(done.err.splitlines()) == [
        "1 ok, 2 failed of 3 hosts in 0.00s",
        "db1: failed: exit code 1",
        "web2: failed: exit code 1",
    ]


def test_stream_shows_lines_while_the_command_runs(lab, post, tmp_path, end):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    running = lab.start("run", "--stream", "-l", "web1", f"echo first; cat {gate}")
    assert running.stdout.readline() == b"web1: first\n"
    gate.write_text("second\n")
    assert tuple(end(running)) == (0, "web1: second\n", "1 ok of 1 host in 0.00s\n")


def test_json_has_every_documented_key(lab):
    done = lab.fleet("run", "--json", "-l", "web1:gone", r"printf 'a\377b'; printf 'e\n' >&2; exit 3")
    document = done.json
    assert (done.code, done.err) == (4, "")
    assert list(document) == ["run", "summary", "results"]
    assert list(document["run"]) == ["id", "command", "started", "elapsed", "exit_code"]
    assert document["run"]["command"] == r"printf 'a\377b'; printf 'e\n' >&2; exit 3"
    assert document["run"]["exit_code"] == 4
    assert TIMESTAMP.fullmatch(document["run"]["started"])
    assert 0 < document["run"]["elapsed"] < 60
    assert document["summary"] == {"failed": 1, "unreachable": 1}

    ran, gone = document["results"]
    assert list(gone) == RESULT_KEYS
    assert {key: gone[key] for key in RESULT_KEYS if key not in ("elapsed", "error")} == {
        "host": "gone", "status": "unreachable", "rc": None, "signal": None, "stdout": "", "stderr": "",
        "stdout_bytes": 0, "stderr_bytes": 0, "truncated": False, "started": None,
    }  # fmt: skip
    assert gone["error"].startswith("connection refused by 127.0.0.1:")

    assert list(ran) == [*RESULT_KEYS[:5], "stdout_base64", *RESULT_KEYS[5:]]
    assert ran["stdout"] == "a\ufffdb"
    assert base64.b64decode(ran["stdout_base64"]) == b"a\xffb"
    assert TIMESTAMP.fullmatch(ran["started"])
    assert 0 < ran["elapsed"] < 60
    assert {key: ran[key] for key in RESULT_KEYS if key not in ("elapsed", "started", "stdout")} == {
        "host": "web1", "status": "failed", "rc": 3, "signal": None, "stderr": "e\n", "stdout_bytes": 3,
        "stderr_bytes": 2, "truncated": False, "error": None,
    }  # fmt: skip


def test_json_names_the_signal(lab):
    (result,) = lab.fleet("run", "--json", "-l", "web1", "kill -KILL $$").json["results"]
    assert (result["status"], result["rc"], result["signal"]) == ("failed", None, "SIGKILL")


def test_json_results_are_in_inventory_order(lab, tmp_path, post):
    # web1 waits until db1, the last, is done.
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command = f"case $FLEET_HOST in web1) cat {gate};; db1) echo go > {gate};; esac"
    document = lab.fleet("run", "--json", "-l", "good", command).json
    assert [(result["host"], result["status"]) for result in document["results"]] == [
        ("web1", "ok"), ("web2", "ok"), ("db1", "ok")
    ]  # fmt: skip


def test_jsonl_has_an_event_a_line(lab):
    done = lab.fleet("run", "--jsonl", "-l", "web1:newcomer", r"printf 'out\377'; exec >&-; printf err >&2")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.code == 4
    assert done.err == ""
    mine = [event for event in events if event["host"] == "web1"]
    assert [event["event"] for event in mine] == ["start", "stdout", "stderr", "end"]
    assert mine[0] == {"event": "start", "host": "web1"}
    assert mine[1] == {"event": "stdout", "host": "web1", "data": "out\ufffd", "data_base64": "b3V0/w=="}
    assert mine[2] == {"event": "stderr", "host": "web1", "data": "err"}
    assert set(mine[3]) == {"event", "stdout_base64", *RESULT_KEYS}
    assert (mine[3]["status"], mine[3]["rc"], mine[3]["stdout_bytes"]) == ("ok", 0, 4)
    (denied,) = (event for event in events if event["host"] == "newcomer")
    assert (denied["event"], denied["status"], denied["started"]) == ("end", "denied", None)
    last = events[-1]
    assert (last["event"], last["host"], last["summary"]) == ("summary", None, {"ok": 1, "denied": 1})
    assert last["run"]["exit_code"] == 4


def test_quiet_shows_failures_only(lab):
    done = lab.fleet("run", "-q", "-l", "good", "[ $FLEET_HOST != web2 ]")
    assert tuple(done) == (
        5,
        "HOST    STATUS    RC    TIME    OUTPUT\nweb2    failed    1     0.00s\n",
        "2 ok, 1 failed of 3 hosts in 0.00s\n",
    )


def test_quiet_says_nothing_when_all_is_well(lab):
    assert tuple(lab.fleet("run", "-q", "-l", "good", "echo hello")) == (0, "", "")


def test_output_dir_has_exact_bytes_for_every_host_beside_the_table(lab, tmp_path):
    folder = tmp_path / "new" / "out"
    done = lab.fleet("run", "-o", str(folder), "-l", "web:gone", r"printf '\000\377\n'; printf $FLEET_HOST >&2")
    assert done.code == 4
    assert done.stdout.startswith(b"HOST    STATUS")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "web1.stdout": b"\0\xff\n", "web1.stderr": b"web1", "web2.stdout": b"\0\xff\n", "web2.stderr": b"web2",
        "gone.stdout": b"", "gone.stderr": b"",
    }  # fmt: skip


def test_max_output_drains_counts_and_marks(lab):
    command = "yes 1234567 | head -c 1000000; echo short >&2"
    done = lab.fleet("run", "--json", "--max-output", "10", "-l", "web1", command)
    (result,) = done.json["results"]
    assert (done.code, result["status"], result["rc"]) == (0, "ok", 0)
    assert result["stdout"] == "1234567\n12"
    assert (result["stdout_bytes"], result["stderr_bytes"], result["truncated"]) == (1000000, 6, True)
    assert result["stderr"] == "short\n"
    shown = lab.fleet("run", "--max-output", "10", "-l", "web1", command)
    assert shown.out == (
        "HOST    STATUS    RC    TIME    OUTPUT\n"
        "web1    ok        0     0.00s   1234567\n"
        "                                12\n"
        "                                [truncated: 10 B of 976.6 KiB]\n"
        "                                ! short\n"
    )


def test_max_output_0_keeps_nothing(lab):
    (result,) = lab.fleet("run", "--json", "--max-output", "0", "-l", "web1", "echo hello").json["results"]
    assert (result["stdout"], result["stdout_bytes"], result["truncated"]) == ("", 6, True)


def test_raw_has_no_limit_unless_asked_for(lab):
    size = 17 * 1024 * 1024  # over the default of what is kept
    done = lab.fleet("run", "--raw", "-l", "web1", f"head -c {size} /dev/zero")
    assert (done.code, len(done.stdout), done.stderr) == (0, size, b"")
    cut = lab.fleet("run", "--raw", "--max-output", "3", "-l", "web1", "echo hello")
    assert tuple(cut) == (0, "hel", "fleet: web1: output truncated: the command wrote 6 B\n")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--json", "--raw"], "fleet: --raw and --json: results can look only one way at a time"),
        (["--stream", "--jsonl"], "fleet: --stream and --jsonl: results can look only one way at a time"),
        (["-q", "--json"], "fleet: --quiet and --json: only a table can leave hosts out"),
    ],
)
def test_looks_that_exclude_each_other(lab, options, line):
    assert tuple(lab.fleet("run", *options, "-l", "web1", "true")) == (2, "", f"{line}\n")


def test_unknown_table_format(lab):
    for command in (
        ["run", "--format", "x\x1b", "true"],
        ["ping", "--format", "x\x1b"],
        ["hosts", "--format", "x\x1b"],
    ):
        done = lab.fleet(command[0], "-l", "web1", *command[1:])
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("fleet: --format: unknown table format 'x\\x1b': choose one of asciidoc, ")


def test_colour(lab):
    bare = lab.fleet("run", "-l", "web1", "true")
    assert "\x1b" not in bare.out + bare.err
    done = lab.fleet("run", "--color", "always", "-l", "web1", "true", env={"NO_COLOR": "1"})
    assert "\x1b[32mok\x1b[0m" in done.out
    assert "\x1b[32m1 ok\x1b[0m" in done.err
    never = lab.fleet("run", "-l", "web1", "true", env={"FLEET_COLOR": "never"})
    assert "\x1b" not in never.out + never.err
    assert tuple(lab.fleet("run", "--color", "maybe", "-l", "web1", "true")) == (
        2, "", "fleet: --color: 'maybe' is not one of auto, always, never\n"
    )  # fmt: skip


# Which hosts, and touching none


def test_list_hosts_touches_nothing(lab, tmp_path):
    # No key and no registry are there.
    env = {"FLEET_KEY": str(tmp_path / "none")}
    for command in (["run", "--list-hosts", "true"], ["ping", "--list-hosts"]):
        assert tuple(lab.fleet(*command, env=env)) == (0, "web1\nweb2\ndb1\ngone\nstranger\nnewcomer\n", "")


@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        (["-l", "web"], "web1\nweb2\n"),
        (["-l", "web", "-l", "*1"], "web1\n"),
        (["-l", "web:db:!web1"], "web2\ndb1\n"),
        (["-l", "web,&good"], "web1\nweb2\n"),
        (["-x", "bad", "-x", "web2"], "web1\ndb1\n"),
        (["-w", "x[08-10],web1"], "x08\nx09\nx10\nweb1\n"),
        (["-w", "web1,web1,web1"], "web1\n"),
        (["-w", "x[1-3]", "-x", "x2"], "x1\nx3\n"),
    ],
)
def test_targets(lab, options, hosts):
    assert tuple(lab.fleet("run", "--list-hosts", *options, "true")) == (0, hosts, "")


def test_w_needs_no_inventory_and_uses_one_that_is_there(lab, tmp_path):
    bare = lab.fleet("run", "--list-hosts", "-w", "a[1-2]", "true", cwd=tmp_path, env={"FLEET_INVENTORY": None})
    assert tuple(bare) == (0, "a1\na2\n", "")
    assert lab.fleet("run", "--raw", "-w", "web1", "echo $FLEET_HOST").out == "web1\n"


def test_inventories_add_up(lab, tmp_path):
    (tmp_path / "a.ini").write_text("a\n")
    (tmp_path / "b.ini").write_text("b\na\n")
    both = ["-i", str(tmp_path / "a.ini"), "-i", str(tmp_path / "b.ini")]
    assert lab.fleet("run", "--list-hosts", *both, "true").out == "a\nb\n"
    assert (
        lab.fleet("run", "--list-hosts", "true", env={"FLEET_INVENTORY": f"{tmp_path}/a.ini:{tmp_path}/b.ini"}).out
        == "a\nb\n"
    )


def test_inventory_comes_from_here_when_nothing_names_one(lab, tmp_path):
    (tmp_path / "hosts.ini").write_text("here\n")
    assert lab.fleet("run", "--list-hosts", "true", cwd=tmp_path, env={"FLEET_INVENTORY": None}).out == "here\n"


def test_inventory_from_standard_input(lab, tmp_path):
    with open(tmp_path / "list", "w+") as file:
        file.write("piped\n")
        file.seek(0)
        assert lab.fleet("run", "--list-hosts", "-i", "-", "true", stdin=file).out == "piped\n"


def test_dry_run_prints_the_exact_command_and_contacts_nobody(lab, tmp_path):
    env = {"FLEET_KEY": str(tmp_path / "none")}
    assert tuple(lab.fleet("run", "--dry-run", "-l", "web", "df", "-h", "/", env=env)) == (
        0, "web1: df -h /\nweb2: df -h /\n", ""
    )  # fmt: skip


def test_dry_run_prints_bytes_that_are_no_text(lab):
    env = {"PYTHONIOENCODING": "utf-8:strict"}  # as in the locales of most people
    done = lab.fleet("run", "--dry-run", "-l", "web1", b"echo \xff", env=env)
    assert (done.code, done.stdout, done.stderr) == (0, b"web1: echo \xff\n", b"")


def test_a_host_listed_twice_runs_once(lab, tmp_path):
    port = lab.agents[0].port
    (tmp_path / "hosts.ini").write_text(f"[a]\nweb1 fleet_host=127.0.0.1 fleet_port={port}\nweb1\n[b]\nweb1\n")
    done = lab.fleet("run", "--stream", "-i", str(tmp_path / "hosts.ini"), "-l", "a:b", f"echo x >> {tmp_path}/runs")
    assert (done.code, (tmp_path / "runs").read_text()) == (0, "x\n")


def test_port_option_is_for_hosts_without_their_own(lab, tmp_path):
    (tmp_path / "hosts.ini").write_text("web1 fleet_host=127.0.0.1\n")
    port = str(lab.agents[0].port)
    arguments = ["run", "--raw", "-i", str(tmp_path / "hosts.ini")]
    assert lab.fleet(*arguments, "--port", port, "echo hi").out == "hi\n"
    assert lab.fleet(*arguments, "echo hi", env={"FLEET_PORT": port}).out == "hi\n"


def test_fan_out_shrinks_with_the_limit_on_open_files(lab):
    names = ",".join(f"h{number}" for number in range(5))
    done = lab.fleet("run", "--json", "-w", names, "true", before="ulimit -n 42")
    assert done.code == 4
    assert done.err == "fleet: fan-out lowered from 5 to 2: no more open files are allowed (ulimit -n)\n"
