"""A pull from a host that was taken over: whatever it sends, nothing lands outside of LOCALDIR/HOST, and it is told.

The agent here speaks the login and then sends frames made by hand, so that its own side's checks do not hold it back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.tls import server_context
from agent.wire import file_messages as f
from agent.wire.codec import FRAME_TYPES
from agent.wire.connection import Closed
from agent.wire.errors import ProtocolError
from agent.wire.frames import encode_frame
from controller import transfer
from controller.cancel import CancelToken
from controller.client import Client, Target
from controller.landing import Landing, Limits
from controller.ledger import Ledger
from controller.meter import Meter
from controller.results import Result, Status

CODES = {kind: code for code, kind in FRAME_TYPES.items()}
SHA_OF_ABC = hashlib.sha256(b"abc").hexdigest()


class Evil:
    """What an evil agent has to say; `peer` is its connection."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer

    def frame(self, kind: type, payload: bytes) -> None:
        self.peer.raw(encode_frame(CODES[kind], payload))

    def say(self, kind: type, **values: Any) -> None:
        self.frame(kind, json.dumps(values).encode())

    def entries(self, *entries: dict[str, Any], last: bool = True) -> None:
        self.say(f.Entries, entries=entries, last=last)

    def answer(self) -> object:
        """Return the controller's next message."""
        # Its own connection does not know what was said by hand, so all it follows is the controller's side.
        return self.peer.event()

    def settled(self) -> None:
        """Wait until the batch is in its place."""
        assert isinstance(self.answer(), f.Wants)
        assert isinstance(self.answer(), f.Outcomes)

    def send_file(self, index: int = 0, data: bytes = b"abc", size: int | None = None, **close: Any) -> None:
        self.say(f.Open, index=index, size=len(data) if size is None else size)
        if data:
            self.frame(f.Data, data)
        self.say(f.Close, **{"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **close})


def file(path: str = "motd", size: int = 3, **more: Any) -> dict[str, Any]:
    return {"path": path, "kind": "file", "mode": 0o644, "size": size, **more}


def folder(path: str = "motd", **more: Any) -> dict[str, Any]:
    return {"path": path, "kind": "directory", "mode": 0o755, **more}


def link(target: str, path: str = "motd") -> dict[str, Any]:
    return {"path": path, "kind": "symlink", "mode": 0o777, "target": target}


Script = Callable[[Evil], None]


@dataclass(frozen=True)
class Case:
    """A behaviour, and what is to be said of it. `lands` is what there is in LOCALDIR/HOST afterwards."""

    name: str
    script: Script
    status: Status
    error: str | None
    lands: tuple[str, ...] = ()
    remote: str = "/srv/motd"
    limits: Limits = field(default_factory=Limits)
    timeout: float | None = None


def listing(*entries: dict[str, Any], last: bool = True) -> Script:
    return lambda evil: evil.entries(*entries, last=last)


def content(*steps: Callable[[Evil], None], size: int = 3) -> Script:
    """List one file, and then send something in the place of its content."""

    def script(evil: Evil) -> None:
        evil.entries(file(size=size))
        if steps:
            assert isinstance(evil.answer(), f.Wants)
        for step in steps:
            step(evil)

    return script


def open_(**values: Any) -> Callable[[Evil], None]:
    return lambda evil: evil.say(f.Open, **{"index": 0, "size": 3, **values})


def data(payload: bytes) -> Callable[[Evil], None]:
    return lambda evil: evil.frame(f.Data, payload)


def close(**values: Any) -> Callable[[Evil], None]:
    return lambda evil: evil.say(f.Close, **{"size": 3, "sha256": SHA_OF_ABC, **values})


def endless(evil: Evil) -> None:
    piece = bytes(256 * 1024)
    while True:
        evil.frame(f.Data, piece)


def endless_list(evil: Evil) -> None:
    evil.entries(folder(), last=False)
    for start in range(0, 1_000_000, 500):
        evil.settled()
        evil.entries(*(folder(f"motd/{start + number}") for number in range(500)), last=False)


def file_through_a_link(target: str) -> Script:
    def script(evil: Evil) -> None:
        evil.entries(link(target), last=False)
        evil.settled()
        evil.entries(file("motd/secret"), folder("motd/folder"), link("x", "motd/link"))

    return script


def link_in_the_place_of_a_directory(evil: Evil) -> None:
    evil.entries(folder(), last=False)
    evil.settled()
    evil.entries(link("../../outside"), file("motd/secret"))
    assert isinstance(evil.answer(), f.Wants)
    evil.send_file(2)


def hard_link_to_what_a_link_points_at(evil: Evil) -> None:
    evil.entries(link("../../outside/secret"), {"path": "motd2", "kind": "hardlink", "target": "motd"})


def setuid(evil: Evil) -> None:
    evil.entries(folder(mode=0o7777), file("motd/su", mode=0o6777), {"path": "motd", "kind": "leave", "mode": 0o7777})
    assert isinstance(evil.answer(), f.Wants)
    evil.send_file(1)


def names_of_windows(evil: Evil) -> None:
    names = ("CON", "aux.txt", "C:evil", "a\\b", "twin", "TWIN")
    evil.entries(folder(), *(file(f"motd/{name}") for name in names))
    assert isinstance(evil.answer(), f.Wants)
    for index in range(1, 7):
        evil.send_file(index)


def twice(evil: Evil) -> None:
    evil.entries(file(), file(), folder())
    assert isinstance(evil.answer(), f.Wants)
    evil.send_file(0)
    evil.send_file(1)


def silent(evil: Evil) -> None:
    pass


def many_batches(evil: Evil) -> None:
    for _ in range(6):
        evil.entries(file(), last=False)


def begin_a_long_one(evil: Evil) -> None:
    evil.entries(file(size=1_000_000))
    assert isinstance(evil.answer(), f.Wants)
    evil.say(f.Open, index=0, size=1_000_000)
    evil.frame(f.Data, bytes(200_000))


def hang_up_in_the_middle(evil: Evil) -> None:
    begin_a_long_one(evil)
    evil.peer.tls.shutdown(2)


def say_goodbye_in_the_middle(evil: Evil) -> None:
    """End TLS as it should be ended: on that level all is well."""
    begin_a_long_one(evil)
    evil.peer.tls.setblocking(False)
    with contextlib.suppress(ssl.SSLError):
        evil.peer.tls.unwrap()
    evil.peer.tls.setblocking(True)


B, F, C, U = Status.BROKEN, Status.FAILED, Status.CHANGED, Status.UNCHANGED
BROKE = "the agent broke the protocol: "

CASES = [
    # Names.
    Case("up", listing(file("../evil")), B, BROKE + "path with an empty name or dots: '../evil'"),
    Case("up inside", listing(folder(), file("motd/../../evil")), B, BROKE + "path with an empty name or dots"),
    Case("absolute", listing(file("/etc/evil")), B, BROKE + "path with an empty name or dots: '/etc/evil'"),
    Case("dot", listing(file("./motd")), B, BROKE + "path with an empty name or dots: './motd'"),
    Case("empty", listing(file("")), B, BROKE + "path with an empty name or dots: ''"),
    Case("the folder itself", listing(folder(".", mode=0)), B, BROKE + "'.' was not asked for"),
    Case("another name", listing(file("passwd")), B, BROKE + "'passwd' was not asked for"),
    Case("one more", listing(file(size=0), file(".bashrc")), B, BROKE + "'.bashrc' was not asked for"),
    Case("another case", listing(file("MOTD")), B, BROKE + "'MOTD' was not asked for"),
    Case("more than the pattern", listing(file("x.log.sh")), B, BROKE + "'x.log.sh' was not asked", remote="/v/*.log"),
    Case("hidden, for a star", listing(file(".x.log")), B, BROKE + "'.x.log' was not asked for", remote="/v/*.log"),
    Case("NUL", listing(file("motd\0")), B, BROKE + "NUL in a path"),
    Case("long path", listing(file("motd/" + "x/" * 2500 + "x")), B, BROKE + "path of 5006 characters, expected no"),
    Case("long name", listing(file("m" * 256)), F, "name of 256 bytes, expected no more than 255", remote="/m*"),
    Case("terminal", listing(file("m\x1b[2J")), F, "control character in the name 'm\\x1b[2J'", remote="/m*"),
    Case("newline", listing(file("m\nroot")), F, "control character in the name 'm\\nroot'", remote="/m*"),
    Case("of Windows, and twins", names_of_windows, C, None, ("motd",)),
    Case("twice, and as a directory", twice, F, "is a directory", ("motd",)),
    Case("without its directory", listing(file("motd/a/b")), F, "cannot enter its directory: no such file or dir"),
    # What is no file.
    Case("device", listing({"path": "motd", "kind": "device"}), B, BROKE + "'kind' is not one of file, directory"),
    Case("FIFO", listing({"path": "motd", "kind": "skipped", "reason": "is a FIFO"}), U, None),
    Case("setuid", setuid, C, None, ("motd",)),
    Case("mode of a device", listing(file(mode=0o60644)), B, BROKE + "mode 60644 out of range"),
    Case("file through a link out", file_through_a_link("../../outside"), F, "cannot enter its directory", ("motd",)),
    Case("file through a link to /", file_through_a_link("/etc"), F, "cannot enter its directory", ("motd",)),
    Case("link and directory at once", listing(link("../../outside"), folder(mode=0)), F, "is a directory", ("motd",)),
    Case("link for a directory", link_in_the_place_of_a_directory, F, "is a directory, which is not repl", ("motd",)),
    Case("hard link out", listing({"path": "motd", "kind": "hardlink", "target": "../x"}), B, BROKE + "path with an"),
    Case(
        "hard link besides",
        listing({"path": "motd", "kind": "hardlink", "target": "etc"}),
        B,
        BROKE + "'etc' was not asked for",
    ),
    Case(
        "hard link through a link",
        hard_link_to_what_a_link_points_at,
        F,
        "is another name of is not there",
        ("motd",),
        remote="/m*",
    ),
    Case(
        "leaving what was not entered", listing({"path": "motd", "kind": "leave"}), B, BROKE + "leaves 'motd', in which"
    ),
    # Sizes and contents.
    Case("endless", content(open_(), endless), B, BROKE + "more than the 3 bytes of 'motd'"),
    Case(
        "endless, of no size",
        content(open_(size=None), endless, size=0),
        B,
        BROKE + "more than the 67108864 bytes",
        (".motd.fleet-part",),
    ),
    Case(
        "endless, of no size, with a limit",
        content(open_(size=None), endless, size=0),
        B,
        BROKE + "more than the 1000 bytes",
        limits=Limits(max_size=1000),
    ),
    Case("longer than listed", content(open_(size=1 << 62), endless), F, "no room on the local disk: "),
    Case("larger than the disk", content(size=1 << 60), F, "no room on the local disk: 1048576.0 TiB needed"),
    Case("shorter", content(open_(), data(b"ab"), close()), B, BROKE + "'motd' ended after 2 bytes, expected 3"),
    Case(
        "longer at the end",
        content(open_(), data(b"abc"), close(size=9)),
        B,
        BROKE + "'motd' ended after 3 bytes, expected 9",
    ),
    Case("negative", content(size=-1), B, BROKE + "size -1 out of range"),
    Case("another content", content(open_(), data(b"abd"), close()), B, BROKE + "wrong checksum on 'motd'"),
    Case("no digest", content(open_(), data(b"abc"), close(sha256="")), B, BROKE + "malformed digest"),
    Case("another file's content", content(open_(index=1)), B, BROKE + "entry 1 was not asked for"),
    Case("content of nothing", content(data(b"abc")), B, BROKE + "content that belongs to no file"),
    Case("content from the middle", content(open_(offset=2)), B, BROKE + "a file from byte 2 on, expected 0 or 0"),
    Case("two at once", content(open_(), open_()), B, BROKE + "entry 0 was not asked for"),
    Case(
        "the same as nothing",
        content(lambda evil: evil.say(f.Same, indexes=[0])),
        B,
        BROKE + "entry 0 is said to be the same",
    ),
    Case(
        "times of another age",
        listing(folder(mtime=2**63 - 1), {"path": "motd", "kind": "leave", "mtime": 2**63 - 1}),
        C,
        None,
        ("motd",),
        limits=Limits(preserve=True),
    ),
    # Lists and turns.
    Case(
        "a million entries",
        endless_list,
        B,
        BROKE + "more than the 1000 files",
        ("motd",),
        limits=Limits(max_files=1000),
    ),
    Case("a long batch", listing(*(file() for _ in range(513))), B, BROKE + "513 entries, expected no more than 512"),
    Case("batches without end", many_batches, B, BROKE + "more than 4 batches under way"),
    Case("out of turn", lambda evil: evil.say(f.Wants, wants=[]), B, BROKE + "agent may not send Wants in state"),
    Case(
        "a command in return",
        lambda evil: evil.say(f.Push, destination="/"),
        B,
        BROKE + "agent may not send Push in state",
    ),
    Case("done before it began", lambda evil: evil.say(f.Done), B, BROKE + "agent may not send Done in state"),
    Case(
        "a frame of 4 GiB",
        lambda evil: evil.peer.raw(b"\xff\xff\xff\xff\x45\0\0\0\0"),
        B,
        BROKE + "frame of 4294967295 bytes, expected",
    ),
    Case("silence", silent, Status.TIMEOUT, "cut off after 0.1 s", timeout=0.1),
    Case("a cut", hang_up_in_the_middle, B, "the connection was lost: ", (".motd.fleet-part",)),
    Case(
        "an orderly end of TLS",
        say_goodbye_in_the_middle,
        B,
        "the connection was lost: the agent closed it before the end of the transfer",
        (".motd.fleet-part",),
    ),
]


@pytest.fixture(scope="session")
def context() -> ssl.SSLContext:
    return server_context()[0]


def attributes(path: Path, *, times: bool = True) -> tuple[object, ...]:
    info = path.lstat()
    told = (path.name, info.st_mode, info.st_uid, info.st_gid, info.st_nlink)
    if not times:
        return told
    held = path.read_bytes() if stat.S_ISREG(info.st_mode) else sorted(os.listdir(path))
    return (*told, info.st_mtime_ns, held)


class World:
    """LOCALDIR with what was there before, and what lies around it."""

    def __init__(self, path: Path) -> None:
        self.local = path / "local"
        self.host = self.local / "web1"
        self._around = [path / "outside", path / "outside/secret", self.local / "web2", self.local / "web2/motd"]
        for folder in (self._around[0], self.local, self._around[2]):
            folder.mkdir()
        self.local.chmod(0o750)
        for file in (self._around[1], self._around[3]):
            file.write_bytes(b"before")
            file.chmod(0o600)
        self._path = path
        self._before = self._look()

    def _look(self) -> list[object]:
        around = [attributes(path) for path in self._around]
        names = sorted(set(os.listdir(self.local)) - {"web1"})
        return [around, names, sorted(os.listdir(self._path)), attributes(self.local, times=False)[:4]]

    def check(self) -> None:
        assert self._look() == self._before

    def landed(self) -> tuple[str, ...]:
        return tuple(sorted(os.listdir(self.host))) if self.host.exists() else ()


def pull(case: Case, world: World, keys: Any, port: int) -> Result:
    target = Target("web1", "127.0.0.1", port, keys.identity)
    landing = Landing(str(world.local), [case.remote], ["web1"], flat=False, limits=case.limits)
    meter = Meter()
    with Client(target, keys.controller, CancelToken(), connect_timeout=30) as client:
        ledger = Ledger("web1", meter, keep=True)
        return transfer.pull(client, f.Pull((case.remote,)), landing, ledger, meter, case.timeout or 30)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_54_evil_agent(
    case: Case,
    tmp_path: Path,
    server: Callable[..., int],
    kit: SimpleNamespace,
    context: ssl.SSLContext,
) -> None:
    keys = kit.Keys()

    def script(peer: Any) -> None:
        assert isinstance(peer.event(), f.Pull)
        evil = Evil(peer)
        case.script(evil)
        try:
            while not isinstance(evil.answer(), Closed):
                pass
        except ProtocolError:  # the controller has left in the middle of something
            pass

    world = World(tmp_path)
    result = pull(case, world, keys, server(kit.FalseAgent(keys, script, context)))
    world.check()
    assert result.status is case.status, result
    if case.error is None:
        assert result.error is None
    else:
        assert result.error is not None
        assert case.error in result.error
    assert world.landed() == case.lands


def test_54_there_are_enough_of_them() -> None:
    assert len(CASES) >= 24
    assert len({case.name for case in CASES}) == len(CASES)


def test_53_no_bits_that_give_rights(
    tmp_path: Path, server: Callable[..., int], kit: SimpleNamespace, context: ssl.SSLContext
) -> None:
    """Whatever the host says of a file's mode, none runs as somebody else here, and the operator can get rid of it."""
    keys = kit.Keys()

    def script(peer: Any) -> None:
        peer.event()
        setuid(Evil(peer))
        peer.rest()

    world = World(tmp_path)
    mask = os.umask(0o022)
    try:
        result = pull(Case("", setuid, C, None), world, keys, server(kit.FalseAgent(keys, script, context)))
    finally:
        os.umask(mask)
    assert result.status is Status.CHANGED
    assert stat.S_IMODE((world.host / "motd/su").stat().st_mode) == 0o755
    assert stat.S_IMODE((world.host / "motd").stat().st_mode) == 0o755
