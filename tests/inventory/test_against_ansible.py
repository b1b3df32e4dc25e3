"""The inventory and its patterns against the real Ansible.

`inventories.txt` holds what must come out the same: hosts and their order, groups, variables, every pattern. What
comes out otherwise on purpose stands in test_ansible_differences.py.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import warnings as python_warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inventory import Inventory, InventoryError, as_ansible_list, graph, load, match, select
from inventory.names import Value

BIN = Path(sys.executable).parent


@dataclass
class Case:
    name: str
    files: list[tuple[str, str, str]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)

    def make(self, directory: Path) -> list[str]:
        """Make the files and return the sources as they are given to `-i`."""
        for kind, name, content in self.files:
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "link":
                path.symlink_to(directory / content)
                continue
            path.write_text(content, encoding="utf-8")
            path.chmod(0o755 if kind == "script" else 0o644)
        return [source if "," in source else str(directory / source) for source in self.sources or [self.files[0][1]]]


def cases() -> list[Case]:
    found: list[Case] = []
    content: list[str] | None = None
    for line in Path(__file__).with_name("inventories.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("=== "):
            if content is not None:
                content.append(line)
            continue
        kind, _, rest = line[4:].partition(" ")
        if content is not None:
            end_file(found[-1], content)
            content = None
        if kind == "case":
            found.append(Case(rest))
        elif kind in ("file", "script"):
            found[-1].files.append((kind, rest, ""))
            content = []
        elif kind == "link":
            name, target = rest.split()
            found[-1].files.append((kind, name, target))
        else:
            {"source": found[-1].sources, "pattern": found[-1].patterns}[kind].append(rest)
    return found


def end_file(case: Case, lines: list[str]) -> None:
    kind, name, _ = case.files[-1]
    case.files[-1] = (kind, name, "\n".join(lines) + ("\n" if lines and "final newline" not in case.name else ""))


CASES = cases()


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len({case.name for case in CASES}) >= 60
    assert sum(len(case.patterns) for case in CASES) >= 150


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_as_ansible(case: Case, ansible: Any, tmp_path: Path) -> None:
    sources = case.make(tmp_path)
    theirs = ansible.ask(sources=sources, patterns=case.patterns, limits=case.patterns)
    assert "error" not in theirs, theirs
    ours = load(sources, warn=lambda text: None)
    compare(ours, theirs)
    assert not (case.patterns and theirs["ambiguous"]), "Ansible itself has no order here"
    for pattern, listed, limited in zip(case.patterns, theirs["patterns"], theirs["limits"], strict=True):
        compare_pattern(ours, pattern, listed, limited)


def compare(ours: Inventory, theirs: Any) -> None:
    order: Callable[[Any], Any] = sorted if theirs["ambiguous"] else list
    assert order(ours.names) == order(theirs["hosts"])
    assert list(ours.groups) == list(theirs["groups"])
    for name, members in theirs["groups"].items():
        assert order(ours.groups[name]) == order(members), name
    for host in ours:
        assert list(host.groups) == theirs["group_names"][host.name]
        variables = theirs["vars"][host.name]
        assert set(host.variables) == set(variables), host.name
        for name, value in host.variables.items():
            assert same(value, variables[name]), (host.name, name, value, variables[name])


def same(ours: Value, theirs: object) -> bool:
    """Tell whether a value of ours is what Ansible made of it: of the string in an INI file it may make a literal."""
    if ours == theirs or not isinstance(ours, str):
        return ours == theirs
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return bool(ast.literal_eval(ours) == theirs)
        except (ValueError, SyntaxError):
            return False


def compare_pattern(ours: Inventory, pattern: str, listed: Any, limited: Any) -> None:
    if not limited or isinstance(limited, dict):
        with pytest.raises(InventoryError):
            select(ours, limits=[pattern])
        return
    assert match(ours, pattern) == listed, pattern
    assert [host.name for host in select(ours, limits=[pattern])] == limited, pattern


def run_ansible(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]], env=environment, capture_output=True, text=True, encoding="utf-8"
    )


MIXED = """\
lone
[web]
web[1:3] x=1
[db]
db1:2222 y="a b"
[prod:children]
web
db
[all:vars]
v=0
"""


def test_the_commands_themselves(ansible_environment: dict[str, str], write: Callable[..., str]) -> None:
    """The reader process uses Ansible's modules; this is what an admin types."""
    path = write(MIXED)
    ours = load([path], warn=lambda text: None)
    listed = json.loads(run_ansible(ansible_environment, "ansible-inventory", "-i", path, "--list").stdout)
    mine = as_ansible_list(ours)
    assert {name: group for name, group in mine.items() if name != "_meta"} == {
        name: group for name, group in listed.items() if name != "_meta"
    }
    assert mine["_meta"]["profile"] == listed["_meta"]["profile"]  # type: ignore[index,call-overload]
    hostvars: Any = mine["_meta"]["hostvars"]  # type: ignore[index,call-overload]
    assert hostvars.keys() == listed["_meta"]["hostvars"].keys()
    drawn = run_ansible(ansible_environment, "ansible-inventory", "-i", path, "--graph")
    assert graph(ours) + "\n" == drawn.stdout
    for pattern in ("prod:!web[0]", "*"):
        done = run_ansible(ansible_environment, "ansible", pattern, "-i", path, "--list-hosts")
        names = [line.strip() for line in done.stdout.splitlines()[1:]]
        assert names == match(ours, pattern)


@pytest.mark.parametrize("case", [case for case in CASES if len(case.files) == 1], ids=lambda case: case.name)
def test_ansible_reads_our_listing_back(case: Case, ansible: Any, tmp_path: Path) -> None:
    ours = load(case.make(tmp_path), warn=lambda text: None)
    script = tmp_path / "listing.sh"
    script.write_text(f"#!/bin/sh\ncat <<'END OF LISTING'\n{json.dumps(as_ansible_list(ours))}\nEND OF LISTING\n")
    script.chmod(0o755)
    theirs = ansible.ask(sources=[str(script)])
    assert sorted(theirs["hosts"]) == sorted(ours.names)
    for host in ours:
        assert theirs["group_names"][host.name] == list(host.groups)
        assert theirs["vars"][host.name] == dict(host.variables)
    again = load([str(script)], warn=lambda text: None)
    assert sorted(again.names) == sorted(ours.names)
    assert all(again[host.name].variables == host.variables for host in ours)


# Generated inventories and patterns. Names that the built-in groups would match by accident are left to the table.
HOSTS = st.sampled_from([f"{word}{number}" for word in ("web", "db", "n") for number in range(1, 5)])
GROUPS = st.sampled_from(["g1", "g2", "web", "prod", "x.y"])
VALUES = st.sampled_from(["1", "a", "'q'", '"d e"', "x=y", "True", "08", ""])
LINES = st.one_of(
    HOSTS,
    st.builds("{} k={} m={}".format, HOSTS, VALUES, VALUES),
    st.builds("n[{}:{}] r={}".format, st.integers(1, 3), st.integers(3, 5), VALUES),
    st.builds("[{}]".format, GROUPS),
    st.builds("{}:{}".format, HOSTS, st.integers(1, 65535)),
    st.just("# comment"),
)
SECTIONS = st.one_of(
    st.builds("[{}:vars]\nk={}\nv={}".format, GROUPS, VALUES, VALUES),
    st.builds("[{}:children]\n{}".format, GROUPS, GROUPS),
)
TERMS = st.one_of(
    HOSTS,
    GROUPS,
    st.builds("{}[{}]".format, GROUPS, st.integers(-2, 3)),
    st.builds("{}[{}:{}]".format, GROUPS, st.integers(0, 2), st.integers(2, 3)),
    st.sampled_from(["web*", "*", "?b1", "n[12]*", "~web[13]", "~^n", "g?", "*1", "all", "ungrouped"]),
)
PATTERNS = st.lists(st.tuples(st.sampled_from(["", "", "&", "!"]), TERMS), min_size=1, max_size=4)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=st.lists(LINES, max_size=14),
    sections=st.lists(SECTIONS, max_size=4),
    patterns=st.lists(PATTERNS, min_size=1, max_size=4),
    separator=st.sampled_from([",", ":"]),
)
def test_generated_inventories(
    lines: list[str],
    sections: list[str],
    patterns: list[list[tuple[str, str]]],
    separator: str,
    ansible: Any,
    tmp_path: Path,
) -> None:
    path = tmp_path / f"hosts{os.urandom(4).hex()}"
    path.write_text("\n".join([*lines, *sections]) + "\n")
    texts = [separator.join(sign + term for sign, term in pattern) for pattern in patterns]
    theirs = ansible.ask(sources=[str(path)], patterns=texts, limits=texts)
    if "error" in theirs:
        with pytest.raises(InventoryError):
            load([str(path)], warn=lambda text: None)
        return
    ours = load([str(path)], warn=lambda text: None)
    compare(ours, theirs)
    if theirs["ambiguous"]:
        return
    for text, listed, limited in zip(texts, theirs["patterns"], theirs["limits"], strict=True):
        try:
            assert match(ours, text) == listed, text
            assert [host.name for host in select(ours, limits=[text])] == limited, text
        except InventoryError as error:
            # Of those that stand in the table: for a word that means nothing, and for no host at all.
            word = error.text or ""
            if error.reason != "no host matched":
                assert error.reason.startswith(
                    ("unknown host", "no host and no group", "index ", "the inventory holds")
                )
                alone = ansible.ask(sources=[str(path)], patterns=[word])["patterns"][0] if word else []
                assert not alone or isinstance(alone, dict), (text, error, alone)
            else:
                assert not limited, (text, error)
