"""What PostgreSQL itself says of values: read under a session's styles, spelled in every form, compared with ``=``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from phiproxy.types.styles import Styles

_SETUP = r"""
CREATE EXTENSION IF NOT EXISTS citext;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'ünï 😀', 'it''s');
CREATE FUNCTION pg_temp.attempt(statement text, i int, value text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement USING i, value;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
"""


@dataclass(frozen=True)
class Known:
    """What the server makes of one text: an SQLSTATE and its message, or the canonical, binary and session's own form."""

    error: str | None
    message: str
    canonical: bytes
    binary: bytes
    shown: bytes


class Oracle:
    """One session of the server, used for all types."""

    def __init__(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        self._conn = conn
        self._tables: dict[str, str] = {}
        conn.execute(_SETUP)
        self.version = conn.info.server_version // 10000

    def use(self, styles: Styles) -> None:
        """Give the session these settings."""
        values = {
            "DateStyle": f"{styles.date_style}, {styles.date_order}",
            "TimeZone": styles.time_zone,
            "IntervalStyle": styles.interval_style,
            "bytea_output": styles.bytea_output,
            "extra_float_digits": str(styles.extra_float_digits),
        }
        calls = ", ".join("set_config(%s, %s, false)" for _ in values)
        self._conn.execute(f"SELECT {calls}".encode(), [part for pair in values.items() for part in pair])

    def _table(self, type_name: str) -> str:
        if type_name not in self._tables:
            name = self._tables[type_name] = f"pg_temp.values_{len(self._tables)}"
            self._conn.execute(f"CREATE TEMP TABLE {name} (i int PRIMARY KEY, x {type_name}, s bytea)".encode())
        return self._tables[type_name]

    def _fill(self, type_name: str, statement: str, texts: Iterable[bytes]) -> list[str | None]:
        table = self._table(type_name)
        self._conn.execute(f"TRUNCATE {table}".encode())
        rows = self._conn.execute(
            b"SELECT pg_temp.attempt(%s, i::int, v) FROM unnest(%s::text[]) WITH ORDINALITY u(v, i) ORDER BY i",
            (statement.format(table=table), [t.decode() for t in texts]),
        ).fetchall()
        return [None if row[0] is None else str(row[0]) for row in rows]

    def read(self, type_name: str, texts: Sequence[bytes], styles: Styles = Styles.CANONICAL) -> list[Known]:
        """Read the texts as the type's input function does under these styles."""
        self.use(styles)
        return self._known(type_name, f"INSERT INTO {{table}} VALUES ($1, $2::{type_name})", texts, styles)

    def assign(self, type_name: str, limited: str, texts: Sequence[bytes]) -> list[Known]:
        """Read the texts as the type, and put the values into a column of the type with a typmod."""
        self.use(Styles.CANONICAL)
        return self._known(limited, f"INSERT INTO {{table}} VALUES ($1, $2::{type_name})", texts, Styles.CANONICAL)

    def _known(self, type_name: str, statement: str, texts: Sequence[bytes], styles: Styles) -> list[Known]:
        errors = self._fill(type_name, statement, texts)
        shown = self._spelled(type_name)
        self.use(Styles.CANONICAL)
        canonical = shown if styles == Styles.CANONICAL else self._spelled(type_name)
        binary = self._sent(type_name)
        found = []
        for i, error in enumerate(errors, 1):
            code, _, message = (error or "").partition(" ")
            found.append(Known(code or None, message, canonical.get(i, b""), binary.get(i, b""), shown.get(i, b"")))
        return found

    def _spelled(self, type_name: str) -> dict[int, bytes]:
        with self._conn.cursor() as cursor:
            rows = cursor.execute(f"SELECT i, format('%s', x) FROM {self._table(type_name)}".encode()).fetchall()
        return {int(str(i)): str(text).encode() for i, text in rows}

    def _sent(self, type_name: str) -> dict[int, bytes]:
        with self._conn.cursor(binary=True) as cursor:
            cursor.adapters.register_loader(0, psycopg.types.string.ByteaBinaryLoader)
            cursor.execute(f"SELECT i, x FROM {self._table(type_name)}".encode())
            result = cursor.pgresult
            assert result is not None
            rows = [(result.get_value(n, 0), result.get_value(n, 1)) for n in range(result.ntuples)]
        return {int.from_bytes(i or b"", "big"): x or b"" for i, x in rows}

    def abbreviations(self) -> dict[str, int]:
        """Return the seconds to the east of each abbreviation of the default set."""
        rows = self._conn.execute("SELECT lower(abbrev), extract(epoch FROM utc_offset)::int FROM pg_timezone_abbrevs").fetchall()
        return {str(word): int(str(seconds)) for word, seconds in rows}

    def equal_pairs(self, type_name: str) -> set[tuple[int, int]]:
        """Return the pairs of the last texts (counted from 0) whose values are equal."""
        table = self._table(type_name)
        rows = self._conn.execute(f"SELECT a.i - 1, b.i - 1 FROM {table} a JOIN {table} b ON a.i < b.i AND a.x = b.x".encode())
        return {(int(str(a)), int(str(b))) for a, b in rows.fetchall()}

    def literal(self, type_name: str, text: str) -> bytes | str:
        """Return the canonical text of a literal of the type, or the SQLSTATE of the refusal."""
        self.use(Styles.CANONICAL)
        query = sql.SQL("SELECT format('%s', {}::{})").format(sql.Literal(text), sql.SQL(type_name))
        try:
            row = self._conn.execute(query).fetchone()
        except psycopg.Error as error:
            return error.sqlstate or ""
        assert row is not None
        return str(row[0]).encode()

    def receive(self, type_name: str, field: bytes) -> bytes | str:
        """Send one value in binary form; return its canonical text, or the SQLSTATE of the refusal."""
        self.use(Styles.CANONICAL)
        result = self._conn.pgconn.exec_params(
            f"SELECT format('%s', $1::{type_name})".encode(), [field], param_formats=[psycopg.pq.Format.BINARY]
        )
        value = result.get_value(0, 0) if result.ntuples else None
        code = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)
        return value if value is not None else (code or b"").decode()
