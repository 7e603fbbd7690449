"""Roles that see masks, through a running proxy: what is shown to each, and that nothing else of a masked value can be learnt."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from tests.harness.backend import Backend
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.integration.masked_site import Connection, MaskedSite, open_masked_site
from tests.session import frames
from tests.session.frames import SYNC

SSN, NAME, BORN, EMAIL, ZIP = "078-05-1120", "Jane Zorkendorfer", "1961-04-17", "jane@zork.example", "90210"
ROW = (1, "M-0000001", SSN, NAME, BORN, EMAIL, ZIP, 97, "Turku")
INSERT = "INSERT INTO people (id, mrn, ssn, name, born, email, zip, age, city) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
DOCUMENT = {
    "ssn": SSN, "born": BORN, "ward": "B2",
    "name": {"given": "Jane", "family": "Zorkendorfer"}, "notes": [{"is": "ill", "on": "x"}],
}  # fmt: skip
RECORD = f"UPDATE people SET doc = '{json.dumps(DOCUMENT)}' WHERE id = 1"


@pytest.fixture(scope="module")
def masked(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaskedSite]:
    """The clinic with one person in it."""
    with open_masked_site(postgres_server, tmp_path_factory.mktemp("masks")) as masked:
        with masked.as_owner() as conn:
            conn.execute(INSERT, ROW)
            conn.execute(RECORD.encode())
            conn.execute("INSERT INTO calls (id, person, mrn, note) VALUES (1, 1, 'M-0000001', 'called')")
        yield masked


@pytest.fixture
def nurse(masked: MaskedSite) -> Iterator[Connection]:
    with masked.kept("mask_nurse") as conn:
        yield conn


def test_each_role_is_shown_its_own(masked: MaskedSite) -> None:
    query = "SELECT ssn, born, zip FROM people"
    for binary in (False, True):
        for prepare in (False, True):
            shown = {}
            for role in ("mask_nurse", "mask_research", "mask_clerk"):
                with masked.as_role(role) as conn, conn.cursor(binary=binary) as cursor:
                    row = cursor.execute(query, prepare=prepare).fetchone()
                    assert row is not None
                    shown[role] = tuple(None if value is None else str(value) for value in row)
            assert shown == {
                "mask_nurse": ("*******1120", "1961-01-01", ZIP),
                "mask_research": (None, None, None),
                "mask_clerk": (SSN, BORN, ZIP),
            }


USES = [
    "SELECT id FROM people WHERE ssn = '078-05-1120'",
    "SELECT id FROM people WHERE ssn IS NULL",
    "SELECT id FROM people WHERE ssn IN ('1', '2')",
    "SELECT id FROM people WHERE ssn LIKE '078%'",
    "SELECT id FROM people WHERE right(ssn, 4) = '1120'",
    "SELECT id FROM people WHERE ssn = ANY (ARRAY['1'])",
    "SELECT id FROM people WHERE (id, ssn) = (1, '078-05-1120')",
    "SELECT id FROM people WHERE ssn::varchar = '1'",
    "SELECT id FROM people WHERE upper(ssn) = '1'",
    "SELECT id FROM people WHERE born BETWEEN '1961-01-01' AND '1961-12-31'",
    "SELECT id FROM people WHERE born < '1970-01-01'",
    "SELECT id FROM people ORDER BY ssn",
    "SELECT ssn FROM people ORDER BY 1",
    "SELECT ssn AS s FROM people ORDER BY s",
    "SELECT DISTINCT ssn FROM people",
    "SELECT DISTINCT id, ssn FROM people",
    "SELECT DISTINCT ON (ssn) id FROM people",
    "SELECT count(*) FROM people GROUP BY ssn",
    "SELECT ssn, count(*) FROM people GROUP BY 1",
    "SELECT ssn AS s, count(*) FROM people GROUP BY s",
    "SELECT count(*) FROM people GROUP BY GROUPING SETS ((ssn), ())",
    "SELECT count(ssn) FROM people",
    "SELECT count(DISTINCT ssn) FROM people",
    "SELECT max(ssn) FROM people",
    "SELECT array_agg(ssn) FROM people",
    "SELECT string_agg(ssn, ',') FROM people",
    "SELECT count(*) FILTER (WHERE ssn = '1') FROM people",
    "SELECT id FROM people GROUP BY id HAVING max(ssn) > '1'",
    "SELECT row_number() OVER (ORDER BY ssn) FROM people",
    "SELECT row_number() OVER (PARTITION BY ssn) FROM people",
    "SELECT lag(ssn) OVER (ORDER BY id) FROM people",
    "SELECT rank() OVER w FROM people WINDOW w AS (PARTITION BY ssn)",
    "SELECT upper(ssn) FROM people",
    "SELECT ssn || 'x' FROM people",
    "SELECT ssn = '1' FROM people",
    "SELECT ssn IS NULL FROM people",
    "SELECT p IS NULL FROM people p",
    "SELECT id FROM people p WHERE p IS NOT NULL",
    "SELECT length(ssn) FROM people",
    "SELECT md5(ssn) FROM people",
    "SELECT right(ssn, 4) FROM people",
    "SELECT left(ssn, 3) FROM people",
    "SELECT born::text FROM people",
    "SELECT ssn::bytea FROM people",
    "SELECT ssn::char(3) FROM people",
    "SELECT extract(year FROM born) FROM people",
    "SELECT age(born) FROM people",
    "SELECT COALESCE(ssn, 'none') FROM people",
    "SELECT NULLIF(ssn, '078-05-1120') FROM people",
    "SELECT CASE WHEN ssn = '1' THEN 1 END FROM people",
    "SELECT CASE WHEN id = 1 THEN ssn END FROM people",
    "SELECT CASE ssn WHEN '1' THEN 1 END FROM people",
    "SELECT GREATEST(ssn, '1') FROM people",
    "SELECT ARRAY[ssn] FROM people",
    "SELECT ROW(id, ssn) FROM people",
    "SELECT json_build_object('s', ssn) FROM people",
    "SELECT p.id FROM people p JOIN people q ON p.ssn = q.ssn",
    "SELECT id FROM people JOIN (SELECT ssn, id AS other FROM people) q USING (ssn)",
    "SELECT 1 FROM (SELECT ssn FROM people) p NATURAL JOIN (SELECT ssn FROM people) q",
    "SELECT id FROM people WHERE ssn IN (SELECT ssn FROM people)",
    "SELECT id FROM people WHERE '1' IN (SELECT ssn FROM people)",
    "SELECT id FROM people WHERE '1' = (SELECT ssn FROM people)",
    "SELECT id FROM people WHERE '1' < ALL (SELECT ssn FROM people)",
    "SELECT (SELECT ssn FROM people) IS NULL",
    "SELECT (SELECT ssn FROM people) = '1'",
    "SELECT ARRAY(SELECT ssn FROM people)",
    "SELECT id FROM people p WHERE EXISTS (SELECT FROM people q WHERE q.ssn = p.ssn)",
    "SELECT ssn FROM people UNION SELECT ssn FROM people",
    "SELECT ssn FROM people INTERSECT SELECT '078-05-1120'",
    "SELECT ssn FROM people EXCEPT SELECT '078-05-1120'",
    "WITH RECURSIVE r AS (SELECT id, ssn FROM people UNION SELECT id, ssn FROM r) SELECT ssn FROM r",
    "SELECT s FROM (SELECT ssn AS s FROM people) q WHERE s = '1'",
    "WITH q AS (SELECT ssn AS s FROM people) SELECT s FROM q ORDER BY s",
    "SELECT id FROM everybody WHERE ssn = '1'",
    "SELECT DISTINCT ssn FROM everybody",
    "SELECT x FROM people, LATERAL (SELECT people.ssn AS x) q WHERE x = '1'",
    "SELECT f FROM people, LATERAL upper(ssn) f",
    "SELECT id FROM people, LATERAL (VALUES (ssn)) v (x)",
    "SELECT id FROM people LIMIT (SELECT length(ssn) FROM people)",
    "SELECT people FROM people",
    "SELECT id FROM people p WHERE p IS NULL",
    "SELECT to_jsonb(p) FROM people p",
    "SELECT ROW(p.*) FROM people p",
    "SELECT p::text FROM people p",
    "SELECT id FROM people p ORDER BY p",
    "SELECT q FROM (SELECT id, ssn FROM people) q",
    "SELECT everybody FROM everybody",
    "UPDATE people SET city = people::text",
    "DELETE FROM people WHERE id = 9 RETURNING people",
    "UPDATE people SET ssn = '1' WHERE id = 1",
    "UPDATE people SET ssn = DEFAULT",
    "UPDATE people SET (city, ssn) = ('x', 'y')",
    "UPDATE people SET ssn = upper('x')",
    "UPDATE people SET city = ssn",
    "UPDATE people SET name = ssn",
    "UPDATE people SET city = 'x' WHERE ssn = '1'",
    "UPDATE people SET city = q.city FROM people q WHERE q.ssn = people.ssn",
    "UPDATE people SET city = 'x' RETURNING ssn = '1'",
    "UPDATE people SET (city) = (SELECT ssn FROM people)",
    "DELETE FROM people WHERE ssn = '1'",
    "DELETE FROM people USING people q WHERE q.ssn = people.ssn AND q.id > people.id",
    "DELETE FROM people WHERE id = 9 RETURNING upper(ssn)",
    "INSERT INTO people (id, ssn) SELECT id + 100, ssn FROM people",
    "INSERT INTO people (id, name) SELECT id + 100, ssn FROM people",
    "INSERT INTO people (id, city) SELECT id + 100, ssn FROM people",
    "INSERT INTO people SELECT * FROM people",
    "INSERT INTO people TABLE people",
    "INSERT INTO people (id, ssn) SELECT id, ssn FROM people UNION ALL SELECT id, ssn FROM people",
    "INSERT INTO people (id, ssn) VALUES (100, (SELECT ssn FROM people))",
    "INSERT INTO people (id, city) VALUES (100, (SELECT ssn FROM people))",
    "INSERT INTO people (id, ssn) VALUES (100, 'x') ON CONFLICT (ssn) DO NOTHING",
    "INSERT INTO people (id, ssn) VALUES (100, 'x') ON CONFLICT DO NOTHING",
    "INSERT INTO people (id, ssn) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn",
    "INSERT INTO people (id, ssn) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET city = people.ssn",
    "INSERT INTO people (id, ssn) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET city = 'y' WHERE people.ssn = excluded.ssn",
    "INSERT INTO people (id, ssn) VALUES (100, 'x') RETURNING ssn = 'x'",
    "MERGE INTO people p USING calls c ON p.ssn = c.note WHEN MATCHED THEN DO NOTHING",
    "MERGE INTO people p USING calls c ON p.id = c.person WHEN MATCHED AND p.ssn = '1' THEN DELETE",
    "MERGE INTO people p USING calls c ON p.id = c.person WHEN MATCHED THEN UPDATE SET ssn = 'x'",
    "CREATE TABLE copied AS SELECT ssn FROM people",
    "SELECT ssn INTO copied FROM people",
    "COPY (SELECT upper(ssn) FROM people) TO STDOUT",
    "COPY (SELECT id FROM people WHERE ssn = '1') TO STDOUT",
    "EXPLAIN SELECT id FROM people WHERE ssn = '1'",
    "EXPLAIN (ANALYZE) SELECT id FROM people ORDER BY ssn",
    "DECLARE c CURSOR FOR SELECT id FROM people WHERE ssn = '1'",
    "PREPARE p AS SELECT id FROM people WHERE ssn = $1",
    "ALTER TABLE people ADD CHECK (ssn > '1')",
    "ALTER TABLE people ADD UNIQUE (ssn)",
    "ALTER TABLE people ALTER COLUMN ssn SET NOT NULL",
    "ALTER TABLE people RENAME COLUMN ssn TO number",
    "CREATE INDEX ON people (ssn)",
    "CREATE UNIQUE INDEX ON people (ssn)",
    "CREATE TABLE child (s text REFERENCES people (ssn))",
    "CREATE STATISTICS s ON ssn, city FROM people",
    # Fields of a document, by their paths and with what is around them.
    "SELECT id FROM people WHERE doc->>'ssn' = '078-05-1120'",
    "SELECT id FROM people WHERE doc->>'ssn' IS NULL",
    'SELECT id FROM people WHERE doc @> \'{"ssn": "078-05-1120"}\'',
    "SELECT id FROM people WHERE doc->'name' ? 'given'",
    "SELECT id FROM people WHERE doc->>city = '078-05-1120'",
    "SELECT id FROM people WHERE jsonb_path_exists(doc, '$.ssn ? (@ starts with \"0\")')",
    "SELECT id FROM people ORDER BY doc->>'ssn'",
    "SELECT doc->>'ssn' FROM people ORDER BY 1",
    "SELECT doc->>'ssn' AS s FROM people ORDER BY s",
    "SELECT DISTINCT doc->>'ssn' FROM people",
    "SELECT DISTINCT ON (doc->>'ssn') id FROM people",
    "SELECT count(*) FROM people GROUP BY doc->>'ssn'",
    "SELECT doc->>'ssn', count(*) FROM people GROUP BY 1",
    "SELECT doc->>'ssn' AS s, count(*) FROM people GROUP BY s",
    "SELECT count(DISTINCT doc->>'ssn') FROM people",
    "SELECT max(doc->>'ssn') FROM people",
    "SELECT rank() OVER (PARTITION BY doc->>'ssn') FROM people",
    "SELECT lag(doc->>'ssn') OVER (ORDER BY id) FROM people",
    "SELECT upper(doc->>'ssn') FROM people",
    "SELECT right(doc->>'ssn', 4) FROM people",
    "SELECT doc->>'ssn' = '078-05-1120' FROM people",
    "SELECT (doc->>'ssn') IS NULL FROM people",
    "SELECT (doc->>'born')::date FROM people",
    "SELECT (doc->'ssn')::text FROM people",
    "SELECT (doc->>'ssn')::char(3) FROM people",
    "SELECT doc->'ssn'->0 FROM people",
    "SELECT doc->>city FROM people",
    "SELECT doc::text FROM people",
    "SELECT doc - 'ward' FROM people",
    "SELECT doc || '{}' FROM people",
    "SELECT jsonb_set(doc, '{ward}', '1') FROM people",
    "SELECT jsonb_path_query(doc, '$.ssn') FROM people",
    "SELECT v FROM people, jsonb_each_text(doc) AS e (k, v)",
    "SELECT COALESCE(doc->>'ssn', 'none') FROM people",
    "SELECT CASE WHEN id = 1 THEN doc->>'ssn' END FROM people",
    "SELECT NULLIF(doc->>'ssn', '078-05-1120') FROM people",
    "SELECT ARRAY[doc->>'ssn'] FROM people",
    "SELECT jsonb_build_object('s', doc->>'ssn') FROM people",
    "SELECT (SELECT doc->>'ssn' FROM people) = '1'",
    "SELECT doc->>'ssn' FROM people UNION SELECT doc->>'ssn' FROM people",
    "SELECT s FROM (SELECT doc->>'ssn' AS s FROM people) q WHERE s = '1'",
    "SELECT d->>'ssn' = '1' FROM (SELECT doc AS d FROM people) q",
    "SELECT upper(n->>'given') FROM (SELECT doc->'name' AS n FROM people) q",
    "SELECT id FROM everybody WHERE number = '078-05-1120'",
    "SELECT id FROM everybody ORDER BY names->>'given'",
    "SELECT p.id FROM people p JOIN people q ON p.doc->>'ssn' = q.doc->>'ssn'",
    "SELECT id FROM people WHERE '1' IN (SELECT doc->>'ssn' FROM people)",
    "UPDATE people SET doc = '{}'",
    "UPDATE people SET doc['ward'] = '\"B3\"'",
    "UPDATE people SET city = doc->>'ssn'",
    "UPDATE people SET (city) = (SELECT doc->>'ssn' FROM people)",
    "UPDATE people SET city = 'x' RETURNING doc->>'ssn' = '1'",
    "DELETE FROM people WHERE doc->>'ssn' = '1'",
    "INSERT INTO people (id, city) SELECT id + 100, doc->>'ssn' FROM people",
    "INSERT INTO people (id, doc) SELECT id + 100, doc FROM people",
    "INSERT INTO people (id, city) VALUES (100, (SELECT doc->>'ssn' FROM people))",
    "INSERT INTO people (id, doc) VALUES (100, '{}') RETURNING doc->>'ssn' IS NULL",
    "INSERT INTO people (id, doc) VALUES (1, '{}') ON CONFLICT ((doc->>'ssn')) DO NOTHING",
    "INSERT INTO people (id, doc) VALUES (1, '{}') ON CONFLICT (id) DO UPDATE SET doc = excluded.doc",
    "INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET city = people.doc->>'ssn'",
    "INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET city = 'y' WHERE people.doc->>'ssn' = '1'",
    "MERGE INTO people p USING calls c ON p.id = c.person WHEN MATCHED AND p.doc->>'ssn' = '1' THEN DELETE",
    "CREATE TABLE copied AS SELECT doc->>'ssn' AS s FROM people",
    "COPY (SELECT upper(doc->>'ssn') FROM people) TO STDOUT",
    "EXPLAIN SELECT id FROM people WHERE doc->>'ssn' = '1'",
    "DECLARE c CURSOR FOR SELECT id FROM people ORDER BY doc->>'ssn'",
    "PREPARE p AS SELECT id FROM people WHERE doc->>'ssn' = $1",
    "CREATE UNIQUE INDEX ON people ((doc->>'ssn'))",
    "ALTER TABLE people ADD CHECK (doc->>'ssn' > '1')",
]


@pytest.mark.parametrize("statement", USES)
def test_a_masked_column_is_only_shown(nurse: Connection, statement: str) -> None:
    nurse.execute("BEGIN")
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        nurse.execute(statement.encode())
    nurse.execute("ROLLBACK")
    assert "is masked for this role" in str(refused.value)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        psycopg.ClientCursor(nurse).execute(statement.encode())


SHOWN = [
    ("SELECT ssn FROM people WHERE id = 1", "*******1120"),
    ("SELECT p.ssn FROM people AS p ORDER BY id LIMIT 1", "*******1120"),
    ("SELECT ssn::text FROM people", "*******1120"),
    ("SELECT ssn::varchar FROM people", "*******1120"),
    ("SELECT s FROM (SELECT ssn AS s FROM people) q", "*******1120"),
    ("WITH q AS (SELECT ssn AS s FROM people) SELECT s FROM q", "*******1120"),
    ("SELECT ssn FROM everybody", "*******1120"),
    ("SELECT (SELECT ssn FROM people WHERE id = 1)", "*******1120"),
    ("SELECT ssn FROM people WHERE name = 'Jane Zorkendorfer'", "*******1120"),
    ("SELECT ssn FROM people JOIN calls ON person = people.id WHERE people.mrn = calls.mrn", "*******1120"),
    ("SELECT ssn FROM people UNION ALL SELECT ssn FROM people LIMIT 1", "*******1120"),
    ("SELECT ssn FROM people GROUP BY id", "*******1120"),
    ("SELECT DISTINCT ON (id) ssn FROM people", "*******1120"),
    ("UPDATE people SET city = 'Turku' WHERE id = 1 RETURNING ssn", "*******1120"),
    ("SELECT x FROM people, LATERAL (SELECT people.ssn AS x) q", "*******1120"),
    ("SELECT (p).ssn FROM people p", "*******1120"),
    ("SELECT ssn FROM people FOR UPDATE", "*******1120"),
    ("SELECT born FROM people", "1961-01-01"),
    ("SELECT count(*) FROM people", "1"),
    ("SELECT city FROM people WHERE EXISTS (SELECT ssn FROM people)", "Turku"),
    ("SELECT doc->>'ssn' FROM people", "*******1120"),
    ("SELECT doc->'ssn' FROM people", "*******1120"),
    ("SELECT doc['ssn'] FROM people", "*******1120"),
    ("SELECT jsonb_extract_path_text(doc, 'ssn') FROM people", "*******1120"),
    ("SELECT (doc->>'ssn')::varchar FROM people", "*******1120"),
    ("SELECT doc #>> '{born}' FROM people", "1961-01-01"),
    ("SELECT doc->'name'->>'given' FROM people", "None"),
    ("SELECT doc->>'name' FROM people", '{"given": null, "family": "Zorkendorfer"}'),
    ("SELECT doc->'notes'->0 FROM people", "{'is': None, 'on': 'x'}"),
    ("SELECT doc->'name'->>'family' FROM people WHERE doc->'name'->>'family' = 'Zorkendorfer'", "Zorkendorfer"),
    ("SELECT s FROM (SELECT doc->>'ssn' AS s FROM people) q", "*******1120"),
    ("WITH q AS (SELECT doc->'name' AS n FROM people) SELECT n->>'given' FROM q", "None"),
    ("SELECT (SELECT doc->>'ssn' FROM people WHERE id = 1)", "*******1120"),
    ("SELECT number FROM everybody", "*******1120"),
    ("SELECT names->>'given' FROM everybody", "None"),
    ("SELECT doc->>'ssn' FROM people UNION ALL SELECT doc->>'ssn' FROM people LIMIT 1", "*******1120"),
    ("SELECT doc->>'ssn' FROM people GROUP BY id", "*******1120"),
    ("UPDATE people SET city = 'Turku' WHERE id = 1 RETURNING doc->>'ssn'", "*******1120"),
    ("INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET city = 'Turku' RETURNING doc->>'born'", "1961-01-01"),
]


@pytest.mark.parametrize(("statement", "value"), SHOWN)
def test_it_is_shown_as_its_mask(nurse: Connection, statement: str, value: str) -> None:
    for prepare in (False, True):
        row = nurse.execute(statement.encode(), prepare=prepare).fetchone()
        assert row is not None
        assert str(row[0]) == value
    result = psycopg.ClientCursor(nurse).execute(statement.encode()).fetchone()
    assert result is not None
    assert str(result[0]) == value


def test_fields_in_copies_cursors_and_binary_results(nurse: Connection) -> None:
    query = "SELECT doc->>'ssn', doc->'name'->>'given', doc->'ssn' FROM people"
    for form, data in (("text", b'*******1120\t\\N\t"*******1120"\n'), ("csv", b'*******1120,,"""*******1120"""\n')):
        with nurse.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT {form})".encode()) as copy:
            assert b"".join(copy) == data
    with nurse.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT binary)".encode()) as copy:
        copy.set_types(["text", "text", "jsonb"])
        assert list(copy.rows()) == [(MASKED, None, MASKED)]
    assert nurse.cursor(binary=True).execute(query.encode()).fetchall() == [(MASKED, None, MASKED)]
    with nurse.transaction():
        nurse.execute(f"DECLARE c CURSOR FOR {query}".encode())
        assert nurse.execute("FETCH c").fetchall() == [(MASKED, None, MASKED)]
    assert SSN not in str(nurse.execute(f"EXPLAIN (ANALYZE, VERBOSE) {query}".encode()).fetchall())


def test_star_and_new_rows(masked: MaskedSite, nurse: Connection) -> None:
    row = nurse.execute("SELECT * FROM people").fetchone()
    assert row is not None
    assert (row[2], row[3], str(row[4])) == ("*******1120", NAME, "1961-01-01")
    nurse.execute(INSERT, (2, "M2", "123-45-6789", "New", "2001-02-03", None, None, 3, "Oulu"))
    try:
        with masked.as_owner() as owner:
            assert owner.execute("SELECT id FROM people WHERE ssn = '123-45-6789'").fetchall() == [(2,)]
        with pytest.raises(psycopg.errors.UniqueViolation) as violated:
            nurse.execute("INSERT INTO people (id, ssn) VALUES (3, '123-45-6789')")
        assert "6789" not in str(violated.value)
    finally:
        nurse.execute("DELETE FROM people WHERE id = 2")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT note FROM calls", "SELECT * FROM people", "TABLE calls", "SELECT 1 FROM calls WHERE note IS NULL",
        "SELECT EXISTS (SELECT note FROM calls)", "COPY calls TO STDOUT", "COPY (SELECT note FROM calls) TO STDOUT",
        "INSERT INTO calls (id, note) VALUES (7, 'x') RETURNING note", "UPDATE calls SET note = 'x'",
        "SELECT count(note) FROM calls", "EXPLAIN SELECT note FROM calls",
        "DELETE FROM calls RETURNING *", "SELECT ssn FROM everybody",
    ],
)  # fmt: skip
def test_what_is_denied_is_not_read(masked: MaskedSite, statement: str) -> None:
    with masked.kept("mask_dba") as dba:
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
            dba.execute(statement.encode())
        assert "permission denied for column public." in str(refused.value)
        assert dba.execute("SELECT id, city FROM people").fetchall() == [(1, "Turku")]


def test_new_rows_of_what_is_denied(masked: MaskedSite) -> None:
    with masked.as_role("mask_dba") as dba:
        dba.execute("INSERT INTO calls (id, note) VALUES (8, 'written')")
        dba.execute("DELETE FROM calls WHERE id = 8")


# -- whose role it is ------------------------------------------------------------------------------------------------------------


def shown_to(conn: Connection) -> str:
    row = conn.execute("SELECT ssn FROM people WHERE id = 1").fetchone()
    assert row is not None
    return str(row[0])


MASKED = "*******1120"


def test_the_current_role_decides(masked: MaskedSite) -> None:
    with masked.as_role("mask_pool", prepare_threshold=0) as pool:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):  # it is a member of all others, and the strictest rule holds
            shown_to(pool)
        for _ in range(2):
            pool.execute("SET ROLE mask_clerk")
            assert shown_to(pool) == SSN
            pool.execute("SET ROLE mask_nurse")
            assert shown_to(pool) == MASKED
        pool.execute("RESET ROLE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            shown_to(pool)


def test_it_follows_transactions_and_savepoints(masked: MaskedSite) -> None:
    with masked.as_role("mask_pool") as pool:
        pool.execute("SET ROLE mask_clerk")
        pool.execute("BEGIN")
        pool.execute("SET LOCAL ROLE mask_nurse")
        assert shown_to(pool) == MASKED
        pool.execute("SAVEPOINT s")
        pool.execute("SET LOCAL ROLE mask_clerk")
        assert shown_to(pool) == SSN
        pool.execute("ROLLBACK TO s")
        assert shown_to(pool) == MASKED
        pool.execute("ROLLBACK")
        assert shown_to(pool) == SSN
        pool.execute("BEGIN")
        pool.execute("SET ROLE mask_nurse")
        pool.execute("COMMIT")
        assert shown_to(pool) == MASKED
        pool.execute("SELECT set_config('role', 'mask_clerk', false)")
        assert shown_to(pool) == SSN
        pool.execute("DO $$ BEGIN SET ROLE mask_nurse; END $$")
        assert shown_to(pool) == MASKED
        pool.execute("DISCARD ALL")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            shown_to(pool)


def test_a_statement_prepared_by_another_role(masked: MaskedSite) -> None:
    with masked.as_role("mask_pool", prepare_threshold=0) as pool:
        pool.execute("SET ROLE mask_clerk")
        pool.execute("PREPARE p AS SELECT ssn FROM people")
        pool.execute("PREPARE f AS SELECT doc->>'ssn' FROM people")
        pool.execute("PREPARE q AS SELECT id FROM people WHERE ssn = $1")
        query = "SELECT ssn FROM people WHERE id = %s"
        search = "SELECT id FROM people WHERE ssn = %s"
        assert pool.execute(query, (1,)).fetchall() == [(SSN,)]
        assert pool.execute("EXECUTE p").fetchall() == [(SSN,)]
        assert pool.execute(search, (SSN,)).fetchall() == [(1,)]
        pool.execute("SET ROLE mask_nurse")
        assert pool.execute(query, (1,)).fetchall() == [(MASKED,)]
        assert pool.execute("EXECUTE p").fetchall() == pool.execute("EXECUTE f").fetchall() == [(MASKED,)]
        for refused in (search, f"EXECUTE q ('{SSN}')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                pool.execute(refused, (SSN,) if refused == search else None)
        pool.execute("SET ROLE mask_clerk")
        assert pool.execute(query, (1,)).fetchall() == [(SSN,)]
        assert pool.execute("EXECUTE p").fetchall() == pool.execute("EXECUTE f").fetchall() == [(SSN,)]
        assert pool.execute(f"EXECUTE q ('{SSN}')").fetchall() == [(1,)]


def test_a_cursor_opened_by_another_role(masked: MaskedSite) -> None:
    with masked.as_role("mask_pool") as pool:
        pool.execute("SET ROLE mask_clerk")
        pool.execute("BEGIN")
        pool.execute("DECLARE c SCROLL CURSOR FOR SELECT ssn FROM people")
        pool.execute("DECLARE h CURSOR WITH HOLD FOR SELECT ssn FROM people")
        assert pool.execute("FETCH c").fetchall() == [(SSN,)]
        pool.execute("SET LOCAL ROLE mask_nurse")
        pool.execute("SAVEPOINT s")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            pool.execute("FETCH FIRST FROM c")
        pool.execute("ROLLBACK TO s")
        pool.execute("COMMIT")
        assert pool.execute("FETCH h").fetchall() == [(SSN,)]
        pool.execute("CLOSE h")
        pool.execute("SET ROLE mask_nurse")
        with pool.transaction():
            pool.execute("DECLARE c CURSOR FOR SELECT ssn FROM people")
            assert pool.execute("FETCH c").fetchall() == [(MASKED,)]


@pytest.mark.parametrize("hold", ["", "WITH HOLD"])
def test_a_cursor_that_was_rolled_back_is_not_there_for_another_role(masked: MaskedSite, hold: str) -> None:
    """As PostgreSQL says it: 34000, where it is gone with its savepoint; one that is older is there still, and refused."""
    with masked.as_role("mask_pool") as pool:
        for execute in (pool.execute, psycopg.ClientCursor(pool).execute):
            pool.execute("SET ROLE mask_clerk")
            pool.execute("BEGIN")
            pool.execute(f"DECLARE \"o'lder\" CURSOR {hold} FOR SELECT ssn FROM people".encode())
            pool.execute("SAVEPOINT s")
            pool.execute(f"DECLARE c CURSOR {hold} FOR SELECT ssn FROM people".encode())
            assert execute("FETCH c").fetchall() == [(SSN,)]
            pool.execute("ROLLBACK TO s")
            pool.execute("SET LOCAL ROLE mask_nurse")
            for fetch in ("FETCH c", "MOVE c", "FETCH ALL FROM c"):
                pool.execute("SAVEPOINT r")
                with pytest.raises(psycopg.errors.InvalidCursorName, match='cursor "c" does not exist'):
                    execute(fetch)
                pool.execute("ROLLBACK TO r")
            for _ in range(2):
                pool.execute("SAVEPOINT r")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    execute('FETCH "o\'lder"')
                with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                    execute("FETCH c")
                pool.execute("ROLLBACK TO r")
            pool.execute("SET LOCAL ROLE mask_clerk")
            assert execute('FETCH "o\'lder"').fetchall() == [(SSN,)]
            pool.execute("ROLLBACK")


@pytest.mark.parametrize("gone", [False, True])
def test_so_is_a_portal_of_the_protocol(masked: MaskedSite, gone: bool) -> None:
    def run(text: str) -> list[bytes]:
        return [frames.parse(text), frames.bind(), frames.execute()]

    opens = frames.parse("SELECT ssn FROM public.people"), frames.bind(portal="p")
    opened = [*opens, *run("ROLLBACK TO s" if gone else "SELECT 1")]
    with closing(Backend(masked.dsn("mask_pool"))) as pool:
        says = [*run("BEGIN"), *run("SET ROLE mask_clerk"), *run("SAVEPOINT s"), SYNC, *opened, *run("SET ROLE mask_nurse"), SYNC]
        told = pool.says([*says, frames.execute("p"), SYNC])
    assert [frames.error_fields(frame)["C"] for frame in told if frame[:1] == b"E"] == ["34000" if gone else "42501"]


def test_behind_set_role_in_one_string_or_pipeline(masked: MaskedSite) -> None:
    with masked.as_role("mask_pool") as pool:
        pool.execute("SET ROLE mask_clerk")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="whose role"):
            psycopg.ClientCursor(pool).execute("SET ROLE mask_nurse; SELECT ssn FROM public.people")
        assert shown_to(pool) == SSN
        shown: list[Any] = []
        with pool.pipeline() as pipeline:
            for role in ("mask_nurse", "mask_clerk", "mask_nurse"):
                pool.execute(f"SET ROLE {role}".encode())
                shown.append(pool.execute("SELECT ssn FROM public.people"))
                pipeline.sync()
        assert [cursor.fetchall() for cursor in shown] == [[(MASKED,)], [(SSN,)], [(MASKED,)]]


def test_members_count_and_are_followed(masked: MaskedSite) -> None:
    with masked.as_role("mask_team") as team, masked.as_role("mask_clerk") as clerk:
        assert shown_to(team) == MASKED
        assert shown_to(clerk) == SSN
        masked.admin("GRANT mask_team TO mask_clerk")
        try:
            deadline = 600
            while shown_to(clerk) != MASKED:
                deadline -= 1
                assert deadline
                time.sleep(0.1)
        finally:
            masked.admin("REVOKE mask_team FROM mask_clerk")
        while shown_to(clerk) == MASKED:
            time.sleep(0.1)


def test_pseudonyms(masked: MaskedSite) -> None:
    with masked.as_owner() as owner:
        owner.execute("INSERT INTO people (id, name) VALUES (21, %s), (22, 'Other')", (NAME,))
    try:
        seen = {}
        masked.admin("CREATE ROLE mask_res2 LOGIN PASSWORD 'mask'")
        masked.admin("GRANT ALL ON people TO mask_res2; GRANT USAGE ON SCHEMA public TO mask_res2")
        for role in ("mask_research", "mask_res2"):
            with masked.as_role(role) as conn:
                one, two, other = (row[0] for row in conn.execute("SELECT name FROM people WHERE id IN (1, 21, 22) ORDER BY id"))
                assert one == two != other
                assert len(one) == 32
                seen[role] = one
        assert seen["mask_research"] != seen["mask_res2"]
    finally:
        masked.admin("DROP OWNED BY mask_res2; DROP ROLE mask_res2")
        with masked.as_owner() as owner:
            owner.execute("DELETE FROM people WHERE id > 20")


def test_each_mask_in_each_format(masked: MaskedSite) -> None:
    columns = "ssn, name, born, age, email, zip, seen, token"
    given = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    with masked.as_owner() as owner:
        owner.execute("UPDATE people SET seen = '2026-11-27 12:34:56.7+00', token = %s WHERE id = 1", (given,))
    told = set()
    for binary in (False, True):
        for prepare in (False, True):
            for zone in ("UTC", "America/New_York"):
                with masked.as_role("mask_safe", options=f"-c timezone={zone}") as conn, conn.cursor(binary=binary) as cursor:
                    row = cursor.execute(f"SELECT {columns} FROM people".encode(), prepare=prepare).fetchone()
                    assert row is not None
                    assert cursor.description is not None
                    assert [c.type_code for c in cursor.description] == [25, 25, 1082, 23, 25, 1042, 1184, 2950]
                    assert row[:6] == ("0********20", "***", dt.date(1961, 1, 1), 90, "j***@***", "902  ")
                    truncated = "SELECT date_trunc('month', '2026-11-27 12:34:56.7+00'::timestamptz)"
                    assert (row[6],) == conn.execute(truncated.encode()).fetchone()
                    assert row[6] == dt.datetime(2026, 11, 1, tzinfo=ZoneInfo(zone))
                    conn.execute("SET timezone = 'Asia/Kolkata'")
                    assert conn.execute("SELECT seen FROM people", binary=binary).fetchone() == conn.execute(truncated).fetchone()
                    told.add(str(row[7]))
    assert len(told) == 1
    assert given not in told


def test_an_index_over_a_materialized_view_tells_nothing(nurse: Connection) -> None:
    """Whether a unique index over tags can be made says which values are equal, under whatever name the view has them."""
    nurse.execute("CREATE MATERIALIZED VIEW numbers AS SELECT id, ssn, ssn AS s, city FROM people")
    try:
        assert nurse.execute("SELECT ssn, s FROM numbers").fetchall() == [(MASKED, MASKED)]
        for key in ("ssn", "s", "substring(ssn, 13, 16)", "pg_catalog.substring(s, 13, 16)", "city, s", "right(s, 4)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                nurse.execute(f"CREATE UNIQUE INDEX ON numbers ({key})".encode())
        nurse.execute("CREATE INDEX ON numbers (city)")
    finally:
        nurse.execute("DROP MATERIALIZED VIEW numbers")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT null_frac, n_distinct, most_common_vals FROM pg_stats WHERE tablename = 'people' AND attname = 'ssn'",
        'SELECT v FROM (SELECT histogram_bounds AS v FROM pg_catalog."pg_stats") s',
        "WITH s AS (TABLE pg_stats) SELECT count(*) FROM s",
        "SELECT most_common_vals FROM pg_stats_ext",
        "SELECT query_to_xml('SELECT * FROM pg_stats', true, true, '')",
        "SELECT table_to_xml('pg_catalog.pg_stats', true, true, '')",
        "CREATE VIEW found AS SELECT null_frac FROM pg_stats",
        "DO $$ BEGIN PERFORM most_common_vals FROM pg_stats; END $$",
    ],
)
def test_statistics_of_what_is_masked_are_refused(masked: MaskedSite, nurse: Connection, statement: str) -> None:
    """Of a column in clear yet they are its values, and of a sealed one they say how many are NULL, or equal."""
    for execute in (nurse.execute, psycopg.ClientCursor(nurse).execute):
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            execute(statement.encode())
    with masked.kept("mask_clerk") as clerk, clerk.transaction(force_rollback=True):
        clerk.execute(statement.encode())


STATISTICS_OF_OTHERS = """
CREATE SCHEMA monitor;
CREATE VIEW monitor.pg_stats AS
  SELECT tablename, attname, null_frac, most_common_vals::text FROM pg_catalog.pg_stats;
CREATE MATERIALIZED VIEW monitor.kept AS SELECT attname, null_frac FROM monitor.pg_stats;
CREATE VIEW monitor.beside AS SELECT p.id, k.null_frac FROM people p, monitor.kept k;
CREATE FUNCTION monitor.share() RETURNS real LANGUAGE sql AS 'SELECT max(null_frac) FROM pg_stats';
GRANT USAGE ON SCHEMA monitor TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA monitor TO PUBLIC;
"""


def refused_soon(conn: Connection, statement: str) -> str:
    """Return with which words a statement is refused, once what was made past the proxy is noticed (``catalog.poll``)."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            conn.execute(statement.encode())
        except psycopg.errors.FeatureNotSupported as refused:
            return str(refused)
        time.sleep(0.1)
    raise AssertionError(statement)


def test_statistics_are_refused_through_views_and_functions_of_others_too(masked: MaskedSite, nurse: Connection) -> None:
    read = (
        "SELECT most_common_vals FROM monitor.pg_stats",
        'SELECT count(*) FROM (TABLE monitor."kept") k',
        "SELECT id, null_frac FROM monitor.beside",
        "SELECT monitor.share()",
        "DO $$ BEGIN PERFORM monitor.share(); END $$",
        "SELECT query_to_xml('SELECT * FROM monitor.kept', true, true, '')",
    )
    masked.admin(STATISTICS_OF_OTHERS)
    try:
        with masked.kept("mask_clerk") as clerk:
            for statement in read[:-1]:
                clerk.execute(statement.encode())
        for statement in read:
            said = refused_soon(nurse, statement)
            assert "statistics" in said or not statement.startswith("SELECT most")
        assert shown_to(nurse) == MASKED
    finally:
        masked.admin("DROP SCHEMA monitor CASCADE")


def test_code_in_the_server_moves_nothing_out_of_its_mask(masked: MaskedSite) -> None:
    """A value that is copied past the proxy, into another column of its domain, is masked there too."""
    with masked.as_role("mask_research") as research:
        copy = "DO $$ BEGIN EXECUTE 'INSERT INTO cal' || 'ls (id, {0}) SELECT 99, {1} FROM peo' || 'ple'; END $$"
        research.execute(copy.format("mrn", "mrn").encode())
        assert research.execute("SELECT mrn FROM calls WHERE id = 99").fetchall() == [(None,)]
        with pytest.raises(psycopg.Error):  # of another identity: the column's guard does not take it
            research.execute(copy.format("note", "ssn").encode())
    with masked.as_owner() as owner:
        owner.execute("DELETE FROM calls WHERE id > 90")


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_copy(masked: MaskedSite, form: str) -> None:
    for role, shown in (("mask_nurse", MASKED), ("mask_research", None), ("mask_clerk", SSN)):
        for source in ("people (ssn)", "(SELECT ssn FROM people)"):
            with masked.as_role(role) as conn, conn.cursor().copy(f"COPY {source} TO STDOUT (FORMAT {form})".encode()) as copy:
                if form == "csv":
                    assert b"".join(copy).decode().strip() == (shown or "")
                else:
                    copy.set_types(["text"])
                    assert list(copy.rows()) == [(shown,)]
    with masked.as_role("mask_nurse") as conn:
        with conn.cursor().copy("COPY people (id, ssn) FROM STDIN") as copy:
            copy.write_row((31, "999-99-9999"))
        conn.execute("DELETE FROM people WHERE id = 31")


def test_rules_are_read_again_with_the_policy(masked: MaskedSite) -> None:
    path = masked.site.directory / "policy.yaml"
    text = path.read_text()
    with masked.as_role("mask_nurse", prepare_threshold=0) as nurse:
        assert shown_to(nurse) == MASKED
        try:
            path.write_text(text.replace("last(4)", "first(3)"))
            masked.reload()
            assert shown_to(nurse) == "078********"
            path.write_text(text.replace("show: last(4)", "show: deny"))
            masked.reload()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                shown_to(nurse)
            path.write_text(text[: text.index("access:")])
            masked.reload()
            assert shown_to(nurse) == SSN
            path.write_text(text.replace("show: year", "show: zip3", 1))
            assert masked.site.cli("check", check=False).count("zip3 masks") == 1
            path.write_text(text.replace("roles: [mask_nurse]", "roles: [mask_nurce]", 1))
            said = 'no role of the server is called "mask_nurce" (is it "mask_nurse"?)'
            checked = run_cli("check", "-c", str(masked.site.config), env=masked.site.env)
            assert (checked.returncode, checked.stdout.count(said)) == (1, 1)
            before = masked.site.proxy.log_path.read_text().count("mask_nurce")
            masked.reload()
            assert masked.site.proxy.log_path.read_text().count("mask_nurce") == before + 1
            assert shown_to(nurse) == SSN  # nobody is called that
        finally:
            path.write_text(text)
            masked.reload()
        assert shown_to(nurse) == MASKED


def test_explain_says_what_a_role_is_shown_and_why(masked: MaskedSite) -> None:
    def explained(role: str, *arguments: str) -> tuple[int, str, str]:
        done = run_cli("explain", *arguments, "--role", role, "-c", str(masked.site.config), env=masked.site.env)
        return done.returncode, done.stdout, done.stderr

    code, out, err = explained("mask_team")
    assert code == 0, err
    lines = {line.split()[0]: line.strip().split(maxsplit=2)[1:] for line in out.splitlines()[1:]}
    assert lines["public.people.ssn"] == ["last(4)", "rule 1 names it, as a member of mask_nurse"]
    assert lines["public.people.born"] == ["year", "rule 2 names it, as a member of mask_nurse"]
    assert lines["public.people.name"] == ["open", "access.default: no rule names the role for it"]
    assert lines["public.calls.note"][0] == "open"
    code, out, _ = explained("mask_team", "SELECT id FROM people WHERE ssn = $1")
    assert code == 1
    assert "42501" in out
    assert "public.people.ssn" in out
    assert "public.calls" not in out
    code, out, _ = explained("mask_team", "SELECT ssn FROM people WHERE name = $1", "--json")
    told = json.loads(out)
    assert (code, told["answer"], told["role"]) == (0, "rewritten", "mask_team")
    assert ["public.people.ssn", "last(4)", "rule 1 names it, as a member of mask_nurse"] in told["shown"]
    code, _, err = explained("nobody_at_all")
    assert code != 0
    assert 'there is no role "nobody_at_all"' in err
    assert run_cli("explain", "-c", str(masked.site.config), env=masked.site.env).returncode == 2
