"""What is to be pushed: paths on this machine, looked at before any host is reached, and opened anew for each host.

Here the operator's own files are read with the operator's own rights, so links on the way to them are followed like
everywhere else; what is in a tree is the affair of `agent.tree`.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from agent.tree.entries import Source
from agent.tree.errors import FileError
from agent.tree.paths import Folder, Links, check_name, kind_of
from agent.tree.sources import find_source
from agent.wire.file_messages import TOP
from agent.wire.record import record
from controller.differences import LARGEST, Content
from controller.errors import FleetError, HostError
from controller.results import Status
from inventory import Host, InventoryError, fill

__all__ = ["FillError", "Filler", "LocalSource", "Template", "look_at", "opened", "read_templates", "reader"]

_MOST_OF_TEMPLATE = 1024 * 1024  # bytes: it is filled in memory, for many hosts at once


@record
class LocalSource:
    """A path on this machine, and the name by which it goes; TOP for what is in a directory, as it is."""

    path: str
    name: str
    is_folder: bool = False


@record
class Template:
    """A source with the text in it that is filled in for each host."""

    source: LocalSource
    text: str
    mode: int
    times: tuple[int, int]  # nanoseconds

    def fill(self, host: Host) -> bytes:
        """Return the text with the host's values in it, unquoted. Raises FleetError for one that is not defined."""
        try:
            return fill(self.text, host, quote=False).encode("utf-8", "surrogateescape")
        except InventoryError as error:
            raise FleetError(self.source.path, str(error), error.hint) from None


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
def opened(sources: Sequence[LocalSource]) -> Iterator[tuple[list[Source], Sequence[LocalSource]]]:
    """Open sources for one transfer, and give them as they are, too. One that has gone is a source with the reason."""
    with ExitStack() as stack:
        found = []
        for source in sources:
            one = find_source(source.path, home=os.getcwd(), links=Links.ALWAYS)
            if one.folder is not None:
                stack.callback(one.folder.release)
            found.append(one)
        yield found, sources


def read_templates(sources: Sequence[LocalSource]) -> list[Template]:
    """Read sources to be filled in for each host. Raises FleetError for a directory, and for what is no text."""
    return [_read_template(source) for source in sources]


def _read_template(source: LocalSource) -> Template:
    if source.is_folder:
        raise FleetError("--template", f"fills in files, and {source.path} is a directory")
    try:
        with open(source.path, "rb") as file:
            info = os.fstat(file.fileno())
            data = file.read(_MOST_OF_TEMPLATE + 1)
    except OSError as error:
        raise FleetError(source.path, (error.strerror or str(error)).lower()) from None
    if len(data) > _MOST_OF_TEMPLATE:
        raise FleetError(source.path, f"more than {_MOST_OF_TEMPLATE} bytes, which is too long for --template")
    if b"\0" in data:
        raise FleetError(source.path, "holds a NUL byte: no text for --template")
    # Bytes that are not UTF-8 pass through as they are.
    text = data.decode("utf-8", "surrogateescape")
    return Template(source, text, stat.S_IMODE(info.st_mode), (info.st_atime_ns, info.st_mtime_ns))


class FillError(HostError):
    """A host's files cannot be made on this machine."""

    status = Status.FAILED

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot fill in the template: {(error.strerror or str(error)).lower()}")


class Filler:
    """Makes the files of templates for one host after the other, in a folder that nobody else can read.

    The folder is there as long as some host needs it. Used from the threads of all connections.
    """

    def __init__(self, templates: Sequence[Template]) -> None:
        self._templates = templates
        self._lock = threading.Lock()
        self._users = 0
        self._count = 0
        self._path = ""

    @contextmanager
    def opened(self, host: Host) -> Iterator[tuple[list[Source], list[LocalSource]]]:
        """Open the files of one host, which are gone afterwards."""
        number = self._enter()
        made: list[LocalSource] = []
        try:
            folder = Folder(os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), self._path)
            try:
                self._make(host, number, folder, made)
                yield [Source(folder, (os.path.basename(one.path),), one.name) for one in made], made
            finally:
                folder.release()
        finally:
            for one in made:
                os.unlink(one.path)
            self._leave()

    def _make(self, host: Host, number: int, folder: Folder, made: list[LocalSource]) -> None:
        for template in self._templates:
            name = f"{number}.{len(made)}"
            data = template.fill(host)
            try:
                fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder.fd)
                made.append(LocalSource(folder.join(name), template.source.name))
                with open(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(fd, template.mode | stat.S_IRUSR)
                    os.utime(fd, ns=template.times)
            except OSError as error:
                raise FillError(error) from None

    def _enter(self) -> int:
        with self._lock:
            if not self._users:
                try:
                    self._path = tempfile.mkdtemp(prefix="fleet-")
                except OSError as error:
                    raise FillError(error) from None
            self._users += 1
            self._count += 1
            return self._count

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                os.rmdir(self._path)


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
