"""What is done while everybody waits goes to the server in as few messages as can be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest

from phiproxy.jobs.switching import _as_owner
from tests.jobs.test_batches import connect
from tests.keys.fakes import Site

if TYPE_CHECKING:
    from phiproxy.jobs.running import Run

STATEMENTS = (
    "CREATE TABLE public.a (n int)",
    "CREATE FUNCTION public.f() RETURNS int LANGUAGE plpgsql AS $phi$BEGIN RETURN 1; END$phi$ -- ends; here",
    "CREATE VIEW public.v AS SELECT n, '%s;' AS t FROM public.a;",
    "ALTER TABLE public.a RENAME n TO m",
)


async def test_the_statements_of_an_owner_are_one_message(site: Site) -> None:
    sent = list[bytes]()
    async with await connect(site.dsn) as conn:
        await conn.execute('CREATE ROLE "Some Owner"; GRANT CREATE ON SCHEMA public TO "Some Owner"')

        async def execute(query: bytes) -> None:
            sent.append(query)
            await conn.execute(query)

        run = cast("Run", SimpleNamespace(conn=SimpleNamespace(execute=execute)))
        async with conn.transaction(force_rollback=True):
            await _as_owner(run, "Some Owner", STATEMENTS)
            rows: Any = await conn.execute("SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relname IN ('a', 'v')")
            assert await rows.fetchall() == [("Some Owner",)]
        assert len(sent) == 1
        with pytest.raises(psycopg.errors.UndefinedTable):
            async with conn.transaction():
                await _as_owner(run, "Some Owner", [STATEMENTS[0], "DROP TABLE public.none"])
        assert await (await conn.execute("SELECT to_regclass('public.a')")).fetchall() == [(None,)]
        await conn.execute('DROP OWNED BY "Some Owner"; DROP ROLE "Some Owner"')
