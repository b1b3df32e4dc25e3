"""Everything in which the inventory and its patterns are not as Ansible's, on purpose, each with the reason.

Every entry is tested on both sides, so that one which is no longer true is found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inventory import InventoryError, load, select


@dataclass(frozen=True)
class Difference:
    """Something that is not as in Ansible, on purpose. `theirs` and `ours` are hosts, or the text of an error."""

    reason: str
    inventory: str | bytes
    theirs: list[str] | str
    ours: list[str] | str
    pattern: str = "all"
    name: str = "hosts"
    mode: int = 0o644


TWO = "[web]\nweb1\nweb2\n[db]\ndb1\n"

DIFFERENCES = [
    Difference(
        "a typing error must not run on fewer hosts", TWO, ["web1"], "unknown host or group: 'web9'", "web1:web9"
    ),
    Difference("no host at all is an error, not a success", TWO, [], "unknown host or group: 'nope'", "nope"),
    Difference(
        "a host that is not excluded is a host that is hit",
        TWO,
        ["web1", "web2", "db1"],
        "unknown host or group: 'dbl'",
        "all:!dbl",
    ),
    Difference(
        "a glob that matches nothing is a typing error",
        TWO,
        ["db1"],
        "no host and no group matches: 'wbe*'",
        "wbe*:db1",
    ),
    Difference(
        "an index out of range is an error",
        TWO,
        "No hosts matched the subscripted pattern 'web[2]'",
        "index 2 is out of range, 'web' has 2 hosts: 'web[2]'",
        "web[2]",
    ),
    Difference(
        "a slice that starts out of range is an error",
        TWO,
        [],
        "index 5 is out of range, 'web' has 2 hosts: 'web[5:7]'",
        "web[5:7]",
    ),
    Difference(
        "a slice that runs backwards is an error, not its first host",
        TWO,
        ["web2"],
        "a slice cannot end at 0 before it begins at 1: 'web[1:0]'",
        "web[1:0]",
    ),
    Difference(
        "a dash makes a node set, as with clush; Ansible removed it, and still takes it for a slice",
        "[web]\nweb1\nweb2\nweb3\n",
        ["web2", "web3"],
        ["web1", "web2"],
        "web[1-2]",
    ),
    Difference(
        "so does one inside a name, and all its hosts must be there; Ansible takes it for a class of characters",
        "web1.x\nweb3.x\n",
        ["web1.x", "web3.x"],
        "unknown host 'web2.x': 'web[1-3].x'",
        "web[1-3].x",
    ),
    Difference("an index of nothing is a node set of one", TWO.replace("[web]", "[front]"), [], ["web1"], "web[1]"),
    Difference(
        "brackets with a comma are a node set; Ansible splits inside them", TWO, [], ["web1", "web2"], "web[1,2]"
    ),
    Difference("an operator between two names is a node set's", TWO, [], ["web2"], "web!web1"),
    Difference(
        "@name is a group, as with clush, unless there is a file of that name",
        TWO,
        "Unable to find limit file",
        ["web1", "web2"],
        "@web",
    ),
    Difference(
        "a* is not all hosts because there is a group called all", "app1\nweb1\n", ["app1", "web1"], ["app1"], "a*"
    ),
    Difference(
        "an expression does not match the group all either", "[x]\nall1\nweb1\n", ["all1", "web1"], ["all1"], "~al"
    ),
    Difference("u* is not every host without a group", "web1\nup1\n", ["web1", "up1"], ["up1"], "u*"),
    Difference(
        "localhost is a host only when the inventory has it",
        TWO,
        ["localhost"],
        "unknown host or group: 'localhost'",
        "localhost",
    ),
    Difference("an empty pattern is not all hosts", TWO, ["web1", "web2", "db1"], "an empty pattern: ','", ","),
    Difference(
        "a bracket that is left open is an error", TWO, ["web1", "web2"], "unclosed bracket: 'web:web['", "web:web["
    ),
    Difference(
        "brackets that hold a comma do not end an expression",
        TWO,
        "Invalid host list pattern: ~web[1",
        ["web1", "web2"],
        "~web[1,2]",
    ),
    Difference(
        "a range that ends before it begins is an error, not nothing",
        "a\nweb[5:1]\n",
        ["a"],
        "hosts:2: a range cannot end at 1 before it begins at 5: 'web[5:1]'",
    ),
    Difference(
        "the ends of a range are padded alike",
        "web[1:03]\n",
        ["web1", "web2", "web3"],
        "hosts:1: the ends 1 and 03 of a range are padded differently: 'web[1:03]'",
    ),
    Difference(
        "a range is between two letters, not words",
        "x[ab:cd]\n",
        ["xa", "xb", "xc"],
        "hosts:1: a range must run between two numbers or two letters: 'x[ab:cd]'",
    ),
    Difference(
        "a variable in a section of hosts is no host",
        "[web]\nweb1\nansible_user=root\n",
        ["web1", "ansible_user=root"],
        "hosts:3: a host name cannot hold '=': 'ansible_user=root'",
    ),
    Difference(
        "; is no part of a name: it was meant for a comment",
        "web1;old\n",
        ["web1;old"],
        "hosts:1: a host name cannot hold ';': 'web1;old'",
    ),
    Difference(
        "what a node set could not name again is no name",
        "a!b\n",
        ["a!b"],
        "hosts:1: a host name cannot hold '!': 'a!b'",
    ),
    Difference(
        "a name is part of file names", "../web1\n", ["../web1"], "hosts:1: a host name cannot hold '/': '../web1'"
    ),
    Difference(
        "a name must not become an option of ssh",
        "-oProxyCommand\n",
        ["-oProxyCommand"],
        "hosts:1: a host name cannot start with '-': '-oProxyCommand'",
    ),
    Difference(
        "white space in a name was a separator", "'web 1'\n", ["web 1"], "hosts:1: a host name cannot hold ' ': 'web 1'"
    ),
    Difference(
        "a form feed ends a line for Ansible alone: a host could hide behind it",
        "# note\x0cevil\nweb1\n",
        ["evil", "web1"],
        "hosts:1: control character U+000C",
    ),
    Difference("a byte order mark is no part of the first name", b"\xef\xbb\xbfweb1\n", ["\ufeffweb1"], ["web1"]),
    Difference(
        "a variable without a name is an error",
        "web1 =x\n",
        ["web1"],
        "hosts:1: expected key=value after the host: '=x'",
    ),
    Difference(
        "an agent's port is checked",
        "web1 fleet_port=99999\n",
        ["web1"],
        "hosts:1: fleet_port must be a number from 1 to 65535: '99999'",
    ),
    Difference(
        "YAML is left to Ansible", "all:\n  hosts:\n    web1:\n", ["web1"], "hosts: a YAML inventory is not read here"
    ),
    Difference(
        "so is TOML", "[web.hosts.web1]\n", ["web1"], "hosts.toml: a TOML inventory is not read here", name="hosts.toml"
    ),
    Difference(
        "an empty object is an empty group, not a host",
        '#!/bin/sh\necho \'{"web": {}, "b": ["b1"]}\'\n',
        ["web", "b1"],
        ["b1"],
        mode=0o755,
    ),
    Difference(
        "_meta without hostvars is a script that wants to be asked",
        '#!/bin/sh\n[ $1 = --list ] && echo \'{"b": ["b1"], "_meta": {}}\' || echo \'{}\'\n',
        "Completely failed to parse",
        ["b1"],
        mode=0o755,
    ),
    Difference(
        "NaN is no JSON",
        '#!/bin/sh\necho \'{"b": {"hosts": ["b1"], "vars": {"x": NaN}}}\'\n',
        ["b1"],
        "hosts --list: not JSON (NaN is no number there)",
        mode=0o755,
    ),
    Difference(
        "--list's own form is read from a file too",
        '{"web": {"hosts": ["web1"]}}',
        "Completely failed to parse",
        ["web1"],
        name="hosts.json",
    ),
]


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.reason)
def test_a_difference_on_purpose(
    difference: Difference, ansible: Any, write: Callable[..., str], tmp_path: Path
) -> None:
    path = write(difference.inventory, difference.name, difference.mode)
    theirs = ansible.ask(sources=[path], limits=[difference.pattern], patterns=[difference.pattern])
    assert expected(difference.theirs, theirs, difference.pattern), theirs
    try:
        ours: list[str] | str = [
            host.name for host in select(load([path], warn=lambda text: None), limits=[difference.pattern])
        ]
    except InventoryError as error:
        ours = str(error).removeprefix(f"{tmp_path}/")
    assert ours == difference.ours


def expected(wanted: list[str] | str, theirs: Any, pattern: str) -> bool:
    if "error" in theirs:
        return isinstance(wanted, str) and wanted in theirs["error"]
    found = [theirs["patterns"][0], theirs["limits"][0]]
    if isinstance(wanted, str):
        return any(isinstance(each, dict) and wanted in each["error"] for each in found)
    return wanted in found


def test_values_of_ini_stay_strings(ansible: Any, write: Callable[..., str]) -> None:
    """Ansible guesses: the admin who wrote 56L or 0x10 is surprised, and a port may come as a string or a number."""
    path = write("h a=80 b=True c=1e3 d=[1] e=None\n")
    theirs = ansible.ask(sources=[path])["vars"]["h"]
    assert theirs == {"a": 80, "b": True, "c": 1000.0, "d": [1], "e": None}
    ours = load([path], warn=lambda text: None)["h"].variables
    assert dict(ours) == {"a": "80", "b": "True", "c": "1e3", "d": "[1]", "e": "None"}


def test_the_port_of_ssh_is_not_the_agents(ansible: Any, write: Callable[..., str]) -> None:
    path = write("h:2222\n")
    assert ansible.ask(sources=[path])["vars"]["h"] == {"ansible_port": 2222}
    host = load([path], warn=lambda text: None)["h"]
    assert (host.port, dict(host.variables)) == (None, {"ansible_port": "2222"})


def test_a_json_file_of_variables_is_read_beside_a_yaml_one(ansible: Any, write: Callable[..., str]) -> None:
    """Ansible takes the first that exists; the YAML file cannot be read here, and the warning says so."""
    path = write("[web]\nweb1\n")
    write("x: yaml\n", "group_vars/web.yml")
    write('{"x": "json"}', "group_vars/web.json")
    assert ansible.ask(sources=[path])["vars"]["web1"] == {"x": "yaml"}
    heard: list[str] = []
    assert dict(load([path], warn=heard.append)["web1"].variables) == {"x": "json"}
    assert len(heard) == 1 and "group_vars/web.yml: not read" in heard[0]


def test_a_broken_inventory_is_an_error(ansible_environment: dict[str, str], write: Callable[..., str]) -> None:
    """Ansible warns, goes on without a host, and exits with 0."""
    path = write("[web]\nweb1 oops\n")
    command = [str(Path(sys.executable).parent / "ansible-inventory"), "-i", path, "--list"]
    done = subprocess.run(command, env=ansible_environment, capture_output=True)
    assert done.returncode == 0 and json.loads(done.stdout)["_meta"]["hostvars"] == {}
    with pytest.raises(InventoryError, match=r"hosts\.ini:2: expected key=value after the host: 'oops'"):
        load([path], warn=lambda text: None)
