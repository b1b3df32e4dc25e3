"""`group_vars` and `host_vars` beside an inventory, as far as they are JSON.

Ansible looks for NAME, then NAME.yml, NAME.yaml and NAME.json, and takes the first, a file or a directory of
files. YAML cannot be read with the standard library, so the rule: what is not read is said, once, with what to do.
"""

import os
import shlex
from collections.abc import Callable, Container, Iterator

from inventory.errors import InventoryError, location, printable
from inventory.files import decode, listed, read_bytes
from inventory.names import OURS, check_variable
from inventory.tree import Layer, Tree, VarsFiles

_YAML = (".yml", ".yaml")
_SUFFIXES = (*_YAML, ".json")


def read(directory: str, tree: Tree, *, source: str, warn: Callable[[str], None]) -> VarsFiles:
    """Return the variables that files in `directory` give the groups and hosts of `tree`.

    `source` is the inventory they lie beside, for the advice in a warning.

    Raises:
        InventoryError: a file cannot be read, or is no object of variables.
    """
    reader = _Reader()
    files = VarsFiles()
    # "all" and "ungrouped" are groups like others here.
    files.groups, _ = reader.read(os.path.join(directory, "group_vars"), tree.groups)
    files.hosts, strangers = reader.read(os.path.join(directory, "host_vars"), tree.hosts)
    for path in strangers:
        warn(f"{location(path, None)}: variables of a host that is not in the inventory")
    if reader.skipped:
        more = f" and {len(reader.skipped) - 1} more" if len(reader.skipped) > 1 else ""
        warn(
            f"{location(reader.skipped[0], None)}{more}: not read, not JSON; convert it, or let Ansible read it: "
            f"ansible-inventory -i {shlex.quote(printable(source))} --list | fleet run -i - ..."
        )
    return files


class _Reader:
    """Reads directories of variables; `skipped` are the files that may be YAML."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def read(self, directory: str, known: Container[str]) -> tuple[dict[str, list[Layer]], list[str]]:
        """Return the layers for each name of `known`, and the paths that belong to none."""
        if not os.path.isdir(directory):
            return {}, []
        entries, above = listed(directory)
        found: dict[str, list[Layer]] = {}
        strangers: list[str] = []
        for entry in entries:
            path = os.path.join(directory, entry)
            name = _owner(entry, known)
            if name is None:
                strangers.append(path)
            # Sorted, NAME comes before NAME.json, and hides it.
            elif entry == name or not os.path.exists(os.path.join(directory, name)):
                found.setdefault(name, []).extend(self.layers(path, above))
        return {name: layers for name, layers in found.items() if layers}, strangers

    def layers(self, path: str, above: tuple[str, ...]) -> Iterator[Layer]:
        if not os.path.isdir(path):
            yield from self.file(path)
            return
        entries, inside = listed(path, above)
        for entry in entries:
            inner = os.path.join(path, entry)
            suffix = os.path.splitext(entry)[1]
            # As in Ansible: below the first level a directory with a dot in its name, and a file with a suffix
            # that is none of the known ones, are something else.
            if not suffix or (suffix in _SUFFIXES and not os.path.isdir(inner)):
                yield from self.layers(inner, inside)

    def file(self, path: str) -> Iterator[Layer]:
        if path.endswith(_YAML):
            self.skipped.append(path)
            return
        text = decode(read_bytes(path, regular=True), path)
        start = text.lstrip()[:1]
        if start and not path.endswith(".json") and start not in "{[":
            self.skipped.append(path)
        elif start:
            yield _layer(path, text)


def _layer(path: str, text: str) -> Layer:
    from inventory.documents import Document, Member  # for few inventories

    document = Document(path, text)
    value = document.load()
    if not isinstance(value, dict):
        raise document.error("expected an object of variables")
    for variable in OURS.intersection(value):
        try:
            check_variable(variable, value[variable])
        except InventoryError as error:
            raise error.at(document.path, document.line_of((variable,))) from None
    return Member(value, document)


def _owner(entry: str, known: Container[str]) -> str | None:
    """Return the name that an entry belongs to: its own first, for a host may be called web.json."""
    if entry in known:
        return entry
    stem, suffix = os.path.splitext(entry)
    return stem if suffix in _SUFFIXES and stem in known else None
