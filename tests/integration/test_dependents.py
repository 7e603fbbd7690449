"""What hangs on columns goes with them when they are encrypted, and comes back: every answer is the plain twin's."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.integration.job_at_work import let_go, started
from tests.integration.test_encrypt import filled_site, raw_columns, rows_of

pytestmark = pytest.mark.timeout(1200)  # each is of several jobs, one after the other


def outcome(conn: psycopg.Connection[tuple[object, ...]], statement: str) -> object:
    """What a client sees of a statement: its rows, or the error by its code and the object that it names; nothing stays of it."""
    try:
        cursor = conn.execute(statement.encode(), prepare=False)
        return sorted(cursor.fetchall(), key=repr) if cursor.description else cursor.rowcount
    except psycopg.Error as error:
        print(error)  # shown where the test fails
        return error.sqlstate, error.diag.constraint_name, error.diag.table_name
    finally:
        conn.rollback()


def same_as_twin(site: Site, statements: list[str]) -> None:
    """Each statement has the same outcome through the proxy as in the plain twin."""
    with psycopg.connect(site.proxy_dsn) as proxied, psycopg.connect(site.plain_dsn) as plain:
        differing = [
            (statement, found, wanted)
            for statement in statements
            if (found := outcome(proxied, statement)) != (wanted := outcome(plain, statement))
        ]
    assert not differing


def refusals(site: Site, *arguments: str) -> str:
    """What ``--dry-run`` says that keeps a job from being done."""
    done = run_cli(*(arguments or ("encrypt",)), "--dry-run", "--json", "-c", str(site.config), env=site.env)
    assert done.stdout, done.stderr
    return " | ".join(json.loads(done.stdout)["obstacles"])


POLICY = """\
database: {database}
deployment: dependents-test
tables:
  public.people:
    columns:
      ssn:  {type: text, indexes: [ssn, "right(ssn, 4)"], accept_leakage: test}
      name: {type: varchar(40), indexes: [name, "lower(name)"], accept_leakage: test}
      born: {type: date, indexes: [born], accept_leakage: test}
      size: {type: "numeric(6,2)", indexes: [size], accept_leakage: test}
      note: {type: text}
"""
TABLES = r"""
CREATE TABLE people (
    id int NOT NULL, clinic int NOT NULL DEFAULT 1, ssn text DEFAULT 'none' NOT NULL, name varchar(40) DEFAULT 'O''Neill \ Co',
    born date DEFAULT '1970-01-01', size numeric(6,2) DEFAULT 1.50, note text, city text,
    CONSTRAINT people_pkey PRIMARY KEY (clinic, ssn),
    CONSTRAINT people_once UNIQUE (name, born),
    CONSTRAINT people_size CHECK (size > 0 AND size < 1000.5),
    CONSTRAINT people_ssn CHECK (ssn ~ '^[a-z0-9-]+$' AND length(ssn) < 30 AND ssn NOT IN ('bad', 'it''s \ bad')),
    CONSTRAINT people_born CHECK (born BETWEEN '1900-01-01' AND '2100-12-31' OR born IS NULL),
    CONSTRAINT people_city CHECK (city <> '' AND (note IS NULL OR city IS NOT NULL)),
    CONSTRAINT people_name CHECK (lower(name) <> 'nobody' AND name LIKE '_%'),
    UNIQUE (id)
);
CREATE INDEX people_name_idx ON people (lower(name), city);
CREATE INDEX people_last ON people ("right"(ssn, 4)) WHERE city IS NOT NULL;
CREATE UNIQUE INDEX people_city_size ON people (city, size);
CREATE INDEX people_hash ON people USING hash (born);
COMMENT ON CONSTRAINT people_size ON people IS 'it''s \ tall';
COMMENT ON CONSTRAINT people_once ON people IS 'one of each';
COMMENT ON INDEX people_last IS 'the last four';
INSERT INTO people (id, ssn, name, born, size, note, city)
  SELECT n, 'secret-' || n, 'Ann ' || n, date '1980-01-01' + n, n / 7.0 + 0.5, 'n' || n, 'c' || n FROM generate_series(1, {rows}) n;
"""
ROWS = 300
STATEMENTS = [
    "SELECT * FROM people ORDER BY id",
    "SELECT id FROM people WHERE ssn = 'secret-7'",
    "SELECT id FROM people WHERE lower(name) = 'ann 9'",
    "SELECT id FROM people WHERE right(ssn, 4) = 't-77' ORDER BY id",
    "INSERT INTO people (id, city) VALUES (9000, 'x') RETURNING *",
    "INSERT INTO people (id, ssn, city) VALUES (9000, 'secret-7', 'x')",
    "INSERT INTO people (id, clinic, ssn, city) VALUES (9000, 2, 'secret-7', 'x') RETURNING id, clinic, ssn, name, born, size",
    "INSERT INTO people (id, ssn, name, born, city) VALUES (9000, 'new', 'Ann 7', '1980-01-08', 'x')",
    "INSERT INTO people (id, ssn, name, born, city) VALUES (9000, 'new', 'Ann 7', NULL, 'x') RETURNING *",
    "INSERT INTO people (id, ssn, size, city) VALUES (9000, 'new', 1.5, 'c7')",
    "INSERT INTO people (id, ssn, size, city) VALUES (9000, 'new', 0, 'x')",
    "INSERT INTO people (id, ssn, size, city) VALUES (9000, 'new', 1000.5, 'x')",
    "INSERT INTO people (id, ssn, city) VALUES (9000, 'NEW', 'x')",
    "INSERT INTO people (id, ssn, city) VALUES (9000, 'bad', 'x')",
    "INSERT INTO people (id, ssn, born, city) VALUES (9000, 'new', '1899-12-31', 'x')",
    "INSERT INTO people (id, ssn, note) VALUES (9000, 'new', 'x')",
    "INSERT INTO people (id, ssn, city) VALUES (9000, 'new', '')",
    "INSERT INTO people (id, ssn, name, city) VALUES (9000, 'new', 'NoBody', 'x')",
    "INSERT INTO people (id, ssn, name, city) VALUES (9000, 'new', '', 'x')",
    "INSERT INTO people (id, ssn) VALUES (9000, NULL)",
    "INSERT INTO people (id, ssn, city) VALUES (9000, 'secret-7', 'x') ON CONFLICT ON CONSTRAINT people_pkey"
    " DO UPDATE SET city = 'y' RETURNING id, city",
    "INSERT INTO people (id, ssn, city) VALUES (9000, 'secret-7', 'x') ON CONFLICT (clinic, ssn) DO NOTHING",
    "INSERT INTO people (id, ssn, name, born, city) VALUES (9000, 'new', 'Ann 7', '1980-01-08', 'x')"
    " ON CONFLICT ON CONSTRAINT people_once DO NOTHING",
    "UPDATE people SET ssn = 'secret-8' WHERE ssn = 'secret-7'",
    "UPDATE people SET ssn = DEFAULT, name = DEFAULT, size = DEFAULT WHERE id = 7 RETURNING ssn, name, size",
]
NAMES = """\
SELECT conname::text FROM pg_constraint
 WHERE conrelid = 'people'::regclass AND conname NOT LIKE 'phi%' AND contype NOT IN ('p', 'u', 'n')
 UNION SELECT relname::text FROM pg_class JOIN pg_index ON oid = indexrelid
        WHERE indrelid = 'people'::regclass AND relname NOT LIKE 'phi%' ORDER BY 1"""
PLAIN = """\
SELECT conname::text, contype::text, pg_get_constraintdef(oid), convalidated, obj_description(oid, 'pg_constraint')
  FROM pg_constraint WHERE conrelid = 'people'::regclass AND contype IN ('p', 'u') UNION ALL
SELECT relname::text, 'i', pg_get_indexdef(oid), true, obj_description(oid, 'pg_class') FROM pg_class
  JOIN pg_index ON oid = indexrelid WHERE indrelid = 'people'::regclass UNION ALL
SELECT conname::text, 'c', '', convalidated, obj_description(oid, 'pg_constraint') FROM pg_constraint
 WHERE conrelid = 'people'::regclass AND contype = 'c' UNION ALL
SELECT attname::text, 'd', pg_get_expr(adbin, adrelid), attnotnull, '' FROM pg_attrdef JOIN pg_attribute
    ON attrelid = adrelid AND attnum = adnum WHERE adrelid = 'people'::regclass ORDER BY 1, 2"""


PREPARES = [
    "PREPARE by_ssn AS SELECT id, ssn, name FROM people WHERE ssn = $1",
    "PREPARE every (int) AS SELECT * FROM people WHERE id < $1",
    "PREPARE adds (int, text, text) AS INSERT INTO people (id, ssn, city) VALUES ($1, $2, $3)",
    "PREPARE fixed AS SELECT id FROM people WHERE name = 'Ann 5'",
    "PREPARE other AS SELECT 5 + $1::int",
]
EXECUTES = [
    "EXECUTE by_ssn ('secret-7')",
    "EXECUTE every (4)",
    "EXECUTE adds (9000, 'new', 'x')",
    "EXECUTE adds (9000, 'secret-7', 'x')",
    "EXECUTE fixed",
    "EXECUTE other (3)",
    "SELECT 1; EXECUTE by_ssn ('secret-8')",
    "EXECUTE by_ssn ('secret-7')",
]


def executed(conn: psycopg.Connection[tuple[object, ...]], statement: str, *, extended: bool) -> object:
    try:
        with conn.transaction(force_rollback=True):
            cursor = conn.execute(statement.encode(), prepare=False, binary=extended)  # binary results are of Bind
            while cursor.nextset():
                pass
            return sorted(cursor.fetchall(), key=repr) if cursor.description else cursor.rowcount
    except psycopg.Error as error:
        return error.sqlstate, error.diag.constraint_name


def prepared(dsn: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection that has prepared all of it by SQL; psycopg itself prepares nothing, and so deallocates nothing."""
    conn = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
    for statement in PREPARES:
        conn.execute(statement.encode())
    return conn


@contextmanager
def before_switches(site: Site) -> Iterator[Callable[[list[str]], None]]:
    """What compares statements through connections that are there already: in a transaction or not, simple queries or by Parse."""
    with ExitStack() as stack:
        dsns = (*[site.proxy_dsn] * 3, site.plain_dsn)
        simple, extended, third, twin = (stack.enter_context(contextlib.closing(prepared(dsn))) for dsn in dsns)

        def same(statements: list[str]) -> None:
            for statement in statements:
                wanted = executed(twin, statement, extended=False)
                assert executed(simple, statement, extended=False) == wanted, statement
                if ";" not in statement:
                    assert executed(extended, statement, extended=True) == wanted, statement
            with third.transaction():
                assert third.execute("SELECT count(*) FROM people").fetchall() == [(ROWS,)]
                assert third.execute("EXECUTE by_ssn ('secret-7')").fetchall() == [(7, "secret-7", "Ann 7")]
            assert third.execute("EXECUTE by_ssn ('secret-8')").fetchall() == [(8, "secret-8", "Ann 8")]

        yield same


def test_constraints_defaults_indexes_and_what_sql_has_prepared(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """There and back; what was prepared before a switch is executed behind it. On the way there again something is made."""
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=TABLES, rows=ROWS) as site, before_switches(site) as same:
        same(EXECUTES)
        same_as_twin(site, STATEMENTS)
        looked = site.cli("encrypt", "--dry-run")
        assert "what keeps it" not in looked
        for part in ("CHECK constraint people_ssn of public.people", "DEFAULT of public.people.born", "unique index people_pkey"):
            assert part in looked
        logged = postgres_server.log_path
        before = logged.stat().st_size if logged is not None else 0
        site.cli("encrypt")
        if logged is not None:
            said = logged.read_bytes()[before:]
            assert b"people_ssn" in said
            for constant in (b"Neill", b"1970-01-01", b"bad'", b"nobody", b"2100-12-31"):
                assert constant not in said, "no constant of a definition goes to the server in clear"
        same(EXECUTES)
        same_as_twin(site, STATEMENTS)
        assert rows_of(site.sealed_dsn, NAMES) == rows_of(site.plain_dsn, NAMES)
        stored = str(rows_of(site.sealed_dsn, PLAIN))
        assert "1970-01-01" not in stored
        assert "'bad'" not in stored
        assert "guards and tag indexes are there" in site.cli("check", check=False)
        assert rows_of(site.sealed_dsn, "SELECT count(*) FROM pg_constraint WHERE conrelid <> 0 AND NOT convalidated") == [(0,)]
        named = [statement for statement in STATEMENTS if "*" not in statement]
        site.cli("decrypt", "public.people", "--reorder")
        same([statement for statement in EXECUTES if "every" not in statement])
        same_as_twin(site, named)
        assert rows_of(site.sealed_dsn, PLAIN) == rows_of(site.plain_dsn, PLAIN)
        assert not [name for name in raw_columns(site, "people") if name.startswith("phi_")]
        made_while_a_job_fills(site)
        same_as_twin(site, [*named, "INSERT INTO people (id, ssn, name, city) VALUES (9000, 'new', 'x', 'y')"])
        assert rows_of(site.sealed_dsn, NAMES) == rows_of(site.plain_dsn, NAMES)


def made_while_a_job_fills(site: Site) -> None:
    """It is neither lost nor left behind: the switch is not made over it, and the job looks once more and takes it along."""
    made = "CREATE INDEX later ON people (born, city); ALTER TABLE people ADD CONSTRAINT later CHECK (name <> 'x')"
    with psycopg.connect(site.sealed_dsn, autocommit=True) as owner, psycopg.connect(site.plain_dsn, autocommit=True) as twin:
        job = started(site, "encrypt", "--rate", "100")
        until(lambda: "phi_new_ssn" in raw_columns(site, "people") or job.returncode is not None, "the job fills", 400)
        owner.execute(made)
        twin.execute(made)
        said = job.said()
    assert job.returncode == 0, said


JOINED_POLICY = """\
database: {database}
deployment: joined-test
domains:
  mrn: {type: varchar(12), indexes: [value], accept_leakage: test}
tables:
  public.patients:
    columns:
      mrn: {domain: mrn}
      ssn: {type: text, indexes: [ssn], accept_leakage: test}
  public.visits:
    columns:
      patient: {domain: mrn}
  public.notes:
    columns:
      mrn: {domain: mrn}
      '"Note"': {type: text}
"""
JOINED = """\
CREATE TABLE patients (mrn varchar(12) PRIMARY KEY, ssn text, clinic int, next varchar(12), UNIQUE (clinic, mrn));
CREATE TABLE visits (id int PRIMARY KEY, patient varchar(12) REFERENCES patients ON DELETE CASCADE, clinic int,
  CONSTRAINT two FOREIGN KEY (clinic, patient) REFERENCES patients (clinic, mrn) MATCH FULL DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE notes (id int PRIMARY KEY, mrn varchar(12), "Note" text);
ALTER TABLE notes ADD CONSTRAINT late FOREIGN KEY (mrn) REFERENCES patients NOT VALID;
COMMENT ON CONSTRAINT two ON visits IS 'two columns';
INSERT INTO patients SELECT 'M' || n, 'secret-' || n, n % 3, NULL FROM generate_series(1, {rows}) n;
INSERT INTO visits SELECT n, 'M' || n, n % 3 FROM generate_series(1, {rows}) n;
INSERT INTO notes SELECT n, 'M' || n, 'note ' || n FROM generate_series(1, {rows}) n;
CREATE VIEW numbers WITH (security_barrier = true) AS SELECT mrn AS "Number", ssn, clinic FROM patients WHERE clinic > 0;
CREATE VIEW over_numbers AS SELECT n.ssn, n."Number", count(*) OVER () AS all_of_them FROM numbers n;
CREATE VIEW counted AS SELECT clinic, count(*) AS n FROM numbers GROUP BY clinic;
CREATE VIEW distinct_numbers AS SELECT DISTINCT ssn FROM patients;
CREATE VIEW of_distinct AS SELECT ssn FROM distinct_numbers;
CREATE MATERIALIZED VIEW stored AS SELECT p.mrn, v.id, p.ssn FROM patients p JOIN visits v ON v.patient = p.mrn;
CREATE UNIQUE INDEX stored_id ON stored (id);
CREATE INDEX stored_ssn ON stored (ssn);
CREATE RULE nothing AS ON DELETE TO counted DO INSTEAD NOTHING;
GRANT SELECT ON numbers TO PUBLIC;
GRANT SELECT (ssn), UPDATE (ssn) ON over_numbers TO PUBLIC;
COMMENT ON VIEW numbers IS 'it''s numbers';
COMMENT ON COLUMN numbers.ssn IS 'social';
COMMENT ON RULE nothing ON counted IS 'not here';
COMMENT ON INDEX stored_ssn IS 'quick';
"""
JOINED_STATEMENTS = [
    "SELECT * FROM patients",
    "SELECT * FROM numbers",
    "SELECT * FROM over_numbers WHERE ssn = 'secret-5'",
    "SELECT * FROM counted ORDER BY 1",
    "SELECT count(*), count(ssn) FROM distinct_numbers",
    "SELECT ssn FROM of_distinct WHERE ssn = 'secret-5'",
    "SELECT * FROM stored WHERE ssn = 'secret-5'",
    "UPDATE numbers SET ssn = 'secret-new' WHERE ssn = 'secret-5'",
    "INSERT INTO visits (id, patient, clinic) VALUES (9000, 'nobody', 1)",
    "INSERT INTO visits (id, patient, clinic) VALUES (9000, 'M5', NULL); COMMIT",
    "INSERT INTO visits (id, patient, clinic) VALUES (9000, 'M5', 2)",
    "INSERT INTO notes (id, mrn, \"Note\") VALUES (9000, 'nobody', 'x')",
    "DELETE FROM patients WHERE mrn = 'M7'",
    "DELETE FROM notes WHERE mrn = 'M7'",
    "UPDATE patients SET mrn = 'M-new' WHERE mrn = 'M7'",
    "SELECT count(*) FROM patients p JOIN visits v ON v.patient = p.mrn AND v.clinic = p.clinic",
]
OBJECTS = """\
SELECT c.relname::text, c.relkind::text, ARRAY(SELECT unnest(c.relacl)::text ORDER BY 1), c.reloptions::text,
       obj_description(c.oid, 'pg_class'),
       ARRAY(SELECT a.attname || coalesce(a.attacl::text, '') || coalesce(col_description(c.oid, a.attnum), '') FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)::text,
       ARRAY(SELECT r.rulename || coalesce(obj_description(r.oid, 'pg_rewrite'), '') FROM pg_rewrite r
              WHERE r.ev_class = c.oid ORDER BY 1)::text
  FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('v', 'm') ORDER BY 1"""
KEYS = """\
SELECT conname::text, conrelid::regclass::text, confrelid::regclass::text, condeferrable, condeferred, confdeltype::text,
       convalidated, confmatchtype::text, obj_description(oid, 'pg_constraint') FROM pg_constraint
 WHERE contype = 'f' AND connamespace = 'public'::regnamespace ORDER BY 1"""


WAITS_FOR_COUNTED = """\
SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.relation = 'counted'::regclass AND NOT l.granted AND a.application_name LIKE 'phiproxy job%'
   AND a.query ~ 'hanging|OWNER TO'"""  # who reads the catalogue waits for a moment only, and goes on without it


def killed_while_it_fills(site: Site) -> None:
    """What was added for foreign keys is seen in between, and taken back."""
    tables = ("patients", "visits", "notes")
    columns = [raw_columns(site, table) for table in tables]
    job = started(site, "encrypt", "--rate", "10")
    try:
        until(lambda: "phi_tag_patient_0" in raw_columns(site, "visits"), "columns of tags are there", 400)
        same_as_twin(site, JOINED_STATEMENTS)
    finally:
        job.kill()
    assert "phi_tag_mrn_0" in raw_columns(site, "patients")
    let_go(site)
    site.cli("jobs", "abort", "1")
    assert [raw_columns(site, table) for table in tables] == columns
    assert rows_of(site.sealed_dsn, KEYS) == rows_of(site.plain_dsn, KEYS)


def encrypted_while_a_view_is_replaced(site: Site) -> None:
    """Somebody is at it when the job comes to the switch."""
    replaced = "CREATE OR REPLACE VIEW counted AS SELECT clinic, count(*) AS n FROM numbers WHERE clinic > 1 GROUP BY clinic"
    with psycopg.connect(site.plain_dsn) as twin:
        twin.execute(replaced.encode())
    with psycopg.connect(site.sealed_dsn) as past:
        job = started(site, "encrypt", "--rate", "1500")
        until(lambda: "phi_new_ssn" in raw_columns(site, "patients") or job.returncode is not None, "the job fills", 400)
        past.execute(replaced.encode())
        watching = site.server.standing(site.sealed)

        def waits() -> bool:
            return bool(watching.execute(WAITS_FOR_COUNTED).rowcount) or job.returncode is not None

        until(waits, "the job waits for the view", 400)
    said = job.said()
    assert job.returncode == 0, said


def test_what_joins_tables(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Foreign keys of one and two columns, views over views, what they have: in one go, and back."""
    with filled_site(postgres_server, tmp_path, policy=JOINED_POLICY, ddl=JOINED, rows=250) as site:
        assert refusals(site) == ""
        objects = rows_of(site.sealed_dsn, OBJECTS)
        killed_while_it_fills(site)
        reads = [text for text in JOINED_STATEMENTS if text.startswith("SELECT") and "counted" not in text]
        with psycopg.connect(site.proxy_dsn, autocommit=True, prepare_threshold=0) as conn:
            before = [sorted(conn.execute(text.encode()).fetchall(), key=repr) for text in reads]
            encrypted_while_a_view_is_replaced(site)
            after = [sorted(conn.execute(text.encode()).fetchall(), key=repr) for text in reads]
            assert after == before, "prepared before the switch, of views too"
        same_as_twin(site, JOINED_STATEMENTS)
        assert rows_of(site.sealed_dsn, OBJECTS) == objects
        assert rows_of(site.sealed_dsn, KEYS) == rows_of(site.plain_dsn, KEYS)
        assert "guards and tag indexes are there" in site.cli("check", check=False)
        back = ("decrypt", "public.patients", "public.visits", "public.notes", "--reorder")
        told = refusals(site, *back)
        for view in ("view public.distinct_numbers", "materialized view public.stored"):
            assert f"{view}: " in told
        for dsn in (site.sealed_dsn, site.plain_dsn):
            with psycopg.connect(dsn, autocommit=True) as owner:
                owner.execute("DROP VIEW distinct_numbers, of_distinct; DROP MATERIALIZED VIEW stored")
        assert refusals(site, *back) == ""
        site.cli(*back)
        dropped = ("distinct", "stored")
        same_as_twin(site, [text for text in JOINED_STATEMENTS[1:] if not any(name in text for name in dropped)])
        assert rows_of(site.sealed_dsn, KEYS) == rows_of(site.plain_dsn, KEYS)
        gone = ("distinct_numbers", "of_distinct", "stored")
        assert rows_of(site.sealed_dsn, OBJECTS) == [row for row in objects if row[0] not in gone]
        assert not [name for table in ("patients", "visits") for name in raw_columns(site, table) if name.startswith("phi_")]


FAMILY_POLICY = """\
database: {database}
deployment: family-test
tables:
  public.parted:
    columns:
      ssn:  {type: text, indexes: [ssn, "right(ssn, 4)"], accept_leakage: test}
      name: {type: text}
  public.family:
    columns:
      ssn:  {type: text, indexes: [ssn], accept_leakage: test}
  public.secured:
    columns:
      ssn:  {type: text, indexes: [ssn, "right(ssn, 4)"], accept_leakage: test}
  public.keyed:
    columns:
      ssn:  {type: text, indexes: [ssn], accept_leakage: test}
  public.whole:
    columns:
      ssn:  {type: text, indexes: [ssn], accept_leakage: test}
"""
FAMILY = """\
CREATE TABLE parted (region text, id int, ssn text DEFAULT 'none', name text, city text, PRIMARY KEY (region, id),
  CONSTRAINT one_each UNIQUE (region, ssn), CONSTRAINT not_empty CHECK (ssn <> '')) PARTITION BY LIST (region);
CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a');
CREATE TABLE parted_more PARTITION OF parted FOR VALUES IN ('b', 'c') PARTITION BY LIST (region);
CREATE TABLE parted_c (city text, ssn text DEFAULT 'of c', id int NOT NULL, name text, region text NOT NULL,
  CONSTRAINT not_empty CHECK (ssn <> ''));
ALTER TABLE parted_more ATTACH PARTITION parted_c FOR VALUES IN ('c');
CREATE TABLE parted_b PARTITION OF parted_more FOR VALUES IN ('b');
CREATE INDEX parted_last ON parted ("right"(ssn, 4), city);
CREATE INDEX own_of_a ON parted_a (city, ssn);
COMMENT ON COLUMN parted_a.ssn IS 'of a';
COMMENT ON CONSTRAINT one_each ON parted IS 'one of each';
GRANT SELECT (ssn) ON parted_a TO PUBLIC;
CREATE VIEW of_parted AS SELECT region, ssn FROM parted;
CREATE VIEW "of $phi$'; a" AS SELECT ssn FROM parted_a;
CREATE TABLE family (id int PRIMARY KEY, ssn text DEFAULT 'parent', CONSTRAINT family_ssn CHECK (ssn <> 'bad'));
CREATE INDEX family_idx ON family (ssn);
CREATE TABLE child (more text, PRIMARY KEY (id), UNIQUE (ssn), CONSTRAINT own CHECK (ssn <> 'worse')) INHERITS (family);
ALTER TABLE child ALTER ssn SET DEFAULT 'child';
CREATE TABLE secured (id int PRIMARY KEY, kind text, ssn text);
CREATE TABLE keyed (n int, region text, ssn text, CONSTRAINT "The key" PRIMARY KEY (region, ssn) INCLUDE (n),
  UNIQUE (ssn, region)) PARTITION BY LIST (region);
CREATE TABLE keyed_a PARTITION OF keyed FOR VALUES IN ('a');
CREATE TABLE keyed_more PARTITION OF keyed FOR VALUES IN ('b', 'c') PARTITION BY LIST (region);
CREATE TABLE keyed_b PARTITION OF keyed_more FOR VALUES IN ('b');
CREATE TABLE keyed_c (region text NOT NULL, ssn text NOT NULL, n int);
ALTER TABLE keyed_more ATTACH PARTITION keyed_c FOR VALUES IN ('c');
COMMENT ON CONSTRAINT "The key" ON keyed IS 'it''s the key; really';
CREATE TABLE whole (ssn text PRIMARY KEY, n int);
COMMENT ON CONSTRAINT whole_pkey ON whole IS 'one of each';
INSERT INTO keyed SELECT n, substr('abc', n % 3 + 1, 1), 'secret-' || n FROM generate_series(1, {rows}) n;
INSERT INTO whole SELECT 'secret-' || n, n FROM generate_series(1, {rows}) n;
INSERT INTO parted SELECT substr('abc', n % 3 + 1, 1), n, 'secret-' || n, 'Ann ' || n, 'c' || n FROM generate_series(1, {rows}) n;
INSERT INTO family SELECT n, 'secret-' || n FROM generate_series(1, {rows}) n;
INSERT INTO child SELECT n, 'secret-' || n, 'more' FROM generate_series(1000, 1000 + {rows}) n;
INSERT INTO secured SELECT n, substr('xy', n % 2 + 1, 1), 'secret-' || n FROM generate_series(1, {rows}) n;
"""
FAMILY_STATEMENTS = [
    "SELECT region, id, ssn, name, city FROM parted",
    "SELECT city, id, ssn, name FROM parted_c WHERE ssn = 'secret-5'",
    "SELECT id FROM parted WHERE right(ssn, 4) = 'et-8' AND city = 'c8'",
    "INSERT INTO parted (region, id) VALUES ('a', 9000) RETURNING ssn",
    "INSERT INTO parted (region, id) VALUES ('c', 9000) RETURNING ssn",
    "INSERT INTO parted_c (region, id) VALUES ('c', 9000) RETURNING ssn",
    "INSERT INTO parted (region, id, ssn) VALUES ('b', 9000, '')",
    "INSERT INTO parted (region, id, ssn) VALUES ('b', 9000, 'secret-4')",
    "INSERT INTO parted_c (region, id, ssn) VALUES ('c', 9000, 'secret-5')",
    "INSERT INTO parted (region, id, ssn) VALUES ('a', 9000, 'secret-5')",
    "SELECT * FROM of_parted WHERE ssn = 'secret-6'",
    """SELECT * FROM "of $phi$'; a" WHERE ssn = 'secret-6'""",
    "INSERT INTO family (id) VALUES (9000) RETURNING ssn",
    "INSERT INTO child (id) VALUES (9000) RETURNING ssn",
    "INSERT INTO family (id, ssn) VALUES (9000, 'bad')",
    "INSERT INTO child (id, ssn) VALUES (9000, 'bad')",
    "INSERT INTO child (id, ssn) VALUES (9000, 'worse')",
    "INSERT INTO family (id, ssn) VALUES (9000, 'worse')",
    "UPDATE child SET ssn = 'worse' WHERE id = 1000",
    "UPDATE ONLY family SET ssn = 'worse' WHERE id = 1 RETURNING ssn",
    "UPDATE family SET ssn = 'better' WHERE id IN (1, 1000) RETURNING ssn",
    "INSERT INTO family (id, ssn) VALUES (1, 'worse') ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn RETURNING ssn",
    "INSERT INTO child (id, ssn) VALUES (1000, 'x') ON CONFLICT (id) DO UPDATE SET ssn = 'worse'",
    "MERGE INTO ONLY family USING (VALUES (1)) v (n) ON id = n WHEN MATCHED THEN UPDATE SET ssn = 'worse'",
    "INSERT INTO child (id, ssn) VALUES (9000, 'secret-1001')",
    "INSERT INTO family (id, ssn) VALUES (9000, 'secret-1001')",
    "SELECT id FROM secured WHERE ssn = 'secret-5'",
    "SELECT n, region, ssn FROM keyed",
    "INSERT INTO keyed VALUES (0, 'c', 'secret-5') ON CONFLICT DO NOTHING",
    "INSERT INTO whole (ssn, n) VALUES ('secret-5', 0)",
    "INSERT INTO secured (id, kind, ssn) VALUES (9000, 'x', 'y')",
]
ATTACHED = """\
SELECT i.inhrelid::regclass::text, i.inhparent::regclass::text, x.indisvalid, x.indisunique FROM pg_inherits i
  JOIN pg_index x ON x.indexrelid = i.inhrelid WHERE i.inhrelid::regclass::text NOT LIKE 'phi%' ORDER BY 1"""
CONSTRAINTS = """\
SELECT k.conname::text, k.conrelid::regclass::text, k.contype::text, pg_get_constraintdef(k.oid), k.coninhcount,
       obj_description(k.oid, 'pg_constraint'), i.indisvalid, obj_description(i.indexrelid, 'pg_class'),
       (SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)
  FROM pg_constraint k JOIN pg_index i ON i.indexrelid = k.conindid
 WHERE k.connamespace = 'public'::regnamespace AND k.contype IN ('p', 'u') ORDER BY 2, 1"""
INDEXES = "SELECT relname::text FROM pg_class WHERE relkind IN ('i', 'I') AND relnamespace = 'public'::regnamespace ORDER BY 1"


def of_children(site: Site) -> None:
    """What only a child's constraint forbids is refused where the statement may reach its rows; the parent may hold it."""
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        for statement in (
            "UPDATE family SET ssn = %s WHERE id = 1",
            "MERGE INTO family USING (VALUES (1)) v (n) ON id = n WHEN MATCHED THEN UPDATE SET ssn = %s",
        ):
            with pytest.raises(psycopg.errors.FeatureNotSupported, match=r'"own" of public.child'):
                conn.execute(statement.encode(), ["worse"])
        with pytest.raises(psycopg.errors.CheckViolation, match="family_ssn"):
            conn.execute("UPDATE family SET ssn = 'bad' WHERE id = 1")
        assert conn.execute("SELECT count(*) FROM family WHERE ssn = 'worse'").fetchall() == [(0,)]
        conn.execute("UPDATE ONLY family SET ssn = 'worse' WHERE id = 1")
        stored = "SELECT get_byte(ssn, 11) FROM family WHERE id IN (1, 2)"
        assert rows_of(site.server.dsn(site.sealed), stored) == [(1,), (1,)], "a row that is there has no slot but its indexes'"
        conn.execute("UPDATE family SET ssn = 'secret-1' WHERE id = 1")


def test_partitions_children_and_row_security(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with filled_site(postgres_server, tmp_path, policy=FAMILY_POLICY, ddl=FAMILY, rows=60) as site:
        for dsn in (site.plain_dsn, site.sealed_dsn):
            with psycopg.connect(dsn, autocommit=True) as owner:
                owner.execute("ALTER TABLE secured ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON secured USING (kind = 'x')")
                owner.execute("ALTER TABLE parted_a ADD CONSTRAINT own CHECK (ssn <> 'worse')")
        text = "CHECK constraint own of public.parted_a: a constraint over public.parted_a.ssn is as the partitioned table has it"
        assert text in refusals(site)
        for dsn in (site.plain_dsn, site.sealed_dsn):
            with psycopg.connect(dsn, autocommit=True) as owner:
                owner.execute("ALTER TABLE parted_a DROP CONSTRAINT own")
        assert refusals(site) == ""
        site.cli("encrypt")
        same_as_twin(site, FAMILY_STATEMENTS)
        assert rows_of(site.sealed_dsn, ATTACHED) == rows_of(site.plain_dsn, ATTACHED)
        assert rows_of(site.sealed_dsn, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
        assert "guards and tag indexes are there" in site.cli("check", check=False)
        assert "nothing to do" in site.cli("ddl"), "the generated columns of a table under row-level security are there"
        of_children(site)
        stored = "SELECT count(*) FROM pg_class WHERE relname LIKE 'phi_tag_idx_secured%_stored'"
        assert rows_of(site.server.dsn(site.sealed), stored) == [(2,)]
        tables = ("public.parted", "public.family", "public.secured", "public.keyed", "public.whole")
        site.cli("decrypt", *tables, "--reorder")
        same_as_twin(site, FAMILY_STATEMENTS)
        assert rows_of(site.sealed_dsn, ATTACHED) == rows_of(site.plain_dsn, ATTACHED)
        assert not [n for table in ("parted_a", "child", "secured") for n in raw_columns(site, table) if n.startswith("phi_")]
        assert rows_of(site.sealed_dsn, CONSTRAINTS) == rows_of(site.plain_dsn, CONSTRAINTS)
        assert rows_of(site.sealed_dsn, INDEXES) == rows_of(site.plain_dsn, INDEXES)


OTHERS_POLICY = """\
database: {database}
deployment: others-test
tables:
  public.t:
    columns:
      ssn:  {type: text, indexes: [ssn, "lower(ssn)"], accept_leakage: test}
      note: {type: text}
"""
OTHERS = """\
CREATE TABLE t (id int PRIMARY KEY, ssn text, note text, city text, n int DEFAULT 0);
CREATE STATISTICS both_of ON ssn, city FROM t;
CREATE STATISTICS of_lower (ndistinct) ON lower(ssn), city, n FROM t;
COMMENT ON STATISTICS both_of IS 'go together';
ALTER STATISTICS both_of SET STATISTICS 50;
CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := OLD.n + 1; RETURN NEW; END $$;
CREATE TRIGGER counted BEFORE UPDATE OF ssn, city ON t FOR EACH ROW EXECUTE FUNCTION counts();
COMMENT ON TRIGGER counted ON t IS 'how often';
CREATE TRIGGER off BEFORE UPDATE OF note ON t FOR EACH ROW EXECUTE FUNCTION counts();
ALTER TABLE t DISABLE TRIGGER off;
INSERT INTO t SELECT n, 'secret-' || n, 'note ' || n, 'c' || n % 5 FROM generate_series(1, {rows}) n;
"""
OTHERS_STATEMENTS = [
    "SELECT id, ssn, note, city, n FROM t",
    "UPDATE t SET ssn = 'x' WHERE id = 5 RETURNING n",
    "UPDATE t SET note = 'x' WHERE id = 5 RETURNING n",
    "UPDATE t SET n = 7 WHERE id = 5 RETURNING n",
]
STATISTICS = "SELECT stxname::text, obj_description(oid, 'pg_statistic_ext') FROM pg_statistic_ext ORDER BY 1"
TRIGGERS = """\
SELECT tgname::text, tgenabled::text, obj_description(oid, 'pg_trigger') FROM pg_trigger
 WHERE tgrelid = 't'::regclass AND NOT tgisinternal ORDER BY 1"""
NAMED = """\
ALTER TABLE t ADD COLUMN last text GENERATED ALWAYS AS (right(ssn, 4)) STORED;
CREATE POLICY mine ON t USING (ssn = current_user);
CREATE TRIGGER changed AFTER UPDATE ON t FOR EACH ROW WHEN (OLD.ssn <> NEW.ssn) EXECUTE FUNCTION counts();
CREATE FUNCTION all_of() RETURNS bigint BEGIN ATOMIC SELECT count(ssn) FROM t; END;
CREATE RULE noted AS ON UPDATE TO t WHERE OLD.ssn <> NEW.ssn DO ALSO NOTHING;
CREATE VIEW ordered AS SELECT b FROM t AS p (a, b);
CREATE VIEW joined AS SELECT j.b FROM (t JOIN (VALUES (1)) v (x) ON t.id = v.x) AS j (a, b);
CREATE VIEW whole AS SELECT p AS row_of FROM t p WHERE p.id > 5;
CREATE VIEW documents AS SELECT row_to_json(j) AS doc FROM (t JOIN (VALUES (1)) v (x) ON t.id = v.x) AS j;
CREATE VIEW matching AS SELECT id FROM t WHERE ssn = 'secret-5';
CREATE VIEW listed AS SELECT id, ssn FROM t;
CREATE RULE written AS ON INSERT TO listed DO INSTEAD INSERT INTO t (id, ssn) VALUES (NEW.id, upper(NEW.ssn));
CREATE FUNCTION of_listed() RETURNS SETOF listed LANGUAGE sql AS 'SELECT 1, NULL::text';
CREATE INDEX matched ON t (lower(note));
CREATE PUBLICATION listed FOR TABLE t (id, ssn);
CREATE PUBLICATION filtered FOR TABLE t WHERE (id > 5 AND ssn <> 'x') WITH (publish = 'insert');
"""
REASONS = (
    "generated column last of table public.t over public.t.ssn: the server computes it",
    "policy mine on table public.t over public.t.ssn: a policy over a protected column would compare",
    "trigger changed of public.t: its condition is about ssn",
    "function public.all_of() over public.t.ssn: the function reads it",
    "rule noted on table public.t over public.t.ssn: a rule does something",
    "view public.ordered names the columns of public.t in a list behind an alias",
    "view public.joined names the columns of public.t in a list behind an alias",
    'view public.whole: the row type "t" would hold protected columns',
    "view public.documents: ",
    "view public.matching: the stored query of a view may not hold a value",
    "view public.listed: rule written does something with ssn",
    "function public.of_listed() uses view public.listed",
    "publication filtered of public.t: its condition is about ssn",
    "index matched of public.t cannot work on encrypted values: public.t.note has no blind index for lower(note)",
)


def test_statistics_and_triggers_and_what_can_only_be_named(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with filled_site(postgres_server, tmp_path, policy=OTHERS_POLICY, ddl=OTHERS, rows=60) as site:
        with postgres_server.connect(site.sealed) as superuser:
            grant = sql.SQL("GRANT CREATE ON DATABASE {} TO {}")
            superuser.execute(grant.format(sql.Identifier(site.sealed), sql.Identifier(site.role)))
        with psycopg.connect(site.sealed_dsn) as owner:
            owner.execute(NAMED)
            owner.commit()
            told = refusals(site)
            for reason in REASONS:
                assert reason in told
            owner.execute("DROP FUNCTION of_listed(), all_of(); DROP VIEW listed, matching, ordered, joined, whole, documents")
            owner.execute("DROP RULE noted ON t; DROP TRIGGER changed ON t; DROP POLICY mine ON t; ALTER TABLE t DROP last")
            owner.execute("DROP INDEX matched; DROP PUBLICATION filtered")
            owner.execute("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD CONSTRAINT t_pkey PRIMARY KEY (id, ssn)")
            owner.commit()
            assert "publication listed of public.t: it sends changes by the primary key" in refusals(site)
            owner.execute("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD CONSTRAINT t_pkey PRIMARY KEY (id), ALTER ssn DROP NOT NULL")
        assert refusals(site) == ""
        for way in (("encrypt",), ("decrypt", "public.t", "--reorder")):
            site.cli(*way)
            same_as_twin(site, OTHERS_STATEMENTS)
            for query in (STATISTICS, TRIGGERS):
                assert rows_of(site.sealed_dsn, query) == rows_of(site.plain_dsn, query)
            published = "SELECT pubname::text, attnames::text FROM pg_publication_tables"
            assert rows_of(site.sealed_dsn, published)[0][0] == "listed"
            assert "ssn" in str(rows_of(site.sealed_dsn, published)[0][1])
        definitions = "SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext"
        words = [{frozenset(re.findall(r"\w+", str(text))) for (text,) in rows_of(dsn, definitions)}
                 for dsn in (site.sealed_dsn, site.plain_dsn)]  # fmt: skip
        assert words[0] == words[1]


def test_a_materialized_view_that_takes_its_time(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Nobody waits for it but where that was said, and nothing is half done."""
    slow = """\
CREATE TABLE t (id int PRIMARY KEY, ssn text, note text);
INSERT INTO t VALUES (1, 'secret-1', 'x');
CREATE MATERIALIZED VIEW slow AS SELECT id, ssn FROM t WHERE pg_sleep(3) IS NOT NULL;
"""
    with filled_site(postgres_server, tmp_path, policy=OTHERS_POLICY, ddl=slow) as site:
        assert refusals(site) == ""
        done = run_cli("encrypt", "-c", str(site.config), env=site.env)
        assert done.returncode == 1
        assert "materialized view public.slow takes longer than 2 s to be made again, while everybody waits" in done.stderr
        same_as_twin(site, ["SELECT * FROM t", "SELECT * FROM slow"])
        site.cli("jobs", "abort", "1")
        assert raw_columns(site, "t") == ["id", "ssn", "note"]
        site.cli("encrypt", "--lock-tables")
        same_as_twin(site, ["SELECT * FROM t", "SELECT id FROM slow WHERE ssn = 'secret-1'"])
