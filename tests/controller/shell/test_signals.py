"""Signals that come while a line is waited for: none is lost, and all is as before afterwards."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pexpect
import pytest

from controller.shell.signals import SignalledError, Signals

ENDING = [signal.SIGTERM, signal.SIGHUP]
NUMBERS = (signal.SIGINT, *ENDING, signal.SIGCHLD)


@pytest.fixture(autouse=True)
def handlers():
    """What was there before is there again."""
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    assert [signal.getsignal(number) for number in NUMBERS] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert "signals" not in [thread.name for thread in threading.enumerate()]


def beside(number):
    """Send a signal to this process from another thread: it comes just before the wait or in it, which is all one."""
    threading.Thread(target=os.kill, args=(os.getpid(), number)).start()


def test_nothing_comes():
    with Signals() as signals:
        assert signals.wait("{}".format, "a line") == "a line"


@pytest.mark.parametrize("number", ENDING)
def test_one_that_ends_it(number):
    with pytest.raises(SignalledError) as caught, Signals() as signals:
        beside(number)
        signals.wait(time.sleep, 60)
    assert caught.value.number == number


def test_ctrl_c():
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        beside(signal.SIGINT)
        signals.wait(time.sleep, 60)


def test_another_one_is_not_sent_again(monkeypatch):
    heard = []
    monkeypatch.setattr(signal, "pthread_kill", lambda thread, number: pytest.fail("sent again"))
    before = signal.signal(signal.SIGCHLD, lambda number, frame: heard.append(number))
    try:
        with Signals() as signals:
            beside(signal.SIGCHLD)
            signals.wait(time.sleep, 0.2)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert heard == [signal.SIGCHLD]


def test_one_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            signals.wait("{}".format, "a line")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_after_the_wait_it_is_raised_at_the_end(number):
    line = None
    with pytest.raises((KeyboardInterrupt, SignalledError)), Signals() as signals:
        line = signals.wait("{}".format, "a line")
        os.kill(os.getpid(), number)
    assert line == "a line"


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_before_the_wait_there_is_none(number):
    with pytest.raises((KeyboardInterrupt, SignalledError)), Signals() as signals:
        os.kill(os.getpid(), number)
        signals.wait(pytest.fail, "it waited")


def test_ctrl_c_does_not_hide_the_other():
    with pytest.raises(SignalledError) as caught, Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        signals.wait(pytest.fail, "it waited")
    assert caught.value.number == signal.SIGTERM


def test_the_other_comes_while_ctrl_c_is_dealt_with():
    with pytest.raises(SignalledError) as caught, Signals() as signals:
        beside(signal.SIGINT)
        try:
            signals.wait(time.sleep, 60)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
    assert caught.value.number == signal.SIGHUP


TAB = """
import os, sys
from controller.output import Writer
from controller.shell.prompt import Terminal
from controller.shell.signals import SignalledError

def complete(before, word):
    os.kill(os.getpid(), int(sys.argv[1]))
    return []

try:
    Terminal(Writer(sys.stderr.buffer), complete, None).next("> ")
except SignalledError as error:
    sys.exit(128 + error.number)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_one_that_readline_does_not_tell_of(number):
    """It comes while readline(3) is at work, after which that waits for the next key."""
    child = pexpect.spawn(sys.executable, ["-c", TAB, str(int(number))], env={**os.environ, "INPUTRC": "/dev/null"})
    try:
        child.expect_exact("> ")
        child.send("x\t")
        child.expect(pexpect.EOF)
    finally:
        child.close()
    assert child.exitstatus == 128 + number
