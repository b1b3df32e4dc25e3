"""Real agents on loopback, the installed commands, and what tests need to watch both from outside."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PATIENCE = 60.0  # seconds; reached only by a test that fails

_BIN = os.path.dirname(sys.executable)
_TIME = re.compile(r"\d+\.\d\ds")
_READY = re.compile(r"^fleet-agent: listening on 127\.0\.0\.1:(\d+)$", re.MULTILINE)
_OURS = re.compile(r"FLEET_|XDG_|LC_|LANG$|NO_COLOR$|TERM$|NOTIFY_SOCKET$|PYTHON")


def program(name: str) -> str:
    """Return the path of one of the two installed commands."""
    found = shutil.which(name, path=_BIN)
    assert found is not None, f"{name} is not installed beside {sys.executable}"
    return found


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended. `out` and `err` are its text with every time of day's work as 0.00s."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return _TIME.sub("0.00s", self.stdout.decode())

    @property
    def err(self) -> str:
        return _TIME.sub("0.00s", self.stderr.decode())

    @property
    def json(self) -> dict:
        return json.loads(self.stdout)

    def __iter__(self) -> Iterator[object]:
        """Give code, out and err, so that a test compares all three with a tuple."""
        return iter((self.code, self.out, self.err))


@dataclass(slots=True)
class Agent:
    """A real agent in a folder of its own."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Signpost:
    """A FIFO by which a command on an agent tells the test where it is: `echo here > {post}`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        os.mkfifo(path)
        # Both ends are ours, so that neither side waits for the other, and there is never an end of file.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._text = b""

    def __str__(self) -> str:
        return str(self._path)

    def line(self) -> str:
        """Wait for a line."""
        while b"\n" not in self._text:
            assert select.select([self._fd], [], [], PATIENCE)[0], "the command never got there"
            self._text += os.read(self._fd, 65536)
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def processes(self, count: int) -> list[int]:
        """Wait for `count` lines with a process id each, and return a descriptor for each process."""
        return [os.pidfd_open(int(self.line())) for _ in range(count)]

    def close(self) -> None:
        os.close(self._fd)


def all_gone(pidfds: Sequence[int]) -> None:
    """Wait for the end of processes, and close their descriptors."""
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], PATIENCE)[0], "a process of the command is still alive"
        os.close(pidfd)


class Relay:
    """Stands between a controller and an agent, passes bytes on, and can cut the line."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            self._sockets += [near, far]
            for one, other in ((near, far), (far, near)):
                thread = threading.Thread(target=self._pass_on, args=(one, other), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass

    def cut(self) -> None:
        """Cut every connection, and take no new one."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        try:
            self.cut()
        except OSError:
            pass
        for thread in self._threads:
            thread.join(PATIENCE)
        for sock in (self._listener, *self._sockets):
            sock.close()


@dataclass(slots=True)
class Lab:
    """A controller's key and registry, an inventory, agents, and the way to call `fleet` there."""

    folder: Path
    agents: list[Agent] = field(default_factory=list)

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def program(self) -> str:
        return program("fleet")

    @property
    def inventory(self) -> Path:
        return self.folder / "hosts.ini"

    def environment(self, **extra: str | None) -> dict[str, str]:
        """Return the environment of a user who has set up this lab; None takes a variable out."""
        wanted = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
        wanted |= {"HOME": str(self.folder), "FLEET_KEY": str(self.key), "FLEET_INVENTORY": str(self.inventory)}
        for name, value in extra.items():
            if value is None:
                wanted.pop(name, None)
            else:
                wanted[name] = value
        return wanted

    def start(
        self,
        *arguments: str | bytes,
        env: dict[str, str | None] | None = None,
        before: str | None = None,
        **options: object,
    ) -> subprocess.Popen[bytes]:
        """Start `fleet`, with pipes to its output; with `before`, a shell does that first."""
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.folder}
        shell = [] if before is None else ["/bin/sh", "-c", f'{before}; exec "$@"', "sh"]
        return subprocess.Popen(
            [*shell, program("fleet"), *arguments],
            env=self.environment(**(env or {})),
            **{**given, **options},  # type: ignore[call-overload]
        )

    def fleet(self, *arguments: str | bytes, **options: object) -> Done:
        """Run `fleet` to its end."""
        return finish(self.start(*arguments, **options))  # type: ignore[arg-type]

    def agent(self, enrolment: Path, folder: Path, settings: str = "") -> Agent:
        """Bring an enrolment to a new agent as its admin does, and start it, with `settings` at the end of its own."""
        init = ["init", "--enrolment", str(enrolment), "--dir", str(folder), "--listen", "127.0.0.1:0"]
        subprocess.run([program("fleet-agent"), *init], check=True, stdout=subprocess.DEVNULL, env=self.environment())
        with open(folder / "agent.toml", "a") as file:
            file.write(settings)
        agent = serve(folder, self.environment(LANG="C.UTF-8", SECRET="of the agent"))
        self.agents.append(agent)
        return agent


def serve(folder: Path, environment: dict[str, str]) -> Agent:
    """Start an agent, and wait until it says that it is ready."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ready,
        open(folder / "log", "wb") as log,
    ):
        ready.bind(b"")  # an abstract address of the kernel's choice
        process = subprocess.Popen(
            [program("fleet-agent"), "serve", "--dir", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**environment, "NOTIFY_SOCKET": "@" + ready.getsockname()[1:].decode()},
            start_new_session=True,
        )
        pidfd = os.pidfd_open(process.pid)
        try:
            events = select.select([ready, pidfd], [], [], PATIENCE)[0]
        finally:
            os.close(pidfd)
    agent = Agent(folder, process, 0)
    match = _READY.search(agent.log)
    if not events or match is None:
        agent.stop(signal.SIGKILL)
        pytest.fail(f"the agent did not start: {agent.log}")
    agent.port = int(match[1])
    return agent


def finish(process: subprocess.Popen[bytes]) -> Done:
    """Wait for the end of a process, and take its output."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"{process.args} does not end; stdout {out!r}, stderr {err!r}")
    return Done(process.returncode, out or b"", err or b"")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two agents that tests share: one is web1, the other is everything in the pool `many`.

    ``good`` are the hosts that answer (web1, web2, db1), ``bad`` those that do not: nobody listens at `gone`, the agent
    at the address of `stranger` is another host's, and `newcomer` was never enrolled.
    """
    lab = Lab(tmp_path_factory.mktemp("lab"))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens: connections are refused, and nobody else gets the port
        try:
            _furnish(lab, nobody.getsockname()[1])
            yield lab
        finally:
            for agent in lab.agents:
                agent.stop()


def _furnish(lab: Lab, refusing: int) -> None:
    assert lab.fleet("init", "--name", "ops").code == 0
    assert lab.fleet("enroll", "web1", "gone", "stranger", "-o", "enrolments").code == 0
    assert lab.fleet("enroll", "--pool", "many", "-o", "enrolments").code == 0
    one = lab.agent(lab.folder / "enrolments/web1.enrol", lab.folder / "one")
    many = lab.agent(lab.folder / "enrolments/many.enrol", lab.folder / "many")
    lab.inventory.write_text(
        f"""\
[good]
web1 fleet_port={one.port}
web2 fleet_port={many.port} fleet_pool=many
db1 fleet_port={many.port} fleet_pool=many
[bad]
gone fleet_port={refusing}
stranger fleet_port={one.port}
newcomer fleet_port={one.port}
[web]
web1
web2
[db]
db1
[all:vars]
fleet_host=127.0.0.1
"""
    )


@pytest.fixture
def new_lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab with nothing in it, for tests that set things up themselves, or break them."""
    lab = Lab(tmp_path)
    yield lab
    for agent in lab.agents:
        agent.stop()


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Signpost]:
    """A FIFO that commands can write to."""
    post = Signpost(tmp_path / "post")
    yield post
    post.close()


@pytest.fixture
def relay(lab: Lab) -> Iterator[Relay]:
    """A line to web1 that can be cut; the inventory variable `fleet_port` of a test's own inventory leads there."""
    relay = Relay(lab.agents[0].port)
    yield relay
    relay.close()


@pytest.fixture
def gone():  # type: ignore[no-untyped-def]
    """Give `all_gone` to a test: a conftest cannot be imported."""
    return all_gone


@pytest.fixture
def end():  # type: ignore[no-untyped-def]
    """Give `finish` to a test."""
    return finish


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Show the agents' logs of a test that failed."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Lab):
                report.sections += [(f"log of agent {agent.folder.name}", agent.log[-8000:]) for agent in value.agents]
    return report
