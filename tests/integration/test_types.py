"""Every type that can be protected, at its edges and in every way in and out, on both twins (spec/sql 7)."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import asyncpg
import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from phiproxy.policy.column_types import BUILTIN, named_type, parse_type
from tests.harness import results
from tests.harness.clinic import Clinic
from tests.harness.differential import Differential
from tests.harness.oracle import LeakOracle
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.test_copy import read, write

# The first of each is planted: it is looked for wherever it must not be.
VALUES: dict[str, list[str]] = {
    "bool": ["t", "f"],
    "int2": ["-32768", "32767", "0", "7"],
    "int4": ["-2147483648", "2147483647", "0", "-7", "7"],
    "int8": ["-9223372036854775808", "9223372036854775807", "0", "7"],
    "uuid": ["c56a4180-65aa-42ec-a945-5fd21dec0538", "00000000-0000-0000-0000-000000000000", "{C56A418065AA42ECA9455FD21DEC0539}"],
    "date": ["4713-01-01 BC", "5874897-12-31", "294276-12-31", "infinity", "-infinity", "2000-02-29", "0001-01-01", "1999-12-31"],
    "bytea": ["\\xdeadbeef00ff11", "", "\\x00", "abc\\\\\\001", "\\x5c5c"],
    "text": ["Zoë Müllerin, as text", "", " ", "😀é€\n\t\\"],
    "char(9)": ["Zoë Mül", "", "a", "a b      ", "😀😀"],
    "varchar(12)": ["Zoë Müllerin", "", " ", "😀é€"],
    "numeric": ["12345678901234567890.123456789", "NaN", "0", "-0.00", "1.10", "1e-20", "Infinity", "-Infinity", "9" * 1000, "7"],
    "numeric(10,2)": ["12345678.91", "0.005", "-99999999.99", "NaN", "7"],
    "float4": ["1.2345679e+20", "NaN", "-0", "0", "Infinity", "-Infinity", "1.1754944e-38", "0.1", "7"],
    "float8": ["1.2345678901234567e+200", "NaN", "-0", "0", "Infinity", "2.2250738585072014e-308", "0.1", "7"],
    "time": ["23:59:59.999998", "00:00:00", "24:00:00", "12:00"],
    "time(2)": ["23:59:59.99", "00:00:00.005", "12:00"],
    "timetz": ["23:59:59.999998+15:59", "00:00:00-15:59:59", "12:00:00+00"],
    "timestamp": ["4713-01-01 00:00:01 BC", "294276-12-31 23:59:59.999999", "infinity", "-infinity", "2000-02-29 12:00:00.5"],
    "timestamptz": ["4713-01-01 00:00:01+00 BC", "294276-12-31 23:59:59.999999+00", "infinity", "2000-02-29 12:00:00.5-08"],
    "timestamptz(0)": ["2001-02-03 04:05:06.7+00", "1999-12-31 23:59:59.5+00"],
    "interval": [
        "178000000 years",
        "-178000000 years",
        "1 mon -1 days 01:02:03.4",
        "00:00:00",
        "1 day",
        "24:00:00",
        "-00:00:00.000001",
    ],
    "inet": ["192.168.171.254/24", "10.0.0.1", "::1", "2001:db8::ff00:42:8329/64", "::ffff:1.2.3.4"],
    "cidr": ["192.168.171.0/24", "10.0.0.1/32", "2001:db8::/32"],
    "jsonb": ['{"b": [1, 2.50, null], "a": "Zoë\\u00e9"}', "null", '"x"', "1.0", "{}", "[]"],
    "json": ['{"b": [1, 2.50,  null], "a": "Zoë", "a": 1}', "null", " [] "],
    "int4[]": ["{2147483647,-2147483648,NULL}", "{}", "{NULL}", "[0:1]={1,2}", "{7}"],
    "text[]": ['{"Zoë Müllerin, a \\"quote\\"",NULL,""}', "{}", "{a,b}", '{"NULL"}', "{{a,b},{c,d}}"],
    "date[]": ["{2001-02-03,NULL,infinity}", "{}", '{"4713-01-01 BC"}'],
    "citext": ["Zoë MÜLLERin", "ZOË müllerin", "", "a", "😀😀"],
    "public.mood": ["happy, not sad", "sad", '"ok"', "Sad"],
    "public.us_postal_code": ["98765-4321", "12345"],
    "public.age": ["150", "0", "7"],
    "public.fee": ["99999.991", "0.004", "7"],
    "public.born": ["1999-12-31", "2000-02-29"],
    "citext[]": ['{"Zoë MÜLLERin",NULL,""}', '{"zoë müllerin",NULL,""}', "{}"],
    "public.mood[]": ['{sad,NULL,"happy, not sad"}', "{}", '{"\\"ok\\""}'],
    "public.us_postal_code[]": ["{98765-4321,NULL}", "{}", "{12345}"],
}
# The database's own types, as a superuser makes them.
OWN = r"""
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('sad', '"ok"', 'happy, not sad', 'Sad');
CREATE DOMAIN us_postal_code AS varchar(10) CHECK (VALUE ~ '^\d{5}$' OR VALUE ~ '^\d{5}-\d{4}$');
CREATE DOMAIN adult AS int CHECK (VALUE >= 0);
CREATE DOMAIN age AS adult CONSTRAINT not_ancient CHECK (VALUE < 151);
CREATE DOMAIN fee AS numeric(7,2) CHECK (VALUE >= 0 AND VALUE <> 13);
CREATE DOMAIN born AS date CHECK (VALUE > '1900-01-01');
"""
WITHOUT_INDEX = {"json"}
ROUNDED = {"numeric(10,2)", "time(2)", "timestamptz(0)", "public.fee"}
PLANTED_FROM = 8
"""Shorter values stand in any text by chance."""


def known(declared: str) -> bool:
    """Tell whether this version has the type."""
    try:
        return bool(parse_type(declared))
    except ValueError:
        return False


TYPES = [name for name in VALUES if known(name)]


def test_none_is_missing() -> None:
    """Every type of spec/sql 7 is here, and one of each kind that a database makes itself."""
    families = {named_type(name).family for name in VALUES if named_type(name).known}
    assert families == {*BUILTIN, "array"}
    assert {"citext", "citext[]", "public.mood", "public.mood[]", "public.us_postal_code", "public.us_postal_code[]"} <= set(VALUES)


def column(declared: str) -> str:
    """Return the name of a type's column."""
    return "c_" + "".join(c if c.isalnum() else "_" for c in declared)


def policy() -> str:
    """Return a policy with a column of every type."""
    lines = ["database: {database}", "deployment: types-test", "tables:", "  public.typed:", "    columns:"]
    for name in TYPES:
        index = "" if name in WITHOUT_INDEX else f', indexes: [{column(name)}], accept_leakage: "the tests"'
        lines.append(f'      {column(name)}: {{type: "{name}"{index}}}')
    return "\n".join(lines) + "\n"


def ddl() -> str:
    """Return the application's own table."""
    columns = "".join(f",\n    {column(name)} {name}" for name in TYPES)
    return f"CREATE TABLE typed (id int PRIMARY KEY{columns}, plain text)"


@dataclass(frozen=True)
class Typed:
    """One type on both twins."""

    both: Differential
    declared: str
    clinic: Clinic

    @property
    def column(self) -> str:
        return column(self.declared)

    @property
    def values(self) -> list[str]:
        return VALUES[self.declared]

    def binary(self, value: str) -> bytes:
        """Return the binary form of a value, as the server writes it; of its type without a length."""
        (found,) = (
            results.extended(
                self.both.plain, f"SELECT $1::{named_type(self.declared).name.partition('(')[0]}", [value], results.Form(None, 0, 1)
            )
            if "[" not in self.declared
            else results.extended(self.both.plain, f"SELECT $1::{self.declared}", [value], results.Form(None, 0, 1))
        )
        assert found.sqlstate is None, (found.message, value)
        assert found.rows[0][0] is not None
        return found.rows[0][0]


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A table with a column of every type."""
    with open_site(postgres_server, tmp_path_factory.mktemp("types"), policy=policy(), ddl=ddl(), types=OWN) as found:
        yield found


@pytest.fixture(scope="module")
def both(site: Site) -> Iterator[Differential]:
    """One session on each side for all types."""
    oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
    with Differential(Clinic(site, oracle)) as found:
        yield found
    oracle.planted = [values[0] for name in TYPES if len((values := VALUES[name])[0]) >= PLANTED_FROM]
    oracle.assert_no_leak()


def empty(both: Differential) -> None:
    """Empty both tables, whatever is in them: a test of one side leaves rows there."""
    for conn in (both.plain, both.proxied):
        assert results.simple(conn, "DELETE FROM typed")[-1].sqlstate is None


@pytest.fixture(params=TYPES)
def typed(both: Differential, request: pytest.FixtureRequest) -> Typed:
    """The table, empty, and one type."""
    for conn in (both.plain, both.proxied):
        results.simple(conn, "RESET ALL")
    empty(both)
    return Typed(both, request.param, both.clinic)


def everything(typed: Typed) -> None:
    """Compare what is there in every way of reading."""
    found = typed.both.read(f"SELECT id, {typed.column} FROM typed ORDER BY id")
    assert len(found.rows) > 1


def test_written_in_every_way_and_read_in_every_way(typed: Typed) -> None:
    ids = itertools.count()
    run, name = typed.both.run, typed.column
    insert = f"INSERT INTO typed (id, {name}) VALUES ($1, $2)"
    for value in typed.values:
        run(insert, [str(next(ids)), value], named=True)
        run(insert, [next(ids), typed.binary(value)], param_format=1, named=True)
        literal = sql.Literal(value).as_string(None)
        run(f"INSERT INTO typed (id, {name}) VALUES ({next(ids)}, {literal})", protocol="simple")
        run(f"INSERT INTO typed (id, {name}) VALUES ({next(ids)}, {literal}) RETURNING {name}, id")
    run(insert, [str(next(ids)), None])
    run(f"INSERT INTO typed (id, {name}) VALUES ({next(ids)}, NULL) RETURNING *", protocol="simple")
    for code in (0, 1):
        run(f"UPDATE typed SET {name} = $1 WHERE id < 2 RETURNING {name}", [typed.values[-1]], result_format=code, named=True)
    everything(typed)


def fill(typed: Typed) -> None:
    insert = f"INSERT INTO typed (id, {typed.column}) VALUES ($1, $2)"
    for i, value in enumerate((*typed.values, *typed.values, None)):
        typed.both.run(insert, [str(i), value])


def test_searched_in_every_way(typed: Typed) -> None:
    if typed.declared in WITHOUT_INDEX:
        pytest.skip("PostgreSQL has no = for json")
    fill(typed)
    both, name = typed.both, typed.column
    where = f"SELECT id FROM typed WHERE {name}"
    for value in typed.values:
        literal = sql.Literal(value).as_string(None)
        found = both.run(f"{where} = $1 ORDER BY id", [value], named=True)
        assert len(found.rows) >= 2 or "NaN" in value or typed.declared in ROUNDED
        both.run(f"{where} = $1 ORDER BY id", [typed.binary(value)], param_format=1)
        both.run(f"{where} = {literal} ORDER BY id", protocol="simple")
        both.run(f"{where} IS NOT DISTINCT FROM {literal}")
    one, other = (sql.Literal(v).as_string(None) for v in (typed.values[0], typed.values[-1]))
    both.run(f"{where} IN ($1, $2, NULL)", [typed.values[0], typed.values[-1]], named=True)
    both.run(f"{where} NOT IN ({one}, {other})", protocol="simple")
    both.run(f"{where} IS NULL")
    # Which of several equal values is shown is open: 0 or 0.00.
    both.run(f"SELECT count(*) FROM typed GROUP BY {name}")
    both.run(f"SELECT count(*) FROM (SELECT DISTINCT {name} FROM typed) s", protocol="simple")
    both.run(f"SELECT count(DISTINCT {name}) FROM typed a JOIN typed b USING ({name})")
    both.run(f"DELETE FROM typed WHERE {name} = $1 RETURNING id, {name}", [typed.values[0]])


def test_copied_both_ways(typed: Typed, site: Site) -> None:
    fill(typed)
    with psycopg.connect(site.plain_dsn) as plain, psycopg.connect(site.proxy_dsn) as proxied:
        for form in ("", "(FORMAT csv)", "(FORMAT binary)"):
            statement = f"COPY (SELECT id, {typed.column} FROM typed ORDER BY id) TO STDOUT {form}"
            data = read(plain, statement)
            assert b"".join(read(proxied, statement)) == b"".join(data)
            for conn in (plain, proxied):
                conn.execute("DELETE FROM typed")
                told = write(conn, f"COPY typed (id, {typed.column}) FROM STDIN {form}", data)
                assert told[0] == "00000" or not told[0], told
                conn.commit()
            everything(typed)


STATEMENTS = [
    "SELECT id FROM typed WHERE c_date = DATE '2000-02-29'",
    "SELECT id FROM typed WHERE c_date = '2000-02-29'::date AND c_int4 = 7 AND c_bool IS NOT DISTINCT FROM true",
    "SELECT id FROM typed WHERE c_bool = true OR c_int4 IN (1, 7, 9999999999)",
    "SELECT id FROM typed WHERE c_int4 = (-7)::int8 OR c_int8 = 7.0 OR c_int2 = 7::bigint",
    "SELECT id FROM typed WHERE c_int4 = 7.5 OR c_numeric = 1.1 OR c_float8 = 0.1 OR c_float8 = 7",
    "SELECT id FROM typed WHERE c_int4 = ANY ('{7,NULL}') OR c_uuid = ANY (ARRAY['c56a4180-65aa-42ec-a945-5fd21dec0538']::uuid[])",
    "SELECT id FROM typed WHERE c_date IN (SELECT c_date FROM typed WHERE c_int4 = 7)",
    "SELECT c_date::date, c_int4::int, COALESCE(c_int4, 5), COALESCE(c_date, '1999-01-01'), COALESCE(c_int8, 5) FROM typed",
    "SELECT CASE WHEN id = 1 THEN c_numeric ELSE 5 END, NULLIF(c_int4, 7) FROM typed",
    "SELECT c_int4 FROM typed UNION ALL SELECT 5 UNION ALL SELECT c_int4 FROM typed",
    "SELECT t.id, v.n FROM typed t JOIN (VALUES (7, 'x'), (8, 'y')) v (i, n) ON t.c_int4 = v.i",
    "UPDATE typed SET c_int4 = 12, c_bool = false, c_date = NULL WHERE id = 1 RETURNING c_int4, c_bool, c_date",
    "UPDATE typed SET c_numeric_10_2_ = 12.345, c_int2 = 3.5, c_float8 = 1, c_float4 = 0.1 WHERE id = 1 RETURNING *",
    "INSERT INTO typed (id, c_int4, c_varchar_12_) VALUES (100, 5::numeric, 42), (101, '5'::int8, true)",
    "INSERT INTO typed (id, c_int4) SELECT 200, c_int4 FROM typed WHERE id = 1",
    "INSERT INTO typed (id, c_date) SELECT x, '2001-01-01' FROM generate_series(300, 302) x",
    "SELECT id FROM typed WHERE c_date = 5",
    "SELECT id FROM typed WHERE c_int4 = '2000-01-01'::date",
    "SELECT id FROM typed WHERE c_int4 = 'x'",
    "SELECT id FROM typed WHERE c_uuid = 'x'",
    "UPDATE typed SET c_date = 5",
    "UPDATE typed SET c_bool = 1",
    "UPDATE typed SET c_int2 = 40000",
    "UPDATE typed SET c_int4 = '5 apples'",
    "UPDATE typed SET c_date = '2001-02-30'",
    "UPDATE typed SET c_varchar_12_ = 'more than twelve'",
    "UPDATE typed SET c_numeric_10_2_ = 1234567890",
    "UPDATE typed SET c_date = true::date",
    "UPDATE typed SET c_char_9_ = 'more than nine'",
    # Of one shape, where the type of the number decides the type of the result.
    "SELECT COALESCE(c_numeric, 1), COALESCE(c_int8, 1) FROM typed",
    "SELECT COALESCE(c_numeric, 1.5), COALESCE(c_int8, 99999999999) FROM typed",
    "SELECT COALESCE(c_int4, -2147483648), COALESCE(c_float8, 1), COALESCE(c_float4, 1.1), COALESCE(c_timestamp, date '2001-01-01')"
    " FROM typed",
    "SELECT COALESCE(c_char_9_, 'abc'::text), COALESCE(c_char_9_, 'longer than nine') FROM typed",
    "SELECT COALESCE(c_inet, '10.0.0.0/8'::cidr) FROM typed",
    "SELECT c_float8 FROM typed UNION SELECT 0 UNION SELECT '7'",
    "SELECT COALESCE(c_bool, 1) FROM typed",
    "SELECT COALESCE(c_time, interval '10:00') FROM typed",
    "UPDATE typed SET c_bool = 1::bool, c_int4 = CASE WHEN id = 1 THEN '1.5' ELSE 2.5 END RETURNING c_bool, c_int4",
    "UPDATE typed SET c_int4 = CASE c_int4 WHEN 7 THEN 8 WHEN -7 THEN 9 END RETURNING c_int4",
    "SELECT id FROM typed WHERE c_int4 = ANY (ARRAY['7', '8'])",
    # A CASE, COALESCE or NULLIF of nothing but texts without a type is a text: of a char(n) the blanks count then.
    "SELECT id FROM typed WHERE c_char_9_ = COALESCE('ab ', 'x') OR c_char_9_ = NULLIF('a ', 'x')",
    "SELECT id, c_char_9_ <> CASE WHEN id > 0 THEN 'ab ' END, c_char_9_ = COALESCE(c_char_9_, 'ab ') FROM typed",
    "SELECT id FROM typed WHERE c_date = COALESCE('2000-02-29', 'infinity')",
    "SELECT id FROM typed WHERE c_int4 = NULLIF('7', '8')",
    "SELECT id FROM typed WHERE c_uuid IS NOT DISTINCT FROM CASE WHEN true THEN NULL ELSE 'x' END",
    "SELECT id FROM typed WHERE c_int4 IN (COALESCE(7, 8), '7')",
    "SELECT c_date FROM typed UNION ALL SELECT (SELECT date '2000-02-29') UNION ALL SELECT q FROM (VALUES (date '2001-1-1')) v (q)"
    " UNION ALL SELECT NULL",
    "SELECT c_int4 FROM typed UNION ALL SELECT (SELECT 5)",
    "SELECT q FROM (VALUES (7), (8)) v (q) JOIN typed ON c_int4 = q",
    "SELECT q FROM unnest('{7,8}'::int[]) q JOIN typed ON c_int4 = q",
    "SELECT id FROM typed WHERE c_int4__ = ANY (ARRAY['{7}'::int[]]) OR c_text__ <> ALL (ARRAY['{a}'])",
    "SELECT NULLIF(c_char_9_, 'x'), NULLIF(c_numeric_10_2_, 7), NULLIF(c_varchar_12_, 'x') FROM typed",
    "SELECT NULLIF(c_timestamptz_0_, 'infinity'), NULLIF(c_text, 'x') FROM typed",
    "SELECT id FROM typed WHERE c_float4 IN (0.1, 0.2) OR c_float4 = ANY (ARRAY[0.1, 0.2])",
    "DELETE FROM typed WHERE c_float4 NOT IN (0.1, 0.2)",
    "SELECT id FROM typed WHERE c_char_9_ = 'ab '::varchar(10) OR c_char_9_ IN ('ab '::text, 'x'::text)",
    "SELECT id FROM typed WHERE c_char_9_ = ANY (SELECT unnest(ARRAY['ab ', 'x']::varchar[]))",
    "DELETE FROM typed WHERE c_char_9_ NOT IN ('ab '::varchar, 'x'::text)",
    "UPDATE typed SET c_char_9_ = 'ab'::varchar(3) RETURNING c_char_9_",
    "UPDATE typed SET c_int4 = q FROM (VALUES (1, 2.50::numeric(6,3)), (2, 1::float8)) v (i, q) WHERE id = v.i RETURNING c_int4",
    "UPDATE typed SET c_numeric = '-0'::float8 RETURNING c_numeric",
    "UPDATE typed SET c_int4 = CASE WHEN id = 1 THEN 2.5 ELSE 1::float8 END RETURNING c_int4",
    "SELECT id FROM typed WHERE COALESCE(c_bool, false) AND NOT COALESCE(c_bool, true) OR COALESCE(c_bool, false) IS TRUE",
    "SELECT id FROM typed WHERE c_text = '{x}'::text[]",
    "SELECT id FROM typed WHERE c_timestamp = ANY (ARRAY['2000-02-29 00:00:00.1', $$infinity$$]::timestamp(0)[])",
    "SELECT id FROM typed WHERE c_date::date = '2000-02-29' AND c_int4::int = 7 OR c_varchar_12_::varchar(20) = 'x'",
    "SELECT id FROM typed JOIN (VALUES (1.5), (7.2)) v (q) ON c_int4 = q::int",
    "SELECT id FROM typed WHERE c_char_9_ = ANY (ARRAY['ab', 'abc']::char[])",
    "SELECT id FROM typed WHERE c_numeric_10_2_ = ANY (ARRAY['1.001']::numeric(10,2)[])",
    "SELECT id FROM typed WHERE c_char_9_ IN ('ab ', COALESCE('a ', NULL))",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_constants_and_casts(both: Differential, statement: str) -> None:
    empty(both)
    both.run(
        "INSERT INTO typed (id, c_bool, c_int2, c_int4, c_int8, c_date, c_numeric, c_float8, c_uuid, c_char_9_)"
        " VALUES (1, true, 7, 7, 7, '2000-02-29', 1.10, 0.1, 'c56a4180-65aa-42ec-a945-5fd21dec0538', 'ab'), (2, false, 1, -7, 7,"
        " 'infinity', 7, 7, NULL, 'a ')"
    )
    for way in ("simple", "extended"):
        both.run("BEGIN")
        try:
            both.run(statement, protocol=way)
        finally:
            both.run("ROLLBACK")
    both.run("SELECT * FROM typed ORDER BY id")


# With parameters, and the types that Parse declares of them.
PARAMETERS: list[tuple[str, list[str | None], tuple[int, ...]]] = [
    ("SELECT id FROM typed WHERE c_float4 IN ($1, $2)", ["0.1", "7"], (1700, 1700)),
    ("SELECT id FROM typed WHERE c_float4 IN ($1)", ["0.1"], (1700,)),
    ("SELECT id FROM typed WHERE c_bool = ANY (ARRAY[$1, $2])", ["t", None], (16, 0)),
    ("SELECT id FROM typed WHERE c_timestamptz IN (VALUES ($1), ($2))", ["infinity", "2000-01-01"], (1184, 1082)),
    ("SELECT id FROM typed WHERE c_numeric = COALESCE($1, $2)", [None, "1.1"], (23, 1700)),
    ("SELECT id FROM typed t JOIN (VALUES ($1), ($2)) v (q) ON t.c_int8 = v.q", ["7", "8"], (23, 21)),
    ("SELECT COALESCE(c_int4, $1), NULLIF(c_int4, $2) FROM typed", ["5", "7"], (21, 20)),
    ("SELECT c_date FROM typed UNION ALL SELECT $1", ["2000-01-01"], (1082,)),
    ("SELECT id FROM typed WHERE c_char_9_ IN ($1, $2)", ["ab ", "a"], (1043, 25)),
    ("SELECT id FROM typed WHERE c_char_9_ = $1", ["ab "], (1043,)),
    ("UPDATE typed SET c_int4 = CASE WHEN id = 1 THEN $1 ELSE $2 END RETURNING c_int4", ["2.5", "3.5"], (1700, 701)),
    ("UPDATE typed SET c_numeric = $1 RETURNING c_numeric", ["-0"], (701,)),
    ("UPDATE typed SET c_char_9_ = $1::varchar(3) RETURNING c_char_9_", ["abcdef"], (25,)),
    ("SELECT id FROM typed WHERE COALESCE(c_bool, $1)", ["t"], (16,)),
    ("SELECT id FROM typed WHERE c_int4 = ANY ($1)", ["{7,8}"], (1007,)),
]


@pytest.mark.parametrize(("statement", "values", "types"), PARAMETERS)
def test_declared_parameters(both: Differential, statement: str, values: list[object], types: tuple[int, ...]) -> None:
    empty(both)
    both.run(
        "INSERT INTO typed (id, c_bool, c_int4, c_int8, c_date, c_numeric, c_float4, c_char_9_, c_timestamptz)"
        " VALUES (1, true, 7, 7, '2000-02-29', 1.10, 0.1, 'ab', 'infinity'), (2, NULL, -7, 7, NULL, 7, 7, 'a', '2000-01-01')"
    )
    for named in (False, True):
        both.run("BEGIN")
        try:
            assert both.run(statement, values, types=types, named=named).sqlstate is None
            both.run("SELECT * FROM typed ORDER BY id")
        finally:
            both.run("ROLLBACK")


# Of these the type of the result, or what is compared, is another one than the column's.
NOT_TAKEN: list[tuple[str, list[str | None], tuple[int, ...]]] = [
    ("SELECT COALESCE(c_int4, $1) FROM typed", ["0.5"], (701,)),
    ("SELECT NULLIF(c_int4, $1) FROM typed", ["1"], (701,)),
    ("SELECT NULLIF(c_char_9_, $1) FROM typed", ["x"], (25,)),
    ("SELECT c_date FROM typed UNION ALL SELECT $1", ["2000-01-01 10:00"], (1114,)),
    ("SELECT id FROM typed JOIN (VALUES ($1)) v (c_float4) USING (c_float4)", ["0.1"], (1700,)),
    ("SELECT id FROM typed JOIN (VALUES ($1)) v (c_char_9_) USING (c_char_9_)", ["ab "], (25,)),
    ("SELECT id FROM typed WHERE c_varchar_12_ = $1", ["a"], (1042,)),
    ("SELECT q FROM (VALUES ($1)) v (q) JOIN typed ON c_cidr = q", ["10.0.0.1"], (869,)),
    ("SELECT c_numeric FROM typed INTERSECT SELECT $1", ["7.0"], (1700,)),
    ("UPDATE typed SET c_varchar_12_ = COALESCE($1, $2)", ["ok", "more than twelve"], (25, 25)),
]


@pytest.mark.parametrize(("statement", "values", "types"), NOT_TAKEN)
def test_what_is_of_another_type_is_refused(
    both: Differential, statement: str, values: list[object], types: tuple[int, ...]
) -> None:
    empty(both)
    both.run("INSERT INTO typed (id) VALUES (1)")
    both.clinic.oracle.planted = ["more than twelve"]
    both.refused(statement, values, types=types)


def test_null_equals_is_transformed_by_the_server_where_it_is_told_to(both: Differential) -> None:
    empty(both)
    both.run("INSERT INTO typed (id, c_int4, c_text) VALUES (1, 7, 'x'), (2, NULL, NULL)")
    for setting in ("off", "on"):
        both.run(f"SET transform_null_equals = {setting}")
        for statement in (
            "SELECT id FROM typed WHERE c_int4 = NULL",
            "SELECT id FROM typed WHERE NULL = c_text AND c_text = NULL",
            "SELECT id FROM typed WHERE c_text <> NULL OR c_text IN (NULL) OR c_text = NULL::text OR (id, c_text) = (2, NULL)",
        ):
            for way in ("simple", "extended"):
                both.run(statement, protocol=way)
    both.run("RESET transform_null_equals")


REFUSED = [
    "SELECT c_date::text || 'x' FROM typed",
    "SELECT id FROM typed ORDER BY c_date::text",
    "SELECT c_date::text FROM typed UNION SELECT 'x'",
    "SELECT left(c_date::text, 4) FROM typed",
    "INSERT INTO typed (id, plain) SELECT 99, c_date::text FROM typed",
    "UPDATE typed SET c_varchar_12_ = c_date::text",
    "SELECT id FROM typed WHERE c_date::text = '2000-02-29'",
    "SELECT id FROM typed WHERE c_int4::int8 = 5",
    "SELECT (CASE WHEN true THEN c_date END)::text FROM typed",
    "SELECT id FROM typed WHERE c_int8 = 1.5::float8",
    "SELECT COALESCE(c_date, '2000-01-01'::timestamp) FROM typed",
    "SELECT COALESCE(c_int4, 0.5) FROM typed",
    "SELECT COALESCE(c_int4, 99999999999) FROM typed",
    "SELECT CASE WHEN id = 1 THEN c_int4 ELSE 7.5 END FROM typed",
    "SELECT c_int4 FROM typed UNION ALL SELECT 5.5",
    "UPDATE typed SET c_varchar_12_ = CASE WHEN id = 1 THEN date '2000-02-29' ELSE timestamp '2000-02-29 10:00' END",
    "SELECT id FROM typed WHERE c_interval = interval '24' hour",
    "UPDATE typed SET c_int4__[1] = 5",
    "SELECT c_int4 + 1 FROM typed",
    "SELECT count(*) FROM typed GROUP BY c_date::text",
    "SELECT id FROM typed GROUP BY c_date::text, id",
    "SELECT DISTINCT c_date::text FROM typed",
    "SELECT id FROM typed WHERE c_citext = COALESCE('AB', 'x')",
    "SELECT c_citext FROM typed INTERSECT SELECT (SELECT 'AB')",
    "SELECT c_citext FROM typed UNION SELECT q FROM (SELECT 'AB' AS q) v",
    "SELECT q FROM (VALUES (7), (7.0)) v (q) JOIN typed ON c_int4 = q",
    "SELECT q FROM (VALUES (7::int8)) v (q) WHERE q IN (SELECT c_int4 FROM typed)",
    "SELECT q FROM (SELECT 7.0 AS q) v JOIN typed ON c_int4 = q",
    "UPDATE typed SET c_int8 = CASE id WHEN 1 THEN NULL WHEN 2 THEN 0 ELSE -1::bigint END",
    "UPDATE typed SET c_text__ = NULLIF('{a}', '{b}'::text[])",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_refused(both: Differential, statement: str) -> None:
    both.clinic.oracle.planted = ["2000-02-29"]
    both.refused(statement)


def shown(name: str) -> str:
    """Return the casts that show a column as text."""
    plain = column(name)
    return f"{plain}::text, CAST({plain} AS varchar) AS v"


CASTS = [
    "SELECT c_date::text, c_int4::text AS n FROM typed ORDER BY id",
    "SELECT x.d, x.id FROM (SELECT c_date::text AS d, id FROM typed) x ORDER BY 2",
    "SELECT c_date, c_date::varchar, count(*) FROM typed GROUP BY c_date",
    "WITH w AS (SELECT c_timestamptz::text AS t FROM typed) SELECT t FROM w",
    "UPDATE typed SET plain = 'x' WHERE id = 1 RETURNING c_date::text, c_numeric::varchar",
    "SELECT id FROM typed WHERE c_date::text IS NOT NULL ORDER BY id",
    "SELECT c_date::text FROM typed UNION ALL SELECT c_date::text FROM typed",
    "SELECT max(id), (SELECT t.c_bool::text FROM typed t WHERE t.id = 1) FROM typed",
]


@pytest.mark.parametrize("setting", ["DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Kathmandu'", ""])
def test_casts_to_text_are_shown(both: Differential, setting: str) -> None:
    empty(both)
    for i in range(3):
        values = [VALUES[name][i % len(VALUES[name])] for name in TYPES]
        marks = ", ".join(f"${n}" for n in range(2, len(values) + 2))
        both.run(f"INSERT INTO typed (id, {', '.join(map(column, TYPES))}) VALUES ($1, {marks})", [str(i), *values])
    if setting:
        both.run(f"SET {setting}")
    both.read(f"SELECT id, {', '.join(map(shown, TYPES))} FROM typed ORDER BY id")
    for statement in CASTS:
        both.run("BEGIN")
        try:
            both.run(statement, protocol="simple")
            both.run(statement, result_format=1)
        finally:
            both.run("ROLLBACK")
    if setting:
        both.run(f"RESET {setting.partition(' ')[0]}")


def test_casts_to_text_are_copied(site: Site, both: Differential) -> None:
    empty(both)
    both.run("INSERT INTO typed (id, c_date, c_interval) VALUES (1, '2000-02-29', '1 mon -1 days 01:02:03.4')")
    statement = "COPY (SELECT c_date::text, c_interval::varchar FROM typed) TO STDOUT"
    with psycopg.connect(site.plain_dsn) as plain, psycopg.connect(site.proxy_dsn) as proxied:
        for conn in (plain, proxied):
            conn.execute("SET IntervalStyle = 'iso_8601'")
            conn.execute("SET DateStyle = 'German'")
            conn.commit()
        for form in ("", "(FORMAT csv)", "(FORMAT binary)"):
            assert b"".join(read(proxied, f"{statement} {form}")) == b"".join(read(plain, f"{statement} {form}"))


CONDITIONS = [
    "SELECT id FROM typed WHERE c_bool",
    "SELECT id FROM typed x WHERE NOT x.c_bool OR (x.c_bool AND plain = 'true') ORDER BY id",
    *(f"SELECT id FROM typed WHERE c_bool IS {test} ORDER BY id" for test in
      ("TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN", "NOT UNKNOWN")),
    "SELECT id, CASE WHEN c_bool THEN 'y' WHEN NOT c_bool THEN 'n' END, NOT c_bool FROM typed ORDER BY id",
    "SELECT x.id, y.id FROM typed x JOIN typed y ON x.c_bool AND NOT y.c_bool",
    "SELECT count(*) FILTER (WHERE c_bool) FROM typed",
    "SELECT c_bool, count(*) FROM typed GROUP BY c_bool HAVING NOT c_bool",
    "SELECT id FROM (SELECT id, c_bool AS c FROM typed) s WHERE c AND id IN (SELECT id FROM typed y WHERE y.c_bool)",
    "SELECT x.id FROM typed x JOIN typed y USING (id, c_bool) WHERE c_bool",
    "UPDATE typed SET plain = 'z', c_bool = false WHERE public.typed.c_bool RETURNING id, c_bool",
    "DELETE FROM typed WHERE NOT c_bool RETURNING id, c_bool",
    "INSERT INTO typed (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET plain = 'q' WHERE typed.c_bool RETURNING plain",
    "MERGE INTO typed USING (SELECT 1 AS i) s ON id = i WHEN MATCHED AND c_bool THEN UPDATE SET plain = 'm'",
]  # fmt: skip


@pytest.mark.parametrize("statement", CONDITIONS)
def test_a_truth_value_is_a_condition(both: Differential, statement: str) -> None:
    empty(both)
    both.run("INSERT INTO typed (id, c_bool, plain) VALUES (1, true, 'true'), (2, false, 'x'), (3, NULL, NULL)")
    for way in ("simple", "extended"):
        both.run("BEGIN")
        try:
            both.run(statement, protocol=way)
            both.run("SELECT id, plain, c_bool FROM typed ORDER BY id")
        finally:
            both.run("ROLLBACK")


SETTINGS = [
    "DateStyle = 'SQL, DMY'",
    "DateStyle = 'German'",
    "DateStyle = 'Postgres, MDY'",
    "TimeZone = 'America/New_York'",
    "TimeZone = 'Asia/Kathmandu'",
    "IntervalStyle = 'sql_standard'",
    "IntervalStyle = 'postgres_verbose'",
    "IntervalStyle = 'iso_8601'",
    "bytea_output = 'escape'",
    "extra_float_digits = 0",
    "extra_float_digits = -3",
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_spelled_as_the_session_says(both: Differential, setting: str) -> None:
    empty(both)
    columns = [name for name in TYPES if not name.endswith("[]")]
    names = ", ".join(map(column, columns))
    for i in range(3):
        values = [VALUES[name][i % len(VALUES[name])] for name in columns]
        marks = ", ".join(f"${n}" for n in range(2, len(values) + 2))
        both.run(f"INSERT INTO typed (id, {names}) VALUES ($1, {marks})", [str(i), *values])
    shown = f"SELECT id, {names} FROM typed ORDER BY id"
    for way in ("simple", "extended"):
        both.run(f"SET {setting}")
        found = both.run(shown, protocol=way)
        rows = [[None if v is None else v.decode() for v in row] for row in found.rows]
        for i, row in enumerate(rows if "Postgres" not in setting else []):
            both.run(
                f"INSERT INTO typed (id, {names}) VALUES ($1, {', '.join(f'${n}' for n in range(2, len(row) + 1))})",
                [str(10 + i), *row[1:]],
            )
        both.run("BEGIN")
        both.run(f"SET LOCAL {setting.partition('=')[0]} TO DEFAULT")
        both.run(shown, protocol=way)
        both.run("ROLLBACK")
        both.run(shown, protocol=way)
        both.run(f"RESET {setting.partition('=')[0]}")
        both.run("DELETE FROM typed WHERE id > 9")
        both.run(shown, protocol=way)


def test_defaults_of_every_kind(both: Differential) -> None:
    defaults = {
        "int4": "-7", "int8": "7", "bool": "true", "date": "'2000-02-29'", "numeric(10,2)": "0.005", "varchar(12)": "'Zoë'",
        "timestamptz": "'2000-02-29 12:00:00-08'", "jsonb": "'{}'", "text[]": "'{a,b}'", "uuid": f"'{VALUES['uuid'][0]}'",
    }  # fmt: skip
    empty(both)
    for declared, default in defaults.items():
        both.run(f"ALTER TABLE typed ALTER COLUMN {column(declared)} SET DEFAULT {default}", protocol="simple")
    for number, statement in enumerate(
        ["INSERT INTO typed (id) VALUES (0)", "INSERT INTO typed VALUES (1) RETURNING *", "INSERT INTO typed (id) SELECT 2"]
    ):
        both.run(statement, protocol="simple" if number == 1 else "extended")
    everything_of = ", ".join(map(column, defaults))
    both.run(f"SELECT {everything_of} FROM typed ORDER BY id")
    both.run(f"SELECT id FROM typed WHERE {column('int4')} = -7 AND {column('date')} = '2000-02-29'")
    both.run("SET datestyle TO 'SQL, DMY'", protocol="simple")
    both.run(f"UPDATE typed SET {column('date')} = DEFAULT, {column('int4')} = DEFAULT RETURNING {everything_of}")
    for declared in defaults:
        both.run(f"ALTER TABLE typed ALTER COLUMN {column(declared)} DROP DEFAULT", protocol="simple")
    both.run("RESET ALL", protocol="simple")


def test_checks_of_numbers_and_dates(both: Differential) -> None:
    small, amount, day = (column(name) for name in ("int4", "numeric(10,2)", "date"))
    empty(both)
    both.run(
        f"ALTER TABLE typed ADD CONSTRAINT s CHECK ({small} BETWEEN 0 AND 150 AND {small} <> 13), ADD CHECK ({amount} >= 0.01),"
        f" ADD CONSTRAINT d CHECK ({day} > '1900-01-01' AND {day} < date '2100-01-01' OR {day} IS NULL)",
        protocol="simple",
    )
    insert = f"INSERT INTO typed (id, {small}, {amount}, {day}) VALUES ($1, $2, $3, $4)"
    rows: list[list[str | None]] = [
        ["0", "0.01", "2000-02-29"], ["-1", "1", "2000-02-29"], ["13", "1", "2000-02-29"], ["150", "0.004", "2000-02-29"],
        ["151", "1", "1900-01-01"], [None, "1e5", "1900-01-01"], ["7", None, "2100-01-01"], [None, None, None],
    ]  # fmt: skip
    for i, row in enumerate(rows):
        both.run(insert, [str(i), *row])
        literals = ", ".join("NULL" if value is None else f"'{value}'" for value in row)
        both.run(f"INSERT INTO typed (id, {small}, {amount}, {day}) VALUES ({i + 100}, {literals})", protocol="simple")
    both.run("SELECT * FROM typed ORDER BY id")
    both.run(f"ALTER TABLE typed DROP CONSTRAINT s, DROP CONSTRAINT typed_{amount}_check, DROP CONSTRAINT d", protocol="simple")


DRIVEN: dict[str, object] = {
    "c_bool": True,
    "c_int2": 7,
    "c_int4": -40000,
    "c_int8": 2**40,
    "c_uuid": uuid.UUID("c56a4180-65aa-42ec-a945-5fd21dec0538"),
    "c_date": dt.date(2001, 2, 3),
    "c_bytea": b"\x00\xff",
    "c_numeric": Decimal("12.50"),
    "c_float8": 0.1,
    "c_time": dt.time(12, 13, 14, 500000),
    "c_timestamp": dt.datetime(2001, 2, 3, 4, 5, 6, 7),  # noqa: DTZ001 - it has no zone
    "c_timestamptz": dt.datetime(2001, 2, 3, 4, 5, 6, 7, dt.UTC),
    "c_interval": dt.timedelta(days=1, seconds=2),
    "c_int4__": [1, None, 3],
    "c_text__": ["Zoë", None, ""],
    "c_date__": [dt.date(2001, 2, 3), None],
    "c_varchar_12_": "Zoë",
}
DRIVEN = {name: value for name, value in DRIVEN.items() if name in {column(declared) for declared in TYPES}}
NAMES = ", ".join(DRIVEN)


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_gives_and_gets_its_own_types(site: Site, binary: bool) -> None:
    mark = "%b" if binary else "%t"
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        conn.execute("DELETE FROM typed")
        marks = ", ".join([mark] * (len(DRIVEN) + 2))
        conn.execute(f"INSERT INTO typed (id, c_jsonb, {NAMES}) VALUES ({marks})".encode(), [1, Jsonb({"a": 1}), *DRIVEN.values()])
        row = conn.execute(f"SELECT c_jsonb, {NAMES} FROM typed".encode(), binary=binary).fetchone()
        assert row == ({"a": 1}, *DRIVEN.values())
        for name, value in DRIVEN.items():
            if name == "c_int4__":
                continue  # psycopg gives it as smallint[], which PostgreSQL does not compare with integer[]
            found = conn.execute(f"SELECT id FROM typed WHERE {name} = {mark}".encode(), [value]).fetchall()
            assert found == [(1,)], name
        several = [7, 2**40]
        assert conn.execute(f"SELECT id FROM typed WHERE c_int8 = ANY ({mark})".encode(), [several]).fetchall() == [(1,)]


def test_asyncpg_gives_and_gets_its_own_types(site: Site) -> None:
    async def talk() -> None:
        conn = await asyncpg.connect(site.proxy_dsn)
        try:
            await conn.execute("DELETE FROM typed")
            marks = ", ".join(f"${n}" for n in range(1, len(DRIVEN) + 3))
            await conn.execute(f"INSERT INTO typed (id, c_jsonb, {NAMES}) VALUES ({marks})", 1, '{"a": 1}', *DRIVEN.values())
            row = await conn.fetchrow(f"SELECT c_jsonb, {NAMES} FROM typed")
            assert tuple(row) == ('{"a": 1}', *DRIVEN.values())
            for name, value in DRIVEN.items():
                assert await conn.fetchval(f"SELECT id FROM typed WHERE {name} = $1", value) == 1, name
            assert await conn.fetchval("SELECT id FROM typed WHERE c_date = ANY ($1::date[])", [dt.date(2001, 2, 3)]) == 1
            await conn.copy_records_to_table("typed", records=[(2, dt.date(1999, 1, 1), 5)], columns=["id", "c_date", "c_int4"])
            assert await conn.fetchval("SELECT c_date FROM typed WHERE c_int4 = 5") == dt.date(1999, 1, 1)
        finally:
            await conn.close()

    asyncio.run(talk())
