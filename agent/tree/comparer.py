"""The first step of a batch: each entry against what is there. Directories are made here, so that others fit in."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Generator

from agent.tree.committer import Hooks
from agent.tree.content import digest_of
from agent.tree.errors import FileError
from agent.tree.options import ReceiverOptions
from agent.tree.paths import Cursor, Folder, check_name
from agent.tree.plans import Plan, attributes, lost_bits, refuse_what_is_there
from agent.tree.writer import WORTH_KEEPING, Attributes, take_part, temporary_name
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import TOP, Entry, FileStatus, Kind, Want

__all__ = ["Comparer"]

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DEEPEST = 2048  # directories within directories; a path of 4096 bytes holds no more


class Comparer:
    """Makes the plans of a transfer into `base`, in the order of its entries."""

    def __init__(
        self,
        base: Folder,
        place: Callable[[str], tuple[str, ...]],
        options: ReceiverOptions,
        token: str,
        hooks: Hooks,
        *,
        made: bool = False,
    ) -> None:
        """`made` says that the base was made for this transfer, and is closed to others."""
        self._base = base
        self._made = made
        self._place = place
        self._options = options
        self._token = token
        self._hooks = hooks
        self._cursor = Cursor(base)
        self._count = self._parts = 0
        # The directories that the sender is in now: the plan of each, and the names listed there (for `delete`).
        self._inside: dict[str, tuple[Plan, set[str]]] = {}
        self._closed: dict[tuple[str, ...], Plan] = {}  # directories that were made, until they have their mode
        self._empty: set[tuple[str, ...]] = set()  # those of them that the sender is in: nothing was there before

    def find(self, names: tuple[str, ...]) -> Folder:
        """Return the folder of that name below the base, for use until the next call. Raises OSError."""
        return self._cursor.folder(names)

    def settled(self, plans: list[Plan]) -> None:
        """Note what has taken its place."""
        for plan in plans:
            if plan.entry.kind is Kind.LEAVE:
                self._closed.pop(plan.names, None)

    def open_directories(self) -> None:
        """Give the directories of a transfer that was cut off what they were to have in the end.

        The next transfer finds them, and leaves what is there as it is.
        """
        if self._made and not self._count:
            with contextlib.suppress(FileError):
                self._open_base(0o755)
        for names, plan in reversed(self._closed.items()):
            try:
                _open_to_others(self.find(names), attributes(self._options, plan, new=False)[0])
            except (FileError, OSError):  # it has gone, or is somebody else's now
                continue

    def close(self) -> None:
        """Give back what is open."""
        self._cursor.close()

    def compare(self, index: int, entry: Entry) -> Generator[bool, None, tuple[Plan, Want | None]]:
        """Return the plan of an entry, and what to ask the sender for; yields while it reads what is there.

        Raises RemoteProtocolError for an entry that nobody asked for.
        """
        self._count += entry.kind is not Kind.LEAVE
        if self._options.max_files is not None and self._count > self._options.max_files + 1:
            # One more than that is the sender's word that it stopped there.
            raise RemoteProtocolError(f"more than the {self._options.max_files} files that were asked for")
        names = self._place(entry.path)
        plan = Plan(index, entry, names, self._base.join("/".join(names)) if names else self._base.path)
        self._note_listed(entry)
        want = None
        try:
            if self._made and index == 0 and entry.path != TOP:
                self._open_base(0o755)  # nothing is to come of the base itself
            if entry.kind is Kind.FAILED:
                raise FileError("", entry.reason)
            if names:
                check_name(names[-1])
            if entry.kind is Kind.FILE:
                want = yield from self._file(plan)
            else:
                self._other(plan)
        except FileError as error:
            plan.fail(error)
        except OSError as error:
            plan.fail(FileError.from_os("enter its directory", error))
        plan.ready = want is None
        return plan, want

    def _note_listed(self, entry: Entry) -> None:
        above, _, name = entry.path.rpartition("/")
        if (inside := self._inside.get(above or TOP)) is not None and self._options.delete and entry.path != TOP:
            inside[1].add(name)

    # Files ----------------------------------------------------------------------------------------------------------

    def _file(self, plan: Plan) -> Generator[bool, None, Want | None]:
        if not plan.names:
            raise RemoteProtocolError("a file in the place of the whole transfer")
        folder = self._folder_of(plan)
        if folder is None:
            plan.created = True
            return Want(plan.index)
        folder.hold()  # contents of other files come while we read this one, and move the cursor
        try:
            return (yield from self._file_in(folder, plan))
        finally:
            folder.release()

    def _file_in(self, folder: Folder, plan: Plan) -> Generator[bool, None, Want | None]:
        entry, options, name = plan.entry, self._options, plan.names[-1]
        # To look for what cannot be there takes as long as to make it.
        plan.old = old = None if plan.names[:-1] in self._empty else folder.lstat(name)
        refuse_what_is_there(Kind.FILE, old)
        plan.created = old is None
        whole = None
        if old is not None and plan.old_is_file:
            equal_size = old.st_size == entry.size
            if options.quick and equal_size and old.st_mtime_ns == entry.mtime:
                plan.same, plan.size = True, old.st_size
                return None
            # A file of several names that would change its mode or owner is made anew: the others may be somebody's.
            may_stay = equal_size and not (old.st_nlink > 1 and attributes(options, plan, new=False)[1])
            if may_stay or options.backup is not None or options.diff:
                try:
                    plan.old_sha256 = yield from _digest(folder, name, old)
                except FileError as error:  # then it is taken to differ, and whether it can be replaced will be seen
                    plan.remark(str(error) if options.diff else "")
            whole = plan.old_sha256 if may_stay else None
        elif old is not None and options.diff:
            plan.remark("takes the place of a symbolic link")
        prefix = None
        if not options.check and (entry.size >= WORTH_KEEPING or not entry.size):
            prefix = yield from self._take_part(folder, plan)
        return Want(plan.index, whole, plan.wanted_from, prefix)

    def _take_part(self, folder: Folder, plan: Plan) -> Generator[bool, None, str | None]:
        """Take what an interrupted transfer left, and return its digest."""
        self._parts += 1
        token = f"{self._token}p{self._parts:x}"
        name = plan.names[-1]
        plan.temporary = part = take_part(
            folder,
            name,
            token,
            using=lambda: self._hooks.using(folder, temporary_name(name, token)),
            min_free=self._options.min_free,
        )
        if part is None:
            return None
        try:
            yield from part.read_again()
        except GeneratorExit:  # the transfer is given up, and its batches know nothing of this plan yet
            plan.temporary = None
            part.keep()
            raise
        plan.wanted_from = part.offset
        return part.digest.hexdigest() if part.offset else None

    # What is no file ------------------------------------------------------------------------------------------------

    def _other(self, plan: Plan) -> None:
        entry = plan.entry
        if entry.kind is Kind.SKIPPED:
            plan.status, plan.note = FileStatus.SKIPPED, entry.reason
        elif entry.kind is Kind.DIRECTORY:
            self._directory(plan)
        elif entry.kind is Kind.LEAVE:
            self._leave(plan)
        elif not plan.names:
            raise RemoteProtocolError(f"{entry.kind} in the place of the whole transfer")
        else:
            self._link(plan)

    def _directory(self, plan: Plan) -> None:
        if len(self._inside) >= _DEEPEST:
            raise RemoteProtocolError(f"more than {_DEEPEST} directories deep")
        self._inside[plan.entry.path] = plan, set()
        if not plan.names:
            self._directory_itself(plan)
            return
        folder = self._folder_of(plan)
        plan.old = None if folder is None else folder.lstat(plan.names[-1])
        refuse_what_is_there(Kind.DIRECTORY, plan.old)
        if plan.old is None:
            plan.created = True
            plan.change("created")
            plan.remark(lost_bits(self._options, plan))
            if folder is not None and not self._options.check:
                self._make(folder, plan)

    def _directory_itself(self, plan: Plan) -> None:
        plan.old = os.fstat(self._base.fd)
        if self._made:
            plan.created = True
            plan.change("created")
            plan.remark(lost_bits(self._options, plan))
            self._closed[()] = plan
            if plan.index:
                self._open_base(0o700)  # closed again: its LEAVE opens it as the source's is

    def _open_base(self, mode: int) -> None:
        """Set the permissions of a base that was made for us; the bits that it inherited stay."""
        try:
            inherited = os.fstat(self._base.fd).st_mode & 0o7000
            os.chmod(".", inherited | mode, dir_fd=self._base.fd)  # what is open by O_PATH is not for fchmod(2)
        except OSError as error:
            raise FileError.from_os("set the mode of the directory", error) from None

    def _make(self, folder: Folder, plan: Plan) -> None:
        """Make a directory, or take the one that another push, by an agent that shares the file system, has made."""
        try:
            # Closed to others until everything is in it: its LEAVE opens it.
            os.mkdir(plan.names[-1], 0o700, dir_fd=folder.fd)
            self._closed[plan.names] = plan
            self._empty.add(plan.names)
        except OSError as error:
            plan.old = folder.lstat(plan.names[-1]) if error.errno == errno.EEXIST else None
            if plan.old is None:
                raise FileError.from_os("make the directory", error) from None
            refuse_what_is_there(Kind.DIRECTORY, plan.old)
            plan.created, plan.note = False, ""
            plan.status = FileStatus.UNCHANGED
            plan.changes.clear()

    def _leave(self, plan: Plan) -> None:
        inside = self._inside.pop(plan.entry.path, None)
        if inside is None:
            raise RemoteProtocolError(f"leaves {plan.entry.path!r}, in which it is not")
        self._empty.discard(plan.names)
        directory, listed = inside
        if directory.error is not None:
            return
        plan.created = directory.created
        folder = self._folder_of(plan) if plan.names else self._base
        plan.old = folder.lstat(plan.names[-1] if plan.names else ".") if folder is not None else None
        if not self._options.delete or not plan.entry.complete or plan.created or plan.old is None:
            return
        is_source = "/" not in plan.entry.path and TOP not in self._inside
        if not listed and is_source and self._has_names(plan):
            raise FileError("", "the source has nothing in it: refused to empty it")
        plan.listed = frozenset(listed)

    def _has_names(self, plan: Plan) -> bool:
        return bool(self.find(plan.names).names())

    def _link(self, plan: Plan) -> None:
        folder = self._folder_of(plan)
        name = plan.names[-1]
        plan.old = old = None if folder is None else folder.lstat(name)
        refuse_what_is_there(plan.entry.kind, old)
        if old is not None and plan.entry.kind is Kind.SYMLINK and stat.S_ISLNK(old.st_mode):
            assert folder is not None
            try:
                plan.same = os.readlink(name, dir_fd=folder.fd) == plan.entry.target
            except OSError as error:
                raise FileError.from_os("read the link", error) from None
        if not plan.same:
            plan.change("created" if old is None else "link")

    # Folders --------------------------------------------------------------------------------------------------------

    def _folder_of(self, plan: Plan) -> Folder | None:
        """Return the folder that an entry lies in, None in a check that would make it first. Raises OSError."""
        try:
            return self.find(plan.names[:-1])
        except FileNotFoundError:
            if not self._options.check:
                raise
            return None


def _open_to_others(folder: Folder, wanted: Attributes) -> None:
    """Open a directory of ours, that was made closed, to those that it is for. Raises FileError and OSError."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder.fd)
    try:
        info = os.fstat(fd)
        if info.st_uid == os.geteuid() and info.st_mode & 0o777 == 0o700:
            mode = (wanted.mode or 0) | 0o700  # the next transfer has to get in, and to write there
            Attributes(mode, wanted.owner, wanted.group, must_own=wanted.must_own).apply(fd)
    finally:
        os.close(fd)


def _digest(folder: Folder, name: str, old: os.stat_result) -> Generator[bool, None, str | None]:
    """Return the SHA-256 of a file that is there, None when that is not `old` any more. Raises FileError."""
    try:
        fd = os.open(name, _READ, dir_fd=folder.fd)
    except OSError as error:
        raise FileError.from_os("read the old file", error) from None
    try:
        info = os.fstat(fd)
        if (info.st_dev, info.st_ino) != (old.st_dev, old.st_ino):
            return None
        _, sha256 = yield from digest_of(fd, longest=info.st_size)
        return sha256
    finally:
        os.close(fd)
