"""COPY both ways: every format and option on the plaintext twin directly and on the sealed one through the proxy."""

from __future__ import annotations

import io
import re
import select
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg import generators, waiting

from tests.harness.clinic import Clinic
from tests.integration.test_psql import psql

HOSTILE = [
    "tab\there",
    "new\nline",
    "car\rriage",
    "back\\slash",
    "\\N",
    "\\.",
    'quo"te',
    "a,b",
    "",
    " ",
    "é€😀",
    "\b\f\v\x01",
    "x|y;z'",
]
FORMATS = [
    "",
    "DELIMITER '|' NULL ''",
    "(FORMAT csv)",
    "CSV HEADER",
    "(FORMAT csv, HEADER, DELIMITER ';', QUOTE '''', ESCAPE '\\', NULL 'NULL')",
    "(FORMAT csv, DELIMITER '0', QUOTE 'x')",
    "(FORMAT binary)",
]


Told = tuple[str, str, int]


def read(conn: psycopg.Connection[Any], statement: str) -> list[bytes]:
    """Return the messages of a COPY TO."""
    with conn.cursor() as cur, cur.copy(statement.encode()) as copy:
        return [bytes(data) for data in copy]


def write(conn: psycopg.Connection[Any], statement: str, data: Sequence[bytes]) -> Told:
    """Return what a COPY FROM ends in: SQLSTATE, place, number of rows."""
    with conn.cursor() as cur:
        try:
            with conn.transaction(), cur.copy(statement.encode()) as copy:
                for piece in data:
                    copy.write(piece)
        except psycopg.Error as error:
            found = re.match(r"COPY \w+, line \d+(, column \w+)?", error.diag.context or "")
            return error.sqlstate or "", found[0] if found else "", 0
        return "", "", cur.rowcount


class Twins:
    """Both databases, each in one transaction that is rolled back at the end of a round."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        self.conns = [psycopg.connect(dsn) for dsn in (clinic.plain_dsn, clinic.proxy_dsn)]

    def read(self, statement: str) -> list[bytes]:
        """COPY out of both, assert that the client sees the same messages, return them."""
        plain, proxied = (read(conn, statement) for conn in self.conns)
        assert proxied == plain, statement
        return proxied

    def write(self, statement: str, *data: bytes) -> Told:
        """COPY into both twins, assert that the client sees the same and that both then hold the same; return it."""
        plain, proxied = (write(conn, statement, data) for conn in self.conns)
        assert proxied == plain, statement
        self.read("COPY (SELECT * FROM patients ORDER BY id) TO STDOUT")
        return proxied

    def execute(self, statement: str) -> None:
        for conn in self.conns:
            conn.execute(statement.encode())

    def undo(self) -> None:
        """Roll back what was done."""
        for conn in self.conns:
            conn.rollback()


@pytest.fixture
def twins(clinic: Clinic) -> Iterator[Twins]:
    found = Twins(clinic)
    yield found
    for conn in found.conns:
        conn.close()


def plant_hostile(clinic: Clinic) -> None:
    """Store values that the formats must escape, with NULLs between them."""
    values = [clinic.plant() + hostile for hostile in HOSTILE]
    rows = [(value, None if n % 3 else value, hostile) for n, (value, hostile) in enumerate(zip(values, HOSTILE, strict=True))]
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn, conn.cursor() as cur:
            cur.executemany("INSERT INTO patients (notes, ssn, address, city) VALUES (%s, %s, %s, %s)", [(*r, r[2]) for r in rows])


def test_out_and_in_again(twins: Twins) -> None:
    plant_hostile(twins.clinic)
    ordered = "(SELECT * FROM patients ORDER BY id)"
    for options in FORMATS:
        twins.read(f"COPY patients TO STDOUT {options}")
        stream = b"".join(twins.read(f"COPY {ordered} TO STDOUT {options}"))
        twins.execute("DELETE FROM patients")
        assert twins.write(f"COPY patients FROM STDIN {options}", stream)[2] == len(HOSTILE)
        assert b"".join(twins.read(f"COPY {ordered} TO STDOUT {options}")) == stream
        twins.undo()


def test_any_cut_of_the_stream(twins: Twins) -> None:
    plant_hostile(twins.clinic)
    for options in ("", "(FORMAT csv, HEADER)", "(FORMAT binary)"):
        for size in (1, 7, 8192):
            stream = b"".join(twins.read(f"COPY (SELECT id + 100, notes, ssn, city FROM patients) TO STDOUT {options}"))
            pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
            assert twins.write(f"COPY patients (id, notes, ssn, city) FROM STDIN {options}", *pieces) == ("", "", len(HOSTILE))
            twins.undo()


READS = [
    "COPY patients (city, ssn, id) TO STDOUT",
    "COPY (SELECT ssn, upper(city), NULL FROM patients ORDER BY id LIMIT 2) TO STDOUT (FORMAT csv, HEADER)",
    "COPY (SELECT p.full_name, v.diagnosis FROM patients p JOIN visits v ON v.mrn = p.mrn ORDER BY v.id) TO STDOUT (FORMAT binary)",
    "COPY (SELECT id, ssn FROM patients WHERE ssn = '{ssn}') TO STDOUT",
    "COPY patients (ssn, address) TO STDOUT (FORMAT csv, FORCE_QUOTE (address))",
    "COPY patients (ssn, address) TO STDOUT (FORMAT csv, FORCE_QUOTE *, NULL 'nil')",
    "COPY (SELECT ssn FROM patients) TO STDOUT (FORMAT csv)",
    "COPY (UPDATE patients SET city = 'x' RETURNING ssn, city) TO STDOUT",
    "COPY (DELETE FROM visits v USING patients p WHERE p.id = v.patient_id AND p.ssn = '{ssn}' RETURNING v.diagnosis) TO STDOUT",
    "COPY patients (id, city) TO STDOUT",
]


def test_what_is_read(twins: Twins) -> None:
    twins.clinic.seed(4)
    for statement in READS:
        assert twins.read(statement.format(ssn=twins.clinic.patients[1].ssn))


def test_bytea_output_escape(twins: Twins) -> None:
    plant_hostile(twins.clinic)
    twins.execute("SET bytea_output = escape")
    for options in ("", "(FORMAT csv)"):
        twins.read(f"COPY patients TO STDOUT {options}")


# What follows is written with @ where a planted value shall stand.
STREAMS = [
    ("(id, ssn) FROM STDIN", b"1\t@\n2\t\\N\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n2\t@"),
    ("(id, ssn) FROM STDIN", b"1\t@\r\n2\t@\r\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n\\.\n2\t@ behind the end\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n2\t@\textra\n3\t@\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n2\n3\t@\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n\n3\t@\n"),
    ("(ssn, id) FROM STDIN", b"@\t1\n\n"),
    ("(city, ssn) FROM STDIN", b"a\t@\n\n"),
    ("(active, ssn) FROM STDIN (NULL '')", b"t\t@\n\n"),
    ("(id, ssn) FROM STDIN (FORMAT csv)", b"1,@\n\n3,@\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n2\t@\\.\n3\t@\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n\\."),
    ("(id, ssn) FROM STDIN", b"1\t@\n\\.\r\n3\t@\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n2\t@\\"),
    ("(ssn, city) FROM STDIN", b"@\ta\\"),
    ("(ssn) FROM STDIN (FORMAT csv)", b"@\n\\."),
    ("(id, ssn) FROM STDIN", b"1\t@\nx\t@\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n1\t@\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\\x41\\101\\t\\q\n2\t@\\\nb\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n2\t@\rx\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n2\t@\\.x\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n2\t@\\000\n"),
    ("(id, ssn) FROM STDIN", b"1\t@\n2\t@\xff\n"),
    ("(id, ssn) FROM STDIN", b""),
    ("(id, phone) FROM STDIN", b"1\t@\n2\t@ is much too long\n3\t@\n"),
    ("(id, mrn) FROM STDIN", b"1\tPHI-12345678   \n2\t\n"),
    ("(ssn) FROM STDIN", b"@\n\n@\n"),
    ("(id, ssn, city) FROM STDIN (DELIMITER ',', NULL 'nil')", b"1,@,a\n2,nil,nil\n3,@\\,b,\n"),
    ("(id, ssn) FROM STDIN (HEADER)", b"@ is no name\t@\n1\t@\n"),
    ("(id, ssn) FROM STDIN (HEADER match)", b"id\tssn\n1\t@\n"),
    ("(id, ssn) FROM STDIN (HEADER match)", b"id\t@\n1\t@\n"),
    ("(id, ssn) FROM STDIN (HEADER match)", b"id\n1\t@\n"),
    ("(id, ssn) FROM STDIN (FORMAT csv)", b'1,@\n2,"@\n""two"" lines"\n3,\n4,""\n5,a"b,@"c\n'),
    ("(id, ssn) FROM STDIN (FORMAT csv)", b'1,@\n2,"@\n'),
    ("(id, ssn) FROM STDIN (FORMAT csv)", b'1,"@\n\n"\n2,@,3\n'),
    ("(id, ssn) FROM STDIN (FORMAT csv)", b"1,@\r\n2,@\n"),
    ("(id, ssn) FROM STDIN (FORMAT csv, HEADER, FORCE_NULL (ssn), FORCE_NOT_NULL (city))", b"a,b\n"),
    ("(id, ssn, address) FROM STDIN (FORMAT csv, FORCE_NULL (ssn), FORCE_NOT_NULL (address))", b'1,"",\n2,@,@\n3,,""\n'),
    ("(id, ssn, address) FROM STDIN (FORMAT csv, FORCE_NULL (ssn), FORCE_NOT_NULL (ssn, address))", b'1,"",\n2,@,@\n3,,""\n'),
    ("(id, ssn) FROM STDIN WHERE id > 1", b"1\t@\n2\t@\n"),
    ("(id, nothing) FROM STDIN", b"1\t@\n"),
    ("(id, ssn, id) FROM STDIN", b"1\t@\n"),
    ("(id, ssn) FROM STDIN (DELIMITER 'ab')", b"1\t@\n"),
    ("(id, ssn) FROM STDIN (FORMAT binary)", b"1\t@\n"),
]  # fmt: skip


def planted(clinic: Clinic, data: bytes) -> bytes:
    return re.sub(b"@", lambda _: clinic.plant().encode(), data)


def test_what_is_written(twins: Twins) -> None:
    for statement, data in STREAMS:
        twins.write(f"COPY patients {statement}", planted(twins.clinic, data))
        twins.undo()
    assert not twins.clinic.oracle.contains(twins.clinic.site.tap.upstream_bytes()), "a planted value went upstream"


def test_unprotected_columns_of_a_protected_table(twins: Twins) -> None:
    assert twins.write("COPY patients (id, city) FROM STDIN", b"1\ta\n2\tb\n") == ("", "", 2)


def test_a_row_in_many_pieces_and_many_rows_in_one(twins: Twins) -> None:
    long = twins.clinic.plant() * 20_000
    stream = b"".join(b"%d\t%s\n" % (n, long.encode()) for n in range(3))
    pieces = [stream[i : i + 9999] for i in range(0, len(stream), 9999)]
    assert twins.write("COPY patients (id, notes) FROM STDIN", *pieces)[2] == 3
    # In one message, which is more than is sent on at once.
    rows = b"".join(b"%d\t%s\n" % (n, long[: 400 + n % 7].encode()) for n in range(10, 2000))
    assert twins.write("COPY patients (id, notes) FROM STDIN", rows)[2] == 1990


def test_the_client_gives_up(clinic: Clinic) -> None:
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn, conn.cursor() as cur:
            with pytest.raises(ZeroDivisionError), cur.copy("COPY patients (ssn) FROM STDIN") as copy:
                copy.write(b"%s\n%s" % (clinic.plant().encode(), clinic.plant().encode() * (1 // 0)))
            assert conn.execute("SELECT count(*) FROM patients").fetchone() == (0,)


def cancelled(conn: psycopg.Connection[Any], rows: bytes) -> None:
    with conn.cursor().copy("COPY visits (room, diagnosis) FROM STDIN") as copy:
        copy.write(rows)
        conn.cancel_safe(timeout=240)  # step by step: the tap is a thread of this process
        while not select.select([conn.pgconn.socket], [], [], 0.01)[0]:
            copy.write(rows)  # the server looks up at the next row


def test_another_connection_cancels(clinic: Clinic) -> None:
    rows = f"1\t{clinic.plant()}\n".encode() * 2000  # more than psycopg keeps
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn:
            with pytest.raises(psycopg.errors.QueryCanceled):
                cancelled(conn, rows)
            assert conn.execute("SELECT count(*) FROM visits").fetchone() == (0,)


def test_in_a_transaction_with_other_statements(clinic: Clinic) -> None:
    value = clinic.plant()
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn, conn.cursor() as cur:
            with conn.transaction():
                with cur.copy("COPY patients (id, ssn) FROM STDIN") as copy:
                    copy.write_row((1, value))
                assert conn.execute("SELECT id FROM patients WHERE ssn = %s", (value,)).fetchall() == [(1,)]
                with (
                    pytest.raises(psycopg.errors.BadCopyFileFormat),
                    conn.transaction(),
                    cur.copy("COPY patients (id, ssn) FROM STDIN") as copy,
                ):
                    copy.write(f"2\t{clinic.plant()}\t3\n")
            assert conn.execute("SELECT id FROM patients").fetchall() == [(1,)]
    clinic.assert_twins_equal()


def rows_of(clinic: Clinic, count: int) -> Iterator[tuple[int, str, str | None]]:
    for n in range(count):
        yield n, clinic.plant("name"), None if n % 2 else clinic.plant()


@pytest.mark.parametrize("binary", [False, True])
def test_rows_of_psycopg(clinic: Clinic, binary: bool) -> None:
    rows = list(rows_of(clinic, 20))
    told = []
    options = "(FORMAT binary)" if binary else ""
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn, conn.cursor() as cur:
            with cur.copy(f"COPY patients (id, full_name, notes) FROM STDIN {options}") as copy:
                copy.set_types(["int4", "text", "text"])
                for row in rows:
                    copy.write_row(row)
            with cur.copy(f"COPY (SELECT id, full_name, notes FROM patients) TO STDOUT {options}") as copy:
                copy.set_types(["int4", "text", "text"])
                told.append(list(copy.rows()))
    assert told[0] == told[1] == rows
    clinic.assert_twins_equal()


def test_a_value_that_was_tampered_with_ends_the_result(clinic: Clinic) -> None:
    clinic.seed(3)
    with clinic.superuser() as conn:
        conn.execute("UPDATE patients SET ssn = set_byte(ssn, 60, 255 - get_byte(ssn, 60)) WHERE id = 2")
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as conn, conn.cursor() as cur:
        with pytest.raises(psycopg.errors.DataCorrupted, match=r"^phiproxy:"), cur.copy("COPY patients TO STDOUT") as copy:
            list(copy)
        assert conn.execute("SELECT count(*) FROM patients").fetchone() == (3,)


async def test_copy_of_asyncpg(clinic: Clinic) -> None:
    # Not with arguments: asyncpg would have the server quote them, in a statement that names nothing protected.
    rows = list(rows_of(clinic, 30))
    csv = "".join(f'{n},"{clinic.plant("name")}"\n' for n in range(100, 110)).encode()
    told = []
    for dsn in (clinic.plain_dsn, clinic.proxy_dsn):
        conn = await asyncpg.connect(dsn)
        columns = ["id", "full_name", "notes"]
        said: list[object] = [await conn.copy_records_to_table("patients", records=rows, columns=columns)]
        said.append(await conn.copy_to_table("patients", source=io.BytesIO(csv), columns=["id", "ssn"], format="csv"))
        for form in ("text", "csv", "binary"):
            out = io.BytesIO()
            said.append(await conn.copy_from_table("patients", output=out, columns=columns, format=form))
            said.append(out.getvalue())
        out = io.BytesIO()
        said.append(await conn.copy_from_query("SELECT ssn, full_name FROM patients ORDER BY id", output=out))
        told.append([*said, out.getvalue()])
        await conn.close()
    assert told[0] == told[1]
    clinic.assert_twins_equal()


def test_copy_of_psql(clinic: Clinic) -> None:
    lines = "".join(f"{n}\t{clinic.plant()}\t\\N\n" for n in range(5))
    script = (
        f"\\copy patients (id, ssn, notes) FROM STDIN\n{lines}\\.\n"
        f"COPY patients (id, ssn) FROM STDIN (FORMAT csv);\n7,{clinic.plant()}\n\\.\n"
        "\\copy patients TO STDOUT CSV HEADER\nCOPY (SELECT ssn FROM patients ORDER BY id) TO STDOUT;\n"
    )
    plain, proxied = psql(clinic, clinic.plain_dsn, script), psql(clinic, clinic.proxy_dsn, script)
    assert plain[1:] == ("", 0)
    assert proxied == plain
    clinic.assert_twins_equal()


def test_memory_does_not_grow_with_the_data(clinic: Clinic) -> None:
    line = b"\t%s\t%s\n" % (clinic.plant().encode(), b"n" * 200)
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as conn, conn.cursor() as cur:
        seen = []
        for round_, count in enumerate((2_000, 40_000)):
            with cur.copy("COPY patients (id, ssn, city) FROM STDIN") as copy:
                for start in range(0, count, 500):
                    copy.write(b"".join(b"%d%s" % (round_ * 1_000_000 + n, line) for n in range(start, start + 500)))
            size = 0
            with cur.copy("COPY patients TO STDOUT") as out:
                for data in out:
                    size += len(data)
            seen.append((size, clinic.site.proxy.resident))
        conn.execute("TRUNCATE patients CASCADE")
    assert seen[1][0] > 8_000_000
    assert seen[1][1] - seen[0][1] < 8 << 20


SKIPPING = [
    ("(id, phone) FROM STDIN (ON_ERROR ignore)", b"1\t@\n2\t@ is much too long\n3\t@\nx\t@\n4\t\\N\n", 17),
    ("(id, mrn) FROM STDIN (FORMAT csv, ON_ERROR ignore, LOG_VERBOSITY verbose)", b"1,@ is much too long\n2,\n", 17),
    ("(id, phone) FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 1)", b"1\t@ is much too long\n2\t@ is much too long\n", 18),
    ("(id, ssn) FROM STDIN (DEFAULT 'D')", b"1\t@\n2\tD\nD\t@\n", 16),
    ("(id, ssn) FROM STDIN (FORMAT csv, DEFAULT 'D')", b'1,D\n2,"D"\nD,@\n', 16),
    ("(ssn) FROM STDIN (FORMAT csv)", b"@\n\\.\n@\n", 14),
]


def test_options_of_newer_servers(twins: Twins) -> None:
    version = twins.conns[0].info.server_version // 10000
    for statement, data, since in SKIPPING:
        if version >= since:
            notices: list[list[str]] = [[], []]
            for conn, said in zip(twins.conns, notices, strict=True):
                conn.add_notice_handler(lambda diag, said=said: said.append((diag.message_primary or "").partition(": ")[0]))  # type: ignore[misc]
            twins.write(f"COPY patients {statement}", planted(twins.clinic, data))
            assert notices[1] == notices[0], statement
            twins.undo()
    assert not twins.clinic.oracle.contains(twins.clinic.site.tap.upstream_bytes()), "a planted value went upstream"


@pytest.mark.parametrize("table", ["patients (ssn)", "visits (room)"])
def test_the_reason_for_which_a_client_ends_a_copy_is_not_sent_on(clinic: Clinic, table: str) -> None:
    """psycopg gives the text of the exception that was raised, in which a value may be; the server would log it."""
    reason = f"cannot store {clinic.plant()} (é)"
    said = [broken_off(dsn, f"COPY {table} FROM STDIN", reason) for dsn in (clinic.plain_dsn, clinic.proxy_dsn)]
    assert said[0] == said[1] == ("57014", f"COPY from stdin failed: {reason}")


def broken_off(dsn: str, statement: str, reason: str) -> tuple[str | None, str | None]:
    """Begin a COPY and let an exception end it in psycopg, then end another by hand; return the error that the client is told."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        with pytest.raises(ZeroDivisionError, match="cannot store"):
            raise_within(conn, statement, ZeroDivisionError(reason))
        pgconn = conn.pgconn
        # Step by step: libpq by itself would keep the tap from working.
        pgconn.send_query(statement.encode())
        waiting.wait(generators.execute(pgconn), pgconn.socket)
        with pytest.raises(psycopg.errors.QueryCanceled) as caught:
            waiting.wait(generators.copy_end(pgconn, reason.encode()), pgconn.socket)
        assert conn.execute("SELECT 1").fetchone() == (1,)
    return caught.value.sqlstate, caught.value.diag.message_primary


def raise_within(conn: psycopg.Connection[Any], statement: str, error: Exception) -> None:
    with conn.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.write_row(["1"])
        raise error
