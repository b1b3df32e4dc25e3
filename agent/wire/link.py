"""A `Connection` on a non-blocking socket: what waits to be sent, what has come, and when to give up.

Written once for both sides. The one thread that owns the connection polls the socket, calls `read` when something may
have come and `flush` when there is room; nothing here waits. The socket is anything with `recv` and `send` (TLS in
production, a script in tests); which of its exceptions mean "not now", and the clock, are parameters.

Two clocks run. A peer from which nothing has come for PING_AFTER is pinged, and after DEAD_AFTER in all it is taken
for dead: a half-open connection (a pulled cable, a NAT that forgot us) must not hold a job for ever. While our own
bytes are stuck the peer may be alive and slow, and cannot be expected to answer a ping that it has not got: then
STUCK_AFTER counts from the last byte that moved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from agent.wire import messages as m
from agent.wire.connection import Closed, Connection, NeedData, State
from agent.wire.constants import DEAD_AFTER, PING_AFTER, STUCK_AFTER

__all__ = ["AnswersUnreadError", "Link", "LinkError", "PeerSilentError", "Socket", "WriteStuckError"]

# One TLS record (RFC 8446, 5.1): SSL_read never returns more, so a larger buffer would only cost memory in every idle
# connection, and SSL_write never takes more.
_RECORD = 16 * 1024
_BULK = 16 * 1024  # bytes in one `read`
# Reads in one go before the owner gets to look at its other descriptors.
_READS_AT_ONCE = 16
# Bytes of small messages that may be held back to be joined; from there on they are a backlog, as larger ones are.
_MOST_HELD = 64 * 1024
# Messages that may wait to be sent. Who produces data waits when there is one; what is left are the answers to a peer
# that asks and asks and reads none of them, and those would fill our memory within the time of STUCK_AFTER.
_MAX_WAITING = 1024
# How often to look at the clock in the login, where nobody pings: the login's own deadline rules there.
_LOGIN_TICK = 1.0
_LOGIN_STATES = (State.HELLO, State.CHALLENGE, State.PROOF, State.VERDICT)


class Socket(Protocol):
    """What a link needs of a connected, non-blocking stream."""

    def recv(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end of input."""

    def send(self, data: memoryview, /) -> int:
        """Send the start of `data`; return how many bytes went."""


class LinkError(Exception):
    """The connection is of no further use, and nobody broke the protocol. `seconds` is how long it stood still."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class PeerSilentError(LinkError):
    """Nothing came from the peer, not even the answer to a ping."""

    def __str__(self) -> str:
        return f"no sign of life for {self.seconds:.0f} s"


class WriteStuckError(LinkError):
    """The peer took none of our bytes."""

    def __str__(self) -> str:
        return f"the peer has taken nothing for {self.seconds:.0f} s"


class AnswersUnreadError(LinkError):
    """The peer sends questions and takes no answers."""

    def __str__(self) -> str:
        return "the peer goes on asking and does not read the answers"


class Link:
    """The traffic of one connection. Owned by one thread.

    `would_block` are the exceptions by which `socket` says "not now"; every other one passes through to the caller.
    `clock` is monotonic, in seconds; `wall` tells a peer that pings what time it is here. `cork` is called with True
    before several records are sent and with False after them: what is between may leave in larger pieces.
    """

    def __init__(
        self,
        connection: Connection,
        socket: Socket,
        *,
        would_block: tuple[type[Exception], ...],
        clock: Callable[[], float],
        wall: Callable[[], float],
        cork: Callable[[bool], None] = lambda on: None,
    ) -> None:
        self.connection = connection
        self._socket = socket
        # What `recv_into` of a TLS socket calls, and this is called for each 16 KiB. Others need not have it.
        self._read_into: Callable[[int, memoryview], int] | None = getattr(socket, "read", None)
        self._pending: Callable[[], int] | None = getattr(socket, "pending", None)
        self._would_block = would_block
        self._clock = clock
        self._wall = wall
        self._cork = cork
        self._came = 0  # bytes in the last `read`
        self._dry = False  # whether the last `_receive` has probably got all that there was
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._outgoing: deque[memoryview] = deque()
        self._heard = self._moved = clock()  # when a byte last came; when one of ours last left, or none waited
        self._pinged: float | None = None  # when the ping went out that nothing has answered

    @property
    def backlog(self) -> bool:
        """Whether bytes wait to be sent. Who produces data stops while they do: that is the back-pressure."""
        return bool(self._outgoing)

    @property
    def bulk(self) -> bool:
        """Whether much came in the last `read`: more of the kind is to be expected."""
        return self._came >= _BULK

    def queue(self, message: m.Message) -> None:
        """Hold a message until the next `send` or `flush`: small ones that follow each other share a TLS record.

        Raises LocalProtocolError and AnswersUnreadError.
        """
        if len(self._outgoing) >= _MAX_WAITING:
            raise AnswersUnreadError(self._clock() - self._moved)
        header, payload = self.connection.send_parts(message)
        if len(payload) < _RECORD:
            self._hold(header + payload)
            if self._held_bytes >= _MOST_HELD:
                self._release_held()
        else:  # to copy it costs more than a record of its own does; but for what fills the record of the header
            view = memoryview(payload)
            first = _RECORD - (self._held_bytes + len(header)) % _RECORD
            self._hold(header + view[:first])
            self._release_held()
            self._outgoing.append(view[first:])

    def send(self, message: m.Message) -> None:
        """Queue a message and send what there is room for. Raises as `queue`, and what the socket raises."""
        self.queue(message)
        self.flush()

    def flush(self) -> None:
        """Send what there is room for. Raises what the socket raises."""
        self._release_held()
        if not self._outgoing:
            return
        if len(self._outgoing) == 1 and len(self._outgoing[0]) <= _RECORD:
            self._send_waiting()
            return
        self._cork(True)
        try:
            self._send_waiting()
        finally:
            self._cork(False)

    def _send_waiting(self) -> None:
        while self._outgoing:
            data = whole = self._outgoing[0]
            try:
                while data:
                    data = data[self._socket.send(data) :]
            except self._would_block:
                self._outgoing[0] = data
                return
            finally:
                if data is not whole:
                    self._moved = self._clock()
            self._outgoing.popleft()

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)

    def _release_held(self) -> None:
        if self._held:
            if not self._outgoing:
                self._moved = self._clock()
            self._outgoing.append(memoryview(b"".join(self._held)))
            self._held.clear()
            self._held_bytes = 0

    def read(self, *, to_the_end: bool = False) -> Iterator[m.Message | Closed]:
        """Yield the messages that have come; pings are answered here and not shown. Use each before the next one.

        After a piece that is shorter than it might have been the peer has hardly sent more, and a look whether it has
        costs as much as to read the piece did: that is left to the next poll, unless `to_the_end` is asked for.
        Raises RemoteProtocolError, AnswersUnreadError, and what the socket raises.
        """
        self._came = 0
        over = yield from self.events()
        fault = None
        for _ in range(_READS_AT_ONCE):
            if over:
                return
            try:
                more = self._receive()
            except self._would_block:
                break
            except OSError as error:  # after what came before it
                fault = error
                break
            self._heard = self._clock()
            self._pinged = None
            # At once, so that of a large frame the first piece alone is gathered, and all others have their place.
            if not more or self.connection.room() is None:
                over = yield from self.events()
            if not more:
                return
            if self._dry and not to_the_end:
                break
        else:
            if not over and self._pending is not None and self._pending():
                # The rest of a record, of which no poll would tell: all of it, wherever it belongs.
                data = self._socket.recv(_RECORD)
                self.connection.receive(data)
                self._came += len(data)
                yield from self.events()
        if fault is not None:
            try:
                raise fault
            finally:
                del fault  # whose traceback holds this frame, and with it all that the connection has in memory

    def _receive(self) -> bool:
        """Receive once. Returns whether that was not the end of input."""
        room = self.connection.room()
        if room is None or self._read_into is None:
            data = self._socket.recv(_RECORD)
            self.connection.receive(data)
            self._came += len(data)
            self._dry = len(data) < _RECORD
            return bool(data)
        filled, size = 0, len(room)
        try:
            # Again and again, without a look at anything else: one read gives no more than 16 KiB.
            while filled < size and (count := self._read_into(size - filled, room[filled:])):
                filled += count
        except self._would_block:
            if not filled:
                raise
            self._came += filled
            self._dry = True
            self.connection.received(filled)
            return True
        self._came += filled
        self.connection.received(filled)
        if filled < size:
            self.connection.receive(b"")
        self._dry = False
        return filled == size

    def events(self) -> Generator[m.Message | Closed, None, bool]:
        """Yield the messages that have been received already. Returns whether nothing comes any more."""
        while True:
            event = self.connection.next_event()
            if isinstance(event, NeedData):
                return False
            if isinstance(event, m.Ping):
                self.send(m.Pong(event.token, self._wall()))
            else:
                yield event
            if isinstance(event, Closed):
                return True

    def tick(self) -> float:
        """Look at the clocks; return the seconds after which to look again.

        Raises PeerSilentError or WriteStuckError when the peer is to be given up.
        """
        now = self._clock()
        if self._outgoing:
            self._pinged = None  # an answer was not to be expected; once all is sent the peer is asked anew
            stuck = now - self._moved
            if stuck >= STUCK_AFTER:
                raise WriteStuckError(stuck)
            return STUCK_AFTER - stuck
        if self._pinged is None:
            if self.connection.state in _LOGIN_STATES:
                return _LOGIN_TICK
            due = self._heard + PING_AFTER
            if now < due:
                return due - now
            self._pinged = now
            self.send(m.Ping())
        left = self._pinged + DEAD_AFTER - PING_AFTER - now
        if left <= 0:
            raise PeerSilentError(now - self._heard)
        return left
