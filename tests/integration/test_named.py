"""PREPARE, EXECUTE and cursors both ways: by SQL, by the protocol, and by what drivers and psql make of them."""

from __future__ import annotations

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from tests.harness.clinic import Clinic
from tests.harness.differential import Differential, Protocol
from tests.integration.test_psql import psql

PROTOCOLS: list[Protocol] = ["simple", "extended"]


def values(clinic: Clinic) -> dict[str, str]:
    first = clinic.patients[0]
    return {"ssn": first.ssn, "mrn": first.mrn, "new": clinic.plant(), "other": clinic.plant()}


# In order: each may use what the ones before have made.
SCRIPT = [
    "PREPARE one AS SELECT id, ssn, city FROM patients WHERE ssn = $1",
    "EXECUTE one('{ssn}')",
    "EXECUTE one(NULL)",
    "EXECUTE one('{new}'::text)",
    "PREPARE two (int, text) AS INSERT INTO patients (id, ssn, notes, city) VALUES ($1, $2, '{other}', $2 IS NULL) RETURNING *",
    "EXECUTE two(100 + 1, '{new}')",
    "EXECUTE two(102, NULL)",
    "PREPARE three AS UPDATE patients SET notes = $1 WHERE ssn = $2 OR id = $3 RETURNING id, notes",
    "EXECUTE three('{other}', '{new}', 1)",
    "PREPARE four (text, text) AS SELECT p.id FROM patients p JOIN visits v ON v.mrn = p.mrn WHERE v.mrn = $1 AND p.ssn = $2",
    "EXECUTE four('{mrn}', '{ssn}')",
    "PREPARE five AS SELECT count(*) FROM patients WHERE ssn IN ($1, '{ssn}')",
    "EXECUTE five('{new}')",
    "EXECUTE one(trim(both FROM ' {ssn} '))",
    "EXECUTE two(103, 17)",
    "EXECUTE two(104, '{new}' || coalesce(NULL, NULL))",
    "PREPARE six (varchar[]) AS SELECT id FROM patients WHERE ssn = ANY ($1) AND city <> 'x'",
    "EXECUTE six(ARRAY['{new}', NULL, concat('{ssn}', NULL)])",
    "EXECUTE six(ARRAY['{ssn}', '\"\\']::text[])",
    "EXECUTE six('{{{ssn}}}')",
    "EXECUTE six(ARRAY[]::varchar[])",
    "EXECUTE one(5)",
    "EXECUTE one(true)",
    "EXECUTE five('2001-02-03'::date)",
    "EXECUTE four(12345678901234, '{ssn}')",
    "EXECUTE two(105, 7.50)",
    "EXECUTE two(106, 'x'::date)",
    "EXECUTE one",
    "EXECUTE one('{ssn}', 'x')",
    "EXECUTE nothing('{ssn}')",
    "PREPARE one AS SELECT 1",
    "DEALLOCATE one",
    "EXECUTE one('{ssn}')",
    "PREPARE one AS SELECT full_name FROM patients ORDER BY id",
    "EXECUTE one",
    "SELECT id, ssn, notes FROM patients ORDER BY id",
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_prepare_and_execute(differential: Differential, protocol: Protocol) -> None:
    known = values(differential.clinic)
    for text in SCRIPT:
        differential.run(text.replace(", $2 IS NULL)", ", 'x')").format(**known), protocol=protocol)
    differential.refused(f"EXECUTE three('{known['new']}', reverse('{known['ssn']}'), 1)", protocol="simple")
    differential.refused("CREATE TABLE stolen AS EXECUTE one")


def test_one_namespace(differential: Differential) -> None:
    clinic = differential.clinic
    known = values(clinic)
    differential.run("PREPARE a AS SELECT id, ssn FROM patients WHERE ssn = $1", protocol="simple")
    for conn in (differential.plain, differential.proxied):
        conn.send_query_prepared(b"a", [known["ssn"].encode()], [0], 1)
    told = [drain(conn) for conn in (differential.plain, differential.proxied)]
    assert told[0] == told[1] != []
    for conn in (differential.plain, differential.proxied):
        conn.send_prepare(b"b", b"UPDATE patients SET notes = $1 WHERE ssn = $2 RETURNING notes")
        drain(conn)
    assert differential.run(f"EXECUTE b('{known['new']}', '{known['ssn']}')", protocol="simple").text == [(known["new"],)]
    differential.run("BEGIN; PREPARE c AS SELECT notes FROM patients; ROLLBACK", protocol="simple")
    differential.run("EXECUTE c", protocol="simple")
    differential.run("DISCARD ALL", protocol="simple")
    differential.run("EXECUTE c", protocol="simple")


def drain(conn: psycopg.pq.abc.PGconn) -> list[list[bytes | None]]:
    """Read all results of what was sent, as rows."""
    from tests.harness import results  # noqa: PLC0415

    return [list(row) for outcome in results.collect(conn) for row in outcome.rows]


def test_in_one_string(differential: Differential) -> None:
    known = values(differential.clinic)
    for text in (
        "PREPARE s AS SELECT ssn FROM patients WHERE ssn = $1; EXECUTE s('{ssn}'); DEALLOCATE s; SELECT 1",
        "BEGIN; DECLARE c CURSOR FOR SELECT id, ssn FROM patients ORDER BY id; FETCH 2 FROM c; MOVE 1 IN c; FETCH ALL c; COMMIT",
        "PREPARE s AS SELECT 1; EXECUTE s; DEALLOCATE s; PREPARE s AS SELECT notes FROM patients ORDER BY id; EXECUTE s; EXECUTE t",
        "EXECUTE s; DEALLOCATE ALL",
        "SAVEPOINT x; SELECT 1",
    ):
        differential.run(text.format(**known), protocol="simple", ordered=True)


CURSORS = [
    "BEGIN",
    "DECLARE c SCROLL CURSOR FOR SELECT id, ssn, notes FROM patients WHERE ssn <> '{new}' ORDER BY id",
    "FETCH c",
    "FETCH 2 FROM c",
    "FETCH BACKWARD 1 IN c",
    "MOVE FORWARD 1 FROM c",
    "FETCH ABSOLUTE -1 c",
    "FETCH PRIOR FROM c",
    "FETCH FIRST FROM c",
    "FETCH RELATIVE 2 FROM c",
    "FETCH BACKWARD ALL FROM c",
    "FETCH 0 FROM c",
    "SAVEPOINT a",
    "DECLARE d CURSOR FOR SELECT full_name FROM patients ORDER BY id FOR UPDATE",
    "FETCH d",
    "UPDATE patients SET notes = '{other}' WHERE CURRENT OF d",
    "FETCH d",
    "DELETE FROM visits WHERE patient_id = 2",
    "DELETE FROM patients WHERE CURRENT OF d",
    "SELECT id, notes FROM patients ORDER BY id",
    "ROLLBACK TO a",
    "FETCH d",
    "ROLLBACK TO a",
    "FETCH ALL FROM c",
    "DECLARE h CURSOR WITH HOLD FOR SELECT ssn, id FROM patients ORDER BY id",
    "DECLARE b BINARY CURSOR FOR SELECT ssn, id FROM patients ORDER BY id",
    "FETCH 2 FROM b",
    "CLOSE c",
    "COMMIT",
    "FETCH 1 FROM h",
    "FETCH ALL FROM h",
    "FETCH c",
    "CLOSE ALL",
    "FETCH h",
    "DECLARE x CURSOR FOR SELECT ssn FROM patients",
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cursors(differential: Differential, protocol: Protocol) -> None:
    known = values(differential.clinic)
    for text in CURSORS:
        differential.run(text.format(**known), protocol=protocol, ordered=True)


def test_explain_execute(differential: Differential) -> None:
    known = values(differential.clinic)
    differential.run("PREPARE s AS SELECT ssn FROM patients WHERE ssn = $1", protocol="simple")
    with psycopg.connect(differential.clinic.proxy_dsn) as conn:
        conn.execute("PREPARE s AS SELECT ssn FROM patients WHERE ssn = $1")
        for options in ("", "ANALYZE", "(ANALYZE, VERBOSE, FORMAT json, TIMING off)"):
            rows = conn.execute(f"EXPLAIN {options} EXECUTE s('{known['ssn']}')".encode()).fetchall()
            assert "patients" in str(rows)
            assert not differential.clinic.oracle.contains(str(rows).encode())


def test_a_server_cursor_of_psycopg(clinic: Clinic) -> None:
    clinic.seed(7)
    for binary in (False, True):
        told = []
        for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
            with psycopg.connect(dsn) as conn, conn.cursor("c", scrollable=True) as cur:
                cur.itersize = 2
                cur.execute("SELECT id, ssn, notes FROM patients WHERE ssn <> %s ORDER BY id", ("x",), binary=binary)
                rows = list(cur)
                cur.scroll(-3)
                told.append((rows, cur.fetchmany(2), cur.fetchall(), [c.type_code for c in cur.description or ()]))
        assert told[0] == told[1]
        assert len(told[1][0]) == 7


def test_a_streamed_result_of_sqlalchemy(clinic: Clinic) -> None:
    clinic.seed(7)
    told = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda dsn=dsn: psycopg.connect(dsn))
        with engine.connect().execution_options(yield_per=3) as conn:
            found = conn.execute(sqlalchemy.text("SELECT id, full_name FROM patients WHERE ssn <> :ssn ORDER BY id"), {"ssn": "x"})
            told.append([[tuple(row) for row in part] for part in found.partitions(3)])
        engine.dispose()
    assert told[0] == told[1]
    assert [len(part) for part in told[1]] == [3, 3, 1]


async def test_cursors_of_asyncpg(clinic: Clinic) -> None:
    clinic.seed(7)
    told = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda dsn=dsn: asyncpg.connect(dsn))
        async with engine.connect() as sa:
            streamed = await sa.stream(sqlalchemy.text("SELECT id, ssn FROM patients ORDER BY id"))
            rows = [tuple(row) async for row in streamed]
        await engine.dispose()
        conn = await asyncpg.connect(dsn)
        async with conn.transaction():
            await conn.execute("DECLARE c CURSOR FOR SELECT ssn, id FROM patients ORDER BY id")
            rows += [tuple(r.values()) for r in await conn.fetch("FETCH 3 FROM c")]
            cursor = await conn.cursor("SELECT notes FROM patients WHERE ssn <> $1 ORDER BY id", "x")
            rows += [tuple(r.values()) for r in await cursor.fetch(2)]
            await cursor.forward(2)
            rows += [tuple(r.values()) for r in await cursor.fetch(9)]
        await conn.close()
        told.append(rows)
    assert told[0] == told[1]
    assert len(told[1]) == 7 + 3 + 2 + 3


def test_fetch_count_of_psql(clinic: Clinic) -> None:
    clinic.seed(5)
    script = "\\set FETCH_COUNT 2\nSELECT id, ssn, notes FROM patients ORDER BY id;\n"
    plain, proxied = psql(clinic, clinic.plain_dsn, script), psql(clinic, clinic.proxy_dsn, script)
    assert plain[1:] == ("", 0)
    assert proxied == plain
    assert clinic.patients[4].ssn in proxied[0]
