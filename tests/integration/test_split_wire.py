"""A split statement among others: in pipelines and transactions, in parts, cancelled, too long, and under a session's settings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from pathlib import Path

import asyncpg
import psycopg
import pytest
from psycopg import pq

from phiproxy.sql.text.log_text import without_values
from tests.harness import results
from tests.harness.clinic import INSERT, Clinic
from tests.harness.differential import Differential, Protocol
from tests.harness.waiting import has_ended, until

SORTED = "SELECT id, full_name FROM patients ORDER BY full_name"
# Of thirty rows it takes the engine minutes.
SLOW = (
    "SELECT count(*) FROM patients a, patients b, patients c, patients d, patients e, patients f"
    " WHERE a.full_name || b.full_name || c.full_name || d.full_name || e.full_name || f.full_name = 'nobody'"
)
PROTOCOLS: tuple[Protocol, ...] = ("simple", "extended")
Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def many(split_clinic: Clinic) -> Clinic:
    """Thirty patients, of whom one is planted: what is searched for afterwards is searched for in all files of an engine."""
    split_clinic.seed(1)
    with psycopg.connect(split_clinic.proxy_dsn) as conn, conn.cursor().copy("COPY patients (full_name) FROM STDIN") as copy:
        for n in range(29):
            copy.write_row((f"Nobody {n}",))
    return split_clinic


def status(conn: Connection) -> pq.TransactionStatus:
    return conn.info.transaction_status


def test_a_pipeline(pair: tuple[Connection, Connection], split_clinic: Clinic) -> None:
    patient = split_clinic.new_patient()
    answers = []
    for conn in pair:
        with conn.pipeline():
            cursors = [conn.execute("SELECT 1"), conn.execute(INSERT, patient.row()), conn.execute(SORTED)]
            cursors += [
                conn.execute("DELETE FROM patients WHERE ssn = %s", (patient.ssn,)),
                conn.execute(SORTED + " LIMIT %s", (2,)),
            ]
            cursors += [conn.execute("SELECT 2")]
        answers.append([(c.rowcount, c.fetchall() if c.description else None) for c in cursors])
    assert answers[0] == answers[1]
    assert answers[1][2][0] == 6
    split_clinic.assert_twins_equal()


def _failing_pipeline(conn: Connection) -> None:
    insert = "INSERT INTO patients (city) VALUES (%s)"
    failing = "SELECT full_name || 1 / (id - 3) FROM patients WHERE id = %s"
    with conn.transaction(), conn.pipeline():
        for statement, value in ((insert, "Nowhere"), (failing, 3), (insert, "Nowhere")):
            conn.execute(statement, (value,))


def test_a_pipeline_that_fails_in_the_engine(pair: tuple[Connection, Connection]) -> None:
    said = []
    for conn in pair:
        with pytest.raises(psycopg.errors.DivisionByZero):
            _failing_pipeline(conn)
        said.append((status(conn), conn.execute("SELECT count(*) FROM patients").fetchone()))
    assert said[0] == said[1]
    assert said[1] == (pq.TransactionStatus.IDLE, (5,))


def test_a_transaction_with_savepoints(pair: tuple[Connection, Connection]) -> None:
    said = []
    for conn in pair:
        steps: list[object] = []
        conn.execute("BEGIN")
        conn.execute("UPDATE patients SET full_name = 'Aaron' WHERE id = 4")
        steps.append(conn.execute(SORTED + " LIMIT 1").fetchall())
        conn.execute("SAVEPOINT s")
        for statement in ("SELECT full_name || 1 / (id - 3) FROM patients", "SELECT full_name || 1 / (id - %s) FROM patients"):
            with pytest.raises(psycopg.errors.DivisionByZero):
                conn.execute(statement, (3,) if "%s" in statement else None)
            steps.append(status(conn))
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                conn.execute(SORTED)
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                conn.execute(SORTED + " LIMIT %s", (1,))
            conn.execute("ROLLBACK TO s")
            steps.append(status(conn))
        steps.append(conn.execute(SORTED + " LIMIT %s", (2,)).fetchall())
        conn.execute("ROLLBACK")
        steps += [status(conn), conn.execute(SORTED + " LIMIT 1").fetchall()]
        said.append(steps)
    assert said[0] == said[1]


def test_in_parts(split_clinic: Clinic) -> None:
    split_clinic.seed(12)

    async def parts(dsn: str) -> list[object]:
        conn = await asyncpg.connect(dsn)
        try:
            async with conn.transaction():
                got: list[object] = []
                cursor = await conn.cursor(SORTED + ", id")
                got.append(await cursor.fetch(2))
                other = await conn.cursor("SELECT full_name FROM patients WHERE full_name > $1 ORDER BY 1 DESC", "A")
                got += [await other.fetch(3), await cursor.fetch(4), await conn.fetchval("SELECT count(*) FROM patients")]
                got += [await cursor.fetch(100), await cursor.fetch(1), await other.fetch(1)]
            async with conn.transaction():
                got.append([row async for row in conn.cursor(SORTED + ", id", prefetch=5)])
            got.append(await conn.fetch(SORTED + ", id LIMIT 3"))
            return got
        finally:
            await conn.close()

    plain, proxied = (asyncio.run(parts(dsn)) for dsn in (split_clinic.plain_dsn, split_clinic.proxy_dsn))
    assert proxied == plain
    # four sessions of the engine are there again
    asyncio.run(_at_once(split_clinic.proxy_dsn, 4))


async def _at_once(dsn: str, count: int) -> None:
    conns = await asyncio.gather(*(asyncpg.connect(dsn) for _ in range(count)))
    try:
        assert len(await asyncio.gather(*(conn.fetch(SORTED) for conn in conns))) == count
    finally:
        await asyncio.gather(*(conn.close() for conn in conns))


NOT_REPORTED = ("SET bytea_output TO escape", "SET extra_float_digits TO -8", "SET lc_monetary TO 'C'")


@pytest.mark.parametrize("before", NOT_REPORTED)
def test_settings_that_nobody_reports(both: Differential, before: str) -> None:
    """Of some settings the server tells nobody: they are asked for at each execution."""
    statement = (
        "SELECT substring(full_name::bytea FROM 2), length(full_name)::money, sqrt(length(full_name)) FROM patients ORDER BY id"
    )
    for protocol in PROTOCOLS:
        both.run(before, protocol=protocol)
        assert both.run(statement, protocol=protocol).status == "TUPLES_OK"
    both.run("BEGIN")
    both.run("SET LOCAL bytea_output TO hex")
    assert both.run(statement).status == "TUPLES_OK"
    both.run("ROLLBACK")
    assert both.run(statement).status == "TUPLES_OK"


@pytest.mark.parametrize(("encoding", "name"), [("LATIN1", "M\u00e4r"), ("SJIS", "M\u4e2d"), ("UTF8", "M\u00e4r \u4e2d")])
def test_encodings(both: Differential, encoding: str, name: str) -> None:
    both.run("UPDATE patients SET full_name = $1", (name,))
    for protocol in PROTOCOLS:
        both.run(f"SET client_encoding TO {encoding}", protocol=protocol)
        statement = "SELECT upper(full_name), full_name || '!' FROM patients ORDER BY id"
        assert both.run(statement, protocol=protocol).status == "TUPLES_OK"


def test_more_rows_than_the_limit(split_clinic: Clinic) -> None:
    with psycopg.connect(split_clinic.proxy_dsn, autocommit=True) as conn:
        planted = split_clinic.plant()
        with conn.cursor().copy("COPY patients (full_name) FROM STDIN") as copy:
            for n in range(900):
                copy.write_row((f"{n} {planted}",))
        for statement, values in ((SORTED, None), (SORTED + " LIMIT %s", (1,))):
            with pytest.raises(psycopg.errors.ProgramLimitExceeded) as refused:
                conn.execute(statement, values)
            assert "compute.limits.rows" in str(refused.value)
            assert status(conn) == pq.TransactionStatus.IDLE
        assert conn.execute("SELECT count(*) FROM patients").fetchone() == (900,)
        with conn.transaction():
            with pytest.raises(psycopg.errors.ProgramLimitExceeded), conn.transaction():
                conn.execute(SORTED)
            assert conn.execute("SELECT count(*) FROM patients").fetchone() == (900,)


@pytest.mark.parametrize("extended", [False, True])
def test_cancelled_while_the_engine_computes(many: Clinic, *, extended: bool) -> None:
    with psycopg.connect(many.proxy_dsn) as conn:
        timer = threading.Timer(1.0, conn.cancel)
        conn.execute("SELECT 1")  # BEGIN is not what is cancelled
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled, match="user request"):
            conn.execute(SLOW + (" AND a.id <> %s" if extended else ""), (0,) if extended else None)
        timer.join()
        assert status(conn) == pq.TransactionStatus.INERROR
        conn.rollback()
        assert len(conn.execute(SORTED).fetchall()) == 30


def test_statement_timeout_reaches_the_engine(many: Clinic) -> None:
    with psycopg.connect(many.proxy_dsn, autocommit=True) as conn:
        conn.execute("SET statement_timeout TO '2s'")
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            conn.execute(SLOW)
        conn.execute("RESET statement_timeout")
        assert len(conn.execute(SORTED).fetchall()) == 30


def _postmaster(directory: Path) -> int:
    """Return the engine's process; a proxy that another test has killed may have left the files of its own."""
    pids = [int(path.read_text().split()[0]) for path in directory.glob("*/data/postmaster.pid")]
    (living,) = [pid for pid in pids if not has_ended(pid)]
    return living


def test_an_engine_that_is_killed(many: Clinic, engine_directory: Path) -> None:
    with psycopg.connect(many.proxy_dsn, autocommit=True) as conn:
        assert len(conn.execute(SORTED).fetchall()) == 30
        timer = threading.Timer(1.0, lambda: os.kill(_postmaster(engine_directory), signal.SIGKILL))
        timer.start()
        with pytest.raises(psycopg.errors.CannotConnectNow):
            conn.execute(SLOW)
        for _ in range(600):
            try:
                rows = conn.execute(SORTED).fetchall()
                break
            except psycopg.errors.CannotConnectNow:
                time.sleep(0.2)
        assert len(rows) == 30


def test_a_client_that_goes_away(many: Clinic) -> None:
    for _ in range(5):  # more than there are sessions of the engine
        conn = psycopg.connect(many.proxy_dsn, autocommit=True)
        conn.pgconn.send_query(SLOW.encode())
        conn.pgconn.flush()
        time.sleep(0.3)
        conn.close()
    with psycopg.connect(many.proxy_dsn, autocommit=True) as conn:
        assert len(conn.execute(SORTED).fetchall()) == 30


def test_several_statements_in_one_string(both: Differential) -> None:
    changing = "UPDATE patients SET city = 'X' WHERE id = 1"
    both.run(f"SELECT 1; {SORTED}; {changing}; SELECT upper(full_name) FROM patients", protocol="simple")
    both.run("SELECT count(*) FROM patients WHERE city = 'X'", protocol="simple")
    both.run(f"UPDATE patients SET city = 'Y'; SELECT full_name || 1 / (id - 2) FROM patients; {SORTED}", protocol="simple")
    assert both.run("SELECT count(*) FROM patients WHERE city = 'Y'", protocol="simple").text == [("0",)]
    both.run("SELECT 1; SELECT upper(full_name) || nothing FROM patients", protocol="simple")
    both.run(f"BEGIN; UPDATE patients SET city = 'Z' WHERE id = 1; {SORTED}", protocol="simple")
    both.run("ROLLBACK", protocol="simple")
    both.run(f"; {SORTED};", protocol="simple")
    for string in (
        f"BEGIN; {changing}; {SORTED}; UPDATE patients SET notes = notes || '!' WHERE id = 1; COMMIT",
        f"{SORTED}; COMMIT",
        f"START TRANSACTION ISOLATION LEVEL SERIALIZABLE; {SORTED}; END",
        f"BEGIN; SAVEPOINT a; UPDATE patients SET notes = upper(notes); {SORTED}",
        f"ROLLBACK TO a; SELECT max(notes) FROM patients; {SORTED}; COMMIT",
        f"{SORTED}; SAVEPOINT a",
        "BEGIN; UPDATE patients SET notes = 'lost' || notes; SELECT upper(notes)::int FROM patients; COMMIT",
        f"ROLLBACK; {SORTED}",
        "SELECT max(notes), max(city) FROM patients",
    ):
        both.run(string, protocol="simple")
    assert both.refused(f"BEGIN; {SORTED}; COMMIT; {SORTED}", protocol="simple").hint == "Send them one by one."


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("statement", [
    "SELECT id, ts_headline('english', full_name, to_tsquery('english', 'a')) FROM patients ORDER BY id",
    f"SELECT upper(full_name) AS {'a' * 70} FROM patients ORDER BY id",
    "UPDATE patients SET notes = notes || to_tsquery('english', 'a')::text",
    "EXPLAIN (COSTS OFF, FORMAT json) SELECT upper(full_name) || to_tsquery('english', 'a')::text FROM patients",
])  # fmt: skip
def test_notices_of_the_engine(split_clinic: Clinic, statement: str, protocol: Protocol) -> None:
    split_clinic.seed()
    told = []
    for dsn in (split_clinic.plain_dsn, split_clinic.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn:
            notices: list[str] = []
            conn.add_notice_handler(lambda said, into=notices: into.append(str(said.message_primary)))  # type: ignore[misc]
            for prepare in (False, True):
                if protocol == "simple":
                    outcome = results.simple(conn.pgconn, statement)[-1]
                elif prepare:
                    outcome = results.prepared(conn.pgconn, statement, (), results.Form())[0][-1]
                else:
                    outcome = results.extended(conn.pgconn, statement, (), results.Form())[-1]
                assert outcome.sqlstate is None
            told.append((notices, outcome.fields, outcome.rows if "EXPLAIN" not in statement else len(outcome.rows)))
    assert told[0] == told[1]
    assert told[0][0]


LONG = "a" * 70
NOTED = (
    f"PREPARE q AS SELECT upper(full_name) AS {LONG} FROM patients ORDER BY id",
    "EXECUTE q",
    "EXECUTE q",
    f"SELECT upper(full_name) AS {LONG}, nothing FROM patients",
    f"SELECT upper(full_name) AS {LONG}, 1 / (id - id) FROM patients",
    f"PREPARE p AS SELECT upper(full_name) AS {LONG}, nothing FROM patients",
    f"UPDATE patients {LONG} SET notes = upper(notes) WHERE {LONG}.id < 0 RETURNING upper({LONG}.ssn) AS {LONG}",
    f"""SELECT upper(full_name) AS U&"{LONG}\\z" UESCAPE '!' FROM patients""",
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_notices_of_the_parser_come_once_and_before_an_error(split_clinic: Clinic, protocol: Protocol) -> None:
    split_clinic.seed()
    told = []
    for dsn in (split_clinic.plain_dsn, split_clinic.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn:
            said: list[object] = []
            conn.add_notice_handler(lambda notice, into=said: into.append(notice.sqlstate))  # type: ignore[misc]
            for statement in NOTED:
                rest = ((), results.Form()) if protocol == "extended" else ()
                outcome = getattr(results, protocol)(conn.pgconn, statement, *rest)[-1]
                said.append((outcome.sqlstate, outcome.position))
            told.append(said)
    assert told[0] == told[1]
    noted, column = "42622", NOTED[3].index("nothing") + 1
    assert told[1] == [
        noted, (None, None), (None, None), (None, None), noted, ("42703", column), noted, ("22012", None),
        noted, ("42703", NOTED[5].index("nothing") + 1), *[noted] * 4, (None, None), noted, (None, None),
    ]  # fmt: skip


def test_the_log_has_the_client_s_statement_and_its_sqlstate(split_clinic: Clinic) -> None:
    split_clinic.seed()
    log = split_clinic.site.proxy.log_path
    before = log.stat().st_size
    statements = (
        ("UPDATE visits SET mrn = mrn || 'too long for it' WHERE mrn > 'A'", "22001"),
        ("INSERT INTO visits (id, mrn) VALUES (900, upper('too long for it'))", "22001"),
        ("SELECT upper(full_name) || nothing FROM patients", "42703"),
        ("SELECT abs(upper(full_name) || '') FROM patients", "42883"),
        ("SELECT (upper(full_name) || 'x')::int FROM patients", "22P02"),
    )
    with psycopg.connect(split_clinic.proxy_dsn, autocommit=True) as conn:
        for protocol in (results.simple, results.extended):
            for statement, state in statements:
                rest = ((), results.Form()) if protocol is results.extended else ()
                assert protocol(conn.pgconn, statement, *rest)[-1].sqlstate == state

    def told() -> list[dict[str, str]]:
        with log.open("rb") as file:
            file.seek(before)
            return [json.loads(line) for line in file if b'"statement refused"' in line and line.endswith(b"\n")]

    until(lambda: {"22001", "42703"} <= {line["sqlstate"] for line in told()}, "they are not told")
    lines = told()
    shown = {without_values(statement.encode()): state for statement, state in statements}
    assert all(shown.get(line["shape"]) == line["sqlstate"] for line in lines), lines
