"""What is to be pushed: paths on this machine, looked at before any host is reached, and opened anew for each host.

Here the operator's own files are read with the operator's own rights, so links on the way to them are followed like
everywhere else; what is in a tree is the affair of `agent.tree`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from agent.tree.entries import Source
from agent.tree.errors import FileError
from agent.tree.paths import Links, check_name, kind_of
from agent.tree.sources import find_source
from agent.wire.file_messages import TOP
from agent.wire.record import record
from controller.differences import LARGEST, Content
from controller.errors import FleetError

__all__ = ["LocalSource", "look_at", "opened", "reader"]


@record
class LocalSource:
    """A path on this machine, and the name by which it goes; TOP for what is in a directory, as it is."""

    path: str
    name: str
    is_folder: bool = False


def look_at(paths: Sequence[str], *, follow: bool) -> list[LocalSource]:
    """Check what is to be pushed. Raises FleetError for what is not there, cannot be read, or is nothing to push."""
    sources = [_look_at(path, follow=follow) for path in paths]
    seen: dict[str, str] = {}
    for source in sources:
        other = seen.setdefault(source.name, source.path)
        if other != source.path:
            raise FleetError(source.path, f"has the same name as {other}, and both would go to the same place")
    return list({source.path: source for source in sources}.values())


def _look_at(path: str, *, follow: bool) -> LocalSource:
    if "\0" in path:
        raise FleetError(path, "holds a NUL byte")
    name = path.rstrip("/").rpartition("/")[2]
    name = TOP if name in ("", ".", "..") else name
    try:
        check_name(name)
        # With a slash at its end, a link to a directory is the directory: path_resolution(7).
        info = os.stat(path) if follow or path.endswith("/") else os.lstat(path)
    except FileError as error:
        raise FleetError(path, str(error)) from None
    except OSError as error:
        raise FleetError(path, (error.strerror or str(error)).lower()) from None
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode) or stat.S_ISLNK(info.st_mode)):
        raise FleetError(path, f"is {kind_of(info.st_mode)}", "files, directories and links can be pushed")
    is_folder = stat.S_ISDIR(info.st_mode)
    if not stat.S_ISLNK(info.st_mode) and not os.access(path, os.R_OK | (os.X_OK if is_folder else 0)):
        raise FleetError(path, "permission denied")
    return LocalSource(path, name, is_folder)


@contextmanager
def opened(sources: Sequence[LocalSource]) -> Iterator[list[Source]]:
    """Open sources for one transfer. One that has gone is a source with the reason."""
    with ExitStack() as stack:
        found = []
        for source in sources:
            one = find_source(source.path, home=os.getcwd(), links=Links.ALWAYS)
            if one.folder is not None:
                stack.callback(one.folder.release)
            found.append(one)
        yield found


def _read_content(path: str) -> Content | None:
    """Return what there is to know of a file's content for a difference; None for a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError:
        return None
    return Content.of(data) if len(data) <= LARGEST else None


def reader(sources: Sequence[LocalSource]) -> Callable[[str], Content | None]:
    """Return what gives the content of an entry, by its path in the transfer."""
    places = {source.name: source.path for source in sources}

    def read(path: str) -> Content | None:
        name, _, rest = path.partition("/")
        place = places.get(name)
        if place is None:
            place, rest = places[TOP], path
        return _read_content(os.path.join(place, rest) if rest else place)

    return read
