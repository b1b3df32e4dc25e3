"""One table of many: exact screens and documents, and every host accounted for."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.conditions import parse_conditions
from controller.errors import FleetError
from controller.output import RunInfo, Writer
from controller.output.columns import Columns, ColumnsJson
from controller.render import FormatError
from controller.results import Result, Status
from controller.rows import Query

STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
RULE = "---------------"

DF = b"Filesystem      Size  Used Avail Use%% Mounted on\n/dev/vda1        40G   %b   %b  %b /\n"
ONE = DF % (b"33G", b"4.7G", b"88%")
TWO = DF % (b"9.8G", b"30G", b"25%")


def ok(host, stdout=b"", **more):
    fields = {"status": Status.OK, "rc": 0, "started": 1.0, "elapsed": 0.1, "stdout_bytes": len(stdout), **more}
    return Result(host, **fields, stdout=stdout)


def show(sink, run, results):
    for result in results:
        sink.start(result.host)
        sink.stdout(result.host, result.stdout)
        sink.stderr(result.host, result.stderr)
        sink.end(result)
    sink.finish(run, results)


def lines(screen):
    return screen.shown.decode().splitlines()


def query(where=None, **more):
    return Query(tuple(parse_conditions(where)) if where else (), **more)


def test_one_table_with_the_host_in_front_and_numbers_on_the_right(screen, run):
    show(Columns(screen.out, screen.err), run, [ok("web1", ONE), ok("web10", TWO)])
    assert lines(screen) == [
        "HOST   Filesystem  Size  Used  Avail  Use%  Mounted on",
        "web1   /dev/vda1    40G   33G   4.7G   88%  /",
        "web10  /dev/vda1    40G  9.8G    30G   25%  /",
    ]
    assert screen.said == "2 ok of 2 hosts in 0.42s\n"


def test_rows_are_chosen_and_ordered_by_value(screen, run):
    asked = query("Avail > 1G", sort="Used", top=1)
    show(Columns(screen.out, screen.err, query=asked), run, [ok("web1", ONE), ok("web10", TWO)])
    assert [line.split()[0] for line in lines(screen)] == ["HOST", "web10"]


def test_empty_cells_are_dashes_and_wide_characters_keep_the_columns(screen, run):
    show(Columns(screen.out, screen.err), run, [ok("a", "N\tM\n\u6f22\u5b57\t\nx\t5\n".encode())])
    assert lines(screen) == ["HOST  N     M", "a     \u6f22\u5b57  -", "a     x     5"]


def test_what_does_not_fit_is_listed_below_as_it_is(screen, run):
    results = [
        ok("web1", ONE),
        ok("web2", b"no table\n"),
        ok("web3", b"no table\n"),
        ok("web4", TWO, stderr=b"df: /mnt: Stale file handle\n", status=Status.FAILED, rc=1),
        ok("web5", b"Name  Kind\na     b\n"),
        ok("web6"),
        ok("web7", ONE, truncated=True, stdout_bytes=9999),
        Result("web8", Status.UNREACHABLE, error="no route to 10.0.0.8:7422"),
        ok("web9", b"Filesystem      Size  Used Avail Use% Mounted on\n"),
        ok("web10", b"a note\n\n" + ONE),
    ]
    show(Columns(screen.out, screen.err), run, results)
    assert lines(screen) == [
        "HOST   Filesystem  Size  Used  Avail  Use%  Mounted on",
        "web1   /dev/vda1    40G   33G   4.7G   88%  /",
        "web4   /dev/vda1    40G  9.8G    30G   25%  /",
        "web10  /dev/vda1    40G   33G   4.7G   88%  /",
        *(RULE, "web[2-3] (2)", RULE, "no table"),
        *(RULE, "web5", RULE, "Name  Kind", "a     b"),
        *(RULE, "web6: no output", RULE),
        *(RULE, "web7: output truncated: the command wrote 9.8 KiB", RULE, *ONE.decode().splitlines()),
        f"[truncated: {len(ONE)} B of 9.8 KiB]",
        *(RULE, "web10", RULE, "a note"),
        *(RULE, "web4: failed: exit code 1", RULE, "! df: /mnt: Stale file handle"),
        *(RULE, "web8: unreachable: no route to 10.0.0.8:7422", RULE),
    ]


def test_no_output_is_a_table(screen, run):
    show(Columns(screen.out, screen.err), run, [ok("a", b"hello\n"), ok("b")])
    assert lines(screen) == [RULE, "a", RULE, "hello", RULE, "b: no output", RULE]
    assert screen.said == "no host's output is a table\n2 ok of 2 hosts in 0.42s\n"


def test_a_column_of_the_output_may_be_named_host(screen, run):
    show(Columns(screen.out, screen.err), run, [ok("a", b"HOST,X\nb,1\n")])
    assert lines(screen) == ["HOST  HOST 2  X", "a     b       1"]


def test_any_format_of_tabulate(screen, run):
    show(Columns(screen.out, screen.err, tablefmt="tsv"), run, [ok("a", b"X,Y\n1,\x1b\n")])
    cells = [[cell.strip() for cell in line.split("\t")] for line in lines(screen)]
    assert cells == [["HOST", "X", "Y"], ["a", "1", "\\\\x1b"]]
    with pytest.raises(FormatError):
        Columns(screen.out, screen.err, tablefmt="nope")


def test_a_terminal_gets_lines_of_its_width_that_do_not_move_it(screen, run):
    out = Writer(screen.stdout, terminal=True, width=20)
    show(Columns(out, screen.err), run, [ok("web1", b"A,B\n\x1b[2J,x\ny," + b"z" * 50 + b"\n")])
    assert lines(screen) == ["HOST  A        B", "web1  \\x1b[2J  x", "web1  y        zzzz\u2026"]


def test_nothing_is_cut_and_bytes_are_exact_in_a_pipe(screen, run):
    show(Columns(screen.out, screen.err), run, [ok("web1", b'A,B\n\x1b\xff,"x\ny"\ny,' + b"z" * 500 + b"\n")])
    assert screen.shown.splitlines()[1] == b"web1  \x1b\xff  x\\x0ay"
    assert screen.shown.endswith(b"z" * 500 + b"\n")


def test_the_heading_has_colour(coloured, run):
    show(Columns(coloured.out, coloured.err), run, [ok("a", b"X,Y\n1,2\n")])
    assert lines(coloured)[0] == "\x1b[1mHOST  X  Y\x1b[0m"


@pytest.mark.parametrize(("asked", "option"), [(query(sort="Avial"), "--sort"), (query("Avial > 1"), "--where")])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_column_that_is_not_there_costs_no_result(screen, run, asked, option, as_json):
    sink = ColumnsJson(screen.out, query=asked) if as_json else Columns(screen.out, screen.err, query=asked)
    with pytest.raises(FleetError) as caught:
        show(sink, run, [ok("web1", ONE), ok("web2", TWO)])
    error = caught.value
    assert (error.what, error.why) == (option, "no column 'Avial'")
    assert error.hint == "there are HOST, Filesystem, Size, Used, Avail, Use%, Mounted on"
    assert error.exit_code == run.exit_code == 5, "the worst thing that happened"
    rows = json.loads(screen.shown)["rows"] if as_json else lines(screen)[1:]
    assert len(rows) == 2


def test_one_document_with_rows_as_objects(screen, run):
    results = [
        ok("web1", ONE),
        ok("web2", b"Filesystem,Size,Used,Avail,Use%,Mounted on\n\xff,1,2,3,4,5\n", stderr=b"oh\n"),
        ok("web3", b"no table\n"),
    ]
    show(ColumnsJson(screen.out), run, results)
    document = json.loads(screen.shown)
    assert list(document) == ["run", "summary", "columns", "rows", "rest"]
    assert document["run"]["id"] == "r1"
    assert document["summary"] == {"ok": 3}
    assert document["columns"] == ["HOST", "Filesystem", "Size", "Used", "Avail", "Use%", "Mounted on"]
    first, second = document["rows"]
    assert list(first.values()) == ["web1", "/dev/vda1", "40G", "33G", "4.7G", "88%", "/"]
    assert list(second.values()) == ["web2", "\ufffd", "1", "2", "3", "4", "5"]
    assert [(rest["host"], rest["stdout"], rest["stderr"]) for rest in document["rest"]] == [
        ("web2", "", "oh\n"),
        ("web3", "no table\n", ""),
    ]


def test_a_document_without_a_table(screen, run):
    show(ColumnsJson(screen.out), run, [ok("a")])
    document = json.loads(screen.shown)
    assert (document["columns"], document["rows"], [rest["host"] for rest in document["rest"]]) == ([], [], ["a"])


OUTPUTS = st.lists(
    st.sampled_from([b"", b"text\n", ONE, TWO, ONE + b"\nnote\n", b"A,B\n1,2\n", b"Filesystem Size\nx 1\n", b"\xff\0"]),
    min_size=1,
    max_size=8,
)


@STEADY
@given(OUTPUTS, st.booleans(), st.sampled_from([Status.OK, Status.FAILED]))
def test_every_host_is_in_a_row_or_below(make_screen, outputs, error, status):
    screen = make_screen()
    results = [
        ok(f"host{number}", data, status=status, stderr=b"e" if error and number % 2 else b"")
        for number, data in enumerate(outputs)
    ]
    show(ColumnsJson(screen.out), RunInfo("r", "c", 0.0, 0.0, 0, 1), results)
    document = json.loads(screen.shown)
    found = {row["HOST"] for row in document["rows"]} | {rest["host"] for rest in document["rest"]}
    assert found == {result.host for result in results}
    below = {rest["host"] for rest in document["rest"]}
    assert all(result.host in below for result in results if result.stderr or not result.status.good)
