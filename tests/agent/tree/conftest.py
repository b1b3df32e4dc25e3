"""A sender and a receiver with two real connections and a perfect link between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.tree.committer import Hooks
from agent.tree.digests import Digests
from agent.tree.entries import Listing
from agent.tree.options import ReceiverOptions, SenderOptions
from agent.tree.paths import Folder, Links
from agent.tree.places import into
from agent.tree.receiver import Receiver
from agent.tree.sender import Sender, SenderWatcher
from agent.tree.sources import find_source
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.connection import NEED_DATA, Connection, Role
from agent.wire.constants import FEATURES, WHOLE_FILES
from agent.wire.file_messages import Entry, FileStatus, Outcome

HELLO = m.Hello("ops", b"\x11" * 16, 1, b"\xaa" * 32, 1, 1, FEATURES)


def login(features: int) -> Iterator[tuple[Role, m.Message]]:
    """Yield what is said before anything else, between two that have these features in common."""
    yield Role.CONTROLLER, HELLO
    yield Role.AGENT, m.Challenge(1, features, b"\xbb" * 32)
    yield Role.CONTROLLER, m.Proof(b"\xcc" * 32, b"\xdd" * 32)
    yield Role.AGENT, m.Welcome(b"\xee" * 32)


class Watcher(SenderWatcher):
    """Keeps what the sender is told."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.olds: list[tuple[str, f.Old, bytes | None]] = []
        self.bytes = 0

    def sent(self, size: int) -> None:
        self.bytes += size

    def outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def old(self, entry: Entry, old: f.Old, content: bytes | None) -> None:
        self.olds.append((entry.path, old, content))


class Cut(Exception):
    """The link is gone."""


@dataclass
class Transfer:
    """One push from local paths into a local directory, through two connections."""

    sources: list[Path]
    base: Path
    options: ReceiverOptions = field(default_factory=ReceiverOptions)
    sending: SenderOptions = field(default_factory=SenderOptions)
    place: Callable[[str], tuple[str, ...]] = into
    hooks: Hooks | None = None
    links: Links = Links.ALWAYS
    token: str = ""
    cut_after: int | None = None  # messages of the sender
    tamper: Callable[[m.Message], m.Message | None] = field(default=lambda message: message)
    watcher: Watcher = field(default_factory=Watcher)
    log: list[m.Message] = field(default_factory=list)  # everything that was said
    wait: Callable[[Receiver], None] | None = None
    digests: Digests | None = None
    features: int = FEATURES
    look: Callable[[Receiver], None] = field(default=lambda receiver: None)  # after each of its steps

    def run(self) -> dict[str, Outcome]:
        """Do it; return the outcomes by path relative to the base."""
        ends = {role: Connection(role) for role in Role}
        for role, message in login(self.features):
            self._say(ends, role, message)
        self._say(ends, Role.CONTROLLER, f.Push("x"))
        base = Folder.at(str(self.base))
        sources = [find_source(str(path), home="/", links=self.links) for path in self.sources]
        to_receiver: list[m.Message] = []
        to_sender: list[m.Message] = []
        listing = Listing(iter(sources), self.sending, self.links, identify=self.digests is not None)
        whole_files = bool(self.features & WHOLE_FILES)
        sender = Sender(listing, to_receiver.append, self.watcher, self.digests, whole_files=whole_files)
        receiver = Receiver(
            base,
            self.place,
            self.options,
            to_sender.append,
            tell=True,
            hooks=self.hooks,
            token=self.token,
        )
        try:
            self._pump(ends, sender, receiver, to_receiver, to_sender)
        finally:
            sender.close()
            receiver.close()
            base.release()
            for opened in sources:
                if opened.folder is not None:
                    opened.folder.release()
        return {str(Path(outcome.path).relative_to(self.base)): outcome for outcome in self.watcher.outcomes}

    def _pump(
        self,
        ends: dict[Role, Connection],
        sender: Sender,
        receiver: Receiver,
        to_receiver: list[m.Message],
        to_sender: list[m.Message],
    ) -> None:
        said = 0
        while not sender.done:
            busy = sender.step()
            while to_receiver:
                message = self.tamper(to_receiver.pop(0))
                if message is None:
                    continue
                said += 1
                if self.cut_after is not None and said > self.cut_after:
                    raise Cut
                receiver.take(self._say(ends, Role.CONTROLLER, message))
            busy = receiver.step() or busy
            self.look(receiver)
            while to_sender:
                busy = True
                sender.take(self._say(ends, Role.AGENT, to_sender.pop(0)))
            if not busy:
                assert self.wait is not None or receiver.readable(), "nobody has anything to do"
                if self.wait is not None:
                    self.wait(receiver)

    def _say(self, ends: dict[Role, Connection], role: Role, message: m.Message) -> m.Message:
        self.log.append(message)
        ends[role.peer].receive(ends[role].send(message))
        arrived = ends[role.peer].next_event()
        assert arrived == message
        assert not isinstance(arrived, type(NEED_DATA))
        return arrived  # type: ignore[return-value]


@pytest.fixture
def push(tmp_path: Path) -> Callable[..., dict[str, Outcome]]:
    """Return a function that pushes `sources` into a directory; options by keyword, those of the transfer too."""

    def run(*sources: Path, base: Path, **options: object) -> dict[str, Outcome]:
        return Transfer(list(sources), base, **options).run()  # type: ignore[arg-type]

    return run


@pytest.fixture
def transfer() -> type[Transfer]:
    """Give the class to a test: a conftest cannot be imported."""
    return Transfer


@pytest.fixture
def cut() -> type[Cut]:
    """Give the exception of a cut link to a test."""
    return Cut


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return an empty directory to fill."""
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return an empty directory to push into."""
    path = tmp_path / "base"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path: Path) -> Iterator[None]:
    """After each test no temporary name is left but those that are meant for the next transfer."""
    yield
    left = [path for path in tmp_path.rglob(".*.fleet-*") if not path.name.endswith(".fleet-part")]
    assert not left


@pytest.fixture
def statuses() -> Callable[[dict[str, Outcome]], dict[str, FileStatus]]:
    """Return a function that leaves of outcomes the statuses."""
    return lambda outcomes: {path: outcome.status for path, outcome in outcomes.items()}
