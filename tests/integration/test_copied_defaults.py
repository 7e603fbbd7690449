"""COPY FROM that leaves out columns with computed DEFAULTs: the same in the plain twin, and in the sealed one through the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import psycopg
import pytest
from psycopg import generators, pq, waiting

from tests.harness.differential import Differential
from tests.integration.test_computed_defaults import STATE, both, site  # noqa: F401 - fixtures
from tests.integration.test_copy import Told, write
from tests.integration.test_psql import psql

# The statement, its data, and where it fails the SQLSTATE.
COPIES: dict[str, tuple[str, tuple[bytes, ...], str]] = {
    "some columns": ("COPY orders (id, at) FROM STDIN", (b"10\t2020-01-01 00:00+00\n11\t\\N\n",), ""),
    "protected ones too": ("COPY orders (id, at, code, copies) FROM STDIN", (b"10\t\\N\tmine\t7\n11\t\\N\t\\N\t\\N\n",), ""),
    "no protected one": ("COPY shifts (id) FROM STDIN", (b"10\n11\n",), ""),
    "in another order": ("COPY shifts (ward, id) FROM STDIN", (b"w\t10\n",), ""),
    "no rows": ("COPY shifts (id) FROM STDIN", (), ""),
    "in pieces": ("COPY shifts (id, ward) FROM STDIN", (b"10\tw", b"ard\n1", b"1\tx"), ""),
    "csv": ("COPY shifts (ward, id) FROM STDIN CSV", (b'"a,b",10\n,11\n',), ""),
    "csv with a header": ("COPY shifts (ward, id) FROM STDIN (FORMAT csv, HEADER match)", (b"ward,id\nw,10\n",), ""),
    "csv with a wrong header": ("COPY shifts (ward, id) FROM STDIN (FORMAT csv, HEADER match)", (b"ward,note\nw,10\n",), "22P04"),
    "one column of csv": ("COPY shifts (id) FROM STDIN CSV", (b"10\n11\n\\.\n",), ""),
    "force": ("COPY shifts (ward, id) FROM STDIN (FORMAT csv, FORCE_NOT_NULL (ward), NULL '')", (b",10\n",), ""),
    "binary": (
        "COPY shifts (id) FROM STDIN (FORMAT binary)",
        (b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\1\0\0\0\4\0\0\0\x0a" + b"\xff\xff",),
        "",
    ),
    "a partitioned table": ("COPY parts (id, ward) FROM STDIN", (b"1\t1\n2\t2\n",), ""),
    "a partition": ("COPY parts_2 (id, ward) FROM STDIN", (b"1\t2\n",), ""),
    "a partition that is not there": ("COPY parts (id, ward) FROM STDIN", (b"1\t1\n2\t3\n",), "23514"),
    "a row that is there": ("COPY shifts (id) FROM STDIN", (b"10\n1\n",), "23505"),
    "too many fields": ("COPY shifts (id) FROM STDIN", (b"10\n11\tx\n",), "22P04"),
    "too few fields": ("COPY shifts (id, ward) FROM STDIN", (b"10\tx\n11\n",), "22P04"),
    "no number": ("COPY shifts (id, ward) FROM STDIN", (b"10\tx\nten\tx\n",), "22P02"),
    "no NULL": ("COPY orders (id, due, at) FROM STDIN", (b"10\t\\N\t\\N\n",), "23502"),
    "a column that is not there": ("COPY shifts (id, nobody) FROM STDIN", (b"10\tx\n",), "42703"),
    "a condition": ("COPY shifts (id, ward) FROM STDIN WHERE id > 10", (b"10\tx\n11\ty\n",), ""),
    "a quoted name": ('COPY public."shifts"("id") FROM STDIN WITH (DELIMITER \'|\')', (b"10\n",), ""),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies(both: Differential, name: str) -> None:  # noqa: F811
    statement, data, sqlstate = COPIES[name]
    plain, proxied = (_copied(dsn, statement, data) for dsn in (both.clinic.plain_dsn, both.clinic.proxy_dsn))
    assert proxied == plain, statement
    assert plain[0] == sqlstate
    for state in STATE:
        both.run(state)


def _copied(dsn: str, statement: str, data: Sequence[bytes]) -> Told:
    """Return what a COPY ends in, in a transaction of its own and then, as a simple Query, without one: the same."""
    with psycopg.connect(dsn) as conn:
        conn.execute("SELECT 1")
        told = write(conn, statement, data)
        conn.rollback()
    with psycopg.connect(dsn, autocommit=True) as conn, conn.cursor() as cursor:
        sqlstate: str | None = ""
        try:
            with cursor.copy(statement.encode()) as copy:
                for piece in data:
                    copy.write(piece)
        except psycopg.Error as error:
            sqlstate = error.sqlstate
        assert (sqlstate, cursor.rowcount if not sqlstate else 0) == (told[0], told[2])
        assert conn.execute("SELECT 1").fetchone() == (1,)
        assert conn.info.transaction_status == pq.TransactionStatus.IDLE
        assert conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,) or told[0]
    return told


def test_a_null_default(both: Differential) -> None:  # noqa: F811
    both.run("ALTER TABLE orders ALTER token SET DEFAULT nullif(upper('a'), 'A')")
    try:
        for statement in (
            "COPY orders (id, at) FROM STDIN",
            "COPY orders (id, at) FROM STDIN (FORMAT csv, DELIMITER E'\\t', NULL 'x')",
        ):
            for dsn in (both.clinic.plain_dsn, both.clinic.proxy_dsn):
                _copied(dsn, statement, (b"%d\t2020-01-01 00:00+00\n" % (20 + len(statement)),))
        for state in STATE:
            both.run(state)
    finally:
        both.run("ALTER TABLE orders ALTER token SET DEFAULT 'none'")


REFUSED_BY_THE_COLUMN = {
    "not null": ("text NOT NULL", "nullif(current_user::text, current_user)", "23502"),
    "a check": ("text CHECK (length(note) < 20)", "repeat('x', 20)", "23514"),
    "what fails": ("text", "(1 / (length(current_user::text) * 0))::text", "22012"),
}


@pytest.mark.parametrize("name", REFUSED_BY_THE_COLUMN)
def test_a_default_that_the_column_does_not_take(both: Differential, name: str) -> None:  # noqa: F811
    kind, default, sqlstate = REFUSED_BY_THE_COLUMN[name]
    both.run(f"CREATE TABLE added (id int PRIMARY KEY, note {kind})")
    try:
        both.run(f"ALTER TABLE added ALTER note SET DEFAULT {default}")
        dsns = (both.clinic.plain_dsn, both.clinic.proxy_dsn)
        plain, proxied = (_copied(dsn, "COPY added (id) FROM STDIN", (b"10\n",)) for dsn in dsns)
        # Where the default itself fails it fails before the first row.
        assert (proxied == plain) if sqlstate != "22012" else (proxied[0] == plain[0])
        assert plain[0] == sqlstate
        both.run("SELECT id, note, length(note) FROM added")
    finally:
        both.run("DROP TABLE added")


@pytest.mark.parametrize(("default", "sqlstate"), [("'M' || repeat('x', 30)", "22001"), ("'M' || repeat(' ', 40)", "")])
def test_a_default_that_is_too_long(both: Differential, default: str, sqlstate: str) -> None:  # noqa: F811
    both.run(f"ALTER TABLE orders ALTER code SET DEFAULT {default}")
    try:
        dsns = (both.clinic.plain_dsn, both.clinic.proxy_dsn)
        plain, proxied = (_copied(dsn, "COPY orders (id, at) FROM STDIN", (b"10\t\\N\n",)) for dsn in dsns)
        assert proxied[::2] == plain[::2]  # the server folds a constant before it reads a line, and says none
        assert plain[0] == sqlstate
        both.run(STATE[0])
    finally:
        both.run("ALTER TABLE orders ALTER code SET DEFAULT 'M' || to_char(current_date, 'YYYY')")


def test_it_is_the_moment_of_the_transaction(both: Differential) -> None:  # noqa: F811
    both.run("ALTER TABLE orders ADD made timestamptz DEFAULT now()")
    try:
        with psycopg.connect(both.clinic.proxy_dsn, autocommit=True) as conn, conn.cursor() as cursor:
            for number in (10, 11):
                conn.execute("BEGIN; SELECT pg_sleep(0.01)" if number == 11 else "SELECT 1")
                with cursor.copy("COPY orders (id) FROM STDIN") as copy:
                    copy.write(b"%d\n" % number)
                assert conn.execute("SELECT at = made FROM orders WHERE id = %s", (number,)).fetchone() == (True,)
            assert conn.execute("SELECT at = now() FROM orders WHERE id = 11").fetchone() == (True,)
            conn.execute("ROLLBACK; DELETE FROM orders WHERE id = 10")
    finally:
        both.run("ALTER TABLE orders DROP made")


def test_the_extended_protocol(both: Differential) -> None:  # noqa: F811
    """Parse, Bind, Describe, Execute and Sync stand before the data; the statement is executed again and again."""
    told = []
    for dsn in (both.clinic.plain_dsn, both.clinic.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn:
            pgconn, ends = conn.pgconn, list[object]()
            pgconn.send_prepare(b"named", b"COPY shifts (id) FROM STDIN")
            waiting.wait(generators.execute(pgconn), pgconn.socket)
            pgconn.send_describe_prepared(b"named")
            (described,) = waiting.wait(generators.execute(pgconn), pgconn.socket)
            assert described.nfields == 0
            for number, reason in ((b"30", None), (b"31", None), (b"1", None), (b"32", b"of the client's own"), (b"33", None)):
                pgconn.send_query_prepared(b"named", [])
                (began,) = waiting.wait(generators.execute(pgconn), pgconn.socket)
                assert (began.status, began.nfields) == (pq.ExecStatus.COPY_IN, 1)
                waiting.wait(generators.copy_to(pgconn, number + b"\n"), pgconn.socket)
                try:
                    ended = waiting.wait(generators.copy_end(pgconn, reason), pgconn.socket)
                    ends.append(ended.command_status)
                except psycopg.Error as error:
                    ends.append((error.sqlstate, error.diag.message_primary))
                assert conn.execute("SELECT 1").fetchone() == (1,)
            told.append(ends)
    assert told[0] == told[1]
    both.run(STATE[1])


def test_a_client_that_gives_up(both: Differential) -> None:  # noqa: F811
    for dsn in (both.clinic.plain_dsn, both.clinic.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn:
            with pytest.raises(ZeroDivisionError), conn.cursor().copy("COPY shifts (id) FROM STDIN") as copy:
                copy.write(b"%d\n" % (40 // (conn.info.port * 0)))
            assert conn.execute("SELECT count(*) FROM shifts").fetchone() == (2,)


def test_other_clients(both: Differential) -> None:  # noqa: F811
    async def copied(dsn: str) -> str:
        conn = await asyncpg.connect(dsn)
        try:
            await conn.copy_records_to_table("shifts", records=[(50, "fifty"), (51, None)], columns=["id", "ward"])
            return str(await conn.copy_to_table("shifts", source=_lines(), columns=["id"], format="text"))
        finally:
            await conn.close()

    async def _lines() -> object:
        for number in range(2000, 6000):
            yield b"%d\n" % number

    told = [asyncio.run(copied(dsn)) for dsn in (both.clinic.plain_dsn, both.clinic.proxy_dsn)]
    assert told == ["COPY 4000"] * 2
    for dsn in (both.clinic.plain_dsn, both.clinic.proxy_dsn):
        assert psql(both.clinic, dsn, "\\copy shifts (id) FROM STDIN\n60\n61\n\\.\nSELECT count(*) FROM shifts;\n")[2] == 0
    both.run(STATE[1])
    both.run("SELECT count(*), count(DISTINCT note) FROM shifts WHERE id > 50")
    envelopes = both.clinic.raw("shifts", "note")
    assert len(set(envelopes)) == len(envelopes) > 4000


REFUSED = {
    "one for each row": (
        "ALTER TABLE shifts ALTER note SET DEFAULT gen_random_uuid()::text",
        "COPY shifts (id) FROM STDIN",
        "INSERT … SELECT",
    ),
    "beside others": ("SELECT 1", "COPY shifts (id) FROM STDIN; SELECT 1", "one by one"),
    "a file": ("SELECT 1", "COPY shifts (id) FROM '/tmp/x'", "STDIN"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(both: Differential, name: str) -> None:  # noqa: F811
    before, statement, hint = REFUSED[name]
    with psycopg.connect(both.clinic.proxy_dsn) as conn:
        conn.execute(before.encode())
        with pytest.raises(psycopg.errors.FeatureNotSupported, match=hint):
            conn.execute(statement.encode())
