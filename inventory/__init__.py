"""Which hosts there are and which of them are meant: Ansible inventories, host patterns, node sets.

Standard library alone; knows nothing of agents and reaches none. `load` reads the sources, `ad_hoc` takes hosts
from the command line, `select` says which hosts a pattern means, `expand` and `fold` turn node sets into names
and back. Its rule: exactly the hosts that were asked for, in a stable order, or an `InventoryError` that says
where it went wrong.
"""

from inventory.errors import InventoryError, TemplateError
from inventory.model import Host, Inventory, origins
from inventory.names import MAX_HOSTS, Value
from inventory.selection import select
from inventory.sources import load
from inventory.template import fill

TYPE_CHECKING = False  # as in `controller`

if TYPE_CHECKING:
    from inventory.adhoc import ad_hoc
    from inventory.folding import fold
    from inventory.nodeset import NodeSet, expand
    from inventory.patterns import match
    from inventory.report import as_ansible_list, graph

__all__ = [
    "MAX_HOSTS",
    "Host",
    "Inventory",
    "InventoryError",
    "NodeSet",
    "TemplateError",
    "Value",
    "ad_hoc",
    "as_ansible_list",
    "expand",
    "fill",
    "fold",
    "graph",
    "load",
    "match",
    "origins",
    "select",
]


def __getattr__(name: str) -> object:
    # On demand: a run on all hosts of a file has no use for these, and they take as long to load as the rest.
    if name == "ad_hoc":
        from inventory.adhoc import ad_hoc

        return ad_hoc
    if name == "fold":
        from inventory.folding import fold

        return fold
    if name == "match":
        from inventory.patterns import match

        return match
    if name in ("NodeSet", "expand"):
        from inventory import nodeset

        return getattr(nodeset, name)
    if name in ("as_ansible_list", "graph"):
        from inventory import report

        return getattr(report, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
