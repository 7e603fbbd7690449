"""Batches over tables of every kind of key, with others at work on the same rows; nothing is lost, and nothing written twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from phiproxy.errors import ConfigError
from phiproxy.jobs import batches as batches_module
from phiproxy.jobs.batch_size import BatchSize
from phiproxy.jobs.batches import FEWEST_OF_STRIPE, STRIPES, Batch, Batches
from phiproxy.jobs.relations import Connection, parts_of
from phiproxy.jobs.row_sql import VERSION, Read, Row, Scan, Work
from tests.harness.server import PostgresServer

WANTED = sql.SQL("pg_catalog.get_byte(t.v, 0) = 1")


@pytest.fixture
async def conn(postgres_server: PostgresServer) -> AsyncIterator[Connection]:
    name = postgres_server.create_database()
    async with await connect(postgres_server.dsn(name)) as conn:
        yield conn
    postgres_server.drop_database(name)


async def connect(dsn: str) -> Connection:
    conn = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    await conn.execute("SET search_path TO pg_catalog")
    return conn


@asynccontextmanager
async def batches_of(conn: Connection, scan: Scan, work: Work, size: BatchSize) -> AsyncIterator[Batches]:
    dsn = make_conninfo(conn.info.dsn, password=conn.info.password)
    async with await connect(dsn) as reading, Batches(conn, reading, scan, work, size) as batches:
        yield batches


async def turned(rows: Sequence[Row]) -> list[list[bytes | None]]:
    """Make the first byte of each value 2."""
    return [[b"\x02" + row.values[-1][1:]] for row in rows]


async def scan_of(conn: Connection, name: str = "t") -> Scan:
    (part,) = await parts_of(conn, ("public", name))
    return Scan(part, (Read("t.v", "bytea"),), ("v",), WANTED)


class Fixed(BatchSize):
    """Always as many rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def took(self, rows: int, preparing: float, locked: float = 0.0) -> None:
        pass


async def go(conn: Connection, scan: Scan, rows: int = 7, work: Work = turned) -> list[Batch]:
    """Do all batches of a scan, of so many rows, and note what was committed with each."""
    size, done = Fixed(rows), list[Batch]()

    async def commit(_: Connection, batch: Batch) -> None:
        done[-1:] = [batch] if done and done[-1].cursor == batch.cursor else [*done[-1:], batch]

    async with batches_of(conn, scan, work, size) as batches:
        while (batch := await batches.next(commit)) is not None:
            large = batch.read >= STRIPES * FEWEST_OF_STRIPE
            assert done[-1] == (batch._replace(written=batch.written + batch.left, left=0) if large else batch)
            done[-1] = batch
    return done


async def firsts(conn: Connection, name: str = "t") -> set[int]:
    cursor = await conn.execute(f"SELECT DISTINCT pg_catalog.get_byte(v, 0) FROM public.{name} WHERE v IS NOT NULL".encode())
    return {first for (first,) in await cursor.fetchall()}


@pytest.mark.parametrize(
    ("columns", "key", "row"),
    [
        ("id int PRIMARY KEY", 1, "g"),
        ("a text, b timestamptz, PRIMARY KEY (a, b)", 2, "'%s{,\"' || g % 5, '2024-01-01'::timestamptz + g * interval '1 s'"),
        ("id uuid PRIMARY KEY", 1, "md5(g::text)::uuid"),
        ("i numeric, _phi text, PRIMARY KEY (_phi, i)", 2, "g / 3.0, g::text"),
        ('"Weird ""key%" varchar(20) COLLATE "C" PRIMARY KEY', 1, "'k' || g"),
        ("f float8 PRIMARY KEY", 1, "g / 7.0"),
        ("d date, n char(5), PRIMARY KEY (n, d)", 2, "'2024-01-01'::date + g, 'x' || g % 3"),
        ("u int NOT NULL UNIQUE, o int", 1, "g, NULL"),
    ],
)
async def test_every_row_once_whatever_the_key(conn: Connection, columns: str, key: int, row: str) -> None:
    await conn.execute(f"CREATE TABLE public.t ({columns}, v bytea)".encode())
    await conn.execute(f"INSERT INTO public.t SELECT {row}, '\\x01aa'::bytea FROM generate_series(1, 100) g".encode())
    scan = await scan_of(conn)
    assert len(scan.key) == key
    done = await go(conn, scan)
    assert [batch.read for batch in done] == [7] * 14 + [2]
    assert sum(batch.written for batch in done) == 100
    assert await firsts(conn) == {2}
    assert await go(conn, scan) == [], "nothing is wanted any more"


async def test_a_tag_names_a_row_where_the_primary_key_was_protected(conn: Connection) -> None:
    await conn.execute("CREATE TABLE public.t (v bytea NOT NULL)")
    await conn.execute("CREATE UNIQUE INDEX k ON public.t (pg_catalog.substring(v, 2, 16))")
    await conn.execute("INSERT INTO public.t SELECT '\\x01'::bytea || decode(md5(g::text), 'hex') FROM generate_series(1, 30) g")
    scan = await scan_of(conn)
    assert scan.key[0].columns == ("v",)
    assert sum(batch.written for batch in await go(conn, scan)) == 30


@pytest.mark.parametrize("unique", ["", ", UNIQUE (o)", ", UNIQUE (u) DEFERRABLE"])
async def test_rows_that_nothing_names_are_refused(conn: Connection, unique: str) -> None:
    await conn.execute(f"CREATE TABLE public.t (u int NOT NULL, o int, v bytea{unique})".encode())
    with pytest.raises(ConfigError, match="no primary key, nor another unique key"):
        (await scan_of(conn)).key  # noqa: B018


@pytest.mark.parametrize("size", [7, 2 * STRIPES * FEWEST_OF_STRIPE])
async def test_rows_that_the_server_refuses_are_named_and_all_others_done(conn: Connection, size: int) -> None:
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01aa'::bytea FROM generate_series(1, 300) g")
    await conn.execute("ALTER TABLE public.t ADD CONSTRAINT own CHECK (id % 100 <> 42) NOT VALID")
    scan = await scan_of(conn)
    done = await go(conn, scan, size)
    why = "the server refuses to store it: CheckViolation by own of public.t (SQLSTATE 23514)"
    assert [wrong for batch in done for wrong in batch.wrong] == [(f"id {n}", why) for n in (42, 142, 242)]
    assert sum(batch.written for batch in done) == 297
    cursor = await conn.execute("SELECT id FROM public.t WHERE pg_catalog.get_byte(v, 0) = 1 ORDER BY 1")
    assert await cursor.fetchall() == [(42,), (142,), (242,)]
    assert sum(len(batch.wrong) for batch in await go(conn, scan, size)) == 3


async def test_what_is_of_no_single_row_ends_the_job(conn: Connection) -> None:
    """Two rows that are no more different: each could be written, and both cannot."""
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea UNIQUE)")
    await conn.execute("INSERT INTO public.t VALUES (1, '\\x01aa'), (2, '\\x01ab')")

    async def alike(rows: Sequence[Row]) -> list[list[bytes | None]]:
        return [[b"\x02"] for _ in rows]

    with pytest.raises(psycopg.errors.UniqueViolation):
        await go(conn, await scan_of(conn), work=alike)


async def test_the_progress_is_there_with_the_rows_or_not_at_all(conn: Connection) -> None:
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01'::bytea FROM generate_series(1, 20) g")

    async def fails(_: Connection, __: Batch) -> None:
        raise ZeroDivisionError

    async with batches_of(conn, await scan_of(conn), turned, BatchSize()) as batches:
        with pytest.raises(ZeroDivisionError):
            await batches.next(fails)
    assert await firsts(conn) == {1}


async def test_a_row_that_somebody_changed_meanwhile_is_read_again_and_not_overwritten(
    postgres_server: PostgresServer, conn: Connection
) -> None:
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01'::bytea FROM generate_series(1, 5) g")
    seen: list[list[bytes]] = []
    with postgres_server.connect(conn.info.dbname) as other:

        async def work(rows: Sequence[Row]) -> list[list[bytes | None]]:
            seen.append([row.values[0] for row in rows])
            if len(seen) == 1:
                other.execute("UPDATE t SET v = '\\x01ff' WHERE id = 2")
                other.execute("UPDATE t SET v = '\\x03' WHERE id = 3")
                other.execute("DELETE FROM t WHERE id = 4")
            return await turned(rows)

        done = await go(conn, await scan_of(conn), work=work)
    assert seen == [[b"\x01"] * 5, [b"\x01\xff"]], "what is not wanted any more is left alone"
    assert done == [Batch(5, 3, 0, ("5",))]
    rows = await (await conn.execute("SELECT id, v FROM public.t ORDER BY id")).fetchall()
    assert rows == [(1, b"\x02"), (2, b"\x02\xff"), (3, b"\x03"), (5, b"\x02")]


async def test_a_large_batch_is_written_by_some_transactions(postgres_server: PostgresServer, conn: Connection) -> None:
    """The progress comes with the last of them, and rows that others have locked are tried again there."""
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    rows = 4 * STRIPES * FEWEST_OF_STRIPE
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01' FROM generate_series(1, %s) g", (rows,))
    with psycopg.connect(postgres_server.dsn(conn.info.dbname)) as other:
        other.execute("SELECT FROM t WHERE id IN (5, 6, 7, 8) FOR UPDATE")
        (batch,) = await go(conn, await scan_of(conn), rows=rows)
    assert batch == Batch(rows, rows - 4, 4, (str(rows),))
    ((transactions,),) = await (await conn.execute("SELECT count(DISTINCT xmin::text) FROM public.t")).fetchall()
    assert transactions == STRIPES + 1
    assert [b.written for b in await go(conn, await scan_of(conn))] == [4]


@pytest.mark.parametrize("reads", [(Read("t.v", "bytea"),), (*VERSION, Read("t.v", "bytea", same=False))], ids=["key", "version"])
async def test_rows_stay_in_their_page_where_others_have_left_it(conn: Connection, reads: tuple[Read, ...]) -> None:
    """No index is written for them.

    A row's room is free as soon as no session has a snapshot from before. So nobody vacuums here, and the next batch has no rows;
    the session that reads it may have one for a moment, and so may a process of the server that has just begun, but not five times.
    """
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, c text, v bytea) WITH (autovacuum_enabled = off)")
    stayed = list[int]()
    while len(stayed) < 5 and max(stayed, default=0) <= 500:
        await conn.execute("TRUNCATE public.t")
        await conn.execute("INSERT INTO public.t SELECT g, repeat('c', 300), '\\x01' FROM generate_series(1, 1000) g")
        before = await pages(conn)
        (part,) = await parts_of(conn, ("public", "t"))
        async with batches_of(conn, Scan(part, reads, ("v",), WANTED), turned, Fixed(1000)) as batches:
            done = await batches.next(commits_nothing_else)
        assert done is not None
        assert done.written == 1000
        stayed.append(sum(page == before[key] for key, page in (await pages(conn)).items()))
    assert stayed[-1] > 500, stayed


@pytest.mark.parametrize(
    ("also", "indexed"),
    [
        ("", {"a", "b", "d"}),
        ("CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
         "CREATE TRIGGER f BEFORE UPDATE OF a ON public.t FOR EACH ROW EXECUTE FUNCTION public.f()", set()),
        ("ALTER TABLE public.t ADD g text GENERATED ALWAYS AS (a || b) STORED", set()),
        ("ALTER TABLE public.t ALTER a SET NOT NULL, ALTER a TYPE int USING 1, ALTER a ADD GENERATED ALWAYS AS IDENTITY",
         {"b", "d"}),
    ],
    ids=["plain", "trigger of a column", "generated column", "identity"],
)  # fmt: skip
async def test_which_columns_are_set_to_what_they_are(conn: Connection, also: str, indexed: set[str]) -> None:
    """Those of indexes, but for the one in whose order the job goes; not where that would do more than to store the row."""
    await conn.execute(
        b"CREATE TABLE public.t (id int PRIMARY KEY, a text, b text, c text, d text, e text, v bytea);"
        b"CREATE INDEX ON public.t (a); CREATE INDEX ON public.t (lower(b)); CREATE INDEX ON public.t (id, d);"
        b"INSERT INTO public.t SELECT g, g, g, g, g, g, '\\x01' FROM generate_series(1, 20) g"
    )
    await conn.execute(also.encode())
    before = await rows_but_v(conn)
    scan = await scan_of(conn)
    assert {*scan.part.indexed} - {"id"} == indexed
    text = scan.write([(Row(("1",), (b"",)), [b""])])[0].as_string(conn)
    assert {name for name in "abcde" if f'"{name}" = t."{name}"' in text} == indexed
    assert '"id" =' not in text
    assert sum(batch.written for batch in await go(conn, scan)) == 20
    assert await rows_but_v(conn) == before


async def test_the_server_says_for_how_long_rows_are_locked(conn: Connection) -> None:
    await conn.execute(
        "CREATE TABLE public.t (id int PRIMARY KEY, v bytea);"
        "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END';"
        "CREATE TRIGGER f BEFORE UPDATE ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();"
        "INSERT INTO public.t SELECT g, '\\x01' FROM generate_series(1, 5) g"
    )
    scan = await scan_of(conn)
    changes = [(Row((str(n),), (b"\x01" if n != 3 else b"changed",)), [b"\x02"]) for n in range(1, 6)]
    ((positions, seconds),) = await (await conn.execute(*scan.write(changes))).fetchall()
    assert (sorted(positions), seconds >= 0.04) == ([1, 2, 4, 5], True)
    await conn.execute("UPDATE public.t SET v = '\\x01'")
    ((number, seconds),) = await (await conn.execute(*scan.write(changes, waiting=True))).fetchall()
    assert (number, seconds >= 0.04) == (4, True)


async def rows_but_v(conn: Connection) -> list[tuple[object, ...]]:
    cursor = await conn.execute("SELECT id, a, b, c, d, e FROM public.t ORDER BY id")
    return [tuple(row) for row in await cursor.fetchall()]


async def commits_nothing_else(_: Connection, __: Batch) -> None:
    """No progress of a job."""


async def pages(conn: Connection) -> dict[int, int]:
    """Return in which page of the table each row is."""
    cursor = await conn.execute("SELECT id, (ctid::text::point)[0]::int FROM public.t")
    return dict(await cursor.fetchall())


async def test_what_fails_in_the_midst_of_a_batch_is_told(conn: Connection) -> None:
    """What was written before stays, nothing behind it is written, and the connection can be used."""
    rows = STRIPES * FEWEST_OF_STRIPE
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute("CREATE UNIQUE INDEX ON public.t ((1)) WHERE id IN (2, 2 + 4) AND get_byte(v, 0) = 2")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01' FROM generate_series(1, %s) g", (rows,))
    with pytest.raises(psycopg.errors.UniqueViolation):
        await go(conn, await scan_of(conn), rows=rows)
    cursor = await conn.execute("SELECT DISTINCT id % 4 FROM public.t WHERE get_byte(v, 0) = 2")
    assert await cursor.fetchall() == [(1,)], "only the first stripe"


async def test_the_next_batch_is_worked_on_while_one_is_written(conn: Connection) -> None:
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01' FROM generate_series(1, 6) g")
    order, next_one = list[str](), asyncio.Event()

    async def work(rows: Sequence[Row]) -> list[list[bytes | None]]:
        order.append(f"worked on {rows[0].key[0]}")
        if rows[0].key == ("4",):
            next_one.set()
        return await turned(rows)

    async def commit(_: Connection, batch: Batch) -> None:
        await next_one.wait()
        order.append(f"written to {batch.cursor[0]}")

    async with batches_of(conn, await scan_of(conn), work, Fixed(3)) as batches:
        assert await asyncio.wait_for(batches.next(commit), 60) == Batch(3, 3, 0, ("3",))
    assert order == ["worked on 1", "worked on 4", "written to 3"], "and what nobody asks for is not written"
    assert await firsts(conn) == {1, 2}


async def test_a_large_batch_is_all_sent_before_the_next_is_worked_on_and_answered_while_it_is(
    postgres_server: PostgresServer, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither waits for the other: here the server answers only once the next batch is in work."""
    monkeypatch.setattr(batches_module, "PATIENCE", 300_000)
    rows = STRIPES * FEWEST_OF_STRIPE
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01' FROM generate_series(1, %s) g", (2 * rows,))
    order = list[str]()
    with psycopg.connect(postgres_server.dsn(conn.info.dbname)) as other:
        other.execute("LOCK TABLE t IN EXCLUSIVE MODE")  # it can be read

        async def work(some: Sequence[Row]) -> list[list[bytes | None]]:
            if not order or order[-1].startswith("sent"):
                order.append(f"worked on from {some[0].key[0]}")
            if int(some[0].key[0]) > rows:
                other.rollback()
            return await turned(some)

        async def commit(_: Connection, batch: Batch) -> None:
            order.append(f"sent to {batch.cursor[0]}")

        async with batches_of(conn, await scan_of(conn), work, Fixed(rows)) as large:
            assert await asyncio.wait_for(large.next(commit), 60) == Batch(rows, rows, 0, (str(rows),))
    assert order == ["worked on from 1", f"sent to {rows}", f"worked on from {rows + 1}"]
    assert await firsts(conn) == {1, 2}


@pytest.mark.parametrize("rows", [3, STRIPES * FEWEST_OF_STRIPE], ids=["small", "large"])
async def test_progress_that_cannot_be_written_leaves_the_connection_usable(conn: Connection, rows: int) -> None:
    """Of a large batch what was committed before the transaction that has the progress stays."""
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01' FROM generate_series(1, %s) g", (rows,))

    async def fails(_: Connection, __: Batch) -> None:
        raise ZeroDivisionError

    async with batches_of(conn, await scan_of(conn), turned, Fixed(rows)) as batches:
        with pytest.raises(ZeroDivisionError):
            await batches.next(fails)
    cursor = await conn.execute("SELECT id % 4 FROM public.t WHERE get_byte(v, 0) = 2 GROUP BY 1 ORDER BY 1")
    assert await cursor.fetchall() == ([] if rows == 3 else [(1,), (2,), (3,)])


async def test_what_fails_ahead_fails_the_batch_that_it_is_of(conn: Connection) -> None:
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01' FROM generate_series(1, 6) g")

    async def work(rows: Sequence[Row]) -> list[list[bytes | None]]:
        if rows[0].key == ("4",):
            raise ZeroDivisionError
        return await turned(rows)

    async def commit(_: Connection, __: Batch) -> None:
        await asyncio.sleep(0.1)

    async with batches_of(conn, await scan_of(conn), work, Fixed(3)) as batches:
        assert await batches.next(commit) == Batch(3, 3, 0, ("3",))
        with pytest.raises(ZeroDivisionError):
            await batches.next(commit)


async def test_a_batch_reads_no_more_than_itself(conn: Connection) -> None:
    """Also where the planner takes the rows that are wanted for very few: each batch would read all rows behind it."""
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, c text, v bytea)")
    # Not in the order of the key.
    await conn.execute(
        "INSERT INTO public.t SELECT g, repeat('c', 500), '\\x0102' FROM generate_series(1, 20000) g ORDER BY md5(g::text)"
    )
    await conn.execute("ANALYZE public.t")
    (part,) = await parts_of(conn, ("public", "t"))
    wanted = "pg_catalog.substring(t.v, 1, 1) = '\\x01' AND pg_catalog.substring(t.v, 2, 1) = '\\x02' AND length(t.c) = 500"
    scan = Scan(part, (Read("t.v", "bytea"),), ("v",), sql.SQL(wanted))
    async with batches_of(conn, scan, turned, Fixed(10)):
        query, values = scan.read(("100",), 10)
        plan = "\n".join(line for (line,) in await (await conn.execute(sql.SQL("EXPLAIN ") + query, values)).fetchall())
    assert "Index Scan using t_pkey" in plan
    assert "Sort Key" not in plan


async def test_locked_rows_are_not_waited_for(postgres_server: PostgresServer, conn: Connection) -> None:
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01'::bytea FROM generate_series(1, 5) g")
    with psycopg.connect(postgres_server.dsn(conn.info.dbname)) as other:
        other.execute("SELECT FROM t WHERE id = 3 FOR UPDATE")
        (batch,) = await asyncio.wait_for(go(conn, await scan_of(conn)), 60)
        assert batch == Batch(5, 4, 1, ("5",))
    assert [b.written for b in await go(conn, await scan_of(conn))] == [1]


@pytest.mark.parametrize("reads", [(Read("t.v", "bytea"),), (*VERSION, Read("t.v", "bytea", same=False))], ids=["key", "version"])
async def test_a_row_that_changes_while_it_is_waited_for_is_not_overwritten(
    postgres_server: PostgresServer, conn: Connection, monkeypatch: pytest.MonkeyPatch, reads: tuple[Read, ...]
) -> None:
    """Nor is one that is locked for longer: it is left, and all others of a large batch are written."""
    monkeypatch.setattr(batches_module, "PATIENCE", 300_000)
    rows = STRIPES * FEWEST_OF_STRIPE
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01' FROM generate_series(1, %s) g", (rows,))
    (part,) = await parts_of(conn, ("public", "t"))
    scan = Scan(part, reads, ("v",), WANTED)
    with (
        psycopg.connect(postgres_server.dsn(conn.info.dbname)) as other,
        postgres_server.connect(conn.info.dbname) as looks,
    ):
        other.execute("UPDATE t SET v = '\\x01ff' WHERE id = 6")
        other.execute("DELETE FROM t WHERE id = 7")
        going = asyncio.create_task(go(conn, scan, rows=rows))
        for _ in range(3000):
            if looks.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
                break
            await asyncio.sleep(0.1)
        other.commit()
        assert await going == [Batch(rows, rows - 2, 2, (str(rows),))]
        assert looks.execute("SELECT id, v FROM t WHERE v <> '\\x02'").fetchall() == [(6, b"\x01\xff")]
        looks.execute("UPDATE t SET v = '\\x01'")
        monkeypatch.setattr(batches_module, "PATIENCE", 1)
        other.execute("SELECT FROM t WHERE id IN (6, 100) FOR UPDATE")
        assert await go(conn, scan, rows=rows) == [Batch(rows - 1, rows - 3, 2, (str(rows),))]
        assert looks.execute("SELECT id FROM t WHERE v <> '\\x02' ORDER BY 1").fetchall() == [(6,), (100,)]


async def test_a_batch_is_no_larger_than_memory_allows(conn: Connection) -> None:
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute(
        "INSERT INTO public.t SELECT g, '\\x01'::bytea || decode(repeat('00', 9000000), 'hex') FROM generate_series(1, 3) g"
    )
    assert [batch.read for batch in await go(conn, await scan_of(conn))] == [1, 1, 1]


async def test_partitions_and_children_are_parts(conn: Connection) -> None:
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea) PARTITION BY RANGE (id)")
    await conn.execute("CREATE TABLE public.t1 PARTITION OF public.t FOR VALUES FROM (0) TO (50)")
    await conn.execute("CREATE TABLE public.t2 PARTITION OF public.t DEFAULT PARTITION BY LIST (id)")
    await conn.execute("CREATE TABLE public.t2d PARTITION OF public.t2 DEFAULT")
    await conn.execute("CREATE TABLE public.p (id int PRIMARY KEY, v bytea)")
    await conn.execute("CREATE TABLE public.c (PRIMARY KEY (id)) INHERITS (public.p)")
    assert [part.label for part in await parts_of(conn, ("public", "t"))] == ["public.t1", "public.t2d"]
    assert [part.label for part in await parts_of(conn, ("public", "p"))] == ["public.c", "public.p"]
    assert await parts_of(conn, ("public", "none")) == []
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01'::bytea FROM generate_series(1, 99) g")
    for part in await parts_of(conn, ("public", "t")):
        await go(conn, Scan(part, (Read("t.v", "bytea"),), ("v",), WANTED))
    assert await firsts(conn) == {2}


async def test_a_row_version_is_what_is_compared_where_a_value_may_not_be_sent(conn: Connection) -> None:
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, c text, v bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, 'name ' || g FROM generate_series(1, 9) g")
    (part,) = await parts_of(conn, ("public", "t"))
    reads = (Read("t.c", "text", same=False), Read("t.ctid", "tid"), Read("t.xmin", "xid"))
    scan = Scan(part, reads, ("v",), sql.SQL("t.v IS NULL"))

    async def work(rows: Sequence[Row]) -> list[list[bytes | None]]:
        return [[row.values[0].encode()] for row in rows]

    assert sum(batch.written for batch in await go(conn, scan, 4, work)) == 9
    assert await (await conn.execute("SELECT pg_catalog.convert_from(v, 'UTF8') FROM public.t WHERE id = 9")).fetchall() == [
        ("name 9",)
    ]


async def test_values_that_are_null_are_compared_too(conn: Connection) -> None:
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea, w bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01' FROM generate_series(1, 3) g")
    (part,) = await parts_of(conn, ("public", "t"))
    scan = Scan(part, (Read("t.v", "bytea"), Read("t.w", "bytea")), ("v", "w"), WANTED)

    async def work(rows: Sequence[Row]) -> list[list[bytes | None]]:
        assert all(row.values[1] is None for row in rows)
        return [[b"\x02", None] for _ in rows]

    assert sum(batch.written for batch in await go(conn, scan, 7, work)) == 3


async def test_rows_that_were_moved_are_not_taken_for_each_other(postgres_server: PostgresServer, conn: Connection) -> None:
    """VACUUM FULL gives a row the place of another one, and both have one xmin."""
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, plain text, c bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, 'v' || g FROM pg_catalog.generate_series(1, 200) g")
    await conn.execute("DELETE FROM public.t WHERE id < 4")
    (part,) = await parts_of(conn, ("public", "t"))
    scan = Scan(part, (*VERSION, Read("t.plain", "text", same=False)), ("c",), sql.SQL("t.c IS NULL"))
    moved = False

    async def work(rows: Sequence[Row]) -> list[list[bytes | None]]:
        nonlocal moved
        if not moved:
            with postgres_server.connect(conn.info.dbname) as other:
                other.execute("VACUUM FULL public.t")
        moved = True
        return [[str(row.values[-1]).encode()] for row in rows]

    (batch,) = await go(conn, scan, 500, work)
    assert (batch.written, batch.left) == (0, 197)
    (batch,) = await go(conn, scan, 500, work)
    assert (batch.written, batch.left) == (197, 0)
    cursor = await conn.execute("SELECT pg_catalog.count(*) FROM public.t WHERE c IS DISTINCT FROM plain::bytea")
    assert await cursor.fetchall() == [(0,)]
