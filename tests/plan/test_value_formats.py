"""Readers of what clients give, and showers of what was opened."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from phiproxy.errors import ValueRefused
from phiproxy.plan.value_formats import reader, shown
from phiproxy.policy.column_types import builtin, named_type
from phiproxy.sql.result import Reveal
from phiproxy.sql.values.uses import Given, Plain, Search, Store
from phiproxy.types.styles import Styles
from phiproxy.wire.arrays import Array
from tests.clinic_model import PATIENTS

SSN = PATIENTS.columns["ssn"]
BORN = dataclasses.replace(SSN, type=builtin("date"))
PRICE = dataclasses.replace(SSN, type=named_type("numeric(4,1)"))
GERMAN = Styles(date_style="German", date_order="DMY")


def test_text_has_no_reader() -> None:
    assert reader(Plain()) is None
    assert reader(Store(SSN, 1)) is None
    assert shown(Reveal(SSN, SSN.type), 0, Styles.CANONICAL) is None


def test_a_value_is_read_as_given_cast_and_assigned() -> None:
    read = reader(Store(BORN, 1, given=Given(builtin("date"))))
    assert read is not None
    assert read(b"03.02.2001", 0, GERMAN) == read(struct.pack("!i", 399), 1, GERMAN) == b"2001-02-03"
    read = reader(Store(PRICE, 1, given=Given(builtin("numeric"))))
    assert read is not None
    assert read(b"12.34", 0, GERMAN) == b"12.3"
    with pytest.raises(ValueRefused):
        read(b"12345", 0, GERMAN)


def test_a_length_is_not_applied_where_a_value_is_searched() -> None:
    read = reader(Search(PRICE, SSN.slots[0], PRICE.type, given=Given(builtin("numeric"))))
    assert read is not None
    assert read(b"12345.67", 0, GERMAN) == b"12345.67"


def test_elements_are_read_one_by_one() -> None:
    read = reader(Search(BORN, SSN.slots[0], BORN.type, elements=True, given=Given(builtin("date"))))
    assert read is not None
    assert read(b"{03.02.2001,NULL}", 0, GERMAN) == Array(((2, 1),), (b"2001-02-03", None))
    assert read(struct.pack("!iiIiiii", 1, 0, 1082, 1, 1, 4, 399), 1, GERMAN) == Array(((1, 1),), (b"2001-02-03",))


def test_shown_in_the_clients_format_and_style() -> None:
    text, binary = (shown(Reveal(BORN, BORN.type), code, GERMAN) for code in (0, 1))
    assert text is not None
    assert binary is not None
    assert (text(b"2001-02-03"), binary(b"2001-02-03")) == (b"03.02.2001", struct.pack("!i", 399))


@pytest.mark.parametrize("use", [Store(PRICE, 1, given=Given(builtin("numeric")), perhaps=True)])
def test_an_error_in_what_may_be_left_out_may_be_none(use: Store) -> None:
    read = reader(use)
    assert read is not None
    assert read(b"12.34", 0, GERMAN) == b"12.3"
    with pytest.raises(ValueRefused) as caught:
        read(b"12345", 0, GERMAN)
    assert caught.value.sqlstate == "0A000"
    with pytest.raises(ValueRefused) as caught:
        read(b"x", 0, GERMAN)  # a literal is read before anything is left out
    assert caught.value.sqlstate == "22P02"


def test_what_is_compared_may_be_left_out_too() -> None:
    slot = PATIENTS.columns["ssn"].slots[0]
    read = reader(
        Search(PRICE, slot, builtin("numeric"), given=Given(builtin("numeric"), (named_type("numeric(4,1)"),)), perhaps=True)
    )
    assert read is not None
    with pytest.raises(ValueRefused) as caught:
        read(b"12345", 0, GERMAN)
    assert caught.value.sqlstate == "0A000"
