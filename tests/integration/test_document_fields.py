"""Documents with sealed fields: every statement gives what a plaintext PostgreSQL gives, or is refused, and no field is seen."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from phiproxy import app
from phiproxy.plan.explanation import DEFAULT_PATH, explain
from phiproxy.plan.planner import Planner
from phiproxy.policy.load import load_settings
from phiproxy.sql.policy_files import load_policies
from tests.harness.oracle import LeakOracle
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

POLICY = """\
database: {database}
deployment: documents-test
domains:
  mrn: {type: text, indexes: [value], distinct: 1000000}
tables:
  public.charts:
    columns:
      ssn: {type: text, indexes: [ssn], distinct: 100000000}
      mrn: {domain: mrn}
      doc:
        type: jsonb
        fields:
          "$.ssn":             {type: text, indexes: [value, "right(value, 4)"], distinct: 100000000}
          "$.mrn":             {domain: mrn}
          "$.name.family":     {type: text, indexes: ["lower(value)"], distinct: 1000000}
          "$.history[*].note": {type: text, pad: 64}
          "$.age":             {type: int, indexes: [value], distinct: 100000}
          "$.extra":           {type: jsonb, indexes: [value], distinct: 100000}
          "$.\\"odd key's\\"": {type: numeric, indexes: [value], distinct: 100000}
        others: clear
      closed:
        type: jsonb
        fields:
          "$.ssn":   {type: text, indexes: [value], distinct: 100000000}
          "$.name":  {type: jsonb}
        others: sealed
        clear: ["$.ward", "$.meta.at"]
"""
DDL = """\
CREATE TABLE charts (id int PRIMARY KEY, ssn text, mrn text, doc jsonb, closed jsonb);
"""
COLUMNS = ("id", "ssn", "mrn", "doc", "closed")


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("documents")
    with open_site(postgres_server, directory, policy=POLICY, ddl=DDL, settings="compute: {engine: embedded}\n") as site:
        yield site


@pytest.fixture(scope="module")
def planner(site: Site) -> Planner:
    """What ``phiproxy explain`` plans with, read once: no test of this site leaves its catalogue or its policy otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        settings = load_settings(site.config)
        (policy,) = load_policies(settings)
        return asyncio.run(app.planner_without_keys(settings, policy))


@pytest.fixture(scope="module")
def searched(site: Site) -> Iterator[LeakOracle]:
    """The oracle of all tests: what is in the tables, and what was logged, is searched behind the last of them."""
    oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: [site.proxy.log_path], of_many=True)
    oracle.plant()
    yield oracle
    oracle.assert_no_leak()


@pytest.fixture
def oracle(site: Site, searched: LeakOracle) -> Iterator[LeakOracle]:
    """The same; what has gone to the server is searched behind each: so it is known which one it was."""
    site.tap.reset()
    yield searched
    assert not any(searched.contains(sent) for sent in site.tap.upstream()), "a planted value went upstream"


class Both:
    """One session with each twin; each statement goes to both."""

    def __init__(self, site: Site) -> None:
        self.plain = psycopg.connect(site.plain_dsn, autocommit=True)
        self.proxied = psycopg.connect(site.proxy_dsn, autocommit=True)

    def close(self) -> None:
        self.plain.close()
        self.proxied.close()

    def same(self, statement: str, params: Sequence[object] | None = None, *, binary: bool = False) -> Any:
        """Assert that both twins answer alike, and return the answer."""
        expected, found = (_answer(conn, statement, params, binary=binary) for conn in (self.plain, self.proxied))
        assert found == expected, statement
        return found

    def refused(self, statement: str, params: Sequence[object] | None = None, sqlstate: str = "0A000") -> psycopg.Error:
        """Assert that the proxy refuses it, and that nothing has changed."""
        before = _answer(self.proxied, "SELECT * FROM charts ORDER BY id", None)
        with pytest.raises(psycopg.Error) as refused:
            self.proxied.execute(statement.encode(), params)
        assert refused.value.sqlstate == sqlstate, refused.value
        assert _answer(self.proxied, "SELECT * FROM charts ORDER BY id", None) == before
        return refused.value


def _answer(conn: psycopg.Connection[Any], statement: str, params: Sequence[object] | None, *, binary: bool = False) -> Any:
    try:
        cursor = conn.execute(statement.encode(), params, binary=binary)
    except psycopg.Error as error:
        return error.sqlstate
    if cursor.description is None:
        return cursor.rowcount
    rows = cursor.fetchall()
    return [(d.name, d.type_code) for d in cursor.description], rows


def _text(value: object) -> str:
    return json.dumps(value)


@pytest.fixture(scope="module")
def rows(searched: LeakOracle) -> list[tuple[Any, ...]]:
    """The rows of both twins, whose fields are planted."""
    plant = searched.plant
    documents: list[dict[str, object] | None] = [
        {
            "ssn": plant("ssn"),
            "mrn": plant("mrn"),
            "name": {"family": plant("name"), "given": ["Ada", "B."]},
            "history": [{"note": plant(), "on": "2020"}, {"note": plant()}, {"on": "2021"}],
            "age": 34,
            "extra": {"a": [plant(), None], "b": 1},
            "odd key's": 1,
            "ward": "B2",
            "tags": ["x", "y"],
        },
        {"ssn": plant("ssn"), "name": {"family": 'Ö\'x \\ "y"'}, "extra": plant(), "ward": 'it\'s \\ "B3"', "history": []},
        {"ssn": None, "name": None, "history": None, "extra": None, "ward": "B2"},
        {},
        None,
    ]
    closed = {"ssn": plant("ssn"), "name": [plant()], "ward": "W", "meta": {"at": "noon", "by": plant()}, "n": [1, plant()]}
    first = documents[0] or {}
    others = [(n, None, None if one is None else Jsonb(one), None) for n, one in enumerate(documents[1:], start=2)]
    return [(1, first["mrn"], Jsonb(first), Jsonb(closed)), *others]


@pytest.fixture
def both(site: Site, oracle: LeakOracle, rows: list[tuple[Any, ...]]) -> Iterator[Both]:
    """Both twins with the same rows."""
    both = Both(site)
    for conn in (both.plain, both.proxied):
        conn.execute("DELETE FROM charts")
        conn.cursor().executemany("INSERT INTO charts (id, mrn, doc, closed) VALUES (%s, %s, %s, %s)", rows)
    try:
        yield both
    finally:
        both.close()


def test_what_is_stored(site: Site, both: Both) -> None:
    with psycopg.connect(site.sealed_dsn) as conn:
        doc, closed = conn.execute("SELECT doc, closed FROM charts WHERE id = 1").fetchone() or ({}, {})
    leaves = [doc["ssn"], doc["mrn"], doc["name"]["family"], doc["history"][0]["note"], doc["age"], doc["extra"], doc["odd key's"]]
    leaves += [closed["ssn"], closed["name"], closed["meta"]["by"], *closed["n"]]
    assert all(leaf.startswith("phi1:f5500101") for leaf in leaves)
    assert len({leaf.split(":")[2][:21] for leaf in leaves[:7]}) == 1  # one salt for a document
    assert len(set(leaves)) == len(leaves)
    assert (doc["ward"], doc["tags"], doc["name"]["given"], doc["history"][2]) == ("B2", ["x", "y"], ["Ada", "B."], {"on": "2021"})
    assert (closed["ward"], closed["meta"]["at"]) == ("W", "noon")


SHOWN = [
    "doc",
    "*",
    "doc->'ssn'",
    "doc->>'ssn'",
    "doc->'name'",
    "doc->>'name'",
    "doc->'name'->>'family' AS family",
    "doc#>>'{name,family}'",
    "doc#>'{history,0}'",
    "doc->'history'->1->'note'",
    "doc->'history'->0->>'note'",
    "doc#>>'{history,-3,note}'",
    "doc['name']['family']",
    "doc['history'][0]",
    "jsonb_extract_path_text(doc, 'name', 'family')",
    "doc->'extra'->'a'",
    "doc->'extra'",
    "doc->>'extra'",
    "doc->>'age'",
    "(doc->>'age')::int + 1",
    "(doc->>'age')::int, (doc->>'odd key''s')::numeric, (doc->>'age')::bigint",
    "doc->>'odd key''s'",
    "doc->'ward', doc->>'ward', doc->'tags'->0, doc['tags'][1], doc#>'{tags,0}', doc->'nothing'->'x'",
    "doc->0, doc->'name'->0, doc->'history'->'note', doc->'ssn'->0, doc#>'{ssn,0}'",
    "lower(doc->'name'->>'family'), right(doc->>'ssn', 4)",
    "COALESCE(doc->>'ssn', 'none')",
    "NULLIF(doc->>'ssn', 'x')",
    "CASE WHEN id = 1 THEN doc->>'ssn' END",
    "COALESCE(doc, '{}')",
    'CASE WHEN id = 1 THEN doc ELSE \'{"ssn": "0"}\' END',
    "doc::text",
    "doc - 'ssn', doc #- '{name,family}', doc || '{\"ssn\": \"1\"}'",
    "jsonb_pretty(doc)",
    "jsonb_typeof(doc->'ssn'), jsonb_typeof(doc->'ward')",
    "jsonb_path_query_array(doc, '$.history[*].note')",
    "doc @? '$.ssn', doc @@ '$.age > 30'",
    "to_jsonb(c)",
    "closed",
    "closed->'ward', closed->>'ssn', closed->'name', closed->'meta', closed->'meta'->'at', closed->'meta'->>'by'",
    "closed->'n', closed->'n'->1, closed#>>'{n,0}', closed->'nothing'",
    "(SELECT d.doc->>'ssn' FROM charts d WHERE d.id = c.id)",
]


@pytest.mark.parametrize("shown", SHOWN)
def test_what_is_shown(both: Both, shown: str) -> None:
    for binary in (False, True):
        both.same(f"SELECT {shown} FROM charts c ORDER BY id", binary=binary)


FOUND = [
    "doc->>'ssn' = {ssn}",
    "{ssn} = doc->>'ssn'",
    "doc->>'ssn' <> {ssn}",
    "doc->>'ssn' IN ({ssn}, 'x')",
    "doc->>'ssn' = ANY (ARRAY[{ssn}, 'x'])",
    "doc->>'ssn' IS DISTINCT FROM {ssn}",
    "doc#>>'{{ssn}}' = {ssn}",
    "doc->'ssn' = to_jsonb({ssn}::text)",
    "doc->>'ssn' IS NULL",
    "doc->'ssn' IS NULL",
    "doc->'ssn' IS NOT NULL",
    "doc IS NULL",
    "right(doc->>'ssn', 4) = right({ssn}, 4)",
    "right(doc->>'ssn', 4) = '0000'",
    "lower(doc->'name'->>'family') = 'ö''x \\ \"y\"'",
    "lower(doc#>>'{{name,family}}') = ANY ('{{a,b}}')",
    "doc->>'age' = '34'",
    "doc->>'age' = '034'",
    "(doc->>'age')::int = 34",
    "(doc->>'age')::int > 30",
    "doc->'extra' = '{{\"b\": 1.0}}'",
    "doc->'extra' = 'null'",
    "doc->'extra' <> '5'",
    "doc->'extra' IN ('null', '5')",
    "doc->'extra' IS DISTINCT FROM 'null'",
    "doc->'extra' IS NOT DISTINCT FROM NULL",
    "doc->'ssn' = to_jsonb({ssn}::text)",
    "doc->'ssn' IN ('null', '5', '\"x\"')",
    "doc->'ssn' <> '5'",
    "doc->'ssn' = '\"{ssn}\"' OR doc->'age' = '[34]'".replace("{ssn}", "no such"),
    "doc->'age' = '34'",
    "doc->'age' = '34.00'",
    "doc->'age' IN ('3.4e1', '34.5', '\"34\"', 'null', 'true')",
    "doc->'age' <> '34'",
    "doc->'odd key''s' = '1.000'",
    "doc #> '{{name,family}}' IS NOT DISTINCT FROM 'null'",
    "doc->>'ssn' LIKE '9%'",
    "doc->>'ssn' > '9'",
    "doc->>'ward' = 'B2'",
    "doc->>'ward' LIKE 'B%' AND doc->'tags' ? 'x'",
    "doc ? 'ssn'",
    "doc ?| ARRAY['ssn', 'x'] AND doc->'name' ?& '{{family,given}}'",
    "doc->'history' ? 'note' OR doc->'extra' ? 'a' OR closed ? 'n'",
    "(doc->>'age')::int IN (34, 35)",
    "(doc->>'age')::int = ANY ('{{34}}')",
    "(doc->>'odd key''s')::numeric = 1.0",
    "doc ? 'ssn' AND doc->>'ssn' = {ssn}",
    'doc @> \'{{"ward": "B2"}}\'',
    "doc @> jsonb_build_object('ssn', {ssn}::text)",
    "(doc->>'ssn', id) = ({ssn}, 1)",
    "COALESCE(doc->>'ssn', 'none') = 'none'",
    "mrn = doc->>'mrn'",
    "EXISTS (SELECT FROM charts d WHERE d.doc->>'ssn' = c.doc->>'ssn' AND d.id = 1)",
    "doc->>'ssn' IN (SELECT d.doc->>'ssn' FROM charts d)",
    "doc = doc",
    "closed->>'ssn' IS NULL",
    "closed->>'ssn' = {ssn}",
    "closed->>'ward' = 'W' AND closed->'meta'->>'at' < 'z'",
    "closed->'meta'->>'by' = {ssn}",
]


@pytest.mark.parametrize("condition", FOUND)
def test_what_is_found(both: Both, condition: str) -> None:
    row = both.plain.execute("SELECT doc->>'ssn' FROM charts WHERE id = 1").fetchone()
    assert row is not None
    ssn = row[0]
    literal = condition.format(ssn=f"'{ssn}'")
    both.same(f"SELECT id FROM charts c WHERE {literal} ORDER BY id")
    if "{ssn}" in condition:
        with_parameters = condition.format(ssn="%s")
        both.same(f"SELECT id FROM charts c WHERE {with_parameters} ORDER BY id", [ssn] * condition.count("{ssn}"))


ANSWERED = [
    "SELECT c.id, d.id FROM charts c JOIN charts d ON c.doc->>'mrn' = d.mrn",
    "SELECT c.id, d.id FROM charts c JOIN charts d ON d.doc->>'mrn' = c.doc->>'mrn' AND c.doc->'extra' = d.doc->'extra'",
    "SELECT c.id, d.id FROM charts c LEFT JOIN charts d ON d.doc->'extra' = c.doc->'extra'",
    "SELECT id FROM charts WHERE mrn = doc->>'mrn'",
    "SELECT id FROM charts WHERE doc->>'mrn' <> mrn OR mrn IS NOT DISTINCT FROM doc->>'mrn'",
    "SELECT id FROM charts WHERE doc->>'mrn' IN (SELECT mrn FROM charts)",
    "SELECT id FROM charts WHERE mrn IN (SELECT d.doc->>'mrn' FROM charts d)",
    "SELECT id FROM charts WHERE mrn = ANY (SELECT d.doc->>'mrn' FROM charts d WHERE d.doc->>'ward' = 'B2')",
    "SELECT id FROM charts WHERE mrn = (SELECT d.doc->>'mrn' FROM charts d WHERE d.id = 1)",
    "SELECT c.id FROM charts c WHERE NOT EXISTS (SELECT FROM charts d WHERE d.mrn = c.doc->>'mrn')",
    "SELECT id FROM charts WHERE COALESCE(mrn, doc->>'mrn') = 'x' OR CASE WHEN id > 0 THEN doc->>'mrn' END = mrn",
    "SELECT doc->>'ssn', count(*) FROM charts GROUP BY doc->>'ssn'",
    "SELECT doc->>'ssn' AS s, count(*) FROM charts GROUP BY 1",
    "SELECT doc->>'ssn' AS s, count(*) FROM charts GROUP BY s",
    "SELECT s, count(*) FROM (SELECT doc->>'ssn' AS s FROM charts) AS q GROUP BY s",
    "SELECT right(doc->>'ssn', 4), doc->>'ssn', count(*) FROM charts GROUP BY doc->>'ssn'",
    "SELECT lower(doc->'name'->>'family'), count(*) FROM charts GROUP BY lower(doc->'name'->>'family')",
    "SELECT (doc->>'age')::int, count(*) FROM charts GROUP BY (doc->>'age')::int",
    "SELECT doc->>'ward', doc->>'age', count(*) FROM charts GROUP BY doc->>'ward', doc->>'age'",
    "SELECT doc->'extra', count(*) FROM charts GROUP BY doc->'extra'",
    "SELECT doc->>'ssn', count(*) FROM charts GROUP BY ROLLUP (doc->>'ssn')",
    "SELECT doc->>'ssn' FROM charts GROUP BY doc->>'ssn' HAVING doc->>'ssn' <> 'x' AND count(*) = 1",
    "SELECT DISTINCT doc->>'ssn' FROM charts",
    "SELECT DISTINCT doc->'extra' FROM charts",
    "SELECT id FROM charts WHERE doc->'ssn' = '\"x\"' OR doc #> '{ssn}' = 'null'::jsonb OR doc['age'] = '34.0'",
    "SELECT doc->'ssn', doc->'age', count(*) FROM charts GROUP BY doc->'ssn', doc->'age'",
    "SELECT DISTINCT doc->>'ward', doc->>'age', mrn FROM charts",
    "SELECT DISTINCT ON (doc->>'ssn') doc->>'ssn' FROM charts",
    "SELECT count(DISTINCT doc->>'ssn'), count(DISTINCT doc->'extra') FROM charts",
    "SELECT id, count(*) OVER (PARTITION BY doc->>'ssn') FROM charts",
]


@pytest.mark.parametrize("statement", ANSWERED)
def test_what_is_answered_by_tags(site: Site, both: Both, planner: Planner, statement: str) -> None:
    both.proxied.execute("INSERT INTO charts (id, mrn, doc) SELECT id + 60, mrn, doc FROM charts WHERE doc IS NOT NULL")
    both.plain.execute("INSERT INTO charts (id, mrn, doc) SELECT id + 60, mrn, doc FROM charts WHERE doc IS NOT NULL")
    both.proxied.execute("UPDATE charts SET mrn = 'other' WHERE id = 62")
    both.plain.execute("UPDATE charts SET mrn = 'other' WHERE id = 62")
    answers = [_answer(conn, statement, None) for conn in (both.plain, both.proxied)]
    assert answers[0][0] == answers[1][0]
    assert sorted(map(repr, answers[0][1])) == sorted(map(repr, answers[1][1]))
    explained = explain(planner, statement.encode(), site.sealed, DEFAULT_PATH)
    assert explained.answer == "rewritten", f"{explained.answer}: {explained.message} {explained.hint}"


HELD: list[tuple[str, object, bool]] = [
    ("doc", {"ward": "B2"}, True),
    ("doc", {"ssn": "{ssn}"}, True),
    ("doc", {"ssn": "{ssn}", "ward": "B2", "age": 34, "name": {"given": ["Ada"]}}, True),
    ("doc", {"ssn": "{ssn}", "ward": "B3"}, True),
    ("doc", {"ssn": None}, True),
    ("doc", {"ssn": 5}, False),
    ("doc", {"ssn": {"a": "{ssn}"}}, False),
    ("doc", {"age": 34.0}, False),
    ("doc", {"extra": {"b": 1}}, False),
    ("doc", {"extra": None}, True),
    ("doc", {"extra": "x"}, True),
    ("doc", {"odd key's": 1.0, "tags": ["y"]}, True),
    ("doc", {"history": [{"on": "2020"}]}, False),
    ("doc", {"history": []}, False),
    ("doc", {"name": {}}, True),
    ("doc", {"name": "Smith"}, True),
    ("doc", {"name": {"family": 'Ö\'x \\ "y"'}}, False),
    ("doc", {"nothing": {"x": [1, {}]}}, True),
    ("doc", {"ward": 'it\'s \\ "B3"'}, True),
    ("doc", {}, True),
    ("doc", [], False),
    ("doc", "x", False),
    ("closed", {"ward": "W", "ssn": "{ssn}", "meta": {"at": "noon"}}, True),
    ("closed", {"ward": "W", "meta": {"at": "noon"}, "name": None}, True),
    ("closed", {"meta": {"by": "x"}}, False),
    ("closed", {"n": [1]}, False),
    ("closed", {"meta": {}}, True),
]


@pytest.mark.parametrize(("column", "value", "answered"), HELD)
def test_what_a_document_holds(
    site: Site, both: Both, planner: Planner, column: str, value: object, *, answered: bool
) -> None:
    row = both.plain.execute(f"SELECT {column}->>'ssn' FROM charts WHERE id = 1".encode()).fetchone()
    assert row is not None
    text = json.dumps(value).replace("{ssn}", row[0])
    literal = "'" + text.replace("'", "''") + "'"
    both.same(f"SELECT id FROM charts WHERE {column} @> {literal} ORDER BY id")
    both.same(f"SELECT id FROM charts c WHERE c.{column} @> {literal}::jsonb OR id = 4 ORDER BY id")
    both.same(f"SELECT id FROM charts WHERE NOT {column} @> {literal} ORDER BY id")
    for _ in range(2):
        both.same(f"SELECT id FROM charts WHERE {column} @> %s ORDER BY id", [Jsonb(json.loads(text))])
        both.same(f"SELECT id FROM charts WHERE id > %s AND {column} @> %s::text::jsonb ORDER BY id", [0, text])
    explained = explain(planner, f"SELECT id FROM charts WHERE {column} @> {literal}".encode(), site.sealed, DEFAULT_PATH)
    assert (explained.answer == "rewritten") is answered, explained


def test_what_is_in_clear_is_found_by_the_servers_own_index(site: Site, both: Both) -> None:
    with psycopg.connect(site.sealed_dsn, autocommit=True) as conn:
        conn.execute("CREATE INDEX clear_parts ON charts USING gin (doc)")
        try:
            with psycopg.connect(site.proxy_dsn) as proxied:
                proxied.execute("SET enable_seqscan = off")
                rows = proxied.execute('EXPLAIN SELECT id FROM charts WHERE doc @> \'{"ward": "B2"}\'').fetchall()
            assert any("clear_parts" in line for (line,) in rows), rows
        finally:
            conn.execute("DROP INDEX clear_parts")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1, (SELECT count(*) FROM charts d WHERE d.doc->>'ssn' = c.doc->>'ssn') FROM charts c GROUP BY doc->>'ssn'",
        "SELECT doc->'ssn' FROM charts GROUP BY doc->>'ssn'",
        "SELECT doc FROM charts GROUP BY doc->>'ssn'",
        "SELECT doc->>'age' FROM charts GROUP BY (doc->>'age')::int",
        "SELECT id FROM charts WHERE (doc->>'age')::int = mrn",
    ],
)
def test_what_postgresql_refuses_is_refused_alike(both: Both, statement: str) -> None:
    assert both.same(statement)[:2] == "42"


def test_a_search_goes_by_an_index_on_the_tag(site: Site, both: Both) -> None:
    with psycopg.connect(site.proxy_dsn) as conn:
        conn.execute("SET enable_seqscan = off")
        by_name = "lower(doc->'name'->>'family') = 'x'"
        searched = ("doc->>'ssn' = 'x'", "(doc->>'age')::int = 34", "right(doc#>>'{ssn}', 4) = 'x'", by_name)
        for condition in searched:
            rows = conn.execute(f"EXPLAIN SELECT id FROM charts WHERE {condition}".encode()).fetchall()
            assert any("Index" in line for (line,) in rows), rows


WRITTEN = [
    """UPDATE charts SET doc = '{"ssn": "0", "ward": "x"}' WHERE id = 1""",
    """UPDATE charts SET doc = NULL WHERE id = 1""",
    """UPDATE charts SET doc = jsonb_set(doc, '{ssn}', '"777"') WHERE id < 3""",
    """UPDATE charts SET doc = jsonb_set(doc, '{history,0,note}', '"n"') WHERE id = 1""",
    """UPDATE charts SET doc = doc || '{"ward": "C1", "age": 5}' WHERE doc->>'ward' = 'B2'""",
    """UPDATE charts SET doc = doc - 'ssn' - 'ward'""",
    """UPDATE charts SET doc = o.doc FROM charts o WHERE o.id = 1 AND charts.id = 2""",
    """UPDATE charts SET doc = doc #- '{name,family}' WHERE id = 1 RETURNING doc, doc->>'ssn'""",
    """UPDATE charts SET closed = closed || '{"x": {"y": [true, 1.50, "z"]}}' WHERE id = 1 RETURNING closed""",
    """UPDATE charts SET mrn = doc->>'mrn' WHERE id = 1""",
    """INSERT INTO charts (id, doc) VALUES (10, '{"ssn": "1"}'), (11, NULL), (12, '{"ward": "1"}') RETURNING *""",
    """INSERT INTO charts (id, doc) SELECT id + 20, doc FROM charts""",
    """INSERT INTO charts (id, doc) SELECT id + 20, doc || '{"ward": "copied"}' FROM charts WHERE doc IS NOT NULL""",
    """INSERT INTO charts (id, doc) VALUES (1, '{"ssn": "up"}') ON CONFLICT (id) DO UPDATE SET doc = excluded.doc RETURNING doc""",
    """INSERT INTO charts (id, ssn) SELECT 30, doc->>'ssn' FROM charts WHERE id = 1 RETURNING ssn""",
    """MERGE INTO charts c USING (VALUES (1, '{"ssn": "m"}'::jsonb), (40, '{"ssn": "m"}')) AS v (id, doc) ON c.id = v.id
       WHEN MATCHED THEN UPDATE SET doc = v.doc WHEN NOT MATCHED THEN INSERT (id, doc) VALUES (v.id, v.doc)""",
    """INSERT INTO charts (id, doc) SELECT unnest(ARRAY[50, 51]), unnest('{"{\\"ssn\\": \\"a\\"}", NULL}'::jsonb[])""",
    """UPDATE charts SET doc['ssn'] = '"777"' WHERE id = 1 RETURNING doc""",
    """UPDATE charts SET ssn = doc->>'ssn', doc['name']['family'] = '"Other"' WHERE id = 1""",
    """DELETE FROM charts WHERE doc->>'ssn' IS NULL RETURNING id, doc""",
    """WITH gone AS (DELETE FROM charts WHERE id = 1 RETURNING doc) SELECT doc->>'ssn', doc FROM gone""",
    """UPDATE charts SET doc = jsonb_set(doc, '{ssn}', to_jsonb(upper(ssn))) || jsonb_build_object('id', id) WHERE id < 4""",
    """UPDATE charts SET doc = jsonb_set(doc, '{history,0,note}', doc->'ssn') WHERE id = 1""",
    """UPDATE charts SET doc = jsonb_set(doc, '{name}', (doc->'name') || '{"given": "x"}') WHERE id = 1 RETURNING doc""",
    """UPDATE charts c SET doc = CASE WHEN c.id = 1 THEN jsonb_insert(c.doc, '{history,0}', '{"note": "n"}') ELSE c.doc END""",
    """UPDATE charts SET doc = coalesce(charts.doc, '{}') || v.more
       FROM (VALUES (1, '{"ward": "x"}'::jsonb), (5, '{"age": 3}')) v (n, more) WHERE v.n = id""",
    """UPDATE charts SET closed = jsonb_set(closed, '{anything}', to_jsonb(upper(doc->>'ssn'))) WHERE id = 1""",
    """UPDATE charts SET closed = closed || jsonb_build_object('who', jsonb_build_object('by', upper(ssn))) WHERE id = 1""",
    """UPDATE charts SET doc = doc || jsonb_build_object('ssn', upper(ssn), 'ward', 'of ' || id) WHERE id = 1 RETURNING doc""",
    """INSERT INTO charts (id, doc) SELECT c.id + 20, jsonb_set(c.doc, '{ward}', to_jsonb(c.id)) FROM charts c""",
    """MERGE INTO charts c USING (VALUES (1, '{"ward": "m"}'::jsonb), (40, '{"ssn": "m"}')) AS v (id, doc) ON c.id = v.id
       WHEN MATCHED THEN UPDATE SET doc = c.doc || v.doc
       WHEN NOT MATCHED THEN INSERT (id, doc) VALUES (v.id, v.doc || '{"ward": "n"}')""",
]


@pytest.mark.parametrize("statement", WRITTEN)
def test_what_is_written(both: Both, statement: str) -> None:
    both.same(statement)
    both.same("SELECT * FROM charts ORDER BY id")


REFUSED = [
    ("UPDATE charts SET doc = '{\"ssn\": 5}' WHERE id = 1", "22P02"),
    ('UPDATE charts SET doc = \'{"name": "Smith"}\' WHERE id = 1', "22P02"),
    ('UPDATE charts SET doc = \'{"name": [{"family": "Smith"}]}\' WHERE id = 1', "22P02"),
    ("UPDATE charts SET doc = '[1]' WHERE id = 1", "22P02"),
    ("UPDATE charts SET doc = '{\"age\": 1.5}' WHERE id = 1", "22P02"),
    ('UPDATE charts SET doc = \'{"ssn": "\\u0000"}\' WHERE id = 1', "22P05"),
    ("UPDATE charts SET doc = '{' WHERE id = 1", "22P02"),
    ('ALTER TABLE charts ALTER doc SET DEFAULT \'{"ssn": "1"}\'', "0A000"),
    ("ALTER TABLE charts ADD CHECK (doc->>'ssn' <> '1')", "0A000"),
    ("CREATE INDEX ON charts ((doc->'ssn'))", "0A000"),
    ("CREATE TABLE copied AS SELECT doc->'name' AS name FROM charts", "0A000"),
    ("CREATE TABLE copied AS SELECT doc FROM charts", "0A000"),
]


@pytest.mark.parametrize(("statement", "sqlstate"), REFUSED)
def test_what_is_refused(both: Both, statement: str, sqlstate: str) -> None:
    both.refused(statement, sqlstate=sqlstate)


@pytest.mark.parametrize("name", ["LATIN1", "WIN1252"])
def test_documents_in_the_clients_encoding(both: Both, name: str) -> None:
    """What jsonb has behind its version is text, which the server converts in binary form too."""
    document = '{"ssn": "é", "ward": "ü", "extra": {"ä": ["ö"]}}'
    for conn in (both.plain, both.proxied):
        conn.execute(f"SET client_encoding = '{name}'".encode())
    for sent in (f"\1{document}".encode("latin-1"), document.encode("latin-1")):
        for code in (0, 1):
            answers = []
            for conn in (both.plain, both.proxied):
                pg = conn.pgconn
                format_ = int(sent.startswith(b"\1"))
                queries = [(b"UPDATE charts SET doc = $1, closed = $1 WHERE id = 1 RETURNING doc, closed", [sent])]
                queries += [(b"SELECT doc, closed, doc->'extra', doc || $1, doc @> $1 FROM charts WHERE id = 1", [sent])]
                queries += [(b"SELECT doc, upper(doc->>'ssn'), closed->>'ward', doc->>'ssn' FROM charts ORDER BY id", [])]
                for query, values in queries:
                    result = pg.exec_params(query, values, [3802] * len(values), [format_] * len(values), code)
                    answers.append([[result.get_value(r, c) for c in range(result.nfields)] for r in range(result.ntuples)])
                    assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, result.error_message
            assert answers[:3] == answers[3:]


MOVED = [
    "UPDATE charts SET doc = jsonb_set(doc, '{ward}', doc->'ssn')",
    "UPDATE charts SET doc = doc || jsonb_build_object('ward', doc->'ssn')",
    "UPDATE charts SET doc = jsonb_build_object('ward', ssn)",
    "UPDATE charts SET doc['ward'] = doc->'ssn'",
    "UPDATE charts SET doc['name']['given'] = doc->'name'->'family'",
    "UPDATE charts SET doc = jsonb_set(doc, '{tags,0}', to_jsonb(mrn))",
    "UPDATE charts SET doc = jsonb_set(doc, ARRAY[doc->>'ssn'], '1') WHERE id = 1",
    "UPDATE charts SET doc = jsonb_insert(doc, '{tags,0}', doc->'ssn')",
    "UPDATE charts SET doc = closed || '{}'",
    "UPDATE charts SET doc = coalesce(closed->'name', doc)",
    "UPDATE charts SET doc = (doc->'extra') || '{}'",
    "UPDATE charts SET doc = replace(doc::text, 'ssn', 'ward')::jsonb",
    "UPDATE charts SET doc = (SELECT jsonb_object_agg(value #>> '{}', key) FROM jsonb_each(doc))",
    "UPDATE charts SET doc = excluded.doc || '{}' FROM (SELECT jsonb_build_object('ward', ssn) AS doc FROM charts) excluded",
    "UPDATE charts SET (id, doc) = (SELECT c.id, jsonb_build_object('ward', c.doc->'ssn') FROM charts c WHERE c.id = charts.id)",
    "UPDATE charts SET closed = jsonb_set(closed, '{ward}', closed->'ssn')",
    "UPDATE charts SET closed = jsonb_set(closed, '{meta}', closed->'name')",
    "UPDATE charts SET closed['ward'] = closed->'ssn'",
    "UPDATE charts SET closed = jsonb_set(closed, '{anything}', jsonb_build_object(ssn, 1))",
    "UPDATE charts SET closed = jsonb_set(closed, '{anything}', doc->'extra')",
    "UPDATE charts SET doc = CASE WHEN upper(ssn) = 'A' THEN doc - 'ward' ELSE doc END",
    "INSERT INTO charts (id, doc) SELECT id + 20, jsonb_build_object('ward', doc->'ssn') FROM charts",
    "INSERT INTO charts (id, doc) SELECT id + 20, doc || '{}'"
    " FROM (SELECT id, jsonb_build_object('ward', ssn) AS doc FROM charts) charts",
    "INSERT INTO charts (id, doc) SELECT q.* FROM (SELECT id + 20, jsonb_build_object('ward', doc->'ssn') FROM charts) q",
    "INSERT INTO charts (id, doc) SELECT id + 20, jsonb_build_object('ward', ssn) FROM charts UNION ALL SELECT 9, NULL",
    "INSERT INTO charts (id, doc) VALUES (20, (SELECT jsonb_build_object('ward', doc->'ssn') FROM charts WHERE id = 1))",
    "INSERT INTO charts (id, doc) VALUES (1, '{}') ON CONFLICT (id)"
    " DO UPDATE SET doc = excluded.doc || jsonb_build_object('a', charts.mrn)",
    "WITH charts AS (SELECT 50 AS id, jsonb_build_object('ward', ssn) AS doc FROM charts)"
    " INSERT INTO charts (id, doc) SELECT id, doc || '{}' FROM charts",
    """MERGE INTO charts c USING (SELECT id, jsonb_build_object('ward', ssn) AS doc FROM charts) s ON c.id = s.id + 20
       WHEN NOT MATCHED THEN INSERT (id, doc) VALUES (s.id + 20, s.doc || '{}')""",
    """MERGE INTO charts c USING (SELECT id, jsonb_build_object('ward', ssn) AS doc FROM charts) s ON c.id = s.id + 20
       WHEN NOT MATCHED THEN INSERT (id, doc) VALUES (s.id + 20, doc || '{}')""",
]


@pytest.mark.parametrize("statement", MOVED)
def test_no_sealed_leaf_is_moved_to_where_the_document_is_in_clear(both: Both, statement: str) -> None:
    error = both.refused(statement)
    assert "(SELECT" in statement or "FROM" in statement or "keep fields in place" in str(error.diag.message_hint)


BESIDE = [
    "INSERT INTO charts (id, ssn) VALUES (1, upper(%(a)s)) ON CONFLICT (id)"
    " DO UPDATE SET doc = jsonb_set(charts.doc, '{ward}', {})",
    "INSERT INTO charts (id, ssn, doc) VALUES (30, upper(%(a)s), jsonb_build_object('ward', {}))",
    "UPDATE charts SET ssn = upper(%(a)s), doc['ward'] = {}",
    "UPDATE charts SET ssn = %(a)s, doc = jsonb_set(doc, '{ward}', {})",
    "UPDATE charts SET doc = doc || jsonb_build_object('ward', {}) WHERE ssn LIKE %(a)s || '%%'",
    "UPDATE charts SET doc = doc || jsonb_build_object('ssn', %(a)s::text, 'ward', {})",
    "UPDATE charts SET doc = doc || coalesce(jsonb_build_object('ssn', %(a)s::text) || jsonb_build_object('ward', {}), doc)::jsonb",
]


@pytest.mark.parametrize("statement", BESIDE)
def test_a_value_that_meets_something_sealed_comes_to_no_part_in_clear(both: Both, oracle: LeakOracle, statement: str) -> None:
    given: Any = {"a": oracle.plant()}
    both.refused(statement.replace("{}", "to_jsonb(%(a)s::text)"), given)


def test_a_key_that_is_taken_away_may_be_what_is_sealed(both: Both, oracle: LeakOracle) -> None:
    given: Any = {"a": oracle.plant()}
    both.same("UPDATE charts SET doc = (doc - %(a)s::text) || jsonb_build_object('ssn', %(a)s::text) WHERE id = 1", given)
    both.same("SELECT id, doc FROM charts ORDER BY id")


def test_indexes_and_constraints_over_what_is_in_clear_are_the_servers(site: Site, both: Both) -> None:
    for statement in (
        "CREATE INDEX of_ward ON charts ((doc->>'ward'))",
        "CREATE INDEX of_parts ON charts USING gin (doc jsonb_path_ops) WHERE doc #>> '{name,given,0}' <> 'x'",
        "CREATE UNIQUE INDEX of_tags ON charts ((doc->'tags'->>0), id)",
        "ALTER TABLE charts ADD CONSTRAINT ward CHECK (doc->>'ward' <> 'closed' AND closed->>'ward' <> 'never')",
    ):
        both.same(statement)
    try:
        for written in ('{"ssn": "1", "ward": "closed"}', '{"ssn": "1", "ward": "open"}', "null"):
            both.same("INSERT INTO charts (id, doc) VALUES (80, %s)", [written])
        both.same('UPDATE charts SET closed = \'{"meta": {"at": "never"}}\' WHERE id = 2')
        both.same("SELECT * FROM charts ORDER BY id")
        with psycopg.connect(site.proxy_dsn) as proxied:
            proxied.execute("SET enable_seqscan = off")
            rows = proxied.execute("EXPLAIN SELECT id FROM charts WHERE doc->>'ward' = 'B2'").fetchall()
        assert any("of_ward" in line for (line,) in rows), rows
        for statement in (
            "CREATE INDEX ON charts ((doc->'ssn'))",
            "CREATE INDEX ON charts ((doc->'name'))",
            "CREATE INDEX ON charts (id) WHERE doc->>'ssn' = 'x'",
            "CREATE INDEX ON charts (doc)",
            "CREATE INDEX ON charts USING gin ((doc->'extra'))",
            "ALTER TABLE charts ADD CHECK (doc->>'ward' <> doc->>'ssn')",
            "ALTER TABLE charts ADD CHECK (closed->>'new' <> 'x')",
        ):
            both.refused(statement)
    finally:
        both.same("DROP INDEX of_ward, of_parts, of_tags")
        both.same("ALTER TABLE charts DROP CONSTRAINT ward")


def test_indexes_over_fields_are_on_their_tags(site: Site, both: Both) -> None:
    both.same("CREATE UNIQUE INDEX of_ssn ON charts ((doc->>'ssn'))")
    both.same("CREATE INDEX of_family ON charts (lower(doc->'name'->>'family'), (doc->>'ward'))")
    try:
        assert both.same(
            """INSERT INTO charts (id, doc) SELECT 90, jsonb_build_object('ssn', doc->'ssn') FROM charts WHERE id = 1"""
        ) in (
            "23505",
            "0A000",
        )
        both.same("INSERT INTO charts (id, doc) SELECT 90, doc FROM charts WHERE id = 1")
        both.same("INSERT INTO charts (id, doc) SELECT id + 90, doc FROM charts WHERE doc->>'ssn' IS NULL")
        with psycopg.connect(site.proxy_dsn) as proxied:
            proxied.execute("SET enable_seqscan = off")
            rows = proxied.execute("EXPLAIN SELECT id FROM charts WHERE doc->>'ssn' = 'x'").fetchall()
        assert any("of_ssn" in line or "Index" in line for (line,) in rows), rows
    finally:
        both.same("DROP INDEX of_ssn, of_family")


SECURED = """\
database: {database}
deployment: secured-documents
tables:
  public.charts:
    columns:
      doc: {type: jsonb, others: clear, fields: {"$.ssn": {type: text, indexes: [value], distinct: 1000000}}}
"""


def test_row_level_security_hides_documents(postgres_server: PostgresServer, tmp_path: Path) -> None:
    ddl = "CREATE TABLE charts (id int PRIMARY KEY, owned text, doc jsonb);"
    with open_site(postgres_server, tmp_path, policy=SECURED, ddl=ddl) as site:
        both = Both(site)
        try:
            both.same("ALTER TABLE charts ENABLE ROW LEVEL SECURITY")
            both.same("ALTER TABLE charts FORCE ROW LEVEL SECURITY")
            both.same("CREATE POLICY own ON charts USING (owned = current_setting('app.owner', true)) WITH CHECK (id > 0)")
            both.refused("CREATE POLICY other ON charts USING (doc->>'ssn' = current_user)")
            for n, owned in enumerate(("ann", "ben", "ann"), start=1):
                both.same("INSERT INTO charts VALUES (%s, %s, %s)", [n, owned, Jsonb({"ssn": "1", "ward": n})])
            for owned in ("ann", "ben", "nobody"):
                both.same(f"SET app.owner TO '{owned}'")
                both.same("SELECT id, doc FROM charts WHERE doc->>'ssn' = '1' ORDER BY id")
                both.same("SELECT id FROM charts WHERE doc @> %s ORDER BY id", [Jsonb({"ssn": "1", "ward": 2})])
                both.same("SELECT doc->>'ssn', count(*) FROM charts GROUP BY doc->>'ssn'")
                both.same("UPDATE charts SET doc = %s WHERE doc->>'ssn' = '1'", [Jsonb({"ssn": "1", "ward": owned})])
                both.same("UPDATE charts SET id = -id WHERE doc->>'ssn' = '1'")
            both.same("SET app.owner TO 'ben'")
            both.same("DELETE FROM charts WHERE doc->>'ssn' = '1' RETURNING id")
        finally:
            both.close()


def test_a_refused_field_is_named_by_its_path_and_its_value_is_not(both: Both) -> None:
    error = both.refused("UPDATE charts SET doc = %s WHERE id = 1", [Jsonb({"ssn": 4711, "ward": "x"})], sqlstate="22P02")
    assert "$.ssn: a JSON number is no value of type text" in str(error)
    assert "4711" not in str(error)


def test_the_spelling_of_a_stored_value_is_refused(site: Site, both: Both) -> None:
    with psycopg.connect(site.sealed_dsn) as conn:
        (stored,) = conn.execute("SELECT doc FROM charts WHERE id = 1").fetchone() or (None,)
    both.refused("UPDATE charts SET doc = %s WHERE id = 1", [Jsonb({"ssn": stored["ssn"]})], sqlstate="22P02")


def test_copy_both_ways(both: Both, oracle: LeakOracle) -> None:
    document = {"ssn": oracle.plant("ssn"), "name": {"family": oracle.plant("name")}, "ward": 'tab\there \\ "quoted"'}
    for options in ("", " (FORMAT csv)", " (FORMAT binary)"):
        for conn in (both.plain, both.proxied):
            conn.execute("DELETE FROM charts WHERE id >= 100")
            with conn.cursor().copy(f"COPY charts (id, doc) FROM STDIN{options}".encode()) as copy:
                if "csv" in options:
                    copy.write('100,"' + _text(document).replace('"', '""') + '"\n101,\n')
                else:
                    copy.set_types(["int4", "jsonb"])
                    copy.write_row([100, Jsonb(document)])
                    copy.write_row([101, None])
        both.same("SELECT id, doc FROM charts ORDER BY id")
        out = []
        for conn in (both.plain, both.proxied):
            with conn.cursor().copy(
                f"COPY (SELECT id, doc, doc->>'ssn' FROM charts ORDER BY id) TO STDOUT{options}".encode()
            ) as copy:
                out.append(b"".join(bytes(block) for block in copy))
        assert out[0] == out[1]


def test_prepared_statements_and_other_encodings(both: Both, oracle: LeakOracle) -> None:
    ssn, name = oracle.plant("ssn"), oracle.plant("name")
    for encoding in ("utf-8", "latin-1"):
        for conn in (both.plain, both.proxied):
            conn.execute(f"SET client_encoding TO '{encoding}'".encode())
        for _ in range(7):
            both.same(
                "UPDATE charts SET doc = %s WHERE id = %s RETURNING doc->'name'->>'family'",
                [Jsonb({"ssn": ssn, "name": {"family": name}, "ward": "ß"}), 1],
            )
            # psycopg takes json for UTF-8 whatever the session's encoding is, so it is asked for as text.
            both.same("SELECT doc->>'name', doc->'name'->>'family' FROM charts WHERE doc->>'ssn' = %s", [ssn], binary=True)
            both.same("SELECT doc->>'name', doc->>'ward' FROM charts WHERE doc->>'ssn' = %s", [ssn])
    for conn in (both.plain, both.proxied):
        conn.execute("PREPARE put (jsonb, int) AS UPDATE charts SET doc = $1 WHERE id = $2")
        conn.execute(f"EXECUTE put ('{_text({'ssn': ssn})}', 2)".encode())
    for conn in (both.plain, both.proxied):
        conn.execute("RESET client_encoding")
    both.same("SELECT * FROM charts ORDER BY id")


def test_views(both: Both) -> None:
    both.same("CREATE VIEW seen AS SELECT id, doc, doc->>'ssn' AS ssn, doc->>'ward' AS ward FROM charts")
    try:
        both.same("SELECT * FROM seen ORDER BY id")
        both.same("SELECT id FROM seen WHERE ssn = (SELECT doc->>'ssn' FROM charts WHERE id = 1)")
        both.same("SELECT id, ward FROM seen WHERE doc->>'ssn' = 'x' OR ward = 'B2' ORDER BY id")
    finally:
        both.same("DROP VIEW seen")


def test_plaintext_past_the_proxy_is_refused_by_the_guard(site: Site, both: Both) -> None:
    with psycopg.connect(site.sealed_dsn, autocommit=True) as conn:
        (own, other) = conn.execute("SELECT doc->>'ssn', doc#>>'{name,family}' FROM charts WHERE id = 1").fetchone() or ("", "")
        for value in ("1", "phi1:", own[:30], own + "!", other, 5, {"a": 1}):
            with pytest.raises(psycopg.errors.CheckViolation):
                conn.execute("UPDATE charts SET doc = %s WHERE id = 1", [Jsonb({"ssn": value})])
        for value in (own, None):
            conn.execute("UPDATE charts SET doc = %s WHERE id = 4", [Jsonb({"ssn": value})])


def test_a_value_moved_to_another_field_does_not_open(site: Site, both: Both) -> None:
    with psycopg.connect(site.sealed_dsn, autocommit=True) as conn:
        conn.execute("UPDATE charts SET closed = jsonb_set(closed, '{meta,x}', closed#>'{meta,by}') WHERE id = 1")
    with pytest.raises(psycopg.Error) as refused:
        both.proxied.execute("SELECT closed FROM charts WHERE id = 1")
    assert refused.value.sqlstate == "XX001"
    assert both.proxied.execute("SELECT closed->'meta'->'at' FROM charts WHERE id = 1").fetchone() == ("noon",)
    with psycopg.connect(site.sealed_dsn, autocommit=True) as conn:
        conn.execute(
            "UPDATE charts SET doc = jsonb_set(doc, '{history}', jsonb_build_array(doc#>'{history,1}', doc#>'{history,0}'))"
            " WHERE id = 1"
        )
    row = both.plain.execute("SELECT doc#>>'{history,0,note}' FROM charts WHERE id = 1").fetchone()
    assert both.proxied.execute("SELECT doc#>>'{history,1,note}' FROM charts WHERE id = 1").fetchone() == row


def test_check_is_content(site: Site, both: Both) -> None:
    assert site.cli("ddl").startswith("-- nothing to do")
    said = site.cli("check")
    for text in (
        "2 with sealed fields are jsonb",
        "public.charts.doc: all but its fields is in clear; its keys are in clear",
        "public.charts.closed: each other scalar is sealed, but at or below: $.ward, $.meta.at",
        "public.charts.doc$.ssn, index @: which rows have equal values, and how often each occurs: 2 distinct among 2",
        "public.charts.doc$.ssn, index right(@,4): which rows have equal `right(value,4)`",
        "public.charts.doc$.history[*].note: of each value only its length up to the next 64 bytes",
        "public.charts.mrn, public.charts.doc$.mrn: of one domain, so equal values show between them too",
    ):
        assert text in " ".join(said.split()), text


def _keys(site: Site) -> set[str]:
    """Return the data keys that the leaves of stored documents are under."""
    with psycopg.connect(site.sealed_dsn) as conn:
        texts = conn.execute("SELECT doc::text || coalesce(closed::text, '') FROM charts WHERE doc IS NOT NULL").fetchall()
    return {key for (text,) in texts for key in re.findall(r'"phi1:f5500101..([0-9a-f]{8})', text)}


def test_leaves_are_sealed_anew_under_another_key_and_the_old_one_can_be_retired(site: Site, both: Both) -> None:
    for conn in (both.plain, both.proxied):
        conn.execute("UPDATE charts SET ssn = 'beside', mrn = 'a document' WHERE id = 2")
    with psycopg.connect(site.sealed_dsn) as conn:
        (before,) = conn.execute("SELECT doc FROM charts WHERE id = 1").fetchone() or ({},)
    site.cli("keys", "rotate")
    old = _keys(site)
    for key in old:
        done = run_cli("keys", "retire", key, "-c", str(site.config), env=site.env, check=False)
        assert "still holds" in done.stderr
        assert done.returncode == 1
    assert "is done" in site.cli("recrypt")
    assert not _keys(site) & old
    with psycopg.connect(site.sealed_dsn) as conn:
        (after,) = conn.execute("SELECT doc FROM charts WHERE id = 1").fetchone() or ({},)
    assert before["ssn"] != after["ssn"]
    assert before["ssn"][29:93] == after["ssn"][29:93], "the tags are the same"
    assert (before["ward"], before["tags"], before["history"][2]) == (after["ward"], after["tags"], after["history"][2])
    both.same("SELECT * FROM charts ORDER BY id")
    both.same("SELECT id FROM charts WHERE doc->>'ssn' IS NOT NULL AND doc->>'ssn' <> 'x' ORDER BY id")
    for key in old:
        assert "is retired" in site.cli("keys", "retire", key)
    both.same("SELECT * FROM charts ORDER BY id")


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**100), 10**100),
    st.decimals(allow_nan=False, allow_infinity=False, places=3),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6), inner, max_size=3),
    ),
    max_leaves=8,
)
TEXTS = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "ssn": TEXTS,
        "name": st.one_of(st.none(), st.fixed_dictionaries({}, optional={"family": TEXTS, "given": JSON})),
        "history": st.one_of(
            st.none(), st.lists(st.one_of(st.none(), st.fixed_dictionaries({}, optional={"note": TEXTS, "on": JSON})), max_size=3)
        ),
        "age": st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
        "extra": JSON,
        "odd key's": st.one_of(
            st.none(), st.integers(-(10**100), 10**100), st.decimals(allow_nan=False, allow_infinity=False, places=2)
        ),
        "ward": JSON,
        "zß": JSON,
    },
)
CLOSED = st.fixed_dictionaries({}, optional={"ssn": TEXTS, "name": JSON, "ward": JSON, "meta": JSON, "deep": JSON})


def _spelled(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {_spelled(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_spelled, value)) + "]"
    return json.dumps(value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS, CLOSED)
def test_any_document_is_shown_as_it_was_stored(site: Site, document: dict[str, object], closed: dict[str, object]) -> None:
    both = Both(site)
    try:
        for conn in (both.plain, both.proxied):
            conn.execute("DELETE FROM charts")
            conn.execute("INSERT INTO charts (id, doc, closed) VALUES (1, %s, %s)", [_spelled(document), _spelled(closed)])
        both.same(
            "SELECT doc::text, closed::text, doc->'name', doc->>'extra', doc->'history'->0, closed->'meta', closed->>'name'"
            " FROM charts"
        )
        both.same(
            "SELECT doc, closed, doc->'extra', doc->>'ssn', doc->'ward', closed->'ward', closed->'deep' FROM charts", binary=True
        )
        if isinstance(document.get("ssn"), str):
            both.same("SELECT id FROM charts WHERE doc->>'ssn' = %s", [document["ssn"]])
    finally:
        both.close()


GROWING = """\
database: {{database}}
deployment: growing
tables:
  public.notes:
    columns:
      doc: {{type: jsonb, others: clear, fields: {{"$.ssn": {{type: text, indexes: [{indexes}], distinct: 1000000}}{more}}}}}
"""


def test_an_index_is_added_and_a_field_that_has_values_is_left_in_clear(postgres_server: PostgresServer, tmp_path: Path) -> None:
    first = GROWING.format(indexes="", more="")
    ddl = "CREATE TABLE notes (id serial PRIMARY KEY, doc jsonb);"
    with open_site(postgres_server, tmp_path, policy=first, ddl=ddl, settings="compute: {engine: embedded}\n") as site:
        policy = tmp_path / "policy.yaml"

        def grown(indexes: str, more: str = "") -> None:
            policy.write_text(GROWING.format(indexes=indexes, more=more).replace("{database}", site.sealed))

        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            conn.execute("""INSERT INTO notes (doc) VALUES ('{"ssn": "1", "a": "x", "l": [{"b": 1}]}'), ('{"ssn": "2"}'), (NULL)""")
        for more, label in ((', "$.a": {type: text}', "$.a"), (', "$.l[*].b": {type: int}', "$.l[*].b")):
            grown("", more)
            said = site.cli("keys", "init")
            assert f'column left in clear  public.notes."doc{label}"' in said, said
        grown("value", ', "$.new": {type: text}')
        assert "slot made, building" in site.cli("keys", "init")
        with site.server.connect(site.sealed) as conn:
            conn.execute(site.cli("ddl").encode())
        site.proxy.terminate()
        site.proxy.start()
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            found = "SELECT id FROM notes WHERE doc->>'ssn' = '2'"
            assert conn.execute(found.encode()).fetchall() == [(2,)]  # by the engine
            # sealed anew, by the engine
            assert conn.execute("UPDATE notes SET doc = CASE WHEN true THEN doc || '{}' END").rowcount == 3
            assert "slot active" in site.cli("keys", "init")
        assert site.cli("explain", "SELECT id FROM notes WHERE doc->>'ssn' = '2'").startswith("rewritten")
        site.proxy.terminate()
        site.proxy.start()
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            assert conn.execute(found.encode()).fetchall() == [(2,)]
        with site.server.connect(site.sealed) as conn:
            conn.execute(site.cli("ddl").encode())  # the guard counts the slot now
        site.cli("check")
