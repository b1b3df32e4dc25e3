"""The terminal here: raw while it is asked for, as it was afterwards, and signals that only wake."""

from __future__ import annotations

import errno
import os
import signal
import struct
import termios
from fcntl import ioctl

import pytest

from controller import terminal as module
from controller.terminal import LocalTerminal, LostTerminalError


def test_raw_and_back(here):
    with here.local as local:
        assert here.is_in_order
        with local.raw():
            assert here.is_raw
            os.write(here.user, bytes(range(256)))
            typed = b""
            while len(typed) < 256:
                typed += local.read()
            assert typed == bytes(range(256))
            assert here.shown() == b"", "nothing is echoed"
            assert local.write(b"a\nb") == 3
            assert here.shown() == b"a\nb"
        assert here.is_in_order


def test_back_also_after_an_error(here):
    with pytest.raises(ValueError, match="oops"), here.local as local, local.raw():
        raise ValueError("oops")
    assert here.is_in_order


def test_the_last_one_out_puts_it_back(here):
    with here.local as local:
        held = local.raw()  # by a thread that never comes back
        held.__enter__()
        assert here.is_raw
    assert here.is_in_order


def test_no_terminal():
    reading, writing = os.pipe()
    try:
        with pytest.raises(termios.error):
            LocalTerminal(reading, writing)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(("value", "kind"), [("xterm", "xterm"), ("", "dumb"), (None, "dumb")])
def test_kind(here, monkeypatch, value, kind):
    monkeypatch.delenv("TERM", raising=False)
    if value is not None:
        monkeypatch.setenv("TERM", value)
    with here.local as local:
        assert local.kind == kind


def test_size(here):
    ioctl(here.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    with here.local as local:
        assert local.size == (33, 101)
        os.close(here.stdin)
        here.stdin = -1
        assert local.size == (0, 0)
        assert local.read() == b""


# Signals


def heard(local):
    """Whether there is something to heed."""
    try:
        return bool(os.read(local.fileno(), 1))
    except BlockingIOError:
        return False


def test_signals_only_wake_and_their_handlers_go_again(here):
    before = [signal.getsignal(number) for number in module._SIGNALS]
    wake = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wake)
    with here.local as local, local.raw():
        assert not heard(local)
        signal.raise_signal(signal.SIGWINCH)
        assert heard(local)
        signal.raise_signal(signal.SIGWINCH)
        local.heed()
        assert not heard(local)
        local.heed()
        assert here.is_raw
    assert [signal.getsignal(number) for number in module._SIGNALS] == before
    assert signal.set_wakeup_fd(wake) == wake


def test_any_number_of_signals(here):
    with here.local as local:
        for _ in range(70_000):
            signal.raise_signal(signal.SIGWINCH)
        assert heard(local)


def test_what_is_ignored_stays_so(here, monkeypatch):
    before = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        with here.local:
            assert signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGCONT) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTSTP, before)


def test_stopped_in_order_and_raw_again(here, monkeypatch):
    states = []
    with here.local as local, local.raw():
        signal.raise_signal(signal.SIGTSTP)
        monkeypatch.setattr(module.signal, "raise_signal", lambda number: states.append((number, here.is_in_order)))
        local.heed()
        assert states == [(signal.SIGSTOP, True)]
        assert here.is_raw
    assert here.is_in_order


def test_not_stopped_when_it_is_to_go_on_already(here, monkeypatch):
    with here.local as local, local.raw():
        signal.raise_signal(signal.SIGTSTP)
        signal.raise_signal(signal.SIGCONT)
        monkeypatch.setattr(module.signal, "raise_signal", lambda number: pytest.fail("stopped"))
        local.heed()
        assert here.is_raw


def test_gone_on_after_a_stop_that_nobody_saw(here):
    with here.local as local, local.raw():
        termios.tcsetattr(here.stdin, termios.TCSANOW, here.modes)  # by the shell
        signal.raise_signal(signal.SIGCONT)
        local.heed()
        assert here.is_raw
    assert here.is_in_order


def test_in_the_background_it_is_left_alone(here, monkeypatch):
    with here.local as local, local.raw():
        theirs = termios.tcgetattr(here.stdin)
        theirs[3] |= termios.ECHO
        termios.tcsetattr(here.stdin, termios.TCSANOW, theirs)
        monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp() + 1)
        signal.raise_signal(signal.SIGCONT)
        local.heed()
        assert termios.tcgetattr(here.stdin) == theirs
    assert termios.tcgetattr(here.stdin) == theirs


# Its ways to fail


def test_hang_up(here):
    with here.local as local, local.raw():
        here.hang_up()
        assert local.read() == b""
        with pytest.raises(LostTerminalError) as caught:
            local.write(b"x")
        assert caught.value.error.errno == errno.EIO
        assert str(caught.value) == "Input/output error"
        local.say("nobody sees this\n")


def test_nothing_typed_yet(here):
    with here.local as local:
        os.set_blocking(here.stdin, False)
        assert local.read() is None


def test_no_room(here):
    with here.local as local, local.raw():
        total = 0
        while count := local.write(b"x" * 100_000):
            assert count <= 1024
            total += count
        assert 1024 < total < 100_000


def test_no_room_that_shows_only_in_the_writing(here, monkeypatch):
    def refuse(fd, data):
        raise BlockingIOError(errno.EAGAIN, "not now")

    with here.local as local:
        monkeypatch.setattr(module.os, "write", refuse)
        assert local.write(b"x") == 0


# What we say ourselves


def test_lines_of_our_own_in_raw_mode(here):
    with here.local as local, local.raw():
        local.say("one\ntwo\n")
    assert here.shown() == b"one\r\ntwo\r\n"


@pytest.mark.parametrize(("last", "added"), [(b"", b""), (b"x\r\n", b""), (b"$ ", b"\r\n")])
def test_a_message_has_a_line_of_its_own(here, last, added):
    with here.local as local:
        with local.raw():
            local.write(last) if last else None
        here.shown()
        local.start_line()
        assert here.shown() == added


def test_the_screen_is_put_back(here):
    with here.local as local, local.raw():
        local.write(b"\x1b[?1049h\x1b[?25l")
        here.shown()
        local.put_back()
        assert here.shown() == b"\x1b[?1049l\x1b[?25h\x1b[0m"


def test_a_file_is_left_as_it_is(here, tmp_path):
    with open(tmp_path / "out", "wb") as file, LocalTerminal(here.stdin, file.fileno(), here.stdin) as local:
        local.write(b"\x1b[?25l$ ")
        local.put_back()
        local.start_line()
    assert (tmp_path / "out").read_bytes() == b"\x1b[?25l$ "
    assert here.shown() == b""
