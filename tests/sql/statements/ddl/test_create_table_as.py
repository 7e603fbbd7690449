"""CREATE TABLE AS into a table of the policy."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.errors import PhiproxyError
from phiproxy.policy.plaintext_guards import guard, guard_name
from phiproxy.policy.protection import ProtectedTable, Protection
from tests.clinic_model import PROTECTION, VISITS
from tests.sql.statements.ddl.build import TAG, VIEW, planner

MRN = dataclasses.replace(VISITS.columns["mrn"], table="archived")
ARCHIVED = dataclasses.replace(PROTECTION, tables=(*PROTECTION.tables, ProtectedTable("public", "archived", {"mrn": MRN})))
ALTER = (
    "EXECUTE $phi_sql$ALTER TABLE public.archived ALTER COLUMN mrn SET STORAGE EXTERNAL,"
    f" ADD CONSTRAINT {guard_name('mrn')} {guard(MRN)}$phi_sql$;"
)
TOLD = "RAISE INFO USING ERRCODE = 'PHI01', MESSAGE = 'rows', DETAIL = phi_rows;"


def answer(text: str, protection: Protection = ARCHIVED) -> str:
    """Return the server's statement, or the SQLSTATE of a refusal that has a hint and a place."""
    try:
        return planner(protection=protection).statement(text.encode(), (), VIEW).sql.decode()
    except PhiproxyError as refused:
        return refused.sqlstate if refused.hint and refused.position is not None else "no hint or place"


def test_the_table_ends_in_physical_form() -> None:
    assert answer("CREATE TABLE archived AS SELECT id, mrn FROM patients p WHERE p.mrn IS NOT NULL") == (
        'DO $phi$DECLARE phi_rows bigint; BEGIN EXECUTE $phi_sql$ CREATE TABLE "public".archived AS'
        ' SELECT id, mrn FROM "public".patients p WHERE p.mrn IS NOT NULL $phi_sql$;'
        f" GET DIAGNOSTICS phi_rows = ROW_COUNT; {ALTER} {TOLD} END$phi$"
    )


def test_select_into_is_create_table_as() -> None:
    assert answer("SELECT id, mrn INTO archived FROM patients") == (
        "DO $phi$DECLARE phi_rows bigint; BEGIN EXECUTE $phi_sql$ CREATE TABLE public.archived AS"
        f' SELECT id, mrn  FROM "public".patients $phi_sql$; GET DIAGNOSTICS phi_rows = ROW_COUNT; {ALTER} {TOLD} END$phi$'
    )


def test_what_is_grouped_is_copied_too() -> None:
    answers = answer("CREATE TABLE archived (n, mrn) AS SELECT count(*), mrn FROM patients GROUP BY 2")
    assert f'any_value(mrn) AS "mrn" FROM "public".patients GROUP BY {TAG.format("mrn")}' in answers


def test_where_it_is_there_or_takes_no_rows() -> None:
    there = answer("CREATE TABLE IF NOT EXISTS archived AS SELECT mrn FROM patients")
    assert f"GET DIAGNOSTICS phi_rows = ROW_COUNT; IF NOT phi_there THEN {ALTER} {TOLD} END IF; END$phi$" in there
    empty = answer("CREATE TABLE archived AS SELECT mrn FROM patients WITH NO DATA")
    assert ALTER in empty
    assert "phi_rows" not in empty


def test_domains_keep_their_not_null() -> None:
    column = dataclasses.replace(MRN, type=dataclasses.replace(MRN.type, not_null=True))
    source = dataclasses.replace(PROTECTION.tables[0].columns["mrn"], type=column.type)
    patients = dataclasses.replace(PROTECTION.tables[0], columns={**PROTECTION.tables[0].columns, "mrn": source})
    tables = (patients, ProtectedTable("public", "archived", {"mrn": column}))
    answers = answer("CREATE TABLE archived AS SELECT mrn FROM patients", dataclasses.replace(PROTECTION, tables=tables))
    assert "ALTER COLUMN mrn SET NOT NULL" in answers


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE archived AS SELECT id FROM patients",
        "CREATE TABLE archived (a) AS SELECT mrn FROM patients",
        "CREATE TABLE archived AS SELECT mrn::text FROM patients",
        "CREATE TABLE archived AS SELECT ssn AS mrn FROM patients",
        "CREATE TABLE archived AS SELECT mrn, ssn FROM patients",
        "CREATE TABLE archived AS SELECT city AS mrn FROM patients",
        "CREATE TABLE archived AS SELECT 'x' AS mrn FROM patients",
        "CREATE TABLE archived AS SELECT mrn FROM patients WHERE mrn = $1",
        "CREATE TABLE archived AS SELECT mrn, id IS DOCUMENT FROM patients",
        "SELECT mrn INTO archived FROM patients WHERE mrn = $1",
        "SELECT 1 AS id INTO archived",
        "CREATE TABLE archived AS SELECT 1 AS mrn",
        "CREATE TABLE public.archived AS VALUES (1)",
        "SELECT mrn INTO TEMP archived FROM patients",
        "CREATE TEMP TABLE other AS SELECT mrn FROM patients",
        "CREATE MATERIALIZED VIEW archived AS SELECT mrn FROM patients",
        "CREATE VIEW archived AS SELECT mrn FROM patients",
    ],
)
def test_what_is_not_the_policy_s_is_refused(statement: str) -> None:
    assert answer(statement) == "0A000"


def test_other_tables_of_the_name_are_none_of_the_policy_s() -> None:
    assert answer("CREATE TEMP TABLE archived AS SELECT 1 AS id") == "CREATE TEMP TABLE archived AS SELECT 1 AS id"
    assert answer("CREATE TABLE archive.archived AS SELECT id FROM patients").startswith("CREATE TABLE archive.archived AS")
