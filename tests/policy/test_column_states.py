"""States of columns, by the catalogue and by what the registry lets be in clear."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.errors import ConfigError
from phiproxy.policy.access_model import Access
from phiproxy.policy.bind import bind
from phiproxy.policy.boundary import guarded_tables
from phiproxy.policy.catalog import Catalog, CatalogColumn
from phiproxy.policy.column_states import (
    ColumnState,
    as_if_sealed,
    clear_columns,
    clear_fields,
    column_states,
    fields_let_go,
    sealed_meanwhile,
)
from phiproxy.policy.physical_columns import shadow_name
from phiproxy.policy.protection import ColumnName, Slot
from phiproxy.wire.oids import JSONB_OID
from tests.policy.build import changed, make_catalog, make_layout, make_policy

POLICY = make_policy({"public.t": {"a": {"type": "text", "indexes": ["a"], "distinct": 10**6}, "b": {"type": "bytea"}}})
SEALED = make_layout(POLICY)
A, B = ("public", "t", "a"), ("public", "t", "b")
BYTEA, TEXT = 17, 25


def catalog(a: int = BYTEA, *more: CatalogColumn, guards: tuple[tuple[str, int], ...] = ()) -> Catalog:
    plain = make_catalog(POLICY)
    id_, _, b = plain.relations[0].columns
    return changed(plain, columns=(id_, CatalogColumn("a", 2, a, -1, has_default=True), b, *more), guards=guards)


@pytest.mark.parametrize(
    ("in_clear", "now", "state"),
    [
        (True, catalog(TEXT), "clear"),
        (True, catalog(TEXT, CatalogColumn(shadow_name("a"), 4, BYTEA, -1)), "filling"),
        (True, catalog(BYTEA), "clear"),
        (True, catalog(BYTEA, guards=(("a", 1),)), "sealed"),
        (False, catalog(BYTEA), "sealed"),
        (False, catalog(TEXT), "sealed"),
        (False, catalog(BYTEA, CatalogColumn(shadow_name("a"), 4, TEXT, -1)), "leaving"),
        (True, replace(catalog(), relations=()), "planned"),
    ],
)
def test_state(in_clear: bool, now: Catalog, state: ColumnState) -> None:
    """A column that the registry does not let be in clear is sealed, whatever its type: its table does not fit then."""
    layout = replace(SEALED, clear=frozenset({A})) if in_clear else SEALED
    assert column_states(POLICY, layout, now)[A] == state


def test_a_column_of_type_bytea_is_told_by_its_guard() -> None:
    layout = replace(SEALED, clear=frozenset({B}))
    assert column_states(POLICY, layout, catalog())[B] == "clear"
    assert column_states(POLICY, layout, catalog(guards=(("b", 2),)))[B] == "sealed"
    assert column_states(POLICY, SEALED, catalog())[B] == "sealed"


def test_what_is_not_let_be_in_clear_does_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"public\.t\.a is text, not bytea"):
        bind(POLICY, SEALED, catalog(TEXT), "phiproxy")


def test_a_table_of_both() -> None:
    """The column in clear is not protected; with it sealed, the table has both."""
    slots = (Slot(0, "@", 1, "building"),)
    identities = {n: replace(i, slots=slots) if i.identity.endswith(".a") else i for n, i in SEALED.identities.items()}
    layout = replace(SEALED, identities=identities, clear=frozenset({A}))
    now = catalog(TEXT, CatalogColumn(shadow_name("a"), 4, BYTEA, -1))
    protection = bind(POLICY, layout, now, "phiproxy")
    assert clear_columns(POLICY, layout, now) == {A}
    assert set(protection.by_name["public", "t"].columns) == {"b"}
    assert A not in protection.boundary.registered
    assert B in protection.boundary.registered
    sealed, seen = as_if_sealed(protection, now)
    assert sealed.clear == ()
    column = sealed.by_name["public", "t"].columns["a"]
    assert column.slot_for("@") is not None, "its index answers then"
    relation = seen.by_name["public", "t"]
    assert [c.name for c in relation.columns] == ["id", "a", "b"], "without what is hidden"
    assert relation.columns[1] == CatalogColumn("a", 2, BYTEA, -1)


def test_tables_that_are_all_in_clear_are_not_read_for_what_reaches_them() -> None:
    assert guarded_tables(POLICY, replace(SEALED, clear=frozenset({A}))) == {("public", "t")}
    assert guarded_tables(POLICY, replace(SEALED, clear=frozenset({A, B}))) == set()
    masking = POLICY.model_copy(update={"access": Access()})
    assert guarded_tables(masking, replace(SEALED, clear=frozenset({A, B}))) == {("public", "t")}, "roles may see masks only"


def test_what_is_sealed_meanwhile() -> None:
    layout = replace(SEALED, clear=frozenset({A, B}))
    assert sealed_meanwhile(POLICY, layout, catalog(TEXT)) == []
    assert sealed_meanwhile(POLICY, layout, catalog(BYTEA, guards=(("a", 1),))) == [A]


FIELDS = {"$.ssn": {"type": "text", "indexes": ["value"], "distinct": 10**6}, "$.notes[*]": {"type": "text"}}
DOCUMENTS = make_policy({"public.t": {"d": {"type": "jsonb", "others": "clear", "fields": FIELDS}}})
OF_DOCUMENTS = make_layout(DOCUMENTS)
D, SSN, NOTES = (("public", "t", name) for name in ("d", "d$.ssn", "d$.notes[*]"))
NUMBER, OF_SSN, OF_NOTES = (OF_DOCUMENTS.columns[name] for name in (D, SSN, NOTES))


def documents(*guarded: int, beside: bool = False, sealed: bool = True) -> Catalog:
    """A document column in a state, whose guard asks for fields."""
    columns = [CatalogColumn("id", 1, 23, -1), CatalogColumn("d", 2, JSONB_OID, -1)]
    columns += [CatalogColumn(shadow_name("d"), 3, JSONB_OID, -1)] if beside else []
    guards = (("d", NUMBER),) if sealed else ()
    fields = (("d", tuple(guarded)),) if guarded else ()
    return changed(make_catalog(DOCUMENTS), columns=tuple(columns), guards=guards, guarded_fields=fields)


@pytest.mark.parametrize(
    ("in_clear", "now", "states"),
    [
        ((), documents(OF_SSN), ("sealed", "sealed")),  # of fields of arrays older guards did not ask
        ((SSN,), documents(OF_SSN, OF_NOTES), ("sealed", "sealed")),
        ((SSN,), documents(OF_NOTES), ("clear", "sealed")),
        ((SSN, NOTES), documents(beside=True), ("filling", "filling")),
        ((NOTES,), documents(OF_SSN), ("sealed", "clear")),
        ((D,), documents(sealed=False), ("clear", "clear")),
        ((D,), documents(sealed=False, beside=True), ("filling", "filling")),
    ],
)
def test_fields_of_documents(in_clear: tuple[ColumnName, ...], now: Catalog, states: tuple[ColumnState, ...]) -> None:
    layout = replace(OF_DOCUMENTS, clear=frozenset(in_clear))
    said = column_states(DOCUMENTS, layout, now)
    assert (said[SSN], said[NOTES]) == states
    assert clear_fields(DOCUMENTS, layout, now) == {
        name for name in (SSN, NOTES) if said[name] in ("clear", "filling") and said[D] not in ("clear", "filling")
    }


def test_fields_in_clear_are_not_protected_until_they_are_as_if() -> None:
    layout = replace(OF_DOCUMENTS, clear=frozenset({SSN}))
    now = documents(OF_NOTES)
    protection = bind(DOCUMENTS, layout, now, "phiproxy")
    fields = protection.by_name["public", "t"].columns["d"].with_fields[1:]
    assert [field.path for field in fields] == ["$.notes[*]"]
    assert protection.in_clear == {SSN: "public.t.d$.ssn"}
    sealed, _ = as_if_sealed(protection, now)
    assert [field.path for field in sealed.by_name["public", "t"].columns["d"].with_fields[1:]] == ["$.ssn", "$.notes[*]"]
    assert bind(DOCUMENTS, layout, documents(OF_SSN, OF_NOTES), "phiproxy").in_clear == {}
    assert bind(DOCUMENTS, replace(layout, clear=frozenset({D})), documents(sealed=False), "phiproxy").in_clear == {D: "public.t.d"}


def test_a_sealed_field_that_is_listed_no_longer_is_refused_unless_it_was_opened() -> None:
    fewer = make_policy({"public.t": {"d": {"type": "jsonb", "others": "clear", "fields": {"$.notes[*]": FIELDS["$.notes[*]"]}}}})
    with pytest.raises(ConfigError, match=r"public\.t\.d\$\.ssn is registered as protected, and the policy does not list it"):
        bind(fewer, OF_DOCUMENTS, documents(OF_NOTES), "phiproxy")
    opened = replace(OF_DOCUMENTS, clear=frozenset({SSN}))
    assert fields_let_go(fewer, opened, documents(OF_NOTES)) == {SSN}
    assert bind(fewer, opened, documents(OF_NOTES), "phiproxy").in_clear == {}
    with pytest.raises(ConfigError, match="does not list it"):
        bind(fewer, opened, documents(OF_SSN, OF_NOTES), "phiproxy")


def test_a_field_that_is_sealed_meanwhile() -> None:
    layout = replace(OF_DOCUMENTS, clear=frozenset({SSN}))
    assert sealed_meanwhile(DOCUMENTS, layout, documents(OF_NOTES)) == []
    assert sealed_meanwhile(DOCUMENTS, layout, documents(OF_SSN, OF_NOTES)) == [SSN]
