"""Casts between types: what pg_cast says, and what the server makes of values."""

from __future__ import annotations

import psycopg
import pytest

from phiproxy.errors import ValueRefused
from phiproxy.policy.column_types import named_type
from phiproxy.types.casts import NoCast, NotCast, cast, explicit
from phiproxy.types.codecs import codec
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles
from tests.harness.server import PostgresServer

VALUES = {
    "int4": ["0", "-7", "40000", "2147483647"],
    "int8": ["7", "9223372036854775807"],
    "numeric": ["1.5", "2.5", "-0.5", "123456.789", "1e10"],
    "float4": ["0.1", "2.5", "1e20"],
    "float8": ["0.1", "3.5", "1e20", "1e-5"],
    "bool": ["t", "f"],
    "date": ["2000-02-29", "0044-03-15 BC", "infinity"],
    "timestamp": ["2000-02-29 12:13:14.5", "0044-03-15 00:00:00 BC"],
    "timestamptz": ["2000-02-29 23:13:14.25+00", "1970-01-01 00:00:00+00", "-infinity", "4713-11-24 00:00:00+00 BC"],
    "time": ["12:13:14.5"],
    "timetz": ["12:13:14.5+02"],
    "inet": ["10.0.0.1", "10.1.2.3/8", "::1"],
    "cidr": ["10.0.0.0/8", "10.0.0.1/32"],
    "jsonb": ['{"a": 1}'],
    "json": ['{"a": 1, "a": 2}'],
    "text": ["7", "2001-02-03", "x"],
    "bpchar": ["7  "],
    "uuid": ["c56a4180-65aa-42ec-a945-5fd21dec0538"],
}
ZONE = "America/New_York"


@pytest.mark.parametrize("source", VALUES)
def test_explicit_casts_give_what_the_server_gives(postgres_server: PostgresServer, source: str) -> None:
    styles = Styles(time_zone=ZONE)
    with postgres_server.connect("postgres") as conn:
        conn.execute(f"SET TimeZone = '{ZONE}'".encode())
        for target in (*VALUES, "numeric(6,2)", "varchar(4)", "timestamp(0)"):
            for value in VALUES[source]:
                one, other = named_type(source), named_type(target)
                given = codec(one).from_text(value.encode(), styles)
                expected = _ask(conn, value, source, target)
                found = _cast(one, other, given, styles)
                assert found in (expected, "0A000"), (value, target)


def test_a_clock_that_is_ahead_ends_later_than_timestamps_do() -> None:
    last, ahead = b"294276-12-31 23:59:59+00", Styles(time_zone="Asia/Tokyo")
    assert _cast(named_type("timestamptz"), named_type("timestamp"), last, ahead) == "22008"
    assert _cast(named_type("timestamptz"), named_type("date"), last, ahead) == b"294277-01-01"


def _cast(one: DeclaredType, other: DeclaredType, given: bytes, styles: Styles) -> bytes | str:
    """Return the value as the session sees it, or an SQLSTATE."""
    try:
        return codec(other).to_text(explicit(one, other)(given, styles), styles)
    except NoCast:
        return "42846"
    except NotCast:
        return "0A000"
    except ValueRefused as refused:
        return refused.sqlstate


def _ask(conn: psycopg.Connection[tuple[object, ...]], value: str, source: str, target: str) -> bytes | str:
    answer = conn.pgconn.exec_params(f"SELECT $1::text::{source}::{target}".encode(), [value.encode()])
    if answer.status != psycopg.pq.ExecStatus.TUPLES_OK:
        return (answer.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"").decode()
    return answer.get_value(0, 0) or b""


@pytest.mark.parametrize(
    ("source", "target"), [("text", "date"), ("int4", "date"), ("bool", "int4"), ("timestamptz", "date[]"), ("date[]", "date")]
)
def test_what_is_no_assignment(source: str, target: str) -> None:
    with pytest.raises(NoCast):
        cast(named_type(source), named_type(target), "assignment")


def test_arrays_are_cast_element_by_element() -> None:
    assert cast(named_type("varchar[]"), named_type("text[]"), "implicit")(b"{a}", Styles.CANONICAL) == b"{a}"
    assert cast(named_type("int2[]"), named_type("float8[]"), "implicit")(b"[0:1]={1,NULL}", Styles.CANONICAL) == b"[0:1]={1,NULL}"
    with pytest.raises(NotCast):
        cast(named_type("time[]"), named_type("timetz[]"), "implicit")


def test_no_number_is_minus_zero() -> None:
    for source in ("float4", "float8"):
        assert cast(named_type(source), named_type("numeric"), "assignment")(b"-0", Styles.CANONICAL) == b"0"
