"""JSON text: decoded strictly, and its places found again by line.

The decoder of the standard library forgets where a value stood. Remembering it for every variable of every host
would cost more than the reading, so the text is kept and searched when a place is asked for. Its rule: what is
not JSON by RFC 8259 (NaN, a lone surrogate) is refused, because others will have to read what we print.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from inventory.errors import InventoryError
from inventory.names import Value

_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = r"\\u[dD][89a-fA-F]"


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON text with its name in errors. `lines` is False when they are of no use, as for a script's output."""

    path: str
    text: str = field(repr=False)
    lines: bool = True

    def load(self) -> Value:
        """Return what the text says.

        Raises:
            InventoryError: it is not JSON, with the line.
        """
        try:
            value: Value = json.loads(self.text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            column = f" at column {error.colno}" if self.lines else f" at line {error.lineno}"
            raise InventoryError(
                f"not JSON ({error.msg.lower()}{column})", path=self.path, line=self._line(error.pos)
            ) from None
        except RecursionError:
            raise InventoryError("not an inventory (nested too deep)", path=self.path) from None
        except InventoryError as error:
            raise error.at(self.path) from None
        except ValueError:
            # Python refuses integers of over 4,300 digits.
            raise InventoryError("not JSON (a number of too many digits)", path=self.path) from None
        if re.search(_SURROGATE, self.text):
            self._refuse_surrogates(value)
        return value

    def error(self, reason: str, *pointer: str, text: str | None = None) -> InventoryError:
        """Return an error about the value that the keys of `pointer` lead to."""
        return InventoryError(reason, path=self.path, line=self.line_of(pointer), text=text)

    def line_of(self, pointer: tuple[str, ...]) -> int | None:
        """Return the line of the key that `pointer` ends at, or of its nearest parent that is found."""
        position = found = _SPACE.match(self.text).end()  # type: ignore[union-attr]
        for key in pointer:
            place = _find(self.text, position, key)
            if place is None:
                break
            found, position = place
        return self._line(found)

    def _line(self, position: int) -> int | None:
        return self.text.count("\n", 0, position) + 1 if self.lines else None

    def _refuse_surrogates(self, value: Value) -> None:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise InventoryError("not JSON (half of a surrogate pair)", path=self.path) from None


@dataclass(frozen=True, slots=True)
class Member:
    """A layer of variables: one object in a document."""

    variables: Mapping[str, Value]
    document: Document
    pointer: tuple[str, ...] = ()

    def place(self, variable: str) -> tuple[str, int | None]:
        """Return the path of the document and the line of the variable."""
        return self.document.path, self.document.line_of((*self.pointer, variable))


def _find(text: str, position: int, key: str) -> tuple[int, int] | None:
    """Return where `key` of the object at `position` stands, and where its value begins; the last one wins."""
    if text[position : position + 1] != "{":
        return None
    found = None
    decoder = json.JSONDecoder()
    position = _after_space(text, position + 1)
    while text[position] == '"':
        start = position
        name, position = decoder.raw_decode(text, position)
        position = _after_space(text, position)
        value = _after_space(text, position + 1)
        if name == key:
            found = (start, value)
        _, position = decoder.raw_decode(text, value)
        position = _after_space(text, position)
        if text[position] == ",":
            position = _after_space(text, position + 1)
    return found


def _after_space(text: str, position: int) -> int:
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]


def _refuse_constant(name: str) -> NoReturn:
    raise InventoryError(f"not JSON ({name} is no number there)")
