"""`fleet shell`: a prompt over many hosts."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
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

HostArgument = Annotated[
    str | None,
    Argument("[HOST]", help="One host: its login shell, on this terminal. [default: a prompt over all hosts]"),
]
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
    """Open a prompt over many hosts, with kept connections; or on one HOST its shell, on this terminal.

    With HOST, ~. at the start of a line ends the session and ~? shows what else there is. Exit code: that of the shell,
    or 3 or 4 as `fleet run` has them. Whatever the session started ends with it when the connection is lost.

    Over many hosts, directory, variables and umask last from one command to the next, on each host its own; equal
    output is shown once.
    When standard input is no terminal its lines are run one after the other, and the exit code is that of fleet run for
    the worst of all results; a wrong line ends it with 2, before the next one is read.
    """
    settings = load_settings(os.environ)
    targets = o.Targets(
        inventory, limit, hosts, exclude, fanout, connect_timeout, port, key, registry, cache_ttl, refresh_cache
    )
    when = o.read_color_option(color, settings)
    seconds = o.check("--timeout", read_seconds, timeout, settings.timeout)
    if host is not None:
        targets = replace(targets, limit=[*(limit or []), host])
    elif "-" in (inventory or settings.inventory) and not list_hosts:
        raise FleetError("--inventory", "'-' takes standard input, and commands come from there")
    known = targets.load(settings)
    if list_hosts:
        o.list_hosts(targets.select(known))
        return 0
    if host is not None:
        from controller.cli.run import Request
        from controller.cli.tty import LOGIN_SHELL, open_terminal

        request = Request(LOGIN_SHELL, timeout=seconds)
        return open_terminal(targets.fleet(known, settings), targets, request, what="shell", return_own=True)

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
