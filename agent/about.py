"""What an agent says of itself to a controller that has logged in."""

from __future__ import annotations

import os
import sys

from agent import __version__

__all__ = ["about", "pretty_name"]


def about() -> dict[str, str]:
    """Return what a controller that has logged in is told of this agent."""
    system = os.uname()
    try:
        name = pretty_name()
    except (OSError, UnicodeDecodeError, StopIteration):
        name = f"{system.sysname} {system.release}"
    version = ".".join(map(str, sys.version_info[:3]))
    return {"agent": __version__, "host": system.nodename[:255], "python": version, "os": name[:100]}


def pretty_name(path: str = "/etc/os-release") -> str:
    """Return what the system calls itself (os-release(5)). `platform` would say it too, and stay in memory for ever."""
    with open(path, encoding="utf-8") as file:
        line = next(line for line in file if line.startswith("PRETTY_NAME="))
    return line.partition("=")[2].strip().strip("\"'")
