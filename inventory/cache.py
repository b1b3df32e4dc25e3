"""The kept output of inventory scripts, so that ten commands in a row ask the cloud once.

Off unless asked for. What is kept may hold secrets and decides where commands run, so the rule: a file that
anybody else could have written or read is not believed, and is written anew.
"""

import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from inventory.errors import printable


@dataclass(frozen=True, slots=True)
class Cache:
    """A directory of kept texts, each believed for `seconds` after it was written.

    The environment of a script is no part of the key: one that answers by `AWS_PROFILE` must not be kept.
    """

    directory: str
    seconds: float
    warn: Callable[[str], None]
    now: Callable[[], float] = time.time

    def get(self, script: str) -> str | None:
        """Return the text kept for `script`, or None when there is none that can be used."""
        path = self._path(script)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._ignore(path, (error.strerror or str(error)).lower())
            return None
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                self._ignore(path, "others may read or write it")
                return None
            # A time to come is a clock that was set back; nobody knows how old such a text is.
            if not 0 <= self.now() - status.st_mtime < self.seconds:
                return None
            data = stream.read()
        return self._text(script, path, data)

    def put(self, script: str, text: str) -> None:
        """Keep `text` for `script`; that it cannot be kept is a warning, the text is as good without."""
        path = self._path(script)
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self.directory)
            try:
                with open(descriptor, "w", encoding="utf-8") as stream:
                    json.dump(self._stamp(script) | {"text": text}, stream)
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            self.warn(f"{printable(path)}: cannot be kept ({(error.strerror or str(error)).lower()})")

    def _text(self, script: str, path: str, data: bytes) -> str | None:
        try:
            kept = json.loads(data)
        except (ValueError, RecursionError):
            kept = None
        text = kept.pop("text", None) if isinstance(kept, dict) else None
        if not isinstance(text, str):
            self._ignore(path, "not what was written")
            return None
        try:
            # A script that was changed since gives other hosts; what it gave before is of no use.
            return text if kept == self._stamp(script) else None
        except OSError:
            return None

    def _path(self, script: str) -> str:
        name = hashlib.sha256(os.fsencode(os.path.abspath(script))).hexdigest()[:32]
        return os.path.join(self.directory, f"inventory-{name}.json")

    def _stamp(self, script: str) -> dict[str, object]:
        status = os.stat(script)
        return {"script": os.path.abspath(script), "mtime_ns": status.st_mtime_ns, "size": status.st_size}

    def _ignore(self, path: str, reason: str) -> None:
        self.warn(f"{printable(path)}: not used ({reason})")


def default_directory() -> str:
    """Return `$XDG_CACHE_HOME/fleet`; by the XDG base directory specification a relative path there counts as unset."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "fleet")
