"""How it is known whom the rows of a statement are about; against the server: tests/integration/test_audit_subjects.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.plan.planner import Planner
from phiproxy.policy.protection import Protection
from phiproxy.sql.result import Given, Subject
from tests.clinic_model import CATALOG, PROTECTION
from tests.plan.test_templates import VIEW, fresh

SUBJECTS = {"patients": "id", "visits": "patient_id"}


def with_subjects(protection: Protection) -> Protection:
    tables = tuple(replace(table, subject=SUBJECTS.get(table.name)) for table in protection.tables)
    return replace(protection, tables=tables)


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner(with_subjects(PROTECTION), CATALOG, fresh().ciphers)


def subjects(planner: Planner, text: str) -> tuple[Subject, ...]:
    return planner.statement(text.encode(), (), VIEW).touched.subjects


P = Subject("public.patients.id", "integer")


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("SELECT ssn, id FROM patients", replace(P, output=1)),
        ("SELECT ssn FROM patients WHERE id = $1", replace(P, given=(Given(1),))),
        ("SELECT ssn FROM patients WHERE $2::bigint = id AND ssn = $1", replace(P, given=(Given(2),))),
        ("SELECT ssn FROM patients WHERE id = 7", replace(P, given=(Given(constant=0),))),
        ("SELECT ssn FROM patients WHERE city = 'x' AND id = 7", replace(P, given=(Given(constant=1),))),
        ("SELECT ssn /* comment */ FROM patients WHERE id = 7", replace(P, given=(Given(literal=b"7"),))),
        ("SELECT ssn FROM patients WHERE id = 7 OR id = 8", P),
        ("SELECT ssn FROM patients WHERE NOT id = 7", P),
        ("SELECT ssn FROM patients WHERE id = 7::numeric", P),
        ("SELECT ssn FROM patients WHERE id > 7", P),
        ("SELECT ssn FROM patients WHERE id = $1 + 1", P),
        ("SELECT ssn FROM patients AS p (x) WHERE x = 7", P),
        ("SELECT ssn, id::text FROM patients", P),
        ("SELECT ssn, max(id) OVER () FROM patients", P),
        ("SELECT ssn, id, max(city) OVER () FROM patients", replace(P, output=1)),
        ("SELECT ssn, id, max(city) OVER () FROM patients LIMIT 2", P),
        ("SELECT ssn, id, (SELECT max(msg) OVER () FROM log LIMIT 1) FROM patients", P),
        ("SELECT ssn, id, count(*) OVER (PARTITION BY city) FROM patients LIMIT 2", replace(P, output=1)),
        ("SELECT ssn, id, count(*) FILTER (WHERE city = 'x') OVER () FROM patients LIMIT 2", P),
        ("DECLARE c CURSOR FOR SELECT ssn, id FROM patients", replace(P, output=1)),
        ("DECLARE c CURSOR FOR SELECT ssn FROM patients WHERE id = 7", replace(P, given=(Given(constant=0),))),
        ("COPY patients (ssn, id) TO STDOUT", replace(P, output=1)),
        ("COPY patients (ssn, id) FROM STDIN", replace(P, output=1)),
        ("COPY patients (ssn, id) FROM STDIN WHERE city = 'x'", replace(P, output=1)),
        ("COPY patients (ssn, id) FROM STDIN (DEFAULT 'D')", replace(P, output=1)),
        ("COPY patients (ssn, id) FROM STDIN (ON_ERROR ignore)", replace(P, output=1)),
        ("COPY patients (ssn) FROM STDIN", P),
        ("COPY (SELECT ssn, id FROM patients) TO STDOUT", replace(P, output=1)),
        ("COPY (SELECT city, id FROM patients WHERE ssn = 'x') TO STDOUT", replace(P, output=1)),
        ("COPY (SELECT city, id FROM patients WHERE ssn = 'x') TO STDOUT (FORMAT csv, FORCE_QUOTE (id))", P),
        ("COPY (SELECT city FROM patients WHERE ssn = 'x') TO STDOUT", P),
        ("DELETE FROM patients WHERE id = 7", replace(P, given=(Given(constant=0),))),
        ("INSERT INTO patients (id, ssn) VALUES ($1, $2), (5, 'x')", replace(P, given=(Given(1), Given(constant=0)))),
        ("INSERT INTO patients (id, ssn) VALUES (DEFAULT, $1)", P),
        ("INSERT INTO patients (ssn) VALUES ($1) RETURNING id", replace(P, output=0)),
        ("UPDATE patients SET id = $1, ssn = $2 WHERE id = $3", replace(P, given=(Given(3), Given(1)))),
        ("UPDATE patients SET id = id + 1, ssn = $2 WHERE id = $1 RETURNING id", P),
        ("INSERT INTO patients (id, ssn) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET ssn = $2", replace(P, given=(Given(1),))),
        ("INSERT INTO patients (id, ssn) VALUES ($1, $2) ON CONFLICT (mrn) DO UPDATE SET ssn = $2", P),
        ("INSERT INTO patients (id, ssn) VALUES ($1, $2) ON CONFLICT DO NOTHING", replace(P, given=(Given(1),))),
    ],
)
def test_how_it_is_known(planner: Planner, text: str, subject: Subject) -> None:
    assert subjects(planner, text) == (subject,)


def test_each_relation_is_asked(planner: Planner) -> None:
    assert subjects(planner, "SELECT a.id, b.ssn FROM patients a, patients b WHERE b.id = $1") == (
        replace(P, output=0), replace(P, given=(Given(1),)),
    )  # fmt: skip
    assert subjects(planner, "SELECT city FROM patients WHERE ssn IN (SELECT ssn FROM patients WHERE id = 5) AND id = 4")[0].given


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("WITH p AS (SELECT id, ssn FROM patients) SELECT a.id, b.id, b.ssn FROM p a, p b", (0, 1)),
        ("WITH p AS (SELECT id, ssn FROM patients) SELECT b.id, b.ssn FROM p a, p b", (-1, 0)),
        ("WITH p AS (SELECT id, ssn FROM patients) SELECT id, ssn FROM p WHERE ssn IN (SELECT ssn FROM p)", (0, -1)),
        ("WITH p AS (SELECT id, ssn FROM patients) SELECT id, ssn FROM p UNION ALL SELECT id, ssn FROM p", (0, 0)),
        ("WITH p AS (SELECT id, ssn FROM patients), q AS (SELECT id, ssn FROM p) SELECT q.ssn, q.id, p.id FROM q, p", (1, 2)),
        ("WITH p AS (SELECT id, ssn FROM patients), q AS (SELECT id, ssn FROM p) SELECT ssn, id FROM q", (1,)),
    ],
)  # fmt: skip
def test_each_reference_to_a_cte_is_asked(planner: Planner, text: str, known: tuple[int, ...]) -> None:
    assert [subject.output for subject in subjects(planner, text)] == [*known]


def test_a_set_operation_says_it_where_each_query_does(planner: Planner) -> None:
    visits = Subject("public.visits.patient_id", "integer")
    both = "SELECT id, ssn FROM patients {} SELECT id, ssn FROM patients WHERE id = $1"
    one = replace(P, output=0)
    assert subjects(planner, both.format("UNION ALL")) == (one, one)
    assert subjects(planner, both.format("INTERSECT")) == (one, one)
    assert subjects(planner, both.format("EXCEPT")) == (one, replace(P, given=(Given(1),)))
    united = subjects(planner, "SELECT id, mrn FROM patients UNION SELECT patient_id, mrn FROM visits")
    assert united == (one, replace(visits, output=0))
    apart = subjects(planner, "SELECT id, mrn FROM patients UNION ALL SELECT 1, mrn FROM visits")
    assert apart == (P, visits)


def test_a_long_insert_says_it_row_by_row(planner: Planner) -> None:
    def values(rows: str) -> tuple[Given, ...]:
        (subject,) = subjects(planner, f"INSERT INTO patients (ssn, id) VALUES {rows}")
        return subject.given

    assert values(", ".join(f"('ssn-{n}', {n})" for n in range(200))) == tuple(Given(constant=2 * n + 1) for n in range(200))
    assert values(", ".join(f"(${2 * n + 1}, ${2 * n + 2})" for n in range(200))) == tuple(Given(2 * n + 2) for n in range(200))
    mixed = [f"('ssn-{n}', {n})" if n % 3 else f"(${n + 1}, ${n + 2})" for n in range(0, 200, 2)]
    found = [Given(n + 2) if n % 3 == 0 else Given(constant=-2) for n in range(0, 200, 2)]
    counted = 0
    for i, n in enumerate(range(0, 200, 2)):
        if n % 3:
            found[i], counted = Given(constant=counted + 1), counted + 2
    assert values(", ".join(mixed)) == tuple(found)
    for rows in (", ".join(f"('ssn-{n}', {n} + 1)" for n in range(200)), ", ".join(f"('ssn-{n}', {n})" for n in range(2000))):
        assert values(rows) == ()


def test_tables_without_a_subject_and_statements_without_tables_have_none(planner: Planner) -> None:
    assert subjects(planner, "SELECT msg FROM log") == ()
    assert fresh().statement(b"SELECT ssn, id FROM patients", (), VIEW).touched.subjects == ()
