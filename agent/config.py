"""The agent's settings: what `agent.toml` says, checked, with a default for everything.

Reads text and gives a frozen `Config`; `load` alone touches a file. Numbers that belong to the protocol (deadlines,
lengths) are no settings. A key that is not known is an error, because a misspelt restriction restricts nothing.
"""

from __future__ import annotations

import enum
import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from agent.errors import AgentError
from agent.trusted import UNWRITABLE, Folder
from agent.wire.handshake import CONTROLLER_NAME
from agent.wire.record import record

__all__ = [
    "DEFAULT_PORT",
    "FILE_NAME",
    "Config",
    "ConfigError",
    "Controller",
    "Listen",
    "Network",
    "Permission",
    "load",
    "loads",
    "parse_listen",
    "template",
]

DEFAULT_PORT = 7422
FILE_NAME = "agent.toml"

_MAX_BYTES = 1024 * 1024
_MAX_COUNT = 1_000_000  # of anything that is counted; far past what descriptors allow

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Permission(enum.StrEnum):
    """What a controller may ask for. A ping needs none. On an agent that runs as root, `run` is root."""

    RUN = "run"
    PUSH = "push"
    PULL = "pull"


@record
class Listen:
    """An address to listen on: an IP address, and a port of 0..65535, where 0 is any free one."""

    host: str = "0.0.0.0"
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@record
class Controller:
    """What one controller may do, and from where: no `sources` means from anywhere.

    `push` and `pull` are the directories in which it may do that, None for all that the agent's user can reach.
    Relative paths start at `home`, None for the home of the agent's user.
    """

    permissions: frozenset[Permission] = frozenset(Permission)
    sources: tuple[Network, ...] = ()
    push: tuple[str, ...] | None = None
    pull: tuple[str, ...] | None = None
    home: str | None = None

    def accepts(self, address: str) -> bool:
        """Whether a connection from this IP address may be this controller's."""
        if not self.sources:
            return True
        # The kernel shows an IPv4 peer of an IPv6 socket as ::ffff:a.b.c.d, and a link-local one with its scope.
        ip = ipaddress.ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return any(ip in network for network in self.sources)


@record
class Config:
    """All settings. The counts are of connections."""

    listen: Listen = Listen()
    shell: str = "/bin/sh"
    max_sessions: int = 4096
    max_unauthenticated: int = 100
    max_unauthenticated_per_source: int = 16
    penalty_exempt: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    controllers: Mapping[str, Controller] = field(default_factory=dict)

    def controller(self, name: str) -> Controller:
        """Return what the controller `name` may do: everything, unless it has a section of its own."""
        return self.controllers.get(name, Controller())


class ConfigError(AgentError):
    """A setting that cannot be used. `path` and `line` say where, `reason` why; the line is None if it is not known."""

    def __init__(self, path: str, line: int | None, reason: str) -> None:
        super().__init__(path if line is None else f"{path}:{line}", reason)
        self.path = path
        self.line = line
        self.reason = reason


def load(directory: Folder) -> Config:
    """Read the agent's settings; without a file all are defaults. Raises ConfigError or TrustError."""
    if FILE_NAME not in directory.names():
        return Config()
    # It holds no secret, but who may write it decides who may run what.
    text = directory.read(FILE_NAME, limit=_MAX_BYTES, forbidden=UNWRITABLE)
    return loads(text, path=f"{directory.path}/{FILE_NAME}")


def loads(text: str, *, path: str = FILE_NAME) -> Config:
    """Read settings from TOML. `path` is for messages. Raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, line = _toml_error(str(error), text)
        raise ConfigError(path, line, reason) from None
    except RecursionError:
        raise ConfigError(path, None, "nested too deep") from None
    values = _section(document, _SETTINGS, (), text, path)
    return Config(**values)


def parse_listen(text: str) -> Listen:
    """Read ``ADDRESS:PORT``, an IPv6 address in brackets. Raises ValueError with the reason."""
    match = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^\[\]:]*)):([0-9]+)", text)
    if match is None:
        raise ValueError(f'{text!r} is not ADDRESS:PORT, such as "0.0.0.0:{DEFAULT_PORT}" or "[::]:{DEFAULT_PORT}"')
    six, four, digits = match.groups()
    try:
        # Numbers alone: an agent that looked names up would not start when the resolver is down.
        host = ipaddress.IPv4Address(four) if six is None else ipaddress.IPv6Address(six)
    except ValueError:
        raise ValueError(f"{(four if six is None else six)!r} is not an IP address") from None
    if len(digits) > 5 or int(digits) > 65535:
        raise ValueError(f"port {digits[:20]} is not in 0..65535")
    return Listen(str(host), int(digits))


def template(listen: Listen) -> str:
    """Return the text of a new `agent.toml`: it explains itself and sets nothing but the address."""
    return f"""\
# The settings of fleet-agent. What is commented out is the default. Check with: fleet-agent check

# Address and port to listen on: "0.0.0.0:{DEFAULT_PORT}" is all of IPv4, "[::]:{DEFAULT_PORT}" also IPv6.
listen = "{listen}"

# What runs commands, as SHELL -c COMMAND.
# shell = "/bin/sh"

# Connections at once: logged in; not yet logged in; not yet logged in from one address.
# max_sessions = 4096
# max_unauthenticated = 100
# max_unauthenticated_per_source = 16

# Networks that are never shut out for a while after failed logins.
# penalty_exempt = ["127.0.0.0/8", "::1"]

# A controller may do everything, from everywhere, unless a section says less. Who may run commands on an agent that
# runs as root is root there; leaving out "run" is what takes that away.
# [controllers.ops]
# permissions = ["run", "push", "pull"]
# from = ["10.0.0.0/8", "2001:db8::/32"]
# The directories that it may push to and pull from (without these: wherever the agent's user may), and the one that
# relative paths start from (without it: the home of the agent's user). They hold back only who may not also "run".
# push = ["/etc/nginx"]
# pull = ["/var/log"]
# home = "/srv"
"""


# Checking ----------------------------------------------------------------------------------------------------------


def _section(
    values: Mapping[str, object], settings: Mapping[str, _Setting], table: tuple[str, ...], text: str, path: str
) -> dict[str, Any]:
    """Return keyword arguments made from one table; `table` is its name, for finding the line of a mistake."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if key == "controllers" and not table:
            result[key] = _controllers(value, text, path)
            continue
        if key not in settings:
            known = [*settings, *(() if table else ("controllers",))]
            raise ConfigError(path, _line_of(key, table, text), _unknown(key, known))
        argument, read = settings[key]
        try:
            result[argument] = read(value)
        except ValueError as error:
            raise ConfigError(path, _line_of(key, table, text), f"{key}: {error}") from None
    return result


def _controllers(value: object, text: str, path: str) -> dict[str, Controller]:
    if not isinstance(value, dict):
        raise ConfigError(path, _line_of("controllers", (), text), "controllers: is not a table")
    result = {}
    for name, section in value.items():
        if not CONTROLLER_NAME.fullmatch(name):
            raise ConfigError(path, _line_of(name, ("controllers",), text), f"{name!r} is not a controller's name")
        if not isinstance(section, dict):
            line = _line_of(name, ("controllers",), text)
            raise ConfigError(path, line, f"controllers.{name}: is not a table")
        arguments = _section(section, _CONTROLLER_SETTINGS, ("controllers", name), text, path)
        result[name] = Controller(**arguments)
    return result


def _unknown(key: str, known: list[str]) -> str:
    reason = f"unknown key {_quote(key)}"
    import difflib  # for this one sentence: the agent need not carry it all its life

    if close := difflib.get_close_matches(key, known, n=1):
        return f"{reason}: did you mean {_quote(close[0])}?"
    return f"{reason}: expected one of {', '.join(known)}"


def _quote(key: str) -> str:
    """Quote a key as TOML would, with what cannot be printed escaped: it goes to a terminal."""
    return '"' + repr(key)[1:-1] + '"'


def _listen(value: object) -> Listen:
    if not isinstance(value, str):
        raise ValueError("is not a string")
    return parse_listen(value)


def _absolute(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is not a string")
    if not value.startswith("/") or "\0" in value:
        raise ValueError(f"{value!r} is not an absolute path")
    return value


def _directories(value: object) -> tuple[str, ...]:
    if not (paths := tuple(_absolute(path) for path in _strings(value))):
        # None of these means everywhere; whoever writes an empty list means nowhere.
        raise ValueError("is empty: to forbid it, leave it out of permissions")
    return paths


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("is not an integer")
    if not 1 <= value <= _MAX_COUNT:
        # Never "0 means no limit": that reading of a limit has cost others dearly.
        raise ValueError(f"is not in 1..{_MAX_COUNT}")
    return value


def _strings(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("is not a list of strings")
    return value


def _networks(value: object) -> tuple[Network, ...]:
    networks = []
    for item in _strings(value):
        try:
            networks.append(ipaddress.ip_network(item))
        except ValueError as error:
            raise ValueError(f"{item!r} is not a network: {_network_fault(item, error)}") from None
    return tuple(networks)


def _network_fault(item: str, error: ValueError) -> str:
    if str(error).endswith("has host bits set"):
        return f"did you mean {str(ipaddress.ip_network(item, strict=False))!r}?"
    # A name would be looked up, and a rule that needs the resolver stops restricting when the resolver fails.
    return 'expected numbers, such as "10.0.0.0/8"'


def _sources(value: object) -> tuple[Network, ...]:
    if not (networks := _networks(value)):
        # In `sources` none means any; whoever writes an empty list means nobody.
        raise ValueError("is empty: to shut a controller out, remove its file")
    return networks


def _permissions(value: object) -> frozenset[Permission]:
    known = [permission.value for permission in Permission]
    for item in _strings(value):
        if item not in known:
            raise ValueError(f"{item!r} is not one of {', '.join(known)}")
    return frozenset(Permission(item) for item in _strings(value))


_Setting = tuple[str, Callable[[object], object]]

# Key in the file: the argument it becomes, and its reader (ValueError says what is wrong).
_SETTINGS: dict[str, _Setting] = {
    "listen": ("listen", _listen),
    "shell": ("shell", _absolute),
    "max_sessions": ("max_sessions", _count),
    "max_unauthenticated": ("max_unauthenticated", _count),
    "max_unauthenticated_per_source": ("max_unauthenticated_per_source", _count),
    "penalty_exempt": ("penalty_exempt", _networks),
}
_CONTROLLER_SETTINGS: dict[str, _Setting] = {
    "permissions": ("permissions", _permissions),
    "from": ("sources", _sources),
    "push": ("push", _directories),
    "pull": ("pull", _directories),
    "home": ("home", _absolute),
}


# Lines: tomllib keeps none for what it has read, so look again --------------------------------------------------------


def _toml_error(message: str, text: str) -> tuple[str, int]:
    """Split tomllib's message into the reason, in our style, and the line."""
    reason, _, where = message.partition(" (at ")
    match = re.match(r"line ([0-9]+)", where)
    line = int(match[1]) if match else text.count("\n") + 1  # else "end of document"
    return reason[:1].lower() + reason[1:], line


def _line_of(key: str, table: tuple[str, ...], text: str) -> int | None:
    """Return the line that sets `key` in the table `table`, or opens it as a table; None for unusual layouts."""
    wanted = (*table, key)
    current: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            current = _dotted(stripped.strip("[").partition("]")[0])
            if current[: len(wanted)] == wanted:
                return number
        elif "=" in stripped and (*current, *_dotted(stripped.partition("=")[0]))[: len(wanted)] == wanted:
            return number
    return None


def _dotted(text: str) -> tuple[str, ...]:
    """Split a dotted key. Good enough for finding a line: a quoted key with a dot in it is not found."""
    return tuple(part.strip().strip("\"'") for part in text.split("."))
