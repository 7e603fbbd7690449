"""After any DDL, what the reader knows or is told to read again is what reading everything afresh says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from phiproxy.net.catalog_reader import CatalogReader, read_catalog
from phiproxy.policy.catalog import Catalog
from tests.harness.server import PostgresServer
from tests.net.whole import Whole, read_whole

PROTECTED = [("public", "patients"), ("s2", "t1")]
ASKED = frozenset({"t2", "i1", "nobody", "e1"})
RESET = """
DROP SCHEMA IF EXISTS public, s2, s3 CASCADE; CREATE SCHEMA public; CREATE SCHEMA s2;
CREATE TABLE public.patients (id int PRIMARY KEY, a text); CREATE TABLE public.t2 (id int PRIMARY KEY, a text);
CREATE VIEW public.v AS SELECT id, a FROM public.patients
"""
TABLES = st.sampled_from(["public.patients", "public.t1", "public.t2", "public.t3", "s2.t1", "s2.t2", "public.v", "s2.patients"])
NAMES = st.sampled_from(["patients", "t1", "t2", "t3", "v"])
FUNCTIONS = st.sampled_from(["public.f", "public.g", "s2.f"])
TYPES = st.sampled_from(["public.e1", "public.e2", "s2.e1"])
# {q} and {r} are relations, {n} is the last name of one, {f} a function, {y} a type.
TEMPLATES = (
    "CREATE TABLE {q} (id int PRIMARY KEY, a text)",
    "CREATE TABLE {q} (id int, a text) PARTITION BY RANGE (id)",
    "CREATE TABLE {q} PARTITION OF {r} DEFAULT",
    "CREATE TABLE {q} () INHERITS ({r})",
    "CREATE TABLE {q} (x {r}, y {y})",
    "CREATE TEMPORARY TABLE {n} (id int)",
    "CREATE OR REPLACE VIEW {q} AS SELECT id, a FROM {r}",
    "CREATE MATERIALIZED VIEW {q} AS SELECT * FROM {r}",
    "CREATE VIEW {q} AS SELECT {f}() AS id, 'x'::text AS a",
    "ALTER TABLE {q} ADD COLUMN b int",
    "ALTER TABLE {q} DROP COLUMN a CASCADE",
    "ALTER TABLE {q} RENAME COLUMN a TO c",
    "ALTER TABLE {q} RENAME TO {n}",
    "ALTER TABLE {q} SET SCHEMA s2",
    "ALTER TABLE {q} ALTER a SET DEFAULT 'y'",
    "ALTER TABLE {q} ALTER id SET DEFAULT {f}()",
    "ALTER TABLE {q} ADD CHECK (id > 0)",
    "ALTER TABLE {q} ADD CONSTRAINT phi_guard_a CHECK (a <> '')",
    "ALTER TABLE {q} ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE {q} ADD FOREIGN KEY (id) REFERENCES {r}",
    "ALTER TABLE {q} INHERIT {r}",
    "ALTER TABLE {q} NO INHERIT {r}",
    "CREATE INDEX i1 ON {q} (id)",
    "CREATE UNIQUE INDEX i2 ON {q} (a)",
    "ALTER INDEX IF EXISTS public.i1 RENAME TO i3",
    "ALTER INDEX IF EXISTS public.i3 RENAME TO i1",
    "DROP INDEX IF EXISTS public.i1",
    "CREATE OR REPLACE FUNCTION {f}() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM {r}'",
    "CREATE OR REPLACE FUNCTION {f}() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION {f}() RETURNS int BEGIN ATOMIC SELECT id FROM {r}; END",
    "CREATE OR REPLACE FUNCTION {f}() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET search_path = s2; RETURN 1; END $$",
    "CREATE OR REPLACE FUNCTION {f}() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE query_to_xml('x'); END $$",
    "DROP FUNCTION IF EXISTS {f} CASCADE",
    "CREATE RULE r AS ON INSERT TO {q} DO ALSO SELECT 1 FROM {r}",
    "DROP RULE IF EXISTS r ON {q}",
    "CREATE POLICY p ON {q} USING (EXISTS (SELECT FROM {r}))",
    "CREATE TRIGGER t BEFORE UPDATE ON {q} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE TYPE {y} AS ENUM ('a')",
    "CREATE TYPE {y} AS (x {r})",
    "CREATE DOMAIN {y} AS text CHECK (VALUE <> '')",
    "ALTER TYPE {y} ADD VALUE IF NOT EXISTS 'b'",
    "ALTER DOMAIN {y} ADD CHECK (VALUE <> 'z')",
    "ALTER TYPE {y} RENAME TO e2",
    "DROP TYPE IF EXISTS {y} CASCADE",
    "CREATE OPERATOR public.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
    'CREATE COLLATION s2.c FROM "C"',
    "ALTER SCHEMA s2 RENAME TO s3",
    "ALTER SCHEMA s3 RENAME TO s2",
    "DROP TABLE IF EXISTS {q} CASCADE",
    "DROP VIEW IF EXISTS {q} CASCADE",
    "DROP SCHEMA IF EXISTS s2 CASCADE",
    "CREATE SCHEMA IF NOT EXISTS s2",
)  # fmt: skip
STATEMENTS = st.builds(
    lambda template, q, r, n, f, y: template.format(q=q, r=r, n=n, f=f, y=y),
    st.sampled_from(TEMPLATES), TABLES, TABLES, NAMES, FUNCTIONS, TYPES,
)  # fmt: skip
# Who says it: one session commits everything at once, the other has transactions that last over several looks.
STEPS = st.one_of(
    st.tuples(st.just("one"), STATEMENTS),
    st.tuples(st.just("one"), STATEMENTS),
    st.tuples(st.just("one"), st.sampled_from(["VACUUM FULL pg_class", "VACUUM FREEZE pg_attribute", "VACUUM FREEZE pg_class"])),
    st.tuples(st.just("two"), STATEMENTS),
    st.tuples(st.just("asked"), st.sampled_from(["t3", "v", "i2", "e2", "f"])),
    st.tuples(st.just("two"), st.sampled_from(["COMMIT", "ROLLBACK", "SAVEPOINT a", "ROLLBACK TO a", "RELEASE a"])),
)  # fmt: skip


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create_database()
    yield postgres_server.dsn(name)
    postgres_server.drop_database(name)


class Sessions:
    """Two sessions that make DDL of which some is refused; locks are not waited for."""

    def __init__(self, one: psycopg.AsyncConnection[Any], two: psycopg.AsyncConnection[Any]) -> None:
        self._one, self._two = one, two

    async def say(self, who: str, statement: str) -> None:
        conn = self._one if who == "one" else self._two
        lasts = who == "two" and statement not in ("COMMIT", "ROLLBACK")
        try:
            if lasts:
                await conn.execute("BEGIN" if conn.info.transaction_status == 0 else "SELECT 1")
                await conn.execute("SAVEPOINT step")
            await conn.execute(statement.encode())
        except psycopg.Error:
            if lasts and conn.info.transaction_status == 3:
                await conn.execute("ROLLBACK TO step")


def same(known: Catalog, whole: Whole) -> None:
    """Let what is known be what there is."""
    assert known.names is not None
    there = {place: r for place, r in whole.relations.items() if place[1] in known.names}
    lasting = {r.schema for r in whole.relations.values() if not r.schema.startswith("pg_temp_")}
    assert {(r.schema, r.name): r for r in known.relations if r.name in known.names and r.schema in lasting} == {
        place: r for place, r in there.items() if r.schema in lasting
    }
    assert all(whole.relations[r.schema, r.name] == r for r in known.relations if r.schema in lasting)
    indexed = {r.oid for r in whole.relations.values() if any(i.name in known.names for i in r.indexes) and r.schema in lasting}
    assert indexed <= set(known.by_oid)
    assert {r.oid for r in whole.relations.values() if r.guards} <= set(known.by_oid)
    assert set(known.reaching) == whole.reaching
    assert known.setters - known.dynamic == whole.setters - known.dynamic  # these are compared below
    assert known.dynamic <= known.setters
    assert known.schemas == whole.schemas
    definitions = whole.definitions
    assert known.types == definitions.types
    assert known.signatures == definitions.signatures
    assert (known.dynamic, known.replaced, known.collations) == (
        definitions.dynamic,
        definitions.replaced,
        definitions.collations,
    )


async def followed(dsn: str, steps: list[tuple[str, str]]) -> int:
    """Take the steps, and compare after each; return how often it was not read again."""
    connect, kept = psycopg.AsyncConnection.connect, 0
    async with (
        await connect(dsn, autocommit=True) as service,
        await connect(dsn, autocommit=True) as one,
        await connect(dsn, autocommit=True) as two,
    ):
        await one.execute(RESET.encode())
        for conn in (one, two):
            await conn.execute("SET lock_timeout = '5ms'; SET check_function_bodies = off; SET client_min_messages = error")
        reader, sessions = CatalogReader(), Sessions(one, two)
        asked = ASKED
        known = await reader.read(service, PROTECTED, asked)
        for who, statement in steps:
            if who == "asked":
                asked |= {statement}
                known = await reader.read(service, PROTECTED, asked)
            else:
                await sessions.say(who, statement)
                changed = await reader.read_changes(service, PROTECTED, asked, temporary=False)
                kept += changed is None
                known = changed or known
            same(known, await read_whole(service, PROTECTED))
            afresh = await read_catalog(service, PROTECTED, asked)
            assert known.unread_views or afresh.unread_views or known.generation == afresh.generation
        await two.rollback()
    return kept


AGAIN = [
    ("one", "CREATE OR REPLACE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM patients'"),
    ("one", "CREATE OR REPLACE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ("one", "CREATE VIEW public.behind AS SELECT public.f() AS id"),
    ("one", "CREATE OR REPLACE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 2 FROM patients'"),
    ("one", "ALTER FUNCTION public.f() RENAME TO g"),
]


ADOPTED = [
    ("one", "CREATE FUNCTION public.f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET search_path = s2; RETURN 1; END $$"),
    ("one", "CREATE TABLE public.child (id int DEFAULT public.f())"),
    ("one", "CREATE TABLE public.t3 (id int)"),
    ("one", "ALTER TABLE public.child INHERIT public.t3"),
    ("asked", "t3"),
]


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(STEPS, min_size=4, max_size=12))
@example(ADOPTED)  # a parent has the triggers and defaults of its child, and is not asked for before
@example(AGAIN)  # what hangs from code is another thing each time that the code mentions a protected table again
def test_what_is_known_is_what_there_is(database: str, steps: list[tuple[str, str]]) -> None:
    asyncio.run(followed(database, steps))
