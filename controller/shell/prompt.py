"""Where the lines of a prompt come from: a person at a terminal, with history and completion, or a file.

`Terminal` uses readline(3) where Python has it. `Stream` reads what is no terminal as sh(1) does: line by line, without
a prompt. Both join a line that ends in a backslash with the next one, and give None at the end.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import BinaryIO, Protocol

from controller.errors import FleetError
from controller.output import Writer
from controller.shell.signals import Signals

__all__ = ["Lines", "Stream", "Terminal", "history_path"]

_MOST_LINES = 1000  # of history
_CONTINUED = "> "


class Lines(Protocol):
    """Where lines come from."""

    @property
    def interactive(self) -> bool:
        """Whether somebody is there who can do something about a mistake."""

    def next(self, prompt: str) -> str | None:
        """Return the next line, None at the end. Raises FleetError, KeyboardInterrupt and SignalledError."""


class Stream:
    """Lines of a file or a pipe. Bytes that are no UTF-8 are surrogates (PEP 383), and reach the hosts as they were."""

    interactive = False

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def next(self, prompt: str) -> str | None:
        return _joined(lambda: self._line())

    def _line(self) -> str | None:
        line = self._source.readline()
        return line.decode("utf-8", "surrogateescape").removesuffix("\n") if line else None


class Terminal:
    """Lines that somebody types. `candidates` gives what a line can be completed with: see `Completer`."""

    interactive = True

    def __init__(self, err: Writer, candidates: Callable[[str, str], Sequence[str]], history: str | None) -> None:
        self._err = err
        self._readline = _readline()
        self._history = history
        if self._readline is not None:
            self._prepare(self._readline, candidates)

    def next(self, prompt: str) -> str | None:
        with Signals() as signals:
            try:
                line = _joined(self._ask(prompt, signals))
            except UnicodeDecodeError as error:
                raise FleetError("line", f"is not text: byte {error.start + 1} is no UTF-8") from None
        if line is not None:
            self._remember(line)
        return line

    def _ask(self, prompt: str, signals: Signals) -> Callable[[], str | None]:
        shown = iter([prompt])

        def ask() -> str | None:
            try:
                return self._read(next(shown, _CONTINUED), signals)
            except EOFError:
                self._err.line("")
                return None

        return ask

    def _read(self, prompt: str, signals: Signals) -> str:
        if sys.stdout.isatty():
            return signals.wait(input, prompt)
        # Results go elsewhere, and input() would write the prompt among them.
        self._err.write(prompt.encode("utf-8", "backslashreplace"))
        self._err.flush()
        line = signals.wait(sys.stdin.readline)
        if not line:
            raise EOFError
        return line.removesuffix("\n")

    def _prepare(self, readline: ModuleType, candidates: Callable[[str, str], Sequence[str]]) -> None:
        found: list[str] = []

        def complete(word: str, number: int) -> str | None:
            if number == 0:
                found[:] = candidates(readline.get_line_buffer()[: readline.get_begidx()], word)
            return found[number] if number < len(found) else None

        readline.set_completer(complete)
        readline.set_completer_delims(" \t")
        readline.parse_and_bind("tab: complete")
        readline.set_auto_history(False)
        readline.clear_history()
        if self._history is not None:
            try:
                for line in _load_history(self._history):
                    readline.add_history(line)
            except OSError as error:
                self._give_up_history(error)

    def _remember(self, line: str) -> None:
        """Add a line to the history; not one that begins with a blank, which may hold a password."""
        readline = self._readline
        if readline is None or not line.strip() or line[0].isspace():
            return
        count = readline.get_current_history_length()
        if count and readline.get_history_item(count) == line:
            return
        readline.add_history(line)
        if self._history is not None:
            try:
                _append(self._history, line)
            except OSError as error:
                self._give_up_history(error)

    def _give_up_history(self, error: OSError) -> None:
        self._err.line(f"fleet: history: {self._history}: {(error.strerror or str(error)).lower()}")
        self._history = None


def history_path(environ: Mapping[str, str]) -> str:
    """Return where the history is: $XDG_STATE_HOME/fleet/history, or below ~/.local/state."""
    base = environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):  # the XDG specification says to ignore a relative one
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "fleet", "history")


class Completer:
    """What a line can be completed with. `names` are hosts and groups, `commands` the ``:`` commands."""

    def __init__(self, names: Sequence[str], commands: Sequence[str]) -> None:
        self._names = names
        self._commands = commands

    def __call__(self, before: str, word: str) -> list[str]:
        """Return the words that begin with `word`, which stands behind `before`."""
        match before.split():
            case []:
                return _beginning(word, [f":{name} " for name in self._commands])
            case [":limit"]:
                return [word[: -len(last) or None] + name for last, name in self._patterns(word)]
            case [":fold" | ":diff"]:
                return _beginning(word, ["on", "off"])
            case [":put", *_] | [":get", _, *_]:
                return _files(word)
        return []

    def _patterns(self, word: str) -> Iterator[tuple[str, str]]:
        """Yield the last term of a pattern with each name that it may become: `web:!we` has `we` last."""
        last = word[max(map(word.rfind, ",:!&")) + 1 :]
        for name in self._names:
            if name.startswith(last):
                yield last, name


def _beginning(word: str, words: Sequence[str]) -> list[str]:
    return [one for one in words if one.startswith(word)]


def _files(word: str) -> list[str]:
    found = sorted(glob.glob(glob.escape(os.path.expanduser(word)) + "*"))
    return [path + "/" if os.path.isdir(path) else path for path in found]


def _joined(read: Callable[[], str | None]) -> str | None:
    """Return one line, or several of which all but the last end in a backslash."""
    whole = ""
    while (line := read()) is not None:
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2 == 0:
            return whole + line
        whole += line[:-1]
    return whole or None


def _readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:  # a Python that was built without it: lines can be typed all the same
        return None
    return readline


def _load_history(path: str) -> list[str]:
    """Return the last lines of the file, which is made if it is missing, and cut when it has become long."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with open(descriptor, "r+b") as file:
        os.fchmod(descriptor, 0o600)  # what is typed may hold a password, whatever the umask was
        lines = file.read().split(b"\n")[:-1]
        kept = lines[-_MOST_LINES:]
        if len(lines) > 2 * _MOST_LINES:  # not each time: another prompt may be appending
            file.seek(0)
            file.write(b"".join(line + b"\n" for line in kept))
            file.truncate()
    return [line.decode("utf-8", "replace") for line in kept]


def _append(path: str, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with open(descriptor, "ab") as file:
        file.write(line.encode("utf-8", "surrogateescape") + b"\n")
