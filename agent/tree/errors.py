"""What can be wrong with files, as two classes: with one of them, or with a whole transfer.

What a peer does that it must not is `agent.wire.errors.RemoteProtocolError`, here as everywhere.
"""

from __future__ import annotations

import os

__all__ = ["FileError", "TransferError"]

_LONGEST = 1000  # characters


class FileError(Exception):
    """One file cannot be read, written or used; the others can. `action` is what failed, `reason` why.

    Without an action the reason is the whole sentence. `number` is that of the system's error (errno(3)), if any.
    """

    def __init__(self, action: str, reason: str, number: int | None = None) -> None:
        super().__init__(action, reason)
        self.action = action
        self.reason = reason
        self.number = number

    @classmethod
    def from_os(cls, action: str, error: OSError) -> FileError:
        """Put a failed system call in our words."""
        return cls(action, os.strerror(error.errno).lower() if error.errno else str(error), error.errno)

    def __str__(self) -> str:
        return _bounded(f"cannot {self.action}: {self.reason}" if self.action else self.reason)


class TransferError(Exception):
    """Nothing of a transfer can be done. `code` is for programs: "denied" or "failed"; `reason` is for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return _bounded(self.reason)


def _bounded(text: str) -> str:
    """Cut what would not fit in a message: a path of 4096 bytes can stand in a sentence, and JSON stretches it."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
