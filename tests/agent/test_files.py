"""Push, pull and rollback through real sessions: TLS on loopback, the session in a thread, the other part here."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import select
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.config import Controller, Permission
from agent.environment import Account
from agent.files import Files, Transfer, _home
from agent.journal import Journal
from agent.log import log
from agent.runner import Runner
from agent.services import Services
from agent.session import Session
from agent.tls import server_context
from agent.tree.entries import Listing
from agent.tree.errors import FileError, TransferError
from agent.tree.options import ReceiverOptions, SenderOptions
from agent.tree.paths import Folder, Links
from agent.tree.places import Asked
from agent.tree.receiver import Receiver
from agent.tree.sender import Sender, SenderWatcher
from agent.tree.sources import find_source
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.connection import Closed, Connection, Role, State
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import FileStatus, Outcome
from agent.wire.handshake import Verifier, channel_binding, client_proof, derive_keys, transcript_hash
from agent.wire.link import Link

PATIENCE = 30.0
KEYS = derive_keys(bytes(32), "ops", b"h" * 16, 1)
WOULD_BLOCK = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
CHANGED, UNCHANGED, FAILED = FileStatus.CHANGED, FileStatus.UNCHANGED, FileStatus.FAILED


class Watcher(SenderWatcher):
    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}

    def outcome(self, outcome: Outcome) -> None:
        self.outcomes[outcome.path] = outcome


class Refused(Exception):
    """The agent answered with an error."""


class CutError(Exception):
    """A test has ended the transfer here."""


class Rig:
    """An agent's session, and a controller that is logged in."""

    def __init__(self, runner: Runner, folder: Path) -> None:
        self.rules = Controller()
        (folder / "agent").mkdir(exist_ok=True)
        self.journal = Journal.open(str(folder / "agent"))
        self.files = Files(rules=lambda name: self.rules, runner=runner, shell="/bin/sh", journal=self.journal)
        self.context, self.certificate = server_context()
        self.runner = runner
        reading, self._stop = os.pipe()
        self._stop_reading = reading
        self._threads: list[threading.Thread] = []
        self.ended: list[BaseException | None] = []
        self.connect()

    def connect(self) -> None:
        """Start a session and log in."""
        services = Services(
            context=self.context,
            certificate=self.certificate,
            find=lambda *who: Verifier(KEYS.stored_key, KEYS.server_key),
            permissions=lambda name: frozenset(self.rules.permissions),
            runner=self.runner,
            shell="/bin/sh",
            files=self.files,
            about={},
            stop=self._stop_reading,
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            sock = socket.create_connection(listener.getsockname(), PATIENCE)
            server_side, _ = listener.accept()
        session = Session(server_side, "10.0.0.9", services, time.monotonic())
        thread = threading.Thread(target=self._serve, args=(session,))
        thread.start()
        self._threads.append(thread)
        self._log_in(sock)

    def _serve(self, session: Session) -> None:
        with closing(session):
            try:
                session.authenticate()
                session.serve()
                self.ended.append(None)
            except Exception as error:
                self.ended.append(error)

    def _log_in(self, sock: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.tls = context.wrap_socket(sock, suppress_ragged_eofs=False)
        self.tls.setblocking(False)
        self.link = Link(
            Connection(Role.CONTROLLER), self.tls, would_block=WOULD_BLOCK, clock=time.monotonic, wall=time.time
        )
        self.link.send(m.Hello("ops", b"h" * 16, 1, bytes(32), 1, 1, 0))
        assert isinstance(self.next_message(), m.Challenge)
        binding = channel_binding(self.tls.getpeercert(True) or b"", self.tls.get_channel_binding("tls-unique"))
        transcript = transcript_hash(self.link.connection.hello, self.link.connection.challenge, binding)
        self.link.send(m.Proof(binding, client_proof(KEYS.client_key, transcript)))
        assert isinstance(self.next_message(), m.Welcome)

    def wait(self, seconds: float = PATIENCE) -> None:
        poller = select.poll()
        poller.register(self.tls, select.POLLIN | (select.POLLOUT if self.link.backlog else 0))
        assert poller.poll(seconds * 1000) or not seconds, "the agent says nothing"
        self.link.flush()

    def next_message(self) -> Any:
        while True:
            for message in self.link.read():
                return message
            self.wait()

    def drive(self, part: Sender | Receiver, until: Callable[[m.Message], bool] | None = None) -> None:
        """Let a sender or a receiver do its part, to its end or until a message comes that a test waits for."""
        while not part.done:
            more = True
            while more and not self.link.backlog and not part.done:
                more = part.step()
                self.link.flush()
            if part.done:
                break
            self.wait(0 if more and not self.link.backlog else PATIENCE)
            for message in self.link.read():
                if isinstance(message, m.Error):
                    raise Refused(message.code, message.text)
                if isinstance(message, Closed | m.Goodbye):
                    raise ConnectionError(str(message))
                if until is not None and until(message):
                    return
                part.take(message)
        while self.link.backlog:
            self.wait()

    def push(
        self, *sources: Path | str, to: Path | str, until: Any = None, cut_after: int | None = None, **options: Any
    ) -> dict[str, Outcome]:
        """Push, and return the outcomes by path; or raise CutError after so many pieces of content."""
        pieces = 0

        def queue(message: m.Message) -> None:
            nonlocal pieces
            pieces += isinstance(message, f.Data)
            if cut_after is not None and pieces > cut_after:
                raise CutError
            self.link.queue(message)

        found = [find_source(str(source), home="/", links=Links.ALWAYS) for source in sources]
        watcher = Watcher()
        listing = Listing(iter(found), SenderOptions(check=options.get("check", False)), Links.ALWAYS)
        sender = Sender(listing, queue, watcher)
        try:
            given = {"host": "web1", "run": "r1", "several": len(sources) > 1, **options}
            self.link.send(f.Push(str(to), **given))
            self.drive(sender, until)
        finally:
            sender.close()
            for source in found:
                if source.folder is not None:
                    source.folder.release()
        return watcher.outcomes

    def pull(self, *paths: str, to: Path, until: Any = None, keep: Any = None, **options: Any) -> dict[str, Outcome]:
        """Pull, and return the outcomes by path below `to`."""
        to.mkdir(exist_ok=True)
        base = Folder.at(str(to))
        outcomes: dict[str, Outcome] = {}

        def report(outcome: Outcome) -> None:
            outcomes[str(Path(outcome.path).relative_to(to))] = outcome

        receiver = Receiver(base, Asked(paths), keep or ReceiverOptions(), self.link.queue, report=report)
        try:
            self.link.send(f.Pull(tuple(map(str, paths)), host="web1", run="r2", **options))
            self.drive(receiver, until)
        finally:
            receiver.close()
            base.release()
        return outcomes

    def rollback(self, target: str | None = None) -> list[Outcome]:
        """Roll back, and return the outcomes."""
        self.link.send(f.Rollback(target))
        outcomes: list[Outcome] = []
        while not isinstance(message := self.next_message(), f.Done):
            if isinstance(message, m.Error):
                raise Refused(message.code, message.text)
            outcomes += message.outcomes
        return outcomes

    def last_push(self) -> str | None:
        """Ask which push is the last one."""
        self.link.send(f.Rollback("?", ask=True))
        answer = self.next_message()
        if isinstance(answer, m.Error):
            raise Refused(answer.code, answer.text)
        assert isinstance(answer, f.Done)
        return answer.last

    def hang_up(self) -> None:
        """Cut the connection, and wait for the session's end."""
        self.tls.close()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self._threads.clear()

    def close(self) -> None:
        self.hang_up()
        self.journal.close()
        os.close(self._stop)
        os.close(self._stop_reading)


@pytest.fixture
def rig(shared_runner: Runner, tmp_path: Path) -> Iterator[Rig]:
    before = set(os.listdir("/proc/self/fd"))
    rig = Rig(shared_runner, tmp_path)
    yield rig
    rig.close()
    left = {fd for fd in set(os.listdir("/proc/self/fd")) - before if os.path.exists(f"/proc/self/fd/{fd}")}
    assert not {os.readlink(f"/proc/self/fd/{fd}") for fd in left if "fleet" in os.readlink(f"/proc/self/fd/{fd}")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    (path / "f").write_bytes(b"new\n")
    return path


@pytest.fixture
def there(tmp_path: Path) -> Path:
    path = tmp_path / "there"
    path.mkdir()
    return path


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    before = log.handlers, log.level, log.propagate
    log.handlers, log.propagate = [Handler()], False
    log.setLevel(logging.DEBUG)
    yield found
    log.handlers, log.propagate = before[0], before[2]
    log.setLevel(before[1])


def names(path: Path) -> set[str]:
    return {str(one.relative_to(path)) for one in path.rglob("*")}


# Where a push goes -------------------------------------------------------------------------------------------------


def test_into_a_directory(rig: Rig, source: Path, there: Path) -> None:
    assert [*rig.push(source / "f", to=there)] == [f"{there}/f"]
    assert [*rig.push(source / "f", to=f"{there}/")] == [f"{there}/f"]
    assert names(there) == {"f"}


def test_under_a_new_name(rig: Rig, source: Path, there: Path) -> None:
    assert [*rig.push(source / "f", to=there / "new")] == [f"{there}/new"]
    assert [*rig.push(source, to=there / "tree")] == [f"{there}/tree", f"{there}/tree/f"]
    assert names(there) == {"new", "tree", "tree/f"}


def test_a_directory_is_not_renamed_into_one_that_is_there(rig: Rig, source: Path, there: Path) -> None:
    rig.push(source, to=there)
    assert names(there) == {"source", "source/f"}


def test_a_new_directory(rig: Rig, source: Path, there: Path) -> None:
    check = rig.push(source / "f", to=f"{there}/new/", check=True)
    assert names(there) == set()
    assert [(outcome.path, outcome.changes) for outcome in check.values()] == [(f"{there}/new/f", "created")]
    rig.push(source / "f", to=f"{there}/new/")
    assert names(there) == {"new", "new/f"}
    rig.push(f"{source}/.", to=f"{there}/other/")
    assert names(there) == {"new", "new/f", "other", "other/f"}
    assert {outcome.changes for outcome in rig.push(f"{source}/.", to=f"{there}/third/", check=True).values()} == {
        "created"
    }


@pytest.mark.parametrize("kind", ["directory", "link", "file", "nothing"])
def test_a_directory_that_somebody_else_makes_meanwhile(
    rig: Rig, source: Path, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Several agents may share a file system: each finds that there is none, and one is the first to make it."""
    real = os.mkdir

    def mkdir(name: str, *rest: Any, **options: Any) -> None:
        if name in ("new", "source"):
            path = f"/proc/self/fd/{options['dir_fd']}/{name}"
            if kind == "directory":
                real(path)
            elif kind == "link":
                os.symlink(tmp_path, path)
            elif kind == "file":
                Path(path).touch()
            raise OSError(errno.EEXIST, "")
        real(name, *rest, **options)

    monkeypatch.setattr(os, "mkdir", mkdir)
    outcomes = rig.push(source, to=there)
    if kind == "directory":
        assert {outcome.status for path, outcome in outcomes.items()} == {UNCHANGED, CHANGED}
        assert outcomes[f"{there}/source"].status is UNCHANGED
        assert [*rig.push(source / "f", to=f"{there}/new/")] == [f"{there}/new/f"]
        assert names(there) == {"new", "new/f", "source", "source/f"}
        return
    assert (
        outcomes[f"{there}/source"].error
        == {
            "link": "is a symbolic link, which a directory does not replace",
            "file": "is a regular file, which a directory does not replace",
            "nothing": "cannot make the directory: file exists",
        }[kind]
    )
    with pytest.raises(Refused) as caught:
        rig.push(source / "f", to=f"{there}/new/")
    assert caught.value.args == ("failed", f"cannot make the directory {there}/new/: file exists")
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("bits", [0o700, 0o755, 0o1777])
@pytest.mark.parametrize("check", [False, True])
def test_what_is_in_a_directory_into_a_new_one(rig: Rig, source: Path, there: Path, bits: int, check: bool) -> None:
    """The new one is the source's: as with cp -r and rsync -a."""
    source.chmod(bits)
    os.utime(source, ns=(1, 10**18))
    for again in (False, True):
        outcomes = rig.push(f"{source}/.", to=f"{there}/new/", check=check, preserve=True)
        assert [*outcomes] == [f"{there}/new", f"{there}/new/f"]
        assert {outcome.status for outcome in outcomes.values()} == {UNCHANGED if again and not check else CHANGED}
    if check:
        assert names(there) == set()
    else:
        info = (there / "new").stat()
        assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (bits, 10**18)
    (there / "old").mkdir(mode=0o750)
    assert rig.push(f"{source}/.", to=f"{there}/old/", check=check)[f"{there}/old"].status is UNCHANGED
    assert stat.S_IMODE((there / "old").stat().st_mode) == 0o750


@pytest.mark.parametrize("first", [True, False])
def test_a_new_directory_for_what_is_in_one_and_more(rig: Rig, source: Path, there: Path, first: bool) -> None:
    (source / "d").mkdir()
    (source / "d/g").touch()
    source.chmod(0o711)
    inside, other = f"{source}/d/.", source / "f"
    (source / "d").chmod(0o710)
    outcomes = rig.push(*((inside, other) if first else (other, inside)), to=f"{there}/new/")
    assert {outcome.changes for outcome in outcomes.values()} == {"created"}
    assert stat.S_IMODE((there / "new").stat().st_mode) == 0o710
    assert names(there) == {"new", "new/f", "new/g"}


def test_a_new_directory_for_files_is_as_others_are(rig: Rig, source: Path, there: Path) -> None:
    there.chmod(0o2775)
    rig.push(source / "f", to=f"{there}/new/")
    assert stat.S_IMODE((there / "new").stat().st_mode) == 0o2755  # the bit is what the system gives it there


def test_a_new_directory_whose_mode_cannot_be_set(
    rig: Rig, source: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chmod(*args: Any, **options: Any) -> None:
        raise OSError(errno.EPERM, "")

    monkeypatch.setattr(os, "chmod", chmod)
    outcome = rig.push(source / "f", to=f"{there}/new/")[f"{there}/new/f"]
    assert outcome.error == "cannot set the mode of the directory: operation not permitted"


def test_a_new_directory_for_what_is_in_one_when_the_link_is_cut(rig: Rig, source: Path, there: Path) -> None:
    (source / "f").write_bytes(bytes(range(256)) * 4096)
    source.chmod(0o751)
    with pytest.raises(CutError):
        rig.push(f"{source}/.", to=f"{there}/new/", cut_after=2)
    rig.hang_up()
    assert stat.S_IMODE((there / "new").stat().st_mode) == 0o751


def test_a_new_directory_for_nothing(rig: Rig, source: Path, there: Path) -> None:
    rig.link.send(f.Push(f"{there}/new/"))
    rig.link.send(f.Entries((), last=True))
    while not isinstance(rig.next_message(), f.Done):
        pass
    rig.hang_up()
    assert stat.S_IMODE((there / "new").stat().st_mode) == 0o755


def test_the_name_of_a_new_directory_lasts(
    rig: Rig, source: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(fd: int) -> None:
        assert os.readlink(f"/proc/self/fd/{fd}") == str(there)
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(Refused) as caught:
        rig.push(source / "f", to=f"{there}/new/")
    assert caught.value.args == ("failed", f"cannot make the directory {there}/new/: input/output error")


def test_several_into_a_directory(rig: Rig, source: Path, there: Path) -> None:
    (source / "g").touch()
    rig.push(source / "f", source / "g", to=there)
    assert names(there) == {"f", "g"}


def test_a_relative_destination_starts_at_home(rig: Rig, source: Path, there: Path) -> None:
    rig.rules = Controller(home=str(there))
    rig.push(source / "f", to="new")
    rig.push(source / "f", to=".")
    assert names(there) == {"new", "f"}


@pytest.mark.parametrize(
    ("destination", "several", "reason"),
    [
        ("{}/none/x", False, "cannot enter {}/none: no such file or directory"),
        ("{}/none/x/", False, "cannot enter {}/none: no such file or directory"),
        ("{}/file/", False, "{}/file/ is not a directory"),
        ("{}/file/x", False, "cannot enter {}/file: not a directory"),
        ("{}/file", True, "several sources need a directory, and {}/file is none"),
        ("{}/none", True, "several sources need a directory, and {}/none is none"),
        ("{}/a\nb/", False, "control character in the name 'a\\nb'"),
    ],
)
def test_destinations_that_are_none(
    rig: Rig, source: Path, there: Path, destination: str, several: bool, reason: str
) -> None:
    (there / "file").write_bytes(b"keep")
    sources = [source / "f", source / "f"] if several else [source / "f"]
    with pytest.raises(Refused) as caught:
        rig.push(*sources, to=destination.format(there))
    assert caught.value.args == ("failed", reason.format(there))
    assert (there / "file").read_bytes() == b"keep"
    assert names(there) == {"file"}
    assert rig.link.connection.state is State.READY
    rig.push(source / "f", to=there)  # the connection lives on


def test_a_destination_that_cannot_be_made(
    rig: Rig, source: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", fail)
    with pytest.raises(Refused, match=r"cannot make the directory .*/new/: read-only file system"):
        rig.push(source / "f", to=f"{there}/new/")


# Who may -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("permission", [Permission.RUN, Permission.PULL])
def test_a_controller_that_may_not_push(rig: Rig, source: Path, there: Path, permission: Permission) -> None:
    rig.rules = Controller(permissions=frozenset({permission}))
    with pytest.raises(Refused) as caught:
        rig.push(source / "f", to=there)
    assert caught.value.args == ("denied", "controller ops may not push here")
    with pytest.raises(Refused) as caught:
        rig.rollback()
    assert caught.value.args == ("denied", "controller ops may not push here")
    assert names(there) == set()


def test_a_controller_that_may_not_pull(rig: Rig, source: Path, tmp_path: Path) -> None:
    rig.rules = Controller(permissions=frozenset({Permission.PUSH}))
    with pytest.raises(Refused) as caught:
        rig.pull(f"{source}/f", to=tmp_path / "got")
    assert caught.value.args == ("denied", "controller ops may not pull here")


def test_who_may_not_run_may_not_validate(rig: Rig, source: Path, there: Path) -> None:
    rig.rules = Controller(permissions=frozenset({Permission.PUSH}))
    with pytest.raises(Refused) as caught:
        rig.push(source / "f", to=there, validate="true %s")
    assert caught.value.args == ("denied", "controller ops may not run commands here, and so not validate")


@pytest.mark.parametrize(("option", "reason"), [("owner", "unknown user"), ("group", "unknown group")])
def test_unknown_owners(rig: Rig, source: Path, there: Path, option: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        rig.push(source / "f", to=there, **{option: "no such"})
    assert caught.value.args == ("failed", f"{reason} 'no such'")


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        ("\n", "control character in the name 'x\\n'"),
        ("~" * 255, "name of 256 bytes, expected no more than 255"),
    ],
)
def test_suffixes_that_nobody_means(rig: Rig, source: Path, there: Path, suffix: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        rig.push(source / "f", to=there, backup=suffix)
    assert caught.value.args == ("failed", reason)
    assert names(there) == set()


@pytest.mark.parametrize("option", ["owner", "group"])
@pytest.mark.parametrize("number", ["4294967295", "4294967296", "-1", "99999999999999999999", "1" * 5000])
def test_numbers_that_no_owner_has(rig: Rig, source: Path, there: Path, option: str, number: str) -> None:
    """chown(2) takes -1 for "as it is", and Python raises OverflowError for what is longer than 32 bits."""
    kind = {"owner": "user", "group": "group"}[option]
    for pushed, destination in ((source / "f", there), (source, there / "new"), (source / "f", f"{there}/new/")):
        with pytest.raises(Refused) as caught:
            rig.push(pushed, to=destination, **{option: number})
        assert caught.value.args == ("failed", f"{kind} {number[:32]!r} is not in 0..4294967294")
    assert names(there) == set()
    assert os.listdir(there.parent / "agent/transfers") == []
    rig.push(source / "f", to=there)  # the session goes on
    assert names(there) == {"f"}


def test_an_owner_that_cannot_be_looked_up(
    rig: Rig, source: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise OSError(errno.EMFILE, "")

    monkeypatch.setattr("agent.files.pwd.getpwnam", fail)
    with pytest.raises(Refused) as caught:
        rig.push(source / "f", to=there, owner="somebody")
    assert caught.value.args == ("failed", "cannot look up user 'somebody': too many open files")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_by_name_and_number(rig: Rig, source: Path, there: Path) -> None:
    rig.push(source / "f", to=there, owner="61001", group="daemon")
    info = (there / "f").stat()
    assert (info.st_uid, info.st_gid) == (61_001, 1)
    rig.push(source / "f", to=there, owner="root", group="0")
    assert ((there / "f").stat().st_uid, (there / "f").stat().st_gid) == (0, 0)


def test_mode_and_content(rig: Rig, source: Path, there: Path) -> None:
    """No umask of the agent's takes away, or adds to, what was asked for."""
    outcome = rig.push(source / "f", to=there, mode=0o666, preserve=True)[f"{there}/f"]
    assert outcome.changes == "created"
    assert (there / "f").stat().st_mode & 0o7777 == 0o666
    assert (there / "f").stat().st_mtime_ns == (source / "f").stat().st_mtime_ns


# Roots -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def held(rig: Rig, there: Path) -> Path:
    """Hold the controller to a directory, beside which there is another."""
    inside = there / "inside"
    (inside / "d").mkdir(parents=True)
    (inside / "d/f").write_bytes(b"inside\n")
    (there / "outside").mkdir()
    (there / "outside/f").write_bytes(b"outside\n")
    (there / "inside2").mkdir()
    (inside / "link").symlink_to(there / "outside")
    (there / "way_in").symlink_to(inside)
    rig.rules = Controller(push=(str(inside), str(there / "missing")), pull=(str(inside),), home=str(inside))
    return there


@pytest.mark.parametrize("path", ["inside", "inside/", "inside/d", "inside/new", "inside/d/../d/new", "way_in/d/"])
def test_pushes_within_the_roots(rig: Rig, source: Path, held: Path, path: str) -> None:
    assert {outcome.status for outcome in rig.push(source / "f", to=f"{held}/{path}").values()} == {CHANGED}


@pytest.mark.parametrize(
    "path",
    [
        "outside",
        "outside/f",
        "outside/none/x",
        "inside2",
        "inside2/new",
        "inside/link",
        "inside/link/x",
        "inside/..",
        "inside/../outside/x",
        "missing",
        "missing/x",
        "",
        "/",
        "/none/x",
        "/etc/new",
        "inside/link/none/x",
    ],
)
def test_pushes_elsewhere(rig: Rig, source: Path, held: Path, path: str) -> None:
    destination = path if path.startswith("/") else f"{held}/{path}"
    before = names(held)
    with pytest.raises(Refused) as caught:
        rig.push(source / "f", to=destination)
    assert caught.value.args == ("denied", f"may not be pushed to: {destination}")
    assert names(held) == before
    assert (held / "outside/f").read_bytes() == b"outside\n"


def test_a_slip_within_the_roots_is_told(rig: Rig, source: Path, held: Path) -> None:
    with pytest.raises(Refused) as caught:
        rig.push(source / "f", to="none/x")
    assert caught.value.args == ("failed", f"cannot enter {held}/inside/none: no such file or directory")


def test_relative_paths_do_not_leave(rig: Rig, source: Path, held: Path) -> None:
    with pytest.raises(Refused, match="may not be pushed to"):
        rig.push(source / "f", to="../outside")
    rig.push(source / "f", to="d")
    assert (held / "inside/d/f").read_bytes() == b"new\n"


@pytest.mark.parametrize(
    ("path", "got"),
    [
        ("{}/inside", {"inside", "inside/d", "inside/d/f", "inside/link"}),
        ("{}/inside/", {"inside", "inside/d", "inside/d/f", "inside/link"}),
        ("{}/inside/d/f", {"f"}),
        ("d/f", {"f"}),
        ("*/f", {"d", "d/f"}),
        ("{}/way_in/d/", {"d", "d/f"}),
    ],
)
def test_pulls_within_the_roots(rig: Rig, held: Path, tmp_path: Path, path: str, got: set[str]) -> None:
    rig.pull(path.format(held), to=tmp_path / "got")
    assert names(tmp_path / "got") == got


@pytest.mark.parametrize(
    "path",
    [
        "{}/outside",
        "{}/outside/f",
        "{}/*/f",
        "{}/inside/link/",
        "{}/inside/link/f",
        "../outside/f",
        "/etc/passwd",
        "{}/inside2",
        "{}/way_in",
        "{}/none",
        "/none/x",
        "link/*",
    ],
)
def test_pulls_from_elsewhere(rig: Rig, held: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(Refused) as caught:
        rig.pull(path.format(held), to=tmp_path / "got")
    assert caught.value.args == ("denied", f"may not be pulled: {path.format(held)}")
    assert names(tmp_path / "got") == set()


def test_a_followed_link_out_of_the_roots(rig: Rig, held: Path, tmp_path: Path) -> None:
    (held / "inside/secret").symlink_to("../outside/f")
    (held / "inside/own").symlink_to("d/f")
    outcomes = rig.pull(f"{held}/inside", to=tmp_path / "got", follow=True)
    why = "which is outside of what may be pulled"
    assert outcomes["inside/secret"].error == f"is a link to ../outside/f, {why}"
    assert outcomes["inside/link"].error == f"is a link to {held}/outside, {why}"
    assert (tmp_path / "got/inside/own").read_bytes() == b"inside\n"
    assert not any("outside" in path.read_text() for path in (tmp_path / "got").rglob("*") if path.is_file())


# Pulling -----------------------------------------------------------------------------------------------------------


def test_pull(rig: Rig, source: Path, tmp_path: Path) -> None:
    (source / "big").write_bytes(os.urandom(1_000_000))
    (source / "x.log").write_bytes(b"log")
    got = tmp_path / "got"
    outcomes = rig.pull(str(source), f"{source}/*.log", to=got)
    assert {path: outcome.status for path, outcome in outcomes.items()} == dict.fromkeys(
        ["source", "source/big", "source/f", "source/x.log", "x.log"], CHANGED
    )
    assert (got / "source/big").read_bytes() == (source / "big").read_bytes()
    assert {outcome.status for outcome in rig.pull(str(source), to=got).values()} == {UNCHANGED}


def test_pull_what_is_not_there(rig: Rig, source: Path, tmp_path: Path) -> None:
    outcomes = rig.pull(f"{source}/none", f"{source}/*.none", "/none/at/all", to=tmp_path / "got")
    assert {path: outcome.error for path, outcome in outcomes.items()} == {
        "none": "no such file or directory",
        "*.none": "no such file or directory",
        "all": "cannot enter /none: no such file or directory",
    }


@pytest.mark.parametrize("path", ["/", "..", "a/.."])
def test_pull_without_a_name(rig: Rig, path: str) -> None:
    rig.link.send(f.Pull((path,)))
    answer = rig.next_message()
    assert answer == m.Error("failed", f"no name at the end of {path!r}")


def test_pull_what_is_no_file(rig: Rig, source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "fifo")
    """Caught by the way it is left out; asked for by its name it is a failure."""
    outcomes = rig.pull(str(source), "/dev/null", "/dev/z*ro", to=tmp_path / "got")
    assert [
        (outcomes[name].status, outcomes[name].note, outcomes[name].error) for name in ("source/fifo", "zero", "null")
    ] == [
        (FileStatus.SKIPPED, "is a FIFO", None),
        (FileStatus.SKIPPED, "is a character device", None),
        (FAILED, "", "is a character device"),
    ]


def test_pull_from_proc(rig: Rig, tmp_path: Path) -> None:
    got = tmp_path / "got"
    assert rig.pull("/proc/version", to=got)["version"].status is CHANGED
    assert (got / "version").read_bytes() == Path("/proc/version").read_bytes()
    assert rig.pull("/proc/version", to=got)["version"].status is UNCHANGED


def test_pull_within_limits(rig: Rig, source: Path, tmp_path: Path) -> None:
    (source / "big").write_bytes(bytes(100))
    options = ReceiverOptions(max_size=50, max_files=2)
    outcomes = rig.pull(str(source), to=tmp_path / "got", keep=options, max_size=50, max_files=2)
    assert [outcome.status.value for outcome in outcomes.values()] == ["changed", "skipped", "failed"]
    assert rig.pull("/proc/kallsyms", to=tmp_path / "got", max_size=50)["kallsyms"].error == (
        "more than the limit of 50 bytes"
    )


def test_an_unreadable_file(rig: Rig, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def closed(name: Any, *rest: Any, **options: Any) -> int:
        if name == "f":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(name, *rest, **options)

    monkeypatch.setattr(os, "open", closed)
    assert rig.pull(f"{source}/f", to=tmp_path / "got")["f"].error == "cannot read it: permission denied"


# Validation --------------------------------------------------------------------------------------------------------


def test_validation(rig: Rig, source: Path, there: Path) -> None:
    (there / "f").write_bytes(b"old\n")
    outcomes = rig.push(source / "f", to=there, validate='grep -q new %s && test "$FLEET_HOST" = web1', backup="~")
    assert outcomes[f"{there}/f"].status is CHANGED
    (source / "f").write_bytes(b"bad\n")
    outcome = rig.push(source / "f", to=there, validate="echo line 3 >&2; grep -q new %s")[f"{there}/f"]
    assert (outcome.status, outcome.error) == (FAILED, "not valid: exit 1: line 3")
    assert (there / "f").read_bytes() == b"new\n"
    assert names(there) == {"f", "f~"}


CHANGES = {
    "written": "echo tampered >> %s",
    "written, as long as before": "printf 'NEW\n' > %s",
    "emptied": ": > %s",
    "replaced by an equal one": "cp %s {0}/copy && mv {0}/copy %s",
    "replaced by a link to an equal one": "mv %s {0}/moved && ln -s {0}/moved %s",
    "removed": "rm %s",
    "made executable": "chmod +x %s",
    "given another name": "ln %s {0}/name",
    "its times": "touch -d @5 %s",
}


@pytest.mark.parametrize("command", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("many", [False, True])
def test_a_command_that_changes_what_it_validates(
    rig: Rig, source: Path, there: Path, tmp_path: Path, command: str, many: bool
) -> None:
    """Its verdict is about another file then, and so is the digest that would be reported."""
    (there / "source").mkdir()
    (there / "source/f").write_bytes(b"old\n")
    for number in range(10 * many):
        (source / str(number)).write_bytes(b"new\n")
    command = f"case %s in *.f.*) {command.format(tmp_path)};; esac"
    outcomes = rig.push(source, to=there, validate=command, mode=0o644, preserve=True)
    outcome = outcomes.pop(f"{there}/source/f")
    assert (outcome.status, outcome.error) == (FAILED, "the validation command changed the file")
    assert {outcome.status for outcome in outcomes.values()} == {CHANGED}
    assert (there / "source/f").read_bytes() == b"old\n"
    assert names(there) - {f"source/{number}" for number in range(10)} == {"source", "source/f"}


def test_a_command_that_writes_the_same_again(rig: Rig, source: Path, there: Path) -> None:
    outcomes = rig.push(source / "f", to=there, validate="printf 'new\n' > %s; cat %s >/dev/null")
    assert outcomes[f"{there}/f"].status is CHANGED
    assert (there / "f").read_bytes() == b"new\n"


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o444])
def test_a_new_file_that_its_owner_may_not_read_is_validated(rig: Rig, source: Path, there: Path, mode: int) -> None:
    assert rig.push(source / "f", to=there, validate="true %s", mode=mode)[f"{there}/f"].status is CHANGED


def test_the_controller_leaves_while_a_file_is_validated(rig: Rig, source: Path, there: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    part = f.Push(str(there / "f"), validate=f"echo %s > {fifo}; sleep 1000")
    found = find_source(str(source / "f"), home="/", links=Links.ALWAYS)
    sender = Sender(Listing(iter([found]), SenderOptions(), Links.ALWAYS), rig.link.queue, Watcher())
    rig.link.send(part)
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)) as running:
        while not select.select([running], [], [], 0)[0]:
            while sender.step() and not rig.link.backlog:
                pass
            rig.link.flush()
            rig.wait(0)
            for message in rig.link.read():
                sender.take(message)
        sender.close()
        assert found.folder is not None
        found.folder.release()
        rig.hang_up()
    assert names(there) == set()


# Interrupted transfers ---------------------------------------------------------------------------------------------


def test_a_push_is_cut_and_continued(rig: Rig, source: Path, there: Path) -> None:
    big = source / "big"
    big.write_bytes(os.urandom(20_000_000))
    (there / "big").write_bytes(b"old")
    with pytest.raises(CutError):
        rig.push(big, to=there, cut_after=30)
    rig.hang_up()
    assert (there / "big").read_bytes() == b"old"
    kept = (there / ".big.fleet-part").stat().st_size
    assert kept > 0
    rig.connect()
    assert rig.push(big, to=there)[f"{there}/big"].note == f"continued at byte {kept}"
    assert (there / "big").read_bytes() == big.read_bytes()
    assert names(there) == {"big"}


def test_a_pull_is_cut_and_continued(rig: Rig, source: Path, tmp_path: Path) -> None:
    big, got = source / "big", tmp_path / "got"
    big.write_bytes(os.urandom(20_000_000))
    seen: list[m.Message] = []

    def enough(message: m.Message) -> bool:
        seen.append(message)
        return len(seen) > 20

    assert rig.pull(str(big), to=got, until=enough) == {}
    rig.hang_up()
    kept = (got / ".big.fleet-part").stat().st_size
    rig.connect()
    assert rig.pull(str(big), to=got)["big"].note == f"continued at byte {kept}"
    assert (got / "big").read_bytes() == big.read_bytes()


def test_the_agent_stops(rig: Rig, source: Path, there: Path) -> None:
    (source / "big").write_bytes(os.urandom(20_000_000))

    def stop(message: m.Message) -> bool:
        os.write(rig._stop, b"!")
        return False

    with pytest.raises((ConnectionError, OSError)):
        rig.push(source / "big", to=there, until=stop, validate="sleep 1000 # %s")
    rig.hang_up()
    assert names(there) <= {".big.fleet-part"}


def test_a_sender_that_lies(rig: Rig, source: Path, there: Path) -> None:
    (there / "f").write_bytes(b"old")
    rig.link.send(f.Push(str(there)))
    rig.link.send(f.Entries((f.Entry("f", f.Kind.FILE, 0o644, 3),), True))
    assert rig.next_message() == f.Wants((f.Want(0, whole=hash_of(b"old")),))
    for message in (f.Open(0, 0, 3), f.Data(b"new"), f.Close(3, "0" * 64)):
        rig.link.send(message)
    rig.hang_up()
    assert [str(error) for error in rig.ended] == ["wrong checksum on 'f'"]
    assert isinstance(rig.ended[0], RemoteProtocolError)
    assert (there / "f").read_bytes() == b"old"
    assert names(there) == {"f"}


def test_what_crosses_with_an_error_is_ignored(rig: Rig, there: Path) -> None:
    rig.link.queue(f.Push(f"{there}/none/x"))
    rig.link.queue(f.Entries((f.Entry("f", f.Kind.FILE),)))
    rig.link.queue(f.Open(5))
    rig.link.send(f.Data(b"x"))
    assert isinstance(rig.next_message(), m.Error)
    assert rig.ended == []


# Rolling back ------------------------------------------------------------------------------------------------------


def test_rollback(rig: Rig, source: Path, there: Path) -> None:
    (there / "f").write_bytes(b"old\n")
    (there / "f").chmod(0o604)
    rig.push(source / "f", to=there, backup=".orig", mode=0o600)
    path = f"{there}/f"
    assert rig.rollback() == [
        Outcome(path, CHANGED, bytes=4, sha256=hash_of(b"old\n"), changes="content"),
    ]
    assert (there / "f").read_bytes() == b"old\n"
    assert (there / "f").stat().st_mode & 0o777 == 0o604
    assert names(there) == {"f"}
    assert [(one.status, one.note) for one in rig.rollback("r1")] == [(UNCHANGED, "is back already")]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("changed", "has changed since"),
        ("removed", "has changed since"),
        ("directory", "has changed since"),
        ("backup changed", "its backup f~ has changed since"),
        ("backup removed", "its backup f~ is gone"),
        ("roots", "may not be pushed to any more"),
        ("moved", "cannot enter {}: no such file or directory"),
    ],
)
def test_rollback_refuses(rig: Rig, source: Path, there: Path, spoil: str, reason: str) -> None:
    (there / "f").write_bytes(b"old\n")
    rig.push(source / "f", to=there, backup="~")
    if spoil == "changed":
        (there / "f").write_bytes(b"mine\n")
    elif spoil in ("removed", "directory"):
        (there / "f").unlink()
        if spoil == "directory":
            (there / "f").mkdir()
    elif spoil == "backup changed":
        (there / "f~").write_bytes(b"mine\n")
    elif spoil == "backup removed":
        (there / "f~").unlink()
    elif spoil == "roots":
        rig.rules = Controller(push=("/etc",))
    else:
        there.rename(there.with_name("elsewhere"))
    before = names(there)
    (outcome,) = rig.rollback()
    assert (outcome.status, outcome.error) == (FAILED, reason.format(there))
    assert names(there) == before


def test_rollback_of_what(rig: Rig, source: Path, there: Path) -> None:
    with pytest.raises(Refused) as caught:
        rig.rollback()
    assert caught.value.args == ("failed", "no push with backups of controller ops to roll back")
    (there / "f").write_bytes(b"old\n")
    rig.push(source / "f", to=there)  # without a backup
    with pytest.raises(Refused) as caught:
        rig.rollback("r9")
    assert caught.value.args == ("failed", "no push 'r9' with backups of controller ops to roll back")


def test_the_last_push_is_not_the_last_that_replaced_something(rig: Rig, source: Path, there: Path) -> None:
    assert rig.last_push() is None
    (there / "f").write_bytes(b"old\n")
    outcomes = rig.push(source / "f", to=there, backup="~", run="r2")
    assert [outcome.kept for outcome in outcomes.values()] == [True]
    assert rig.last_push() == "r2"
    (source / "new").touch()
    assert not rig.push(source / "f", to=there, backup="~", run="r3")[f"{there}/f"].kept
    assert rig.last_push() == "r3"
    assert not rig.push(source / "new", to=there, backup="~", run="r4")[f"{there}/new"].kept
    rig.push(source / "new", to=there, run="r5")  # without backups
    rig.push(source / "f", to=there, backup="~", check=True, run="r6")
    assert rig.last_push() == "r4"
    assert [rig.rollback(), rig.rollback("r3"), rig.rollback("r4")] == [[], [], []]
    assert (there / "f").read_bytes() == b"new\n"
    assert [one.status for one in rig.rollback("r2")] == [CHANGED]


def test_a_push_that_reached_an_agent_twice(rig: Rig, source: Path, there: Path) -> None:
    """One agent can have two names in an inventory: what either of them replaced is put back."""
    (there / "f").write_bytes(b"old\n")
    for _ in range(2):
        rig.push(source / "f", to=there, backup="~", run="r2")
    assert [one.status for one in rig.rollback()] == [CHANGED]


def test_the_question_needs_nothing_more(rig: Rig) -> None:
    said: list[m.Message] = []
    transfer = rig.files.start(f.Rollback("?", ask=True), "ops", said.append)
    with pytest.raises(RemoteProtocolError, match=r"^Entries is not for a rollback$"):
        transfer.take(f.Entries())
    assert [transfer.step(), transfer.done, transfer.step()] == [False, True, False]
    assert said == [f.Done()]
    transfer.close()


def test_a_rollback_needs_nothing_more(rig: Rig, source: Path, there: Path) -> None:
    (there / "f").write_bytes(b"old\n")
    rig.push(source / "f", to=there, backup="~")
    transfer = rig.files.start(f.Rollback(), "ops", lambda message: None)
    with pytest.raises(RemoteProtocolError, match=r"^Entries is not for a rollback$"):
        transfer.take(f.Entries())
    assert transfer.readable() == []
    assert transfer.seconds_left() is None
    transfer.close()


def test_without_a_journal(rig: Rig, source: Path, there: Path) -> None:
    rig.files = replace(rig.files, journal=None)
    rig.hang_up()
    rig.connect()
    (there / "f").write_bytes(b"old\n")
    rig.push(source / "f", to=there, backup="~")
    assert names(there) == {"f", "f~"}
    with pytest.raises(Refused) as caught:
        rig.rollback()
    assert caught.value.args == ("failed", "this agent keeps no journal of what it replaced")


def links_of(place: Path) -> dict[str, str]:
    """Return what is in a directory: the text of files, the target of links."""
    return {one.name: os.readlink(one) if one.is_symlink() else one.read_text() for one in place.iterdir()}


@pytest.mark.parametrize("linked", [True, False], ids=["linked before", "apart before"])
def test_rollback_of_hard_links(rig: Rig, source: Path, there: Path, linked: bool) -> None:
    (source / "p").write_text("new")
    os.link(source / "p", source / "q")
    (there / "p").write_text("old")
    os.link(there / "p", there / "q") if linked else (there / "q").write_text("older")
    before = [(there / name).stat().st_ino for name in "pq"]
    outcomes = rig.push(source / "p", source / "q", to=there, backup="~")
    assert [(outcome.changes, outcome.kept) for outcome in outcomes.values()] == [("content", True), ("link", True)]
    assert (there / "p").samefile(there / "q")
    assert [outcome.status for outcome in rig.rollback()] == [CHANGED] * 2
    assert [(there / name).stat().st_ino for name in "pq"] == before
    assert links_of(there) == {"p": "old", "q": "old" if linked else "older"}
    assert [outcome.note for outcome in rig.rollback()] == ["is back already"] * 2


def test_rollback_of_hard_links_of_the_same_content(rig: Rig, source: Path, there: Path) -> None:
    """To see that q is back it is not enough to read it."""
    for place in (source, there):
        (place / "p").write_text("same")
    os.link(source / "p", source / "q")
    (there / "q").write_text("same")
    rig.push(source / "p", source / "q", to=there, backup="~")
    assert (there / "p").samefile(there / "q")
    assert [outcome.changes for outcome in rig.rollback()] == ["content"]
    assert not (there / "p").samefile(there / "q")
    assert links_of(there) == {"p": "same", "q": "same"}
    assert [outcome.note for outcome in rig.rollback()] == ["is back already"]


def test_rollback_of_links(rig: Rig, source: Path, there: Path) -> None:
    for place, target in ((source, "new"), (there, "old\udcff")):
        (place / "link").symlink_to(target)
        (place / "to-folder").symlink_to("/proc" if place == source else "/sys")
    (source / "file").write_text("new")
    (there / "file").symlink_to("old")
    (source / "to-link").symlink_to("new")
    (there / "to-link").write_text("old")
    before = links_of(there)
    outcomes = rig.push(*(source / name for name in before), to=there, backup="~")
    assert [outcome.kept for outcome in outcomes.values()] == [True] * 4
    assert links_of(there) == links_of(there) | {"link": "new", "file": "new", "to-link": "new", "link~": "old\udcff"}
    assert links_of(there)["to-folder"] == "/proc"
    outcomes = rig.rollback()
    assert {Path(one.path).name: one.changes for one in outcomes} == dict.fromkeys(before, "link")
    assert links_of(there) == before
    assert [outcome.note for outcome in rig.rollback()] == ["is back already"] * 4


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("link", "has changed since"),
        ("link~", "its backup link~ has changed since"),
        ("q", "has changed since"),
        ("q~", "its backup q~ has changed since"),
    ],
)
def test_rollback_of_links_refuses(rig: Rig, source: Path, there: Path, spoil: str, reason: str) -> None:
    (source / "q").write_text("new")
    os.link(source / "q", source / "p")
    (source / "link").symlink_to("new")
    (there / "q").write_text("old")
    (there / "link").symlink_to("old")
    rig.push(source / "p", source / "q", source / "link", to=there, backup="~")
    (there / spoil).unlink()
    (there / spoil).symlink_to("elsewhere") if "link" in spoil else (there / spoil).write_text("mine")
    mended = rig.rollback()
    assert [outcome.error for outcome in mended if outcome.status is FAILED] == [reason]
    assert len(mended) == 2
    assert links_of(there)[spoil] in ("elsewhere", "mine")


def test_rollback_of_what_was_deleted(rig: Rig, source: Path, there: Path) -> None:
    (there / "source/d/e").mkdir(parents=True)
    for name in ("x", "d/y", "d/e/z"):
        (there / "source" / name).write_text(name)
    (there / "source/link").symlink_to("x")
    outcomes = rig.push(source, to=there, backup="~", delete=True)
    gone = {path: outcome.kept for path, outcome in outcomes.items() if outcome.status is FileStatus.DELETED}
    assert gone == {f"{there}/source/{name}": True for name in ("x", "d", "link")}
    assert set(os.listdir(there / "source")) == {"x~", "d~", "link~", "f"}
    outcomes = rig.rollback()
    assert [(one.status, one.changes) for one in outcomes] == [(CHANGED, "created")] * 3
    assert {one.sha256 for one in outcomes} == {hash_of(b"x"), None}
    assert set(os.listdir(there / "source")) == {"x", "d", "link", "f"}
    assert (there / "source/d/e/z").read_text() == "d/e/z"
    assert [outcome.note for outcome in rig.rollback()] == ["is back already"] * 3


@pytest.mark.parametrize("what", ["file", "same file", "directory", "link"])
def test_what_was_deleted_and_is_there_again(rig: Rig, source: Path, there: Path, what: str) -> None:
    (there / "source").mkdir()
    (there / "source/x").write_text("x")
    rig.push(source, to=there, backup="~", delete=True)
    path = there / "source/x"
    if what == "directory":
        path.mkdir()
    elif what == "link":
        path.symlink_to("x~")
    else:
        path.write_text("x" if what == "same file" else "mine")
    (outcome,) = rig.rollback()
    if what == "same file":
        assert (outcome.status, outcome.note) == (UNCHANGED, "is back already")
    else:
        assert (outcome.status, outcome.error) == (FAILED, "was deleted, and something else is there now")
    assert (there / "source/x~").read_text() == "x"


@pytest.mark.parametrize("what", ["x", "d"])
def test_a_deleted_file_whose_backup_is_not_what_it_was(rig: Rig, source: Path, there: Path, what: str) -> None:
    (there / "source/d").mkdir(parents=True)
    (there / "source/x").write_text("x")
    rig.push(source, to=there, backup="~", delete=True)
    kept = there / f"source/{what}~"
    kept.rename(there / "elsewhere")
    kept.mkdir() if what == "d" else kept.write_text("mine")
    refused = [outcome.error for outcome in rig.rollback() if outcome.status is FAILED]
    assert refused == [f"its backup {what}~ has changed since"]
    assert not (there / "source" / what).exists()


# The journal -------------------------------------------------------------------------------------------------------


def test_a_clean_push_leaves_no_record(rig: Rig, source: Path, there: Path, tmp_path: Path) -> None:
    rig.push(source, to=there)
    rig.hang_up()
    assert names(tmp_path / "agent/transfers") == set()


def test_a_broken_push_leaves_its_record(rig: Rig, source: Path, there: Path, tmp_path: Path) -> None:
    (source / "big").write_bytes(os.urandom(20_000_000))
    with pytest.raises(CutError):
        rig.push(source / "big", to=there, cut_after=30)
    rig.hang_up()
    assert len(names(tmp_path / "agent/transfers")) == 1
    assert rig.journal.sweep(time.time()) == 0  # somebody may come back for it
    assert names(there) == {".big.fleet-part"}
    assert rig.journal.sweep(time.time() + 25 * 3600) == 1
    assert names(there) == set()
    assert names(tmp_path / "agent/transfers") == set()


def test_a_journal_that_cannot_be_written(
    rig: Rig, source: Path, there: Path, tmp_path: Path, lines: list[str]
) -> None:
    (there / "f").write_bytes(b"old\n")
    os.rmdir(tmp_path / "agent/transfers")
    rig.push(source, to=there)
    assert "cannot note a transfer: no such file or directory" in lines
    with pytest.raises(Refused) as caught:
        rig.push(source / "f", to=there, backup="~")
    assert caught.value.args == ("failed", "cannot note it for a rollback: no such file or directory")
    assert (there / "f").read_bytes() == b"old\n"  # what could not be rolled back is not replaced


def test_a_note_that_cannot_be_written(rig: Rig, source: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (there / "f").write_bytes(b"old\n")
    fail_once_started(monkeypatch, "write", lambda fd, data: b"/there/f" in data)
    outcome = rig.push(source / "f", to=there, backup="~")[f"{there}/f"]
    assert (outcome.error, outcome.kept) == ("cannot note it for a rollback: input/output error", False)
    assert (there / "f").read_bytes() == b"old\n"  # what could not be rolled back is not replaced


def fail_once_started(monkeypatch: pytest.MonkeyPatch, call: str, when: Callable[..., bool]) -> None:
    real = getattr(os, call)

    def failing(*args: Any, **options: Any) -> Any:
        if when(*args, **options):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*args, **options)

    monkeypatch.setattr(os, call, failing)


def test_notes_that_cannot_be_synced(
    rig: Rig, source: Path, there: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (there / "f").write_bytes(b"old\n")
    fail_once_started(monkeypatch, "fsync", lambda fd: os.readlink(f"/proc/self/fd/{fd}").endswith(".undo"))
    assert rig.push(source / "f", to=there, backup="~")[f"{there}/f"].status is CHANGED
    assert "cannot sync the notes for a rollback: input/output error" in lines


def test_a_note_that_cannot_be_removed(
    rig: Rig, source: Path, there: Path, tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once_started(monkeypatch, "unlink", lambda name, **options: "fleet" not in name)
    rig.push(source / "f", to=there)
    rig.hang_up()
    assert "cannot remove the note of a transfer: input/output error" in lines


@pytest.mark.parametrize(
    ("call", "name", "error"),
    [("rename", "f~", "cannot put it back: input/output error"), ("open", "f~", "cannot read f~: input/output error")],
)
def test_a_rollback_that_fails(
    rig: Rig, source: Path, there: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str, error: str
) -> None:
    (there / "f").write_bytes(b"old\n")
    rig.push(source / "f", to=there, backup="~")
    fail_once_started(monkeypatch, call, lambda first, *rest, **options: first == name)
    assert [outcome.error for outcome in rig.rollback()] == [error]
    assert (there / "f").read_bytes() == b"new\n"


def test_a_rollback_of_many(rig: Rig, source: Path, there: Path) -> None:
    for number in range(100):
        (source / str(number)).write_bytes(b"new")
        (there / str(number)).write_bytes(b"old")
    rig.push(f"{source}/.", to=f"{there}/", backup="~")
    outcomes = rig.rollback()
    assert len(outcomes) == 100
    assert {outcome.status for outcome in outcomes} == {CHANGED}
    assert {(there / str(number)).read_bytes() for number in range(100)} == {b"old"}


def test_a_journal_that_cannot_be_read(rig: Rig, source: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_once_started(monkeypatch, "listdir", lambda fd: os.readlink(f"/proc/self/fd/{fd}").endswith("/transfers"))
    for ask in (rig.rollback, rig.last_push):
        with pytest.raises(Refused) as caught:
            ask()
        assert caught.value.args == ("failed", "cannot read the journal: input/output error")


def test_a_source_whose_place_cannot_be_told(rig: Rig, held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_once_started(monkeypatch, "open", lambda name, *rest, **options: name == "..")
    with pytest.raises(TransferError, match=r"^cannot enter .*: input/output error$"):
        rig.files.start(f.Pull((f"{held}/inside/d/f",)), "ops", lambda message: None)
    with pytest.raises(TransferError, match=r"^cannot enter .*: input/output error$"):
        rig.files.start(f.Push(f"{held}/inside/d"), "ops", lambda message: None)


def test_what_is_logged(rig: Rig, source: Path, there: Path, lines: list[str]) -> None:
    rig.push(source / "f", to=there)
    rig.pull(f"{source}/f", to=there)
    rig.last_push()
    with pytest.raises(Refused):
        rig.push(source / "f", to=f"{there}/none/\udcff")
    with pytest.raises(Refused):
        rig.rollback()
    text = "\n".join(lines)
    assert f"ops from 10.0.0.9 as 'web1': push '{there}' (run r1)" in text
    assert f"ops from 10.0.0.9 as 'web1': pull '{source}/f' (run r2)" in text
    assert "ops from 10.0.0.9 as '': rollback 'which push is the last one?' (run " in text
    assert "ops from 10.0.0.9 as '': rollback 'the last push' (run " in text
    assert f"refused the push '{there}/none/\\udcff': cannot enter {there}/none: no such file or directory" in text


def ends(lines: list[str]) -> list[str]:
    """Return what was logged at the end of each transfer."""
    return [line for line in lines if line.startswith("run ")]


def test_the_end_of_a_push_is_logged(
    rig: Rig, source: Path, there: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "g").write_bytes(b"1")
    rig.push(source, to=there, check=True)
    rig.push(source, to=there)
    rig.push(source, to=there)
    (there / "source/h").touch()
    rig.push(source, to=there, delete=True)
    (source / "f").write_bytes(b"newest")
    rig.push(source / "f", to=there / "source", backup="~")
    rig.rollback()

    def pwrite(*args: object) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, "pwrite", pwrite)
    for name in ("f", "g"):
        (source / name).write_bytes(b"newer")
    rig.push(source, to=there)
    rig.hang_up()
    assert ends(lines)[:6] == [
        "run r1: check of a push: 3 changed",
        "run r1: push: 3 changed",
        "run r1: push: 3 unchanged",
        "run r1: push: 3 unchanged, 1 deleted",
        "run r1: push: 1 changed",
        "run '': rollback: 1 changed",
    ]
    assert ends(lines)[-1].startswith("run r1: push: 1 unchanged, 2 failed: '")
    assert ends(lines)[-1].endswith("/there/source/f: cannot write the new file: no space left on device'")


def test_the_end_of_a_pull_is_logged(rig: Rig, source: Path, there: Path, lines: list[str]) -> None:
    os.mkfifo(source / "fifo")
    rig.pull(str(source), "/none/y\x1b[31m", "/none/z", to=there)
    rig.hang_up()
    reason = "'y\\x1b[31m: cannot enter /none: no such file or directory'"
    assert ends(lines) == [f"run r2: pull: 2 listed, 4 bytes, 1 skipped, 2 failed: {reason}"]


def test_a_long_path_does_not_hide_the_reason(rig: Rig, source: Path, there: Path, lines: list[str]) -> None:
    rig.pull("/none/" + "x" * 200, to=there)
    rig.push(source / "f", to=there, validate=f"echo {'y' * 300} %s; false")
    rig.hang_up()
    pull, push = ends(lines)
    assert pull == f"run r2: pull: 1 failed: '...{'x' * 120}: cannot enter /none: no such file or directory'"
    assert push.startswith("run r1: push: 1 failed: '")
    assert "/there/f: not valid: exit 1: yyyyy" in push
    assert len(push) < 300


def test_a_file_that_cannot_be_read_is_logged(
    rig: Rig, source: Path, there: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> int:
        raise FileError.from_os("read it", OSError(errno.EIO, ""))

    monkeypatch.setattr(Listing, "open", fail)
    rig.pull(str(source), to=there)
    rig.hang_up()
    assert ends(lines) == ["run r2: pull: 2 listed, 1 failed: 'source/f: cannot read it: input/output error'"]


def test_a_failed_end_is_a_warning(rig: Rig, source: Path, there: Path) -> None:
    levels: list[int] = []
    handler = logging.Handler()
    handler.emit = lambda record: levels.append(record.levelno)  # type: ignore[method-assign]
    log.addHandler(handler)
    level, propagate = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        for name, validate in (("x", "true %s"), ("y", "false %s")):
            rig.push(source / "f", to=there / name, validate=validate)
        rig.hang_up()
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
    assert levels == [logging.INFO, logging.INFO, logging.INFO, logging.WARNING]


def test_a_cut_is_logged(rig: Rig, source: Path, there: Path, lines: list[str]) -> None:
    (source / "big").write_bytes(bytes(range(256)) * 4096)
    with pytest.raises(CutError):
        rig.push(source / "big", to=there, cut_after=2)
    rig.hang_up()
    assert ends(lines) == ["run r1: push: cut off"]


def test_a_request_that_cannot_start_holds_nothing(rig: Rig, source: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for request in (f.Push("/none/x"), f.Pull(("/etc", "/")), f.Rollback()):
        with pytest.raises(TransferError):
            rig.files.start(request, "ops", lambda message: None)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_transfer_that_is_closed_before_it_began(rig: Rig, source: Path, there: Path) -> None:
    transfer = rig.files.start(f.Push(str(there)), "ops", lambda message: None)
    assert isinstance(transfer, Transfer)
    assert not transfer.done
    transfer.close()


def hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_absolute_path_needs_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look one up may take long, where a directory service has to be asked."""
    asked: list[str | None] = []

    def note(name: str | None = None) -> Account:
        asked.append(name)
        return Account("ops", "/tmp", "/bin/sh")

    monkeypatch.setattr("agent.files.account", note)
    assert (_home(Controller(), "/etc/x"), asked) == ("/", [])
    assert (_home(Controller(), "x"), asked) == ("/tmp", [None])
    assert _home(Controller(home="/srv"), "x") == "/srv"
