"""What is noted of a transfer, and the result that comes of it."""

from __future__ import annotations

import hashlib

import pytest

from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import Entry, FileStatus, Kind, Old, Outcome
from controller.differences import Content, Differences
from controller.ledger import DiffMaker, Ledger
from controller.meter import Meter
from controller.results import FileResult, Result, Status, Tally

CHANGED, UNCHANGED, DELETED = FileStatus.CHANGED, FileStatus.UNCHANGED, FileStatus.DELETED
SKIPPED, FAILED = FileStatus.SKIPPED, FileStatus.FAILED
SHA = hashlib.sha256(b"new\n").hexdigest()


def result(*outcomes: Outcome, keep: bool = True) -> Result:
    ledger = Ledger("web1", Meter(moved=7), keep=keep)
    for number, outcome in enumerate(outcomes):
        ledger.listed(Entry(f"e{number}", Kind.FILE))
        ledger.outcome(outcome)
    return ledger.result()


@pytest.mark.parametrize(
    ("statuses", "expected", "error"),
    [
        ((), Status.UNCHANGED, None),
        ((UNCHANGED, SKIPPED), Status.UNCHANGED, None),
        ((UNCHANGED, CHANGED), Status.CHANGED, None),
        ((DELETED,), Status.CHANGED, None),
        ((CHANGED, FAILED), Status.FAILED, "/1: no space"),
        ((FAILED, FAILED, FAILED), Status.FAILED, "/0: no space (and 2 more)"),
    ],
)
def test_the_status_of_a_host(statuses: tuple[FileStatus, ...], expected: Status, error: str | None) -> None:
    outcomes = [
        Outcome(f"/{number}", status, number, error="no space" if status is FAILED else None)
        for number, status in enumerate(statuses)
    ]
    made = result(*outcomes)
    assert (made.host, made.status, made.error) == ("web1", expected, error)
    assert made.tally is not None
    assert made.tally.bytes == 7
    assert sum(getattr(made.tally, status.value) for status in FileStatus) == len(statuses)
    assert made.started is not None


@pytest.mark.parametrize(
    ("statuses", "said"), [((SKIPPED,), True), ((SKIPPED, SKIPPED), True), ((SKIPPED, UNCHANGED), False), ((), False)]
)
def test_all_was_skipped(statuses: tuple[FileStatus, ...], said: bool) -> None:
    made = result(*(Outcome(f"/{number}", status, number) for number, status in enumerate(statuses)))
    assert made.note == ("nothing was transferred: all that was asked for was skipped" if said else None)


def test_the_digest_of_the_only_file() -> None:
    one = Outcome("/x", CHANGED, 0, 4, SHA)
    assert result(one).tally == Tally(bytes=7, changed=1, sha256=SHA)
    assert result(one, Outcome("/", UNCHANGED, 1)).tally == Tally(bytes=7, changed=1, unchanged=1)


def test_what_can_be_put_back_is_counted() -> None:
    kept = [Outcome("/a", CHANGED, 0, kept=True), Outcome("/b", DELETED, kept=True), Outcome("/c", CHANGED, 1)]
    tally = result(*kept).tally
    assert tally is not None
    assert tally.kept == 2


def test_files_that_need_no_attention_are_counted_and_not_kept() -> None:
    outcomes = (
        Outcome("/a", CHANGED, 0, changes="content"),
        Outcome("/b", CHANGED, 1, note="continued at byte 5"),
        Outcome("/c", SKIPPED, 2, note="is a FIFO"),
    )
    assert [file.path for file in result(*outcomes).files] == ["/a", "/b", "/c"]
    made = result(*outcomes, keep=False)
    assert [file.path for file in made.files] == ["/b", "/c"]
    assert made.tally == Tally(bytes=7, changed=2, skipped=1)


def test_what_changes_is_kept_when_that_is_asked_for() -> None:
    ledger = Ledger("web1", Meter(), keep=False, changes=True)
    for number, status in enumerate((CHANGED, UNCHANGED, SKIPPED)):
        ledger.listed(Entry(f"e{number}", Kind.FILE))
        ledger.outcome(Outcome(f"/{number}", status, number))
    ledger.outcome(Outcome("/3", DELETED))
    assert [file.path for file in ledger.result().files] == ["/0", "/2", "/3"]


def test_a_thousand_failures_are_enough() -> None:
    made = result(*(Outcome(f"/{number}", FAILED, number, error="e") for number in range(1001)), keep=False)
    assert (len(made.files), made.error) == (1000, "/0: e (and 1000 more)")


def test_a_transfer_that_did_not_come_to_its_end() -> None:
    ledger = Ledger("web1", Meter(), keep=True)
    ledger.listed(Entry("x", Kind.FILE, size=5))
    ledger.outcome(Outcome("/x", CHANGED, 0))
    made = ledger.failure(Status.BROKEN, "the connection was lost")
    assert (made.status, made.error, made.tally) == (Status.BROKEN, "the connection was lost", Tally(changed=1))
    assert made.files == (FileResult("/x", CHANGED),)


def test_the_meter() -> None:
    meter = Meter()
    ledger = Ledger("web1", meter, keep=True)
    for entry in (Entry("d", Kind.DIRECTORY), Entry("d/x", Kind.FILE, size=5), Entry("d", Kind.LEAVE)):
        ledger.listed(entry)
    ledger.sent(3)
    assert meter == Meter(done=3, total=5, files=2)
    ledger.outcome(Outcome("/d/x", UNCHANGED, 1, bytes=5))  # was there all the time
    ledger.outcome(Outcome("/d", CHANGED, 0, bytes=0, changes="created"))
    ledger.outcome(Outcome("/d/old", DELETED, bytes=100, changes="deleted"))
    assert meter.done == 8


# Differences ----------------------------------------------------------------------------------------------------------


def maker(new: Content | None = None) -> DiffMaker:
    made = DiffMaker(Differences(), "web1", lambda path: new)
    made.listed(Entry("d", Kind.DIRECTORY))
    made.listed(Entry("d/x", Kind.FILE))
    return made


def old(data: bytes, *, index: int = 1, size: int | None = None) -> Old:
    return Old(index, len(data) if size is None else size, hashlib.sha256(data).hexdigest(), content=True)


def test_a_difference() -> None:
    diffs = maker(Content.of(b"new\n"))
    diffs.old(old(b"old\n"), b"old\n")
    assert diffs.made(Outcome("/d/x", CHANGED, 1)) == "--- /d/x\n+++ /d/x\n@@ -1 +1 @@\n-old\n+new\n"
    assert diffs.made(Outcome("/d/x", CHANGED, 1)) is None


def test_a_difference_of_what_is_too_large_to_be_told() -> None:
    diffs = maker()
    diffs.old(Old(1, 1 << 30, "a" * 64), None)
    text = diffs.made(Outcome("/d/x", CHANGED, 1, bytes=1 << 20, sha256="b" * 64))
    assert text == f"/d/x: 1073741824 bytes, sha256 {'a' * 12} -> 1048576 bytes, sha256 {'b' * 12}\n"


@pytest.mark.parametrize(
    "outcome",
    [Outcome("/d/x", UNCHANGED, 1), Outcome("/d/x", FAILED, 1), Outcome("/d", CHANGED, 0), Outcome("/y", DELETED)],
)
def test_no_difference(outcome: Outcome) -> None:
    assert maker(Content.of(b"new\n")).made(outcome) is None


def test_no_difference_where_the_mode_alone_changes() -> None:
    diffs = maker(Content.of(b"same\n"))
    diffs.old(old(b"same\n"), b"same\n")
    assert diffs.made(Outcome("/d/x", CHANGED, 1, changes="mode")) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("mode 0644 -> 0600", "/d/x: mode 0644 -> 0600\n"),
        ("mode 0644 -> 0600, owner 0:0 -> 33:33, times", "/d/x: mode 0644 -> 0600\n/d/x: owner 0:0 -> 33:33\n"),
        ("times", None),
        ("mode", None),
        ("mode \x1b -> 0600", None),
        ("content, mode 0644 -> 0600", "/d/x: mode 0644 -> 0600\n--- /d/x\n+++ /d/x\n@@ -1 +1 @@\n-old\n+new\n"),
    ],
)
def test_attributes_have_lines_of_their_own(changes: str, expected: str | None) -> None:
    diffs = maker(Content.of(b"new\n"))
    if changes.startswith("content"):
        diffs.old(old(b"old\n"), b"old\n")
    assert diffs.made(Outcome("/d/x", CHANGED, 1, changes=changes)) == expected


def test_the_owner_of_a_directory() -> None:
    outcome = Outcome("/d", CHANGED, 0, changes="owner 0:0 -> 33:33")
    assert maker().made(outcome) == "/d: owner 0:0 -> 33:33\n"


def test_what_is_there_and_cannot_be_read_is_not_shown_as_new() -> None:
    new = Content.of(b"new\n")
    text = maker(new).made(Outcome("/d/x", CHANGED, 1, bytes=4, changes="content"))
    assert text == f"/d/x: unknown content -> 4 bytes, sha256 {new.sha256[:12]}\n"
    assert maker(new).made(Outcome("/d/x", CHANGED, 1, changes="created")) == (
        "--- /dev/null\n+++ /d/x\n@@ -0,0 +1 @@\n+new\n"
    )


def test_an_empty_file_that_gets_content() -> None:
    diffs = maker(Content.of(b"new\n"))
    diffs.old(Old(1, 0, hashlib.sha256(b"").hexdigest()), None)
    assert diffs.made(Outcome("/d/x", CHANGED, 1, changes="content")) == "--- /d/x\n+++ /d/x\n@@ -0,0 +1 @@\n+new\n"


def test_changes_are_told_in_the_same_words_with_a_diff() -> None:
    ledger = Ledger("web1", Meter(), keep=True, differences=maker(Content.of(b"new\n")))
    ledger.listed(Entry("e", Kind.FILE))
    ledger.outcome(Outcome("/e", CHANGED, 2, changes="mode 0644 -> 0600, owner 0:0 -> 1:1"))
    (file,) = ledger.result().files
    assert (file.changes, file.diff) == ("mode, owner", "/e: mode 0644 -> 0600\n/e: owner 0:0 -> 1:1\n")


def test_old_contents_that_nobody_waits_for() -> None:
    diffs = maker()
    for index in (0, 2):
        with pytest.raises(RemoteProtocolError, match=f"the old content of entry {index}, which nobody waits for"):
            diffs.old(old(b"x", index=index), b"x")
    diffs.old(old(b"x"), b"x")
    with pytest.raises(RemoteProtocolError, match="entry 1, which nobody waits for"):
        diffs.old(old(b"x"), b"x")


def test_an_old_content_of_another_size() -> None:
    with pytest.raises(RemoteProtocolError, match="2 bytes of old content, expected 9"):
        maker().old(old(b"xx", size=9), b"xx")


def test_old_contents_that_wait_take_bounded_memory() -> None:
    diffs = DiffMaker(Differences(), "web1", lambda path: Content.of(b"new\n"))
    data = b"x" * (255 * 1024) + b"\n"
    for index in range(40):
        diffs.listed(Entry(str(index), Kind.FILE))
        diffs.old(old(data, index=index), data)
    texts = [diffs.made(Outcome(f"/{index}", CHANGED, index)) or "" for index in range(40)]
    assert "-x" in texts[0]
    assert all(text.startswith(f"/{index}: {len(data)} bytes") for index, text in enumerate(texts) if index > 33)
