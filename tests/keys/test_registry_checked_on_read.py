"""The registry as a whole under attack: whatever row, manifest or column of it is another, it is named and nothing is weakened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from psycopg import sql

from phiproxy.errors import NotAuthentic
from phiproxy.keys.accept_rollback import accept_rollback
from phiproxy.keys.anchoring import verify
from phiproxy.keys.authenticated_tables import AUTHENTICATED, Connection, read_rows
from phiproxy.keys.compromise_retire import compromise
from phiproxy.keys.key_rows import DataKeyRow, RootRow, new_data_key
from phiproxy.keys.key_state_changes import set_root_state
from phiproxy.keys.layout_rows import verified_layout
from phiproxy.keys.manifest import Row
from phiproxy.keys.new_tenants import ensure_root
from phiproxy.keys.registry import Registry, view_data_keys, view_roots
from phiproxy.keys.registry_checked_on_read import Change, Fault, Trust
from phiproxy.keys.rotation import rotate_root
from phiproxy.keys.slots import next_slot
from phiproxy.policy.registry_layout import Layout
from tests.harness.server import PostgresServer
from tests.keys.fakes import DEPLOYMENT, TABLES, FakeProvider, Site

EVERYTHING = (*AUTHENTICATED, "manifest", "counter")
ALL = sql.SQL("true")


@dataclass
class Seen:
    """What a process sees of a registry: the rows as they are, and what it believes of them."""

    rows: dict[bytes, Row]
    layout: Layout
    roots: dict[int, RootRow]
    keys: dict[int, DataKeyRow]


async def seen(conn: Connection, trust: Trust) -> Seen:
    rows = [read.row for of in AUTHENTICATED.values() for read in await read_rows(conn, "phiproxy", of, ALL)]
    await conn.rollback()
    async with trust.reading(conn) as view:
        layout = await verified_layout(view)
        roots = {r.id: r for r in await view_roots(view, ALL, ()) if r.authentic}
        keys = {k.id: k for k in await view_data_keys(view, ALL, ()) if k.authentic}
    return Seen({row.label: row for row in rows}, layout, roots, keys)


@dataclass(repr=False)
class Target:
    """A registry with tenants, rotated and compromised keys, without the constraints that its owner can drop; and its states."""

    site: Site
    trust: Trust
    before: Seen
    columns: dict[str, list[tuple[str, str]]]

    def put_back(self, name: str) -> None:
        """Undo whatever was done to a table."""
        self.site.run(f"DELETE FROM phiproxy.{name}; INSERT INTO phiproxy.{name} SELECT * FROM now.{name}")


async def change_job(registry: Registry, state: str, job: int) -> int:
    """Record a job (0), or give one another state, as ``phiproxy.jobs`` does, which is above this floor."""
    async with registry.changing() as change:
        if job:
            await change.before("job", job)
            await change.conn.execute("UPDATE phiproxy.job SET state = %s WHERE id = %s", (state, job))
            change.became("job", job, fields=(..., ..., ..., state, ..., ...))
            return job
        values = ("recrypt", "x", "{}", state, "dba")
        query = "INSERT INTO phiproxy.job (kind, target, options, state, who) VALUES (%s, %s, %s, %s, %s) RETURNING id"
        row = await (await change.conn.execute(query, values)).fetchone()
        assert row is not None
        change.added("job", row[0], fields=(*values, ...))
        return int(row[0])


async def _target(site: Site) -> Target:
    await site.init()
    async with site.registry() as registry:
        job = await change_job(registry, "running", 0)
        _copy(site, "old")
        await change_job(registry, "paused", job)
        for tenant in ("acme", "beta"):
            for purpose in ("data", "index"):
                await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", tenant, purpose), None)
        root = await registry.root_at("d:mrn", "", "data")
        assert root is not None
        key = await registry.active_key(root.id)
        assert key is not None
        await compromise(registry, site.provider, DEPLOYMENT, key.id, "a test", 1000)
        await rotate_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "", "data"), root, 1000)
        await next_slot(registry, site.provider, DEPLOYMENT, "c:public.patients.ssn", "@")
        trust = registry.trust
    for table, name in site.run(
        "SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint WHERE connamespace = 'phiproxy'::regnamespace"
        " ORDER BY contype"
    ):
        site.run(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name} CASCADE")
    for (name,) in site.run(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indisunique AND indrelid::regclass::text LIKE 'phiproxy.%%'"
    ):
        site.run(f"DROP INDEX {name}")
    site.run("ALTER TABLE phiproxy.root_key ALTER id DROP IDENTITY")
    site.run("ALTER TABLE phiproxy.job ALTER id DROP IDENTITY")
    _copy(site, "now")
    columns: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in site.run(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'phiproxy'"
        " AND column_name NOT IN ('used', 'epoch', 'one') AND NOT (column_name = 'format' AND table_name <> 'meta')"
    ):
        if table in EVERYTHING:
            columns.setdefault(str(table), []).append((str(column), str(kind)))
    async with await site.connect() as conn:
        return Target(site, trust, await seen(conn, trust), columns)


def _copy(site: Site, schema: str) -> None:
    site.run(f"CREATE SCHEMA {schema}")
    for name in EVERYTHING:
        site.run(f"CREATE TABLE {schema}.{name} AS TABLE phiproxy.{name}")


@pytest.fixture(scope="module")
def target(postgres_server: PostgresServer) -> Iterator[Target]:
    name = postgres_server.create_database()
    site = Site(postgres_server, name, FakeProvider())
    site.run(TABLES)
    yield asyncio.run(_target(site))
    postgres_server.drop_database(name)


# Another value of the same type.
CHANGED = {
    "integer": "({} + 1)",
    "bigint": "({} + 1)",
    "text": "coalesce({}, '') || 'x'",
    "bytea": "{} || '\\x00'::bytea",
    "boolean": "NOT {}",
    "timestamp with time zone": "{} + interval '1 s'",
}
NTH = "ctid = (SELECT ctid FROM phiproxy.{table} ORDER BY ctid OFFSET {nth} LIMIT 1)"


@st.composite
def attacks(draw: st.DrawFn) -> tuple[str, str, int, int]:
    """What is done, to which table, and two numbers that choose rows and a column."""
    what = draw(st.sampled_from(["change", "delete", "duplicate", "swap", "put back"]))
    return what, draw(st.sampled_from(EVERYTHING)), draw(st.integers(0, 30)), draw(st.integers(0, 30))


def done(target: Target, attack: tuple[str, str, int, int]) -> None:
    """Do it to the tables."""
    what, table, one, two = attack
    run = target.site.run
    ((count,),) = run(f"SELECT count(*) FROM phiproxy.{table}")
    rows = int(str(count))
    assume(rows > 0)
    column, kind = target.columns[table][two % len(target.columns[table])]
    where = NTH.format(table=table, nth=one % rows)
    if what == "change":
        run(f'UPDATE phiproxy.{table} SET "{column}" = {CHANGED[kind].format(chr(34) + column + chr(34))} WHERE {where}')
    elif what == "delete":
        run(f"DELETE FROM phiproxy.{table} WHERE {where}")
    elif what == "duplicate":
        names = ", ".join(f'"{c}"' for c, _ in target.columns[table])
        changed = ", ".join(CHANGED[k].format(f'"{c}"') if c == column else f'"{c}"' for c, k in target.columns[table])
        extra = {"root_key": ("format", "2"), "data_key": ("format, used", "2, 0"), "meta": ("epoch, one", "1, true")}
        more, values = extra.get(table, ("one", "true") if table == "counter" else ("", ""))
        into = ", ".join(filter(None, [names, more]))
        run(f"INSERT INTO phiproxy.{table} ({into}) SELECT {', '.join(filter(None, [changed, values]))}"
            f" FROM phiproxy.{table} WHERE {where}")  # fmt: skip
    elif what == "swap":
        other = NTH.format(table=table, nth=(one + 1 + two) % rows)
        run(f'UPDATE phiproxy.{table} t SET "{column}" = o."{column}" FROM phiproxy.{table} o'
            f" WHERE t.{where} AND o.{other}")  # fmt: skip
    else:
        run(f"DELETE FROM phiproxy.{table}")
        run(f"INSERT INTO phiproxy.{table} SELECT * FROM old.{table}")


async def looked_at(target: Target) -> tuple[list[Fault], Seen | None]:
    """Return what ``verify`` says, and what a process that starts now believes."""
    fresh = Trust("phiproxy", target.trust.key)
    async with await target.site.connect() as conn:
        faults = await verify(fresh, conn)
        try:
            return faults, await seen(conn, fresh)
        except NotAuthentic:
            return faults, None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(attack=attacks())
def test_whatever_is_changed_is_named_and_nothing_is_weakened(target: Target, attack: tuple[str, str, int, int]) -> None:
    try:
        done(target, attack)
        _, table, _, _ = attack
        own = ", ".join(f'"{column}"' for column, _ in target.columns[table])
        more = target.site.run(f"SELECT {own} FROM phiproxy.{table} EXCEPT ALL SELECT {own} FROM now.{table}")
        same = not more and not target.site.run(f"SELECT {own} FROM now.{table} EXCEPT ALL SELECT {own} FROM phiproxy.{table}")
        faults, now = asyncio.run(looked_at(target))
    finally:
        target.put_back(attack[1])
    assert bool(faults) is not same, f"{attack}: {faults}"
    if now is None:
        return
    before, named = target.before, {fault.what for fault in faults}
    if table in AUTHENTICATED and not any(f.kind in ("manifest", "counter") for f in faults):
        differing = [r for r in {**now.rows, **before.rows} if now.rows.get(r) != before.rows.get(r)]
        assert {({**now.rows, **before.rows})[r].text for r in differing} <= named
    assert now.layout.deployment == before.layout.deployment
    for name, number in now.layout.columns.items():
        assert before.layout.columns[name] == number
        assert now.layout.identities[number] == before.layout.identities[number]
    assert set(before.layout.columns) <= set(now.layout.columns) | now.layout.distrusted
    for root_id, root in now.roots.items():
        assert root.state == before.roots[root_id].state
        assert root.context(DEPLOYMENT) == before.roots[root_id].context(DEPLOYMENT)
        assert set(root.wraps) <= set(before.roots[root_id].wraps)
    for key_id, key in now.keys.items():
        expected = before.keys[key_id]
        assert (key.root_id, key.state, key.wrapped, key.max_uses) == (
            expected.root_id, expected.state, expected.wrapped, expected.max_uses,
        )  # fmt: skip


async def test_many_who_change_at_once_lose_no_change(site: Site) -> None:
    """Each in a process of its own trust; the counter is one more for each change, and the whole verifies."""
    await site.init()
    async with site.registry() as registry:
        root = await registry.root_at("d:mrn", "", "data")
        assert root is not None
        trusts = [await site.trust() for _ in range(6)]

        async def add(trust: Trust, generation: int) -> None:
            async with site.registry(trust) as own, own.changing() as change:
                key = new_data_key(b"k" * 32, root.id, generation, 10, "retired")
                await change.conn.execute(
                    "INSERT INTO phiproxy.data_key (id, root_id, generation, wrapped, state, max_uses, mac, format)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s, 2)",
                    (key.id, key.root_id, key.generation, key.wrapped, key.state, key.max_uses, key.mac),
                )
                change.added("data_key", key.id, fields=[...] * 7)

        (before,) = site.run("SELECT value FROM phiproxy.counter")
        await asyncio.gather(*(add(trusts[n % 6], 10 + n) for n in range(24)))
        (after,) = site.run("SELECT value FROM phiproxy.counter")
        assert int(str(after[0])) == int(str(before[0])) + 24
    async with await site.connect() as conn:
        assert await verify(trusts[0], conn) == []


async def test_what_somebody_else_has_changed_is_not_blessed(site: Site) -> None:
    """Who changes a row that was tampered with changes nothing; and a change beside it does not hide it."""
    await site.init()
    async with site.registry() as registry:
        root = await registry.root_at("d:mrn", "", "data")
        assert root is not None
        site.run("UPDATE phiproxy.root_key SET created_at = created_at + interval '1 day' WHERE id = %s", (root.id,))
        with pytest.raises(NotAuthentic, match="nothing was changed"):
            async with registry.changing() as change:
                assert await set_root_state(change, root, "decrypt_only")
        assert site.run("SELECT state FROM phiproxy.root_key WHERE id = %s", (root.id,)) == [("active",)]
        await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "acme", "data"), None)
        async with await site.connect() as conn:
            assert [fault.why for fault in await verify(registry.trust, conn)] == ["is not as phiproxy has written it last"]


async def test_a_lost_root_of_a_tenant_is_not_made_anew(site: Site) -> None:
    """Else its index key would be another, and its rows would not be found any more."""
    await site.init()
    async with site.registry() as registry:
        made = await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "acme", "index"), 1)
        site.run("DELETE FROM phiproxy.root_wrap WHERE root_id = %s", (made.id,))
        site.run("DELETE FROM phiproxy.root_key WHERE id = %s", (made.id,))
        with pytest.raises(NotAuthentic, match="is missing"):
            await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "acme", "index"), 1)


@pytest.fixture
async def registry(site: Site) -> AsyncIterator[Registry]:
    await site.init()
    async with site.registry() as registry:
        yield registry


async def test_an_alarm_is_raised_once(site: Site, registry: Registry) -> None:
    told: list[Fault] = []
    registry.trust.alarm = told.append
    site.run("UPDATE phiproxy.slot SET state = 'dropped' WHERE number = 1")
    for _ in range(3):
        layout = await registry.layout()
    assert [fault.what for fault in told] == ["slot (1, 0)"]
    assert registry.trust.faults == {"row": 1}
    assert layout.distrusted == {("public", "patients", "mrn"), ("public", "visits", "mrn")}
    assert set(layout.columns) == {("public", "patients", "ssn")}


async def test_a_lower_counter_stops_changes_until_it_is_accepted(site: Site, registry: Registry) -> None:
    _copy(site, "old")
    await registry.layout()
    await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "acme", "data"), None)
    kept = "; ".join(f"DELETE FROM phiproxy.{n}; INSERT INTO phiproxy.{n} SELECT * FROM old.{n}" for n in ("manifest", "counter"))
    later = "phiproxy.root_key r WHERE r.tenant = 'acme'"
    site.run(f"{kept}; DELETE FROM phiproxy.root_wrap WHERE root_id IN (SELECT r.id FROM {later}); DELETE FROM {later}")
    await registry.layout()
    with pytest.raises(NotAuthentic, match="was rolled back") as caught:
        await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "beta", "data"), None)
    assert caught.value.hint is not None
    assert "accept-rollback" in caught.value.hint
    # Somebody who has not seen the later state goes on from the older one, past what was seen here.
    unaware = Registry(registry._pool, Trust(registry.trust.schema, registry.trust.key))
    for tenant in ("gamma", "delta", "epsilon"):
        await ensure_root(unaware, site.provider, DEPLOYMENT, ("d:mrn", tenant, "data"), None)
    await registry.layout()
    with pytest.raises(NotAuthentic, match="was rolled back"):
        await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "beta", "data"), None)
    async with registry._pool.connection() as conn:
        await accept_rollback(conn, unaware.trust, "a test")
    await registry.layout()
    await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "beta", "data"), None)


async def test_a_change_that_changes_nothing_is_none(site: Site, registry: Registry) -> None:
    (before,) = site.run("SELECT value FROM phiproxy.counter")
    async with registry.changing() as change:
        assert isinstance(change, Change)
        await change.before("identity", 1)
        await change.before("identity", 77)
    assert site.run("SELECT value FROM phiproxy.counter") == [before]


async def test_a_created_key_reads_no_other_rows(site: Site, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The price of a data key: a few statements, whatever the registry holds beside it."""
    root = await registry.root_at("d:mrn", "", "data")
    assert root is not None
    statements: list[Any] = []
    real = psycopg.AsyncConnection.execute

    async def counted(self: Any, query: Any, *rest: Any, **options: Any) -> Any:
        statements.append(query)
        return await real(self, query, *rest, **options)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", counted)
    row = RootRow(0, "d:mrn", "t", "data", 1, "active", ())
    await registry.add_root(row, "fake:kek", (await site.provider.new_key(row.context(DEPLOYMENT))).wrapped)
    assert len(statements) <= 12
