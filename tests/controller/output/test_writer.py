"""Every byte arrives or an error says why it did not."""

import errno
import io
import os
import subprocess
import sys
import threading

import pytest

from controller.output import OutputError, Writer, silence


class Failing:
    """A stream that fails in the way asked for and counts how often it was tried."""

    def __init__(self, error):
        self.error = error
        self.tries = 0

    def isatty(self):
        return False

    def write(self, data):
        self.tries += 1
        raise self.error

    def flush(self):
        self.write(b"")


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    with open(reader, "rb") as source, open(writer, "wb", buffering=0) as target:
        yield source, target


def test_a_full_disk_is_an_error_that_says_so():
    with open("/dev/full", "wb") as full:
        writer = Writer(full)
        writer.write(b"x")
        with pytest.raises(OutputError) as caught:
            writer.flush()
        silence(full)
    assert str(caught.value) == "cannot write standard output: No space left on device"
    assert (caught.value.path, caught.value.reason) == ("standard output", "No space left on device")


def test_a_full_disk_at_a_write():
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OutputError, match="cannot write results"):
        Writer(full, name="results").write(b"x")


def test_an_error_without_words_of_the_system():
    with pytest.raises(OutputError, match=r"^cannot write standard output: gone$"):
        Writer(Failing(OSError("gone"))).write(b"x")


def test_a_reader_that_has_gone_is_a_broken_pipe_and_the_stream_is_not_tried_again(pipe):
    source, target = pipe
    source.close()
    writer = Writer(target)
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            writer.write(b"x")
    stream = Failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    writer = Writer(stream)
    for call in (writer.flush, writer.flush, lambda: writer.write(b"x"), lambda: writer.line("x")):
        with pytest.raises(BrokenPipeError):
            call()
    assert stream.tries == 1


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_stream_that_somebody_made_non_blocking_loses_nothing(buffering):
    reader, target = os.pipe()
    os.set_blocking(target, False)
    sent = os.urandom(1 << 20)
    with open(reader, "rb") as source, open(target, "wb", buffering=buffering) as stream:
        got = []
        thread = threading.Thread(target=lambda: got.append(source.read()))
        thread.start()
        writer = Writer(stream)
        writer.write(sent)
        writer.flush()
        stream.close()
        thread.join()
    assert got == [sent]


def test_a_flush_that_would_block_is_waited_for(pipe):
    _, target = pipe

    class Busy(io.BytesIO):
        left = 2

        def fileno(self):
            return target.fileno()

        def flush(self):
            self.left -= 1
            if self.left >= 0:
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    stream = Busy()
    Writer(stream).flush()
    assert stream.left == -1


def test_a_line_is_passed_on_at_once_whatever_it_holds(pipe):
    source, target = pipe
    with open(os.dup(target.fileno()), "wb") as buffered:
        Writer(buffered).line("na\udcefve ü")
        assert source.readline() == "na\\udcefve ü\n".encode()


@pytest.mark.parametrize(("given", "terminal"), [(None, False), (True, True), (False, False)])
def test_terminal(given, terminal):
    assert Writer(io.BytesIO(), terminal=given).terminal is terminal


def test_a_pseudo_terminal_is_a_terminal():
    master, slave = os.openpty()
    with open(slave, "wb", buffering=0) as stream:
        assert Writer(stream).terminal
    os.close(master)


SCRIPT = """
import sys
from controller.output import Writer, silence
writer = Writer(sys.stdout.buffer)
try:
    for _ in range(100_000):
        writer.write(b"line\\n" * 100)
except BrokenPipeError:
    silence(sys.stdout.buffer)
    sys.exit(7)
"""


def test_after_silence_the_interpreter_ends_without_a_word():
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 7
