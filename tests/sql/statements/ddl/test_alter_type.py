"""Domains that protected columns have: which of their constraints may come and go."""

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import StatementRefused
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.policy.protection import DeclaredType
from phiproxy.policy.user_types import OwnType
from tests.clinic_model import CATALOG, PATH, PROTECTION

TYPES = (
    OwnType(20001, 20002, -1, "public", "code", "d", base_oid=25),
    OwnType(20003, 20004, -1, "public", "mrn", "d", base_oid=20001),
)
TABLE = PROTECTION.by_name["public", "patients"]
SSN = dataclasses.replace(TABLE.columns["ssn"], type=DeclaredType("public.mrn", 0))
TABLES = tuple(dataclasses.replace(t, columns={**t.columns, "ssn": SSN}) if t is TABLE else t for t in PROTECTION.tables)
CATALOGUE = dataclasses.replace(CATALOG, types=TYPES)
PLANNER = Planner(dataclasses.replace(PROTECTION, tables=TABLES), CATALOGUE, Ciphers(Keyring(lambda: 0.0)))
VIEW = View(PATH, "clinic", catalog_fresh=True)


@pytest.mark.parametrize("domain", ["code", "public.mrn"])
@pytest.mark.parametrize(
    "change",
    [
        "SET NOT NULL", "DROP NOT NULL", "SET DEFAULT 'x'", "DROP DEFAULT", "VALIDATE CONSTRAINT c", "ADD CHECK (VALUE <> 'x')",
        "ADD CHECK (f(VALUE)) NOT VALID", "RENAME TO other", "SET SCHEMA other",
    ],
)  # fmt: skip
def test_a_change_of_a_domain_that_stored_values_depend_on_is_refused(domain: str, change: str) -> None:
    with pytest.raises(StatementRefused) as caught:
        PLANNER.statement(f"ALTER DOMAIN {domain} {change}".encode(), (), VIEW)
    assert "public.patients.ssn" in caught.value.message


@pytest.mark.parametrize(
    "change", ["ADD CHECK (VALUE <> 'x') NOT VALID", "DROP CONSTRAINT c", "RENAME CONSTRAINT c TO d", "OWNER TO me"]
)
def test_a_change_that_stored_values_do_not_depend_on_passes(change: str) -> None:
    plan = PLANNER.statement(f"ALTER DOMAIN mrn {change}".encode(), (), VIEW)
    assert plan.identity
    assert plan.effects.catalog_changed


def test_the_schema_of_a_type_in_use_cannot_be_dropped_with_what_is_in_it() -> None:
    types = tuple(dataclasses.replace(own, schema="lab") for own in TYPES)
    ssn = dataclasses.replace(SSN, type=DeclaredType("lab.mrn", 0))
    tables = tuple(dataclasses.replace(t, columns={**t.columns, "ssn": ssn}) if t is TABLE else t for t in PROTECTION.tables)
    catalog = dataclasses.replace(CATALOG, types=types)
    planner = Planner(dataclasses.replace(PROTECTION, tables=tables), catalog, Ciphers(Keyring(lambda: 0.0)))
    with pytest.raises(StatementRefused, match="other objects depend on it") as caught:
        planner.statement(b"DROP SCHEMA other, lab CASCADE", (), VIEW)
    assert caught.value.sqlstate == "2BP01"
    for passes in (b"DROP SCHEMA lab", b"DROP SCHEMA other CASCADE", b"DROP SCHEMA lab, public CASCADE"):
        assert planner.statement(passes, (), VIEW).identity


def test_the_extension_of_a_type_in_use_cannot_be_dropped() -> None:
    types = (OwnType(20005, 20006, -1, "public", "citext", "citext"),)
    ssn = dataclasses.replace(SSN, type=DeclaredType("citext", 0))
    tables = tuple(dataclasses.replace(t, columns={**t.columns, "ssn": ssn}) if t is TABLE else t for t in PROTECTION.tables)
    catalog = dataclasses.replace(CATALOG, types=types)
    planner = Planner(dataclasses.replace(PROTECTION, tables=tables), catalog, Ciphers(Keyring(lambda: 0.0)))
    with pytest.raises(StatementRefused, match="other objects depend on it"):
        planner.statement(b"DROP EXTENSION citext CASCADE", (), VIEW)
    assert planner.statement(b"DROP EXTENSION pgcrypto", (), VIEW).identity
