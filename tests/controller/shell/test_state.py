"""Directory, umask and variables through real shells: what one command leaves, the next one finds."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.shell.state import FRESH, MAX_STATE, State, StateError, command_text, environment, read_state
from controller.shell.trailer import Cutter

TOKEN = "feedfacefeedface"
SHELLS = [shell for shell in (["/bin/sh"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]
BASE = {"PATH": "/usr/bin:/bin", "HOME": "/", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh", "LANG": "C.UTF-8"}


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request):
    return request.param


def run(shell, command, state=FRESH):
    """Run a command as an agent does. Returns output, code, standard error and the new state, None without one."""
    given = {**BASE, "FLEET_HOST": "web1", **environment(state, TOKEN)}
    encoded = {name: value.encode("utf-8", "surrogateescape") for name, value in given.items()}
    text = command_text(command).encode("utf-8", "surrogateescape")
    done = subprocess.run([*shell, "-c", text], env=encoded, capture_output=True, check=False, cwd="/")
    cutter = Cutter(TOKEN.encode())
    error = cutter.feed(done.stderr) + cutter.finish()
    state = None if cutter.body is None else read_state(cutter.body, TOKEN)
    return done.stdout.decode("utf-8", "surrogateescape"), done.returncode, error, state


def test_directory_umask_and_variables_last(shell, tmp_path):
    folder = tmp_path / "a b'c\nd\udcff"
    os.mkdir(os.fsencode(str(folder)))
    path = str(folder).replace("'", "'\\''")
    out, code, error, state = run(shell, f"cd '{path}'; umask 027; A='x y'; export B=exported; C=; exit 3")
    assert (out, code, error) == ("", 3, b"")
    assert (state.directory, state.umask) == (str(folder), "0027")
    assert state.exported["B"] == "exported"
    assert (state.plain["A"], state.plain["C"]) == ("x y", "")
    out, code, error, again = run(
        shell,
        'pwd; umask; echo "$A,$B,${C-unset}"; sh -c \'echo "${A-no} $B ${FLEET_SHELL-clean}"\'; cd - >/dev/null',
        state,
    )
    assert (out, code, error) == (f"{folder}\n0027\nx y,exported,\nno exported clean\n", 0, b"")
    assert again.directory == "/"
    assert again.plain["A"] == "x y"


@settings(max_examples=20, deadline=None)
@given(value=st.binary(max_size=60).filter(lambda value: b"\0" not in value), exported=st.booleans())
def test_any_bytes_last(value, exported):
    text = value.decode("utf-8", "surrogateescape")
    state = State("/", "022", {"V": text} if exported else {}, {} if exported else {"V": text})
    for shell in SHELLS:
        out, _, _, again = run(shell, 'printf %s "$V"', state)
        assert out == text
        assert (again.exported if exported else again.plain)["V"] == text


def test_what_a_shell_sets_by_itself_does_not_travel(shell):
    state = run(shell, "true")[3]
    assert set(state.exported) <= {*BASE, "OLDPWD"}
    assert set(state.plain) <= {"TERM"}


def test_variables_of_the_agent_can_be_unset_for_good(shell):
    state = run(shell, "unset LANG; unset HOME")[3]
    out, *_ = run(shell, 'echo "${LANG-none} ${HOME-none} $USER"', state)
    assert out == "none none root\n"


def test_a_variable_can_be_unset_again(shell):
    state = run(shell, "A=1; export B=2; export N")[3]
    assert run(shell, 'echo "$A$B"; N=3; sh -c \'echo "$N"\'', state)[0] == "12\n3\n"
    state = run(shell, "unset A B", state)[3]
    assert run(shell, 'echo "${A-none}${B-none}"', state)[0] == "nonenone\n"


def test_separators_and_strange_options_do_not_get_in_the_way(shell):
    out, code, error, state = run(shell, "IFS=:; set -euf; PATH=/nowhere; A=1; cd /usr; false; echo no")
    assert (out, code, error) == ("", 1, b"")
    assert (state.directory, state.plain["IFS"], state.exported["PATH"], state.plain["A"]) == (
        "/usr",
        ":",
        "/nowhere",
        "1",
    )
    assert run(shell, 'set -- $V; echo "$2"', State("/", "022", {}, {"IFS": ":", "V": "a:b"}))[0] == "b\n"


def test_a_trace_shows_nothing_of_ours(shell):
    *_, error, state = run(shell, "set -x; A=1")
    assert (error, state.plain["A"]) == (b"+ A=1\n", "1")


@pytest.mark.parametrize("command", ["if then", "echo )", "'"])
def test_a_syntax_error_leaves_the_state(shell, command):
    before = run(shell, "cd /usr; A=1")[3]
    out, code, error, state = run(shell, command, before)
    assert (out, code) == ("", 2)
    assert b"2: " in error or b"line 2" in error
    assert (state.directory, state.plain["A"]) == ("/usr", "1")


@pytest.mark.parametrize(("command", "code"), [("kill -9 $$", -9), ("exec true", 0), ("trap 'echo bye' 0; cd /usr", 0)])
def test_a_shell_that_ends_in_another_way_tells_nothing(shell, command, code):
    assert run(shell, command)[1:] == (code, b"", None)


def test_a_signal_is_still_a_signal(shell):
    assert run(shell, "kill $$")[1] == -15


def test_a_directory_that_is_gone_runs_nothing(shell, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    state = run(shell, f"cd {folder}")[3]
    folder.rmdir()
    given = {**BASE, **environment(state, TOKEN)}
    done = subprocess.run([*shell, "-c", command_text("echo ran")], env=given, capture_output=True, check=False)
    cutter = Cutter(TOKEN.encode())
    assert cutter.feed(done.stderr) == b""
    assert (done.stdout, done.returncode, cutter.gone, cutter.body) == (b"", 1, True, None)


def test_what_is_too_much_is_said(shell):
    with pytest.raises(StateError, match=rf"^they take \d+ bytes, and at most {MAX_STATE} can be given back$"):
        run(shell, "A=$(seq 1 30000)")
    assert len(run(shell, "A=$(seq 1 18000)")[3].plain["A"]) > 90_000


def body(directory=b"/tmp\n", umask=b"0022\n", exported=b"", everything=b""):
    return directory + umask + b"feedfacefeedface." + exported + b"feedfacefeedface." + everything


def test_a_state_as_it_is_told():
    state = read_state(
        body(exported=b"export A=1\nexport FLEET_X=1\nexport N\n", everything=b"A=1\nB=2\nIFS=' \t\n'\nUID=0"), TOKEN
    )
    assert state == State("/tmp", "0022", {"A": "1", "N": None}, {"B": "2"})
    assert state.known and not FRESH.known


@pytest.mark.parametrize(
    "text",
    [
        b"", b"/tmp\n0022\n", body() + b"feedfacefeedface.", body(directory=b""), body(directory=b"tmp\n"),
        body(directory=b"/t\0mp\n"), body(umask=b""), body(umask=b"u=rwx\n"), body(umask=b"00\n"),
        body(umask=b"0922\n"), body(umask=b"0022;id\n"),
    ],
)  # fmt: skip
def test_what_no_shell_tells_is_refused(text):
    with pytest.raises(StateError, match=r"^its shell told them in a way that cannot be read$"):
        read_state(text, TOKEN)
