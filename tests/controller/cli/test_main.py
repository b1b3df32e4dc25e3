"""The program as a whole: how errors of every kind end it."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys

import pytest

from controller.cli.declare import Command
from controller.cli.main import COMMANDS, all_commands, main
from controller.cli.program import program
from controller.errors import FleetError


@pytest.fixture
def command(monkeypatch):
    """Return a function that makes `fleet x` do as the test says."""

    def become(act):
        def function():
            return act()

        monkeypatch.setitem(COMMANDS, "x", lambda: {"x": Command(function)})

    return become


def raising(error):
    def act():
        raise error

    return act


@pytest.mark.parametrize(("value", "code"), [(None, 0), (0, 0), (5, 5)])
def test_what_a_command_returns_is_the_exit_code(command, value, code):
    command(lambda: value)
    assert main(["x"]) == code


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (FleetError("a\x1b", "b\n", "c\t"), 2, "fleet: a\\x1b: b\\x0a\nhint: c\\x09\n"),
        (FleetError("a", "b", exit_code=3), 3, "fleet: a: b\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            ZeroDivisionError("oh"),
            1,
            "fleet: bug: ZeroDivisionError: oh\nhint: FLEET_DEBUG=1 shows where; please report it\n",
        ),
        (
            OSError(errno.ENOENT, "No such file"),
            1,
            "fleet: bug: FileNotFoundError: [Errno 2] No such file\n"
            "hint: FLEET_DEBUG=1 shows where; please report it\n",
        ),
    ],
)
def test_errors(command, monkeypatch, capsys, error, code, text):
    monkeypatch.delenv("FLEET_DEBUG", raising=False)
    command(raising(error))
    assert main(["x"]) == code
    assert capsys.readouterr() == ("", text)


def test_where_an_error_comes_from_is_shown_on_demand(command, monkeypatch, capsys):
    monkeypatch.setenv("FLEET_DEBUG", "1")
    command(raising(FleetError("a", "b", "c")))
    assert main(["x"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("controller.errors.FleetError: a: b\nfleet: a: b\nhint: c\n")
    assert main(["hosts", "--zzz"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("fleet: usage: no such option: --zzz\nhint: fleet hosts --help\n")


def test_an_error_that_cannot_be_written_keeps_its_exit_code(command, monkeypatch):
    monkeypatch.delenv("FLEET_DEBUG", raising=False)
    command(raising(FleetError("a", "b", exit_code=4)))

    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    assert main(["x"]) == 4


def test_bugs_are_raised_on_demand(command, monkeypatch):
    monkeypatch.setenv("FLEET_DEBUG", "1")
    command(raising(ZeroDivisionError("oh")))
    with pytest.raises(ZeroDivisionError):
        main(["x"])


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        ("BrokenPipeError()", 141, ""),
        (
            "OSError(28, 'No space left on device')",
            3,
            "fleet: output: cannot write standard output: No space left on device\n",
        ),
        ("OutputError('file', 'is full')", 3, "fleet: output: cannot write file: is full\n"),
    ],
)
def test_output_that_cannot_be_written_is_given_up(error, code, text):
    # In a process of its own: it gives its standard output away.
    program = f"""\
import sys
from controller.cli.declare import Command
from controller.cli.main import COMMANDS, main
from controller.output import OutputError
def lose():
    sys.stdout.write("lost")
    raise {error}
COMMANDS["x"] = lambda: {{"x": Command(lose)}}
sys.exit(main(["x"]))
"""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=buffered, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", text)


def test_closed_standard_streams_are_opened_to_nowhere(tmp_path):
    program = f"""\
import os, sys
from controller.cli.declare import Command
from controller.cli.main import COMMANDS, main
def look():
    assert sys.stdin.read() == ""
    print("lost")
    print("lost", file=sys.stderr)
    with open({str(tmp_path / "file")!r}, "w") as file:
        assert file.fileno() > 2
        file.write("kept")
    return 7
COMMANDS["x"] = lambda: {{"x": Command(look)}}
sys.exit(main(["x"]))
"""
    done = subprocess.run(["/bin/sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program], check=False)
    assert done.returncode == 7
    assert (tmp_path / "file").read_text() == "kept"


def test_help_loads_neither_tls_nor_tables(tmp_path):
    program = """\
import sys
import controller.cli.main
code = controller.cli.main.main(["--help"])
heavy = {"ssl", "socket", "tabulate", "rich", "tomllib", "controller.api", "controller.client"} & set(sys.modules)
sys.exit(f"loaded {heavy}" if heavy else code)
"""
    # Who measures coverage loads much by itself.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=plain, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.linesep.join(done.stdout.splitlines()[:1]) == "Usage: fleet [OPTIONS] COMMAND [ARGS]..."


def test_only_the_module_of_the_command_is_loaded(tmp_path):
    program = """\
import sys
from controller.cli.main import main
code = main(["run", "--help"])
others = {f"controller.cli.{name}" for name in ("demo", "files", "hosts", "keys", "shell")} & set(sys.modules)
sys.exit(f"loaded {others}" if others else code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_is_in_the_table():
    assert [info.name for info in program(all_commands()).registered_commands] == list(COMMANDS)
    for load in COMMANDS.values():
        assert set(load()) == {name for name, other in COMMANDS.items() if other is load}


def test_a_command_line_that_is_right_never_meets_typer(tmp_path):
    program = """\
import sys
from controller.cli.main import main
code = main(["run", "-w", "web1", "--list-hosts", "true"])
heavy = {"typer", "controller.cli.program"} & set(sys.modules)
sys.exit(f"loaded {heavy}" if heavy else code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "web1\n", "")


@pytest.mark.parametrize(("closed", "code"), [("", 2), (">&-", 2), ("2>&-", 2)])
def test_the_process_leaves_with_the_exit_code_of_its_command_line(closed, code):
    text = "from controller.cli import run_and_leave; run_and_leave()"
    done = subprocess.run(["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, text], check=False)
    assert done.returncode == code


@pytest.mark.parametrize("name", ["agent.lazily", "controller.cli.main", "typing", "controller.results"])
def test_ctrl_c_while_it_is_loading_is_quiet(name):
    program = f"""\
import sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
for loaded in ("typing", "agent.lazily"):
    sys.modules.pop(loaded, None)
from controller.cli import run_and_leave
run_and_leave()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
