"""The agent's folder: its settings, and one record for each controller that may log in.

    DIR/                     0700
    DIR/agent.toml           settings (see `agent.config`)
    DIR/controllers/         0700
    DIR/controllers/ops.enrol 0600: the verifier of controller `ops`, an enrolment as `fleet enroll` wrote it

A record's file name is made from the controller's name alone, and that name has passed the wire's pattern. Nothing is
used that others than its owner could have written or, where it holds a key, read.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.config import FILE_NAME, Listen, load, template
from agent.errors import AgentError
from agent.trusted import PRIVATE, UNWRITABLE, Folder, make_folders, read_file
from agent.wire import enrolment as enrolments
from agent.wire.enrolment import Enrolment, EnrolmentError
from agent.wire.handshake import Verifier
from agent.wire.record import record

__all__ = ["CONTROLLERS", "SUFFIX", "Added", "Keyring", "StoreError", "add", "open_folder"]

CONTROLLERS = "controllers"
SUFFIX = ".enrol"

_INIT = "fleet-agent init --enrolment FILE"


class StoreError(AgentError):
    """The agent's folder cannot be used, or a file is no enrolment."""


@record
class Added:
    """What `add` did: `replaced` says that this controller had a record before."""

    enrolment: Enrolment
    replaced: bool
    wrote_settings: bool


@record
class Keyring:
    """The controllers that may log in, by name, as they were when it was loaded."""

    records: Mapping[str, Enrolment]

    @classmethod
    def load(cls, directory: Folder) -> Keyring:
        """Read all records. One bad record spoils the whole: half a key ring would deny access without a word.

        Raises StoreError or TrustError.
        """
        try:
            folder = directory.inner(CONTROLLERS, forbidden=PRIVATE)
        except FileNotFoundError:
            return cls({})
        with folder:
            names = [name for name in folder.names() if name.endswith(SUFFIX)]
            records = [_read_record(folder, name) for name in names]
        return cls({record.controller: record for record in records})

    def lookup(self, controller: str, host_id: bytes, epoch: int) -> Verifier | None:
        """Return what checks this controller's proof, or None when it has no record with this id and epoch."""
        record = self.records.get(controller)
        if record is None or (record.host_id, record.epoch) != (host_id, epoch):
            return None
        return Verifier(record.stored_key, record.server_key)


def open_folder(path: str) -> Folder:
    """Open the agent's folder. Raises StoreError when there is none, TrustError when others may write it."""
    try:
        return Folder.open(path, forbidden=UNWRITABLE)
    except FileNotFoundError:
        raise StoreError(path, "there is no such folder", _INIT) from None


def add(path: str, enrolment_path: str, *, listen: Listen | None = None) -> Added:
    """Take an enrolment file into the agent's folder, which is made when it is missing.

    The record of the same controller is replaced, atomically; others stay. `listen` goes into a new `agent.toml`; one
    that is there is never changed. Raises StoreError, TrustError or ConfigError, and then nothing was added.
    """
    record = _parse(read_file(enrolment_path, limit=enrolments.MAX_TEXT_BYTES), enrolment_path)
    make_folders(f"{path.rstrip('/')}/{CONTROLLERS}")
    with open_folder(path) as directory, directory.inner(CONTROLLERS, forbidden=PRIVATE) as folder:
        wrote_settings = _settle(directory, listen)
        name = record.controller + SUFFIX
        replaced = name in folder.names()  # not read: a new enrolment is also how a spoilt record is mended
        folder.replace(name, enrolments.dumps(record))
    return Added(record, replaced, wrote_settings)


def _settle(directory: Folder, listen: Listen | None) -> bool:
    """Make sure that there are settings, and that they say what was asked for. Returns whether they were written."""
    if FILE_NAME not in directory.names():
        directory.replace(FILE_NAME, template(listen or Listen()))
        return True
    settings = load(directory)
    if listen is not None and settings.listen != listen:
        file = f"{directory.path}/{FILE_NAME}"
        raise StoreError(file, f"says listen = {str(settings.listen)!r}, not {str(listen)!r}", "change it there")
    return False


def _read_record(folder: Folder, name: str) -> Enrolment:
    record = _parse(folder.read(name, limit=enrolments.MAX_TEXT_BYTES), f"{folder.path}/{name}")
    if record.controller + SUFFIX != name:
        # Else one controller could stand under two names, and removing the one would not shut it out.
        raise StoreError(f"{folder.path}/{name}", f"holds the record of controller {record.controller}")
    return record


def _parse(text: str, path: str) -> Enrolment:
    try:
        return enrolments.loads(text)
    except EnrolmentError as error:
        raise StoreError(path, error.reason, "make a new one with: fleet enroll --force HOST") from None
