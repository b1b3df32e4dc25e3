"""The last words of a shell, taken off its output: where they are is marked with a token that was made for one command.

    TOKEN(length:…TOKEN.…TOKEN.…TOKEN)     what the shell says of itself
    TOKEN!                                 its directory is not there any more

A command cannot print by accident what it would have to guess; one that looks the token up in /proc deceives nobody
but the host it runs on. The length tells when a process in the background wrote into the middle.
"""

from __future__ import annotations

from controller.runs import Guard

__all__ = ["MAX_TRAILER", "Cutter", "Trimmed"]

# Bytes. More than any state that can be given back (see `state`), twice over: variables are listed twice at most.
MAX_TRAILER = 1024 * 1024


class Cutter:
    """One stream of one host's output. `body` is what stood in the trailer, None without one; `gone` says that the
    directory is. `start` and `removed` say which bytes were taken off."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._held = b""  # the start of a token, perhaps; behind it, the trailer so far
        self._seen = 0
        self._inside = False
        self._over = False
        self.start = 0
        self.removed = 0
        self.body: bytes | None = None
        self.gone = False
        self.garbled = False

    def feed(self, data: bytes) -> bytes:
        """Return what of the stream is output, as far as that can be told by now."""
        if self._over:
            return data
        if self._inside:
            return self._collect(data)
        data = self._held + data
        at = data.find(self._token)
        if at < 0:
            keep = _start_of(self._token, data)
            output, self._held = data[: len(data) - keep], data[len(data) - keep :]
            self._seen += len(output)
            return output
        self.start = self._seen + at
        self._held, self._inside = b"", True
        return data[:at] + self._collect(data[at:])

    def finish(self) -> bytes:
        """Return what was held back; the stream is over."""
        held, self._held = self._held, b""
        if not self._inside:
            return held
        if not self._over:
            self.garbled, self._over = True, True
            self.removed += len(held)
        return b""

    def cut(self, kept: bytes) -> bytes:
        """Return the stream as a whole, `kept`, without the trailer."""
        return kept[: self.start] + kept[self.start + self.removed :] if self.removed else kept

    def _collect(self, data: bytes) -> bytes:
        held = self._held + data
        mark = len(self._token) + 1
        if held[mark - 1 : mark] == b"!":
            self.gone = True
            return self._end(held, mark)
        end = held.find(self._token + b")", mark)
        if end >= 0:
            self._read(held[mark - 1 : end])
            return self._end(held, end + mark)
        if len(held) > MAX_TRAILER:
            # Thrown away but for what could be the start of its end.
            self.garbled = True
            self.removed += len(held) - 2 * mark
            held = held[:mark] + held[-mark:]
        self._held = held
        return b""

    def _end(self, held: bytes, end: int) -> bytes:
        self.removed += end
        self._held, self._over = b"", True
        return held[end:]

    def _read(self, trailer: bytes) -> None:
        length, colon, body = trailer[1:].partition(b":")
        self.garbled |= len(body) > MAX_TRAILER or trailer[:1] != b"(" or not colon or length != b"%d" % len(body)
        if not self.garbled:
            self.body = body


def _start_of(token: bytes, data: bytes) -> int:
    """Return how many of the last bytes of `data` may be the start of a token."""
    for length in range(min(len(token) - 1, len(data)), 0, -1):
        if data.endswith(token[:length]):
            return length
    return 0


class Trimmed:
    """An observer of one host between the connection and another observer, that keeps trailers from it."""

    def __init__(self, observer: Guard, token: str) -> None:
        self._observer = observer
        self.out = Cutter(token.encode())
        self.err = Cutter(token.encode())

    def start(self, host: str) -> None:
        self._observer.start(host)

    def stdout(self, host: str, data: bytes) -> None:
        if output := self.out.feed(data):
            self._observer.stdout(host, output)

    def stderr(self, host: str, data: bytes) -> None:
        if output := self.err.feed(data):
            self._observer.stderr(host, output)

    def finish(self, host: str) -> None:
        """Pass on what was held back."""
        if output := self.out.finish():
            self._observer.stdout(host, output)
        if output := self.err.finish():
            self._observer.stderr(host, output)
