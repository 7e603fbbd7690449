"""What may be stored in clear by a write that is split, and what may not: where it is not sure, the statement is not split."""

from __future__ import annotations

import pytest

from tests.fixtures.cases import CASES, Case
from tests.sql.split.ask import split_of

MATCHED = "WHEN MATCHED THEN UPDATE SET email = upper(m.email), "
GIVEN = "MERGE INTO members m USING (VALUES ($1, $2, $3)) AS s (mrn, email, city) ON m.mrn = s.mrn "
STORED = {
    "a column of the source": f"MERGE INTO members m USING patients p ON p.mrn = m.mrn {MATCHED} city = p.city || m.note",
    "of a derived table": "MERGE INTO members m USING (SELECT mrn, city, upper(ssn) AS u FROM patients) p ON p.mrn = m.mrn"
    " WHEN MATCHED THEN UPDATE SET email = p.u, city = p.city",
    "a given value": f"{GIVEN}{MATCHED} city = s.city",
    "a given value by a condition": f"{GIVEN}WHEN MATCHED AND s.city > 'a' THEN UPDATE SET email = m.email || 'x', city = s.city",
    "a given array": "MERGE INTO members m USING unnest($1::text[], $2::text[], $3::text[]) AS s (mrn, email, city)"
    f" ON m.mrn = s.mrn {MATCHED} city = s.city",
    "a given array by another": "INSERT INTO patients (city, notes) SELECT v.b, upper(v.a)"
    " FROM unnest($1::text[], $2::text[]) v (a, b) WHERE v.a LIKE 'x%' ORDER BY v.a",
    "a given key": "MERGE INTO members m USING (VALUES ($1::int, $2)) AS s (id, email) ON m.id = s.id"
    " WHEN MATCHED THEN UPDATE SET email = m.email || s.email WHEN NOT MATCHED THEN INSERT (id, email) VALUES (s.id, s.email)",
    "beside a function": "INSERT INTO visits (diagnosis, room) SELECT upper(full_name) || g, room FROM patients,"
    " (VALUES ('r9')) AS v (room), generate_series(1, 2) AS g",
    "beside another that a function is of": "INSERT INTO visits (diagnosis, room) SELECT u, v.room"
    " FROM (VALUES ('a', 'r9')) AS v (d, room), upper(v.d) AS u",
    "by another of USING": "INSERT INTO visits (diagnosis, room) SELECT upper(p.notes), v.room"
    " FROM patients p JOIN (VALUES (1, 'r9')) AS v (id, room) USING (id), generate_series(1, 2) AS g",
    "beside an alias of a join": "INSERT INTO visits (diagnosis, room) SELECT upper(j.notes), v.room"
    " FROM (patients p CROSS JOIN (VALUES (1)) AS t (n)) AS j, (VALUES ('r9')) AS v (room)",
    "by another of a natural join": "INSERT INTO visits (diagnosis, room) SELECT upper(p.notes), v.room"
    " FROM patients p NATURAL JOIN (VALUES (1, 'r9')) AS v (id, room)",
    "beside a join with an alias and a condition": "INSERT INTO visits (diagnosis, room) SELECT upper(j.notes), v.room"
    " FROM (patients p JOIN visits t ON t.patient_id = p.id) AS j (pid), (VALUES ('r9')) AS v (room)",
    "beside a recursive query": "INSERT INTO visits (diagnosis, room) WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1"
    " FROM r WHERE n < 3) SELECT upper(p.notes) || r.n, v.room FROM r, patients p, (VALUES ('r9')) AS v (room)",
    "beside all columns of a function": "INSERT INTO visits (diagnosis, room) SELECT upper(p.notes), v.room"
    " FROM patients p, (VALUES ('r9')) AS v (room), LATERAL (SELECT * FROM generate_series(1, 2)) AS q",
    "beside a query of other rows": f"{GIVEN}WHEN MATCHED THEN UPDATE SET email = (SELECT max(email) || m.email FROM members),"
    " city = s.city",
}
NOT_SPLIT = {
    "a protected column": f"MERGE INTO members m USING patients p ON p.mrn = m.mrn {MATCHED} city = p.ssn",
    "computed of a protected column": f"MERGE INTO members m USING patients p ON p.mrn = m.mrn {MATCHED} city = left(p.ssn, 1)",
    "decided by a protected column": f"MERGE INTO members m USING patients p ON p.mrn = m.mrn {MATCHED}"
    " note = CASE WHEN p.ssn LIKE '1%' THEN 'a' END",
    "a protected column of a derived table": "MERGE INTO members m USING (SELECT mrn, ssn AS city FROM patients) p ON p.mrn = m.mrn"
    f" {MATCHED} city = p.city",
    "computed in a derived table": "MERGE INTO members m USING (SELECT mrn, upper(ssn) AS u FROM patients) p ON p.mrn = m.mrn"
    f" {MATCHED} city = p.u",
    "by groups of a protected column": "MERGE INTO members m"
    " USING (SELECT max(mrn) AS mrn, city FROM patients GROUP BY ssn, city) p"
    f" ON p.mrn = m.mrn {MATCHED} city = p.city",
    "a subquery": f"MERGE INTO members m USING patients p ON p.mrn = m.mrn {MATCHED} city = (SELECT max(ssn) FROM patients)",
    "a given value that is compared": f"{GIVEN}{MATCHED} city = s.mrn",
    "a given value that is sealed": f"{GIVEN}WHEN MATCHED THEN UPDATE SET email = m.email || s.email, city = s.email",
    "by another given value": f"{GIVEN}AND s.city = s.mrn {MATCHED} city = s.city",
    "a given value twice": f"{GIVEN.replace('$3', '$2')}WHEN MATCHED THEN UPDATE SET email = m.email || s.email, city = s.city",
    "a given value that is sealed beside": f"{GIVEN}WHEN MATCHED THEN UPDATE SET email = upper(m.email), mrn = $3, city = s.city",
    "a whole row": f"MERGE INTO members m USING patients p ON p.mrn = m.mrn {MATCHED} city = row_to_json(p)::text",
}
# Each is inserted as (visits_count, notes), the first of which is unprotected.
COUNTED = [
    "SELECT count(*), max(full_name) FROM patients WHERE full_name ILIKE '%o%'",
    "SELECT x.n, x.u FROM (SELECT count(*) AS n, max(full_name) AS u FROM patients WHERE full_name LIKE '%o%') x",
    "SELECT (SELECT count(*) FROM visits v WHERE v.diagnosis ILIKE p.full_name), upper(p.notes) FROM patients p",
    "SELECT rank() OVER (ORDER BY ssn), upper(notes) FROM patients",
    "SELECT rank() OVER w, upper(notes) FROM patients WINDOW w AS (ORDER BY ssn)",
    "SELECT row_number() OVER (), upper(notes) FROM patients WHERE notes LIKE '%a%'",
    "SELECT count(*), max(x.w) FROM (SELECT regexp_split_to_table(notes, ' ') AS w FROM patients) x",
    "SELECT count(*), p.ssn FROM patients p GROUP BY p.ssn",
    "SELECT grouping(city), max(ssn) FROM patients WHERE ssn LIKE 'a%' GROUP BY ROLLUP (city)",
    "SELECT count(*) FILTER (WHERE ssn LIKE 'a%'), max(ssn) FROM patients",
    "SELECT ntile(2) OVER (PARTITION BY full_name), upper(ssn) FROM patients",
    "SELECT x.n, x.m FROM (SELECT length(notes) AS n, max(ssn) AS m FROM patients GROUP BY 1) x",
    "SELECT count(*), max(p.notes) FROM patients p JOIN visits v ON v.diagnosis < p.ssn",
    "SELECT count(*), max(p.notes) FROM patients p JOIN visits v USING (mrn)",
    "SELECT count(*), max(p.notes) FROM patients p NATURAL JOIN visits v",
]
# Each is inserted as (city, notes), the first of which is unprotected.
NAMED = [
    "SELECT max(x.city), max(x.notes) FROM (SELECT city, notes FROM patients ORDER BY ssn LIMIT 1) x",
    "SELECT city, notes || '' FROM patients UNION SELECT city, upper(ssn) FROM patients",
    "SELECT v.a, upper(v.a) FROM (VALUES ($1)) v (a)",
    "SELECT v.a, upper(v.a) FROM unnest($1::text[]) v (a)",
    "SELECT v.b, upper(v.a) FROM unnest($1::text[], $1::text[]) v (a, b)",
    "SELECT u.b, upper(v.a) FROM unnest($1::text[]) v (a), unnest($1::text[]) u (b)",
    "SELECT v.b, upper(v.a) FROM unnest('{x}'::text[], '{x}'::text[]) v (a, b)",
    "SELECT v.b, upper(v.a) FROM unnest(ARRAY['x'], ARRAY['y', 'x']) v (a, b)",
    "SELECT v.b, upper(v.a) FROM unnest($1::text[], $2::text[]) v (a, b) WHERE v.a = v.b",
    "SELECT v.b, upper(v.a) FROM unnest($1::text[], $2::text[]) v (a, b) JOIN patients p ON p.ssn = v.b",
    "SELECT v.b, upper(v.a) FROM unnest($1::text[], $2::text[]) v (a, b) WHERE EXISTS (SELECT FROM patients p WHERE p.ssn = v.b)",
    "SELECT v::text, upper(v.a) FROM unnest($1::text[], $2::text[]) v (a, b)",
    "SELECT to_jsonb(v)->>'a', upper(v.a) FROM unnest($1::text[], $2::text[]) v (a, b)",
    "SELECT ($1::text[])[v.o], upper(v.a) FROM unnest($1::text[]) WITH ORDINALITY v (a, o)",
    "SELECT max(v.a) OVER (), upper(v.a) FROM unnest($1::text[]) v (a)",
    "SELECT unnest($1::text[]), upper(unnest($1::text[]))",
    "SELECT q.z, upper(v.a) FROM unnest($1::text[], $2::text[]) v (a, b), LATERAL unnest(ARRAY[v.a]) q (z)",
    "SELECT string_agg(v.b, ','), max(v.a) FROM unnest($1::text[], $2::text[]) v (a, b) GROUP BY v.a",
    "SELECT left(b, 1), upper(a) FROM (SELECT * FROM unnest($1::text[], $2::text[]) v (a, b)) x (b, c), unnest($3::text[]) y (a)"
    " WHERE x.b = y.a",
    "SELECT v.a, row_to_json(v)::text || p.ssn FROM patients p, (VALUES ('a', 'b')) v (a, b)",
    "SELECT v.a, (v.*)::text || p.ssn FROM patients p, (VALUES ('a', 'b')) v (a, b)",
    "SELECT v.a, (SELECT max(v.a || ssn) FROM patients) FROM (VALUES ('a', 'b')) v (a, b)",
    "SELECT v.c, city || ssn FROM patients p JOIN (VALUES ('a')) v (city) USING (city), LATERAL (SELECT v.city) AS v2 (c)",
    "SELECT city, city || ssn FROM (VALUES ('a')) v (city) JOIN patients p USING (city)",
    "SELECT city, max(ssn) FROM patients GROUP BY city HAVING max(ssn) LIKE 'a%'",
    "SELECT string_agg(city, ',' ORDER BY ssn), max(ssn) FROM patients",
    "SELECT x.c, upper(x.c) FROM (SELECT city, full_name AS c FROM patients) x",
    "WITH RECURSIVE r (a, b) AS (SELECT city, notes FROM patients UNION ALL SELECT b, a FROM r WHERE length(a) < 0) SELECT a,"
    " upper(b) FROM r",
    "WITH c AS (SELECT ssn AS city, notes FROM patients) SELECT city, upper(notes) FROM c",
    "SELECT x.city, upper(x.n) FROM (WITH patients AS (SELECT ssn AS city, notes AS n FROM public.patients) SELECT * FROM"
    " patients) x",
    "SELECT y.city, upper(y.notes) FROM (SELECT * FROM (SELECT full_name AS city, notes FROM patients) x) y",
    "SELECT (x.y).city, upper(x.n) FROM (SELECT p AS y, notes AS n FROM patients p) x",
    "SELECT min(v.diagnosis), max(v.diagnosis) FROM visits v",
    "SELECT x.a[1], upper(x.n) FROM (SELECT ARRAY[city, ssn] AS a, notes AS n FROM patients) x",
]
OF_ROWS = [
    "INSERT INTO patients (active, notes) SELECT p.ssn IS NULL, upper(p.notes) FROM patients p",
    "INSERT INTO patients (active, notes) SELECT EXISTS (SELECT FROM visits v WHERE v.mrn = p.mrn), upper(p.notes) FROM patients p",
    "INSERT INTO patients (active, notes) SELECT city IN (SELECT diagnosis FROM visits), upper(p.notes) FROM patients p",
    "UPDATE patients p SET notes = p.notes || v.d, city = v.d FROM (VALUES (1, $1)) AS v (id, d) WHERE v.id = p.id",
    "UPDATE patients p SET notes = p.notes || '!', city = v.d FROM (VALUES (1, $1)) AS v (id, d) WHERE v.id = p.id AND v.d < p.ssn",
    "UPDATE patients p SET (notes, city) = (SELECT upper(v.diagnosis), v.diagnosis FROM visits v WHERE v.patient_id = p.id"
    " LIMIT 1)",
    "UPDATE patients p SET (notes, city) = (SELECT upper(v.diagnosis), v.room FROM visits v WHERE v.patient_id = p.id ORDER BY"
    " v.diagnosis LIMIT 1)",
    "UPDATE patients p SET (notes, city) = (SELECT v.diagnosis || $1, $1 FROM visits v WHERE v.patient_id = p.id LIMIT 1)",
    "MERGE INTO members m USING (VALUES ($1, $2, $3)) AS s (mrn, email, city) ON m.mrn = s.mrn WHEN MATCHED THEN UPDATE SET"
    " email = m.email || row_to_json(s)::text, city = s.city",
    "MERGE INTO members m USING (VALUES ($1, $2, $3)) AS s (mrn, email, city) ON m.mrn = s.mrn WHEN MATCHED THEN UPDATE SET"
    " email = (SELECT m.email || s.city), city = s.city",
    "MERGE INTO members m USING patients p ON p.mrn = m.mrn WHEN MATCHED THEN UPDATE SET email = upper(m.email), note ="
    " (SELECT max(ssn) FROM patients)",
    "MERGE INTO members m USING (SELECT mrn, count(*) AS n, max(notes) AS t FROM patients GROUP BY mrn) p ON p.mrn = m.mrn"
    " WHEN MATCHED THEN UPDATE SET email = p.t, note = p.n",
]


@pytest.mark.parametrize("name", STORED)
def test_stored(name: str) -> None:
    split = split_of(STORED[name])
    assert split is not None
    assert split.write is not None


@pytest.mark.parametrize("name", NOT_SPLIT)
def test_not_split(name: str) -> None:
    assert split_of(NOT_SPLIT[name]) is None


@pytest.mark.parametrize("query", [*(f"(visits_count, notes) {q}" for q in COUNTED), *(f"(city, notes) {q}" for q in NAMED)])
def test_what_depends_on_something_protected_is_not_inserted(query: str) -> None:
    assert split_of(f"INSERT INTO patients {query}") is None


@pytest.mark.parametrize("statement", OF_ROWS)
def test_what_depends_on_something_protected_is_not_set(statement: str) -> None:
    assert split_of(statement) is None


@pytest.mark.parametrize("case", [case for case in CASES if case.area == "split_given_rows"], ids=lambda case: case.id)
def test_what_may_be_given_to_something_protected_is_not_stored_in_clear(case: Case) -> None:
    assert split_of(case.statement, case.since) is None
