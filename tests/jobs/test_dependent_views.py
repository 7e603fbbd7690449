"""Views that are made again are what they were, with all that they have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from phiproxy.jobs.dependent_views import views_over
from phiproxy.jobs.relations import family_of
from tests.harness.server import PostgresServer

Connection = psycopg.AsyncConnection[Any]
TABLES = r"""
CREATE TABLE t (id int PRIMARY KEY, a text, b text);
CREATE VIEW z_first WITH (security_barrier, check_option = local) AS SELECT id, a AS "A b" FROM t WHERE id > 0;
CREATE VIEW a_second AS SELECT "A b", count(*) FROM z_first GROUP BY 1;
CREATE VIEW elsewhere AS SELECT id, b FROM t;
CREATE MATERIALIZED VIEW stored WITH (fillfactor = 70) AS SELECT * FROM z_first;
CREATE MATERIALIZED VIEW never AS SELECT a FROM t WITH NO DATA;
CREATE UNIQUE INDEX stored_id ON stored (id);
CREATE INDEX "stored A" ON stored ("A b");
CLUSTER stored USING stored_id;
COMMENT ON INDEX "stored A" IS 'of A';
COMMENT ON VIEW z_first IS 'it''s \ one';
COMMENT ON COLUMN z_first."A b" IS 'two words';
COMMENT ON MATERIALIZED VIEW stored IS 'kept';
CREATE RULE no AS ON DELETE TO a_second DO INSTEAD NOTHING;
COMMENT ON RULE no ON a_second IS 'never';
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER instead INSTEAD OF INSERT ON z_first FOR EACH ROW EXECUTE FUNCTION f();
COMMENT ON TRIGGER instead ON z_first IS 'instead';
ALTER VIEW z_first ALTER "A b" SET DEFAULT 'none';
GRANT SELECT ON z_first TO PUBLIC;
"""
ALL = """
SELECT c.relname::text, pg_get_viewdef(c.oid), c.reloptions::text, obj_description(c.oid, 'pg_class'), c.relispopulated,
       ARRAY(SELECT unnest(coalesce(c.relacl, acldefault('r', c.relowner)))::text ORDER BY 1),
       ARRAY(SELECT a.attname || coalesce(a.attacl::text, '') || coalesce(col_description(c.oid, a.attnum), '')
               || coalesce(pg_get_expr(d.adbin, d.adrelid), '') FROM pg_attribute a
               LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = c.oid AND a.attnum > 0),
       ARRAY(SELECT pg_get_ruledef(r.oid) || coalesce(obj_description(r.oid, 'pg_rewrite'), '') FROM pg_rewrite r
              WHERE r.ev_class = c.oid ORDER BY 1),
       ARRAY(SELECT pg_get_triggerdef(g.oid) || coalesce(obj_description(g.oid, 'pg_trigger'), '') FROM pg_trigger g
              WHERE g.tgrelid = c.oid ORDER BY 1),
       ARRAY(SELECT pg_get_indexdef(i.indexrelid) || i.indisclustered || coalesce(obj_description(i.indexrelid, 'pg_class'), '')
               FROM pg_index i WHERE i.indrelid = c.oid ORDER BY 1)
  FROM pg_class c WHERE c.relkind IN ('v', 'm') AND c.relnamespace = 'public'::regnamespace ORDER BY 1"""


@pytest.fixture
async def conn(postgres_server: PostgresServer) -> AsyncIterator[Connection]:
    name = postgres_server.create_database()
    async with await psycopg.AsyncConnection.connect(postgres_server.dsn(name), autocommit=True) as conn:
        await conn.execute(TABLES.encode())
        await conn.execute("SET search_path TO pg_catalog")
        yield conn
    postgres_server.drop_database(name)


async def test_dropped_and_made_again(conn: Connection) -> None:
    (part,) = await family_of(conn, ("public", "t"))
    views = await views_over(conn, [(part, ["a"])])
    names = [view.name[1] for view in views]
    assert sorted(names) == ["a_second", "never", "stored", "z_first"]
    assert names.index("z_first") < min(names.index("a_second"), names.index("stored"))
    before = await (await conn.execute(ALL)).fetchall()
    await conn.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
    for view in reversed(views):
        await conn.execute(f"DROP {'MATERIALIZED VIEW' if view.materialized else 'VIEW'} public.{view.name[1]}".encode())
    for view in views:
        for statement in (view.stored.statement(), *view.indexes, *view.defaults, *view.rest):
            await conn.execute(statement.encode())
    assert await (await conn.execute(ALL)).fetchall() == before


async def test_what_hangs_on_a_view_itself(conn: Connection) -> None:
    await conn.execute("CREATE FUNCTION public.rows_of() RETURNS SETOF public.z_first LANGUAGE sql AS 'SELECT 1, NULL::text'")
    (part,) = await family_of(conn, ("public", "t"))
    views = {view.name[1]: view for view in await views_over(conn, [(part, ["a"])])}
    assert views["z_first"].others == ("function public.rows_of()",)
    assert views["a_second"].others == ()
    assert [rule for rule, _ in views["a_second"].rules] == ["no"]
