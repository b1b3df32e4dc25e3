"""Who may hold one of the few places for connections that have not logged in yet.

A connection that has not proven anything costs a thread and a TLS handshake, so there are `total` such places and
`per_source` for one source. An accepted connection is given a place at once, or waits its turn unserved (no thread, no
TLS: a descriptor is all it costs), or is refused. Waiting exists because a fan-out to many names of one agent is one
burst from one source, which the small number of places serves in a moment; a silent flood loses its waiting sockets
after PATIENCE. Sources take turns.

When all places are taken, the place that has been held longest is taken back once it is older than PATIENCE: an honest
login takes a fraction of that, so a flood from many sources cannot keep everybody out for a whole login deadline.

A source whose connections come to a bad end is shut out for a while: OpenSSH's PerSourcePenalties, with its numbers
(sshd_config(5), srclimit.c).

No sockets, no threads, and the clock is a parameter: the accept loop calls this under its own lock and does what it
says. Its rule: after `arrive` or `leave`, and when `next_deadline` has come, call `poll`.
"""

from __future__ import annotations

import enum
import ipaddress
import itertools
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from agent.wire.record import record

__all__ = ["MAX_PENALISED", "MAX_WAITING", "PATIENCE", "Admission", "Decision", "Outcome", "Penalties", "Turn"]

PATIENCE = 1.0  # seconds
# Seconds between two looks at everybody's patience, at least. Thousands of sources, as IPv6 gives to anybody, must not
# make every arrival a walk past all of them.
_GRAIN = 0.05
MAX_WAITING = 2048  # a fan-out of 2,000 to one agent fits; so do the descriptors under the usual hard limit of 4,096
MAX_PENALISED = 65_536
_ADDRESSES = 256  # whose sources are remembered

# Penalties are enforced from PENALTY_MIN accrued seconds, so that one mistake goes unpunished, up to PENALTY_MAX.
PENALTY_MIN = 15.0
PENALTY_MAX = 600.0

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Item = TypeVar("Item", bound=Hashable)


class Decision(enum.Enum):
    """What becomes of a connection that has arrived."""

    ADMIT = "admit"
    WAIT = "wait"
    REFUSE = "refuse"


class Outcome(enum.Enum):
    """How a connection gave its place back. ABANDONED is for one that had hung up before it was served at all:

    when a fan-out is interrupted, what still waits ends so, and nobody should be shut out for a Ctrl-C.
    """

    AUTHENTICATED = "authenticated"
    ABANDONED = "abandoned"
    NO_AUTH = "no authentication"
    AUTH_FAILED = "authentication failed"
    GRACE = "login deadline passed"
    CRASH = "handler crashed"


# Seconds that each end adds to the source's penalty.
PENALTY_SECONDS = {
    Outcome.AUTHENTICATED: 0.0,
    Outcome.ABANDONED: 0.0,
    Outcome.NO_AUTH: 1.0,
    Outcome.AUTH_FAILED: 5.0,
    Outcome.GRACE: 10.0,
    Outcome.CRASH: 90.0,
}


class Penalties:
    """Which sources are shut out, and until when. At most `limit` sources are remembered."""

    def __init__(self, clock: Callable[[], float], *, limit: int = MAX_PENALISED) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: dict[str, tuple[float, bool]] = {}  # when it ends, whether it is enforced

    def add(self, source: str, seconds: float) -> None:
        """Add to what a source has accrued; what it has left shrinks as time passes."""
        now = self._clock()
        end, enforced = self._entries.get(source, (now, False))
        if end <= now:
            end, enforced = now, False
        end = min(end + seconds, now + PENALTY_MAX)
        if source not in self._entries and len(self._entries) >= self._limit:
            self._forget_some(now)
        # Once enforced it stays so until it ends, not only until less than the minimum is left.
        self._entries[source] = (end, enforced or end - now >= PENALTY_MIN)

    def enforced(self, source: str) -> bool:
        """Whether this source is shut out now."""
        entry = self._entries.get(source)
        return entry is not None and entry[1] and self._clock() < entry[0]

    def __len__(self) -> int:
        return len(self._entries)

    def _forget_some(self, now: float) -> None:
        """Make room: what is over goes, and if that is nothing, the sixteenth that would end first.

        That errs on the permissive side (OpenSSH's default too): whoever has 65,536 addresses could otherwise fill the
        table and have others treated as guilty. Many at a time, because sorting for each newcomer would be an attack.
        """
        self._entries = {source: entry for source, entry in self._entries.items() if now < entry[0]}
        if len(self._entries) >= self._limit:
            by_end = sorted(self._entries, key=lambda source: self._entries[source][0])
            for source in by_end[: max(1, self._limit // 16)]:
                del self._entries[source]


class _Key(NamedTuple):
    """Names a source. An exempt address in a /64 is a source of its own, and does not pay for its neighbours."""

    name: str
    exempt: bool


@dataclass(slots=True)
class _Source(Generic[Item]):
    """One source that has connections here: how many places it holds, and who waits, with the time of arrival."""

    held: int = 0
    queue: deque[tuple[Item, float]] = field(default_factory=deque)
    authenticated: float = float("-inf")  # when a connection of it last logged in

    def deadline(self) -> float:
        """Return when the first in the queue has waited long enough; there must be one.

        As long as others of the same source log in, it is a burst at work and not a flood.
        """
        return max(self.queue[0][1], self.authenticated) + PATIENCE


@record
class Turn(Generic[Item]):
    """What to do now. `start` has waited and got a place. `close` has waited in vain: close it, nothing was served.

    `evict` holds a place and must give it up: cut its transport and let its thread end as it does on any cut; the
    place is free when it calls `leave`.
    """

    start: tuple[Item, ...] = ()
    close: tuple[Item, ...] = ()
    evict: tuple[Item, ...] = ()


class Admission(Generic[Item]):
    """The places for connections that have not logged in. `Item` is whatever names a connection to the caller.

    Networks in `exempt` get no penalties, but count as all others do.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        total: int = 100,
        per_source: int = 16,
        exempt: Iterable[Network] = (),
        penalties: Penalties | None = None,
    ) -> None:
        self._clock = clock
        self._total = total
        self._per_source = per_source
        self._exempt = tuple(exempt)
        # Connections come in bursts from few addresses, and to read one is more than all the rest that is done here.
        self._key = lru_cache(_ADDRESSES)(self._name)
        self._penalties = Penalties(clock) if penalties is None else penalties
        self._sources: dict[_Key, _Source[Item]] = {}  # those that hold a place or wait
        self._turns: dict[_Key, _Source[Item]] = {}  # those that wait; whose turn it is comes first
        self._held: dict[Item, tuple[_Key, float]] = {}  # source and time of start, the oldest first
        self._evicted: set[Item] = set()
        self._waiting = 0
        self._next_look = float("inf")  # no patience ends before
        self._closing: list[Item] = []

    def arrive(self, item: Item, address: str) -> Decision:
        """Decide about a new connection from an IP address. After REFUSE nothing of it is kept."""
        key = self._key(address)
        if self._shut_out(key):
            return Decision.REFUSE
        source = self._sources.get(key) or _Source()
        if not source.queue and self._may_start(source):
            self._sources[key] = source
            self._start(item, key, source)
            return Decision.ADMIT
        if self._waiting >= MAX_WAITING and not self._make_room(len(source.queue)):
            return Decision.REFUSE
        self._sources[key] = self._turns[key] = source
        now = self._clock()
        source.queue.append((item, now))
        self._waiting += 1
        self._next_look = min(self._next_look, now + PATIENCE)
        return Decision.WAIT

    def leave(self, item: Item, outcome: Outcome) -> None:
        """Give back the place of a connection that was admitted or started, which then logged in or ended."""
        key, _ = self._held.pop(item)
        self._evicted.discard(item)
        source = self._sources[key]
        source.held -= 1
        if outcome is Outcome.AUTHENTICATED:
            source.authenticated = self._clock()
        elif not key.exempt and (seconds := PENALTY_SECONDS[outcome]):
            self._penalties.add(key.name, seconds)
            if self._shut_out(key):
                self._turn_away(source)
        self._forget_if_idle(key)

    def poll(self) -> Turn[Item]:
        """Return what to start, to close and to evict now. Each connection is named once."""
        self._close_expired()
        started = self._start_waiting()
        closed, self._closing = tuple(self._closing), []
        return Turn(started, closed, self._evict())

    def next_deadline(self) -> float | None:
        """Return when, by the clock, to call `poll` at the latest; None: not before something happens."""
        if not self._turns:
            return None
        if len(self._held) < self._total:
            return self._next_look
        oldest = next((self._held[item][1] for item in self._held if item not in self._evicted), float("inf"))
        return min(self._next_look, max(oldest + PATIENCE, self._clock() + _GRAIN))

    @property
    def held(self) -> int:
        """How many places are taken."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """How many connections wait."""
        return self._waiting

    def _may_start(self, source: _Source[Item]) -> bool:
        return len(self._held) < self._total and source.held < self._per_source

    def _start(self, item: Item, key: _Key, source: _Source[Item]) -> None:
        source.held += 1
        self._held[item] = (key, self._clock())

    def _start_waiting(self) -> tuple[Item, ...]:
        """Give free places to those that wait, one source after the other."""
        started: list[Item] = []
        passed_over = 0
        while self._turns and passed_over < len(self._turns) and len(self._held) < self._total:
            key = next(iter(self._turns))
            source = self._turns.pop(key)
            if self._may_start(source):
                started.append(self._take(source))
                self._start(started[-1], key, source)
                passed_over = 0
            else:
                passed_over += 1
            if source.queue:
                self._turns[key] = source  # to the end of the line
        return tuple(started)

    def _close_expired(self) -> None:
        """Turn away who has waited too long."""
        now = self._clock()
        if now < self._next_look:
            return
        for key, source in list(self._turns.items()):
            while source.queue and source.deadline() <= now:
                self._closing.append(self._take(source))
            self._forget_if_idle(key)
        soonest = min((source.deadline() for source in self._turns.values()), default=float("inf"))
        self._next_look = max(soonest, now + _GRAIN)

    def _turn_away(self, source: _Source[Item]) -> None:
        while source.queue:
            self._closing.append(self._take(source))

    def _make_room(self, queued: int) -> bool:
        """Turn away the last comer of the longest queue, if that is fairer than to refuse one whose own is `queued`."""
        key = max(self._turns, key=lambda key: len(self._turns[key].queue))
        longest = self._turns[key]
        if len(longest.queue) <= queued + 1:
            return False
        self._closing.append(longest.queue.pop()[0])
        self._waiting -= 1
        return True

    def _evict(self) -> tuple[Item, ...]:
        """Choose the longest held places: one for each waiting source that is below its own cap, when none is free."""
        if not self._turns or len(self._held) < self._total:
            return ()
        latest_start = self._clock() - PATIENCE
        old = itertools.takewhile(lambda item: self._held[item][1] <= latest_start, self._held)
        if not (candidates := [item for item in old if item not in self._evicted]):
            return ()
        wanted = sum(source.held < self._per_source for source in self._turns.values())
        chosen = candidates[: max(0, wanted - len(self._evicted))]
        self._evicted.update(chosen)
        return tuple(chosen)

    def _take(self, source: _Source[Item]) -> Item:
        item, _ = source.queue.popleft()
        self._waiting -= 1
        return item

    def _name(self, address: str) -> _Key:
        ip = _parse(address)
        return _Key(_source(ip), any(ip in network for network in self._exempt))

    def _shut_out(self, key: _Key) -> bool:
        return not key.exempt and self._penalties.enforced(key.name)

    def _forget_if_idle(self, key: _Key) -> None:
        source = self._sources[key]
        if not source.queue:
            self._turns.pop(key, None)
            if not source.held:
                del self._sources[key]


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read a peer's address as a socket gives it: maybe with a scope, and an IPv4 one maybe in an IPv6 coat."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip


def _source(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return what counts as one source: an IPv4 address, or the /64 of an IPv6 address, since one machine has all."""
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))
