"""The vocabulary: uses that are equal can be shared, and a statement without any is plain."""

from __future__ import annotations

from phiproxy.sql.meaning import NULLNESS, PLAIN, Meaning, Nullness, Plain, Search, Store
from tests.clinic_model import ACTIVE, PATIENTS

SSN = PATIENTS.columns["ssn"]


def test_uses_compare_by_what_they_do() -> None:
    assert Search(SSN, ACTIVE[0], SSN.type) == Search(SSN, ACTIVE[0], SSN.type)
    assert Store(SSN, 1) != Store(SSN, 2)
    assert Plain() == PLAIN
    assert Nullness() == NULLNESS


def test_nothing_is_assumed_of_a_new_meaning() -> None:
    meaning = Meaning("other", 0, 1)
    assert not meaning.touches
    assert meaning.outputs is None
    assert not meaning.plain_select
