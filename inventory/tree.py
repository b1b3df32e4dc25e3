"""The inventory while it is read: groups, hosts and layers of variables, in the order in which they were met.

Every parser writes into one `Tree`, and later sources add to what earlier ones left. The tree knows nothing of
files and formats. Its rule: the order of hosts, groups and children is Ansible's, because "the third host of web"
must be the same machine in both tools.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from inventory.errors import InventoryError
from inventory.names import MAX_HOSTS, Value, check_group_name


class Layer(Protocol):
    """Variables that were written in one place; a later layer wins over an earlier one, key by key."""

    @property
    def variables(self) -> Mapping[str, Value]:
        """The variables of this place."""
        ...  # the classes below say how

    def place(self, variable: str) -> tuple[str, int | None]:
        """Return the path and the line where `variable` is written."""
        ...


class Line(NamedTuple):
    """Variables of one line of a file, shared by all hosts that the line names."""

    variables: Mapping[str, Value]
    path: str
    line: int | None

    def place(self, variable: str) -> tuple[str, int | None]:
        """Return the path and the line, which are the same for every variable here."""
        return self.path, self.line


class Group:
    """A group: its own hosts and children in order, its parents, its variables."""

    __slots__ = ("children", "hosts", "layers", "name", "parents", "priority")

    def __init__(self, name: str) -> None:
        self.name = name
        self.hosts: dict[str, None] = {}
        self.children: dict[str, Group] = {}
        self.parents: dict[str, Group] = {}
        self.layers: list[Layer] = []
        # Breaks ties between groups of one depth; set by the variable ansible_group_priority.
        self.priority = 1


class Entry:
    """A host: the groups that name it themselves, and its layers of variables."""

    __slots__ = ("groups", "layers")

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.layers: list[Layer] = []


@dataclass(slots=True)
class VarsFiles:
    """What `group_vars` and `host_vars` beside one source hold."""

    groups: dict[str, list[Layer]] = field(default_factory=dict)
    hosts: dict[str, list[Layer]] = field(default_factory=dict)


class Tree:
    """All groups and hosts read so far. `all` and `ungrouped` are there from the start."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.hosts: dict[str, Entry] = {}
        self.files: list[VarsFiles] = []
        self.all = self.group("all")
        self.ungrouped = self.group("ungrouped")
        self.adopt(self.all, self.ungrouped)

    def group(self, name: str) -> Group:
        """Return the group `name`, made now when it was not there."""
        group = self.groups.get(name)
        if group is None:
            check_group_name(name)
            group = self.groups[name] = Group(name)
        return group

    def host(self, name: str, group: Group) -> Entry:
        """Return the host `name`, made now when it was not there, as a member of `group`.

        The name was checked by the caller: a parser that has just matched it against its own grammar need not
        have it matched again.
        """
        entry = self.hosts.get(name)
        if entry is None:
            entry = self.hosts[name] = Entry()
        if name not in group.hosts:
            group.hosts[name] = None
            entry.groups.append(group)
        return entry

    def adopt(self, parent: Group, child: Group) -> None:
        """Make `child` a child of `parent`.

        Raises:
            InventoryError: a group would be inside itself.
        """
        if child.name in parent.children:
            return
        # "all" is above every group, though its edges to those without a parent are drawn at the end.
        if child in (parent, self.groups["all"]) or any(group is child for group in ancestors([parent])):
            raise InventoryError(f"group {child.name!r} would be inside itself")
        parent.children[child.name] = child
        child.parents[parent.name] = parent

    def settle(self) -> None:
        """Put every group under `all`, and every host without a group into `ungrouped`.

        Done once, after the last source: a later one may still give a host its first group.
        """
        for group in self.groups.values():
            if group is not self.all and not group.parents:
                self.adopt(self.all, group)
        for name, entry in self.hosts.items():
            elsewhere = [group for group in entry.groups if group is not self.ungrouped]
            if all(group is self.all for group in elsewhere):
                self.host(name, self.ungrouped)
            elif len(elsewhere) < len(entry.groups):
                del self.ungrouped.hosts[name]
                entry.groups = elsewhere


def check_count(tree: Tree) -> None:
    """Refuse a tree of more hosts than anybody has."""
    if len(tree.hosts) > MAX_HOSTS:
        raise InventoryError(f"{len(tree.hosts)} hosts are over the limit of {MAX_HOSTS}")


def ancestors(groups: list[Group]) -> Iterator[Group]:
    """Yield every group above one of `groups`, each once."""
    seen: set[str] = set()
    waiting = list(groups)
    while waiting:
        for parent in waiting.pop().parents.values():
            if parent.name not in seen:
                seen.add(parent.name)
                waiting.append(parent)
                yield parent


def members(group: Group) -> tuple[str, ...]:
    """Return the hosts of `group` and of all groups below, level by level, each where it was met first."""
    found: dict[str, None] = {}
    seen = {group.name}
    level = [group]
    while level:
        below: dict[str, Group] = {}
        for each in level:
            found.update(each.hosts)
            below.update((name, child) for name, child in each.children.items() if name not in seen)
        seen.update(below)
        level = list(below.values())
    return tuple(found)


def depths(tree: Tree) -> dict[str, int]:
    """Return for each group the length of the longest way down to it from `all`, which is 0."""
    depth = {tree.all.name: 0}
    missing = {name: len(group.parents) for name, group in tree.groups.items()}
    waiting = [tree.all]
    while waiting:
        group = waiting.pop()
        for child in group.children.values():
            depth[child.name] = max(depth.get(child.name, 0), depth[group.name] + 1)
            missing[child.name] -= 1
            if not missing[child.name]:
                waiting.append(child)
    return depth
