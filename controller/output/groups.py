"""`Groups`: hosts whose results are the same, together, whatever shows them.

Output is gathered as it comes and grouped by digest when a host ends, so memory holds what hosts are writing at the
moment and one copy of each different output, however many hosts there are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from controller.masks import Masks
from controller.results import Result, Status

__all__ = ["Group", "Groups", "host_order", "identity"]

_NO_MASKS = Masks()
_RANKS = {status: rank for rank, status in enumerate(Status)}
_DIGITS = re.compile(r"([0-9]+)")
# Hosts that refuse a connection do so at addresses of their own, for one reason.
_ADDRESS = re.compile(rb"\S+:\d+")
_THEIR_NAME = Masks(host=True)


def host_order(name: str) -> tuple[object, ...]:
    """Return what names are sorted by, so that web2 comes before web10, as in a folded set."""
    words = _DIGITS.split(name)
    words[1::2] = [f"{len(number):04}{number}" for number in words[1::2]]
    return tuple(words)


@dataclass(slots=True, eq=False)
class Group:
    """Hosts that are the same, as `host_order` sorts them.

    `result` is that of the first, and `exact` what it is without masks; `varies` says that others differ from it there.
    """

    result: Result
    exact: object = None
    hosts: list[str] = field(default_factory=list)
    varies: bool = False

    @property
    def order(self) -> tuple[object, ...]:
        """What groups are sorted by: good ones first, larger ones first, and the worst last, above the prompt."""
        status = self.result.status
        code = -1 if self.result.rc is None else self.result.rc
        return (not status.good, _RANKS[status], -len(self.hosts), code, host_order(self.hosts[0]))


class Groups:
    """Gathers the output of hosts, and puts each into a group when its result is known.

    Hosts are the same when their status, exit code or signal, error, and both their outputs are, masked.
    """

    def __init__(self, masks: Masks = _NO_MASKS) -> None:
        self._masks = masks
        self._coming: dict[tuple[str, bool], list[bytes]] = {}
        self._groups: dict[object, Group] = {}
        self._ended: set[str] = set()

    def stdout(self, host: str, data: bytes) -> None:
        """Keep `data` until `host` ends."""
        self._coming.setdefault((host, False), []).append(data)

    def stderr(self, host: str, data: bytes) -> None:
        """Keep `data` until `host` ends."""
        self._coming.setdefault((host, True), []).append(data)

    def end(self, result: Result) -> None:
        """Put a host into its group. A host counts once; what was gathered takes the place of a result without it."""
        out, err = (b"".join(self._coming.pop((result.host, error), [])) for error in (False, True))
        if result.host in self._ended:
            return
        self._ended.add(result.host)
        # What came over a line that was cut is not trusted, and a result that says so has no output.
        if (out or err) and result.status.exit_class != 4:
            result = replace(result, stdout=out, stderr=err)
        self._add(result)

    def end_all(self, results: Iterable[Result]) -> None:
        """Put in those that `end` was not called for."""
        for result in results:
            self.end(result)

    def sorted(self) -> list[Group]:
        """Return the groups in the order in which they are shown, their hosts in order too."""
        for group in self._groups.values():
            group.hosts.sort(key=host_order)
        return sorted(self._groups.values(), key=lambda group: group.order)

    def put(self, result: Result, key: object, exact: object) -> None:
        """Put a host into the group of all that have this `key`; those with another `exact` differ where masked."""
        group = self._groups.setdefault(key, Group(result, exact))
        group.hosts.append(result.host)
        if exact != group.exact:
            group.varies = True
        if host_order(result.host) < host_order(group.result.host):
            group.result, group.exact = result, exact

    def _add(self, result: Result) -> None:
        out, err = (self._digest(data, result.host) for data in (result.stdout, result.stderr))
        self.put(result, identity(result, out, err), (result.stdout, result.stderr, result.error))

    def _digest(self, data: bytes, host: str) -> bytes:
        masked = self._masks.apply(data, host) if data and self._masks else data
        return hashlib.sha256(masked).digest()


def identity(result: Result, stdout: bytes, stderr: bytes) -> object:
    """Return what is equal for hosts that are the same; `stdout` and `stderr` are digests of their outputs."""
    # A cut output stands for one of a certain length.
    written: Sequence[int] = (result.stdout_bytes, result.stderr_bytes) if result.truncated else ()
    return (
        result.status,
        result.rc,
        result.signal,
        _reason(result),
        result.note,
        stdout,
        stderr,
        *written,
    )


def _reason(result: Result) -> bytes | None:
    """Return a host's error without its name and address, for comparing."""
    if result.error is None:
        return None
    error = result.error.encode("utf-8", "surrogatepass")
    return _THEIR_NAME.apply(_ADDRESS.sub(b"#", error), result.host)
