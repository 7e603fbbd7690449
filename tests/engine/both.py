"""A split statement and the whole one: its source asked of the server, its rest of the engine; outcomes are compared as bytes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import pack, unpack_from
from typing import Any

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGresult

from phiproxy.engine.access import Access
from phiproxy.engine.definitions import DEFINITIONS, Definitions, read_definitions
from phiproxy.engine.engine import Database, Engine
from phiproxy.engine.identity import Identity, identity_query, read_identity
from phiproxy.engine.rest import MIRRORED, Rest, Session, Values
from phiproxy.engine.rows_into_engine import Column
from phiproxy.errors import StatementFailed
from phiproxy.policy.settings import Compute, Settings
from phiproxy.wire.messages import Field, decode_row_description, message

EXTENSIONS = ("citext", "pg_trgm")


def compute(**settings: Any) -> Compute:
    """Return settings of an embedded engine."""
    section = {"engine": "embedded", "extensions": list(EXTENSIONS), **settings}
    return Settings.model_validate({"compute": section}, context={"base": Path("/")}).compute


def read_server(conn: psycopg.Connection[tuple[object, ...]]) -> tuple[Identity, Definitions]:
    """Return what the engine is told of the server's database."""
    with conn.transaction():
        conn.execute("SET LOCAL search_path TO pg_catalog")
        version = conn.info.server_version
        row = conn.execute(identity_query(version).encode()).fetchone()
        text = conn.execute(DEFINITIONS.encode()).fetchone()
    assert row is not None
    assert text is not None
    return read_identity(version, row), read_definitions(str(text[0]))


def computed_for(pid: int) -> float:
    """Return how many seconds of the processor a backend has taken, 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


def data_row(values: Sequence[bytes | None]) -> bytes:
    """Return a DataRow."""
    fields = (b"\xff\xff\xff\xff" if v is None else pack("!i", len(v)) + v for v in values)
    return message(b"D", pack("!H", len(values)) + b"".join(fields))


@dataclass
class Outcome:
    """A result: its columns as (name, type, size, typmod), its rows as bytes, its command tag."""

    columns: list[tuple[bytes, int, int, int]]
    rows: list[list[bytes | None]]
    tag: bytes


def read(messages: bytes) -> Outcome:
    """Return what a client gets."""
    outcome, at = Outcome([], [], b""), 0
    while at < len(messages):
        tag, size = unpack_from("!cI", messages, at)
        pos, end = at + 5, at + 1 + size
        if tag == b"T":
            fields: list[Field] = decode_row_description(messages, pos, end)
            outcome.columns = [(f.name, f.type_oid, f.type_size, f.typmod) for f in fields]
        elif tag == b"D":
            outcome.rows.append(_fields(messages, pos))
        elif tag == b"C":
            outcome.tag = messages[pos : end - 1]
        at = end
    return outcome


def _fields(data: bytes, pos: int) -> list[bytes | None]:
    (count,), values = unpack_from("!H", data, pos), []
    pos += 2
    for _ in range(count):
        (size,) = unpack_from("!i", data, pos)
        pos += 4
        values.append(None if size < 0 else data[pos : pos + size])
        pos += max(size, 0)
    return values


class Both:
    """The server's session and the engine's database that is like the server's."""

    def __init__(self, engine: Engine, database: Database, server: psycopg.Connection[tuple[object, ...]]) -> None:
        self.engine = engine
        self.database = database
        self.server = server

    @classmethod
    @contextlib.asynccontextmanager
    async def over(
        cls, access: Access, server: psycopg.Connection[tuple[object, ...]], settings: Compute | None = None
    ) -> AsyncIterator[Both]:
        """Make the database."""
        engine = Engine(access, settings or compute())
        try:
            yield cls(engine, await engine.database(*read_server(server)), server)
        finally:
            await engine.close()

    def session(self) -> Session:
        """Return the settings of the server's session that change answers."""
        self.server.execute("LOAD 'pg_trgm'")  # whose settings are known from its first use on
        return Session({name: self.show(name) for name in sorted(MIRRORED)})

    def show(self, name: str) -> str:
        """Return a setting of the server's session."""
        row = self.server.execute(f"SHOW {name}".encode()).fetchone()
        assert row is not None
        return str(row[0])

    def row_type(self, table: str) -> int:
        """Return the OID of the type of a table's rows."""
        row = self.server.execute("SELECT reltype::int8 FROM pg_class WHERE oid = %s::regclass", (table,)).fetchone()
        assert row is not None
        return int(str(row[0]))

    @property
    def has_icu(self) -> bool:
        """Whether the server was built with ICU; the wheel is not."""
        return bool(self.server.execute("SELECT FROM pg_collation WHERE collname = 'und-x-icu'").rowcount)

    def asked(
        self, text: str, result_format: int = 0, parameters: Sequence[bytes | None] = (), declared: Sequence[int] = ()
    ) -> PGresult:
        """Ask the server; psycopg.Error where it refuses."""
        types = [*declared, *[0] * (len(parameters) - len(declared))]
        result = self.server.pgconn.exec_params(text.encode(), list(parameters), types, result_format=result_format)
        if result.status != pq.ExecStatus.TUPLES_OK:
            state = result.error_field(pq.DiagnosticField.SQLSTATE) or b"XX000"
            raise psycopg.errors.lookup(state.decode())(result.error_message.decode())
        return result

    def whole(
        self, text: str, result_format: int = 0, parameters: Sequence[bytes | None] = (), declared: Sequence[int] = ()
    ) -> Outcome:
        """Return what PostgreSQL answers to the whole statement."""
        result = self.asked(text, result_format, parameters, declared)
        columns = [(result.fname(n) or b"", result.ftype(n), result.fsize(n), result.fmod(n)) for n in range(result.nfields)]
        rows = [[result.get_value(row, n) for n in range(result.nfields)] for row in range(result.ntuples)]
        return Outcome(columns, rows, result.command_status or b"")

    def source(
        self, text: str, *, repeated: int = 1, types: Mapping[int, int] | None = None, parameters: Sequence[bytes | None] = ()
    ) -> tuple[tuple[Column, ...], list[bytes]]:
        """Ask the server for the rows of a source; ``types``: of columns by position, where the answer does not tell (domains)."""
        result = self.asked(text, 1, parameters)
        columns = tuple(Column((types or {}).get(n, result.ftype(n)), result.fmod(n)) for n in range(result.nfields))
        rows = [data_row([result.get_value(row, n) for n in range(result.nfields)]) for row in range(result.ntuples)]
        return columns, rows * repeated

    async def split(
        self,
        source: str,
        rest: str,
        *,
        repeated: int = 1,
        types: Mapping[int, int] | None = None,
        parameters: Sequence[bytes | None] = (),
        result_format: int = 0,
        session: Session | None = None,
    ) -> Outcome:
        """Return the outcome of ``rest``, in which {} is the source."""
        columns, rows = self.source(source, repeated=repeated, types=types)
        split = Rest(tuple(part.encode() for part in rest.split("{}")), columns, len(parameters))
        return await self.run(split, rows, Values(parameters, (), (result_format,)), session)

    async def run(self, rest: Rest, rows: Sequence[bytes], values: Values | None = None, session: Session | None = None) -> Outcome:
        """Compute; psycopg.Error where the engine refuses, as ``asked``."""
        try:
            async with self.database.computing(rest, session or self.session()) as computation:
                for data in rows:
                    await computation.rows(data)
                pieces = [piece async for piece in computation.results(values or Values())]
        except StatementFailed as failed:
            raise psycopg.errors.lookup(failed.state)(dict(failed.fields)[ord("M")].decode()) from failed
        return read(b"".join(pieces))
