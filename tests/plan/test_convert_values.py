"""Many values become what the server gets in slices: the same as at once, and with the keys of now."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from phiproxy.crypto.envelope import FLAG_FIELD, envelope_parts
from phiproxy.crypto.keyring import DataKey
from phiproxy.documents.sealed_leaves import envelope_of, leaf_of
from phiproxy.errors import DataKeyWant, KeyNeeded, KeyWant, ValueRefused, WriteKeyWant
from phiproxy.long_values import LONG_JSON, LONG_VALUE
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.convert_values import MANY, SLICE, at_once, convert_steps
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.values.uses import PLAIN, Store, Use
from phiproxy.wire.arrays import Array
from tests.clinic_model import PATIENTS, PROTECTION
from tests.plan.rings import full_ring
from tests.records_model import DOC, RECORDS

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


def test_a_long_value_is_for_another_thread_and_needs_no_key_there() -> None:
    ring = full_ring(10**6)
    ciphers, value = Ciphers(ring), b"x" * (LONG_VALUE + 1)
    steps = convert_steps(ciphers, [(Store(NAME, 1), value), (Store(NAME, 2), b"short")])
    work = next(steps)
    assert work is not None
    ring.clear()
    sealed = work()
    assert isinstance(sealed, bytes)
    with pytest.raises(StopIteration) as end:
        steps.send(sealed)
    assert Ciphers(full_ring(10**6)).open(NAME)(sealed) == value
    assert end.value.value[0] is sealed


def test_a_long_value_whose_key_is_given_up_before_is_asked_for_again() -> None:
    ring = full_ring(10**6)
    ciphers = Ciphers(ring)
    steps = convert_steps(ciphers, [(Store(NAME, row), b"x" * (LONG_VALUE + 1)) for row in (1, 2)])
    work = next(steps)
    assert work is not None
    sealed = work()
    ring.clear()
    with pytest.raises(KeyNeeded) as needed:
        steps.send(sealed)
    assert needed.value.wants == {WriteKeyWant(NAME.scope, 2)}


def test_a_long_array_is_for_another_thread_as_a_whole() -> None:
    ciphers, value = Ciphers(full_ring(10**6)), b"x" * LONG_VALUE
    given = Array(((1, 3),), (value, None, b"short"))
    assert next(convert_steps(ciphers, [(Store(NAME, 1), given)])) is not None
    (sealed,) = at_once(convert_steps(ciphers, [(Store(NAME, 1), given)]))
    assert isinstance(sealed, Array)
    assert [e and ciphers.open(NAME)(e) for e in sealed.elements] == [value, None, b"short"]


def test_a_long_document_is_for_another_thread() -> None:
    """Of a document each value is sealed by itself, so that less of it is long."""
    ring = full_ring(10**6, protection=replace(PROTECTION, tables=(RECORDS,)))
    clear = b'{"ssn": "1", "ward": "%b"}' % (b"x" * LONG_JSON)
    work = next(convert_steps(Ciphers(ring), [(Store(DOC, 1), clear)]))
    assert work is not None
    sealed = work()
    assert isinstance(sealed, bytes)
    assert b'"ssn": "phi1:' in sealed
    with pytest.raises(StopIteration):
        next(convert_steps(Ciphers(ring), [(Store(DOC, 1), clear[:-100] + b'"}')]))


def _leaf_in_document(envelope: bytes, size: int) -> bytes:
    return json.dumps({"ssn": leaf_of(envelope), "ward": "x" * size}).encode()


def _of_document(stored: bytes) -> bytes:
    return envelope_of(json.loads(stored[1:])["ssn"])


def _as_text(envelope: bytes, _size: int) -> bytes:
    return b"\\x" + envelope.hex(" ", 1000).encode()


@pytest.mark.parametrize(
    ("column", "value", "size", "envelope_in", "spelled"),
    [
        (DOC, b'{"ssn": "1"}', LONG_JSON, _of_document, _leaf_in_document),
        (DOC, b'{"ssn": "1"}', LONG_VALUE, _of_document, _leaf_in_document),
        (NAME, b"x" * (LONG_VALUE + 1), 0, bytes, _as_text),
    ],
    ids=["document", "long document", "text"],
)
def test_what_a_long_value_spells_is_opened_by_another_thread_with_keys_that_the_loop_has_taken(
    column: ProtectedColumn,
    value: bytes,
    size: int,
    envelope_in: Callable[[bytes], bytes],
    spelled: Callable[[bytes, int], bytes],
) -> None:
    protection = replace(PROTECTION, tables=(RECORDS,)) if column is DOC else PROTECTION
    (stored,) = at_once(convert_steps(Ciphers(full_ring(10**6, protection=protection)), [(Store(column, 1), value)]))
    assert isinstance(stored, bytes)
    envelope = envelope_in(stored)

    def sealed(envelope: bytes) -> object:
        ring = full_ring(10**6, protection=protection)
        steps = convert_steps(Ciphers(ring), [(Store(column, 1), spelled(envelope, size))])
        search = next(steps)
        assert search is not None
        work = steps.send(search())
        assert work is not None
        ring.clear()
        return work()

    with pytest.raises(ValueRefused, match="spelling of a stored one"):
        sealed(envelope)
    for other in (envelope[:12], envelope[:-1] + bytes([envelope[-1] ^ 1])):
        if len(spelled(other, size)) > LONG_JSON:
            assert isinstance(sealed(other), bytes)
    with pytest.raises(KeyNeeded) as needed:
        sealed(envelope[:5] + b"\0\0\3\x09" + envelope[9:])
    assert needed.value.wants == {DataKeyWant(0x309)}


def _nobodys(key_id: int, number: int, flags: int = 0) -> bytes:
    """Return what is an envelope but for that nothing opens it."""
    return b"\xf5\x50\x01\x01" + bytes([flags]) + key_id.to_bytes(4, "big") + number.to_bytes(2, "big") + bytes(45)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("column", [NAME, DOC], ids=["text", "document"])
def test_keys_of_all_that_values_spell_are_asked_for_at_once(column: ProtectedColumn, long: bool) -> None:
    """One by one each would have all values converted again, for longer than it is remembered that a key is nobody's."""
    protection = replace(PROTECTION, tables=(RECORDS,)) if column is DOC else PROTECTION

    def asked(keys: int) -> frozenset[KeyWant]:
        numbers, values = range(10_001, 10_001 + keys), list[bytes | Array]()
        if column is DOC:
            leaves, size = [leaf_of(_nobodys(n, 43, FLAG_FIELD)) for n in numbers], keys if long else 500
            parts = [[{"note": leaf} for leaf in leaves[at : at + size]] for at in range(0, keys, size)]
            values += [json.dumps({"history": part, "x": "x" * (LONG_JSON * long)}).encode() for part in parts]
        else:
            texts = [b"\\x" + _nobodys(n, NAME.number).hex().encode() for n in numbers]
            values += [Array(((1, keys + 1),), (*texts, b"x" * LONG_VALUE))] if long else texts
        ciphers = Ciphers(full_ring(10**6, protection=protection))
        with pytest.raises(KeyNeeded) as needed:
            at_once(convert_steps(ciphers, [(Store(column, row), value) for row, value in enumerate(values, start=1)]))
        return needed.value.wants

    assert asked(20) == {DataKeyWant(number) for number in range(10_001, 10_021)}
    with pytest.raises(ValueRefused, match="more than 1000 data keys"):
        asked(1001)


def test_the_system_is_asked_for_nonces_of_many_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, own = list[int](), os.urandom

    def urandom(size: int) -> bytes:
        asked.append(size)
        return own(size)

    monkeypatch.setattr(os, "urandom", urandom)
    notes = [{"note": f"{n:0100}"} for n in range(1_000)]
    ciphers = Ciphers(full_ring(10**6, protection=replace(PROTECTION, tables=(RECORDS,))))
    (stored,) = at_once(convert_steps(ciphers, [(Store(DOC, 1), json.dumps({"history": notes}).encode())]))
    assert isinstance(stored, bytes)
    assert len(asked) < 10
    leaves = [envelope_of(entry["note"]) for entry in json.loads(stored[1:])["history"]]
    assert len({envelope_parts(leaf, field=True)[5] for leaf in leaves}) == len(notes)
