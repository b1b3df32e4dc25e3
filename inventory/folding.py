"""Folding: many names written as one node set, `web1 web2 web3 db` as `db,web[1-3]`, as ClusterShell writes it.

Theory of operation. A name is its words with every run of digits taken out (the skeleton) and those digits (a
point). Points of one skeleton are merged into boxes, one range on each axis: two boxes that differ on one axis
alone become one. Finding the fewest boxes is hard, so boxes are merged greedily, in ClusterShell's order, which
makes the result on the sets that people have the one they know; a set that stays irregular past `PATIENCE`
boxes is merged one axis at a time, which is linear and folds less.

The rule: `expand(fold(names))` gives `names` back byte for byte. Digits stay the strings they are: "007", "7" and
"07" are three words and never one number.
"""

import re
from collections.abc import Callable, Iterable

from inventory.names import check_host_name

_DIGITS = re.compile("([0-9]+)")

# Comparing every box with every other costs some 50 ms at this many; ClusterShell takes 25 s for 1,500.
PATIENCE = 256

# A box has one set of words on each axis, as the bits of an integer; bit 0 is the word that comes first.
Box = tuple[int, ...]


def fold(names: Iterable[str]) -> str:
    """Return the node set that stands for exactly `names`, in any order and each once; "" for none.

    Raises:
        InventoryError: a name cannot be a host's, so a node set cannot hold it.
    """
    points: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for name in names:
        check_host_name(name)
        pieces = _DIGITS.split(name)
        points.setdefault(tuple(pieces[::2]), set()).add(tuple(pieces[1::2]))
    written: list[str] = []
    # ClusterShell sorts by the skeleton with "%s" for the digits, so db comes before db1 and db1 before dba.
    for skeleton in sorted(points, key=lambda words: "%s".join(word.replace("%", "%%") for word in words)):
        written += _fold_points(skeleton, points[skeleton])
    return ",".join(written)


def _fold_points(skeleton: tuple[str, ...], points: set[tuple[str, ...]]) -> list[str]:
    if len(points) == 1 or len(skeleton) == 1:
        return [_join(skeleton, list(next(iter(points))))]
    if len(skeleton) == 2:
        words = sorted((point[0] for point in points), key=_word_order)
        return [_join(skeleton, [_ranges(words)])]
    axes = [Axis(point[position] for point in points) for position in range(len(skeleton) - 1)]
    boxes = [tuple(axis.bit[word] for axis, word in zip(axes, point, strict=True)) for point in points]
    return [
        _join(skeleton, [axis.text(bits) for axis, bits in zip(axes, box, strict=True)]) for box in _merge(boxes, axes)
    ]


def _join(skeleton: tuple[str, ...], ranges: list[str]) -> str:
    return "".join(word for pair in zip(skeleton, [*ranges, ""], strict=True) for word in pair)


def _word_order(word: str) -> tuple[int, str]:
    return len(word), word


def _ranges(words: list[str]) -> str:
    """Return sorted words as `[1-3,09-10]`, one alone without brackets.

    A range has one width: it goes on from 9 to 10, but not from 9 to 09, nor from 09 to 100.
    """
    if len(words) == 1:
        return words[0]
    found: list[str] = []
    first = last = words[0]
    for word in words[1:]:
        padded = first[0] == "0" and len(first) > 1
        fits = len(word) == len(first) if padded else not (word[0] == "0" and len(word) > 1)
        if not fits or int(word) != int(last) + 1:
            found.append(_range(first, last))
            first = word
        last = word
    found.append(_range(first, last))
    return f"[{','.join(found)}]"


def _range(first: str, last: str) -> str:
    return first if first == last else f"{first}-{last}"


class Axis:
    """The words that occur in one place of a name: as bits, as text, and as ClusterShell sorts by them."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = sorted(set(words), key=_word_order)
        self.bit = {word: 1 << position for position, word in enumerate(self.words)}

    def text(self, bits: int) -> str:
        """Return the words of `bits` as a range."""
        return _ranges([self.words[position] for position in positions(bits)])

    def order(self, bits: int) -> tuple[int, str, str]:
        """Return what boxes are sorted by: more words first, then the first and the last word."""
        first = (bits & -bits).bit_length() - 1
        return -bits.bit_count(), self.words[first], self.words[bits.bit_length() - 1]


def positions(bits: int) -> list[int]:
    """Return the positions of the bits that are set, lowest first."""
    return [position for position, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"]


def _merge(boxes: list[Box], axes: list[Axis]) -> list[Box]:
    order = _order(axes)
    # Neighbours first: nearly everything that can be merged lies side by side when it is sorted.
    boxes = _until_stable(boxes, order, _merge_neighbours)
    if len(boxes) <= PATIENCE:
        return _until_stable(boxes, order, _merge_all)
    for position in reversed(range(len(axes))):
        boxes = _merge_axis(boxes, position)
    return sorted(boxes, key=order)


Order = Callable[[Box], tuple[int, list[tuple[int, str, str]]]]


def _order(axes: list[Axis]) -> Order:
    def order(box: Box) -> tuple[int, list[tuple[int, str, str]]]:
        size = 1
        for bits in box:
            size *= bits.bit_count()
        return -size, [axis.order(bits) for axis, bits in zip(axes, box, strict=True)]

    return order


def _until_stable(boxes: list[Box], order: Order, merge: Callable[[list[Box]], list[Box]]) -> list[Box]:
    while True:
        boxes = sorted(boxes, key=order)
        merged = merge(boxes)
        if len(merged) == len(boxes):
            return boxes
        boxes = merged


def _merge_neighbours(boxes: list[Box]) -> list[Box]:
    merged = [boxes[0]]
    for box in boxes[1:]:
        both = united(merged[-1], box)
        if both is None:
            merged.append(box)
        else:
            merged[-1] = both
    return merged


def _merge_all(boxes: list[Box]) -> list[Box]:
    waiting = list(boxes)
    merged: list[Box] = []
    while waiting:
        box, rest = waiting[0], []
        for other in waiting[1:]:
            both = united(box, other)
            if both is None:
                rest.append(other)
            else:
                box = both
        merged.append(box)
        waiting = rest
    return merged


def united(one: Box, other: Box) -> Box | None:
    """Return the box of both when they differ on one axis alone, and None otherwise."""
    different = -1
    for position, bits in enumerate(one):
        if bits != other[position]:
            if different >= 0:
                return None
            different = position
    if different < 0:
        return one
    return (*one[:different], one[different] | other[different], *one[different + 1 :])


def _merge_axis(boxes: list[Box], position: int) -> list[Box]:
    """Merge all boxes that differ on one axis alone; a look-up for each, whatever their number."""
    found: dict[Box, int] = {}
    for box in boxes:
        rest = (*box[:position], *box[position + 1 :])
        found[rest] = found.get(rest, 0) | box[position]
    return [(*rest[:position], bits, *rest[position:]) for rest, bits in found.items()]
