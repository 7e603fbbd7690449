"""ALTER TABLE, command by command."""

from __future__ import annotations

import pytest

from tests.sql.statements.ddl.build import TAG, marked, physical, plan, refused

SSN = TAG.format("ssn")


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("ALTER TABLE patients ADD COLUMN zip text", "ALTER TABLE public.patients ADD COLUMN zip text"),
        ("ALTER TABLE ONLY patients DROP COLUMN ssn", "ALTER TABLE ONLY public.patients DROP COLUMN ssn"),
        ("ALTER TABLE patients ALTER ssn SET NOT NULL", "ALTER TABLE public.patients ALTER ssn SET NOT NULL"),
        ("ALTER TABLE patients ALTER ssn DROP DEFAULT", "ALTER TABLE public.patients ALTER ssn DROP DEFAULT"),
        ("ALTER TABLE patients ALTER ssn SET DEFAULT NULL", "ALTER TABLE public.patients ALTER COLUMN ssn DROP DEFAULT"),
        ("ALTER TABLE patients ALTER ssn TYPE text", "ALTER TABLE public.patients ALTER COLUMN ssn SET STORAGE EXTERNAL"),
        ("ALTER TABLE patients ALTER city TYPE varchar(9)", "ALTER TABLE public.patients ALTER city TYPE varchar(9)"),
        ("ALTER TABLE patients ADD UNIQUE (ssn)", f"CREATE UNIQUE INDEX patients_ssn_key1 ON public.patients (({SSN}))"),
        ("ALTER TABLE patients DROP CONSTRAINT patients_ssn_key", "DROP INDEX public.patients_ssn_key"),
        ("ALTER TABLE patients DROP CONSTRAINT patients_pkey", "ALTER TABLE public.patients DROP CONSTRAINT patients_pkey"),
        ("ALTER TABLE patients OWNER TO bob, DISABLE TRIGGER ALL", "ALTER TABLE public.patients OWNER TO bob, DISABLE TRIGGER ALL"),
        ("ALTER TABLE patients ADD CHECK (city <> '')", "ALTER TABLE public.patients ADD CHECK (city <> '')"),
        (
            "ALTER TABLE patients ALTER ssn TYPE text, ADD x int, DROP CONSTRAINT patients_ssn_key",
            "DO $phi$BEGIN EXECUTE $phi_sql$DROP INDEX public.patients_ssn_key$phi_sql$;"
            " EXECUTE $phi_sql$ ALTER TABLE public.patients ADD x int $phi_sql$; END$phi$",
        ),
        (
            "ALTER TABLE log ADD FOREIGN KEY (id) REFERENCES patients",
            "ALTER TABLE log ADD FOREIGN KEY (id) REFERENCES public.patients",
        ),
    ],
)
def test_a_command_is_brought_into_physical_form(text: str, server: str) -> None:
    assert physical(text).replace("public.log", "log") == server
    assert plan(text).effects.tag == b"ALTER TABLE"


def test_a_protected_column_is_added() -> None:
    assert physical("ALTER TABLE patients ADD ssn text") == (
        "ALTER TABLE public.patients ADD ssn bytea STORAGE EXTERNAL <guard ssn>, ALTER COLUMN ssn SET STORAGE EXTERNAL"
    )


def test_a_constraint_that_the_proxy_evaluates_needs_a_column_without_values() -> None:
    sql = marked("ALTER TABLE patients ADD CHECK (ssn <> '')")
    assert "IF EXISTS (SELECT FROM public.patients WHERE ssn IS NOT NULL) THEN RAISE EXCEPTION" in sql
    assert "IF EXISTS" not in marked("ALTER TABLE patients ADD CHECK (ssn <> '') NOT VALID")


def test_a_column_that_must_have_values_needs_an_empty_table() -> None:
    sql = physical("ALTER TABLE patients ADD ssn text NOT NULL")
    assert "IF EXISTS (SELECT FROM public.patients) THEN RAISE EXCEPTION USING ERRCODE = '0A000'" in sql
    assert "without DEFAULT and NOT NULL" in sql


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE patients ALTER ssn TYPE varchar(3)",
        "ALTER TABLE patients ALTER ssn SET DEFAULT now()::text",
        "ALTER TABLE patients ALTER ssn SET STORAGE MAIN",
        "ALTER TABLE patients ADD CHECK (ssn < 'x')",
        "ALTER TABLE patients ADD CHECK (ssn <> '') NO INHERIT",
        "ALTER TABLE patients ADD FOREIGN KEY (ssn) REFERENCES log (msg)",
        "ALTER TABLE patients ALTER city TYPE text USING ssn",
        "ALTER TABLE patients INHERIT log",
        "ALTER TABLE log ADD FOREIGN KEY (msg) REFERENCES patients (ssn)",
    ],
)
def test_a_command_that_would_change_stored_values_is_refused(text: str) -> None:
    error = refused(text)
    assert error.sqlstate == "0A000"
    assert error.hint


def test_a_table_that_does_not_exist() -> None:
    assert refused("ALTER TABLE visits ADD x int").sqlstate == "42P01"
