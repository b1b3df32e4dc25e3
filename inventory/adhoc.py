"""The inventory of `-w`: hosts named on the command line, known or not."""

from inventory.model import Inventory
from inventory.nodeset import expand
from inventory.tree import Tree


def ad_hoc(nodeset: str, known: Inventory | None = None) -> Inventory:
    """Return an inventory of the hosts of `nodeset` alone, in its order.

    A host that `known` has keeps its variables and groups; `@group` and wildcards are looked up in `known`.

    Raises:
        InventoryError: the node set cannot be read.
    """
    names = list(expand(nodeset, None if known is None else known.groups))
    tree = Tree()
    if known is not None:
        _copy(known.tree, tree, set(names))
    for name in names:
        if name not in tree.hosts:
            tree.host(name, tree.ungrouped)
    tree.settle()
    return Inventory(tree, order=names, also_known=() if known is None else known.names)


def _copy(known: Tree, tree: Tree, wanted: set[str]) -> None:
    """Copy all groups, so that a pattern may still name them, and those hosts that are `wanted`."""
    for group in known.groups.values():
        copy = tree.group(group.name)
        copy.layers, copy.priority = group.layers, group.priority
        for name in group.hosts:
            if name in wanted:
                tree.host(name, copy).layers = known.hosts[name].layers
    for group in known.groups.values():
        for child in group.children:
            tree.adopt(tree.groups[group.name], tree.groups[child])
    tree.files = known.files
