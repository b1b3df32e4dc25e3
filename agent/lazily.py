"""Modules of the standard library that are loaded when something of them is used, and not when they are imported.

`dataclasses` imports `inspect`, which brings the parser and the tokenizer of Python with it: a tenth of the time that
`fleet run true` takes, and 1.5 MB in an agent that has nothing to do. Up to Python 3.12 no dataclass of ours ever uses
it; later ones do, and load it then.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

__all__ = ["put_off"]


def put_off(name: str) -> None:
    """Let the first import of the module `name` be a lazy one (importlib.util.LazyLoader). A loaded one stays.

    It changes what the whole process sees: for programs, before they have threads, and never for a library.
    """
    if name not in sys.modules:
        sys.meta_path.insert(0, _LazyFinder(name))


class _LazyFinder:
    """Finds one module once."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Return the module's own spec with a loader that waits, None for any other module."""
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
