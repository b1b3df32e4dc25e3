"""A control group (cgroup v2) for each worker, where the agent may make one. See cgroups(7).

It is used for one thing: to kill all members at once, also those that fork faster than anybody can list them, and
also when the worker that watched over them is dead. No limits are set and no controller is enabled, so the agent's own
group may hold both processes and these groups. Where none can be made everything works without.
"""

from __future__ import annotations

import os
import re
import signal

from agent.wire.record import record

__all__ = ["Cgroup", "own_directory", "sweep"]

_PREFIX = "fleet-worker-"
_TRIES = 3


@record
class Cgroup:
    """One worker's group. `home` is the directory of the group that the agent itself is in."""

    home: str
    name: str

    @classmethod
    def named(cls, home: str, token: str) -> Cgroup:
        """Return the group of this token, which must be new and unique on the machine. Makes nothing."""
        return cls(home, _PREFIX + token)

    @property
    def path(self) -> str:
        """Its directory."""
        return f"{self.home}/{self.name}"

    def enter(self) -> bool:
        """Make it and move this process into it. Returns whether that was possible."""
        for _ in range(_TRIES):
            try:
                self._make()
                _write(f"{self.path}/cgroup.procs", "0")
                return True
            except FileNotFoundError:
                continue  # another agent's sweep took it for an abandoned one
            except OSError:
                break
        self.remove()
        return False

    def _make(self) -> None:
        try:
            os.mkdir(self.path)
        except FileExistsError:
            pass

    def leave(self) -> bool:
        """Move this process back to the agent's group. Returns whether that was possible."""
        try:
            _write(f"{self.home}/cgroup.procs", "0")
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Send SIGKILL to all members. Does nothing when the group is gone."""
        try:
            _write(f"{self.path}/cgroup.kill", "1")
        except FileNotFoundError:
            self._kill_each()
        except OSError:  # removed between open and write
            pass

    def remove(self) -> None:
        """Remove it if nothing is in it."""
        try:
            os.rmdir(self.path)
        except OSError:  # in use, gone, or never made
            pass

    def _kill_each(self) -> None:
        """Do what cgroup.kill does, for kernels before 5.14. A frozen process cannot fork, yet dies when killed."""
        try:
            _write(f"{self.path}/cgroup.freeze", "1")
            members = _read(f"{self.path}/cgroup.procs").split()
        except OSError:
            return
        for pid in map(int, members):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def own_directory(proc: str = "/proc/self") -> str | None:
    """Return the directory of this process's own cgroup v2 group, None when it is not to be seen.

    The mount point is anywhere: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside version 1, or elsewhere in a
    container, which may also see only a part of the hierarchy. See proc_pid_mountinfo(5) for the fields.
    """
    try:
        groups = _read(f"{proc}/cgroup")
        mounts = _read(f"{proc}/mountinfo")
    except OSError:
        return None
    found = re.search(r"^0::(/.*)$", groups, re.MULTILINE)
    if found is None:
        return None
    group = found[1]
    for line in mounts.splitlines():
        fields, _, kind = line.partition(" - ")
        if not kind.startswith("cgroup2 "):
            continue
        root, point = map(_unescape, fields.split(" ")[3:5])
        if os.path.commonpath([root, group]) == root and "/.." not in group:
            return os.path.normpath(f"{point}/{os.path.relpath(group, root)}")
    return None


def sweep(home: str) -> None:
    """Remove the groups of dead workers: nothing else does when a worker was killed, or left a process behind."""
    try:
        names = os.listdir(home)
    except OSError:
        return
    for name in names:
        if name.startswith(_PREFIX):
            Cgroup(home, name).remove()


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    # Without O_CREAT: a missing control file must be FileNotFoundError, not a refusal to make one.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
