"""INSERT, UPDATE, DELETE: which value goes into which column as what."""

from __future__ import annotations

import pytest

from phiproxy.sql.values.uses import Store
from tests.sql.ask import PLANNER, VIEW, ask, columns, tag

T = '"public".patients'


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (f"INSERT INTO {T} (ssn, city) VALUES ($1, $2)", f"INSERT INTO {T} (ssn, city) VALUES ($1, $2)"),
        (f"INSERT INTO {T} (ssn) VALUES ('x'), ('x')", f"INSERT INTO {T} (ssn) VALUES ($1), ($2)"),
        (f"INSERT INTO {T} VALUES (1, $1, NULL, DEFAULT)", f"INSERT INTO {T} VALUES (1, $1, NULL::bytea, DEFAULT)"),
        (f"INSERT INTO {T} DEFAULT VALUES", f"INSERT INTO {T} DEFAULT VALUES"),
        (f"INSERT INTO {T} (mrn) SELECT mrn FROM public.visits", f"INSERT INTO {T} (mrn) SELECT mrn FROM public.visits"),
        (f"INSERT INTO {T} (ssn, city) SELECT $1, city FROM {T}", f"INSERT INTO {T} (ssn, city) SELECT $1, city FROM {T}"),
        (
            f"INSERT INTO {T} (ssn) SELECT v.a::varchar FROM (VALUES ($1), ('x')) v(a)",
            f"INSERT INTO {T} (ssn) SELECT v.a FROM (VALUES ($1), ($2)) v(a)",
        ),
        (
            f"INSERT INTO {T} (id, ssn) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn WHERE {T[9:]}.ssn <> $1",
            f"INSERT INTO {T} (id, ssn) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn"
            f" WHERE {tag('patients.ssn')} <> $2",
        ),
        (f"UPDATE {T} SET ssn = $1 WHERE ssn = $1", f"UPDATE {T} SET ssn = $1 WHERE {tag('ssn')} = $2"),
        (f"UPDATE {T} SET ssn = $1, full_name = $1", f"UPDATE {T} SET ssn = $1, full_name = $2"),
        (
            f"UPDATE {T} SET ssn = NULL, notes = DEFAULT, city = 'x'",
            f"UPDATE {T} SET ssn = NULL::bytea, notes = DEFAULT, city = 'x'",
        ),
        (f"UPDATE {T} p SET mrn = v.mrn FROM public.visits v", f"UPDATE {T} p SET mrn = v.mrn FROM public.visits v"),
        (f"DELETE FROM {T} WHERE ssn NOT IN ('x')", f"DELETE FROM {T} WHERE {tag('ssn')} NOT IN ($1)"),
        (
            f"DELETE FROM {T} p USING public.visits v WHERE v.mrn = p.mrn",
            f"DELETE FROM {T} p USING public.visits v WHERE {tag('v.mrn')} = {tag('p.mrn')}",
        ),
        (
            f"WITH d AS (DELETE FROM {T} WHERE ssn = $1 RETURNING ssn) SELECT ssn FROM d",
            f"WITH d AS (DELETE FROM {T} WHERE {tag('ssn')} = $1 RETURNING ssn) SELECT ssn FROM d",
        ),
        (f"EXPLAIN UPDATE {T} SET ssn = 'x'", f"EXPLAIN UPDATE {T} SET ssn = $1"),
    ],
)
def test_what_is_written_to_a_protected_column_is_sealed(client: str, server: str) -> None:
    assert ask(client) == server


@pytest.mark.parametrize(
    "client",
    [
        "INSERT INTO patients (ssn) VALUES ('a' || current_user)",
        "INSERT INTO patients (ssn) VALUES (now()::text)",
        "INSERT INTO patients (ssn) SELECT city FROM patients",
        "INSERT INTO patients (ssn) SELECT full_name FROM patients",
        "INSERT INTO patients (ssn) SELECT 'x' UNION SELECT 'y'",
        "INSERT INTO patients (ssn) SELECT DISTINCT 'x' FROM log",
        "INSERT INTO patients (city) SELECT ssn FROM patients",
        "INSERT INTO log (msg) SELECT ssn FROM patients",
        "INSERT INTO patients (ssn, city) SELECT v.a, v.a FROM (VALUES ($1)) v(a)",
        "INSERT INTO patients (ssn) SELECT v.a FROM (VALUES (now()::text)) v(a)",
        "INSERT INTO patients (ssn) VALUES ('x') RETURNING upper(ssn)",
        "INSERT INTO patients (ssn, city) VALUES ('x', 'x')",
        "UPDATE patients SET ssn = full_name",
        "UPDATE patients SET city = ssn",
        "UPDATE patients SET ssn = 'x' || ssn",
        "UPDATE patients p SET ssn = v.a FROM (SELECT city AS a FROM patients) v",
        "INSERT INTO patient_names (full_name) VALUES ('x')",
    ],
)
def test_what_the_server_would_compute_or_copy_is_not_written(client: str) -> None:
    assert ask(client) == "0A000"


@pytest.mark.parametrize(
    ("client", "state"),
    [("INSERT INTO log SELECT * FROM patients", "42601"), ("INSERT INTO patients (ssn[1]) VALUES ('x')", "42804")],
)
def test_what_postgresql_itself_refuses_has_its_sqlstate(client: str, state: str) -> None:
    assert ask(client) == state


@pytest.mark.parametrize(
    ("client", "state"),
    [
        ("INSERT INTO patient (ssn) VALUES ('x')", "42P01"),
        ("INSERT INTO patients (snn, ssn) VALUES ('x', 'y')", "42703"),
        ("INSERT INTO log (ssn) VALUES ('x')", "42703"),
        ("UPDATE log SET ssn = 'x'", "42703"),
        ("DELETE FROM patients WHERE patient.ssn = 'x'", "42P01"),
    ],
)
def test_a_mistyped_name_is_answered_by_the_proxy(client: str, state: str) -> None:
    assert ask(client) == state


def test_returning_shows_protected_columns() -> None:
    assert columns("INSERT INTO patients (ssn) VALUES ('x') RETURNING *")[1] == "ssn"
    assert columns("UPDATE patients p SET city = 'x' FROM visits v RETURNING p.ssn, v.*") == [
        "ssn",
        None,
        None,
        "mrn",
        "diagnosis",
        None,
    ]
    assert columns("DELETE FROM patients RETURNING ssn AS x, city") == ["ssn", None]


def test_values_of_one_row_share_a_row_number_and_rows_do_not() -> None:
    plan = PLANNER.statement(b"INSERT INTO patients (ssn, full_name) VALUES ($1, $2), ($3, $4)", (), VIEW)
    rows = [use.row for use, _, _ in plan.outputs if isinstance(use, Store)]
    assert rows[0] == rows[1] != rows[2] == rows[3]


def test_a_value_list_used_twice_in_the_same_place_is_fine_unprotected() -> None:
    client = f"INSERT INTO {T} (city, active) SELECT v.a, v.b FROM (VALUES ('x', true)) v(a, b) WHERE v.a <> 'y'"
    assert ask(client) == client
