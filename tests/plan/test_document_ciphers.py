"""Documents are sealed leaf by leaf, and open as they were; of a part and of its text likewise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from phiproxy.access.rules import Masked, in_part
from phiproxy.access.shows import read_show
from phiproxy.crypto.envelope import envelope_parts
from phiproxy.crypto.keyring import DataKey
from phiproxy.crypto.seal import Note, Record
from phiproxy.documents.sealed_leaves import envelope_of
from phiproxy.errors import KeyNeeded, LongWorkNeeded, SealError, ValueRefused
from phiproxy.long_values import LONG_JSON
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.document_ciphers import of_binary
from phiproxy.policy.column_types import builtin
from phiproxy.policy.protection import ProtectedColumn, ProtectedTable
from phiproxy.types.value_errors import UnsupportedVersion
from tests.clinic_model import PROTECTION
from tests.harness.costs import cpu_seconds_of
from tests.plan.rings import full_ring
from tests.records_model import DOC, FIELDS, RECORDS, SEALED

DOCUMENT = (
    b'{"age": 34, "ssn": "123-45-6789", "name": {"given": ["A"], "family": "Zoe"}, "ward": "B2",'
    b' "extra": {"a": [1.50, null]}, "history": [{"on": "x", "note": "n"}]}'
)


def ciphers(column: ProtectedColumn = DOC) -> Ciphers:
    table = ProtectedTable("public", "records", {"fields": column})
    return Ciphers(full_ring(protection=replace(PROTECTION, tables=(table,))))


def sealed(own: Ciphers, column: ProtectedColumn = DOC, text: bytes = DOCUMENT) -> bytes:
    store = own.stores([column])[column]
    return of_binary(store(text, own.draw(column.scope, 1)[0]))


def opened(own: Ciphers, column: ProtectedColumn, text: bytes) -> bytes:
    return own.open_span(column)(text, 0, len(text))


def test_each_field_is_an_envelope_of_its_own_identity() -> None:
    document = json.loads(sealed(ciphers()))
    parts = [
        envelope_parts(envelope_of(leaf), field=True) for leaf in (document["ssn"], document["name"]["family"], document["age"])
    ]
    assert [(number, padded) for _, number, padded, *_ in parts] == [(41, False), (42, False), (44, False)]
    assert [len(header) for _, _, _, header, *_ in parts] == [12 + 2 * 16, 12 + 16, 12 + 16]
    assert len({salt for *_, salt, _, _ in parts}) == 1
    note = envelope_of(document["history"][0]["note"])
    assert envelope_parts(note, 43, field=True)[2] is True
    assert (document["ward"], document["name"]["given"], document["history"][0]["on"]) == ("B2", ["A"], "x")


def test_it_is_ascii_and_opens_as_it_was() -> None:
    own = ciphers()
    text = sealed(own, text=DOCUMENT.replace(b'"B2"', '"Ö \\" 😀"'.encode()))
    assert text.isascii()
    assert opened(own, DOC, text) == DOCUMENT.replace(b'"B2"', '"Ö \\" 😀"'.encode())


def test_parts_and_their_texts() -> None:
    own = ciphers()
    stored = json.loads(sealed(own))
    name = json.dumps(stored["name"]).encode()
    assert opened(own, DOC.part_at(("name",), builtin("jsonb"), text=False), name) == b'{"given": ["A"], "family": "Zoe"}'
    family = stored["name"]["family"].encode()
    path = ("name", "family")
    assert opened(own, DOC.part_at(path, builtin("text"), text=True), family) == b"Zoe"
    assert opened(own, DOC.part_at(path, builtin("jsonb"), text=False), b'"%b"' % family) == b'"Zoe"'
    assert opened(own, DOC.part_at(("age",), builtin("text"), text=True), stored["age"].encode()) == b"34"
    extra = DOC.part_at(("extra",), builtin("text"), text=True)
    assert opened(own, extra, stored["extra"].encode()) == b'{"a": [1.50, null]}'


def test_what_is_put_at_a_place_is_sealed_as_what_stands_there() -> None:
    own = ciphers()
    part = sealed(own, DOC.placed(("name",)), b'{"family": "Zoe", "given": [1]}')
    assert opened(own, DOC, b'{"name": %b}' % part) == b'{"name": {"given": [1], "family": "Zoe"}}'
    assert json.loads(part)["given"] == [1]
    leaf = sealed(own, DOC.placed(("ssn",), builtin("text")), b"123-45-6789")
    assert opened(own, DOC, b'{"ssn": %b}' % leaf) == b'{"ssn": "123-45-6789"}'
    assert sealed(own, DOC.placed(("ssn",)), b"null") == b"null"
    with pytest.raises(ValueRefused):
        sealed(own, DOC.placed(("age",), builtin("text")), b"34")
    with pytest.raises(ValueRefused):
        sealed(own, DOC.placed(("name",)), b"[]")
    with pytest.raises(SealError):
        opened(own, DOC, b'{"name": {"family": %b}}' % leaf)


def test_no_place_is_remembered() -> None:
    own = ciphers(SEALED)
    before = len(own._store)
    for number in range(5):
        place = SEALED.placed((f"k{number}",))
        document = b'{"k%d": %b}' % (number, sealed(own, place, b'{"a": [1.50]}'))
        assert opened(own, SEALED, document) == b'{"k%d": {"a": [1.50]}}' % number
    assert len(own._store) <= before + 1 + len(FIELDS)


def test_a_field_does_not_open_at_another_path() -> None:
    own = ciphers()
    stored = json.loads(sealed(own))
    with pytest.raises(SealError):
        opened(own, DOC, json.dumps({"ssn": stored["name"]["family"]}).encode())
    with pytest.raises(SealError):
        opened(own, DOC, b'{"ssn": "123-45-6789"}')
    with pytest.raises(SealError):
        opened(own, DOC, b'{"name": ["x"]}')
    with pytest.raises(SealError):
        opened(own, DOC, b"{")


def test_all_other_scalars_are_sealed_where_the_policy_says_so() -> None:
    own = ciphers(SEALED)
    text = b'{"n": [1.50, true, null, {"x": "y"}], "meta": {"at": "now", "by": "me"}, "ward": {"free": 1}}'
    stored = json.loads(sealed(own, SEALED, text))
    leaves = [stored["n"][0], stored["n"][1], stored["n"][3]["x"], stored["meta"]["by"]]
    assert {envelope_parts(envelope_of(leaf), field=True)[1] for leaf in leaves} == {40}
    assert (stored["n"][2], stored["meta"]["at"], stored["ward"]) == (None, "now", {"free": 1})
    assert (
        opened(own, SEALED, json.dumps(stored).encode())
        == b'{"n": [1.50, true, null, {"x": "y"}], "meta": {"at": "now", "by": "me"}, "ward": {"free": 1}}'
    )
    stored["n"][0], stored["n"][1] = stored["n"][1], stored["n"][0]
    assert json.loads(opened(own, SEALED, json.dumps(stored).encode()))["n"][:2] == [True, 1.5]
    stored["n"][0] = stored["meta"]["by"]
    with pytest.raises(SealError):
        opened(own, SEALED, json.dumps(stored).encode())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"ssn": 5}', "$.ssn: a JSON number is no value of type text"),
        (b'{"history": [{"note": {}}]}', "$.history[*].note: a JSON object is no value of type text"),
        (b'{"age": "34"}', "$.age: a JSON string is no value of type integer"),
        (b'{"name": "x"}', "$.name is a string, and a field is listed in an object there"),
    ],
)
def test_a_value_of_another_kind_is_named_by_its_path(text: bytes, said: str) -> None:
    with pytest.raises(ValueRefused) as refused:
        sealed(ciphers(), text=text)
    assert (refused.value.message, refused.value.sqlstate) == (said, "22P02")


def test_the_spelling_of_a_stored_value_is_refused_and_what_only_looks_like_it_is_not() -> None:
    own = ciphers()
    stored = sealed(own)
    with pytest.raises(ValueRefused, match="spelling of a stored one"):
        sealed(own, text=stored)
    assert opened(own, DOC, sealed(own, text=b'{"ssn": "phi1:f55001 is not one"}')) == b'{"ssn": "phi1:f55001 is not one"}'


def test_keys_are_asked_for_before_anything_is_sealed() -> None:
    own = ciphers()
    empty = Ciphers(full_ring(protection=replace(PROTECTION, tables=())))
    with pytest.raises(KeyNeeded):
        empty.stores([DOC])
    with pytest.raises(KeyNeeded):
        opened(empty, DOC, sealed(own))
    macs = own.macs([DOC, RECORDS.columns["fields"]])
    assert [len(of_column) for of_column in macs] == [4, 4]


def test_one_record_for_a_document() -> None:
    own = ciphers()
    record: Record = own.draw(DOC.scope, 1)[0]
    assert own.row_store(DOC)(b'{"ssn": "1"}', record, own.macs([DOC])[0])[:1] == b"\x01"


def test_another_version_of_the_binary_form_is_refused() -> None:
    with pytest.raises(UnsupportedVersion):
        of_binary(b"\x02{}")


def test_many_leaves_that_no_path_lists_are_neither_remembered_nor_counted_by_their_paths() -> None:
    """Their paths are a client's: to remember each, or to count by it, would be without end."""
    own = ciphers(SEALED)
    document = json.dumps({"ssn": "1", "more": {f"k{n}": n for n in range(5000)}}).encode()
    assert cpu_seconds_of(partial(sealed, ciphers(SEALED), SEALED, document)) < 10, "it takes longer than in proportion"
    text = sealed(own, SEALED, document)
    assert json.loads(opened(own, SEALED, text)) == json.loads(document)
    assert set(own.counts.values_stored()) == {"public.records.fields"} | {f"public.records.fields{f.path}" for f in FIELDS}
    assert len(own._store) == 1 + len(FIELDS)


LONG = {
    "ssn": "1",
    "name": {"family": "Zoe"},
    "ward": "x" * LONG_JSON,
    "history": [{"note": f"n{n}", "on": n} for n in range(50)],
    "x": [True, 5],
}


@pytest.mark.parametrize("column", [DOC, SEALED])
@pytest.mark.parametrize("part", [False, True])
def test_a_long_document_is_read_and_opened_by_another_thread_that_needs_no_keyring(column: ProtectedColumn, part: bool) -> None:
    ring = full_ring(protection=replace(PROTECTION, tables=(ProtectedTable("public", "records", {"fields": column}),)))
    told: list[tuple[str, int]] = []

    def noticed(column: str, key: DataKey | None, *, masked: bool) -> Note:
        assert key is not None
        return lambda: told.append((column, key.id))

    own = Ciphers(ring, noticed)
    text = sealed(own, column, json.dumps(LONG).encode())
    shown = column.part_at(("history",), builtin("jsonb"), text=False) if part else column
    if part:
        text = json.dumps(json.loads(text)["history"] + [None] * LONG_JSON).encode()
    own_open, outcomes = own.open_span(shown), list[object]()
    while True:
        told.clear()  # as of an attempt that is made again
        with own.long_work.given(outcomes):
            try:
                opened_text = own_open(text, 0, len(text))
                break
            except LongWorkNeeded as long:
                kept = dict(ring.__dict__)
                ring.__dict__.clear()  # whatever is asked of it now fails
                outcomes.append(long.work())
                ring.__dict__.update(kept)
    assert len(outcomes) == 2
    expected = [*LONG["history"], *[None] * LONG_JSON] if part else LONG
    assert json.loads(opened_text) == expected
    notes = 50 * ["public.records.fields$.history[*].note"]
    assert [label for label, _ in told if "note" in label] == notes
    assert own_open(text, 0, len(text)) == opened_text


@pytest.mark.parametrize("length", [1, LONG_JSON])
def test_masks_of_fields_are_made_where_the_document_is_opened(length: int) -> None:
    """What a mask does not need is not opened, and each mask that is shown is noted as one."""
    shows = {"$.ssn": "last(4)", "$.name.family": "fixed(?)", "$.history[*].note": "null", "$.age": "age90"}
    seen = replace(SEALED, masked=in_part((path, Masked(read_show(show))) for path, show in shows.items()))
    told: list[tuple[str, bool, bool]] = []

    def noticed(column: str, key: DataKey | None, *, masked: bool) -> Note:
        return lambda: told.append((column.removeprefix("public.records.fields"), key is not None, masked))

    ring = full_ring(protection=replace(PROTECTION, tables=(ProtectedTable("public", "records", {"fields": SEALED}),)))
    own = Ciphers(ring, noticed)
    document = json.dumps({**json.loads(DOCUMENT), "ssn": "078-05-1120", "age": 97, "x": "y" * length}).encode()
    shown = json.loads(all_opened(own, seen, sealed(own, SEALED, document), told.clear))
    assert shown == {
        **json.loads(document),
        "ssn": "*******1120",
        "name": {"family": "?", "given": ["A"]},
        "history": [{"note": None, "on": "x"}],
        "age": 90,
    }
    assert sorted(told) == sorted(
        [
            ("$.ssn", True, True),
            ("$.name.family", False, True),
            ("$.history[*].note", False, True),
            ("$.age", True, True),
            ("$.extra", True, False),
            *[("", True, False)] * 3,
        ]
    )


def test_of_a_part_as_text_a_mask_that_is_null_is_the_servers_null() -> None:
    own, null = ciphers(), Masked(read_show("null"))
    seen, stored = replace(DOC, masked=in_part([("$.ssn", null), ("$.name.family", null)])), json.loads(sealed(own))

    def shown(path: str, leaf: str, *, text: bool) -> bytes | None:
        part = seen.part_at((path,), builtin("text" if text else "jsonb"), text=text)
        return own.shown_span(part)(leaf.encode(), 0, len(leaf))

    assert shown("ssn", stored["ssn"], text=True) is None
    assert shown("ssn", json.dumps(stored["ssn"]), text=False) == b"null"
    assert shown("name", json.dumps(stored["name"]), text=True) == b'{"given": ["A"], "family": null}'


def test_a_mask_of_a_domain_is_noted_of_the_column_that_it_was_made_of() -> None:
    """Fields of one domain have one identity: what shows one of them by its path is not what shows the other."""
    told: list[str] = []
    own = Ciphers(ciphers()._ring, lambda column, _, *, masked: lambda: told.append(f"{column} {masked}"))
    masked, leaf, document = in_part([("$.ssn", Masked(read_show("last(4)")))]), json.loads(sealed(own))["ssn"], DOC.document
    assert document is not None
    for table in ("records", "others"):
        fields = tuple(replace(field, table=table) for field in document.fields)
        column = replace(DOC, table=table, document=replace(document, fields=fields), masked=masked)
        shown = own.shown_span(column.part_at(("ssn",), builtin("text"), text=True))
        assert shown(leaf.encode(), 0, len(leaf)) == b"*******6789"
    assert told == ["public.records.fields$.ssn True", "public.others.fields$.ssn True"]


def all_opened(own: Ciphers, column: ProtectedColumn, text: bytes, again: Callable[[], None]) -> bytes:
    """Open a document with what takes long done meanwhile; ``again`` is called before each attempt."""
    outcomes = list[object]()
    while True:
        again()
        with own.long_work.given(outcomes):
            try:
                return opened(own, column, text)
            except LongWorkNeeded as long:
                outcomes.append(long.work())


def test_a_long_document_that_was_tampered_with_does_not_open() -> None:
    own = ciphers()
    stored = json.loads(sealed(own, text=json.dumps(LONG).encode()))
    for wrong in ("x", stored["name"]["family"], stored["ssn"][:-2] + "AA"):
        with pytest.raises(SealError):
            opened(own, DOC, json.dumps({**stored, "ssn": wrong}).encode())
