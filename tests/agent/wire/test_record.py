"""A record is a frozen dataclass with slots in all that anybody can see."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
from dataclasses import FrozenInstanceError, dataclass, field, fields, is_dataclass, replace

import pytest

from agent.wire.record import record


@record
class Point:
    """A point."""

    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError(f"x is {self.x}")

    @property
    def double(self) -> int:
        return 2 * self.x


@dataclass(frozen=True, slots=True)
class Model:
    """The same, made by the standard library."""

    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    secret: str = field(default="", repr=False)


@record
class Nothing:
    """No fields at all."""


def test_it_is_made_as_a_dataclass_is() -> None:
    for arguments, options in [((1,), {}), ((1, 3), {}), ((), {"x": 1, "y": 4, "tags": ["a"]})]:
        ours, theirs = Point(*arguments, **options), Model(*arguments, **options)
        assert repr(ours).replace("Point", "Model") == repr(theirs)
        assert [getattr(ours, spec.name) for spec in fields(ours)] == [
            getattr(theirs, spec.name) for spec in fields(theirs)
        ]
    assert is_dataclass(Point)
    assert Point.__match_args__ == Model.__match_args__
    assert Point.__slots__ == Model.__slots__
    assert Point.__doc__ == "A point."
    assert Point(3).double == 6


def test_a_default_that_is_made_is_made_each_time() -> None:
    assert Point(1).tags is not Point(1).tags


@pytest.mark.parametrize(
    ("arguments", "options"), [((), {}), ((1, 2, [], "", 5), {}), ((1,), {"x": 2}), ((1,), {"z": 2})]
)
def test_wrong_arguments_are_type_errors(arguments: tuple[object, ...], options: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        Point(*arguments, **options)  # type: ignore[arg-type]


def test_it_checks_itself() -> None:
    with pytest.raises(ValueError, match=r"^x is -1$"):
        Point(-1)
    with pytest.raises(ValueError, match=r"^x is -2$"):
        replace(Point(1), x=-2)  # type: ignore[type-var]


def test_it_is_frozen() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError, match=r"^cannot assign to field 'x'$"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match=r"^cannot delete field 'x'$"):
        del point.x
    with pytest.raises(FrozenInstanceError):
        point.other = 2  # type: ignore[attr-defined]


def test_it_is_equal_and_hashed_by_its_fields() -> None:
    assert Point(1) == Point(1, 2) != Point(1, 3)
    assert Point(1) != Model(1)
    assert hash(Nothing()) == hash(Nothing()) and Nothing() == Nothing()
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        hash(Point(1))


def test_it_can_be_copied_and_pickled() -> None:
    point = Point(1, tags=["a"])
    assert copy.copy(point) == copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point


def test_a_method_of_its_own_stays() -> None:
    @record
    class Odd:
        x: int

        def __repr__(self) -> str:
            return "odd"

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    assert repr(Odd(1)) == "odd"
    assert Odd(1) == 5


def test_every_dataclass_of_ours_says_what_it_is() -> None:
    """One without a docstring costs 2 ms of each start: dataclasses makes one up, with `inspect.signature`."""
    packages = [importlib.import_module(name) for name in ("agent", "controller", "inventory")]
    names = [
        module.name
        for package in packages
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]
    made_up = [
        f"{name}.{member.__qualname__}"
        for name in names
        for member in vars(importlib.import_module(name)).values()
        if isinstance(member, type)
        and is_dataclass(member)
        and (member.__doc__ or "").startswith(f"{member.__name__}(")
    ]
    assert made_up == []
