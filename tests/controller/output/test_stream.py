"""Whole lines under the right name, byte for byte, in bounded memory."""

import io
import os
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.output import OutputError, Writer
from controller.output.stream import LONGEST_LINE, Raw, Stream
from controller.results import Result, Status

# The same examples in every run, and no complaint when the machine is busy.
STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def end(sink, host="web1", **more):
    sink.end(Result(host, more.pop("status", Status.OK), **{"rc": 0, **more}))


VECTORS = [
    (b"", b""),
    (b"one\n", b"web1: one\n"),
    (b"one\ntwo\n", b"web1: one\nweb1: two\n"),
    (b"no newline", b"web1: no newline\n"),
    (b"one\ntwo", b"web1: one\nweb1: two\n"),
    (b"\n\n", b"web1: \nweb1: \n"),
    (b"web2: fake\n", b"web1: web2: fake\n"),
    (b"\x1b[2J\r\n\xff \x00\t\n", b"web1: \x1b[2J\r\nweb1: \xff \x00\t\n"),
]


@pytest.mark.parametrize(("data", "shown"), VECTORS)
@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_lines_for_a_pipe_are_exact_wherever_the_data_is_cut(screen, data, shown, step):
    sink = Stream(screen.out, screen.err)
    for start in range(0, len(data), step):
        sink.stdout("web1", data[start : start + step])
    end(sink)
    assert screen.shown == shown
    assert screen.said == ""


@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_terminal_gets_harmless_lines(terminal, step):
    data = b"\x1b]0;owned\x07ok\r\ncaf\xc3\xa9 \xff\n50%\r100%\n\xe2\x80\xaecut \xe2"
    sink = Stream(terminal.out, terminal.err)
    for start in range(0, len(data), step):
        sink.stdout("web1", data[start : start + step])
    end(sink)
    assert terminal.shown.decode().split("\n") == [
        "web1: \\x1b]0;owned\\x07ok",
        "web1: café \\xff",
        "web1: 50%\\x0d100%",
        "web1: \\u202ecut \\xe2",
        "",
    ]


def test_standard_error_is_marked(screen):
    sink = Stream(screen.out, screen.err)
    sink.stderr("web1", b"oh no\nhalf")
    sink.stdout("web1", b"other\nhalf")
    end(sink)
    assert screen.shown == b"web1! oh no\nweb1: other\nweb1: half\nweb1! half\n"


def test_colour_marks_the_names(coloured):
    sink = Stream(coloured.out, coloured.err)
    sink.stderr("web1", b"bad\n")
    sink.stdout("web1", b"good\nbetter\n")
    assert coloured.shown == (b"\x1b[31mweb1!\x1b[0m bad\n\x1b[36mweb1:\x1b[0m good\n\x1b[36mweb1:\x1b[0m better\n")


def test_a_host_name_cannot_make_a_line(screen):
    sink = Stream(screen.out, screen.err)
    sink.stdout("web1\nweb2", b"x\n")
    end(sink, host="web1\nweb2", status=Status.FAILED, rc=1)
    assert screen.shown == b"web1\\x0aweb2: x\n"
    assert screen.said == "web1\\x0aweb2: failed: exit code 1\n"


def test_a_piece_of_another_host_never_lands_inside_a_line(screen):
    sink = Stream(screen.out, screen.err)
    sink.stdout("web1", b"first ha")
    sink.stdout("web2", b"24, 25\n, 26")
    sink.stdout("web1", b"lf\n")
    sink.stdout("web2", b", 27\n")
    assert screen.shown == b"web2: 24, 25\nweb1: first half\nweb2: , 26, 27\n"


@pytest.mark.parametrize("way", [Stream, Raw])
def test_output_is_passed_on_at_once(way, buffered_pipe):
    source, target = buffered_pipe
    sink = way(Writer(target), Writer(target))
    for feed in (sink.stdout, sink.stderr):
        feed("web1", b"one\n")
        assert os.read(source, 100).endswith(b"one\n")


def test_the_last_line_is_passed_on_at_once(buffered_pipe):
    source, target = buffered_pipe
    sink = Stream(Writer(target), Writer(io.BytesIO()))
    sink.stdout("web1", b"half")
    end(sink)
    assert os.read(source, 100) == b"web1: half\n"


def test_why_a_host_is_not_good_is_said_on_standard_error(screen, run):
    sink = Stream(screen.out, screen.err)
    end(sink, "web1", status=Status.FAILED, rc=3)
    end(sink, "web2", status=Status.UNREACHABLE, rc=None, error="connection refused")
    sink.finish(run, [Result("web1", Status.FAILED), Result("web2", Status.UNREACHABLE)])
    assert screen.shown == b""
    assert screen.said == (
        "web1: failed: exit code 3\nweb2: unreachable: connection refused\n"
        "1 failed, 1 unreachable of 2 hosts in 0.42s\n"
    )


@pytest.mark.parametrize("character", ["x", "é", "日", "🚀"])
def test_a_long_line_comes_in_pieces_of_whole_characters(screen, character):
    line = ("<" + character * 1_200_000 + ">").encode()
    sink = Stream(screen.out, screen.err)
    for start in range(0, len(line), 100_001):
        sink.stdout("web1", line[start : start + 100_001])
    sink.stdout("web1", b"\n")
    pieces = [piece.removeprefix(b"web1: ") for piece in screen.shown.split(b"\n")[:-1]]
    assert b"".join(pieces) == line
    assert len(pieces) > 1
    assert all(len(piece) <= LONGEST_LINE and piece.decode() for piece in pieces)


def test_a_long_line_is_not_cut_inside_the_end_of_a_line(terminal):
    sink = Stream(terminal.out, terminal.err)
    sink.stdout("web1", b"x" * (LONGEST_LINE - 1) + b"\r")
    sink.stdout("web1", b"\n")
    assert terminal.shown == b"web1: " + b"x" * (LONGEST_LINE - 1) + b"\n"


def test_a_line_without_end_costs_no_memory():
    with open(os.devnull, "wb") as nowhere:
        sink = Stream(Writer(nowhere), Writer(nowhere))
        chunk = b"x" * (256 * 1024)
        tracemalloc.start()
        try:
            for _ in range(400):  # 100 MiB
                sink.stdout("web1", chunk)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 6 * LONGEST_LINE


@STEADY
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.text("x\n", max_size=6)), max_size=20))
def test_any_interleaving_gives_each_host_its_own_lines(make_screen, pieces):
    shown = make_screen()
    sink = Stream(shown.out, shown.err)
    sent = {"a": "", "b": ""}
    for host, text in pieces:
        sent[host] += text
        sink.stdout(host, text.encode())
    for host in sent:
        end(sink, host)
    for host, text in sent.items():
        mine = [line[3:] for line in shown.shown.decode().split("\n") if line.startswith(f"{host}: ")]
        assert mine == text.removesuffix("\n").split("\n") if text else mine == []


def test_a_closed_pipe_is_the_callers_to_know():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as stream:
        for sink in (Stream(Writer(stream), Writer(stream)), Raw(Writer(stream), Writer(stream))):
            with pytest.raises(BrokenPipeError):
                sink.stdout("web1", b"line\n")


def test_a_full_disk_is_the_callers_to_know():
    with open("/dev/full", "wb", buffering=0) as stream, pytest.raises(OutputError, match="No space left on device"):
        Stream(Writer(stream), Writer(stream)).stdout("web1", b"line\n")


def test_raw_passes_bytes_on_as_they_are(terminal):
    sink = Raw(terminal.out, terminal.err)
    sink.stdout("web1", b"\x1b[2J\xff\r\n\x00half")
    sink.stderr("web1", b"\xe2\x80")
    sink.stderr("web1", b"\xae!")
    end(sink)
    assert terminal.shown == b"\x1b[2J\xff\r\n\x00half"
    assert terminal.stderr.getvalue() == b"\xe2\x80\xae!"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"status": Status.FAILED, "rc": 3}, ""),  # as with ssh, the exit code says it
        ({"status": Status.FAILED, "rc": None, "signal": "SIGTERM"}, "fleet: web1: failed: killed by SIGTERM\n"),
        ({"status": Status.DENIED, "rc": None, "error": "not enrolled"}, "fleet: web1: denied: not enrolled\n"),
        (
            {"truncated": True, "stdout_bytes": 1 << 30},
            "fleet: web1: output truncated: the command wrote 1.0 GiB\n",
        ),
    ],
)
def test_raw_says_what_the_exit_code_cannot(screen, more, said):
    end(Raw(screen.out, screen.err), **more)
    assert (screen.shown, screen.said) == (b"", said)


def test_a_terminal_shows_lines_in_one_column(terminal):
    sink = Stream(terminal.out, terminal.err, align=["web1", "database10", "主機"])
    for host in ("web1", "database10", "主機", "not in the list"):
        sink.stdout(host, b"a\n")
    sink.stderr("web1", b"b\n")
    assert terminal.shown.decode().splitlines() == [
        "web1:       a",
        "database10: a",
        "主機:       a",
        "not in the list: a",
        "web1!       b",
    ]


def test_blanks_for_a_column_are_not_coloured(coloured):
    sink = Stream(coloured.out, coloured.err, align=["web1", "web10"])
    sink.stdout("web1", b"a\n")
    assert coloured.shown == b"\x1b[36mweb1:\x1b[0m  a\n"


@pytest.mark.parametrize("kind", [Stream, Raw])
def test_data_that_lies_in_one_place_over_and_over(screen, kind):
    """What is shown, and what is held back of it, is that of the moment, not what lies there later."""
    sink = kind(screen.out, screen.err)
    assert sink.borrows
    place = bytearray(200_000)
    lines = b"a" * 99 + b"\n"
    contents = [lines * 2000, b"b" * 150_000 + b"\n" + b"c" * 49_999, b"d" * 100 + b"\n" + b"e" * 199_899]
    for content in contents:
        place[:] = content
        sink.stdout("web1", memoryview(place))
        place[:] = bytes(200_000)
    end(sink)
    expected = b"".join(contents)
    if kind is Raw:
        assert screen.shown == expected
    else:
        assert screen.shown.replace(b"web1: ", b"").replace(b"\n", b"") == expected.replace(b"\n", b"")
        assert b"\0" not in screen.shown
