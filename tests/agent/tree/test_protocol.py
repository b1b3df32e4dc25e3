"""Peers that lie: each lie is broken off with its reason, and nothing of it is left."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.tree.content import PAGE
from agent.tree.digests import Held
from agent.tree.entries import Item, Listing, Source
from agent.tree.options import ReceiverOptions, SenderOptions
from agent.tree.paths import Folder, Links
from agent.tree.places import Asked, Named, into
from agent.tree.receiver import Receiver
from agent.tree.sender import Sender, SenderWatcher
from agent.tree.sources import find_source
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import Entry, FileStatus, Kind, Outcome, Want

SHA = hashlib.sha256(b"content").hexdigest()
NOTHING = hashlib.sha256().hexdigest()
FILE = Entry("asked", Kind.FILE, 0o644, 7)
GOOD = [f.Entries((FILE,), True), f.Open(0, 0, 7), f.Data(b"content"), f.Close(7, SHA)]


class Sink:
    """A receiver that gets what a test says."""

    def __init__(self, base: Path, place: Any = into, **options: Any) -> None:
        self.folder = Folder.at(str(base))
        self.said: list[m.Message] = []
        self.outcomes: list[Outcome] = []
        self.receiver = Receiver(
            self.folder, place, ReceiverOptions(**options), self.said.append, report=self.outcomes.append
        )

    def say(self, *messages: m.Message) -> None:
        for message in messages:
            self.receiver.take(message)
            while self.receiver.step():
                pass

    def close(self) -> None:
        self.receiver.close()
        self.folder.release()


@pytest.fixture
def sink(base: Path) -> Iterator[Callable[..., Sink]]:
    made: list[Sink] = []

    def make(place: Any = into, **options: Any) -> Sink:
        made.append(Sink(base, place, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_an_honest_sender(sink: Callable[..., Sink], base: Path) -> None:
    one = sink(Asked(["/var/asked"]))
    one.say(m.Pong(), *GOOD)
    assert one.said == [f.Wants((Want(0),)), f.Outcomes((), settled=True), f.Done()]
    assert one.outcomes == [Outcome(f"{base}/asked", FileStatus.CHANGED, 0, 7, SHA, changes="created")]
    assert one.receiver.done
    assert not one.receiver.step()


@pytest.mark.parametrize("content", [b"content", b""])
def test_an_honest_sender_of_whole_files(sink: Callable[..., Sink], base: Path, content: bytes) -> None:
    one = sink(Asked(["/var/asked"]))
    sha256 = hashlib.sha256(content).hexdigest()
    one.say(f.Entries((FILE,), True), f.Whole(0, sha256, memoryview(content)))
    assert one.said == [f.Wants((Want(0),)), f.Outcomes((), settled=True), f.Done()]
    assert one.outcomes == [Outcome(f"{base}/asked", FileStatus.CHANGED, 0, len(content), sha256, changes="created")]
    assert (base / "asked").read_bytes() == content


def test_whole_files_in_a_check(sink: Callable[..., Sink]) -> None:
    one = sink(Asked(["/var/asked"]), check=True)
    with pytest.raises(RemoteProtocolError, match=r"^content that belongs to no file$"):
        one.say(f.Entries((FILE,), True), f.Whole(0, SHA, b"content"))


LIES: dict[str, tuple[list[m.Message], str]] = {
    "another name": ([f.Entries((Entry("other", Kind.FILE),))], "'other' was not asked for"),
    "its own directory": ([f.Entries((Entry(".", Kind.DIRECTORY, 0o777),))], "'.' was not asked for"),
    "an extra file": ([f.Entries((FILE, Entry("extra", Kind.FILE)))], "'extra' was not asked for"),
    "a prefix": ([f.Entries((Entry("aske", Kind.FILE),))], "'aske' was not asked for"),
    "a case twin": ([f.Entries((FILE, Entry("ASKED", Kind.FILE)))], "'ASKED' was not asked for"),
    "an extra directory": ([f.Entries((Entry("x/asked", Kind.FILE),))], "'x/asked' was not asked for"),
    "a link elsewhere": ([f.Entries((Entry("asked", Kind.HARDLINK, target="no"),))], "'no' was not asked for"),
    "no such want": ([*GOOD[:1], f.Open(1)], "entry 1 was not asked for"),
    "opened twice": ([*GOOD[:2], f.Open(0)], "a file is opened while another is open"),
    "answered twice": ([*GOOD, f.Open(0)], "entry 0 was not asked for"),
    "opened elsewhere": ([*GOOD[:1], f.Open(0, 5, 7)], "a file from byte 5 on, expected 0 or 0"),
    "data for nothing": ([*GOOD[:1], f.Data(b"x")], "content that belongs to no file"),
    "a hole for nothing": ([*GOOD[:1], f.Hole(1)], "content that belongs to no file"),
    "an end of nothing": ([*GOOD[:1], f.Close(0, SHA)], "the end of a file that is not open"),
    "too many bytes": ([*GOOD[:3], f.Data(b"!")], "more than the 7 bytes of 'asked'"),
    "too large a hole": ([*GOOD[:2], f.Hole(2**26)], "more than the 7 bytes of 'asked'"),
    "too few bytes": ([*GOOD[:2], f.Close(0, SHA)], "'asked' ended after 0 bytes, expected 0"),
    "a wrong size": ([*GOOD[:3], f.Close(8, SHA)], "'asked' ended after 7 bytes, expected 8"),
    "a whole file with a wrong digest": ([*GOOD[:1], f.Whole(0, NOTHING, b"content")], "wrong checksum on 'asked'"),
    "a whole file in another": ([*GOOD[:2], f.Whole(0, SHA, b"content")], "a file is opened while another is open"),
    "a whole file that nobody wants": ([*GOOD[:1], f.Whole(1, SHA, b"content")], "entry 1 was not asked for"),
    "a wrong digest": ([*GOOD[:3], f.Close(7, "0" * 64)], "wrong checksum on 'asked'"),
    "the same as nothing": ([*GOOD[:1], f.Same((0,))], "entry 0 is said to be the same as nothing"),
    "gone for nothing": ([*GOOD, f.Gone(0, "x")], "entry 0 is not under way"),
    "entries after the last": ([*GOOD[:1], f.Entries()], "entries after the last batch"),
    "too many batches": ([f.Entries((FILE,))] * 5, "more than 4 batches under way"),
    "too many entries": ([f.Entries((FILE,) * 513)], "513 entries, expected no more than 512"),
    "too many files": ([f.Entries((FILE,) * 12)], "more than the 10 files that were asked for"),
    "a directory that it is not in": ([f.Entries((Entry("asked", Kind.LEAVE),))], "leaves 'asked', in which it is not"),
    "a receiver's word": ([f.Wants()], "Wants is not for a receiver"),
    "larger than the limit": (
        [f.Entries((Entry("asked", Kind.FILE),)), f.Open(0), *[f.Data(bytes(250_000))] * 5],
        "more than the 1000000 bytes of 'asked'",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_sender(sink: Callable[..., Sink], base: Path, lie: str) -> None:
    (base / "asked").write_bytes(b"old")
    messages, text = LIES[lie]
    one = sink(Asked(["/var/asked"]), max_files=10, max_size=1_000_000)
    with pytest.raises(RemoteProtocolError) as caught:
        one.say(*messages)
    assert str(caught.value) == text
    one.receiver.close()
    if lie not in ("answered twice", "gone for nothing"):
        assert (base / "asked").read_bytes() == b"old"
    assert [path.name for path in base.iterdir()] == ["asked"]


def test_content_in_a_check(sink: Callable[..., Sink]) -> None:
    one = sink(check=True)
    with pytest.raises(RemoteProtocolError, match=r"^content that belongs to no file$"):
        one.say(*GOOD)


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.SYMLINK])
def test_a_file_in_the_place_of_the_whole(sink: Callable[..., Sink], kind: Kind) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^a? ?(file|symlink) in the place of the whole transfer$"):
        sink().say(f.Entries((Entry(".", kind, target="x"),)))


def test_a_second_source_for_one_name(sink: Callable[..., Sink]) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^a second source, 'b', for one new name$"):
        sink(Named("new")).say(f.Entries((Entry("a", Kind.FILE), Entry("b", Kind.FILE))))


def test_directories_without_end(sink: Callable[..., Sink]) -> None:
    """None of them is ever left: what is kept of them is bounded."""
    one = sink(check=True)
    with pytest.raises(RemoteProtocolError, match=r"^more than 2048 directories deep$"):
        for start in range(0, 2560, 512):
            one.say(f.Entries(tuple(Entry(str(number), Kind.DIRECTORY) for number in range(start, start + 512))))


def test_a_link_and_then_a_file_through_it(sink: Callable[..., Sink], tmp_path: Path, base: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    one = sink(Asked(["/var/asked"]))
    file = Entry("asked/x", Kind.FILE, 0o644, 7)
    one.say(f.Entries((Entry("asked", Kind.SYMLINK, target=str(outside)), file)), f.Entries((file,)))
    assert [outcome.error for outcome in one.outcomes] == [
        None,
        "cannot enter its directory: no such file or directory",  # both are compared before the link is made
        "cannot enter its directory: not a directory",
    ]
    assert list(outside.iterdir()) == []


def test_a_link_and_then_a_hard_link_to_it(sink: Callable[..., Sink], tmp_path: Path, base: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    one = sink()
    one.say(f.Entries((Entry("a", Kind.SYMLINK, target=str(secret)), Entry("b", Kind.HARDLINK, target="a")), True))
    assert one.outcomes[1].error == "cannot make the link: the file that it is another name of is not there"
    assert secret.stat().st_nlink == 1
    assert not (base / "b").exists()


def test_a_hard_link_to_itself(sink: Callable[..., Sink], base: Path) -> None:
    """To rename one name of a file to another does nothing, and leaves the temporary one (rename(2))."""
    one = sink(Asked(["/var/asked"]))
    one.say(f.Entries((FILE, Entry("asked", Kind.HARDLINK, target="asked")), True), *GOOD[1:])
    assert [outcome.error for outcome in one.outcomes] == [None, None]
    assert [path.name for path in base.iterdir()] == ["asked"]
    assert (base / "asked").stat().st_nlink == 1


@pytest.mark.parametrize("bits", [0o4777, 0o2777, 0o1777])
def test_special_bits_from_an_agent(sink: Callable[..., Sink], base: Path, bits: int) -> None:
    one = sink(Asked(["/var/asked"]), umask=0o022, preserve=True)
    one.say(f.Entries((Entry("asked", Kind.FILE, bits, 7),), True), *GOOD[1:])
    assert stat.S_IMODE((base / "asked").stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["CON", "nul", "a:b", "...", "-rf", "~", "file. "])
def test_odd_names_below_what_was_asked_for(sink: Callable[..., Sink], base: Path, name: str) -> None:
    one = sink(Asked(["/var/asked"]))
    directory = Entry("asked", Kind.DIRECTORY, 0o755)
    file = Entry(f"asked/{name}", Kind.FILE, 0o644, 7)
    one.say(f.Entries((directory, file, Entry("asked", Kind.LEAVE, 0o755)), True))
    one.say(f.Open(1, 0, 7), *GOOD[2:])
    assert [path.name for path in (base / "asked").iterdir()] == [name]


def test_the_same_name_twice(sink: Callable[..., Sink], base: Path) -> None:
    one = sink(Asked(["/var/asked"]))
    one.say(f.Entries((FILE, FILE), True), *GOOD[1:], f.Open(1, 0, 7), *GOOD[2:])
    assert [outcome.status for outcome in one.outcomes] == [FileStatus.CHANGED] * 2
    assert [path.name for path in base.iterdir()] == ["asked"]


def test_what_cannot_be_sent_is_told(sink: Callable[..., Sink], base: Path) -> None:
    one = sink()
    one.say(f.Entries((Entry("a", Kind.SKIPPED, reason="is a FIFO"), Entry("b", Kind.FAILED, reason="no")), True))
    assert one.outcomes == [
        Outcome(f"{base}/a", FileStatus.SKIPPED, 0, note="is a FIFO"),
        Outcome(f"{base}/b", FileStatus.FAILED, 1, error="no"),
    ]


def test_gone_in_the_middle(sink: Callable[..., Sink], base: Path) -> None:
    one = sink()
    one.say(*GOOD[:3], f.Gone(0, "shrank"))
    assert one.outcomes[0].error == "shrank"
    assert list(base.iterdir()) == []


def test_a_file_whose_size_its_system_does_not_tell(sink: Callable[..., Sink], base: Path) -> None:
    (base / "asked").write_bytes(b"content")
    inode = (base / "asked").stat().st_ino
    one = sink()
    one.say(f.Entries((Entry("asked", Kind.FILE, 0o444, 0),), True), f.Open(0), *GOOD[2:])
    assert one.outcomes[0].status is FileStatus.UNCHANGED
    assert (base / "asked").stat().st_ino == inode


def test_many_directories_are_not_all_held_open(sink: Callable[..., Sink], base: Path) -> None:
    one = sink()
    entries = []
    for number in range(100):
        path = f"{number:03}"
        entries += [Entry(path, Kind.DIRECTORY, 0o755), Entry(f"{path}/f", Kind.FILE, 0o644, 7)]
        entries.append(Entry(path, Kind.LEAVE, 0o755))
    one.say(f.Entries(tuple(entries), True))
    most = 0
    for number in range(100):
        one.say(f.Open(3 * number + 1, 0, 7), *GOOD[2:])
        most = max(most, len(os.listdir("/proc/self/fd")))
    assert one.receiver.done
    assert len(list(base.glob("*/f"))) == 100
    assert most < len(os.listdir("/proc/self/fd")) + 90


# The sender's side -------------------------------------------------------------------------------------------------


class Origin:
    """A sender of one file `f` and a directory `d`."""

    def __init__(self, source: Path, *, whole_files: bool) -> None:
        (source / "d").mkdir()
        (source / "f").write_bytes(b"content")
        found = [find_source(str(source / name), home="/", links=Links.ALWAYS) for name in ("d", "f")]
        self.folders = [one.folder for one in found]
        self.said: list[m.Message] = []
        listing = Listing(iter(found), SenderOptions(), Links.ALWAYS)
        self.sender = Sender(listing, self.said.append, SenderWatcher(), whole_files=whole_files)
        self.work()

    def work(self) -> None:
        while self.sender.step():
            pass

    def close(self) -> None:
        self.sender.close()
        for folder in self.folders:
            assert folder is not None
            folder.release()


@pytest.fixture
def whole_files() -> bool:
    return False


@pytest.fixture
def origin(source: Path, whole_files: bool) -> Iterator[Origin]:
    one = Origin(source, whole_files=whole_files)
    yield one
    one.close()


def test_an_honest_receiver(origin: Origin) -> None:
    entries = origin.said[0]
    assert isinstance(entries, f.Entries)
    assert [entry.kind for entry in entries.entries] == [Kind.DIRECTORY, Kind.LEAVE, Kind.FILE]
    origin.sender.take(m.Pong())
    origin.sender.take(f.Wants((Want(2),)))
    origin.work()
    assert origin.said[1:] == [f.Open(2, 0, 7), f.Data(b"content"), f.Close(7, SHA)]
    origin.sender.take(f.Old(2, 1, SHA))
    origin.sender.take(f.Old(2, 1, SHA, True))
    origin.sender.take(f.Data(b"x"))
    origin.sender.take(f.Outcomes((Outcome("x", FileStatus.CHANGED, 2),), settled=True))
    origin.sender.take(f.Done())
    assert origin.sender.done
    assert not origin.sender.step()


@pytest.mark.parametrize("whole_files", [True])
def test_a_receiver_of_whole_files(origin: Origin) -> None:
    origin.sender.take(f.Wants((Want(2),)))
    origin.work()
    assert origin.said[1:] == [f.Whole(2, SHA, b"content")]


class InMemory:
    """A listing of some files whose content is in memory, and cannot be opened."""

    def __init__(self, count: int, data: bytes, options: SenderOptions) -> None:
        self.options = options
        self.count = count
        self.content = Held(data, hashlib.sha256(data).hexdigest())

    def items(self) -> Iterator[Item]:
        for number in range(self.count):
            entry = Entry(str(number), Kind.FILE, 0o644, len(self.content.data))
            yield Item(entry, Source(None, (), str(number)), held=self.content)

    def open(self, item: Item) -> int:
        raise AssertionError("its content is in memory")

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("whole_files", "check", "want", "said"),
    [
        (True, False, Want(0), [f.Whole(0, SHA, b"content")]),
        (False, False, Want(0), [f.Open(0, 0, 7), f.Data(b"content"), f.Close(7, SHA)]),
        (True, True, Want(0), [f.Open(0, 0, 7), f.Close(7, SHA)]),
        (True, False, Want(0, whole=SHA), [f.Same((0,))]),
        (True, False, Want(0, whole=NOTHING), [f.Whole(0, SHA, b"content")]),
    ],
)
def test_content_in_memory(whole_files: bool, check: bool, want: Want, said: list[m.Message]) -> None:
    sent: list[m.Message] = []
    sender = Sender(
        InMemory(1, b"content", SenderOptions(check=check)), sent.append, SenderWatcher(), whole_files=whole_files
    )
    while sender.step():
        pass
    sender.take(f.Wants((want,)))
    while sender.step():
        pass
    assert sent[1:] == said
    sender.close()


def test_much_in_memory_is_sent_in_turns() -> None:
    sent: list[m.Message] = []
    sender = Sender(InMemory(40, bytes(PAGE), SenderOptions()), sent.append, SenderWatcher(), whole_files=True)
    while sender.step():
        pass
    sender.take(f.Wants(tuple(Want(number) for number in range(40))))
    del sent[:]
    turns = []
    while sender.step():
        turns.append(len(sent))
        del sent[:]
    assert turns == [5] * 8
    sender.close()


WANTS = f.Wants((Want(2),))


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([WANTS, WANTS], "wants without a batch"),
        ([f.Wants((Want(0),))], "want of entry 0, which is no file of the batch"),
        ([f.Wants((Want(3),))], "want of entry 3, which is no file of the batch"),
        ([f.Wants((Want(2), Want(2)))], "want of entry 2, which is no file of the batch"),
        ([f.Outcomes((), settled=True)], "a batch is settled that was not answered"),
        ([WANTS, f.Outcomes((), settled=True)], "a batch is settled before its files were sent"),
        ([f.Outcomes((Outcome("x", FileStatus.CHANGED, 9),))], "entry 9 is not under way"),
        ([f.Old(9, 0, SHA)], "entry 9 is not under way"),
        ([f.Data(b"x")], "content that belongs to nothing"),
        ([f.Done()], "the receiver is done before the sender"),
        ([f.Open(0)], "Open is not for a sender"),
    ],
)
def test_a_lying_receiver(origin: Origin, messages: list[m.Message], text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        for message in messages:
            origin.sender.take(message)
    assert str(caught.value) == text
