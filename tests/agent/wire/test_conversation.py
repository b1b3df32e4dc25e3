"""Any legal conversation, cut into any pieces, arrives equal."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire import messages as m
from agent.wire.connection import NEED_DATA, TABLE, Role, State
from agent.wire.messages import Message

CONTROLLER, AGENT = Role.CONTROLLER, Role.AGENT
STDIN, STDOUT, STDERR, SCRIPT = m.Stream

SMALL = st.binary(min_size=1, max_size=40)
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(["\udc80", "\udcff"]), max_size=10)
PLAIN = TEXT.map(lambda text: text.replace("\0", ""))
RUNS = st.builds(
    m.Run,
    command=PLAIN.map(lambda text: text + "x"),
    host=PLAIN,
    run=PLAIN,
    environment=st.dictionaries(PLAIN.map(lambda text: text.replace("=", "") + "X"), PLAIN, max_size=2),
    directory=st.none() | PLAIN,
    user=st.none() | PLAIN,
    timeout=st.none() | st.floats(0.001, 1e8),
    max_output=st.none() | st.integers(0, 2**63 - 1),
    stdin=st.booleans(),
)
TOKENS = st.integers(0, 2**63 - 1)
EXITS = st.builds(m.Exit, code=st.integers(0, 255), reason=st.sampled_from(m.Reason), held=st.booleans()) | st.builds(
    m.Exit, signal=st.integers(1, 64), elapsed=st.floats(0, 1e6), error=st.none() | TEXT
)
PLANS: dict[type[Message], st.SearchStrategy[Any]] = {
    m.Ping: st.builds(m.Ping, TOKENS),
    m.Pong: st.builds(m.Pong, TOKENS, st.floats(0, 1e11)),
    m.Goodbye: st.builds(m.Goodbye, TEXT, TEXT),
    m.Error: st.builds(m.Error, TEXT, TEXT),
    m.Run: RUNS,
    m.Stdin: st.builds(m.Stdin, SMALL),
    m.Cancel: st.builds(m.Cancel),
    m.Stdout: st.builds(m.Stdout, SMALL),
    m.Stderr: st.builds(m.Stderr, SMALL),
    m.Exit: EXITS,
}


class Conversation:
    """Draws messages that are legal, from the rules as written in PROTOCOL.md and not from the connection's code."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.open: dict[m.Stream, bytes] = {}
        self.under_way = 0

    def next(self, sender: Role, state: State) -> Message:
        """Return one message that `sender` may send in `state`."""
        mine = {STDIN} if sender is CONTROLLER else {STDOUT, STDERR}
        kinds = set(TABLE[sender][state]) & PLANS.keys() - {m.Stdin, m.Stdout, m.Stderr, m.Exit}
        ends: list[m.Stream] = []
        if state is State.RUNNING:
            ends = sorted(mine & self.open.keys())
            kinds |= {{STDIN: m.Stdin, STDOUT: m.Stdout, STDERR: m.Stderr}[stream] for stream in ends}
            if sender is AGENT and not {STDOUT, STDERR} & self.open.keys():
                kinds.add(m.Exit)
        choices: list[object] = sorted(kinds, key=lambda kind: kind.__name__) + list(ends)
        if sender is AGENT and state is State.RUNNING and self.under_way:
            choices.append(m.Window)
        choice = self.draw(st.sampled_from(choices))
        if isinstance(choice, m.Stream):
            data = self.open.pop(choice)
            held_back = self.draw(st.integers(0, 2**40))
            return m.EndOfStream(choice, len(data), hashlib.sha256(data).hexdigest(), len(data) + held_back)
        if choice is m.Window:
            taken = self.draw(st.integers(1, self.under_way))
            self.under_way -= taken
            return m.Window(taken)
        return self._keep(self.draw(PLANS[choice]))  # type: ignore[index]

    def _keep(self, message: Message) -> Message:
        if isinstance(message, m.Run):
            self.open = dict.fromkeys(m.Stream if message.stdin else (STDOUT, STDERR), b"")
            self.under_way = 0
        elif isinstance(message, m.Stdin | m.Stdout | m.Stderr):
            stream = m.Stream(type(message).__name__.lower())
            self.open[stream] += message.data
            self.under_way += len(message.data) if stream is STDIN else 0
        return message


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.data())
def test_any_legal_conversation_in_any_pieces_arrives_equal(in_state: Any, data: st.DataObject) -> None:
    ends = {role: in_state(role, State.READY) for role in Role}
    conversation = Conversation(data.draw)
    for _ in range(data.draw(st.integers(1, 8))):
        sender = data.draw(st.sampled_from(Role))
        said: list[Message] = []
        sent = b""
        for _ in range(data.draw(st.integers(1, 6))):
            if ends[sender].state is State.CLOSED:
                break
            message = conversation.next(sender, ends[sender].state)
            said.append(message)
            sent += ends[sender].send(message)

        sink = ends[sender.peer]
        cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
        heard: list[object] = []
        for start, stop in itertools.pairwise([0, *cuts, len(sent)]):
            if start < stop:
                sink.receive(sent[start:stop])
            while sink.state is not State.CLOSED and (event := sink.next_event()) is not NEED_DATA:
                heard.append(event)
        assert heard == said
        assert sink.state is ends[sender].state
        if sink.state is State.CLOSED:
            return
