"""The options that several commands share, each defined once, and how they become targets."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

from agent.wire.record import record
from controller.cli.declare import Option
from controller.errors import FleetError
from controller.settings import Settings, read_color, read_fanout, read_port, read_seconds, read_ttl

if TYPE_CHECKING:
    from controller.api import Fleet
    from inventory import Host, Inventory

__all__ = [
    "CacheTtlOption",
    "ColorOption",
    "ConnectTimeoutOption",
    "ExcludeOption",
    "FanoutOption",
    "HostsOption",
    "InventoryOption",
    "KeyOption",
    "LimitOption",
    "ListHostsOption",
    "PortOption",
    "RefreshCacheOption",
    "RegistryOption",
    "Targets",
    "check",
    "list_hosts",
    "say",
]

_TARGETS = "Which hosts"
_REACH = "How to reach them"
_SHOW = "How results look"

DEFAULT_INVENTORY = "hosts.ini"

InventoryOption = Annotated[
    list[str] | None,
    Option(
        "-i",
        "--inventory",
        metavar="PATH",
        help="Inventory; repeatable, '-' is stdin. [env FLEET_INVENTORY, then the config file; default ./hosts.ini]",
        panel=_TARGETS,
    ),
]
LimitOption = Annotated[
    list[str] | None,
    Option(
        "-l",
        "--limit",
        metavar="PATTERN",
        help="Only hosts that match; repeated: that match all. [default: all]",
        panel=_TARGETS,
    ),
]
HostsOption = Annotated[
    list[str] | None,
    Option(
        "-w",
        "--hosts",
        metavar="NODESET",
        help="These hosts, with or without an inventory: web[01-20],db1; repeatable.",
        panel=_TARGETS,
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    Option("-x", "--exclude", metavar="PATTERN", help="Without hosts that match; repeatable.", panel=_TARGETS),
]
ListHostsOption = Annotated[
    bool,
    Option("--list-hosts", help="Print the hosts, one a line, and touch nothing.", panel=_TARGETS),
]
FanoutOption = Annotated[
    int | None,
    Option("-f", "--fanout", metavar="N", help="At most N hosts at once. [default: 64]", panel=_REACH),
]
ConnectTimeoutOption = Annotated[
    float | None,
    Option(
        "--connect-timeout",
        metavar="S",
        help="Seconds for TCP, TLS and authentication together. [default: 10]",
        panel=_REACH,
    ),
]
PortOption = Annotated[
    int | None,
    Option(
        "--port",
        metavar="N",
        help="Port of agents that have none of their own. [default: 7422]",
        panel=_REACH,
    ),
]
KeyOption = Annotated[
    str | None,
    Option("--key", metavar="FILE", help="Our key. [env FLEET_KEY; default ~/.config/fleet/key]", panel=_REACH),
]
RegistryOption = Annotated[
    str | None,
    Option(
        "--registry",
        metavar="FILE",
        help="Enrolled hosts. [env FLEET_REGISTRY; default enrolled.json beside the key]",
        panel=_REACH,
    ),
]
ColorOption = Annotated[
    str | None,
    Option(
        "--color",
        metavar="WHEN",
        help="auto, always or never; NO_COLOR is heeded. [default: auto]",
        panel=_SHOW,
    ),
]

CacheTtlOption = Annotated[
    float | None,
    Option(
        "--cache-ttl",
        metavar="S",
        help="Take an inventory script's output of up to S seconds ago. [default: 0, off]",
        panel=_TARGETS,
    ),
]
RefreshCacheOption = Annotated[
    bool, Option("--refresh-cache", help="Run inventory scripts now, and cache that.", panel=_TARGETS)
]

_Value = TypeVar("_Value")


def check(option: str, read: Callable[[object], _Value], value: object | None, default: _Value) -> _Value:
    """Return what an option says, checked, or `default` when it was not given. Raises FleetError."""
    if value is None:
        return default
    try:
        return read(value)
    except ValueError as error:
        raise FleetError(option, str(error)) from None


@record
class Targets:
    """The options about which hosts and how to reach them, as they were given; None where they were not."""

    inventory: list[str] | None = None
    limit: list[str] | None = None
    hosts: list[str] | None = None
    exclude: list[str] | None = None
    fanout: int | None = None
    connect_timeout: float | None = None
    port: int | None = None
    key: str | None = None
    registry: str | None = None
    cache_ttl: float | None = None
    refresh_cache: bool = False

    def load(self, settings: Settings) -> Inventory:
        """Return the inventory that the options, the environment or the config file name. Raises FleetError."""
        from controller.targets import load_inventory

        return load_inventory(
            self._sources(settings),
            hosts=None if self.hosts is None else ",".join(self.hosts),
            warn=_warn,
            cache_ttl=check("--cache-ttl", read_ttl, self.cache_ttl, 0.0),
            refresh_cache=self.refresh_cache,
        )

    def select(self, inventory: Inventory) -> list[Host]:
        """Return the hosts of the inventory that the options mean. Raises FleetError when there are none."""
        from controller.targets import select_hosts

        return select_hosts(inventory, self.limit or (), self.exclude or ())

    def fleet(self, inventory: Inventory, settings: Settings) -> Fleet:
        """Return the hosts of the inventory, and how to reach them. Raises FleetError."""
        fanout = check("--fanout", read_fanout, self.fanout, settings.fanout)
        connect_timeout = check("--connect-timeout", read_seconds, self.connect_timeout, settings.connect_timeout)
        port = check("--port", read_port, self.port, settings.port)

        from controller.api import Fleet

        return Fleet(
            inventory,
            key=self.key or settings.key,
            registry=self.registry or settings.registry,
            fanout=fanout,
            connect_timeout=connect_timeout,
            port=port,
            warn=_warn,
        )

    def _sources(self, settings: Settings) -> list[str]:
        sources = self.inventory or list(settings.inventory)
        if not sources and os.path.exists(DEFAULT_INVENTORY):
            sources = [DEFAULT_INVENTORY]
        if not sources and self.hosts is None:
            raise FleetError(
                "inventory", f"there is no {DEFAULT_INVENTORY} here", "name an inventory with -i, or hosts with -w"
            )
        return sources


def read_color_option(value: str | None, settings: Settings) -> str:
    """Return when to use colour. Raises FleetError."""
    return check("--color", read_color, value, settings.color)


def list_hosts(hosts: list[Host]) -> None:
    """Print names, one a line."""
    say("\n".join(host.name for host in hosts))


def say(text: str) -> None:
    """Write lines of text to standard output; the last newline need not be there.

    Bytes that were no text when they came to us (PEP 383) go out as they were. Raises OutputError and BrokenPipeError.
    """
    from controller.output import Writer

    out = Writer(sys.stdout.buffer)
    out.write(text.removesuffix("\n").encode("utf-8", "surrogateescape") + b"\n")
    out.flush()


def _warn(text: str) -> None:
    print(f"fleet: {text}", file=sys.stderr)
