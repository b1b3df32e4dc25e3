"""`fleet ping` and `fleet hosts`: who is there, and who the inventory says is there."""

from __future__ import annotations

import json as json_module
import os
import sys
from typing import Annotated

import typer

from controller.cli import options as o
from controller.cli.look import writers
from controller.errors import FleetError
from controller.settings import load_settings

JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
FormatOption = Annotated[str | None, typer.Option("--format", metavar="TABLEFMT", help="Any table format of tabulate.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("ping")(ping)
    app.command("hosts")(hosts)


def ping(
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
    json: JsonOption = False,
    format_: FormatOption = None,
    color: o.ColorOption = None,
) -> int:
    """Reach and authenticate every host: version, Python, system, clock difference and round trip."""
    settings = load_settings(os.environ)
    targets = o.Targets(inventory, limit, hosts, exclude, fanout, connect_timeout, port, key, registry)
    when = o.read_color_option(color, settings)
    fleet = targets.fleet(settings)
    if list_hosts:
        o.list_hosts(targets.select(fleet))
        return 0

    from controller.cancel import CancelToken
    from controller.interrupts import Interrupts
    from controller.output.listing import write_ping, write_ping_json
    from controller.output.words import summary
    from controller.render import DEFAULT_FORMAT

    tablefmt = _format(format_)
    out, err = writers(when)
    token = CancelToken()
    going = fleet.ping(limit=limit or (), exclude=exclude or (), cancel=token)
    with Interrupts(token) as interrupts:
        for _ in going:
            pass
    if json:
        write_ping_json(out, going.results)
    else:
        write_ping(out, going.results, tablefmt=tablefmt or DEFAULT_FORMAT)
        err.line(summary(going.results, going.elapsed, err.colour))
    return interrupts.exit_code or going.exit_code


def hosts(
    inventory: o.InventoryOption = None,
    limit: o.LimitOption = None,
    hosts: o.HostsOption = None,
    exclude: o.ExcludeOption = None,
    json: JsonOption = False,
    format_: FormatOption = None,
    color: o.ColorOption = None,
) -> None:
    """Show what the inventory holds: hosts with their addresses and groups."""
    settings = load_settings(os.environ)
    targets = o.Targets(inventory, limit, hosts, exclude)
    when = o.read_color_option(color, settings)
    fleet = targets.fleet(settings)
    chosen = targets.select(fleet)
    if json:
        from inventory import as_ansible_list

        sys.stdout.write(json_module.dumps(as_ansible_list(fleet.inventory), indent=4, ensure_ascii=False) + "\n")
        return

    from controller.output.listing import write_table
    from controller.render import DEFAULT_FORMAT

    rows = [(host.name, host.address, str(host.port or settings.port), ",".join(host.groups)) for host in chosen]
    out, _ = writers(when)
    write_table(out, ("HOST", "ADDRESS", "PORT", "GROUPS"), rows, tablefmt=_format(format_) or DEFAULT_FORMAT)


def _format(name: str | None) -> str | None:
    from controller.render import FormatError, check_format

    try:
        return None if name is None else check_format(name)
    except FormatError as error:
        raise FleetError("--format", str(error)) from None
