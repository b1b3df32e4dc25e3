"""What a command finds around it."""

from __future__ import annotations

import os
import pwd

import pytest

from agent import environment
from agent.environment import Account, account, clean_environment

ENTRY = ("www", "x", 33, 33, "", "/var/www", "/usr/sbin/nologin")


def test_account_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwnam", lambda name: pwd.struct_passwd(ENTRY))
    assert account("www") == Account("www", "/var/www", "/usr/sbin/nologin")


def test_account_without_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwnam", lambda name: pwd.struct_passwd((*ENTRY[:6], "")))
    assert account("www").shell == "/bin/sh"


@pytest.mark.parametrize("name", ["nobody-has-this-name", "", "a\nb", "u" * 10000, "\udcff"])
def test_account_that_nobody_has(name: str) -> None:
    with pytest.raises(KeyError):
        account(name)


def test_our_own_account() -> None:
    entry = pwd.getpwuid(os.geteuid())
    assert account() == Account(entry.pw_name, entry.pw_dir, entry.pw_shell or "/bin/sh")


def test_own_account_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run the agent as a number that /etc/passwd does not know."""
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert account() == Account("54321", "/", "/bin/sh")


def test_a_command_starts_at_home_or_at_the_root(tmp_path: object) -> None:
    assert Account("www", str(tmp_path), "/bin/sh").directory == str(tmp_path)
    assert Account("www", f"{tmp_path}/missing", "/bin/sh").directory == "/"


def test_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started the agent may have had secrets around."""
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("PATH", "/tmp")
    who = Account("www", "/var/www", "/bin/bash")
    assert clean_environment(who, host="web1", run="r1", extra={}) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/var/www",
        "USER": "www",
        "LOGNAME": "www",
        "SHELL": "/bin/bash",
        "LANG": "de_DE.UTF-8",
        "FLEET_HOST": "web1",
        "FLEET_RUN": "r1",
    }


@pytest.mark.parametrize("value", ["", None])
def test_language_of_an_agent_without_one(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("LANG", raising=False)
    if value is not None:
        monkeypatch.setenv("LANG", value)
    assert clean_environment(account(), host="", run="", extra={})["LANG"] == "C.UTF-8"


def test_what_the_controller_adds_wins() -> None:
    extra = {"PATH": "/opt/bin", "A": "1"}
    result = clean_environment(account(), host="web1", run="r1", extra=extra)
    assert {name: result[name] for name in extra} == extra
    assert set(result) == {*environment.clean_environment(account(), host="", run="", extra={}), "A"}


def test_a_command_on_a_terminal_knows_its_kind() -> None:
    plain = clean_environment(account(), host="", run="", extra={})
    assert clean_environment(account(), host="", run="", extra={}, terminal="xterm") == {**plain, "TERM": "xterm"}
    assert clean_environment(account(), host="", run="", extra={"TERM": "dumb"}, terminal="xterm")["TERM"] == "dumb"
