"""What comes of one command on one host, message by message, until it is a result.

No connection is here. The rule: nothing is trusted that has not been confirmed by the end of its stream and by the
exit; what a host sends beyond what it was asked for breaks it off.
"""

from __future__ import annotations

import io
import signal
import time
from typing import Protocol, cast

from agent.wire import messages as m
from controller.errors import BrokenError
from controller.results import Result, Status

__all__ = ["Execution", "Observer", "farewell"]


class Observer(Protocol):
    """Who is told of a command's output as it arrives.

    One with a true `borrows` is given large data where it lies: what is read of it after the call is something else.
    """

    def start(self, host: str) -> None: ...
    def stdout(self, host: str, data: bytes) -> None: ...
    def stderr(self, host: str, data: bytes) -> None: ...


class Execution:
    """What has come of one command so far."""

    def __init__(self, host: str, request: m.Run, observer: Observer, *, keep: bool) -> None:
        self._host = host
        self._request = request
        self._observer = observer
        self._keep = keep
        self._borrows: bool = getattr(observer, "borrows", False)
        self._began = time.monotonic()
        self._started = time.time()
        self._kept = {m.Stream.STDOUT: io.BytesIO(), m.Stream.STDERR: io.BytesIO()}
        self._seen = {m.Stream.STDOUT: 0, m.Stream.STDERR: 0}
        self._ends: dict[m.Stream, m.EndOfStream] = {}
        self._exit: m.Exit | m.Error | None = None

    @property
    def over(self) -> bool:
        """Whether the agent has said all it will say of the command."""
        return self._exit is not None

    def take(self, message: m.Message) -> None:
        """Note a message. Raises BrokenError for an agent that leaves, or sends more than it was asked for."""
        if isinstance(message, m.Stdout):
            self._observer.stdout(self._host, self._output(m.Stream.STDOUT, message.data))
        elif isinstance(message, m.Stderr):
            self._observer.stderr(self._host, self._output(m.Stream.STDERR, message.data))
        elif isinstance(message, m.EndOfStream):
            self._ends[message.stream] = message
        elif isinstance(message, m.Exit | m.Error):
            self._exit = message
        elif isinstance(message, m.Goodbye):
            raise BrokenError(farewell(message))

    def _output(self, stream: m.Stream, data: bytes | memoryview) -> bytes:
        """Keep what came, and return it for the observer. Where it lies now the next message will lie."""
        self._seen[stream] += len(data)
        limit = self._request.max_output
        if limit is not None and self._seen[stream] > limit:
            # An agent that does not keep to the limit would fill our memory.
            raise BrokenError(f"the agent sent more than the {limit} bytes of {stream} it was asked for")
        if self._keep:
            self._kept[stream].write(data)
        return cast(bytes, data) if self._borrows else bytes(data)

    def result(self) -> Result:
        """Return the result of a command that is over."""
        if isinstance(self._exit, m.Error):
            status = Status.DENIED if self._exit.code == "denied" else Status.BROKEN
            return self.failure(status, self._exit.text)
        assert self._exit is not None
        end = self._exit
        status, error = _judge(end, self._request)
        out, err = self._ends[m.Stream.STDOUT], self._ends[m.Stream.STDERR]
        return Result(
            self._host,
            status,
            rc=end.code,
            signal=None if end.signal is None else _signal_name(end.signal),
            stdout=self._take_kept(m.Stream.STDOUT),
            stderr=self._take_kept(m.Stream.STDERR),
            stdout_bytes=out.total,
            stderr_bytes=err.total,
            truncated=out.total > out.bytes or err.total > err.bytes,
            started=self._started,
            elapsed=end.elapsed,
            error=error,
            note="a background process still holds the output" if end.held else None,
        )

    def failure(self, status: Status, reason: str) -> Result:
        """Return the result of a command whose end nobody has confirmed. What came is not trusted, and not kept."""
        return Result(self._host, status, started=self._started, elapsed=time.monotonic() - self._began, error=reason)

    def _take_kept(self, stream: m.Stream) -> bytes:
        return self._kept.pop(stream).getvalue()  # hands its buffer over: there are never two copies


def _judge(end: m.Exit, request: m.Run) -> tuple[Status, str | None]:
    if end.reason is m.Reason.TIMEOUT:
        return Status.TIMEOUT, end.error or f"killed after {request.timeout:g} s"
    if end.reason is m.Reason.CANCELLED:
        return Status.CANCELLED, end.error or "killed"
    if end.error is not None:
        return Status.FAILED, end.error
    return (Status.OK if end.code == 0 else Status.FAILED), None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal: only the first and the last have names
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def farewell(message: m.Message) -> str:
    """Return in words that the agent has said something else than what it was asked for."""
    if isinstance(message, m.Goodbye):
        return f"the agent ended the connection: {message.text}"
    return f"the agent answered with {type(message).__name__}"
