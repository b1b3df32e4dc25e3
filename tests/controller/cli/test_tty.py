"""`--tty` and `shell`: what they refuse before any host is reached."""

from __future__ import annotations

import pytest

from controller.cli.main import main


@pytest.fixture
def fleet(tmp_path, monkeypatch, capfd):
    """Return a function that runs `fleet` where standard input is no terminal, with three hosts."""
    (tmp_path / "hosts.ini").write_text("[good]\nweb1\nweb2\ndb1\n")
    monkeypatch.chdir(tmp_path)
    for name in ("FLEET_INVENTORY", "FLEET_KEY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def fleet(*arguments):
        code = main(arguments)
        return (code, *capfd.readouterr())

    return fleet


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "--tty", "-l", "web1", "true"], "fleet: --tty: standard input is no terminal\n"),
        (["shell", "web1"], "fleet: shell: standard input is no terminal\n"),
        (
            ["run", "--tty", "-l", "good", "true"],
            "fleet: --tty: is for one host, and 3 hosts match\nhint: choose one: -l HOST\n",
        ),
        (["shell", "good"], "fleet: shell: is for one host, and 3 hosts match\n"),
        (
            ["run", "--tty", "-l", "web1", "--stdin", "/dev/null", "true"],
            "fleet: --tty and --stdin: the input of a terminal is what is typed at it\n",
        ),
        (
            ["run", "--tty", "-l", "web1", "--script", "/bin/ls"],
            "fleet: --tty and --script: a script gets no terminal\nhint: push it, then run it with --tty\n",
        ),
        (
            ["run", "--tty", "-o", "out", "-l", "web1", "true"],
            "fleet: --tty and --output-dir: what a terminal shows is not kept\n",
        ),
        (
            ["run", "--tty", "--max-output", "10", "-l", "web1", "true"],
            "fleet: --tty and --max-output: what a terminal shows is not kept\n",
        ),
        (["run", "--tty", "-q", "-l", "web1", "true"], "fleet: --quiet and --tty: only a table can leave hosts out\n"),
        (
            ["run", "--tty", "--format", "github", "-l", "web1", "true"],
            "fleet: --format and --tty: results can look only one way at a time\n",
        ),
        (["run", "--tty", "--sort", "A", "-l", "web1", "true"], "fleet: --sort: is for --columns\n"),
        *[
            (
                ["run", "--tty", option, "-l", "web1", "true"],
                f"fleet: --tty and {option}: results can look only one way at a time\n",
            )
            for option in ("--raw", "--stream", "--json", "--jsonl", "--fold", "--diff", "--columns")
        ],
    ],
)
def test_what_does_not_go_together(fleet, arguments, text):
    assert fleet(*arguments) == (2, "", text)


def test_an_unknown_host_is_said_as_elsewhere(fleet):
    shell, run = fleet("shell", "nowhere"), fleet("run", "-l", "nowhere", "true")
    assert shell == run
    assert shell[0] == 2 and "nowhere" in shell[2]


def test_the_hosts_of_a_shell_can_be_listed(fleet):
    assert fleet("shell", "--list-hosts", "good", "-x", "db1") == (0, "web1\nweb2\n", "")


def test_nothing_is_reached_to_show_what_would_be_run(fleet):
    assert fleet("run", "--tty", "--dry-run", "-l", "web1", "top") == (0, "web1: top\n", "")
