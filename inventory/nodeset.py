"""Node sets as ClusterShell writes them: `web[01-20]`, `dc[1-2]n[1-10/2]`, `@group`, and `, ! & ^` left to right.

Not Ansible's patterns (see patterns), though `-l` takes both. Its rules: a name is a string, never a number with
a format, so that nothing here can turn `node007` into `node7`; a set of a million is not made before it is
looked at.
"""

import fnmatch
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from inventory.errors import InventoryError, nearest
from inventory.folding import fold
from inventory.names import MAX_HOSTS, check_host_name

OPERATORS = ",!&^"
_RANGE = r"\s*([0-9]{1,255})\s*(?:-\s*([0-9]{1,255})\s*)?(?:/\s*([0-9]{1,9})\s*)?"
_DIGITS = "[0-9]+"
_ENDING_DIGITS = "[0-9]*$"
_LEADING_DIGITS = "[0-9]*"

Groups = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Span:
    """The words of one range inside brackets, with the digits that stand against the brackets."""

    before: str
    numbers: range
    width: int
    after: str
    count: int

    def __iter__(self) -> Iterator[str]:
        before, width, after = self.before, self.width, self.after
        return (f"{before}{number:0{width}d}{after}" for number in self.numbers)

    @property
    def longest(self) -> str:
        """The last word: no other is longer."""
        return f"{self.before}{self.numbers[-1]:0{self.width}d}{self.after}"


@dataclass(frozen=True, slots=True)
class Product:
    """All names that one term stands for: `literals` with the words of each axis between them.

    Two products of different `skeleton` have no name in common: the skeleton is the name with every run of digits
    replaced, and the axes are such runs.
    """

    literals: tuple[str, ...]
    axes: tuple[tuple[Span, ...], ...]

    def __len__(self) -> int:
        return math.prod(sum(span.count for span in axis) for axis in self.axes)

    def __iter__(self) -> Iterator[str]:
        return self._names(0)

    def _names(self, position: int) -> Iterator[str]:
        literal = self.literals[position]
        if position == len(self.axes):
            yield literal
            return
        for span in self.axes[position]:
            for word in span:
                for rest in self._names(position + 1):
                    yield f"{literal}{word}{rest}"

    @property
    def skeleton(self) -> str:
        return "0".join(re.sub(_DIGITS, "0", literal) for literal in self.literals)

    @property
    def repeats(self) -> bool:
        """Whether a name may come twice: two spans of one axis may overlap."""
        return any(len(axis) > 1 for axis in self.axes)


class NodeSet:
    """A set of names in the order in which they were written; its length is known without making them."""

    def __init__(self, parts: Iterable[Product | tuple[str, ...]] = ()) -> None:
        # No name is in two parts.
        self._parts = tuple(parts)
        self._lookup: frozenset[str] | None = None

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def __iter__(self) -> Iterator[str]:
        for part in self._parts:
            yield from part

    def __contains__(self, name: object) -> bool:
        if self._lookup is None:
            self._lookup = frozenset(self)
        return name in self._lookup

    def __str__(self) -> str:
        return fold(self)


def expand(text: str, groups: Groups | None = None) -> NodeSet:
    """Return the node set that `text` stands for; `groups` answers `@name`, its `all` also `@*` and wildcards.

    Raises:
        InventoryError: it cannot be read, is over `MAX_HOSTS` names, or names an unknown group.
    """
    operations = split(text)
    if all(operator == "," for operator, _ in operations):
        parts = _distinct([_term(word, groups) for _, word in operations])
        _check_size(sum(len(part) for part in parts), text)
        return NodeSet(parts)
    names: dict[str, None] = {}
    for operator, word in operations:
        names = combine(operator, names, _term(word, groups))
        _check_size(len(names), text)
    return NodeSet([tuple(names)])


def combine(operator: str, left: dict[str, None], right: Iterable[str]) -> dict[str, None]:
    """Return `left` and `right` joined by one of `OPERATORS`, in the order of `left` and then of `right`."""
    if operator == ",":
        return {**left, **dict.fromkeys(right)}
    other = dict.fromkeys(right)
    if operator == "&":
        return {name: None for name in left if name in other}
    kept = {name: None for name in left if name not in other}
    if operator == "!":
        return kept
    return {**kept, **{name: None for name in other if name not in left}}


def split(text: str) -> list[tuple[str, str]]:
    """Split a node set at the operators outside brackets, into pairs of operator and term; the first has a comma.

    Raises:
        InventoryError: brackets do not match, or a term is empty.
    """
    found: list[tuple[str, str]] = []
    operator, start, depth = ",", 0, 0
    for position, char in enumerate(text):
        if char == "[":
            depth += 1
            if depth > 1:
                raise InventoryError("a range inside a range", text=text)
        elif char == "]":
            depth -= 1
            if depth < 0:
                raise InventoryError("a range is closed that was not opened", text=text)
        elif char in OPERATORS and not depth:
            found.append((operator, text[start:position].strip()))
            operator, start = char, position + 1
    if depth:
        raise InventoryError("unclosed range", text=text, hint="a range is written [01-20]")
    found.append((operator, text[start:].strip()))
    for number, (_, word) in enumerate(found):
        if not word:
            # The first term has no operator before it, only the one after.
            reason = f"nothing beside {found[number or 1][0]!r}" if len(found) > 1 else "an empty node set"
            raise InventoryError(reason, text=text)
    return found


def product(term: str) -> Product:
    """Return what one term without operators and groups stands for.

    Raises:
        InventoryError: a range is wrong, or there are too many names.
    """
    pieces = re.split(r"\[([^\]]*)\]", term)
    literals, inside = pieces[::2], pieces[1::2]
    axes: list[tuple[Span, ...]] = []
    for number, ranges in enumerate(inside):
        # Digits against a bracket belong to the number: n1[0-9] is n10 to n19.
        before = re.search(_ENDING_DIGITS, literals[number])[0]  # type: ignore[index]
        after = re.match(_LEADING_DIGITS, literals[number + 1])[0]  # type: ignore[index]
        literals[number] = literals[number].removesuffix(before)
        literals[number + 1] = literals[number + 1].removeprefix(after)
        if number and not literals[number]:
            raise InventoryError("two ranges side by side", text=term)
        axes.append(tuple(_span(before, each, after, term) for each in ranges.split(",")))
    result = Product(tuple(literals), tuple(axes))
    _check_size(math.prod(sum(span.count for span in axis) for axis in axes), term)
    return result


def _span(before: str, text: str, after: str, term: str) -> Span:
    found = re.fullmatch(_RANGE, text)
    if found is None:
        hint = None
        if re.fullmatch("[0-9]+:[0-9]+", text):
            hint = f"in a node set the range is written [{text.replace(':', '-')}]"
        raise InventoryError(f"expected a range like 1-20 or 1-20/2, found {text!r}", text=term, hint=hint)
    begin, end, step = found[1], found[2] or found[1], int(found[3] or 1)
    if found[3] is not None and (found[2] is None or step == 0):
        raise InventoryError("a step must be above 0 and follow a range", text=term)
    padded = [len(bound) > 1 and bound[0] == "0" for bound in (begin, end)]
    if any(padded) and len(begin) != len(end):
        raise InventoryError(f"the ends {begin} and {end} of a range are padded differently", text=term)
    first, last = int(begin), int(end)
    if first > last:
        raise InventoryError(f"a range cannot end at {end} before it begins at {begin}", text=term)
    width = len(begin) if padded[0] else 1
    return Span(before, range(first, last + 1, step), width, after, (last - first) // step + 1)


def _term(word: str, groups: Groups | None) -> Product | tuple[str, ...]:
    if word[0] == "@":
        return _group_members(word[1:], groups)
    if groups is not None and re.search("[*?]", word):
        return _wildcard(word, groups)
    result = product(word)
    _check_names(result, word)
    return result


def _check_names(result: Product, word: str) -> None:
    """Check the longest name for all: the names of a product differ in digits alone."""
    longest = "".join(
        literal + max((span.longest for span in axis), key=len)
        for literal, axis in zip(result.literals, result.axes, strict=False)
    )
    try:
        check_host_name(longest + result.literals[-1])
    except InventoryError as error:
        hint = "names are separated by commas" if re.search(r"\S\s+\S", word) else error.hint
        raise InventoryError(error.reason, text=word, hint=hint) from None


def _group_members(name: str, groups: Groups | None) -> tuple[str, ...]:
    if groups is None:
        raise InventoryError("a group, and no inventory to find it in", text=f"@{name}")
    if name == "*":
        return tuple(groups.get("all", ()))
    found: dict[str, None] = {}
    for each in product(name):
        if each not in groups:
            raise InventoryError("unknown group", text=each, hint=nearest(each, groups))
        found.update(dict.fromkeys(groups[each]))
    return tuple(found)


def _wildcard(word: str, groups: Groups) -> tuple[str, ...]:
    matches = [re.compile(fnmatch.translate(mask)).match for mask in product(word)]
    found = tuple(name for name in groups.get("all", ()) if any(match(name) for match in matches))
    if not found:
        raise InventoryError("no host matches", text=word)
    return found


def _distinct(terms: Sequence[Product | tuple[str, ...]]) -> list[Product | tuple[str, ...]]:
    """Return `terms` as parts that share no name; what cannot be told apart by its skeleton is made and compared."""
    if all(isinstance(term, Product) and not term.repeats for term in terms):
        skeletons = [term.skeleton for term in terms if isinstance(term, Product)]
        if len(set(skeletons)) == len(skeletons):
            return list(terms)
    names: dict[str, None] = {}
    for term in terms:
        names.update(dict.fromkeys(term))
        _check_size(len(names))
    return [tuple(names)]


def _check_size(count: int, text: str | None = None) -> None:
    if count > MAX_HOSTS:
        raise InventoryError(f"a set of {count} hosts is over the limit of {MAX_HOSTS}", text=text)
