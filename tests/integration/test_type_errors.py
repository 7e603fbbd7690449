"""What is no value of a type is refused as PostgreSQL refuses it: its SQLSTATE, its words, never the value."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from phiproxy.errors import own_words
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.test_types import OWN, column, ddl, policy

BAD = {
    "bool": ["maybe", ""],
    "int2": ["x", "40000", "-40000", ""],
    "int4": ["x", "3000000000", "1.5"],
    "int8": ["x", "9999999999999999999"],
    "uuid": ["x", "c56a4180"],
    "date": ["x", "2001-13-01", "2001-02-30", "5874898-01-01", "4714-01-01 BC"],
    "bytea": ["\\xabc", "\\xzz", "\\9"],
    "char(9)": ["0123456789"],
    "varchar(12)": ["0123456789012"],
    "numeric": ["x", "1e200000"],
    "numeric(10,2)": ["123456789.12", "x", "Infinity"],
    "float4": ["x", "1e50", "1e-60"],
    "float8": ["x", "1e400", "1e-400"],
    "time": ["x", "25:00:00", "12:60"],
    "timetz": ["x", "25:00+00"],
    "timestamp": ["x", "2001-02-30 00:00", "294277-01-01"],
    "timestamptz": ["x", "2001-02-03 00:00+99", "294277-01-01"],
    "interval": ["x", "9999999999 years"],
    "inet": ["x", "1.2.3.4/40"],
    "cidr": ["x", "1.2.3.4/8"],
    "jsonb": ["x", "{", '{"a":}'],
    "json": ["x", "["],
    "int4[]": ["x", "{x}", "{1", "{{1},{2,3}}"],
    "text[]": ["{", "{a,}"],
    "date[]": ["{x}"],
    "public.mood": ["bad", ""],
    "public.us_postal_code": ["1", "12345678901"],
    "public.age": ["151", "-1", "x"],
    "public.fee": ["-1", "13", "100000", "x"],
    "public.born": ["1899-01-01", "x"],
    "public.mood[]": ["{bad}", "x"],
    "public.us_postal_code[]": ["{1}"],
    "citext[]": ["{"],
}


@pytest.fixture(scope="module")
def sides(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[psycopg.Connection]]:
    """A table with a column of every type, directly and through the proxy."""
    directory = tmp_path_factory.mktemp("errors")
    with open_site(postgres_server, directory, policy=policy(), ddl=ddl(), types=OWN) as site:
        made = connect(site)
        yield made
        for conn in made:
            conn.close()


def connect(site: Site) -> list[psycopg.Connection]:
    return [psycopg.connect(dsn, autocommit=True) for dsn in (site.plain_dsn, site.proxy_dsn)]


def words(message: str, value: str) -> str:
    """Return an error's words: the proxy says ``value`` where PostgreSQL repeats it, or leaves it out at the end."""
    plain = own_words(message)
    plain = re.sub(r'(?<=^value) ".*"(?= is out)|: ".*"$', "", plain)
    return plain.replace(f'"{value}" is out', "value is out")


@pytest.mark.parametrize("declared", BAD)
def test_said_as_postgresql_says_it(sides: list[psycopg.Connection], declared: str) -> None:
    name = column(declared)
    for value in BAD[declared]:
        literal = sql.Literal(value).as_string(None)
        for statement, given in (
            (f"INSERT INTO typed (id, {name}) VALUES (1, {literal})", None),
            (f"INSERT INTO typed (id, {name}) VALUES (1, %s)", [value]),
            (f"UPDATE typed SET {name} = %s WHERE id = %s", [value, 1]),
        ):
            told = []
            for conn in sides:
                with pytest.raises(psycopg.Error) as caught:
                    conn.execute(statement.encode(), given)
                diagnosis = caught.value.diag
                told.append((diagnosis.sqlstate, words(diagnosis.message_primary or "", value), diagnosis.constraint_name))
            assert told[0] == told[1], value
            assert len(value) < 3 or value not in (diagnosis.message_primary or ""), "the value is told"


TEXT, DAY, INT = column("text"), column("date"), column("int4")


@pytest.mark.parametrize(
    "statement",
    [
        f"SELECT 'é' FROM typed WHERE {TEXT} = 5",
        f"SELECT id FROM typed WHERE {TEXT} IS DISTINCT FROM true",
        f"SELECT id FROM typed WHERE id = 1 AND {TEXT} NOT IN (1, 2)",
        f"SELECT id FROM typed WHERE {DAY} = ANY (ARRAY[5])",
        f"SELECT id FROM typed WHERE (id, {DAY}) = (1, 5)",
        f"SELECT CASE {DAY} WHEN '2001-02-03' THEN 1 WHEN 5 THEN 2 END FROM typed",
        f"SELECT nullif({DAY}, true) FROM typed",
        f"SELECT id FROM typed WHERE {TEXT} < 5",
        f"SELECT id FROM typed WHERE {DAY} > 5 AND {DAY} < 7",
        f"SELECT id FROM typed WHERE {INT} = 'x'::text",
        f"SELECT id FROM typed WHERE {INT} = '2001-02-03'::date AND",
        f"SELECT 'é' FROM typed WHERE {INT} =  \n",
        f"SELECT id FROM typed WHERE ({INT} = 5 /* é */",
        f"SELECT id FROM typed GROUP BY {INT} ORDER BY",
    ],
)
def test_said_where_postgresql_says_it(sides: list[psycopg.Connection], statement: str) -> None:
    told = []
    for conn in sides:
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(statement.encode())
        told.append((caught.value.diag.sqlstate, caught.value.diag.statement_position))
    assert told[0] == told[1]
