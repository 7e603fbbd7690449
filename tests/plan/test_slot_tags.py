"""The slots of a column by number, and the keys of those that are live."""

from __future__ import annotations

from dataclasses import replace

from phiproxy.crypto.blind_tags import ZERO_TAG, make_tag
from phiproxy.crypto.key_derivation import keyed
from phiproxy.plan.slot_tags import all_slots, slot_function
from phiproxy.policy.protection import Slot
from tests.clinic_model import PATIENTS

SSN = PATIENTS.columns["ssn"]
LOWER, SAME = Slot(1, "lower(@)", 3, "active"), Slot(4, SSN.slots[0].expression, 2, "active")


def test_a_number_without_a_live_slot_takes_no_key() -> None:
    column = replace(SSN, slots=(SAME, LOWER, replace(SSN.slots[0], state="dropped")))
    assert all_slots(column) == [(None, 0), (LOWER, 0), (None, 1), (None, 1), (SAME, 1)]
    assert all_slots(replace(SSN, slots=())) == []


def test_a_slot_is_tagged_under_its_own_key() -> None:
    macs = [keyed(bytes([n]) * 32) for n in range(2)]
    assert slot_function(SSN, None, 0)(b"Ada", macs) == ZERO_TAG
    assert slot_function(SSN, LOWER, 0)(b"Ada", macs) == make_tag(3)(b"ada", macs)
    assert slot_function(SSN, SAME, 1)(b"Ada", macs) == make_tag(2, 1)(b"Ada", macs)
