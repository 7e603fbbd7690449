"""CHECK and DEFAULT over protected columns of each type: the proxy judges as PostgreSQL does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import pair

POLICY = """\
database: {database}
deployment: clinic-test
tables:
  public.patients:
    columns:
      code:   {type: char(5)}
      ok:     {type: bool}
      heat:   {type: float8}
      weight: {type: float4}
      seen:   {type: timestamptz}
      made:   {type: timestamp(3)}
      woken:  {type: time}
      scan:   {type: bytea}
      uid:    {type: uuid}
      dob:    {type: date}
      dose:   {type: "numeric(6,2)"}
      tags:   {type: "text[]"}
"""
# Of each column: its type, a constant default, conditions, and values to judge.
COLUMNS: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = {
    "code": (
        "char(5)",
        "'ab'",
        ("code <> 'x '", "code ~ '^[a-z]{2} +$'", "code IN ('ab', 'cd ')", "length(code) < 3", "octet_length(code) = 5",
         "code LIKE 'a%b  '", "code::text = 'ab'", "lower(code) = 'ab'", "left(code, 1) IN ('a', '') OR right(code, 1) = 'd'",
         "substring(code FROM 2 FOR 2) <> 'b ' AND length(replace(code::text, 'a', '')) < 4"),
        ("x", "ab", "cd", "abcde", "AB", "a b  ", ""),
    ),
    "ok": ("boolean", "true", ("ok", "NOT ok", "ok IS NOT TRUE", "ok = true", "ok IS UNKNOWN OR ok <> 'f'"), ("t", "f")),
    "heat": (
        "double precision",
        "36.6",
        ("heat > 36.6", "heat BETWEEN -1 AND 42.5", "heat <> 9007199254740993", "heat IN (0, 1.5)", "heat >= 37::float8"),
        ("36.6", "36.60000000000001", "9007199254740992", "NaN", "Infinity", "-Infinity", "-0", "1.5", "42.5"),
    ),
    "weight": (
        "real",
        "1.5",
        ("weight = 1.1", "weight <= 1.5", "weight < 16777217", "weight <> 0.1"),
        ("1.1", "1.5", "0.1", "NaN", "16777216"),
    ),
    "seen": (
        "timestamptz",
        "'2020-01-01 00:00:00+00'",
        ("seen >= '2020-01-01 00:00:00+01'", "seen < timestamptz '2020-01-01 12:00-03:30'"),
        ("2019-12-31 23:00:00+00", "2019-12-31 22:59:59.999999+00", "2020-01-01 15:30+00", "2020-01-01 17:29+02"),
    ),
    "made": (
        "timestamp(3)",
        "'2020-01-01 10:00'",
        ("made > '2020-01-01'", "made <= timestamp '2020-01-01T10:00:00.5'", "extract(hour from made) < 10",
         "date_trunc('minute', made) = made", "date_part('second', made) < 0.5"),
        ("2020-01-01", "2020-01-01 00:00:00.0004", "2020-01-01 00:00:00.0006", "2020-01-01 10:00:00.5004",
         "2020-01-01 10:00:00.501"),
    ),
    "woken": (
        "time",
        "'10:00'",
        ("woken BETWEEN '06:00' AND '10:00:00.5'", "woken <> '24:00'"),
        ("05:59:59", "10:00:00.5", "10:00:00.51", "24:00"),
    ),
    "scan": (
        "bytea",
        r"'\x00'",
        (r"scan <> '\x00'", "length(scan) > 1", r"scan > '\xAB'"),
        (r"\x00", r"\xab", r"\xab00", r"\xAC", r"\x"),
    ),
    "uid": (
        "uuid",
        "'00000000-0000-0000-0000-000000000000'",
        ("uid <> '00000000-0000-0000-0000-00000000000A'", "uid < 'b0000000-0000-0000-0000-000000000000'"),
        ("00000000-0000-0000-0000-00000000000a", "{A0000000-0000-0000-0000-000000000000}", "b0000000000000000000000000000000"),
    ),
    "dob": (
        "date",
        "'1900-01-01'",
        ("dob >= '1900-01-01'", "dob < date '2100-02-28'", "extract(year from dob) BETWEEN 1900 AND 2099",
         "date_part('month', dob) IN (1, 12)", "extract(isodow from dob) < 7"),
        ("1899-12-31", "1900-01-01", "2100-02-28"),
    ),
    "dose": (
        "numeric(6,2)",
        "-1.505",
        ("dose > 0.5", "dose <> 1.50", "dose IN (1, 2.5)"),
        ("0.5", "0.504", "0.505", "1.499", "2.50", "1"),
    ),
    "tags": ("text[]", "'{}'", ("tags IS NOT NULL OR true",), ("{a}",)),
}  # fmt: skip


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names a table that nobody has made yet."""
    with open_site(postgres_server, tmp_path_factory.mktemp("checks"), policy=POLICY, ddl="SELECT", planned=True) as site:
        yield site


@pytest.mark.parametrize("number", range(max(len(conditions) for _, _, conditions, _ in COLUMNS.values())))
def test_values_are_judged_as_by_the_server(site: Site, number: int) -> None:
    """One condition of each column at a time, in one table: all that is not given is NULL."""
    judged = {name: column for name, column in COLUMNS.items() if number < len(column[2])}
    with pair(site) as both:
        listed = [f"{name} {type_} CONSTRAINT {name}_fails CHECK ({said[number]})" for name, (type_, _, said, _) in judged.items()]
        both.run(f"CREATE TABLE patients (id int, {', '.join(listed)})")
        for name, (_, _, _, values) in judged.items():
            for i, value in enumerate(values):
                both.run(f"INSERT INTO patients (id, {name}) VALUES ({i}, '{value}')")
                both.run(f"INSERT INTO patients (id, {name}) VALUES (%s, %s)", (i, value), prepare=True)
        both.run("SELECT id FROM patients")


def test_constant_defaults_of_each_type(site: Site) -> None:
    with pair(site) as both:
        listed = ", ".join(f"{name} {type_} DEFAULT {default}" for name, (type_, default, _, _) in COLUMNS.items())
        both.run(f"CREATE TABLE patients (id int, {listed})")
        both.run("INSERT INTO patients (id) VALUES (1) RETURNING *")
        both.run("INSERT INTO patients (id, code) VALUES (%s, DEFAULT)", (2,), prepare=True)
        both.run("CREATE TABLE other (i int)")
        both.run("INSERT INTO other VALUES (7)")
        both.run("INSERT INTO patients (id) TABLE other RETURNING *")
        for name in ("code", "ok", "seen", "dose"):
            default = COLUMNS[name][1]
            both.run(f"ALTER TABLE patients ALTER COLUMN {name} DROP DEFAULT")
            both.run("INSERT INTO patients (id) VALUES (3) RETURNING *")
            both.run(f"ALTER TABLE patients ALTER {name} SET DEFAULT {default}")
        both.run("INSERT INTO patients (id) VALUES (4) RETURNING *")
        site.cli("check")


def test_a_prepared_statement_hears_of_a_new_constraint(site: Site) -> None:
    with pair(site) as both:
        both.run("CREATE TABLE patients (id int, code char(5), heat float8 DEFAULT 36)")
        insert = "INSERT INTO patients (id, code) VALUES (%s, %s) RETURNING *"
        both.run(insert, (1, "ab"), prepare=True)
        both.run("ALTER TABLE patients ADD CONSTRAINT short CHECK (length(code) < 2) NOT VALID, ALTER heat SET DEFAULT 37")
        both.run(insert, (2, "ab"), prepare=True)
        both.run(insert, (3, "a"), prepare=True)
        both.run("ALTER TABLE patients DROP CONSTRAINT short")
        both.run(insert, (4, "ab"), prepare=True)
