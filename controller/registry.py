"""Which host id and epoch each host has: `enrolled.json`, beside the key or in a team's git. No secrets in it.

    {"fleet": "registry/1", "hosts": {NAME: {"host_id": HEX, "epoch": N}}, "pools": {NAME: {...}}}

Reading gives a frozen `Registry`. Writing is one function, `update`: it locks, reads again, changes and replaces, so
that of two at once neither loses what the other noted, and a crash leaves the old file or the new one. A file that
cannot be read is an error and is left as it is: to take it for empty would give known hosts new ids.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field

from agent.wire.codec import decode_json
from agent.wire.constants import HOST_ID_LENGTH
from agent.wire.enrolment import MAX_EPOCH, is_epoch, name_fault, parse_hex
from agent.wire.record import record

__all__ = ["FILE_NAME", "Identity", "Registry", "RegistryError", "load", "replace_file", "update"]

FILE_NAME = "enrolled.json"

_FORMAT = "registry/1"
_MAX_BYTES = 64 * 1024 * 1024  # half a million hosts
_RESTORE = "restore it from a backup or from git; a host's entry can be made anew with: fleet enroll --force HOST"


class RegistryError(Exception):
    """The registry at `path` cannot be used, for `reason`; `hint` is the next step, if there is one."""

    def __init__(self, path: str, reason: str, hint: str | None = None) -> None:
        super().__init__(path, reason, hint)
        self.path = path
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@record
class Identity:
    """What a host's keys are stretched with: 16 random bytes, and a number that grows with each enrolment."""

    host_id: bytes
    epoch: int


@record
class Registry:
    """The enrolled hosts and pools, by name."""

    hosts: Mapping[str, Identity] = field(default_factory=dict)
    pools: Mapping[str, Identity] = field(default_factory=dict)

    def lookup(self, host: str, pool: str | None = None) -> Identity | None:
        """Return what to log in with at `host`, whose inventory names `pool` or none; None if not enrolled."""
        return self.hosts.get(host) if pool is None else self.pools.get(pool)

    def adding(
        self, *, hosts: Mapping[str, Identity] | None = None, pools: Mapping[str, Identity] | None = None
    ) -> Registry:
        """Return a registry with these added, or in the place of what had their names."""
        return Registry({**self.hosts, **(hosts or {})}, {**self.pools, **(pools or {})})


def load(path: str) -> Registry:
    """Read a registry; where there is no file nobody is enrolled. Raises RegistryError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Registry()
    except OSError as error:
        raise RegistryError(path, _text_of(error)) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RegistryError(path, "is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise RegistryError(path, _text_of(error)) from None
    finally:
        os.close(descriptor)
    if len(data) > _MAX_BYTES:
        raise RegistryError(path, f"is longer than {_MAX_BYTES} bytes")
    try:
        return _parse(data)
    except ValueError as error:
        raise RegistryError(path, str(error), _RESTORE) from None


def update(path: str, change: Callable[[Registry], Registry]) -> Registry:
    """Replace the registry by what `change` makes of it, while nobody else can. Returns the new one.

    `change` is given what the file holds once the lock is ours; when it raises, the file stays as it was. A missing
    file is made, the folder must be there. Raises RegistryError, and what `change` raises.
    """
    path = os.path.realpath(path)  # a link into a git checkout stays one
    with _locked(path):
        before = load(path)
        after = change(before)
        if after != before:
            try:
                mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644
                replace_file(path, _dumps(after).encode(), mode=mode)
            except OSError as error:
                raise RegistryError(path, _text_of(error)) from None
        return after


def replace_file(path: str, data: bytes, *, mode: int) -> None:
    """Write a file whole or not at all, also after a power cut, with exactly this mode. Raises OSError."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name[:100]}.{os.urandom(8).hex()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the registry's lock. The lock file stays: whoever removed it could leave two with a lock each."""
    lock = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.lock")
    try:
        # Writable, because flock(2) on NFS takes an exclusive lock on nothing else; hence no lock on the folder.
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        raise RegistryError(
            path, "its folder does not exist", f"mkdir -p {shlex.quote(os.path.dirname(path))}"
        ) from None
    except OSError as error:
        raise RegistryError(lock, _text_of(error)) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _dumps(registry: Registry) -> str:
    """Return the text of the file: sorted and one value a line, so that git can merge two people's enrolments."""
    document = {"fleet": _FORMAT, "hosts": _plain(registry.hosts), "pools": _plain(registry.pools)}
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _plain(identities: Mapping[str, Identity]) -> dict[str, dict[str, object]]:
    return {name: {"host_id": entry.host_id.hex(), "epoch": entry.epoch} for name, entry in identities.items()}


def _parse(data: bytes) -> Registry:
    """Read the bytes of the file. Raises ValueError.

    What is not known is refused, not ignored: writing the file again would lose it.
    """
    document = decode_json(data)
    if document.get("fleet") != _FORMAT:
        raise ValueError(f"not a fleet registry: it does not say {_FORMAT}")
    if unknown := sorted(set(document) - {"fleet", "hosts", "pools"}):
        raise ValueError(f"unknown key {unknown[0]!r}: written by a later fleet?")
    return Registry(_identities(document, "hosts"), _identities(document, "pools"))


def _identities(document: Mapping[str, object], section: str) -> Mapping[str, Identity]:
    entries = document.get(section)
    if not isinstance(entries, dict):
        raise ValueError(f"{section!r} is not an object")
    return {name: _identity(name, entry, section) for name, entry in entries.items()}


def _identity(name: str, entry: object, section: str) -> Identity:
    where = f"{section}: {name!r}"
    if fault := name_fault(name):
        raise ValueError(f"{where} {fault}")
    if not isinstance(entry, dict) or set(entry) != {"host_id", "epoch"}:
        raise ValueError(f"{where} is not an object of host_id and epoch")
    host_id, epoch = parse_hex(entry["host_id"], HOST_ID_LENGTH), entry["epoch"]
    if host_id is None:
        raise ValueError(f"{where}: host_id is not {2 * HOST_ID_LENGTH} lower-case hexadecimal digits")
    if not is_epoch(epoch):
        raise ValueError(f"{where}: epoch is not in 1..{MAX_EPOCH}")
    return Identity(host_id, epoch)


def _text_of(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
