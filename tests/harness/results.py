"""Libpq results as comparable values: what a client can see of one statement, without what differs between two databases."""

from __future__ import annotations

import datetime as dt
import select
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

Row = tuple[bytes | None, ...]
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
COPIES = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)
FIRST_OF_USERS = 16384
# Seconds. A statement of megabytes takes a machine that has much else to do more than a minute.
ANSWERED = 240
BAD = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE)


@dataclass(frozen=True)
class Field:
    """One column of a RowDescription. A table's OID, and its row type's, differ between databases, that there is one does not."""

    name: str
    type_oid: int
    typmod: int
    size: int
    format: int
    has_table: bool
    attnum: int


@dataclass(frozen=True)
class Outcome:
    """One result: its columns, rows, tag; or its error."""

    status: str
    sqlstate: str | None
    message: str
    hint: str
    fields: tuple[Field, ...]
    rows: tuple[Row, ...]
    tag: str
    count: int | None
    transaction: str
    parameters: tuple[int, ...] = ()
    position: int | None = None

    def visible(self, *, ordered: bool) -> tuple[object, ...]:
        """Return what must be equal on both sides; texts of errors may differ, SQLSTATEs may not."""
        rows = self.rows if ordered else tuple(sorted(self.rows, key=repr))
        return (self.status, self.sqlstate, self.fields, rows, self.tag, self.count, self.transaction)

    def difference(self, other: Outcome, *, ordered: bool) -> str:
        """Name what differs, without a value."""
        names = ("status", "sqlstate", "fields", "rows", "tag", "count", "transaction")
        pairs = zip(names, self.visible(ordered=ordered), other.visible(ordered=ordered), strict=True)
        parts = [n if n == "rows" else f"{n}: {a!r} / {b!r}" for n, a, b in pairs if a != b]
        errors = [o.message for o in (self, other) if o.sqlstate]
        return "; ".join([*parts, *errors])

    @property
    def text(self) -> list[tuple[str | None, ...]]:
        """The rows as text."""
        return [tuple(None if v is None else v.decode() for v in row) for row in self.rows]


@dataclass(frozen=True)
class Form:
    """How an extended statement is sent: declared types, format of all parameters, format of all results."""

    types: Sequence[int] | None = None
    parameters: int = 0
    results: int = 0


def outcome(conn: PGconn, result: PGresult) -> Outcome:
    """Read a result and the transaction status that the client sees after it."""

    def said(part: pq.DiagnosticField) -> str:
        return (result.error_field(part) or b"").decode()

    failed = result.status in BAD
    return Outcome(
        status=pq.ExecStatus(result.status).name,
        sqlstate=said(pq.DiagnosticField.SQLSTATE) if failed else None,
        message=said(pq.DiagnosticField.MESSAGE_PRIMARY) or (result.error_message.decode() if failed else ""),
        hint=said(pq.DiagnosticField.MESSAGE_HINT),
        fields=fields(result),
        rows=rows(result),
        tag=(result.command_status or b"").decode(),
        count=result.command_tuples,
        transaction=pq.TransactionStatus(conn.transaction_status).name,
        parameters=tuple(result.param_type(n) for n in range(result.nparams)),
        position=int(where) if (where := said(pq.DiagnosticField.STATEMENT_POSITION)) else None,
    )


def rows(result: PGresult) -> tuple[Row, ...]:
    """Return the values as they came, since not all of them are values of Python's types."""
    return tuple(tuple(result.get_value(r, c) for c in range(result.nfields)) for r in range(result.ntuples))


def told_and_stored(cursor: psycopg.Cursor[tuple[object, ...]], select: str) -> list[object]:
    """Return what an executed write told, the rows it returned, and what it stored as ``select`` reads it; and undo it."""
    assert cursor.pgresult is not None
    told, returned = cursor.statusmessage, rows(cursor.pgresult)
    cursor.execute(select.encode())
    assert cursor.pgresult is not None
    stored = rows(cursor.pgresult)
    cursor.connection.rollback()
    return [told, sorted(map(repr, returned)), stored]


def fields(result: PGresult) -> tuple[Field, ...]:
    """Read the RowDescription of a result."""
    return tuple(
        Field(
            name=(result.fname(n) or b"").decode(),
            type_oid=min(result.ftype(n), FIRST_OF_USERS),
            typmod=result.fmod(n),
            size=result.fsize(n),
            format=result.fformat(n),
            has_table=result.ftable(n) != 0,
            attnum=result.ftablecol(n),
        )
        for n in range(result.nfields)
    )


def encode(value: object, fmt: int) -> bytes | None:
    """Encode a parameter as libpq's caller does: text, or binary of int4, bool, text, bytea, date, timestamp; a list is text[]."""
    if value is None:
        return None
    if isinstance(value, list):
        return _text_array(value, fmt)
    if isinstance(value, bytes):
        return value if fmt else b"\\x" + value.hex().encode()
    if fmt and isinstance(value, bool):
        return b"\x01" if value else b"\x00"
    if fmt and isinstance(value, dt.datetime):
        return struct.pack("!q", (value.replace(tzinfo=dt.UTC) - _EPOCH) // dt.timedelta(microseconds=1))
    if fmt and isinstance(value, dt.date):
        return struct.pack("!i", (value - _EPOCH.date()).days)
    if fmt and isinstance(value, int):
        return value.to_bytes(4, "big", signed=True)
    if isinstance(value, bool):
        return b"t" if value else b"f"
    return str(value).encode()


def _text_array(values: list[str | None], fmt: int) -> bytes:
    if not fmt:
        quoted = ["NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values]
        return ("{" + ",".join(quoted) + "}").encode()
    encoded = [None if v is None else v.encode() for v in values]
    head = struct.pack("!iiI", bool(values), None in values, 25) + (struct.pack("!ii", len(values), 1) if values else b"")
    return head + b"".join(struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v for v in encoded)


def simple(conn: PGconn, statement: str) -> list[Outcome]:
    """Run the simple protocol: every result of the string, each with the status after ReadyForQuery."""
    conn.send_query(statement.encode())
    return collect(conn)


def collect(conn: PGconn) -> list[Outcome]:
    """Read results up to the end of the query.

    Step by step: libpq's blocking calls (some of psycopg's hold the GIL) would keep the tap's thread from running.
    """
    found: list[Outcome] = []
    while True:
        while conn.flush():
            select.select([conn.socket], [conn.socket], [], ANSWERED)
            conn.consume_input()
        while conn.is_busy():
            ready, _, _ = select.select([conn.socket], [], [], ANSWERED)
            assert ready, f"no answer within {ANSWERED} s"
            conn.consume_input()
        result = conn.get_result()
        if result is None:
            break
        assert result.status not in COPIES, "the differential harness does not run COPY"
        found.append(outcome(conn, result))
    # while a query is under way libpq says ACTIVE, or not, depending on what has arrived: only the end is defined
    status = pq.TransactionStatus(conn.transaction_status).name
    return [replace(one, transaction=status) for one in found]


def extended(conn: PGconn, statement: str, params: Sequence[object], form: Form) -> list[Outcome]:
    """Run the extended protocol with the unnamed statement, in one exchange."""
    values = [encode(p, form.parameters) for p in params]
    conn.send_query_params(statement.encode(), values, form.types, [form.parameters] * len(values), form.results)
    return collect(conn)


def prepared(conn: PGconn, statement: str, params: Sequence[object], form: Form) -> tuple[list[Outcome], tuple[int, ...]]:
    """Prepare, describe and run a named statement; returns also its parameter types."""
    conn.send_prepare(b"differential", statement.encode(), form.types)
    made = collect(conn)
    if made[-1].sqlstate:
        return made, ()
    conn.send_describe_prepared(b"differential")
    described = collect(conn)
    values = [encode(p, form.parameters) for p in params]
    conn.send_query_prepared(b"differential", values, [form.parameters] * len(values), form.results)
    done = collect(conn)
    if conn.transaction_status != pq.TransactionStatus.INERROR:
        simple(conn, "DEALLOCATE differential")
    return [*described, *done], described[-1].parameters
