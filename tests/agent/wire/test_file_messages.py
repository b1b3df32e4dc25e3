"""The ranges that the messages of push and pull check themselves, and the paths that no entry may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest

from agent.wire import file_messages as f
from agent.wire.file_messages import Entry, FileStatus, Kind, Outcome, Want

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
BAD: list[tuple[Callable[[], object], str]] = [
    *[
        (lambda path=path: Entry(path, Kind.FILE), f"path with an empty name or dots: {path[:64]!r}")
        for path in ("", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", "a//b", "a/", "./a", "a/.", "a/./b")
    ],
    (lambda: Entry("a\0b", Kind.FILE), "NUL in a path"),
    (lambda: Entry("a" * 4097, Kind.FILE), "path of 4097 characters, expected no more than 4096"),
    (lambda: Entry("a", Kind.FILE, -1), "mode -1 out of range"),
    (lambda: Entry("a", Kind.FILE, 0o10000), "mode 10000 out of range"),
    (lambda: Entry("a", Kind.FILE, 0, -1), "size -1 out of range"),
    (lambda: Entry("a", Kind.FILE, 0, 2**63), "size 9223372036854775808 out of range"),
    (lambda: Entry("a", Kind.FILE, mtime=2**63), "time 9223372036854775808 out of range"),
    (lambda: Entry("a", Kind.HARDLINK, target="../x"), "path with an empty name or dots: '../x'"),
    (lambda: Entry("a", Kind.SYMLINK), "malformed target of a link"),
    (lambda: Entry("a", Kind.SYMLINK, target="x" * 4097), "malformed target of a link"),
    (lambda: Entry("a", Kind.SYMLINK, target="\0"), "malformed target of a link"),
    (lambda: Want(-1), "index -1 out of range"),
    (lambda: Want(0, "x"), "malformed digest"),
    (lambda: Want(0, EMPTY.upper()), "malformed digest"),
    (lambda: Want(0, None, 5), "offset without a digest"),
    (lambda: Want(0, None, 0, EMPTY), "offset without a digest"),
    (lambda: Want(0, None, -1, EMPTY), "offset -1 out of range"),
    (lambda: Outcome("x", FileStatus.CHANGED, -1), "index -1 out of range"),
    (lambda: Outcome("x", FileStatus.CHANGED, bytes=-1), "-1 bytes out of range"),
    (lambda: Outcome("x", FileStatus.CHANGED, sha256=""), "malformed digest"),
    (lambda: f.Push(""), "empty destination"),
    (lambda: f.Push("\0"), "NUL in the destination"),
    (lambda: f.Push("x" * 4097), "destination of 4097 characters, expected no more than 4096"),
    (lambda: f.Push("x", mode=0o10000), "mode 10000 out of range"),
    (lambda: f.Push("x", mode=-1), "mode -1 out of range"),
    (lambda: f.Push("x", owner="\0"), "NUL in a name"),
    (lambda: f.Push("x", exclude=("\0",)), "NUL in a name"),
    (lambda: f.Push("x", backup=""), "empty backup suffix"),
    (lambda: f.Push("x", backup="/../../etc"), "backup suffix with a slash or NUL"),
    (lambda: f.Push("x", validate="nginx -t"), "no %s in the command that validates"),
    (lambda: f.Pull(()), "no paths"),
    (lambda: f.Pull(("a", "")), "empty path"),
    (lambda: f.Pull(("a",), exclude=("\0",)), "NUL in a name"),
    (lambda: f.Pull(("a",), max_size=-1), "size limit of -1 bytes"),
    (lambda: f.Pull(("a",), max_files=0), "limit of 0 files"),
    (lambda: f.Rollback("\0"), "NUL in a name"),
    (lambda: f.Rollback(ask=True), "a question without a target"),
    (lambda: f.Open(0, -1), "offset -1 out of range"),
    (lambda: f.Open(0, 5, 4), "size 4 out of range"),
    (lambda: f.Data(b""), "0 bytes of data, expected 1 to 262144"),
    (lambda: f.Data(bytes(262145)), "262145 bytes of data, expected 1 to 262144"),
    (lambda: f.Hole(0), "hole of 0 bytes, expected 1 to 67108864"),
    (lambda: f.Hole(2**40), "hole of 1099511627776 bytes, expected 1 to 67108864"),
    (lambda: f.Close(-1, EMPTY), "size -1 out of range"),
    (lambda: f.Close(0, "0" * 63), "malformed digest"),
    (lambda: f.Whole(-1, EMPTY, b""), "index -1 out of range"),
    (lambda: f.Whole(0, "A" * 64, b""), "malformed digest"),
    (lambda: f.Whole(0, EMPTY, bytes(65537)), "whole file of 65537 bytes, expected no more than 65536"),
    (lambda: f.Same((-1,)), "index -1 out of range"),
    (lambda: f.Gone(-1, ""), "index -1 out of range"),
    (lambda: f.Old(0, 262145, EMPTY, content=True), "size 262145 out of range"),
]


@pytest.mark.parametrize(("make", "text"), BAD, ids=[f"{number}: {text[:40]}" for number, (_, text) in enumerate(BAD)])
def test_out_of_range(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


@pytest.mark.parametrize("path", [".", "a", "a/b", "...", "a\n", "\udcff", ".a", "a..b", "x" * 4096])
def test_paths(path: str) -> None:
    assert Entry(path, Kind.FILE).path == path


def test_the_list_of_messages_is_complete() -> None:
    listed = {getattr(f, name) for name in f.__all__ if name not in ("TOP", "owner_number")}
    assert listed == {*get_args(f.FileMessage), f.FileMessage, Entry, Want, Outcome, Kind, FileStatus}


def test_contents_do_not_show_in_logs() -> None:
    assert repr(f.Data(b"password")) == "Data()"


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("0033", 33), ("4294967294", 2**32 - 2), ("www-data", None)])
def test_owners_by_name_and_number(text: str, number: int | None) -> None:
    assert f.owner_number(text) == number


@pytest.mark.parametrize("text", ["4294967295", "-1", "-0000000000001", "10000000000", "9" * 5000])
def test_numbers_that_no_owner_has(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        f.owner_number(text)
    assert str(caught.value) == f"{text[:32]!r} is not in 0..4294967294"
