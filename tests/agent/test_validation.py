"""A command that looks at a new file: what it is given, and what is said of how it ends."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.runner import Runner
from agent.tree.errors import FileError
from agent.validation import LIMIT, Validator

PATIENCE = 20.0
Start = Callable[..., Validator]


@pytest.fixture
def start(shared_runner: Runner) -> Iterator[Start]:
    made: list[Validator] = []

    def make(command: str, path: str = "/x", clock: Callable[[], float] = time.monotonic) -> Validator:
        made.append(Validator(shared_runner, "/bin/sh", command, path, host="web1", run="r1", clock=clock))
        return made[-1]

    yield make
    for one in made:
        one.close()


def verdict(validator: Validator) -> str:
    while (text := validator.poll()) is None:
        assert select.select([validator], [], [], PATIENCE)[0], "the command does not end"
    return text


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("true %s", ""),
        ("echo fine; true %s", ""),
        ("false %s", "exit 1"),
        ("echo line 3: bad >&2; exit 5 # %s", "exit 5: line 3: bad"),
        ("kill -TERM $$ # %s", "SIGTERM"),
        ("nothing-of-that-name %s", "exit 127: "),
        ('test "$FLEET_HOST$FLEET_RUN" = web1r1 # %s', ""),
    ],
)
def test_verdicts(start: Start, command: str, expected: str) -> None:
    said = verdict(start(command))
    assert said == expected or (expected.endswith(": ") and said.startswith(expected))


@pytest.mark.parametrize("name", ["plain", "with space", "quo'te", "$(touch injected)", "-rf", "a;b", "%s"])
def test_the_path_is_one_word(start: Start, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("content")
    assert verdict(start('test "$(cat -- %s)" = content && test ! -e injected', str(file))) == ""
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_file_may_be_named_twice(start: Start, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert verdict(start("cmp %s %s", str(tmp_path / "f"))) == ""


def test_much_output_is_cut(start: Start) -> None:
    said = verdict(start("yes | head -c 1000000; exit 1 # %s"))
    assert said.startswith("exit 1: y\ny\n")
    assert len(said) < 2100


def test_output_that_is_not_utf_8(start: Start) -> None:
    assert verdict(start(r"printf '\377'; exit 1 # %s")) == "exit 1: \ufffd"


def test_too_long(start: Start) -> None:
    now = time.monotonic()
    clock = [now]
    validator = start("sleep 1000 # %s", clock=lambda: clock[0])
    assert validator.poll() is None
    assert validator.seconds_left() == LIMIT
    clock[0] += LIMIT
    assert validator.seconds_left() == 0.0
    assert verdict(validator) == "the command was killed after 60 s"


def test_a_runner_that_is_closed(commands: object, runner: Runner) -> None:
    runner.close()
    with pytest.raises(FileError, match=r"^cannot validate: the runner is closed$"):
        Validator(runner, "/bin/sh", "true %s", "/x", host="", run="", clock=time.monotonic)


def test_a_command_that_cannot_be_started(shared_runner: Runner) -> None:
    validator = Validator(shared_runner, "/no/shell", "true %s", "/x", host="", run="", clock=time.monotonic)
    assert "no such file or directory" in verdict(validator).lower()
    validator.close()
