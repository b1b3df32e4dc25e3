"""The sending side of a transfer: the controller's in a push, the agent's in a pull.

Messages in by `take`, messages out by the `send` that it is given, work in bounded pieces by `step`. It waits for
nothing and knows no socket: whoever drives it calls `step` while it has work and the peer takes what is sent.

Pieces of large files are read into one buffer over and over. So the driver calls `step` only when all that was sent
before has gone out.

The order of things. Batches of entries go out, at most MAX_BATCHES that the receiver has not settled, so that a tree
costs the latency of one exchange and not the memory of a tree. The receiver answers each batch with what it wants of
it; those wants are met in their order, each by `Same`, by the file from `Open` to `Close`, by a small file's `Whole`,
or by `Gone`. The SHA-256 of a file is taken in the pass that sends it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

from agent.tree.content import PAGE, PIECE, Content
from agent.tree.digests import Digests, FileIdentity, Held, State
from agent.tree.entries import Item
from agent.tree.errors import FileError
from agent.tree.options import SenderOptions
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.constants import MAX_BATCH_ENTRIES, MAX_BATCHES
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import Entry, Kind, Outcome, Want
from agent.wire.room import make_room

__all__ = ["Listed", "Sender", "SenderWatcher"]

_BATCH_BYTES = 192 * 1024  # of JSON, about
_STEP_BYTES = PIECE  # of content, then the driver's turn
_SAME_AT_ONCE = 256


class Listed(Protocol):
    """What is to be sent: a `Listing`, or what is made for a transfer."""

    options: SenderOptions

    def items(self) -> Iterator[Item]:
        """Yield all items, once."""

    def open(self, item: Item) -> int:
        """Open the content of a file for reading; the descriptor is the caller's. Raises FileError."""

    def close(self) -> None:
        """Give back what `open` kept."""


class SenderWatcher:
    """Who is told how a transfer goes; this one does not care."""

    def sent(self, size: int) -> None:
        """So many bytes of content went out (or were found there, when resuming)."""

    def listed(self, entry: Entry) -> None:
        """The listing found an entry."""

    def gone(self, entry: Entry, reason: str) -> None:
        """An entry that was listed cannot be sent after all."""

    def outcome(self, outcome: Outcome) -> None:
        """The receiver tells what became of an entry."""

    def old(self, entry: Entry, old: f.Old, content: bytes | None) -> None:
        """The receiver tells what a file holds that changes."""


@dataclass(slots=True)
class _Batch:
    """Entries that are not settled yet."""

    first: int
    items: list[Item]


class Sender:
    """One transfer. `send` queues a message. `done` turns true after the receiver's last word.

    `digests` are what other transfers of the same files have found out. `whole_files` says that the receiver knows
    `Whole`, in place of three messages for each small file.
    """

    def __init__(
        self,
        listing: Listed,
        send: Callable[[m.Message], None],
        watcher: SenderWatcher,
        digests: Digests | None = None,
        *,
        whole_files: bool = False,
    ) -> None:
        self._listing = listing
        self._options = listing.options
        self._send = send
        self._watcher = watcher
        self._batches: deque[_Batch] = deque()
        self._unanswered: deque[_Batch] = deque()  # those whose Wants have not come
        self._wants: deque[tuple[_Batch, Want]] = deque()
        self._same: list[int] = []
        self._old: f.Old | None = None
        self._work = self._run()
        self._queued = 0
        self._digests = digests or Digests()
        self._whole_files = whole_files and not listing.options.check
        self._buffer: memoryview | None = None
        self.listed_all = False
        self.done = False

    def take(self, message: m.Message) -> None:
        """Take a message of the receiver; a Pong is none, and is ignored. Raises RemoteProtocolError."""
        if isinstance(message, f.Wants):
            self._take_wants(message)
        elif isinstance(message, f.Outcomes):
            self._take_outcomes(message)
        elif isinstance(message, f.Old):
            self._take_old(message)
        elif isinstance(message, f.Data):
            if self._old is None:
                raise RemoteProtocolError("content that belongs to nothing")
            old, self._old = self._old, None
            self._watcher.old(self._item(old.index).entry, old, bytes(message.data))
        elif isinstance(message, f.Done):
            if self._batches or not self.listed_all:
                raise RemoteProtocolError("the receiver is done before the sender")
            self.done = True
        elif not isinstance(message, m.Pong):
            raise RemoteProtocolError(f"{type(message).__name__} is not for a sender")

    def step(self) -> bool:
        """Do a piece of work. Returns whether there is more to do before the next message comes."""
        return next(self._work)

    def close(self) -> None:
        """Give back what is open."""
        self._work.close()
        self._listing.close()

    # What the receiver says -----------------------------------------------------------------------------------------

    def _take_wants(self, message: f.Wants) -> None:
        if not self._unanswered:
            raise RemoteProtocolError("wants without a batch")
        batch = self._unanswered.popleft()
        before = -1
        for want in message.wants:
            place = want.index - batch.first
            if not before < place < len(batch.items) or batch.items[place].entry.kind is not Kind.FILE:
                raise RemoteProtocolError(f"want of entry {want.index}, which is no file of the batch")
            before = place
            self._wants.append((batch, want))

    def _take_outcomes(self, message: f.Outcomes) -> None:
        for outcome in message.outcomes:
            if outcome.index is not None:
                self._item(outcome.index)
            self._watcher.outcome(outcome)
        if message.settled:
            if not self._batches or self._batches[0] in self._unanswered:
                raise RemoteProtocolError("a batch is settled that was not answered")
            if any(batch is self._batches[0] for batch, _ in self._wants):
                raise RemoteProtocolError("a batch is settled before its files were sent")
            self._batches.popleft()

    def _take_old(self, message: f.Old) -> None:
        item = self._item(message.index)
        if message.content:
            self._old = message
        else:
            self._watcher.old(item.entry, message, None)

    def _item(self, index: int) -> Item:
        for batch in self._batches:
            if batch.first <= index < batch.first + len(batch.items):
                return batch.items[index - batch.first]
        raise RemoteProtocolError(f"entry {index} is not under way")

    # What we do -----------------------------------------------------------------------------------------------------

    def _run(self) -> Generator[bool, None, None]:
        batches = self._list()
        while not self.done:
            if self._wants:
                yield from self._meet(*self._wants.popleft())
                if not self._wants:
                    self._flush_same()
            elif not self.listed_all and len(self._batches) < MAX_BATCHES:
                batch, last = next(batches)
                self._announce(batch, last)
                yield True
            else:
                yield False
        while True:
            yield False

    def _list(self) -> Iterator[tuple[_Batch, bool]]:
        """Yield batches, and whether that was the last."""
        items: list[Item] = []
        first = size = 0
        for item in self._listing.items():
            weight = _weight(item.entry)
            if len(items) == MAX_BATCH_ENTRIES or (items and size + weight > _BATCH_BYTES):
                yield _Batch(first, items), False
                first += len(items)
                items, size = [], 0
            items.append(item)
            size += weight
        yield _Batch(first, items), True

    def _announce(self, batch: _Batch, last: bool) -> None:
        for item in batch.items:
            self._watcher.listed(item.entry)
        self.listed_all = last
        self._batches.append(batch)
        self._unanswered.append(batch)
        self._send(f.Entries(tuple(item.entry for item in batch.items), last))

    def _meet(self, batch: _Batch, want: Want) -> Iterator[bool]:
        """Answer one want; yields where the driver may have its turn."""
        item = batch.items[want.index - batch.first]
        try:
            if (held := item.held or self._digests.held(item.identity)) is not None:
                self._offer(want, [held.data], held.sha256, len(held.data))
            else:
                yield from self._send_file(want, item)
        except FileError as error:
            self._flush_same()
            self._watcher.gone(item.entry, str(error))
            self._send(f.Gone(want.index, str(error)))
        if self._queued >= _STEP_BYTES:
            self._queued = 0
            yield True

    def _send_file(self, want: Want, item: Item) -> Iterator[bool]:
        content = Content(self._listing.open(item), limit=self._options.max_size)
        try:
            if content.size is not None and content.size <= PAGE:  # several of these wait together to be sent
                self._send_small(want, content, item.identity)
            else:
                self._buffer = self._buffer or make_room(PIECE)
                content.use(self._buffer)
                yield from self._send_large(want, content)
        finally:
            content.close()

    def _send_small(self, want: Want, content: Content, identity: FileIdentity | None) -> None:
        """Send a file that is read in one piece. Such a one is never resumed: it costs less to send it again."""
        pieces = list(content.pieces())
        sha256 = content.digest.hexdigest()
        if identity is not None and len(pieces) == 1 and isinstance(data := pieces[0], bytes):
            self._digests.keep(identity, Held(data, sha256), content.identity())
        self._offer(want, pieces, sha256, content.offset)

    def _offer(self, want: Want, pieces: list[bytes | memoryview | int], sha256: str, size: int) -> None:
        """Answer a want with all of a content."""
        if want.whole == sha256:
            self._same.append(want.index)
            if len(self._same) >= _SAME_AT_ONCE:
                self._flush_same()
            return
        self._flush_same()
        data = [piece for piece in pieces if not isinstance(piece, int)]
        if self._whole_files and len(data) == len(pieces):  # without holes
            self._send_whole(f.Whole(want.index, sha256, b"".join(data)))
            return
        self._send(f.Open(want.index, 0, size))
        if not self._options.check:
            for piece in pieces:
                self._send_piece(piece)
        self._send(f.Close(size, sha256))

    def _send_whole(self, message: f.Whole) -> None:
        self._send(message)
        self._queued += len(message.data)
        self._watcher.sent(len(message.data))

    def _send_large(self, want: Want, content: Content) -> Iterator[bool]:
        if want.whole is not None:
            if want.whole == (yield from self._digest(content)):
                self._same.append(want.index)
                self._flush_same()
                return
            if not self._options.check:
                content.rewind()
        if want.prefix is not None and not self._options.check:
            if content.size is not None and want.offset <= content.size:
                for _ in content.prefix(want.offset):
                    yield True
            if want.prefix == content.digest.hexdigest():
                self._watcher.sent(content.offset)
            else:
                content.rewind()
        self._flush_same()
        self._send(f.Open(want.index, content.offset if not self._options.check else 0, content.size))
        for piece in content.pieces():
            if not self._options.check:
                self._send_piece(piece)
            yield True
        self._send(f.Close(content.offset, content.digest.hexdigest()))

    def _digest(self, content: Content) -> Generator[bool, None, str]:
        """Return the digest of the whole, which another transfer may have read already."""
        identity = content.identity()
        while (known := self._digests.begin(identity)) is State.OTHERS:
            yield True
        if isinstance(known, str):
            return known
        digest = now = None
        try:
            for _ in content.pieces():
                yield True
            digest, now = content.digest.hexdigest(), content.identity()
        finally:
            self._digests.end(identity, digest, now)
        return digest

    def _send_piece(self, piece: bytes | memoryview | int) -> None:
        if isinstance(piece, int):
            self._send(f.Hole(piece))
            self._watcher.sent(piece)
        else:
            self._send(f.Data(piece))
            self._queued += len(piece)
            self._watcher.sent(len(piece))

    def _flush_same(self) -> None:
        if self._same:
            self._send(f.Same(tuple(self._same)))
            self._same = []


def _weight(entry: Entry) -> int:
    """Return the most that an entry can take in JSON, in bytes."""
    text = entry.path + entry.target + entry.reason
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return 160 + len(text)
    return 160 + 6 * len(text.encode("utf-8", "surrogateescape"))
