"""Enrolling: making the keys of a host, the file that brings them to its agent, and the registry's note of it.

The order is what makes it safe to interrupt: all checks, then the enrolment files, then the registry, all under the
registry's lock. Cut off in between, there is a file that nothing refers to; never a note of keys that nobody has.
Nothing goes over a network: the file is carried by hand, by cloud-init or over ssh.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field

from agent.wire.constants import HOST_ID_LENGTH
from agent.wire.enrolment import MAX_EPOCH, Enrolment, dumps, name_fault
from agent.wire.handshake import derive_keys
from agent.wire.record import record
from controller.keyfile import ControllerKey
from controller.registry import Identity, Registry, replace_file, update

__all__ = ["SUFFIX", "EnrollError", "Enrolled", "enroll"]

SUFFIX = ".enrol"


class EnrollError(Exception):
    """`name` (a host, a pool or a path) cannot be enrolled, for `reason`; `hint` is the next step, if there is one."""

    def __init__(self, name: str, reason: str, hint: str | None = None) -> None:
        super().__init__(name, reason, hint)
        self.name = name
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@record
class Enrolled:
    """One enrolment: its `text` is what the agent needs, and `path` the file that holds it, if one was written."""

    name: str
    epoch: int
    path: str | None
    text: str = field(repr=False)


def enroll(
    key: ControllerKey,
    registry_path: str,
    hosts: Iterable[str] = (),
    *,
    pool: str | None = None,
    out_dir: str | None = None,
    force: bool = False,
    hand_out: Callable[[str], None] | None = None,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> list[Enrolled]:
    """Enroll hosts, or one pool that many like machines share, and note them in the registry.

    Files are ``OUT_DIR/NAME.enrol``, of mode 0600, in a folder that is made when it is missing; without `out_dir`
    there may be one name alone, whose text goes to `hand_out`: an error out of that leaves nothing enrolled. With
    `force` what is enrolled already gets a new epoch under the id it has: its old keys stop working once its agent has
    the new file.

    All or nothing: the first thing wrong with any name is raised before anything is written. Raises EnrollError, and
    RegistryError for the registry.
    """
    hosts = list(dict.fromkeys(hosts))  # a host named twice is enrolled once
    names = hosts if pool is None else [pool]
    _check_request(names, hosts, pool, out_dir)
    made: list[Enrolled] = []
    written: list[str] = []

    def change(before: Registry) -> Registry:
        known = before.hosts if pool is None else before.pools
        identities = {name: _identity(name, known, force, random_bytes) for name in names}
        made.extend(_make(key, name, identity, pool, out_dir) for name, identity in identities.items())
        if out_dir is not None:
            _write_files(made, out_dir, force, written)
        elif hand_out is not None:
            hand_out(made[0].text)
        return before.adding(hosts=identities) if pool is None else before.adding(pools=identities)

    try:
        update(registry_path, change)
    except BaseException:
        for path in written:  # what the registry does not know would only be carried to a host in vain
            os.unlink(path)
        raise
    return made


def _check_request(names: list[str], hosts: list[str], pool: str | None, out_dir: str | None) -> None:
    if pool is not None and hosts:
        raise EnrollError(pool, "a pool is enrolled once for all its hosts", "leave the host names out")
    if not names:
        raise EnrollError("enroll", "no host named", "fleet enroll HOST")
    for name in names:
        if fault := name_fault(name):
            raise EnrollError(ascii(name), f"not usable as a file name: it {fault}")
    if out_dir is None and len(names) > 1:
        raise EnrollError("enroll", f"{len(names)} hosts do not fit on standard output", "name a folder with: -o DIR")


def _identity(name: str, known: Mapping[str, Identity], force: bool, random_bytes: Callable[[int], bytes]) -> Identity:
    """Return the id and epoch to make keys for.

    The id is random and never made from the name: a machine that later gets a used name must not inherit its access.
    """
    old = known.get(name)
    if old is None:
        return Identity(random_bytes(HOST_ID_LENGTH), 1)
    if not force:
        raise EnrollError(name, f"enrolled already (epoch {old.epoch})", "make it new keys with: --force")
    if old.epoch == MAX_EPOCH:
        raise EnrollError(name, f"epoch {MAX_EPOCH} is the last", "take it out of the registry and enroll it anew")
    return Identity(old.host_id, old.epoch + 1)


def _make(key: ControllerKey, name: str, identity: Identity, pool: str | None, out_dir: str | None) -> Enrolled:
    keys = derive_keys(key.master, key.name, identity.host_id, identity.epoch)
    text = dumps(Enrolment(key.name, name, identity.host_id, identity.epoch, keys.stored_key, keys.server_key, pool))
    path = None if out_dir is None else os.path.join(out_dir, name + SUFFIX)
    return Enrolled(name, identity.epoch, path, text)


def _write_files(made: list[Enrolled], out_dir: str, force: bool, written: list[str]) -> None:
    """Write the files; `written` grows with each that is there."""
    paths = [os.path.join(out_dir, enrolled.name + SUFFIX) for enrolled in made]
    for path in paths:
        # It may be another controller's, or a pool's of the same name, and not yet carried to its agent.
        if not force and os.path.lexists(path):
            raise EnrollError(path, "there is such a file already", "replace it with: --force")
    target = out_dir
    try:
        os.makedirs(out_dir, mode=0o700, exist_ok=True)
        for enrolled, target in zip(made, paths, strict=True):
            replace_file(target, enrolled.text.encode(), mode=0o600)
            written.append(target)
    except OSError as error:
        raise EnrollError(target, (error.strerror or str(error)).lower()) from None
