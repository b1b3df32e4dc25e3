"""What a push changes in a text, as a unified diff; what is no text, or too much of it, by size and digest.

The old content comes from hosts, so it is hostile: it costs bounded time here, and whoever shows it makes it harmless.
Texts are kept once, however many hosts they come from.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator

from agent.wire.record import record

__all__ = ["LARGEST", "UNKNOWN", "Content", "Differences", "attributes", "without_attributes"]

LARGEST = 256 * 1024  # bytes of a content that is shown line by line
# Lines of one times lines of the other, without what they begin and end with in common: difflib's time grows faster
# than that at its worst, which a host could choose.
_MOST_WORK = 2_000_000
_CONTEXT = 3  # lines around a change
_MOST_OF_A_HOST = 1024 * 1024  # characters of all differences of one host
_SHORT = 12  # digits of a digest: as many as people compare
_ATTRIBUTE = "(mode|owner) ([0-9:]{1,21} -> [0-9:]{1,21})"  # as a host tells of it for a diff


@record
class Content:
    """A file's content, or what is known of it. `data` is None for more than LARGEST bytes."""

    size: int
    sha256: str
    data: bytes | None = None

    @classmethod
    def of(cls, data: bytes) -> Content:
        """Return the content that is `data`."""
        return cls(len(data), hashlib.sha256(data).hexdigest(), data if len(data) <= LARGEST else None)

    @property
    def lines(self) -> list[str] | None:
        """Return the lines with their ends; None when it is no text that can be shown."""
        if self.data is None or b"\0" in self.data:
            return None
        try:
            # Not `splitlines`, which also splits at characters that no other program takes for the end of a line.
            *lines, rest = self.data.decode().split("\n")
        except UnicodeDecodeError:
            return None
        ended = [line + "\n" for line in lines]
        return [*ended, f"{rest}\n\\ No newline at end of file\n"] if rest else ended  # as diff(1) says it


UNKNOWN = Content(0, "unknown")  # of a file that is there, and that the host's agent may not read


def attributes(path: str, changes: str) -> str:
    """Return a line for each attribute that changes: "PATH: mode 0644 -> 0600"."""
    return "".join(f"{path}: {what} {how}\n" for what, how in re.findall(_ATTRIBUTE, changes))


def without_attributes(changes: str) -> str:
    """Return the words for what changes as they are without a diff: "content, mode"."""
    return re.sub(_ATTRIBUTE, r"\1", changes)


class Differences:
    """Makes differences and counts how much a host has had. Used from the threads of all connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str, str], str] = {}
        self._spent: dict[str, int] = {}

    def text(self, host: str, path: str, old: Content | None, new: Content) -> str:
        """Return the difference between what is at `path` on `host`, None for nothing, and what comes there."""
        key = (path, old.sha256 if old else "", new.sha256)
        with self._lock:
            made = self._made.get(key)
        if made is None:
            made = _unified(path, old, new)
        with self._lock:
            spent = self._spent.get(host, 0)
            if spent + len(made) > _MOST_OF_A_HOST:
                return _summary(path, old, new)
            self._spent[host] = spent + len(made)
            return self._made.setdefault(key, made)


def _unified(path: str, old: Content | None, new: Content) -> str:
    before = [] if old is None else old.lines
    after = new.lines
    if before is None or after is None:
        return _summary(path, old, new)
    start, end = _common(before, after)
    if (len(before) - start - end) * (len(after) - start - end) > _MOST_WORK:
        return _summary(path, old, new)
    # difflib takes lines that are frequent in a long text for noise, and says that everything has changed: so it is
    # given what does change, and as much around it as will be shown.
    start, end = max(0, start - _CONTEXT), max(0, end - _CONTEXT)
    hunks = _hunks(before[start : len(before) - end], after[start : len(after) - end], start)
    return "".join((f"--- {path if old is not None else '/dev/null'}\n", f"+++ {path}\n", *hunks))


def _common(before: list[str], after: list[str]) -> tuple[int, int]:
    """Return how many lines two texts have in common at their start and at their end."""
    shorter = min(len(before), len(after))
    start = 0
    while start < shorter and before[start] == after[start]:
        start += 1
    end = 0
    while end < shorter - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return start, end


def _hunks(before: list[str], after: list[str], offset: int) -> Iterator[str]:
    """Yield the lines of a unified diff; the texts' first lines are number `offset`, counted from 0."""
    import difflib  # here: most pushes show no difference, and start without it

    for group in difflib.SequenceMatcher(None, before, after).get_grouped_opcodes(_CONTEXT):
        first, last = group[0], group[-1]
        yield f"@@ -{_range(offset + first[1], offset + last[2])} +{_range(offset + first[3], offset + last[4])} @@\n"
        for tag, old_start, old_end, new_start, new_end in group:
            if tag == "equal":
                yield from (f" {line}" for line in before[old_start:old_end])
            else:
                yield from (f"-{line}" for line in before[old_start:old_end])
                yield from (f"+{line}" for line in after[new_start:new_end])


def _range(start: int, stop: int) -> str:
    """Return lines as a unified diff names them (POSIX, diff, "Diff -u Output Format")."""
    if stop - start == 1:
        return str(start + 1)
    return f"{start + 1 if stop > start else start},{stop - start}"


def _summary(path: str, old: Content | None, new: Content) -> str:
    return f"{path}: {_words(old)} -> {_words(new)}\n"


def _words(content: Content | None) -> str:
    if content is UNKNOWN:
        return "unknown content"
    return "nothing" if content is None else f"{content.size} bytes, sha256 {content.sha256[:_SHORT]}"
