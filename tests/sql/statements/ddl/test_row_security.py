"""Row-level security on a protected table: its tags in columns of their own, its policies over unprotected columns."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.sql.statements.ddl.row_security import tag_columns
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.statements.ddl.build import physical, plan, refused

COLUMNS = PROTECTION.by_name["public", "patients"].columns


def test_enabling_it_adds_the_columns_and_their_indexes() -> None:
    sql = physical("ALTER TABLE patients ENABLE ROW LEVEL SECURITY")
    assert "ALTER TABLE public.patients ENABLE ROW LEVEL SECURITY" in sql
    assert "ALTER TABLE public.patients ADD COLUMN phi_tag_ssn_0 bytea GENERATED ALWAYS AS (" in sql
    assert "ON public.patients (phi_tag_ssn_0)" in sql
    assert plan("ALTER TABLE patients ENABLE ROW LEVEL SECURITY").effects.tag == b"ALTER TABLE"


def test_columns_that_are_there_are_not_made_again() -> None:
    patients = CATALOG.by_name["public", "patients"]
    lacking = tag_columns(patients, COLUMNS)
    columns = (*patients.columns, dataclasses.replace(patients.columns[0], name="phi_tag_ssn_0"))
    assert len(tag_columns(dataclasses.replace(patients, columns=columns), COLUMNS)) == len(lacking) - 2


def test_policies_over_unprotected_columns() -> None:
    text = "CREATE POLICY p ON patients USING (city = current_user AND patients.id > 0) WITH CHECK (id IN (SELECT id FROM log))"
    assert physical(text) == text.replace("ON patients", "ON public.patients")
    assert physical("ALTER POLICY p ON patients TO bob") == "ALTER POLICY p ON public.patients TO bob"


@pytest.mark.parametrize(
    "text",
    [
        "CREATE POLICY p ON patients USING (ssn = current_user)",
        "CREATE POLICY p ON patients WITH CHECK (patients.* IS NOT NULL)",
        "CREATE POLICY p ON patients USING (patients IS NOT NULL)",
        "ALTER POLICY p ON patients USING (id IN (SELECT id FROM patients))",
        "CREATE POLICY p ON log USING (id IN (SELECT id FROM patients))",
    ],
)
def test_a_policy_over_a_protected_column_is_refused(text: str) -> None:
    error = refused(text)
    assert error.sqlstate == "0A000"
    assert error.hint
