"""The agent's side of push, pull and rollback: who may, where, and what the trees are told of this machine.

The trees themselves (`agent.tree`) know no permissions. Here a controller's request is measured by its section of the
settings, its destination is opened once, and from then on that open directory is the place, whatever happens to its
path. A session drives a `Transfer` as it drives a command: it says what to poll, and is told what came.
"""

from __future__ import annotations

import grp
import os
import pwd
import time
from collections.abc import Callable
from typing import Protocol

from agent.config import Controller, Permission
from agent.destination import open_destination
from agent.environment import account
from agent.journal import Journal, Record, Replaced, UndoWriter
from agent.log import log
from agent.rollback import LastRun, Restorer
from agent.runner import Runner
from agent.tally import Tally
from agent.tree.committer import Hooks, Validation
from agent.tree.entries import Listing, Source
from agent.tree.errors import FileError, TransferError
from agent.tree.options import ReceiverOptions, SenderOptions
from agent.tree.paths import Folder, Identity, Links, check_name, identity
from agent.tree.receiver import Receiver
from agent.tree.sender import Sender
from agent.tree.sources import find_matches
from agent.validation import Validator
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.record import record

__all__ = ["Files", "Transfer"]

Request = f.Push | f.Pull | f.Rollback


class _Part(Protocol):
    """What a transfer drives: a sender, a receiver or a restorer."""

    done: bool

    def take(self, message: m.Message) -> None: ...
    def step(self) -> bool: ...
    def close(self) -> None: ...


@record
class Files:
    """What all transfers of an agent share. Without a journal nothing is swept, and nothing can be rolled back."""

    rules: Callable[[str], Controller]
    runner: Runner
    shell: str
    journal: Journal | None
    clock: Callable[[], float] = time.monotonic

    def start(
        self, request: Request, controller: str, send: Callable[[m.Message], None], *, whole_files: bool = False
    ) -> Transfer:
        """Start what a controller, who may know `whole_files`, asks for. Raises TransferError."""
        rules = self.rules(controller)
        tally = Tally(_kind_of(request), request.run)
        needed = Permission.PULL if isinstance(request, f.Pull) else Permission.PUSH
        if needed not in rules.permissions:
            raise TransferError("denied", f"controller {controller} may not {needed} here")
        try:
            if isinstance(request, f.Push):
                return self._push(request, controller, rules, tally, send)
            if isinstance(request, f.Pull):
                return self._pull(request, rules, tally, send, whole_files)
            return self._rollback(request, controller, rules, tally, send)
        except FileError as error:
            raise TransferError("failed", str(error)) from None

    def _push(
        self, push: f.Push, controller: str, rules: Controller, tally: Tally, send: Callable[[m.Message], None]
    ) -> Transfer:
        if push.validate is not None and Permission.RUN not in rules.permissions:
            # Any command can be written there.
            raise TransferError("denied", f"controller {controller} may not run commands here, and so not validate")
        check_name(f"x{push.backup or ''}")  # a backup's name is no worse than others
        options = ReceiverOptions.of_push(push, owner=_owner(push.owner), group=_group(push.group))
        to = open_destination(push, home=_home(rules, push.destination), roots=_roots(rules.push))
        token = os.urandom(8).hex()
        try:
            hooks = _AgentHooks(self, push, controller, token)
        except FileError:
            to.base.release()
            raise
        tell = tally.telling(send)
        receiver = Receiver(to.base, to.place, options, tell, tell=True, hooks=hooks, token=token, made=to.made)
        return Transfer(receiver, tally, [to.base], hooks)

    def _pull(
        self, pull: f.Pull, rules: Controller, tally: Tally, send: Callable[[m.Message], None], whole_files: bool
    ) -> Transfer:
        roots = _roots(rules.pull)
        sources: list[Source] = []
        try:
            for path in pull.paths:
                sources.append(find_matches(path, home=_home(rules, path), links=Links.OWNED, roots=roots))
        except (PermissionError, ValueError) as error:
            _release([source.folder for source in sources])
            if isinstance(error, PermissionError):
                raise TransferError("denied", f"may not be pulled: {path}") from None
            raise TransferError("failed", str(error)) from None
        except FileError:
            _release([source.folder for source in sources])
            raise
        options = SenderOptions(pull.follow, pull.exclude, max_size=pull.max_size, max_files=pull.max_files)
        listing = Listing(iter(sources), options, Links.OWNED, roots)
        sender = Sender(listing, send, tally, whole_files=whole_files)
        return Transfer(sender, tally, [source.folder for source in sources])

    def _rollback(
        self, rollback: f.Rollback, controller: str, rules: Controller, tally: Tally, send: Callable[[m.Message], None]
    ) -> Transfer:
        if self.journal is None:
            raise TransferError("failed", "this agent keeps no journal of what it replaced")
        if rollback.ask:
            return Transfer(LastRun.find(self.journal, controller, send), None, [])
        restorer = Restorer.find(self.journal, rollback, controller, _roots(rules.push), tally.telling(send))
        return Transfer(restorer, tally, [])


class Transfer:
    """One transfer of one session, whose thread owns it."""

    def __init__(
        self, part: _Part, tally: Tally | None, folders: list[Folder | None], hooks: _AgentHooks | None = None
    ) -> None:
        self._part = part
        self._tally = tally
        self._folders = folders
        self._hooks = hooks
        self.busy = True  # whether `step` has work to do at once

    @property
    def done(self) -> bool:
        """Whether all is said."""
        return self._part.done

    def readable(self) -> list[int]:
        """Return the descriptors to poll for input."""
        return self._part.readable() if isinstance(self._part, Receiver) else []

    def seconds_left(self) -> float | None:
        """Return when `step` wants to be called at the latest, None when nothing is due."""
        return None if self._hooks is None else self._hooks.seconds_left()

    def take(self, message: m.Message) -> None:
        """Take a message of the controller. Raises RemoteProtocolError."""
        self._part.take(message)

    def step(self) -> bool:
        """Do a piece of work; return whether there is more to do at once."""
        self.busy = self._part.step()
        return self.busy

    def close(self) -> None:
        """Give everything back, and keep what the next transfer may continue."""
        done = self._part.done
        self._part.close()
        _release(self._folders)
        if self._hooks is not None:
            self._hooks.close(clean=done)
        if self._tally is not None:
            self._tally.end(done=done)


class _AgentHooks(Hooks):
    """What the agent does for a push."""

    def __init__(self, files: Files, push: f.Push, controller: str, token: str) -> None:
        """Note a push with backups. Raises FileError: what cannot be rolled back is not begun."""
        self._files = files
        self._push = push
        self._token = token
        self._record: Record | None = None
        self._undo: UndoWriter | None = None
        self._validator: Validator | None = None
        if files.journal is not None and push.backup is not None and not push.check:
            try:
                self._undo = files.journal.begin_undo(controller, push.run, token)
            except OSError as error:
                raise FileError.from_os("note it for a rollback", error) from None

    def using(self, folder: Folder, name: str) -> None:
        """Note the directory, so that the next start of the agent can sweep it."""
        if self._files.journal is None:
            return
        try:
            if self._record is None:
                self._record = self._files.journal.begin(self._token)
            self._record.note(folder.path)
        except OSError as error:  # a full disk under our own folder must not stop a push to another
            log.warning("cannot note a transfer: %s", os.strerror(error.errno or 0).lower())

    def validate(self, path: str) -> Validation:
        """Start the operator's command."""
        assert self._push.validate is not None
        files = self._files
        self._validator = Validator(
            files.runner,
            files.shell,
            self._push.validate,
            path,
            host=self._push.host,
            run=self._push.run,
            clock=files.clock,
        )
        return self._validator

    def replaced(self, path: str, backup: str, old: str, new: str) -> bool:
        """Note what a rollback needs. Without that note nothing is replaced."""
        if self._undo is None:
            return False
        try:
            self._undo.note(Replaced(path, backup, old, new))
        except OSError as error:
            raise FileError.from_os("note it for a rollback", error) from None
        return True

    def synced(self) -> None:
        """Make the notes last as long as what they are about."""
        try:
            if self._undo is not None:
                self._undo.sync()
        except OSError as error:
            log.warning("cannot sync the notes for a rollback: %s", os.strerror(error.errno or 0).lower())

    def seconds_left(self) -> float | None:
        """Return how long the validation that runs may take."""
        return None if self._validator is None else self._validator.seconds_left()

    def close(self, *, clean: bool) -> None:
        """End the records."""
        if self._undo is not None:
            self._undo.close()
        if self._record is not None:
            try:
                self._record.close(clean=clean)
            except OSError as error:
                log.warning("cannot remove the note of a transfer: %s", os.strerror(error.errno or 0).lower())


def _kind_of(request: Request) -> str:
    """Return what a request is called in the log."""
    kind = type(request).__name__.lower()
    return f"check of a {kind}" if isinstance(request, f.Push) and request.check else kind


def _home(rules: Controller, path: str) -> str:
    """Return where `path` starts if it is relative. If not, nobody has to look an account up, which may take long."""
    if path.startswith("/"):
        return "/"
    return rules.home if rules.home is not None else account().directory


def _roots(paths: tuple[str, ...] | None) -> frozenset[Identity] | None:
    """Return which directories a controller is held to, None for all. What is no directory now allows nothing."""
    if paths is None:
        return None
    return frozenset(found for path in paths if (found := identity(path)) is not None)


def _release(folders: list[Folder | None]) -> None:
    for folder in folders:
        if folder is not None:
            folder.release()


def _owner(name: str | None) -> int | None:
    """Return a user's number. Raises TransferError."""
    return None if name is None else _number("user", name, lambda: pwd.getpwnam(name).pw_uid)


def _group(name: str | None) -> int | None:
    """Return a group's number. Raises TransferError."""
    return None if name is None else _number("group", name, lambda: grp.getgrnam(name).gr_gid)


def _number(kind: str, name: str, look_up: Callable[[], int]) -> int:
    try:
        number = f.owner_number(name)
    except ValueError as error:
        raise TransferError("failed", f"{kind} {error}") from None
    if number is not None:
        return number
    try:
        return look_up()
    except (KeyError, ValueError):  # ValueError: of characters that no name can have
        raise TransferError("failed", f"unknown {kind} {name!r}") from None
    except OSError as error:
        raise TransferError("failed", str(FileError.from_os(f"look up {kind} {name!r}", error))) from None
