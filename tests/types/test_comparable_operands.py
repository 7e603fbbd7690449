"""What a column is compared with: the server says which operands are equal to which values."""

from __future__ import annotations

import psycopg
import pytest

from phiproxy.policy.column_types import named_type
from phiproxy.types.casts import NoCast, NotCast
from phiproxy.types.codecs import codec
from phiproxy.types.comparable_operands import compared, form_of
from phiproxy.types.styles import Styles
from tests.harness.server import PostgresServer

VALUES = {
    "int2": ["7", "-1"],
    "int4": ["7", "16777217"],
    "int8": ["7", "9223372036854775807"],
    "numeric": ["7.0", "0.1", "NaN", "16777217"],
    "float4": ["7", "0.1", "16777216", "-0"],
    "float8": ["7", "0.1", "0.10000000149011612", "NaN", "0"],
    "date": ["2000-02-29", "infinity"],
    "timestamp": ["2000-02-29 00:00:00", "2000-02-29 00:00:01", "infinity"],
    "timestamptz": ["2000-02-29 05:00:00+00", "2000-02-29 00:00:00+00"],
    "inet": ["10.0.0.0/8", "10.0.0.1"],
    "cidr": ["10.0.0.0/8", "10.0.0.1/32"],
    "text": ["a", "a "],
    "bpchar": ["a", "a "],
    "varchar": ["a", "a "],
    "uuid": ["c56a4180-65aa-42ec-a945-5fd21dec0538"],
    "time": ["01:00:00"],
    "interval": ["01:00:00", "1 day"],
    "json": ["1"],
}
STYLES = Styles(time_zone="America/New_York")


@pytest.mark.parametrize("column", VALUES)
def test_equal_as_the_server_says(postgres_server: PostgresServer, column: str) -> None:
    declared = named_type(column)
    own = codec(declared)
    with postgres_server.connect("postgres") as conn:
        conn.execute("SET TimeZone = 'America/New_York'")
        for other, operands in VALUES.items():
            operand = named_type(other)
            try:
                reads = compared(declared, operand)
            except NotCast:
                continue
            except NoCast:
                with pytest.raises(psycopg.errors.UndefinedFunction):
                    _ask(conn, VALUES[column][0], column, operands[0], other)
                continue
            for one in VALUES[column]:
                for two in operands:
                    stored = own.form(own.from_text(one.encode(), STYLES))
                    given = form_of(declared)(reads(codec(operand).from_text(two.encode(), STYLES), STYLES))
                    assert (stored == given) is _ask(conn, one, column, two, other), (one, two, other)


def _ask(conn: psycopg.Connection[tuple[object, ...]], one: str, column: str, two: str, other: str) -> object:
    row = conn.execute(f"SELECT '{one}'::{column} = '{two}'::{other}".encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(("column", "operand"), [("text[]", "varchar[]"), ("varchar[]", "text[]"), ("int4[]", "int8[]")])
def test_arrays_are_compared_with_arrays_of_the_same_type_only(column: str, operand: str) -> None:
    with pytest.raises(NoCast):
        compared(named_type(column), named_type(operand))


@pytest.mark.parametrize("operand", ["float4", "float8"])
def test_minus_zero_is_zero_to_an_integer(operand: str) -> None:
    assert compared(named_type("int4"), named_type(operand))(b"-0", STYLES) == b"0"
