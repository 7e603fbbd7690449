"""asyncpg: always prepared, always binary, introspects types; its statement cache outlives the statement."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tests.harness.clinic import Clinic
from tests.integration.dialogue import Rows, assert_told, dialogue


async def test_reads_and_writes(clinic: Clinic) -> None:
    steps = dialogue(clinic)
    told: list[list[Rows]] = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        conn = await asyncpg.connect(dsn)
        rows: list[Rows] = []
        for step in steps:
            if step.returns_rows:
                rows.append([tuple(r.values()) for r in await conn.fetch(step.text, *step.params)])
            else:
                rows.append([(await conn.execute(step.text, *step.params),)])
        told.append(rows)
        await conn.close()
    assert_told(clinic, steps, *told)


async def test_types_of_a_prepared_statement(clinic: Clinic) -> None:
    clinic.seed(1)
    told = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        conn = await asyncpg.connect(dsn)
        made = await conn.prepare("SELECT * FROM patients WHERE ssn = $1 AND mrn = $2 AND visits_count = $3")
        told.append(([t.name for t in made.get_parameters()], [(a.name, a.type.name) for a in made.get_attributes()]))
        await conn.close()
    assert told[0] == told[1]
    assert told[1][0][0] == "text"


async def test_cursor_and_transactions(clinic: Clinic) -> None:
    clinic.seed(8)
    told = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        conn = await asyncpg.connect(dsn)
        async with conn.transaction():
            # a portal with a row limit: Execute 3, PortalSuspended, Execute 3 …
            told.append([tuple(r.values()) async for r in conn.cursor("SELECT * FROM patients ORDER BY id", prefetch=3)])
        undone = conn.transaction()
        await undone.start()
        await conn.execute("UPDATE patients SET ssn = $1", "gone")
        await undone.rollback()
        await conn.close()
    assert told[0] == told[1]
    assert len(told[1]) == 8
    clinic.assert_twins_equal()


async def test_executemany_and_a_pool(clinic: Clinic) -> None:
    patients = [clinic.new_patient(visits_count=n) for n in range(60)]
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        async with asyncpg.create_pool(dsn, min_size=1, max_size=5) as pool:
            await pool.executemany(
                "INSERT INTO patients (id, ssn, notes) VALUES ($1, $2, $3)", [(p.visits_count, p.ssn, p.notes) for p in patients]
            )
            found = await asyncio.gather(*(pool.fetchval("SELECT notes FROM patients WHERE ssn = $1", p.ssn) for p in patients))
        assert found == [p.notes for p in patients]
    clinic.assert_twins_equal()


async def test_a_refusal(clinic: Clinic) -> None:
    clinic.seed(1)
    conn = await asyncpg.connect(clinic.proxy_dsn)
    with pytest.raises(asyncpg.FeatureNotSupportedError, match=r"^phiproxy:") as caught:
        await conn.fetch("SELECT id FROM patients WHERE notes = $1", clinic.plant())
    assert caught.value.hint
    assert await conn.fetchval("SELECT count(*) FROM patients") == 1
    await conn.close()


async def test_a_refusal_of_many_and_of_what_is_prepared(clinic: Clinic) -> None:
    """asyncpg sends Parse and Describe in one group, and for many rows Bind and Execute of all in another."""
    clinic.seed(2)
    conn = await asyncpg.connect(clinic.proxy_dsn)
    refused = "UPDATE patients SET city = 'never' WHERE upper(notes) = $1"
    rows = [(clinic.plant(),) for _ in range(50)]
    for _ in range(2):
        with pytest.raises(asyncpg.FeatureNotSupportedError, match=r"^phiproxy:"):
            await conn.prepare(refused)
        with pytest.raises(asyncpg.FeatureNotSupportedError, match=r"^phiproxy:"):
            await conn.executemany(refused, rows)
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute("UPDATE patients SET city = 'undone'")
    with pytest.raises(asyncpg.FeatureNotSupportedError, match=r"^phiproxy:"):
        await conn.executemany(refused, rows)
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await conn.executemany("UPDATE patients SET city = 'undone' WHERE notes = $1", rows)
    await transaction.rollback()
    assert await conn.fetchval("SELECT count(*) FROM patients WHERE city IN ('never', 'undone')") == 0
    prepared = await conn.prepare("SELECT id FROM patients WHERE ssn = $1")
    assert await prepared.fetchval(clinic.patients[1].ssn) == 2
    await conn.close()
    clinic.assert_twins_equal()


async def test_a_value_too_long_in_the_middle_of_many_undoes_them_all(clinic: Clinic) -> None:
    rows = [(n, clinic.plant("mrn") if n != 20 else clinic.plant() + " is far too long") for n in range(40)]
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        conn = await asyncpg.connect(dsn)
        with pytest.raises(asyncpg.StringDataRightTruncationError):
            await conn.executemany("INSERT INTO patients (id, mrn) VALUES ($1, $2)", rows)
        assert not conn.is_in_transaction()
        assert await conn.fetchval("SELECT count(*) FROM patients") == 0
        await conn.close()
