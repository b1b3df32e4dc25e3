"""The trailer is taken off, wherever the stream is cut, and nothing else is."""

from __future__ import annotations

import pytest

from controller.shell import trailer
from controller.shell.trailer import Cutter, Trimmed

TOKEN = b"0123456789abcdef"
TRAILER = b"0123456789abcdef(5:hello0123456789abcdef)"


def cut(stream, step):
    cutter = Cutter(TOKEN)
    pieces = [cutter.feed(stream[start : start + step]) for start in range(0, len(stream), step)]
    output = b"".join([*pieces, cutter.finish()])
    assert cutter.cut(stream) == output
    return output, cutter


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("stream", "output", "body", "gone", "garbled"),
    [
        (b"", b"", None, False, False),
        (b"text", b"text", None, False, False),
        (TRAILER, b"", b"hello", False, False),
        (b"no newline" + TRAILER, b"no newline", b"hello", False, False),
        (b"before\n" + TRAILER + b"after", b"before\nafter", b"hello", False, False),
        (TRAILER + TRAILER, TRAILER, b"hello", False, False),  # the second one is output
        (b"01234567" + TRAILER, b"01234567", b"hello", False, False),
        (b"0123456789abcdeX\n", b"0123456789abcdeX\n", None, False, False),
        (b"ends in 0123456", b"ends in 0123456", None, False, False),
        (b"sh: cd\n0123456789abcdef!", b"sh: cd\n", None, True, False),
        # Not what the trap writes: swallowed, not believed.
        (b"x" + TRAILER[:-3], b"x", None, False, True),
        (b"x" + TRAILER.replace(b"hello", b"hel!lo"), b"x", None, False, True),
        (b"x" + TRAILER.replace(b"(5:", b"(6:"), b"x", None, False, True),
        (b"x" + TRAILER.replace(b"(5:", b"(+5:"), b"x", None, False, True),
        (b"x" + TRAILER.replace(b"(5:", b"(5"), b"x", None, False, True),
        (b"x" + TRAILER.replace(b"(5:", b"[5:"), b"x", None, False, True),
        (b"x" + TOKEN, b"x", None, False, True),
        (b"x" + TOKEN + b"(5:hello" + TOKEN, b"x", None, False, True),
    ],
)
def test_streams(step, stream, output, body, gone, garbled):
    found, cutter = cut(stream, step)
    assert (found, cutter.body, cutter.gone, cutter.garbled) == (output, body, gone, garbled)


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_trailer_that_is_too_long_is_not_kept(monkeypatch, step):
    monkeypatch.setattr(trailer, "MAX_TRAILER", 100)
    stream = b"x" + TOKEN + b"(900:" + b"v" * 900 + TOKEN + b")y"
    found, cutter = cut(stream, step)
    assert (found, cutter.body, cutter.garbled, cutter.removed) == (b"xy", None, True, len(stream) - 2)


class Recorder:
    def __init__(self):
        self.told = []

    def start(self, host):
        self.told.append(("start", host))

    def stdout(self, host, data):
        self.told.append(("out", data))

    def stderr(self, host, data):
        self.told.append(("err", data))


def test_both_streams_are_trimmed_and_nothing_is_told_of_nothing():
    recorder = Recorder()
    trimmed = Trimmed(recorder, TOKEN.decode())
    trimmed.start("web1")
    trimmed.stdout("web1", b"out 0123")
    trimmed.stderr("web1", TRAILER)
    trimmed.stderr("web1", b"0123")
    trimmed.finish("web1")
    assert recorder.told == [("start", "web1"), ("out", b"out "), ("err", b"0123"), ("out", b"0123")]
    trimmed = Trimmed(recorder, TOKEN.decode())
    recorder.told.clear()
    trimmed.stderr("web1", b"0123")
    assert recorder.told == []
    trimmed.finish("web1")
    assert recorder.told == [("err", b"0123")]
