"""Listing what is to be sent: a walk over sources that gives one item after the other, and never holds the tree.

Parents come before what is in them, and after that a LEAVE. What cannot be sent (a FIFO, a directory that we may not
read) is an item as well, with the reason: whoever receives a list without it would take it for deleted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from agent.tree.digests import FileIdentity, Held
from agent.tree.errors import FileError
from agent.tree.following import READ, Follower, enter
from agent.tree.options import SenderOptions
from agent.tree.paths import Cursor, Folder, Identity, Links, check_name, kind_of
from agent.tree.patterns import Patterns, is_pattern, matches_name
from agent.wire.file_messages import TOP, Entry, Kind
from agent.wire.record import record

__all__ = ["Item", "Listing", "Source"]


@record
class Source:
    """Something to send, which is called `path` in the transfer: the folder itself, or what `names` lead to in it.

    Several names, or one that is a pattern, are all that match, called by the names that match. `reason` says why
    there is nothing. The folder is borrowed.
    """

    folder: Folder | None
    names: tuple[str, ...]
    path: str
    reason: str = ""


@record
class Item:
    """An entry, and where it is: `names` below the folder of `source`. `identity` says which file was listed there, and
    `held` is its content where that is in memory."""

    entry: Entry
    source: Source
    names: tuple[str, ...] = ()
    identity: FileIdentity | None = None
    held: Held | None = None


@dataclass(slots=True)
class _Level:
    """A directory that is being listed."""

    folder: Folder
    item: Item
    names: Iterator[str]
    complete: bool = True
    announced: bool = True


@dataclass(slots=True)
class Listing:
    """The items of some sources. Iterate over it once; `open` gives a file's content until `close`.

    With roots, what a followed link points at must lie in one of them, too. With `identify` the items of files have
    their identity.
    """

    sources: Iterator[Source]
    options: SenderOptions
    links: Links = Links.OWNED
    roots: Collection[Identity] | None = None
    identify: bool = False
    count: int = 0
    _excluded: Patterns = field(init=False)
    _follower: Follower = field(init=False)
    _seen: dict[Identity, tuple[str, int]] = field(default_factory=dict)
    # Where patterns may overlap: what they have named so far, and the directories on the way to that, as called here.
    _overlapping: bool = False
    _named: dict[str, Identity] = field(default_factory=dict)
    _ways: set[str] = field(default_factory=set)
    _repeated: bool = False  # whether the source of now names what another did
    _cursor: tuple[Source, Cursor] | None = None
    _forbidden: FileError | None = None  # why a pattern may have found nothing

    def __post_init__(self) -> None:
        self._excluded = Patterns(self.options.exclude)
        self._follower = Follower(self.options.follow, self.links, self.roots)

    def items(self) -> Iterator[Item]:
        """Yield all items, each once, however many of the sources name it."""
        sources = list(self.sources)
        self._overlapping = len(sources) > 1 and any(is_pattern(name) for source in sources for name in source.names)
        for source in sources:
            for item in self._items_of(source):
                self.count += item.entry.kind is not Kind.LEAVE
                limit = self.options.max_files
                if limit is not None and self.count > limit:
                    reason = f"more than {limit} files: the rest is left out"
                    yield Item(Entry(item.entry.path, Kind.FAILED, reason=reason), source)
                    return
                yield item

    def open(self, item: Item) -> int:
        """Open the content of a file for reading; the descriptor is the caller's. Raises FileError."""
        source = item.source
        assert source.folder is not None
        if self._cursor is None or self._cursor[0] is not source:
            self._drop_cursor()
            self._cursor = source, Cursor(source.folder)
        try:
            if not self.options.follow:
                fd = os.open(item.names[-1], READ, dir_fd=self._cursor[1].folder(item.names[:-1]).fd)
            else:
                fd = self._follower.open(source.folder, item.names)
        except OSError as error:
            raise FileError.from_os("read it", error) from None
        if not stat.S_ISREG(mode := os.fstat(fd).st_mode):
            os.close(fd)
            raise FileError("", f"is {kind_of(mode)} now")
        return fd

    def close(self) -> None:
        """Give back what `open` kept."""
        self._drop_cursor()

    def _drop_cursor(self) -> None:
        if self._cursor is not None:
            self._cursor[1].close()
            self._cursor = None

    # The walk -------------------------------------------------------------------------------------------------------

    def _items_of(self, source: Source) -> Iterator[Item]:
        if source.folder is None:
            yield Item(Entry(source.path, Kind.FAILED, reason=source.reason), source)
        elif self._is_literal(source, source.folder):
            yield from self._tree(source, source.folder, source.names, source.path)
        elif not source.names:
            yield from self._tree(source, source.folder, (), source.path)
        else:
            found = self._repeated = False
            self._forbidden = None
            for item in self._matches(source, source.folder, (), source.names):
                found = True
                yield item
            if not found and not self._repeated:
                reason = "no such file or directory" if self._forbidden is None else str(self._forbidden)
                yield Item(Entry(source.path, Kind.FAILED, reason=reason), source)

    def _is_literal(self, source: Source, folder: Folder) -> bool:
        """Whether a source is one name, by the letter: also one that looks like a pattern, if it is there."""
        if len(source.names) != 1:
            return False
        name = source.names[0]
        if not is_pattern(name):
            return True
        try:
            return folder.lstat(name) is not None
        except FileError:  # a pattern that is too long for a name
            return False

    def _matches(
        self, source: Source, folder: Folder, above: tuple[str, ...], patterns: tuple[str, ...]
    ) -> Iterator[Item]:
        """Yield what matches in a folder, with the directories on the way to it."""
        for name in self._names_that_match(folder, patterns):
            names = (*above, name)
            if len(patterns) == 1:
                yield from self._tree(source, folder, names, "/".join(names))
                continue
            with self._entered(folder, name) as inner:
                if inner is not None:
                    yield from self._matches_below(source, inner, names, patterns[1:])

    def _matches_below(
        self, source: Source, inner: Folder, names: tuple[str, ...], patterns: tuple[str, ...]
    ) -> Iterator[Item]:
        """Yield a directory on the way, with what matches in it; nothing when nothing does."""
        path, info = "/".join(names), os.fstat(inner.fd)
        try:
            if self._is_named(path, info):
                return
        except FileError as error:
            yield Item(Entry(path, Kind.FAILED, reason=str(error)), source, names)
            return
        matches = self._matches(source, inner, names, patterns)
        first = next(matches, None)
        if first is None:
            return
        item = Item(_entry(path, Kind.DIRECTORY, info), source, names)
        announced = self._is_new_way(path)
        if announced:
            yield item
        yield first
        yield from matches
        if announced:
            yield self._leave(item, complete=False)

    def _is_new_way(self, path: str) -> bool:
        """Whether a directory has not been listed on the way to another match; from now on it has."""
        if not self._overlapping:
            return True
        new = path not in self._ways
        self._ways.add(path)
        return new

    def _is_named(self, path: str, info: os.stat_result) -> bool:
        """Whether another source has named this very file. Raises FileError when that named another file so."""
        known = self._named.get(path)
        if known is None:
            return False
        if known != (info.st_dev, info.st_ino):
            raise FileError("", "another of that name was asked for, too, and both would go to one place")
        self._repeated = True
        return True

    def _names_that_match(self, folder: Folder, patterns: tuple[str, ...]) -> list[str]:
        pattern = patterns[0]
        try:
            if not is_pattern(pattern):
                return [pattern] if folder.lstat(pattern) is not None else []
            return [name for name in folder.names() if matches_name(pattern, name)]
        except FileError as error:
            self._note_forbidden(f"look into {folder.path}", error)
            return []

    def _note_forbidden(self, action: str, error: FileError) -> None:
        if error.number in (errno.EACCES, errno.EPERM) and self._forbidden is None:
            self._forbidden = FileError(action, error.reason)

    @contextlib.contextmanager
    def _entered(self, folder: Folder, name: str) -> Iterator[Folder | None]:
        """Open a directory on the way to a match, None when it is none or not ours to enter."""
        inner = None
        try:
            if (found := self._follower.look(folder, name)) is not None:
                try:
                    inner = enter(found[0], found[1])
                finally:
                    found[0].release()
        except FileError as error:  # as a shell's pattern does: what cannot be entered matches nothing
            self._note_forbidden(f"enter {folder.join(name)}", error)
        try:
            yield inner
        finally:
            if inner is not None:
                inner.release()

    def _tree(self, source: Source, folder: Folder, names: tuple[str, ...], path: str) -> Iterator[Item]:
        """Yield one name and all below it."""
        levels: list[_Level] = []
        try:
            yield from self._enter_or_yield(source, folder, names, path, levels)
            while levels:
                level = levels[-1]
                name = next(level.names, None)
                if name is None:
                    levels.pop()
                    level.folder.release()
                    if level.announced:
                        yield self._leave(level.item, complete=level.complete)
                    continue
                above = level.item.entry.path
                path = name if above == TOP else f"{above}/{name}"
                yield from self._enter_or_yield(source, level.folder, (*level.item.names, name), path, levels)
        finally:
            for level in levels:
                level.folder.release()

    def _enter_or_yield(
        self, source: Source, folder: Folder, names: tuple[str, ...], path: str, levels: list[_Level]
    ) -> Iterator[Item]:
        """Yield what is at one name, and push a directory's level."""
        try:
            if names:
                check_name(names[-1])
            found = self._follower.look(folder, names[-1] if names else "")
            if found is None:
                raise FileError("", "no such file or directory" if not levels else "vanished while it was listed")
            folder, name, info = found
            try:
                if self._excluded.match(path, folder=stat.S_ISDIR(info.st_mode)):
                    return
                if self._is_named(path, info):
                    return
                if self._overlapping and not levels:
                    self._named[path] = (info.st_dev, info.st_ino)
                if stat.S_ISDIR(info.st_mode):
                    item = Item(_entry(path, Kind.DIRECTORY, info), source, names)
                    level = self._level(folder, name, item, levels)
                    level.announced = path not in self._ways
                    if level.announced:
                        yield item
                    levels.append(level)
                    return
                entry = self._entry_of(folder, name, path, info)
                if entry.kind is Kind.SKIPPED and names == source.names and not stat.S_ISREG(info.st_mode):
                    raise FileError("", entry.reason)  # that is no side catch, but what was asked for by its name
                yield Item(entry, source, names, FileIdentity.of(info) if self.identify else None)
            finally:
                folder.release()
        except FileError as error:
            if levels:
                levels[-1].complete = False
            yield Item(_failed(path, levels, error), source, names)

    def _level(self, folder: Folder, name: str, item: Item, levels: list[_Level]) -> _Level:
        inner = enter(folder, name)
        try:
            if self.options.follow and any(_same(inner, level.folder) for level in levels):
                raise FileError("", "is a link to a directory that it lies in")
            return _Level(inner, item, iter(inner.names()))
        except FileError:
            inner.release()
            raise

    def _leave(self, item: Item, *, complete: bool) -> Item:
        entry = item.entry
        leave = Entry(entry.path, Kind.LEAVE, entry.mode, 0, entry.mtime, complete=complete)
        return Item(leave, item.source, item.names)

    def _entry_of(self, folder: Folder, name: str, path: str, info: os.stat_result) -> Entry:
        if stat.S_ISLNK(info.st_mode):
            try:
                return _entry(path, Kind.SYMLINK, info, target=os.readlink(name, dir_fd=folder.fd))
            except OSError as error:
                raise FileError.from_os("read the link", error) from None
        if not stat.S_ISREG(info.st_mode):
            return Entry(path, Kind.SKIPPED, reason=f"is {kind_of(info.st_mode)}")
        limit = self.options.max_size
        if limit is not None and info.st_size > limit:
            return Entry(path, Kind.SKIPPED, reason=f"{info.st_size} bytes, more than the limit of {limit}")
        if info.st_nlink > 1 and (first := self._first_name(path, info)):
            return _entry(path, Kind.HARDLINK, info, target=first)
        return _entry(path, Kind.FILE, info)

    def _first_name(self, path: str, info: os.stat_result) -> str | None:
        """Return the name under which the transfer has the file already. Forgets a file with its last name."""
        key = (info.st_dev, info.st_ino)
        first, left = self._seen.pop(key, (None, info.st_nlink))
        if left > 1:
            self._seen[key] = (first or path, left - 1)
        return first


def _same(left: Folder, right: Folder) -> bool:
    one, other = os.fstat(left.fd), os.fstat(right.fd)
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _failed(path: str, levels: list[_Level], error: FileError) -> Entry:
    try:
        return Entry(path, Kind.FAILED, reason=str(error))
    except ValueError:  # it is the path that is too long: then it is told of the directory
        return Entry(levels[-1].item.entry.path, Kind.FAILED, reason=str(error))


def _entry(path: str, kind: Kind, info: os.stat_result, target: str = "") -> Entry:
    try:
        size = info.st_size if kind in (Kind.FILE, Kind.HARDLINK) else 0
        return Entry(path, kind, stat.S_IMODE(info.st_mode), size, info.st_mtime_ns, target)
    except ValueError as error:  # a path of more than 4096 characters, deep in a tree
        raise FileError("", str(error)) from None
