"""Inventory scripts: failures, limits, what they leave behind."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inventory import InventoryError, load, origins
from inventory.scripts import NotExecutableError, Script

Write = Callable[..., str]


def script(write: Write, text: str, name: str = "inv.sh") -> str:
    return write(f"#!/bin/sh\n{text}\n", name, 0o755)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("exit 3", "--list: exit status 3, expected 0"),
        ("echo '{}'; exit 1", "--list: exit status 1, expected 0"),
        ("kill -KILL $$", "--list: killed by SIGKILL"),
        ("echo oops", "--list: not JSON (expecting value at line 1)"),
        ("true", "--list: not JSON (expecting value at line 1)"),
        ("echo '{\"a\":'", "--list: not JSON (expecting value at line 2)"),
        ("echo '[]'", "--list: expected an object of groups, found a list"),
        ("printf '{\"a\": \"\\377\"}'", "--list: expected UTF-8, found the byte 0xff at offset 7"),
        ('[ $1 = --list ] && echo \'{"g": ["a"]}\' || exit 4', "--host a: exit status 4, expected 0"),
        ('[ $1 = --list ] && echo \'{"g": ["a"]}\' || echo []', "--host a: expected an object of variables"),
        ('[ $1 = --list ] && echo \'{"g": ["a"]}\' || echo {', "--host a: not JSON (expecting property name enclosed "
         "in double quotes at line 2)"),
        ('[ $1 = --list ] && echo \'{"g": ["a"]}\' || echo \'{"fleet_port": 0}\'',
         "--list: fleet_port must be a number from 1 to 65535: '0'"),
    ],
)  # fmt: skip
def test_failures(text: str, error: str, write: Write) -> None:
    path = script(write, text)
    with pytest.raises(InventoryError) as caught:
        load([path], warn=lambda text: None)
    assert str(caught.value) == f"{path} {error}"


def test_what_it_says_on_stderr_is_shown(write: Write, warnings: list[str]) -> None:
    path = script(write, "printf 'one\\033[31m\\ntwo\\377\\n' >&2; echo '{}'")
    load([path], warn=warnings.append)
    assert warnings == [f"{path}: one\\x1b[31m", f"{path}: two\\xff"]


def test_it_is_shown_when_the_script_fails_too(write: Write, warnings: list[str]) -> None:
    path = script(write, "echo no credentials >&2; exit 1")
    with pytest.raises(InventoryError) as caught:
        load([path], warn=warnings.append)
    assert warnings == [f"{path}: no credentials"]
    assert caught.value.hint == "run it by hand to see what it needs"


def test_no_more_of_it_than_is_of_use(write: Write, warnings: list[str]) -> None:
    path = script(write, "i=0; while [ $i -lt 25 ]; do echo $i >&2; i=$((i+1)); done; echo '{}'")
    load([path], warn=warnings.append)
    assert len(warnings) == 21
    assert warnings[-1] == f"{path}: and 5 lines more"


def test_much_on_stderr_does_not_stop_it(write: Write, warnings: list[str]) -> None:
    path = script(write, "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo '{}'")
    load([path], warn=warnings.append)
    assert warnings == [f"{path}: {'x' * 65536}"]


def hanging(path: Path) -> str:
    return f"sleep 600 & echo $! > {path}; wait"


def dies(pid: int) -> bool:
    """Wait until a process is gone, which after a SIGKILL is at once; tell whether it is."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 30)[0])
    finally:
        os.close(descriptor)


def test_one_that_never_ends_is_killed_with_all_it_started(write: Write, tmp_path: Path) -> None:
    child = tmp_path / "pid"
    path = script(write, hanging(child))
    with pytest.raises(InventoryError) as caught:
        load([path], warn=lambda text: None, script_seconds=0.5)
    assert str(caught.value) == f"{path} --list: not done after 0.5 seconds"
    assert dies(int(child.read_text()))


def test_one_that_closes_its_output_and_goes_on(write: Write) -> None:
    path = script(write, "exec >&- 2>&-; exec sleep 600")
    with pytest.raises(InventoryError, match=r"--list: not done after 0\.3 seconds$"):
        load([path], warn=lambda text: None, script_seconds=0.3)


def test_all_calls_share_one_limit(write: Write) -> None:
    path = script(write, '[ $1 = --list ] && echo \'{"g": ["a", "b"]}\' || exec sleep 600')
    with pytest.raises(InventoryError, match=r"--host a: not done after 0\.5 seconds$"):
        load([path], warn=lambda text: None, script_seconds=0.5)


def test_no_time_is_left(write: Write) -> None:
    times: Iterator[float] = iter([0.0, 99.0])
    path = script(write, "echo '{}'")
    with pytest.raises(InventoryError, match=r"--list: not done after 5 seconds$"):
        Script(path, lambda text: None, 5, clock=lambda: next(times)).list()


def test_endless_output_is_cut_off(write: Write) -> None:
    path = script(write, "exec yes")
    with pytest.raises(InventoryError, match=r"--list: printed more than the limit of 100000 bytes$"):
        Script(path, lambda text: None, 60, limit=100_000).list()


def test_what_it_left_behind_is_not_waited_for(write: Write, tmp_path: Path) -> None:
    """A script that starts a helper: its output ends when it ends, not when the helper lets go of the pipe."""
    child = tmp_path / "pid"
    path = script(write, f'sleep 600 & echo $! > {child}; echo \'{{"g": ["a"], "_meta": {{"hostvars": {{}}}}}}\'')
    try:
        assert load([path], warn=lambda text: None).names == ("a",)
    finally:
        os.kill(int(child.read_text()), 9)


def test_no_input_to_wait_for(write: Write) -> None:
    path = script(write, "cat; echo '{}'")
    assert load([path], warn=lambda text: None).names == ()


def test_it_is_run_by_its_absolute_path(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(write, 'echo "{\\"g\\": [\\"$(basename $0)\\"], \\"_meta\\": {\\"hostvars\\": {}}}"', "named")
    monkeypatch.chdir(tmp_path)
    assert load(["named"], warn=lambda text: None).names == ("named",)


def test_an_interpreter_that_is_not_there(write: Write) -> None:
    path = write("#!/no/such/interpreter\n", "inv", 0o755)
    with pytest.raises(InventoryError, match=r"inv: cannot be run \(no such file or directory\)$"):
        load([path], warn=lambda text: None)


def test_an_executable_that_is_none(write: Write) -> None:
    path = write('{"g": ["a"]}', "inv.json", 0o755)
    with pytest.raises(NotExecutableError):
        Script(path, lambda text: None, 5).list()
    assert load([path], warn=lambda text: None).names == ("a",)


def test_places_name_the_script(write: Write) -> None:
    path = script(write, 'echo \'{"g": {"hosts": ["a"], "vars": {"x": 1}}, "_meta": {"hostvars": {}}}\'')
    assert origins(load([path], warn=lambda text: None), "a") == [("x", 1, f"{path} --list")]


def test_a_byte_order_mark(write: Write) -> None:
    path = script(write, "printf '\\357\\273\\277{}'")
    assert load([path], warn=lambda text: None).names == ()
