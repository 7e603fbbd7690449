"""Defaults and constraints over columns, as the server has them."""

from __future__ import annotations

import psycopg
from psycopg import sql

from phiproxy.jobs.column_privileges import privileges_and_comment
from phiproxy.jobs.dependents import definitions_over
from phiproxy.jobs.relations import family_of
from tests.harness.server import PostgresServer

TABLES = r"""
CREATE TABLE t (id int, a text DEFAULT 'x', b text DEFAULT NULL CHECK (b <> a), c text CHECK (c <> ''), CHECK (id > 0));
CREATE TABLE child (CHECK (a <> 'y')) INHERITS (t);
ALTER TABLE t ADD CONSTRAINT late CHECK (a <> 'z') NOT VALID;
COMMENT ON CONSTRAINT late ON t IS 'it''s';
COMMENT ON COLUMN t.a IS 'a \ b';
GRANT SELECT (a), UPDATE (a) ON t TO PUBLIC;
"""


async def test_each_of_each_relation(postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database()
    with postgres_server.connect(name) as conn:
        conn.execute(TABLES.encode())
    async with await psycopg.AsyncConnection.connect(postgres_server.dsn(name), autocommit=True) as conn:
        await conn.execute(sql.SQL("SET search_path TO pg_catalog"))
        family = await family_of(conn, ("public", "t"))
        found = await definitions_over(conn, family, ["a", "b"])
        told = [(d.label, d.create, d.same, d.validated) for d in found]
        same = await privileges_and_comment(conn, next(part for part in family if part.name[1] == "t"), "a")
    postgres_server.drop_database(name)
    assert told == [
        ("DEFAULT of public.child.a", ("ALTER TABLE ONLY public.child ALTER COLUMN a SET DEFAULT 'x'::text",), (), None),
        ("CHECK constraint child_a_check of public.child",
         ("ALTER TABLE public.child ADD CONSTRAINT child_a_check CHECK ((a <> 'y'::text)) NOT VALID",), (),
         ("public", "child", "child_a_check")),
        ("DEFAULT of public.t.a", ("ALTER TABLE ONLY public.t ALTER COLUMN a SET DEFAULT 'x'::text",), (), None),
        ("CHECK constraint late of public.t",
         ("ALTER TABLE public.t ADD CONSTRAINT late CHECK ((a <> 'z'::text)) NOT VALID",),
         ("COMMENT ON CONSTRAINT late ON public.t IS 'it''s'",), None),
        ("CHECK constraint t_check of public.t",
         ("ALTER TABLE public.t ADD CONSTRAINT t_check CHECK ((b <> a)) NOT VALID",), (), ("public", "t", "t_check")),
    ]  # fmt: skip
    assert same == (
        "GRANT SELECT (a) ON public.t TO PUBLIC", "GRANT UPDATE (a) ON public.t TO PUBLIC",
        "COMMENT ON COLUMN public.t.a IS E'a \\\\ b'",
    )  # fmt: skip
