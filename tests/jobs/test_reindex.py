"""Which slots a reindexing is about."""

from __future__ import annotations

import pytest

from phiproxy.jobs.reindex import waiting
from phiproxy.policy.protection import Slot
from phiproxy.policy.registry_layout import RegisteredIdentity


def identity(*slots: Slot) -> RegisteredIdentity:
    return RegisteredIdentity(1, "c:x", "t:x", "text", slots)


FIRST, SECOND = Slot(0, "@", 1, "active"), Slot(1, "@", 2, "building")


@pytest.mark.parametrize(
    ("slots", "numbers"),
    [
        ((FIRST,), []),
        ((FIRST, SECOND), [1]),
        ((FIRST, Slot(1, "@", 2, "ready")), [1]),
        ((Slot(0, "@", 1, "ready"), Slot(1, "@", 2, "active")), [1]),
        ((Slot(0, "@", 1, "dropped"), Slot(1, "@", 2, "active")), []),
        ((Slot(0, "@", 1, "building"),), [0]),
        ((FIRST, Slot(1, "lower(@)", 1, "building")), [1]),
        ((FIRST, SECOND, Slot(2, "lower(@)", 1, "building")), [1, 2]),
    ],
)
def test_slots_that_something_is_left_to_do_for(slots: tuple[Slot, ...], numbers: list[int]) -> None:
    assert [slot.number for slot in waiting(identity(*slots), None)] == numbers


def test_one_expression_only() -> None:
    slots = identity(FIRST, SECOND, Slot(2, "lower(@)", 1, "building"))
    assert [slot.number for slot in waiting(slots, "lower(@)")] == [2]
