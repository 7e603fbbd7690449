"""Measure what a split costs beside the rows themselves: few of them, many of them, against the same SELECT on PostgreSQL directly.

python -m benchmarks.engine [--rounds N] [--rows N]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from struct import pack

import psycopg

from phiproxy.demo.postgres import EmbeddedPostgres
from phiproxy.engine.definitions import Definitions
from phiproxy.engine.engine import Database, Engine
from phiproxy.engine.identity import identity_query, read_identity
from phiproxy.engine.rest import Rest, Session, Values
from phiproxy.engine.rows_into_engine import Column
from phiproxy.engine.starting import running_engine
from phiproxy.policy.settings import Settings
from phiproxy.wire.messages import message

COLUMNS = (Column(23), Column(25), Column(1082))
RESTS = {
    "ORDER BY … LIMIT 50": " AS p (id, last_name, born) ORDER BY last_name, id LIMIT 50",
    "ILIKE '%smi%'": " AS p (id, last_name, born) WHERE last_name ILIKE '%smi%'",
    "count(*)": " AS p (id, last_name, born) WHERE id > 0",
}
# As the relay gives them: what a socket was read for.
CHUNK = 64 << 10
NAMES = ("Smith", "Kowalczyk", "Østergaard", "Nguyen", "Goldsmith", "Müller", "Okonkwo", "Fernández")


def rows(count: int) -> list[bytes]:
    """Return rows of a number, a name and a date as DataRow messages, in chunks."""
    chunks, chunk = [], bytearray()
    for n in range(count):
        name = f"{NAMES[n * 7 % len(NAMES)]}-{n * 7919 % 99991}".encode()
        chunk += message(b"D", pack("!HiiI", 3, 4, n, len(name)) + name + pack("!ii", 4, n % 20000 - 10000))
        if len(chunk) > CHUNK:
            chunks.append(bytes(chunk))
            chunk.clear()
    return [*chunks, bytes(chunk)] if chunk else chunks


@asynccontextmanager
async def database(server: EmbeddedPostgres) -> AsyncIterator[Database]:
    """An engine, and a database like the server's."""
    compute = Settings.model_validate({"compute": {"engine": "embedded"}}, context={"base": Path.cwd()}).compute
    with psycopg.connect(server.dsn()) as conn:
        version = conn.info.server_version
        row = conn.execute(identity_query(version).encode()).fetchone()
        assert row is not None
        identity = read_identity(version, row)
    async with running_engine(compute, major=version // 10000) as access:
        assert access is not None
        engine = Engine(access, compute)
        yield await engine.database(identity, Definitions())
        await engine.close()


async def split(engine: Database, tail: str, chunks: list[bytes]) -> int:
    """Compute one rest over the rows; returns the bytes of the result."""
    head = b"SELECT count(*) FROM " if "id > 0" in tail else b"SELECT id, last_name, born FROM "
    total = 0
    async with engine.computing(Rest((head, tail.encode()), COLUMNS), Session({"timezone": "UTC"})) as computation:
        for chunk in chunks:
            await computation.rows(chunk)
        async for piece in computation.results(Values()):
            total += len(piece)
    return total


async def timed(work: Callable[[], Awaitable[object]], rounds: int) -> list[float]:
    """Return milliseconds of each round, the first two left out: they make tables, and prepare."""
    times = []
    for _ in range(rounds + 2):
        begun = time.perf_counter()
        await work()
        times.append((time.perf_counter() - begun) * 1000)
    return times[2:]


def line(what: str, times: list[float]) -> str:
    """Return one line of the table."""
    return f"{what:<55} {statistics.median(times):>9.2f} {min(times):>9.2f} {max(times):>9.2f}\n"


async def lines(rounds: int, many: int) -> AsyncIterator[str]:
    """Yield the table, a line at a time."""
    yield f"{'milliseconds':<55} {'median':>9} {'least':>9} {'most':>9}\n"
    with EmbeddedPostgres() as server:
        async with database(server) as engine:
            for count in (1, 10, 100, 101, 1000, 10_000, many):
                chunks, repeated = rows(count), rounds if count <= 1000 else max(rounds // 20, 5)
                for name, tail in RESTS.items():
                    times = await timed(lambda tail=tail, chunks=chunks: split(engine, tail, chunks), repeated)  # type: ignore[misc]
                    yield line(f"{count} rows: {name}", times)
            for one in others(server, engine, rounds, many):
                yield await one


def others(server: EmbeddedPostgres, engine: Database, rounds: int, many: int) -> Iterator[Awaitable[str]]:
    """Yield what the same costs without a split: PostgreSQL itself, and the way to the engine and back."""

    async def empty() -> str:
        rest = Rest((b"SELECT 1",))

        async def one() -> None:
            async with engine.computing(rest, Session({"timezone": "UTC"})) as computation:
                async for _ in computation.results(Values()):
                    pass

        return line("no source: SELECT 1", await timed(one, rounds))

    async def directly() -> str:
        conn = await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True)
        await conn.execute("CREATE TABLE p (id int, last_name text, born date)")
        name = "(%s::text[])[n * 7 %% 8 + 1] || '-' || n * 7919 %% 99991"
        fill = f"INSERT INTO p SELECT n, {name}, date '2000-01-01' FROM generate_series(1, %s) n"
        await conn.execute(fill, (list(NAMES), min(many, 200_000)))
        text = b"SELECT id, last_name, born FROM p ORDER BY last_name, id LIMIT 50"

        async def one() -> None:
            await conn.execute(text)

        times = await timed(one, max(rounds // 20, 5))
        await conn.close()
        return line(f"PostgreSQL directly, {min(many, 200_000)} rows: ORDER BY … LIMIT 50", times)

    yield empty()
    yield directly()


async def _print(rounds: int, many: int) -> None:
    async for text in lines(rounds, many):
        sys.stdout.write(text)
        sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    asyncio.run(_print(arguments.rounds, arguments.rows))


if __name__ == "__main__":
    main()
