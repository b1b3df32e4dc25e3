"""One host's transfer over a real connection (without TLS) to an agent's part in a thread, and every way it can end."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.tree.entries import Listing
from agent.tree.options import ReceiverOptions, SenderOptions
from agent.tree.paths import Folder, Links
from agent.tree.places import into
from agent.tree.receiver import Receiver
from agent.tree.sender import Sender, SenderWatcher
from agent.tree.sources import find_source
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.connection import Closed, Connection, Role
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import FileStatus, Outcome
from agent.wire.link import Link
from controller import transfer
from controller.cancel import CancelToken
from controller.client import Client, Target
from controller.differences import Differences
from controller.landing import Landing, Limits
from controller.ledger import DiffMaker, Ledger
from controller.meter import Meter
from controller.results import Result, Status, Tally
from controller.sources import look_at, opened, reader

PATIENCE = 30.0  # seconds; reached only by a test that fails

_LOGIN: tuple[tuple[Role, m.Message], ...] = (
    (Role.CONTROLLER, m.Hello("ops", b"\x11" * 16, 1, b"\xaa" * 32, 1, 1, 0)),
    (Role.AGENT, m.Challenge(1, 0, b"\xbb" * 32)),
    (Role.CONTROLLER, m.Proof(b"\xcc" * 32, b"\xdd" * 32)),
    (Role.AGENT, m.Welcome(b"\xee" * 32)),
)

Script = Callable[["FarEnd"], None]


def logged_in() -> dict[Role, Connection]:
    ends = {role: Connection(role) for role in Role}
    for role, message in _LOGIN:
        ends[role.peer].receive(ends[role].send(message))
        ends[role.peer].next_event()
    return ends


class FarEnd:
    """The agent's end of the line; what a test's script does with it happens in a thread."""

    def __init__(self, connection: Connection, sock: socket.socket) -> None:
        self.link = Link(
            connection, sock, would_block=(BlockingIOError,), clock=time.monotonic, wall=lambda: 1_700_000_000.0
        )
        self.sock = sock
        self._came: Iterator[m.Message | Closed] = iter(())

    def next(self) -> m.Message | Closed:
        """Return the next message, for use until the one after it."""
        while True:
            try:
                for message in self._came:
                    return message
            except RemoteProtocolError as error:
                assert str(error).startswith("the connection ended"), error
                return Closed()
            assert select.select([self.sock], [self.sock] if self.link.backlog else [], [], PATIENCE)[0:2] != ([], [])
            self.link.flush()
            self._came = self.link.read()

    def send(self, *messages: m.Message) -> None:
        for message in messages:
            self.link.queue(message)
        self.link.flush()
        while self.link.backlog:
            select.select([], [self.sock], [], PATIENCE)
            self.link.flush()

    def play(self, part: Any) -> None:
        """Play a part to its end, or until the controller leaves."""
        try:
            while not part.done:
                busy = part.step()
                self.send()
                if not busy and not part.done:
                    message = self.next()
                    if isinstance(message, Closed):
                        return
                    part.take(message)
        finally:
            part.close()
        self.send()


class Line:
    """A near end that is a real client, and a far end that does what a script says."""

    def __init__(self, token: CancelToken, script: Script) -> None:
        near, far = socket.socketpair()
        ends = logged_in()
        for sock in (near, far):
            sock.setblocking(False)
        self.client = object.__new__(Client)
        self.client.target = Target("web1", "127.0.0.1", 1, None)
        self.client._cancel = token
        self.client._socket = near  # type: ignore[assignment]
        self.client._link = Link(
            ends[Role.CONTROLLER], near, would_block=(BlockingIOError,), clock=time.monotonic, wall=time.time
        )
        self._far = FarEnd(ends[Role.AGENT], far)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(script,), daemon=True)
        self._thread.start()

    def _run(self, script: Script) -> None:
        try:
            script(self._far)
        except (ConnectionError, BrokenPipeError):
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._far.sock.close()

    def end(self) -> None:
        self.client.close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error


class Lab:
    """Pushes and pulls between two folders."""

    def __init__(self, folder: Path) -> None:
        self.near = folder / "near"
        self.far = folder / "far"
        self.near.mkdir()
        self.far.mkdir()
        self.token = CancelToken()
        self.meter = Meter()
        self.differences = Differences()

    def talk(self, script: Script, begin: Callable[[Client, Ledger], Result], ledger: Ledger | None = None) -> Result:
        line = Line(self.token, script)
        try:
            return begin(line.client, ledger or Ledger("web1", self.meter, keep=True))
        finally:
            line.end()

    def push(
        self,
        *paths: Path,
        script: Script | None = None,
        keep: bool = True,
        timeout: float | None = None,
        **options: Any,
    ) -> Result:
        found = look_at([str(path) for path in paths], follow=False)
        maker = DiffMaker(self.differences, "web1", reader(found)) if options.get("diff") else None
        self.meter = Meter()
        ledger = Ledger("web1", self.meter, keep=keep, differences=maker)
        sending = SenderOptions(check=options.get("check", False))

        def begin(client: Client, ledger: Ledger) -> Result:
            with opened(found) as sources:
                listing = Listing(iter(sources), sending, Links.ALWAYS)
                request = f.Push(str(self.far) + "/", **options)
                return transfer.push(client, request, listing, ledger, self.meter, timeout)

        return self.talk(script or self.receive, begin, ledger)

    def receive(self, far: FarEnd) -> None:
        """The agent's part in a push."""
        request = far.next()
        assert isinstance(request, f.Push)
        options = ReceiverOptions.of_push(request, owner=None, group=None)
        base = Folder.root().enter(str(self.far).lstrip("/"))
        far.play(Receiver(base, into, options, far.link.queue, tell=True))
        base.release()

    def pull(
        self,
        *paths: str,
        script: Script | None = None,
        timeout: float | None = None,
        flat: bool = False,
        limits: Limits | None = None,
    ) -> Result:
        landing = Landing(str(self.near), paths, ["web1"], flat=flat, limits=limits or Limits())
        self.meter = Meter()

        def begin(client: Client, ledger: Ledger) -> Result:
            return transfer.pull(client, f.Pull(paths), landing, ledger, self.meter, timeout)

        return self.talk(script or self.send, begin)

    def send(self, far: FarEnd) -> None:
        """The agent's part in a pull."""
        request = far.next()
        assert isinstance(request, f.Pull)
        sources = [find_source(path, home=str(self.far), links=Links.ALWAYS) for path in request.paths]
        far.play(Sender(Listing(iter(sources), SenderOptions(), Links.ALWAYS), far.link.queue, SenderWatcher()))
        for source in sources:
            if source.folder is not None:
                source.folder.release()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path: Path) -> Iterator[None]:
    """After each test there is no temporary name, but those that are meant for the next transfer."""
    yield
    assert not [path for path in tmp_path.rglob(".*.fleet-*") if not path.name.endswith(".fleet-part")]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Pushes ---------------------------------------------------------------------------------------------------------------


def test_push_one_file(lab: Lab) -> None:
    data = os.urandom(700_000)
    (lab.near / "file").write_bytes(data)
    result = lab.push(lab.near / "file")
    assert (result.host, result.status, result.error, result.note) == ("web1", Status.CHANGED, None, None)
    assert result.tally == Tally(bytes=700_000, changed=1, sha256=sha256(data))
    (file,) = result.files
    assert (file.path, file.status, file.bytes, file.sha256, file.changes) == (
        f"{lab.far}/file",
        "changed",
        700_000,
        sha256(data),
        "created",
    )
    assert (lab.far / "file").read_bytes() == data
    assert lab.meter == Meter(moved=700_000, done=700_000, total=700_000, files=1, complete=True)


def test_push_what_is_there(lab: Lab) -> None:
    (lab.near / "file").write_bytes(b"same")
    lab.push(lab.near / "file")
    result = lab.push(lab.near / "file")
    assert (result.status, result.tally) == (Status.UNCHANGED, Tally(unchanged=1, sha256=sha256(b"same")))
    assert lab.meter == Meter(moved=0, done=4, total=4, files=1, complete=True)


def test_push_a_tree_keeps_of_the_files_what_needs_attention(lab: Lab) -> None:
    tree = lab.near / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "inner" / "file").write_bytes(b"1")
    os.mkfifo(tree / "fifo")
    result = lab.push(tree, keep=False)
    assert result.status is Status.CHANGED
    assert result.tally == Tally(bytes=1, changed=3, skipped=1)
    assert [(file.path, file.status, file.note) for file in result.files] == [
        (f"{lab.far}/tree/fifo", "skipped", "is a FIFO")
    ]


def test_push_into_what_is_no_directory(lab: Lab) -> None:
    (lab.near / "tree").mkdir()
    (lab.near / "other").mkdir()
    (lab.far / "tree").touch()
    (lab.far / "other").touch()
    result = lab.push(lab.near / "tree", lab.near / "other")
    assert result.status is Status.FAILED
    assert result.error is not None
    assert result.error.startswith(f"{lab.far}/tree: is a regular file, which a directory does not replace (and ")


def test_push_in_a_check_tells_the_difference_and_changes_nothing(lab: Lab) -> None:
    (lab.near / "text").write_bytes(b"one\ntwo\n")
    (lab.far / "text").write_bytes(b"one\n")
    result = lab.push(lab.near / "text", check=True, diff=True)
    assert (result.status, result.tally) == (Status.CHANGED, Tally(changed=1, sha256=sha256(b"one\ntwo\n")))
    path = f"{lab.far}/text"
    assert result.files[0].diff == f"--- {path}\n+++ {path}\n@@ -1 +1,2 @@\n one\n+two\n"
    assert (lab.far / "text").read_bytes() == b"one\n"


def test_push_with_a_difference_does_change(lab: Lab) -> None:
    (lab.near / "text").write_bytes(b"one\n")
    result = lab.push(lab.near / "text", diff=True)
    assert result.files[0].diff == f"--- /dev/null\n+++ {lab.far}/text\n@@ -0,0 +1 @@\n+one\n"
    assert (lab.far / "text").read_bytes() == b"one\n"


# Pulls ----------------------------------------------------------------------------------------------------------------


def test_pull_a_file_and_a_tree(lab: Lab) -> None:
    (lab.far / "file").write_bytes(b"content")
    (lab.far / "tree/empty").mkdir(parents=True)
    (lab.far / "tree/big").write_bytes(bytes(100_000) + b"end")
    result = lab.pull("file", "tree")
    assert (result.status, result.error) == (Status.CHANGED, None)
    assert (lab.near / "web1/file").read_bytes() == b"content"
    assert (lab.near / "web1/tree/big").read_bytes() == bytes(100_000) + b"end"
    assert (lab.near / "web1/tree/empty").is_dir()
    assert lab.meter.done == lab.meter.total == 100_010
    assert (lab.meter.files, lab.meter.complete) == (4, True)
    again = lab.pull("file", "tree")
    assert (again.status, again.tally) == (Status.UNCHANGED, Tally(unchanged=4))


def test_pull_flat(lab: Lab) -> None:
    (lab.far / "file").write_bytes(b"content")
    assert lab.pull("file", flat=True).status is Status.CHANGED
    assert os.listdir(lab.near) == ["file.web1"]


def test_pull_what_is_not_there_leaves_no_folder(lab: Lab) -> None:
    result = lab.pull("nothing")
    assert (result.status, result.error) == (
        Status.FAILED,
        "nothing: no such file or directory",
    )
    assert os.listdir(lab.near) == []


def test_pull_into_a_link(lab: Lab) -> None:
    (lab.near / "web1").symlink_to(lab.far)
    (lab.far / "file").touch()
    result = lab.pull("file", script=lambda far: None)
    assert (result.status, result.error) == (
        Status.FAILED,
        f"{lab.near}/web1 is there and is no directory; links are not followed",
    )


# A rollback -----------------------------------------------------------------------------------------------------------


def roll_back(lab: Lab, script: Script) -> Result:
    return lab.talk(script, lambda client, ledger: transfer.rollback(client, f.Rollback("r1"), ledger, timeout=None))


def test_rollback(lab: Lab) -> None:
    def script(far: FarEnd) -> None:
        assert far.next() == f.Rollback("r1")
        outcome = Outcome("/etc/motd", FileStatus.CHANGED, bytes=3, sha256=sha256(b"old"), changes="content")
        far.send(f.Outcomes((outcome,)), f.Done())

    result = roll_back(lab, script)
    assert (result.status, result.files[0].path) == (Status.CHANGED, "/etc/motd")


def test_rollback_with_the_outcome_of_an_entry(lab: Lab) -> None:
    def script(far: FarEnd) -> None:
        far.next()
        far.send(f.Outcomes((Outcome("x", FileStatus.CHANGED, index=0),)))
        far.next()

    assert roll_back(lab, script).error == "the agent broke the protocol: the outcome of an entry, and there are none"


@pytest.mark.parametrize(
    ("answer", "last", "error"),
    [
        (f.Done("20260101-000000-abcdef"), "20260101-000000-abcdef", None),
        (f.Done(), None, None),
        (f.Done("9" * 65), None, f"{'9' * 64!r} is not the id of a run"),
        (f.Done("20260101-000000-abcdef\n"), None, r"'20260101-000000-abcdef\n' is not the id of a run"),
        (f.Outcomes(), None, "Outcomes in answer to a question"),
    ],
)
def test_asking_for_the_last_push(lab: Lab, answer: m.Message, last: str | None, error: str | None) -> None:
    question = transfer.Asking()

    def script(far: FarEnd) -> None:
        assert far.next() == f.Rollback("?", ask=True)
        far.send(answer)

    request = f.Rollback("?", ask=True)
    result = lab.talk(script, lambda client, ledger: transfer.converse(client, request, question, ledger, None))
    assert (question.last, question.done) == (last, error is None)
    assert result.error == (error and f"the agent broke the protocol: {error}")
    assert result.status is (Status.BROKEN if error else Status.UNCHANGED)


# The ways to end ------------------------------------------------------------------------------------------------------


def refuse(code: str) -> Script:
    def script(far: FarEnd) -> None:
        far.next()
        far.send(m.Error(code, "the reason"))
        while not isinstance(far.next(), Closed):
            pass

    return script


@pytest.mark.parametrize(
    ("code", "status"), [("denied", Status.DENIED), ("failed", Status.FAILED), ("busy", Status.BROKEN)]
)
def test_a_refusal(lab: Lab, code: str, status: Status) -> None:
    (lab.near / "file").touch()
    result = lab.push(lab.near / "file", script=refuse(code))
    assert (result.status, result.error) == (status, "the reason")


def leave(far: FarEnd) -> None:
    far.next()


def say_goodbye(far: FarEnd) -> None:
    far.next()
    far.send(m.Goodbye("stopping", "the agent stops"))
    far.next()


def answer_without_a_question(far: FarEnd) -> None:
    far.next()
    far.send(f.Wants(()), f.Wants(()))
    while not isinstance(far.next(), Closed):
        pass


def claim_more_outcomes_than_entries(far: FarEnd) -> None:
    while not isinstance(far.next(), f.Entries):
        pass
    one = Outcome("/x", FileStatus.CHANGED, index=0)
    far.send(f.Wants(()), f.Outcomes((one, one)))
    while not isinstance(far.next(), Closed):
        pass


def tell_old_content_unasked(far: FarEnd) -> None:
    while not isinstance(far.next(), f.Entries):
        pass
    far.send(f.Old(0, 3, sha256(b"old")))
    while not isinstance(far.next(), Closed):
        pass


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (say_goodbye, "the agent ended the connection: the agent stops"),
        (answer_without_a_question, "the agent broke the protocol: wants without a batch"),
        (claim_more_outcomes_than_entries, "the agent broke the protocol: more outcomes than entries"),
        (tell_old_content_unasked, "the agent broke the protocol: old content, which nobody asked for"),
    ],
)
def test_a_push_that_breaks(lab: Lab, script: Script, reason: str) -> None:
    (lab.near / "file").write_bytes(b"x")
    result = lab.push(lab.near / "file", script=script)
    assert result.status is Status.BROKEN
    assert result.error == reason


def test_an_agent_that_leaves(lab: Lab) -> None:
    (lab.near / "file").write_bytes(b"x")
    result = lab.push(lab.near / "file", script=leave)
    assert result.status is Status.BROKEN
    # Whether the end is seen in reading or in writing is a matter of luck.
    ways = ("the agent closed it before the end of the transfer", "broken pipe", "connection reset by peer")
    assert result.error in [f"the connection was lost: {way}" for way in ways]
    assert result.note == "the same command again goes on where this one stopped, unless the agent was killed"


class Writer:
    """A part that writes when the agent does not read any more."""

    done = False

    def __init__(self, left: threading.Event, send: Callable[[m.Message], None]) -> None:
        self._left = left
        self._send = send
        self._before = 2  # pieces before which the request may not have been sent

    def step(self) -> bool:
        if self._before:
            self._before -= 1
            return True
        assert self._left.wait(PATIENCE)
        self._send(f.Entries())
        return True

    def take(self, message: m.Message) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("last_word", "status", "reason"),
    [
        (m.Goodbye("stopping", "the agent stops"), Status.BROKEN, "the agent ended the connection: the agent stops"),
        (m.Error("denied", "may not be pushed to: /"), Status.DENIED, "may not be pushed to: /"),
        (m.Ping(), Status.BROKEN, "the connection was lost: broken pipe"),
    ],
)
def test_what_the_agent_said_is_heard_when_it_does_not_listen(
    lab: Lab, last_word: m.Message, status: Status, reason: str
) -> None:
    left = threading.Event()

    def script(far: FarEnd) -> None:
        far.next()
        far.send(last_word)
        far.sock.shutdown(socket.SHUT_RD)
        left.set()
        stall(far)

    def begin(client: Client, ledger: Ledger) -> Result:
        return transfer.converse(client, f.Push("/x/"), Writer(left, client.link.queue), ledger, None)

    result = lab.talk(script, begin)
    assert (result.status, result.error) == (status, reason)


class Pieces:
    """A connection whose peer has sent some pieces, and takes none of ours."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def recv(self, size: int) -> bytes:
        if not self._pieces:
            raise BlockingIOError
        return self._pieces.pop(0)

    def send(self, data: memoryview) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_all_of_what_the_agent_said_is_heard_when_it_does_not_listen() -> None:
    """Its last word need not be the first."""
    ends = logged_in()
    said = [m.Pong(1), m.Goodbye("stopping", "the agent stops")]
    pieces = Pieces([ends[Role.AGENT].send(message) for message in said])
    client = object.__new__(Client)
    client._link = Link(
        ends[Role.CONTROLLER], pieces, would_block=(BlockingIOError,), clock=time.monotonic, wall=time.time
    )
    ledger = Ledger("web1", Meter(), keep=True)
    result = transfer.converse(client, f.Push("/x/"), Writer(threading.Event(), client.link.queue), ledger, None)
    assert result.error == "the agent ended the connection: the agent stops"


def stall(far: FarEnd) -> None:
    while not isinstance(far.next(), Closed):
        pass


def test_a_timeout(lab: Lab) -> None:
    result = lab.pull("file", script=stall, timeout=0.05)
    assert (result.status, result.error) == (Status.TIMEOUT, "cut off after 0.05 s")


def test_a_cancelled_run(lab: Lab) -> None:
    def script(far: FarEnd) -> None:
        far.next()
        lab.token.set()
        stall(far)

    result = lab.pull("file", script=script)
    assert (result.status, result.error) == (Status.CANCELLED, "stopped: the run was cancelled")


def test_too_much_for_a_message(lab: Lab) -> None:
    (lab.near / "file").touch()
    result = lab.push(lab.near / "file", script=stall, validate="%s" + "x" * (1 << 20))
    assert result.status is Status.FAILED
    assert result.error is not None
    assert result.error.startswith("cannot be sent: Push of ")


# Resuming -------------------------------------------------------------------------------------------------------------

_SIZE = 3_000_000


def cut_after(script: Script, count: int) -> Script:
    """Let the agent hang up after so many bytes in its direction and the other one."""

    def cut(far: FarEnd) -> None:
        passed = 0
        receive, send = far.sock.recv, far.sock.send

        def check(size: int) -> None:
            nonlocal passed
            passed += size
            if passed > count:
                raise ConnectionResetError

        class Cutting:
            def recv(self, size: int) -> bytes:
                data = receive(size)
                check(len(data))
                return data

            def send(self, data: memoryview) -> int:
                sent = send(data)
                check(sent)
                return sent

        far.link._socket = Cutting()
        far.link._receive_into = None
        script(far)

    return cut


@pytest.mark.parametrize("way", ["push", "pull"])
def test_cut_at_twenty_places(lab: Lab, way: str) -> None:
    """Each attempt goes on where the one before it was cut, but where the source was changed in between."""
    chance = random.Random(way)
    data = chance.randbytes(_SIZE)
    source, target = (lab.near, lab.far) if way == "push" else (lab.far, lab.near / "web1")
    (source / "file").write_bytes(data)
    target.mkdir(exist_ok=True)
    target_file = target / "file"
    target_file.write_bytes(b"the old file")
    notes = []
    for attempt in range(20):
        script = cut_after(lab.receive if way == "push" else lab.send, chance.randrange(100, _SIZE // 4))
        result = lab.push(source / "file", script=script) if way == "push" else lab.pull("file", script=script)
        if result.status is not Status.BROKEN:  # it was so far that the rest came through
            assert result.status is Status.CHANGED
            notes.append(result.files[0].note)
            assert target_file.read_bytes() == data
            target_file.write_bytes(b"the old file")
        else:
            assert target_file.read_bytes() == b"the old file", "half of the new file"
        if attempt == 10:
            data = b"changed" + data[7:]
            (source / "file").write_bytes(data)
    result = lab.push(source / "file") if way == "push" else lab.pull("file")
    assert result.status is Status.CHANGED
    assert target_file.read_bytes() == data
    notes.append(result.files[0].note)
    assert any(note.startswith("continued at byte ") for note in notes), notes


@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_source_that_changed_is_sent_anew(lab: Lab, way: str) -> None:
    source, target = (lab.near, lab.far) if way == "push" else (lab.far, lab.near / "web1")
    (source / "file").write_bytes(b"1" * _SIZE)
    script = cut_after(lab.receive if way == "push" else lab.send, _SIZE // 2)
    cut = lab.push(source / "file", script=script) if way == "push" else lab.pull("file", script=script)
    assert cut.status is Status.BROKEN
    (source / "file").write_bytes(b"2" * _SIZE)
    result = lab.push(source / "file") if way == "push" else lab.pull("file")
    assert (result.status, result.files[0].note) == (
        Status.CHANGED,
        "started anew: the source is not what it was",
    )
    assert (target / "file").read_bytes() == b"2" * _SIZE
