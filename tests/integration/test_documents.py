"""Documents, with an engine: whatever the manual has for json and jsonb is answered as PostgreSQL does, or refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from psycopg.types.json import Json, Jsonb
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import create_async_engine

from tests.fixtures.live import Twins
from tests.harness import explore, results
from tests.harness.proxy import environment
from tests.harness.server import PostgresServer
from tests.harness.site import open_site

CHARTS = "SELECT * FROM charts ORDER BY id"  # what these statements may change
Draw = st.DrawFn


@pytest.fixture
def twins(kept_split_twins: Twins) -> Twins:
    """One seeded clinic for all cases, with an engine; the leak oracle at the end."""
    return kept_split_twins


_KEYS = ["ssn", "name", "family", "given", "age", "city", "a", "é", "0", "-1", "", 'q"', "b c"]
_SCALARS = ["null", "true", "40", "40.0", "-0.0", "1e2", "9" * 100, '"40"', '"Smith"', '"Zoë"', '"5"', '"{}"', '"\\ud83d\\ude00"']


def _document(draw: Draw, depth: int) -> str:
    kind = draw(st.integers(0, 9))
    if not depth or kind > 6:
        return draw(st.sampled_from(_SCALARS))
    if kind > 4:
        return "[" + ", ".join(_document(draw, depth - 1) for _ in range(draw(st.integers(0, 3)))) + "]"
    keys = [draw(st.sampled_from(_KEYS)) for _ in range(draw(st.integers(0, 4)))]
    return "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {_document(draw, depth - 1)}" for key in keys) + "}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _array(keys: list[str]) -> str:
    return "{" + ",".join(json.dumps(key, ensure_ascii=False) for key in keys) + "}"


_INDEXED = ["doc->>'ssn'", "doc->'age'", "doc#>>'{name,family}'", "lower(doc->>'city')", "doc['name']"]
_JSONPATHS = ["$.name", "$.*", "$[*]", "strict $.a", "$.age ? (@ > 3)", "$.ssn.size()", '$.name.family ? (@ like_regex "^S")']


def _jsonb(draw: Draw, depth: int) -> str:
    """Return an expression of type jsonb over doc."""
    kind = draw(st.integers(0, 13 if depth else 0))
    if kind <= 2:
        return "doc"
    inner = _jsonb(draw, depth - 1)
    key, path = draw(st.sampled_from(_KEYS)), [draw(st.sampled_from(_KEYS)) for _ in range(draw(st.integers(0, 3)))]
    value = _quoted(_document(draw, 1))
    return [
        lambda: f"({inner} -> {_quoted(key)})",
        lambda: f"({inner} -> {draw(st.sampled_from([0, 1, -1]))})",
        lambda: f"({inner} #> {_quoted(_array(path))})",
        lambda: f"({inner})[{_quoted(key)}]",
        lambda: f"({inner} || {value}::jsonb)",
        lambda: f"({inner} - {_quoted(key)})",
        lambda: f"({inner} #- {_quoted(_array(path))})",
        lambda: f"jsonb_set({inner}, {_quoted(_array(path))}, {value})",
        lambda: f"jsonb_strip_nulls({inner})",
        lambda: f"jsonb_path_query_first({inner}, {_quoted(draw(st.sampled_from(_JSONPATHS)))}, silent => true)",
        lambda: f"coalesce({inner}, {value})",
    ][kind - 3]()


def _text(draw: Draw) -> str:
    inner, key = _jsonb(draw, 1), draw(st.sampled_from(_KEYS))
    return draw(
        st.sampled_from(
            [
                *_INDEXED[:1], *_INDEXED[2:4], f"({inner} ->> {_quoted(key)})", f"({inner} ->> 0)", f"({inner} #>> '{{}}')",
                f"jsonb_typeof({inner})", f"jsonb_pretty({inner})", f"{inner}::text", "(raw ->> 'ssn')",
                "(raw #>> '{name,family}')",
            ]
        )
    )  # fmt: skip


def _condition(draw: Draw) -> str:
    inner, key, value = _jsonb(draw, 1), draw(st.sampled_from(_KEYS)), _quoted(_document(draw, 2))
    text = _quoted(draw(st.sampled_from(["5", "123-45-6789", "Smith", "40", "graz", ""])))
    return draw(
        st.sampled_from(
            [
                f"{_text(draw)} = {text}", f"{_text(draw)} IN ({text}, 'x')", f"{_text(draw)} IS NULL", f"{inner} = {value}",
                f"{inner} @> {value}", f"{value} <@ {inner}", f"{inner} <@ {value}", f"{inner} ? {_quoted(key)}",
                f"{inner} ?| ARRAY[{_quoted(key)}, 'x']", f"{inner} ?& ARRAY[{_quoted(key)}]",
                f"{inner} @? {_quoted(draw(st.sampled_from(_JSONPATHS)))}", f"{inner} @@ '$.age == 40'", f"doc @> {value}",
                f"doc @> '{{\"age\": 40, \"name\": {{\"family\": \"Smith\"}}}}' OR doc->'age' = {value}",
                f"doc @> '{{\"age\": 40}}' AND {inner} IS NOT NULL", f"{_text(draw)} LIKE {text}",
            ]
        )
    )  # fmt: skip


@st.composite
def statements(draw: Draw) -> str:
    condition = _condition(draw)
    condition = draw(st.sampled_from([condition, f"NOT ({condition})", f"({condition}) AND ward = 'A'", condition]))
    return draw(
        st.sampled_from(
            [
                f"SELECT id, {_text(draw)}, {_jsonb(draw, 2)} FROM charts ORDER BY id",
                f"SELECT id FROM charts WHERE {condition} ORDER BY id",
                f"SELECT id, {condition} FROM charts ORDER BY id",
                f"SELECT {draw(st.sampled_from(_INDEXED))} AS x, count(*), min(id) FROM charts GROUP BY 1 ORDER BY min(id)",
                f"SELECT count(*), count(DISTINCT {draw(st.sampled_from(_INDEXED))}) FROM charts WHERE {condition}",
                f"SELECT id, x FROM charts, jsonb_path_query({_jsonb(draw, 1)}, '$.*') AS x WHERE {condition} ORDER BY id, x",
                f"SELECT a.id, b.id FROM charts a JOIN charts b ON a.doc->>'ssn' = b.doc->>'ssn' AND a.{_INDEXED[1]} = b.doc['age']"
                " ORDER BY 1, 2",
                f"UPDATE charts SET doc = {_jsonb(draw, 2)} WHERE {condition} RETURNING id, doc, doc->>'ssn'",
                f"INSERT INTO charts (id, doc) VALUES (100, {_quoted(_document(draw, 3))}) RETURNING doc, doc->>'ssn', doc->'age'",
                f"DELETE FROM charts WHERE {condition}",
            ]
        )
    )


def test_generated_statements(twins: Twins) -> None:
    """Each is answered by both alike, or refused by the proxy with a hint; what is stored is then equal."""

    def run(text: str) -> Counter[str]:
        with twins.rolled_back():
            found = results.extended(twins.both.proxied, text, (), results.Form())[-1]
            if found.sqlstate == "0A000" and found.message.startswith("phiproxy:"):
                return Counter(["refused"])
            expected = results.extended(twins.both.plain, text, (), results.Form())[-1]
            ordered = "ORDER BY" in text
            assert found.visible(ordered=ordered) == expected.visible(ordered=ordered), found.difference(expected, ordered=ordered)
            if found.sqlstate is None and not text.startswith("SELECT"):
                twins.both.run(CHARTS, protocol="simple")
            return Counter(["failed" if found.sqlstate else "answered"])

    answers = explore.tried(statements(), 150, run)
    explore.enough(answers, "answered", 60)
    assert answers["refused"] * 4 < answers["answered"]


@st.composite
def bound(draw: Draw) -> tuple[str, list[str]]:
    """Return a statement whose paths and values are parameters."""
    key = st.sampled_from(["ssn", "name", "family", "given", "age", "city", "zip", "0"])
    text = st.sampled_from(["5", "123-45-6789", "Smith", "40", "graz", "Ada", '{"a": 1}', "x"])
    document = draw(st.sampled_from(['{"age": 40}', '{"name": {"family": "Smith"}}', _document(draw, 2)]))
    return draw(
        st.sampled_from(
            [
                ("doc ->> $1 = $2", [draw(key), draw(text)]),
                ("(doc[$1::text] ->> $2::text) = $3::varchar", [draw(key), draw(key), draw(text)]),
                ("doc -> 'name' ->> $1 = lower($2) OR ward = $3", [draw(key), draw(text), "A"]),
                ("lower(doc ->> $1) = lower($2) AND ward = 'A'", [draw(key), draw(text)]),
                ("NOT (doc ->> $1 = $2)", [draw(key), draw(text)]),
                ("doc @> $1::jsonb", [document]),
                ("doc @> $1::jsonb OR doc ->> $2 = $3", [document, draw(key), draw(text)]),
                ("doc -> 'name' @> $1::jsonb AND doc @> $2::jsonb", [document, '{"age": 40}']),
            ]
        )
    )


def test_generated_parameters(twins: Twins) -> None:
    def run(case: tuple[tuple[str, list[str]], bool]) -> Counter[str]:
        (text, params), named = case
        with twins.rolled_back():
            outcome = twins.both.run(f"SELECT id FROM charts WHERE {text} ORDER BY id", params, named=named)
        return Counter({text: outcome.sqlstate is None})

    tried = explore.tried(st.tuples(bound(), st.booleans()), 120, run)
    tried.pop("examples", None)  # so many were explored
    assert len(tried) == 8
    assert min(tried.values()) > 0


DOCUMENT = {"ssn": "9-9", "name": {"family": "Ünal", "given": ["A"]}, "age": 40.5, "city": "LINZ"}


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prepare", [False, True])
def test_psycopg(twins: Twins, *, binary: bool, prepare: bool) -> None:
    told = []
    for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
        with psycopg.connect(dsn) as conn, conn.cursor(binary=binary) as cur:
            cur.execute("INSERT INTO charts (id, doc, raw) VALUES (50, %s, %s)", (Jsonb(DOCUMENT), Json(DOCUMENT)), prepare=prepare)
            rows = []
            for text, params in (
                ("SELECT doc, raw, doc->>'ssn', doc['name'], raw->>'ssn' FROM charts WHERE doc->>'ssn' = %s", ("9-9",)),
                ("SELECT id FROM charts WHERE doc @> %s", (Jsonb({"name": {"family": "Ünal"}, "age": 40.50}),)),
                ("SELECT id FROM charts WHERE doc @> %b", (Jsonb({"ssn": "9-9"}),)),
                ("SELECT id FROM charts WHERE doc @> %s::jsonb AND id > %s", ('{"age": 4.05e1}', 3)),
                ("SELECT id FROM charts WHERE doc['age'] = %s", (Jsonb(40.5),)),
                ("SELECT id FROM charts WHERE doc->'name' @> %s ORDER BY id", (Jsonb({"family": "Smith"}),)),
                ("SELECT id FROM charts WHERE doc @> %s ORDER BY id", (Jsonb({"age": 40, "name": {"given": []}}),)),
                ("SELECT id FROM charts WHERE doc @> %s ORDER BY id", (Jsonb({"ssn": "5"}),)),
                ("SELECT id FROM charts WHERE lower(doc->>'city') = lower(%s)", ("LInz",)),
                ("UPDATE charts SET doc = jsonb_set(doc, '{city}', %s) WHERE doc->>'ssn' = '9-9' RETURNING doc", (Jsonb("Graz"),)),
                ("SELECT id FROM charts WHERE lower(doc->>'city') = 'graz' ORDER BY id", ()),
            ):
                cur.execute(text, params, prepare=prepare)
                rows.append(cur.fetchall())
            told.append(rows)
            conn.rollback()
    assert told[0] == told[1]
    assert told[1][0][0][2] == "9-9"
    assert all(told[1])


async def test_asyncpg(twins: Twins) -> None:
    told = []
    for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
        conn = await asyncpg.connect(dsn)
        for name in ("json", "jsonb"):
            await conn.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        transaction = conn.transaction()
        await transaction.start()
        rows: list[object] = []
        await conn.execute("INSERT INTO charts (id, doc, raw) VALUES ($1, $2, $3)", 51, DOCUMENT, DOCUMENT)
        for text, params in (
            ("SELECT doc, raw, doc->'name', doc->>'ssn' FROM charts WHERE doc->>'ssn' = $1", ("9-9",)),
            ("SELECT id FROM charts WHERE doc @> $1", ({"name": {"family": "Ünal"}},)),
            ("SELECT id FROM charts WHERE doc->'age' = $1", (40.5,)),
            ("SELECT id FROM charts WHERE doc->>'ssn' = ANY ($1)", (["9-9", "5"],)),
            ("SELECT id FROM charts WHERE doc @> $1 ORDER BY id", ({"name": {"given": ["A"]}},)),
        ):
            made = await conn.prepare(text)
            rows.append([t.name for t in made.get_parameters()])
            rows.append([tuple(row.values()) for row in await made.fetch(*params)])
        told.append(rows)
        await transaction.rollback()
        await conn.close()
    assert told[0] == told[1]
    assert all(told[1])


TABLE = sa.Table("charts", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("doc", JSONB), sa.Column("ward", sa.Text))
# SQLAlchemy sends steps of paths as parameters. Answered by tags, and by the engine.
CONDITIONS = [
    TABLE.c.doc["ssn"].astext == "123-45-6789",
    TABLE.c.doc["name"]["family"].astext == "Smith",
    TABLE.c.doc["ssn"].as_string() == "5",
    sa.func.lower(TABLE.c.doc["city"].astext) == "graz",
    sa.or_(TABLE.c.doc["name"]["family"].astext == "smith", TABLE.c.ward == "B"),
    TABLE.c.doc.contains({"age": 40, "name": {"family": "Smith"}}),
    TABLE.c.doc["name"].contains({"family": "smith"}),
    TABLE.c.doc["zip"].astext == "8010",
    TABLE.c.doc["name"]["given"][0].astext == "Ada",
    TABLE.c.doc[("name", "family")].astext == "Smith",
    TABLE.c.doc["ssn"].astext.in_(["5", "123-45-6789"]),
    TABLE.c.doc["age"] == sa.cast(40, JSONB),
    TABLE.c.doc["age"].as_integer() == 40,
    TABLE.c.doc.has_key("ssn"),
    TABLE.c.doc["ssn"].astext.is_(None),
    sa.not_(TABLE.c.doc["ssn"].astext == "5"),
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=[str(number) for number in range(len(CONDITIONS))])
def test_sqlalchemy(twins: Twins, condition: sa.ColumnElement[bool]) -> None:
    told: list[list[object]] = []
    for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
        engine = sa.create_engine(dsn.replace("postgresql:", "postgresql+psycopg:", 1))
        query = sa.select(TABLE.c.id, TABLE.c.doc["name"]["family"].astext).where(condition).order_by(TABLE.c.id)
        with engine.connect() as conn:
            try:
                told.append([tuple(row) for _ in range(3) for row in conn.execute(query)])
            except sa.exc.DBAPIError as failed:
                told.append([getattr(failed.orig, "sqlstate", None)])
        engine.dispose()
    assert told[0] == told[1]


@pytest.mark.parametrize("condition", CONDITIONS[:7], ids=[str(number) for number in range(7)])
async def test_sqlalchemy_with_asyncpg(twins: Twins, condition: sa.ColumnElement[bool]) -> None:
    told = []
    for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
        engine = create_async_engine(dsn.partition("?")[0].replace("postgresql:", "postgresql+asyncpg:", 1))
        async with engine.connect() as conn:
            rows = await conn.execute(sa.select(TABLE.c.id, TABLE.c.doc).where(condition).order_by(TABLE.c.id))
            told.append([tuple(row) for row in rows])
        await engine.dispose()
    assert told[0] == told[1]
    assert told[1]


def test_django(twins: Twins) -> None:
    program = Path(__file__).with_name("django_documents.py")
    site, told = twins.clinic.site, []
    for host, port, database in ((site.server.host, site.server.port, site.plain), (site.proxy.host, site.proxy.port, site.sealed)):
        command = [sys.executable, str(program), host, str(port), database, site.role, site.password]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert told[0] == told[1]
    assert all(told[1].values())


def test_a_bound_path_is_answered_by_its_index(twins: Twins) -> None:
    """And not by the engine, which would read all rows."""
    with psycopg.connect(twins.clinic.proxy_dsn, autocommit=True) as conn:
        twins.clinic.site.tap.reset()
        found = conn.execute("SELECT id FROM charts WHERE doc ->> %s::text = %s", ("ssn", "123-45-6789")).fetchall()
        sent = b"".join(twins.clinic.site.tap.upstream())
    assert found == [(1,)]
    assert b"substring(doc, 13, 16)" in sent
    assert b'"charts"."doc"' not in sent


def test_a_json_that_an_index_cannot_read_is_refused_as_by_an_index_of_postgresql(twins: Twins) -> None:
    document = '{"ssn": "1", "x": "\\u0000"}'
    states = []
    with psycopg.connect(twins.clinic.plain_dsn) as conn:
        conn.execute("CREATE UNIQUE INDEX ON charts ((raw->>'ssn')) WHERE id = 60")
        states.append(_sqlstate(conn, document))
    with psycopg.connect(twins.clinic.proxy_dsn) as conn:
        states.append(_sqlstate(conn, document))
    assert states == ["22P05", "22P05"]


def _sqlstate(conn: psycopg.Connection[tuple[object, ...]], document: str) -> str | None:
    with pytest.raises(psycopg.Error) as failed:
        conn.execute("INSERT INTO charts (id, raw) VALUES (60, %s)", (document,))
    conn.rollback()
    return failed.value.sqlstate


def test_indexes_are_made_and_used(twins: Twins) -> None:
    with psycopg.connect(twins.clinic.proxy_dsn) as conn:
        conn.execute("CREATE INDEX ON charts ((doc->>'ssn'), (doc['age']))")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="no blind index for doc"):
            conn.execute("CREATE INDEX ON charts ((doc #>> '{name,given}'))")
        conn.rollback()
    with psycopg.connect(twins.clinic.proxy_dsn) as conn:
        conn.execute("DELETE FROM charts WHERE id = 10")
        conn.execute("CREATE UNIQUE INDEX charts_ssn ON charts ((doc->>'ssn'))")
        conn.execute("SET LOCAL enable_seqscan = off")
        plan = conn.execute("EXPLAIN SELECT id FROM charts WHERE doc #>> '{ssn}' = %s", ("5",)).fetchall()
        assert "charts_ssn" in str(plan)
        plan = conn.execute("EXPLAIN SELECT id FROM charts WHERE doc @> %s", (Jsonb({"ssn": "9-9"}),)).fetchall()
        assert "charts_ssn" in str(plan)
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute('INSERT INTO charts (id, doc) VALUES (70, \'{"ssn": "5"}\')')
        conn.rollback()


POLICY = """\
database: {database}
deployment: documents-test
tables:
  public.charts:
    columns:
      doc: {type: jsonb, indexes: ["doc->>'ssn'"], distinct: 1000000}
"""
FILLED = """\
CREATE TABLE charts (id int PRIMARY KEY, doc jsonb);
INSERT INTO charts SELECT n, jsonb_build_object('ssn', 'secret-' || n, 'city', 'Graz ' || n) FROM generate_series(1, 500) n;
"""
BY_CITY = "SELECT id FROM charts WHERE doc->>'city' = 'Graz 7'"


def test_a_filled_column_is_observed_sealed_and_gets_another_index(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with open_site(postgres_server, tmp_path, policy=POLICY, ddl=FILLED) as site:
        with postgres_server.connect() as conn:
            conn.execute(f'GRANT "{site.role}" TO "{site.service}"')
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            assert conn.execute(BY_CITY).fetchall() == [(7,)]
        line = "public.charts.doc:  indexes: [\"doc->>'city'\"]"
        _until(lambda: line in site.cli("observe", "report"))
        site.cli("encrypt")
        policy = site.directory / "policy.yaml"
        policy.write_text(policy.read_text().replace("indexes: [", "indexes: [\"doc->>'city'\", "))
        site.cli("keys", "init")
        site.proxy.kill()
        site.proxy.start()
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            assert conn.execute("SELECT id FROM charts WHERE doc #>> '{ssn}' = 'secret-7'").fetchall() == [(7,)]
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="no blind index answers"):
                conn.execute(BY_CITY)
        site.cli("reindex", "public.charts.doc")
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            assert conn.execute(BY_CITY).fetchall() == [(7,)]
        assert "`doc->>'city'`" in site.cli("check", check=False)


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not done():
        assert time.monotonic() < end
        time.sleep(0.3)
