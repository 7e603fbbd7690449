"""Policy, registry and catalogue joined."""

from dataclasses import replace
from typing import Any

import pytest

from phiproxy.errors import ConfigError
from phiproxy.index.characters import ASCII, Characters
from phiproxy.index.collations import Collation
from phiproxy.policy.bind import assemble, bind, planned, table_complaints
from phiproxy.policy.catalog import Catalog, CatalogColumn
from phiproxy.policy.model import Policy
from phiproxy.policy.protection import Protection
from phiproxy.policy.registry_layout import Layout
from tests.policy.build import changed, make_catalog, make_layout, make_policy

POLICY = make_policy(
    {
        "public.patients": {"ssn": {"type": "text", "indexes": ["ssn"], "pad": 32}, "mrn": {"domain": "mrn"}},
        "public.visits": {"mrn": {"domain": "mrn"}},
    },
    domains={"mrn": {"type": "varchar(12)", "indexes": ["value"]}},
)
LAYOUT = make_layout(POLICY)
CATALOG = make_catalog(POLICY)


def refusal(policy: Policy = POLICY, layout: Layout = LAYOUT, catalog: Catalog = CATALOG) -> str:
    with pytest.raises(ConfigError) as caught:
        bind(policy, layout, catalog, "phiproxy")
    return caught.value.message


def with_identity(number: int, **fields: Any) -> Layout:
    return replace(LAYOUT, identities={**LAYOUT.identities, number: replace(LAYOUT.identities[number], **fields)})


def test_bound() -> None:
    protection = bind(POLICY, LAYOUT, CATALOG, "phiproxy")
    ssn = protection.by_name["public", "patients"].columns["ssn"]
    assert (ssn.identity, ssn.number, ssn.scope, ssn.pad) == ("c:public.patients.ssn", 1, "t:public.patients", 32)
    assert (ssn.type.oid, ssn.type.typmod) == (25, -1)
    assert ssn.slot_for("@") == LAYOUT.identities[1].slots[0]
    here, there = (protection.by_name["public", t].columns["mrn"] for t in ("patients", "visits"))
    assert (here.identity, here.number, here.slots) == (there.identity, there.number, there.slots)
    assert (here.type.oid, here.type.typmod) == (1043, 16)
    assert (protection.database, protection.deployment, protection.registry_schema) == ("clinic", "clinic-test", "phiproxy")


def test_the_generation_changes_with_what_is_bound_and_only_then() -> None:
    generation = bind(POLICY, LAYOUT, CATALOG, "phiproxy").generation
    assert bind(POLICY, LAYOUT, CATALOG, "phiproxy").generation == generation
    assert bind(POLICY, replace(LAYOUT, epoch=2), CATALOG, "phiproxy").generation == generation, (
        "the epoch counts changes of keys too"
    )
    slots = (replace(LAYOUT.identities[1].slots[0], state="building"),)
    assert bind(POLICY, with_identity(1, slots=slots), CATALOG, "phiproxy").generation != generation


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (replace(LAYOUT, deployment="other"), "policy.yaml: the registry of this database belongs to deployment 'other'"),
        (Layout("clinic-test", 0, {}, {}), "public.patients.ssn is not registered: run `phiproxy keys init`"),
        (with_identity(1, slots=()), "public.patients.ssn has no slot for index @: run `phiproxy keys init`"),
        (with_identity(1, type_name="varchar"), "public.patients.ssn is registered as varchar, the policy says text"),
        (with_identity(1, identity="c:old"), "registered as 'c:old', the policy makes it 'c:public.patients.ssn': add `id: old`"),
        (with_identity(1, identity="d:ssn"), "write `{domain: ssn}`"),
    ],
)
def test_the_registry_says_otherwise(layout: Layout, text: str) -> None:
    assert text in refusal(layout=layout)
    with pytest.raises(ConfigError):
        assemble(POLICY, layout, "phiproxy")


def test_a_dropped_slot_answers_nothing() -> None:
    slots = (replace(LAYOUT.identities[1].slots[0], state="dropped"),)
    assert "has no slot for index @" in refusal(layout=with_identity(1, slots=slots))


@pytest.mark.parametrize(
    ("catalog", "text"),
    [
        (make_catalog(POLICY, type_oid=25), "public.patients.ssn is text, not bytea: run `phiproxy ddl`"),
        (make_catalog(POLICY, type_oid=1082), "public.patients.ssn is date, not bytea: run `phiproxy ddl`"),
        (make_catalog(POLICY, type_oid=1184), "public.patients.ssn is timestamp with time zone, not bytea"),
        (make_catalog(POLICY, type_oid=1009), "public.patients.ssn is text[], not bytea"),
        (make_catalog(POLICY, type_oid=99999), "public.patients.ssn is of another type, not bytea"),
        (
            changed(CATALOG, name="people", guards=(("ssn", 1),)),
            "public.patients.ssn was renamed to public.people.ssn behind the proxy: rename it in the policy, with"
            " `id: 'public.patients.ssn'`",
        ),
        (changed(CATALOG, kind="v"), "protecting a view (public.patients) is not in this version"),
        (changed(CATALOG, partition_key=frozenset({"mrn"})), "public.patients is partitioned by mrn: a partition key cannot be"),
        (changed(CATALOG, key_columns=frozenset({"mrn"})), "a foreign key over protected column public.patients.mrn is not"),
        (
            changed(CATALOG, columns=(CatalogColumn("ssn", 1, 17, -1, generated=True), CatalogColumn("mrn", 2, 17, -1))),
            "public.patients.ssn is a generated column",
        ),
    ],
)
def test_the_database_is_otherwise(catalog: Catalog, text: str) -> None:
    assert text in refusal(catalog=catalog)


def test_a_subject_is_a_column_with_one_spelling() -> None:
    def bound(subject: str, catalog: Catalog = CATALOG) -> Protection:
        policy = make_policy({"public.patients": {"ssn": {"type": "text"}}}, {"public.patients": subject})
        return bind(policy, make_layout(policy), catalog, "phiproxy")

    assert [table.subject for table in bound("id").tables] == ["id"]
    assert [table.subject for table in bound("ssn").tables] == ["ssn"], "of a protected one the type is the policy's"
    with pytest.raises(ConfigError, match=r"public\.patients has no column nobody, which is its subject"):
        bound("nobody")
    born = changed(CATALOG, columns=(*CATALOG.relations[0].columns, CatalogColumn("born", 9, 1082, -1)))
    with pytest.raises(ConfigError, match=r"the subject of public\.patients must be a column of type smallint"):
        bound("born", born)


def test_assemble_does_not_look_at_the_database() -> None:
    assert assemble(POLICY, LAYOUT, "phiproxy") == bind(POLICY, LAYOUT, CATALOG, "phiproxy")


def test_table_complaints_leave_types_alone() -> None:
    assert table_complaints(POLICY, LAYOUT, make_catalog(POLICY, type_oid=25)) == []
    assert table_complaints(POLICY, LAYOUT, changed(CATALOG, kind="v")) != []


def test_what_is_registered_may_come_later() -> None:
    gone = changed(CATALOG, name="x")
    assert table_complaints(POLICY, None, gone) == ["policy.yaml: there is no table public.patients"] * 2
    assert table_complaints(POLICY, LAYOUT, gone) == []
    assert [c.name for c in planned(POLICY, LAYOUT, gone)] == ["ssn", "mrn"]
    assert bind(POLICY, LAYOUT, gone, "phiproxy") == bind(POLICY, LAYOUT, CATALOG, "phiproxy")
    assert planned(POLICY, LAYOUT, CATALOG) == []


def test_every_complaint_is_told_once() -> None:
    lines = refusal(catalog=changed(CATALOG, kind="v", key_columns=frozenset({"ssn"}))).split("\n")
    assert len(lines) == len(set(lines)) == 2


def test_an_unprotected_key_column_is_no_matter() -> None:
    bind(POLICY, LAYOUT, changed(CATALOG, key_columns=frozenset({"id"})), "phiproxy")


def test_an_id_of_a_column_that_still_exists() -> None:
    """Somebody gives the id of ``ssn`` to ``ssn2`` while ``ssn`` is still there, unprotected."""
    policy = make_policy({"public.patients": {"ssn2": {"type": "text", "id": "public.patients.ssn"}}})
    old = make_policy({"public.patients": {"ssn": {"type": "text"}}})
    columns = (CatalogColumn("ssn", 1, 17, -1), CatalogColumn("ssn2", 2, 17, -1))
    layout = make_layout(old)
    layout = replace(layout, columns={**layout.columns, ("public", "patients", "ssn2"): 1})
    text = refusal(policy, layout, changed(make_catalog(policy), columns=columns))
    assert "identity 'c:public.patients.ssn' belongs to public.patients.ssn, which still exists" in text


def test_a_column_under_both_of_its_names() -> None:
    policy = make_policy({"public.patients": {"ssn": {"type": "text", "renamed_to": "social"}}})
    layout, both = make_layout(policy), make_catalog(policy)
    assert "is to be renamed to public.patients.social, and both exist" in refusal(policy, layout, both)
    for name in ("ssn", "social"):
        columns = (CatalogColumn("id", 1, 23, -1), CatalogColumn(name, 2, 17, -1))
        protection = bind(policy, layout, changed(both, columns=columns), "phiproxy")
        assert {c.number for c in protection.by_name["public", "patients"].columns.values()} == {1}


def test_characters_are_those_of_the_collation_that_was_compared() -> None:
    policy = make_policy({"public.t": {"a": {"type": "text", "indexes": ["lower(a)"]}}})
    found = Characters("simple", frozenset({0xC4}))
    layout = replace(make_layout(policy), collation=Collation("c C.UTF-8 2.36", found))
    catalog = make_catalog(policy)
    now = bind(policy, layout, replace(catalog, collation="c C.UTF-8 2.36"), "phiproxy")
    later = bind(policy, layout, replace(catalog, collation="c C.UTF-8 2.41"), "phiproxy")
    assert (now.characters, later.characters) == (found, ASCII)
    assert now.generation != later.generation
    column = now.by_name["public", "t"].columns["a"]
    assert column.characters_of(column.slots[0]) == found
    assert column.characters_of(replace(column.slots[0], family="icu")) == ASCII


def test_the_partition_of_a_table_is_not_where_another_column_of_its_domain_went() -> None:
    """``visits`` is still to be made, and ``patients`` has a partition, which holds the domain's number too."""
    patients = CATALOG.by_name["public", "patients"]
    part = replace(patients, oid=900, name="patients_1", parents=(patients.oid,), guards=(("ssn", 1), ("mrn", 2)))
    catalog = replace(CATALOG, relations=(patients, part))
    assert [c.label for c in planned(POLICY, LAYOUT, catalog)] == ["public.visits.mrn"]
    bind(POLICY, LAYOUT, catalog, "phiproxy")
    elsewhere = replace(catalog, relations=(patients, replace(part, parents=())))
    assert "public.visits.mrn was renamed to public.patients_1.mrn" in refusal(catalog=elsewhere)
