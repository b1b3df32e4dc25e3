"""Which hosts of an inventory are meant by several patterns together; what one pattern means is told by `patterns`."""

from collections.abc import Sequence

from inventory.errors import InventoryError
from inventory.model import Host, Inventory


def select(inventory: Inventory, *, limits: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Host]:
    """Return the hosts that every one of `limits` means and none of `exclude`, in the order of the inventory.

    Raises:
        InventoryError: no host is left, or a pattern means nothing.
    """
    if not inventory.names:
        raise InventoryError("the inventory holds no hosts")
    if not limits and not exclude:
        return list(inventory)
    from inventory.patterns import match  # brings node sets and their folding with it

    chosen = set(inventory.names)
    for limit in limits:
        chosen &= set(match(inventory, limit))
    for pattern in exclude:
        chosen -= set(match(inventory, pattern))
    if not chosen:
        words = [f"-l {limit}" for limit in limits] + [f"-x {pattern}" for pattern in exclude]
        raise InventoryError("no host matched", text=" ".join(words))
    return [inventory[name] for name in inventory.names if name in chosen]
