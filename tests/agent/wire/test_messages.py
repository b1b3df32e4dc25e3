"""The ranges that messages check themselves."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.messages import Message

NONCE = bytes(32)
HOST_ID = bytes(16)


def hello(**changed: object) -> m.Hello:
    values = {
        "controller": "ops",
        "host_id": HOST_ID,
        "epoch": 1,
        "nonce": NONCE,
        "min_version": 1,
        "max_version": 1,
        "features": 0,
        **changed,
    }
    return m.Hello(**values)  # type: ignore[arg-type]


def end(**changed: object) -> m.EndOfStream:
    values = {"stream": m.Stream.STDOUT, "bytes": 1, "sha256": "0" * 64, "total": 1, **changed}
    return m.EndOfStream(**values)  # type: ignore[arg-type]


BAD = [
    *[
        (lambda name=name: hello(controller=name), "malformed controller name")
        for name in ("", "a" * 65, "Ops", "o\0ps", "ops\n", "\nops", "../ops", ".", "-ops", "_ops", "ops ", "\u00f6ps")
    ],
    (lambda: hello(host_id=bytes(15)), "host id of 15 bytes"),
    (lambda: hello(host_id=bytes(17)), "host id of 17 bytes"),
    (lambda: hello(nonce=bytes(31)), "nonce of 31 bytes"),
    (lambda: hello(epoch=-1), "epoch -1 out of range"),
    (lambda: hello(epoch=2**32), "epoch 4294967296 out of range"),
    (lambda: hello(features=-1), "features -1 out of range"),
    (lambda: hello(features=2**32), "features 4294967296 out of range"),
    (lambda: hello(min_version=0), "impossible versions 0 to 1"),
    (lambda: hello(min_version=0, max_version=0), "impossible versions 0 to 0"),
    (lambda: hello(min_version=3, max_version=2), "impossible versions 3 to 2"),
    (lambda: hello(max_version=2**16), "impossible versions 1 to 65536"),
    (lambda: m.Challenge(1, 0, b""), "nonce of 0 bytes"),
    (lambda: m.Challenge(0, 0, NONCE), "version 0 out of range"),
    (lambda: m.Challenge(2**16, 0, NONCE), "version 65536 out of range"),
    (lambda: m.Challenge(1, 2**32, NONCE), "features 4294967296 out of range"),
    (lambda: m.Challenge(1, -1, NONCE), "features -1 out of range"),
    (lambda: m.Proof(bytes(31), bytes(33)), "proof of 64 bytes"),
    (lambda: m.Proof(bytes(32), bytes(31)), "proof of 63 bytes"),
    (lambda: m.Welcome(bytes(31)), "proof of 31 bytes"),
    (lambda: m.Ping(-1), "token -1 out of range"),
    (lambda: m.Ping(2**63), "token 9223372036854775808 out of range"),
    (lambda: m.Pong(-1), "token -1 out of range"),
    (lambda: m.Pong(2**63), "token 9223372036854775808 out of range"),
    (lambda: m.Pong(0, -1.0), "time -1.0 out of range"),
    (lambda: m.Pong(0, 1e12), "time 1000000000000.0 out of range"),
    (lambda: m.Pong(0, float("nan")), "time nan out of range"),
    (lambda: m.Run(""), "empty command"),
    (lambda: m.Run(" \t\n"), "empty command"),
    (lambda: m.Run("a\0b"), "NUL in the command"),
    (lambda: m.Run("x", environment={"": "v"}), "not a name of an environment variable: ''"),
    (lambda: m.Run("x", environment={"A=B": "v"}), "not a name of an environment variable: 'A=B'"),
    (lambda: m.Run("x", environment={"=" * 999: ""}), f"not a name of an environment variable: {'=' * 64!r}"),
    (lambda: m.Run("x", environment={"A\0": "v"}), "NUL in the environment"),
    (lambda: m.Run("x", environment={"A": "\0"}), "NUL in the environment"),
    (lambda: m.Run("x", host="\0"), "NUL in a name"),
    (lambda: m.Run("x", run="\0"), "NUL in a name"),
    (lambda: m.Run("x", directory="/\0"), "NUL in a name"),
    (lambda: m.Run("x", user="\0"), "NUL in a name"),
    (lambda: m.Run("x", shell="/bin/\0"), "NUL in a name"),
    (lambda: m.Run("x", shell="bash"), "the shell is no absolute path"),
    (lambda: m.Run("x", shell=""), "the shell is no absolute path"),
    (lambda: m.Run("x", script=True, shell="/bin/bash"), "both a script and a shell"),
    (lambda: m.Run("x", script=True, arguments=("a", "\0")), "NUL in an argument"),
    (lambda: m.Run("x", arguments=("a",)), "arguments without a script"),
    (lambda: m.Run("x", stdin=True, terminal="\0"), "NUL in a name"),
    (lambda: m.Run("x", terminal="xterm"), "a terminal without standard input"),
    (lambda: m.Run("x", rows=-1, columns=80), "terminal of -1 rows and 80 columns"),
    (lambda: m.Resize(24, 2**16), "terminal of 24 rows and 65536 columns"),
    (lambda: m.Script(b""), "0 bytes of data, expected 1 to 262144"),
    (lambda: m.Run("x", timeout=0), "timeout of 0 seconds"),
    (lambda: m.Run("x", timeout=-1.5), "timeout of -1.5 seconds"),
    (lambda: m.Run("x", timeout=1e9), "timeout of 1000000000.0 seconds"),
    (lambda: m.Run("x", timeout=float("nan")), "timeout of nan seconds"),
    (lambda: m.Run("x", max_output=-1), "output limit of -1 bytes"),
    (lambda: m.Run("x", max_output=2**63), "output limit of 9223372036854775808 bytes"),
    *[
        (lambda kind=kind, size=size: kind(bytes(size)), f"{size} bytes of data, expected 1 to 262144")
        for kind in (m.Stdin, m.Stdout, m.Stderr)
        for size in (0, 262145)
    ],
    (lambda: end(bytes=-1), "-1 of 1 bytes"),
    (lambda: end(bytes=2), "2 of 1 bytes"),
    (lambda: end(total=2**63), "1 of 9223372036854775808 bytes"),
    (lambda: end(sha256="0" * 63), "digest of 63 digits"),
    (lambda: end(sha256=""), "digest of 0 digits"),
    (lambda: m.Window(0), "window of 0 bytes"),
    (lambda: m.Window(-1), "window of -1 bytes"),
    (lambda: m.Window(2**31), "window of 2147483648 bytes"),
    (lambda: m.Exit(-1), "exit code -1"),
    (lambda: m.Exit(256), "exit code 256"),
    (lambda: m.Exit(signal=0), "signal 0"),
    (lambda: m.Exit(signal=128), "signal 128"),
    (lambda: m.Exit(0, 9), "both an exit code and a signal"),
    (lambda: m.Exit(0, elapsed=-0.5), "elapsed time of -0.5 seconds"),
    (lambda: m.Exit(0, elapsed=1e10), "elapsed time of 10000000000.0 seconds"),
    (lambda: m.Exit(0, elapsed=float("nan")), "elapsed time of nan seconds"),
]


@pytest.mark.parametrize(("make", "text"), BAD, ids=[f"{number}: {text[:40]}" for number, (_, text) in enumerate(BAD)])
def test_out_of_range(make: object, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value) == text


GOOD = [
    *[hello(controller=name) for name in ("a", "0", "a" * 64, "alice", "ops-ci", "a.b_c-9")],
    hello(epoch=0),
    hello(epoch=2**32 - 1, features=2**32 - 1, max_version=2**16 - 1),
    m.Challenge(2**16 - 1, 2**32 - 1, NONCE),
    m.Ping(0),
    m.Pong(2**63 - 1, 0.0),
    m.Run("x", timeout=1e-9, max_output=0),
    m.Run("x", timeout=999_999_999, max_output=2**63 - 1, environment={"A": ""}),
    m.Stdout(b"x"),
    m.Stdout(bytes(262144)),
    end(bytes=0, total=0),
    end(total=2**63 - 1),
    m.Window(1),
    m.Window(2**31 - 1),
    m.Exit(0),
    m.Exit(255),
    m.Exit(signal=1),
    m.Exit(signal=127),
]


@pytest.mark.parametrize("message", GOOD, ids=[f"{number}" for number in range(len(GOOD))])
def test_the_edges_are_in_range(message: Message) -> None:
    assert message == dataclasses.replace(message)


@pytest.mark.parametrize("kind", get_args(Message), ids=lambda kind: kind.__name__)
def test_every_message_is_frozen_and_slotted(kind: type[Message], samples: dict[type[Message], Message]) -> None:
    message = samples[kind]
    assert not hasattr(message, "__dict__")
    for field in dataclasses.fields(message):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(message, field.name, getattr(message, field.name))


def test_the_list_of_messages_is_complete() -> None:
    listed = {getattr(m, name) for name in m.__all__} - {m.Message, m.Stream, m.Reason}
    assert listed == set(get_args(Message)) - set(get_args(f.FileMessage))


@pytest.mark.parametrize("kind", [m.Stdin, m.Stdout, m.Stderr])
def test_data_does_not_show_in_logs(kind: type[m.Stdin]) -> None:
    assert repr(kind(b"password")) == f"{kind.__name__}()"


def test_the_words_of_streams_and_reasons() -> None:
    assert [*m.Stream] == ["stdin", "stdout", "stderr", "script"]
    assert [*m.Reason] == ["exit", "timeout", "cancelled"]
