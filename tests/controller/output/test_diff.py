"""Unified diffs of groups against the largest: exact, bounded, and applicable with patch(1)."""

import difflib
import random
import shutil
import subprocess
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.masks import Masks
from controller.output import Writer
from controller.output.diff import Diff
from controller.results import Result, Status

STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def ok(host, stdout=b"", stderr=b"", **more):
    fields = {"status": Status.OK, "rc": 0, "started": 1.0, "elapsed": 0.1, **more}
    return Result(host, **fields, stdout=stdout, stderr=stderr, stdout_bytes=len(stdout), stderr_bytes=len(stderr))


def failed(host, rc=1, stdout=b"", stderr=b""):
    return ok(host, stdout, stderr, status=Status.FAILED, rc=rc)


def show(screen, run, results, masks=None):
    sink = Diff(screen.out, screen.err, masks=masks)
    for result in results:
        sink.start(result.host)
        sink.stdout(result.host, result.stdout)
        sink.stderr(result.host, result.stderr)
        sink.end(result)
    sink.finish(run, results)
    return screen.shown.decode("utf-8", "backslashreplace").splitlines()


def test_each_group_against_the_largest(screen, run):
    text = b"".join(b"%d\n" % number for number in range(1, 21))
    results = [
        ok("web20", text.replace(b"\n11\n", b"\neleven\nmore\n")),
        *(ok(f"web{number:02}", text) for number in range(1, 19)),
        failed("db1", 3, text, b"oh\n"),
        Result("gone", Status.UNREACHABLE, error="no route to 10.0.0.1:7422"),
    ]
    assert show(screen, run, results) == [
        "--- web[01-18] (18)",
        "+++ web20",
        "@@ -8,7 +8,8 @@",
        *(" 8", " 9", " 10", "-11", "+eleven", "+more", " 12", " 13", " 14"),
        "--- web[01-18] (18)",
        "+++ db1\tfailed: exit code 3",
        "@@ -18,3 +18,4 @@",
        *(" 18", " 19", " 20", "+! oh"),
        "---------------",
        "gone: unreachable: no route to 10.0.0.1:7422",
        "---------------",
    ]
    assert screen.said == "19 ok, 1 failed, 1 unreachable of 21 hosts in 0.42s\n"


def test_of_groups_of_one_size_the_lowest_code_and_then_the_first_host_is_the_measure(screen, run):
    shown = show(screen, run, [failed("a", 1, b"1"), ok("web10", b"2"), ok("web9", b"3")])
    assert [line for line in shown if line.startswith("---")] == ["--- web9", "--- web9"]
    assert [line for line in shown if line.startswith("+++")] == ["+++ web10", "+++ a\tfailed: exit code 1"]


def test_no_differences_are_said_and_nothing_is_written(screen, run):
    assert show(screen, run, [ok("a", b"1"), ok("b", b"1")]) == []
    assert screen.said == "no differences: a,b (2)\n2 ok of 2 hosts in 0.42s\n"


def test_nobody_answered(screen, run):
    shown = show(screen, run, [Result("a", Status.DENIED, error="not enrolled")])
    assert shown[1] == "a: denied: not enrolled"
    assert screen.said == "1 denied of 1 host in 0.42s\n"


def test_a_command_that_was_cut_off_is_compared_by_what_it_had_written(screen, run):
    cut = ok("b", b"1\n", status=Status.TIMEOUT, rc=None, error="killed after 1 s")
    silent = ok("c", status=Status.TIMEOUT, rc=None, error="killed after 1 s")
    shown = show(screen, run, [ok("a", b"1\n2\n"), cut, silent])
    assert shown[:5] == ["--- a", "+++ b\ttimeout: killed after 1 s", "@@ -1,2 +1 @@", " 1", "-2"]
    assert shown[6] == "c: timeout: killed after 1 s"


def test_the_same_output_with_another_code(screen, run):
    shown = show(screen, run, [ok("a", b"1"), failed("b", 2, b"1")])
    assert shown == ["--- a", "+++ b\tfailed: exit code 2", "[the same output]"]


def test_masked_lines_are_compared_and_shown_as_they_were(screen, run):
    results = [
        ok("a", b"at 10:00 one\nat 10:00 two\nend\n"),
        ok("b", b"at 11:11 one\nat 11:11 three\nend\n"),
        failed("c", 1, b"at 12:12 one\nat 12:12 two\nend\n"),
    ]
    assert show(screen, run, results, Masks(time=True)) == [
        *("--- a", "+++ b", "@@ -1,3 +1,3 @@", " at 10:00 one", "-at 10:00 two", "+at 11:11 three", " end"),
        *("--- a", "+++ c\tfailed: exit code 1", "[the same output where it is not masked]"),
    ]


def test_whose_text_stands_for_a_group_is_told(screen, run):
    results = [ok("a", b"10:00 x"), ok("b", b"11:00 x"), ok("c", b"10:00 y")]
    shown = show(screen, run, results, Masks(time=True))
    assert shown[:2] == ["--- a,b (2)\tas a has it, others differ where masked", "+++ c"]


def test_a_mask_that_takes_newlines_cannot_be_used_for_lines(screen, run):
    shown = show(screen, run, [ok("a", b"1\n2\n3\n"), ok("b", b"1\n2\n4\n")], Masks.of([r"1\n"]))
    assert shown[2:] == ["@@ -1,3 +1,3 @@", " 1", " 2", "-3", "+4"]


@pytest.mark.parametrize(("data", "kind"), [(b"a\0b", "binary"), (b"x" * (4 * 1024 * 1024 + 1), "large")])
def test_what_is_not_compared_is_shown_by_size_and_digest(screen, run, data, kind):
    shown = show(screen, run, [ok("a", b"text"), ok("b", data)])
    assert shown[2].startswith(f"[{kind} output: 4 B, sha256 982d9e3eb996 -> ")
    assert len(shown) == 3


def test_texts_that_have_little_in_common_are_not_compared_for_long(screen, run):
    def lines(word):
        return b"".join(b"%s %d\n" % (word, number) for number in range(2000))

    shown = show(screen, run, [ok("a", lines(b"x")), ok("b", lines(b"y"))])
    assert shown[2].startswith("[large output: ")
    assert len(shown) == 3


def test_all_of_it_takes_bounded_time(screen, run):
    rnd = random.Random(1)
    texts = [b"".join(b"%d\n" % rnd.randrange(500) for _ in range(1300)) for _ in range(30)]
    results = [ok(f"h{number}", text) for number, text in enumerate(texts)]
    began = time.process_time()
    shown = show(screen, run, results)
    assert time.process_time() - began < 30
    assert any(line.startswith("[large output: ") for line in shown)


def test_a_difference_without_end_is_cut(screen, run):
    shown = show(screen, run, [ok("a", b"x\n"), ok("b", b"".join(b"%d\n" % number for number in range(9000)))])
    assert len(shown) == 2 + 5000 + 1
    assert shown[-1] == "[more than 5000 lines of differences]"


def test_a_terminal_is_not_moved_and_has_colour(coloured, run):
    assert show(coloured, run, [ok("a", b"1\n\x1b[2J\n"), ok("b", b"2\n\x1b[2J\n")]) == [
        "\x1b[1m--- a\x1b[0m",
        "\x1b[1m+++ b\x1b[0m",
        "\x1b[36m@@ -1,2 +1,2 @@\x1b[0m",
        "\x1b[31m-1\x1b[0m",
        "\x1b[32m+2\x1b[0m",
        " \\x1b[2J",
    ]


def test_bytes_are_exact_in_a_pipe(screen, run):
    show(screen, run, [ok("a", b"1\r\xff\n"), ok("b", b"2\x1b\n")])
    assert screen.shown.endswith(b"@@ -1 +1 @@\n-1\r\xff\n+2\x1b\n")


TEXTS = st.lists(st.sampled_from([b"a", b"b", b"c", b""]), max_size=30).map(lambda lines: b"\n".join([*lines, b"x"]))


@STEADY
@given(TEXTS, TEXTS)
def test_it_is_what_difflib_says(make_screen, one, other):
    from controller.output import RunInfo

    screen = make_screen()
    shown = show(screen, RunInfo("r", "c", 0.0, 0.0, 0, 2), [ok("a", one), ok("b", other)])
    before, after = one.decode().split("\n"), other.decode().split("\n")
    if one == other:
        assert shown == []
        return
    assert restored(shown, before) == after
    assert len(shown) <= len(list(difflib.unified_diff(before, after, lineterm=""))) + 40


def restored(diff, before):
    """Apply a unified diff."""
    made, at = [], 0
    for line in diff[2:]:
        if line.startswith("@@"):
            start, _, length = line.split()[1][1:].partition(",")
            begin = int(start) - (length != "0")
            made += before[at:begin]
            at = begin
        elif line.startswith("+"):
            made.append(line[1:])
        else:
            assert before[at] == line[1:]
            at += 1
            made += [line[1:]] if line.startswith(" ") else []
    return made + before[at:]


@pytest.mark.skipif(shutil.which("patch") is None, reason="patch is not installed")
def test_patch_applies_it(screen, run, tmp_path):
    one, other = b"1\n2\n3\n4\n5\n6\n7\n8\n9\n", b"0\n1\n2\n3\n4\n5\n6\n7\n9\n"
    show(screen, run, [ok("a", one), failed("b", 1, other)])
    (tmp_path / "file").write_bytes(one)
    command = ["patch", "--batch", "file"]
    subprocess.run(command, cwd=tmp_path, input=screen.shown, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "file").read_bytes() == other


def test_one_line_is_not_said_to_be_one_line(screen, run):
    assert show(screen, run, [ok("a", b"1"), ok("b", b"2")])[2] == "@@ -1 +1 @@"


def test_a_diff_needs_no_terminal_width(screen, run):
    sink = Diff(Writer(screen.stdout, terminal=True, width=10), screen.err)
    results = [ok("a", b"1" * 50), ok("b", b"2" * 50)]
    for result in results:
        sink.stdout(result.host, result.stdout)
        sink.end(result)
    sink.finish(run, results)
    assert b"-" + b"1" * 50 + b"\n" in screen.shown
