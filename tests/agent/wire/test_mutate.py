"""A million mutated hellos and a million mutated streams, the same ones each time; and proof that the fuzzer sees."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agent.wire import connection as wire
from agent.wire import messages as m
from agent.wire.connection import Closed, Connection, State
from agent.wire.frames import FRAME_HEADER

SCRIPT = Path(__file__).with_name("mutate.py")
MILLION = 1_000_000


@pytest.fixture(scope="module")
def mutate() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("mutate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def start(seed: int) -> subprocess.Popen[str]:
    """Start half of the work, without the tracing of coverage: it would take ten times as long."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "COV_CORE_"))}
    half = str(MILLION // 2)
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "--hellos", half, "--streams", half, "--seed", str(seed)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_million_mutants() -> None:
    counts: Counter[str] = Counter()
    processes = [start(seed) for seed in (1, 2)]
    try:
        for process in processes:
            out, error = process.communicate(timeout=600)
            assert (process.returncode, error) == (0, "")
            counts += Counter(json.loads(out))
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert (counts["hellos"], counts["streams"]) == (MILLION, MILLION)
    # The mutants are worth something: some get far, and every guard has its share.
    for outcome in (
        "hello accepted",
        "hello incomplete",
        "refused: malformed controller",
        "refused: impossible versions",
        "refused: not a",
        "refused: message of",
        "refused: wrong checksum",
        "refused: frame of",
        "refused: unknown frame",
        "refused: controller may",
        "refused: agent may",
        "refused: stdout ended",
        "refused: stderr ended",
        "refused: Exit before",
        "refused: the connection",
        "stream ended in order",
    ):
        assert counts[outcome] > 100, outcome


def test_a_seed_gives_the_same_mutants(mutate: ModuleType) -> None:
    assert mutate.run(300, 300, 5) == mutate.run(300, 300, 5)
    assert mutate.run(300, 300, 5) != mutate.run(300, 300, 6)


def test_true_streams_are_heard_to_their_end(mutate: ModuleType) -> None:
    for base in mutate.bases():
        connection = base.connect()
        connection.receive(base.data)
        for message in base.messages:
            assert connection.next_event() == message


def test_it_goes_on_for_the_seconds_it_is_given(mutate: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert mutate.main(["--hellos", "5", "--streams", "0", "--seconds", "0.02"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["hellos"] > 5
    assert counts["hellos"] % 5 == 0


# The fuzzer against a wire that is broken on purpose ---------------------------------------------------------------


def without_checksums(buffer: bytearray, limit: Callable[[int], int]) -> tuple[int, bytes] | None:
    if len(buffer) < FRAME_HEADER.size:
        return None
    length, code, _ = FRAME_HEADER.unpack_from(buffer)
    if length > limit(code):
        raise ValueError("frame of too many bytes")
    if len(buffer) < FRAME_HEADER.size + length:
        return None
    payload = bytes(buffer[FRAME_HEADER.size : FRAME_HEADER.size + length])
    del buffer[: FRAME_HEADER.size + length]
    return code, payload


def with_a_missing_key(*arguments: object) -> None:
    raise KeyError("length")


def always_the_same_hello(kind: object, body: bytes) -> m.Hello:
    return m.Hello("ops", bytes(16), 1, bytes(32), 1, 1, 0)


def without_counts(self: Connection, sender: object, message: m.Message) -> None:
    pass


def trusting_the_end(self: Connection, next_event: Any = Connection.next_event) -> object:
    if self._end_of_input and not self._buffer and self.state is not State.CLOSED:
        return Closed()
    return next_event(self)


@pytest.mark.parametrize(
    ("place", "name", "flaw", "rule"),
    [
        (wire, "read_frame", without_checksums, "messages came out that nobody sent"),
        (wire, "decode_payload", with_a_missing_key, "KeyError escaped"),
        (wire, "decode_handshake", always_the_same_hello, "a hello was accepted that says something else"),
        (Connection, "_account", without_counts, "a stream without its front was taken for complete"),
        (Connection, "next_event", trusting_the_end, "a cut stream was taken for complete"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_finds_what_is_broken(
    place: object,
    name: str,
    flaw: object,
    rule: str,
    mutate: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepared = mutate.bases()
    monkeypatch.setattr(mutate, "bases", lambda: prepared)
    monkeypatch.setattr(place, name, flaw)
    hellos = "20" if name == "decode_handshake" else "0"
    assert mutate.main(["--hellos", hellos, "--streams", "3000", "--seed", "3"]) == 1
    assert capsys.readouterr().err.startswith(f"seed 3: {rule}: ")
