"""What the measurements run against: one real sshd and one fleet agent on loopback, with keys of their own.

On Linux every address 127.x.y.z is this machine, so one server is as many hosts as are listed. Both servers listen on
all addresses for that reason; sshd lets in 127.0.0.0/8 alone, and with nothing but a key that is made here. Everything
is in one folder, needs no line in /etc/passwd, and is ended by process id when the `with` block is left.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FAST = ("-o", "KexAlgorithms=curve25519-sha256", "-c", "aes128-gcm@openssh.com")
PACKAGES = ("openssh-server", "openssh-client", "pdsh")
_SSHD = "/usr/sbin/sshd"
_BIN = Path(sys.executable).parent  # not resolved: in a virtual environment the commands are beside its python
_READY = re.compile(rb"listening on \S+:(\d+)")
_LIMIT = 20.0  # seconds for a server to start, and to stop
_POLL = 0.02  # seconds between two looks at a log
_TRIES = 5


class RigError(Exception):
    """Something needed could not be set up."""


def missing_peers() -> list[str]:
    """Return the programs that are not installed."""
    found = {"sshd": os.access(_SSHD, os.X_OK), "ssh": shutil.which("ssh"), "pdsh": shutil.which("pdsh")}
    return [name for name, there in found.items() if not there]


def addresses(count: int) -> list[str]:
    """Return `count` addresses of this machine."""
    return [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count)]


@dataclass(frozen=True, slots=True)
class Agent:
    """A running agent."""

    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Rig:
    """The running servers, and how to reach them. `ssh_config` is None when there is no sshd on this machine."""

    folder: Path
    agent: Agent
    environment: Mapping[str, str]
    ssh_config: Path | None

    def fleet(self, *arguments: str) -> list[str]:
        """Return a command line of the installed fleet."""
        return [str(_BIN / "fleet"), *arguments]

    def fleet_run(self, hosts: int, *arguments: str) -> list[str]:
        """Return the command line of `fleet run` on so many hosts."""
        path = self.folder / f"hosts{hosts}.ini"
        if not path.exists():
            lines = ["[all:vars]", "fleet_pool=bench", f"fleet_port={self.agent.port}", "[bench]", *addresses(hosts)]
            path.write_text("\n".join(lines) + "\n")
        return self.fleet("run", "-i", str(path), *arguments)

    def ssh(self, *arguments: str) -> list[str]:
        """Return the command line of `ssh` to one host."""
        return ["ssh", "-F", str(self.ssh_config), "-n", *arguments]

    def pdsh(self, hosts: int, *arguments: str) -> list[str]:
        """Return the command line of `pdsh` on so many hosts."""
        path = self.folder / f"hosts{hosts}"
        path.write_text("\n".join(addresses(hosts)) + "\n")
        return ["pdsh", "-S", "-R", "ssh", "-w", f"^{path}", *arguments]

    def logins(self) -> int:
        """Return how many logins sshd has accepted so far."""
        return (self.folder / "sshd.log").read_bytes().count(b"Accepted publickey")

    @contextmanager
    def another_agent(self) -> Iterator[Agent]:
        """Run a second, fresh agent with the same keys."""
        with _agent(self.folder, self.environment) as agent:
            yield agent


@contextmanager
def rig() -> Iterator[Rig]:
    """Set everything up, and take everything down again. Raises RigError."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fleet-bench-", dir=memory) as name:
        folder = Path(name)
        environment = _environment(folder)
        _enroll(folder, environment)
        with _agent(folder, environment) as agent:
            if {"sshd", "ssh"} & set(missing_peers()):
                yield Rig(folder, agent, environment, None)
            else:
                with _sshd(folder) as config:
                    yield Rig(folder, agent, {**environment, "PDSH_SSH_ARGS_APPEND": f"-F {config}"}, config)


def _environment(folder: Path) -> dict[str, str]:
    """Return what every command here sees: none of the user's own settings, for no tool."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "FLEET_KEY": str(folder / "key"),
        "NO_COLOR": "1",
    }


def _check(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RigError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")


def _enroll(folder: Path, environment: Mapping[str, str]) -> None:
    _check([str(_BIN / "fleet"), "init", "--name", "bench"], environment)
    _check([str(_BIN / "fleet"), "enroll", "--pool", "bench", "-o", str(folder)], environment)
    enrolment = str(folder / "bench.enrol")
    _check([str(_BIN / "fleet-agent"), "init", "--enrolment", enrolment, "--dir", str(folder / "agent")], environment)


@contextmanager
def _agent(folder: Path, environment: Mapping[str, str]) -> Iterator[Agent]:
    command = [str(_BIN / "fleet-agent"), "serve", "--dir", str(folder / "agent"), "--listen", "0.0.0.0:0"]
    with tempfile.NamedTemporaryFile(dir=folder, prefix="agent-", suffix=".log", delete=False) as file:
        log = Path(file.name)
    with _server(command, log, environment) as process:
        end = time.monotonic() + _LIMIT
        while (ready := _READY.search(log.read_bytes())) is None:
            if process.poll() is not None or time.monotonic() > end:
                raise RigError(f"fleet-agent did not start: {log.read_text(errors='replace').strip()}")
            time.sleep(_POLL)
        yield Agent(process.pid, int(ready[1]))


@contextmanager
def _sshd(folder: Path) -> Iterator[Path]:
    for name in ("host_key", "user_key"):
        _check(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)])
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where its unprivileged half locks itself in
    command = [_SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
    # sshd takes no port 0, and somebody may take the free port before it does.
    for _ in range(_TRIES):
        config = _write_ssh_files(folder)
        with _server(command, folder / "sshd.log", None) as process:
            if _listens(process, folder / "sshd.log"):
                yield config
                return
    raise RigError(f"sshd did not start: {(folder / 'sshd.log').read_text(errors='replace').strip()}")


def _write_ssh_files(folder: Path) -> Path:
    """Write what sshd and ssh read, for a port that is free now. Returns the path of the client's part."""
    with socket.create_server(("0.0.0.0", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(_SSHD_CONFIG.format(folder=folder, port=port, user=getpass.getuser()))
    config = folder / "ssh_config"
    config.write_text(_SSH_CONFIG.format(folder=folder, port=port, user=getpass.getuser()))
    key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.*]:{port} {key}\n")  # one key for all hosts; checking stays strict
    return config


def _listens(process: subprocess.Popen[bytes], log: Path) -> bool:
    end = time.monotonic() + _LIMIT
    while b"Server listening" not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(_POLL)
    return True


@contextmanager
def _server(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in the foreground of a session of its own, so that Ctrl-C reaches us alone."""
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# HOME keeps the login files of a real user out of the figures; the other switches do the same for PAM, DNS and limits.
_SSHD_CONFIG = """\
Port {port}
ListenAddress 0.0.0.0
AllowUsers {user}@127.0.0.0/8
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/user_key.pub
SetEnv HOME={folder}
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
UseDNS no
MaxStartups 10000
Subsystem sftp internal-sftp
PrintMotd no
PrintLastLog no
LogLevel INFO
"""
_SSH_CONFIG = """\
Host *
 Port {port}
 User {user}
 IdentityFile {folder}/user_key
 IdentitiesOnly yes
 UserKnownHostsFile {folder}/known_hosts
 GlobalKnownHostsFile /dev/null
 StrictHostKeyChecking yes
 BatchMode yes
 ControlMaster no
 ConnectTimeout 60
 LogLevel ERROR
"""
