"""Ansible's INI inventories, and plain lists of hosts, which are the same with no section in them.

The format is what Ansible's own parser takes, not what `configparser` calls INI: host lines are split as a shell
would, sections may come before the groups they name, lines before any section are hosts. Its rules: values stay
the strings that were written (Ansible guesses types: `03` a string, `3` a number, `True` a boolean); a wrong line
ends the reading, with file and line; nothing is half read.
"""

import enum
import re
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

from inventory.addresses import expand_ranges, split_port
from inventory.errors import InventoryError
from inventory.files import refuse_control
from inventory.names import (
    MAX_NAME_BYTES,
    OURS,
    PRIORITY,
    Value,
    check_host_name,
    check_variables,
    priority,
)
from inventory.tree import Group, Line, Tree, check_count

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
_CHILD = r"([^:\]\s]+)\s*(?:#.*)?"
# The host line that needs no splitting by shell rules, which costs twenty times as much as everything else here.
_PLAIN = re.compile(
    r"([A-Za-z0-9_][A-Za-z0-9_.-]*)"
    r"((?:[ \t]+[^\s=#'\"\\]+=[^\s#'\"\\]*)*)"
)
_PAIR = re.compile("([^ \t=]+)=([^ \t]*)")


class Kind(enum.Enum):
    """What the lines of a section are."""

    HOSTS = "hosts"
    CHILDREN = "children"
    VARS = "vars"


_KINDS = {kind.value: kind for kind in Kind}


@dataclass(slots=True)
class Awaited:
    """A group that was named before it was declared: on which line, by what, and who waits to be its parent."""

    line: int
    text: str
    reason: str
    parents: list[tuple[Group, int]] = field(default_factory=list)


def parse(text: str, path: str, tree: Tree) -> None:
    """Add what the INI inventory `text` says to `tree`; `path` is its name in errors.

    Raises:
        InventoryError: with path and line.
    """
    refuse_control(text, path)
    _Parser(path, tree).read(text)


class _Parser:
    """One pass over the lines; the section above a line says what it is."""

    def __init__(self, path: str, tree: Tree) -> None:
        self.path = path
        self.tree = tree
        self.group = tree.ungrouped
        self.kind = Kind.HOSTS
        self.line = 0
        self.awaited: dict[str, Awaited] = {}

    def read(self, text: str) -> None:
        take = {Kind.HOSTS: self.take_host, Kind.CHILDREN: self.take_child, Kind.VARS: self.take_variable}
        try:
            for self.line, raw in enumerate(text.split("\n"), 1):
                line = raw.strip()
                if not line or line[0] in "#;":
                    continue
                if line[0] == "[" and self.take_section(line):
                    continue
                take[self.kind](line)
        except InventoryError as error:
            raise error.at(self.path, self.line) from None
        for missing in self.awaited.values():
            raise InventoryError(missing.reason, path=self.path, line=missing.line, text=missing.text)

    def take_section(self, line: str) -> bool:
        found = _SECTION.fullmatch(line)
        if found is None:
            if line.endswith("]"):
                raise InventoryError("expected [group], [group:children] or [group:vars]", text=line)
            return False
        name, kind = found[1], found[2] or Kind.HOSTS.value
        if kind not in _KINDS:
            raise InventoryError(f"unknown type {kind!r} of section, expected hosts, children or vars", text=line)
        self.kind = _KINDS[kind]
        if self.kind is Kind.VARS:
            if name not in self.tree.groups and name not in self.awaited:
                reason = "variables of a group that is declared nowhere"
                self.awaited[name] = Awaited(self.line, line, reason)
            self.group = self.tree.group(name)
            return True
        self.group = self.tree.group(name)
        awaited = self.awaited.pop(name, None)
        for parent, line_of_child in awaited.parents if awaited else ():
            self.adopt(parent, self.group, line_of_child)
        return True

    def take_host(self, line: str) -> None:
        plain = _PLAIN.fullmatch(line)
        if plain is None or len(plain[1]) > MAX_NAME_BYTES:
            self.take_quoted_host(line)
            return
        entry = self.tree.host(plain[1], self.group)
        if plain[2]:
            pairs = dict(_PAIR.findall(plain[2]))
            if not OURS.isdisjoint(pairs):
                check_variables(pairs)
            entry.layers.append(Line(pairs, self.path, self.line))

    def take_quoted_host(self, line: str) -> None:
        pattern, *pairs = _split(line)
        variables: dict[str, Value] = {}
        for pair in pairs:
            variable, equals, value = pair.partition("=")
            if not equals or not variable:
                raise InventoryError("expected key=value after the host", text=pair)
            variables[variable] = literal(value)
        check_variables(variables)
        address, port = split_port(pattern)
        names = expand_ranges(address)
        if port is None and pattern.endswith(":"):
            raise InventoryError("expected a port after the colon", text=pattern)
        self.add_hosts(names, port, variables)
        check_count(self.tree)

    def add_hosts(self, names: list[str], port: str | None, variables: Mapping[str, Value]) -> None:
        ssh = None if port is None else Line({"ansible_port": port}, self.path, self.line)
        layer = Line(variables, self.path, self.line) if variables else None
        for name in names:
            check_host_name(name)
            known = name in self.tree.hosts
            entry = self.tree.host(name, self.group)
            # As in Ansible, only the line that makes a host known gives it a port.
            if ssh is not None and not known:
                entry.layers.append(ssh)
            if layer is not None:
                entry.layers.append(layer)

    def take_variable(self, line: str) -> None:
        variable, equals, value = line.partition("=")
        variable = variable.strip()
        if not equals or not variable:
            raise InventoryError("expected key=value", text=line)
        written = literal(value.strip())
        if variable == PRIORITY:
            self.group.priority = priority(written)
            return
        variables: dict[str, Value] = {variable: written}
        check_variables(variables)
        self.group.layers.append(Line(variables, self.path, self.line))

    def take_child(self, line: str) -> None:
        found = re.fullmatch(_CHILD, line)
        if found is None:
            raise InventoryError("expected the name of a group", text=line)
        child = self.tree.groups.get(found[1])
        if child is not None:
            self.adopt(self.group, child, self.line)
            return
        reason = f"a child of {self.group.name!r} that is declared nowhere"
        awaited = self.awaited.setdefault(found[1], Awaited(self.line, found[1], reason))
        awaited.parents.append((self.group, self.line))

    def adopt(self, parent: Group, child: Group, line: int) -> None:
        try:
            self.tree.adopt(parent, child)
        except InventoryError as error:
            raise error.at(self.path, line) from None


def literal(text: str) -> str:
    """Return what the value `text` says, quotes taken off as Ansible takes them off.

    Ansible evaluates a value as a Python literal and keeps the text when it is none. So do we, but only strings
    are taken over: of `8080 # note` the text without the comment, of `"a b"` the words between the quotes.
    """
    if not re.search(_MAY_BE_LITERAL, text):
        return text
    value = _evaluate(text)
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if value is not None and "#" in text:
        return _without_comment(text, value)
    return text


_MAY_BE_LITERAL = "['\"#]"


def _evaluate(text: str) -> object:
    import ast  # the parser of Python, for the few values that look like a literal

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        # Not a literal (the last three: one made to break the evaluation), so the text is the value.
        return None


def _without_comment(text: str, value: object) -> str:
    for found in re.finditer("#", text):
        written = text[: found.start()].rstrip()
        if written and _evaluate(written) == value:
            return written
    return text


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise InventoryError(f"{str(error).lower()} in the line of a host", text=line) from None
