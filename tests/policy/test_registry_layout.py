"""The registry's layout: plain values, equal when the registry says the same, so that the poll can compare two readings."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.policy.protection import Slot
from phiproxy.policy.registry_layout import Layout, RegisteredIdentity, WantedIdentity


def layout(state: str = "active") -> Layout:
    slot = Slot(0, "@", 1, "active" if state == "active" else "building")
    identity = RegisteredIdentity(1, "c:public.patients.ssn", "t:public.patients", "text", (slot,))
    return Layout("clinic", 1, {1: identity}, {("public", "patients", "ssn"): 1})


def test_two_readings_of_the_same_registry_are_equal() -> None:
    assert layout() == layout()


def test_a_slot_that_changed_its_state_makes_another_layout() -> None:
    assert layout() != layout("building")


def test_nothing_can_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        layout().epoch = 2  # type: ignore[misc]
    wanted = WantedIdentity("d:mrn", "d:mrn", "varchar(12)", ("@",), (("public", "patients", "mrn"),))
    with pytest.raises(dataclasses.FrozenInstanceError):
        wanted.scope = "t:x"  # type: ignore[misc]
