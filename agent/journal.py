"""What the agent remembers of transfers, in its own folder: where temporary names may lie, and what pushes replaced.

    DIR/transfers/TOKEN          one line for each directory in which a transfer under way makes temporary names
    DIR/transfers/TIME-TOKEN.undo  a push with backups: who and when, then one line for each file it replaced, if any

A record of the first kind is locked while its transfer lives, by a lock that the kernel takes back however that ends.
So at its start the agent can tell what a dead one left, and removes that alone: names that hold the record's token,
and remains that the next transfer could go on from: those of a transfer that died with its agent at once, those of one
that was cut off after a day in which nobody has come back for them.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, fields

from agent.log import log
from agent.tree.errors import FileError
from agent.tree.paths import Folder, Links, walk
from agent.tree.writer import is_ours, part_name, unlink_quietly
from agent.wire.record import record

__all__ = ["FOLDER", "Journal", "Record", "Replaced", "Undo", "open_and_sweep"]

FOLDER = "transfers"

_UNDO = ".undo"
_KEPT = 16  # pushes of one controller that can be rolled back
_KEPT_EMPTY = 64  # those that replaced nothing: a push every hour must not drive out the last one that did
_PART_LIVES = 24 * 3600.0  # seconds
_CUT_OFF = "true\n"  # the last line of the record of a transfer that did not die
_REMEMBERED = 256  # folders that need no second line
_PART_END = part_name("")[1:]
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


@record
class Replaced:
    """What a push replaced or deleted: its path, the path of its backup, and the states of the old and the new.

    A state is the SHA-256 of a file; of other things, and of nothing, see `agent.tree.states`.
    """

    path: str
    backup: str
    old: str
    new: str


_KEYS = tuple(field.name for field in fields(Replaced))


@record
class Undo:
    """One push with backups. `name` is its file, `run` the controller's id of it; `empty` if it replaced nothing."""

    name: str
    controller: str
    run: str
    empty: bool = False


class Record:
    """The record of one transfer under way."""

    def __init__(self, folder: int, token: str) -> None:
        """Make it. Raises OSError."""
        self._folder = folder
        self._token = token
        self._fd = os.open(token, _APPEND, 0o600, dir_fd=folder)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._known: set[str] = set()

    def note(self, path: str) -> None:
        """Note a directory in which a temporary name is about to be made. Raises OSError."""
        if path not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            os.write(self._fd, json.dumps(path).encode("ascii") + b"\n")
            self._known.add(path)

    def close(self, *, clean: bool) -> None:
        """End it. After a clean end there is nothing to remember, else that it was cut off. Raises OSError."""
        try:
            if clean:
                os.unlink(self._token, dir_fd=self._folder)
            else:
                os.write(self._fd, _CUT_OFF.encode("ascii"))
        finally:
            os.close(self._fd)


class Journal:
    """The folder of records. May be used from any thread."""

    def __init__(self, fd: int) -> None:
        """Take over the descriptor of an open folder that is ours alone."""
        self._fd = fd

    @classmethod
    def open(cls, directory: str) -> Journal:
        """Open the journal in the agent's folder, and make it if there is none. Raises OSError."""
        path = os.path.join(directory, FOLDER)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        info = os.fstat(fd)
        if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o077:
            os.close(fd)
            raise PermissionError(f"{path} is open to others")
        return cls(fd)

    def close(self) -> None:
        """Close the folder."""
        os.close(self._fd)

    def begin(self, token: str) -> Record:
        """Make the record of a transfer. Raises OSError."""
        return Record(self._fd, token)

    # Sweeping -------------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> int:
        """Remove what dead transfers left; return how many files. `now` is the wall clock, in seconds."""
        removed = 0
        for name in sorted(os.listdir(self._fd)):
            try:
                if name.endswith(_UNDO):
                    self._sweep_undo(name, now)
                else:
                    removed += self._sweep_one(name, now)
            except OSError as error:
                log.warning("cannot sweep the record %s: %s", name, os.strerror(error.errno or 0).lower())
        return removed

    def _sweep_one(self, name: str, now: float) -> int:
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        with open(fd, encoding="ascii", errors="replace") as file:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # its transfer lives, in another agent with the same folder
                return 0
            removed = 0
            parts_left = False
            lines = file.readlines()
            oldest = now - _PART_LIVES if lines[-1:] == [_CUT_OFF] else float("inf")
            for line in lines:
                swept, left = _sweep_folder(line, name, oldest)
                removed += swept
                parts_left = parts_left or left
            if not parts_left:
                os.unlink(name, dir_fd=self._fd)
        return removed

    def _sweep_undo(self, name: str, now: float) -> None:
        """Remove a record that ends before it says whose it is, and is nobody's who is just about to write that."""
        lines = self._lines(name)
        head = next(lines, None)
        lines.close()
        if head is None and now - os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mtime >= _PART_LIVES:
            os.unlink(name, dir_fd=self._fd)

    # Rolling back ---------------------------------------------------------------------------------------------------

    def begin_undo(self, controller: str, run: str, token: str) -> UndoWriter:
        """Make the record of a push with backups; the oldest ones of this controller go. Raises OSError.

        It is there also when nothing comes to be replaced: else a rollback of the last push would reach back to the
        one before.
        """
        mine = [undo for undo in self.undos() if undo.controller == controller]
        for empty, most in ((False, _KEPT), (True, _KEPT_EMPTY)):
            names = [undo.name for undo in mine if undo.empty is empty]
            for name in names[: max(0, len(names) - most + 1)]:
                os.unlink(name, dir_fd=self._fd)
        return UndoWriter(self._fd, f"{time.time_ns():020d}-{token}{_UNDO}", controller, run)

    def undos(self) -> list[Undo]:
        """Return the pushes with backups, the oldest first. Raises OSError."""
        found = []
        for name in sorted(name for name in os.listdir(self._fd) if name.endswith(_UNDO)):
            lines = self._lines(name)
            head = next(lines, None)
            if isinstance(head, dict):
                empty = next(lines, None) is None
                found.append(Undo(name, str(head.get("controller")), str(head.get("run")), empty))
            lines.close()
        return found

    def replaced(self, undos: Sequence[Undo]) -> Iterator[Replaced]:
        """Yield what pushes replaced, the last one first. Raises OSError."""
        for undo in reversed(undos):
            lines = list(self._lines(undo.name))[1:]
            for line in reversed(lines):
                values = [line.get(key) if isinstance(line, dict) else None for key in _KEYS]
                texts = [value for value in values if isinstance(value, str)]
                if len(texts) == len(_KEYS):
                    yield Replaced(*texts)

    def _lines(self, name: str) -> Generator[object, None, None]:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        with open(fd, encoding="ascii", errors="replace") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:  # the last line of an agent that was killed
                    return


class UndoWriter:
    """The record of one push with backups."""

    def __init__(self, folder: int, name: str, controller: str, run: str) -> None:
        """Make it. Raises OSError."""
        self._fd: int | None = os.open(name, _APPEND, 0o600, dir_fd=folder)
        self._synced = False
        try:
            self._write({"controller": controller, "run": run})
        except OSError:
            self.close()
            os.unlink(name, dir_fd=folder)
            raise

    def note(self, replaced: Replaced) -> None:
        """Note what is about to be replaced. Raises OSError."""
        self._write(asdict(replaced))

    def sync(self) -> None:
        """Make what was noted last. Raises OSError."""
        if self._fd is not None and not self._synced:
            os.fsync(self._fd)
            self._synced = True

    def close(self) -> None:
        """End it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, line: dict[str, str]) -> None:
        assert self._fd is not None
        self._synced = False
        os.write(self._fd, json.dumps(line).encode("ascii") + b"\n")


def open_and_sweep(directory: str, now: float) -> Journal | None:
    """Open the journal in the agent's folder, and remove what the transfers of a dead agent left.

    `now` is the wall clock, in seconds. Returns None, and says why in the log, when there can be no journal.
    """
    try:
        journal = Journal.open(directory)
        if removed := journal.sweep(now):
            log.info("removed %d temporary files of interrupted transfers", removed)
    except OSError as error:
        log.warning("cannot keep a journal of transfers in %s: %s", directory, (error.strerror or str(error)).lower())
        return None
    return journal


def _sweep_folder(line: str, token: str, oldest: float) -> tuple[int, bool]:
    """Remove what one transfer left in one directory: (how many files, whether there are remains to come back for).
    Those from before `oldest` go, on the wall clock in seconds."""
    try:
        path = json.loads(line)
        if not isinstance(path, str):
            return 0, False
        root = Folder.root()
        try:
            folder, rest = walk(root, f"{path}/", Links.NEVER)
        finally:
            root.release()
        assert not rest
    except (ValueError, FileError):  # a line that was cut, or a directory that is gone
        return 0, False
    removed, left = 0, False
    try:
        for name in folder.names():
            if name.startswith(".") and name.endswith(_PART_END):
                info = folder.lstat(name)
                if info is None or info.st_uid != os.geteuid() or not stat.S_ISREG(info.st_mode):
                    continue
                if info.st_mtime >= oldest or _is_under_way(folder, name):
                    left = True
                    continue
            elif not is_ours(name, token):
                continue
            unlink_quietly(folder, name)
            removed += 1
    except FileError:
        return removed, left
    finally:
        folder.release()
    return removed, left


def _is_under_way(folder: Folder, name: str) -> bool:
    """Whether a transfer writes there now, perhaps one of another agent."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there are no locks on that file system
        return False
    finally:
        os.close(fd)
    return False
