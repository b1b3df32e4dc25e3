"""The inventory as everybody else sees it: read-only, in Ansible's order, hosts made when they are asked for.

Fifty thousand hosts cost nothing here until somebody looks at one: groups are flattened, variables merged and
addresses checked on first use. Its rule: a host that cannot be reached as written (a template for an address) is
an error when it is looked at, never a wrong address.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from inventory.errors import InventoryError, location, nearest
from inventory.names import Value, port_number, word
from inventory.tree import Group, Layer, Tree, ancestors, depths, members


@dataclass(frozen=True, slots=True)
class Host:
    """One machine.

    `address` is where its agent is (`fleet_host`, else `ansible_host`, else the name) and `port` the agent's port
    when the inventory names one (`fleet_port`); `ansible_port` is the port of ssh and stays a variable. `groups`
    are the groups it is in, sorted, without `all`.
    """

    name: str
    address: str
    port: int | None
    pool: str | None
    groups: tuple[str, ...]
    variables: Mapping[str, Value] = field(hash=False)


class Members(Mapping[str, tuple[str, ...]]):
    """The hosts of each group by name, flattened on first use."""

    def __init__(self, groups: Mapping[str, Group], known: Mapping[str, tuple[str, ...]]) -> None:
        self._groups = groups
        self._known = dict(known)

    def __getitem__(self, name: str) -> tuple[str, ...]:
        if name not in self._known:
            self._known[name] = members(self._groups[name])
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __contains__(self, name: object) -> bool:
        return name in self._groups


class Inventory:
    """A settled tree behind a read-only face. `names` are all hosts in order, `groups` the hosts of each group."""

    def __init__(self, tree: Tree, *, order: Iterable[str] | None = None, also_known: Iterable[str] = ()) -> None:
        self.tree = tree
        known = {} if order is None else {tree.all.name: tuple(order)}
        self.groups: Mapping[str, tuple[str, ...]] = Members(tree.groups, known)
        self.names = self.groups[tree.all.name]
        # Names that a pattern may use though they are not targets here: hosts of the inventory behind `-w`.
        self.also_known = frozenset(also_known)
        self._hosts: dict[str, Host] = {}
        self._chains: dict[tuple[str, ...], Chain] = {}
        self._depths: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Host]:
        return (self[name] for name in self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.tree.hosts

    def __getitem__(self, name: str) -> Host:
        """Return the host `name`.

        Raises:
            InventoryError: there is none, or its address cannot be used.
        """
        host = self._hosts.get(name)
        if host is None:
            if name not in self.tree.hosts:
                raise InventoryError("unknown host", text=name, hint=nearest(name, self.names))
            host = self._hosts[name] = self._build(name)
        return host

    def layers(self, name: str) -> list[Layer]:
        """Return the layers of variables of a host, weakest first."""
        chain = self._chain(name)
        own = list(self.tree.hosts[name].layers)
        for files in self.tree.files:
            own += files.hosts.get(name, ())
        return [*chain.layers, *own]

    def _build(self, name: str) -> Host:
        chain = self._chain(name)
        entry = self.tree.hosts[name]
        variables = dict(chain.variables)
        for layer in entry.layers:
            variables.update(layer.variables)
        for files in self.tree.files:
            for layer in files.hosts.get(name, ()):
                variables.update(layer.variables)
        port = variables.get("fleet_port")
        pool = variables.get("fleet_pool")
        return Host(
            name=name,
            address=self._address(name, variables),
            port=None if port is None else port_number(port),
            pool=None if pool is None else word("fleet_pool", pool),
            groups=chain.names,
            variables=MappingProxyType(variables),
        )

    def _address(self, name: str, variables: Mapping[str, Value]) -> str:
        for variable in ("fleet_host", "ansible_host"):
            if variable not in variables:
                continue
            try:
                return _usable(variable, variables[variable])
            except InventoryError as error:
                layer = next(each for each in reversed(self.layers(name)) if variable in each.variables)
                raise error.at(*layer.place(variable)) from None
        return name

    def _chain(self, name: str) -> "Chain":
        direct = self.tree.hosts[name].groups
        key = tuple(group.name for group in direct)
        chain = self._chains.get(key)
        if chain is None:
            chain = self._chains[key] = self._merge(direct)
        return chain

    def _merge(self, direct: list[Group]) -> "Chain":
        if self._depths is None:
            self._depths = depths(self.tree)
        depth = self._depths
        above = {group.name: group for group in [*direct, *ancestors(direct)]}
        above.pop("all", None)
        order = sorted(above.values(), key=lambda group: (depth[group.name], group.priority, group.name))
        everyone = self.tree.all
        # Files beside the inventory win over what stands in it, whatever the group, as in Ansible.
        layers = list(everyone.layers)
        for group in order:
            layers += group.layers
        for files in self.tree.files:
            layers += files.groups.get(everyone.name, ())
        for files in self.tree.files:
            for group in order:
                layers += files.groups.get(group.name, ())
        variables: dict[str, Value] = {}
        for layer in layers:
            variables.update(layer.variables)
        return Chain(tuple(sorted(above)), tuple(layers), variables)


class Chain(NamedTuple):
    """What all hosts of the same groups share: the names of the groups, and their variables merged."""

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    variables: Mapping[str, Value]


def origins(inventory: Inventory, host: str) -> list[tuple[str, Value, str]]:
    """Return each variable of `host`, sorted, with its value and the `file:line` that decides it."""
    variables = inventory[host].variables
    layers = inventory.layers(host)
    found: list[tuple[str, Value, str]] = []
    for variable in sorted(variables):
        layer = next(each for each in reversed(layers) if variable in each.variables)
        found.append((variable, variables[variable], location(*layer.place(variable))))
    return found


def _usable(variable: str, value: Value) -> str:
    if isinstance(value, str) and "{{" in value:
        raise InventoryError(
            f"{variable} is a template, which only Ansible can fill",
            text=value,
            hint="set fleet_host to the address itself",
        )
    return word(variable, value)
