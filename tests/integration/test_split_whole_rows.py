"""Whole rows in expressions that are split: in the engine they have the type of their table, with the columns as they are shown."""

from __future__ import annotations

import psycopg
import pytest

from tests.harness.clinic import Clinic
from tests.harness.differential import Differential

JOINED = "FROM visits v LEFT JOIN patients p ON p.id = v.patient_id AND p.full_name > ''"


@pytest.mark.parametrize("statement", [
    "SELECT array_agg(p ORDER BY p.id) FROM patients p",
    "SELECT array_agg(p ORDER BY p.id) FILTER (WHERE p.full_name > 'M'), count(p) FROM patients p WHERE city = 'Springfield'",
    "SELECT p.city, array_agg(p ORDER BY p.id) FROM patients p GROUP BY p.city ORDER BY p.city",
    "SELECT ARRAY[p, NULL], ARRAY[[p], [p]] FROM patients p ORDER BY p.id",
    "SELECT coalesce(p, p), CASE WHEN p.id > 2 THEN p END, greatest(p, p), nullif(p, p) FROM patients p ORDER BY p.id",
    "SELECT pg_typeof(p), pg_typeof(ARRAY[p]), upper(p.full_name) FROM patients p ORDER BY p.id",
    "SELECT ssn(p), upper(full_name(p)), city(p) FROM patients p ORDER BY p.id",
    "SELECT array_agg(p ORDER BY v.id), array_agg(v ORDER BY v.id) " + JOINED,
    "SELECT p IS NULL, p IS NOT NULL, row_to_json(p), p::text, (p).ssn, p = p, ARRAY[p] " + JOINED + " ORDER BY v.id",
    "SELECT jsonb_agg(p ORDER BY p.id), json_agg(ARRAY[p] ORDER BY p.id), to_jsonb(array_agg(p ORDER BY p.id)) FROM patients p",
    "SELECT (array_agg(p ORDER BY p.id))[1], ((array_agg(p ORDER BY p.full_name))[2]).ssn FROM patients p",
    "SELECT u.ssn, u.id FROM (SELECT array_agg(p) AS a FROM patients p) q, unnest(q.a) u ORDER BY u.id",
    "SELECT first_value(p) OVER (ORDER BY p.full_name), lag(p) OVER (ORDER BY p.id) FROM patients p ORDER BY p.id",
    "SELECT id FROM patients p WHERE p IN (p) ORDER BY id",
    "SELECT ROW(p, 1)::text, num_nulls(p), md5(p::text), concat(p) FROM patients p ORDER BY id",
    "SELECT array_agg(x (id, patient_id)) FROM visits x (id, patient_id)",
    "SELECT array_agg(x ORDER BY x.n) FROM visits x (n, of)",
    "SELECT array_agg(p)::text FROM patients p WHERE false AND p.notes > 'x'",
    "SELECT array_agg(DISTINCT p), count(DISTINCT p) FROM patients p",
    "SELECT nothing(p) FROM patients p",
    "SELECT array_agg(p) || p FROM patients p",
    "SELECT p || 'x' FROM patients p ORDER BY id",
    "SELECT max(p) FROM patients p",
    "SELECT array_agg(p.* ORDER BY p.id), count(p.*) FROM patients p",
    "SELECT ROW(p.*), ROW(p.*, 1), p.* = p.*, coalesce(p.*, p) FROM patients p ORDER BY id",
    # of views, and of tables without protected columns
    "SELECT array_agg(s ORDER BY s.id), json_agg(s ORDER BY s.id), max(upper(s.social)) FROM springfield s",
    "SELECT coalesce(s, s), s, social(s), s.social || '!', pg_typeof(s) FROM springfield s ORDER BY s.id",
    "SELECT array_agg(l ORDER BY l.id), max(upper(p.ssn)) FROM patients p LEFT JOIN log l ON l.id = p.id",
    "SELECT jsonb_build_object('p', p, 's', s), upper(p.ssn) FROM patients p LEFT JOIN springfield s ON s.id = p.id ORDER BY p.id",
    "SELECT jsonb_object_agg(s.id, s), concat_ws('-', max(upper(s.social)), 'x') FROM springfield s",
    "SELECT p::patients, p::public.patients::text, (p::patients).ssn, ARRAY[p]::patients[] FROM patients p ORDER BY p.id",
    "SELECT s::springfield, upper(s.social) FROM springfield s ORDER BY s.id",
    "SELECT p::visits, upper(p.ssn) FROM patients p",
    "SELECT NULL::log, ROW(1, upper(ssn), 'x')::log, (ROW(1, upper(ssn), 'x')::log).msg FROM patients ORDER BY id",
    "SELECT json_populate_record(NULL::log, json_build_object('msg', upper(ssn))) FROM patients ORDER BY id",
])  # fmt: skip
def test_as_postgresql(kept_both: Differential, statement: str) -> None:
    # An array holds the oid of its elements' type in binary form, which is another one in another database.
    kept_both.run(statement)
    kept_both.run(statement, named=True)
    kept_both.run(statement, protocol="simple")


def test_in_binary_form(split_clinic: Clinic) -> None:
    split_clinic.seed(2)
    with psycopg.connect(split_clinic.proxy_dsn) as conn:
        told = conn.execute("SELECT array_agg(p) FROM patients p", binary=True)
        assert told.pgresult is not None
        value = told.pgresult.get_value(0, 0)
        (oid,) = conn.execute("SELECT 'patients'::regtype::oid::int").fetchone() or (0,)
    assert value is not None
    assert int.from_bytes(value[8:12], "big") == oid


@pytest.mark.parametrize("statement", [
    "SELECT id FROM patients p WHERE p = ANY (SELECT q FROM patients q WHERE q.id < 3) ORDER BY id",
    "SELECT id FROM patients p WHERE p IN (SELECT q FROM patients q WHERE q.full_name > 'M') ORDER BY id",
    "SELECT q.p FROM (SELECT p, upper(ssn) FROM patients p) q",
    "SELECT q.p FROM (SELECT p FROM patients p) q ORDER BY upper((q.p).ssn)",
    "SELECT q.ssn, q.city FROM (SELECT ssn(p), city(p), upper(ssn) FROM patients p) q",
    "SELECT (q.p).ssn, (q.p).city FROM (SELECT p FROM patients p) q ORDER BY 1",
    "SELECT (q.p).* FROM (SELECT p FROM patients p) q",
    "SELECT q.p, q.p IS NULL, q.p IS NOT NULL, (q.p).ssn, q.p::text FROM (SELECT p " + JOINED + ") q",
    "SELECT q.* FROM (SELECT p, id FROM patients p) q ORDER BY q.id",
    "SELECT p FROM (SELECT p FROM patients p) q",
    "SELECT q FROM (SELECT p FROM patients p) q",
    "SELECT x FROM (SELECT p AS x FROM patients p) x",
    "SELECT q.p FROM (SELECT p AS p FROM patients p) q",
    "SELECT q.r FROM (SELECT p FROM patients p) q (r)",
    "SELECT r.r, r.r = (SELECT p FROM patients p WHERE p.id = 2) FROM (SELECT q.p AS r FROM (SELECT p FROM patients p) q) r",
    "SELECT q.p::text, to_jsonb(q.p), row_to_json(q.p), pg_typeof(q.p) FROM (SELECT p FROM patients p) q",
    "SELECT CASE WHEN q.id > 2 THEN q.p END FROM (SELECT p, id FROM patients p) q ORDER BY q.id",
    "SELECT count(*), count(q.p) FROM (SELECT DISTINCT p FROM patients p) q",
    "SELECT q.p FROM (SELECT p FROM patients p ORDER BY full_name LIMIT 2) q",
    "SELECT a.p, b.p, a.p = b.p FROM (SELECT p FROM patients p) a JOIN (SELECT p FROM patients p) b ON a.p < b.p",
    "SELECT o.id, l.p, l.n FROM patients o, LATERAL (SELECT p, 1 AS n FROM patients p WHERE p.full_name > o.full_name) l",
    "SELECT p, l.x FROM patients p, LATERAL (SELECT p AS x) l WHERE l.x = p",
    "SELECT (SELECT p), upper(ssn) FROM patients p",
    "SELECT (SELECT p FROM patients p WHERE p.id = 1), upper(full_name) FROM patients",
    "SELECT ((SELECT p FROM patients p WHERE p.id = v.patient_id)).full_name FROM visits v ORDER BY v.id",
    "SELECT EXISTS (SELECT p FROM patients p WHERE p.full_name > 'x'), ARRAY(SELECT p FROM patients p ORDER BY p.id)",
    "VALUES ((SELECT p FROM patients p WHERE id = 1)), (NULL)",
    "WITH c AS (SELECT p, p.id FROM patients p) SELECT c.p, c FROM c ORDER BY c.id",
    "WITH c AS (SELECT p, p.id FROM patients p) SELECT c.p, d.p FROM c LEFT JOIN c AS d ON d.id = c.id + 1 ORDER BY c.id",
    "WITH RECURSIVE t (p, n) AS (SELECT p, 1 FROM patients p WHERE id = 1 UNION ALL SELECT q, n + 1 FROM t, patients q"
    " WHERE q.id = n + 1 AND q.full_name > '') SELECT n, (p).ssn FROM t ORDER BY n",
    "SELECT p FROM patients p UNION ALL SELECT p FROM patients p",
    "SELECT p FROM patients p UNION SELECT q FROM patients q",
    "SELECT p FROM patients p INTERSECT SELECT p FROM patients p WHERE p.full_name > 'M'",
    "SELECT p FROM patients p EXCEPT ALL SELECT p FROM patients p WHERE p.id = 1",
    "SELECT p FROM patients p UNION ALL SELECT NULL",
    "SELECT p FROM patients p UNION ALL SELECT p FROM patients p ORDER BY p",
    "(SELECT p FROM patients p ORDER BY full_name LIMIT 1) UNION ALL (SELECT p FROM patients p ORDER BY ssn LIMIT 1)",
    "SELECT (u.p).ssn, u.p FROM (SELECT p FROM patients p UNION ALL SELECT q FROM patients q) u ORDER BY 1",
    "SELECT u.p FROM (SELECT p, 1 FROM patients p UNION ALL SELECT NULL, 2) u (p, n) ORDER BY u.n, u.p",
    "SELECT p FROM patients p UNION ALL SELECT v FROM visits v",
    "SELECT p FROM patients p UNION ALL SELECT ROW(1, 2)",
    "SELECT q.p::patients, q.p::patients IS NULL FROM (SELECT p FROM patients p) q",
    "SELECT q.s, (q.s).social, upper((q.s).social) FROM (SELECT s FROM springfield s) q ORDER BY 2",
    "SELECT s FROM springfield s UNION ALL SELECT s FROM springfield s WHERE upper(s.social) > 'a'",
    "SELECT s FROM springfield s EXCEPT SELECT t FROM springfield t WHERE upper(t.social) > 'a'",
    "SELECT q.l, upper(p.ssn) FROM (SELECT l, l.id FROM log l) q RIGHT JOIN patients p ON p.id = q.id",
    "WITH c AS (SELECT s, upper(s.social) AS u FROM springfield s) SELECT c.s, c FROM c ORDER BY c.u",
    "SELECT json_agg(q) FROM (SELECT id, upper(full_name) AS name FROM patients ORDER BY full_name) q",
    "SELECT json_agg(q ORDER BY q.id) FROM (SELECT p.id, p.full_name, v FROM patients p JOIN visits v ON v.patient_id = p.id) q",
    "SELECT q, row_to_json(q) FROM (SELECT p.id, s FROM patients p JOIN springfield s ON s.id = p.id) q ORDER BY q.id",
    "SELECT (q.p).nothing FROM (SELECT p FROM patients p) q",
    "SELECT q.p || 'x' FROM (SELECT p FROM patients p) q",
])  # fmt: skip
def test_as_columns_of_queries(kept_both: Differential, statement: str) -> None:
    kept_both.run(statement)
    kept_both.run(statement, named=True)
    kept_both.run(statement, protocol="simple")


def test_as_columns_in_binary_form(kept_both: Differential) -> None:
    for statement in (
        "SELECT q.p FROM (SELECT p, upper(ssn) FROM patients p) q",
        "SELECT p FROM patients p UNION ALL SELECT p FROM patients p ORDER BY 1",
        "SELECT (q.p).ssn FROM (SELECT p FROM patients p) q",
    ):
        kept_both.run(statement, result_format=1)
        kept_both.run(statement + " -- named", result_format=1, named=True)


def test_parameters(kept_both: Differential) -> None:
    statement = "SELECT array_agg(p ORDER BY p.id) FROM patients p WHERE p.full_name > $1 AND p.id < $2"
    kept_both.run(statement, ("A", "4"), types=[25, 23], named=True)
    kept_both.run(statement, ("A", 4), types=[25, 23], param_format=1)


def test_a_table_that_has_changed(split_clinic: Clinic) -> None:
    split_clinic.seed(2)
    statement = b"SELECT array_agg(v ORDER BY v.id), upper(max(v.diagnosis)) FROM visits v"
    with (
        psycopg.connect(split_clinic.plain_dsn, autocommit=True) as plain,
        psycopg.connect(split_clinic.proxy_dsn, autocommit=True) as proxied,
    ):
        for change in (b"ALTER TABLE visits ADD COLUMN ward int DEFAULT 3", b"ALTER TABLE visits DROP COLUMN ward"):
            for conn in (plain, proxied):
                conn.execute(change)
            assert proxied.execute(statement).fetchall() == plain.execute(statement).fetchall()
