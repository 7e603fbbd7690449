"""What is computed of arrays is stored in protected ones: it is what PostgreSQL stores, in every form of the write."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.results import told_and_stored
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

DDL = """\
CREATE TABLE things (
    id int PRIMARY KEY, word text, tags text[], nums integer[], days date[], costs numeric(9,2)[], marks varchar(4)[], clear text[],
    stamps timestamp(3)[], hours time[]
);
"""
POLICY = """\
database: {database}
deployment: arrays-test
tables:
  public.things:
    columns:
      word: {type: text}
      tags: {type: "text[]"}
      nums: {type: "integer[]"}
      days: {type: "date[]"}
      costs: {type: "numeric(9,2)[]"}
      marks: {type: "varchar(4)[]"}
      stamps: {type: "timestamp(3)[]"}
      hours: {type: "time[]"}
"""
ROWS = r"""
INSERT INTO things VALUES
(1, 'Stone', '{a,b}', '{1,2}', '{2000-02-29,infinity}', '{1.5,NaN}', '{ab,cd}', '{c,NULL}',
    '{2024-02-29 12:34:56.7895,-infinity}', '{23:59:59.999999}'),
(2, 'O''Wood', '{"x, \"y\"",NULL,"NULL",""}', '[0:1]={3,4}', '{0044-03-15 BC}', '{}', '{}', '{e}',
    '{"0044-03-15 00:00:01 BC"}', '{24:00}'),
(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""
STATEMENTS = [
    "UPDATE things SET tags = array_append(tags, 'new'::text) WHERE 'a' = ANY (tags)",
    "UPDATE things SET tags = tags || ARRAY[upper(word), NULL, '', 'NULL', '{q}', E'back\\\\\\n\"']::text[] RETURNING *",
    r"""UPDATE things SET tags = '[3:4]={x,"y z, \"{q}"}'::text[] || word RETURNING tags""",
    "UPDATE things SET tags = array_remove(tags, 'a'), nums = nums || id RETURNING id, cardinality(tags), nums",
    "UPDATE things SET tags = regexp_split_to_array(word, 'o'), marks = array_prepend('é'::varchar, marks)",
    "UPDATE things SET nums = array_fill(id, ARRAY[id, 2], ARRAY[0, 3]) RETURNING nums",
    "UPDATE things SET nums = '{{1,2},{3,4}}'::int[] || nums",
    "UPDATE things SET days = days || '1999-12-31'::date, costs = costs || ARRAY[length(word)::numeric / 3] RETURNING days, costs",
    "UPDATE things SET stamps = stamps || (stamps[1] + interval '1.0015 s'), hours = hours[1:1] || '01:02:03.4'::time RETURNING *",
    "UPDATE things SET marks = marks || ARRAY[word]::varchar[]",
    "UPDATE things SET nums = ARRAY[length(word), id] WHERE word ILIKE '%o%'",
    "UPDATE things SET nums = tags || 'x'::text",
    "INSERT INTO things (id, nums, tags) SELECT id + 10, nums || id, ARRAY[lower(word)] FROM things RETURNING *",
    "INSERT INTO things (id, clear, word) SELECT id + 20, clear, upper(word) FROM things",
    "INSERT INTO things (id, tags) VALUES (7, '{q}'::text[] || 'z'::text)",
    "INSERT INTO things (id, tags) SELECT 8, array_agg(lower(word) ORDER BY word) FROM things",
    "MERGE INTO things t USING (VALUES (1, 'z'::text), (9, 'w')) AS v (id, word) ON t.id = v.id"
    " WHEN MATCHED THEN UPDATE SET tags = t.tags || v.word"
    " WHEN NOT MATCHED THEN INSERT (id, tags) VALUES (v.id, ARRAY[v.word || 'x'])",
    r"""UPDATE things SET tags = v.t::text[], days = v.d::date[] FROM unnest('{"{a,NULL}",NULL,"{}"}'::text[], """
    r"""'{"{29.2.2000}","{-infinity}",NULL}'::text[], '{1,2,3}'::int[]) AS v (t, d, id) WHERE v.id = things.id""",
    "UPDATE things SET tags = tags[2:] || tags[1], word = (tags || word)[cardinality(tags) + 1], nums = nums[1:2] || nums[2]",
    "UPDATE things SET tags = tags[:1] || upper('x') || tags[2:] RETURNING tags[1:2], upper(tags[1])",
    "UPDATE things SET tags = trim_array(tags, 1), marks = marks[1:1] || 'abcd'::varchar WHERE cardinality(tags) > 0",
    "UPDATE things SET word = (string_to_array(word, 'o'))[1:2][1]",
    "INSERT INTO things (id, tags) VALUES (7, ARRAY['x', upper('y'), NULL])",
    "INSERT INTO things AS t (id, tags) VALUES (1, '{n}'), (2, NULL), (5, '{k}')"
    " ON CONFLICT (id) DO UPDATE SET tags = t.tags || EXCLUDED.tags, word = upper(t.word) RETURNING *",
    "INSERT INTO things AS t (id, tags, nums) VALUES (2, '{n}'::text[] || 'c'::text, '{1}')"
    " ON CONFLICT (id) DO UPDATE SET tags = array_append(t.tags, EXCLUDED.id::text), nums = EXCLUDED.nums || t.nums",
    "INSERT INTO things AS t (id, marks) VALUES (1, '{abc}')"
    " ON CONFLICT (id) DO UPDATE SET marks = t.marks || EXCLUDED.marks WHERE 'ab' = ANY (t.marks) RETURNING marks",
    "INSERT INTO things AS t (id, marks) VALUES (1, '{abcde}') ON CONFLICT (id) DO UPDATE SET marks = t.marks || EXCLUDED.marks",
    "INSERT INTO things AS t (id, days, costs) VALUES (2, '{2001-01-01}', '{2.005}')"
    " ON CONFLICT (id) DO UPDATE SET days = t.days || EXCLUDED.days, costs = EXCLUDED.costs || t.costs RETURNING days, costs",
    "INSERT INTO things AS t (id, tags, clear) SELECT id + 1, tags || 'z'::text, clear FROM things"
    " ON CONFLICT (id) DO UPDATE SET tags = t.tags || EXCLUDED.tags, clear = EXCLUDED.clear RETURNING id, tags, clear",
    "WITH x AS (DELETE FROM things WHERE word ILIKE 's%' RETURNING id, tags, word)"
    " INSERT INTO things (id, tags, nums) SELECT id + 50, tags || lower(word), '{7}' FROM x RETURNING *",
    "WITH x AS (UPDATE things SET tags = tags || 'q'::text WHERE id = 1 RETURNING id, tags),"
    " y AS (UPDATE things SET nums = nums || 5 WHERE id = 2 RETURNING nums) SELECT * FROM x, y",
    r"""UPDATE things SET nums = v.n::int[] FROM unnest('{"{1,x}"}'::text[]) AS v (n)""",
]


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings, directory = "compute: {engine: embedded}\n", tmp_path_factory.mktemp("arrays")
    with open_site(postgres_server, directory, policy=POLICY, ddl=DDL, settings=settings) as site:
        for dsn in (site.plain_dsn, site.proxy_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(ROWS.encode())
        yield site


def _outcome(dsn: str, statement: str, *, binary: bool) -> list[object]:
    with psycopg.connect(dsn) as conn, conn.cursor(binary=binary) as cursor:
        cursor.execute("SET DateStyle = 'German'")
        try:
            cursor.execute(statement.encode())
        except psycopg.Error as error:
            return [error.sqlstate]
        return told_and_stored(cursor, "SELECT * FROM things ORDER BY id")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("number", range(len(STATEMENTS)))
def test_what_is_computed_of_arrays(site: Site, number: int, binary: bool) -> None:
    directly, proxied = (_outcome(dsn, STATEMENTS[number], binary=binary) for dsn in (site.plain_dsn, site.proxy_dsn))
    assert directly == proxied


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE things SET marks = v.m::varchar(2)[] FROM unnest('{\"{abc}\"}'::text[]) AS v (m)",
        "UPDATE things SET tags = word::text[]",
    ],
)
def test_what_would_be_stored_otherwise_is_refused_or_the_same(site: Site, statement: str) -> None:
    directly, proxied = (_outcome(dsn, statement, binary=False) for dsn in (site.plain_dsn, site.proxy_dsn))
    assert proxied in (directly, ["0A000"])
