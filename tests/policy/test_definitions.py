"""Columns get what the catalogue says of their defaults and constraints, and lose it with it."""

from __future__ import annotations

import dataclasses

from phiproxy.policy.definitions import with_definitions
from phiproxy.policy.protection import Check
from tests.clinic_model import CATALOG, PROTECTION

CHECK = Check("patients_ssn_check", b"sealed", validated=False)


def test_definitions_come_and_go() -> None:
    assert with_definitions(PROTECTION, CATALOG) is PROTECTION
    patients = CATALOG.by_name["public", "patients"]
    columns = tuple(dataclasses.replace(c, default=b"default") if c.name == "ssn" else c for c in patients.columns)
    changed = dataclasses.replace(patients, columns=columns, checks=(("ssn", CHECK),))
    catalog = dataclasses.replace(CATALOG, relations=(*(r for r in CATALOG.relations if r is not patients), changed))
    defined = with_definitions(PROTECTION, catalog)
    ssn = defined.by_name["public", "patients"].columns["ssn"]
    assert (ssn.checks, ssn.default) == ((CHECK,), b"default")
    others = [c for t in defined.tables for c in t.columns.values() if c is not ssn]
    assert not any(c.checks or c.default for c in others)
    assert with_definitions(defined, CATALOG) == PROTECTION


def test_a_table_that_is_not_there_has_none() -> None:
    assert with_definitions(PROTECTION, dataclasses.replace(CATALOG, relations=())) is PROTECTION
