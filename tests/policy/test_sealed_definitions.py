"""Columns get what the catalogue says of their defaults and constraints, and lose it with it."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.policy.inheritance import with_descendants
from phiproxy.policy.protection import Check
from phiproxy.policy.sealed_definitions import with_definitions
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


@pytest.mark.parametrize("diverted", [False, True])
def test_what_only_a_child_asks(*, diverted: bool) -> None:
    """Rows of the parent need not satisfy it, but where they may be sent to the child as they are inserted."""
    patients = CATALOG.by_name["public", "patients"]
    own, shared = Check("own", b"own"), Check("shared", b"shared")
    parent = dataclasses.replace(patients, parent=True, diverted=diverted, checks=(("ssn", shared),))
    child = dataclasses.replace(
        patients, oid=9001, name="patients_1", parents=(patients.oid,), checks=(("ssn", own), ("ssn", shared), ("mrn", CHECK))
    )
    catalog = dataclasses.replace(CATALOG, relations=(*(r for r in CATALOG.relations if r is not patients), parent, child))
    defined = with_definitions(with_descendants(PROTECTION, catalog), catalog)
    of_child = dataclasses.replace(own, child="public.patients_1")
    ssn = defined.by_name["public", "patients"].columns["ssn"]
    assert (ssn.checks, ssn.below) == (((shared, of_child), ()) if diverted else ((shared,), (of_child,)))
    assert ssn.with_children.checks == (shared, of_child)
    assert ssn.with_children.bare == ssn.bare
    inherited = defined.by_name["public", "patients_1"].columns["ssn"]
    assert (inherited.checks, inherited.below) == ((own, shared), ())
