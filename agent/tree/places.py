"""Where in the receiver's tree a path of the sender belongs: pure functions of what the operator wrote.

A push goes into a directory, or to a new name in one. A pull goes to the names that were asked for, and to no others:
whatever an agent sends besides is refused before anything is done about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.tree.patterns import Patterns, is_pattern, matches_name
from agent.wire.errors import RemoteProtocolError
from agent.wire.file_messages import TOP

__all__ = ["Asked", "Named", "answers", "into", "pull_names"]


def into(path: str) -> tuple[str, ...]:
    """Place a path below the receiver's base as it is; TOP is the base itself."""
    return () if path == TOP else tuple(path.split("/"))


@dataclass(slots=True)
class Named:
    """Gives the only source a new name."""

    name: str
    _source: str | None = None

    def __call__(self, path: str) -> tuple[str, ...]:
        """Place a path. Raises RemoteProtocolError for a second source."""
        source, *rest = path.split("/")
        self._source = self._source or source
        if source != self._source or source == TOP:
            raise RemoteProtocolError(f"a second source, {source!r}, for one new name")
        return (self.name, *rest)


class Asked:
    """Places what was asked for by `pull_names(path)` of some remote paths; `suffix` is added to each top name."""

    def __init__(self, paths: Iterable[str], suffix: str = "") -> None:
        self._paths = list(paths)
        self._asked = [pull_names(path) for path in self._paths]
        self._suffix = suffix

    def __call__(self, path: str) -> tuple[str, ...]:
        """Place a path. Raises RemoteProtocolError for one that nobody asked for."""
        names = into(path)
        if not names or not any(_fits(names, asked) for asked in self._asked):
            raise RemoteProtocolError(f"{path!r} was not asked for")
        return (names[0] + self._suffix, *names[1:])

    def demanded(self, exclude: Iterable[str]) -> list[str]:
        """Return the remote paths about which the sender has to say something: all but what `exclude` leaves out."""
        excluded = Patterns(exclude)
        return [path for path in self._paths if not excluded.match("/".join(pull_names(path)), folder=True)]

    def remote(self, path: str) -> str:
        """Return what a path that came is called on the host: for words about what is, or is not, there."""
        names = into(path)
        for remote, asked in zip(self._paths, self._asked, strict=True):
            if _fits(names, asked):
                start = [name for name in remote.split("/") if name not in ("", ".")][: -len(asked)]
                return "/" * remote.startswith("/") + "/".join((*start, *names))
        return path


def pull_names(path: str) -> tuple[str, ...]:
    """Return what a remote path is called locally, as patterns: its last name, or all from the first pattern on.

    /var/log/syslog -> syslog, /var/log/*.log -> *.log, /home/*/x.log -> */x.log. Raises ValueError for a path without
    a name at its end, such as `/` or `a/..`.
    """
    names = [name for name in path.split("/") if name not in ("", ".")]
    if not names or names[-1] == "..":
        raise ValueError(f"no name at the end of {path!r}")
    for place, name in enumerate(names):
        if is_pattern(name):
            if ".." in names[place:]:
                raise ValueError(f"'..' after a pattern in {path!r}")
            return tuple(names[place:])
    return (names[-1],)


def answers(path: str, remote: str) -> bool:
    """Whether a path that came is what was asked for by `remote`, lies in it, or leads to it."""
    return _fits(into(path), pull_names(remote))


def _fits(names: tuple[str, ...], asked: tuple[str, ...]) -> bool:
    """Whether names are what was asked for, lie below it, or lead to it."""
    return all(
        name == pattern or (is_pattern(pattern) and matches_name(pattern, name))
        for name, pattern in zip(names, asked, strict=False)
    )
