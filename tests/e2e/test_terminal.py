"""On a terminal: nothing a host prints may move it, and there is colour. In a pipe: exact bytes."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios

import pytest

HOSTILE = r"printf 'a\033[2J\007b\r\tc\177\302\233d\342\200\256e\377f\n'"
ESCAPED = "a\\x1b[2J\\x07b\\x0d\tc\\x7f\\x9bd\\u202ee\\xfff"
EXACT = b"a\x1b[2J\x07b\r\tc\x7f\xc2\x9bd\xe2\x80\xaee\xfff\n"


class Terminal:
    """A pseudo-terminal that passes bytes on as they are."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        attributes = termios.tcgetattr(self.slave)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(self.slave, termios.TCSANOW, attributes)

    def text_of(self, process: subprocess.Popen[bytes]) -> str:
        """Return what a process wrote here, once it has ended."""
        os.close(self.slave)
        text = b""
        while True:
            assert select.select([self._master], [], [], 60)[0], "the terminal hangs"
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: nobody has the other side open any more
                break
            text += data
        process.wait(60)
        os.close(self._master)
        return text.decode()


@pytest.fixture
def shown(lab):
    def run(*arguments, env=None):
        terminal = Terminal()
        process = lab.start(*arguments, env=env, stdout=terminal.slave, stderr=terminal.slave)
        return terminal.text_of(process)

    return run


def test_a_table_on_a_terminal_is_harmless(shown):
    text = shown("run", "-l", "web1", HOSTILE, env={"NO_COLOR": "1"})
    assert text.splitlines()[1].endswith(ESCAPED)
    assert "\x1b" not in text


def test_a_stream_on_a_terminal_is_harmless(shown):
    text = shown("run", "--stream", "-l", "web1", HOSTILE, env={"NO_COLOR": "1"})
    assert text.splitlines()[0] == f"web1: {ESCAPED}"


def test_bytes_are_exact_in_a_pipe(lab):
    for look in ("--raw", "--stream"):
        done = lab.fleet("run", look, "-l", "web1", HOSTILE)
        assert done.stdout == (EXACT if look == "--raw" else b"web1: " + EXACT)


def test_bytes_are_exact_in_files_also_beside_a_terminal(shown, tmp_path):
    shown("run", "-o", str(tmp_path / "out"), "-l", "web1", HOSTILE)
    assert (tmp_path / "out/web1.stdout").read_bytes() == EXACT


def test_an_error_text_of_an_agent_is_harmless(shown):
    text = shown("run", "--chdir", "/no\x1b[31m", "-l", "web1", "true", env={"NO_COLOR": "1"})
    assert "[error: no such directory: /no" in text
    assert "\x1b" not in text


def test_colour_is_on_a_terminal_alone_and_can_be_refused(shown):
    assert "\x1b[32mok\x1b[0m" in shown("run", "-l", "web1", "true", env={"TERM": "xterm"})
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in shown("run", "-l", "web1", "true", env=env)
    assert "\x1b" not in shown("run", "--color", "never", "-l", "web1", "true", env={"TERM": "xterm"})


def test_results_go_to_stdout_and_messages_to_stderr(lab):
    terminal = Terminal()
    process = lab.start("run", "-l", "web1", "echo hello", stdout=subprocess.PIPE, stderr=terminal.slave)
    out = process.stdout.read()
    assert terminal.text_of(process).startswith("\x1b[32m1 ok\x1b[0m of 1 host in ")
    assert b"\x1b" not in out
    process.stdout.close()
