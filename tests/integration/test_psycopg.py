"""psycopg 3: sync, async, pipeline, server-side and client-side binding, text and binary, prepared or not."""

from __future__ import annotations

import select
from typing import Any

import psycopg
import pytest
from psycopg import pq, sql

from tests.harness.clinic import INSERT, Clinic
from tests.integration.dialogue import Rows, Step, assert_told, dialogue

PREPARE: list[bool | None] = [None, True, False]


def speak(
    dsn: str,
    steps: list[Step],
    *,
    binary: bool | None = None,
    prepare: bool | None = None,
    factory: type[psycopg.Cursor[Any]] = psycopg.Cursor,
) -> list[Rows]:
    told: list[Rows] = []
    with psycopg.connect(dsn) as conn, factory(conn) as cur:
        for step in steps:
            text, params = (step.text, step.params) if factory is psycopg.RawCursor else step.style("%s")
            cur.execute(text.encode(), params, prepare=prepare, binary=binary)
            told.append(cur.fetchall() if cur.description else [(cur.rowcount,)])
    return told


@pytest.mark.parametrize("prepare", PREPARE)
@pytest.mark.parametrize("binary", [False, True])
def test_sync(clinic: Clinic, binary: bool, prepare: bool | None) -> None:
    steps = dialogue(clinic)
    plain, proxied = (speak(dsn, steps, binary=binary, prepare=prepare) for dsn in (clinic.plain_dsn, clinic.proxy_dsn))
    assert_told(clinic, steps, plain, proxied)


@pytest.mark.parametrize("factory", [psycopg.ClientCursor, psycopg.RawCursor])
def test_other_cursors(clinic: Clinic, factory: type[psycopg.Cursor[Any]]) -> None:
    steps = dialogue(clinic)
    plain, proxied = (speak(dsn, steps, factory=factory) for dsn in (clinic.plain_dsn, clinic.proxy_dsn))
    assert_told(clinic, steps, plain, proxied)


async def test_async(clinic: Clinic) -> None:
    steps = dialogue(clinic)
    told: list[list[Rows]] = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        rows: list[Rows] = []
        async with await psycopg.AsyncConnection.connect(dsn) as conn, conn.cursor() as cur:
            for step in steps:
                text, params = step.style("%s")
                await cur.execute(text.encode(), params)
                rows.append(await cur.fetchall() if cur.description else [(cur.rowcount,)])
        told.append(rows)
    assert_told(clinic, steps, *told)


def test_pipeline(clinic: Clinic) -> None:
    steps = dialogue(clinic)
    told: list[list[Rows]] = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn:
            with conn.pipeline():
                cursors = [conn.execute(text.encode(), params) for text, params in (s.style("%s") for s in steps)]
            told.append([cur.fetchall() if cur.description else [(cur.rowcount,)] for cur in cursors])
    assert_told(clinic, steps, *told)


def test_a_refusal_in_a_pipeline(clinic: Clinic) -> None:
    clinic.seed(2)
    ssn = clinic.patients[0].ssn

    def group(conn: psycopg.Connection[Any], cursors: list[psycopg.Cursor[Any]]) -> None:
        with conn.pipeline() as pipeline:
            cursors.append(conn.execute("SELECT id FROM patients WHERE ssn = %s", (ssn,)))
            pipeline.sync()
            cursors.append(conn.execute("SELECT id FROM patients WHERE address = %s", (clinic.plant(),)))
            cursors.append(conn.execute("UPDATE patients SET city = 'never'"))

    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as conn:
        cursors: list[psycopg.Cursor[Any]] = []
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=r"^phiproxy:"):
            group(conn, cursors)
        assert cursors[0].fetchall() == [(1,)]
        assert conn.execute("SELECT count(*) FROM patients WHERE city = 'never'").fetchone() == (0,)
    clinic.assert_twins_equal()


def told_in_a_pipeline(dsn: str, middle: bytes, value: bytes) -> list[tuple[str, str]]:
    """Send two groups in pipeline mode, the first with ``middle`` between two writes; returns each result's status and SQLSTATE."""
    with psycopg.connect(dsn) as connection:
        return pipelined(connection.pgconn, middle, value)


def pipelined(conn: pq.abc.PGconn, middle: bytes, value: bytes) -> list[tuple[str, str]]:
    conn.enter_pipeline_mode()
    conn.send_query_params(b"UPDATE patients SET city = 'first' RETURNING id", [])
    conn.send_query_params(middle, [value])
    conn.send_prepare(b"behind", b"SELECT id FROM patients WHERE ssn = $1")
    conn.send_query_params(b"UPDATE patients SET city = 'third'", [])
    conn.pipeline_sync()
    conn.send_query_params(b"SELECT city IS NULL OR city NOT IN ('first', 'third') FROM patients", [])
    conn.pipeline_sync()
    told, syncs, fields = [], 0, pq.DiagnosticField.SQLSTATE
    while syncs < 2:
        while conn.is_busy():
            select.select([conn.socket], [], [], 20)  # not in libpq, which would keep Python's other threads from their work
            conn.consume_input()
        result = conn.get_result()
        if result is not None:
            syncs += result.status == pq.ExecStatus.PIPELINE_SYNC
            told.append((pq.ExecStatus(result.status).name, (result.error_field(fields) or b"").decode()))
    conn.exit_pipeline_mode()
    return told


def test_a_refusal_in_the_middle_of_a_group_in_libpq_s_pipeline_mode(clinic: Clinic) -> None:
    """Everything comes in the order and number in which a server's error would bring it; the first write of the group is undone."""
    clinic.seed(2)
    value = clinic.plant().encode()
    middle = b"SELECT id FROM patients WHERE upper(notes) = $1"
    direct = told_in_a_pipeline(clinic.plain_dsn, b"SELECT id FROM patients WHERE no_such_function(notes) = $1", value)
    proxied = told_in_a_pipeline(clinic.proxy_dsn, middle, value)
    assert [status for status, _ in proxied] == [status for status, _ in direct]
    assert [status for status, _ in proxied] == [
        "TUPLES_OK",
        "FATAL_ERROR",
        "PIPELINE_ABORTED",
        "PIPELINE_ABORTED",
        "PIPELINE_SYNC",
        "TUPLES_OK",
        "PIPELINE_SYNC",
    ]
    assert (direct[1][1], proxied[1][1]) == ("42883", "0A000")
    clinic.assert_twins_equal()


def test_executemany_in_bulk(clinic: Clinic) -> None:
    patients = [clinic.new_patient(visits_count=n) for n in range(150)]
    returned = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn, conn.cursor() as cur:
            cur.executemany(INSERT + " RETURNING id, ssn", [p.row() for p in patients], returning=True)
            rows = []
            while True:
                rows += cur.fetchall()
                if not cur.nextset():
                    break
            returned.append(rows)
    assert returned[0] == returned[1] == [(n, p.ssn) for n, p in enumerate(patients, 1)]
    assert clinic.assert_sealed() == 150 * 6
    clinic.assert_twins_equal()


def test_literals_and_composed_sql(clinic: Clinic) -> None:
    clinic.seed(3)
    found = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn:
            query = sql.SQL("SELECT id, notes FROM {} WHERE {} = {}").format(
                sql.Identifier("public", "patients"), sql.Identifier("ssn"), sql.Literal(clinic.patients[1].ssn)
            )
            found.append(conn.execute(query).fetchall())
    assert found[0] == found[1] == [(2, clinic.patients[1].notes)]


def test_what_a_client_learns_of_the_columns(clinic: Clinic) -> None:
    clinic.seed(1)
    told = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn:
            columns = conn.execute("SELECT * FROM patients").description or []
            told.append([(c.name, c.type_code, c.display_size, c.internal_size) for c in columns])
    assert told[0] == told[1]


def test_a_thousand_executions_of_what_is_prepared_leave_nothing(clinic: Clinic) -> None:
    """Each with values of its own; a statement is prepared once, and what is kept of it does not grow."""
    seen = []
    with psycopg.connect(clinic.proxy_dsn, prepare_threshold=0) as conn:
        for start, count in ((0, 200), (1_000, 1_000)):
            for n in range(start, start + count):
                conn.execute("INSERT INTO patients (id, ssn, notes) VALUES (%s, %s, %s)", (n, f"s{n}", "n" * (n % 50)))
                found = conn.execute("SELECT id, notes FROM patients WHERE ssn = %s", (f"s{n}",)).fetchall()
                assert found == [(n, "n" * (n % 50))]
            seen.append(clinic.site.proxy.resident)
        conn.rollback()
    assert seen[1] - seen[0] < 4 << 20
