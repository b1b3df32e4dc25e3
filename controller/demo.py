"""A fleet on this machine's loopback, made from nothing: fresh keys, real agents, an inventory.

    FOLDER/hosts.ini  key  enrolled.json  env  agents/demo1/{agent.toml,controllers/,log,pid} ...

The agents are started as their users start them, by the commands of `fleet-agent`; nothing of them is imported here.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from controller import keyfile
from controller.cancel import CancelToken
from controller.enroll import SUFFIX, enroll
from controller.errors import CancelledError, FleetError
from controller.registry import FILE_NAME

__all__ = ["Demo", "stop_kept"]

_START_LIMIT = 15.0  # seconds
_STOP_LIMIT = 10.0  # an agent waits up to 8 s for what it runs
# -P: a folder named `agent` in the current directory is not what is meant.
_AGENT = (sys.executable, "-P", "-m", "agent")
_READY = re.compile(r"^fleet-agent: listening on 127\.0\.0\.1:(\d+)$", re.MULTILINE)


@dataclass(slots=True)
class Demo:
    """`count` agents under `folder`, which must be there and empty. Use it in a `with` block, or `detach` it.

    Entering raises FleetError, and CancelledError once `cancel` is set; then nothing is left running.
    """

    folder: Path
    count: int
    cancel: CancelToken
    _agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def inventory(self) -> str:
        """Return the path of the inventory."""
        return str(self.folder / "hosts.ini")

    @property
    def key(self) -> str:
        """Return the path of the key; the registry is beside it."""
        return str(self.folder / "key")

    def __enter__(self) -> Demo:
        try:
            self._start()
        except OSError as error:
            self.stop()
            raise FleetError("demo", f"cannot start it: {(error.strerror or str(error)).lower()}") from None
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the agents, and with them whatever they run."""
        for agent in self._agents:
            agent.terminate()
        deadline = time.monotonic() + _STOP_LIMIT
        for agent in self._agents:
            try:
                agent.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()
        self._agents.clear()

    def detach(self) -> None:
        """Leave the agents running; `stop_kept` ends them."""
        for agent in self._agents:
            agent.returncode = 0  # ours no longer: Popen would warn of a child that nobody waited for
        self._agents.clear()

    def _start(self) -> None:
        names = [f"demo{number}" for number in range(1, self.count + 1)]
        key = keyfile.create(self.key, "demo")
        enroll(key, str(self.folder / FILE_NAME), names, out_dir=str(self.folder))
        self._initialise(names)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ready:
            ready.bind(b"")  # an abstract address of the kernel's choice (unix(7), "autobind")
            notify = "@" + ready.getsockname()[1:].decode()
            for name in names:
                self._check_cancel()
                self._serve(name, notify)
            self._wait_until_ready(ready)
        ports = {name: self._port(name) for name in names}
        lines = [f"{name} fleet_host=127.0.0.1 fleet_port={port}\n" for name, port in ports.items()]
        (self.folder / "hosts.ini").write_text("[demo]\n" + "".join(lines))
        exports = {"FLEET_INVENTORY": self.inventory, "FLEET_KEY": self.key}
        (self.folder / "env").write_text(
            "".join(f"export {name}={shlex.quote(os.path.abspath(path))}\n" for name, path in exports.items())
        )

    def _initialise(self, names: list[str]) -> None:
        """Have `fleet-agent init` make the agents' folders, all at once."""
        commands: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for name in names:
                enrolment = self.folder / f"{name}{SUFFIX}"
                arguments = ("init", "--enrolment", str(enrolment), "--dir", str(self._folder_of(name)))
                commands[name] = subprocess.Popen(
                    [*_AGENT, *arguments, "--listen", "127.0.0.1:0"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C is for us
                )
        finally:
            # Whatever went wrong, none of them may still be writing when the folder is removed.
            errors = {name: command.communicate()[1] for name, command in commands.items()}
        self._check_cancel()
        for name, command in commands.items():
            if command.returncode:
                reason = errors[name].decode(errors="replace").strip().partition("\n")[0]
                raise FleetError(f"agent {name}", reason.removeprefix("fleet-agent: "))
            (self.folder / f"{name}{SUFFIX}").unlink()  # the agent has taken it in

    def _check_cancel(self) -> None:
        if self.cancel.is_set:
            raise CancelledError

    def _serve(self, name: str, notify: str) -> None:
        folder = self._folder_of(name)
        with open(folder / "log", "wb") as log:
            agent = subprocess.Popen(
                [*_AGENT, "serve", "--dir", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": notify},
                start_new_session=True,  # Ctrl-C is for us: we end the agents in order
            )
        self._agents.append(agent)  # first of all: whatever fails next, it will be ended
        (folder / "pid").write_text(f"{agent.pid} {_start_time(agent.pid)}\n")

    def _wait_until_ready(self, ready: socket.socket) -> None:
        """Wait until each agent has said that it is, or one of them has died."""
        deadline = time.monotonic() + _START_LIMIT
        deaths = {os.pidfd_open(agent.pid): number for number, agent in enumerate(self._agents, 1)}
        try:
            poller = select.poll()
            for fd in (ready.fileno(), self.cancel.fileno(), *deaths):
                poller.register(fd, select.POLLIN)
            waiting = len(self._agents)
            while waiting:
                events = [fd for fd, _ in poller.poll(max(0.0, deadline - time.monotonic()) * 1000)]
                self._check_cancel()
                dead = [deaths[fd] for fd in events if fd in deaths]
                if dead:
                    raise FleetError(f"agent demo{dead[0]}", self._last_words(f"demo{dead[0]}"))
                if not events:
                    raise FleetError("demo", f"the agents did not start within {_START_LIMIT:.0f} s")
                if ready.recv(4096) == b"READY=1":
                    waiting -= 1
        finally:
            for fd in deaths:
                os.close(fd)

    def _port(self, name: str) -> int:
        match = _READY.search((self._folder_of(name) / "log").read_text(errors="replace"))
        if match is None:
            raise FleetError(f"agent {name}", self._last_words(name))
        return int(match[1])

    def _last_words(self, name: str) -> str:
        lines = (self._folder_of(name) / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("fleet-agent: ") if lines else "ended without a word"

    def _folder_of(self, name: str) -> Path:
        return self.folder / "agents" / name


def stop_kept(folder: Path) -> int:
    """End the agents of a demo that was kept. Returns how many were still running. Raises FleetError.

    A process is signalled only if it is the one that was started: process ids are used again.
    """
    files = sorted((folder / "agents").glob("demo*/pid"))
    if not files:
        raise FleetError(str(folder), "there is no demo here")
    running = [handle for handle in [_find(*_read_pid(file)) for file in files] if handle is not None]
    for handle in running:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_LIMIT
    for handle in running:
        if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
    for file in files:
        file.unlink()
    return len(running)


def _read_pid(file: Path) -> tuple[int, int]:
    """Return the process and its start time that a demo noted. Raises FleetError."""
    try:
        pid, started = map(int, file.read_text().split())
    except (OSError, ValueError):
        raise FleetError(str(file), "is not what a demo wrote there") from None
    return pid, started


def _find(pid: int, started: int) -> int | None:
    """Return a descriptor of a process, None when it is gone and its number is somebody else's."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    if _start_time(pid) == started:
        return handle
    os.close(handle)
    return None


def _start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (proc_pid_stat(5), field 22); 0 if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat.rpartition(b")")[2].split()[19])
