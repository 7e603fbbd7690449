"""A split statement answers as the whole one does, byte for byte: of few rows, of many, in either format, under any settings."""

from __future__ import annotations

import psycopg
import pytest

from phiproxy.engine import rows_into_engine as source_module
from phiproxy.engine.rest import Rest, Session, Values
from phiproxy.engine.rows_into_engine import Column
from phiproxy.errors import StatementFailed
from tests.engine.both import Both, Outcome, data_row, read

NAMES = ("last_name", "first_name", "born", "code", "sex", "tags", "paid", "seen", "bed", "email", "stayed", "age", "nicks")
# Times 41 rows are more than go as arrays.
MANY = 8
Server = psycopg.Connection[tuple[object, ...]]


def oid_of(server: Server, name: str) -> int:
    row = server.execute("SELECT %s::regtype::oid::int", (name,)).fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]


@pytest.mark.parametrize("result_format", [0, 1])
@pytest.mark.parametrize("many", [False, True])
async def test_every_type_goes_there_and_back(
    both: Both, monkeypatch: pytest.MonkeyPatch, *, many: bool, result_format: int
) -> None:
    if many:
        monkeypatch.setattr("phiproxy.engine.run.FEW_ROWS", 0)
    for name in NAMES:
        whole = both.whole(f"SELECT {name} FROM patients ORDER BY id", result_format)
        rest = f"SELECT p.{name} FROM {{}} AS p (k, {name}) ORDER BY k"
        assert await both.split(f"SELECT id, {name} FROM patients", rest, result_format=result_format) == whole, name


REWRITTEN = [
    ("ORDER BY last_name, first_name LIMIT 5", "last_name, first_name"),
    ("WHERE last_name ILIKE '%me1%' ORDER BY first_name", "last_name, first_name"),
    ("WHERE born < '1953-01-01' ORDER BY born", "born, last_name"),
    ("WHERE ('x' || first_name) ~ '^xF[12]' ORDER BY 1, 2", "first_name, last_name"),
    ("WHERE sex > 'f' ORDER BY sex, born", "sex, born"),
    ("WHERE email = 'p3@x.ORG'", "email, born"),
    ("WHERE similarity(last_name, 'Name1') > 0.5 ORDER BY born", "last_name, born"),
    ("WHERE (bed).kind = 'low' AND 'f' = ANY ((bed).spare) ORDER BY bed LIMIT 3", "bed, last_name"),
    ("WHERE stayed @> '2024-01-09'::date ORDER BY born", "stayed, born"),
    ("WHERE seen > '2024-03-31 02:00 Europe/Berlin' ORDER BY seen", "seen, paid"),
]


@pytest.mark.parametrize(("tail", "columns"), REWRITTEN, ids=[tail for tail, _ in REWRITTEN])
@pytest.mark.parametrize("repeated", [1, MANY])
async def test_what_only_the_plaintext_decides(both: Both, tail: str, columns: str, repeated: int) -> None:
    whole = both.whole(f"SELECT {columns} FROM (SELECT p.* FROM patients p, generate_series(1, {repeated})) p {tail}")
    assert whole.rows
    rest = f"SELECT {columns} FROM {{}} AS p ({columns}) {tail}"
    split = await both.split(f"SELECT {columns} FROM patients", rest, repeated=repeated)
    assert (split.columns, split.tag, sorted(map(repr, split.rows))) == (whole.columns, whole.tag, sorted(map(repr, whole.rows)))


@pytest.mark.parametrize("repeated", [1, MANY])
async def test_aggregates_and_windows(both: Both, repeated: int) -> None:
    parts = """
SELECT sex, count(*), max(born), min(last_name),
       string_agg(first_name, ',' ORDER BY born, first_name) FILTER (WHERE born > '1955-01-01'),
       array_agg(DISTINCT code ORDER BY code), jsonb_agg(paid ORDER BY paid), row_number() OVER (ORDER BY max(born))
  FROM {} p GROUP BY sex HAVING count(*) > 1 ORDER BY 1"""
    columns = "sex, born, last_name, first_name, code, paid"
    many = f"(SELECT {columns} FROM patients, generate_series(1, {repeated}))"
    whole = both.whole(parts.replace("{}", many))
    split = await both.split(f"SELECT {columns} FROM patients", parts.replace("{} p", f"{{}} AS p ({columns})"), repeated=repeated)
    assert split == whole


@pytest.mark.parametrize("repeated", [1, MANY])
async def test_a_source_may_stand_twice(both: Both, repeated: int) -> None:
    rest = "SELECT count(*), max(a.n) FROM {} AS a (n) JOIN {} AS b (n) USING (n)"
    split = await both.split("SELECT last_name FROM patients", rest, repeated=repeated)
    assert split.rows[0][1] == b"Name9"


@pytest.mark.parametrize("rows", [0, 3, 500])
async def test_a_source_without_columns(both: Both, rows: int) -> None:
    split = await both.split(f"SELECT FROM generate_series(1, {rows})", "SELECT count(*) FROM {} AS p")
    assert split.rows == [[str(rows).encode()]]


@pytest.mark.parametrize("many", [False, True])
async def test_a_source_without_rows(both: Both, monkeypatch: pytest.MonkeyPatch, *, many: bool) -> None:
    rest = "SELECT count(*), max(p.x), array_agg(p.x) FROM {} AS p (x)" + (", {} AS q (x)" if many else "")
    source = "SELECT bed FROM patients WHERE id < 0" if many else "SELECT last_name FROM patients WHERE id < 0"
    rest = rest.replace("max(p.x)", "1") if many else rest
    split = await both.split(source, rest)
    assert split.rows[0][0] == b"0"


async def test_values_are_computed_without_a_source(both: Both) -> None:
    text = "SELECT upper($1), $2::int + 1, ($3 || 'x')::citext, date '2024-01-31' - 30"
    parameters = (b"zo\xc3\xab", b"41", None)
    split = await both.run(Rest((text.encode(),), (), 3), [], Values(parameters, (), (0,)))
    assert split == both.whole(text, 0, parameters)


@pytest.mark.parametrize("repeated", [1, MANY])
async def test_parameters_go_to_the_rest(both: Both, repeated: int) -> None:
    text = "SELECT last_name || $2 FROM {} p WHERE last_name ILIKE $1 AND born < $3::date ORDER BY born, 1"
    parameters = (b"%me1%", b"!", b"1960-01-01")
    many = f"(SELECT last_name, born FROM patients, generate_series(1, {repeated}))"
    whole = both.whole(text.replace("{}", many), 0, parameters)
    rest = text.replace("{} p", "{} AS p (last_name, born)")
    assert await both.split("SELECT last_name, born FROM patients", rest, repeated=repeated, parameters=parameters) == whole


SETTINGS = [
    ("TimeZone", "America/St_Johns", "seen::text || (seen AT TIME ZONE 'UTC')::timestamptz"),
    ("DateStyle", "SQL, DMY", "born::text || ('03/02/2024'::date)"),
    ("IntervalStyle", "iso_8601", "(seen - '2024-01-01'::timestamptz)::text"),
    ("bytea_output", "escape", "decode('00ff5c', 'hex')::text"),
    ("extra_float_digits", "0", "(paid / 3)::float8::text"),
    ("pg_trgm.similarity_threshold", "0.9", "(('Name' || id) % 'Name12')::text"),
    ("default_text_search_config", "german", "to_tsvector('the ' || id || ' Katzen')"),
    ("array_nulls", "off", "'{NULL,1}'::text[] || id::text"),
    ("transform_null_equals", "on", "(id = NULL)::text"),
    ("standard_conforming_strings", "off", "E'\\\\' || '\\\\' || id"),
]


@pytest.mark.parametrize(("name", "value", "expression"), SETTINGS, ids=[name for name, *_ in SETTINGS])
async def test_settings_are_those_of_the_client_s_session(both: Both, name: str, value: str, expression: str) -> None:
    text = f"SELECT {expression} FROM {{}} AS p (id, seen, born, paid) ORDER BY id"
    source = "SELECT id, seen, born, paid FROM patients"
    before = both.whole(text.replace("{} AS p (id, seen, born, paid)", "patients"))
    assert await both.split(source, text) == before
    both.server.execute(f"SET {name} = '{value}'".encode())
    after = both.whole(text.replace("{} AS p (id, seen, born, paid)", "patients"))
    assert after != before
    assert await both.split(source, text) == after
    both.server.execute(f"RESET {name}".encode())
    assert await both.split(source, text) == before  # the same connection of the engine, and the same prepared statement


async def test_client_encoding_is_the_session_s(both: Both) -> None:
    both.server.execute("SET client_encoding = 'LATIN1'")
    text = "SELECT upper(n) || 'Ü', length(n) FROM {} ORDER BY 1"
    whole = both.server.pgconn.exec_params(text.replace("{}", "(SELECT 'ö' || id AS n FROM patients) p").encode("latin-1"), [])
    result = both.server.pgconn.exec_params("SELECT 'ö' || id AS n FROM patients".encode("latin-1"), [], result_format=1)
    rows = [data_row([result.get_value(row, 0)]) for row in range(result.ntuples)]
    parts = tuple(text.replace("{}", "{} AS p (n)").encode("latin-1").split(b"{}"))
    split = await both.run(Rest(parts, (Column(25),)), rows)
    assert split.rows == [[whole.get_value(row, n) for n in (0, 1)] for row in range(whole.ntuples)]
    assert "Ü".encode("latin-1") in (split.rows[0][0] or b"")


async def test_search_path_decides_which_type_is_meant(both: Both) -> None:
    both.server.execute('SET search_path = "Ward", public')
    text = 'SELECT n::"Bed kind" FROM {} p ORDER BY 1'
    whole = both.whole(text.replace("{}", "(VALUES ('low'), ('high')) AS v (n)").replace(") p", ")").replace(" p ORDER", " ORDER"))
    rest = text.replace("{} p", "{} AS p (n)")
    assert await both.split("SELECT * FROM (VALUES ('low'), ('high')) AS v (n)", rest) == whole
    both.server.execute("SET search_path = public")
    with pytest.raises(psycopg.errors.UndefinedObject):
        await both.split("SELECT * FROM (VALUES ('low'), ('high')) AS v (n)", rest)


async def test_domains_are_checked(both: Both) -> None:
    grown = oid_of(both.server, "grown")
    assert (await both.split("SELECT age FROM patients", "SELECT max(a) FROM {} AS p (a)", types={0: grown})).rows == [[b"60"]]
    for text in ("SELECT (a - 50)::grown FROM {} p", "SELECT NULL::grown FROM {} p", "SELECT ('{a,b,c}'::text[])::few FROM {} p"):
        with pytest.raises(psycopg.errors.IntegrityError) as on_server:
            both.asked(text.replace("{} p", "(SELECT age AS a FROM patients) p"))
        with pytest.raises(type(on_server.value)):
            await both.split("SELECT age FROM patients", text.replace("{} p", "{} AS p (a)"))


@pytest.mark.parametrize("repeated", [1, MANY])
async def test_errors_are_postgresql_s_with_their_place_in_the_rest(both: Both, repeated: int) -> None:
    parts = (b"SELECT '\xc3\xab', n FROM ", b" AS p (n) WHERE nothing = n")
    columns, rows = both.source("SELECT last_name FROM patients", repeated=repeated)
    for rest, state, text in (
        (Rest(parts, columns), "42703", "nothing"),
        (Rest((b"SELECT n::int FROM ", b" AS p (n)"), columns), "22P02", ""),
        (Rest((b"SELECT FRO ", b" AS p (n)"), columns), "42601", ""),
        (Rest((b"SELECT 1/0 FROM ", b" AS p (n)"), columns), "22012", ""),
    ):
        with pytest.raises(StatementFailed) as failed:
            await computed(both, rest, rows)
        assert failed.value.state == state
        assert "Name" not in repr(failed.value) + str(failed.value) + (failed.value.hint or "")
        if text:
            joined = b"".join(rest.parts).decode()
            assert failed.value.position is not None
            assert joined[failed.value.position - 1 :].startswith(text)
    assert (await both.split("SELECT last_name FROM patients", "SELECT count(*) FROM {} AS p", repeated=repeated)).rows


async def computed(both: Both, rest: Rest, rows: list[bytes]) -> None:
    async with both.database.computing(rest, both.session()) as computation:
        await computation.rows(b"".join(rows))
        async for _ in computation.results(Values()):
            pass


async def test_described_before_any_row_is_there(both: Both) -> None:
    columns, rows = both.source("SELECT first_name, bed, paid FROM patients")
    for source, text, parameters in (
        ((columns[0], columns[2]), "SELECT a, b + $1 AS x FROM {} AS p (a, b) WHERE a LIKE $2", 2),
        (columns, "SELECT a, b, c + $1 FROM {} AS p (a, b, c) WHERE a LIKE $2", 2),
        ((), "SELECT $1::int + 1", 1),
    ):
        rest = Rest(tuple(part.encode() for part in text.split("{}")), source, parameters)
        pieces = await both.database.describe(rest, both.session())
        described = b"".join(pieces)
        assert described.startswith(b"t\0\0\0" + bytes((6 + 4 * parameters,)) + parameters.to_bytes(2, "big"))
        values = Values([b"1", b"F%"][:parameters])
        computed = await both.run(rest, rows if len(source) == 3 else [], values)
        assert read(described).columns == computed.columns
    assert (await both.database.describe(Rest((b"SELECT FROM ", b" AS p"), columns), both.session()))[0].startswith(b"t")


async def test_varchar_and_numeric_keep_their_modifiers(both: Both) -> None:
    names = "first_name, code, paid"
    for repeated in (1, MANY):
        split = await both.split(f"SELECT {names} FROM patients", f"SELECT * FROM {{}} AS p ({names})", repeated=repeated)
        assert split.columns == both.whole(f"SELECT {names} FROM patients").columns


async def test_a_collation_of_the_column_orders(both: Both) -> None:
    columns, rows = both.source("SELECT x FROM (VALUES ('b'), ('B'), ('a'), ('A')) AS v (x)")
    collations = [('pg_catalog."C"', b"ABab"), ('pg_catalog."und-x-icu"', b"aAbB")]
    for collation, ordered in collations if both.has_icu else collations[:1]:
        source = (Column(columns[0].type_oid, -1, collation),)
        for repeated in (1, 100):
            split = await both.run(Rest((b"SELECT DISTINCT x FROM ", b" AS p (x) ORDER BY x"), source), rows * repeated)
            assert b"".join(row[0] or b"" for row in split.rows) == ordered


async def test_a_portal_of_which_not_all_rows_are_wanted(both: Both) -> None:
    columns, rows = both.source("SELECT last_name FROM patients")
    for repeated in (1, MANY):
        total, taken = repeated * len(rows), 0
        rest = Rest((b"SELECT n FROM ", b" AS p (n) ORDER BY n"), columns)
        async with both.database.computing(rest, both.session()) as computation:
            await computation.rows(b"".join(rows * repeated))
            pieces = [piece async for piece in computation.results(Values(), limit=10)]
            while pieces[-1].endswith(b"s\0\0\0\4"):
                assert len(read(b"".join(pieces)).rows) == 10
                taken += 10
                pieces = [piece async for piece in computation.more(10)]
            outcome: Outcome = read(b"".join(pieces))
            assert taken + len(outcome.rows) == total
            await computation.end()
        async with both.database.computing(rest, both.session()) as computation:
            await computation.rows(b"".join(rows * repeated))
            assert b"".join([piece async for piece in computation.results(Values(), limit=1)]).endswith(b"s\0\0\0\4")
        # it was left open: the next has a connection all the same
        assert (await both.split("SELECT last_name FROM patients", "SELECT count(*) FROM {} AS p")).rows == [[b"41"]]


async def test_the_session_of_one_is_not_the_session_of_the_next(both: Both) -> None:
    rest = Rest((b"SELECT current_setting('timezone'), '2024-01-01 00:00Z'::timestamptz",))
    first = await both.run(rest, [], None, Session({"timezone": "Asia/Kolkata"}))
    second = await both.run(rest, [], None, Session({}))
    third = await both.run(rest, [], None, Session({"timezone": "Asia/Kolkata"}))
    assert first == third
    assert first.rows[0] == [b"Asia/Kolkata", b"2024-01-01 05:30:00+05:30"]
    assert second.rows[0] == [b"UTC", b"2024-01-01 00:00:00+00"]


async def test_few_rows_are_no_table(both: Both) -> None:
    await both.split("SELECT last_name FROM patients", "SELECT count(*) FROM {} AS p")
    (conn,) = both.engine.pool.idle
    assert not conn.said.tables
    await both.split("SELECT last_name FROM patients", "SELECT count(*) FROM {} AS p", repeated=MANY)
    assert list(conn.said.tables.values()) == ["pg_temp.phi_2"]
    assert source_module.FEW_ROWS < 41 * MANY
