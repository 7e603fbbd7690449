"""Many values become what the server gets in slices: the same as at once, and with the keys of now."""

from __future__ import annotations

import pytest

from phiproxy.crypto.keyring import DataKey
from phiproxy.errors import KeyNeeded, WriteKeyWant
from phiproxy.plan.ciphers import Ciphers
from phiproxy.plan.convert import MANY, SLICE, convert_steps
from phiproxy.sql.meaning import PLAIN, Store, Use
from tests.clinic_model import PATIENTS
from tests.plan.rings import full_ring

SSN = PATIENTS.columns["ssn"]
NAME = PATIENTS.columns["full_name"]


def _uses(rows: int) -> list[tuple[Use, bytes | None]]:
    found: list[tuple[Use, bytes | None]] = []
    for row in range(1, rows + 1):
        found += [(Store(SSN, row), b"ssn %d" % row), (PLAIN, b"%d" % row), (Store(NAME, row), None if row % 3 else b"name")]
    return found


def test_many_values_are_sealed_in_slices_each_row_under_a_record_of_its_own() -> None:
    ring = full_ring(10**6)
    ciphers, uses = Ciphers(ring), _uses(MANY)
    before = ring.balance(SSN.scope)[1]
    steps, turns = convert_steps(ciphers, uses), 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found = end.value
            break
        turns += 1
    assert turns >= len(uses) // SLICE
    opened = {SSN: ciphers.open(SSN), NAME: ciphers.open(NAME)}
    for (use, value), sealed in zip(uses, found, strict=True):
        assert (opened[use.column](sealed) if isinstance(use, Store) and value is not None else sealed) == value
    assert before - ring.balance(SSN.scope)[1] == MANY


def test_few_values_are_one_step() -> None:
    with pytest.raises(StopIteration):
        next(convert_steps(Ciphers(full_ring(10**6)), _uses(3)))


def test_a_key_that_is_given_up_on_the_way_is_asked_for_again() -> None:
    ring = full_ring(10**6)
    ciphers, uses = Ciphers(ring), _uses(2 * MANY)
    steps = convert_steps(ciphers, uses)
    while ring.balance(SSN.scope)[1] == 10**6:
        next(steps)  # up to the first records
    ring.put_lease(SSN.scope, DataKey(77, SSN.scope, "", 1, b"k" * 32, "active"), 10**6, 1e9)
    with pytest.raises(KeyNeeded) as needed:
        list(steps)
    assert needed.value.wants == {WriteKeyWant(SSN.scope, 2 * MANY)}
