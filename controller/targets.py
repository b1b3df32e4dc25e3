"""From sources, node sets and patterns to hosts, with the errors of `inventory` in the shape that users see.

No network and no TLS, so that `--list-hosts` and `fleet hosts` need not wait for either.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from controller.errors import FleetError
from inventory import Host, Inventory, InventoryError, fill, load, select

__all__ = ["as_fleet_error", "fill_argument", "fill_command", "load_inventory", "select_hosts"]


def load_inventory(
    sources: Sequence[str],
    *,
    hosts: str | None,
    warn: Callable[[str], None],
    cache_ttl: float = 0.0,
    refresh_cache: bool = False,
) -> Inventory:
    """Return the inventory of `sources`, or with `hosts` (a node set) that of those hosts. Raises FleetError."""
    stdin = getattr(sys.stdin, "buffer", None)  # a daemon has none, and a test perhaps one for text alone
    try:
        known = None
        if sources:
            known = load(sources, stdin=stdin, warn=warn, cache_ttl=cache_ttl, refresh_cache=refresh_cache)
        if hosts is not None:
            from inventory import ad_hoc

            return ad_hoc(hosts, known)
    except InventoryError as error:
        raise as_fleet_error(error) from None
    if known is None:
        raise FleetError("inventory", "there is none", "name one with -i, or hosts with -w")
    return known


def select_hosts(inventory: Inventory, limit: str | Sequence[str], exclude: str | Sequence[str]) -> list[Host]:
    """Return the hosts that match every pattern of `limit` and none of `exclude`, in inventory order.

    Raises FleetError when nothing is left.
    """
    try:
        return select(inventory, limits=_several(limit), exclude=_several(exclude))
    except InventoryError as error:
        raise as_fleet_error(error) from None


def fill_command(template: str, host: Host) -> str:
    """Return the command with the host's values in it. Raises FleetError for one that is not defined."""
    return _fill(template, host, quote=True)


def fill_argument(template: str, host: Host) -> str:
    """Return an argument of a script with the host's values in it, which no shell reads. Raises FleetError."""
    return _fill(template, host, quote=False)


def _fill(template: str, host: Host, *, quote: bool) -> str:
    try:
        return fill(template, host, quote=quote)
    except InventoryError as error:
        raise FleetError("template", str(error), error.hint) from None


def as_fleet_error(error: InventoryError) -> FleetError:
    """Return the same error as one of ours: the place first, then what was found there."""
    if error.path is None:
        return FleetError("inventory", str(error), error.hint)
    where = error.path if error.line is None else f"{error.path}:{error.line}"
    placeless = InventoryError(error.reason, text=error.text)
    return FleetError(where, str(placeless), error.hint)


def _several(value: str | Sequence[str]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value
