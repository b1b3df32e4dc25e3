"""Inventory scripts: an executable that prints JSON for `--list`, and for `--host NAME` when it must be asked.

The script is somebody's program that talks to somebody's cloud. Its rules here: it gets a time and a number of
bytes, its whole process group dies when it takes more, what it says on stderr is shown, and any exit status but 0
is an error even when JSON was printed.
"""

import contextlib
import errno
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from inventory.documents import Document
from inventory.errors import InventoryError, location, printable
from inventory.files import MAX_BYTES
from inventory.names import Value

# More of its complaints would only push the error off the screen.
STDERR_LINES = 20
# How often to look whether the script has ended while others hold its output open.
_LOOK = 0.2
_STDERR_BYTES = 64 * 1024
_CHUNK = 256 * 1024


class NotExecutableError(Exception):
    """The system does not know how to run the file: an inventory with its x bit set, as on many file systems."""


@dataclass(slots=True)
class Script:
    """One script and what may still be spent on it: `seconds` are for all its calls together."""

    path: str
    warn: Callable[[str], None]
    seconds: float
    limit: int = MAX_BYTES
    clock: Callable[[], float] = time.monotonic
    _deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self._deadline = self.clock() + self.seconds

    def list(self) -> str:
        """Return what the script prints for `--list`.

        Raises:
            NotExecutableError: the system cannot run it.
            InventoryError: it failed, took too long, printed too much, or no UTF-8.
        """
        return self._decode(self._run("--list"), "--list")

    def host(self, name: str) -> dict[str, Value]:
        """Return the variables that the script prints for `--host NAME`; nothing printed means none."""
        text = self._decode(self._run("--host", name), f"--host {name}")
        if not text.strip():
            return {}
        value = Document(self._called(f"--host {name}"), text, lines=False).load()
        if not isinstance(value, dict):
            raise InventoryError("expected an object of variables", path=self._called(f"--host {name}"))
        return value

    def _called(self, arguments: str) -> str:
        return f"{self.path} {arguments}"

    def _run(self, *arguments: str) -> bytes:
        command = [os.path.abspath(self.path), *arguments]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                raise NotExecutableError from None
            reason = (error.strerror or str(error)).lower()
            raise InventoryError(f"cannot be run ({reason})", path=self.path) from None
        called = self._called(" ".join(arguments))
        with process:
            try:
                output, complaints = self._read(process, called)
                status = self._wait(process, called)
            except BaseException:
                _kill(process)
                raise
        self._show(complaints)
        if status:
            raise InventoryError(_ended(status), path=called, hint="run it by hand to see what it needs")
        return output

    def _read(self, process: subprocess.Popen[bytes], called: str) -> tuple[bytes, bytes]:
        read: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        with selectors.DefaultSelector() as selector:
            for name in read:
                selector.register(getattr(process, name), selectors.EVENT_READ, name)
            while selector.get_map():
                ready = selector.select(min(self._left(called), _LOOK))
                if not ready and process.poll() is not None:
                    # It has ended; what still holds the pipes open is something it started and left behind.
                    break
                for key, _ in ready:
                    piece = os.read(key.fd, _CHUNK)
                    if not piece:
                        selector.unregister(key.fileobj)
                    read[key.data] += piece
                del read["stderr"][_STDERR_BYTES:]
                if len(read["stdout"]) > self.limit:
                    raise InventoryError(f"printed more than the limit of {self.limit} bytes", path=called)
        return bytes(read["stdout"]), bytes(read["stderr"])

    def _wait(self, process: subprocess.Popen[bytes], called: str) -> int:
        try:
            return process.wait(self._left(called))
        except subprocess.TimeoutExpired:
            raise self._late(called) from None

    def _left(self, called: str) -> float:
        left = self._deadline - self.clock()
        if left <= 0:
            raise self._late(called)
        return left

    def _late(self, called: str) -> InventoryError:
        return InventoryError(f"not done after {self.seconds:g} seconds", path=called)

    def _decode(self, data: bytes, arguments: str) -> str:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            reason = f"expected UTF-8, found the byte 0x{data[error.start]:02x} at offset {error.start}"
            raise InventoryError(reason, path=self._called(arguments)) from None

    def _show(self, complaints: bytes) -> None:
        lines = complaints.decode("utf-8", "backslashreplace").splitlines()
        for line in lines[:STDERR_LINES]:
            self.warn(f"{location(self.path, None)}: {printable(line)}")
        if len(lines) > STDERR_LINES:
            self.warn(f"{location(self.path, None)}: and {len(lines) - STDERR_LINES} lines more")


def _ended(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}, expected 0"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the script and all it started, which would go on to hold the pipes open, and the cloud's door."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
