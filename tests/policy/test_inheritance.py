"""Children of protected tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.access.rules import Masked
from phiproxy.access.shows import NULL
from phiproxy.policy.bind import bind
from phiproxy.policy.catalog import Catalog, CatalogColumn, Relation
from phiproxy.policy.inheritance import descendants, family_complaints, inherited_columns, with_descendants
from phiproxy.policy.model import Policy
from tests.policy.build import make_catalog, make_layout, make_policy

POLICY = make_policy({"public.patients": {"ssn": {"type": "text", "indexes": ["ssn"]}}})
ID, SSN = CatalogColumn("id", 1, 23, -1), CatalogColumn("ssn", 2, 17, -1)
PARENT = replace(make_catalog(POLICY).relations[0], oid=10)
CHILD = Relation(11, "old", "patients_1", "p", (SSN, ID), parents=(10,))
GRANDCHILD = Relation(12, "old", "patients_2", "r", (ID, SSN), parents=(11,))


def catalog(*more: Relation, parent: Relation = PARENT) -> Catalog:
    return Catalog(1, 150000, (parent, *more))


def complaints(found: Catalog, policy: Policy = POLICY) -> list[str]:
    columns = policy.columns()
    return [line for column in columns for line in family_complaints(column, columns, found)]


def test_descendants() -> None:
    found = catalog(CHILD, GRANDCHILD, Relation(13, "public", "other", "r", ()))
    assert [r.oid for r in descendants(found, PARENT)] == [11, 12]


def test_children_have_the_identity_of_their_parent() -> None:
    protection = bind(POLICY, make_layout(POLICY), catalog(), "phiproxy")
    found = with_descendants(protection, catalog(CHILD, GRANDCHILD))
    assert set(found.by_name) == {("public", "patients"), ("old", "patients_1"), ("old", "patients_2")}
    table = found.by_name["old", "patients_2"]
    assert table.inherited == {"ssn"}
    assert table.columns["ssn"].number == protection.tables[0].columns["ssn"].number
    assert table.columns["ssn"].label == "old.patients_2.ssn"
    assert with_descendants(protection, catalog()) is protection


def test_children_of_what_is_masked_and_in_clear_yet_are_refused_too() -> None:
    protection = bind(POLICY, make_layout(POLICY), catalog(), "phiproxy")
    filling = replace(protection, tables=(), clear=protection.tables)
    seen = filling.as_seen(frozenset({(("public", "patients", "ssn"), Masked(NULL))}))
    (why,) = {table.refused.why for table in seen.tables if table.refused is not None and table.schema != "pg_catalog"}
    found = with_descendants(seen, catalog(CHILD, GRANDCHILD))
    children = [table for table in found.tables if table.schema == "old"]
    assert [table.refused and table.refused.why for table in children] == [why, why]
    assert not with_descendants(filling, catalog(CHILD, GRANDCHILD)).tables


def test_the_policy_of_the_children() -> None:
    columns = inherited_columns(POLICY.columns(), catalog(CHILD, GRANDCHILD))
    assert [(c.label, c.identity) for c in columns] == [
        ("old.patients_1.ssn", "c:public.patients.ssn"),
        ("old.patients_2.ssn", "c:public.patients.ssn"),
    ]


def test_what_is_fine() -> None:
    assert complaints(catalog(CHILD, GRANDCHILD)) == []
    stranger = Relation(9, "public", "base", "r", (ID,))
    assert complaints(catalog(stranger, parent=replace(PARENT, parents=(9,)))) == []


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            catalog(Relation(9, "public", "base", "r", (ID, SSN)), parent=replace(PARENT, parents=(9,))),
            "public.patients.ssn is inherited from public.base: name that table in the policy instead",
        ),
        (catalog(replace(CHILD, partition_key=frozenset({"ssn"}))), "old.patients_1 is partitioned by ssn"),
        (catalog(replace(CHILD, kind="f")), "old.patients_1, a foreign table, is a child of public.patients"),
        (catalog(replace(CHILD, columns=(replace(SSN, generated=True),))), "ssn is a generated column in old.patients_1"),
        (
            catalog(Relation(9, "public", "base", "r", (SSN,)), replace(CHILD, parents=(10, 9))),
            "old.patients_1 inherits ssn from public.base too",
        ),
    ],
)
def test_what_cannot_be(found: Catalog, text: str) -> None:
    assert any(text in line for line in complaints(found))


def test_a_child_that_the_policy_makes_another_thing() -> None:
    policy = make_policy({"public.patients": {"ssn": {"type": "text"}}, "old.patients_1": {"ssn": {"type": "text"}}})
    found = complaints(catalog(CHILD), policy)
    assert any("old.patients_1 inherits ssn and must have its domain" in line for line in found)
    assert any("old.patients_1.ssn is inherited from public.patients" in line for line in found)
