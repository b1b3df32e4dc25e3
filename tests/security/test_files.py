"""Pushes and pulls that go wrong, through the real command and real agents: what is in the way, and what is on disk.

Each test looks at the exit code, at both outputs, and at the disk; and the agent must serve the next login. A transfer
is stopped at a known place by a line that waits there for the test, never by a clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import select
import shutil
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.tls import server_context
from agent.wire import file_messages as f
from agent.wire.codec import FRAME_TYPES
from agent.wire.frames import encode_frame
from controller import keyfile, registry

PATIENCE = 60.0  # seconds; reached only by a test that fails
ROOT = os.geteuid() == 0
NOBODY = 61_345
MIB = 1 << 20
CODES = {kind: code for code, kind in FRAME_TYPES.items()}
OLD = b"the old file\n"
_TIMES = re.compile(r"\d+\.\d\ds")

needs_root = pytest.mark.skipif(not ROOT, reason="only root can")


@dataclass(frozen=True)
class Done:
    """A command that has ended; times are 0.00s in its text."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        (result,) = json.loads(self.out)["results"]
        return result


class Console:
    """An operator's key, registry and inventory of agents, and `fleet` there. `ports` lead to hosts by other ways."""

    def __init__(self, folder: Path, hosts: Mapping[str, Any], ports: Mapping[str, int] | None = None) -> None:
        folder.mkdir()
        self.folder = folder
        keys = [agent.keys for agent in hosts.values()]
        master = keys[0].controller.master
        keyfile.create(str(folder / "key"), "ops", random_bytes=lambda length: master)
        identities = {host: agent.keys.identity for host, agent in hosts.items()}
        registry.update(str(folder / "enrolled.json"), lambda old: old.adding(hosts=identities))
        lines = [f"{host} fleet_port={(ports or {}).get(host, agent.port)}" for host, agent in hosts.items()]
        (folder / "hosts.ini").write_text("\n".join([*lines, "[all:vars]", "fleet_host=127.0.0.1", ""]))

    def start(self, *arguments: str | Path, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        program = shutil.which("fleet", path=os.path.dirname(sys.executable))
        assert program is not None, "fleet is not installed"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "XDG_"))}
        environment |= {
            "HOME": str(self.folder),
            "FLEET_KEY": str(self.folder / "key"),
            "FLEET_INVENTORY": str(self.folder / "hosts.ini"),
            "LANG": "C.UTF-8",
        }
        return subprocess.Popen(
            [*before, program, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=self.folder,
        )

    def fleet(self, *arguments: str | Path, before: tuple[str, ...] = ()) -> Done:
        return finish(self.start(*arguments, before=before))


def finish(process: subprocess.Popen[bytes]) -> Done:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Done(process.returncode, *(_TIMES.sub("0.00s", text.decode()) for text in (out, err)))


@pytest.fixture
def console(tmp_path: Path, agent: Any) -> Console:
    """An operator who has the shared agent as web1."""
    return Console(tmp_path / "console", {"web1": agent})


@pytest.fixture
def there(tmp_path: Path) -> Path:
    path = tmp_path / "there"
    path.mkdir()
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "conf"
    path.write_bytes(b"new\n")
    path.chmod(0o644)
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file that no buffer between the two takes in whole."""
    path = tmp_path / "big"
    path.write_bytes(os.urandom(16 * MIB))
    return path


@pytest.fixture
def held(agents: Any, tmp_path: Path) -> Iterator[Any]:
    """An agent that lets its controller push and pull below `allowed` alone, which is its home, too."""
    (tmp_path / "allowed").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(OLD)
    root = json.dumps(str(tmp_path / "allowed"))
    agent = agents.start(settings=f"[controllers.ops]\npush = [{root}]\npull = [{root}]\nhome = {root}\n")
    yield agent
    agent.works()
    assert os.listdir(tmp_path / "outside") == ["secret"]
    assert (tmp_path / "outside/secret").read_bytes() == OLD


def temporaries(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if ".fleet-" in name)


def table(status: str, cell: str) -> str:
    """Return a pattern of the table of web1 alone."""
    return rf"HOST +STATUS +BYTES +TIME +RATE +SHA256\nweb1 +{status} +\d+ +0\.00s +\S.*? +{cell}\n"


# 49: Places -----------------------------------------------------------------------------------------------------------

ELSEWHERE = [
    "{root}/allowed/../outside/conf",
    "{root}/outside/conf",
    "{root}/outside/",
    "../outside/conf",
    "/fleet-test-of-an-absolute-path",
    "out/conf",
    "{root}/allowed/out/",
    "{root}/allowed/out/nothing/conf",
    "/proc/self/cwd",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_49_a_push_to_elsewhere(held: Any, tmp_path: Path, source: Path, path: str) -> None:
    (tmp_path / "allowed/out").symlink_to(tmp_path / "outside")
    path = path.format(root=tmp_path)
    console = Console(tmp_path / "console", {"web1": held})
    done = console.fleet("push", source, path)
    assert (done.code, done.err) == (4, "1 denied of 1 host in 0.00s\n")
    assert re.fullmatch(table("denied", re.escape(f"[error: may not be pushed to: {path}]")), done.out), done.out
    assert os.listdir(tmp_path / "allowed") == ["out"]
    assert not os.path.exists("/fleet-test-of-an-absolute-path")


@pytest.mark.parametrize("path", ["../outside/secret", "{root}/outside/secret", "out/secret", "/etc/hostname", "out/*"])
def test_49_a_pull_from_elsewhere(held: Any, tmp_path: Path, path: str) -> None:
    (tmp_path / "allowed/out").symlink_to(tmp_path / "outside")
    path = path.format(root=tmp_path)
    console = Console(tmp_path / "console", {"web1": held})
    done = console.fleet("pull", path, tmp_path / "got")
    assert (done.code, done.err) == (4, "1 denied of 1 host in 0.00s\n")
    assert re.fullmatch(table("denied", re.escape(f"[error: may not be pulled: {path}]")), done.out), done.out
    assert os.listdir(tmp_path / "got") == []


def test_49_a_followed_link_to_elsewhere(held: Any, tmp_path: Path) -> None:
    (tmp_path / "allowed/leaf").symlink_to(tmp_path / "outside/secret")
    (tmp_path / "allowed/out").symlink_to(tmp_path / "outside")
    done = Console(tmp_path / "console", {"web1": held}).fleet("pull", "-L", "leaf", "o*", tmp_path / "got")
    assert (done.code, done.err) == (5, "1 failed of 1 host in 0.00s\n")
    assert done.out.count("which is outside of what may be pulled]") == 2
    assert [path for path in (tmp_path / "got").rglob("*") if path.is_file()] == []


def test_49_a_push_does_not_follow_a_link(held: Any, tmp_path: Path, source: Path) -> None:
    """A leaf is replaced itself; a directory of the tree that is a link there is refused; both lead outside."""
    (tmp_path / "allowed/leaf").symlink_to(tmp_path / "outside/secret")
    (tmp_path / "allowed/tree").symlink_to(tmp_path / "outside")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/secret").write_bytes(b"new")
    console = Console(tmp_path / "console", {"web1": held})
    assert console.fleet("push", source, "leaf").code == 0
    assert not (tmp_path / "allowed/leaf").is_symlink()
    assert (tmp_path / "allowed/leaf").read_bytes() == b"new\n"
    done = console.fleet("push", f"{tmp_path}/tree", f"{tmp_path}/allowed/")
    assert (done.code, done.err) == (5, "1 failed of 1 host in 0.00s\n")
    assert f"[error: {tmp_path}/allowed/tree: is a symbolic link, which a directory does not replace]\n" in done.out
    assert (tmp_path / "allowed/tree").is_symlink()


def make_device(path: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"/proc/self/fd/{os.open(path.parent, os.O_PATH)}/{path.name}")


KINDS = [
    pytest.param(os.mkfifo, "is a FIFO, which is not replaced", id="FIFO"),
    pytest.param(make_device, "is a character device, which is not replaced", id="device", marks=needs_root),
    pytest.param(lambda path: (path / "conf").mkdir(parents=True), "is a directory, which is not replaced", id="dir"),
]


@pytest.mark.parametrize(("make", "reason"), KINDS)
def test_49_a_push_to_what_is_no_file(
    console: Console, source: Path, there: Path, make: Callable[[Path], object], reason: str
) -> None:
    """A FIFO nobody reads, above all, keeps nobody waiting."""
    make(there / "x")
    before = (there / "x").lstat()
    place = there / "x/conf" if (there / "x").is_dir() else there / "x"
    done = console.fleet("push", source, there / "x")
    assert (done.code, done.err) == (5, "1 failed of 1 host in 0.00s\n")
    assert f"[error: {place}: {reason}]\n" in done.out
    after = (there / "x").lstat()
    assert (after.st_mode, after.st_ino, os.listdir(there)) == (before.st_mode, before.st_ino, ["x"])


@pytest.mark.parametrize(("make", "reason"), KINDS[:2])
def test_49_a_pull_of_what_is_no_file(
    console: Console, there: Path, tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(there / "x")
    done = console.fleet("pull", there / "x", tmp_path / "got")
    kind = reason.partition(",")[0]
    assert (done.code, done.err) == (5, "1 failed of 1 host in 0.00s\n")
    assert f"[error: {there}/x: {kind}]\n" in done.out
    done = console.fleet("pull", there / "*", tmp_path / "got")  # what a pattern catches besides is left out
    assert (done.code, done.err) == (0, "1 unchanged of 1 host in 0.00s\n")
    assert "[1 skipped]\n" in done.out
    assert f"[note: {there}/x: {kind}]\n" in done.out
    assert "[note: nothing was transferred: all that was asked for was skipped]\n" in done.out
    assert os.listdir(tmp_path / "got") == []


def test_49_a_name_of_256_bytes(console: Console, source: Path, there: Path) -> None:
    done = console.fleet("push", source, there / ("ä" * 128), "--json")
    assert (done.code, done.err) == (5, "")
    assert done.result["status"] == "failed"
    assert done.result["error"].endswith("name of 256 bytes, expected no more than 255")
    assert console.fleet("push", source, there / ("ä" * 127 + "b")).code == 0
    assert os.listdir(there) == ["ä" * 127 + "b"]


HOSTILE = "evil\x1b[2J\nweb1  changed"


def test_49_control_characters_in_names(console: Console, tmp_path: Path, there: Path) -> None:
    """Those of a terminal are not sent, what only looks odd arrives by the byte; no screen shows either as it is."""
    tree = tmp_path / "tree"
    tree.mkdir()
    odd = ["\x9b2J", "\u202egnp.exe", os.fsdecode(b"\xff\xfe"), "two\u2028lines"]
    for name in (HOSTILE, "plain", *odd):
        (tree / name).write_bytes(b"x")
    for command, place in (
        (("push", tree, f"{there}/"), there / "tree"),
        (("pull", tree, tmp_path / "got"), tmp_path / "got/web1/tree"),
    ):
        done = console.fleet(*command)
        assert (done.code, done.err) == (5, "1 failed of 1 host in 0.00s\n")
        assert "control character in the name 'evil" in done.out
        assert not set(done.out) & {"\x1b", "\x9b", "\u202e", "\u2028"}
        assert len(done.out.splitlines()) == 3
        assert sorted(os.listdir(place)) == sorted(["plain", *odd])
        assert console.fleet(*command, "--json").result["status"] == "failed"
    done = console.fleet("push", tree / HOSTILE, f"{there}/")
    assert (done.code, done.out) == (2, "")
    assert "control character in the name" in done.err
    assert "\x1b" not in done.err


# 50: Swaps ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Swap two names without end, as their owner can."""
    stop = threading.Event()

    def swap() -> None:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
        while not stop.wait(0.0001):
            exchange(-100, os.fsencode(one), -100, os.fsencode(other), 2)  # AT_FDCWD, RENAME_EXCHANGE

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@needs_root
def test_50_swapped_while_it_is_pushed_and_pulled(console: Console, tmp_path: Path, there: Path) -> None:
    """A user owns the directory and swaps one in it for a link to root's: never written through, never read through."""
    vault = tmp_path / "vault"
    vault.mkdir(mode=0o700)
    for number in range(20):
        (vault / f"f{number}").write_bytes(b"the secret of root")
    before = sorted((path.name, path.read_bytes(), path.stat().st_mtime_ns) for path in vault.iterdir())
    tree = tmp_path / "tree/sub"
    tree.mkdir(parents=True)
    for number in range(20):
        (tree / f"f{number}").write_bytes(b"public")
    (there / "tree/sub").mkdir(parents=True)
    (there / "tree/link").symlink_to(vault)
    for path in (there, there / "tree", there / "tree/sub", there / "tree/link"):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    with swapping(there / "tree/sub", there / "tree/link"):
        for number in range(4):
            (tree / "f0").write_bytes(b"public %d" % number)
            done = console.fleet("push", tree.parent, f"{there}/")
            assert done.code in (0, 5), done
            got = tmp_path / f"got{number}"
            done = console.fleet("pull", f"{there}/tree/*/f*", f"{there}/tree", got, *(["-L"] if number % 2 else []))
            assert done.code in (0, 5), done
            texts = {path.read_bytes()[:6] for path in got.rglob("*") if path.is_file() and not path.is_symlink()}
            assert texts <= {b"public"}
    assert sorted((path.name, path.read_bytes(), path.stat().st_mtime_ns) for path in vault.iterdir()) == before


# 51: Contents ---------------------------------------------------------------------------------------------------------


class Evil:
    """A controller that has logged in, and sends what it likes."""

    def __init__(self, peer: Any, destination: Path) -> None:
        self.peer = peer
        peer.send(f.Push(str(destination), host="web1", run="r1"))

    def say(self, kind: type, **values: Any) -> None:
        self.peer.raw(encode_frame(CODES[kind], json.dumps(values).encode()))

    def entries(self, *entries: dict[str, Any], last: bool = True) -> None:
        self.say(f.Entries, entries=entries, last=last)

    def open(self, size: int, data: bytes) -> None:
        self.entries({"path": "x", "kind": "file", "mode": 0o644, "size": size})
        assert isinstance(self.peer.event(), f.Wants)
        self.say(f.Open, index=0, size=size)
        if data:
            self.peer.raw(encode_frame(CODES[f.Data], data))

    def close(self, size: int, data: bytes) -> None:
        self.say(f.Close, size=size, sha256=hashlib.sha256(data).hexdigest())


def too_small(evil: Evil) -> None:
    evil.open(3, b"abcd")


def too_large(evil: Evil) -> None:
    evil.open(9, b"abc")
    evil.close(9, b"abc")


def cut_short(evil: Evil) -> None:
    evil.open(9, b"abc")
    evil.close(3, b"abc")


def another_content(evil: Evil) -> None:
    evil.open(3, b"abc")
    evil.close(3, b"abd")


def a_hole_too_many(evil: Evil) -> None:
    evil.open(3, b"")
    evil.say(f.Hole, length=1 << 20)


def upwards(evil: Evil) -> None:
    evil.entries({"path": "../x", "kind": "file", "size": 0})


def absolute(evil: Evil) -> None:
    evil.entries({"path": "/etc/x", "kind": "file", "size": 0})


LIES = [
    (too_small, "more than the 3 bytes of 'x'"),
    (too_large, "'x' ended after 3 bytes, expected 9"),
    (cut_short, "'x' ended after 3 bytes, expected 3"),
    (another_content, "wrong checksum on 'x'"),
    (a_hole_too_many, "more than the 3 bytes of 'x'"),
    (upwards, "path with an empty name or dots: '../x'"),
    (absolute, "path with an empty name or dots: '/etc/x'"),
]


@pytest.mark.parametrize(("lie", "reason"), LIES, ids=[lie.__name__ for lie, _ in LIES])
def test_51_a_controller_that_lies(
    agent: Any, kit: SimpleNamespace, there: Path, lie: Callable[[Evil], None], reason: str
) -> None:
    (there / "x").write_bytes(OLD)
    mark = agent.mark()
    with kit.Peer(agent.port) as peer:
        lie(Evil(peer.log_in(agent.keys), there / "x"))
        peer.rest()
    agent.logged(re.escape(reason), since=mark)
    assert os.listdir(there) == ["x"]
    assert (there / "x").read_bytes() == OLD


def test_51_an_agent_that_lies(
    tmp_path: Path, agent: Any, server: Callable[..., int], kit: SimpleNamespace, there: Path
) -> None:
    """A digest that is not that of what came: the file that was there stays, and the operator is told which it was."""

    def script(evil: Any) -> None:
        assert isinstance(evil.event(), f.Pull)
        evil.send(f.Entries((f.Entry("motd", f.Kind.FILE, 0o644, 3),), last=True))
        assert isinstance(evil.event(), f.Wants)
        for message in (f.Open(0, size=3), f.Data(b"abc"), f.Close(3, hashlib.sha256(b"abd").hexdigest())):
            evil.send(message)
        evil.rest()

    port = server(kit.FalseAgent(agent.keys, script, server_context()[0]))
    console = Console(tmp_path / "console", {"web1": agent}, {"web1": port})
    (there / "web1").mkdir()
    (there / "web1/motd").write_bytes(OLD)
    done = console.fleet("pull", "/etc/motd", there)
    assert (done.code, done.err) == (4, "1 broken of 1 host in 0.00s\n")
    assert "[error: the agent broke the protocol: wrong checksum on 'motd']\n" in done.out
    assert os.listdir(there / "web1") == ["motd"]
    assert (there / "web1/motd").read_bytes() == OLD


class Gate:
    """A line to an agent that does something once, when `after` bytes have gone towards `direction`."""

    def __init__(self, kit: SimpleNamespace, agent: Any, direction: str, after: int, act: Callable[[], object]) -> None:
        self._direction = direction
        self._left = after
        self._act = act
        self.open = False
        self.cutter = kit.Cutter(agent.port)
        self.cutter.change = self._pass

    def _pass(self, direction: str, data: bytes) -> bytes:
        if direction == self._direction and not self.open:
            self._left -= len(data)
            if self._left <= 0:
                self.open = True
                self._act()
        return data


@pytest.fixture
def through(
    tmp_path: Path, agent: Any, server: Callable[..., int], kit: SimpleNamespace
) -> Callable[[str, Callable[[], object]], tuple[Console, Gate]]:
    """Return a function that makes an operator whose line to the shared agent acts after the first megabyte."""

    def make(direction: str, act: Callable[[], object]) -> tuple[Console, Gate]:
        gate = Gate(kit, agent, direction, MIB, act)
        return Console(tmp_path / "console", {"web1": agent}, {"web1": server(gate.cutter)}), gate

    return make


def both_ways(big: Path, there: Path, kit: SimpleNamespace, pulling: bool) -> tuple[str, list[str | Path], Path]:
    """Return the way of the content, the command line, and where it arrives."""
    if pulling:
        return kit.DOWN, ["pull", big, there], there / "web1/big"
    return kit.UP, ["push", big, f"{there}/"], there / "big"


WAYS = pytest.mark.parametrize("pulling", [False, True], ids=["push", "pull"])


@WAYS
def test_51_a_source_that_grows(
    through: Callable[..., Any], kit: SimpleNamespace, big: Path, there: Path, pulling: bool
) -> None:
    """It arrives as long as it was when it was opened: a log that is written to all the time has no end."""
    before = big.read_bytes()

    def grow() -> None:
        with open(big, "ab") as file:
            file.write(b"more")

    direction, command, place = both_ways(big, there, kit, pulling)
    console, gate = through(direction, grow)
    done = console.fleet(*command)
    assert (done.code, done.err, gate.open) == (0, "1 changed of 1 host in 0.00s\n", True)
    assert re.fullmatch(table("changed", hashlib.sha256(before).hexdigest()), done.out)
    assert place.read_bytes() == before
    assert temporaries(place.parent) == []


@WAYS
def test_51_a_source_that_shrinks(
    through: Callable[..., Any], kit: SimpleNamespace, big: Path, there: Path, pulling: bool
) -> None:
    direction, command, place = both_ways(big, there, kit, pulling)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(OLD)
    console, gate = through(direction, lambda: os.truncate(big, 100))
    done = console.fleet(*command)
    assert (done.code, done.err, gate.open) == (5, "1 failed of 1 host in 0.00s\n", True)
    named = big if pulling else place
    cell = rf"\[1 failed\]\n +\[error: {named}: shrank to \d+ of 16777216 bytes while it was read\]"
    assert re.fullmatch(table("failed", cell), done.out), done.out
    assert place.read_bytes() == OLD


@WAYS
def test_51_a_source_that_vanishes(
    through: Callable[..., Any], kit: SimpleNamespace, big: Path, there: Path, pulling: bool
) -> None:
    """The large one is open and comes whole; the one behind it was listed and is no more; the third is not kept."""
    tree = big.parent / "tree"
    tree.mkdir()
    big.rename(tree / "big")
    content = (tree / "big").read_bytes()
    for name in ("gone", "last"):
        (tree / name).write_bytes(b"x")

    def vanish() -> None:
        (tree / "big").unlink()
        (tree / "gone").unlink()

    direction, command, _ = both_ways(tree, there, kit, pulling)
    place = (there / "web1" if pulling else there) / "tree"
    console, gate = through(direction, vanish)
    done = console.fleet(*command)
    assert (done.code, done.err, gate.open) == (5, "1 failed of 1 host in 0.00s\n", True)
    named = tree if pulling else place
    cell = rf"\[3 changed, 1 failed\]\n +\[error: {named}/gone: cannot read it: no such file or directory\]"
    assert re.fullmatch(table("failed", cell), done.out), done.out
    assert sorted(os.listdir(place)) == ["big", "last"]
    assert (place / "big").read_bytes() == content


SPARSE = 1 << 40


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.write(b"start")
        try:
            file.truncate(SPARSE)
        except OSError:
            pytest.skip("no file can be so long here")
    return path


def test_51_a_sparse_tebibyte_is_pushed(console: Console, sparse: Path, there: Path, agent: Any) -> None:
    """Nothing of the holes goes over the line or to the disk, and the time that was given for it is kept: the digest of
    so many zeros takes ten minutes."""
    done = console.fleet("push", sparse, f"{there}/", "-t", "0.5", "--json")
    assert (done.code, done.err) == (3, "")
    assert (done.result["status"], done.result["error"]) == ("timeout", "cut off after 0.5 s")
    assert done.result["bytes"] < MIB
    assert done.result["elapsed"] < 10
    agent.works()
    assert not (there / "sparse").exists()
    assert all((there / name).stat().st_blocks * 512 < MIB for name in temporaries(there))


def test_51_a_sparse_tebibyte_is_pulled(console: Console, sparse: Path, there: Path) -> None:
    """More than the disk has is not begun: that it is holes is the host's word alone."""
    if shutil.disk_usage(there).free >= SPARSE:
        pytest.skip("there is room for it")
    done = console.fleet("pull", sparse, there)
    assert (done.code, done.err) == (5, "1 failed of 1 host in 0.00s\n")
    reason = r"no room on the local disk: 1\.0 TiB needed, \S+ \S+ may be used"
    cell = rf"\[1 failed\]\n +\[error: {there}/web1/sparse: {reason}\]"
    assert re.fullmatch(table("failed", cell), done.out), done.out
    assert os.listdir(there) == []


@WAYS
def test_51_sparse_stays_sparse(
    console: Console, kit: SimpleNamespace, sparse: Path, there: Path, pulling: bool
) -> None:
    os.truncate(sparse, 200 * MIB)
    with open(sparse, "r+b") as file:
        file.seek(150 * MIB)
        file.write(b"middle")
    _, command, place = both_ways(sparse, there, kit, pulling)
    place = place.with_name("sparse")
    done = console.fleet(*command)
    assert (done.code, done.err) == (0, "1 changed of 1 host in 0.00s\n")
    assert place.stat().st_blocks * 512 < MIB
    assert subprocess.run(["cmp", sparse, place]).returncode == 0


@WAYS
def test_51_a_file_of_proc(console: Console, kit: SimpleNamespace, there: Path, pulling: bool) -> None:
    """It says that it holds nothing, and holds something."""
    path = Path("/proc/sys/kernel/random/boot_id")
    assert path.stat().st_size == 0
    _, command, place = both_ways(path, there, kit, pulling)
    place = place.with_name("boot_id")
    for status in ("changed", "unchanged"):
        done = console.fleet(*command)
        assert (done.code, done.err) == (0, f"1 {status} of 1 host in 0.00s\n")
        assert place.read_bytes() == path.read_bytes()
    assert temporaries(place.parent) == []


def test_51_a_file_that_the_agent_cannot_read(agents: Any, tmp_path: Path) -> None:
    agent = agents.start(ordinary_user=True)
    place = agent.folder / "tree"
    place.mkdir()
    for name in ("closed", "open"):
        (place / name).write_bytes(b"x")
    (place / "closed").chmod(0)
    for path in (place, *place.iterdir()):
        if ROOT:
            os.chown(path, 65534, 65534)
    done = Console(tmp_path / "console", {"web1": agent}).fleet("pull", place, tmp_path / "got")
    assert (done.code, done.err) == (5, "1 failed of 1 host in 0.00s\n")
    reason = f"[error: {place}/closed: cannot read it: permission denied]\n"
    assert reason in done.out
    assert os.listdir(tmp_path / "got/web1/tree") == ["open"]
    agent.works()


def test_51_a_file_that_the_operator_cannot_read(console: Console, tmp_path: Path, there: Path) -> None:
    """By itself nothing is begun; in a tree the rest arrives."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("closed", "open"):
        (tree / name).write_bytes(b"x")
    (tree / "closed").chmod(0)
    # Root without the right to read what is closed to it.
    before = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if ROOT else ()
    done = console.fleet("push", tree / "closed", f"{there}/", before=before)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"fleet: {tree}/closed: permission denied\n"
    done = console.fleet("push", tree, f"{there}/", before=before)
    assert (done.code, done.err) == (5, "1 failed of 1 host in 0.00s\n")
    assert f"[error: {there}/tree/closed: cannot read it: permission denied]\n" in done.out
    assert os.listdir(there / "tree") == ["open"]


# 52: The agent dies ---------------------------------------------------------------------------------------------------


class Watch:
    """What happens to names in a folder (inotify(7))."""

    _ATTRIB, _MODIFY, _CREATE = 0x4, 0x2, 0x100

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.inotify_init1(os.O_NONBLOCK)
        mask = self._ATTRIB | self._MODIFY | self._CREATE | 0xC0  # and renames
        assert self._libc.inotify_add_watch(self.fd, os.fsencode(folder), mask) >= 0

    def events(self) -> Iterator[tuple[int, str]]:
        """Yield (mask, name) of what comes, and wait for more without end."""
        while True:
            assert select.select([self.fd], [], [], PATIENCE)[0], "nothing happens in the folder"
            data = os.read(self.fd, 65536)
            while data:
                _, mask, _, length = struct.unpack_from("iIII", data)
                yield mask, data[16 : 16 + length].rstrip(b"\0").decode()
                data = data[16 + length :]

    def wait_until_written(self) -> str:
        """Wait until a temporary file is written to; return its name."""
        for mask, name in self.events():
            if mask & self._MODIFY and ".fleet-" in name:
                return name
        raise AssertionError

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def watch(there: Path) -> Iterator[Watch]:
    watch = Watch(there)
    yield watch
    watch.close()


def test_52_the_agent_is_killed(
    agents: Any, tmp_path: Path, server: Callable[..., int], kit: SimpleNamespace, big: Path, there: Path, watch: Watch
) -> None:
    """In the middle of a file: the old one is whole, the operator is told, and the next start clears up."""
    agent = agents.start()
    target = there / "big"
    target.write_bytes(OLD)

    def kill() -> None:
        watch.wait_until_written()
        agent.signal(9)
        agent.process.wait(PATIENCE)

    gate = Gate(kit, agent, kit.UP, MIB, kill)
    console = Console(tmp_path / "console", {"web1": agent}, {"web1": server(gate.cutter)})
    done = console.fleet("push", big, target, "--backup")
    assert (done.code, done.err, gate.open) == (4, "1 broken of 1 host in 0.00s\n", True)
    lost = (
        r"\[no files\]\n +\[error: the connection was lost: [^\n]*\]\n +\[note: the same command again goes on [^\n]*\]"
    )
    assert re.fullmatch(table("broken", lost), done.out), done.out
    assert target.read_bytes() == OLD
    (left,) = temporaries(there)
    assert stat.S_IMODE((there / left).stat().st_mode) == 0o600
    again = agents.start(keys=agent.keys, folder=agent.folder)
    again.logged("removed 1 temporary files of interrupted transfers$")
    assert os.listdir(there) == ["big"]
    assert target.read_bytes() == OLD
    (tmp_path / "again").mkdir()
    done = Console(tmp_path / "again/console", {"web1": again}).fleet("push", big, target)
    assert (done.code, target.read_bytes() == big.read_bytes()) == (0, True)
    assert os.listdir(there) == ["big"]
    again.works()


# 53: Rights -----------------------------------------------------------------------------------------------------------


class Modes(threading.Thread):
    """Looks at every name in a folder whenever something happens to one, and keeps what it sees of regular files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._watch = Watch(folder)
        self.seen: set[tuple[int, int]] = set()  # (mode, owner)

    def run(self) -> None:
        for _, name in self._watch.events():
            self.look()
            if name == "end":
                return

    def look(self) -> None:
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(info.st_mode) and entry.name != "end":
                    self.seen.add((stat.S_IMODE(info.st_mode), info.st_uid))

    def end(self) -> None:
        (self._folder / "end").touch()
        self.join(PATIENCE)
        (self._folder / "end").unlink()
        self._watch.close()


OWNER = NOBODY if ROOT else os.geteuid()


@pytest.mark.parametrize("mode", [0o4755, 0o2750, 0o1644, 0o600, 0o777, 0o000])
def test_53_never_wider_than_asked(
    agents: Any, tmp_path: Path, server: Callable[..., int], kit: SimpleNamespace, big: Path, there: Path, mode: int
) -> None:
    """With a umask that takes nothing away. Looked at with half of it written, before the rename, and at every change
    that the kernel tells of."""
    agent = agents.start(prepare="import os; os.umask(0)")
    ours = os.geteuid()
    os.mkfifo(tmp_path / "gate")
    modes = Modes(there)
    modes.start()
    halfway: set[tuple[int, int]] = set()
    written = Watch(there)

    def look() -> None:
        written.wait_until_written()
        modes.look()
        halfway.update(modes.seen)

    gate = Gate(kit, agent, kit.UP, MIB, look)
    console = Console(tmp_path / "console", {"web1": agent}, {"web1": server(gate.cutter)})
    wait = f"read line <{tmp_path}/gate; test -f %s"
    arguments = ["--mode", f"{mode:04o}", "--owner", str(OWNER), "--group", str(OWNER), "--validate", wait]
    process = console.start("push", big, f"{there}/", *arguments)
    with open(tmp_path / "gate", "w") as fifo:  # opens when the command that validates does
        modes.look()
        (before,) = [(there / name).stat() for name in temporaries(there)]
        fifo.write("\n")
    done = finish(process)
    modes.end()
    written.close()
    assert (done.code, done.err, gate.open) == (0, "1 changed of 1 host in 0.00s\n", True)
    assert halfway == {(0o600, ours)}
    assert (stat.S_IMODE(before.st_mode), before.st_uid, before.st_gid) == (mode, OWNER, OWNER)
    after = (there / "big").stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (mode, OWNER, OWNER)
    assert modes.seen <= {(0o600, ours), (0o600, OWNER), (mode, OWNER)}
    agent.works()


def test_53_a_tree_under_a_umask_that_takes_nothing_away(
    agents: Any, tmp_path: Path, server: Callable[..., int], kit: SimpleNamespace, big: Path, there: Path
) -> None:
    """Directories are closed to others until all is in them; bits of the source that give rights do not come along."""
    agent = agents.start(prepare="import os; os.umask(0)")
    tree = tmp_path / "tree"
    tree.mkdir()
    big.rename(tree / "big")
    (tree / "su").write_bytes(b"x")
    (tree / "su").chmod(0o6755)
    (tree / "closed").write_bytes(b"x")
    (tree / "closed").chmod(0o400)
    tree.chmod(0o3777)
    halfway: list[int] = []
    gate = Gate(kit, agent, kit.UP, MIB, lambda: halfway.append(stat.S_IMODE((there / "tree").stat().st_mode)))
    console = Console(tmp_path / "console", {"web1": agent}, {"web1": server(gate.cutter)})
    done = console.fleet("push", tree, f"{there}/")
    assert (done.code, done.err) == (0, "1 changed of 1 host in 0.00s\n")
    assert halfway == [0o700]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (there / "tree", *(there / "tree").iterdir())}
    assert modes == {"tree": 0o1777, "big": 0o644, "su": 0o755, "closed": 0o400}
    agent.works()


# 55: No room ----------------------------------------------------------------------------------------------------------

# A mount namespace of its own, where `there` is a file system of a few pages: it goes when the agent does.
_ON_A_SMALL_DISK = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
check(libc.unshare(0x20000))
check(libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None))
check(libc.mount(b"small", {there!r}, b"tmpfs", 0, b"size=64k"))
with open({there!r} + b"/conf", "wb") as file:
    file.write({old!r})
"""
# The same for who may not mount: no file of its may be longer.
_WITH_SHORT_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))"


def may_mount() -> bool:
    """Whether this process may make a file system that only it sees: root in a container often may not."""
    return subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True).returncode == 0


def test_55_two_hundred_hosts_and_one_without_space(
    agents: Any, kit: SimpleNamespace, tmp_path: Path, there: Path
) -> None:
    """A template makes each host's file another one, so that each push changes what the one before it left."""
    really = may_mount()
    prepare = _ON_A_SMALL_DISK.format(there=os.fsencode(there), old=OLD) if really else _WITH_SHORT_FILES
    keys = kit.Keys()
    many = agents.start(keys=keys)
    full = agents.start(keys=kit.Keys(controller=keys.controller), prepare=prepare)
    (there / "conf").write_bytes(OLD)
    hosts = {f"web{number:03}": many for number in range(1, 200)} | {"full": full}
    console = Console(tmp_path / "console", hosts)
    (tmp_path / "conf").write_text("{host}\n" + "x" * 100_000)
    done = console.fleet("push", "--template", tmp_path / "conf", f"{there}/", "-q")
    assert (done.code, done.err) == (5, "199 changed, 1 failed of 200 hosts in 0.00s\n"), done.out
    reason = "no space left on device" if really else "file too large"
    row = r"full +failed +\d+ +0\.00s +\S+ \S+ +\[1 failed\]\n"
    complaint = rf" +\[error: {there}/conf: cannot write the new file: {reason}\]\n"
    assert re.fullmatch(rf"HOST +STATUS[^\n]*\n{row}{complaint}", done.out), done.out
    assert re.fullmatch(r"web\d+\nx+", (there / "conf").read_text())
    if really:
        small = Path(f"/proc/{full.process.pid}/root{there}")
        assert (os.listdir(small), (small / "conf").read_bytes()) == (["conf"], OLD)
    assert os.listdir(there) == ["conf"]
    for agent in (many, full):
        agent.works()
