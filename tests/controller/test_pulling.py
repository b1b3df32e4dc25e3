"""What a host may cost this machine: messages in by hand, with a receiver into a real folder behind."""

from __future__ import annotations

import errno
import hashlib
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.tree.options import ReceiverOptions
from agent.tree.paths import Folder
from agent.tree.places import Asked
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import Entry, Kind
from controller import pulling
from controller.ledger import Ledger
from controller.meter import Meter
from controller.pulling import NoRoomError, Pulling
from controller.results import Status


class Lab:
    """A pull of `x` into `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent: list[m.Message] = []
        self.meter = Meter()
        self.ledger = Ledger("web1", self.meter, keep=True)
        self._base = Folder.root().enter(str(folder).lstrip("/"))
        self.part: Pulling
        self.remote = ["x"]

    def start(self, **options: Any) -> Lab:
        self.part = Pulling(
            self._base, Asked(self.remote), ReceiverOptions(**options), self.sent.append, self.ledger, self.meter
        )
        return self

    def take(self, *messages: m.Message) -> None:
        for message in messages:
            self.part.take(message)
            while self.part.step():
                pass

    def close(self) -> None:
        self.part.close()
        self._base.release()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()
    assert not [path for path in tmp_path.rglob(".*.fleet-*") if not path.name.endswith(".fleet-part")]


def file(size: int, path: str = "x") -> Entry:
    return Entry(path, Kind.FILE, 0o644, size)


def close_of(data: bytes) -> f.Close:
    return f.Close(len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what makes the disk have so many bytes free."""

    def set_free(free: int) -> None:
        real = os.statvfs("/")
        fields = list(real)
        fields[0:2] = [1, 1]  # f_bsize, f_frsize
        fields[4] = free  # f_bavail
        monkeypatch.setattr(os, "fstatvfs", lambda fd: os.statvfs_result(fields))

    return set_free


def test_a_file(lab: Lab) -> None:
    lab.start().take(f.Entries((file(3),), last=True))
    assert lab.sent == [f.Wants((f.Want(0),))]
    lab.take(f.Open(0, 0, 3), f.Data(b"abc"), close_of(b"abc"))
    assert lab.part.done
    assert (lab.folder / "x").read_bytes() == b"abc"
    assert lab.meter == Meter(moved=3, done=3, total=3, files=1, complete=True)
    assert lab.ledger.result().status is Status.CHANGED


def test_a_whole_file(lab: Lab) -> None:
    sha256 = hashlib.sha256(b"abc").hexdigest()
    lab.start().take(f.Entries((file(3),), last=True), f.Whole(0, sha256, b"abc"))
    assert lab.part.done
    assert (lab.folder / "x").read_bytes() == b"abc"
    assert lab.meter == Meter(moved=3, done=3, total=3, files=1, complete=True)


def test_a_whole_file_that_nobody_wants(lab: Lab) -> None:
    lab.start()
    with pytest.raises(RemoteProtocolError, match=r"^entry 1 was not asked for$"):
        lab.take(f.Entries((file(3),), last=True), f.Whole(1, "0" * 64, b"abc"))


def test_a_whole_file_that_has_grown_beyond_the_room(lab: Lab, disk: Callable[[int], None]) -> None:
    disk(5000)
    lab.start(min_free=4000).take(f.Entries((file(900),), last=True))
    with pytest.raises(NoRoomError):
        lab.take(f.Whole(0, "0" * 64, bytes(1001)))


def test_a_file_that_there_is_no_room_for(lab: Lab, disk: Callable[[int], None]) -> None:
    disk(5000)
    lab.start(min_free=4000).take(f.Entries((file(1001),), last=True))
    assert lab.part.done, "nobody may have been asked for it"
    result = lab.ledger.result()
    reason = "no room on the local disk: 1001 B needed, 1000 B may be used"
    assert (result.status, result.error) == (Status.FAILED, f"{lab.folder}/x: {reason}")


def test_what_is_wrong_on_the_host_is_told_with_its_path_there(lab: Lab) -> None:
    lab.remote = ["/var/log/x/*.log", "home/x"]
    failed = Entry("a.log", Kind.FAILED, reason="no such file or directory")
    skipped = Entry("b.log", Kind.SKIPPED, reason="is a FIFO")
    lab.start().take(
        f.Entries((failed, skipped, file(3, "x"), file(9, "c.log"), file(3, "d.log")), last=True),
        f.Gone(2, "cannot read it: permission denied"),
        f.Open(3, 0, 9),
        f.Gone(3, "vanished"),
        f.Open(4, 0, 3),
        f.Data(b"abc"),
        close_of(b"abc"),
    )
    assert [(one.path, one.error or one.note) for one in lab.ledger.result().files] == [
        ("/var/log/x/a.log", "no such file or directory"),
        ("/var/log/x/b.log", "is a FIFO"),
        ("home/x", "cannot read it: permission denied"),
        ("/var/log/x/c.log", "vanished"),
        (f"{lab.folder}/d.log", ""),
    ]
    assert lab.part._files.theirs == {}


def test_what_has_failed_here_is_told_with_its_path_here(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "")))
    lab.start().take(f.Entries((file(3),), last=True), f.Open(0, 0, 3), f.Data(b"a"), f.Gone(0, "vanished"))
    error = "cannot write the new file: no space left on device"
    assert [(one.path, one.error) for one in lab.ledger.result().files] == [(f"{lab.folder}/x", error)]


@pytest.mark.parametrize(
    ("remote", "exclude", "entries", "missing"),
    [
        (["/x"], (), [], "/x"),
        (["/x", "/etc/y"], (), ["x"], "/etc/y"),
        (["/x", "/v/*/y"], (), ["x", "x.d"], None),  # the way to it, where a directory could not be listed
        (["/v/*.log", "/v/a*"], (), ["a.log"], None),
        (["/x", "/etc/y"], ("y",), ["x"], None),
        (["/x", "/etc/y"], ("/y/",), ["x"], None),
    ],
)
def test_a_host_that_says_nothing_about_what_was_asked_for(
    lab: Lab, remote: list[str], exclude: tuple[str, ...], entries: list[str], missing: str | None
) -> None:
    lab.remote = remote
    lab.start(exclude=exclude, max_files=5)
    folders = [Entry(path, kind) for path in entries for kind in (Kind.DIRECTORY, Kind.LEAVE)]
    if missing is None:
        lab.take(f.Entries(tuple(folders), last=True))
        assert lab.part.done
        return
    lab.take(f.Entries(tuple(folders)))
    with pytest.raises(RemoteProtocolError, match=rf"^nothing about '{missing}', which was asked for$"):
        lab.take(f.Entries((), last=True))


def test_a_host_that_tells_of_something_else(lab: Lab) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^'y' was not asked for$"):
        lab.start().take(f.Entries((file(3, "y"),), last=True))


def test_after_the_limit_a_host_needs_say_nothing_more(lab: Lab) -> None:
    lab.remote = ["/x", "/y"]
    more = Entry("x/2", Kind.FAILED, reason="more than 2 files")
    lab.start(max_files=2).take(
        f.Entries((Entry("x", Kind.DIRECTORY), Entry("x/1", Kind.SYMLINK, target="y"), more), last=True)
    )
    assert [one.path for one in lab.ledger.result().files if one.error] == ["/x/2"]


def test_a_file_that_has_grown_beyond_the_room(lab: Lab, disk: Callable[[int], None]) -> None:
    disk(5000)
    lab.start(min_free=4000).take(f.Entries((file(10),), last=True))
    with pytest.raises(NoRoomError) as caught:
        lab.take(f.Open(0, 0, 1 << 40))
    assert caught.value.status is Status.FAILED
    assert (caught.value.needed, caught.value.free) == (1 << 40, 1000)
    assert str(caught.value) == "no room on the local disk: 1.0 TiB needed, 1000 B may be used"


def test_a_disk_that_runs_full_meanwhile(
    lab: Lab, disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "_LOOK_AFTER", 6)
    disk(1 << 40)
    lab.start(min_free=10).take(f.Entries((file(100),), last=True), f.Open(0, 0, 100), f.Data(b"12345"))
    disk(9)
    with pytest.raises(NoRoomError, match="no room on the local disk: 6 B needed, 0 B may be used"):
        lab.take(f.Data(b"6"))


def test_a_file_without_a_size(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "_MOST_UNANNOUNCED", 4)
    lab.start().take(f.Entries((file(0),), last=True), f.Open(0, 0, None), f.Data(b"1234"))
    with pytest.raises(RemoteProtocolError, match="more than the 4 bytes of 'x'"):
        lab.take(f.Data(b"5"))


def test_a_file_without_a_size_and_a_limit(lab: Lab) -> None:
    lab.start(max_size=2).take(f.Entries((file(0),), last=True), f.Open(0, 0, None), f.Data(b"12"))
    with pytest.raises(RemoteProtocolError, match="more than the 2 bytes of 'x'"):
        lab.take(f.Hole(1))


def test_more_than_was_announced(lab: Lab) -> None:
    lab.start().take(f.Entries((file(3),), last=True), f.Open(0, 0, 3), f.Data(b"123"))
    with pytest.raises(RemoteProtocolError, match="more than the 3 bytes of 'x'"):
        lab.take(f.Data(b"4"))


def test_more_entries_than_were_asked_for(lab: Lab) -> None:
    lab.start(max_files=2)
    folder = Entry("x", Kind.DIRECTORY, 0o755)
    # The third says that there are more.
    lab.take(f.Entries((folder, file(0, "x/1"), Entry("x/2", Kind.FAILED, reason="more than 2 files"))))
    with pytest.raises(RemoteProtocolError, match="more than the 2 files that were asked for"):
        lab.take(f.Entries((file(0, "x/3"),)))


def test_what_is_closed_is_not_in_memory(lab: Lab, uncollected: None) -> None:
    lab.start().take(f.Entries((file(3),), last=True), f.Open(0, 0, 3), f.Data(b"12"))
    lab.part.close()
    gone = weakref.ref(lab.part)
    lab.start()
    assert gone() is None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (f.Data(b"x"), "content that belongs to no file"),
        (f.Hole(5), "content that belongs to no file"),
        (f.Open(0, 0, 3), "entry 0 was not asked for"),
        (f.Same((0,)), "entry 0 is not under way"),
        (f.Gone(0, "vanished"), "entry 0 is not under way"),
    ],
)
def test_out_of_turn(lab: Lab, message: m.Message, reason: str) -> None:
    lab.start()
    with pytest.raises(RemoteProtocolError, match=reason):
        lab.take(message)


def test_no_file_is_remembered_that_is_settled(lab: Lab) -> None:
    data = b"abc"
    for name in ("x",):
        (lab.folder / name).write_bytes(data)
    lab.start().take(f.Entries((file(3), file(3), file(3)), last=False))
    lab.take(f.Same((0,)), f.Gone(1, "vanished"), f.Open(2, 0, 3), f.Data(b"new"), close_of(b"new"))
    assert lab.part._files.coming == {}
    lab.take(f.Entries((), last=True))
    assert lab.part.done
