"""CREATE TABLE."""

from __future__ import annotations

import pytest

from phiproxy.plan.planner import Planner
from tests.sql.statements.ddl.build import TAG, VIEW, physical, plan, planner, refused

MRN, DIAGNOSIS = "mrn bytea STORAGE EXTERNAL <guard mrn>", "diagnosis bytea STORAGE EXTERNAL <guard diagnosis>"


def test_a_protected_column_is_a_guarded_bytea() -> None:
    assert physical(
        "CREATE TABLE visits (id int, mrn varchar(12), diagnosis text NULL, room text DEFAULT 'x') WITH (fillfactor=70)"
    ) == (f"CREATE TABLE public.visits (id int, {MRN}, {DIAGNOSIS}, room text DEFAULT 'x') WITH (fillfactor=70)")


def test_before_16_storage_is_altered_in_the_same_block() -> None:
    assert physical("CREATE TABLE visits (mrn varchar(12), room text)", 150000) == (
        "DO $phi$BEGIN EXECUTE $phi_sql$ CREATE TABLE public.visits (mrn bytea <guard mrn>, room text)$phi_sql$;"
        " EXECUTE $phi_sql$ALTER TABLE public.visits ALTER COLUMN mrn SET STORAGE EXTERNAL$phi_sql$; END$phi$"
    )


def test_unique_constraints_become_indexes_of_their_names() -> None:
    sql = physical(
        "CREATE TABLE visits (id int PRIMARY KEY, mrn varchar(12) NOT NULL UNIQUE, diagnosis text, room text,"
        " CONSTRAINT once UNIQUE (room, mrn), UNIQUE (diagnosis, room))"
    )
    assert sql == (
        "DO $phi$BEGIN EXECUTE $phi_sql$ CREATE TABLE public.visits (id int PRIMARY KEY,"
        " mrn bytea STORAGE EXTERNAL NOT NULL <guard mrn>, diagnosis bytea STORAGE EXTERNAL <guard diagnosis>, room text)$phi_sql$;"
        f" EXECUTE $phi_sql$CREATE UNIQUE INDEX visits_mrn_key ON public.visits (({TAG.format('mrn')}))$phi_sql$;"
        f" EXECUTE $phi_sql$CREATE UNIQUE INDEX once ON public.visits (room, ({TAG.format('mrn')}))$phi_sql$;"
        f" EXECUTE $phi_sql$CREATE UNIQUE INDEX visits_diagnosis_room_key ON public.visits (({TAG.format('diagnosis')}), room)"
        "$phi_sql$; END$phi$"
    )


def test_a_primary_key_is_not_null_and_unique() -> None:
    sql = physical("CREATE TABLE visits (room text, mrn varchar(12), PRIMARY KEY (room, mrn))")
    assert "mrn bytea STORAGE EXTERNAL NOT NULL <guard mrn>" in sql
    assert "ALTER TABLE public.visits ALTER COLUMN room SET NOT NULL" in sql
    assert f"CREATE UNIQUE INDEX visits_pkey ON public.visits (room, ({TAG.format('mrn')}))" in sql
    assert "PRIMARY" not in sql


def test_if_not_exists_does_nothing_more_where_it_exists() -> None:
    sql = physical("CREATE TABLE IF NOT EXISTS visits (mrn varchar(12) UNIQUE)")
    assert "DECLARE phi_there boolean := pg_catalog.to_regclass('public.visits') IS NOT NULL;" in sql
    assert "IF NOT phi_there THEN EXECUTE $phi_sql$CREATE UNIQUE INDEX" in sql


def test_the_client_is_told_its_own_command() -> None:
    assert plan("CREATE TABLE visits (mrn varchar(12) UNIQUE)").effects.tag == b"CREATE TABLE"


def test_what_is_in_physical_form_passes() -> None:
    text = "CREATE TABLE public.visits (id int, mrn bytea, CONSTRAINT phi_guard_mrn CHECK (mrn IS NULL))"
    assert physical(text) == text


def test_references_to_what_is_not_protected() -> None:
    definition = "CREATE TABLE {} (id int, patient_id int REFERENCES public.patients (id) ON DELETE CASCADE)"
    assert physical(definition.format("other").replace("public.", "")) == definition.format("other")


def test_other_schemas_are_not_protected() -> None:
    text = "CREATE TABLE archive.visits (mrn text, diagnosis int)"
    assert physical(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("CREATE TABLE visits (mrn text)", "is protected as varchar(12), and this declares another type"),
        ("CREATE TABLE visits (mrn int)", "declares another type"),
        ("CREATE TABLE visits (mrn varchar(12)[])", "declares another type"),
        ("CREATE TABLE visits (mrn bytea)", "declares another type"),
        ("CREATE TABLE visits (mrn varchar(12) DEFAULT CURRENT_USER)", "would compute a default"),
        ("CREATE TABLE visits (mrn varchar(12) GENERATED ALWAYS AS (room) STORED, room text)", "generated column"),
        ("CREATE TABLE visits (mrn varchar(12), n int GENERATED ALWAYS AS (length(mrn)) STORED)", "would compute this"),
        ("CREATE TABLE visits (mrn varchar(12), room text, CHECK (mrn <> room))", "joins a protected column"),
        ("CREATE TABLE visits (mrn varchar(12), EXCLUDE USING gist (mrn WITH =))", "would compute this"),
        ("CREATE TABLE visits (mrn varchar(12), UNIQUE (mrn) DEFERRABLE)", "deferrable"),
        ("CREATE TABLE visits (mrn varchar(12) UNIQUE INITIALLY DEFERRED)", "deferrable"),
        ("CREATE TABLE visits (mrn varchar(12) DEFERRABLE)", "is not in this version"),
        ("CREATE TABLE visits (mrn varchar(12)) PARTITION BY HASH (mrn)", "cannot be partitioned by a protected column"),
        ("CREATE TABLE visits (mrn varchar(12)) PARTITION BY HASH ((lower(mrn)))", "cannot be partitioned by a protected column"),
        ("CREATE TABLE visits (mrn varchar(12)) INHERITS (log)", "a child"),
        ("CREATE TABLE other (LIKE patients)", "LIKE would copy"),
        ("CREATE TABLE other (ssn text) INHERITS (patients)", "is as its parent has it"),
        ("CREATE TABLE other () INHERITS (patients, log)", "has a column as"),
        ("CREATE TABLE other (CHECK (ssn <> '')) INHERITS (patients)", "would compute this"),
        ("CREATE TABLE other PARTITION OF patients DEFAULT PARTITION BY LIST (ssn)", "cannot be partitioned"),
        ("CREATE TEMP TABLE other () INHERITS (patients)", "a temporary child"),
        ("CREATE TABLE other (ssn text REFERENCES patients (ssn))", "a foreign key between"),
        ("CREATE TABLE visits (mrn varchar(12) REFERENCES log (notes))", "a foreign key from mrn to public.log.notes"),
    ],
)
def test_a_definition_that_the_policy_contradicts_is_refused(text: str, why: str) -> None:
    error = refused(text)
    assert error.sqlstate == "0A000"
    assert why in error.message
    assert error.hint
    assert error.position is not None


def test_a_table_is_known_to_what_follows_in_the_same_text() -> None:
    text = b"CREATE TABLE visits (id int, mrn varchar(12)); CREATE INDEX ON visits (mrn); SELECT mrn FROM visits"
    own_planner: Planner = planner()
    script = own_planner.script(text, VIEW)
    assert script.rendered is not None
    assert b"CREATE INDEX visits_mrn_idx ON public.visits ((pg_catalog.substring(mrn, 13, 16)))" in script.rendered.pieces[0]
    assert script.parts is not None
    assert script.parts[2].columns is not None


@pytest.mark.parametrize("how", ["(extra int) INHERITS (patients)", "PARTITION OF patients DEFAULT"])
def test_a_child_has_what_its_parent_has(how: str) -> None:
    planned = plan(f"CREATE TABLE other {how}")
    assert planned.sql.decode() == f"CREATE TABLE public.other {how.replace('patients', 'public.patients')}"
    assert planned.effects.reaches == ("other",)


def test_a_table_may_be_divided_by_an_unprotected_column() -> None:
    sql = physical("CREATE TABLE visits (mrn varchar(12), room text) PARTITION BY LIST (room)")
    assert sql == f"CREATE TABLE public.visits ({MRN}, room text) PARTITION BY LIST (room)"
