"""`fleet run` with a script, a standard input, another user or another shell, as its users see it."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import signal
import subprocess

import pytest

from controller import Fleet, Script
from controller.errors import InputError

CHECK = """\
#!/bin/sh
echo "$FLEET_SCRIPT on $FLEET_HOST: $# [$1] [$2]"
[ "$1" != -f ] || { echo broken >&2; exit 3; }
"""
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


@pytest.fixture
def here(tmp_path):
    """A folder with a script and an input of 3 MB."""
    (tmp_path / "check.sh").write_text(CHECK)
    (tmp_path / "big").write_bytes(bytes(range(256)) * 12_000)
    return tmp_path


def refused(done, what, hint=None):
    """Check that `done` is this one error, and that nothing was run."""
    assert (done.code, done.out, done.err) == (2, "", f"fleet: {what}\n" + (f"hint: {hint}\n" if hint else ""))


def piped(lab, producer, *arguments, folder=None):
    """Run `fleet` behind a shell command, as in `producer | fleet ...`."""
    with subprocess.Popen(["/bin/sh", "-c", producer], stdout=subprocess.PIPE, cwd=folder) as source:
        done = lab.fleet(*arguments, stdin=source.stdout, cwd=folder or lab.folder)
        source.stdout.close()
    return done


# Scripts


def test_a_script_runs_on_every_host_with_its_arguments(lab, here):
    assert tuple(lab.fleet("run", "-l", "web", "--script", "check.sh", "-v", "a b", cwd=here)) == (
        0,
        "HOST    STATUS    RC    TIME    OUTPUT\n"
        "web1    ok        0     0.00s   check.sh on web1: 2 [-v] [a b]\n"
        "web2    ok        0     0.00s   check.sh on web2: 2 [-v] [a b]\n",
        "2 ok of 2 hosts in 0.00s\n",
    )


def test_a_script_that_fails(lab, here):
    """Its own -f, behind the end of our options."""
    assert tuple(lab.fleet("run", "-l", "web1", "--script", "check.sh", "--", "-f", cwd=here)) == (
        5,
        "HOST    STATUS    RC    TIME    OUTPUT\n"
        "web1    failed    3     0.00s   check.sh on web1: 1 [-f] []\n"
        "                                ! broken\n",
        "1 failed of 1 host in 0.00s\n",
    )


def test_a_script_in_json_and_in_the_log_of_the_agent(lab, here):
    done = lab.fleet("run", "--script", "check.sh", "--json", "-l", "web1", "-v", "a b", cwd=here)
    assert (done.code, done.err) == (0, "")
    assert done.json["run"]["command"] == "check.sh -v 'a b'"
    assert done.json["results"][0]["stdout"] == "check.sh on web1: 2 [-v] [a b]\n"
    run = done.json["run"]["id"]
    digest = hashlib.sha256(CHECK.encode()).hexdigest()
    log = lab.agents[0].log
    assert f"ops from 127.0.0.1 as 'web1' runs the script \"check.sh -v 'a b'\" (run {run})\n" in log
    assert f"run {run}: the script has {len(CHECK)} bytes, SHA-256 {digest}\n" in log


def test_a_script_in_a_dry_run_and_in_templates(lab, here):
    arguments = ["--script", "check.sh", "--template", "-l", "web", "--on", "{host}", "{group_names}"]
    done = lab.fleet("run", "--dry-run", *arguments, cwd=here)
    assert tuple(done) == (0, "web1: check.sh --on web1 good,web\nweb2: check.sh --on web2 good,web\n", "")
    assert "check.sh on web2: 3 [--on] [web2]\n" in lab.fleet("run", *arguments, cwd=here).out
    plain = lab.fleet("run", "--dry-run", "-l", "web1", "--script", "check.sh", "{host}", cwd=here)
    assert plain.out == "web1: check.sh '{host}'\n"


def test_a_script_from_a_pipe(lab):
    done = piped(lab, f"cat <<'EOF'\n{CHECK}EOF", "run", "-l", "web1", "--raw", "--script", "/dev/stdin", "x")
    assert done.out == "/dev/stdin on web1: 1 [x] []\n"


def test_a_script_and_its_input(lab, here):
    (here / "sum.py").write_text("#!/usr/bin/env python3\nimport sys\nprint(len(sys.stdin.buffer.read()))\n")
    done = lab.fleet("run", "-l", "good", "--stdin", "big", "--script", "sum.py", "-b", cwd=here)
    assert done.code == 0
    assert "3072000\n" in done.out


def test_a_script_without_its_interpreter_on_the_host(lab, here):
    (here / "x.pl").write_text("#!/opt/no/perl -w\n")
    done = lab.fleet("run", "-l", "web1", "--json", "--script", "x.pl", cwd=here)
    (result,) = done.json["results"]
    assert (done.code, result["status"], result["rc"], result["signal"]) == (5, "failed", None, None)
    assert result["error"] == "cannot run x.pl: its interpreter /opt/no/perl is not there"


def test_the_time_limit_and_the_whole_tree_of_a_script(lab, here, post, gone):
    (here / "slow").write_text(f"#!/bin/sh\nsetsid sleep 1000 & echo $! > {post}; echo $$ > {post}; wait\n")
    done = lab.fleet("run", "-l", "web1", "-t", "0.5", "--script", "slow", cwd=here)
    assert (done.code, done.err) == (3, "1 timeout of 1 host in 0.00s\n")
    for number in (post.line(), post.line()):
        with pytest.raises(ProcessLookupError):
            os.kill(int(number), 0)


def test_nothing_of_a_script_is_left_when_its_agent_is_killed(new_lab, post, gone):
    assert new_lab.fleet("init", "--name", "ops").code == 0
    assert new_lab.fleet("enroll", "web1", "-o", "e").code == 0
    agent = new_lab.agent(new_lab.folder / "e/web1.enrol", new_lab.folder / "one")
    (new_lab.folder / "slow").write_text(f'#!/bin/sh\ncd /; echo $$ > {post}; readlink "$0" > {post}; sleep 1000\n')
    hosts = ["-w", "web1", "--port", str(agent.port)]
    new_lab.inventory.write_text("web1 fleet_host=127.0.0.1\n")
    before = {name for _, _, files in os.walk(new_lab.folder / "one") for name in files}
    process = new_lab.start("run", *hosts, "--script", "slow")
    pidfds = post.processes(1)
    assert post.line() == "/memfd:fleet-script (deleted)"
    agent.stop(signal.SIGKILL)
    gone(pidfds)
    out = process.communicate(timeout=60)[0]
    assert b"broken" in out
    assert {name for _, _, files in os.walk(new_lab.folder / "one") for name in files} == before


@pytest.mark.parametrize(
    ("name", "why", "hint"),
    [
        ("none", "none: no such file or directory", "FILE is a file on this machine"),
        (".", ".: is a directory", None),
        ("empty", "empty: is empty", None),
        ("text", "text: does not begin with #!", "the first line says what runs it, such as #!/bin/sh"),
        (
            "dos",
            "dos: its lines end in CR LF, as on Windows; no system finds what runs it",
            r"sed -i 's/\r$//' dos",
        ),
        ("huge", "huge: is too large, at most 16 MiB", "fleet push it, then run it there"),
        ("/dev/zero", "/dev/zero: is too large, at most 16 MiB", "fleet push it, then run it there"),
    ],
)
def test_files_that_are_no_script(lab, here, name, why, hint):
    (here / "empty").touch()
    (here / "text").write_text("echo\n")
    (here / "dos").write_bytes(b"#!/bin/sh\r\necho\r\n")
    (here / "huge").touch()
    os.truncate(here / "huge", 100_000_000)
    for more in ([], ["--dry-run"], ["-v", "x"]):
        refused(lab.fleet("run", "-l", "web1", "--script", name, *more, cwd=here), f"--script: {why}", hint)


def test_other_mistakes_with_scripts(lab, here):
    def run(*arguments):
        return lab.fleet("run", *arguments, cwd=here)

    refused(
        run("-l", "nobody", "--script", "check.sh"),
        "inventory: unknown host or group: 'nobody'",
        "did you mean 'good'?",
    )
    refused(
        run("--script", "check.sh", "--shell", "/bin/sh"),
        "--shell: a script is run by its own #!, and not by a shell",
    )
    refused(
        run("--script", "check.sh", "--limti", "web1"),
        "usage: no such option: --limti",
        "did you mean --limit? if it is the script's, put -- before it",
    )
    assert run("--script").err.startswith("fleet: usage: ")
    assert run("-v", "--script", "check.sh").err.startswith("fleet: usage: no such option: -v\n")


# Standard input


def test_a_file_goes_to_every_host(lab, here):
    digest = hashlib.sha256((here / "big").read_bytes()).hexdigest()
    done = lab.fleet("run", "-l", "good", "--stdin", "big", "-b", "sha256sum", cwd=here)
    assert (done.code, done.err) == (0, "3 ok of 3 hosts in 0.00s\n")
    assert f"{digest}  -\n" in done.out
    assert done.out.count(digest) == 1


@pytest.mark.parametrize("hosts", ["web1", "good"])
@pytest.mark.parametrize("fanout", ["1", "64"])
def test_our_own_input_goes_to_every_host(lab, here, hosts, fanout):
    """Also to those whose turn comes when it has ended long ago."""
    options = ["-l", hosts, "-f", fanout, "--stdin", "-", "--json"]
    done = piped(lab, "cat big", "run", *options, "sha256sum", folder=here)
    digest = hashlib.sha256((here / "big").read_bytes()).hexdigest()
    assert {result["stdout"] for result in done.json["results"]} == {f"{digest}  -\n"}


def test_our_own_input_from_a_file_starts_where_it_stands(lab, here):
    (here / "two").write_text("one\ntwo\nthree\n")
    done = lab.fleet("run", "-l", "good", "--stdin", "-", "-b", "cat", before="exec < two; read one", cwd=here)
    assert done.code == 0
    # A shell reads from a file to the end of the line, and no further.
    assert done.out.endswith("\ntwo\nthree\n")


def test_input_is_passed_on_as_it_comes(lab):
    for hosts in ("web1", "web"):
        command = "while read x; do echo got $x; done; echo end"
        process = lab.start("run", "-l", hosts, "--stdin", "-", "--jsonl", command, stdin=subprocess.PIPE)
        names = ["web1"] if hosts == "web1" else ["web1", "web2"]
        assert process.stdin is not None and process.stdout is not None
        for word in ("one", "two"):
            process.stdin.write(word.encode() + b"\n")
            process.stdin.flush()
            answers = set()
            while len(answers) < len(names):
                event = json.loads(process.stdout.readline())
                if event["event"] == "stdout":
                    assert event["data"] == f"got {word}\n"
                    answers.add(event["host"])
        process.stdin.close()
        process.stdin = None
        out = process.communicate(timeout=60)[0]
        assert process.returncode == 0
        assert out.count(b'"data": "end\\n"') == len(names)


@pytest.mark.parametrize("given", ["<&-", "< /dev/null"])
@pytest.mark.parametrize("hosts", ["web1", "good"])
def test_a_closed_input_is_an_empty_one(lab, given, hosts):
    done = lab.fleet("run", "-l", hosts, "--stdin", "-", "-b", "cat; echo end", before=f"exec {given}")
    assert done.code == 0
    assert done.out.endswith("\nend\n")


@pytest.mark.parametrize("command", ["exec <&-; echo done", "head -c 1 >/dev/null; echo done", "echo done"])
@pytest.mark.parametrize("given", ["/dev/zero", "-"])
def test_a_command_that_does_not_want_it_all(lab, command, given):
    """It ends as it would at a shell, whether or not the input ever does."""
    done = piped(lab, "yes", "run", "-l", "good", "--stdin", given, "-b", command)
    assert (done.code, done.err) == (0, "3 ok of 3 hosts in 0.00s\n")
    assert done.out.endswith("\ndone\n")


def test_a_command_that_does_not_read_can_be_cut_off(lab):
    done = lab.fleet("run", "-l", "good", "--stdin", "/dev/zero", "-t", "0.5", "-q", "sleep 1000")
    assert (done.code, done.err) == (3, "3 timeout of 3 hosts in 0.00s\n")


@pytest.mark.parametrize("hosts", ["web1", "good"])
def test_ctrl_c_while_input_is_waited_for(lab, post, gone, end, hosts):
    count = 1 if hosts == "web1" else 3
    reading, writing = os.pipe()
    process = lab.start("run", "-l", hosts, "--stdin", "-", f"echo $$ > {post}; cat; sleep 1000", stdin=reading)
    os.close(reading)
    pidfds = post.processes(count)
    process.send_signal(signal.SIGINT)
    done = end(process)
    os.close(writing)
    gone(pidfds)
    assert (done.code, done.err) == (130, f"{count} cancelled of {count} host{'s' * (count > 1)} in 0.00s\n")


def test_no_place_for_the_input(lab, here):
    """Each file that we write may have 512 bytes: the spool is cut short, and so is the run."""
    with open(here / "big", "rb") as big, subprocess.Popen(["cat"], stdin=big, stdout=subprocess.PIPE) as source:
        command = ["run", "-l", "good", "--stdin", "-", "--json", "cat; echo end"]
        done = lab.fleet(*command, stdin=source.stdout, before="ulimit -f 1", env={"TMPDIR": str(here)})
        source.stdout.close()
    assert done.code == 3
    assert done.err.endswith(f"fleet: --stdin: cannot be spooled in {here}: file too large\n")
    assert {result["status"] for result in done.json["results"]} <= {"cancelled", "skipped"}
    assert done.json["run"]["exit_code"] == 3


def test_an_input_that_breaks_is_no_end(lab):
    done = lab.fleet("run", "-l", "good", "--stdin", "/proc/self/mem", "cat; echo end")
    assert (done.code, done.err.splitlines()[-1]) == (3, "fleet: --stdin: cannot be read: input/output error")
    assert "end" not in done.out


def test_mistakes_with_input(lab, here):
    def run(*arguments, **options):
        return lab.fleet("run", "-l", "web1", *arguments, cwd=here, **options)

    refused(
        run("--stdin", "none", "true"),
        "--stdin: none: no such file or directory",
        "FILE is a file on this machine",
    )
    refused(run("--stdin", ".", "true"), "--stdin: .: is a directory")
    refused(run("--stdin", "-", "true", before="exec 0> x"), "--stdin: standard input: is not open for reading")
    refused(
        run("-i", "-", "--stdin", "-", "true"),
        "--stdin: the inventory is read from standard input already",
        "put one of the two in a file",
    )


def test_no_input_is_still_an_empty_one(lab):
    assert piped(lab, "yes", "run", "-l", "web1", "--raw", "cat; echo end").out == "end\n"


# Users and shells


@ROOT
def test_another_user(lab, here):
    done = lab.fleet(
        "run", "-l", "web1", "--raw", "--user", "nobody", "id -un; pwd; echo $USER $LOGNAME; echo x >/dev/stdout"
    )
    assert tuple(done) == (0, "nobody\n/\nnobody nobody\nx\n", "")
    script = lab.fleet("run", "-l", "web1", "--raw", "--user", "nobody", "--script", "check.sh", "-v", cwd=here)
    assert tuple(script) == (0, "check.sh on web1: 1 [-v] []\n", "")


@ROOT
def test_ctrl_c_kills_what_another_user_started(lab, gone, end):
    command = "trap '' TERM; setsid sleep 1000 & echo $! ; sleep 1000 & echo $!; echo $$; wait; sleep 1000"
    process = lab.start("run", "-l", "web1", "--user", "nobody", "--stream", command)
    pids = [int(process.stdout.readline().split()[-1]) for _ in range(3)]
    assert {os.stat(f"/proc/{pid}").st_uid for pid in pids} == {pwd.getpwnam("nobody").pw_uid}
    pidfds = [os.pidfd_open(pid) for pid in pids]
    process.send_signal(signal.SIGINT)
    gone(pidfds)
    assert end(process).code == 130


def test_users_that_are_not_there(lab):
    done = lab.fleet("run", "-l", "web1", "--json", "--user", "no such", "true")
    (result,) = done.json["results"]
    assert (done.code, result["status"], result["rc"]) == (5, "failed", None)
    assert result["error"] == "unknown user 'no such'"
    refused(lab.fleet("run", "-l", "web1", "--user", "", "true"), "--user: '' is not a name")


def test_another_shell(lab):
    done = lab.fleet("run", "-l", "web1", "--raw", "--shell", "/bin/bash", "echo ${BASH_VERSION:+bash}")
    assert done.out == "bash\n"
    done = lab.fleet("run", "-l", "web1", "--json", "--shell", "/no/zsh", "true")
    (result,) = done.json["results"]
    assert (done.code, result["status"], result["rc"]) == (5, "failed", None)
    assert result["error"] == "cannot start /no/zsh: No such file or directory"
    refused(lab.fleet("run", "-l", "web1", "--shell", "zsh", "true"), "--shell: 'zsh' is not an absolute path")


# From Python


def test_from_python(lab, here):
    fleet = Fleet(str(lab.inventory), key=str(lab.key))
    script = Script.read(here / "check.sh", ["a"])
    assert [result.stdout for result in fleet.run(script=script, limit="web1")] == [b"check.sh on web1: 1 [a] []\n"]
    for given in (b"x" * 9, here / "nine", (here / "nine")):
        (here / "nine").write_bytes(b"x" * 9)
        assert {result.stdout for result in fleet.run("wc -c", stdin=given, limit="good")} == {b"9\n"}
    with pytest.raises(InputError, match="cannot be read"):
        list(fleet.run("cat", stdin="/proc/self/mem", limit="good"))
