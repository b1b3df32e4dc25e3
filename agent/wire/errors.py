"""Whose fault it was, as two classes, and one that says that it may be nobody's.

Anything else that escapes from `agent.wire` is a bug, and the mutation tests say so.
"""

from __future__ import annotations

__all__ = ["ConnectionEndedError", "LocalProtocolError", "ProtocolError", "RemoteProtocolError"]


class ProtocolError(Exception):
    """The protocol was broken. `reason` says how, in lower case and without a full stop."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class LocalProtocolError(ProtocolError):
    """We tried to send what the protocol does not allow: a bug on this side."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow. The connection is of no further use."""


class ConnectionEndedError(RemoteProtocolError):
    """The peer's bytes are at their end where more must come. Seldom its fault: it died, or somebody cut the line."""
