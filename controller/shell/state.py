"""What lasts from one command to the next on a host: directory, umask, variables.

Each command is a shell of its own, so that ending it ends all it started and its exit code is exact. Its text is

    eval "$FLEET_SHELL"
    the command as it was typed

and the variable puts the state in place, then sets a trap that prints the new one when the shell leaves, whichever
way. The state travels in the environment and not in the text, because everybody on a host can read the text (ps(1)).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from agent.wire.record import record
from controller.shell.listing import read_listing

__all__ = ["FRESH", "MAX_STATE", "State", "StateError", "command_text", "environment", "read_state"]

# Bytes of all that is given back, as it is sent. One string of an environment may have 128 KiB (MAX_ARG_STRLEN,
# execve(2)), and a command needs room beside it in its message.
MAX_STATE = 120 * 1024

_VARIABLE = "FLEET_SHELL"
# What every command finds set. A command may unset them, and that lasts too.
_GIVEN = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER")
# The shells' own: constant, counting, or of one process. Assigning to some of them is an error.
_OWN = re.compile(
    r"FLEET_.*|BASH.*|COMP_WORDBREAKS|DIRSTACK|EPOCH(REALTIME|SECONDS)|E?UID|FUNCNAME|GROUPS|HISTCMD|HOSTNAME|HOSTTYPE"
    r"|LINENO|MACHTYPE|OPTERR|OPTIND|OSTYPE|PIPESTATUS|POSIXLY_CORRECT|PPID|PS[124]|PWD|S?RANDOM|SECONDS|SHELLOPTS|SHLVL"
    r"|_"
)
_DEFAULT_IFS = " \t\n"
_UMASK = re.compile(rb"[0-7]{3,4}")

# `set -x` off without a trace of it; `command`, so that what POSIX calls special cannot end the shell, nor a function
# of that name get in the way. bash has to be told not to list functions, and lists the last word of the command before
# as `_`. A subshell may set what it likes.
_TRAP = """\
{ set +eux; } 2>/dev/null
FLEET_STATE=$(
{ command set -o posix; } 2>/dev/null
{ command pwd && umask && command printf %s @. && export -p && command printf %s @. && : && set; } 2>/dev/null
)
(LC_ALL=C; command printf %s "@(${#FLEET_STATE}:${FLEET_STATE}@)" >&2)"""


class StateError(Exception):
    """A state that cannot be used. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


@record
class State:
    """`directory` None is home, `umask` None what the agent gives. A variable in `exported` may have no value.

    Bytes that are no UTF-8 are surrogates (PEP 383), as in `Run`.
    """

    directory: str | None = None
    umask: str | None = None
    exported: Mapping[str, str | None] = field(default_factory=dict)
    plain: Mapping[str, str] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether a shell has told it."""
        return self.umask is not None


FRESH = State()


def command_text(command: str) -> str:
    """Return the text of a shell that begins with the state in its environment and runs `command`."""
    # A line of its own: a shell reads a whole line before it does anything, and a syntax error in the command must not
    # come before the trap.
    return f'eval "${_VARIABLE}"\n{command}'


def environment(state: State, token: str) -> dict[str, str]:
    """Return what the environment of a command has to hold to begin with `state` and to tell the new one."""
    lines = [f"unset {_VARIABLE}"]
    if state.umask is not None:
        lines.append(f"umask {state.umask}")
    if state.directory is not None:
        # Never on in another directory: the command may be `rm -r *`.
        lines.append(f"cd -- {_quoted(state.directory)} 2>/dev/null || {{ command printf %s {token}! >&2; exit 1; }}")
    if state.known:
        lines += [f"unset {name}" for name in _GIVEN if state.exported.get(name) is None]
    # `cd` has set it to what the next `cd -` does not mean.
    before = state.exported.get("OLDPWD") or state.plain.get("OLDPWD")
    if before is not None:
        lines.append(f"OLDPWD={_quoted(before)}")
    lines += [f"{name}={_quoted(value)}" for name, value in state.plain.items() if name != "OLDPWD"]
    lines += [f"export {name}" for name, value in state.exported.items() if value is None]
    lines.append(f"trap {_quoted(_TRAP.replace('@', token))} 0")
    exported = {name: value for name, value in state.exported.items() if value is not None}
    return {**exported, _VARIABLE: "\n".join(lines)}


def read_state(body: bytes, token: str) -> State:
    """Return the state that a trailer tells. Raises StateError."""
    sections = body.split(token.encode() + b".")
    if len(sections) != 3:
        raise StateError("its shell told them in a way that cannot be read")
    directory, _, umask = sections[0].removesuffix(b"\n").rpartition(b"\n")
    if not directory.startswith(b"/") or b"\0" in directory or not _UMASK.fullmatch(umask):
        raise StateError("its shell told them in a way that cannot be read")
    exported = _wanted(read_listing(sections[1]))
    everything = _wanted(read_listing(sections[2] + b"\n"))  # $( ) took the last newline
    plain = {name: value for name, value in everything.items() if value is not None and name not in exported}
    if plain.get("IFS") == _DEFAULT_IFS:
        del plain["IFS"]
    state = State(_text(directory), umask.decode(), exported, plain)
    size = sum(_length(name) + _length(value) for name, value in environment(state, token).items())
    if size > MAX_STATE:
        raise StateError(f"they take {size} bytes, and at most {MAX_STATE} can be given back")
    return state


def _wanted(listing: Mapping[bytes, bytes | None]) -> dict[str, str | None]:
    texts = {_text(name): None if value is None else _text(value) for name, value in listing.items()}
    return {name: value for name, value in texts.items() if not _OWN.fullmatch(name)}


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
