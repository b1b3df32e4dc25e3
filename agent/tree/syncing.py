"""Making many files last at once.

A few files are synced by themselves. For many, one syncfs(2) makes one commit of the file system's journal instead of
hundreds (500 small files on ext4: 1.7 s one by one, 0.01 s at once). It also waits for what others have written there.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable

from agent.tree.errors import FileError
from agent.tree.paths import Folder
from agent.tree.plans import Plan
from agent.tree.writer import Temporary

__all__ = ["SYNCED_ONE_BY_ONE", "sync_file_systems", "sync_new_files"]

SYNCED_ONE_BY_ONE = 8  # files at most; their descriptors stay open until then
_syncfs = ctypes.CDLL(None, use_errno=True).syncfs  # os has none


def sync_file_systems(folders: Iterable[Folder]) -> None:
    """Make everything on the folders' file systems last. Raises OSError."""
    seen = set()
    for folder in set(folders):  # many files lie in the same one
        device = os.fstat(folder.fd).st_dev
        if device in seen:
            continue
        seen.add(device)
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder.fd)  # O_PATH will not do
        try:
            if _syncfs(fd):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(fd)


def sync_new_files(plans: list[Plan]) -> None:
    """Make the data of new files last, before any of them takes its place."""
    open_ones = [plan for plan in plans if plan.temporary is not None and plan.temporary.fd is not None]
    closed = [plan for plan in plans if plan.temporary is not None and plan.temporary.fd is None]
    if closed:
        for plan in open_ones:
            _do(plan, Temporary.settle)
        try:
            sync_file_systems(plan.temporary.folder for plan in plans if plan.temporary is not None)
        except OSError as error:
            for plan in plans:
                plan.fail(FileError.from_os("sync the new file", error))
        return
    for plan in open_ones:
        _do(plan, Temporary.sync)


def _do(plan: Plan, step: Callable[[Temporary], None]) -> None:
    assert plan.temporary is not None
    try:
        step(plan.temporary)
    except FileError as error:
        plan.fail(error)
