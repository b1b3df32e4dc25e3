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
        elif _means_files(pattern, sources or ()):
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


def _means_files(pattern: str, sources: Sequence[str]) -> bool:
    """Whether the pattern, which has no slash and so is about single names, leaves out anything of the sources."""
    from agent.tree.patterns import Patterns

    patterns = Patterns([pattern])
    return any(patterns.match(name, folder=folder) for source in sources for name, folder in _names(source))


def _names(source: str) -> Iterator[tuple[str, bool]]:
    """Yield the name of a source and all names in it, and whether each is that of a directory."""
    yield os.path.basename(os.path.normpath(source)), os.path.isdir(source)
    for _, folders, files in os.walk(source):
        yield from ((name, True) for name in folders)
        yield from ((name, False) for name in files)
