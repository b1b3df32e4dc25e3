"""One host's part in a push, a pull or a rollback: the conversation over its connection, to its end.

What is said is the affair of `agent.tree`, which both sides share; here is the loop that waits, and the ways in which
it can end. Whatever happens on the host, or to the connection, is a result and no exception.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Protocol

from agent.tree.digests import Digests
from agent.tree.sender import Listed, Sender
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.connection import Closed
from agent.wire.constants import WHOLE_FILES
from agent.wire.errors import ConnectionEndedError, LocalProtocolError, ProtocolError, RemoteProtocolError
from agent.wire.link import LinkError
from controller.client import Client, reason_of
from controller.errors import BrokenError, HostError
from controller.ledger import Ledger
from controller.meter import Meter
from controller.results import Result, Status

if TYPE_CHECKING:
    from controller.landing import Landing

__all__ = ["Asking", "Part", "converse", "pull", "push", "rollback"]

_CLOSED = "the agent closed it before the end of the transfer"
_GOES_ON = "the same command again goes on where this one stopped"
_RUN_ID = r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6,32}"
_STATUS_OF_CODE = {"denied": Status.DENIED, "failed": Status.FAILED}


class Part(Protocol):
    """One of the two parts in a transfer."""

    @property
    def done(self) -> bool:
        """Whether the last word has been said."""

    def take(self, message: m.Message) -> None:
        """Take a message of the other part."""

    def step(self) -> bool:
        """Do a piece of work. Returns whether there is more to do before the next message comes."""

    def close(self) -> None:
        """Give back what is open, and leave nothing half done."""


class _EndedError(HostError):
    """The transfer is over before its end, in a way of its own."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def push(
    client: Client,
    request: f.Push,
    listing: Listed,
    ledger: Ledger,
    meter: Meter,
    timeout: float | None,
    digests: Digests | None = None,
) -> Result:
    """Send what `listing` has. `timeout` is in seconds; `digests` are those of the pushes to other hosts."""
    link = client.link

    def send(message: m.Message) -> None:
        if isinstance(message, f.Data | f.Whole):
            meter.moved += len(message.data)
        elif isinstance(message, f.Entries):
            meter.complete = message.last
        link.queue(message)

    whole_files = bool(link.connection.features & WHOLE_FILES)
    sender = Sender(listing, send, ledger, digests, whole_files=whole_files)
    return converse(client, request, sender, ledger, timeout)


def pull(
    client: Client, request: f.Pull, landing: Landing, ledger: Ledger, meter: Meter, timeout: float | None
) -> Result:
    """Fetch what `request` asks for."""
    from controller.pulling import Pulling  # and all that receives, which a push needs not load

    try:
        with landing.open(client.target.name) as (folder, place):
            part = Pulling(folder, place, landing.options, client.link.queue, ledger, meter)
            return converse(client, request, part, ledger, timeout)
    except HostError as error:
        return ledger.failure(error.status, error.reason)


def rollback(client: Client, request: f.Rollback, ledger: Ledger, timeout: float | None) -> Result:
    """Have the host put back what a push replaced."""
    return converse(client, request, _Restoring(ledger), ledger, timeout)


class Asking:
    """The controller's part in asking which push is the last one: to hear that, in `last`. None: there is none."""

    def __init__(self) -> None:
        self.last: str | None = None
        self.done = False

    def take(self, message: m.Message) -> None:
        """Note the answer. Raises RemoteProtocolError for what is none."""
        if not isinstance(message, f.Done):
            raise RemoteProtocolError(f"{type(message).__name__} in answer to a question")
        # It is compared with those of other hosts, and shown.
        if message.last is not None and re.fullmatch(_RUN_ID, message.last) is None:
            raise RemoteProtocolError(f"{message.last[:64]!r} is not the id of a run")
        self.last = message.last
        self.done = True

    def step(self) -> bool:
        """There is nothing to do."""
        return False

    def close(self) -> None:
        """There is nothing to give back."""


class _Restoring:
    """The controller's part in a rollback: to listen."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.done = False

    def take(self, message: m.Message) -> None:
        """Note what was put back. Raises RemoteProtocolError."""
        if isinstance(message, f.Outcomes):
            for outcome in message.outcomes:
                if outcome.index is not None:
                    raise RemoteProtocolError("the outcome of an entry, and there are none")
                self._ledger.outcome(outcome)
        elif isinstance(message, f.Done):
            self.done = True

    def step(self) -> bool:
        """There is nothing to do."""
        return False

    def close(self) -> None:
        """There is nothing to give back."""


def converse(client: Client, request: m.Message, part: Part, ledger: Ledger, timeout: float | None) -> Result:
    """Play a part to its end, or to the moment where it cannot go on; the part is closed then."""
    try:
        try:
            _converse(client, request, part, timeout)
        except (OSError, LinkError):
            _hear_why(client)
            raise
        return ledger.result()
    except HostError as error:
        return ledger.failure(error.status, error.reason)
    except LocalProtocolError as error:  # more text than a message has room for
        return ledger.failure(Status.FAILED, f"cannot be sent: {error}")
    except (OSError, LinkError, ConnectionEndedError) as error:
        reason = _CLOSED if isinstance(error, ConnectionEndedError) else reason_of(error)
        note = None if isinstance(request, f.Rollback) else _GOES_ON
        if isinstance(request, f.Push):  # what a killed agent has written is removed at its next start
            note = f"{_GOES_ON}, unless the agent was killed"
        return ledger.failure(Status.BROKEN, f"the connection was lost: {reason}", note=note)
    except ProtocolError as error:
        return ledger.failure(Status.BROKEN, f"the agent broke the protocol: {error}")
    finally:
        part.close()


def _converse(client: Client, request: m.Message, part: Part, timeout: float | None) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    link = client.link
    link.queue(request)  # what comes first of the transfer goes with it
    while True:
        # A piece at a time, or two small ones, and only when the last one has gone: the peer's pace is ours, and in
        # between its word, the clock and the cancel token are looked at.
        busy = not link.backlog and part.step()
        if busy and not link.backlog:
            busy = part.step()
        link.flush()
        if part.done:  # the last word was ours
            return
        if not client.wait(deadline, block=not busy or link.backlog):
            raise _EndedError(Status.CANCELLED, "stopped: the run was cancelled")
        for message in client.received():
            _take(part, message)
            if part.done:  # what the agent does after its last word, such as leaving, is not about this transfer
                return
        link.flush()
        if deadline is not None and time.monotonic() >= deadline:
            raise _EndedError(Status.TIMEOUT, f"cut off after {timeout:g} s")


def _hear_why(client: Client) -> None:
    """After a failed write, look whether the agent had said before it left why it does. Raises HostError then."""
    try:
        for message in client.link.read(to_the_end=True):
            if isinstance(message, m.Goodbye | m.Error):
                _take(None, message)
    except (OSError, LinkError, ProtocolError):
        return


def _take(part: Part | None, message: m.Message | Closed) -> None:
    if isinstance(message, Closed):
        raise ConnectionEndedError(_CLOSED)
    if isinstance(message, m.Goodbye):
        raise BrokenError(f"the agent ended the connection: {message.text}")
    if isinstance(message, m.Error):
        raise _EndedError(_STATUS_OF_CODE.get(message.code, Status.BROKEN), message.text)
    if part is not None and not isinstance(message, m.Pong):
        part.take(message)
