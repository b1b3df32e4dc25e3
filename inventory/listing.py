"""Inventories in JSON: what `ansible-inventory --list` and inventory scripts print, and what Ansible reads from a file.

The first form has lists (`"hosts": ["web1"]`) and `_meta.hostvars`; the second, the one of YAML inventories, has
objects (`"hosts": {"web1": {"x": 1}}`, `"children": {"db": {...}}`). They can be told apart at every key, so both
are read. Its rule: a wrong type anywhere refuses the whole.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from inventory.addresses import expand_ranges, split_port
from inventory.documents import Document, Member
from inventory.errors import InventoryError
from inventory.names import OURS, PRIORITY, Value, check_host_name, check_variable, priority
from inventory.tree import Group, Tree, check_count

_META = "_meta"
_KEYS = ("hosts", "vars", "children")

# Gives the variables of one host, for a script that does not list them all.
Ask = Callable[[str], Mapping[str, Value]]


def parse(document: Document, tree: Tree, *, warn: Callable[[str], None], ask: Ask | None = None) -> None:
    """Add the inventory in `document` to `tree`.

    `ask` is called for each host when the document has no `_meta.hostvars`.

    Raises:
        InventoryError: with path, and line where lines are of use.
    """
    content = document.load()
    if not isinstance(content, dict):
        raise document.error(f"expected an object of groups, found {_kind(content)}")
    reader = _Reader(document, tree, warn)
    hostvars = reader.hostvars(content)
    for name, data in content.items():
        if name != _META:
            reader.top_group(name, data)
    if hostvars is not None:
        reader.add_hostvars(hostvars)
    elif ask is not None:
        for name in reader.found:
            reader.add_variables(name, ask(name), ())


class _Reader:
    """One document on its way into the tree; `found` are its hosts in order."""

    def __init__(self, document: Document, tree: Tree, warn: Callable[[str], None]) -> None:
        self.document = document
        self.tree = tree
        self.warn = warn
        self.found: dict[str, None] = {}

    def hostvars(self, content: Mapping[str, Value]) -> dict[str, Value] | None:
        meta = content.get(_META)
        if meta is None:
            return None
        if not isinstance(meta, dict):
            raise self.wrong("an object", meta, _META)
        hostvars = meta.get("hostvars")
        if hostvars is not None and not isinstance(hostvars, dict):
            raise self.wrong("an object", hostvars, _META, "hostvars")
        return hostvars

    def top_group(self, name: str, data: Value) -> None:
        if isinstance(data, list):
            # The oldest form: a group is the list of its hosts.
            data = {"hosts": data}
        elif isinstance(data, dict) and data and not any(key in data for key in _KEYS):
            # Nearly as old: an object of variables is a host of that name.
            data = {"hosts": [name], "vars": data}
        self.group(name, data, (name,))

    def group(self, name: str, data: Value, pointer: tuple[str, ...]) -> Group:
        with self.placed(*pointer):
            group = self.tree.group(name)
        if data is None:
            return group
        if not isinstance(data, dict):
            raise self.wrong("an object", data, *pointer)
        for key in data:
            if key not in _KEYS:
                self.warn(str(self.document.error("ignored, not hosts, vars or children", *pointer, key, text=key)))
        self.hosts(group, data.get("hosts"), (*pointer, "hosts"))
        self.vars(group, data.get("vars"), (*pointer, "vars"))
        self.children(group, data.get("children"), (*pointer, "children"))
        return group

    def hosts(self, group: Group, data: Value, pointer: tuple[str, ...]) -> None:
        if isinstance(data, dict):
            for pattern, variables in data.items():
                self.host_pattern(group, pattern, variables, (*pointer, pattern))
            return
        with self.placed(*pointer):
            for name in self.words(data, pointer):
                if name not in self.tree.hosts:
                    check_host_name(name)
                self.tree.host(name, group)
                self.found[name] = None
            check_count(self.tree)

    def host_pattern(self, group: Group, pattern: str, variables: Value, pointer: tuple[str, ...]) -> None:
        if variables is None:
            variables = {}
        if not isinstance(variables, dict):
            raise self.wrong("an object of variables", variables, *pointer)
        address, port = split_port(pattern)
        with self.placed(*pointer):
            for name in expand_ranges(address):
                check_host_name(name)
                known = name in self.tree.hosts
                entry = self.tree.host(name, group)
                self.found[name] = None
                if port is not None and not known:
                    entry.layers.append(Member({"ansible_port": port}, self.document, pointer))
                self.add_variables(name, variables, pointer)
            check_count(self.tree)

    def vars(self, group: Group, data: Value, pointer: tuple[str, ...]) -> None:
        if data is None:
            return
        if not isinstance(data, dict):
            raise self.wrong("an object of variables", data, *pointer)
        self.check(data, pointer)
        variables = dict(data)
        if PRIORITY in variables:
            with self.placed(*pointer, PRIORITY):
                group.priority = priority(variables.pop(PRIORITY))
        group.layers.append(Member(variables, self.document, pointer))

    def children(self, group: Group, data: Value, pointer: tuple[str, ...]) -> None:
        if isinstance(data, dict):
            for name, inner in data.items():
                child = self.group(name, inner, (*pointer, name))
                with self.placed(*pointer, name):
                    self.tree.adopt(group, child)
            return
        with self.placed(*pointer):
            for name in self.words(data, pointer):
                self.tree.adopt(group, self.tree.group(name))

    def words(self, data: Value, pointer: tuple[str, ...]) -> Iterator[str]:
        if data is None:
            return
        if not isinstance(data, list):
            raise self.wrong("a list of names", data, *pointer)
        for word in data:
            if not isinstance(word, str):
                raise self.wrong("a name", word, *pointer)
            yield word

    def add_hostvars(self, hostvars: Mapping[str, Value]) -> None:
        stray = [name for name in hostvars if name not in self.found]
        for name, variables in hostvars.items():
            if not isinstance(variables, dict):
                raise self.wrong("an object of variables", variables, _META, "hostvars", name)
            if name in self.found:
                self.add_variables(name, variables, (_META, "hostvars", name))
        if stray:
            more = f" and {len(stray) - 1} more" if len(stray) > 1 else ""
            error = self.document.error("variables of a host in no group", _META, "hostvars", stray[0], text=stray[0])
            self.warn(f"{error}{more}")

    def add_variables(self, name: str, variables: Mapping[str, Value], pointer: tuple[str, ...]) -> None:
        if variables:
            self.check(variables, pointer)
            self.tree.hosts[name].layers.append(Member(variables, self.document, pointer))

    def check(self, variables: Mapping[str, Value], pointer: tuple[str, ...]) -> None:
        for variable in OURS.intersection(variables):
            # Not with placed(): this is done for every host.
            try:
                check_variable(variable, variables[variable])
            except InventoryError as error:
                line = self.document.line_of((*pointer, variable))
                raise error.at(self.document.path, line) from None

    @contextlib.contextmanager
    def placed(self, *pointer: str) -> Iterator[None]:
        """Give errors from inside the place that `pointer` leads to."""
        try:
            yield
        except InventoryError as error:
            raise error.at(self.document.path, self.document.line_of(pointer)) from None

    def wrong(self, expected: str, value: Value, *pointer: str) -> InventoryError:
        text = pointer[-1] if pointer else None
        return self.document.error(f"expected {expected}, found {_kind(value)}", *pointer, text=text)


def _kind(value: Value) -> str:
    return _KINDS[type(value)]


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}
