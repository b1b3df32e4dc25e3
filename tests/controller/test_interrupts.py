"""Real signals, in a process of their own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from controller.cancel import CancelToken
from controller.interrupts import Interrupts

PROGRAM = """
import os, select, signal, sys
from controller.cancel import CancelToken
from controller.interrupts import Interrupts

if sys.argv[2] != "0":
    signal.signal(int(sys.argv[2]), signal.SIG_IGN)
token = CancelToken()
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
with Interrupts(token, hurry=sys.argv[1] == "hurry", last=lambda: os.write(1, b"last\\n")) as interrupts:
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "wait\\n":
            select.select([token], [], [])
        print(token.is_set, interrupts.received, interrupts.exit_code, flush=True)
after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
print(before == after, flush=True)
"""


class Guarded:
    """The program, and what it says."""

    def __init__(self, *, hurry=True, ignoring=0):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "hurry" if hurry else "patient", str(int(ignoring))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def end(self):
        return self.process.communicate(timeout=60)[0]


@pytest.fixture
def guarded():
    made = []

    def start(**options):
        made.append(Guarded(**options))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def test_nothing_happens_without_a_signal(guarded):
    program = guarded()
    assert program.ask("now") == "False None None\n"
    assert program.end() == "True\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_sets_the_token(guarded, number):
    program = guarded()
    program.process.send_signal(number)
    assert program.ask("wait") == f"True {int(number)} {128 + number}\n"
    assert program.end() == "True\n"


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_a_signal_leaves_at_once(guarded, first):
    program = guarded()
    program.process.send_signal(first)
    program.ask("wait")
    program.process.send_signal(signal.SIGINT)
    assert program.process.wait(60) == 130
    assert program.end() == "last\n"


def test_other_signals_again_change_nothing(guarded):
    program = guarded()
    program.process.send_signal(signal.SIGTERM)
    program.ask("wait")
    program.process.send_signal(signal.SIGHUP)
    program.process.send_signal(signal.SIGTERM)
    assert program.ask("now") == "True 15 143\n"
    assert program.end() == "True\n"


def test_without_hurry_ctrl_c_again_changes_nothing(guarded):
    program = guarded(hurry=False)
    for _ in range(5):
        program.process.send_signal(signal.SIGINT)
    assert program.ask("wait") == "True 2 130\n"
    assert program.end() == "True\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_was_ignored_stays_ignored(guarded, number):
    program = guarded(ignoring=number)
    program.process.send_signal(number)
    assert program.ask("now") == "False None None\n"
    assert program.end() == "True\n"


def test_what_a_second_ctrl_c_does_instead_of_leaving():
    seen = []
    token = CancelToken()
    with Interrupts(token, again=lambda: seen.append("again")) as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert (token.is_set, interrupts.exit_code, seen) == (True, 130, [])
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # not in a hurry
        signal.raise_signal(signal.SIGINT)
    assert seen == ["again", "again"]
    assert interrupts.exit_code == 130
