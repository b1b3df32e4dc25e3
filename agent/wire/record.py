"""`record`: a frozen dataclass with slots that costs nothing before it is used.

`@dataclass(frozen=True, slots=True)` writes and compiles six functions for each class, 0.4 ms altogether; the sixty of
them that a command line needs before it can begin were a sixth of a whole `fleet run true`, and most are never used in
it. Here five of the six are shared, and `__init__` is compiled when the first object is made. What dataclasses knows of
the fields is asked for when somebody wants it. In everything else a record is a dataclass: `fields`, `replace`, `field`
and `__post_init__` work, and type checkers take it for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, field, fields, make_dataclass
from typing import Any, TypeVar, dataclass_transform

__all__ = ["record"]

_Class = TypeVar("_Class", bound=type)
_OF_INSTANCES = ("__dict__", "__weakref__")  # what a class without slots has for each object


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: _Class) -> _Class:
    """Make a class with annotated fields a record: frozen, with slots, equal and hashed by its fields."""
    body = {name: value for name, value in cls.__dict__.items() if name not in _OF_INSTANCES}
    annotations: Mapping[str, Any] = body.get("__annotations__", {})
    defaults = {name: body.pop(name) for name in annotations if name in body}
    for name, function in _SHARED.items():
        if body.get(name) is None:
            body[name] = function
    names = tuple(annotations)

    def init(self: Any, *arguments: object, **options: object) -> None:
        made.__init__ = _compile_init(made)
        made.__init__(self, *arguments, **options)

    body |= {
        "__init__": init,
        "__qualname__": cls.__qualname__,
        "__slots__": names,
        "__match_args__": names,
        "__dataclass_fields__": _Fields(annotations, defaults),
    }
    made: Any = type(cls)(cls.__name__, cls.__bases__, body)
    return made  # type: ignore[no-any-return]


class _Fields:
    """The fields as dataclasses has them, made by it when they are asked for first."""

    def __init__(self, annotations: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self._annotations = annotations
        self._defaults = defaults
        self._made: dict[str, Field[Any]] | None = None

    def __get__(self, instance: object, owner: type) -> dict[str, Field[Any]]:
        if self._made is None:
            specs = [
                (name, annotation, self._defaults.get(name, field())) for name, annotation in self._annotations.items()
            ]
            model: Any = make_dataclass("_", specs, init=False, repr=False, eq=False, namespace={"__doc__": "Fields."})
            self._made = model.__dataclass_fields__
        return self._made


def _compile_init(cls: Any) -> Any:
    parameters, lines = [], []
    # The names are those of the class's own fields; values go in as variables and are never part of the text.
    names: dict[str, object] = {"_set": object.__setattr__, "_missing": MISSING}
    for spec in fields(cls):
        name, value = spec.name, spec.name
        parameter = name
        if spec.default_factory is not MISSING:
            names[f"_make_{name}"] = spec.default_factory
            parameter = f"{name}=_missing"
            value = f"_make_{name}() if {name} is _missing else {name}"
        elif spec.default is not MISSING:
            names[f"_default_{name}"] = spec.default
            parameter = f"{name}=_default_{name}"
        parameters.append(parameter)
        lines.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    text = f"def __init__(self, {', '.join(parameters)}):\n" + ("\n".join(lines) or " pass")
    names["__name__"] = cls.__module__
    exec(text, names)
    init: Any = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _values(self: Any) -> tuple[object, ...]:
    return tuple([getattr(self, name) for name in self.__match_args__])


def _eq(self: object, other: object) -> object:
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: object) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    shown = ", ".join([f"{spec.name}={getattr(self, spec.name)!r}" for spec in fields(self) if spec.repr])
    return f"{type(self).__qualname__}({shown})"


def _setattr(self: object, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: object) -> tuple[object, ...]:
    return _values(self)


def _setstate(self: Any, state: tuple[object, ...]) -> None:
    for name, value in zip(self.__match_args__, state, strict=True):
        object.__setattr__(self, name, value)


_SHARED = {
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
}
