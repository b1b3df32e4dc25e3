"""The table, exact: as tabulate would have printed it, for any output, in the memory of one piece of it."""

import os
import tempfile
import tracemalloc

import pytest
import tabulate
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controller.output import OutputError, Writer
from controller.output.table import Table
from controller.render import FormatError
from controller.results import Result, Status

# The same examples in every run, and no complaint when the machine is busy.
STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

HEADERS = ["HOST", "STATUS", "RC", "TIME", "OUTPUT"]


def ok(host="web1", stdout=b"", stderr=b"", **more):
    return Result(
        host, **{"status": Status.OK, "rc": 0, "started": 1.0, "elapsed": 0.0123, **more}, stdout=stdout, stderr=stderr
    )


def lines(screen):
    return screen.shown.decode().split("\n")


def test_rows_are_in_inventory_order_and_outputs_keep_their_lines(screen, run):
    Table(screen.out, screen.err).finish(
        run,
        [
            ok("web2", b"Filesystem  Use%\n/dev/sda     50%\n"),
            ok("web1", b"  indented\n\nthree\n\n\n", status=Status.FAILED, rc=3),
            ok("db1"),
        ],
    )
    assert lines(screen) == [
        "HOST    STATUS    RC    TIME    OUTPUT",
        "web2    ok        0     0.01s   Filesystem  Use%",
        "                                /dev/sda     50%",
        "web1    failed    3     0.01s     indented",
        "",
        "                                three",
        "db1     ok        0     0.01s",
        "",
    ]
    assert screen.said == "2 ok, 1 failed of 3 hosts in 0.42s\n"


def test_what_fleet_has_to_say_stands_in_brackets(screen, run):
    Table(screen.out, screen.err).finish(
        run,
        [
            ok("web1", b"some\n", b"oh no\n\n  x\n", rc=None, status=Status.FAILED, signal="SIGKILL", note="pipe held"),
            ok("web2", b"x" * 1024, b"y", truncated=True, stdout_bytes=1 << 30, stderr_bytes=1 << 20),
            Result("web3", Status.UNREACHABLE, elapsed=10, error="no route\nto \x1b[2Jhost"),
            Result("web4", Status.SKIPPED),
        ],
    )
    shown = [line.replace("x" * 1024, "X") for line in lines(screen)]
    assert shown == [
        "HOST    STATUS       RC       TIME    OUTPUT",
        "web1    failed       SIGKILL  0.01s   some",
        "                                      ! oh no",
        "                                      !",
        "                                      !   x",
        "                                      [note: pipe held]",
        "web2    ok           0        0.01s   X",
        "                                      [truncated: 1.0 KiB of 1.0 GiB]",
        "                                      ! y",
        "                                      ! [truncated: 1 B of 1.0 MiB]",
        "web3    unreachable  -        10.00s  [error: no route\\x0ato \\x1b[2Jhost]",
        "web4    skipped      -        -",
        "",
    ]


def test_bytes_that_are_missing_without_truncation_are_not_called_truncated(screen, run):
    cut = ok("web1", b"part\n", status=Status.BROKEN, rc=None, stdout_bytes=100, stderr_bytes=7, error="cut")
    Table(screen.out, screen.err).finish(run, [cut])
    assert b"truncated" not in screen.shown


def test_a_pipe_gets_the_bytes_as_they_were(screen, run):
    Table(screen.out, screen.err).finish(run, [ok("web1", b"\x1b[32mok\x1b[0m \xff\n50%\r100%\n\xe2\x80\xae")])
    margin = b" " * len(b"web1    ok        0     0.01s   ")
    assert screen.shown.split(b"\n", 1)[1] == (
        b"web1    ok        0     0.01s   \x1b[32mok\x1b[0m \xff\n"
        + margin
        + b"50%\r100%\n"
        + margin
        + b"\xe2\x80\xae\n"
    )


def test_a_terminal_gets_harmless_text(terminal, run):
    result = ok("we\x1bb", b"\x1b[2J\r\nweb2 | fake \xff\n50%\r100%\n\xe2\x80\xae", b"\x07\x08", note="\u009b")
    Table(terminal.out, terminal.err).finish(run, [result])
    assert lines(terminal)[1:] == [
        "we\\x1bb  ok        0     0.01s   \\x1b[2J",
        "                                 web2 | fake \\xff",
        "                                 50%\\x0d100%",
        "                                 \\u202e",
        "                                 ! \\x07\\x08",
        "                                 [note: \\x9b]",
        "",
    ]


def test_colour_moves_nothing(coloured, terminal, run):
    results = [ok("web1", b"out\nout\n", b"\nerr"), ok("web2", rc=7, status=Status.FAILED, stderr=b"first")]
    for shown in (coloured, terminal):
        Table(shown.out, shown.err).finish(run, results)
    assert b"\x1b[32mok\x1b[0m " in coloured.shown
    assert b"\x1b[31m!\x1b[0m first" in coloured.shown
    assert coloured.shown.startswith(b"\x1b[1mHOST ")
    plain = coloured.shown
    for code in (b"0", b"1", b"31", b"32"):
        plain = plain.replace(b"\x1b[" + code + b"m", b"")
    assert plain == terminal.shown
    assert coloured.said == "\x1b[32m1 ok\x1b[0m, \x1b[31m1 failed\x1b[0m of 2 hosts in 0.42s\n"


def test_quiet_shows_failures_only(screen, run):
    results = [ok("web1", b"fine"), ok("web2", b"bad", status=Status.FAILED, rc=1), ok("web3", status=Status.CHANGED)]
    Table(screen.out, screen.err, failures_only=True).finish(run, results)
    assert lines(screen)[1:] == ["web2    failed    1     0.01s   bad", ""]
    assert screen.said == "1 ok, 1 changed, 1 failed of 3 hosts in 0.42s\n"


def test_quiet_without_failures_is_silent(screen, run):
    Table(screen.out, screen.err, failures_only=True).finish(run, [ok("web1", b"fine")])
    assert (screen.shown, screen.said) == (b"", "")


def test_no_results_are_a_header(screen, run):
    Table(screen.out, screen.err).finish(run, [])
    assert lines(screen) == ["HOST    STATUS    RC    TIME    OUTPUT", ""]


def test_wide_characters_shift_what_follows_the_host_by_their_width_and_no_output(screen, run):
    """Without the wcwidth package every character counts as one column: said in the module, kept here."""
    Table(screen.out, screen.err).finish(run, [ok("日本", "漢字\n🚀\n".encode()), ok("web1", b"x")])
    assert lines(screen)[1:] == [
        "日本      ok        0     0.01s   漢字",
        "                                🚀",
        "web1    ok        0     0.01s   x",
        "",
    ]


def test_an_unknown_format_is_refused_before_anything_runs(screen):
    with pytest.raises(FormatError, match="unknown table format 'nice': choose one of asciidoc, "):
        Table(screen.out, screen.err, tablefmt="nice")


@pytest.mark.parametrize("tablefmt", sorted(set(tabulate.tabulate_formats) - {"plain"}))
def test_every_format_shows_every_line(coloured, run, tablefmt):
    results = [ok("web1", b"  alpha\nbeta \x1b[2J \xff\n", b"gamma\n\ndelta", note="epsilon"), ok("web2")]
    Table(coloured.out, coloured.err, tablefmt=tablefmt).finish(run, results)
    text = coloured.shown.decode()
    for word in ("web1", "web2", "0.01s", "  alpha", "beta", "! gamma", "! delta", "epsilon"):
        assert word in text, word
    assert "\x1b" not in text  # a document: no colour, and what hosts print is harmless
    assert text.endswith("\n")


def test_a_grid_exactly(screen, run):
    Table(screen.out, screen.err, tablefmt="grid").finish(
        run, [ok("web1", b"  one\n\ntwo\n", b"three\n"), ok("web2", b"\n \n")]
    )
    assert lines(screen) == [
        "+--------+----------+------+--------+----------+",
        "| HOST   | STATUS   | RC   | TIME   | OUTPUT   |",
        "+========+==========+======+========+==========+",
        "| web1   | ok       | 0    | 0.01s  |   one    |",
        "|        |          |      |        |          |",
        "|        |          |      |        | two      |",
        "|        |          |      |        | ! three  |",
        "+--------+----------+------+--------+----------+",
        "| web2   | ok       | 0    | 0.01s  |          |",
        "+--------+----------+------+--------+----------+",
        "",
    ]


# Any text but what ends a line for str.splitlines and what str.rstrip takes for a blank beyond ASCII.
CHARACTERS = st.one_of(
    st.sampled_from("ab \t\n日🚀\u0301"), st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"])
)
OUTPUT = st.text(CHARACTERS, max_size=30)
NAME = st.text("web-01日", min_size=1, max_size=12)


def cell(stdout, stderr, note):
    """Return the OUTPUT cell as one text, made the slow and simple way."""
    marked = [f"! {line}" for line in stderr.rstrip().split("\n")] if stderr.strip() else []
    blocks = [stdout.rstrip()] if stdout.strip() else []
    return "\n".join([*blocks, *marked, *([f"[note: {note}]"] if note else [])])


@STEADY
@given(st.lists(st.tuples(NAME, st.sampled_from(Status), OUTPUT, OUTPUT, st.sampled_from([None, "held"])), max_size=4))
@example([("web1", Status.OK, "\n\n  a  \n \n\tb\t\n\n", "\n \nerr  \n", None), ("web2", Status.OK, "", "", None)])
@example([("web1", Status.OK, " \n\t\n", "", None)])
def test_the_streamed_table_is_what_tabulate_prints(make_screen, hosts):
    from controller.output import RunInfo

    results = [
        ok(name, stdout.encode(), stderr.encode(), status=status, note=note)
        for name, status, stdout, stderr, note in hosts
    ]
    rows = [
        [name, status.value, "0", "0.01s", cell(stdout, stderr, note)] for name, status, stdout, stderr, note in hosts
    ]
    whole = tabulate.tabulate(rows, HEADERS, tablefmt="plain", disable_numparse=True, preserve_whitespace=True)
    for terminal in (False, True):
        screen = make_screen(terminal=terminal)
        Table(screen.out, screen.err).finish(RunInfo("", "", 0, 0, 0, 0), results)
        assert screen.shown.decode() == whole + "\n"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    "unit",
    [
        b"a line of text\n",
        b"blank ends \t \r\n",
        b" " * 50,
        b"\n",
        b"no end",
        "日本\n".encode(),
        b" \n  x\n",
    ],
)
def test_where_an_output_is_cut_into_pieces_cannot_be_seen(make_screen, run, monkeypatch, terminal, unit):
    from controller.output import table

    result = ok("web1", b"  <" + unit * 100 + b">\n" + unit * 3, unit * 2)
    shown = set()
    for size in (1, 2, 3, 7, 64, 100_000):
        monkeypatch.setattr(table, "_PIECE", size)
        screen = make_screen(terminal=terminal)
        Table(screen.out, screen.err).finish(run, [result])
        shown.add(screen.shown)
    assert len(shown) == 1


def test_large_outputs_cost_the_memory_of_a_piece(run):
    results = [ok(f"web{number}", b"some text of a line\n" * 100_000, stderr=b"x" * 1_000_000) for number in range(4)]
    with open(os.devnull, "wb") as nowhere:
        table = Table(Writer(nowhere, terminal=True), Writer(nowhere))
        table.finish(run, results[:1])  # what is loaded once does not count
        tracemalloc.start()
        try:
            table.finish(run, results)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 1_500_000  # of 12,000,000


def test_the_table_is_out_before_the_summary(run):
    with tempfile.TemporaryFile() as both, os.fdopen(os.dup(both.fileno()), "wb") as stdout:
        Table(Writer(stdout), Writer(both)).finish(run, [ok()])
        both.seek(0)
        assert [line.split()[0] for line in both] == [b"HOST", b"web1", b"1"]


def test_nothing_is_said_after_the_pipe_was_closed(screen, run):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as stream, pytest.raises(BrokenPipeError):
        Table(Writer(stream), screen.err).finish(run, [ok()])
    assert screen.said == ""


def test_a_full_disk_is_the_callers_to_know(screen, run):
    with open("/dev/full", "wb", buffering=0) as stream, pytest.raises(OutputError, match="No space left on device"):
        Table(Writer(stream), screen.err).finish(run, [ok()])
    assert screen.said == ""
