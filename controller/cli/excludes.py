"""What `--exclude` of `fleet push` and `fleet pull` is about: files, or hosts as on every other command.

rsync's users mean files by it, fleet's users hosts. The rule: who leaves out a host must never find it changed. So a
pattern that means hosts is taken for hosts, with a word on stderr, unless it means files as well: that is an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from controller.errors import FleetError

if TYPE_CHECKING:
    from inventory import Inventory

__all__ = ["split"]


def split(
    patterns: Sequence[str], known: Inventory, sources: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """Return the patterns of files and those of hosts. `sources` are what is pushed, None when that is not here.

    Raises FleetError for one that means both.
    """
    files: list[str] = []
    hosts: list[str] = []
    for pattern in patterns:
        if not _means_hosts(pattern, known):
            files.append(pattern)
        elif sources is not None and any(_matching(pattern, sources)):
            raise FleetError("--exclude", f"{pattern!r} means files of SRC, and hosts as well", "-x is for hosts alone")
        else:
            hosts.append(pattern)
            print(f"fleet: --exclude {pattern}: taken for hosts, as -x", file=sys.stderr)
    return files, hosts


def _means_hosts(pattern: str, known: Inventory) -> bool:
    from inventory import InventoryError, match

    if "/" in pattern:
        return False
    try:
        return bool(match(known, pattern))
    except InventoryError:
        return False


def _matching(pattern: str, sources: Sequence[str]) -> Iterator[str]:
    """Yield what the pattern, as one of files, leaves out of the sources."""
    from agent.tree.patterns import Patterns

    patterns = Patterns([pattern])
    for source in sources:
        top = os.path.basename(os.path.normpath(source))
        if patterns.match(top, folder=os.path.isdir(source)):
            yield source
        for folder, folders, files in os.walk(source):
            for names, is_folder in ((folders, True), (files, False)):
                for name in names:
                    if patterns.match(os.path.relpath(os.path.join(folder, name), source), folder=is_folder):
                        yield os.path.join(folder, name)
