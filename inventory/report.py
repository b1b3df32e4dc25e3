"""What an inventory holds, in the two forms in which `ansible-inventory` prints it.

Both are what the real one prints, so that scripts made for it go on working and Ansible can read ours back.
Nothing here recurses: a chain of groups may be longer than Python's stack.
"""

from collections.abc import Collection, Iterator

from inventory.errors import InventoryError
from inventory.model import Inventory
from inventory.names import Value
from inventory.tree import Group

# A group is drawn once under each parent, so a few dozen of them can draw 2**n lines.
MAX_LINES = 5_000_000
# How Ansible encodes values in this form; its script plugin reads the name and decodes accordingly.
_PROFILE = "inventory_legacy"


def graph(inventory: Inventory, *, only: Collection[str] | None = None) -> str:
    """Return the groups and their hosts as a tree, as `ansible-inventory --graph` draws it.

    With `only`, hosts that are not among those names are left out.

    Raises:
        InventoryError: the tree has more than `MAX_LINES` lines.
    """
    lines: list[str] = []
    for line in _lines(inventory, only):
        lines.append(line)
        if len(lines) > MAX_LINES:
            raise InventoryError(f"a graph of over {MAX_LINES} lines")
    return "\n".join(lines)


def _lines(inventory: Inventory, only: Collection[str] | None) -> Iterator[str]:
    everyone = inventory.tree.all
    waiting: list[tuple[Group | str, int]] = [(everyone, 0)]
    while waiting:
        item, depth = waiting.pop()
        indent = "  |" * depth + "--" if depth else ""
        if isinstance(item, str):
            yield indent + item
            continue
        yield f"{indent}@{item.name}:"
        below: list[tuple[Group | str, int]] = [(child, depth + 1) for child in item.children.values()]
        if item is not everyone:
            below += [(name, depth + 1) for name in _among(item, only)]
        waiting += reversed(below)


def as_ansible_list(inventory: Inventory, *, only: Collection[str] | None = None) -> dict[str, Value]:
    """Return the object that `ansible-inventory --list` prints: groups, their children, and `_meta.hostvars`.

    With `only`, hosts that are not among those names are left out.
    """
    listed: dict[str, Value] = {}
    for group in _groups(inventory):
        keys: dict[str, Value] = {}
        hosts = _among(group, only)
        if hosts and group is not inventory.tree.all:
            keys["hosts"] = list[Value](hosts)
        if group.children:
            keys["children"] = list(group.children)
        if keys:
            listed[group.name] = keys
    hostvars: dict[str, Value] = {
        host.name: dict(host.variables) for host in inventory if host.variables and (only is None or host.name in only)
    }
    listed["_meta"] = {"hostvars": hostvars, "profile": _PROFILE}
    return listed


def _among(group: Group, only: Collection[str] | None) -> list[str]:
    return [name for name in group.hosts if only is None or name in only]


def _groups(inventory: Inventory) -> Iterator[Group]:
    seen: set[str] = set()
    waiting = [inventory.tree.all]
    while waiting:
        group = waiting.pop()
        if group.name not in seen:
            seen.add(group.name)
            yield group
            waiting += reversed(group.children.values())
