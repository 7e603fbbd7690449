"""Uses that are equal can be shared, and say how many values the server gets."""

from __future__ import annotations

from phiproxy.sql.values.uses import NULLNESS, PLAIN, Nullness, Plain, Search, Store, of_elements, sent_as_array
from tests.clinic_model import ACTIVE, PATIENTS

SSN = PATIENTS.columns["ssn"]


def test_uses_compare_by_what_they_do() -> None:
    assert Search(SSN, ACTIVE[0], SSN.type) == Search(SSN, ACTIVE[0], SSN.type)
    assert Store(SSN, 1) != Store(SSN, 2)
    assert Plain() == PLAIN
    assert Nullness() == NULLNESS


def test_elements_are_sent_as_an_array() -> None:
    each = Search(SSN, ACTIVE[0], SSN.type, elements=True)
    assert of_elements(each)
    assert sent_as_array(each)
    assert not sent_as_array(Store(SSN, 1))
