"""Databases of the engine are like the server's: the same types under the same oids, another database when they change."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psycopg
import pytest

from phiproxy.engine import databases as module
from phiproxy.engine.access import Access
from phiproxy.engine.databases import connect, drop_all, make_database, name_of
from phiproxy.engine.definitions import DEFINITIONS, Definitions, Extension, TypeDefinition, read_definitions
from phiproxy.engine.engine import Engine
from phiproxy.engine.failures import EngineUnavailable
from phiproxy.engine.rest import Rest, Session, Values
from phiproxy.engine.rows_into_engine import Column
from phiproxy.engine_for_sessions import DatabaseComputing, questions
from phiproxy.errors import ConfigError, StatementFailed, StatementRefused
from phiproxy.plan.split_plan import Computed
from phiproxy.sql.result import RowType, SourceColumn
from phiproxy.types.declared import DeclaredType
from phiproxy.wire.messages import decode_row_description
from tests.engine.both import EXTENSIONS, Both, compute, read_server

Server = psycopg.Connection[tuple[object, ...]]


async def test_every_type_is_there_as_the_server_has_it(both: Both) -> None:
    _, theirs = read_server(both.server)
    async with connect(both.engine.access, both.database.created.name) as conn:
        row = await (await conn.execute(DEFINITIONS.encode())).fetchone()
    ours = {t.oid: t for t in read_definitions(row[0]).types}
    missing = both.database.created.missing
    assert set(missing.values()) == {"public.judged", "public.judged_pair"}
    assert {t.oid: t for t in theirs.types if t.oid not in missing} == ours


async def test_what_extensions_define_works_under_the_server_s_oids(both: Both) -> None:
    for text in (
        "SELECT 'B'::citext = 'b', max(x), array_agg(x ORDER BY x) FROM (VALUES ('b'::citext), ('A')) AS v (x)",
        "SELECT regexp_match('aBc'::citext, 'b'), strpos('aBc'::citext, 'B'), split_part('aXb'::citext, 'x', 2), 'a'::citext ~ 'A'",
        "SELECT similarity('word', 'words'), 'word' % 'words', show_trgm('ab')",
        "SELECT 'f'::sex < 'm'::sex, enum_range(NULL::sex), max(x) FROM unnest('{f,m}'::sex[]) AS u (x)",
        "SELECT ROW('low', 1, 'x', '{f}')::bed = ROW('low', 1, 'x', NULL)::bed, (ROW('low', 1, 'x', '{f}')::\"Ward\".low_bed).kind",
        "SELECT stay('2024-01-01', '2024-01-05') * stay('2024-01-03', '2024-02-01'), range_agg(stay('2024-01-01', '2024-01-05'))",
    ):
        for result_format in (0, 1):
            split = await both.run(Rest((text.encode(),)), [], Values((), (), (result_format,)))
            assert split == both.whole(text, result_format), text


async def test_a_type_that_cannot_be_made_is_refused(both: Both) -> None:
    row = both.server.execute("SELECT 'judged'::regtype::oid::int").fetchone()
    assert row is not None
    with pytest.raises(StatementRefused, match=r"does not have the type public\.judged"):
        async with both.database.computing(Rest((b"SELECT 1 FROM ", b" AS p"), (Column(int(str(row[0]))),)), Session()):
            pass


async def test_other_types_are_another_database(both: Both) -> None:
    before = both.database
    assert await both.engine.database(*read_server(both.server)) is before
    both.server.execute("CREATE TYPE grade AS ENUM ('b', 'c')")
    try:
        first = await both.engine.database(*read_server(both.server))
        both.server.execute("ALTER TYPE grade ADD VALUE 'a' BEFORE 'b'")
        second = await both.engine.database(*read_server(both.server))
        assert len({database.created.name for database in (before, first, second)}) == 3
        source, rest = "SELECT x FROM unnest('{c,a,b}'::grade[]) AS u (x)", "SELECT x FROM {} AS p (x) ORDER BY x"
        assert (await Both(both.engine, second, both.server).split(source, rest)).rows == [[b"a"], [b"b"], [b"c"]]
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            await Both(both.engine, first, both.server).split(source, rest)
    finally:
        both.server.execute("DROP TYPE grade")


async def test_two_workers_make_one_database(engine_access: Access, server: Server) -> None:
    identity, definitions = read_server(server)
    another = TypeDefinition(90_001, "public", "another", "CREATE TYPE public.another AS ()")
    extra = replace(definitions, types=(*definitions.types, another))
    engines = [Engine(engine_access, compute(), workers=2) for _ in range(2)]
    made = await asyncio.gather(*(engine.database(identity, extra) for engine in engines))
    assert made[0].created == made[1].created
    for engine in engines:
        await engine.close()


async def test_unused_databases_are_dropped(engine_access: Access, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    identity, _ = read_server(server)
    names = []
    for number in range(4):
        text = f"CREATE TYPE public.t AS ENUM ('{number}')"
        one = TypeDefinition(90_000, "public", "t", text, oids=(("public", "t", 90_000, 0),))
        names.append((await make_database(engine_access, identity, Definitions((one,)))).name)
    async with connect(engine_access) as conn:
        rows = await (await conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'phiproxy%'")).fetchall()
    there = {name for (name,) in rows}
    assert names[-1] in there
    assert names[0] not in there


async def test_one_that_was_dropped_meanwhile_is_made_again(both: Both) -> None:
    both.engine.pool.close()
    await drop_all(both.engine.access)
    assert (await both.split("SELECT email FROM patients", "SELECT max(e) FROM {} AS p (e)")).rows == [[b"P9@X.org"]]


async def test_a_half_made_one_is_made_anew(engine_access: Access, server: Server) -> None:
    identity, definitions = read_server(server)
    wanted = definitions.with_extensions(EXTENSIONS)
    await drop_all(engine_access)
    async with connect(engine_access) as conn:
        await conn.execute(f'CREATE DATABASE "{name_of(identity, wanted)}_unfinished"'.encode())
    assert (await make_database(engine_access, identity, wanted)).missing.keys()


async def test_types_whose_oids_are_taken(engine_access: Access, server: Server) -> None:
    """Each of two has the oid that the other would be given; one has that of a type that the engine has made for itself."""
    identity, _ = read_server(server)
    async with connect(engine_access) as conn:
        await conn.execute("CREATE TYPE a AS ENUM ('x')")
        row = await (await conn.execute("SELECT oid::int8 FROM pg_type WHERE typname = 'a'")).fetchone()
        await conn.execute("DROP TYPE a")
    next_oid = row[0] + 20
    types = tuple(
        TypeDefinition(oid, "public", name, f"CREATE TYPE public.{name} AS ENUM ('x')", oids=(("public", name, oid, oid + 1),))
        for name, oid in zip("abcdef", range(next_oid + 10, next_oid - 2, -2), strict=True)
    )
    made = await make_database(engine_access, identity, Definitions(types))
    assert made.missing == {}
    async with connect(engine_access, made.name) as conn:
        query = "SELECT typname, oid::int8, typarray::int8 FROM pg_type WHERE typname = ANY ('{a,b,c,d,e,f}')"
        rows = await (await conn.execute(query)).fetchall()
        assert {name: (oid, array) for name, oid, array in rows} == {t.name: t.oids[0][2:] for t in types}
        row = await (await conn.execute("SELECT 'x'::public.a, '{x}'::public.f[], 'x'::public.c::text")).fetchone()
        assert row == ("x", "{x}", "x")


@pytest.mark.parametrize("version", ["0.0", "none"])
async def test_an_extension_of_another_version(engine_access: Access, server: Server, version: str) -> None:
    identity, _ = read_server(server)
    with pytest.raises(ConfigError, match=f"citext {version} of the server is not to be had in the engine"):
        await make_database(engine_access, identity, Definitions((), (Extension("citext", version, "public"),)))


async def test_no_engine_is_57p03(server: Server, tmp_path: object, engine_access: Access) -> None:
    nobody = replace(engine_access, directory=str(tmp_path))
    with pytest.raises(EngineUnavailable):
        await make_database(nobody, *read_server(server))
    wrong = replace(engine_access, administrator_password="another")
    with pytest.raises(EngineUnavailable) as refused:
        await make_database(wrong, *read_server(server))
    assert "another" not in str(refused.value)


async def test_types_of_rows_are_made_when_a_statement_asks_for_them(both: Both) -> None:
    """Whole rows of a table then have the client's type: of its columns as they are shown, not as they are stored."""
    oid, sex = both.row_type("patients"), both.server.execute("SELECT 'sex'::regtype::oid::int8").fetchone()
    assert sex is not None
    columns = {"id": 23, "last_name": 25, "Sex": int(str(sex[0]))}
    shown = tuple((name, SourceColumn(DeclaredType("", of), collation="")) for name, of in columns.items())
    row = RowType(oid, "public", "patients", shown)
    version = both.server.info.server_version
    with both.server.transaction():
        both.server.execute("SET LOCAL search_path TO pg_catalog")
        answers = [both.server.execute(query.encode()).fetchone() for query in questions(version)]
    computing = DatabaseComputing(both.engine, "clinic")
    await computing.follow(version, [answer for answer in answers if answer is not None])

    async def told(text: bytes, *rows: RowType) -> int:
        (_, description, *_) = await computing.describe(Computed((text,), (), row_types=frozenset(rows)), {})
        return decode_row_description(description, 5, len(description))[0].type_oid

    assert await told(b"SELECT NULL::public.patients", row) == oid
    assert await told(b"SELECT (NULL::public.patients).last_name", row) == 25
    assert await told(b"SELECT (NULL::public.patients).born", row._replace(columns=(*shown, ("born", shown[0][1])))) == 23
    for unknown in (row._replace(oid=1), row._replace(columns=(("x", SourceColumn(DeclaredType("", 16383))),))):
        with pytest.raises(StatementRefused, match="does not have the type"):
            await told(b"SELECT 1", unknown)
    with pytest.raises(StatementFailed):
        await told(b"SELECT NULL::public.patients")
    assert await told(b"SELECT ARRAY[NULL::public.patients]", row) not in (0, oid)


async def test_a_worker_remembers_so_many_databases(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    identity, _ = read_server(both.server)
    assert (await both.split("SELECT last_name FROM patients", "SELECT count(*) FROM {} AS p")).rows == [[b"41"]]
    engine = Engine(both.engine.access, compute(extensions=[]))
    created = []
    for number in range(3):
        text = f"CREATE TYPE public.t AS ENUM ('{number}')"
        one = TypeDefinition(85_000, "public", "t", text, oids=(("public", "t", 85_000, 0),))
        database = await engine.database(identity, Definitions((one,)))
        await Both(engine, database, both.server).run(Rest((b"SELECT 1",)), [])
        created.append(database)
    assert list(engine._databases.values()) == created[1:]
    assert {conn.database for conn in engine.pool.idle} == {database.created.name for database in created[1:]}
    await engine.close()
