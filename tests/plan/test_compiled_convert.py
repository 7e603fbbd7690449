"""What is compiled gives what ``convert`` gives, opened, for every mix of simple uses; everything else it leaves to that."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import InvalidEncoding, KeyNeeded
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.compiled_convert import Output, compile_conversion
from phiproxy.plan.convert_values import at_once, convert_steps
from phiproxy.sql.values.uses import ABSENT, NULLNESS, PLAIN, Given, Search, Store, Use
from tests.clinic_model import PATIENTS, VISITS
from tests.crypto.envelopes import parse_envelope
from tests.plan.rings import full_ring

RING = full_ring(10**9)
CIPHERS = Ciphers(RING)
SSN, FULL_NAME = PATIENTS.columns["ssn"], PATIENTS.columns["full_name"]
DIAGNOSIS = VISITS.columns["mrn"]
SIMPLE: list[Use] = [
    PLAIN,
    Search(SSN, SSN.slots[0], SSN.type),
    *(Store(column, row) for column in (SSN, FULL_NAME, DIAGNOSIS) for row in (0, 1)),
]
OTHER: list[Use] = [
    ABSENT,
    NULLNESS,
    Store(SSN, 0, elements=True),
    Store(SSN, 0, given=Given()),
    Search(SSN, SSN.slots[0], SSN.type, elements=True),
    Search(SSN, SSN.slots[0], SSN.type, given=Given()),
]


def outputs(uses: Sequence[Use]) -> list[Output]:
    return [(use, n, None) for n, use in enumerate(uses)]


@given(st.lists(st.tuples(st.sampled_from(SIMPLE), st.text("aé ", max_size=5)), min_size=1, max_size=6))
def test_it_gives_what_convert_gives(drawn: list[tuple[Use, str]]) -> None:
    uses, values = [use for use, _ in drawn], [text.encode() for _, text in drawn]
    conversion = compile_conversion(outputs(uses), CIPHERS)
    assert conversion is not None
    found, expected = conversion(values), at_once(convert_steps(CIPHERS, list(zip(uses, values, strict=True))))
    assert found is not None
    rows: dict[tuple[str, int], bytes] = {}
    for use, value, mine, theirs in zip(uses, values, found, expected, strict=True):
        assert mine is not None
        if not isinstance(use, Store):
            assert mine == theirs
            continue
        assert isinstance(theirs, bytes)
        assert CIPHERS.open(use.column)(mine) == value == CIPHERS.open(use.column)(theirs)
        assert parse_envelope(mine).header == parse_envelope(theirs).header
        salt = parse_envelope(mine).salt
        assert rows.setdefault((use.column.scope, use.row), salt) == salt
    assert len(set(rows.values())) == len(rows)


def test_a_null_that_is_searched_stays_and_one_that_is_stored_is_left_to_convert() -> None:
    search = compile_conversion(outputs([SIMPLE[1], PLAIN]), CIPHERS)
    store = compile_conversion(outputs([Store(SSN, 0), PLAIN]), CIPHERS)
    assert search is not None
    assert store is not None
    assert search([None, b"7"]) == [None, b"7"]
    assert store([None, b"7"]) is None


@pytest.mark.parametrize("use", OTHER)
def test_what_is_not_simple_is_left_to_convert(use: Use) -> None:
    assert compile_conversion(outputs([PLAIN, use]), CIPHERS) is None


def test_a_literal_is_left_to_convert() -> None:
    assert compile_conversion([(PLAIN, 0, None), (SIMPLE[1], 0, b"x")], CIPHERS) is None


def test_keys_are_asked_for_before_a_use_is_taken() -> None:
    ring = full_ring(1)
    conversion = compile_conversion(outputs([Store(SSN, 0), Store(SSN, 1)]), Ciphers(ring))
    assert conversion is not None
    with pytest.raises(KeyNeeded):
        conversion([b"a", b"b"])
    assert ring.balance(SSN.scope)[1] == 1


def test_what_is_no_text_is_refused() -> None:
    conversion = compile_conversion(outputs([SIMPLE[1]]), CIPHERS)
    assert conversion is not None
    with pytest.raises(InvalidEncoding):
        conversion([b"\xff"])
