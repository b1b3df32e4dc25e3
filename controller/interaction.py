"""A command on one host's terminal, joined to the one here: keys go there, what it shows comes here, at once.

One loop polls the connection, the local terminal and the cancel token. The rule of back-pressure: while the local
terminal takes nothing, nothing is read from the connection; keys are still read, so that `~.` always works.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

from agent.wire import messages as m
from agent.wire.connection import Closed
from agent.wire.constants import MAX_DATA_PAYLOAD
from agent.wire.errors import LocalProtocolError, ProtocolError
from agent.wire.link import LinkError
from controller.cancel import CancelToken
from controller.client import Client, reason_of
from controller.errors import BrokenError, HostError
from controller.escapes import HELP, Escape, Keys
from controller.execution import Execution
from controller.results import Result, Status
from controller.terminal import LocalTerminal

__all__ = ["interact"]

# Keys that wait while the host takes none, in bytes. A paste beyond that waits in the terminal.
_MOST_KEYS = 64 * 1024
# As long as `Client.run` waits: an agent has the whole tree dead within 5 s, the rest is for the network.
_CANCEL_LIMIT = 8.0
_TIMEOUT_SLACK = 10.0
_LONGEST_WAIT = 3600.0


class _LeftError(HostError):
    """Whoever typed has had enough."""

    status = Status.CANCELLED


def interact(client: Client, request: m.Run, terminal: LocalTerminal, cancel: CancelToken) -> Result:
    """Run a command that has a `terminal` to its end, or to the moment where it is left.

    What happens on the host is in the result. Raises LostTerminalError for what happens here.
    """
    result = _interact(client, request, terminal, cancel)
    if result.rc is None:
        terminal.put_back()
    return result


def _interact(client: Client, request: m.Run, terminal: LocalTerminal, cancel: CancelToken) -> Result:
    conversation = _Conversation(client, request, terminal, cancel)
    try:
        try:
            client.link.send(request)
        except LocalProtocolError as error:  # an environment that no message has room for
            return conversation.execution.failure(Status.FAILED, f"cannot be sent: {error}")
        with terminal.raw():
            conversation.hold()
        return conversation.execution.result()
    except HostError as error:
        return conversation.execution.failure(error.status, error.reason)
    except OSError as error:  # of the first message; all others are minded below
        return conversation.execution.failure(Status.BROKEN, f"the connection was lost: {reason_of(error)}")


class _Conversation:
    def __init__(self, client: Client, request: m.Run, terminal: LocalTerminal, cancel: CancelToken) -> None:
        self.execution = Execution(client.target.name, request, self, keep=False)
        self._client = client
        self._link = client.link
        self._terminal = terminal
        self._cancel = cancel
        self._keys = Keys()
        self._input = bytearray()
        self._hung_up = False  # the terminal here
        self._input_ended = False
        self._output = bytearray()
        self._size = (request.rows, request.columns)
        self._stopping = False
        self._deadline = None if request.timeout is None else time.monotonic() + request.timeout + _TIMEOUT_SLACK

    # What the command shows, as an observer is told.

    def start(self, host: str) -> None:
        """Nothing is shown but output."""

    def stdout(self, host: str, data: bytes) -> None:
        """Have it shown."""
        self._output += data

    def stderr(self, host: str, data: bytes) -> None:
        """Have it shown: a terminal has one output, and an agent that thinks otherwise means this."""
        self._output += data

    def hold(self) -> None:
        """Go on until the command is over and all is shown. Raises HostError and LostTerminalError."""
        while True:
            if not self.execution.over:
                with _minding_the_connection():
                    self._hear()
                    self._speak()
            self._show()
            if self.execution.over and not self._output:
                return
            self._look_at_the_clock()
            ready = self._poll()
            if self._cancel.fileno() in ready and not self._stopping:
                self._stop()
            if self._terminal.fileno() in ready:
                self._terminal.heed()
            if self._terminal.stdin in ready:
                self._read_keys()

    def _poll(self) -> set[int]:
        timeout = _LONGEST_WAIT
        poller = select.poll()
        poller.register(self._terminal, select.POLLIN)
        if self._output:
            poller.register(self._terminal.stdout, select.POLLOUT)
        if not self.execution.over:
            backlog = self._link.backlog
            if backlog or not self._output:
                with _minding_the_connection():
                    timeout = self._link.tick()
                events = (0 if self._output else select.POLLIN) | (select.POLLOUT if backlog else 0)
                poller.register(self._client, events)
            if not self._hung_up and len(self._input) < _MOST_KEYS:
                poller.register(self._terminal.stdin, select.POLLIN)
        if not self._stopping:
            poller.register(self._cancel, select.POLLIN)
        if self._deadline is not None:
            timeout = min(timeout, max(0.0, self._deadline - time.monotonic()))
        return {fd for fd, _ in poller.poll(int(timeout * 1000) + 1)}

    def _read_keys(self) -> None:
        data = self._terminal.read()
        if data is None:
            return
        self._hung_up = not data
        for piece in self._keys.feed(data):
            if piece is Escape.END:
                raise _LeftError("ended by ~.")
            if piece is Escape.HELP:
                self._terminal.say(HELP)
            else:
                self._input += piece

    def _stop(self) -> None:
        self._stopping = True
        self._deadline = time.monotonic() + _CANCEL_LIMIT
        if not self.execution.over:
            with _minding_the_connection():
                self._link.send(m.Cancel())

    def _hear(self) -> None:
        if self._output:
            return  # first it has to be shown
        for message in self._link.read():
            assert not isinstance(message, Closed)  # an end that the connection allows comes after the command's
            self.execution.take(message)
            if self.execution.over:  # what the agent does after its last word is not about this command
                return

    def _speak(self) -> None:
        if self.execution.over:
            return
        link = self._link
        size = self._terminal.size
        if size not in (self._size, (0, 0)):
            self._size = size
            link.send(m.Resize(*size))
        self._send_input()
        link.flush()

    def _send_input(self) -> None:
        link = self._link
        while self._input and not link.backlog:
            room = min(link.connection.stdin_window, MAX_DATA_PAYLOAD)
            if not room:
                return
            link.send(m.Stdin(bytes(self._input[:room])))
            del self._input[:room]
        if self._hung_up and not self._input and not self._input_ended:
            self._input_ended = True
            link.send(link.connection.end_of(m.Stream.STDIN))

    def _show(self) -> None:
        while self._output and (count := self._terminal.write(self._output)):
            del self._output[:count]
        if self._stopping:
            self._output.clear()  # a terminal that takes nothing must not keep us here

    def _look_at_the_clock(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline and not self.execution.over:
            what = "cancelled" if self._stopping else "time is up"
            raise BrokenError(f"{what}, but the agent has not confirmed that the command is dead")


@contextmanager
def _minding_the_connection() -> Iterator[None]:
    """Tell what goes wrong with the connection from what goes wrong here."""
    try:
        yield
    except (OSError, LinkError, ProtocolError) as error:
        raise BrokenError(f"the connection was lost: {reason_of(error)}") from None
