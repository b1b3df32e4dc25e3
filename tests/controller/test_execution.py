"""What observers are given of output, and what a result keeps of it."""

from __future__ import annotations

import hashlib

import pytest

from agent.wire import messages as m
from controller.execution import Execution
from controller.results import Status


class Observer:
    def __init__(self, borrows: bool | None) -> None:
        if borrows is not None:
            self.borrows = borrows
        self.given: list[object] = []

    def start(self, host: str) -> None:
        """Nothing."""

    def stdout(self, host: str, data: bytes) -> None:
        self.given.append(data)

    def stderr(self, host: str, data: bytes) -> None:
        self.given.append(data)


def end_of(stream: m.Stream, data: bytes) -> m.EndOfStream:
    return m.EndOfStream(stream, len(data), hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize(("borrows", "kind"), [(None, bytes), (False, bytes), (True, memoryview)])
def test_who_does_not_borrow_has_data_to_keep(borrows: bool | None, kind: type) -> None:
    observer = Observer(borrows)
    execution = Execution("web1", m.Run("x"), observer, keep=True)
    place = bytearray(b"first")
    execution.take(m.Stdout(memoryview(place)))
    place[:] = b"other"
    execution.take(m.Stderr(memoryview(place)))
    assert [type(data) for data in observer.given] == [kind, kind]
    if kind is bytes:
        assert observer.given == [b"first", b"other"]
    execution.take(end_of(m.Stream.STDOUT, b"first"))
    execution.take(end_of(m.Stream.STDERR, b"other"))
    execution.take(m.Exit(0))
    result = execution.result()
    assert (result.status, result.stdout, result.stderr) == (Status.OK, b"first", b"other")
