"""Mistakes of the user's: each has one sentence, exit code 2, no output and no traceback; nothing is run."""

from __future__ import annotations

import os

import pytest

HUGE = "9" * 400  # no float is so large


def refused(done, what, hint=None):
    """Check that `done` is the error `what`, perhaps with a hint, and nothing else."""
    expected = f"fleet: {what}\n" + (f"hint: {hint}\n" if hint else "")
    assert (done.code, done.out, done.err) == (2, "", expected)


# The inventory


def test_no_inventory(lab, tmp_path):
    for command in (["run", "true"], ["ping"], ["hosts"]):
        done = lab.fleet(*command, cwd=tmp_path, env={"FLEET_INVENTORY": None})
        refused(done, "inventory: there is no hosts.ini here", "name an inventory with -i, or hosts with -w")


def test_an_inventory_that_is_not_there(lab):
    done = lab.fleet("run", "-i", "nowhere.ini", "true")
    assert (done.code, done.out) == (2, "")
    assert done.err == "fleet: nowhere.ini: cannot be read (no such file or directory)\n"


def test_an_inventory_that_cannot_be_read(lab):
    done = lab.fleet("run", "-i", "/proc/self/mem", "true")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fleet: /proc/self/mem: ")
    assert "Traceback" not in done.err


def test_an_inventory_that_is_not_utf_8(lab, tmp_path):
    (tmp_path / "hosts.ini").write_bytes(b"web1\nweb\xff2\n")
    done = lab.fleet("run", "-i", "hosts.ini", "true", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err == "fleet: hosts.ini:2: expected UTF-8, found the byte 0xff at column 4\n"


def test_a_syntax_error_names_file_line_and_text(lab, tmp_path):
    (tmp_path / "hosts.ini").write_text("web1\n\n[web\nweb2\n")
    done = lab.fleet("run", "-i", "hosts.ini", "true", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fleet: hosts.ini:3: ")
    assert "'[web'" in done.err


@pytest.mark.parametrize("port", ["0", "65536", "-1", "ssh", "1e3"])
def test_a_port_out_of_range_in_the_inventory(lab, tmp_path, port):
    (tmp_path / "hosts.ini").write_text(f"web0\nweb1 fleet_port={port}\n")
    done = lab.fleet("run", "-i", "hosts.ini", "true", cwd=tmp_path)
    refused(done, f"hosts.ini:2: fleet_port must be a number from 1 to 65535: '{port}'")


def test_a_host_name_with_control_characters(lab, tmp_path):
    (tmp_path / "hosts.ini").write_text("web1\nweb\x1b]0;x\x07\n")
    done = lab.fleet("run", "-i", "hosts.ini", "true", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fleet: hosts.ini:2: ")
    assert "\x1b" not in done.err
    direct = lab.fleet("run", "-w", "web\x1b[2J", "true")
    assert (direct.code, direct.out) == (2, "")
    assert direct.err.startswith("fleet: inventory: ")
    assert "\x1b" not in direct.err


def test_no_host_matches(lab):
    done = lab.fleet("run", "-l", "wbe1", "true")
    refused(done, "inventory: unknown host or group: 'wbe1'", "did you mean 'web1'?")
    assert lab.fleet("ping", "-x", "all").code == 2
    assert lab.fleet("hosts", "-l", "web:!web").code == 2


def test_an_empty_inventory(lab, tmp_path):
    (tmp_path / "hosts.ini").write_text("# nobody\n")
    done = lab.fleet("run", "true", cwd=tmp_path, env={"FLEET_INVENTORY": None})
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fleet: inventory: ")


# Numbers


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        *(("--fanout", value, f"{value} is not in 1..100000 hosts") for value in ("0", "-1", "100001", HUGE)),
        *(("--port", value, f"{value} is not in 1..65535") for value in ("0", "-1", "65536", HUGE)),
        *(
            (option, value, f"{shown} is not more than 0 and at most 31536000 seconds")
            for option in ("--timeout", "--connect-timeout")
            for value, shown in (
                ("0", "0"),
                ("-1", "-1"),
                ("1e300", "1e+300"),
                (HUGE, "inf"),
                ("inf", "inf"),
                ("nan", "nan"),
            )
        ),
        *(
            ("--max-output", value, f"{value} is not in 0..1099511627776 bytes")
            for value in ("-1", str(2**40 + 1), HUGE)
        ),
    ],
)
def test_numbers_out_of_range(lab, option, value, why):
    refused(lab.fleet("run", option, value, "-l", "gone", "true"), f"{option}: {why}")


@pytest.mark.parametrize("option", ["--fanout", "--port"])
def test_what_is_no_whole_number(lab, option):
    for value in ("x", "1.5", ""):
        done = lab.fleet("run", option, value, "-l", "gone", "true")
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("fleet: usage: invalid value for '")
        assert done.err.endswith("hint: fleet run --help\n")


@pytest.mark.parametrize("value", ["x", "1.5", "", "1P", "K", "1 K"])
def test_what_is_no_number_of_bytes(lab, value):
    why = f"{value!r} is not a number of bytes, such as 500, 64K or 2G"
    refused(lab.fleet("run", "--max-output", value, "-l", "gone", "true"), f"--max-output: {why}")


def test_the_largest_numbers_work(lab):
    huge = ["-f", "100000", "--connect-timeout", "31536000", "-t", "31536000", "--max-output", str(2**40)]
    assert lab.fleet("run", *huge, "-l", "web1", "true").code == 0


def test_demo_counts(lab):
    for value in ("0", "-1", "101"):
        refused(lab.fleet("demo", "-n", value), f"-n: {value} is not in 1..100")


# The command


@pytest.mark.parametrize("command", [[""], ["  \n\t"], ["", ""]])
def test_an_empty_command(lab, command):
    refused(lab.fleet("run", "-l", "web1", *command), "command: is empty")
    refused(lab.fleet("demo", *command), "command: is empty")


def test_usage(lab):
    refused(lab.fleet(), "usage: missing command", "fleet --help")
    refused(lab.fleet("rnu"), "usage: no such command 'rnu'. Did you mean 'run'?", "fleet --help")
    refused(lab.fleet("run", "-l", "web1"), "usage: missing argument 'COMMAND...'", "fleet run --help")
    refused(lab.fleet("run", "--zzz", "true"), "usage: no such option: --zzz", "fleet run --help")
    refused(lab.fleet("ping", "web1"), "usage: got unexpected extra argument(s) (web1)", "fleet ping --help")


def test_usage_errors_are_harmless(lab):
    done = lab.fleet("run", "--\x1b[2J", "true")
    assert done.code == 2
    assert "\x1b" not in done.err


def test_help(lab):
    for command in ([], ["run"], ["ping"], ["hosts"], ["init"], ["enroll"], ["demo"]):
        done = lab.fleet(*command, "--help")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"Usage: fleet {' '.join(command)}".rstrip())


def test_help_that_nobody_reads_ends_quietly(lab):
    for words in ("--help", "run --help", "--nosuch"):
        reading, writing = os.pipe()
        os.close(reading)
        done = lab.start(*words.split(), stdout=writing)
        os.close(writing)
        _, err = done.communicate(timeout=60)
        expected = (2, b"fleet: usage: no such option: --nosuch\nhint: fleet --help\n")
        assert (done.returncode, err) == (expected if words == "--nosuch" else (141, b""))


def test_messages_that_find_no_room_cost_no_result(lab):
    with open("/dev/full", "wb") as full:
        done = lab.start("run", "-l", "web1", "echo hello", stderr=full)
        out, _ = done.communicate(timeout=60)
    assert done.returncode == 3
    assert b"hello" in out


# The key and the registry


def test_a_key_that_is_missing(lab, tmp_path):
    path = str(tmp_path / "key")
    for command in (["run", "--key", path, "-l", "web1", "true"], ["ping", "--key", path]):
        refused(lab.fleet(*command), f"{path}: there is no such file", "fleet init")
    done = lab.fleet("run", "-l", "web1", "true", env={"FLEET_KEY": None, "XDG_CONFIG_HOME": str(tmp_path)})
    refused(done, f"{tmp_path}/fleet/key: there is no such file", "fleet init")


def test_a_key_that_others_can_read(lab, tmp_path):
    path = tmp_path / "key"
    path.write_bytes(lab.key.read_bytes())
    os.chmod(path, 0o640)
    done = lab.fleet("run", "--key", str(path), "-l", "web1", "true")
    refused(done, f"{path}: is open to its group or others (mode 0640)", f"chmod 600 {path}")


def test_a_key_of_the_wrong_length(lab, tmp_path):
    path = tmp_path / "key"
    path.write_text("fleet-key-1 ops 00ff\n")
    os.chmod(path, 0o600)
    refused(
        lab.fleet("run", "--key", str(path), "-l", "web1", "true"), f"{path}: holds 4 hexadecimal digits, expected 64"
    )


def test_a_registry_that_is_spoilt(lab, tmp_path):
    path = tmp_path / "enrolled.json"
    path.write_text("{")
    for command in (["run", "true"], ["ping"]):
        done = lab.fleet(command[0], "--registry", str(path), "-l", "web1", *command[1:])
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"fleet: {path}: ")
        assert "\nhint: restore it from a backup" in done.err


def test_another_registry_can_be_named(lab, tmp_path):
    empty = str(tmp_path / "none.json")
    for done in (
        lab.fleet("ping", "--json", "--registry", empty, "-l", "web1"),
        lab.fleet("ping", "--json", "-l", "web1", env={"FLEET_REGISTRY": empty}),
    ):
        assert (done.code, done.json["results"][0]["error"]) == (4, "not enrolled: mend with: fleet enroll web1")


def test_a_pool_that_is_not_enrolled(lab, tmp_path):
    (tmp_path / "hosts.ini").write_text("web1 fleet_pool=others\n")
    done = lab.fleet("run", "--json", "-i", str(tmp_path / "hosts.ini"), "true")
    assert (done.code, done.json["results"][0]["status"], done.json["results"][0]["error"]) == (
        4, "denied", "not enrolled: no pool 'others' in the registry; mend with: fleet enroll --pool others"
    )  # fmt: skip


# Where output goes


def test_an_output_dir_that_cannot_be_made(lab, tmp_path):
    (tmp_path / "file").write_text("")
    done = lab.fleet("run", "-o", str(tmp_path / "file/below"), "-l", "web1", f"touch {tmp_path}/ran")
    refused(done, f"--output-dir: cannot write {tmp_path}/file/below: Not a directory")
    assert not (tmp_path / "ran").exists()


def test_an_output_dir_that_cannot_be_written(lab):
    done = lab.fleet("run", "-o", "/proc/fleet", "-l", "web1", "true")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fleet: --output-dir: cannot write /proc/fleet: ")


def test_an_output_dir_that_is_full(lab, tmp_path, post, gone, end):
    folder = tmp_path / "out"
    folder.mkdir()
    os.symlink("/dev/full", folder / "web1.stdout")  # links are not followed, which fails as well as a full disk does
    running = lab.start("run", "-o", str(folder), "-l", "web1", f"echo $$ > {post}; echo hello; exec sleep 1000")
    done = end(running)
    assert done.code == 3
    assert (
        done.err.splitlines()[-1]
        == f"fleet: output: cannot write {folder}/web1.stdout: Too many levels of symbolic links"
    )
    assert done.out.splitlines()[1].startswith("web1    cancelled")


# Settings


def test_a_config_file_is_used_and_its_mistakes_are_shown(lab, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(f'inventory = "{lab.inventory}"\n')
    env = {"FLEET_INVENTORY": None, "FLEET_CONFIG": str(path)}
    assert lab.fleet("hosts", "-l", "web1", "--fold", env=env, cwd=tmp_path).out == "web1\n"
    path.write_text("fanout = 3\n\nconect_timeout = 3\n")
    refused(
        lab.fleet("run", "true", env=env),
        f"{path}:3: unknown key 'conect_timeout'",
        "did you mean 'connect_timeout'?",
    )
    path.unlink()
    refused(lab.fleet("hosts", env=env), f"{path}: there is no such file", "FLEET_CONFIG names it")


def test_an_environment_variable_with_nonsense(lab):
    refused(lab.fleet("run", "true", env={"FLEET_FANOUT": "many"}), "FLEET_FANOUT: 'many' is not a whole number")
    refused(lab.fleet("ping", env={"FLEET_PORT": "0"}), "FLEET_PORT: 0 is not in 1..65535")


def test_a_bug_of_ours_is_one_line_with_1_and_a_traceback_on_demand(lab, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import controller.settings\n"
        "def load_settings(environ):\n    raise ZeroDivisionError('a\\x1bbug')\n"
        "controller.settings.load_settings = load_settings\n"
    )
    env = {"PYTHONPATH": str(tmp_path)}
    done = lab.fleet("hosts", env=env)
    assert tuple(done) == (
        1, "", "fleet: bug: ZeroDivisionError: a\\x1bbug\nhint: FLEET_DEBUG=1 shows where; please report it\n"
    )  # fmt: skip
    shown = lab.fleet("hosts", env={**env, "FLEET_DEBUG": "1"})
    assert shown.code == 1
    assert shown.err.startswith("Traceback (most recent call last):\n")
