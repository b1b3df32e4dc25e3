"""Asks the real Ansible what an inventory holds; run as a program of its own, a JSON request and answer on each line.

A process for itself because Ansible keeps its state in modules and takes most of a second to start. A request is
`{"sources": [...], "patterns": [...], "limits": [...]}`; the answer has the hosts in order, the groups, the
variables, and what each pattern gives; or `{"error": TEXT}`.
"""

import json
import os
import sys

os.environ.update(
    ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="true",
    ANSIBLE_HOST_PATTERN_MISMATCH="ignore",
    ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS="ignore",
    ANSIBLE_DEPRECATION_WARNINGS="false",
    ANSIBLE_LOCALHOST_WARNING="false",
)

from ansible import constants
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.vars.manager import VariableManager


def is_ambiguous(group):
    """Tell whether Ansible walks the groups below in an order that depends on addresses in memory."""
    seen, level = set(), set(group.child_groups)
    while level:
        if sum(1 for each in level if each.child_groups) > 1:
            return True
        seen |= level
        level = {child for each in level for child in each.child_groups} - seen
    return False


def answer(request):
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=request["sources"])
    variables = VariableManager(loader=loader, inventory=inventory)
    hosts = inventory.get_hosts("all")
    found = {"hosts": [host.name for host in hosts], "vars": {}, "group_names": {}}
    for host in hosts:
        values = variables.get_vars(host=host, include_hostvars=False, stage="all")
        found["group_names"][host.name] = values["group_names"]
        found["vars"][host.name] = {
            name: value for name, value in values.items() if name not in constants.INTERNAL_STATIC_VARS
        }
    found["groups"] = {name: [host.name for host in group.get_hosts()] for name, group in inventory.groups.items()}
    found["ambiguous"] = any(is_ambiguous(group) for group in inventory.groups.values())
    found["patterns"] = [attempt(lambda p=p: inventory.get_hosts(p)) for p in request.get("patterns", ())]
    found["limits"] = []
    for limit in request.get("limits", ()):
        inventory.clear_pattern_cache()
        found["limits"].append(attempt(lambda limit=limit: limited(inventory, limit)))
        inventory.subset(None)
        inventory._hosts_patterns_cache.clear()
    return found


def limited(inventory, limit):
    inventory.subset(limit)
    return inventory.get_hosts("all")


def attempt(action):
    try:
        return [host.name for host in action()]
    except Exception as error:
        return {"error": str(error)}


def main():
    init_plugin_loader()
    for line in sys.stdin:
        try:
            result = answer(json.loads(line))
        except Exception as error:  # whatever it is, the next request is another one's
            result = {"error": str(error)}
        print(json.dumps(result, default=str), flush=True)


if __name__ == "__main__":
    main()
