"""What is done while everybody waits goes to the server in as few messages as can be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest

from phiproxy.jobs import switching
from phiproxy.jobs.dependents import Dependent
from phiproxy.jobs.switching import Changed, _as_owner, switch_tables
from phiproxy.plan.stored_query import StoredQuery
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


async def test_where_statements_were_held_for_too_short_they_are_held_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else on a slow machine each attempt would let everybody wait, and end as the one before."""
    held = list[float]()

    async def attempt(_run: object, _tables: object, _work: object, seconds: float) -> float:
        held.append(seconds)
        if seconds < 100:
            raise switching._TooShort("too short")
        return seconds

    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(switching, "_attempt", attempt)
    monkeypatch.setattr("phiproxy.jobs.switching.asyncio.sleep", nothing)
    display = SimpleNamespace(waits=lambda _: None)
    run = cast("Run", SimpleNamespace(goes_on=nothing, job=SimpleNamespace(options={}), display=display))
    assert await switching.with_held_statements(run, "switching", (), cast("Any", None), attempts=10) == 120
    assert held == [15, 30, 60, 120]


@pytest.mark.parametrize("grant", ["SELECT", "SELECT (n)"])
async def test_what_is_granted_between_the_last_look_and_the_drop_is_not_lost(
    site: Site, monkeypatch: pytest.MonkeyPatch, grant: str
) -> None:
    async with await connect(site.dsn) as conn, await connect(site.dsn) as reading:
        await conn.execute("CREATE VIEW public.held AS SELECT 1 AS n")
        ((oid,),) = await (await conn.execute("SELECT 'public.held'::regclass::oid::int8")).fetchall()
        query = StoredQuery(oid, "CREATE VIEW public.held", ("n",), "", "SELECT 1 AS n", "")
        view = Dependent("view held", site.server.superuser, ("DROP VIEW public.held",), (), view=query)
        seen = SimpleNamespace(tables=(), dependents=(view,), hanging=())

        async def in_transaction(_run: object, _what: object, _tables: object, work: Any, **_: object) -> None:
            async with conn.transaction():
                await work(None)

        async def granting(*_: object) -> None:
            async with await connect(site.dsn) as other:
                await other.execute(f"GRANT {grant} ON public.held TO PUBLIC".encode())

        async def nothing(*_: object) -> tuple[object, ...]:
            return ()

        for name, instead in {
            "with_held_statements": in_transaction, "_seal_rest": granting, "hanging": nothing, "converted": nothing,
        }.items():  # fmt: skip
            monkeypatch.setattr(switching, name, instead)
        job, progress = SimpleNamespace(id=1, options={}), SimpleNamespace(counts={})
        run = cast("Run", SimpleNamespace(conn=conn, reading=reading, job=job, progress=progress))
        with pytest.raises(Changed):
            await switch_tables(run, cast("Any", seen), cast("Any", None), cast("Any", None), attempts=1)
        await conn.execute("DROP VIEW public.held")
