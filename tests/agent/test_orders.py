"""Datagrams between the agent and a worker: each arrives as it was sent, and an end is never taken for a message."""

from __future__ import annotations

import os
import socket

import pytest

from agent.orders import Command, Ended, Kill, Outcome, Ready, Run, Started, receive, send, send_run


@pytest.fixture
def channel():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    "message",
    [
        Kill(2.5),
        Kill(0),
        Ready(12),
        Started(34),
        Ended(Outcome(255, None), True),
        Ended(Outcome(None, 9, "could not kill all: 2 left", 2), False),
    ],
)
def test_each_message_arrives_equal(channel, message):
    send(channel[0], message)
    assert receive(channel[1]) == message


@pytest.mark.parametrize(
    "command",
    [
        Command(("/bin/sh", "-c", "true"), {}, "/"),
        Command(("/bin/sh",), {"A": "1", "B": "2"}, "/tmp", stdin=True, user="nobody", script=True, home=True),
        Command((os.fsdecode(bytes(range(1, 256))), "\0", "\u20ac"), {os.fsdecode(b"\xff"): ""}, os.fsdecode(b"/\xfe")),
        Command(("\x01" * 200_000,), {"A": "\ud800" * 200_000}, "/"),
    ],
    ids=["plain", "all", "bytes", "long"],
)
def test_a_command_arrives_equal_with_its_descriptors(channel, command):
    pipes = [os.memfd_create("x") for _ in range(4 if command.script else 2)]
    for number, fd in enumerate(pipes):
        os.write(fd, b"%d" % number)
    send_run(channel[0], command, pipes)
    run = receive(channel[1])
    assert isinstance(run, Run) and run.command == command
    assert [os.pread(fd, 9, 0) for fd in run.descriptors] == [b"%d" % number for number in range(len(pipes))]
    assert not any(os.get_inheritable(fd) for fd in run.descriptors)
    for fd in (*pipes, *run.descriptors):
        os.close(fd)


@pytest.mark.parametrize("length", [1, 128 * 1024], ids=["small", "large"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_command_without_its_descriptors_is_an_error_that_leaves_none_open(channel, count, length):
    """The kernel drops those that find no room in the receiver."""
    before = len(os.listdir("/proc/self/fd"))
    send_run(channel[0], Command(("x" * length,), {}, "/"), [0] * count)
    with pytest.raises(OSError, match="Too many open files"):
        receive(channel[1])
    channel[0].send(b"M")  # of a large command, not even what it is in
    with pytest.raises(OSError, match="Too many open files"):
        receive(channel[1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_message_yet(channel):
    channel[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        receive(channel[1])


def test_the_end(channel):
    channel[0].close()
    assert receive(channel[1]) is None
    with pytest.raises(BrokenPipeError):
        send(channel[1], Kill(0))


def test_what_was_said_before_the_end_is_heard_also_when_messages_crossed(channel):
    """A worker that reports and goes has not read the order to kill that was on its way: the outcome must not be
    lost, or a command that ended well would count as killed."""
    ours, theirs = channel
    ended = Ended(Outcome(0, None, None, 1), False)
    send(ours, Kill(0))
    send(theirs, Started(1))
    send(theirs, ended)
    theirs.close()
    assert [receive(ours), receive(ours), receive(ours)] == [Started(1), ended, None]
