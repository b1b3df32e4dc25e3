"""The controller's key: one line of text in a file that nobody else can read.

    fleet-key-1 NAME 64-HEX-DIGITS

The 32 bytes are the master secret that every host's keys are stretched from, and NAME is who the agents know this
controller as. There is no passphrase: proofs are safe against guessing because the secret is random, all of it. No
error repeats what the file holds.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Callable, Mapping
from dataclasses import field

from agent.wire.handshake import CONTROLLER_NAME
from agent.wire.record import record

__all__ = ["ControllerKey", "KeyFileError", "create", "default_name", "default_path", "load"]

_LABEL = "fleet-key-1"
_MASTER_LENGTH = 32
_MAX_BYTES = 4096
_LINE = re.compile(rf"{_LABEL} (\S+) ([0-9a-f]*)")


class KeyFileError(Exception):
    """The key file at `path` cannot be used or made, for `reason`; `hint` is the next step, if there is one."""

    def __init__(self, path: str, reason: str, hint: str | None = None) -> None:
        super().__init__(path, reason, hint)
        self.path = path
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@record
class ControllerKey:
    """A controller's name and its master secret of 32 bytes."""

    name: str
    master: bytes = field(repr=False)


def default_path(environment: Mapping[str, str]) -> str:
    """Return where the key is unless told otherwise: ``$XDG_CONFIG_HOME/fleet/key`` (XDG base directories)."""
    base = environment.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):  # "all paths must be absolute", and a relative one is to be ignored
        base = os.path.join(environment.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(base, "fleet", "key")


def default_name(login: str) -> str:
    """Make a login name fit for a controller's: lower case, and what does not fit becomes a dash."""
    name = re.sub(r"[^a-z0-9._-]", "-", login.lower()).lstrip("._-")[:64]
    return name or "controller"


def create(path: str, name: str, *, random_bytes: Callable[[int], bytes] = os.urandom) -> ControllerKey:
    """Make a new key and its file, closed to others from the first byte. Never overwrites. Raises KeyFileError."""
    if not CONTROLLER_NAME.fullmatch(name):
        reason = f"{name!r} is no name for a controller: 1 to 64 of a-z 0-9 . _ -, first a letter or digit"
        raise KeyFileError(path, reason, "fleet init --name NAME")
    key = ControllerKey(name, random_bytes(_MASTER_LENGTH))
    text = f"# The key of a fleet controller. Whoever reads it is {name} on every host.\n"
    text += f"{_LABEL} {name} {key.master.hex()}\n"
    folder = os.path.dirname(os.path.abspath(path))
    try:
        _make_folders(folder)
    except OSError as error:
        raise KeyFileError(path, f"cannot make its folder: {_text_of(error)}") from None
    try:
        _write_new(path, folder, text.encode())
    except FileExistsError:
        # A second key would make every enrolled host a stranger.
        raise KeyFileError(path, "there is a key already", "move it away first, or choose another file") from None
    except OSError as error:
        raise KeyFileError(path, _text_of(error)) from None
    return key


def load(path: str) -> ControllerKey:
    """Read a key, after its owner and mode were checked on the open file. Raises KeyFileError.

    A symbolic link is followed, as ssh does; what it leads to must be closed to others.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not make us wait
    except FileNotFoundError:
        raise KeyFileError(path, "there is no such file", "fleet init") from None
    except OSError as error:
        raise KeyFileError(path, _text_of(error)) from None
    try:
        _check(os.fstat(descriptor), path, uid=os.geteuid())
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise KeyFileError(path, _text_of(error)) from None
    finally:
        os.close(descriptor)
    return _parse(data, path)


def _check(info: os.stat_result, path: str, *, uid: int) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise KeyFileError(path, "is not a regular file")
    if info.st_uid != uid and uid != 0:
        raise KeyFileError(path, f"belongs to user {info.st_uid}, expected {uid}")
    mode = stat.S_IMODE(info.st_mode)
    if mode & 0o077:
        hint = f"chmod 600 {shlex.quote(path)}"
        raise KeyFileError(path, f"is open to its group or others (mode {mode:04o})", hint)


def _parse(data: bytes, path: str) -> ControllerKey:
    if len(data) > _MAX_BYTES:
        raise KeyFileError(path, f"is longer than {_MAX_BYTES} bytes: not a key")
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        raise KeyFileError(path, "is not UTF-8: not a key") from None
    kept = [line for line in lines if line and not line.startswith("#")]
    if len(kept) != 1 or (match := _LINE.fullmatch(kept[0])) is None:
        raise KeyFileError(path, f'is no key: expected one line "{_LABEL} NAME HEX"')
    name, digits = match.groups()
    if not CONTROLLER_NAME.fullmatch(name):
        raise KeyFileError(path, "holds a malformed controller name")
    if len(digits) != 2 * _MASTER_LENGTH:
        raise KeyFileError(path, f"holds {len(digits)} hexadecimal digits, expected {2 * _MASTER_LENGTH}")
    return ControllerKey(name, bytes.fromhex(digits))


def _make_folders(folder: str) -> None:
    """Make a folder and what is missing above it, each 0700: makedirs gives its mode to the last alone."""
    if not os.path.isdir(folder):
        _make_folders(os.path.dirname(folder))
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):  # else somebody was quicker
                raise


def _write_new(path: str, folder: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)  # else the name may not outlive a power cut
        finally:
            os.close(directory)
    except BaseException:
        os.unlink(path)  # half a key helps nobody and would be in the way of the next try
        raise


def _text_of(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
