"""A stream that is folded at the end: who wrote the same, without keeping or repeating a byte."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from controller.masks import Masks
from controller.output import Writer
from controller.output.digests import StreamFold, _Digest
from controller.output.stream import LONGEST_LINE, Stream
from controller.results import Result, Status


def make(screen, **options):
    return StreamFold(screen.out, screen.err, Stream(screen.out, screen.err), **options)


def finish(sink, run, *results):
    for result in results:
        sink.end(result)
    sink.finish(run, list(results))


def ok(host, **more):
    return Result(host, more.pop("status", Status.OK), **{"rc": 0, **more})


def test_lines_come_live_and_groups_at_the_end(screen, run):
    sink = make(screen)
    for number in (10, 1, 2, 3):
        host = f"web{number}"
        sink.start(host)
        sink.stdout(host, b"same\n")
    sink.stdout("web3", b"more\nhalf")
    sink.stderr("web3", b"oh\n")
    sink.stdout("db1", b"same\n")
    live = b"web10: same\nweb1: same\nweb2: same\nweb3: same\nweb3: more\nweb3! oh\ndb1: same\n"
    assert screen.shown == live
    finish(
        sink,
        run,
        ok("db1", status=Status.FAILED, rc=3),
        ok("gone", status=Status.UNREACHABLE, rc=None, error="connection refused by 192.0.2.1:7422"),
        ok("gone2", status=Status.UNREACHABLE, rc=None, error="connection refused by 192.0.2.2:7422"),
        ok("quiet"),
        *(ok(f"web{number}") for number in (3, 2, 1, 10)),
    )
    assert screen.shown.removeprefix(live).decode().splitlines() == [
        "web3: half",
        "= web[1-2,10] (3): same, 1 line",
        "= quiet: differs, no output",
        "= web3: differs, 3 lines and 1 on stderr",
        "= db1: failed: exit code 3; 1 line",
        "= gone,gone2 (2): unreachable: connection refused by 192.0.2.1:7422; at different addresses",
    ]
    assert screen.said == "5 ok, 1 failed, 2 unreachable of 8 hosts in 0.42s\n"
    assert not sink.keeps


def test_one_host_differs_from_nobody(screen, run):
    sink = make(screen)
    sink.stderr("web1", b"a\nb")
    finish(sink, run, ok("web1"))
    assert screen.shown == b"web1! a\nweb1! b\n= web1: 0 lines and 2 on stderr\n"


def test_where_output_was_cut_does_not_tell(screen, run):
    sink = make(screen)
    for piece in (b"ab", b"c\n", b"de"):
        sink.stdout("web1", piece)
    sink.stdout("web2", b"abc\nde")
    finish(sink, run, ok("web1"), ok("web2"))
    assert screen.shown.endswith(b"= web[1-2] (2): same, 2 lines\n")


def test_a_stream_is_not_the_other_one(screen, run):
    sink = make(screen)
    sink.stdout("web1", b"a\n")
    sink.stderr("web2", b"a\n")
    finish(sink, run, ok("web1"), ok("web2"))
    assert screen.shown.count(b"differs") == 2


def test_what_is_cut_off_is_told_apart_by_its_length(screen, run):
    sink = make(screen)
    for host in ("web1", "web2"):
        sink.stdout(host, b"aa")
    cut = [ok(f"web{number}", truncated=True, stdout_bytes=100 * number) for number in (1, 2)]
    finish(sink, run, *cut)
    assert screen.shown.decode().splitlines()[2:] == [
        "= web1: output truncated: the command wrote 100 B; differs, 1 line",
        "= web2: output truncated: the command wrote 200 B; differs, 1 line",
    ]


def test_what_came_over_a_line_that_was_cut_counts_for_nothing(screen, run):
    sink = make(screen)
    sink.stdout("web1", b"half\n")
    broken = [ok(f"web{number}", status=Status.BROKEN, rc=None, error="the line was cut") for number in (1, 2)]
    finish(sink, run, *broken)
    assert screen.shown == b"web1: half\n= web[1-2] (2): broken: the line was cut\n"


def test_a_host_that_was_cut_off_has_its_lines_counted(screen, run):
    sink = make(screen)
    sink.stdout("web1", b"one\n")
    finish(sink, run, ok("web1", status=Status.TIMEOUT, rc=None, error="killed after 1 s"), ok("web2"))
    assert screen.shown.endswith(b"= web2: differs, no output\n= web1: timeout: killed after 1 s; 1 line\n")


def test_names_and_colours_are_harmless(coloured, run):
    sink = make(coloured)
    finish(sink, run, ok("web1"), ok("web2", status=Status.FAILED, rc=1, error="\x1b[2J"))
    assert coloured.shown == (
        b"= \x1b[1mweb1\x1b[0m: differs, no output\n= \x1b[31mweb2\x1b[0m: failed: \\x1b[2J; no output\n"
    )


def test_masked_hosts_are_the_same(screen, run):
    sink = make(screen, masks=Masks.of(host=True))
    for host in ("web1", "web2"):
        sink.stdout(host, b"I am ")
        sink.stdout(host, host.encode() + b"\nlast")
    finish(sink, run, ok("web1"), ok("web2"))
    assert screen.shown.endswith(b"= web[1-2] (2): same, 2 lines; some differ where masked\n")


# Digests --------------------------------------------------------------------------------------------------------------

MASKS = {
    "none": Masks(),
    "host": Masks.of(host=True),
    "ours": Masks.of(host=True, time=True, number=True),
    "a pattern": Masks.of(["a+", "^b", "c$", "z*"]),
    "across lines": Masks.of([r"a\s+b"]),
}
TEXTS = {
    "lines": b"web1 at 12:30:15\n  aaa 17 bc\n\nb a\nb\n",
    "unended": b"one\ntwo web1 3",
    "a long line": b"ab" * LONGEST_LINE + b"\nshort 1\n",
    "exactly as long": b"a" * LONGEST_LINE + b"\n" + b"b" * (2 * LONGEST_LINE) + b"\nc",
    "without an end": b"a1 " * LONGEST_LINE,
}


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_digest_is_that_of_the_text_however_it_comes(masks, text):
    rnd = random.Random(1)
    found = set()
    for _ in range(4 if len(text) < LONGEST_LINE else 2):
        digest = _Digest(masks, "web1")
        rest = text
        while rest:
            cut = rnd.choice([1, 7, 1000, LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1, len(text)])
            digest.feed(rest[:cut])
            rest = rest[cut:]
        found.add(digest.finish())
    assert len(found) == 1


def masked(text, *patterns, **ours):
    digest = _Digest(Masks.of(patterns, **ours), "web1")
    digest.feed(text)
    return digest.finish().masked


def test_masks_see_a_line_at_a_time():
    assert masked(b"x a\n", "a$") == masked(b"x #\n", "q")
    assert masked(b"a b\n", r"a\s+b") == masked(b"#\n", "q")
    assert masked(b"a\nb\n", r"a\s+b") == masked(b"a\nb\n", "q")
    assert masked(b"17\n", number=True) != masked(b"17", number=True)
    assert masked(b"web1 17", host=True, number=True) == masked(b"web1 9", host=True, number=True)


@pytest.mark.parametrize("masks", [Masks(), Masks.of(["y"], host=True)])
def test_a_line_without_end_costs_no_memory(masks):
    digest = _Digest(masks, "web1")
    chunk = b"x" * (256 * 1024)
    digest.feed(chunk)
    tracemalloc.start()
    try:
        for _ in range(40):
            digest.feed(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * LONGEST_LINE
    assert digest.finish().lines == 1


def test_a_closed_pipe_is_the_callers_to_know(run):
    import os

    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as stream:
        out = Writer(stream)
        with pytest.raises(BrokenPipeError):
            StreamFold(out, out, Stream(out, out)).stdout("web1", b"line\n")
