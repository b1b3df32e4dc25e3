"""What a receiver is told to do with what comes: one frozen dataclass, made of a `Push` or of a pull's options."""

from __future__ import annotations

from agent.wire.file_messages import Push
from agent.wire.record import record

__all__ = ["ReceiverOptions", "SenderOptions"]


@record
class ReceiverOptions:
    """As in `Push`, with what a pull needs besides.

    `owner` and `group` are numbers. `umask` are the permission bits that new files never get from the sender (`mode`
    is not masked). `max_size` in bytes and `max_files` are what the sender was asked to keep to; a sender that does
    not is broken off. `min_free` is the space, in bytes, that must stay free on the file system.
    """

    mode: int | None = None
    owner: int | None = None
    group: int | None = None
    preserve: bool = False
    backup: str | None = None
    check: bool = False
    diff: bool = False
    validate: bool = False
    delete: bool = False
    exclude: tuple[str, ...] = ()
    quick: bool = False
    umask: int = 0
    max_size: int | None = None
    max_files: int | None = None
    min_free: int = 0

    @classmethod
    def of_push(cls, push: Push, *, owner: int | None, group: int | None) -> ReceiverOptions:
        """Return a push's options, with its owner and group as numbers."""
        return cls(
            mode=push.mode,
            owner=owner,
            group=group,
            preserve=push.preserve,
            backup=push.backup,
            check=push.check,
            diff=push.diff,
            validate=push.validate is not None,
            delete=push.delete,
            exclude=push.exclude,
            quick=push.quick,
        )


@record
class SenderOptions:
    """What to send. As in `Pull`; `check` is a push's: contents are compared, and not sent."""

    follow: bool = False
    exclude: tuple[str, ...] = ()
    check: bool = False
    max_size: int | None = None
    max_files: int | None = None
