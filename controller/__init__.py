"""The controller's side of fleet. `Fleet` is the Python API; the command line is `controller.cli`."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would be imported for every command, and takes as long as the rest of the start

if TYPE_CHECKING:
    from controller.api import Fleet
    from controller.results import Result, Status
    from controller.script import Script

__all__ = ["Fleet", "Result", "Script", "Status"]


def __getattr__(name: str) -> object:
    # On demand: the command line imports this package for every command, and most need no TLS.
    if name == "Fleet":
        from controller.api import Fleet

        return Fleet
    if name == "Script":
        from controller.script import Script

        return Script
    if name in ("Result", "Status"):
        from controller import results

        return getattr(results, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
