"""What the sessions of an agent share: its keys, its runner, its settings, and the news that it stops."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import field

from agent.files import Files
from agent.runner import Runner
from agent.wire.handshake import Verifier
from agent.wire.record import record

__all__ = ["Services", "StoppingError"]


@record
class Services:
    """What every session of an agent shares."""

    context: ssl.SSLContext
    certificate: bytes  # DER, for the channel binding
    find: Callable[[str, bytes, int, str], Verifier | None]  # controller, host id, epoch, source address
    permissions: Callable[[str], frozenset[str]]
    runner: Runner
    shell: str
    files: Files
    about: Mapping[str, str]  # what a controller is told of this agent: versions and the like
    stop: int  # a descriptor that turns readable when the agent stops
    folder: str | None = None  # the agent's own, for scripts where there are none in memory
    decoy: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    clock: Callable[[], float] = time.monotonic


class StoppingError(Exception):
    """The agent stops, and the session has nothing left to do."""
