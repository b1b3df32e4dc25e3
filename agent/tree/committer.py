"""The last step of a batch: what has come is synced, takes its place, and lasts before anybody is told so.

A tree is synced in batches: the data of all its files first, then the renames, then the directories.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from agent.tree.errors import FileError
from agent.tree.keeping import Keeper, nothing
from agent.tree.options import ReceiverOptions
from agent.tree.paths import Folder
from agent.tree.patterns import Patterns
from agent.tree.plans import Plan, attributes
from agent.tree.removal import remove
from agent.tree.seal import Seal
from agent.tree.syncing import SYNCED_ONE_BY_ONE, sync_file_systems, sync_new_files
from agent.tree.writer import Temporary, is_ours, temporary_name, unlink_quietly
from agent.wire.file_messages import FileStatus, Kind, Outcome

__all__ = ["Committer", "Hooks", "Validation"]


class Validation(Protocol):
    """A command that looks at a new file."""

    def fileno(self) -> int:
        """Return what turns readable when there is something to `poll`."""

    def poll(self) -> str | None:
        """Return None while it runs, "" when it was content, else what is wrong."""

    def close(self) -> None:
        """End it."""


class Hooks:
    """What the side that owns a receiver does for it; these do nothing."""

    def using(self, folder: Folder, name: str) -> None:
        """A temporary name is about to be made: tells whoever sweeps after a crash."""

    def validate(self, path: str) -> Validation:
        """Start the operator's command on a new file. Raises FileError."""
        raise FileError("validate", "there is no command")

    def replaced(self, path: str, backup: str, old: str, new: str) -> bool:
        """Something is about to be replaced or deleted and kept as `backup`; return whether it can be put back.

        `old` and `new` are the states (see `states`) of what was there and of what will be. Raises FileError.
        """
        return False

    def synced(self) -> None:
        """A batch has taken its place."""


class _TemporaryNames:
    """Makes names beside others, for links and directories, and tells `using` of each before it is used.

    Not a method of the committer, which would hold itself then, and what it holds until the next collection.
    """

    def __init__(self, token: str, using: Callable[[Folder, str], None]) -> None:
        self._token = token
        self._using = using
        self._count = 0

    def __call__(self, folder: Folder, name: str) -> str:
        self._count += 1
        temporary = temporary_name(name, f"{self._token}l{self._count:x}")
        self._using(folder, temporary)
        return temporary


class Committer:
    """Puts plans into effect, in their order. `find` opens a plan's folder."""

    def __init__(
        self,
        options: ReceiverOptions,
        token: str,
        hooks: Hooks,
        find: Callable[[tuple[str, ...]], Folder],
        place: Callable[[str], tuple[str, ...]],
    ) -> None:
        self._options = options
        self._hooks = hooks
        self._find = find
        self._place = place
        self._excluded = Patterns(options.exclude)
        self._temporary_name = _TemporaryNames(token, hooks.using)
        self._keeper = Keeper(options.backup, hooks.replaced, self._temporary_name)
        self._touched: dict[tuple[int, int], Folder] = {}
        self._last_touched: Folder | None = None  # among them
        self._anew: set[tuple[str, ...]] = set()  # in a check: files of several names, each of which would be another
        self.validation: Validation | None = None

    def commit(self, plans: list[Plan]) -> Generator[bool, None, list[Outcome]]:
        """Put ready plans into effect and return their outcomes; yields False to wait for a validation."""
        deleted: list[Outcome] = []
        sync_new_files([plan for plan in plans if plan.temporary is not None])
        try:
            for plan in plans:
                if plan.error is not None:
                    continue
                try:
                    yield from self._apply(plan, deleted)
                except FileError as error:
                    plan.fail(error)
                except OSError as error:
                    plan.fail(FileError.from_os("enter its directory", error))
            fault = self._sync_folders()
        finally:
            self._release()
        for plan in plans:
            if fault is not None and plan.status is FileStatus.CHANGED:
                plan.fail(fault)
        self._hooks.synced()
        reported = [plan for plan in plans if plan.entry.kind is not Kind.LEAVE or plan.changes or plan.error]
        return deleted + [plan.outcome() for plan in reported]

    def close(self) -> None:
        """Give back what is open. A validation has ended with the `commit` that it belongs to."""
        self._release()

    # One entry ------------------------------------------------------------------------------------------------------

    def _apply(self, plan: Plan, deleted: list[Outcome]) -> Iterator[bool]:
        kind = plan.entry.kind
        if kind is Kind.FILE and plan.temporary is not None:
            yield from self._replace(plan)
        elif kind is Kind.FILE and plan.same:
            self._set_attributes(plan)
        elif kind is Kind.SYMLINK:
            yield from self._symlink(plan)
        elif kind is Kind.FILE and self._options.check:
            if plan.old is not None and plan.old_is_file and plan.old.st_nlink > 1:
                self._anew.add(plan.names)
        elif kind is Kind.HARDLINK and self._options.check:
            self._check_hardlink(plan)
        elif kind is Kind.HARDLINK:
            yield from self._hardlink(plan)
        elif kind is Kind.DIRECTORY and plan.created and plan.names and not self._options.check:
            self._touch(self._folder_of(plan))
        elif kind is Kind.LEAVE and (plan.old is not None or plan.created):
            if plan.listed is not None:
                yield from self._delete(plan, deleted)
            self._set_attributes(plan)

    def _replace(self, plan: Plan) -> Iterator[bool]:
        """Let a new file take its place."""
        temporary = plan.temporary
        assert temporary is not None
        folder = temporary.folder
        if self._options.validate:
            yield from self._validate(temporary, plan)
        undo = yield from self._keeper.keep(folder, temporary.target, plan, temporary.name)
        self._touch(folder)
        try:
            temporary.replace()
        except FileError:
            undo()
            plan.kept = False
            raise
        plan.temporary = None

    def _validate(self, temporary: Temporary, plan: Plan) -> Iterator[bool]:
        """Have a new file looked at. What the command has done to it is asked when the command is dead."""
        seal = Seal(temporary, times=self._options.preserve)
        try:
            self.validation = validation = self._hooks.validate(temporary.folder.join(temporary.name))
            try:
                while (verdict := validation.poll()) is None:
                    yield False
            finally:
                validation.close()
                self.validation = None
            if verdict:
                raise FileError("", f"not valid: {verdict}")
            yield from seal.check(plan.sha256)
        finally:
            seal.close()

    def _set_attributes(self, plan: Plan) -> None:
        """Give a file or directory that is there what it lacks."""
        wanted, words = attributes(self._options, plan, new=False)
        if plan.entry.kind is Kind.LEAVE and plan.created:
            words = ["mode"]
        if not plan.created:
            plan.changes += words
        if words and not plan.created:
            plan.status = FileStatus.CHANGED
        if not words or self._options.check:
            return
        folder = self._folder_of(plan) if plan.names else self._find(())
        fd = _open_to_change(folder, plan)
        try:
            wanted.apply(fd)
        finally:
            os.close(fd)
        self._touch(folder)

    def _symlink(self, plan: Plan) -> Iterator[bool]:
        if self._options.check:
            return
        folder, name, target = self._folder_of(plan).hold(), plan.names[-1], plan.entry.target
        try:
            if not plan.same:
                temporary = self._temporary_name(folder, name)
                os.symlink(target, temporary, dir_fd=folder.fd)
                yield from self._take_place(folder, temporary, name, plan)
            owner, group = self._options.owner, self._options.group
            if owner is not None or group is not None:
                ids = (-1 if owner is None else owner, -1 if group is None else group)
                os.chown(name, *ids, dir_fd=folder.fd, follow_symlinks=False)
        except OSError as error:
            raise FileError.from_os("make the link", error) from None
        finally:
            folder.release()

    def _check_hardlink(self, plan: Plan) -> None:
        """See whether a link is there, and would stay: not where the file that it is another name of is replaced."""
        first_names = self._place(plan.entry.target)
        if plan.old is None or first_names in self._anew:
            return
        try:
            info = self._find(first_names[:-1]).lstat(first_names[-1])
        except OSError:  # its directory is still to be made
            return
        if info is not None and _is_that(info, plan):
            plan.size = info.st_size

    def _hardlink(self, plan: Plan) -> Iterator[bool]:
        folder, name = self._folder_of(plan).hold(), plan.names[-1]
        try:
            first_names = self._place(plan.entry.target)
            first = self._find(first_names[:-1])
            info = first.lstat(first_names[-1])
            if info is None or not stat.S_ISREG(info.st_mode):
                raise FileError("make the link", "the file that it is another name of is not there")
            plan.size = info.st_size
            if _is_that(info, plan):
                return
            temporary = self._temporary_name(folder, name)
            os.link(first_names[-1], temporary, src_dir_fd=first.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
            yield from self._take_place(folder, temporary, name, plan)
        except OSError as error:
            raise FileError.from_os("make the link", error) from None
        finally:
            folder.release()

    def _take_place(self, folder: Folder, temporary: str, name: str, plan: Plan) -> Iterator[bool]:
        undo = nothing
        try:
            undo = yield from self._keeper.keep(folder, name, plan, temporary)
            os.rename(temporary, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        except BaseException:  # also when the transfer is given up while it waits here
            undo()
            plan.kept = False
            raise
        finally:
            # Where both were names of one file, rename(2) has done nothing, and left the temporary one.
            unlink_quietly(folder, temporary)
        self._touch(folder)

    def _delete(self, plan: Plan, deleted: list[Outcome]) -> Iterator[bool]:
        """Remove what is in a directory and not in the sender's."""
        assert plan.listed is not None
        folder = self._find(plan.names).hold()
        suffix, check = self._options.backup, self._options.check
        prefix = "" if plan.entry.path == "." else plan.entry.path + "/"
        try:
            for name in folder.names():
                if name in plan.listed or is_ours(name) or (suffix and name.endswith(suffix)):
                    continue
                info = folder.lstat(name)
                if info is None or self._excluded.match(prefix + name, folder=stat.S_ISDIR(info.st_mode)):
                    continue
                if suffix is None:
                    deleted += remove(folder, name, check=check)
                else:
                    deleted.append((yield from self._keeper.set_aside(folder, name, check=check)))
                self._touch(folder)
        finally:
            folder.release()

    # Folders --------------------------------------------------------------------------------------------------------

    def _folder_of(self, plan: Plan) -> Folder:
        try:
            return self._find(plan.names[:-1])
        except OSError as error:
            raise FileError.from_os("enter its directory", error) from None

    def _touch(self, folder: Folder) -> None:
        """Note that the names in a folder change."""
        if folder is self._last_touched:
            return
        info = os.fstat(folder.fd)
        key = (info.st_dev, info.st_ino)
        if key not in self._touched:
            self._touched[key] = folder.hold()
            self._last_touched = folder

    def _sync_folders(self) -> FileError | None:
        folders = list(self._touched.values())
        try:
            if len(folders) > SYNCED_ONE_BY_ONE:
                sync_file_systems(folders)
            else:
                for folder in folders:
                    folder.sync()
        except OSError as error:
            return FileError.from_os("sync the directory", error)
        return None

    def _release(self) -> None:
        for folder in self._touched.values():
            folder.release()
        self._touched.clear()
        self._last_touched = None


def _is_that(info: os.stat_result, plan: Plan) -> bool:
    """Whether a link's plan has the file of that other name already; then nothing changes."""
    if plan.old is None or (plan.old.st_dev, plan.old.st_ino) != (info.st_dev, info.st_ino):
        return False
    plan.status = FileStatus.UNCHANGED
    plan.changes.clear()
    return True


def _open_to_change(folder: Folder, plan: Plan) -> int:
    """Open what is there to change its attributes: it must be what was looked at. Raises FileError."""
    name = plan.names[-1] if plan.names else "."
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
    except OSError as error:
        raise FileError.from_os("change its attributes", error) from None
    info = os.fstat(fd)
    if plan.old is not None and (info.st_dev, info.st_ino) != (plan.old.st_dev, plan.old.st_ino):
        os.close(fd)
        raise FileError("change its attributes", "it was replaced meanwhile")
    return fd
