"""A column is sealed at once as its values are one by one, where nothing need be asked of each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.errors import NotAuthentic
from phiproxy.plan.sealed_columns import column_store
from phiproxy.policy.protection import Check, ProtectedColumn, Slot
from phiproxy.types.declared import DeclaredType
from tests.clinic_model import PATIENTS
from tests.crypto.envelopes import parse_envelope
from tests.plan.rings import full_ciphers, index_key

SSN = PATIENTS.columns["ssn"]
VALUES = [b"078-05-1120", b"", b"Ada Lovelace"]


@pytest.mark.parametrize(
    "column",
    [
        SSN,
        replace(SSN, slots=()),
        replace(SSN, pad=64),
        replace(
            SSN, slots=(replace(SSN.slots[0], state="dropped"), Slot(1, "lower(@)", 1, "active"), replace(SSN.slots[0], number=2))
        ),
    ],
)
def test_headers_and_plaintexts_are_those_of_single_values(column: ProtectedColumn) -> None:
    ciphers = full_ciphers()
    for number in (1, 2):
        ciphers._ring.put_index_key(column.number, number, index_key(column.number), 1, 1e9)
    store = column_store(ciphers, column)
    assert store is not None
    (macs,) = ciphers.macs([column])
    sealed = store.seal(VALUES, ciphers.draw_row_keys(column.scope, 3), store.slots(VALUES, macs))
    alone = [ciphers.row_store(column)(value, ciphers.draw(column.scope, 1)[0], macs) for value in VALUES]
    assert [parse_envelope(one).header for one in sealed] == [parse_envelope(one).header for one in alone]
    assert [*map(ciphers.open(column), sealed)] == VALUES
    assert ciphers.counts.values_stored() == {column.label: 6}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("numeric", [b"1", b"1.0", b"0.00"]),
        ("float8", [b"-0", b"0"]),
        ("interval", [b"1 mon", b"30 days"]),
        ("timetz", [b"10:00:00+00", b"11:00:00+01"]),
        ("inet", [b"10.0.0.1", b"10.0.0.0/8"]),
        ("bpchar", [b"ab  "]),
    ],
)
def test_tags_of_other_types_are_of_their_equality_form(name: str, values: list[bytes]) -> None:
    """1.0 is sealed as it is, and found as 1."""
    ciphers, column = full_ciphers(), replace(SSN, type=DeclaredType.builtin(name))
    store = column_store(ciphers, column, canonical=True)
    assert store is not None
    (macs,) = ciphers.macs([column])
    sealed = store.seal(values, ciphers.draw_row_keys(column.scope, len(values)), store.slots(values, macs))
    alone = [ciphers.row_store(column)(value, ciphers.draw(column.scope, 1)[0], macs) for value in values]
    assert [parse_envelope(one).header for one in sealed] == [parse_envelope(one).header for one in alone]
    assert [*map(ciphers.open(column), sealed)] == values


def test_other_columns_are_looked_at_value_by_value() -> None:
    ciphers = full_ciphers()
    for other in (
        replace(SSN, type=DeclaredType.builtin("int4")),
        replace(SSN, checks=(Check("short", b"sealed"),)),
    ):
        assert column_store(ciphers, other) is None


def test_a_column_that_somebody_changed_is_refused() -> None:
    with pytest.raises(NotAuthentic):
        column_store(full_ciphers(), replace(SSN, distrusted=True))


def test_a_value_may_be_too_long() -> None:
    mrn = PATIENTS.columns["mrn"]
    store = column_store(full_ciphers(), mrn)
    assert store is not None
    assert mrn.type.max_length is not None
    assert store.takes([b"x" * mrn.type.max_length])
    assert not store.takes([b"x", b"x" * (mrn.type.max_length + 1)])
