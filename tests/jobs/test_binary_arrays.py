"""The server reads what psycopg's own arrays say, NULLs and what text arrays would have to quote too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from phiproxy.jobs.binary_arrays import BinaryArray, ByteaArray, TextArray, TidArray, XidArray
from tests.harness.server import PostgresServer


@pytest.mark.parametrize(
    ("array", "type_name", "values"),
    [
        (ByteaArray, "bytea[]", [b"", b"\x00\xff", None, b"{}"]),
        (TextArray, "text[]", ["", "K\u00e4the", None, 'a,"b"\\ {NULL}', "NULL"]),
        (TextArray, "text[]::int4[]", ["5", None, "-7"]),
        (TextArray, "text[]::tid[]", ["(0,1)", "(17,42)"]),
        (TextArray, "text[]", []),
    ],
)
def test_the_server_reads_it(
    postgres_server: PostgresServer, array: Callable[[list[Any]], BinaryArray], type_name: str, values: list[bytes | str | None]
) -> None:
    with psycopg.connect(postgres_server.dsn()) as conn:
        given = array(values)
        rows = conn.execute(f"SELECT v FROM unnest(%b::{type_name}) v".encode(), (given,)).fetchall()
    assert [None if v is None else v if isinstance(v, bytes) else str(v) for (v,) in rows] == values


@pytest.mark.parametrize(
    ("array", "type_name", "values"),
    [(TidArray, "tid", [b"\0\0\0\1\0\2", None, b"\0\0\0\0\0\x2a"]), (XidArray, "xid", [b"\0\0\2\x9a", None])],
)
def test_what_came_as_bytes_goes_back_so(
    postgres_server: PostgresServer, array: Callable[[list[Any]], BinaryArray], type_name: str, values: list[bytes | None]
) -> None:
    with psycopg.connect(postgres_server.dsn()) as conn, conn.cursor(binary=True) as cursor:
        cursor.execute(f"SELECT v FROM unnest(%b::{type_name}[]) v".encode(), (array(values),))
        assert [v for (v,) in cursor.fetchall()] == values
