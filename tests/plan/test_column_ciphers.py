"""The closures: what is stored opens, equal values have equal tags and nothing else equal, and keys are asked for in one go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import IndexKeyWant, InvalidEncoding, KeyNeeded, SealError, StringTooLong, ValueRefused, WriteKeyWant
from phiproxy.index.characters import Characters, UnknownCharacter
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.policy.protection import Slot
from tests.clinic_model import ACTIVE, PATIENTS, VISITS, protected
from tests.plan.rings import FAR, full_ciphers, full_ring

SSN, NAME, MRN = PATIENTS.columns["ssn"], PATIENTS.columns["full_name"], PATIENTS.columns["mrn"]


def sealed(ciphers: Ciphers, value: bytes = b"123-45-6789") -> bytes:
    return ciphers.stores([SSN])[SSN](value, ciphers.draw(SSN.scope, 1)[0])


def test_what_is_stored_opens_and_differs_each_time() -> None:
    ciphers = full_ciphers()
    one, two = sealed(ciphers), sealed(ciphers)
    assert ciphers.open(SSN)(one) == ciphers.open(SSN)(two) == b"123-45-6789"
    assert one[12:28] == two[12:28] == ciphers.search(SSN, ACTIVE[0], SSN.type)(b"123-45-6789")
    assert one[28:] != two[28:]
    assert one[:3] == b"\xf5\x50\x01"


def test_a_run_of_values_looks_at_the_clock_before_it() -> None:
    now = [0.0]
    ciphers = Ciphers(full_ring(clock=lambda: now[0]))
    value, open_span = sealed(ciphers), ciphers.open_span(SSN)
    assert open_span(value, 0, len(value)) == b"123-45-6789"
    now[0] = FAR
    ciphers.look_at_clock()
    with pytest.raises(KeyNeeded):
        open_span(value, 0, len(value))


def test_a_single_value_looks_at_the_clock_itself() -> None:
    now = [0.0]
    ciphers = Ciphers(full_ring(clock=lambda: now[0]))
    value, opened = sealed(ciphers), ciphers.open(SSN)
    assert opened(value) == b"123-45-6789"
    now[0] = FAR
    with pytest.raises(KeyNeeded):
        opened(value)


def test_the_spelling_of_a_stored_value_is_not_stored_once_more() -> None:
    ciphers = full_ciphers()
    spelled = b"\\x" + sealed(ciphers).hex().encode()
    for text in (spelled, spelled.upper().replace(b"X", b"x", 1)):
        with pytest.raises(ValueRefused, match="spelling of a stored one"):
            sealed(ciphers, text)
    for text in (spelled[:-2], spelled[:-2] + b"zz", b"\\xf55001", spelled.replace(b"x", b"y")):
        assert ciphers.open(SSN)(sealed(ciphers, text)) == text


def test_a_value_of_another_column_does_not_open() -> None:
    ciphers = full_ciphers()
    with pytest.raises(SealError):
        ciphers.open(NAME)(sealed(ciphers))


def test_the_columns_of_a_domain_open_each_other() -> None:
    ciphers = full_ciphers()
    envelope = ciphers.stores([MRN])[MRN](b"M1", ciphers.draw(MRN.scope, 1)[0])
    assert ciphers.open(VISITS.columns["mrn"])(envelope) == b"M1"


def test_the_type_applies_where_a_value_is_stored_and_not_where_it_is_searched() -> None:
    ciphers = full_ciphers()
    records = iter(ciphers.draw(MRN.scope, 3))
    with pytest.raises(StringTooLong):
        ciphers.stores([MRN])[MRN](b"x" * 13, next(records))
    with pytest.raises(InvalidEncoding):
        ciphers.stores([MRN])[MRN](b"\xff", next(records))
    assert len(ciphers.search(MRN, ACTIVE[0], MRN.type)(b"x" * 13)) == 16


def test_every_registered_slot_is_filled_and_dropped_ones_are_zero() -> None:
    slots = (Slot(0, "@", 1, "dropped"), Slot(2, "@", 2, "building"))
    column = protected("patients", "ssn", 1, slots=slots)
    ring = full_ring()
    ring.put_index_key(1, 2, bytes(32), 1, 1e9)
    ciphers = Ciphers(ring)
    envelope = ciphers.stores([column])[column](b"x", ciphers.draw(column.scope, 1)[0])
    assert envelope[11] == 3
    assert envelope[12:44] == bytes(32)
    assert envelope[44] == 2


def test_missing_keys_are_asked_for_together() -> None:
    ciphers = Ciphers(Keyring(lambda: 0.0))
    with pytest.raises(KeyNeeded) as caught:
        ciphers.macs([SSN, NAME])
    assert caught.value.wants == {IndexKeyWant(1, 0), IndexKeyWant(2, 0)}
    with pytest.raises(KeyNeeded) as caught:
        ciphers.draw(SSN.scope, 7)
    assert caught.value.wants == {WriteKeyWant(SSN.scope, 7)}


def test_a_value_of_which_the_server_maps_case_in_another_way_is_refused_by_its_index_only() -> None:
    ciphers = full_ciphers()
    slot = replace(ACTIVE[0], expression="lower(@)", family="simple")
    characters = Characters("simple", frozenset(map(ord, "Ä")))
    column = replace(SSN, slots=(slot,), characters=characters)
    record = ciphers.draw(SSN.scope, 1)[0]
    stored = ciphers.stores([column])[column]("Öa".encode(), record)
    assert stored[12:28] == ciphers.search(column, slot, SSN.type)("öa".encode())
    with pytest.raises(UnknownCharacter) as refused:
        ciphers.stores([column])[column]("aÄ".encode(), record)
    assert refused.value.sqlstate == "0A000"
    local = replace(SSN, characters=characters)
    assert ciphers.open(SSN)(ciphers.stores([local])[local]("aÄ".encode(), record)) == "aÄ".encode()
    # a slot of another database's family: what is the same in all of them goes on
    elsewhere = replace(column, characters=Characters("icu"))
    assert ciphers.stores([elsewhere])[elsewhere](b"A", record)[12:28] == ciphers.search(column, slot, SSN.type)(b"a")
    with pytest.raises(UnknownCharacter):
        ciphers.stores([elsewhere])[elsewhere]("Ö".encode(), record)
