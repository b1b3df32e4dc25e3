"""Equal results once: exact screens, every host in one place, one copy in memory."""

import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.masks import Masks
from controller.output.fold import Fold
from controller.output.groups import Groups, host_order
from controller.results import Result, Status
from inventory import expand

STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
RULE = "---------------"


def ok(host, stdout=b"", stderr=b"", **more):
    fields = {"status": Status.OK, "rc": 0, "started": 1.0, "elapsed": 0.1, **more}
    counted = {"stdout_bytes": len(stdout), "stderr_bytes": len(stderr)}
    return Result(host, **{**counted, **fields}), stdout, stderr


def failed(host, rc=1, stdout=b"", stderr=b""):
    return ok(host, stdout, stderr, status=Status.FAILED, rc=rc)


def show(sink, run, given):
    """Give results to a sink as a run does, each output in pieces, the last of it after that of all others."""
    for result, out, err in given:
        sink.start(result.host)
        sink.stdout(result.host, out[:3])
        sink.stderr(result.host, err[:3])
    for result, out, err in given:
        sink.stdout(result.host, out[3:])
        sink.stderr(result.host, err[3:])
        sink.end(result)
    sink.finish(run, [result for result, _, _ in given])


def lines(screen):
    return screen.shown.decode().splitlines()


def test_larger_groups_first_and_what_is_not_good_last(screen, run):
    given = [
        failed("db1", 1, b"x\n", b"oh\nno\n"),
        ok("web3", b"other\n"),
        (Result("db9", Status.UNREACHABLE, error="no route to 10.0.0.9:7422"), b"", b""),
        (Result("db10", Status.UNREACHABLE, error="no route to 10.0.0.10:7422"), b"", b""),
        *[ok(f"web{number:02}", b"same\n") for number in (*range(1, 19), 20)],
        failed("web7", 2, b"x\n"),
        failed("web8", 2, b"x\n"),
        ok("quiet"),
    ]
    show(Fold(screen.out, screen.err), run, given)
    assert lines(screen) == [
        *(RULE, "web[01-18,20] (19)", RULE, "same"),
        *(RULE, "quiet: no output", RULE),
        *(RULE, "web3", RULE, "other"),
        *(RULE, "web[7-8] (2): failed: exit code 2", RULE, "x"),
        *(RULE, "db1: failed: exit code 1", RULE, "x", "! oh", "! no"),
        RULE,
        "db[9-10] (2): unreachable: no route to 10.0.0.9:7422; as db9 has it, others differ in name or address",
        RULE,
    ]
    assert screen.said == "21 ok, 3 failed, 2 unreachable of 26 hosts in 0.42s\n"


def test_the_same_text_with_another_code_signal_or_stream_is_another_group(screen, run):
    given = [
        ok("a", b"x"),
        ok("b", b"", b"x"),
        failed("c", 1, b"x"),
        ok("d", b"x", status=Status.FAILED, rc=None, signal="SIGKILL"),
        ok("e", b"x", note="held"),
    ]
    show(Fold(screen.out, screen.err), run, given)
    assert [line for line in lines(screen) if line[0] in "abcde"] == [
        "a",
        "b",
        "e: note: held",
        "d: failed: killed by SIGKILL",
        "c: failed: exit code 1",
    ]


def test_masked_texts_are_compared_and_the_first_hosts_own_is_shown(screen, run):
    masks = Masks.of(["id=\\d+"], host=True)
    given = [ok(f"web{number}", f"I am web{number}, id={number * 7}\n".encode()) for number in (10, 9, 11)]
    show(Fold(screen.out, screen.err, masks=masks), run, given)
    assert lines(screen) == [
        RULE,
        "web[9-11] (3): as web9 has it, others differ where masked",
        RULE,
        "I am web9, id=63",
    ]


def test_masked_texts_that_are_equal_as_they_are_need_no_remark(screen, run):
    show(Fold(screen.out, screen.err, masks=Masks(number=True)), run, [ok("b", b"7"), ok("a", b"7")])
    assert lines(screen) == [RULE, "a,b (2)", RULE, "7"]


def test_cut_output_is_marked_and_its_length_counts(screen, run):
    def cut(host, written):
        return ok(host, b"x" * 1024, b"y", truncated=True, stdout_bytes=written, stderr_bytes=2048)

    show(Fold(screen.out, screen.err), run, [cut("a", 4096), cut("b", 4096), cut("c", 8192)])
    shown = [line.replace("x" * 1024, "X") for line in lines(screen)]
    assert shown[:6] == [
        *(RULE, "a,b (2): output truncated: the command wrote 6.0 KiB", RULE),
        *("X", "[truncated: 1.0 KiB of 4.0 KiB]", "! y"),
    ]
    assert shown[6] == "! [truncated: 1 B of 2.0 KiB]"
    assert shown[8] == "c: output truncated: the command wrote 10.0 KiB"


def test_bytes_are_exact_in_a_pipe_and_harmless_on_a_terminal(screen, terminal, run):
    data = b"a\x1b[2J\r\xff \n\n"
    for target in (screen, terminal):
        show(Fold(target.out, target.err), run, [ok("h", data)])
    assert screen.shown.endswith(b"\n" + data)
    assert terminal.shown.endswith(b"\na\\x1b[2J\\x0d\\xff \n\n")


def test_colour_is_for_headings_and_marks(coloured, run):
    show(Fold(coloured.out, coloured.err), run, [ok("a", b"x"), failed("b", 1, b"", b"e")])
    assert lines(coloured) == [
        *(RULE, "\x1b[1ma\x1b[0m", RULE, "x"),
        *(RULE, "\x1b[31mb\x1b[0m: failed: exit code 1", RULE, "\x1b[31m!\x1b[0m e"),
    ]


def test_failures_only(screen, run):
    show(Fold(screen.out, screen.err, failures_only=True), run, [ok("a"), failed("b")])
    assert lines(screen) == [RULE, "b: failed: exit code 1", RULE]
    assert screen.said == "1 ok, 1 failed of 2 hosts in 0.42s\n"


def test_failures_only_and_there_are_none(screen, run):
    show(Fold(screen.out, screen.err, failures_only=True), run, [ok("a")])
    assert (screen.shown, screen.said) == (b"", "")


def test_what_came_before_a_line_was_cut_is_not_shown(screen, run):
    sink = Fold(screen.out, screen.err)
    sink.stdout("a", b"half a li")
    result = Result("a", Status.BROKEN, error="the connection was lost: it is gone")
    sink.end(result)
    sink.finish(run, [result])
    assert lines(screen) == [RULE, "a: broken: the connection was lost: it is gone", RULE]


def test_hosts_that_end_was_not_called_for_are_there_too(screen, run):
    sink = Fold(screen.out, screen.err)
    (done, _, _), waiting = ok("a"), Result("b", Status.SKIPPED, error="not started: the run was cancelled")
    sink.end(done)
    sink.finish(run, [done, waiting])
    assert lines(screen)[1::3] == ["a: no output", "b: skipped: not started: the run was cancelled"]


def test_hosts_are_in_the_order_of_a_folded_set():
    names = ["web10", "web9", "web009", "db", "web1.dc2", "web1.dc10"]
    assert sorted(names, key=host_order) == ["db", "web1.dc2", "web1.dc10", "web9", "web10", "web009"]


RESULTS = st.lists(
    st.tuples(
        st.from_regex(r"\A[a-c]{1,2}[0-9]{0,3}\Z"),
        st.sampled_from([b"", b"x\n", b"y\n", b"3\n", b"4\n"]),
        st.sampled_from(list(Status)),
        st.sampled_from([0, 1, None]),
    ),
    max_size=20,
    unique_by=lambda host: host[0],
)


@STEADY
@given(RESULTS, st.booleans(), st.randoms(use_true_random=False))
def test_every_host_is_in_exactly_one_group(given_, masked, rnd):
    groups = Groups(Masks(number=masked))
    results = [ok(host, data, status=status, rc=rc) for host, data, status, rc in given_]
    for result, out, _ in results:
        groups.stdout(result.host, out)
    shuffled = list(results)
    rnd.shuffle(shuffled)
    for result, _, _ in shuffled:
        groups.end(result)
    groups.end_all(result for result, _, _ in results)  # and none a second time
    shown = groups.sorted()
    assert sorted(host for group in shown for host in group.hosts) == sorted(host for host, *_ in given_)
    for group in shown:
        assert group.result.host == group.hosts[0] == min(group.hosts, key=host_order)
    good = [group.result.status.good for group in shown]
    assert good == sorted(good, reverse=True)
    sizes = [len(group.hosts) for group in shown if group.result.status is Status.OK]
    assert sizes == sorted(sizes, reverse=True)


@STEADY
@given(RESULTS)
def test_a_heading_expands_to_its_hosts(make_screen, given_):
    screen = make_screen()
    sink = Fold(screen.out, screen.err)
    results = [ok(host, data, status=status, rc=rc)[0] for host, data, status, rc in given_]
    for result in results:
        sink.end(result)
    from controller.output import RunInfo

    sink.finish(RunInfo("r", "c", 0.0, 0.0, 0, len(results)), results)
    shown = screen.shown.decode().splitlines()
    headings = [shown[number + 1] for number in range(len(shown) - 2) if shown[number] == shown[number + 2] == RULE]
    hosts = [host for heading in headings for host in expand(heading.partition(" ")[0].removesuffix(":"))]
    assert sorted(hosts) == sorted(result.host for result in results)


@pytest.mark.parametrize("masks", [Masks(), Masks(number=True)])
def test_equal_outputs_take_memory_once(screen, run, masks):
    size = 100_000
    tracemalloc.start()
    sink = Fold(screen.out, screen.err, masks=masks)
    results = []
    for number in range(100):
        result, out, _ = ok(f"web{number}", b"7" * size)
        sink.stdout(result.host, out)
        sink.end(result)
        results.append(result)
    del out
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * size
    sink.finish(run, results)
    assert lines(screen)[1] == "web[0-99] (100)"
