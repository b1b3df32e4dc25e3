"""Where a push goes: the rules of cp and scp, with the surprises left out.

DEST that ends in a slash, or is a directory, takes the sources in; any other is the new name of the only source. A
directory is never replaced, and a new one is made only where its parent is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection

from agent.tree.errors import FileError, TransferError
from agent.tree.paths import Folder, Identity, Links, is_within, open_path
from agent.tree.places import Named, into
from agent.wire.file_messages import Push
from agent.wire.record import record

__all__ = ["Destination", "open_destination"]

Place = Callable[[str], tuple[str, ...]]


@record
class Destination:
    """The directory that a push goes into, to be released, and where in it each path belongs.

    `made` says that the directory was made for this push. It is closed to others: who receives opens it.
    """

    base: Folder
    place: Place
    made: bool = False


def open_destination(push: Push, *, home: str, roots: Collection[Identity] | None) -> Destination:
    """Open the directory that a push goes into.

    Raises TransferError: "denied" for what is not within `roots`, else "failed".
    """
    path = push.destination
    try:
        base, name = open_path(path.rstrip("/") or "/", home=home, links=Links.OWNED)
    except FileError as error:
        if roots is not None and not _is_failure_within(path, home, roots):
            # What is there, outside, is not for this controller to learn.
            raise _denied(path) from None
        raise TransferError("failed", str(error)) from None
    try:
        if roots is not None and not is_within(base, roots):
            raise _denied(path)
        if not name:
            return Destination(base, into)
        if path.endswith("/"):
            return _new_folder(push, base, name)
        if push.several:
            raise TransferError("failed", f"several sources need a directory, and {path} is none")
        return Destination(base, Named(name))
    except FileError as error:
        base.release()
        raise TransferError("failed", str(error)) from None
    except BaseException:
        base.release()
        raise


def _new_folder(push: Push, parent: Folder, name: str) -> Destination:
    """Make DEST/, the last of its names alone; a check leaves that out and counts on it."""
    if parent.lstat(name) is not None:
        raise TransferError("failed", f"{push.destination} is not a directory")
    if push.check:
        return Destination(parent, lambda path: (name, *into(path)))
    made = True
    try:
        try:
            os.mkdir(name, 0o700, dir_fd=parent.fd)
        except FileExistsError:  # another push was quicker: an agent that shares this file system, most likely
            if not _is_folder(parent, name):
                raise
            made = False
        base = parent.enter(name)
        if made:
            _sync(parent, base)
    except OSError as error:
        raise FileError.from_os(f"make the directory {push.destination}", error) from None
    parent.release()
    return Destination(base, into, made)


def _sync(parent: Folder, base: Folder) -> None:
    """Make a new name last: what is put into the directory is not there after a power cut if that is not."""
    try:
        parent.sync()
    except OSError:
        base.release()
        raise


def _is_folder(parent: Folder, name: str) -> bool:
    info = parent.lstat(name)
    return info is not None and stat.S_ISDIR(info.st_mode)


def _is_failure_within(path: str, home: str, roots: Collection[Identity]) -> bool:
    """Whether the last directory on the way that can be entered is within the roots."""
    while (above := os.path.dirname(path.rstrip("/"))) != path:
        path = above
        try:
            folder, _ = open_path((path or ".") + "/", home=home, links=Links.OWNED)
        except FileError:
            if path in ("", "/"):
                return False
            continue
        try:
            return is_within(folder, roots)
        finally:
            folder.release()
    return False


def _denied(path: str) -> TransferError:
    return TransferError("denied", f"may not be pushed to: {path}")
