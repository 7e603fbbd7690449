"""The catalogue snapshot of a real server, and what reaches a protected table in it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from phiproxy.errors import CatalogNeeded
from phiproxy.net.catalog_reader import CatalogReader, read_catalog
from phiproxy.policy.catalog import Catalog, CatalogIndex, Drawn
from phiproxy.policy.catalog_rows import SOME, changed, overlaid
from phiproxy.policy.plaintext_guards import guard, guard_name
from tests.clinic_model import protected
from tests.harness.server import PostgresServer

Connection = psycopg.AsyncConnection[Any]

SCHEMA = """
CREATE TABLE patients (id int PRIMARY KEY, ssn bytea NOT NULL, note text DEFAULT 'x', UNIQUE (ssn));
CREATE TABLE other (id int PRIMARY KEY, a text);
CREATE SCHEMA "Odd";
CREATE TABLE "Odd"."Table" (id int, "Col" varchar(7), gone int, g int GENERATED ALWAYS AS (id + 1) STORED);
ALTER TABLE "Odd"."Table" DROP COLUMN gone;
"""


@pytest.fixture
async def conn(postgres_server: PostgresServer) -> AsyncIterator[Connection]:
    name = postgres_server.create_database()
    try:
        async with await psycopg.AsyncConnection.connect(postgres_server.dsn(name), autocommit=True) as connection:
            await connection.execute(SCHEMA)
            yield connection
    finally:
        postgres_server.drop_database(name)


async def read(conn: Connection, *names: str) -> Catalog:
    return await read_catalog(conn, [("public", "patients")], names or None)


async def reach(conn: Connection) -> dict[str, str]:
    """What reaches, without the functions that always do and the array type of the table."""
    text = "runs SQL or reads tables that are given as text"
    return {n: why for n, why in (await read(conn)).reaching.items() if why != text and n != "_patients"}


async def test_sequences_of_columns_are_found_by_an_index_however_many_relations_there_are(conn: Connection) -> None:
    await conn.execute("CREATE TABLE numbered (a serial, b int GENERATED ALWAYS AS IDENTITY, c int DEFAULT 2)")
    await conn.execute("SET enable_seqscan TO off; SET enable_bitmapscan TO off")  # of few rows all are read
    plan = await (await conn.execute(f"EXPLAIN {SOME}".encode(), {"names": ["numbered"], "oids": []})).fetchall()
    lines = [line.strip() for (line,) in plan]
    ((at, scan),) = [(at, line) for at, line in enumerate(lines) if " on pg_class q " in line]
    assert "Index" in scan
    assert lines[at + 1].startswith("Index Cond: (oid = ANY")


async def test_relations(conn: Connection) -> None:
    catalog = await read(conn)
    patients = catalog.by_name["public", "patients"]
    assert [(c.name, c.attnum, c.type_oid, c.not_null, c.has_default) for c in patients.columns] == [
        ("id", 1, 23, True, False),
        ("ssn", 2, 17, True, False),
        ("note", 3, 25, False, True),
    ]
    assert (patients.kind, patients.row_security, patients.partition_or_child, patients.parent) == ("r", False, False, False)
    odd = catalog.by_name["Odd", "Table"]
    assert [(c.name, c.attnum, c.typmod, c.generated) for c in odd.columns] == [
        ("id", 1, -1, False),
        ("Col", 2, 11, False),
        ("g", 4, -1, True),
    ]
    assert catalog.by_oid[odd.oid] is odd
    assert catalog.by_name["pg_catalog", "pg_class"].column("relname") is not None
    assert ("information_schema", "columns") in catalog.by_name
    assert not any(r.schema.startswith("pg_toast") for r in catalog.relations)
    assert catalog.server_version == conn.info.server_version


async def test_defaults_that_draw_and_triggers_for_each_row(conn: Connection) -> None:
    await conn.execute("""
        CREATE SEQUENCE "S x"; CREATE FUNCTION own() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
        CREATE TABLE drawing (
            a serial, b int GENERATED ALWAYS AS IDENTITY, c bigint DEFAULT nextval('"S x"'), d text DEFAULT 'P' || nextval('"S x"'),
            e uuid DEFAULT gen_random_uuid(), f text DEFAULT upper('x'), g timestamptz DEFAULT now(), h int DEFAULT own());
        CREATE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'
    """)
    reader = await reader_of(conn, "drawing")
    catalog = await read(conn)
    drawing = catalog.by_name["public", "drawing"]
    assert {c.name: c.drawn for c in drawing.columns} == {
        "a": Drawn(frozenset({"nextval"}), "public.drawing_a_seq", plain=True),
        "b": Drawn(frozenset(), "public.drawing_b_seq", plain=True, identity="a"),
        "c": Drawn(frozenset({"nextval"}), 'public."S x"', plain=True),
        "d": Drawn(frozenset({"nextval"}), 'public."S x"'),
        "e": Drawn(frozenset({"gen_random_uuid"})),
        "f": None,
        "g": None,
        "h": Drawn(frozenset({""})),
    }
    await conn.execute("ALTER FUNCTION own() STABLE")
    stable = (await reader.read(conn, [("public", "patients")], ["drawing"])).by_name["public", "drawing"].column("h")
    assert stable is not None
    assert stable.drawn is None
    assert not drawing.row_triggers
    await conn.execute("CREATE TRIGGER kept BEFORE UPDATE ON drawing FOR EACH ROW EXECUTE FUNCTION kept()")
    await conn.execute("CREATE TRIGGER after AFTER INSERT ON drawing FOR EACH STATEMENT EXECUTE FUNCTION kept()")
    drawing = (await read(conn)).by_name["public", "drawing"]
    assert drawing.row_triggers
    assert not drawing.statement_triggers
    await conn.execute("CREATE TRIGGER first BEFORE INSERT ON drawing FOR EACH STATEMENT EXECUTE FUNCTION kept()")
    assert (await read(conn)).by_name["public", "drawing"].statement_triggers


async def test_guards_and_indexes(conn: Connection) -> None:
    column = protected("patients", "ssn", 0xFE8A)
    await conn.execute(f"ALTER TABLE patients ADD CONSTRAINT {guard_name('ssn')} {guard(column)}".encode())
    await conn.execute("CREATE UNIQUE INDEX u ON patients (pg_catalog.substring(ssn, 13, 16))")
    patients = (await read(conn)).by_name["public", "patients"]
    assert patients.guards == (("ssn", 0xFE8A),)
    assert patients.index("u") == CatalogIndex("u", unique=True, constraint=False, columns=("ssn",))
    await conn.execute("CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE, other int UNIQUE)")
    catalog = await read(conn)
    keys = {(r.name, i.name) for r in catalog.relations if r.schema == "public" for i in r.indexes if i.key}
    assert ("patients", "patients_pkey") in keys
    assert not any(name == "deferred" for name, _ in keys)


async def test_nobody_waits_for_a_client_that_changes_a_table(conn: Connection, postgres_server: PostgresServer) -> None:
    await conn.execute(f"ALTER TABLE patients ADD CONSTRAINT {guard_name('ssn')} {guard(protected('patients', 'ssn', 7))}".encode())
    with psycopg.connect(postgres_server.dsn(conn.info.dbname)) as other:
        other.execute("LOCK TABLE patients IN ACCESS EXCLUSIVE MODE")
        await asyncio.wait_for(read(conn), 60)


async def test_only_the_views_that_somebody_changes_are_not_read(conn: Connection, postgres_server: PostgresServer) -> None:
    await conn.execute("CREATE VIEW numbers AS SELECT id, ssn FROM patients; CREATE VIEW notes AS SELECT id, note FROM patients")
    reader = CatalogReader()
    with psycopg.connect(postgres_server.dsn(conn.info.dbname)) as other:
        other.execute("ALTER VIEW notes SET (security_barrier)")
        catalog = await reader.read(conn, [("public", "patients")])
        assert [catalog.by_name["public", name].oid in catalog.views for name in ("numbers", "notes")] == [True, False]
        assert catalog.unread_views
        other.rollback()
    assert not await reader.same(conn), "what is rolled back makes nothing another one than before"
    catalog = await reader.read(conn, [("public", "patients")])
    assert not catalog.unread_views
    assert await reader.same(conn)


async def test_tables_that_are_special(conn: Connection) -> None:
    await conn.execute(
        "CREATE TABLE part (day date, x int, id int) PARTITION BY RANGE (id, (x + 1));"
        "CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0, 0) TO (9, 9);"
        "CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);"
        "ALTER TABLE other ENABLE ROW LEVEL SECURITY; CREATE POLICY a ON other FOR SELECT USING (true);"
        "ALTER TABLE part ENABLE ROW LEVEL SECURITY; CREATE POLICY a ON part USING (true);"
        "CREATE TABLE visits (p int REFERENCES patients, s bytea REFERENCES patients (ssn))"
    )
    by_name = (await read(conn)).by_name
    assert by_name["public", "part"].parent
    assert by_name["public", "part"].partition_key == {"id", "x"}
    assert by_name["public", "part1"].partition_or_child
    assert by_name["public", "part1"].parents == (by_name["public", "part"].oid,)
    assert by_name["public", "parent"].parent
    assert by_name["public", "child"].partition_or_child
    assert by_name["public", "other"].row_security
    assert by_name["public", "other"].policies_by_command
    assert by_name["public", "part"].row_security
    assert not by_name["public", "part"].policies_by_command
    assert by_name["public", "patients"].key_columns == {"id", "ssn"}
    assert by_name["public", "visits"].key_columns == {"p", "s"}


async def test_a_catalogue_in_which_nothing_depends_on_what_is_protected(conn: Connection) -> None:
    await conn.execute("CREATE TABLE visits (p int REFERENCES patients); CREATE VIEW w AS SELECT * FROM other")
    assert await reach(conn) == {}


async def test_a_catalogue_in_which_nothing_is_protected(conn: Connection) -> None:
    assert (await read_catalog(conn, [])).reaching == {}


@pytest.mark.parametrize(
    ("ddl", "names"),
    [
        ("CREATE VIEW v AS SELECT id FROM patients; CREATE VIEW w AS SELECT * FROM v", {"v", "w"}),
        ("CREATE MATERIALIZED VIEW m AS SELECT * FROM patients", {"m"}),
        ("CREATE RULE r AS ON INSERT TO other DO ALSO INSERT INTO patients VALUES (1, '')", {"other"}),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT id FROM patients'", {"f"}),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT id FROM patients; END", {"f"}),
        ("CREATE FUNCTION f(p patients) RETURNS int LANGUAGE sql AS 'SELECT 1'", {"f"}),
        ('CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN DELETE FROM public."patients"; END $$', {"p"}),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DELETE FROM Patients'; END $$", {"f"}),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE patients SET ssn = ''; RETURN NEW; END $$;"
            "CREATE TRIGGER t AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION f()",
            {"f", "other"},
        ),
        (
            "CREATE FUNCTION f(bigint, int) RETURNS bigint LANGUAGE sql AS 'SELECT $1 + count(*) FROM patients';"
            "CREATE AGGREGATE agg (int) (SFUNC = f, STYPE = bigint); CREATE VIEW w AS SELECT agg(id) FROM other",
            {"f", "agg", "w"},
        ),
        (
            "CREATE FUNCTION f(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true FROM patients';"
            "CREATE OPERATOR === (FUNCTION = f, LEFTARG = text, RIGHTARG = text)",
            {"f", "==="},
        ),
        (
            "CREATE TYPE c AS (a int); CREATE FUNCTION f(c) RETURNS text LANGUAGE sql AS 'SELECT note FROM patients';"
            "CREATE CAST (c AS text) WITH FUNCTION f(c)",
            {"f", "c", "_c"},
        ),
        ("CREATE TYPE c AS (p patients)", {"c", "_c"}),
        (
            "CREATE FUNCTION f(text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true FROM patients';"
            "CREATE DOMAIN d AS text CHECK (f(VALUE)); CREATE TABLE u (x d)",
            {"f", "d", "_d", "u", "_u"},
        ),
        (
            "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT note FROM patients LIMIT 1';"
            "ALTER TABLE other ALTER a SET DEFAULT f()",
            {"f", "other", "_other"},
        ),
        ("CREATE POLICY p ON other USING (id IN (SELECT id FROM patients))", {"other", "_other"}),
        ("CREATE TABLE child () INHERITS (patients)", {"child", "_child"}),
        (
            "CREATE TABLE parent (id int); ALTER TABLE parent ALTER id SET NOT NULL; ALTER TABLE patients INHERIT parent",
            {"parent", "_parent"},
        ),
        ("CREATE TABLE holder (p patients)", {"holder", "_holder"}),
    ],
)
async def test_reaching(conn: Connection, ddl: str, names: set[str]) -> None:
    await conn.execute(ddl.encode())
    found = await reach(conn)
    assert names <= set(found)
    # row and array types of what reaches come with it
    assert {n.removeprefix("_") for n in found} == {n.removeprefix("_") for n in names}
    assert all("public.patients" in why for why in found.values())


async def test_foreign_tables(conn: Connection) -> None:
    try:
        await conn.execute("CREATE EXTENSION postgres_fdw")
    except psycopg.Error as error:
        pytest.skip(f"no postgres_fdw here: {error}")
    await conn.execute(
        "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;"
        "CREATE FOREIGN TABLE far (id int) SERVER s OPTIONS (table_name 'patients');"
        "CREATE FOREIGN TABLE unrelated (id int) SERVER s"
    )
    assert {n.removeprefix("_") for n in await reach(conn)} == {"far"}


async def test_functions_that_run_text_always_reach(conn: Connection) -> None:
    await conn.execute("CREATE FUNCTION f(q text) RETURNS xml LANGUAGE sql AS $$ SELECT query_to_xml(q, true, true, '') $$")
    catalog = await read(conn)
    assert {"query_to_xml", "table_to_xml", "database_to_xml", "cursor_to_xml", "schema_to_xmlschema", "ts_stat", "f"} <= set(
        catalog.reaching
    )
    assert "count" not in catalog.reaching


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE x (a int)",
        "ALTER TABLE other ADD COLUMN b int",
        "ALTER TABLE other DROP COLUMN a",
        "ALTER TABLE other RENAME COLUMN a TO b",
        "ALTER TABLE other ALTER a TYPE varchar(9)",
        "ALTER TABLE other ALTER a SET DEFAULT 'y'",
        "ALTER TABLE patients ALTER note SET DEFAULT 'y'",
        "ALTER TABLE other RENAME TO another",
        'ALTER TABLE other SET SCHEMA "Odd"',
        'ALTER SCHEMA "Odd" RENAME TO odd',
        "DROP TABLE other",
        "CREATE VIEW v AS SELECT id FROM patients",
        "CREATE VIEW x AS SELECT 1",
        'CREATE TABLE "Odd".other (id int)',
        "CREATE SCHEMA more",
        "CREATE TABLE child () INHERITS (patients)",
        "CREATE INDEX i ON other (a)",
        "ALTER INDEX other_pkey RENAME TO keys",
        "ALTER SEQUENCE of_default RENAME TO s",
        "ALTER SEQUENCE other_number_seq RENAME TO s",
        "CREATE TYPE e AS ENUM ('a')",
        "CREATE TABLE more (a int, CONSTRAINT phi_guard_a CHECK (a > 0))",
        "CREATE TRIGGER t BEFORE UPDATE ON other FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE POLICY p ON other USING (true)",
        "CREATE RULE r AS ON INSERT TO other DO ALSO SELECT 1",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION old() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "ALTER TABLE other ADD FOREIGN KEY (id) REFERENCES patients",
        "ALTER TABLE other ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE other ADD CHECK (id > 0)",
        "CREATE DOMAIN d AS text",
        "COMMENT ON CONSTRAINT phi_guard_ssn ON patients IS 'columns: note, id, ssn'",
    ],
)
async def test_ddl_that_concerns_what_was_read_is_noticed(conn: Connection, ddl: str) -> None:
    await conn.execute("CREATE FUNCTION old() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    await conn.execute("ALTER TABLE patients ADD CONSTRAINT phi_guard_ssn CHECK (ssn <> '')")
    await conn.execute("CREATE SEQUENCE of_default; ALTER TABLE other ADD COLUMN of int DEFAULT nextval('of_default')")
    await conn.execute("ALTER TABLE other ADD COLUMN number int GENERATED ALWAYS AS IDENTITY")
    reader = await reader_of(conn, "other", "x", "Table")
    assert await reader.same(conn)
    await conn.execute(ddl.encode())
    assert [await reader.same(conn) for _ in range(4)] == [False] * 4, "it is new until it was read"


@pytest.mark.parametrize(
    ("ddl", "name"),
    [
        ("CREATE TABLE y (a int, b int CHECK (b > 0))", "x"),
        ("CREATE VIEW v AS SELECT 1", "x"),
        ("DROP TABLE other", "x"),
        ("TRUNCATE patients, other RESTART IDENTITY", "other"),
        ("REINDEX TABLE patients", "other"),
        ("GRANT SELECT ON patients, other TO PUBLIC", "other"),
    ],
)
async def test_other_ddl_costs_no_reading(conn: Connection, ddl: str, name: str) -> None:
    await conn.execute("ALTER TABLE other ADD COLUMN number int GENERATED ALWAYS AS IDENTITY")
    reader = await reader_of(conn, name)
    await conn.execute(ddl.encode())
    assert await reader.same(conn)


async def reader_of(conn: Connection, *names: str) -> CatalogReader:
    """Return a reader that has read these names."""
    reader = CatalogReader()
    await reader.read(conn, [("public", "patients")], names)
    return reader


async def test_nothing_is_noticed_without_ddl(conn: Connection) -> None:
    reader = await reader_of(conn, "other", "scratch")
    await conn.execute("INSERT INTO other SELECT g, 'x' FROM generate_series(1, 1000) g")
    await conn.execute("ANALYZE")
    await conn.execute("VACUUM")
    await conn.execute("CREATE TEMP TABLE scratch (id serial PRIMARY KEY, a text DEFAULT 'x' CHECK (a <> ''))")
    assert await reader.same(conn)
    assert not await reader.same(conn, temporary=True)


async def test_what_was_not_read_is_asked_for(conn: Connection) -> None:
    catalog = await read(conn, "other")
    assert catalog.find("public", "patients") is not None
    assert catalog.find("public", "other") is not None
    assert catalog.find("Odd", "other") is None
    with pytest.raises(CatalogNeeded) as needed:
        catalog.find("Odd", "Table")
    assert needed.value.names == {"Table"}
    assert {r.name for r in catalog.relations} == {"patients", "other"}
    more = await read(conn, "other", "Table", "other_pkey")
    assert more.extends(catalog)
    assert not catalog.extends(more)
    assert more.generation == catalog.generation
    assert [(r.name, i.name) for r, i in more.indexed("other_pkey")] == [("other", "other_pkey")]
    await conn.execute("ALTER TABLE other ADD COLUMN b int")
    assert not (await read(conn, "other", "Table", "other_pkey")).extends(more)


async def test_stored_queries_of_views(conn: Connection, postgres_server: PostgresServer) -> None:
    await conn.execute("CREATE VIEW names AS SELECT id, ssn FROM patients; CREATE VIEW others AS SELECT a FROM other")
    catalog = await read(conn)
    (text,) = catalog.views.values()
    assert "FROM public.patients" in text
    async with await psycopg.AsyncConnection.connect(postgres_server.dsn(conn.info.dbname)) as client:
        await client.execute("ALTER VIEW names RENAME TO renamed")
        assert (await asyncio.wait_for(read(conn), 60)).views == {}


async def test_functions_that_may_run_any_text_are_dynamic(conn: Connection) -> None:
    await conn.execute(
        """
        CREATE FUNCTION runs(q text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE q; END $$;
        CREATE FUNCTION adds(a int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN a + 1; END $$;
        CREATE FUNCTION plain(a int) RETURNS int LANGUAGE sql AS $$ SELECT a $$;
        """
    )
    assert (await read(conn)).dynamic == {"runs"}


async def test_functions_that_change_the_session_are_setters(conn: Connection) -> None:
    await conn.execute(
        """
        CREATE FUNCTION tenant(t text) RETURNS int LANGUAGE plpgsql AS
          $$ BEGIN EXECUTE format('SET search_path = %I', t); RETURN 1; END $$;
        CREATE FUNCTION atomic(t text) RETURNS text BEGIN ATOMIC SELECT set_config('search_path', t, false); END;
        CREATE FUNCTION plain(a int) RETURNS int LANGUAGE sql SET search_path = pg_catalog AS $$ SELECT a $$;
        CREATE VIEW calls AS SELECT tenant('a');
        """
    )
    assert (await read(conn)).setters - {"_calls"} == {"tenant", "atomic", "calls"}


async def test_what_reads_statistics(conn: Connection) -> None:
    reader = CatalogReader()
    assert not (await reader.read(conn, [("public", "patients")])).statistics
    await conn.execute(
        """
        CREATE SCHEMA monitor;
        CREATE VIEW monitor.pg_stats AS SELECT tablename, null_frac FROM pg_catalog.pg_stats;
        CREATE MATERIALIZED VIEW kept AS SELECT tablename, null_frac FROM monitor.pg_stats;
        CREATE VIEW extended AS SELECT * FROM pg_stats_ext;
        CREATE VIEW catalogue AS SELECT count(*) FROM (SELECT stanullfrac FROM pg_statistic) s;
        CREATE FUNCTION named() RETURNS real LANGUAGE sql AS 'SELECT max(null_frac) FROM pg_stats';
        CREATE FUNCTION atomic() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM pg_statistic_ext_data; END;
        CREATE FUNCTION calls() RETURNS real LANGUAGE plpgsql AS $$ BEGIN RETURN named(); END $$;
        CREATE VIEW over_patients AS SELECT p.id, s.null_frac FROM patients p, kept s;
        CREATE VIEW none_of_it AS SELECT relname FROM pg_stat_all_tables;
        """
    )
    seen = {"pg_stats", "kept", "extended", "named", "calls", "over_patients"}
    by_dependencies = (await reader.read(conn, [("public", "patients")])).statistics
    assert {name for name in by_dependencies if not name.startswith("_")} == seen
    # No dependency on the tables themselves is recorded: what reads these is looked for once.
    catalog = await read(conn)
    assert {name for name in catalog.statistics if not name.startswith("_")} == seen | {"catalogue", "atomic"}
    assert catalog.as_seen(masks=False).reaching.keys() & seen == {"over_patients"}
    assert catalog.as_seen(masks=True).reaching.keys() > seen


async def test_the_generation_is_that_of_the_content(conn: Connection) -> None:
    first = await read(conn)
    assert (await read(conn)).generation == first.generation
    await conn.execute("CREATE VIEW v AS SELECT 1 FROM patients")
    assert (await read(conn)).generation != first.generation


async def test_where_nobody_else_asks_questions_are_prepared_and_answered_as_elsewhere(
    conn: Connection, postgres_server: PostgresServer
) -> None:
    await conn.execute("CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET ROLE x; RETURN NEW; END $$")
    await conn.execute("CREATE TRIGGER t BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION moves()")
    of_schemas = "CREATE SCHEMA more", "GRANT USAGE ON SCHEMA more TO PUBLIC", "DROP SCHEMA more"
    of_roles = [f"ALTER ROLE {conn.info.user} {rights}" for rights in ("NOINHERIT", "INHERIT")]
    await conn.execute("""CREATE TYPE "Odd".kind AS ENUM ('a'); CREATE SCHEMA gone CREATE TABLE of_it (id int)""")
    reader, names = CatalogReader(), ("other", "other_pkey", "100%", "Table", "of_it")
    seen = await reader.read(conn, [("public", "patients")], names, apart=True)
    assert "other" in seen.setters
    for ddl in (
        "ALTER TABLE other RENAME a TO b",
        "ALTER FUNCTION moves RENAME TO goes",
        'CREATE TABLE "100%" (a int REFERENCES patients)',
        *of_schemas,
        *of_roles,
        'ALTER SCHEMA "Odd" RENAME TO "Even"',
        "DROP SCHEMA gone CASCADE",
    ):
        tables = reader._tables
        assert await reader.same(conn, apart=True)
        with psycopg.connect(postgres_server.dsn(conn.info.dbname), autocommit=True) as other:
            other.execute(ddl.encode())
        changes = await reader.read_changes(conn, [("public", "patients")], names, temporary=False)
        assert changes is not None
        whole = await read(conn, *names)
        assert (changes.generation, changes.relations, changes.types) == (whole.generation, whole.relations, whole.types)
        assert tables is not None
        assert reader._tables is not None
        assert (reader._tables.reached is tables.reached) is (ddl in of_schemas or ddl in of_roles)
    asked = await conn.execute("SELECT statement FROM pg_prepared_statements WHERE generic_plans + custom_plans > 1")
    assert len(await asked.fetchall()) > 5


@pytest.mark.slow
async def test_concurrent_ddl_breaks_no_reading(conn: Connection, postgres_server: PostgresServer) -> None:
    done = asyncio.Event()

    async def churn() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_server.dsn(conn.info.dbname), autocommit=True) as other:
            for i in range(60):
                await other.execute(
                    f"CREATE TABLE c{i} (a int); CREATE VIEW cv{i} AS SELECT ssn FROM patients, c{i};"
                    f"CREATE FUNCTION cf{i}() RETURNS void LANGUAGE sql AS 'SELECT FROM cv{i}'; DROP TABLE c{i} CASCADE;"
                    f"DROP FUNCTION cf{i}".encode()
                )
        done.set()

    reader = await reader_of(conn, "c1", "cv1")
    async with asyncio.TaskGroup() as group:
        group.create_task(churn())
        while not done.is_set():
            catalog = await read(conn)
            assert ("public", "patients") in catalog.by_name
            await reader.same(conn)


async def test_collations_are_known_that_are_deterministic(conn: Connection) -> None:
    assert {"C", "POSIX", "default"} <= (await read(conn)).collations
    reader = await reader_of(conn)
    await conn.execute('CREATE COLLATION public.twice FROM "C"')
    assert "twice" in (await read(conn)).collations
    assert not await reader.same(conn)
    icu = await conn.execute("SELECT FROM pg_collation WHERE collname = 'und-x-icu'")  # 18 knows others of the provider without it
    if icu.rowcount:
        await conn.execute("CREATE COLLATION public.\"POSIX\" (provider = icu, locale = 'und', deterministic = false)")
        assert "POSIX" not in (await read(conn)).collations


async def test_operators_and_counts_of_somebodys_own(conn: Connection) -> None:
    assert (await read(conn)).replaced == frozenset()
    await conn.execute(
        "CREATE FUNCTION same(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';"
        " CREATE FUNCTION same(int, text) RETURNS bool LANGUAGE sql AS 'SELECT true';"
        " CREATE OPERATOR public.<> (LEFTARG = int, RIGHTARG = text, FUNCTION = same)"
    )
    reader = await reader_of(conn)
    assert (await read(conn)).replaced == frozenset()
    await conn.execute(
        "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = same);"
        " CREATE FUNCTION count(text) RETURNS bigint LANGUAGE sql AS 'SELECT 42::bigint'"
    )
    assert (await read(conn)).replaced == {"=", "count"}
    assert not await reader.same(conn)
    await conn.execute(
        "CREATE FUNCTION soundex(text) RETURNS text LANGUAGE sql AS 'SELECT $1';"
        " CREATE OPERATOR public.~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = same)"
    )
    assert (await read(conn)).replaced == {"=", "count", "soundex", "~~"}
    await conn.execute(
        "CREATE FUNCTION taken(jsonb, varchar) RETURNS text LANGUAGE sql AS 'SELECT $2::text';"
        " CREATE FUNCTION taken(text, text) RETURNS text LANGUAGE sql AS 'SELECT $2';"
        " CREATE OPERATOR public.->> (LEFTARG = jsonb, RIGHTARG = varchar, FUNCTION = taken);"
        " CREATE OPERATOR public.#> (LEFTARG = text, RIGHTARG = text, FUNCTION = taken)"
    )
    assert (await read(conn)).replaced == {"=", "count", "soundex", "~~", "->>"}


async def test_what_a_transaction_sees_otherwise(conn: Connection) -> None:
    """Its tables by name, what it has altered, and children of what is known that code has made; nothing else."""
    await conn.execute("CREATE TABLE known (id int); CREATE TABLE gone (id int)")
    base = await read(conn, "known", "gone")
    async with conn.transaction():
        await conn.execute(
            "CREATE TABLE made (id int); CREATE TABLE unheard (id int); DROP TABLE gone; ALTER TABLE known ADD COLUMN b int;"
            "DO $$ BEGIN EXECUTE 'CREATE TABLE part () INHERITS (patients)'; EXECUTE 'CREATE TABLE sub () INHERITS (part)'; END $$"
        )
        rows = await (await conn.execute(changed(base, ["patients", "made", "absent"]))).fetchall()
        seen = overlaid(base, [row[0] for row in rows], ["made", "absent"], {}, lambda *_: b"")
        raise psycopg.Rollback
    assert {r.name for r in seen.relations} == {"patients", "known", "made", "part", "sub"}
    assert [c.name for c in seen.by_name["public", "known"].columns] == ["id", "b"]
    assert seen.find("public", "absent") is None
    assert [r.name for r in seen.children[seen.by_name["public", "patients"].oid]] == ["part"]


async def test_what_a_trigger_leaves_in_the_session_does_not_answer_for_the_catalogue(postgres_server: PostgresServer) -> None:
    """Triggers on the registry's tables run in the service login's sessions: another search_path, operators that lie."""
    name = postgres_server.create_database()
    with postgres_server.connect(name) as conn:
        conn.execute("CREATE FUNCTION public.runs(t text) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE t; END$$")
        conn.execute("CREATE SCHEMA evil")
        conn.execute("CREATE FUNCTION evil.no(name, name) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false'")
        conn.execute("CREATE OPERATOR evil.<> (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.no)")
        conn.execute("CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.no)")
    try:
        async with await psycopg.AsyncConnection.connect(postgres_server.dsn(name), autocommit=True) as conn:
            clean = await read_catalog(conn, ())
            await conn.execute("SET search_path TO evil, pg_catalog")
            assert (await read_catalog(conn, ())).generation == clean.generation
            assert "runs" in clean.dynamic
    finally:
        postgres_server.drop_database(name)
