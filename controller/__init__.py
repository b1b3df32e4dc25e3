"""The controller's side of fleet. `Fleet` is the Python API; the command line is `controller.cli`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.api import Fleet
    from controller.results import Result, Status

__all__ = ["Fleet", "Result", "Status"]


def __getattr__(name: str) -> object:
    # On demand: the command line imports this package for every command, and most need no TLS.
    if name == "Fleet":
        from controller.api import Fleet

        return Fleet
    if name in ("Result", "Status"):
        from controller import results

        return getattr(results, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
