"""Findings on a real database; the command around them is in tests/commands/test_check.py."""

from dataclasses import replace
from typing import Any

import psycopg

from phiproxy.net.catalog_reader import read_catalog
from phiproxy.ops.database_check import check_database
from phiproxy.ops.ddl_script import render_ddl
from phiproxy.ops.physical_tables import read_physical
from phiproxy.policy.protection import Slot
from phiproxy.policy.registry_layout import Layout
from tests.policy.build import make_layout, make_policy

POLICY = make_policy({"public.t": {"a": {"type": "text", "indexes": ["a"]}, "b": {"type": "text"}}})
TABLES = [("public", "t")]
Connection = psycopg.AsyncConnection[Any]


async def ready(conn: Connection) -> None:
    await conn.execute("CREATE TABLE t (a text, b text)")
    catalog = await read_catalog(conn, TABLES)
    await conn.execute(render_ddl(POLICY, make_layout(POLICY), catalog, await read_physical(conn, TABLES)).encode())


async def check(conn: Connection, layout: Layout | None = None) -> dict[str, list[str]]:
    """Texts by level."""
    catalog = await read_catalog(conn, TABLES)
    found: dict[str, list[str]] = {"ok": [], "note": [], "warning": [], "error": []}
    for finding in await check_database(conn, POLICY, layout or make_layout(POLICY), catalog, "phiproxy"):
        found[finding.level].append(finding.text)
    return found


async def test_well(conn: Connection) -> None:
    await ready(conn)
    found = await check(conn)
    assert found["error"] == []
    assert found["ok"][:2] == ["2 protected columns are registered and bytea", "guards and tag indexes are there"]
    assert any("no `distinct:` is declared" in text for text in found["warning"])


async def test_a_view_behind_a_barrier(conn: Connection) -> None:
    await ready(conn)
    await conn.execute("CREATE VIEW plain AS SELECT a FROM t; CREATE VIEW barred WITH (security_barrier = yes) AS SELECT a FROM t")
    told = [text for text in (await check(conn))["warning"] if "security_barrier" in text]
    assert len(told) == 1
    assert told[0].startswith("public.barred is a security_barrier view")


async def test_storage_and_an_unvalidated_guard(conn: Connection) -> None:
    await ready(conn)
    await conn.execute("ALTER TABLE t ALTER a SET STORAGE EXTENDED")
    cursor = await conn.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'phi_guard_b'")
    row = await cursor.fetchone()
    assert row is not None
    await conn.execute(f"ALTER TABLE t DROP CONSTRAINT phi_guard_b, ADD CONSTRAINT phi_guard_b {row[0]} NOT VALID".encode())
    found = await check(conn)
    assert any("public.t.a is not STORAGE EXTERNAL" in text for text in found["warning"])
    assert any("public.t.b has no valid guard" in text for text in found["error"])


async def test_a_slot_that_is_building(conn: Connection) -> None:
    await ready(conn)
    layout = make_layout(POLICY)
    one = layout.identities[1]
    building = replace(one, slots=(*one.slots, Slot(1, "@", 2, "building")))
    found = await check(conn, replace(layout, identities={**layout.identities, 1: building}))
    (text,) = (text for text in found["note"] if "is searched by slot" in text)
    assert "index a is searched by slot 0, generation 1" in text
    assert not any("answers nothing" in text or "every search reads" in text for text in found["warning"])
    alone = replace(one, slots=(Slot(0, "@", 1, "building"),))
    found = await check(conn, replace(layout, identities={**layout.identities, 1: alone}))
    assert any("index a answers nothing yet, and no value lacks its tag: run `phiproxy keys init`" in t for t in found["warning"])


async def test_the_server_logs(conn: Connection) -> None:
    await ready(conn)
    await conn.execute("SET log_statement = 'mod'; SET log_min_duration_statement = 0; SET log_parameter_max_length = -1")
    await conn.execute("SET log_min_error_statement = 'panic'; SET log_parameter_max_length_on_error = 0")
    texts = [t.split(":")[0] for t in (await check(conn))["warning"] if t.startswith("log_")]
    assert texts == ["log_statement = mod", "log_min_duration_statement = 0", "log_parameter_max_length = -1"]
    await conn.execute("SET log_statement = 'none'; SET log_min_duration_statement = -1")
    assert "the server's log keeps no statements" in (await check(conn))["ok"]
