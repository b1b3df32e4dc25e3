"""`fleet ping` and `fleet hosts`: who is there, and who the inventory says is there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from controller.cli import options as o
from controller.cli.declare import Command, Option
from controller.cli.look import writers
from controller.errors import FleetError
from controller.settings import Settings, load_settings, read_seconds

if TYPE_CHECKING:
    from inventory import Host, Inventory

JsonOption = Annotated[bool, Option("--json", help="As JSON.")]
ListOption = Annotated[bool, Option("--json", help="As `ansible-inventory --list` prints it.")]
TimeoutOption = Annotated[
    float | None,
    Option(
        "-t",
        "--timeout",
        metavar="S",
        help="As --connect-timeout: there is no more than that. The shorter counts.",
        panel="How to reach them",
    ),
]
GraphOption = Annotated[bool, Option("--graph", help="As `ansible-inventory --graph` draws it.")]
FoldOption = Annotated[bool, Option("--fold", help="As one node set: web[01-20],db1.")]
HostOption = Annotated[
    str | None, Option("--host", metavar="NAME", help="One host's variables, and where each comes from.")
]
FormatOption = Annotated[str | None, Option("--format", metavar="TABLEFMT", help="Any table format of tabulate.")]


def ping(
    inventory: o.InventoryOption = None,
    limit: o.LimitOption = None,
    hosts: o.HostsOption = None,
    exclude: o.ExcludeOption = None,
    list_hosts: o.ListHostsOption = False,
    fanout: o.FanoutOption = None,
    connect_timeout: o.ConnectTimeoutOption = None,
    timeout: TimeoutOption = None,
    port: o.PortOption = None,
    key: o.KeyOption = None,
    registry: o.RegistryOption = None,
    cache_ttl: o.CacheTtlOption = None,
    refresh_cache: o.RefreshCacheOption = False,
    json: JsonOption = False,
    format_: FormatOption = None,
    color: o.ColorOption = None,
) -> int:
    """Reach and authenticate every host: version, Python, system, clock difference and round trip."""
    settings = load_settings(os.environ)
    if timeout is not None:
        most = settings.connect_timeout if connect_timeout is None else connect_timeout
        connect_timeout = min(most, o.check("--timeout", read_seconds, timeout, most))
    targets = o.Targets(
        inventory, limit, hosts, exclude, fanout, connect_timeout, port, key, registry, cache_ttl, refresh_cache
    )
    when = o.read_color_option(color, settings)
    known = targets.load(settings)
    if list_hosts:
        o.list_hosts(targets.select(known))
        return 0

    from controller.cancel import CancelToken
    from controller.cli.watching import shown_while
    from controller.interrupts import Interrupts
    from controller.output import RunInfo
    from controller.output.listing import write_ping, write_ping_json
    from controller.output.words import summary

    tablefmt = _format(format_)
    out, err = writers(when)
    token = CancelToken()
    going = targets.fleet(known, settings).ping(limit=limit or (), exclude=exclude or (), cancel=token)
    with Interrupts(token) as interrupts, shown_while(going, err):
        for _ in going:
            pass
    code = interrupts.exit_code or going.exit_code
    if json:
        write_ping_json(out, RunInfo.of(going, code), going.results)
    else:
        write_ping(out, going.results, tablefmt=tablefmt)
        err.line(summary(going.results, going.elapsed, err.colour))
    return code


def hosts(
    inventory: o.InventoryOption = None,
    limit: o.LimitOption = None,
    hosts: o.HostsOption = None,
    exclude: o.ExcludeOption = None,
    list_hosts: o.ListHostsOption = False,
    cache_ttl: o.CacheTtlOption = None,
    refresh_cache: o.RefreshCacheOption = False,
    json: ListOption = False,
    graph: GraphOption = False,
    fold: FoldOption = False,
    host: HostOption = None,
    format_: FormatOption = None,
    color: o.ColorOption = None,
) -> None:
    """Show what the inventory holds: hosts with their addresses and groups."""
    ways = [name for name, given in (("--json", json), ("--graph", graph), ("--fold", fold), ("--host", host)) if given]
    if len(ways) > 1:
        raise FleetError(" and ".join(ways), "one at a time")
    settings = load_settings(os.environ)
    targets = o.Targets(inventory, limit, hosts, exclude, cache_ttl=cache_ttl, refresh_cache=refresh_cache)
    when = o.read_color_option(color, settings)
    known = targets.load(settings)
    chosen = targets.select(known)
    if list_hosts:
        o.list_hosts(chosen)
    elif json:
        _write_list(known, chosen)
    elif graph:
        _write_graph(known, chosen)
    elif fold:
        _write_folded(chosen)
    elif host is not None:
        _write_origins(known, host, when, _format(format_))
    else:
        _write_table(chosen, settings, when, _format(format_))


def _write_list(known: Inventory, chosen: list[Host]) -> None:
    import json

    from inventory import as_ansible_list

    listed = as_ansible_list(known, only={host.name for host in chosen})
    o.say(json.dumps(listed, indent=4, ensure_ascii=False))


def _write_graph(known: Inventory, chosen: list[Host]) -> None:
    from controller.targets import as_fleet_error
    from inventory import InventoryError, graph

    try:
        o.say(graph(known, only={host.name for host in chosen}))
    except InventoryError as error:
        raise as_fleet_error(error) from None


def _write_folded(chosen: list[Host]) -> None:
    from inventory import fold

    o.say(fold(host.name for host in chosen))


def _write_origins(known: Inventory, name: str, when: str, tablefmt: str) -> None:
    import json

    from controller.output.listing import write_table
    from inventory import origins

    if name not in known:
        raise FleetError("--host", f"{name!r} is not in the inventory", "fleet hosts --list-hosts")
    rows = [
        (variable, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), place)
        for variable, value, place in origins(known, name)
    ]
    write_table(writers(when)[0], ("VARIABLE", "VALUE", "FROM"), rows, tablefmt=tablefmt)


def _write_table(chosen: list[Host], settings: Settings, when: str, tablefmt: str) -> None:
    from controller.output.listing import write_table

    rows = [(host.name, host.address, str(host.port or settings.port), ",".join(host.groups)) for host in chosen]
    write_table(writers(when)[0], ("HOST", "ADDRESS", "PORT", "GROUPS"), rows, tablefmt=tablefmt)


def _format(name: str | None) -> str:
    from controller.render import DEFAULT_FORMAT, FormatError, check_format

    try:
        return check_format(name or DEFAULT_FORMAT)
    except FormatError as error:
        raise FleetError("--format", str(error)) from None


COMMANDS = {
    "ping": Command(ping),
    "hosts": Command(hosts),
}
