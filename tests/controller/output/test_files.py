"""The table of a push or a pull, the differences before it, and what JSON says of files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.wire.file_messages import FileStatus
from controller.output.documents import Json
from controller.output.files import FileTable
from controller.render import FormatError
from controller.results import FileResult, Result, Status, Tally

SHA = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
ONE = Result("web1", Status.CHANGED, started=1.0, elapsed=2.0, tally=Tally(bytes=3 << 20, changed=1, sha256=SHA))
NOWHERE = Result("db", Status.UNREACHABLE, error="connection refused\nby 10.0.0.1", tally=Tally())


def show(screen: Any, run: Any, *results: Result, **options: Any) -> str:
    table = FileTable(screen.out, screen.err, **options)
    for result in results:
        table.end(result)
    table.finish(run, results)
    return screen.shown.decode()


def test_a_table(screen: Any, run: Any) -> None:
    there = replace(ONE, host="web2", status=Status.UNCHANGED, tally=Tally(unchanged=1, sha256=SHA))
    assert show(screen, run, ONE, there, NOWHERE) == (
        "HOST    STATUS       BYTES    TIME    RATE       SHA256\n"
        f"web1    changed      3145728  2.00s   1.5 MiB/s  {SHA}\n"
        f"web2    unchanged    0        2.00s   -          {SHA}\n"
        "db      unreachable  -        -       -          [error: connection refused\\x0aby 10.0.0.1]\n"
    )
    assert screen.said == "1 changed, 1 unchanged, 1 unreachable of 3 hosts in 0.42s\n"


def test_trees(screen: Any, run: Any) -> None:
    tree = replace(ONE, tally=Tally(changed=3, unchanged=1995, deleted=2), note="a remark")
    nothing = replace(ONE, host="web2", tally=Tally())
    assert [line.split("  ")[-1].strip() for line in show(screen, run, tree, nothing).splitlines()] == [
        "SHA256",
        "[3 changed, 1995 unchanged, 2 deleted]",
        "[note: a remark]",
        "[no files]",
    ]


def failed(path: str) -> FileResult:
    return FileResult(path, FileStatus.FAILED, error="cannot write the new file: no space left on device")


def test_what_is_wrong_with_files(screen: Any, run: Any) -> None:
    files = (
        failed("/srv/a\x1b"),
        FileResult("/srv/fifo", FileStatus.SKIPPED, note="is a FIFO"),
        FileResult("/srv/big", FileStatus.CHANGED, note="continued at byte 5"),
        FileResult("/srv/fine", FileStatus.CHANGED),
    )
    bad = Result(
        "web1",
        Status.FAILED,
        elapsed=1.0,
        error="/srv/a: cannot write",
        files=files,
        tally=Tally(changed=2, skipped=1, failed=1),
    )
    assert [line[-75:].strip() for line in show(screen, run, bad).splitlines()][1:] == [
        "web1    failed    0        1.00s   -       [2 changed, 1 skipped, 1 failed]",
        "[error: /srv/a\\x1b: cannot write the new file: no space left on device]",
        "[note: /srv/fifo: is a FIFO]",
        "[note: /srv/big: continued at byte 5]",
    ]


def test_so_many_complaints_and_no_more(screen: Any, run: Any) -> None:
    files = tuple(failed(f"/{number}") for number in range(30))
    bad = Result("web1", Status.FAILED, error="/0: e (and 99 more)", files=files, tally=Tally(failed=100))
    lines = show(screen, run, bad).splitlines()
    assert len(lines) == 1 + 1 + 20 + 1
    assert lines[-1].strip() == "[and 80 more]"


def test_a_host_that_broke_off(screen: Any, run: Any) -> None:
    broken = Result(
        "web1", Status.BROKEN, elapsed=1.0, error="the connection was lost", tally=Tally(changed=1, sha256=SHA)
    )
    assert "[1 changed]\n" in (shown := show(screen, run, broken))
    assert "[error: the connection was lost]" in shown
    assert SHA not in shown, "the digest of a transfer that nobody may trust"


def test_failures_only(screen: Any, run: Any) -> None:
    assert show(screen, run, ONE, failures_only=True) == ""
    assert screen.said == ""
    assert [line.split()[0] for line in show(screen, run, ONE, NOWHERE, failures_only=True).splitlines()] == [
        "HOST",
        "db",
    ]


def test_other_formats(screen: Any, run: Any, coloured: Any) -> None:
    shown = show(coloured, run, ONE, tablefmt="github")
    assert shown.splitlines()[0].split() == [
        "|",
        "HOST",
        "|",
        "STATUS",
        "|",
        "BYTES",
        "|",
        "TIME",
        "|",
        "RATE",
        "|",
        "SHA256",
        "|",
    ]
    assert "\x1b" not in shown
    with pytest.raises(FormatError):
        FileTable(screen.out, screen.err, tablefmt="grub")


def test_colour(coloured: Any, run: Any) -> None:
    shown = show(coloured, run, ONE)
    assert shown.startswith("\x1b[1mHOST ")
    assert "\x1b[32mchanged\x1b[0m" in shown
    assert show(type(coloured)(colour=True), run).startswith("\x1b[1mHOST")  # a table without rows


# Differences ----------------------------------------------------------------------------------------------------------


def differing(host: str, *texts: str) -> Result:
    files = tuple(FileResult(f"/{number}", FileStatus.CHANGED, diff=text) for number, text in enumerate(texts))
    return Result(host, Status.CHANGED, files=files, tally=Tally(changed=1))


def test_equal_differences_are_shown_once(screen: Any, run: Any) -> None:
    one, other = "--- /a\n+++ /a\n@@ -1 +1 @@\n-x\n+y\n", "/b: nothing -> 5 bytes\n"
    hosts = [differing("db", other), *(differing(f"web{number}", one, other) for number in (1, 2, 3)), ONE]
    assert show(screen, run, *hosts).partition("HOST")[0] == (
        f"web[1-3]: this diff (3 hosts)\n{one}{other}db: this diff (1 host)\n{other}"
    )


def test_differences_on_a_terminal_are_harmless_and_coloured(
    terminal: Any, coloured: Any, screen: Any, run: Any
) -> None:
    text = "@@ -1 +1 @@\n-\x1b[2J\n+\u202e\n same\udcff\n"
    assert "-\\x1b[2J\n+\\u202e\n same\\xff\n" in show(terminal, run, differing("a", text))
    assert "\x1b[31m-\\x1b[2J\x1b[0m\n\x1b[32m+\\u202e\x1b[0m\n same" in show(coloured, run, differing("a", text))
    table = FileTable(screen.out, screen.err)
    table.finish(run, [differing("a", text)])
    assert b"-\x1b[2J\n+\xe2\x80\xae\n same\xff\n" in screen.shown, "bytes in a pipe are as they are"


def test_what_a_check_would_change(screen: Any, run: Any) -> None:
    files = (
        FileResult("/new\x1b", FileStatus.CHANGED, changes="created"),
        FileResult("/text", FileStatus.CHANGED, changes="content", diff="--- /text\n"),
        FileResult("/old", FileStatus.DELETED),
        FileResult("/link", FileStatus.CHANGED, changes="link"),
        FileResult("/same", FileStatus.UNCHANGED),
    )
    tree = replace(ONE, files=files, tally=Tally(changed=3, deleted=3, unchanged=1))
    hosts = [tree, replace(tree, host="web2"), replace(NOWHERE, tally=None)]
    assert show(screen, run, *hosts, check=True).partition("HOST")[0] == (
        "web[1-2]: this diff (2 hosts)\n--- /text\n"
        "web[1-2]: would change (2 hosts)\n"
        "created  /new\\x1b\n"
        "deleted  /old\n"
        "link     /link\n"
        "[more]   2 others\n"
    )


# JSON -----------------------------------------------------------------------------------------------------------------


def test_json(screen: Any, run: Any) -> None:
    files = (
        FileResult("/a", FileStatus.CHANGED, 3, SHA, changes="content, mode", diff="--- /a\n"),
        FileResult("/b", FileStatus.SKIPPED, note="is a FIFO"),
        failed("/c"),
    )
    Json(screen.out).finish(run, [replace(ONE, files=files), NOWHERE])
    document = json.loads(screen.shown)
    assert document["summary"] == {"changed": 1, "unreachable": 1}
    assert document["results"][0]["bytes"] == 3 << 20
    assert document["results"][0]["files"] == [
        {
            "path": "/a",
            "status": "changed",
            "bytes": 3,
            "sha256": SHA,
            "error": None,
            "changes": "content, mode",
            "diff": "--- /a\n",
        },
        {"path": "/b", "status": "skipped", "bytes": 0, "sha256": None, "error": None, "note": "is a FIFO"},
        {
            "path": "/c",
            "status": "failed",
            "bytes": 0,
            "sha256": None,
            "error": "cannot write the new file: no space left on device",
        },
    ]
    assert document["results"][1]["files"] == []
