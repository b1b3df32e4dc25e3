"""Keeping what is about to be replaced or deleted, under the name of its backup, and telling of it who can put it back.

What is kept is what was compared. Between the two somebody may have put another file in its place, and what that
replaced is perhaps under the name of the backup already: so what is there now gets a second name first and is looked
at under that, and only then takes the name of the backup.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator

from agent.tree.errors import FileError
from agent.tree.paths import Folder
from agent.tree.plans import Plan
from agent.tree.states import NOTHING, State, state_of
from agent.tree.writer import unlink_quietly
from agent.wire.file_messages import FileStatus, Outcome

__all__ = ["Keeper", "nothing"]

_KEEP = "keep the old file"
_MEANWHILE = "it was replaced meanwhile"
# No links here, or not to somebody else's file (protected_hardlinks, proc_sys_fs(5)), or it has too many.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)


class Keeper:
    """Keeps files under their name and `suffix`; None keeps nothing.

    `note` is told the path, the path of the backup, and the states (see `states`) of what was there and of what takes
    its place; it returns whether it can be put back. `temporary_name` makes the temporary name of a name.
    """

    def __init__(
        self,
        suffix: str | None,
        note: Callable[[str, str, str, str], bool],
        temporary_name: Callable[[Folder, str], str],
    ) -> None:
        self._suffix = suffix
        self._note = note
        self._temporary_name = temporary_name

    def keep(self, folder: Folder, name: str, plan: Plan, coming: str) -> Generator[bool, None, Callable[[], None]]:
        """Keep what `coming`, a temporary name, is about to replace; return what takes this back. Raises FileError."""
        if self._suffix is None or plan.old is None:
            return nothing
        backup = name + self._suffix
        second = self._temporary_name(folder, backup)
        try:
            # A second name first: so there is no moment without the first.
            linked = _link(folder, name, second)
            held = second if linked else name
            looked = folder.lstat(held)
            if looked is None:
                raise FileError(_KEEP, _MEANWHILE)
            old = yield from _compared(folder, held, looked, plan)
            new = yield from _expected(folder, coming, plan)
            kept = old is not None and self._note(folder.join(name), folder.join(backup), old, new)
            if not linked and not _is_still(folder.lstat(name), looked):  # it took a while to read it
                raise FileError(_KEEP, _MEANWHILE)
            os.rename(held, backup, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        except OSError as error:
            raise FileError.from_os(_KEEP, error) from None
        finally:
            # Also where both were names of one file: then rename(2) has done nothing, and left it.
            unlink_quietly(folder, second)
        plan.kept = kept
        if linked:
            return lambda: unlink_quietly(folder, backup)
        return lambda: _rename_quietly(folder, backup, name)

    def set_aside(self, folder: Folder, name: str, *, check: bool) -> Generator[bool, None, Outcome]:
        """Give what is to be deleted the name of its backup, with all that is in it; a check only tells."""
        path, backup = folder.join(name), f"{name}{self._suffix}"
        kept = False
        try:
            if not check:
                kept = yield from self._move(folder, name, backup)
        except (OSError, FileError) as error:
            action = f"keep it as {backup}"
            reason = error if isinstance(error, FileError) else FileError.from_os(action, error)
            return Outcome(path, FileStatus.FAILED, error=str(reason))
        return Outcome(path, FileStatus.DELETED, changes="deleted", note=f"kept as {backup}", kept=kept)

    def _move(self, folder: Folder, name: str, backup: str) -> Generator[bool, None, bool]:
        info = folder.lstat(name)
        old = yield from _readable_state(folder, name)
        kept = old is not None and self._note(folder.join(name), folder.join(backup), old.text, NOTHING)
        if info is None or not _is_still(folder.lstat(name), info):
            raise FileError(f"keep it as {backup}", _MEANWHILE)
        os.rename(name, backup, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        return kept


def _link(folder: Folder, name: str, second: str) -> bool:
    """Give a file a second name; return whether it can have one. Raises OSError."""
    try:
        os.link(name, second, src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True


def _compared(folder: Folder, held: str, looked: os.stat_result, plan: Plan) -> Generator[bool, None, str | None]:
    """Return the state of what is held, None when it cannot be read. Raises FileError when it is not the plan's."""
    assert plan.old is not None
    still = _is_still(looked, plan.old)
    if still and plan.old_sha256 is not None:
        return plan.old_sha256
    state = yield from _readable_state(folder, held)
    if not still and (state is None or state.text != plan.old_sha256):
        raise FileError(_KEEP, _MEANWHILE)
    return None if state is None else state.text


def _is_still(info: os.stat_result | None, old: os.stat_result) -> bool:
    """Whether that is the file that was there, and nobody has written to it: a new name changes its ctime alone."""
    return info is not None and (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns) == (
        old.st_dev,
        old.st_ino,
        old.st_size,
        old.st_mtime_ns,
    )


def _readable_state(folder: Folder, name: str) -> Generator[bool, None, State | None]:
    """Return the state, None for what cannot be read: that can be kept, and nobody could say later that it is whole."""
    try:
        return (yield from state_of(folder, name))
    except FileError:
        return None


def _expected(folder: Folder, coming: str, plan: Plan) -> Generator[bool, None, str]:
    """Return the state of what takes the place of the old. Raises FileError."""
    if plan.sha256 is not None:
        return plan.sha256
    state = yield from state_of(folder, coming)  # a link of either kind
    return NOTHING if state is None else state.text


def _rename_quietly(folder: Folder, name: str, back: str) -> None:
    try:
        os.rename(name, back, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    except OSError:  # the old file is still there, under the name of its backup
        pass


def nothing() -> None:
    """Take back what was not done."""
