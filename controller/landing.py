"""Where a pull lands: `LOCALDIR/HOST/NAME`, or with `flat` `LOCALDIR/NAME.HOST`.

The rule: which names there can be follows from the operator's words alone. A host is asked for `/var/log/*.log`, so it
may fill in what the star stands for, and below a directory it names what is in it; any other name breaks the
connection off. Host names become file names that cannot leave the folder, hide, or be taken for each other's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from agent.tree.options import ReceiverOptions
from agent.tree.paths import Folder, Identity
from agent.tree.patterns import is_pattern
from agent.tree.places import Asked, pull_names
from agent.wire.record import record
from controller.errors import FleetError, HostError
from controller.leftovers import sweep
from controller.output.folder import file_name
from controller.results import Status

__all__ = ["Landing", "LandingError", "Limits"]

# Of the local disk, stays free: this part of it, and no more than so many bytes. A host that sends without end must not
# take the operator's machine down.
_FREE_PART = 100
_MOST_FREE = 256 * 1024 * 1024


class LandingError(HostError):
    """What a host sends has no place on this machine."""

    status = Status.FAILED


@record
class Limits:
    """What a host is held to, and how its files are taken. As in `PullOptions`."""

    max_size: int | None = None
    max_files: int | None = None
    preserve: bool = False
    quick: bool = False
    exclude: tuple[str, ...] = ()


class Landing:
    """The local side of one pull, for all its hosts."""

    def __init__(self, path: str, remote: Sequence[str], hosts: Sequence[str], *, flat: bool, limits: Limits) -> None:
        """Make LOCALDIR when it is missing.

        Raises FleetError for one that cannot be written to, and where two files would get one name.
        """
        if "\0" in path:
            raise FleetError(path, "holds a NUL byte")
        self._remote = tuple(remote)
        _check_names(remote)
        if flat:
            _check_flat_names(hosts)
        self._flat = flat
        self._lock = threading.Lock()
        self._taken: dict[Identity, str] = {}
        try:
            os.makedirs(path, exist_ok=True)
            # Open from here on: whatever happens to the path, this is the folder.
            self._top = Folder(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), path)
        except OSError as error:
            raise FleetError(path, (error.strerror or str(error)).lower()) from None
        if not os.access(path, os.W_OK | os.X_OK):
            read_only = os.fstatvfs(self._top.fd).f_flag & os.ST_RDONLY  # access(2) may not write there either
            raise FleetError(path, "read-only file system" if read_only else "permission denied")
        if flat:
            sweep(self._top)  # once for all hosts, whose files lie side by side here
        space = os.fstatvfs(self._top.fd)
        self.options = ReceiverOptions(
            preserve=limits.preserve,
            quick=limits.quick,
            exclude=limits.exclude,
            umask=_umask(),
            max_size=limits.max_size,
            max_files=limits.max_files,
            min_free=min(space.f_blocks * space.f_frsize // _FREE_PART, _MOST_FREE),
        )

    def __del__(self) -> None:
        if hasattr(self, "_top"):
            self._top.release()

    @contextmanager
    def open(self, host: str) -> Iterator[tuple[Folder, Asked]]:
        """Open the folder that a host's files go into; with it comes what says where in it a path belongs.

        One that was made for it and stays empty is not left behind. Raises LandingError for one that cannot be used.
        """
        name = file_name(host)
        # Of its own for each host: folders are counted, and counting is not for several threads.
        top = Folder(os.dup(self._top.fd), self._top.path)
        try:
            if self._flat:
                yield top, Asked(self._remote, f".{name}")
                return
            made = _make(top, name)
            folder = _enter(top, name)
            try:
                self._take(folder, host)
                sweep(folder)
                yield folder, Asked(self._remote)
            finally:
                folder.release()
                if made:
                    _remove_if_empty(top, name)
        finally:
            top.release()

    def _take(self, folder: Folder, host: str) -> None:
        """Note whose folder that is. On a file system that knows no case, Web1 and web1 would share one."""
        info = os.fstat(folder.fd)
        with self._lock:
            other = self._taken.setdefault((info.st_dev, info.st_ino), host)
        if other != host:
            raise LandingError(f"{folder.path} is the folder of {other} already")


def _check_names(remote: Sequence[str]) -> None:
    seen: dict[tuple[str, ...], str] = {}
    for path in remote:
        try:
            names = pull_names(path)
        except ValueError as error:
            raise FleetError("REMOTE", str(error), "name what is in it, or its directory with a pattern") from None
        other = seen.setdefault(names, path)
        if other != path and not any(map(is_pattern, names)):
            raise FleetError(path, f"has the same name as {other}, and both would go to one place", "pull them apart")


def _check_flat_names(hosts: Sequence[str]) -> None:
    """Refuse hosts of which one could write to the other's file: x.b of a is x of b.a."""
    names = {file_name(host): host for host in hosts}
    for name, host in names.items():
        parts = name.split(".")
        for start in range(1, len(parts)):
            other = names.get(".".join(parts[start:]))
            if other is not None:
                raise FleetError("--flat", f"files of {host} and of {other} could get the same name", "leave it out")


def _make(top: Folder, name: str) -> bool:
    """Make a host's folder, and return whether it was missing. Raises LandingError."""
    try:
        os.mkdir(name, dir_fd=top.fd)
    except FileExistsError:
        return False
    except OSError as error:
        raise LandingError(f"cannot make {top.join(name)}: {os.strerror(error.errno or 0).lower()}") from None
    return True


def _enter(top: Folder, name: str) -> Folder:
    try:
        return top.enter(name)
    except NotADirectoryError:
        raise LandingError(f"{top.join(name)} is there and is no directory; links are not followed") from None
    except OSError as error:
        raise LandingError(f"cannot enter {top.join(name)}: {os.strerror(error.errno or 0).lower()}") from None


def _remove_if_empty(top: Folder, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=top.fd)
    except OSError:  # it is not empty, which is the usual case
        pass


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
