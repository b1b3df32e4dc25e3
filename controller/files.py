"""Pushes and pulls over many hosts: from what was asked for to a `Run` that does it.

Everything that can be wrong on this machine is found here, before any host is reached: a source that is not there, a
variable that has no value, a request that no agent would take.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.tree.digests import Digests
from agent.tree.entries import Listing
from agent.tree.options import SenderOptions
from agent.tree.paths import Links
from agent.tree.sender import Listed
from agent.wire import file_messages as f
from agent.wire.file_messages import TOP
from agent.wire.record import record
from controller import transfer
from controller.cancel import CancelToken
from controller.client import Client, Target
from controller.differences import Content, Differences
from controller.errors import CancelledError, DeniedError, FleetError, HostError
from controller.held import HeldFiles, read_small
from controller.ledger import DiffMaker, Ledger
from controller.meter import Meter, Unwatched, Watcher
from controller.results import Result, Status, Tally
from controller.runs import Plan, Run, new_run_id
from controller.sources import look_at, opened, reader
from controller.templates import read_templates
from inventory import Host

if TYPE_CHECKING:
    from controller.keyfile import ControllerKey

__all__ = ["Going", "PullOptions", "PushOptions", "plan_of", "plan_pull", "plan_push"]

_ROOM = 8 * 1024 * 1024  # bytes of small files that are read once for all hosts
_LOOK_AGAIN = 2.0  # seconds to see whether a host that was lost still lets us in

Reader = Callable[[str], Content | None]


@record
class PushOptions:
    """How to push. See `fleet push --help`; each field is the option of its name.

    `exclude` are patterns of files, as in rsync(1). `backup` is the suffix under which replaced files are kept.
    """

    mode: int | None = None
    owner: str | None = None
    group: str | None = None
    preserve: bool = False
    backup: str | None = None
    check: bool = False
    diff: bool = False
    validate: str | None = None
    delete: bool = False
    exclude: Sequence[str] = ()
    quick: bool = False
    follow: bool = False
    template: bool = False


@record
class PullOptions:
    """How to pull. `max_size` (bytes) and `max_files` are for each host; `exclude` are patterns of files."""

    flat: bool = False
    follow: bool = False
    preserve: bool = False
    quick: bool = False
    exclude: Sequence[str] = ()
    max_size: int | None = None
    max_files: int | None = 1_000_000


@record
class Going:
    """What every kind of transfer needs of the fleet, and of who asked for it."""

    hosts: Sequence[Host]
    targets: Sequence[Target]
    key: ControllerKey
    width: int
    connect_timeout: float
    timeout: float | None
    keep: bool
    watcher: Watcher | None
    token: CancelToken


def plan_push(going: Going, sources: Sequence[str], destination: str, options: PushOptions) -> Run[Result]:
    """Return the run that sends `sources` to `destination` everywhere. Raises FleetError."""
    if not sources:
        raise FleetError("push", "there is nothing to send")
    found = look_at(sources, follow=options.follow or options.template)
    if options.delete and not any(source.is_folder for source in found):
        raise FleetError("--delete", "removes what a directory does not have, and no SRC is a directory")
    templates = read_templates(found) if options.template else []
    small = [] if options.template else read_small(found, follow=options.follow)
    for host in going.hosts if templates else ():
        for template in templates:
            template.text_for(host)  # an undefined variable must be found before the first host is changed
    run_id = new_run_id()
    if any(source.name == TOP for source in found) and not destination.endswith("/"):
        destination += "/"  # what is in a directory can only go into one
    requests = {host.name: _push(host, run_id, destination, options, several=len(found) > 1) for host in going.hosts}
    by_name = {host.name: host for host in going.hosts}
    differences = Differences()

    sending = SenderOptions(follow=options.follow, exclude=tuple(options.exclude), check=options.check)
    several = len(going.hosts) > 1
    digests = Digests(room=_ROOM if several else 0)

    def send(target: Target, meter: Meter, client: Client, listing: Listed, read: Reader) -> Result:
        maker = DiffMaker(differences, target.name, read) if options.diff else None
        ledger = Ledger(target.name, meter, keep=going.keep, changes=options.check, differences=maker)
        return transfer.push(client, requests[target.name], listing, ledger, meter, going.timeout, digests)

    def work(target: Target, meter: Meter, client: Client) -> Result:
        if files := small or [template.fill(by_name[target.name]) for template in templates]:
            held = HeldFiles(files, sending)
            return send(target, meter, client, held, held.content)
        with opened(found) as listed:
            listing = Listing(iter(listed), sending, Links.ALWAYS, identify=several)
            return send(target, meter, client, listing, reader(found))

    return _run(going, run_id, shlex.join(["push", *sources, destination]), work)


def plan_pull(going: Going, paths: Sequence[str], folder: str, options: PullOptions) -> Run[Result]:
    """Return the run that fetches `paths` from everywhere into `folder`. Raises FleetError."""
    from controller.landing import Landing, Limits

    paths = tuple(dict.fromkeys(paths))
    run_id = new_run_id()
    requests = {host.name: _pull(host, run_id, paths, options) for host in going.hosts}
    limits = Limits(options.max_size, options.max_files, options.preserve, options.quick, tuple(options.exclude))
    landing = Landing(folder, paths, [host.name for host in going.hosts], flat=options.flat, limits=limits)

    def work(target: Target, meter: Meter, client: Client) -> Result:
        ledger = Ledger(target.name, meter, keep=going.keep)
        return transfer.pull(client, requests[target.name], landing, ledger, meter, going.timeout)

    return _run(going, run_id, shlex.join(["pull", *paths, folder]), work)


def _run(going: Going, run_id: str, command: str, work: Callable[[Target, Meter, Client], Result]) -> Run[Result]:
    return Run(plan_of(going, work), going.token, run_id=run_id, command=command)


def plan_of(going: Going, work: Callable[[Target, Meter, Client], Result]) -> Plan[Result]:
    """Return how each host is reached and watched, and comes to a result also where it is not reached."""
    watcher = going.watcher or Unwatched()

    def reach(target: Target) -> Result:
        began = time.monotonic()
        meter = watcher.start(target.name)
        try:
            with Client(target, going.key, going.token, connect_timeout=going.connect_timeout) as client:
                result = work(target, meter, client)
            goes_on = result.status is Status.BROKEN and result.note is not None  # which says that it can
            return _told_if_refused(result, target, going) if goes_on else result
        except HostError as error:
            elapsed = 0.0 if isinstance(error, CancelledError) else time.monotonic() - began
            return Result(target.name, error.status, elapsed=elapsed, error=error.reason, tally=Tally())
        finally:
            watcher.end(target.name)

    def skipped(target: Target) -> Result:
        return Result(target.name, Status.SKIPPED, error=CancelledError().reason, tally=Tally())

    return Plan(going.targets, reach, skipped, going.width)


def _told_if_refused(result: Result, target: Target, going: Going) -> Result:
    """Return a result that says that it can go on, but for a host that lets us in no more: then it says that."""
    try:
        Client(target, going.key, going.token, connect_timeout=min(_LOOK_AGAIN, going.connect_timeout)).close()
    except DeniedError as error:
        return replace(result, note=error.reason)
    except HostError:  # it is not there just now, which is no reason to give up
        pass
    return result


def _push(host: Host, run_id: str, destination: str, options: PushOptions, *, several: bool) -> f.Push:
    try:
        return f.Push(
            destination,
            host=host.name,
            run=run_id,
            several=several,
            mode=options.mode,
            owner=options.owner,
            group=options.group,
            preserve=options.preserve,
            backup=options.backup,
            check=options.check,
            diff=options.diff,
            validate=options.validate,
            delete=options.delete,
            exclude=tuple(options.exclude),
            quick=options.quick,
        )
    except ValueError as error:
        raise FleetError("push", str(error)) from None


def _pull(host: Host, run_id: str, paths: Sequence[str], options: PullOptions) -> f.Pull:
    try:
        return f.Pull(
            tuple(paths),
            host=host.name,
            run=run_id,
            follow=options.follow,
            exclude=tuple(options.exclude),
            max_size=options.max_size,
            max_files=options.max_files,
        )
    except ValueError as error:
        raise FleetError("pull", str(error)) from None
