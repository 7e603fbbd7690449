"""Rows that are given as a document: each member of it is stored by itself, sealed or in clear, as PostgreSQL does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.oracle import LeakOracle
from tests.harness.results import told_and_stored
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

DDL = "CREATE TABLE things (id int PRIMARY KEY, word text, tags text[], ward text);"
POLICY = """\
database: {database}
deployment: recordsets-test
tables:
  public.things:
    columns:
      word: {type: text}
      tags: {type: "text[]"}
"""
ROWS = "INSERT INTO things VALUES (1, 'Stone', '{a,b}', 'north'), (2, NULL, NULL, 'south')"


def _given(word: str) -> str:
    return json.dumps([{"id": 41, "w": word, "t": ["x", None], "c": "east"}, {"c": None, "w": None, "id": 2}])


STATEMENTS = [
    "INSERT INTO things (id, word, ward) SELECT id + 100, upper(w), c FROM jsonb_to_recordset($1) AS x (id int, w text, c text)",
    "INSERT INTO things (id, word) SELECT id + 100, w FROM jsonb_to_recordset($1::jsonb) AS x (id int, w text) RETURNING *",
    "INSERT INTO things (id, tags, word) SELECT x.id + 100, x.t, x.w FROM json_to_recordset($1) AS x (id int, w text, t text[])",
    "INSERT INTO things (id, word) SELECT * FROM pg_catalog.jsonb_to_recordset($1) AS x (id int, w text)"
    " ON CONFLICT (id) DO UPDATE SET word = EXCLUDED.word RETURNING id, word, length(word)",
    "INSERT INTO things (id, word) SELECT id, w || c FROM jsonb_to_recordset($1) AS x (id int, w text, c text) WHERE w LIKE 'Z%'",
    "UPDATE things SET word = upper(x.w), ward = x.c FROM jsonb_to_recordset($1) AS x (id int, w text, c text)"
    " WHERE x.id = things.id",
    "WITH j AS (SELECT * FROM jsonb_to_recordset($1) AS x (id int, w text)) INSERT INTO things (id, word) SELECT id + 50, w FROM j",
    "INSERT INTO things (id, word) SELECT id, w FROM jsonb_to_record($1) AS x (id int, w text)",
]
REFUSED = [
    "INSERT INTO things (id, word, ward) SELECT id, upper(w), w FROM jsonb_to_recordset($1) AS x (id int, w text)",
    "INSERT INTO things (id, word) SELECT length(w), upper(w) FROM jsonb_to_recordset($1) AS x (id int, w text)",
    "INSERT INTO things (id, word, ward) SELECT x.id + 100, upper(x.w), y.w FROM jsonb_to_recordset($1) AS x (id int, w text),"
    " jsonb_to_recordset($1) AS y (id int, w text)",
    "INSERT INTO things (id, word, ward) SELECT id + 100, upper(w), left($1::text, 9)"
    " FROM jsonb_to_recordset($1) AS x (id int, w text)",
    "INSERT INTO things (id, word, ward) SELECT id + 100, upper(w), r::text"
    " FROM jsonb_to_recordset($1) AS x (id int, w text, r jsonb), "
    "LATERAL jsonb_array_elements($1) AS r",
    "INSERT INTO things (id, word, ward) SELECT id, upper(w), x::text FROM jsonb_to_recordset($1) AS x (id int, w text)",
]


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings, directory = "compute: {engine: embedded}\n", tmp_path_factory.mktemp("recordsets")
    with open_site(postgres_server, directory, policy=POLICY, ddl=DDL, settings=settings) as site:
        for dsn in (site.plain_dsn, site.proxy_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(ROWS)
        yield site


def _outcome(dsn: str, statement: str, *, as_parameter: bool) -> list[object]:
    with psycopg.connect(dsn) as conn, psycopg.RawCursor(conn) as cursor:
        try:
            if as_parameter:
                cursor.execute(statement.encode(), [_given("Zoë O'Stone")])
            else:
                constant = _given("Zoë O'Stone").replace("'", "''")
                cursor.execute(statement.replace("$1", f"'{constant}'").encode())
        except psycopg.Error as error:
            return [error.sqlstate]
        return told_and_stored(cursor, "SELECT * FROM things ORDER BY id")


@pytest.mark.parametrize("as_parameter", [False, True])
@pytest.mark.parametrize("number", range(len(STATEMENTS)))
def test_members_of_a_given_document(site: Site, number: int, as_parameter: bool) -> None:
    directly, proxied = (_outcome(dsn, STATEMENTS[number], as_parameter=as_parameter) for dsn in (site.plain_dsn, site.proxy_dsn))
    assert directly == proxied


@pytest.mark.parametrize("as_parameter", [False, True])
@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_sealed_comes_into_clear_by_no_other_member(site: Site, number: int, as_parameter: bool) -> None:
    assert _outcome(site.proxy_dsn, REFUSED[number], as_parameter=as_parameter) in (["0A000"], ["42883"])


def test_no_member_is_seen_anywhere(site: Site) -> None:
    oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
    given = _given(oracle.plant("name"))
    for statement in (*STATEMENTS, *REFUSED):
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn, psycopg.RawCursor(conn) as cursor:
            with contextlib.suppress(psycopg.Error):  # as above
                cursor.execute(statement.encode(), [given])
            with contextlib.suppress(psycopg.Error):
                cursor.execute(statement.replace("$1", f"'{given}'").encode())
    with psycopg.connect(site.proxy_dsn) as conn:
        stored = conn.execute("SELECT count(*) FROM things WHERE word = %s", [json.loads(given)[0]["w"]]).fetchone()
    oracle.assert_no_leak()
    with psycopg.connect(site.proxy_dsn) as conn:
        conn.execute("DELETE FROM things")
        conn.execute(ROWS)
    assert stored != (0,)
