"""Enums, domains and citext: as drivers and an ORM give and get them, in the server's words where they are refused."""

from __future__ import annotations

import asyncio
import enum
import re
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest
from psycopg.types.enum import EnumInfo, register_enum
from sqlalchemy import Column, Enum, Integer, MetaData, String, Table, create_engine, insert, select
from sqlalchemy.dialects.postgresql import ARRAY, CITEXT, DOMAIN
from sqlalchemy.ext.asyncio import create_async_engine

from phiproxy.errors import own_words
from tests.harness import results
from tests.harness.clinic import Clinic
from tests.harness.differential import Differential
from tests.harness.oracle import LeakOracle
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

TYPES = r"""
CREATE SCHEMA lab;
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE lab.result AS ENUM ('positive', 'negative');
CREATE DOMAIN zip AS varchar(5) CHECK (VALUE ~ '^\d{3}');
CREATE DOMAIN note AS text NOT NULL CHECK (VALUE <> 'a') CHECK (length(VALUE) < 40);
CREATE DOMAIN grade AS int CONSTRAINT positive CHECK (VALUE > 0);
CREATE DOMAIN best AS grade CHECK (VALUE <> 5);
CREATE DOMAIN email AS citext;
CREATE DOMAIN lab.state AS mood;
GRANT USAGE ON SCHEMA lab TO PUBLIC;
"""
DDL = """
CREATE TABLE t (id int PRIMARY KEY, m mood, r lab.result, z zip, n note, g grade, b best, c citext, e email UNIQUE, s lab.state,
                ms mood[], h char(6), plain text)
"""
POLICY = """\
database: {database}
deployment: own-types
tables:
  public.t:
    columns:
      m: {type: public.mood, indexes: [m], accept_leakage: "the tests"}
      r: {type: result, indexes: [r], accept_leakage: "the tests"}
      z: {type: zip, indexes: [z, "left(z, 3)"], accept_leakage: "the tests"}
      n: {type: public.note, indexes: [n, "left(n, 3)", "lower(n)", "left(lower(n), 4)"], accept_leakage: "the tests"}
      g: {type: grade, indexes: [g], accept_leakage: "the tests"}
      b: {type: public.best, indexes: [b], accept_leakage: "the tests"}
      c: {type: citext, indexes: [c, "left(lower(c), 3)", "c::text"], accept_leakage: "the tests"}
      e: {type: public.email, indexes: [e], accept_leakage: "the tests"}
      s: {type: lab.state, indexes: [s], accept_leakage: "the tests"}
      h: {type: char(6), indexes: ["left(h, 3)", "lower(h)"], accept_leakage: "the tests"}
      ms: {type: "mood[]", indexes: [ms], accept_leakage: "the tests"}
"""


class Mood(enum.Enum):
    """The enum as an application has it."""

    sad = "sad"
    ok = "ok"
    happy = "happy"


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A table with a column of each kind."""
    with open_site(postgres_server, tmp_path_factory.mktemp("own"), policy=POLICY, ddl=DDL, types=TYPES) as found:
        yield found


@pytest.fixture(scope="module")
def sessions(site: Site) -> Iterator[Differential]:
    """One session on each side for all tests."""
    oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
    with Differential(Clinic(site, oracle)) as found:
        yield found
    oracle.planted = ["Zoë Müllerin", "Zoe@Example.org"]
    oracle.assert_no_leak()


@pytest.fixture
def both(sessions: Differential) -> Differential:
    """Two rows in the table."""
    for conn in (sessions.plain, sessions.proxied):
        assert results.simple(conn, "DELETE FROM t")[-1].sqlstate is None
    sessions.run(
        "INSERT INTO t (id, m, r, z, n, g, b, c, e, s, ms, h) VALUES (1, 'sad', 'positive', '98765', 'Zoë Müllerin', 7, 8, 'AbCdE',"
        " 'Zoe@Example.org', 'ok', '{sad,NULL}', 'AbC d'), (2, 'ok', NULL, NULL, 'plain', NULL, NULL, NULL, NULL, NULL, NULL, 'ab')"
    )
    return sessions


SAME = [
    "SELECT * FROM t ORDER BY id",
    "SELECT id FROM t WHERE m = 'ok' OR m = 'sad'::mood OR m IN ('ok', 'happy') ORDER BY id",
    "SELECT id FROM t WHERE m = CAST('ok' AS public.mood) AND r IS NULL AND m <> 'sad'",
    "SELECT id FROM t WHERE m = ANY ('{ok,sad}') AND m = ANY (ARRAY['ok','sad']::mood[]) ORDER BY id",
    "SELECT id FROM t WHERE r = 'positive'::lab.result AND s IS NOT NULL",
    "SELECT id FROM t WHERE z = '98765' AND left(z, 3) = '987' AND z = '98765'::zip",
    "SELECT id FROM t WHERE g = 7 AND g = 7.0 AND b = 8::best AND g = '7'",
    "SELECT id FROM t WHERE c = 'aBcDe' AND c = 'ABCDE'::citext AND c IN ('abcde', 'x') AND left(lower(c), 3) = 'abc'",
    "SELECT id FROM t WHERE e = 'zoe@example.ORG' AND e = 'ZOE@example.org'::email",
    "SELECT count(*), m FROM t GROUP BY m",
    "SELECT DISTINCT c, m, z FROM t",
    "SELECT m::mood, z::zip, c::citext, e::email, COALESCE(m, 'ok'), COALESCE(z, '999'), NULLIF(m, 'sad') FROM t ORDER BY id",
    "SELECT CASE id WHEN 1 THEN m ELSE 'happy' END, CASE m WHEN 'sad' THEN 1 ELSE 2 END FROM t ORDER BY id",
    "SELECT x.id FROM t x JOIN t y USING (m, n) WHERE x.m IN (SELECT m FROM t)",
    "SELECT m FROM t UNION ALL SELECT 'ok'::mood UNION ALL SELECT 'happy'",
    "SELECT z FROM t UNION ALL SELECT '123'::zip",
    "SELECT z FROM t UNION ALL SELECT '123'",
    "SELECT v.i FROM t JOIN (VALUES ('ok'::mood, 1), ('sad', 2)) v (m, i) ON v.m = t.m ORDER BY 1",
    "UPDATE t SET m = 'happy', z = '123456'::zip, g = 9, c = 'x', e = 'y', ms = '{}' WHERE id = 1 RETURNING *",
    "UPDATE t SET m = CASE id WHEN 1 THEN 'ok'::mood ELSE 'sad' END, n = 'o' || 'k' RETURNING m, n",
    "INSERT INTO t (id, n, e) VALUES (3, 'n', 'ZOE@EXAMPLE.ORG') ON CONFLICT (e) DO UPDATE SET n = EXCLUDED.n RETURNING id, n, e",
    "INSERT INTO t (id, n, m) SELECT id + 10, n, m FROM t",
    "DELETE FROM t WHERE m = 'sad' RETURNING m, ms",
    "ALTER TABLE t ALTER COLUMN n DROP NOT NULL",
    "SELECT id, c LIKE 'abc%', c NOT LIKE 'ABC%', c ILIKE 'aBc%', c LIKE 'ABCDE', c !~~ 'x', c LIKE '%' FROM t",
    "SELECT id FROM t WHERE c LIKE 'ABC%'::text AND c LIKE 'a' || 'BC%' AND c LIKE 'Abc%'::citext",
    "SELECT id FROM t WHERE e LIKE 'ZOE@example.org' OR e ILIKE 'x' OR c LIKE 'A!bC%' ESCAPE '!' OR c LIKE NULL",
    "SELECT id, n LIKE 'Zoë%', n NOT LIKE 'zoë%', n ILIKE 'ZOË %', n LIKE 'plain', n ILIKE 'PLAIN', z LIKE '987%' FROM t",
    "UPDATE t SET n = 'q' WHERE n LIKE 'Zoë%' AND c LIKE 'abcde' AND starts_with(n, 'Zoë') RETURNING id, n LIKE 'q'",
    "SELECT count(*), bool_or(n ^@ 'pla') FROM t WHERE c LIKE 'abc%' IS NOT FALSE AND n !~ '^Zoë' GROUP BY n LIKE '%'",
    "SELECT id, h::text LIKE 'AbC%', h::text ILIKE 'aBc D', h::text ILIKE 'ab    ' FROM t",
    "SELECT id, c = 'abcde'::text, c = 'AbCdE'::text, 'AbCdE'::varchar <> c, c IS NOT DISTINCT FROM 'AbCd' || 'E' FROM t",
    "SELECT id FROM t x WHERE x.c IN ('AbCdE'::text, 'x'::varchar(3)) AND (c, id) = ('AbCdE'::text, 1)",
    "SELECT id FROM t WHERE c = ANY ('{AbCdE}'::text[]) AND c <> ALL ('{abcde}'::text[])",
    "SELECT CASE c WHEN 'abcde'::text THEN 1 WHEN 'AbCdE'::text THEN 2 END, c::text = 'AbCdE', c = 'ABCDE' FROM t ORDER BY id",
    "UPDATE t SET n = 'q' WHERE c = 'AbCdE'::text AND c IN (SELECT y.c FROM t y WHERE y.c = trim(' AbCdE')) RETURNING c = 'q'",
    # PostgreSQL has no = for domains over enums.
    "SELECT id FROM t WHERE s = 'ok'",
    "SELECT x.id FROM t x JOIN t y USING (s)",
]


@pytest.mark.parametrize("statement", SAME)
def test_the_same_both_ways(both: Differential, statement: str) -> None:
    for way in ("simple", "extended"):
        both.run("BEGIN")
        try:
            both.run(statement, protocol=way)
            both.run("SELECT * FROM t ORDER BY id")
        finally:
            both.run("ROLLBACK")


def test_parameters_have_the_declared_types(both: Differential) -> None:
    """A parameter that is assigned has the domain's type, one that is compared that of what it is over."""
    assigned, compared = ["ok", "123", "x", "3", "C", "{ok}", "q"], ["ok", "123", "x", "3", "c", "{ok}", "Q"]
    both.run("UPDATE t SET m = $1, z = $2, n = $3, g = $4, c = $5, ms = $6, e = $7 WHERE id = 2", assigned, named=True)
    where = "m = $1 AND z = $2 AND n = $3 AND g = $4 AND c = $5 AND ms = $6 AND e = $7"
    both.run(f"SELECT * FROM t WHERE {where}", compared, named=True)
    both.run("SELECT id FROM t WHERE z IN ($1, $2) OR m = ANY ($3) OR m = $4::mood", ["123", "456", "{sad}", "ok"], named=True)
    casts = "UPDATE t SET z = $1::zip, n = $2::note, m = $3::text::mood WHERE id = 2 RETURNING z, n, m"
    both.run(casts, ["999", "y", "sad"], named=True)
    for value in ("98765", None):
        both.run("SELECT id FROM t WHERE ($1::zip IS NULL OR z = $1)", [value], named=True)
    for value in ("3", "-3"):
        both.run("SELECT g FROM t UNION ALL SELECT $1::grade UNION ALL SELECT $1::text::grade", [value], named=True)
    both.run("PREPARE p (mood, zip) AS SELECT id FROM t WHERE m = $1 OR z = $2", protocol="simple")
    both.run("EXECUTE p ('sad', '999')", protocol="simple")
    both.run("DEALLOCATE p", protocol="simple")


@pytest.mark.parametrize("value", ["AbCdE", "abcde", None])
def test_case_counts_beside_a_text(both: Differential, value: str | None) -> None:
    both.run("SELECT id, c = $1::text, c IN ($1::text, $2::varchar), c = $3 FROM t", [value, "x", value], named=True)
    both.run("SELECT id FROM t WHERE c = ANY ($1::text[]) OR c = lower($2)", [[value, "y"], value], named=True)


@pytest.mark.parametrize("pattern", ["AbC%", "aBCDE", "%", "pla%", "PLAIN", "Zoë%", None])
def test_patterns_as_parameters(both: Differential, pattern: str | None) -> None:
    for named in (False, True):
        both.run("SELECT id, c LIKE $1, c NOT ILIKE $1, c LIKE $1::citext FROM t", [_long(pattern, 5)], named=named)
        both.run("SELECT id, c LIKE $1::text, c LIKE $1 || '' FROM t", [_long(pattern, 5)], named=named)
        both.run("SELECT id, n LIKE $1, n NOT LIKE $1 FROM t", [pattern], named=named)


def _long(pattern: str | None, count: int) -> str | None:
    """Return a pattern that an index of the citext column has, or None."""
    return pattern if pattern == "%" or (pattern or "").lower() in ("abc%", "abcde") else None


WRONG = [
    "INSERT INTO t (id, n, m) VALUES (9, 'n', 'glad')",
    "INSERT INTO t (id, n, m) VALUES (9, 'n', '')",
    "INSERT INTO t (id, n, ms) VALUES (9, 'n', '{ok,glad}')",
    "INSERT INTO t (id, n, m) VALUES (9, 'n', 'ok'::text)",
    "INSERT INTO t (id, n, m) VALUES (9, 'n', 5)",
    "INSERT INTO t (id, n, z) VALUES (9, 'n', '123456')",
    "INSERT INTO t (id, n, z) VALUES (9, 'n', 'ab')",
    "INSERT INTO t (id, n, z) VALUES (9, 'n', 'ab'::zip)",
    "INSERT INTO t (id, n, g) VALUES (9, 'n', 0)",
    "INSERT INTO t (id, n, g) VALUES (9, 'n', 'x')",
    "INSERT INTO t (id, n, g) VALUES (9, 'n', 3000000000)",
    "INSERT INTO t (id, n, g) VALUES (9, 'n', '3000000000')",
    "INSERT INTO t (id, n, b) VALUES (9, 'n', 5)",
    "INSERT INTO t (id, n, b) VALUES (9, 'n', -5)",
    "INSERT INTO t (id, n) VALUES (9, 'a')",
    "INSERT INTO t (id, n) VALUES (9, '0123456789012345678901234567890123456789')",
    "INSERT INTO t (id, n) VALUES (9, NULL)",
    "INSERT INTO t (id, n) VALUES (9, DEFAULT)",
    "INSERT INTO t (id) VALUES (9)",
    "UPDATE t SET n = NULL",
    "SELECT id FROM t WHERE m = 'glad'",
    "SELECT id FROM t WHERE m = 'ok'::text",
    "SELECT id FROM t WHERE r = 'ok'::mood",
    "SELECT id FROM t WHERE z = 5",
    "SELECT id FROM t WHERE c = 5",
]


def words(message: str) -> str:
    """Return an error's words without a value, nor where the proxy says more about it."""
    plain = own_words(message)
    return re.sub(r': ".*"$|(?<=^value) ".*"(?= is out)|lab\.', "", plain)


@pytest.mark.parametrize("statement", WRONG)
def test_refused_in_the_servers_words(both: Differential, statement: str) -> None:
    for way in ("simple", "extended"):
        found = both.run(statement, protocol=way)
        (plain,) = results.simple(both.plain, statement)
        assert plain.sqlstate is not None
        assert words(found.message) == words(plain.message)


REFUSED = {
    "SELECT id FROM t WHERE e = 'zoe@example.org'::text": "0A000",
    "SELECT id FROM t WHERE c IN ('abcde'::text, 'x')": "0A000",
    "SELECT id FROM t WHERE CASE c WHEN 'abcde'::text THEN true WHEN 'AbCdE' THEN false END": "0A000",
    "SELECT id FROM t WHERE c = (SELECT 'abcde'::text)": "0A000",
    "SELECT id FROM t WHERE c = 'AbCdE'::char(5)": "0A000",
    "SELECT id, c FROM t GROUP BY id, c HAVING c = 'AbCdE'::text": "0A000",
    # PostgreSQL judges these when a row comes to them, if one does.
    "SELECT id FROM t WHERE z = '1'::zip": "0A000",
    "UPDATE t SET g = -1 WHERE false": "0A000",
    "INSERT INTO t (id, n, g) SELECT 9, 'n', 0 WHERE false": "0A000",
    "INSERT INTO t (id, n, g) VALUES (1, 'n', 1) ON CONFLICT (id) DO UPDATE SET g = 0": "0A000",
    "INSERT INTO t (id, n, g) VALUES (9, 'n', COALESCE(7, 0))": "0A000",
    "SELECT id FROM t WHERE m > 'sad'": "0A000",
    "SELECT max(m) FROM t": "0A000",
    "SELECT m FROM t ORDER BY m": "0A000",
    "SELECT id FROM t WHERE c LIKE 'ab%'": "0A000",
    "SELECT id FROM t WHERE c::text LIKE 'abc%'": "0A000",
    "SELECT id FROM t WHERE c ^@ 'abc'": "0A000",
    "SELECT id FROM t WHERE h LIKE 'AbC%'": "0A000",
    "SELECT id FROM t WHERE starts_with(c, 'abc')": "0A000",
    "SELECT id FROM t WHERE c ~ '^abc'": "0A000",
    "SELECT id FROM t WHERE m::text = 'ok'": "0A000",
    "ALTER TYPE mood RENAME VALUE 'sad' TO 'low'": "0A000",
    "ALTER TYPE mood RENAME TO feeling": "0A000",
    "ALTER TYPE mood SET SCHEMA lab": "0A000",
    "DROP TYPE mood": "2BP01",
    "DROP DOMAIN zip CASCADE": "2BP01",
    "DROP EXTENSION citext CASCADE": "2BP01",
    "ALTER DOMAIN zip SET NOT NULL": "0A000",
    "ALTER DOMAIN note DROP NOT NULL": "0A000",
    "ALTER DOMAIN zip SET DEFAULT '123'": "0A000",
    "ALTER DOMAIN zip ADD CHECK (VALUE <> '12345')": "0A000",
    "ALTER DOMAIN zip ADD CHECK (VALUE < '12345') NOT VALID": "0A000",
}


@pytest.mark.parametrize("statement", REFUSED)
def test_refused(both: Differential, statement: str) -> None:
    both.refused(statement, sqlstate=REFUSED[statement])


def test_citext_is_text_where_its_operators_are_not_found(both: Differential) -> None:
    """PostgreSQL compares by the operators of the search path: without those of citext, case counts."""
    both.run("SET search_path TO lab", protocol="simple")
    both.refused("SELECT id FROM public.t WHERE c = 'abcde'")
    both.refused("SELECT id FROM public.t WHERE e IN ('abcde', 'x')")
    both.run("SELECT count(*) FROM public.t GROUP BY c")
    both.run("SELECT m, r FROM public.t WHERE m = 'ok'::public.mood AND r IS NULL")
    both.run("RESET search_path", protocol="simple")


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_with_a_registered_enum(site: Site, both: Differential, binary: bool) -> None:
    mark = "%b" if binary else "%t"
    for dsn in (site.plain_dsn, site.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn:
            info = EnumInfo.fetch(conn, "mood")
            assert info is not None
            register_enum(info, conn, Mood)
            conn.execute(f"UPDATE t SET m = {mark}, ms = {mark} WHERE id = 1".encode(), [Mood.happy, [Mood.ok, None, Mood.sad]])
            row = conn.execute(f"SELECT m, ms FROM t WHERE m = {mark}".encode(), [Mood.happy], binary=binary).fetchone()
            assert row == (Mood.happy, [Mood.ok, None, Mood.sad])
            several = conn.execute(f"SELECT id FROM t WHERE m = ANY ({mark}) ORDER BY id".encode(), [[Mood.ok, Mood.happy]])
            assert several.fetchall() == [(1,), (2,)]
    both.run("SELECT * FROM t ORDER BY id")


def test_asyncpg_asks_what_the_types_are(site: Site, both: Differential) -> None:
    async def talk(dsn: str) -> None:
        conn = await asyncpg.connect(dsn)
        try:
            values = ["happy", "negative", "12345", "note", 11, 12, "Qrs", "Me@x.org", "sad", ["ok", None]]
            names = ["m", "r", "z", "n", "g", "b", "c", "e", "s", "ms"]
            marks = ", ".join(f"${i}" for i in range(1, len(values) + 1))
            await conn.execute(f"INSERT INTO t (id, {', '.join(names)}) VALUES (50, {marks})", *values)
            assert list(await conn.fetchrow(f"SELECT {', '.join(names)} FROM t WHERE id = 50")) == values
            for name, value in zip(names, values, strict=True):
                if name != "s":  # PostgreSQL has no = for domains over enums
                    assert await conn.fetchval(f"SELECT id FROM t WHERE {name} = $1 AND id = 50", value) == 50, name
            assert await conn.fetchval("SELECT id FROM t WHERE m = ANY ($1::mood[]) AND id = 50", ["happy", "ok"]) == 50
            with pytest.raises(asyncpg.InvalidTextRepresentationError):
                await conn.execute("UPDATE t SET m = $1", "glad")
            with pytest.raises(asyncpg.CheckViolationError):
                await conn.execute("UPDATE t SET g = $1", 0)
        finally:
            await conn.close()

    for dsn in (site.plain_dsn, site.proxy_dsn):
        asyncio.run(talk(dsn))
    both.run("SELECT * FROM t ORDER BY id")


METADATA = MetaData()
TABLE = Table(
    "t",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("m", Enum(Mood, name="mood")),
    Column("z", DOMAIN("zip", String(5), create_type=False)),
    Column("n", DOMAIN("note", String, create_type=False), nullable=False),
    Column("c", CITEXT),
    Column("ms", ARRAY(Enum(Mood, name="mood"))),
)
ROW = {"id": 60, "m": Mood.happy, "z": "55555", "n": "note", "c": "QrSt", "ms": [Mood.sad, Mood.ok]}
QUERY = select(TABLE).where(TABLE.c.m == Mood.happy, TABLE.c.m.in_([Mood.happy, Mood.ok]), TABLE.c.c == "qRsT", TABLE.c.id == 60)


def test_sqlalchemy_with_psycopg(site: Site, both: Differential) -> None:
    for dsn in (site.plain_dsn, site.proxy_dsn):
        engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))
        with engine.begin() as conn:
            conn.execute(insert(TABLE), [ROW])
            assert dict(conn.execute(QUERY).one()._mapping) == ROW
        engine.dispose()
    both.run("SELECT * FROM t ORDER BY id")


def test_sqlalchemy_with_asyncpg(site: Site, both: Differential) -> None:
    async def talk(dsn: str) -> None:
        engine = create_async_engine(dsn.replace("postgresql:", "postgresql+asyncpg:").partition("?")[0])
        async with engine.begin() as conn:
            await conn.execute(insert(TABLE), [ROW])
            assert dict((await conn.execute(QUERY)).one()._mapping) == ROW
        await engine.dispose()

    for dsn in (site.plain_dsn, site.proxy_dsn):
        asyncio.run(talk(dsn))
    both.run("SELECT * FROM t ORDER BY id")


def test_a_label_that_is_added_is_known_at_once(site: Site, both: Differential) -> None:
    for conn in (site.server.connect(site.plain), site.server.connect(site.sealed)):
        with conn:
            conn.execute("ALTER TYPE lab.result OWNER TO " + site.role)
    both.run("ALTER TYPE lab.result ADD VALUE IF NOT EXISTS 'unclear'", protocol="simple")
    both.run("UPDATE t SET r = 'unclear' WHERE id = 1 RETURNING r")
    both.run("SELECT id FROM t WHERE r = $1", ["unclear"], named=True)
