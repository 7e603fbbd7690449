"""FROM: joins of one identity, and what is refused there."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, columns, tag


def test_a_join_of_one_identity_goes_over_tags() -> None:
    client = "SELECT p.ssn FROM public.patients p LEFT JOIN public.visits v ON v.mrn = p.mrn AND v.room = $1"
    assert ask(client) == client.replace("v.mrn = p.mrn", f"{tag('v.mrn')} = {tag('p.mrn')}")


def test_unqualified_names_get_the_schema_that_was_analysed() -> None:
    assert ask("SELECT p.city FROM patients p, visits") == 'SELECT p.city FROM "public".patients p, "public".visits'


def test_using_merges_columns_and_star_begins_with_them() -> None:
    assert columns("SELECT * FROM patients JOIN visits USING (id)")[:3] == [None, "ssn", "full_name"]


@pytest.mark.parametrize(
    "client",
    [
        "SELECT 1 FROM patients p JOIN visits v ON p.mrn = v.diagnosis",
        "SELECT ssn FROM patients, XMLTABLE('/r' PASSING '<r/>' COLUMNS a int)",
        "SELECT 1 FROM unnest((SELECT array_agg(ssn) FROM patients))",
        "SELECT 1 FROM patients p, LATERAL unnest(ARRAY[p.ssn]) u",
        "SELECT * FROM patient_names",
        "SELECT * FROM read_ssn(1)",
        "SELECT 1 FROM ROWS FROM (read_ssn(1), generate_series(1, 2)) x",
    ],
)
def test_what_from_cannot_tell_the_columns_of_is_refused(client: str) -> None:
    assert ask(client) == "0A000"


@pytest.mark.parametrize(
    ("client", "state"),
    [
        ("SELECT ssn FROM patient", "42P01"),
        ("SELECT q.ssn FROM patients p", "42P01"),
        ("SELECT patients.ssn FROM patients p", "42P01"),
        ("SELECT nope FROM patients", "42703"),
        ("SELECT mrn FROM patients, visits", "42702"),
        ("SELECT ssn FROM phiproxy.root_key", "42501"),
        ("SELECT ssn FROM other.public.patients", "0A000"),
    ],
)
def test_names_that_do_not_exist_have_postgresqls_sqlstate(client: str, state: str) -> None:
    assert ask(client) == state
