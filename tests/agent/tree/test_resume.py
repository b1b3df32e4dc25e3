"""Interrupted transfers: cut anywhere, they go on where they stopped, if the source is what it was."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from agent.tree.errors import FileError
from agent.tree.options import ReceiverOptions
from agent.wire import file_messages as f
from agent.wire.constants import FEATURES
from agent.wire.file_messages import FileStatus

SIZE = 6_000_000
RANDOM = random.Random(7)
CONTENT = RANDOM.randbytes(SIZE)
PIECES = -(-SIZE // 262_144)  # Data messages; before them Entries and Open, behind them Close
PART = ".big.fleet-part"


@pytest.fixture
def big(source: Path) -> Path:
    path = source / "big"
    path.write_bytes(CONTENT)
    return path


def interrupt(
    transfer: type, cut: type[Exception], big: Path, base: Path, messages: int, features: int = FEATURES
) -> None:
    with pytest.raises(cut):
        transfer([big], base, cut_after=messages, features=features).run()


@pytest.mark.parametrize("number", range(20))
def test_cut_and_continued(transfer: type, cut: type[Exception], big: Path, base: Path, number: int) -> None:
    """20 places spread over the whole; each time the old file is whole until the end."""
    (base / "big").write_bytes(b"old")
    pieces = 1 + number * (PIECES - 2) // 19
    interrupt(transfer, cut, big, base, 2 + pieces)
    assert (base / "big").read_bytes() == b"old"
    assert (base / PART).stat().st_size == pieces * 262_144
    run = transfer([big], base)
    outcome = run.run()["big"]
    assert (outcome.status, outcome.note) == (FileStatus.CHANGED, f"continued at byte {pieces * 262_144}")
    assert (base / "big").read_bytes() == CONTENT
    sent = sum(len(message.data) for message in run.log if isinstance(message, f.Data))
    assert sent == SIZE - pieces * 262_144
    assert run.watcher.bytes == SIZE  # what was there already counts as progress
    assert [path.name for path in base.iterdir()] == ["big"]


def test_cut_again_and_again(transfer: type, cut: type[Exception], big: Path, base: Path) -> None:
    for _ in range(4):
        interrupt(transfer, cut, big, base, 2 + 3)
    assert (base / PART).stat().st_size == 4 * 3 * 262_144
    assert transfer([big], base).run()["big"].note == f"continued at byte {4 * 3 * 262_144}"
    assert (base / "big").read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["first byte", "shorter", "longer"])
def test_the_source_changed_meanwhile(transfer: type, cut: type[Exception], big: Path, base: Path, change: str) -> None:
    interrupt(transfer, cut, big, base, 2 + 10)
    content = {"first byte": b"x" + CONTENT[1:], "shorter": CONTENT[:300_000], "longer": CONTENT + b"more"}[change]
    big.write_bytes(content)
    outcome = transfer([big], base).run()["big"]
    assert (base / "big").read_bytes() == content
    anew = "started anew: the source is not what it was"
    assert outcome.note == (f"continued at byte {10 * 262_144}" if change == "longer" else anew)


def modes(path: Path) -> list[int]:
    return [stat.S_IMODE((path / name).stat().st_mode) for name in ("d", "d/tmp", "d/tmp/closed", "d/tmp/read")]


@pytest.mark.parametrize("theirs", [False, True])
def test_the_directories_of_a_transfer_that_was_cut_are_as_they_should_be(
    transfer: type, cut: type[Exception], big: Path, source: Path, base: Path, theirs: bool
) -> None:
    """The next transfer takes what is there for somebody's wish: it must not find what was closed for the first one."""
    for name, mode in (("d", 0o755), ("d/tmp", 0o1777), ("d/tmp/closed", 0o710), ("d/tmp/read", 0o555)):
        (source / name).mkdir()
        (source / name).chmod(mode)
    big.rename(source / "d/tmp/read/big")
    os.utime(source / "d", ns=(1, 1))
    if theirs:
        (base / "d").mkdir()
        (base / "d").chmod(0o711)
    options = ReceiverOptions(preserve=True)
    with pytest.raises(cut):
        transfer([source / "d"], base, options=options, cut_after=2 + 10).run()
    expected = [0o711 if theirs else 0o755, 0o1777, 0o710]
    assert modes(base) == [*expected, 0o755]  # the last one must be written to once more
    assert (base / "d").stat().st_mtime_ns != 1
    transfer([source / "d"], base, options=options).run()
    assert modes(base) == [*expected, 0o755]
    assert (base / "d/tmp/read/big").read_bytes() == CONTENT


def test_directories_that_have_gone_or_changed_since(
    transfer: type, cut: type[Exception], big: Path, source: Path, base: Path
) -> None:
    for name in ("d", "d/a", "d/b"):
        (source / name).mkdir()
    big.rename(source / "d/b/big")
    said = 0

    def tamper(message: object) -> object:
        nonlocal said
        said += 1
        if said == 5:
            (base / "d").chmod(0o750)
            (base / "d/a").rename(base / "moved")
            (base / "d/a").symlink_to(base)
        return message

    with pytest.raises(cut):
        transfer([source / "d"], base, cut_after=5, tamper=tamper).run()
    found = [stat.S_IMODE((base / name).stat().st_mode) for name in ("d", "d/b", "moved")]
    assert found == [0o750, 0o755, 0o700]
    assert stat.S_IMODE(base.stat().st_mode) == 0o755


def test_little_is_not_kept(transfer: type, cut: type[Exception], source: Path, base: Path) -> None:
    (source / "small").write_bytes(CONTENT[:65_535])
    interrupt(transfer, cut, source / "small", base, 3, features=0)  # else it comes all at once
    assert list(base.iterdir()) == []


def test_a_part_is_dropped_when_the_file_is_there(transfer: type, cut: type[Exception], big: Path, base: Path) -> None:
    interrupt(transfer, cut, big, base, 2 + 10)
    (base / "big").write_bytes(CONTENT)
    assert transfer([big], base).run()["big"].status is FileStatus.UNCHANGED
    assert [path.name for path in base.iterdir()] == ["big"]


def test_a_source_that_vanishes_leaves_the_part(transfer: type, cut: type[Exception], big: Path, base: Path) -> None:
    interrupt(transfer, cut, big, base, 2 + 10)

    def vanish(message: object) -> object:
        if isinstance(message, f.Entries):
            big.unlink()
        return message

    assert transfer([big], base, tamper=vanish).run()["big"].error == "cannot read it: no such file or directory"
    assert (base / PART).stat().st_size == 10 * 262_144


def test_a_file_that_shrinks_while_it_is_sent(transfer: type, big: Path, base: Path) -> None:
    (base / "big").write_bytes(b"old")

    def shrink(message: object) -> object:
        if isinstance(message, f.Open):
            os.truncate(big, 1_000_000)
        return message

    outcome = transfer([big], base, tamper=shrink).run()["big"]
    assert outcome.error == f"shrank to 1000000 of {SIZE} bytes while it was read"
    assert (base / "big").read_bytes() == b"old"


def test_a_file_that_grows_is_sent_as_it_was(transfer: type, big: Path, base: Path) -> None:
    def grow(message: object) -> object:
        if isinstance(message, f.Data):
            with open(big, "ab") as file:
                file.write(b"one more line\n")
        return message

    assert transfer([big], base, tamper=grow).run()["big"].status is FileStatus.CHANGED
    assert (base / "big").read_bytes() == CONTENT


@pytest.mark.parametrize("spoil", ["mode", "link", "directory", "fifo", "twin"])
def test_a_part_that_others_could_have_made_is_not_taken(
    transfer: type, big: Path, base: Path, tmp_path: Path, spoil: str
) -> None:
    part, outside = base / PART, tmp_path / "outside"
    outside.write_bytes(CONTENT[:1_000_000])
    outside.chmod(0o600)
    if spoil == "mode":
        part.write_bytes(CONTENT[:1_000_000])
        part.chmod(0o644)
    elif spoil == "link":
        part.symlink_to(outside)
    elif spoil == "twin":
        os.link(outside, part)
    elif spoil == "directory":
        part.mkdir()
    else:
        os.mkfifo(part)
    outcome = transfer([big], base).run()["big"]
    assert (outcome.status, outcome.note) == (FileStatus.CHANGED, "")
    assert outside.read_bytes() == CONTENT[:1_000_000]
    assert part.exists()


def test_a_finished_file_is_settled_before_the_next_large_one_ends(
    transfer: type, cut: type[Exception], source: Path, base: Path
) -> None:
    """What has come whole is not sent again because the link broke in the file after it."""
    (source / "d").mkdir()
    (source / "d/a").write_bytes(bytes(RANDOM.randbytes(1)) * 70_000_000)
    (source / "d/b").write_bytes(CONTENT)
    with pytest.raises(cut):
        transfer([source / "d"], base, cut_after=1 + 1 + 268 + 1 + 1 + 10).run()
    assert (base / "d/a").stat().st_size == 70_000_000
    run = transfer([source / "d"], base)
    outcomes = run.run()
    assert outcomes["d/a"].status is FileStatus.UNCHANGED
    assert outcomes["d/b"].note.startswith("continued at byte ")


def test_given_up_while_the_earlier_part_is_read_again(
    transfer: type, cut: type[Exception], big: Path, base: Path
) -> None:
    interrupt(transfer, cut, big, base, 2 + 10)

    class Stop(Exception):
        pass

    steps: list[bool] = []

    def stop(receiver: object) -> None:
        steps.append(True)
        if len(steps) == 4:
            raise Stop

    for _ in range(2):  # again and again
        steps.clear()
        with pytest.raises(Stop):
            transfer([big], base, look=stop).run()
        assert [path.name for path in base.iterdir()] == [PART]
    run = transfer([big], base)
    assert run.run()["big"].note == f"continued at byte {10 * 262_144}"
    assert [path.name for path in base.iterdir()] == ["big"]


def test_two_at_once(transfer: type, cut: type[Exception], big: Path, base: Path) -> None:
    """Both find the remains of a third, one of them gets them, and neither spoils the other's file."""
    interrupt(transfer, cut, big, base, 2 + 10)
    inner: list[str] = []

    def another(message: object) -> object:
        if isinstance(message, f.Open) and not inner:
            inner.append("under way")
            inner[0] = transfer([big], base).run()["big"].note
            assert (base / "big").read_bytes() == CONTENT
        return message

    outcome = transfer([big], base, tamper=another).run()["big"]
    assert (outcome.note, inner) == (f"continued at byte {10 * 262_144}", [""])
    assert (base / "big").read_bytes() == CONTENT
    assert [path.name for path in base.iterdir()] == ["big"]


def test_a_source_that_is_called_as_the_remains_are(transfer: type, big: Path, base: Path) -> None:
    """It takes their place in the middle; then it must not become the other file."""
    (big.parent / PART).write_bytes(b"theirs")
    outcomes = transfer([big.parent], base).run()
    assert {path: outcome.error for path, outcome in outcomes.items()} == {
        "source": None,
        f"source/{PART}": None,
        "source/big": None,
    }
    assert (base / "source/big").read_bytes() == CONTENT
    assert (base / f"source/{PART}").read_bytes() == b"theirs"


def test_a_check_takes_no_part(transfer: type, cut: type[Exception], big: Path, base: Path) -> None:
    interrupt(transfer, cut, big, base, 2 + 10)
    run = transfer([big], base, options=ReceiverOptions(check=True))
    run.sending = type(run.sending)(check=True)
    assert run.run()["big"].changes == "created"
    assert (base / PART).exists()


def test_an_error_of_a_file_says_what_failed() -> None:
    assert str(FileError("read it", "no")) == "cannot read it: no"
    assert str(FileError("", "x" * 2000)) == "x" * 997 + "..."
