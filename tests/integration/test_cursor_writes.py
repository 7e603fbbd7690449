"""Writes at a cursor, by prepared statements and by a driver's batches: the same through the proxy as directly."""

from __future__ import annotations

import asyncio

import asyncpg
import psycopg

from tests.harness.differential import Differential


def simple(both: Differential, *statements: str) -> None:
    for statement in statements:
        both.run(statement, protocol="simple")


def test_where_current_of(differential: Differential) -> None:
    words = [differential.clinic.plant("mrn") for _ in range(4)]
    for word in words[:3]:
        differential.run("INSERT INTO patients (mrn, ssn) VALUES ($1, $1)", [word])
    simple(
        differential,
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT id, mrn, ssn FROM patients ORDER BY id FOR UPDATE",
        "FETCH c",
        f"UPDATE patients SET ssn = '{words[3]}' WHERE CURRENT OF c RETURNING id, ssn",
        "FETCH c",
    )
    differential.run("UPDATE patients SET mrn = $1, notes = $1 WHERE CURRENT OF c RETURNING *", [words[3]])
    differential.run("FETCH c")
    differential.run("DELETE FROM patients WHERE CURRENT OF c RETURNING mrn")
    simple(differential, "FETCH c", "CLOSE c", "COMMIT")
    differential.read("SELECT * FROM patients ORDER BY id")


def test_prepared_writes_beside_cursors_and_copy(differential: Differential) -> None:
    words = [differential.clinic.plant("mrn") for _ in range(4)]
    simple(
        differential,
        "PREPARE put (text, text) AS INSERT INTO patients (mrn, notes) VALUES ($1, $2) RETURNING id, mrn",
        "BEGIN",
        f"EXECUTE put ('{words[0]}', NULL)",
        f"EXECUTE put ('{words[1]}', '{words[2]}')",
        "DECLARE c CURSOR FOR SELECT mrn, notes FROM patients ORDER BY id",
        f"EXECUTE put ('{words[3]}', '')",
        "FETCH ALL c",
        "PREPARE change AS UPDATE patients SET notes = $1 || 'x' WHERE mrn = $2 RETURNING notes",
        f"EXECUTE change ('{words[0]}', '{words[1]}')",
        "EXPLAIN (COSTS OFF) EXECUTE change (NULL, NULL)",
        "MOVE BACKWARD ALL c",
        "FETCH 2 c",
        "COMMIT",
    )
    told = []
    for dsn in (differential.clinic.plain_dsn, differential.clinic.proxy_dsn):
        with (
            psycopg.connect(dsn) as conn,
            conn.cursor() as cursor,
            cursor.copy("COPY (SELECT mrn, notes FROM patients ORDER BY id) TO STDOUT") as out,
        ):
            told.append(b"".join(bytes(block) for block in out))
    assert told[0] == told[1]


def test_batches_of_psycopg(differential: Differential) -> None:
    clinic = differential.clinic
    rows = [(clinic.plant("mrn"), clinic.plant("ssn")) for _ in range(20)]
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn, conn.cursor() as cursor:
            cursor.executemany("INSERT INTO patients (mrn, ssn) VALUES (%s, %s) RETURNING id", rows, returning=True)
            with conn.pipeline():
                for mrn, ssn in rows:
                    cursor.execute("UPDATE patients SET notes = %s WHERE mrn = %s", (ssn, mrn))
                    cursor.execute("INSERT INTO visits (mrn, diagnosis) VALUES (%s, lower(%s))", (mrn, "Mild"))
    for table in ("patients", "visits"):
        differential.read(f"SELECT * FROM {table} ORDER BY id")


def test_batches_of_asyncpg(differential: Differential) -> None:
    clinic = differential.clinic
    rows = [(clinic.plant("mrn"), clinic.plant("ssn"), None) for _ in range(20)]

    async def write(dsn: str) -> None:
        conn = await asyncpg.connect(dsn)
        try:
            await conn.executemany("INSERT INTO patients (mrn, ssn, notes) VALUES ($1, $2, $3)", rows)
            await conn.copy_records_to_table("patients", records=rows, columns=["mrn", "ssn", "notes"])
            async with conn.transaction():
                async for row in conn.cursor("SELECT id, mrn FROM patients WHERE ssn = $1 ORDER BY id", rows[0][1]):
                    await conn.execute("UPDATE patients SET notes = $2 WHERE id = $1", row["id"], row["mrn"])
        finally:
            await conn.close()

    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        asyncio.run(write(dsn))
    differential.read("SELECT * FROM patients ORDER BY id")
