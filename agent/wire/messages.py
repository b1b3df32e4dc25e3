"""Every message of the protocol, one frozen dataclass each. This file is the list.

Messages hold data and check their own ranges (ValueError), nothing more. How they look on the wire is `codec`'s
affair; which may come when is the table in `connection`.

Strings that stand for bytes of the operating system (a command, a path, an environment) may hold surrogates
U+DC80..U+DCFF, which stand for the bytes 0x80..0xFF that are not UTF-8 (PEP 383): `os.fsencode` gives them back.

The messages of push and pull are in `file_messages`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field

from agent.wire.constants import HOST_ID_LENGTH, MAX_DATA_PAYLOAD, NONCE_LENGTH, PROOF_LENGTH
from agent.wire.file_messages import FileMessage
from agent.wire.handshake import CONTROLLER_NAME
from agent.wire.record import record

__all__ = [
    "Cancel",
    "Challenge",
    "EndOfStream",
    "Error",
    "Exit",
    "Goodbye",
    "Hello",
    "Message",
    "Ping",
    "Pong",
    "Proof",
    "Reason",
    "Refusal",
    "Resize",
    "Run",
    "Script",
    "Stderr",
    "Stdin",
    "Stdout",
    "Stream",
    "Welcome",
    "Window",
]


class Stream(enum.StrEnum):
    """The streams of a command."""

    STDIN = "stdin"
    STDOUT = "stdout"
    STDERR = "stderr"
    SCRIPT = "script"  # what is run, when it is no command line


class Reason(enum.StrEnum):
    """Why a command is no longer running."""

    EXIT = "exit"  # by itself: see the code or the signal
    TIMEOUT = "timeout"  # its time was up
    CANCELLED = "cancelled"  # the controller, or the agent's own end, stopped it


# The login ---------------------------------------------------------------------------------------------------------


@record
class Hello:
    """Controller to agent, first: who wants in, to which host, in which versions of the protocol."""

    controller: str
    host_id: bytes
    epoch: int
    nonce: bytes
    min_version: int
    max_version: int
    features: int

    def __post_init__(self) -> None:
        _require(bool(CONTROLLER_NAME.fullmatch(self.controller)), "malformed controller name")
        _require(len(self.host_id) == HOST_ID_LENGTH, f"host id of {len(self.host_id)} bytes")
        _require(len(self.nonce) == NONCE_LENGTH, f"nonce of {len(self.nonce)} bytes")
        _require(0 <= self.epoch < 2**32, f"epoch {self.epoch} out of range")
        _require(0 <= self.features < 2**32, f"features {self.features} out of range")
        _require(
            1 <= self.min_version <= self.max_version < 2**16,
            f"impossible versions {self.min_version} to {self.max_version}",
        )


@record
class Challenge:
    """Agent to controller: the version and features of this conversation, and the agent's nonce. The same for all."""

    version: int
    features: int
    nonce: bytes

    def __post_init__(self) -> None:
        _require(len(self.nonce) == NONCE_LENGTH, f"nonce of {len(self.nonce)} bytes")
        _require(1 <= self.version < 2**16, f"version {self.version} out of range")
        _require(0 <= self.features < 2**32, f"features {self.features} out of range")


@record
class Proof:
    """Controller to agent: the channel binding it saw, and the proof that it holds the host's key."""

    binding: bytes
    proof: bytes

    def __post_init__(self) -> None:
        length = len(self.binding) + len(self.proof)
        _require(len(self.binding) == 32 and length == PROOF_LENGTH, f"proof of {length} bytes")


@record
class Welcome:
    """Agent to controller: its own proof. `info` is a JSON object; do not read it before `proof` holds."""

    proof: bytes
    info: bytes = b"{}"

    def __post_init__(self) -> None:
        _require(len(self.proof) == 32, f"proof of {len(self.proof)} bytes")


@record
class Refusal:
    """Agent to controller: no. Always the same byte, whatever the reason, and nobody vouches for it."""


# At any time after the login ---------------------------------------------------------------------------------------


@record
class Ping:
    """Either way: are you there? `token` comes back in the `Pong`."""

    token: int = 0

    def __post_init__(self) -> None:
        _require(0 <= self.token < 2**63, f"token {self.token} out of range")


@record
class Pong:
    """Either way: the answer. `time` is the sender's wall clock, in seconds since the epoch."""

    token: int = 0
    time: float = 0.0

    def __post_init__(self) -> None:
        _require(0 <= self.token < 2**63, f"token {self.token} out of range")
        _require(0 <= self.time < 1e12, f"time {self.time} out of range")


@record
class Goodbye:
    """Agent to controller: this connection ends now. `code` is for programs, `text` for people."""

    code: str
    text: str


# A command ---------------------------------------------------------------------------------------------------------


@record
class Run:
    """Controller to agent: run this, with `shell` (a path) or else the agent's own.

    `host` is the host's name in the controller's inventory and `run` the run's id; the command sees both. `directory`
    None means home. `timeout` is in seconds, `max_output` in bytes for each stream; None means no limit. With `stdin`
    the controller will send a standard input, without it the command reads end-of-file at once.

    With `script` a program follows on the stream of that name; it is run by its ``#!`` with `arguments`, and `command`
    is only what to call it. With `terminal` (the TERM of the controller's own) the command gets a terminal of so many
    `rows` and `columns` (0: not known), and all it writes is standard output.
    """

    command: str
    host: str = ""
    run: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str | None = None
    user: str | None = None
    timeout: float | None = None
    max_output: int | None = None
    stdin: bool = False
    shell: str | None = None
    script: bool = False
    arguments: tuple[str, ...] = ()
    terminal: str | None = None
    rows: int = 0
    columns: int = 0

    def __post_init__(self) -> None:
        _require(self.command.strip() != "", "empty command")
        _require("\0" not in self.command, "NUL in the command")
        for name, value in self.environment.items():
            _require(bool(name) and "=" not in name, f"not a name of an environment variable: {name[:64]!r}")
            _require("\0" not in name + value, "NUL in the environment")
        for text in (self.host, self.run, self.directory or "", self.user or "", self.shell or "", self.terminal or ""):
            _require("\0" not in text, "NUL in a name")
        _require(not any("\0" in text for text in self.arguments), "NUL in an argument")
        _require(self.script or not self.arguments, "arguments without a script")
        _require(not (self.script and self.shell), "both a script and a shell")
        _require(self.shell is None or self.shell.startswith("/"), "the shell is no absolute path")
        _require(self.terminal is None or self.stdin, "a terminal without standard input")
        _require_window_size(self.rows, self.columns)
        _require(self.timeout is None or 0 < self.timeout < 1e9, f"timeout of {self.timeout} seconds")
        _require(
            self.max_output is None or 0 <= self.max_output < 2**63,
            f"output limit of {self.max_output} bytes",
        )


@record
class Stdin:
    """Controller to agent: bytes for the command's standard input, as many as the window has room for."""

    data: bytes | memoryview = field(repr=False)

    def __post_init__(self) -> None:
        _require_data(self.data)


@record
class Script:
    """Controller to agent: bytes of the program to run, MAX_SCRIPT in all at most."""

    data: bytes | memoryview = field(repr=False)

    def __post_init__(self) -> None:
        _require_data(self.data)


@record
class Resize:
    """Controller to agent: the terminal has another size now."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        _require_window_size(self.rows, self.columns)


@record
class Stdout:
    """Agent to controller: bytes that the command wrote on standard output."""

    data: bytes | memoryview = field(repr=False)

    def __post_init__(self) -> None:
        _require_data(self.data)


@record
class Stderr:
    """Agent to controller: bytes that the command wrote on standard error."""

    data: bytes | memoryview = field(repr=False)

    def __post_init__(self) -> None:
        _require_data(self.data)


@record
class EndOfStream:
    """Either way: the stream's last message. A stream without it is cut, however good it looks.

    `bytes` and `sha256` (hexadecimal) are of what was sent; `total` counts all the bytes there were, and is larger when
    an output limit held some back.
    """

    stream: Stream
    bytes: int
    sha256: str
    total: int

    def __post_init__(self) -> None:
        _require(0 <= self.bytes <= self.total < 2**63, f"{self.bytes} of {self.total} bytes")
        _require(len(self.sha256) == 64, f"digest of {len(self.sha256)} digits")


@record
class Window:
    """Agent to controller: the command took so many more bytes of its standard input; that many may follow."""

    bytes: int

    def __post_init__(self) -> None:
        _require(0 < self.bytes < 2**31, f"window of {self.bytes} bytes")


@record
class Cancel:
    """Controller to agent: end the command and everything that it started."""


@record
class Exit:
    """Agent to controller: the command is over. Comes after the ends of both output streams.

    `code` is 0..255, or None when a signal ended the shell (`signal` is its number) or when the command could not be
    started (`error` says why). `elapsed` is in seconds. `held` says that a process which the command left behind still
    holds its standard output or error: what that one writes is lost.
    """

    code: int | None = None
    signal: int | None = None
    reason: Reason = Reason.EXIT
    elapsed: float = 0.0
    held: bool = False
    error: str | None = None

    def __post_init__(self) -> None:
        _require(self.code is None or 0 <= self.code <= 255, f"exit code {self.code}")
        _require(self.signal is None or 0 < self.signal < 128, f"signal {self.signal}")
        _require(self.code is None or self.signal is None, "both an exit code and a signal")
        _require(0 <= self.elapsed < 1e9, f"elapsed time of {self.elapsed} seconds")


@record
class Error:
    """Agent to controller: the request is refused; the connection lives on."""

    code: str
    text: str


Message = (
    Hello
    | Challenge
    | Proof
    | Welcome
    | Refusal
    | Ping
    | Pong
    | Goodbye
    | Run
    | Stdin
    | Script
    | Resize
    | Stdout
    | Stderr
    | EndOfStream
    | Window
    | Cancel
    | Exit
    | Error
    | FileMessage
)


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


def _require_window_size(rows: int, columns: int) -> None:
    _require(0 <= rows < 2**16 and 0 <= columns < 2**16, f"terminal of {rows} rows and {columns} columns")


def _require_data(data: bytes | memoryview) -> None:
    if not 0 < len(data) <= MAX_DATA_PAYLOAD:
        raise ValueError(f"{len(data)} bytes of data, expected 1 to {MAX_DATA_PAYLOAD}")
