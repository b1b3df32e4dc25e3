"""Commands with the host's own values in them: `systemctl restart {service} # on {host}`.

Not a template language: a name in braces and nothing else. Its rule: a value is one word of the shell, quoted,
unless the command says `{name!r}`; an inventory that others can write to must not be a way to run commands.
"""

import json
import re
import shlex
from functools import lru_cache

from inventory.errors import TemplateError, nearest
from inventory.model import Host
from inventory.names import Value

_PIECE = r"\{\{|\}\}|\{([^{}!]*)(![^{}]*)?\}|[{}]"
_BUILT_IN = ("host", "address", "group_names")


def fill(template: str, host: Host, *, quote: bool = True) -> str:
    """Return `template` with the values of `host` in it.

    `{host}`, `{address}`, `{group_names}` (joined by commas) and the host's variables are replaced, each quoted
    for the shell unless `quote` is false or it is written `{name!r}`. `{{` and `}}` stand for braces. A value that
    is no string is written as JSON.

    Raises:
        TemplateError: a variable is not defined for this host, or a brace stands alone.
    """

    return "".join(
        [piece if isinstance(piece, str) else _filled(piece, host, quote=quote) for piece in _pieces(template)]
    )


@lru_cache(maxsize=8)
def _pieces(template: str) -> list[str | re.Match[str]]:
    """Return the text between what is to be filled in, and that. Kept, since there is one template for all hosts."""
    pieces: list[str | re.Match[str]] = []
    end = 0
    for found in re.finditer(_PIECE, template):
        pieces += (template[end : found.start()], found)
        end = found.end()
    return [*pieces, template[end:]]


def _filled(found: re.Match[str], host: Host, *, quote: bool) -> str:
    piece = found[0]
    if piece in ("{{", "}}"):
        return piece[0]
    if found[1] is None:
        raise TemplateError(host.name, piece, "a brace that stands alone", hint=_LITERAL)
    if found[2] not in (None, "!r"):
        raise TemplateError(host.name, piece, "expected {name} or {name!r}", hint=_LITERAL)
    text = _value(found[1], host)
    return shlex.quote(text) if quote and found[2] is None else text


_LITERAL = "a brace that is meant is written twice: {{ }}"


def _value(variable: str, host: Host) -> str:
    if variable == "host":
        return host.name
    if variable == "address":
        return host.address
    if variable == "group_names":
        return ",".join(host.groups)
    # null is no value: `rm -r /srv/{app}` must not become `rm -r /srv/`.
    value: Value = host.variables.get(variable)
    if value is None:
        hint = nearest(variable, [*_BUILT_IN, *host.variables]) or _LITERAL
        raise TemplateError(host.name, variable, "undefined variable", hint=hint)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if "\0" in text:
        raise TemplateError(host.name, variable, "a value with a NUL, which no command can hold")
    return text
