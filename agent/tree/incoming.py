"""What comes between a batch's wants and its settling: contents, and the answers in their stead.

One file is open at a time. Its bytes are written and hashed as they come, in one pass. What the sender announced holds
for it, also when we have given up on the file and only count what comes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.tree.committer import Hooks
from agent.tree.content import PIECE
from agent.tree.errors import FileError
from agent.tree.options import ReceiverOptions
from agent.tree.paths import Folder
from agent.tree.plans import Plan, attributes, lost_bits
from agent.tree.syncing import SYNCED_ONE_BY_ONE
from agent.tree.writer import Temporary, temporary_name
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import Want

__all__ = ["Incoming"]

_MAX_FOLDERS = 64
_MAX_BYTES = 64 * 1024 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(slots=True)
class _Open:
    """The file whose content is coming."""

    plan: Plan
    offset: int  # where the next byte belongs
    size: int | None


class Incoming:
    """The contents of one transfer."""

    def __init__(
        self,
        options: ReceiverOptions,
        token: str,
        hooks: Hooks,
        find: Callable[[tuple[str, ...]], Folder],
        send: Callable[[m.Message], None],
    ) -> None:
        self._options = options
        self._token = token
        self._hooks = hooks
        self._find = find
        self._send = send
        self._awaited: dict[int, Want] = {}
        self._open: _Open | None = None
        self._count = 0
        self._finished = 0  # files with an open descriptor that have not taken their place
        self._folders: set[int] = set()
        self._bytes = 0

    @property
    def heavy(self) -> bool:
        """Whether what has come since `committed` should take its place before the batch is complete.

        It holds directories open; and what has not taken its place when the link is cut must be sent again.
        """
        return len(self._folders) >= _MAX_FOLDERS or self._bytes >= _MAX_BYTES

    def expect(self, wants: Iterable[Want]) -> None:
        """Note what the sender is asked for."""
        self._awaited.update((want.index, want) for want in wants)

    def committed(self) -> None:
        """Note that what was finished has taken its place."""
        self._finished = self._bytes = 0
        self._folders.clear()

    def take(self, message: m.Message, plan_of: Callable[[int], Plan]) -> None:
        """Take a message about content. Raises RemoteProtocolError."""
        if isinstance(message, f.Data):
            self._data(message.data, len(message.data))
        elif isinstance(message, f.Hole):
            self._data(None, message.length)
        elif isinstance(message, f.Whole):
            self._begin(message.index, 0, len(message.data), plan_of)
            if message.data:
                self._data(message.data, len(message.data))
            self._end(len(message.data), message.sha256)
        elif isinstance(message, f.Open):
            self._begin(message.index, message.offset, message.size, plan_of)
        elif isinstance(message, f.Close):
            self._end(message.size, message.sha256)
        elif isinstance(message, f.Same):
            for index in message.indexes:
                self._same(index, plan_of(index))
        elif isinstance(message, f.Gone):
            self._gone(message, plan_of(message.index))
        else:
            raise RemoteProtocolError(f"{type(message).__name__} is not for a receiver")

    def _answered(self, index: int) -> Want:
        want = self._awaited.pop(index, None)
        if want is None:
            raise RemoteProtocolError(f"entry {index} was not asked for")
        return want

    def _same(self, index: int, plan: Plan) -> None:
        want = self._answered(index)
        if want.whole is None:
            raise RemoteProtocolError(f"entry {index} is said to be the same as nothing")
        if plan.temporary is not None:
            plan.temporary.discard()
            plan.temporary = None
        assert plan.old is not None
        plan.same, plan.ready = True, True
        plan.size, plan.sha256 = plan.old.st_size, want.whole

    def _gone(self, message: f.Gone, plan: Plan) -> None:
        if self._open is None or self._open.plan is not plan:
            self._answered(message.index)
        else:
            self._open = None
        if plan.temporary is not None:
            plan.temporary.keep()
            plan.temporary = None
        plan.fail(message.error)

    # One file's content ---------------------------------------------------------------------------------------------

    def _begin(self, index: int, offset: int, size: int | None, plan_of: Callable[[int], Plan]) -> None:
        if self._open is not None:
            raise RemoteProtocolError("a file is opened while another is open")
        self._answered(index)
        plan = plan_of(index)
        if offset not in (0, plan.wanted_from):
            raise RemoteProtocolError(f"a file from byte {offset} on, expected {plan.wanted_from} or 0")
        self._open = _Open(plan, offset, size)
        try:
            if self._options.diff and plan.old_is_file:
                self._send_old(plan)
            if not self._options.check:
                self._prepare(plan, offset, size or 0)
        except OSError as error:
            _give_up(plan, FileError.from_os("enter its directory", error))
        except FileError as error:
            _give_up(plan, error)

    def _prepare(self, plan: Plan, offset: int, size: int) -> None:
        """Get the plan's new file of `size` bytes ready for those from `offset` on."""
        temporary = plan.temporary
        if temporary is None:
            folder, name = self._find(plan.names[:-1]), plan.names[-1]
            self._count += 1
            token = f"{self._token}c{self._count:x}"
            self._hooks.using(folder, temporary_name(name, token))
            plan.temporary = temporary = Temporary.create(
                folder, name, token, size=size, min_free=self._options.min_free
            )
        elif offset:
            plan.note = f"continued at byte {offset}"
        else:
            if plan.wanted_from:
                plan.note = "started anew: the source is not what it was"
            temporary.restart()
        self._folders.add(temporary.folder.fd)

    def _data(self, data: bytes | memoryview | None, length: int) -> None:
        """Take the next bytes; None is a hole."""
        if self._open is None or self._options.check:
            raise RemoteProtocolError("content that belongs to no file")
        plan = self._open.plan
        self._open.offset += length
        for limit in (self._open.size, self._options.max_size):
            if limit is not None and self._open.offset > limit:
                raise RemoteProtocolError(f"more than the {limit} bytes of {plan.entry.path!r}")
        if plan.temporary is None:
            return
        try:
            if data is None:
                plan.temporary.hole(length)
            else:
                plan.temporary.write(data)
        except FileError as error:
            _give_up(plan, error)

    def _end(self, size: int, sha256: str) -> None:
        if self._open is None:
            raise RemoteProtocolError("the end of a file that is not open")
        opened, self._open = self._open, None
        plan = opened.plan
        plan.ready = True
        plan.size, plan.sha256 = size, sha256
        announced = size if self._options.check else opened.offset
        if size != announced or opened.size not in (None, size):
            raise RemoteProtocolError(f"{plan.entry.path!r} ended after {announced} bytes, expected {size}")
        if plan.error is not None:
            plan.size, plan.sha256 = 0, None
            return
        if plan.temporary is not None:
            if plan.temporary.digest.hexdigest() != sha256:
                plan.temporary.discard()
                plan.temporary = None
                raise RemoteProtocolError(f"wrong checksum on {plan.entry.path!r}")
            if self._is_what_is_there(plan):
                plan.temporary.discard()
                plan.temporary = None
                plan.same = True
                return
        self._finish(plan)

    def _finish(self, plan: Plan) -> None:
        """Give a whole file what it is to have. Its place it takes when the batch is settled."""
        wanted, words = attributes(self._options, plan, new=True)
        plan.remark(lost_bits(self._options, plan))
        if plan.temporary is not None:
            try:
                plan.temporary.finish(wanted)
                self._finished += 1
                self._bytes += plan.size
                if self._finished > SYNCED_ONE_BY_ONE:
                    plan.temporary.settle()
                    plan.temporary.close()
            except FileError as error:
                plan.fail(error)
                return
        plan.change(*(["created"] if plan.created else ["content", *words]))

    def _is_what_is_there(self, plan: Plan) -> bool:
        """Whether the old file holds the same after all: one whose size its system did not tell (/proc)."""
        if not plan.old_is_file or plan.old is None or plan.old.st_size != plan.size or plan.entry.size == plan.size:
            return False
        content = _read_old(self._find(plan.names[:-1]), plan.names[-1], plan.size)
        return content is not None and len(content) == plan.size and _sha256(content) == plan.sha256

    def _send_old(self, plan: Plan) -> None:
        """Tell what the file holds that is about to change: text that is not too long as it is."""
        if plan.old is None or plan.old_sha256 is None:
            return
        size = plan.old.st_size
        content = _read_old(self._find(plan.names[:-1]), plan.names[-1], size) if 0 < size <= PIECE else None
        text = content is not None and b"\0" not in content and _sha256(content) == plan.old_sha256
        self._send(f.Old(plan.index, size, plan.old_sha256, text))
        if text and content is not None:
            self._send(f.Data(content))


def _give_up(plan: Plan, error: FileError) -> None:
    """Fail a plan whose content is coming: it is not ready before the sender has said its end."""
    plan.fail(error)
    plan.ready = False


def _read_old(folder: Folder, name: str, size: int) -> bytes | None:
    """Return the content of a small file that is there."""
    if size > PIECE:
        return None
    try:
        fd = os.open(name, _READ, dir_fd=folder.fd)
    except OSError:
        return None
    try:
        return os.pread(fd, size, 0)
    except OSError:
        return None
    finally:
        os.close(fd)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
