"""SELECT: what each result column shows, and the clauses that refer to outputs."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, columns, tag

STAR = [None, "ssn", "full_name", "mrn", "notes", None, None]


@pytest.mark.parametrize(
    ("client", "shown"),
    [
        ("SELECT * FROM patients", STAR),
        ("SELECT p.* FROM patients p", STAR),
        ("TABLE patients", STAR),
        ("SELECT ssn, city, ssn AS again FROM patients", ["ssn", None, "ssn"]),
        ("SELECT ssn::varchar FROM patients", ["ssn"]),
        ("SELECT * FROM patients, log", [*STAR, None, None, None]),
        ("SELECT * FROM visits JOIN patients USING (id)", [None, None, "mrn", "diagnosis", None, *STAR[1:]]),
        ("SELECT * FROM (SELECT ssn AS a, city FROM patients) s", ["ssn", None]),
        ("SELECT * FROM (SELECT ssn, city FROM patients) s(x, y)", ["ssn", None]),
        ("WITH w AS (SELECT city, ssn FROM patients) SELECT * FROM w", [None, "ssn"]),
        ("WITH w(a, b) AS (SELECT city, ssn FROM patients) SELECT b FROM w", ["ssn"]),
        ("SELECT s.ssn FROM patients p, LATERAL (SELECT p.ssn) s", ["ssn"]),
        ("SELECT x.a FROM patients AS x(a, b, c)", [None]),
        ("SELECT x.b FROM patients AS x(a, b, c)", ["ssn"]),
        ("SELECT ssn FROM ONLY patients ORDER BY id LIMIT $1 OFFSET 2 FOR UPDATE OF patients", ["ssn"]),
        ("SELECT ssn, row_number() OVER (ORDER BY id) FROM patients", ["ssn", None]),
    ],
)
def test_results_show_the_protected_columns_that_are_passed_on(client: str, shown: list[str | None]) -> None:
    assert columns(client) == shown


@pytest.mark.parametrize(
    "client",
    [
        "SELECT ssn FROM patients ORDER BY ssn",
        "SELECT ssn FROM patients ORDER BY 1",
        "SELECT ssn AS city FROM patients ORDER BY city",
        "SELECT city FROM patients EXCEPT SELECT ssn FROM patients",
        "SELECT ARRAY(SELECT ssn FROM patients)",
        "SELECT ssn INTO t FROM patients",
        "SELECT rank() OVER w FROM patients WINDOW w AS (ORDER BY ssn)",
        "SELECT max(ssn) FROM patients",
        "SELECT p FROM patients p",
        "SELECT to_jsonb(p) FROM patients p",
        "SELECT p.*, f.* FROM patients p, generate_series(1, 2) f",
        "SELECT * FROM (SELECT p FROM patients p) s",
        "VALUES ((SELECT ssn FROM patients))",
        "SELECT ssn FROM patients ORDER BY (ssn = 'x'), ssn",
    ],
)
def test_a_query_that_orders_or_subtracts_envelopes_is_refused(client: str) -> None:
    assert ask(client) == "0A000"


def test_ordering_by_an_unprotected_output_is_understood() -> None:
    assert ask("SELECT city AS ssn FROM public.patients ORDER BY ssn") == "SELECT city AS ssn FROM public.patients ORDER BY ssn"
    assert ask("SELECT ssn = 'x' AS hit FROM public.patients ORDER BY hit") == (
        f"SELECT {tag('ssn')} = $1 AS hit FROM public.patients ORDER BY hit"
    )


def test_subqueries_are_levels_of_their_own() -> None:
    client = "SELECT id FROM public.visits v WHERE EXISTS (SELECT 1 FROM public.patients p WHERE p.mrn = v.mrn AND ssn = $1)"
    server = client.replace("p.mrn = v.mrn", f"{tag('p.mrn')} = {tag('v.mrn')}").replace("ssn = $1", f"{tag('ssn')} = $1")
    assert ask(client) == server
