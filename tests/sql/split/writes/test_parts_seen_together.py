"""Writes that are not split: what would flow out, in whatever way it is written, and what has another meaning by itself."""

from __future__ import annotations

import pytest

from tests.sql.split.ask import split_of

FLOWS = [
    "UPDATE patients SET city = upper(ssn)",
    "UPDATE patients SET city = ssn, notes = notes || 'x'",
    "UPDATE patients SET notes = upper(notes), city = (SELECT max(ssn) FROM patients)",
    "UPDATE patients SET notes = upper(notes), city = v.diagnosis FROM visits v WHERE v.patient_id = patients.id",
    "UPDATE patients SET (city, notes) = (notes, upper(notes))",
    "UPDATE patients SET notes = notes || 'x', city = lower(notes) RETURNING upper(city)",
    "UPDATE patients p SET notes = upper(notes), city = v.x FROM (SELECT patient_id, upper(diagnosis) AS x FROM visits) v",
    "UPDATE patients p SET notes = upper(notes), visits_count = v.n FROM (SELECT rank() OVER (ORDER BY ssn) AS n FROM patients) v",
    "WITH c AS (SELECT ssn AS msg, id FROM patients) UPDATE patients p SET notes = upper(notes), city = c.msg FROM c",
    "UPDATE patients p SET notes = upper(notes), city = l.msg || v.mrn FROM log l, visits v",
    "UPDATE log SET msg = (SELECT max(ssn) FROM patients)",
    "UPDATE log SET msg = upper(ssn) FROM patients",
    "MERGE INTO members m USING patients s ON m.email = s.notes WHEN MATCHED THEN UPDATE SET (note) = ROW (m.mrn)",
    "INSERT INTO log (msg) SELECT upper(ssn) FROM patients",
    "INSERT INTO log (msg) VALUES ((SELECT max(ssn) FROM patients))",
    "INSERT INTO patients (ssn, city) SELECT upper(ssn), upper(ssn) FROM patients",
    "INSERT INTO patients (ssn, city) SELECT upper(ssn), ssn FROM patients",
    "INSERT INTO patients (city, notes) SELECT s.x, s.x FROM (SELECT upper(ssn) AS x FROM patients) s",
    "INSERT INTO patients (city, notes) SELECT s.x, upper(s.x) FROM (SELECT ssn AS x FROM patients) s",
    "INSERT INTO patients (visits_count, notes) SELECT count(*), upper(full_name) FROM patients GROUP BY upper(full_name)",
    "INSERT INTO patients (visits_count, notes) SELECT length(full_name), upper(full_name) FROM patients",
    "INSERT INTO patients (visits_count, notes) SELECT row_number() OVER (ORDER BY ssn), upper(full_name) FROM patients",
    "INSERT INTO patients (city, notes) SELECT DISTINCT city, upper(full_name) FROM patients",
    "INSERT INTO patients (city, notes) SELECT city, notes || 'x' FROM patients UNION SELECT ssn, ssn FROM patients",
    "WITH log AS (SELECT ssn AS msg FROM patients) INSERT INTO patients (notes, city) SELECT upper(msg), msg FROM log",
    "INSERT INTO patients (notes, city) WITH log AS (SELECT ssn AS msg FROM patients) SELECT upper(msg), msg FROM log",
    "INSERT INTO patients (notes) VALUES (upper('x') || 'y') ON CONFLICT (id) DO UPDATE SET city = excluded.notes",
    "CREATE TABLE copies AS SELECT upper(ssn) AS u FROM patients",
    "SELECT upper(ssn) INTO copies FROM patients",
]
# Not split, or not so that the server would see it.
IN_CLEAR_ELSEWHERE = [
    "UPDATE patients SET notes = notes || $1, city = $1",
    "UPDATE patients SET notes = notes || 'a secret', city = 'a secret'",
    "UPDATE patients SET notes = notes || $1, city = city || $1",
    "UPDATE patients SET ssn = $1, city = $1 WHERE notes ILIKE '%x%'",
    "UPDATE patients SET city = $1 WHERE notes ILIKE $1",
    "UPDATE patients SET city = 'a secret' WHERE notes ILIKE 'a secret'",
    "INSERT INTO patients (ssn, city) VALUES (initcap($1), $1)",
    "INSERT INTO patients (ssn, city) VALUES (initcap('a secret'), 'a secret')",
    "INSERT INTO patients (notes, city) SELECT upper(msg) || $1, $1 FROM log",
    "INSERT INTO patients (notes, city) SELECT upper(msg) || 'a secret', 'a secret' FROM log",
    "INSERT INTO patients (ssn, city) VALUES ('x', $1) RETURNING ssn || $1",
    "INSERT INTO patients (notes) SELECT upper(msg) || 'a secret' FROM log ON CONFLICT (id) DO UPDATE SET city = 'a secret'",
    "UPDATE patients p SET notes = notes || 'a secret', city = l.msg || 'a secret' FROM log l WHERE l.id = p.id",
    "UPDATE patients p SET notes = upper(v.n), city = v.c FROM (VALUES (1, 'a secret', 'X')) v (id, n, c) WHERE v.id = p.id",
    "UPDATE stays SET bed = bed + 1, id = 77 WHERE bed * 2 = 77",
    "INSERT INTO patients (ssn, city) SELECT v.a, v.a FROM (VALUES ('a secret')) v (a)",
    "INSERT INTO patients (ssn, city) SELECT upper(v.a), v.a FROM (SELECT 'a secret' AS a FROM log) v",
    "INSERT INTO patients (ssn, city) SELECT u, u FROM unnest($1::text[]) u",
    "INSERT INTO patients (ssn, city) WITH v AS (SELECT 'a secret'::text AS a) SELECT upper(a), a FROM v",
    "INSERT INTO patients (ssn) SELECT upper(v.a) FROM (SELECT id, 'a secret'::text AS a FROM log) v, log l WHERE l.id = v.id",
    "INSERT INTO patients (ssn) SELECT upper(v.a) FROM log l, LATERAL (SELECT $1::text AS a WHERE l.id > 1) v",
    "UPDATE patients SET notes = v.a || '!' FROM (SELECT id, $1::text AS a FROM log) v WHERE v.id = patients.id",
    "WITH v AS (SELECT 'a secret'::text AS a) INSERT INTO patients (ssn) VALUES ((SELECT a FROM v) || '!')",
]
OF_ANOTHER_MEANING = [
    "WITH log AS (SELECT 'x'::text AS msg) DELETE FROM patients WHERE notes ILIKE '%x%' RETURNING (SELECT max(msg) FROM log)",
    "UPDATE diverted SET ssn = upper(ssn)",
    "UPDATE patients SET notes = notes || '!' WHERE CURRENT OF c",
    "UPDATE patients SET notes = pg_backend_pid() || pg_sleep(1)::text",
    "WITH gone AS (DELETE FROM visits RETURNING diagnosis) UPDATE patients SET notes = upper(notes) FROM gone",
    "UPDATE people SET born = notes FROM patients",
]


@pytest.mark.parametrize("statement", FLOWS)
def test_nothing_flows_out(statement: str) -> None:
    assert split_of(statement) is None


@pytest.mark.parametrize("statement", IN_CLEAR_ELSEWHERE)
def test_what_meets_something_protected_is_nowhere_in_clear(statement: str) -> None:
    split = split_of(statement)
    if split is not None:
        assert split.write is not None
        assert not split.source_parameters
        assert all(number < 0 for number in split.write.parameters)
        assert b"a secret" not in split.source + split.write.text


@pytest.mark.parametrize("statement", OF_ANOTHER_MEANING)
def test_what_would_mean_something_else_by_itself(statement: str) -> None:
    assert split_of(statement) is None


HELD_BACK = [
    "UPDATE patients SET notes = notes || 'a secret' WHERE city = 'a secret'",
    "UPDATE patients SET notes = notes || $1 WHERE city = $1",
    "DELETE FROM patients WHERE city = 'a secret' AND notes ILIKE 'a secret'",
    "INSERT INTO patients (notes) SELECT notes || 'a secret' FROM patients WHERE city = 'a secret'",
]


@pytest.mark.parametrize("statement", HELD_BACK)
def test_a_condition_waits_whose_value_meets_something_protected(statement: str) -> None:
    split = split_of(statement)
    assert split is not None
    assert not split.source_parameters
    assert split.write is not None
    for text in (split.source, split.write.text):
        assert b"a secret" not in text
