"""What ``check`` says of where protection ends."""

from __future__ import annotations

from dataclasses import replace

from phiproxy.ops.boundary_check import boundary_texts
from phiproxy.policy.bind import bind
from phiproxy.policy.catalog import Catalog, CatalogColumn, Relation
from phiproxy.policy.model import Policy
from tests.policy.build import make_catalog, make_layout, make_policy

PROTECTED = make_policy({"public.patients": {"ssn": {"type": "text"}}})
PATIENTS = replace(make_catalog(PROTECTED).relations[0], oid=10)
SSN = CatalogColumn("ssn", 1, 25, -1)
PARTITION = Relation(11, "old", "patients", "r", (SSN,), parents=(10,))
STAGING = Relation(12, "staging", "patients", "r", (SSN,))
OLD = Relation(13, "public", "old", "r", (SSN,), guards=(("ssn", 1),))


def told(*relations: Relation, **tables: object) -> list[tuple[str, str]]:
    more = Policy.model_validate({"database": "x", "deployment": "x", "tables": tables}).tables
    policy = PROTECTED.model_copy(update={"tables": {**PROTECTED.tables, **more}})
    catalog = Catalog(1, 150000, (PATIENTS, *relations))
    return list(boundary_texts(policy, bind(policy, make_layout(PROTECTED), catalog, "phiproxy"), catalog))


def test_nothing_to_say() -> None:
    assert told(PARTITION) == []


def test_a_table_that_is_only_named_so() -> None:
    ((level, text),) = told(STAGING)
    assert level == "warning"
    assert text.startswith("staging.patients is not protected, and has the name of a protected table and of its column ssn")
    assert text.endswith("`tables: {staging.patients: {clear: true}}`")


def test_a_table_in_clear() -> None:
    ((level, text),) = told(STAGING, **{"staging.patients": {"clear": True}})
    assert (level, text.partition(",")[0]) == ("note", "staging.patients is in clear")


def test_a_guard_that_outlived_its_column() -> None:
    ((level, text),) = told(OLD, **{"public.old": {"released": ["ssn"]}})
    assert level == "warning"
    assert text.startswith("public.old.ssn is released, and its guard is still there")
    assert text.endswith("drop the constraint phi_guard_ssn")
    assert told(replace(OLD, guards=()), **{"public.old": {"released": ["ssn"]}}) == []
