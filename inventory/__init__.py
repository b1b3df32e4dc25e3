"""Which hosts there are and which of them are meant: Ansible inventories, host patterns, node sets.

Standard library alone; knows nothing of agents and reaches none. `load` reads the sources, `ad_hoc` takes hosts
from the command line, `select` says which hosts a pattern means, `expand` and `fold` turn node sets into names
and back. Its rule: exactly the hosts that were asked for, in a stable order, or an `InventoryError` that says
where it went wrong.
"""

from inventory.adhoc import ad_hoc
from inventory.errors import InventoryError, TemplateError
from inventory.folding import fold
from inventory.model import Host, Inventory, origins
from inventory.names import MAX_HOSTS, Value
from inventory.nodeset import NodeSet, expand
from inventory.patterns import match, select
from inventory.report import as_ansible_list, graph
from inventory.sources import load
from inventory.template import fill

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
