"""`fleet shell` against real agents: what a file says, what somebody types, and hosts that come and go."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pexpect
import pytest

NOBODY = {"NO_COLOR": "1", "TERM": "dumb", "INPUTRC": "/dev/null"}
HELP = """\
A line without a colon runs on the hosts. Directory, variables and umask last,
each host's its own; functions, aliases and options of the shell do not.
Ctrl-C stops what runs; twice does not wait for it. For the prompt itself:
  :hosts                   who is in, where, and who is not; tries those again
  :limit [PATTERN]         go on with hosts that match; alone: with all again
  :put LOCAL... REMOTE     send files and directories, as fleet push
  :get REMOTE... LOCALDIR  fetch them into LOCALDIR/HOST, as fleet pull
  :ls [PATH]               list a directory there
  :fold on|off             on: equal output once; off: lines as they come
  :diff on|off             on: how output differs from most hosts'
  :help                    this
  :quit                    leave, as do Ctrl-D and exit
"""


@pytest.fixture
def script(lab, tmp_path):
    """Run `fleet shell` with lines for its standard input."""

    def run(*lines, options=("-l", "good"), **more):
        path = tmp_path / "lines"
        path.write_bytes(b"".join(line if isinstance(line, bytes) else line.encode() + b"\n" for line in lines))
        with open(path, "rb") as stdin:
            return lab.fleet("shell", *options, stdin=stdin, **more)

    return run


def block(title, *lines):
    return "".join(f"{line}\n" for line in ("-" * 15, title, "-" * 15, *lines))


ALL = "db1,web[1-2] (3)"


# A file --------------------------------------------------------------------------------------------------------


def test_directory_variables_and_umask_last_on_each_host(script, tmp_path):
    done = script(
        f"cd {tmp_path}; mkdir -p $FLEET_HOST; cd $FLEET_HOST; MINE=\"$FLEET_HOST's\"; export SHARED='a  b'; umask 027",
        'echo "${PWD##*/} $MINE $SHARED"; umask',
        "sh -c 'echo \"${MINE-no} $SHARED\"'",
    )
    assert done.code == 0
    own = "".join(block(host, f"{host} {host}'s a  b", "0027") for host in ("db1", "web1", "web2"))
    assert done.out == own + block(ALL, "no a  b")
    assert done.err == "3 ok of 3 hosts in 0.00s\n" * 2  # none for the first, which said nothing


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ("V='it'\"'\"'s \"q\" \\ $x `y`'", 'printf "[%s]" "$V"', '[it\'s "q" \\ $x `y`]'),
        ("V=$(printf 'a\\n\\nB=2\\n.')", 'printf "[%s]" "$V"', "[a\n\nB=2\n.]"),
        ("export V=é☃", 'printf "[%s]" "$V"', "[é☃]"),
        ("cd /; cd /usr", "cd -", "/"),
        ("cd /usr; exit 0", "pwd", "/usr"),
        ("cd /usr; sleep 0 >/dev/null 2>&1 & cd /tmp", "pwd", "/tmp"),
        ("cd /usr; exec 2>&1", "pwd", "/usr"),
    ],
)
def test_what_lasts(script, first, second, text):
    done = script(first, second, options=("-l", "web1"))
    assert done.out.startswith(block("web1", text)) or done.out.startswith(block("web1")), done
    assert done.out.endswith(block("web1", text))


def test_bytes_that_are_no_text_last(script):
    done = script(b"V='\xff\xfe'; export E='\xc3'\n", 'printf "%s%s" "$V" "$E"', options=("-l", "web1"))
    assert done.stdout.endswith(b"\xff\xfe\xc3\n")


def test_codes_streams_and_unended_output_are_those_of_fleet_run(script):
    done = script("exit 3", "printf out; printf err >&2", "kill -9 $$", "if then", options=("-l", "web1"))
    assert done.code == 5
    assert done.out == (
        block("web1: failed: exit code 3")
        + block("web1", "out", "! err")
        + block("web1: failed: killed by SIGKILL")
        + block("web1: failed: exit code 2", '! /bin/sh: 2: Syntax error: "then" unexpected')
    )


NOTE = "web1: note: directory and variables are as before: "


@pytest.mark.parametrize(
    ("command", "note"),
    [
        ("cd /usr; exec true", f"{NOTE}its shell did not tell them (exec? a trap on EXIT?)"),
        ("cd /usr; trap 'true' 0", f"{NOTE}its shell did not tell them (exec? a trap on EXIT?)"),
        ("cd /usr; exec 2>/dev/null", f"{NOTE}its shell did not tell them (exec? a trap on EXIT?)"),
        (
            "cd /usr; V=$(seq 1 30000)",
            f"{NOTE}they take 169894 bytes, and at most 122880 can be given back",
        ),
        (
            "cd /usr; head -c 17000000 /dev/zero >&2",
            "web1: output truncated: the command wrote 16.2 MiB; note: directory and variables are as before:"
            " the output was cut off before its shell told them",
        ),
    ],
)
def test_a_state_that_is_not_told_is_said_to_be_as_before(script, command, note):
    done = script("cd /tmp", command, "pwd", options=("-l", "web1"))
    text = re.sub(r"take \d+ bytes", "take 169894 bytes", done.stdout[:300].decode(errors="replace"))
    assert text.startswith(block(note))
    assert done.out.endswith(block("web1", "/tmp"))
    assert done.code == 0


def test_a_command_that_is_killed_leaves_the_state(script):
    done = script("cd /tmp", "cd /usr; sleep 1000", "pwd", options=("-l", "web1", "-t", "0.2"))
    assert done.out == block("web1: timeout: killed after 0.2 s") + block("web1", "/tmp")
    assert done.code == 3


def test_a_held_pipe_does_not_hide_the_state(script, post, gone):
    done = script(f"sleep 1000 & echo $! > {post}; cd /usr", "pwd", options=("-l", "web1"))
    assert done.out == block("web1: note: a background process still holds the output") + block("web1", "/usr")
    (process,) = post.processes(1)
    signal.pidfd_send_signal(process, signal.SIGKILL)
    gone([process])


def test_a_directory_that_is_gone_is_no_reason_to_run_elsewhere(script, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    done = script(f"cd {folder}", f"rmdir {folder}; A=1", "echo ran", 'pwd; echo "$A"', options=("-l", "web1"))
    assert done.out == (
        block(f"web1: failed: cannot enter {folder}: nothing was run, and the next command is at home")
        + block("web1", done.out.splitlines()[-2], "1")
    )
    assert "ran" not in done.out


def test_output_that_imitates_a_trailer_is_output(script):
    token = "0123456789abcdef" * 2
    forged = f"{token}(9:/etc 0022{token})"
    done = script("cd /tmp", f"echo '{forged}' >&2; echo '{forged}'", "pwd", options=("-l", "web1"))
    assert done.out == block("web1", forged, f"! {forged}") + block("web1", "/tmp")
    # One that steals the token says what it likes of its own host, and that is quoted when it goes back.
    theft = (
        'T=$(tr "\\0" "\\n" </proc/$$/environ | sed -n "s/.*%s .\\{0,4\\}\\([0-9a-f]\\{32\\}\\)(.*/\\1/p" | head -1);'
        " D=$(printf \"/';echo pwned;'\\n0022\\n${T}.${T}.A='x'\");"
        ' printf %s "$T(${#D}:$D$T)" >&2; exec true'
    )
    done = script(theft, "echo second", options=("-l", "web1"))
    assert done.out == block(
        "web1: failed: cannot enter /';echo pwned;': nothing was run, and the next command is at home"
    )


def test_an_unreachable_host_is_named_and_stops_nobody(script):
    done = script("echo hello", options=("-l", "web1:gone:stranger:newcomer"))
    lines = done.err.splitlines()
    assert [line.split(": ")[:2] for line in lines[:-1]] == [
        ["gone", "unreachable"], ["newcomer", "denied"], ["stranger", "denied"],
    ]  # fmt: skip
    assert lines[-1] == "1 ok, 1 unreachable, 2 denied of 4 hosts in 0.00s"
    assert done.out.startswith(block("web1", "hello"))
    assert done.code == 4


def test_nobody_at_all_ends_it(script, lab):
    done = script("echo hello", options=("-l", "gone"))
    assert (done.code, done.out) == (4, "")
    assert done.err.splitlines()[1:] == ["fleet: shell: the host could not be reached"]
    done = script("echo hello", options=("-l", "gone:newcomer"))
    assert done.err.splitlines()[2:] == ["fleet: shell: none of 2 hosts could be reached"]


def test_blank_lines_comments_and_continued_lines(script):
    done = script("", "   ", "# echo no", "echo a\\", "b", "echo 'c\\\\'", "exit", "echo never", options=("-l", "web1"))
    assert done.out == block("web1", "ab") + block("web1", "c\\\\".replace("\\\\", "\\"))


def test_what_is_pasted_in_one_go_is_one_command(typist):
    shell = typist("-l", "web1", env={"TERM": "xterm"})
    shell.expect("web1 (1)> ")
    shell.child.send("\x1b[200~# two\nfor n in 1 2; do\necho $n$n\ndone\x1b[201~\r")
    assert "11\n22\n" in shell.expect("1 ok of 1 host")
    shell.expect("web1 (1)> ")
    assert shell.leave() == 0


def test_no_line_and_no_stdin(script, lab, end):
    assert tuple(script(options=("-l", "web1"))) == (0, "", "")
    assert tuple(end(lab.start("shell", "-l", "web1", before="exec <&-"))) == (0, "", "")
    done = script(b"echo no newline", options=("-l", "web1"))
    assert done.out == block("web1", "no newline")


# Colon commands ------------------------------------------------------------------------------------------------


def test_hosts(script):
    done = script("cd /tmp", ":limit web1", "cd /usr", ":limit", ":hosts", options=("-l", "good:gone"))
    rows = [line.split(maxsplit=4) for line in done.out[done.out.index("HOSTS") :].splitlines()]
    assert rows[0] == ["HOSTS", "NUMBER", "STATUS", "DIRECTORY", "ERROR"]
    assert rows[1:3] == [["web1", "1", "ok", "/usr", "-"], ["db1,web2", "2", "ok", "/tmp", "-"]]
    assert rows[3][:4] == ["gone", "1", "unreachable", "~"]
    assert rows[3][4].startswith("connection refused by 127.0.0.1:")


def test_limit_and_exclude(script):
    done = script(
        ":limit web", "echo a", ":limit !web1", "echo b", ":limit", "echo c", options=("-l", "good", "-x", "db1")
    )
    assert done.out == block("web[1-2] (2)", "a") + block("web2", "b") + block("web[1-2] (2)", "c")


def test_fold_and_diff(script):
    done = script(
        "echo $FLEET_HOST >&2; echo same", ":fold off", "echo x", ":diff on",
        "echo same; test $FLEET_HOST != db1 || echo more", ":diff off", "echo y", ":fold on", "echo z",
    )  # fmt: skip
    _, _, rest = done.out.partition("! web2\n")
    lines = rest.splitlines(keepends=True)
    assert sorted(lines[:3]) == ["db1: x\n", "web1: x\n", "web2: x\n"]
    assert lines[3:8] == ["--- web[1-2] (2)\n", "+++ db1\n", "@@ -1 +1,2 @@\n", " same\n", "+more\n"]
    assert sorted(lines[8:11]) == ["db1: y\n", "web1: y\n", "web2: y\n"]
    assert "".join(lines[11:]) == block(ALL, "z")


def test_put_and_get_from_where_the_hosts_are(script, tmp_path):
    (tmp_path / "one.conf").write_text("1\n")
    (tmp_path / "two.conf").write_text("2\n")
    (tmp_path / "there").mkdir()
    done = script(
        f"cd {tmp_path}/there", f":put {tmp_path}/*.conf .", "cat one.conf two.conf",
        f":get *.conf '{tmp_path}/got it'", f":put {tmp_path}/one.conf {tmp_path}/there/three", ":ls t*",
        options=("-l", "web1"),
    )  # fmt: skip
    assert done.code == 0, done
    assert re.search(r"^HOST +STATUS +BYTES +TIME +RATE +SHA256\nweb1 +changed +4 ", done.out, re.MULTILINE)
    assert (tmp_path / "got it/web1/two.conf").read_text() == "2\n"
    assert (tmp_path / "there/three").read_text() == "1\n"
    assert done.out.count(block("web1", "1", "2")) == 1
    assert re.search(r"^-rw\S+ 1 \S+ +\S+ +2 .* three\n.* two.conf$", done.out, re.MULTILINE)


def test_get_from_home(script, tmp_path, lab):
    name = f".fleet-shell-{os.getpid()}"
    done = script(
        f"cd; echo home > {name}; cd /tmp", f":get ~/{name} {tmp_path}/got", f"rm ~/{name}", options=("-l", "web1")
    )
    assert done.code == 0, done
    assert (tmp_path / f"got/web1/{name}").read_text() == "home\n"


def test_a_failed_transfer_counts(script, tmp_path):
    done = script(f":get /no/such/file {tmp_path}/got", "true", options=("-l", "web1"))
    assert done.code == 5


def test_help_and_quit(script):
    done = script(":help", ":quit", "echo never", options=("-l", "web1"))
    assert tuple(done) == (0, HELP, "")
    assert all(len(line) < 80 for line in HELP.splitlines())


KNOWN = ":hosts, :limit, :put, :get, :ls, :fold, :diff, :help, :quit"
BAD_LINES = [
    (":x", f"fleet: :x: there is no such command; there are {KNOWN}"),
    (":", f"fleet: :: there is no such command; there are {KNOWN}"),
    (": hosts x", "fleet: :hosts: wrong arguments\nhint: :hosts"),
    (":hosts web1", "fleet: :hosts: wrong arguments\nhint: :hosts"),
    (":fold", "fleet: :fold: wrong arguments\nhint: :fold on|off"),
    (":diff maybe", "fleet: :diff: wrong arguments\nhint: :diff on|off"),
    (":help me", "fleet: :help: wrong arguments\nhint: :help"),
    (":quit now", "fleet: :quit: wrong arguments\nhint: :quit"),
    (":put", "fleet: :put: wrong arguments\nhint: :put LOCAL... REMOTE"),
    (":put one", "fleet: :put: wrong arguments\nhint: :put LOCAL... REMOTE"),
    (":get one", "fleet: :get: wrong arguments\nhint: :get REMOTE... LOCALDIR"),
    (":put 'a b", "fleet: :put: no closing quotation"),
    ("echo \0", "fleet: command: holds a NUL byte, which no command can"),
]


@pytest.mark.parametrize(("line", "text"), BAD_LINES, ids=[repr(row[0]) for row in BAD_LINES])
def test_a_wrong_line_of_a_file_ends_it(script, line, text):
    done = script(line, "echo never", options=("-l", "web1"))
    assert tuple(done) == (2, "", text + "\n")


def test_a_mistyped_limit_does_not_run_on_all(script):
    done = script(":limit wbe", "echo never")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fleet: inventory: ")


def test_a_relative_path_needs_one_directory(script):
    done = script(
        ":limit web1", "cd /usr", ":limit", "cd /tmp; test $FLEET_HOST = web1 && cd /usr; true", ":put /etc/hostname x"
    )
    assert done.err.endswith(
        "fleet: :put: 'x' means different places: hosts are in different directories\nhint: see :hosts\n"
    )
    assert done.code == 2


def test_a_missing_source(script):
    done = script(":put /no/such/file /tmp/x", options=("-l", "web1"))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fleet: /no/such/file: ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-i", "-"], "fleet: --inventory: '-' takes standard input, and commands come from there\n"),
        (["-t", "0"], "fleet: --timeout: 0 is not more than 0 and at most 31536000 seconds\n"),
        (["--color", "no"], "fleet: --color: 'no' is not one of auto, always, never\n"),
    ],
)
def test_wrong_usage(lab, arguments, text):
    assert tuple(lab.fleet("shell", *arguments)) == (2, "", text)


def test_list_hosts_touches_nothing(lab):
    assert tuple(lab.fleet("shell", "--list-hosts", "-l", "bad")) == (0, "gone\nstranger\nnewcomer\n", "")


def test_too_few_descriptors(lab, end):
    done = end(lab.start("shell", "-w", "h[1-100]", before="ulimit -n 60"))
    assert tuple(done) == (
        2,
        "",
        "fleet: session: 100 hosts need as many open files, and 20 are allowed\n"
        "hint: see ulimit -n, or take fewer hosts with -l\n",
    )


def test_a_command_that_is_too_long(script):
    done = script("echo " + "x" * 140_000, "echo next", options=("-l", "web1"))
    assert done.out.startswith(block("web1: failed: command too long: 140025 bytes, the kernel takes at most 131071"))
    assert done.out.endswith(block("web1", "next"))


def test_what_no_message_has_room_for(script):
    variable = "V=$(head -c 110000 /dev/zero | tr '\\0' '\\001')"
    done = script(variable, b"true " + b"\x01" * 120_000 + b"\n", "echo ${#V}", options=("-l", "web1"))
    out = re.sub(r"take \d{7} bytes", "take 1380000 bytes", done.out)
    assert out == block(
        "web1: failed: the command and the host's variables take 1380000 bytes, a message has room for 1048576"
    ) + block("web1", "110000")


def test_a_reader_that_goes_ends_it(lab, tmp_path, end):
    (tmp_path / "lines").write_text("echo a\nsleep 1000\n")
    with open(tmp_path / "lines", "rb") as stdin:
        running = lab.start("shell", "-l", "web1", stdin=stdin)
        assert running.stdout.readline() == b"-" * 15 + b"\n"
        running.stdout.close()
        running.stdout = None
        done = end(running)
    assert done.code == 141


def test_ctrl_c_ends_a_file(lab, tmp_path, post, gone, end):
    (tmp_path / "lines").write_text(f"echo $$ > {post}; sleep 1000\necho never\n")
    with open(tmp_path / "lines", "rb") as stdin:
        running = lab.start("shell", "-l", "web1", stdin=stdin)
        processes = post.processes(1)
        running.send_signal(signal.SIGINT)
        done = end(running)
    assert (done.code, done.out) == (130, block("web1: cancelled: killed"))
    gone(processes)


# Somebody at a terminal ----------------------------------------------------------------------------------------


class Typist:
    """`fleet shell` on a terminal of its own."""

    def __init__(self, lab, *options, env=None, **more):
        environment = lab.environment(**{**NOBODY, "XDG_STATE_HOME": str(lab.folder / "state"), **(env or {})})
        self.child = pexpect.spawn(
            lab.program, ["shell", *options], env=environment, timeout=60, encoding="utf-8", dimensions=(24, 80), **more
        )

    def expect(self, text):
        self.child.expect_exact(text)
        return self.child.before.replace("\r\n", "\n")

    def say(self, line, then):
        """Type a line; return what is shown until `then`."""
        self.child.sendline(line)
        self.child.expect_exact(line)
        return self.expect(then).removeprefix("\n")

    def leave(self):
        self.child.sendeof()
        self.child.expect(pexpect.EOF)
        self.child.close()
        return self.child.exitstatus


@pytest.fixture
def typist(lab):
    made = []

    def start(*options, **more):
        made.append(Typist(lab, *options, **more))
        return made[-1]

    yield start
    for one in made:
        one.child.close(force=True)


def test_the_prompt_names_who_is_in(typist):
    shell = typist("-l", "good:gone")
    assert shell.expect("db1,web[1-2] (3 of 4)> ").startswith("gone: unreachable: connection refused by 127.0.0.1:")
    assert shell.say(":limit web", "web[1-2] (2)> ") == ""
    assert shell.say("cd /usr", "web[1-2] (2)> ") == ""
    assert "/usr\n2 ok of 2 hosts" in shell.say("pwd", "web[1-2] (2)> ")
    assert shell.say(":limit nobody", "web[1-2] (2)> ").startswith("fleet: inventory: ")
    assert shell.say(":nonsense", "web[1-2] (2)> ").startswith(
        "fleet: :nonsense: there is no such command; there are :hosts,"
    )
    assert shell.say(":fold", "web[1-2] (2)> ") == "fleet: :fold: wrong arguments\nhint: :fold on|off\n"
    assert "failed: exit code 3" in shell.say("exit 3", "web[1-2] (2)> ")
    assert shell.leave() == 0


def test_ctrl_c_clears_the_line_and_stops_what_runs(typist, post, gone):
    shell = typist("-l", "web1")
    shell.expect("web1 (1)> ")
    shell.child.send("echo half a li")
    shell.expect("half a li")
    shell.child.sendintr()
    shell.expect("web1 (1)> ")
    assert shell.say("echo whole", "(1)> ").splitlines()[3] == "whole"
    tree = "sleep 1000 & echo $! > {0}; setsid sh -c 'echo $$ > {0}; exec sleep 1000' & echo $$ > {0}; wait"
    shell.child.sendline(f"cd /usr; {tree.format(post)}")
    processes = post.processes(3)
    shell.child.sendintr()
    assert "web1: cancelled: killed" in shell.expect("1 cancelled of 1 host")
    shell.expect("web1 (1)> ")
    gone(processes)
    assert "/usr" not in shell.say("pwd", "(1)> ")
    assert shell.leave() == 0


def test_ctrl_c_twice_waits_for_nobody_and_leaves_nothing(typist, post, gone):
    shell = typist("-l", "web1")
    shell.expect("web1 (1)> ")
    shell.say("A=kept", "(1)> ")
    shell.child.sendline(
        f"trap 'echo term > {post}' TERM; sleep 1000 & echo $! > {post}; echo $$ > {post}; while :; do wait; done"
    )
    processes = post.processes(2)
    shell.child.sendintr()
    assert post.line() == "term"
    shell.child.sendintr()
    assert "not waited for: the agent kills the command" in shell.expect("nobody (0 of 1)> ")
    gone(processes)
    assert "kept" in shell.say("echo $A", "web1 (1)> ")
    assert shell.leave() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it(typist, number):
    shell = typist("-l", "web1")
    shell.expect("web1 (1)> ")
    shell.child.send("echo never")
    shell.expect("echo never")
    shell.child.kill(number)
    shell.child.expect(pexpect.EOF)
    shell.child.close()
    assert shell.child.exitstatus == 128 + number


def test_a_signal_ends_it_while_a_command_runs(typist, post, gone):
    shell = typist("-l", "web1")
    shell.expect("web1 (1)> ")
    shell.child.sendline(f"echo $$ > {post}; sleep 1000")
    processes = post.processes(1)
    shell.child.kill(signal.SIGTERM)
    shell.child.expect(pexpect.EOF)
    shell.child.close()
    assert shell.child.exitstatus == 143
    gone(processes)


def test_a_host_that_drops_is_named_and_comes_back(new_lab):
    lab = new_lab
    assert lab.fleet("init", "--name", "ops").code == 0
    assert lab.fleet("enroll", "one", "two", "-o", "enrolments").code == 0
    agents = [lab.agent(lab.folder / f"enrolments/{name}.enrol", lab.folder / name) for name in ("one", "two")]
    lab.inventory.write_text(
        "".join(
            f"{name} fleet_host=127.0.0.1 fleet_port={agent.port}\n"
            for name, agent in zip(("one", "two"), agents, strict=True)
        )
    )
    shell = Typist(lab)
    try:
        shell.expect("one,two (2)> ")
        shell.say("cd /usr; A=1; export B=2", "(2)> ")
        agents[0].stop(signal.SIGTERM)
        text = shell.say("echo $A$B; pwd", "two (1 of 2)> ")
        assert "one: dropped: the agent ended the connection: the agent stops\n" in text
        assert "one: unreachable: connection refused by 127.0.0.1:" in text
        assert shell.say("", "two (1 of 2)> ") == ""
        config = lab.folder / "one" / "agent.toml"
        config.write_text(config.read_text().replace('"127.0.0.1:0"', f'"127.0.0.1:{agents[0].port}"'))
        again = subprocess.Popen(
            [lab.program + "-agent", "serve", "--dir", str(lab.folder / "one")],
            env=lab.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            while b"listening" not in again.stderr.readline():
                pass
            text = shell.say("echo $A$B; pwd", "one,two (2)> ")
            assert "one,two (2)\n---------------\n12\n/usr\n2 ok of 2 hosts" in text
            assert text.endswith("one: back\n")
        finally:
            again.terminate()
            again.wait(60)
            again.stderr.close()
        assert shell.leave() == 0
    finally:
        shell.child.close(force=True)


def test_history_and_completion(typist, tmp_path):
    history = tmp_path / "fleet" / "history"
    shell = typist("-l", "good", env={"XDG_STATE_HOME": str(tmp_path)})
    shell.expect("(3)> ")
    shell.say("echo one", "(3)> ")
    shell.say("echo one", "(3)> ")
    shell.say(" echo secret", "(3)> ")
    shell.child.send("\x1b[A\r")
    assert "echo one" in shell.expect("(3)> ")
    shell.child.send(":lim\t")
    shell.expect(":limit ")
    shell.child.send("goo\t:!db1\r")
    shell.expect("web[1-2] (2)> ")
    assert shell.leave() == 0
    assert history.read_text() == "echo one\n:limit good:!db1\n"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    again = typist("-l", "web1", env={"XDG_STATE_HOME": str(tmp_path)})
    again.expect("(1)> ")
    again.child.send("\x1b[A\x1b[A\r")
    assert "\none\n" in again.expect("1 ok of 1 host")


def test_a_history_that_cannot_be_kept(typist, tmp_path):
    (tmp_path / "file").write_text("")
    shell = typist("-l", "web1", env={"XDG_STATE_HOME": str(tmp_path / "file")})
    assert f"fleet: history: {tmp_path}/file/fleet/history: not a directory\n" in shell.expect("web1 (1)> ")
    assert "one" in shell.say("echo one", "(1)> ")
    assert shell.leave() == 0


def test_a_prompt_beside_results_that_go_elsewhere(typist, lab, tmp_path):
    out = tmp_path / "out"
    child = pexpect.spawn(
        "/bin/sh",
        ["-c", f"exec {lab.program} shell -l web1 > {out}"],
        env=lab.environment(**NOBODY),
        timeout=60,
        encoding="utf-8",
    )
    child.expect_exact("web1 (1)> ")
    child.sendline("echo one\\")
    child.expect_exact("> ")
    child.sendline("two")
    child.expect_exact("web1 (1)> ")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert out.read_text() == block("web1", "onetwo")


def test_the_session_of_the_readme(typist, lab):
    shown = (Path(__file__).parents[2] / "README.md").read_text()
    (session,) = re.findall(r"^\$ fleet shell (.*?)^```$", shown, re.MULTILINE | re.DOTALL)
    options, *rest = session.splitlines()
    shell = typist(*options.split())
    text = "\n".join(rest)
    prompts = list(re.finditer(r"^(\S+ \(\d\)> )(.*)$", text, re.MULTILINE))
    assert shell.expect(prompts[0][1]) == text[: prompts[0].start()]
    for prompt, after in itertools.pairwise(prompts):
        said = re.sub(r"0\.\d\ds", "0.02s", shell.say(prompt[2], after[1]))
        assert said == text[prompt.end() + 1 : after.start()]
    shell.child.sendline(prompts[-1][2])
    shell.child.expect(pexpect.EOF)
    shell.child.close()
    assert shell.child.exitstatus == 0


def test_results_that_cannot_be_written_are_said_and_it_goes_on(lab):
    child = pexpect.spawn(
        "/bin/sh", ["-c", f"exec {lab.program} shell -l web1 > /dev/full"], env=lab.environment(**NOBODY), timeout=60
    )
    for _ in range(2):
        child.expect_exact("web1 (1)> ")
        child.sendline("echo one")
        child.expect_exact("fleet: output: cannot write standard output: No space left on device")
    child.expect_exact("web1 (1)> ")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3  # they are lost


def test_ctrl_c_while_it_connects(lab, tmp_path, end):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "hosts.ini").write_text(f"web1 fleet_host=127.0.0.1 fleet_port={silent.getsockname()[1]}\n")
        running = lab.start("shell", "-i", str(tmp_path / "hosts.ini"))
        connection = silent.accept()[0]
        running.send_signal(signal.SIGINT)
        done = end(running)
        connection.close()
    assert tuple(done) == (130, "", "web1: skipped: not started: the run was cancelled\n")


def test_ctrl_c_while_a_pipe_has_nothing_to_say(lab, end):
    reader, writer = os.pipe()
    with open(reader, "rb") as stdin:
        running = lab.start("shell", "-l", "web1", stdin=stdin)
        os.write(writer, b"echo one\n")
        assert running.stdout.readline() == b"-" * 15 + b"\n"
        assert [running.stdout.readline() for _ in range(3)][2] == b"one\n"
        assert running.stderr.readline().startswith(b"1 ok of 1 host in ")
        running.send_signal(signal.SIGINT)
        done = end(running)
    os.close(writer)
    assert (done.code, done.out, done.err) == (130, "", "")


def test_bytes_that_are_typed_reach_the_host(typist):
    shell = typist("-l", "web1", env={"LC_ALL": "C.UTF-8"})
    shell.expect("web1 (1)> ")
    shell.child.send("printf é | wc -c\r")
    assert "\n2\n" in shell.expect("web1 (1)> ")
    assert shell.leave() == 0


def test_colour(typist):
    shell = typist("-l", "web1", "--color", "always")
    shell.expect("web1 (1)> ")
    assert "\x1b[32m1 ok\x1b[0m of 1 host" in shell.say("echo one", "(1)> ")
    assert shell.leave() == 0
