"""Generated statements by every role, in two worlds that differ only in what is masked for it: nobody may see the difference.

The worlds are two schemas with the same tables and rows, of which every value of a masked column is another one with the same mask.
So whatever a statement returns, however it fails and how many rows it has must be the same in both: this finds predicates,
orders, counts and errors that tell of a value, not only values that are shown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import strategies as st

from tests.harness import explore
from tests.harness.explore import EXPLORE
from tests.harness.server import PostgresServer
from tests.integration.masked_site import Connection, MaskedSite, open_masked_site

pytestmark = pytest.mark.timeout(600 + 2 * EXPLORE)
COLUMNS = """\
    columns:
      ssn:   {type: text, indexes: [ssn, "right(ssn, 4)", "left(ssn, 3)"], distinct: 100000000, accept_leakage: "the tests"}
      name:  {type: text, indexes: [name, "lower(name)"], distinct: 1000000}
      born:  {type: date, indexes: [born], distinct: 30000, accept_leakage: "the tests"}
      note:  {type: text}
      seen:  {type: timestamptz}
      doc:
        type: jsonb
        fields:
          "$.ssn":         {type: text, indexes: [value], distinct: 100000000}
          "$.name.family": {type: text, indexes: [value], distinct: 1000000}
          "$.name.given":  {type: text}
          "$.age":         {type: int, indexes: [value], distinct: 1000000}
          "$.born":        {type: date}
          "$.notes[*].is": {type: text}
        others: clear
"""
HIDDEN = '["$.notes[*].is", $.name.given]'
POLICY = f"""\
database: {{database}}
deployment: worlds-test
tables:
  wa.people:
{COLUMNS}\
  wb.people:
{COLUMNS}\
access:
  rules:
    - {{roles: [mask_nurse], tables: ["*"], show: "null"}}
    - {{roles: [mask_nurse], columns: [wa.people.ssn, wb.people.ssn], show: last(4)}}
    - {{roles: [mask_nurse], columns: [wa.people.born, wb.people.born], show: year}}
    - {{roles: [mask_nurse], columns: [wa.people.name, wb.people.name], show: open}}
    - {{roles: [mask_nurse], columns: [wa.people.seen, wb.people.seen], show: month}}
    - {{roles: [mask_nurse], columns: [wa.people.doc, wb.people.doc], show: open}}
    - {{roles: [mask_nurse], fields: {{wa.people.doc: [$.ssn], wb.people.doc: [$.ssn]}}, show: last(4)}}
    - {{roles: [mask_nurse], fields: {{wa.people.doc: [$.born], wb.people.doc: [$.born]}}, show: year}}
    - {{roles: [mask_nurse], fields: {{wa.people.doc: {HIDDEN}, wb.people.doc: {HIDDEN}}}, show: "null"}}
    - {{roles: [mask_research], tables: ["*"], show: "null"}}
    - {{roles: [mask_research], columns: [wa.people.ssn, wb.people.ssn], show: fixed(***)}}
    - {{roles: [mask_research], columns: [wa.people.born, wb.people.born], show: age90}}
    - {{roles: [mask_dba], tables: ["*"], show: deny}}
"""
DDL = "\n".join(
    f"CREATE TABLE {world}.people"
    " (id int PRIMARY KEY, ssn text, name text, born date, note text, city text, seen timestamptz, doc jsonb);"
    f" CREATE TABLE {world}.calls (id int PRIMARY KEY, person int, what text);"
    f" GRANT ALL ON {world}.people, {world}.calls TO public;"
    for world in ("wa", "wb")
)
# Of a nurse the ssn's last four digits, the year of birth and the family name are the same, and so are age and ward.
PAPER = '{"ssn": "%s", "name": {"family": "%s", "given": "%s"}, "born": %s, "notes": %s, "age": %s, "ward": "B2"}'
DOCS = {
    "wa": [
        PAPER % ("078-05-1120", "Zork", "Ann", '"1961-04-17"', '[{"is": "tea", "on": 1}]', 64),
        PAPER % ("219-09-1120", "Zork", "Ann", '"1961-04-17"', "[]", 64),
        PAPER % ("457-55-5462", "Moll", "Cyd", "null", "[]", "null"),
    ],
    "wb": [
        PAPER % ("999-88-1120", "Zork", "Eve", '"1961-11-02"', '[{"is": "x", "on": 1}]', 64),
        PAPER % ("111-22-1120", "Zork", "Bea", '"1961-02-03"', "[]", 64),
        PAPER % ("222-33-5462", "Moll", "Dot", "null", "[]", "null"),
    ],
}
# Of each person the masks are the same in both worlds, and no value is; nor is what is equal, in order, or NULL (note).
# A nurse sees names, which are the same.
PEOPLE: dict[str, list[tuple[object, ...]]] = {
    "wa": [
        (1, "078-05-1120", "Ann Zork", "1961-04-17", "likes tea", "Turku", "2026-01-31 23:59:59+00",
         DOCS["wa"][0]),
        (2, "219-09-1120", "Ann Zork", "1961-04-17", "likes tea", "Turku", "2026-02-01 00:00:00+00",
         DOCS["wa"][1]),
        (3, "457-55-5462", "Cyd Moll", "1975-12-24", None, "Oulu", None,
         DOCS["wa"][2]),
    ],
    "wb": [
        (1, "999-88-1120", "Ann Zork", "1961-11-02", "x", "Turku", "2026-01-01 00:00:00+00",
         DOCS["wb"][0]),
        (2, "111-22-1120", "Ann Zork", "1961-02-03", "yy", "Turku", "2026-02-28 23:59:59+00",
         DOCS["wb"][1]),
        (3, "222-33-5462", "Cyd Moll", "1975-01-01", "zzz", "Oulu", None,
         DOCS["wb"][2]),
    ],
}  # fmt: skip
MASKED_ROLES = ("mask_nurse", "mask_research", "mask_dba")


@pytest.fixture(scope="module", params=["alone", "with an engine"])
def worlds(
    request: pytest.FixtureRequest,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
    engine_directory: Path,
) -> Iterator[MaskedSite]:
    settings = f"compute: {{engine: embedded, directory: {engine_directory}, limits: {{sessions: 4, timeout: 300s}}}}\n"
    settings = settings if request.param != "alone" else ""
    directory = tmp_path_factory.mktemp("worlds")
    schemas = "CREATE SCHEMA wa; CREATE SCHEMA wb; GRANT ALL ON SCHEMA wa, wb TO public"
    given = {"policy": POLICY, "ddl": DDL, "settings": settings, "types": schemas, "view": "SELECT 1"}
    with open_masked_site(postgres_server, directory, **given) as masked:
        for world, people in PEOPLE.items():
            with masked.as_owner() as owner:
                for person in people:
                    owner.execute(f"INSERT INTO {world}.people VALUES (%s, %s, %s, %s, %s, %s, %s, %s)".encode(), person)
                owner.execute(f"INSERT INTO {world}.calls VALUES (1, 1, 'a'), (2, 2, 'b')".encode())
                owner.execute(f"CREATE VIEW {world}.everybody AS SELECT * FROM {world}.people".encode())
                if settings:
                    owner.execute(f"CREATE VIEW {world}.computed AS {COMPUTED} FROM {world}.people".encode())
                owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {world} TO public".encode())
        yield masked


# A view that the engine computes, over every masked column.
COMPUTED = "SELECT id, city, upper(ssn) AS ssn, name || city AS name, born + 1 AS born, length(note) AS note, seen::date AS seen"
GUESSES = [repr(value) for people in PEOPLE.values() for person in people for value in person[1:5] if isinstance(value, str)]
GUESSES += ["'1961-06-01'", "'078'", "'Ann%'", "'%tea'", "NULL"]

column = st.sampled_from(["ssn", "name", "born", "note", "seen", "doc"])
guess = st.sampled_from(GUESSES)
EXPRESSIONS = [
    "{c}", "{c}::text", "p.{c}", "(p).{c}", "upper({c}::text)", "length({c}::text)", "{c} = {g}", "{c} IS NULL",
    "{c} IS NOT NULL", "{c} < {g}", "{c} >= {g}", "{c} BETWEEN {g} AND {g}", "{c} IN ({g}, {g})", "{c} = ANY (ARRAY[{g}, {g}])",
    "{c}::text LIKE {g}", "{c} IS DISTINCT FROM {g}", "COALESCE({c}, {g})", "NULLIF({c}, {g})", "CASE WHEN {c} = {g} THEN 1 END",
    "CASE {c} WHEN {g} THEN 1 END", "CASE WHEN id = 1 THEN {c} END", "GREATEST({c}, {g})", "ARRAY[{c}]", "ROW(id, {c})",
    "(id, {c}) = (1, {g})", "md5({c}::text)", "right(ssn, 4)", "left(ssn, 3) = '078'", "lower(name) = 'ann zork'",
    "{c}::text || 'x'", "extract(month FROM born)", "born + 1", "age(born)", "(SELECT q.{c} FROM people q WHERE q.id = 1)",
    "(SELECT q.{c} FROM people q WHERE q.id = 1) = {g}", "EXISTS (SELECT FROM people q WHERE q.{c} = p.{c} AND q.id <> p.id)",
    "{g} IN (SELECT q.{c} FROM people q)", "{c} = (SELECT q.{c} FROM people q WHERE q.id = 2)", "p IS NULL", "p IS NOT NULL",
    "p::text", "row_to_json(p)", "hashtext({c}::text)", "city", "id", "city || id", "count(*) OVER (PARTITION BY {c})",
    "rank() OVER (ORDER BY {c})", "lag({c}) OVER (ORDER BY id)", "pg_column_size({c})", "pg_typeof({c})", "to_json({c})",
    "doc->>'ssn'", "doc->'ssn'", "doc->>'ward'", "doc->'name'", "doc->'name'->>'family'", "doc #>> '{name,given}'",
    "doc->>'born'",
    "(doc->>'age')::int", "doc->>'age' = '64'", "doc->'notes'->0->>'is'", "doc->'notes'", "doc->'notes'->0->>'on'", "doc ? 'ssn'",
    "doc @> '{\"ssn\": \"078-05-1120\"}'", "doc @> '{\"ward\": \"B2\"}'", "doc->>'ssn' = '078-05-1120'", "doc - 'ssn'",
    "doc->'name'->>'family' = 'Zork'", "upper(doc->'name'->>'family')", "doc || '{}'", "doc->>id", "jsonb_object_keys(doc)",
    "jsonb_each_text(doc)", "jsonb_path_query(doc, '$.ssn')", "doc #> '{}'", "jsonb_set(doc, '{ward}', '1')",
    "format('%s', {c})", "concat({c})", "{c}::varchar(3)", "xmin IS NULL",
]  # fmt: skip
AGGREGATES = [
    "count({c})", "count(DISTINCT {c})", "max({c})", "min({c})", "array_agg({c})", "bool_or({c} = {g})",
    "string_agg({c}::text, ',')", "count(*) FILTER (WHERE {c} = {g})", "json_agg({c})", "count(p)", "count(*)",
    "mode() WITHIN GROUP (ORDER BY {c})",
]  # fmt: skip
STATEMENTS = [
    "SELECT {e} FROM people p ORDER BY id", "SELECT {e}, {f} FROM people p ORDER BY id",
    "SELECT *, {e} FROM people p ORDER BY id", "SELECT id FROM people p WHERE {e} IS NOT NULL ORDER BY id",
    "SELECT id FROM people p WHERE ({e})::text = {g} ORDER BY id", "SELECT id, city FROM people p ORDER BY {e}, id",
    "SELECT id FROM people p ORDER BY {e} DESC, id LIMIT 1", "SELECT {e} FROM people p ORDER BY 1, id",
    "SELECT DISTINCT {e} FROM people p", "SELECT DISTINCT {e}, {f} FROM people p",
    "SELECT DISTINCT ON ({e}) id FROM people p ORDER BY {e}, id", "SELECT count(*) FROM people p GROUP BY {e}",
    "SELECT {e}, count(*) FROM people p GROUP BY 1", "SELECT {a} FROM people p",
    "SELECT city, {a} FROM people p GROUP BY city ORDER BY city",
    "SELECT city FROM people p GROUP BY city HAVING ({a})::text > {g} ORDER BY city",
    "SELECT p.id, q.id FROM people p JOIN people q ON p.{c} = q.{c} ORDER BY 1, 2",
    "SELECT id FROM people p JOIN (SELECT {c} FROM people) q USING ({c})",
    "SELECT p.id FROM people p LEFT JOIN calls c ON ({e}) IS NULL ORDER BY 1",
    "SELECT 1 FROM people p NATURAL JOIN (SELECT {c} FROM people) q", "SELECT {c} FROM people UNION SELECT {c} FROM people",
    "SELECT {c} FROM people INTERSECT SELECT {g}", "SELECT {c} FROM people EXCEPT SELECT {g}",
    "SELECT {c} FROM people UNION ALL SELECT {c} FROM people",
    "WITH w AS (SELECT id, {e} AS x FROM people p) SELECT x FROM w ORDER BY id",
    "WITH w AS (SELECT id, {c} AS x FROM people p) SELECT id FROM w WHERE x = {g}",
    "SELECT x FROM (SELECT id, {e} AS x FROM people p) s ORDER BY id",
    "SELECT s.id FROM (SELECT id, {c} AS x FROM people) s WHERE s.x = {g}",
    "SELECT x FROM people p, LATERAL (SELECT {e} AS x) s ORDER BY id",
    "SELECT v FROM people p, LATERAL (VALUES ({c})) AS s (v) ORDER BY id",
    "SELECT id FROM people p ORDER BY id LIMIT (SELECT count({c}) FROM people)",
    "SELECT id FROM people p WHERE id IN (SELECT q.id FROM people q WHERE q.{c} = {g}) ORDER BY id", "TABLE people",
    "SELECT p FROM people p ORDER BY id", "UPDATE people p SET city = 'x' WHERE ({e}) IS NOT NULL",
    "UPDATE people p SET city = ({e})::text", "UPDATE people p SET {c} = {g} WHERE id = 1",
    "UPDATE people p SET city = 'x' RETURNING {e}", "UPDATE people p SET city = q.city FROM people q WHERE q.{c} = p.{c}",
    "DELETE FROM people p WHERE ({e}) IS NOT NULL", "DELETE FROM people p WHERE {c} = {g}", "DELETE FROM people p RETURNING {e}",
    "INSERT INTO people (id, {c}) SELECT id + 10, {c} FROM people RETURNING id",
    "INSERT INTO people (id, city) SELECT id + 10, {e} FROM people p",
    "INSERT INTO people (id, {c}) VALUES (9, {g}) RETURNING {c} = {g}",
    "INSERT INTO people (id, {c}) VALUES (1, {g}) ON CONFLICT (id) DO UPDATE SET city = people.{c}::text",
    "INSERT INTO calls (id, what) SELECT id + 10, {c} FROM people",
    "INSERT INTO people (id, ssn) VALUES (9, (SELECT {c} FROM people WHERE id = 1))",
    "MERGE INTO calls c USING people p ON c.person = p.id AND p.{c} = {g} WHEN MATCHED THEN UPDATE SET what = 'y'",
    "MERGE INTO people p USING calls c ON c.person = p.id WHEN MATCHED AND p.{c} = {g} THEN DELETE",
    "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) SELECT id FROM people p WHERE {c} = {g}",
    "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) SELECT {e} FROM people p ORDER BY {f}",
    "CREATE TABLE made AS SELECT {e} AS x FROM people p", "CREATE VIEW made AS SELECT {e} AS x FROM people p",
    "ALTER TABLE people ADD UNIQUE ({c})", "ALTER TABLE people ADD CHECK ({c} <> {g})",
    "ALTER TABLE people ALTER {c} SET NOT NULL", "CREATE UNIQUE INDEX ON people ({c})",
    "PREPARE made AS SELECT {e} FROM people p ORDER BY id", "DECLARE made CURSOR FOR SELECT {e} FROM people p ORDER BY id",
    "SELECT json_build_array({e}) FROM people p ORDER BY id", "SELECT id FROM people p WHERE ({e}) IS NULL OR id = 3 ORDER BY id",
    "SELECT id FROM people p WHERE NOT (({e}) IS NULL) AND city = 'Turku' ORDER BY id",
    "SELECT sum(CASE WHEN {c} = {g} THEN 1 ELSE 0 END) FROM people",
    "SELECT upper(city), {e} FROM people p ORDER BY upper(city), id", "SELECT id FROM people p FOR UPDATE",
    "SELECT {e} FROM everybody p ORDER BY id", "SELECT id FROM everybody p WHERE ({e}) IS NOT NULL ORDER BY id",
    "SELECT id FROM everybody p WHERE {c} = {g} ORDER BY id", "SELECT * FROM everybody p ORDER BY {e}, id",
    "UPDATE everybody p SET city = ({e})::text", "DELETE FROM everybody p WHERE {c} = {g}", "TABLE computed",
    "SELECT id, {c} FROM computed p ORDER BY id", "SELECT id FROM computed WHERE {c} IS NULL ORDER BY id",
    "SELECT id FROM computed p ORDER BY {c}, id", "SELECT count({c}), max({c}) FROM computed",
    "SELECT p.id FROM computed p JOIN people q ON p.{c}::text = {g} ORDER BY 1", "SELECT {e} FROM computed p ORDER BY id",
    "COPY (SELECT id, {c} FROM computed) TO STDOUT", "DECLARE made CURSOR FOR SELECT id, {c} FROM computed ORDER BY id",
    "COPY (SELECT {e} FROM people p ORDER BY id) TO STDOUT", "COPY people TO STDOUT",
    "COPY people (id, {c}) TO STDOUT (FORMAT csv)", "DO $$ BEGIN PERFORM {c} FROM people; END $$",
    "UPDATE people SET doc = jsonb_set(doc, '{ward}', '\"x\"')",
    "UPDATE people SET doc['ward'] = '\"x\"' WHERE {c} IS NOT NULL",
    "UPDATE people SET doc = doc || '{}' RETURNING doc", "UPDATE people SET doc = NULL",
    "UPDATE people SET city = doc->>'ward' RETURNING doc",
    "INSERT INTO people (id, doc) SELECT id + 10, doc->'name' FROM people",
    "DELETE FROM people WHERE doc->'name'->>'family' = 'Zork'",
    "UPDATE people p SET city = 'x' WHERE doc->>'ward' = 'B2' RETURNING *",
    "SELECT doc, ({e})::text FROM people p ORDER BY id",
    "UPDATE people p SET note = upper(p.name) RETURNING {e}", "UPDATE people p SET name = p.name || p.city WHERE {e} IS NOT NULL",
    "UPDATE people p SET name = upper(p.{c}::text)", "UPDATE people p SET note = DEFAULT, name = reverse(name) RETURNING id, {c}",
    "INSERT INTO people (id, name) SELECT id + 10, upper(name) FROM people p WHERE ({e}) IS NOT NULL RETURNING {c}",
    "INSERT INTO people AS p (id, name, {c}) VALUES (1, 'n', NULL), (9, upper('m'), NULL)"
    " ON CONFLICT (id) DO UPDATE SET name = p.name || excluded.name WHERE p.{c} IS NULL RETURNING {e}",
    "MERGE INTO people p USING calls c ON c.person = p.id AND p.name > 'A' WHEN MATCHED AND {e} IS NOT NULL THEN"
    " UPDATE SET name = p.name || c.what WHEN NOT MATCHED THEN INSERT (id, name) VALUES (c.id + 20, upper(c.what))",
    "WITH w AS (UPDATE people p SET name = lower(p.name) RETURNING *) SELECT id, {c} FROM w p ORDER BY id",
    "WITH w AS (DELETE FROM people p WHERE p.name > 'B' RETURNING {e} AS x) SELECT count(*), max(x::text) FROM w",
    "DELETE FROM people p USING calls c WHERE c.person = p.id AND upper(p.name) > {g} RETURNING {e}",
    "UPDATE people p SET name = q.x FROM (SELECT id, upper(name) AS x FROM people WHERE {c} IS NOT NULL) q WHERE q.id = p.id",
    "UPDATE people SET (name, city) = (SELECT upper(q.name), q.city FROM people q WHERE q.{c} = people.{c} AND q.id = people.id)",
    "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) UPDATE people SET name = upper(name) WHERE {c} IS NOT NULL",
    "SELECT query_to_xml('SELECT {c} FROM people', true, true, '')",
    "SELECT stats.* FROM pg_stats stats WHERE tablename = 'none' AND attname = '{c}'",
]  # fmt: skip


@st.composite
def statements(draw: st.DrawFn) -> str:
    fill = {"c": draw(column), "g": draw(guess)}
    inner = {name: draw(st.sampled_from(listed)).replace("{g}", draw(guess)).replace("{c}", draw(column))
             for name, listed in (("e", EXPRESSIONS), ("f", EXPRESSIONS), ("a", AGGREGATES))}  # fmt: skip
    text = draw(st.sampled_from(STATEMENTS))
    for name, value in {**inner, **fill}.items():
        text = text.replace(f"{{{name}}}", value)
    return text


ZONES = ("UTC", "America/New_York", "Pacific/Kiritimati", "<x>+11:59:59", "<x>-167")


def outcome(conn: Connection, world: str, statement: str, zone: str, *, simple: bool) -> tuple[object, ...]:
    """Run a statement in a world and take it back; return all that can be seen of it, but the world's name."""
    seen: list[object] = []

    def heard(notice: psycopg.errors.Diagnostic) -> None:
        seen.append(notice.message_primary)

    conn.add_notice_handler(heard)
    conn.execute("BEGIN")
    conn.execute(f"SET LOCAL search_path TO {world}".encode())
    try:
        conn.execute(f"SET LOCAL timezone TO '{zone}'".encode())
        if statement.startswith("COPY"):
            with conn.cursor().copy(statement.encode()) as copy:
                seen.append(sorted(b"".join(copy).split(b"\n")))
        else:
            cursor = psycopg.ClientCursor(conn) if simple else conn.cursor()
            cursor.execute(statement.encode())
            seen.append(cursor.statusmessage)
            if cursor.description is not None:
                ordered = "ORDER BY" in statement
                rows = [str(row) for row in cursor.fetchall()]
                seen += [str(cursor.description), rows if ordered else sorted(rows)]
            further = {"PREPARE": b"EXECUTE made", "DECLARE": b"FETCH ALL FROM made"}.get(statement.partition(" ")[0])
            seen += [str(row) for row in conn.execute(further).fetchall()] if further is not None else []
    except psycopg.Error as error:
        diag = error.diag
        seen += [diag.sqlstate, diag.message_primary, diag.message_detail, diag.message_hint, diag.context, diag.column_name]
    finally:
        if conn.closed:  # what is found out behind the first row ends a session
            seen.append("closed")
        else:
            conn.execute("ROLLBACK")
            conn.execute("DEALLOCATE ALL")
            conn.remove_notice_handler(heard)
    # A tag of the same text is another one in the other world: the columns are others, and their indexes.
    return tuple(re.sub(r"\b(?:sealed_\w+|w[ab]\.|wa|wb)\b|x01[0-9a-f]{30}|(?<=_0)_[0-9a-f]{8}\b", "", str(each)) for each in seen)


CASES = st.tuples(st.sampled_from(MASKED_ROLES), statements(), st.sampled_from(ZONES), st.booleans())
FOUND = (
    ("mask_nurse", "SELECT id, seen FROM people ORDER BY id", "Pacific/Kiritimati", True),
    ("mask_nurse", "SELECT id, seen FROM people ORDER BY id", "America/New_York", False),
    ("mask_nurse", "SELECT id, seen FROM people ORDER BY id", "<x>-167", False),
    ("mask_nurse", "SELECT doc, doc->'name'->>'family' FROM people ORDER BY id", "UTC", False),
    ("mask_nurse", "TABLE computed", "UTC", True),
    ("mask_nurse", "SELECT id, seen, born FROM computed ORDER BY id", "<x>-167", False),
    ("mask_nurse", "SELECT count(note), max(ssn) FROM computed", "UTC", True),
    ("mask_nurse", "SELECT id FROM computed WHERE note IS NULL ORDER BY id", "UTC", False),
    ("mask_dba", "SELECT id, name FROM computed", "UTC", True),
    ("mask_nurse", "UPDATE people p SET city = 'x' WHERE doc->>'ward' = 'B2' RETURNING *", "<x>-167", False),
)


def test_what_is_masked_makes_no_difference(worlds: MaskedSite) -> None:
    def run(case: tuple[str, str, str, bool]) -> Counter[str]:
        role, statement, zone, simple = case
        found: list[tuple[object, ...]] = []
        for world in ("wa", "wb"):
            with worlds.kept(role) as conn:
                found.append(outcome(conn, world, statement, zone, simple=simple))
        one, other = found
        assert one == other
        return Counter([str(one[0])[:5]])

    for case in FOUND:
        run(case)
    explore.tried(CASES, 125, run)
