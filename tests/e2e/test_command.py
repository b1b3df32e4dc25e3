"""What a command sees, how its arguments reach it, and how its end is reported."""

from __future__ import annotations

import os
import pwd
import signal

import pytest

# Neither can be caught nor ignored, or stops the process in place of ending it, or is ignored by default.
_NOT_DEADLY = {
    signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGCHLD, signal.SIGURG,
    signal.SIGWINCH,
}  # fmt: skip
DEADLY = sorted(set(signal.Signals) - _NOT_DEADLY - {signal.SIGRTMIN, signal.SIGRTMAX})


def raw(lab, *arguments, **options):
    return lab.fleet("run", "--raw", "-l", "web1", *arguments, **options)


# What it sees


def test_environment_is_exactly_the_documented_one(lab):
    done = raw(lab, "-e", "ANSWER=a=b c", "-e", "EMPTY=", "exec env -0")
    seen = dict(pair.split("=", 1) for pair in done.stdout.decode().split("\0")[:-1])
    who = pwd.getpwuid(os.geteuid())
    run = seen.pop("FLEET_RUN")
    shell_added = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert {name: value for name, value in seen.items() if name not in shell_added} == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": who.pw_dir, "USER": who.pw_name, "LOGNAME": who.pw_name, "SHELL": who.pw_shell, "LANG": "C.UTF-8",
        "FLEET_HOST": "web1", "ANSWER": "a=b c", "EMPTY": "",
    }  # fmt: skip
    assert run


def test_fleet_run_is_the_id_of_the_run_on_every_host(lab):
    document = lab.fleet("run", "--json", "-l", "good", "echo $FLEET_RUN").json
    assert {result["stdout"] for result in document["results"]} == {document["run"]["id"] + "\n"}


def test_an_environment_option_wins(lab):
    assert raw(lab, "-e", "LANG=xx", "-e", "PATH=/bin", "echo $LANG $PATH").out == "xx /bin\n"


@pytest.mark.parametrize("pair", ["NAME", "=value", ""])
def test_an_environment_option_without_name_or_value(lab, pair):
    assert tuple(raw(lab, "-e", pair, "true")) == (2, "", f"fleet: --env: {pair!r} is not K=V\n")


def test_it_starts_at_home(lab):
    assert raw(lab, "pwd").out == pwd.getpwuid(os.geteuid()).pw_dir + "\n"


def test_chdir(lab, tmp_path):
    assert raw(lab, "--chdir", str(tmp_path), "pwd").out == f"{tmp_path}\n"


def test_chdir_to_nowhere_is_failed_without_a_code(lab):
    (result,) = lab.fleet("run", "--json", "--chdir", "/no/such", "-l", "web1", "true").json["results"]
    assert (result["status"], result["rc"], result["signal"]) == ("failed", None, None)
    assert result["error"] == "no such directory: /no/such"


def test_standard_input_is_empty(lab):
    assert tuple(raw(lab, "cat; echo over")) == (0, "over\n", "")


def test_it_has_its_name_in_the_inventory(lab):
    done = lab.fleet("run", "--stream", "-l", "good", "echo $FLEET_HOST")
    assert sorted(done.out.splitlines()) == ["db1: db1", "web1: web1", "web2: web2"]


# How it gets there


def test_several_arguments_are_joined_with_spaces(lab):
    assert raw(lab, "echo", "a", ";", "echo", "b  c").out == "a\nb c\n"


def test_one_argument_is_untouched(lab):
    assert tuple(raw(lab, "-S", "echo 'a  b' \"$((1 + 1))\" | tr a A\n# a comment\nexit 3")) == (3, "A  b 2\n", "")


def test_options_end_where_the_command_begins(lab):
    assert raw(lab, "echo", "-l", "--json", "-h").out == "-l --json -h\n"
    assert raw(lab, "--", "echo", "--raw").out == "--raw\n"


def test_bytes_that_are_no_text_reach_the_shell(lab):
    assert raw(lab, b"printf %s 'a\xff\xc3\xa9'").stdout == b"a\xff\xc3\xa9"
    assert raw(lab, "-e", b"X=\xfe", "printf %s $X").stdout == b"\xfe"


def test_template_fills_in_inventory_variables(lab, tmp_path):
    port = lab.agents[0].port
    (tmp_path / "hosts.ini").write_text(f"web1 fleet_host=127.0.0.1 fleet_port={port} role=front\n")
    arguments = ["run", "-i", str(tmp_path / "hosts.ini")]
    assert lab.fleet(*arguments, "--raw", "--template", "echo {host} {role}").out == "web1 front\n"
    assert lab.fleet(*arguments, "--raw", "echo {host}").out == "{host}\n"
    assert lab.fleet(*arguments, "--dry-run", "--template", "echo {host} {role}").out == "web1: echo web1 front\n"
    missing = lab.fleet(*arguments, "--template", "echo {nope}")
    assert (missing.code, missing.out) == (2, "")
    assert missing.err.startswith("fleet: template: web1: ")


# How its end is told


@pytest.mark.parametrize("code", [0, 1, 4, 5, 44, 126, 127, 130, 255])
def test_exit_codes_are_exact(lab, code):
    (result,) = lab.fleet("run", "--json", "-l", "web1", f"exit {code}").json["results"]
    assert (result["rc"], result["signal"]) == (code, None)
    assert result["status"] == ("failed" if code else "ok")


def test_every_deadly_signal_is_named(lab, tmp_path):
    # One host name each, so that one run tries them all.
    port = lab.agents[1].port
    names = [f"s{number}" for number in DEADLY]
    (tmp_path / "hosts.ini").write_text(
        "[all:vars]\nfleet_host=127.0.0.1\nfleet_pool=many\n[signals]\n"
        + "".join(f"{name} fleet_port={port}\n" for name in names)
    )
    command = "ulimit -c 0; kill -${FLEET_HOST#s} $$; sleep 1000"
    document = lab.fleet("run", "--json", "-i", str(tmp_path / "hosts.ini"), command).json
    assert {result["host"]: (result["status"], result["rc"], result["signal"]) for result in document["results"]} == {
        f"s{number}": ("failed", None, number.name) for number in DEADLY
    }


def test_a_command_that_closes_its_output_early_is_waited_for(lab):
    done = lab.fleet("run", "--json", "-l", "web1", "echo before; exec >&- 2>&-; sleep 0.2; exit 6")
    (result,) = done.json["results"]
    assert (result["rc"], result["stdout"], result["stdout_bytes"]) == (6, "before\n", 7)
    assert result["elapsed"] >= 0.2


def test_a_background_process_does_not_hold_the_run(lab, post, gone):
    done = lab.fleet("run", "-l", "web1", f"sleep 100 & echo $! > {post}; echo started")
    (left,) = post.processes(1)
    assert tuple(done) == (
        0,
        "HOST    STATUS    RC    TIME    OUTPUT\n"
        "web1    ok        0     0.00s   started\n"
        "                                [note: a background process still holds the output]\n",
        "1 ok of 1 host in 0.00s\n",
    )
    assert lab.fleet("run", "-l", "web1", "true").code == 0
    # It lives on: it was started to.
    signal.pidfd_send_signal(left, signal.SIGKILL)
    gone([left])


def test_a_background_process_without_the_pipes_leaves_no_note(lab, post, gone):
    done = lab.fleet("run", "--json", "-l", "web1", f"sleep 100 > /dev/null 2>&1 & echo $! > {post}")
    (left,) = post.processes(1)
    (result,) = done.json["results"]
    assert (result["status"], result["rc"], result.get("note")) == ("ok", 0, None)
    signal.pidfd_send_signal(left, signal.SIGKILL)
    gone([left])


def test_a_command_longer_than_the_kernel_takes_has_failed_without_a_code(lab):
    half = "x" * (65 * 1024)
    document = lab.fleet("run", "--json", "-l", "web1", f": {half}", half).json
    (result,) = document["results"]
    assert (result["status"], result["rc"]) == ("failed", None)
    length = 2 * len(half) + 3
    assert result["error"] == f"command too long: {length} bytes, the kernel takes at most 131071"
    assert document["run"]["exit_code"] == 5


def test_the_longest_command_works(lab):
    text = ": " + "x" * (131071 - 2)
    assert lab.fleet("run", "-q", "-l", "web1", text).code == 0


def test_an_environment_that_no_message_has_room_for_has_failed_without_a_code(lab):
    pairs = [part for number in range(11) for part in ("-e", f"V{number}={'x' * 100_000}")]
    (result,) = lab.fleet("run", "--json", *pairs, "-l", "web1", "true").json["results"]
    assert (result["status"], result["rc"]) == ("failed", None)
    assert result["error"].startswith("cannot be sent: Run of 11")
    assert result["error"].endswith(" bytes, expected no more than 1048576")


def test_a_controller_that_may_not_run_is_denied(new_lab):
    lab = new_lab
    lab.fleet("init", "--name", "ops")
    lab.fleet("enroll", "web1", "-o", ".")
    rights = "\n[controllers.ops]\npermissions = []\n"
    lab.agent(lab.folder / "web1.enrol", lab.folder / "agent", settings=rights)
    lab.inventory.write_text(f"web1 fleet_host=127.0.0.1 fleet_port={lab.agents[0].port}\n")
    assert tuple(lab.fleet("run", "true")) == (
        4,
        "HOST    STATUS    RC    TIME    OUTPUT\n"
        "web1    denied    -     0.00s   [error: controller ops may not run commands on this host]\n",
        "1 denied of 1 host in 0.00s\n",
    )
    assert lab.fleet("ping").code == 0
