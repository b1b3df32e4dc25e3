"""What a host or a group may be called, and the checks on the variables that are ours.

Ansible takes nearly any word for a host name. Names are refused here that cannot be printed, that cannot be written
in a node set or a pattern again, or that would turn into something else where a host name is put: a path, an
option of ssh.
"""

import re
from collections.abc import Mapping
from typing import TypeAlias

from inventory.errors import InventoryError

# INI gives strings alone; JSON gives the types of JSON.
Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"

# RFC 1035 section 2.3.4 ends a name at 255 bytes, and so does a file name on every file system in use.
MAX_NAME_BYTES = 255
# Ten times the largest fleets known; a range that gives more is a slip of the finger.
MAX_HOSTS = 1_000_000

_INVISIBLE = "\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
_UNPRINTABLE = f"[{_INVISIBLE}]"
# Operators of patterns and node sets, "/" (a name is part of file names), "=" and ";" (a variable or a comment
# that was meant to be one), and white space.
_FORBIDDEN = re.compile(rf"[\s,!&^\[\]*?/=;{_INVISIBLE}]")
_NOT_ONE_WORD = rf"[\s{_INVISIBLE}]"
_PORT = "[0-9]{1,5}"
# "@" and "~" open a group and an expression in a pattern; "-" would open an option of ssh.
_FORBIDDEN_FIRST = "@~-"


def check_host_name(name: str) -> None:
    """Refuse a name that no host can have.

    Raises:
        InventoryError: without a place; the caller knows it.
    """
    if not name:
        raise InventoryError("expected a host name, found nothing")
    found = _FORBIDDEN.search(name)
    if found is not None:
        char = found[0]
        hint = "variables of a group belong in a [GROUP:vars] section" if char == "=" else None
        raise InventoryError(f"a host name cannot hold {_character(char)}", text=name, hint=hint)
    if name[0] in _FORBIDDEN_FIRST or name in (".", ".."):
        raise InventoryError(f"a host name cannot start with {name[0]!r}", text=name)
    check_length(name, "a host name")


def check_group_name(name: str) -> None:
    """Refuse a name that no group can have.

    Raises:
        InventoryError: without a place; the caller knows it.
    """
    if not name:
        raise InventoryError("expected a group name, found nothing")
    found = None if name.isascii() and name.isprintable() else re.search(_UNPRINTABLE, name)
    if found is not None:
        raise InventoryError(f"a group name cannot hold {_character(found[0])}", text=name)
    check_length(name, "a group name")


def check_length(name: str, what: str) -> None:
    """Refuse a name of more bytes than `MAX_NAME_BYTES`."""
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > MAX_NAME_BYTES:
        raise InventoryError(f"{what} of {size} bytes is over the limit of {MAX_NAME_BYTES}", text=name)


def _character(char: str) -> str:
    if char.isprintable():
        return repr(char)
    return f"the character U+{ord(char):04X}"


# The variables that are ours; everything else in an inventory is passed through untouched.
OURS = frozenset({"fleet_host", "fleet_port", "fleet_pool"})
# Breaks ties between groups of one depth. Ansible takes it from an inventory alone, never from group_vars files.
PRIORITY = "ansible_group_priority"


def check_variables(variables: Mapping[str, Value]) -> None:
    """Check those of `variables` that are ours; the others are nobody's business here.

    Raises:
        InventoryError: without a place; `text` is the value.
    """
    for name in OURS.intersection(variables):
        check_variable(name, variables[name])


def check_variable(name: str, value: Value) -> None:
    """Check one variable of ours; raises as `check_variables`."""
    if name == "fleet_port":
        port_number(value)
    else:
        word(name, value)


def port_number(value: Value) -> int:
    """Return the port that `value` names: an integer, or a string of digits, from 1 to 65535."""
    number = None
    if isinstance(value, str):
        if re.fullmatch(_PORT, value):
            number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if number is None or not 1 <= number <= 65535:
        raise InventoryError("fleet_port must be a number from 1 to 65535", text=_text(value))
    return number


def priority(value: Value) -> int:
    """Return the number that the variable `PRIORITY` names.

    Raises:
        InventoryError: without a place.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch("[+-]?[0-9]{1,9}", value):
        return int(value)
    raise InventoryError(f"{PRIORITY} must be a number", text=_text(value))


def word(variable: str, value: Value) -> str:
    """Return `value` when it is one printable word of a name's length."""
    if not isinstance(value, str) or not value or re.search(_NOT_ONE_WORD, value):
        raise InventoryError(f"{variable} must be one word", text=_text(value))
    check_length(value, variable)
    return value


def _text(value: Value) -> str:
    return value if isinstance(value, str) else repr(value)
