"""Computed DEFAULTs of protected columns: what PostgreSQL computes in the plain twin, the engine computes for the sealed one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.harness.clinic import DDL, POLICY, watched_clinic
from tests.harness.differential import Differential, Protocol
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.test_encrypt import filled_site

ORDERS_POLICY = """\
  public.orders:
    columns:
      due: {type: date, indexes: [due], accept_leakage: "the tests: nobody orders"}
      code: {type: varchar(30), indexes: [code], distinct: 1000000}
      made_by: {type: text}
      reason: {type: text}
      at: {type: timestamptz}
      token: {type: text}
      copies: {type: integer}
  public.shifts:
    columns:
      note: {type: text, indexes: [note], distinct: 1000000}
  public.parts:
    columns:
      note: {type: text}
  public.added:
    columns:
      note: {type: text}
"""
ORDERS_DDL = """\
CREATE TABLE shifts (id int PRIMARY KEY, ward text, note text);
CREATE TABLE wards (id int PRIMARY KEY, name text);
CREATE SEQUENCE numbers;
CREATE FUNCTION own() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'x' $$;
"""
SECRET = "Zq7-Sealed-Constant"
MADE = (
    f"""CREATE TABLE orders (
      id int PRIMARY KEY, ward text DEFAULT 'general',
      due date NOT NULL DEFAULT current_date /* today */ + 30 CHECK (due IS NOT NULL),
      code varchar(30) DEFAULT 'M' || to_char(current_date, 'YYYY') COLLATE "C",
      made_by text DEFAULT current_user,
      reason text DEFAULT upper('{SECRET}'),
      at timestamptz DEFAULT now(),
      token text DEFAULT 'none', copies int DEFAULT 1 + 1)""",
    f"ALTER TABLE shifts ALTER COLUMN note SET DEFAULT lower('{SECRET}') || ' ' || current_date::text",
    "CREATE TABLE parts (id int, ward int, note text DEFAULT 'p' || extract(year FROM current_date)::text)"
    " PARTITION BY LIST (ward)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)",
    "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2)",
)
STATE = (
    "SELECT id, ward, due, code, made_by, reason, token, copies, at > now() - interval '1 hour' FROM orders ORDER BY id",
    "SELECT * FROM shifts ORDER BY id",
    "SELECT tableoid::regclass::text, * FROM parts ORDER BY id",
)
ROWS = "INSERT INTO orders (id, at) VALUES (1, '2020-01-01 00:00+00'), (2, '2020-01-01 00:00+00')"


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    policy, ddl = POLICY + ORDERS_POLICY, DDL + ORDERS_DDL
    settings = "compute: {engine: embedded}\n"
    directory = tmp_path_factory.mktemp("defaults")
    with open_site(postgres_server, directory, policy=policy, ddl=ddl, settings=settings, planned=True) as found:
        for dsn in (found.plain_dsn, found.proxy_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                for statement in MADE:
                    conn.execute(statement.encode())
        yield found
        assert SECRET not in found.proxy.log_path.read_text()  # what it logged as they were made, which no test searches


@pytest.fixture
def both(site: Site) -> Iterator[Differential]:
    for database in (site.plain, site.sealed):
        with site.server.connect(database) as conn:
            conn.execute("TRUNCATE orders, shifts, parts, wards")
    with watched_clinic(site, of_many=True) as clinic, Differential(clinic) as differential:
        clinic.oracle.planted.append(SECRET)
        differential.run("INSERT INTO wards VALUES (1, 'one'), (8, 'eight')")
        differential.run("INSERT INTO shifts VALUES (1, 'a', 'first'), (2, 'b', NULL)")
        differential.run(ROWS)
        yield differential


def _is_the_same(both: Differential, statement: str, params: tuple[object, ...] = ()) -> None:
    ways: list[tuple[Protocol, int, bool]] = [("extended", 0, False), ("extended", 1, True), ("simple", 0, False)]
    for protocol, results, named in ways[: 2 if params else 3]:
        both.run("BEGIN")
        outcome = both.run(statement, params, protocol=protocol, result_format=results, named=named, ordered=False)
        assert outcome.status in ("TUPLES_OK", "COMMAND_OK"), outcome.message
        for state in STATE:
            both.run(state)
        both.run("ROLLBACK")


# The moment of at is the transaction's, which is another one in each twin: it is given, or compared with.
WRITES: dict[str, tuple[str, tuple[object, ...]]] = {
    "left out": ("INSERT INTO orders (id, at) VALUES (10, NULL) RETURNING id, due, code, reason, token, copies", ()),
    "several rows": ("INSERT INTO orders (id, at, code) VALUES (10, NULL, DEFAULT), (11, NULL, 'own'), (12, NULL, NULL)", ()),
    "parameters": ("INSERT INTO orders (id, at, code) VALUES ($1, $2, $3), ($4, $2, DEFAULT)", ("10", None, "own", "11")),
    "default by default": (
        "INSERT INTO orders VALUES (10, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, NULL, DEFAULT, DEFAULT)",
        (),
    ),
    "fewer values than columns": ("INSERT INTO shifts VALUES (10), (11)", ()),
    "without a list": ("INSERT INTO shifts AS s VALUES (10, 'w', DEFAULT) RETURNING s.*", ()),
    "beside the same constant": ("INSERT INTO shifts (id, ward) VALUES (10, ' ')", ()),
    "of a query": ("INSERT INTO shifts (id, ward) SELECT id + 100, upper(name) FROM wards ORDER BY id", ()),
    "of a query without a list": ("INSERT INTO shifts SELECT id, name FROM wards WHERE id > 7", ()),
    "of a query with WITH": ("INSERT INTO shifts (id) WITH w AS (SELECT id FROM wards) SELECT id + 100 FROM w", ()),
    "of a query over opened values": ("INSERT INTO shifts (id, ward) SELECT id + 100, ward FROM shifts WHERE note LIKE 'f%'", ()),
    "of a set operation": ("INSERT INTO shifts (id, ward) SELECT id + 100, name FROM wards UNION SELECT 5, 'x' ORDER BY 1", ()),
    "of all columns": ("INSERT INTO shifts (id, ward) SELECT * FROM wards WHERE id = 8", ()),
    "of rows that are sorted": ("INSERT INTO shifts (id, ward) VALUES (5, 'five'), (4, DEFAULT)", ()),
    "merge of defaults": (
        "MERGE INTO parts p USING wards w ON p.id = w.id WHEN NOT MATCHED THEN INSERT VALUES (w.id, 1, DEFAULT)",
        (),
    ),
    "set": ("UPDATE shifts SET note = DEFAULT WHERE id = 1 RETURNING *", ()),
    "set of all": ("UPDATE orders SET (due, code) = (DEFAULT, DEFAULT), reason = DEFAULT, ward = 'x'", ()),
    "set by what is computed": ("UPDATE shifts SET note = DEFAULT WHERE upper(note) = 'FIRST'", ()),
    "an upsert": ("INSERT INTO shifts (id, ward) VALUES (1, 'z'), (10, 'y') ON CONFLICT (id) DO NOTHING RETURNING id", ()),
    "an upsert to what is proposed": (
        "INSERT INTO shifts (id, ward) VALUES (1, 'z'), (10, 'y') ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note",
        (),
    ),
    "an upsert to the default": (
        "INSERT INTO shifts AS s (id, note) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET note = DEFAULT, ward = 'u'",
        (),
    ),
    "merge": (
        "MERGE INTO shifts s USING wards w ON s.id = w.id WHEN MATCHED THEN UPDATE SET note = DEFAULT"
        " WHEN NOT MATCHED THEN INSERT (id, ward) VALUES (w.id, w.name)",
        (),
    ),
    "in WITH": ("WITH x AS (INSERT INTO shifts (id) VALUES (10) RETURNING id, note) SELECT id, note FROM x", ()),
    "in WITH, beside tables that are read": (
        "WITH x AS (UPDATE shifts SET note = DEFAULT WHERE id = 1 RETURNING id, note), y AS (INSERT INTO shifts (id) SELECT id + 50"
        " FROM wards RETURNING id) SELECT x.note, w.name, y.id FROM x, y, wards w ORDER BY w.id, y.id",
        (),
    ),
    "behind a write in WITH": (
        "WITH d AS (DELETE FROM wards WHERE id = 8 RETURNING id, name) INSERT INTO shifts (id, ward) SELECT id, name FROM d"
        " RETURNING *",
        (),
    ),
    "computed in RETURNING": ("INSERT INTO shifts (id) VALUES (10) RETURNING upper(note), id", ()),
    "a partitioned table": ("INSERT INTO parts (id, ward) VALUES (1, 1), (2, 2)", ()),
    "a partition": ("INSERT INTO parts_2 (id, ward) VALUES (1, 2)", ()),
    "a clock": ("INSERT INTO orders (id) VALUES (10) RETURNING id, due", ()),
}


@pytest.mark.parametrize("name", WRITES)
def test_writes(both: Differential, name: str) -> None:
    _is_the_same(both, *WRITES[name])


REFUSED = {
    "of a sequence": ("ALTER TABLE shifts ALTER note SET DEFAULT 'M' || nextval('numbers')", "0A000", "Built-in functions"),
    "of a function of the database's own": ("ALTER TABLE shifts ALTER note SET DEFAULT own()", "0A000", "Built-in functions"),
    "of a setting by its name": ("ALTER TABLE shifts ALTER note SET DEFAULT current_setting('x.y')", "0A000", "without a constant"),
    "of a date as settings read it": ("ALTER TABLE orders ALTER due SET DEFAULT '01/02/2024'::date + 1", "0A000", "YYYY-MM-DD"),
    "of a moment of the clock": ("ALTER TABLE orders ALTER due SET DEFAULT 'tomorrow'::date + 1", "0A000", "current_date"),
    "of a column": ("ALTER TABLE shifts ALTER note SET DEFAULT upper(ward)", "0A000", ""),
    "of a query": ("ALTER TABLE shifts ALTER note SET DEFAULT (SELECT 'x' || 'y')", "0A000", ""),
    "of another type": ("ALTER TABLE orders ALTER due SET DEFAULT now()::text || ''", "42804", "cast"),
    "of a constant elsewhere in clear": (
        "ALTER TABLE shifts ALTER note SET DEFAULT upper('abc'), ALTER ward SET DEFAULT 'abc'",
        "0A000",
        "statement of its own",
    ),
    "in the physical form": (r"ALTER TABLE shifts ALTER note SET DEFAULT upper('\xf5500101')", "0A000", "past the proxy"),
    "of a function that is not there": ("ALTER TABLE shifts ALTER note SET DEFAULT nofunction('x')", "42883", ""),
    "of a new column, if it is not there": (
        "ALTER TABLE shifts ADD COLUMN IF NOT EXISTS note text DEFAULT upper('x')",
        "0A000",
        "statement of its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(both: Differential, name: str) -> None:
    statement, sqlstate, hint = REFUSED[name]
    if sqlstate == "42883":
        assert both.run(statement).sqlstate == "42883"
    else:
        both.refused(statement, sqlstate=sqlstate, protocol="simple", hint=hint)


def test_a_view_that_does_not_have_the_column(both: Differential) -> None:
    both.run("CREATE VIEW lacking AS SELECT id, ward FROM shifts")
    both.run("CREATE VIEW complete AS SELECT id, note FROM shifts")
    try:
        both.refused("INSERT INTO lacking (id, ward) VALUES (40, 'x')", hint="let the view have the column")
        both.run("UPDATE lacking SET ward = 'y' WHERE id = 1")
        _is_the_same(both, "INSERT INTO complete (id) VALUES (40) RETURNING note")
    finally:
        both.run("DROP VIEW lacking, complete")


def test_each_row_has_its_own_of_what_is_volatile(both: Differential) -> None:
    both.run("ALTER TABLE orders ALTER token SET DEFAULT gen_random_uuid()::text")
    try:
        both.run("INSERT INTO orders (id) VALUES (10), (11)")
        assert both.run("SELECT count(DISTINCT token), min(length(token)) FROM orders WHERE id > 9").rows == ((b"2", b"36"),)
        assert both.run("UPDATE orders SET token = DEFAULT WHERE id > 9").sqlstate is None
        assert both.run("INSERT INTO orders (id) SELECT id + 10 FROM orders WHERE id > 9").sqlstate is None
        assert both.run("SELECT count(DISTINCT token), min(length(token)) FROM orders WHERE id > 9").rows == ((b"4", b"36"),)
    finally:
        both.run("ALTER TABLE orders ALTER token SET DEFAULT 'none'")


def test_many_rows_have_it_computed_once(both: Differential) -> None:
    rows = ", ".join(f"({n}, 'ward {n}')" for n in range(100, 1900))
    both.run(f"INSERT INTO shifts (id, ward) VALUES {rows}", protocol="simple")
    both.run("SELECT * FROM shifts ORDER BY id")
    envelopes = both.clinic.raw("shifts", "note")
    assert len(set(envelopes)) == len(envelopes) > 1800


def test_a_default_is_changed_dropped_and_rolled_back(both: Differential) -> None:
    insert = "INSERT INTO shifts (id) VALUES (50) ON CONFLICT (id) DO UPDATE SET note = DEFAULT"
    for change in ("SET DEFAULT 'a' || current_date", "SET DEFAULT 'constant'", "SET DEFAULT upper('a') || 'b'", "DROP DEFAULT"):
        both.run("BEGIN")
        both.run(f"ALTER TABLE shifts ALTER COLUMN note {change}")
        both.run(insert)
        both.run("SELECT * FROM shifts ORDER BY id")
        both.run("ROLLBACK")
    both.run(insert)
    both.run("SELECT * FROM shifts ORDER BY id")


def test_a_column_is_added_with_one(both: Differential) -> None:
    both.run("CREATE TABLE added (id int)")
    try:
        both.run("ALTER TABLE added ADD COLUMN note text NOT NULL DEFAULT 'n' || current_date::text, ADD COLUMN city text")
        both.run("INSERT INTO added (id) VALUES (1)")
        both.run("SELECT * FROM added ORDER BY id")
        both.run("ALTER TABLE added DROP COLUMN note")
        both.refused("ALTER TABLE added ADD COLUMN note text DEFAULT 'n' || current_date::text", hint="then write its values")
    finally:
        both.run("DROP TABLE added")


def _stored_default(conn: psycopg.Connection[tuple[object, ...]], table: str, column: str) -> str:
    row = conn.execute(
        "SELECT column_default::text FROM information_schema.columns WHERE table_name = %s AND column_name = %s", (table, column)
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_what_stands_in_the_catalogue_is_authentic_or_fails(both: Differential) -> None:
    """Who can write the catalogue, and not the keys, has nothing sealed that he chooses."""
    with both.clinic.superuser() as conn:
        text = _stored_default(conn, "orders", "reason")
        assert text.startswith("decode(encode('\\xf5500101")
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            conn.execute("INSERT INTO orders (id, due) VALUES (60, NULL)")  # past the proxy
        (value,) = conn.execute("SELECT reason::text FROM orders WHERE id = 1").fetchone() or ("",)
        moved = _stored_default(conn, "shifts", "note")
        envelope = text[len("decode(encode(") : text.index(",")]
        try:
            for planted in (moved, text.replace(envelope, f"'{value}'::bytea"), envelope, moved.replace(moved[40:42], "00")):
                conn.execute(f"ALTER TABLE orders ALTER COLUMN reason SET DEFAULT {planted}".encode())
                outcome = None
                for _ in range(2000):  # until the proxy has read the catalogue again
                    with psycopg.connect(both.clinic.proxy_dsn, autocommit=True) as client:
                        try:
                            client.execute("INSERT INTO orders (id) VALUES (61)")
                        except psycopg.Error as error:
                            outcome = error.sqlstate
                            break
                        client.execute("DELETE FROM orders WHERE id = 61")
                    time.sleep(0.05)
                assert outcome == "XX001", planted[:60]
        finally:
            conn.execute(f"ALTER TABLE orders ALTER COLUMN reason SET DEFAULT {text}".encode())
            _until_it_is_read(both.clinic.proxy_dsn)


def _until_it_is_read(dsn: str) -> None:
    """Return once the proxy has read the catalogue with the default that opens."""
    with psycopg.connect(dsn, autocommit=True) as client:
        for _ in range(1000):
            try:
                client.execute("INSERT INTO orders (id) VALUES (62)")
            except psycopg.Error:
                time.sleep(0.1)
                continue
            client.execute("DELETE FROM orders WHERE id = 62")
            return
    raise AssertionError("the proxy has not read the catalogue again")


def test_a_prepared_statement_takes_the_default_of_its_moment(both: Differential) -> None:
    dsns = (both.clinic.plain_dsn, both.clinic.proxy_dsn)
    both.run("PREPARE add (int) AS INSERT INTO shifts (id) VALUES ($1)")
    both.run("EXECUTE add (70)")
    seen = []
    for dsn in dsns:
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as conn, psycopg.connect(dsn, autocommit=True) as other:
            conn.execute("INSERT INTO shifts (id) VALUES (%s)", (80,))
            other.execute("ALTER TABLE shifts ALTER COLUMN note SET DEFAULT upper('another')")
            try:
                conn.execute("INSERT INTO shifts (id) VALUES (%s)", (81,))
            finally:
                other.execute(MADE[1].encode())
            seen.append(conn.execute("SELECT id, note FROM shifts WHERE id > 75 ORDER BY id").fetchall())
    assert seen[0] == seen[1]
    assert seen[0][1] == (81, "ANOTHER")


def test_commands_know_them(both: Differential) -> None:
    site = both.clinic.site
    assert "DROP DEFAULT" not in site.cli("ddl")
    assert "DEFAULT" not in site.cli("check", check=False)
    told = site.cli("explain", "INSERT INTO shifts (id) VALUES (1)")
    assert told.startswith("split")
    assert "its expression is sealed" in told
    assert SECRET not in told


def test_a_proxy_that_has_just_started_fetches_the_key(both: Differential) -> None:
    """Also for a text that another thread plans."""
    rows = ", ".join(f"({n}, 'ward {n}')" for n in range(100, 600))
    for statement in ("INSERT INTO shifts (id) VALUES (90)", f"INSERT INTO shifts (id, ward) VALUES {rows}"):
        both.clinic.site.proxy.terminate()
        both.clinic.site.proxy.start()
        for dsn in (both.clinic.plain_dsn, both.clinic.proxy_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(statement.encode())
    with psycopg.connect(both.clinic.plain_dsn) as plain, psycopg.connect(both.clinic.proxy_dsn) as proxied:
        read = "SELECT * FROM shifts ORDER BY id"
        assert proxied.execute(read).fetchall() == plain.execute(read).fetchall()


JOBS_POLICY = """\
database: {database}
deployment: defaults-test
tables:
  public.t:
    columns:
      note: {type: text, indexes: [note], distinct: 1000000}
      due: {type: date}
"""
JOBS_DDL = """\
CREATE TABLE t (id int PRIMARY KEY, note text DEFAULT upper('sealed constant'), due date DEFAULT current_date - 30);
INSERT INTO t (id) VALUES (1), (2);
"""
INSERTED = "INSERT INTO t (id) VALUES (7) RETURNING note"


def test_jobs_convert_them(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """``encrypt`` seals the defaults that it finds, ``recrypt`` moves them to the key that writes, ``decrypt`` gives them back."""
    settings = "compute: {engine: embedded}\n"
    with filled_site(postgres_server, tmp_path, policy=JOBS_POLICY, ddl=JOBS_DDL, settings=settings) as site:
        plain = _defaults(site)
        site.cli("encrypt")
        sealed = _defaults(site)
        assert all(text.startswith("decode(encode(") for text in sealed)
        _inserts(site)
        site.cli("keys", "rotate")
        site.cli("recrypt")
        again = _defaults(site)
        assert not set(again) & set(sealed)
        _inserts(site)
        site.cli("decrypt", "public.t", "--reorder")
        assert [_bare(text) for text in _defaults(site)] == [_bare(text) for text in plain]
        _inserts(site)


def _defaults(site: Site) -> list[str]:
    with site.server.connect(site.sealed) as conn:
        return [_stored_default(conn, "t", column) for column in ("due", "note")]


def _bare(text: str) -> str:
    return text.strip("()").lower()


def _inserts(site: Site) -> None:
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        row = conn.execute(INSERTED).fetchone()
        assert row is not None
        assert row[0] == "SEALED CONSTANT"
        assert conn.execute("SELECT due = current_date - 30 FROM t WHERE id = 7").fetchone() == (True,)
        conn.execute("DELETE FROM t WHERE id = 7")
