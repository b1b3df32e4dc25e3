"""The options of `fleet push`, `pull` and `rollback`: what they become, and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.api import Fleet
from controller.cli.main import main
from controller.errors import FleetError
from controller.files import PullOptions, PushOptions

HOSTS = "web1\nweb2\n[db]\ndb1\n"


class StopHereError(FleetError):
    """Ends a command where it would begin to work."""

    def __init__(self) -> None:
        super().__init__("test", "stop")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("FLEET_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.ini").write_text(HOSTS)
    (tmp_path / "file").write_text("hello {host}\n")
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    """Run a command line; return what the fleet is asked for."""

    def ask(*arguments: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def note(self: Fleet, *args: Any, **how: Any) -> None:
            calls.append((args, how))
            raise StopHereError

        for name in ("push", "pull", "rollback"):
            monkeypatch.setattr(Fleet, name, note)
        assert main(arguments) == 2
        assert len(calls) == 1
        return calls[0]

    return ask


@pytest.fixture
def wrong(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that is wrong; return what is said of it."""

    def run(*arguments: str) -> str:
        capfd.readouterr()
        assert main(arguments) == 2
        out, err = capfd.readouterr()
        assert out == ""
        return err

    return run


Asked = Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]
Wrong = Callable[..., str]


# What the options become ----------------------------------------------------------------------------------------------


def test_push(asked: Asked) -> None:
    args, how = asked("push", "file", "other", "/etc/")
    assert args == (["file", "other"], "/etc/")
    assert how["options"] == PushOptions()
    assert (how["limit"], how["exclude"], how["timeout"], how["keep"]) == ((), (), None, False)


def test_push_with_everything(asked: Asked) -> None:
    args, how = asked(
        "push", "-l", "web1", "file", "/etc/x", "--mode", "0640", "--owner", "root", "--group", "33", "-p", "--backup",
        "--check", "--diff", "--validate", "nginx -t -c %s", "--delete", "--exclude", "*.log", "--exclude", "/tmp",
        "-L", "--quick", "--template", "--json", "-t", "5", "-x", "db",
    )  # fmt: skip
    assert args == (["file"], "/etc/x")
    assert how["options"] == PushOptions(
        mode=0o640,
        owner="root",
        group="33",
        preserve=True,
        backup="~",
        check=True,
        diff=True,
        validate="nginx -t -c %s",
        delete=True,
        exclude=["*.log", "/tmp"],
        quick=True,
        follow=True,
        template=True,
    )
    assert (how["limit"], how["exclude"], how["timeout"], how["keep"]) == (["web1"], ["db"], 5.0, True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--backup=.old", "file", "/x"], ".old"),
        (["--backup", "file", "/x"], "~"),
        (["file", "/x", "--backup"], "~"),
        (["file", "/x"], None),
    ],
)
def test_backup_takes_a_suffix_or_none(asked: Asked, arguments: list[str], expected: str | None) -> None:
    args, how = asked("push", *arguments)
    assert args == (["file"], "/x")
    assert how["options"].backup == expected


def test_what_follows_two_dashes_is_a_path(asked: Asked) -> None:
    args, how = asked("push", "--", "--backup", "/x")
    assert (args, how["options"].backup) == ((["--backup"], "/x"), None)


def test_pull(asked: Asked) -> None:
    args, how = asked("pull", "/var/log/*.log", "motd", "logs")
    assert args == (["/var/log/*.log", "motd"], "logs")
    assert how["options"] == PullOptions(max_files=1_000_000)


@pytest.mark.parametrize(
    ("text", "size"), [("500", 500), ("64K", 65536), ("2g", 2 << 30), ("1MiB", 1 << 20), ("3TB", 3 << 40)]
)
def test_pull_with_everything(asked: Asked, text: str, size: int) -> None:
    arguments = (
        "--flat",
        "-L",
        "-p",
        "--quick",
        "--exclude",
        "*.gz",
        "--max-size",
        text,
        "--max-files",
        "7",
        "--jsonl",
    )
    _, how = asked("pull", "/var/log", "logs", *arguments)
    assert how["options"] == PullOptions(
        flat=True, follow=True, preserve=True, quick=True, exclude=["*.gz"], max_size=size, max_files=7
    )
    assert how["keep"] is True


def test_rollback(asked: Asked) -> None:
    assert asked("rollback")[0] == (None,)
    args, how = asked("rollback", "20260101-000000-abcdef", "-l", "web1", "-x", "web2")
    assert (args, how["limit"], how["exclude"]) == (("20260101-000000-abcdef",), ["web1"], ["web2"])


def test_the_settings_have_a_timeout(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_TIMEOUT", "30")
    assert asked("push", "file", "/x")[1]["timeout"] == 30.0


@pytest.mark.parametrize("command", [["push", "file", "/x"], ["pull", "/x", "y"], ["rollback"]])
def test_list_hosts(command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "-x", "web2", "--list-hosts"]) == 0
    assert capfd.readouterr().out == "web1\ndb1\n"


# What is wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["push", "file"], "fleet: usage: push needs SRC and DEST\nhint: fleet push --help\n"),
        (["pull", "file"], "fleet: usage: pull needs REMOTE and LOCALDIR\nhint: fleet pull --help\n"),
        (["push", "", "/x"], "fleet: usage: '' is no path\nhint: fleet push --help\n"),
        (["push", "file", ""], "fleet: usage: '' is no path\nhint: fleet push --help\n"),
        (["push", "file", "/x", "--mode", "0999"], "fleet: --mode: '0999' is not an octal mode, such as 0644\n"),
        (["push", "file", "/x", "--mode", "u+x"], "fleet: --mode: 'u+x' is not an octal mode, such as 0644\n"),
        (["push", "file", "/x", "--mode", "17777"], "fleet: --mode: '17777' is not an octal mode, such as 0644\n"),
        (["push", "file", "/x", "--mode", ""], "fleet: --mode: '' is not an octal mode, such as 0644\n"),
        (["push", "file", "/x", "--owner", "a:b"], "fleet: --owner: 'a:b' is not a name or number\n"),
        (["push", "file", "/x", "--group", ""], "fleet: --group: '' is not a name or number\n"),
        (["push", "file", "/x", "--owner", "4294967295"], "fleet: --owner: '4294967295' is not in 0..4294967294\n"),
        (["push", "file", "/x", "--group", "-1"], "fleet: --group: '-1' is not in 0..4294967294\n"),
        (["push", "file", "/x", "--owner", "9" * 5000], f"fleet: --owner: '{'9' * 32}' is not in 0..4294967294\n"),
        (["push", "file", "/x", "--backup=../x"], "fleet: --backup: '../x' is not a suffix: it has a slash\n"),
        (
            ["push", "file", "/x", "--backup=\n"],
            "fleet: --backup: '\\n' is not a suffix: it has a control character\n",
        ),
        (
            ["push", "file", "/x", "--backup=.\x1b[2J"],
            "fleet: --backup: '.\\x1b[2J' is not a suffix: it has a control character\n",
        ),
        (["push", "file", "/x", "--backup="], "fleet: --backup: '' is not a suffix: it is empty\n"),
        (
            ["push", "file", "/x", "--validate", "true"],
            "fleet: --validate: no %s in 'true', which stands for the new file\n",
        ),
        (
            ["push", "file", "/x", "--delete"],
            "fleet: --delete: removes what a directory does not have, and no SRC is a directory\n",
        ),
        (["push", "nothing", "/x"], "fleet: nothing: no such file or directory\n"),
        (["push", "file", "/x", "-t", "0"], "fleet: --timeout: 0 is not more than 0 and at most 31536000 seconds\n"),
        (
            ["pull", "/x", "y", "--max-size", "10Q"],
            "fleet: --max-size: '10Q' is not a number of bytes, such as 500, 64K or 2G\n",
        ),
        (["pull", "/x", "y", "--max-size", "0"], f"fleet: --max-size: 0 is not in 1..{1 << 60} bytes\n"),
        (["pull", "/x", "y", "--max-files", "0"], f"fleet: --max-files: 0 is not in 1..{1 << 60} files\n"),
        (
            ["push", "file", "/x", "--json", "--format", "html"],
            "fleet: --format and --json: results can look only one way at a time\n",
        ),
        (["rollback", "-q", "--json"], "fleet: --quiet and --json: only a table can leave hosts out\n"),
        (["push", "file", "/x", "-l", "nobody"], "fleet: inventory: unknown host or group: 'nobody'\n"),
    ],
)
def test_what_is_wrong(wrong: Wrong, key: None, arguments: list[str], said: str) -> None:
    assert wrong(*arguments) == said


@pytest.fixture
def key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_KEY", str(home / "key"))
    assert main(["init", "--name", "ops"]) == 0


def test_an_unknown_format(wrong: Wrong) -> None:
    said = wrong("rollback", "--format", "grub")
    assert said.startswith("fleet: --format: unknown table format 'grub': choose one of ")


def test_excluded_hosts_and_files(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    _, how = asked("push", "file", "/x", "--exclude", "db*", "--exclude", "*.log", "-x", "web1")
    assert (how["options"].exclude, how["exclude"]) == (["*.log"], ["web1", "db*"])
    assert "fleet: --exclude db*: taken for hosts, as -x\n" in capsys.readouterr().err
    _, how = asked("pull", "/x", "here", "--exclude", "db1", "--exclude", "*.gz")
    assert (how["options"].exclude, how["exclude"]) == (["*.gz"], ["db1"])


def test_a_source_that_is_a_fifo(wrong: Wrong, key: None, home: Path) -> None:
    os.mkfifo(home / "fifo")
    said = "fleet: fifo: is a FIFO\nhint: files, directories and links can be pushed\n"
    assert wrong("push", "fifo", "/x") == said


def test_a_template_without_a_value_is_wrong_before_any_host_is_reached(wrong: Wrong, key: None, home: Path) -> None:
    (home / "hosts.ini").write_text("web1 listen=80\nweb2\n")
    (home / "file").write_text("{listen}\n")
    said = wrong("push", "--template", "file", "/x")
    assert said.startswith("fleet: file: ")
    assert "listen" in said
    assert "web2" in said


def test_a_local_folder_that_is_a_file(wrong: Wrong, key: None) -> None:
    assert wrong("pull", "/x", "file") == "fleet: file: file exists\n"


def test_a_remote_path_without_a_name(wrong: Wrong, key: None) -> None:
    assert wrong("pull", "/", "x") == (
        "fleet: REMOTE: no name at the end of '/'\nhint: name what is in it, or its directory with a pattern\n"
    )


def test_an_owner_that_no_message_can_hold(wrong: Wrong, key: None) -> None:
    assert wrong("push", "file", "x" * 5000) == (
        "fleet: push: destination of 5000 characters, expected no more than 4096\n"
    )
    assert wrong("pull", "x" * 5000, "y") == "fleet: pull: path of 5000 characters, expected no more than 4096\n"
