"""Imports run one way. Read with `ast`, so that an import inside a function or under TYPE_CHECKING counts too.

inventory      standard library
agent.wire     standard library without anything that does I/O, waits, or starts something
agent.tree     agent.wire, standard library: both sides move files with it
agent.*        agent, standard library
agent.lazily   standard library: programs of both sides begin with it
controller.*   agent.wire, agent.tree, agent.lazily, inventory, standard library; typer in controller.cli.program,
               tabulate in render*
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("agent", "controller", "inventory")

# The protocol is an object with bytes in and messages out. The second set are back doors to the first.
FORBIDDEN_IN_WIRE = frozenset(
    {"socket", "ssl", "select", "selectors", "asyncio", "subprocess", "threading", "os", "pathlib"}
    | {"concurrent", "ctypes", "fcntl", "http", "importlib", "io", "multiprocessing", "posix", "pty", "shutil"}
    | {"signal", "socketserver", "tempfile", "time", "urllib"}
)
FORBIDDEN_CALLS_IN_WIRE = frozenset({"open", "exec", "eval"})
# It compiles a function from the names of a class's fields, as the standard library's dataclasses do.
ALLOWED_CALLS = {"agent.wire.record": frozenset({"exec"})}
# typer brings different ones from version to version; they are not ours to use.
NEVER = frozenset({"click", "rich", "pydantic"})


def module_name(path: Path) -> str:
    """Return the dotted name of a file below ROOT."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(name: str, *packages: str) -> bool:
    """Whether `name` is one of `packages` or lies in one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, what is imported) for every import, with relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            parts = parts[: len(parts) - node.level + is_package] if node.level else []
            base = ".".join(filter(None, [*parts, node.module]))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, name) for name in called_imports(node))


def called_imports(call: ast.Call) -> Iterator[str]:
    """Yield what `__import__` or `import_module` imports; a name that is not written out counts as anything."""
    function = call.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    if name in ("__import__", "import_module"):
        first = call.args[0] if call.args else None
        yield first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else "<computed>"


def allowed(module: str, imported: str) -> bool:
    """Whether the module may import that."""
    top = imported.partition(".")[0]
    if top in NEVER or set(imported.split(".")) & NEVER:
        return False
    if within(module, "agent.wire"):
        if top.lstrip("_") in FORBIDDEN_IN_WIRE or top == "_thread":
            return False
        return top in sys.stdlib_module_names or within(imported, "agent.wire")
    if top in sys.stdlib_module_names:
        return True
    if within(module, "inventory"):
        return top == "inventory"
    if module == "agent.lazily":
        return False
    if within(module, "agent.tree"):
        return within(imported, "agent.tree", "agent.wire")
    if within(module, "agent"):
        return top == "agent"
    if top == "typer":
        return module == "controller.cli.program"
    if top == "tabulate":
        return module.startswith("controller.") and module.rpartition(".")[2].startswith("render")
    return top in ("controller", "inventory") or within(imported, "agent.wire", "agent.tree", "agent.lazily")


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return one line for each import (and, in the wire, each call) that is against the rules."""
    tree = ast.parse(source)
    found = [
        f"{module}:{line}: may not import {imported}"
        for line, imported in imports(tree, module, is_package)
        if not allowed(module, imported)
    ]
    if within(module, "agent.wire"):
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        names = [(call.lineno, getattr(call.func, "id", "")) for call in calls]
        forbidden = FORBIDDEN_CALLS_IN_WIRE - ALLOWED_CALLS.get(module, frozenset())
        found += [f"{module}:{line}: may not call {name}" for line, name in names if name in forbidden]
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 1
    found = []
    for path in files:
        found += violations(path.read_text(encoding="utf-8"), module_name(path), path.name == "__init__.py")
    assert found == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_can_be_imported(package: str) -> None:
    """By itself, too; and so coverage knows of those that nothing else imports."""
    for path in sorted((ROOT / package).rglob("*.py")):
        if path.name != "__main__.py":
            importlib.import_module(module_name(path))


def test_the_walk_reaches_every_layer() -> None:
    names = {module_name(path) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert {"agent", "agent.wire", "agent.wire.connection", "agent.server", "controller", "inventory"} <= names


BAD = [
    ("inventory.parse", "import agent.wire", "agent.wire"),
    ("inventory.parse", "from controller import results", "controller.results"),
    ("inventory.parse", "import yaml", "yaml"),
    ("inventory.parse", "import typer", "typer"),
    ("agent.wire.link", "import socket", "socket"),
    ("agent.wire.link", "import os.path", "os.path"),
    ("agent.wire.link", "from pathlib import Path", "pathlib.Path"),
    ("agent.wire.link", "import _socket", "_socket"),
    ("agent.wire.link", "import _thread", "_thread"),
    ("agent.wire.link", "import time", "time"),
    ("agent.wire.link", "from agent import runner", "agent.runner"),
    ("agent.wire.link", "from .. import runner", "agent.runner"),
    ("agent.wire.link", "from ..runner import Runner", "agent.runner.Runner"),
    ("agent.wire.link", "def f():\n    import ssl", "ssl"),
    ("agent.wire.link", "if TYPE_CHECKING:\n    import asyncio", "asyncio"),
    ("agent.wire.link", "try:\n    import subprocess\nexcept ImportError:\n    pass", "subprocess"),
    ("agent.wire.link", "__import__('socket')", "socket"),
    ("agent.wire.link", "import threading as t, json", "threading"),
    ("agent.wire", "from . import sub\nfrom .. import server", "agent.server"),
    ("agent.tree.sender", "from agent.runner import Runner", "agent.runner.Runner"),
    ("agent.tree.sender", "from agent import log", "agent.log"),
    ("agent.tree.sender", "import controller.results", "controller.results"),
    ("agent.runner", "import controller.results", "controller.results"),
    ("agent.runner", "import inventory", "inventory"),
    ("agent.runner", "from tabulate import tabulate", "tabulate.tabulate"),
    ("agent.cli", "import typer", "typer"),
    ("controller.client", "import agent", "agent"),
    ("controller.client", "from agent import runner", "agent.runner"),
    ("controller.client", "from agent.runner import Runner", "agent.runner.Runner"),
    ("controller.client", "import agent.wired", "agent.wired"),
    ("controller.client", "import typer", "typer"),
    ("controller.client", "import tabulate", "tabulate"),
    ("controller.cli.run", "import tabulate", "tabulate"),
    ("controller.render", "import typer", "typer"),
    ("controller.client", "async def f():\n    from requests import get", "requests.get"),
    ("controller.client", "import importlib\nimportlib.import_module(name)", "<computed>"),
    *[
        (module, f"import {name}", name)
        for module in ("controller.cli", "controller.render", "agent.server", "inventory.ini")
        for name in sorted(NEVER)
    ],
    ("controller.cli.program", "from typer import rich", "typer.rich"),
    ("controller.cli.main", "import typer", "typer"),
    ("controller.cli.main", "from rich.console import Console", "rich.console.Console"),
]


@pytest.mark.parametrize(("module", "source", "imported"), BAD, ids=[f"{row[0]}-{row[2]}" for row in BAD])
def test_the_checker_sees(module: str, source: str, imported: str) -> None:
    found = violations(source, module, is_package=module == "agent.wire")
    assert len(found) == 1
    assert found[0].startswith(f"{module}:")
    assert found[0].endswith(f": may not import {imported}")


@pytest.mark.parametrize("call", ["open('x')", "with open('x') as f: pass", "eval('1')", "exec('1')"])
def test_the_wire_opens_nothing(call: str) -> None:
    assert len(violations(call, "agent.wire.link")) == 1
    assert violations(call, "agent.server") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("inventory.parse", "import os, socket\nfrom inventory import nodeset\nfrom . import nodeset"),
        (
            "agent.wire.link",
            "import hashlib\nfrom agent.wire import messages\nfrom . import codec\nfrom .errors import E",
        ),
        ("agent.server", "import socket\nfrom agent import wire, runner\nfrom .wire.link import Link"),
        (
            "controller.client",
            "import agent.wire.link\nimport inventory\nfrom .results import R",
        ),
        ("agent.tree.sender", "import os\nfrom agent.tree.paths import Folder\nfrom agent.wire import messages"),
        ("controller.client", "from agent import wire"),
        ("controller.transfer", "from agent.tree.sender import Sender"),
        ("agent.wire.link", "from . import codec"),
        ("controller.cli.program", "import typer\nfrom typer.core import TyperCommand"),
        ("controller.cli.run", "from controller import render"),
        ("controller.render", "import tabulate"),
        ("controller.output.render_table", "def f():\n    from tabulate import tabulate"),
        ("controller.client", "import importlib\nimportlib.import_module('json')"),
    ],
)
def test_the_checker_lets_pass(module: str, source: str) -> None:
    assert violations(source, module) == []
