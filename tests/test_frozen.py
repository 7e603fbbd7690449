"""Frozen dataclasses without a check at run time."""

from dataclasses import FrozenInstanceError, field, replace

import pytest

from phiproxy.frozen import dataclass
from phiproxy.policy.protection import Slot


@dataclass(frozen=True, slots=True)
class Point:
    """A value with equality, as all of them have it."""

    x: int
    y: int = 0
    note: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Occurrence:
    """An object that is itself only."""

    x: int


@dataclass(frozen=True)
class Named:
    """A value with a hash of its own."""

    x: int
    name: str

    def __hash__(self) -> int:
        return 7


def test_it_is_equal_and_hashed_as_one_that_dataclasses_freezes() -> None:
    assert Point(1) == Point(1, 0, "noted")
    assert hash(Point(1)) == hash(replace(Point(2), x=1, note="noted"))
    assert Point(1) != Point(2)
    assert Occurrence(1) != Occurrence(1)
    assert len({Occurrence(1), Occurrence(1)}) == 2
    assert hash(Named(1, "a")) == 7


def test_it_has_no_fields_but_its_own() -> None:
    with pytest.raises(AttributeError):
        Point(1).z = 1  # type: ignore[attr-defined]


def test_what_is_not_made_per_statement_is_frozen_at_run_time_too() -> None:
    slot = Slot(0, "@", 1, "active")
    with pytest.raises(FrozenInstanceError):
        slot.number = 1  # type: ignore[misc]
