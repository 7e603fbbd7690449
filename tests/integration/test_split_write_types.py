"""Values of every type are computed with and stored again by split writes: as arrays, in binary form, they are what they were."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.results import told_and_stored
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

TYPES = """\
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
"""
# Type and values; NULL is with each.
VALUES: dict[str, tuple[str, ...]] = {
    "boolean": ("true", "false"),
    "bytea": (r"'\x00ff27'", "''"),
    "smallint": ("-32768", "7"),
    "integer": ("-2147483648", "7"),
    "bigint": ("9223372036854775807", "0"),
    "real": ("1.5e-38", "'NaN'"),
    "double precision": ("0.1", "'-Infinity'"),
    "numeric(12, 3)": ("-123456789.125", "0"),
    "numeric": ("1e-20", "'NaN'"),
    "text": ("''", "'Zoë, {NULL} \"quoted\" \\ back'"),
    "varchar(20)": ("'a'", "'NULL'"),
    "char(5)": ("'ab'", "'abcde'"),
    "date": ("'0044-03-15 BC'", "'infinity'"),
    "time(3)": ("'24:00'", "'23:59:59.999'"),
    "timetz": ("'12:30:00-05:30'", "'00:00+14'"),
    "timestamp(3)": ("'1999-12-31 23:59:59.999'", "'-infinity'"),
    "timestamptz": ("'1999-12-31 23:59:59.999999+05:30'", "'infinity'"),
    "interval": ("'1 year -2 mons 3 days -04:05:06.7'", "'0'"),
    "uuid": ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",),
    "json": ("'{\"a\":  [1, null]}'", "'null'"),
    "jsonb": ('\'{"b": 1.50, "a": [1, null]}\'', "'null'"),
    "inet": ("'10.1.0.0/16'", "'::1'"),
    "cidr": ("'10.1.0.0/16'",),
    "mood": ("'happy'", "'sad'"),
    "positive": ("7",),
}
COLUMNS = {f"c{n}": kind for n, kind in enumerate(VALUES, start=1)}
DDL = f"CREATE TABLE things (id int PRIMARY KEY, word text, {', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())});"
_OWN = ("mood", "positive")
_POLICY = "".join(f'      {name}: {{type: "{f"public.{kind}" if kind in _OWN else kind}"}}\n' for name, kind in COLUMNS.items())
POLICY = f"""\
database: {{database}}
deployment: types-test
tables:
  public.things:
    columns:
      word: {{type: text}}
{_POLICY}"""
LISTED = ", ".join(COLUMNS)


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = "compute: {engine: embedded}\n"
    directory = tmp_path_factory.mktemp("types")
    with open_site(postgres_server, directory, policy=POLICY, ddl=DDL, types=TYPES, settings=settings) as site:
        for dsn in (site.plain_dsn, site.proxy_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                for number in range(3):
                    values = ", ".join(of[number] if number < len(of) else "NULL" for of in VALUES.values())
                    conn.execute(f"INSERT INTO things (id, word, {LISTED}) VALUES ({number}, 'word', {values})".encode())
        yield site


STATEMENTS = [
    "UPDATE things SET " + ", ".join(f"{name} = o.{name}" for name in COLUMNS) + " FROM things o WHERE o.id = (things.id + 1) % 3"
    " AND o.word ILIKE '%OR%'",
    f"INSERT INTO things (id, word, {LISTED}) SELECT id + 10, upper(word), {LISTED} FROM things",
    f"UPDATE things SET word = word || '!' WHERE id > 0 RETURNING id, word, {LISTED}",
    f"DELETE FROM things WHERE word ILIKE '%o%' RETURNING id, upper(word), {LISTED}",
]


def _outcome(dsn: str, statement: str, *, binary: bool) -> list[object]:
    with psycopg.connect(dsn) as conn, conn.cursor(binary=binary) as cursor:
        cursor.execute(statement.encode())
        return told_and_stored(cursor, f"SELECT id, word, {LISTED} FROM things ORDER BY id")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("number", range(len(STATEMENTS)))
def test_values_of_every_type(site: Site, number: int, binary: bool) -> None:
    directly, proxied = (_outcome(dsn, STATEMENTS[number], binary=binary) for dsn in (site.plain_dsn, site.proxy_dsn))
    assert directly == proxied
