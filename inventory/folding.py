"""Folding: many names written as one node set, `web1 web2 web3 db` as `db,web[1-3]`, as ClusterShell writes it.

Theory of operation. A name is its words with every run of digits taken out (the skeleton) and those digits (a
point). Points of one skeleton are merged into boxes, one range on each axis: two boxes that differ on one axis
alone become one. Finding the fewest boxes is hard, so boxes are merged greedily, in ClusterShell's order, which
makes the result on the sets that people have the one they know; a set that stays irregular past `PATIENCE`
boxes is merged one axis at a time, which is linear and folds less.

The rule: `expand(fold(names))` gives `names` back byte for byte. Digits stay the strings they are: "007", "7" and
"07" are three words and never one number.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence

from inventory.names import check_host_name

_DIGITS = re.compile("([0-9]+)")

# Comparing every box with every other costs some 50 ms at this many; ClusterShell takes 25 s for 1,500.
PATIENCE = 256
# Past this many points the bits below would take memory by its square, so they are merged by axis alone.
MANY = 2048
# Ordinary sets are merged in two or three passes; one can be made that takes a pass for every box.
PASSES = 12

Point = tuple[str, ...]
# The words on each axis, in order; and the same as bits.
Box = tuple[tuple[str, ...], ...]
Mask = tuple[int, ...]


def fold(names: Iterable[str]) -> str:
    """Return the node set that stands for exactly `names`, in any order and each once; "" for none.

    Raises:
        InventoryError: a name cannot be a host's, so a node set cannot hold it.
    """
    points: dict[tuple[str, ...], set[Point]] = {}
    for name in names:
        check_host_name(name)
        pieces = _DIGITS.split(name)
        points.setdefault(tuple(pieces[::2]), set()).add(tuple(pieces[1::2]))
    written: list[str] = []
    # ClusterShell sorts by the skeleton with "%s" for the digits, so db comes before db1 and db1 before dba.
    for skeleton in sorted(points, key=lambda words: "%s".join(word.replace("%", "%%") for word in words)):
        written += _fold_points(skeleton, points[skeleton])
    return ",".join(written)


def _fold_points(skeleton: tuple[str, ...], points: set[Point]) -> list[str]:
    if len(points) == 1:
        return [_join(skeleton, next(iter(points)))]
    if len(skeleton) == 2:
        return [_join(skeleton, [_ranges(sorted((point[0] for point in points), key=_word_order))])]
    return [_join(skeleton, [_ranges(words) for words in box]) for box in _boxes(points)]


def _join(skeleton: tuple[str, ...], ranges: Sequence[str]) -> str:
    return "".join(word for pair in zip(skeleton, [*ranges, ""], strict=True) for word in pair)


def _word_order(word: str) -> tuple[int, str]:
    return len(word), word


def _ranges(words: Sequence[str]) -> str:
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


def _boxes(points: set[Point]) -> list[Box]:
    boxes: list[Box] = [tuple((word,) for word in point) for point in points]
    boxes = _merge_by_axis(boxes) if len(boxes) > MANY else _merge_by_bits(boxes)
    return sorted(boxes, key=_box_order)


def _box_order(box: Box) -> tuple[int, list[tuple[int, str, str]]]:
    """Return what boxes are sorted by: larger ones first, then by their words on each axis."""
    return -math.prod(map(len, box)), [(-len(words), words[0], words[-1]) for words in box]


def _merge_by_axis(boxes: list[Box]) -> list[Box]:
    """Merge boxes that differ on one axis alone, the last axis first: a look-up for each, whatever their number."""
    for position in reversed(range(len(boxes[0]))):
        found: dict[Box, list[str]] = {}
        for box in boxes:
            found.setdefault((*box[:position], *box[position + 1 :]), []).extend(box[position])
        boxes = [
            (*rest[:position], tuple(sorted(words, key=_word_order)), *rest[position:]) for rest, words in found.items()
        ]
    return boxes


def _merge_by_bits(boxes: list[Box]) -> list[Box]:
    """Merge boxes one with another, in ClusterShell's order."""
    axes = [Axis(box[position] for box in boxes) for position in range(len(boxes[0]))]

    def order(mask: Mask) -> tuple[int, list[tuple[int, str, str]]]:
        size = math.prod(bits.bit_count() for bits in mask)
        return -size, [axis.order(bits) for axis, bits in zip(axes, mask, strict=True)]

    masks = [tuple(axis.bits(words) for axis, words in zip(axes, box, strict=True)) for box in boxes]
    # Neighbours first: nearly everything that can be merged lies side by side when it is sorted.
    masks = _until_stable(masks, order, _merge_neighbours)
    if len(masks) <= PATIENCE:
        masks = _until_stable(masks, order, _merge_all)
    merged = [tuple(axis.words_of(bits) for axis, bits in zip(axes, mask, strict=True)) for mask in masks]
    return merged if len(masks) <= PATIENCE else _merge_by_axis(merged)


class Axis:
    """The words that occur in one place of a name, each with a bit; bit 0 is the word that comes first."""

    def __init__(self, groups: Iterable[Sequence[str]]) -> None:
        self.words = sorted({word for words in groups for word in words}, key=_word_order)
        self.bit = {word: 1 << position for position, word in enumerate(self.words)}

    def bits(self, words: Sequence[str]) -> int:
        """Return the bits of `words`."""
        return sum(self.bit[word] for word in words)

    def words_of(self, bits: int) -> tuple[str, ...]:
        """Return the words of `bits`, in order."""
        return tuple(word for word, bit in zip(self.words, reversed(f"{bits:b}"), strict=False) if bit == "1")

    def order(self, bits: int) -> tuple[int, str, str]:
        """Return the number of words, negative, and the first and the last."""
        first = (bits & -bits).bit_length() - 1
        return -bits.bit_count(), self.words[first], self.words[bits.bit_length() - 1]


def _until_stable(
    masks: list[Mask], order: Callable[[Mask], object], merge: Callable[[list[Mask]], list[Mask]]
) -> list[Mask]:
    for _ in range(PASSES):
        before = len(masks)
        masks = merge(sorted(masks, key=order))  # type: ignore[arg-type]
        if len(masks) == before:
            break
    return masks


def _merge_neighbours(masks: list[Mask]) -> list[Mask]:
    merged = [masks[0]]
    for mask in masks[1:]:
        both = united(merged[-1], mask)
        if both is None:
            merged.append(mask)
        else:
            merged[-1] = both
    return merged


def _merge_all(masks: list[Mask]) -> list[Mask]:
    waiting = masks
    merged: list[Mask] = []
    while waiting:
        mask, rest = waiting[0], []
        for other in waiting[1:]:
            both = united(mask, other)
            if both is None:
                rest.append(other)
            else:
                mask = both
        merged.append(mask)
        waiting = rest
    return merged


def united(one: Mask, other: Mask) -> Mask | None:
    """Return the box of both when they differ on one axis alone, and None otherwise."""
    different = -1
    for position, bits in enumerate(one):
        if bits != other[position]:
            if different >= 0:
                return None
            different = position
    return (*one[:different], one[different] | other[different], *one[different + 1 :])
