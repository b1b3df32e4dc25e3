"""Tables of many hosts as one: which of them fit, what is chosen of the rows, and in what order. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from agent.wire.record import record
from controller.columns import Table
from controller.conditions import Condition
from controller.values import sort_by_value

__all__ = ["HOST", "Query", "Row", "UnknownColumnError", "fitting", "main_names"]

HOST = "HOST"

Row = tuple[str, ...]


class UnknownColumnError(Exception):
    """There is no column of the name that an `option` gives. `known` are those there are."""

    def __init__(self, option: str, name: str, known: Sequence[str]) -> None:
        super().__init__(option, name, known)
        self.option = option
        self.name = name
        self.known = tuple(known)

    def __str__(self) -> str:
        return f"{self.option}: no column {self.name!r}: there are {', '.join(self.known)}"


@record
class Query:
    """What is asked of the one table: rows for which all `conditions` hold, ordered by `sort`, the first `top`."""

    conditions: tuple[Condition, ...] = ()
    sort: str | None = None
    descending: bool = False
    top: int | None = None

    def choose(self, names: Sequence[str], rows: Sequence[Row]) -> list[Row]:
        """Return what is asked for. Raises UnknownColumnError."""
        columns = [_column(names, condition.name, "--where") for condition in self.conditions]
        found = [
            row
            for row in rows
            if all(condition.holds(row[column]) for condition, column in zip(self.conditions, columns, strict=True))
        ]
        if self.sort is not None:
            column = _column(names, self.sort, "--sort")
            found = sort_by_value(found, lambda row: row[column], descending=self.descending)
        return found if self.top is None else found[: self.top]


def _column(names: Sequence[str], name: str, option: str) -> int:
    """Return which column is meant: that of the name, or else the one that differs in case alone."""
    if name in names:
        return names.index(name)
    folded = [known.casefold() for known in names]
    if folded.count(name.casefold()) == 1:
        return folded.index(name.casefold())
    raise UnknownColumnError(option, name, names)


def main_names(tables: Iterable[Table]) -> Row | None:
    """Return the names that most tables have, in the order of the first of them; None when there is no table."""
    counts: Counter[frozenset[str]] = Counter()
    orders: dict[frozenset[str], Row] = {}
    for table in tables:
        names = frozenset(table.names)
        counts[names] += 1
        orders.setdefault(names, table.names)
    return orders[counts.most_common(1)[0][0]] if counts else None


def fitting(table: Table, names: Row) -> Sequence[Row] | None:
    """Return the rows of a table with its columns in the order of `names`; None when it has others."""
    if table.names == names:
        return table.rows
    if set(table.names) != set(names):
        return None
    order = [table.names.index(name) for name in names]
    return [tuple(row[column] for column in order) for row in table.rows]
