"""Give mutated bytes to real connections: a fuzzer with a seed, for the ordinary test run and for long nights.

    python tests/agent/wire/mutate.py                                       # 100,000 hellos and 100,000 streams
    python tests/agent/wire/mutate.py --hellos 500000 --streams 500000 --seed 2
    python tests/agent/wire/mutate.py --seconds 600                         # as many as fit, each block its own seed

What it holds the protocol to:

* nothing but RemoteProtocolError ever comes out of a connection;
* a hello that is accepted encodes to exactly the bytes that came in;
* the messages of a stream that come out before the error are the first ones of the true stream, unchanged; where whole
  frames were cut off its front (which no frame by itself can tell) they are the next ones, and no `Exit` among them;
* a command is complete only when every one of its messages has come.

Prints one JSON object with what was counted. The first mutant that breaks a rule is printed in hex, and the exit code
is 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.wire import messages as m
from agent.wire.codec import encode_handshake
from agent.wire.connection import NEED_DATA, TABLE, Closed, Connection, Role, State
from agent.wire.errors import RemoteProtocolError
from agent.wire.frames import encode_prefixed

_RUN = m.Run("cat", stdin=True)


class BrokenRuleError(Exception):
    """A connection took what it must not take. `mutant` are the bytes that made it."""

    def __init__(self, rule: str, mutant: bytes) -> None:
        super().__init__(rule, mutant)
        self.rule = rule
        self.mutant = mutant

    def __str__(self) -> str:
        return f"{self.rule}: {self.mutant.hex()}"


@dataclass(frozen=True, slots=True)
class Base:
    """A true stream of frames as `reader` gets it: its bytes, its messages, and where each begins."""

    reader: Role
    data: bytes
    messages: list[m.Message]
    starts: dict[int, int]

    def connect(self) -> Connection:
        """Return a connection that expects this stream: an agent after the login, a controller after its `Run`."""
        connection = Connection(self.reader)
        connection.state = State.READY
        if self.reader is Role.CONTROLLER:
            # What sending a `Run` comes to. To write it anew for each mutant took a quarter of the time.
            connection._account(Role.CONTROLLER, _RUN)
            connection.state = TABLE[Role.CONTROLLER][State.READY][m.Run]
        return connection


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return `data` cut at one end, or with one or two bits flipped, bytes changed, or runs of bytes put in."""
    draw = rng.random
    size = len(data)
    kind = int(draw() * 5)
    if kind == 0:
        return data[1 + int(draw() * (size - 1)) :]
    if kind == 1:
        return data[: 1 + int(draw() * (size - 1))]
    changed = bytearray(data)
    for _ in range(1 if draw() < 0.5 else 2):
        place = int(draw() * size)
        if kind == 2:
            changed[place] ^= 1 << int(draw() * 8)
        elif kind == 3:
            changed[place] ^= 1 + int(draw() * 255)
        else:
            changed[place:place] = rng.randbytes(1 + int(draw() * 8))
    return bytes(changed)


def hellos() -> list[bytes]:
    """Return true hellos: the shortest name, the longest, and one between."""
    return [
        encode_prefixed(encode_handshake(m.Hello(name, b"\x11" * 16, 1, bytes(range(32)), 1, 2, 5)))
        for name in ("a", "ops-ci", "x" * 64)
    ]


def bases() -> list[Base]:
    """Return small true streams. Those of an agent begin with data, so that losing their front cannot go unnoticed."""
    out, err, stdin = m.Stdout(b"hello\n"), m.Stderr(b"oops\n"), m.Stdin(b"in\n")
    ends = ["stdout", "stderr"]
    return [
        _base(Role.AGENT, [m.Run("cat", stdin=True), stdin, "stdin", m.Ping(7), m.Cancel()]),
        _base(Role.CONTROLLER, [out, err, *ends, m.Exit(0)]),
        _base(Role.CONTROLLER, [err, out, m.Pong(1, 2.5), out, *ends, m.Exit(signal=9), m.Goodbye("a", "b")]),
    ]


def _base(reader: Role, script: Sequence[m.Message | str]) -> Base:
    """Let a true connection say `script`; a bare word stands for the end of that stream."""
    writer = Connection(reader.peer)
    writer.state = State.READY
    if writer.role is Role.AGENT:
        asking = Connection(Role.CONTROLLER)
        asking.state = State.READY
        writer.receive(asking.send(_RUN))
        writer.next_event()
    data, messages, starts = b"", [], {}
    for item in script:
        message = writer.end_of(m.Stream(item)) if isinstance(item, str) else item
        starts[len(data)] = len(messages)
        messages.append(message)
        data += writer.send(message)
    return Base(reader, data, messages, starts)


def try_hello(mutant: bytes) -> str:
    """Say `mutant` to an agent. Returns what became of it."""
    agent = Connection(Role.AGENT)
    agent.receive(mutant)
    try:
        event = agent.next_event()
    except RemoteProtocolError as error:
        return _refused(error)
    if event is NEED_DATA:
        return "hello incomplete"
    if not isinstance(event, m.Hello) or encode_prefixed(encode_handshake(event)) != mutant:
        raise BrokenRuleError("a hello was accepted that says something else", mutant)
    return "hello accepted"


def try_stream(mutant: bytes, base: Base, split: int) -> str:
    """Say `mutant` to the reader of `base`, in two pieces, and then end the connection. Returns what became of it."""
    connection = base.connect()
    heard: list[object] = []
    try:
        for piece in (mutant[:split], mutant[split:], b""):
            connection.receive(piece)
            while (event := connection.next_event()) is not NEED_DATA and not isinstance(event, Closed):
                heard.append(event)
        outcome = "stream ended in order"
    except RemoteProtocolError as error:
        outcome = _refused(error)
    _check_heard(base, mutant, heard)
    open_still = base.reader is Role.CONTROLLER and not any(isinstance(event, m.Exit | m.Goodbye) for event in heard)
    if open_still and outcome == "stream ended in order":
        raise BrokenRuleError("a cut stream was taken for complete", mutant)
    return outcome


def _check_heard(base: Base, mutant: bytes, heard: list[object]) -> None:
    count = len(heard)
    if heard == base.messages[:count]:
        return
    lost = base.starts.get(len(base.data) - len(mutant), 0)
    if not (lost and base.data.endswith(mutant) and heard == base.messages[lost : lost + count]):
        raise BrokenRuleError("messages came out that nobody sent", mutant)
    if any(isinstance(event, m.Exit) for event in heard):
        raise BrokenRuleError("a stream without its front was taken for complete", mutant)


def _refused(error: RemoteProtocolError) -> str:
    """Return the error's first two words: the numbers in it would give as many counts as mutants."""
    return "refused: " + " ".join(str(error).split(" ", 2)[:2])


def _judge(attempt: Callable[..., str], mutant: bytes, *rest: object) -> str:
    try:
        return attempt(mutant, *rest)
    except BrokenRuleError:
        raise
    except Exception as error:
        raise BrokenRuleError(f"{type(error).__name__} escaped", mutant) from error


def run(hello_count: int, stream_count: int, seed: int) -> Counter[str]:
    """Try so many mutants, always the same ones for a seed. Raises BrokenRuleError."""
    rng = random.Random(seed)
    true_hellos, true_streams = hellos(), bases()
    counts = Counter(hellos=hello_count, streams=stream_count)
    for number in range(hello_count):
        mutant = mutate(true_hellos[number % len(true_hellos)], rng)
        counts[_judge(try_hello, mutant)] += 1
    for number in range(stream_count):
        base = true_streams[number % len(true_streams)]
        mutant = mutate(base.data, rng)
        counts[_judge(try_stream, mutant, base, 1 + int(rng.random() * len(mutant)))] += 1
    return counts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the module's docstring says. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hellos", type=int, default=100_000)
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="go on with the next seeds for so long")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    seed = options.seed
    total: Counter[str] = Counter()
    try:
        while True:
            total += run(options.hellos, options.streams, seed)
            seed += 1
            if time.monotonic() - begun >= options.seconds:
                break
    except BrokenRuleError as error:
        sys.stderr.write(f"seed {seed}: {error}\n")
        return 1
    sys.stdout.write(json.dumps({"seconds": round(time.monotonic() - begun, 2), **total}) + "\n")
    return 0


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles, and looking for them costs a tenth of the time
    sys.exit(main())
