"""Which hosts a pattern of `-l` or `-x` means: Ansible's host patterns, and node sets beside them.

Ansible's: `web:&prod:!rack7` (first all plain terms together, then every `&`, then every `!`, wherever they are
written), globs, `~regex`, `web[0]`, `web[0:2]`, `@file`. ClusterShell's: `web[01-20]`, `@group`, and `!`, `&`, `^`
between two names, read left to right. A term is a node set when it has ClusterShell's marks (a dash or a comma in
the brackets, an operator in the middle), and Ansible's otherwise.

The rule: nothing is ignored. A word that means no host and no group is an error with the nearest names, because
the run that leaves out a host looks like the run that reached all.
"""

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from inventory.addresses import is_address, split_port
from inventory.errors import InventoryError, nearest
from inventory.files import decode, read_bytes
from inventory.model import Inventory
from inventory.nodeset import OPERATORS, combine, expand, product
from inventory.nodeset import split as split_node_set

_SUBSCRIPT = r"(.+)\[(?:(-?[0-9]{1,9})|([0-9]{1,9}):([0-9]{0,9}))\]"
_NODE_SET_BRACKETS = r"\[[0-9,/\s-]+\]"
_BUILT_IN = ("all", "ungrouped")
# A limit file is a list of names; this is room for a million of them.
_LIMIT_FILE_BYTES = 64 * 1024 * 1024


def match(inventory: Inventory, pattern: str) -> list[str]:
    """Return the names that one pattern means, in the order in which Ansible would list them.

    Raises:
        InventoryError: a word of it means nothing.
    """
    matcher = _Matcher(inventory)
    terms = split(inventory, pattern)
    if not terms:
        raise InventoryError("an empty pattern", text=pattern)
    if any(_has_operator(term) for term in terms):
        return matcher.node_set(pattern)
    return matcher.union(matcher.with_files(terms))


def split(inventory: Inventory, pattern: str) -> list[str]:
    """Split a pattern into terms: at commas, or, when it has none and is not one name as it stands, at colons."""
    if _outside_brackets(pattern, ","):
        return _cut(pattern, ",")
    if pattern in inventory or is_address(split_port(pattern)[0]) or _is_folded(inventory, pattern):
        return [pattern]
    return _cut(pattern, ": \t\n")


def _is_folded(inventory: Inventory, pattern: str) -> bool:
    """Tell whether `pattern` is a folded set of IPv6 addresses, which have colons themselves."""
    if pattern.count(":") < 2 or not re.search(_NODE_SET_BRACKETS, pattern):
        return False
    try:
        return all(name in inventory for name in expand(pattern))
    except InventoryError:
        return False


def _outside_brackets(pattern: str, chars: str) -> list[int]:
    """Return the positions of any of `chars` that are not inside brackets."""
    found, inside = [], False
    for position, char in enumerate(pattern):
        if char == "[":
            inside = True
        elif char == "]":
            inside = False
        elif char in chars and not inside:
            found.append(position)
    if inside:
        raise InventoryError("unclosed bracket", text=pattern)
    return found


def _cut(pattern: str, chars: str) -> list[str]:
    ends = [-1, *_outside_brackets(pattern, chars), len(pattern)]
    words = (pattern[start + 1 : end].strip() for start, end in pairwise(ends))
    return [word for word in words if word]


def _has_operator(term: str) -> bool:
    """Tell whether an operator of node sets stands between two names of `term`."""
    word = term.lstrip("&!")
    # In an expression these characters mean something else.
    return not word.startswith("~") and any(position > 0 for position in _outside_brackets(word, OPERATORS))


class _Matcher:
    """Resolves terms against one inventory."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.hosts = inventory.tree.hosts
        self.groups = inventory.groups

    def union(self, terms: Iterable[str]) -> list[str]:
        """Ansible's reading: unite the plain terms (all hosts when there is none), then cut with & and with !."""
        terms = list(terms)
        found: dict[str, None] = {}
        for term in [term for term in terms if term[0] not in "&!"] or ["all"]:
            found.update(dict.fromkeys(self.term(term)))
        for operator in "&!":
            for term in terms:
                if term[0] == operator:
                    found = combine(operator, found, self.term(self.operand(term), host_first=False))
        return list(found)

    def node_set(self, pattern: str) -> list[str]:
        """ClusterShell's reading: from left to right."""
        found: dict[str, None] = {}
        for operator, word in split_node_set(pattern):
            found = combine(operator, found, self.term(word))
        return list(found)

    def with_files(self, terms: Iterable[str]) -> list[str]:
        """Return `terms` with each `@file` replaced by its lines."""
        found = []
        for term in terms:
            found += self.limit_file(term[1:]) if self.is_file(term) else [term]
        return found

    def is_file(self, term: str) -> bool:
        if not term.startswith("@") or term == "@*":
            return False
        name = term[1:]
        if name in self.groups and os.path.isfile(name):
            hint = f"say @./{name} for the file, {name} for the group"
            raise InventoryError("both a file and a group", text=term, hint=hint)
        return os.path.isfile(name) or "/" in name

    def limit_file(self, path: str) -> list[str]:
        lines = decode(read_bytes(path, limit=_LIMIT_FILE_BYTES), path).split("\n")
        terms = [line.strip() for line in lines]
        terms = [term for term in terms if term and not term.startswith("#")]
        if not terms:
            # Ansible takes an empty file for no limit at all, and runs everywhere.
            raise InventoryError("a file of hosts that names none", path=path)
        return terms

    def operand(self, term: str) -> str:
        word = term[1:].strip()
        if not word:
            raise InventoryError(f"nothing after {term[0]!r}", text=term)
        return word

    def term(self, term: str, *, host_first: bool = True) -> Sequence[str]:
        """Return the names that one term means.

        A host comes before a group of the same name, except after `&` and `!`: that is how Ansible looks them up.
        """
        if host_first and term in self.hosts:
            return [term]
        if term[0] == "@":
            name = term[1:]
            if name != "*" and "[" not in name and name not in self.groups:
                raise InventoryError("neither a group nor a file", text=term, hint=nearest(name, self.groups))
            return list(expand(term, self.groups))
        found = self.subscript(term)
        if found is None:
            found = self.names(term) if self.is_node_set(term) else self.find(term)
        if found is None:
            raise self.unknown(term)
        return found

    def subscript(self, term: str) -> Sequence[str] | None:
        """Return the hosts of `group[0]`, `group[-1]`, `group[0:2]`; None when it is none of these."""
        parts = re.fullmatch(_SUBSCRIPT, term)
        if parts is None or term[0] == "~":
            return None
        found = self.find(parts[1])
        if found is None:
            if parts[2] and f"{parts[1]}{parts[2]}" in self.hosts:
                return None  # a node set of one host
            raise self.unknown(parts[1], term)
        count = len(found)
        first = int(parts[2] or parts[3])
        if not -count <= first < count:
            raise InventoryError(f"index {first} is out of range, {parts[1]!r} has {count} hosts", text=term)
        if parts[2]:
            return [found[first]]
        last = int(parts[4]) if parts[4] else count - 1
        if last < first:
            raise InventoryError(f"a slice cannot end at {last} before it begins at {first}", text=term)
        return found[first : last + 1]

    def is_node_set(self, term: str) -> bool:
        """Tell whether `term` has ranges of numbers in brackets, and nothing that makes it a glob."""
        return "[" in term and term[0] != "~" and not re.search(r"[*?\[]", re.sub(_NODE_SET_BRACKETS, "", term))

    def names(self, term: str) -> list[str]:
        """Return the names of a node set, all of which must be there."""
        found = list(product(term))
        missing = [name for name in found if name not in self.hosts]
        missing = [name for name in missing if name not in self.inventory.also_known]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise InventoryError(
                f"unknown host {missing[0]!r}{more}", text=term, hint=nearest(missing[0], self.inventory.names)
            )
        return [name for name in found if name in self.hosts]

    def find(self, term: str) -> list[str] | None:
        """Return the hosts of the groups that `term` matches, and the hosts it matches; None for nothing at all."""
        if not _is_wild(term):
            return self.find_word(term)
        if term == "*":
            return list(self.inventory.names)
        matches = self.compile(term)
        found: dict[str, None] = {}
        known = False
        for name in self.groups:
            # "a*" is not meant to be every host there is because of the group "all".
            if name not in _BUILT_IN and matches(name):
                known = True
                found.update(dict.fromkeys(self.groups[name]))
        found.update((name, None) for name in self.hosts if matches(name))
        return list(found) if found or known else None

    def find_word(self, term: str) -> list[str] | None:
        found: list[str] = []
        if term in self.groups:
            found += self.groups[term]
        elif term not in self.hosts:
            return [] if term in self.inventory.also_known else None
        if term in self.hosts and (term not in self.groups or "." in term):
            found.append(term)
        return list(dict.fromkeys(found))

    def compile(self, term: str) -> Callable[[str], object]:
        try:
            return re.compile(term[1:] if term[0] == "~" else fnmatch.translate(term)).match
        except (re.error, OverflowError, RecursionError) as error:
            raise InventoryError(f"not a regular expression ({error})", text=term) from None

    def unknown(self, word: str, term: str | None = None) -> InventoryError:
        if _is_wild(word):
            return InventoryError("no host and no group matches", text=word)
        hint = nearest(word, [*self.groups, *self.inventory.names])
        if hint is None and term is not None and ":" in term:
            hint = f"hosts by number are written {term.replace(':', '-')}"
        return InventoryError("unknown host or group", text=word, hint=hint)


def _is_wild(term: str) -> bool:
    return term[0] == "~" or any(char in term for char in "*?[")
