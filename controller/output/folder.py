"""`OutputDir`: each host's output in two files of its own, bytes exact, beside whatever else is shown.

Files are opened for each piece and closed again. That costs some microseconds and needs no descriptor between pieces:
two open files for each of 2,000 connections would not fit under a usual ``ulimit -n``. There is no lock: the calls for
one host come in order, and those for different hosts share no file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from controller.output.sink import RunInfo
from controller.output.writer import OutputError
from controller.results import Result, Status

__all__ = ["OutputDir", "file_name"]

_STREAMS = ("stdout", "stderr")
_PARTIAL = ".partial"
_UNFIT = r"^[.-]|[^\w.@:+,=-]"
# Never through a link that somebody else put there, and never waiting for the reader of a FIFO: the folder may be one
# that others can write to, such as /tmp.
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def file_name(host: str) -> str:
    """Return the name of `host` as the start of a file name; different hosts give different names.

    What could leave the folder, hide the file, or look like an option is percent-encoded, and the percent sign with
    it: ``../x`` becomes ``%2E.%2Fx``.
    """

    def encoded(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))

    return re.sub(_UNFIT, encoded, host)


class OutputDir:
    """Writes ``DIR/HOST.stdout`` and ``DIR/HOST.stderr`` for every host, empty ones too.

    Files of an earlier run are replaced, so that what is there afterwards is this run's output and nothing else. What
    came of a host whose connection broke is moved to ``HOST.stdout.partial``: a script that reads ``HOST.stdout`` must
    not take it for what the command wrote.
    """

    keeps = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Make the folder when it is missing. Raises OutputError when it cannot be made or written to."""
        self._path = os.fspath(path)
        self._begun: set[str] = set()
        self._failed = False
        try:
            os.makedirs(self._path, exist_ok=True)
        except OSError as exc:
            raise OutputError.from_os_error(self._path, exc) from exc
        if not os.access(self._path, os.W_OK | os.X_OK):
            raise OutputError(self._path, "permission denied")

    def start(self, host: str) -> None:
        """Make both files of `host`, empty."""
        self._begin(host)

    def stdout(self, host: str, data: bytes) -> None:
        """Append `data` to the file of the host's standard output."""
        self._append(host, "stdout", data)

    def stderr(self, host: str, data: bytes) -> None:
        """Append `data` to the file of the host's standard error."""
        self._append(host, "stderr", data)

    def end(self, result: Result) -> None:
        """Make the files of a host that was never started, so that none of an earlier run is left."""
        if not self._failed:
            self._begin(result.host)
            if result.status is Status.BROKEN:
                self._set_aside(result.host)

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Make the files of every host that `end` was not called for."""
        for result in results:
            self.end(result)

    def _append(self, host: str, stream: str, data: bytes) -> None:
        self._begin(host)
        self._write(host, stream, os.O_APPEND, data)

    def _begin(self, host: str) -> None:
        if host not in self._begun:
            for stream in _STREAMS:
                self._write(host, stream, os.O_TRUNC, b"")
                with self._errors(self._file(host, stream) + _PARTIAL) as path, suppress(FileNotFoundError):
                    os.unlink(path)
            self._begun.add(host)

    def _set_aside(self, host: str) -> None:
        """Move what has come out of the way, and leave empty files in its place."""
        for stream in _STREAMS:
            with self._errors(self._file(host, stream)) as path:
                if not os.lstat(path).st_size:
                    continue
                os.replace(path, path + _PARTIAL)
            self._write(host, stream, os.O_TRUNC, b"")

    def _file(self, host: str, stream: str) -> str:
        return os.path.join(self._path, f"{file_name(host)}.{stream}")

    @contextmanager
    def _errors(self, path: str) -> Iterator[str]:
        try:
            yield path
        except OSError as exc:
            self._failed = True
            raise OutputError.from_os_error(path, exc) from exc

    def _write(self, host: str, stream: str, flag: int, data: bytes) -> None:
        with self._errors(self._file(host, stream)) as path:
            descriptor = os.open(path, _FLAGS | flag, 0o666)
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
            finally:
                os.close(descriptor)  # its error counts: a network file system may tell of a full disk only now
