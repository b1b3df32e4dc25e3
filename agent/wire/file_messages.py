"""The messages of push and pull, one frozen dataclass each, and the records that travel in them.

A push is sent by the controller and received by the agent, a pull the other way round, so these messages know a sender
and a receiver and not who plays which part. The sender lists what there is in batches of entries; the receiver answers
each batch with what it wants of it, then gets that, and at last says what became of it.

Paths are relative to the transfer, with `/` between names, and strings that stand for bytes as in `messages`. No path
can leave the place that the receiver chose for the transfer: `..`, an absolute path or an empty name is no `Entry`.
"""

from __future__ import annotations

import enum
import re
from dataclasses import field

from agent.wire.constants import MAX_DATA_PAYLOAD, MAX_HOLE, MAX_WHOLE
from agent.wire.record import record

__all__ = [
    "TOP",
    "Close",
    "Data",
    "Done",
    "Entries",
    "Entry",
    "FileMessage",
    "FileStatus",
    "Gone",
    "Hole",
    "Kind",
    "Old",
    "Open",
    "Outcome",
    "Outcomes",
    "Pull",
    "Push",
    "Rollback",
    "Same",
    "Want",
    "Wants",
    "Whole",
    "owner_number",
]

TOP = "."  # the path of the very directory that the transfer goes into
_MAX_PATH = 4096  # bytes; PATH_MAX of Linux
_NEVER_A_NAME = frozenset({"", ".", ".."})
_DIGEST = re.compile("[0-9a-f]{64}")
_NUMBER = re.compile("-?[0-9]+")
_LARGEST_OWNER = 2**32 - 2  # one more is -1, which to chown(2) means to leave it as it is


class Kind(enum.StrEnum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    LEAVE = "leave"  # nothing more comes of that directory: now its times can be set, and what is not listed deleted
    SYMLINK = "symlink"
    HARDLINK = "hardlink"  # another name of a file that came before
    SKIPPED = "skipped"  # is not sent, because it is neither file, directory nor link, or by a limit
    FAILED = "failed"  # cannot be sent


class FileStatus(enum.StrEnum):
    """What became of one file."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    SKIPPED = "skipped"
    FAILED = "failed"

    __hash__ = str.__hash__  # they are counted, and Enum's own hash is written in Python


# Records ------------------------------------------------------------------------------------------------------------


@record
class Entry:
    """One name in the sender's tree.

    `mode` are permission bits (0..0o7777), `size` is in bytes, `mtime` in nanoseconds since the epoch. `target` is what
    a symlink points at, or the path of the entry that a hard link is another name of. `reason` is why an entry is
    skipped or failed. `complete` says of a LEAVE that every name in the directory was listed.
    """

    path: str
    kind: Kind
    mode: int = 0
    size: int = 0
    mtime: int = 0
    target: str = ""
    reason: str = ""
    complete: bool = True

    def __post_init__(self) -> None:
        _require_path(self.path)
        if not 0 <= self.mode <= 0o7777:
            raise ValueError(f"mode {self.mode:o} out of range")
        _require_range(self.size, "size")
        if not -(2**63) <= self.mtime < 2**63:
            raise ValueError(f"time {self.mtime} out of range")
        if self.kind is Kind.HARDLINK:
            _require_path(self.target)
        elif self.kind is Kind.SYMLINK:
            _require("\0" not in self.target and 0 < len(self.target) <= _MAX_PATH, "malformed target of a link")


@record
class Want:
    """A file that the receiver wants unless it is the same already.

    `whole` is the SHA-256 (hexadecimal) of what is there, when that has the size of the entry. `prefix` is the one of
    the first `offset` bytes of an interrupted transfer.
    """

    index: int
    whole: str | None = None
    offset: int = 0
    prefix: str | None = None

    def __post_init__(self) -> None:
        _require_range(self.index, "index")
        _require_range(self.offset, "offset")
        _require((self.offset > 0) == (self.prefix is not None), "offset without a digest")
        for digest in (self.whole, self.prefix):
            if digest is not None:
                _require_digest(digest)


@record
class Outcome:
    """What became of an entry, or of a file that was deleted (which has no `index`).

    `path` is where it is on the receiver's side. `bytes` and `sha256` are of the content that is there now; `bytes` of
    something that is no file is 0. `changes` are words for what changed, such as "content, mode". `note` is for people.
    `kept` says that what was there before is kept as a backup, and that a rollback can put it back.
    """

    path: str
    status: FileStatus
    index: int | None = None
    bytes: int = 0
    sha256: str | None = None
    error: str | None = None
    changes: str = ""
    note: str = ""
    kept: bool = False

    def __post_init__(self) -> None:
        if self.index is not None:
            _require_range(self.index, "index")
        if not 0 <= self.bytes < 2**63:
            raise ValueError(f"{self.bytes} bytes out of range")
        if self.sha256 is not None:
            _require_digest(self.sha256)


# Requests -----------------------------------------------------------------------------------------------------------


@record
class Push:
    """Controller to agent: files follow. The controller is the sender.

    `destination` is a path there; a relative one starts at home. When it ends in `/`, is a directory there, or when
    `several` sources come, the sources go into it; otherwise it is the new name of the only source. `mode` is for
    files. `backup` is the suffix under which a replaced file is kept. `validate` is a command in which `%s` stands for
    the new file, before it takes the place of the old one. `check` changes nothing and says what would change; `diff`
    asks for the old content of what changes. `delete` removes from the directories that are sent what they do not
    have, but for names that match `exclude`. `quick` takes files of equal size and time for equal.
    """

    destination: str
    host: str = ""
    run: str = ""
    several: bool = False
    mode: int | None = None
    owner: str | None = None
    group: str | None = None
    preserve: bool = False
    backup: str | None = None
    check: bool = False
    diff: bool = False
    validate: str | None = None
    delete: bool = False
    exclude: tuple[str, ...] = ()
    quick: bool = False

    def __post_init__(self) -> None:
        _require_remote(self.destination, "destination")
        _require(self.mode is None or 0 <= self.mode <= 0o7777, f"mode {self.mode or 0:o} out of range")
        for text in (self.host, self.run, self.owner or "", self.group or "", self.validate or "", *self.exclude):
            _require("\0" not in text, "NUL in a name")
        _require(self.backup is None or self.backup != "", "empty backup suffix")
        _require(not {"/", "\0"} & set(self.backup or ""), "backup suffix with a slash or NUL")
        _require(self.validate is None or "%s" in self.validate, "no %s in the command that validates")


@record
class Pull:
    """Controller to agent: send these. The agent is the sender.

    `paths` may hold `*`, `?` and `[...]`; relative ones start at home. Directories go whole. `follow` sends what
    symlinks point at. Files larger than `max_size` bytes are skipped, and after `max_files` entries the listing ends.
    """

    paths: tuple[str, ...]
    host: str = ""
    run: str = ""
    follow: bool = False
    exclude: tuple[str, ...] = ()
    max_size: int | None = None
    max_files: int | None = None

    def __post_init__(self) -> None:
        _require(bool(self.paths), "no paths")
        for path in self.paths:
            _require_remote(path, "path")
        for text in (self.host, self.run, *self.exclude):
            _require("\0" not in text, "NUL in a name")
        _require(self.max_size is None or 0 <= self.max_size < 2**63, f"size limit of {self.max_size} bytes")
        _require(self.max_files is None or 0 < self.max_files < 2**63, f"limit of {self.max_files} files")


@record
class Rollback:
    """Controller to agent: put back what a push with `backup` replaced; `target` is its run, None for the last one.

    With `ask` nothing is put back: the answer is a Done that says which push is the last one here. An agent that does
    not know that key would do as it is told without; so `target` must then be no push's.
    """

    target: str | None = None
    host: str = ""
    run: str = ""
    ask: bool = False

    def __post_init__(self) -> None:
        _require(not self.ask or self.target is not None, "a question without a target")
        for text in (self.target or "", self.host, self.run):
            _require("\0" not in text, "NUL in a name")


# The sender ---------------------------------------------------------------------------------------------------------


@record
class Entries:
    """The next batch of entries, parents before children. Entries are numbered from 0 over the whole transfer."""

    entries: tuple[Entry, ...] = ()
    last: bool = False


@record
class Open:
    """The content of a file follows, from `offset` on. `size` is that of the whole, None when it is not known yet.

    In a check no content follows, only `Close`.
    """

    index: int
    offset: int = 0
    size: int | None = None

    def __post_init__(self) -> None:
        _require_range(self.index, "index")
        _require_range(self.offset, "offset")
        if self.size is not None and not self.offset <= self.size < 2**63:
            raise ValueError(f"size {self.size} out of range")


@record
class Data:
    """The next bytes of the open file; or, from the receiver, all of an `Old` content.

    `data` may be a view of somebody's buffer. Who is given such a message uses it at once, and copies what it keeps.
    """

    data: bytes | memoryview = field(repr=False)

    def __post_init__(self) -> None:
        size = len(self.data)
        if not 0 < size <= MAX_DATA_PAYLOAD:
            raise ValueError(f"{size} bytes of data, expected 1 to {MAX_DATA_PAYLOAD}")


@record
class Hole:
    """So many zero bytes follow in the open file, which the source does not store and the receiver need not."""

    length: int

    def __post_init__(self) -> None:
        _require(0 < self.length <= MAX_HOLE, f"hole of {self.length} bytes, expected 1 to {MAX_HOLE}")


@record
class Close:
    """The end of the open file: size and SHA-256 of the whole of it, what came before `offset` included."""

    size: int
    sha256: str

    def __post_init__(self) -> None:
        _require_range(self.size, "size")
        _require_digest(self.sha256)


@record
class Whole:
    """All of a small file: what an `Open` at 0, `Data` and a `Close` would say. Only where both have WHOLE_FILES.

    `sha256` is that of `data`, for which holds what is said of `Data`, but that it may be empty.
    """

    index: int
    sha256: str
    data: bytes | memoryview = field(repr=False)

    def __post_init__(self) -> None:
        _require_range(self.index, "index")
        _require_digest(self.sha256)
        if len(self.data) > MAX_WHOLE:
            raise ValueError(f"whole file of {len(self.data)} bytes, expected no more than {MAX_WHOLE}")


@record
class Same:
    """The answer to wants whose `whole` is what the sender has too: there is nothing to send."""

    indexes: tuple[int, ...]

    def __post_init__(self) -> None:
        for index in self.indexes:
            _require_range(index, "index")


@record
class Gone:
    """The answer to a want that cannot be met, or the end of an open file that cannot be read on."""

    index: int
    error: str

    def __post_init__(self) -> None:
        _require_range(self.index, "index")


# The receiver -------------------------------------------------------------------------------------------------------


@record
class Wants:
    """The answer to one batch of entries: which files of it are wanted, in their order."""

    wants: tuple[Want, ...] = ()


@record
class Old:
    """What a file holds that is about to change: for a diff. With `content` the next message is its `Data`."""

    index: int
    size: int
    sha256: str
    content: bool = False

    def __post_init__(self) -> None:
        _require_range(self.index, "index")
        longest = MAX_DATA_PAYLOAD if self.content else 2**63 - 1
        _require(0 <= self.size <= longest, f"size {self.size} out of range")
        _require_digest(self.sha256)


@record
class Outcomes:
    """What became of entries. `settled` ends a batch: of the oldest one that is not settled yet, nothing more comes.

    A pull's receiver keeps the outcomes to itself: it owes the sender the `settled` alone.
    """

    outcomes: tuple[Outcome, ...] = ()
    settled: bool = False


@record
class Done:
    """The end of the transfer: everything that was sent is where its outcome says, on disk.

    `last` answers a Rollback with `ask`: the newest run of a push with `backup`, None if there is none.
    """

    last: str | None = None


FileMessage = (
    Push | Pull | Rollback | Entries | Open | Data | Hole | Close | Same | Gone | Wants | Old | Outcomes | Done | Whole
)


def owner_number(text: str) -> int | None:
    """Return the number as which an owner or group is given, None for a name. Raises ValueError: no owner's number."""
    if _NUMBER.fullmatch(text) is None:
        return None
    # The length first: int() refuses thousands of digits in words of its own.
    if len(text.lstrip("0")) > len(str(_LARGEST_OWNER)) or not 0 <= int(text) <= _LARGEST_OWNER:
        raise ValueError(f"{text[:32]!r} is not in 0..{_LARGEST_OWNER}")
    return int(text)


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


# These run for each of the files of a tree, on both sides: so they write no text that nobody reads.


def _require_range(number: int, what: str) -> None:
    if not 0 <= number < 2**63:
        raise ValueError(f"{what} {number} out of range")


def _require_digest(digest: str) -> None:
    if _DIGEST.fullmatch(digest) is None:
        raise ValueError("malformed digest")


def _require_path(path: str) -> None:
    """Refuse what could lead out of the transfer's place, or means nothing (path_resolution(7))."""
    if path == TOP:
        return
    if not _NEVER_A_NAME.isdisjoint(path.split("/")):
        raise ValueError(f"path with an empty name or dots: {path[:64]!r}")
    if "\0" in path:
        raise ValueError("NUL in a path")
    if len(path) > _MAX_PATH:
        raise ValueError(f"path of {len(path)} characters, expected no more than {_MAX_PATH}")


def _require_remote(path: str, what: str) -> None:
    _require(path != "", f"empty {what}")
    _require("\0" not in path, f"NUL in the {what}")
    _require(len(path) <= _MAX_PATH, f"{what} of {len(path)} characters, expected no more than {_MAX_PATH}")
