"""What holds when no option says otherwise: FLEET_* variables first, then the config file, then the defaults.

The file is ``$XDG_CONFIG_HOME/fleet/config.toml`` (``~/.config/fleet/config.toml``), or what FLEET_CONFIG names. A key
that is not known is an error that names its line: a misspelt `conect_timeout` must not be ignored in silence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace

from agent.wire.record import record
from controller.errors import FleetError

__all__ = ["DEFAULT_MAX_OUTPUT", "Settings", "config_path", "load_settings", "number", "read_size"]

DEFAULT_MAX_OUTPUT = 16 * 1024 * 1024  # bytes of each host and stream

_LARGEST_FANOUT = 100_000
_SIZE = r"(-?[0-9]{1,1000})([KMGT]?)(?:i?B)?"
_LONGEST = 365 * 86400.0  # seconds; longer is a slip of the keyboard


@record
class Settings:
    """The settings of every command. Times are in seconds; None means no limit, or a default made elsewhere."""

    inventory: tuple[str, ...] = ()
    fanout: int = 64
    connect_timeout: float = 10.0
    timeout: float | None = None
    port: int = 7422
    key: str | None = None
    registry: str | None = None
    color: str = "auto"


def number(value: int, *, low: int, high: int, unit: str) -> None:
    """Check a number that a user gave. Raises ValueError that names the number and the range."""
    if not low <= value <= high:
        raise ValueError(f"{value} is not in {low}..{high} {unit}".rstrip())


def _whole(value: object) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a whole number") from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a whole number")
    return value


def read_size(value: object, *, low: int, high: int) -> int:
    """Read a number of bytes: 500, 64K, 2GiB. Raises ValueError."""
    match = re.fullmatch(_SIZE, str(value), re.IGNORECASE)
    if match is None:
        raise ValueError(f"{value!r} is not a number of bytes, such as 500, 64K or 2G")
    size: int = int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")
    number(size, low=low, high=high, unit="bytes")
    return size


def read_fanout(value: object) -> int:
    """Check how many hosts to work on at once. Raises ValueError."""
    count = _whole(value)
    number(count, low=1, high=_LARGEST_FANOUT, unit="hosts")
    return count


def read_port(value: object) -> int:
    """Check a TCP port. Raises ValueError."""
    port = _whole(value)
    number(port, low=1, high=65535, unit="")
    return port


def read_seconds(value: object) -> float:
    """Check a time in seconds. Raises ValueError."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a number of seconds") from None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number of seconds")
    if not 0 < value <= _LONGEST:
        shown = value if isinstance(value, int) else f"{value:g}"  # not every int fits into a float
        raise ValueError(f"{shown} is not more than 0 and at most {_LONGEST:.0f} seconds")
    return float(value)


def read_ttl(value: object) -> float:
    """Check how old something cached may be, in seconds; 0 is never. Raises ValueError."""
    return 0.0 if value == 0 else read_seconds(value)


def read_color(value: object) -> str:
    """Check when to use colour. Raises ValueError."""
    if value not in ("auto", "always", "never"):
        raise ValueError(f"{value!r} is not one of auto, always, never")
    return str(value)


def _path(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{value!r} is not a path")
    return os.path.expanduser(value)


def _paths(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(_path(item) for item in items)


_READERS: dict[str, Callable[[object], object]] = {
    "inventory": _paths,
    "fanout": read_fanout,
    "connect_timeout": read_seconds,
    "timeout": read_seconds,
    "port": read_port,
    "key": _path,
    "registry": _path,
    "color": read_color,
}
_NUMBERS = ("fanout", "connect_timeout", "timeout", "port")
assert set(_READERS) == {field.name for field in fields(Settings)}


def config_path(environ: Mapping[str, str]) -> str:
    """Return where the config file is."""
    if environ.get("FLEET_CONFIG"):
        return environ["FLEET_CONFIG"]
    base = environ.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):  # the XDG specification says to ignore a relative one
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(base, "fleet", "config.toml")


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the config file and the environment. Raises FleetError."""
    values = _from_file(config_path(environ), required=bool(environ.get("FLEET_CONFIG")))
    for name, read in _READERS.items():
        variable = f"FLEET_{name.upper()}"
        text = environ.get(variable)
        if text:
            try:
                # A list of paths is written as PATH is.
                values[name] = read(text.split(":") if name == "inventory" else text)
            except ValueError as error:
                raise FleetError(variable, str(error)) from None
    return replace(Settings(), **values)  # type: ignore[arg-type]  # each reader returns its field's type


def _from_file(path: str, *, required: bool) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8")
    except FileNotFoundError:
        if required:
            raise FleetError(path, "there is no such file", "FLEET_CONFIG names it") from None
        return {}
    except OSError as error:
        raise FleetError(path, (error.strerror or str(error)).lower()) from None
    except UnicodeDecodeError as error:
        raise FleetError(path, f"not UTF-8 at byte {error.start}") from None
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FleetError(path, str(error)[:1].lower() + str(error)[1:]) from None
    return {name: _read_key(path, text, name, value) for name, value in document.items()}


def _read_key(path: str, text: str, name: str, value: object) -> object:
    where = f"{path}:{_line_of(name, text)}"
    if name not in _READERS:
        import difflib  # costs start-up time, and is wanted only for this one sentence

        close = difflib.get_close_matches(name, _READERS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(_READERS)}"
        raise FleetError(where, f"unknown key {name!r}", hint)
    if isinstance(value, str) and name in _NUMBERS:  # TOML has numbers; the environment has text alone
        raise FleetError(where, f"{name}: {value!r} is a string, not a number")
    try:
        return _READERS[name](value)
    except ValueError as error:
        raise FleetError(where, f"{name}: {error}") from None


def _line_of(name: str, text: str) -> int:
    """Return the line where a key or table of the top level stands: tomllib keeps no positions."""
    pattern = re.compile(rf"""^\s*\[*\s*["']?{re.escape(name)}["']?\s*[=.\]]""", re.MULTILINE)
    match = pattern.search(text)
    return text.count("\n", 0, match.end()) + 1 if match else 1
