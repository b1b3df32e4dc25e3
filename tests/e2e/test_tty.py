"""A person at a terminal on one host: real agents, a real pseudo-terminal, and its modes looked at after every end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import termios

import pexpect
import pytest

PATIENCE = 60


def fresh_modes():
    master, slave = os.openpty()
    try:
        return termios.tcgetattr(slave)
    finally:
        os.close(master)
        os.close(slave)


class Person:
    """Somebody who has started a program on a terminal, and sees what it shows."""

    def __init__(self, lab, *arguments, command=None, **env):
        self._child = pexpect.spawn(
            command or lab.program,
            list(arguments),
            env=lab.environment(TERM="xterm", **env),
            cwd=lab.folder,
            timeout=PATIENCE,
            dimensions=(24, 80),
        )
        self._child.delaybeforesend = None
        self._child.delayafterclose = self._child.ptyproc.delayafterclose = 0.0
        self.pid = self._child.pid
        self.resize = self._child.setwinsize

    @property
    def modes(self):
        return termios.tcgetattr(self._child.child_fd)

    @property
    def is_raw(self):
        return not self.modes[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def sees(self, pattern):
        self._child.expect(pattern)
        return self._child.match

    def types(self, keys):
        self._child.send(keys)

    def line(self, text):
        self._child.send(text + "\r")

    def end(self):
        """Wait for the end, see that the terminal is in order, and return the exit code and the last text."""
        self._child.expect(pexpect.EOF)
        assert self.modes == fresh_modes()
        self._child.close()
        assert self._child.signalstatus is None
        return self._child.exitstatus, self._child.before.decode()


@pytest.fixture
def at(lab):
    """Return a function that starts `fleet` on a terminal."""
    people = []

    def start(*arguments, **options):
        people.append(Person(lab, *arguments, **options))
        return people[-1]

    yield start
    for person in people:
        person._child.close(force=True)


@pytest.fixture
def prompt(at):
    """Somebody who has a shell with the prompt `> ` on web1."""
    person = at("run", "--tty", "-S", "-l", "web1", "PS1='> ' ENV= exec sh -i")
    person.sees("> ")
    assert person.is_raw
    return person


FOREGROUND = "sh -c 'echo $$ > {post}; echo up; exec sleep 1000'"


# What works in it


def test_a_login_shell(at):
    person = at("shell", "web1")
    person.line("echo A$((1 + 1))B $FLEET_HOST $TERM; test -t 0 -a -t 1 -a -t 2 && echo yes; pwd; exit 7")
    person.sees(r"A2B web1 xterm\r\nyes\r\n")
    assert person.end()[0] == 7


def test_size_and_resize(prompt):
    prompt.line("stty size")
    prompt.sees(r"\n24 80\r\n")
    prompt.resize(40, 132)
    prompt.line("stty size")
    prompt.sees(r"40 132\r\n")
    prompt.line("exit 3")
    assert prompt.end()[0] == 3


def test_ctrl_c_is_for_the_host(prompt, post, gone):
    prompt.line(FOREGROUND.format(post=post))
    prompt.sees(r"\nup\r\n")
    processes = post.processes(1)
    prompt.types("\x03")
    prompt.sees("> ")
    gone(processes)
    prompt.line("echo still $((40 + 2))")
    prompt.sees("still 42")
    prompt.types("\x04")
    prompt.end()


def test_ctrl_z_is_for_the_host(prompt, post, gone):
    prompt.line(FOREGROUND.format(post=post))
    prompt.sees(r"\nup\r\n")
    prompt.types("\x1a")
    prompt.sees("Stopped")
    processes = post.processes(1)
    prompt.line("kill -9 %1; exit")
    prompt.line("exit")
    prompt.end()
    gone(processes)


def test_ctrl_d_ends(prompt):
    prompt.types("\x04")
    assert prompt.end()[0] == 0


@pytest.mark.skipif(shutil.which("less") is None, reason="there is no less")
def test_a_program_that_takes_the_whole_screen(at, tmp_path):
    (tmp_path / "text").write_text("".join(f"line {number}\n" for number in range(1, 1001)))
    person = at("run", "--tty", "-l", "web1", f"less {tmp_path}/text", LESS=None)
    person.sees(r"\x1b\[\?1049h")
    person.sees("line 23\r\n")
    person.types("G")
    person.sees("line 1000")
    person.resize(10, 40)
    person.sees("line 986\r\n")
    person.types("g")
    person.sees("line 9\r\n")
    person.types("q")
    person.sees(r"\x1b\[\?1049l")
    assert person.end()[0] == 0


def test_bytes_are_not_cleaned(at):
    person = at("run", "--tty", "-l", "web1", r"stty -opost; printf 'a\033[2J\007\302\233\377b'")
    person.sees(rb"a\x1b\[2J\x07\xc2\x9b\xffb")
    assert person.end() == (0, "")


def test_options_of_run_hold(at):
    person = at(
        "run", "--tty", "-l", "web1", "-e", "A=b", "--chdir", "/usr", "--template", "echo $A $(pwd) {host} $TERM"
    )
    person.sees("b /usr web1 xterm\r\n")
    assert person.end() == (0, "")


@pytest.mark.parametrize(("options", "code"), [([], 5), (["-S"], 7)])
def test_exit_codes(at, options, code):
    assert at("run", "--tty", *options, "-l", "web1", "exit 7").end() == (code, "")


def test_output_may_go_elsewhere(at, lab, tmp_path):
    person = at("-c", f"{lab.program} run --tty -l web1 'echo hello; tty' > {tmp_path}/out", command="/bin/sh")
    assert person.end() == (0, "")
    assert re.fullmatch(rb"hello\r\n/dev/pts/\d+\r\n", (tmp_path / "out").read_bytes())


def test_who_reads_the_output_may_leave(at, lab):
    person = at("-c", f"{{ {lab.program} run --tty -l web1 yes; echo code $? >&2; }} | head -1", command="/bin/sh")
    assert person.end() == (0, "y\r\ncode 141\r\n")


def test_who_reads_the_output_may_leave_while_nothing_is_said(at, lab):
    """It is noticed without a write that fails."""
    person = at(
        "-c", f"{{ {lab.program} run --tty -l web1 'sleep 1000'; echo code $? >&2; }} | true", command="/bin/sh"
    )
    assert person.end() == (0, "code 141\r\n")


def test_a_full_disk(at, lab):
    person = at("-c", f"{lab.program} run --tty -l web1 'echo hello; sleep 1000' > /dev/full", command="/bin/sh")
    assert person.end() == (3, "fleet: output: cannot write standard output: No space left on device\r\n")


# Its ends


def test_the_escape_ends_it_and_what_runs(prompt, post, gone):
    prompt.line(FOREGROUND.format(post=post))
    prompt.sees(r"\nup\r\n")
    processes = post.processes(1)
    prompt.types("\r~?")
    prompt.sees("~.  end the session")
    prompt.sees("send one ~\r\n")
    prompt.types("~.")
    code, text = prompt.end()
    assert code == 3
    assert text.removeprefix("\r\n") == "fleet: web1: cancelled: ended by ~.\r\n"  # Return may be echoed late
    gone(processes)


def test_a_lost_agent(new_lab, post, gone):
    assert new_lab.fleet("init", "--name", "ops").code == 0
    assert new_lab.fleet("enroll", "web1", "-o", "enrolments").code == 0
    agent = new_lab.agent(new_lab.folder / "enrolments/web1.enrol", new_lab.folder / "one")
    new_lab.inventory.write_text(f"web1 fleet_host=127.0.0.1 fleet_port={agent.port}\n")
    person = Person(new_lab, "shell", "web1")
    person.line(f"printf '\\033[?1049h'; echo $$ > {post}; sleep 1000")
    processes = post.processes(1)
    person.sees(r"\x1b\[\?1049h")
    agent.stop(signal.SIGKILL)
    code, text = person.end()
    assert code == 4
    assert re.search(
        r"\x1b\[\?1049l.*\x1b\[0m\r\nfleet: web1: broken: the connection was lost: [a-z ]+\r\n\Z", text, re.DOTALL
    )
    gone(processes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_to_fleet_itself(prompt, post, gone, number):
    prompt.line(FOREGROUND.format(post=post))
    prompt.sees(r"\nup\r\n")
    processes = post.processes(1)
    os.kill(prompt.pid, number)
    code, text = prompt.end()
    assert code == 128 + number
    assert text.endswith("fleet: web1: cancelled: killed\r\n")
    gone(processes)


def test_fleet_itself_is_stopped_and_goes_on(prompt):
    os.kill(prompt.pid, signal.SIGTSTP)
    os.waitid(os.P_PID, prompt.pid, os.WSTOPPED)
    assert prompt.modes == fresh_modes()
    prompt.resize(30, 90)
    os.kill(prompt.pid, signal.SIGCONT)
    prompt.line("stty size; exit 4")
    prompt.sees(r"30 90\r\n")
    assert prompt.end()[0] == 4


def test_a_signal_on_the_host(at):
    person = at("run", "--tty", "-l", "web1", "printf here; kill -9 $$")
    assert person.end() == (5, "here\r\nfleet: web1: failed: killed by SIGKILL\r\n")


def test_a_signal_that_ends_a_login_shell(at):
    person = at("shell", "web1")
    person.line("echo A$((1 + 1)); kill -9 $$")
    person.sees("A2\r\n")
    code, text = person.end()
    assert code == 137
    assert text.endswith("fleet: web1: failed: killed by SIGKILL\r\n")


def test_time_is_up(at, post, gone):
    person = at("run", "--tty", "-t", "0.7", "-l", "web1", f"echo $$ > {post}; exec sleep 1000")
    processes = post.processes(1)
    assert person.end() == (3, "fleet: web1: timeout: killed after 0.7 s\r\n")
    gone(processes)


def test_what_cannot_be_started(at):
    person = at("run", "--tty", "--chdir", "/no/such", "-l", "web1", "true")
    assert person.end() == (5, "fleet: web1: failed: no such directory: /no/such\r\n")


@pytest.mark.parametrize("command", [["run", "--tty", "-l", "gone", "true"], ["shell", "gone"]])
def test_a_host_that_is_not_there(at, command):
    code, text = at(*command).end()
    assert code == 4
    assert re.fullmatch(r"fleet: gone: unreachable: connection refused by 127\.0\.0\.1:\d+\r\n", text)


def test_standard_input_that_is_closed(lab):
    script = '"$@" <&-'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", lab.program, "shell", "web1"],
        env=lab.environment(), capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, b"fleet: shell: standard input is no terminal\n")
