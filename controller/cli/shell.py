"""`fleet shell`: a prompt over many hosts."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

from controller.cli import options as o
from controller.cli.declare import Argument, Command, Option
from controller.cli.look import writers
from controller.errors import FleetError
from controller.settings import load_settings, read_seconds

if TYPE_CHECKING:
    from controller.output import Writer
    from controller.shell.prompt import Lines
    from inventory import Inventory

HostArgument = Annotated[list[str] | None, Argument(hidden=True)]
TimeoutOption = Annotated[
    float | None,
    Option("-t", "--timeout", metavar="S", help="Kill each command that runs longer. [default: none]"),
]


def shell(
    host: HostArgument = None,
    inventory: o.InventoryOption = None,
    limit: o.LimitOption = None,
    hosts: o.HostsOption = None,
    exclude: o.ExcludeOption = None,
    list_hosts: o.ListHostsOption = False,
    fanout: o.FanoutOption = None,
    connect_timeout: o.ConnectTimeoutOption = None,
    port: o.PortOption = None,
    key: o.KeyOption = None,
    registry: o.RegistryOption = None,
    cache_ttl: o.CacheTtlOption = None,
    refresh_cache: o.RefreshCacheOption = False,
    timeout: TimeoutOption = None,
    color: o.ColorOption = None,
) -> int:
    """Open a prompt over many hosts, with kept connections.

    Directory, variables and umask last from one command to the next, on each host its own; equal output is shown once.
    When standard input is no terminal its lines are run one after the other, and the exit code is that of fleet run for
    the worst of all results; a wrong line ends it with 2, before the next one is read.
    """
    if host:
        # One host with a terminal of its own, `fleet shell HOST`, would begin here.
        raise FleetError("usage", f"unexpected argument {host[0]!r}", f"for some hosts alone: fleet shell -l {host[0]}")
    settings = load_settings(os.environ)
    targets = o.Targets(
        inventory, limit, hosts, exclude, fanout, connect_timeout, port, key, registry, cache_ttl, refresh_cache
    )
    when = o.read_color_option(color, settings)
    seconds = o.check("--timeout", read_seconds, timeout, settings.timeout)
    if "-" in (inventory or settings.inventory) and not list_hosts:
        raise FleetError("--inventory", "'-' takes standard input, and commands come from there")
    known = targets.load(settings)
    if list_hosts:
        o.list_hosts(targets.select(known))
        return 0

    from controller.shell.dialogue import Choice, Dialogue
    from controller.shell.loop import converse

    out, err = writers(when)
    choice = Choice(limit or (), exclude or (), seconds)
    fleet = targets.fleet(known, settings)
    with fleet.session(limit=choice.limit, exclude=choice.exclude) as session:
        return converse(Dialogue(fleet, session, choice, out, err), _lines(err, known))


def _lines(err: Writer, known: Inventory) -> Lines:
    """Return where lines come from."""
    from controller.shell.commands import COMMANDS
    from controller.shell.prompt import Completer, Stream, Terminal, history_path

    if not sys.stdin.isatty():
        return Stream(sys.stdin.buffer)
    names = sorted({*known.names, *known.groups})
    return Terminal(err, Completer(names, list(COMMANDS)), history_path(os.environ))


COMMANDS = {
    "shell": Command(shell),
}
