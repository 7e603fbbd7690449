"""What is sealed and not listed, what is let go, and what is only named like something protected."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.errors import ConfigError
from phiproxy.policy.bind import bind
from phiproxy.policy.boundary import boundary_complaints, guarded_tables, released_guards, strangers, unlisted, with_refused
from phiproxy.policy.catalog import Catalog, CatalogColumn, Relation
from phiproxy.policy.inheritance import with_descendants
from phiproxy.policy.model import Policy
from phiproxy.policy.protection import Boundary, Protection
from phiproxy.policy.registry_layout import Layout
from tests.policy.build import make_catalog, make_layout, make_policy

WHOLE = make_policy({"public.patients": {"ssn": {"type": "text"}, "notes": {"type": "text"}}})
LAYOUT = make_layout(WHOLE)
GUARDS = (("ssn", 1), ("notes", 2))
PATIENTS = replace(make_catalog(WHOLE).relations[0], oid=10, guards=GUARDS)
CATALOG = Catalog(1, 150000, (PATIENTS,))
PART = make_policy({"public.patients": {"ssn": {"type": "text"}}})
SSN = CatalogColumn("ssn", 1, 25, -1)


def catalog(*relations: Relation) -> Catalog:
    return Catalog(1, 150000, relations)


def letting_go(**table: object) -> Policy:
    """The policy with ``ssn`` alone, saying more of its table."""
    policy = Policy.model_validate(
        {
            "database": "clinic",
            "deployment": "clinic-test",
            "tables": {"public.patients": {"columns": {"ssn": {"type": "text"}}, **table}},
        }
    )
    return policy.located("policy.yaml", {})


def stored(found: Catalog, policy: Policy = WHOLE, layout: Layout = LAYOUT) -> Protection:
    """What is protected where policy and catalogue may no longer fit each other, as a proxy at work has it."""
    protection = bind(policy, layout, make_catalog(policy), "phiproxy")
    return with_refused(with_descendants(protection, found), found)


def refused(protection: Protection) -> dict[tuple[str, str], str]:
    return {place: table.refused.why for place, table in protection.by_name.items() if table.refused is not None}


def test_a_column_that_is_sealed_and_not_listed() -> None:
    (line,) = boundary_complaints(PART, LAYOUT, CATALOG)
    assert line.startswith(
        "policy.yaml: public.patients.notes holds protected values, and the policy does not list it: list it (with"
    )
    assert "`id: 'public.patients.notes'`" in line
    assert "`tables: {public.patients: {released: [notes]}}`" in line
    with pytest.raises(ConfigError, match="notes holds protected values"):
        bind(PART, LAYOUT, CATALOG, "phiproxy")
    assert boundary_complaints(WHOLE, LAYOUT, CATALOG) == []


def test_a_guard_alone_tells_and_so_does_the_registry_alone() -> None:
    without = replace(LAYOUT, columns={("public", "patients", "ssn"): 1})
    assert "notes holds protected values" in boundary_complaints(PART, without, CATALOG)[0]
    assert "notes holds protected values" in boundary_complaints(PART, None, CATALOG)[0]
    bare = catalog(replace(PATIENTS, guards=()))
    assert "notes is registered as protected" in boundary_complaints(PART, LAYOUT, bare)[0]
    assert boundary_complaints(PART, None, bare) == []


def test_what_is_registered_and_gone_concerns_nobody() -> None:
    columns = tuple(c for c in PATIENTS.columns if c.name != "notes")
    assert boundary_complaints(PART, LAYOUT, catalog(replace(PATIENTS, columns=columns, guards=GUARDS[:1]))) == []
    view = Relation(11, "public", "patients", "v", PATIENTS.columns)
    assert unlisted((), Boundary(registered=frozenset(LAYOUT.columns)), catalog(view)) == [], "a view is what its query says"


def test_what_is_let_go() -> None:
    policy = letting_go(released=["notes"])
    assert boundary_complaints(policy, LAYOUT, CATALOG) == []
    assert refused(stored(CATALOG, policy)) == {}
    assert [sealed.label for sealed in released_guards(policy, CATALOG)] == ["public.patients.notes"]
    assert list(released_guards(policy, catalog(replace(PATIENTS, guards=GUARDS[:1])))) == []
    assert list(released_guards(policy, catalog())) == []
    moved = letting_go(released=["notes"], renamed_to="public.people")
    assert ("public", "people", "notes") in moved.boundary(()).released


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PATIENTS, name="people"),
        replace(PATIENTS, schema="archive"),
        replace(PATIENTS, columns=(replace(SSN, name="social"),), guards=(("social", 1),)),
    ],
)
def test_what_is_renamed_or_moved_is_refused_under_its_new_name(elsewhere: Relation) -> None:
    """The guard goes with the column: nothing that was read of the policy before tells of the new name."""
    protection = stored(catalog(elsewhere))
    why = refused(protection)[elsewhere.schema, elsewhere.name]
    assert "holds protected values, and the policy does not list it" in why
    assert elsewhere.name in protection.table_names, "what searches texts must find it"
    (first, *_) = boundary_complaints(WHOLE, LAYOUT, catalog(elsewhere))
    assert first.startswith("policy.yaml: public.patients.ssn was renamed to ")
    assert "`id: 'public.patients.ssn'`, and run `phiproxy keys init`" in first


def test_a_partition_is_refused_once_it_is_detached() -> None:
    partition = Relation(11, "old", "part", "r", PATIENTS.columns, parents=(10,), guards=GUARDS)
    assert refused(stored(catalog(PATIENTS, partition))) == {}
    assert set(refused(stored(catalog(PATIENTS, replace(partition, parents=()))))) == {("old", "part")}


def test_a_family_is_told_of_once() -> None:
    child = Relation(11, "old", "part", "r", PATIENTS.columns, parents=(10,), guards=GUARDS)
    assert len(boundary_complaints(PART, LAYOUT, catalog(PATIENTS, child))) == 1


def test_the_table_of_a_session_keeps_nobody_from_starting() -> None:
    temporary = replace(PATIENTS, schema="pg_temp_3", name="copied")
    assert boundary_complaints(WHOLE, LAYOUT, catalog(PATIENTS, temporary)) == []
    assert set(refused(stored(catalog(PATIENTS, temporary)))) == {("pg_temp_3", "copied")}


STRANGER = Relation(20, "mallory", "patients", "r", (SSN,))


@pytest.mark.parametrize("kind", ["r", "p", "f", "v", "m"])
def test_a_table_that_is_only_named_so(kind: str) -> None:
    found = catalog(PATIENTS, replace(STRANGER, kind=kind))
    (table,) = [t for t in stored(found).tables if t.refused is not None]
    assert table.refused is not None
    assert (table.schema, table.name, table.columns) == ("mallory", "patients", {})
    assert "mallory.patients is not protected" in table.refused.why
    assert table.refused.hint.endswith("`tables: {mallory.patients: {clear: true}}`")
    assert [(r.schema, column) for r, column in strangers(stored(catalog(PATIENTS)), found)] == [("mallory", "ssn")]


@pytest.mark.parametrize(
    "other",
    [
        replace(STRANGER, columns=(replace(SSN, name="id"),)),
        replace(STRANGER, name="people"),
        replace(STRANGER, schema="pg_temp_3"),
        replace(STRANGER, schema="information_schema"),
        replace(STRANGER, schema="phiproxy"),
        Relation(20, "old", "patients", "r", (SSN,), parents=(10,)),
    ],
)
def test_what_is_no_stranger(other: Relation) -> None:
    assert refused(stored(catalog(PATIENTS, other))) == {}


def test_a_table_that_the_policy_says_is_clear() -> None:
    policy = make_policy({"public.patients": {"ssn": {"type": "text"}, "notes": {"type": "text"}}})
    tables = {**policy.tables, **Policy.model_validate(CLEAR).tables}
    policy = policy.model_copy(update={"tables": tables})
    assert refused(stored(catalog(PATIENTS, STRANGER), policy)) == {}
    sealed = replace(STRANGER, guards=(("ssn", 1),))
    assert set(refused(stored(catalog(PATIENTS, sealed), policy))) == {("mallory", "patients")}, "what is sealed decides"


CLEAR = {"database": "clinic", "deployment": "x", "tables": {"mallory.patients": {"clear": True}}}


def test_which_tables_hold_protected_values_by_their_names() -> None:
    assert guarded_tables(PART, replace(LAYOUT, columns={("old", "t", "a"): 1})) == {("public", "patients"), ("old", "t")}
    assert guarded_tables(letting_go(released=["notes"]), LAYOUT) == {("public", "patients")}
