"""What was computed with is in no file of the engine's, in no log and in no text of an exception: with its directory on disk."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import structlog

from phiproxy.engine.databases import connect
from phiproxy.engine.engine import Engine
from phiproxy.engine.failures import EngineTimeout, LimitExceeded
from phiproxy.engine.rest import Rest, Values
from phiproxy.engine.rows_into_engine import Column
from phiproxy.engine.starting import running_engine
from phiproxy.errors import PhiproxyError, StatementFailed
from phiproxy.postgres import binaries
from tests.engine.both import Both, compute, data_row
from tests.harness.oracle import SHAPES, spellings

Server = psycopg.Connection[tuple[object, ...]]
TEXT = (Column(25),)


@pytest.fixture
def on_disk() -> Iterator[Path]:
    who = binaries.runner()
    path = Path(tempfile.mkdtemp(prefix="phiproxy-disk-", dir=binaries.roomy_directory(who)))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def found(directory: Path, planted: list[str]) -> dict[str, list[str]]:
    """Return where planted values are, by file."""
    needles = [needle for value in planted for needle in set(spellings(value)) if len(needle) > 6]
    places: dict[str, list[str]] = {}
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert len(files) > 500
    for path in files:
        content = path.read_bytes().lower()
        if hits := [needle.decode("latin-1") for needle in needles if needle in content]:
            places[str(path.relative_to(directory))] = hits
    return places


async def outcome(both: Both, rest: Rest, rows: list[bytes], values: Values | None = None) -> PhiproxyError | None:
    """Compute, and return what it fails with."""
    try:
        async with both.database.computing(rest, both.session()) as computation:
            for row in rows:
                await computation.rows(row)
            async for _ in computation.results(values or Values()):
                pass
    except PhiproxyError as error:
        return error
    return None


async def settled(both: Both) -> None:
    if both.engine._settling:
        await asyncio.wait(both.engine._settling)


async def test_nothing_that_was_computed_with_stays(server: Server, server_major: int, on_disk: Path) -> None:
    planted = [SHAPES[shape]() for shape in SHAPES for _ in range(4)]
    rows = [data_row([value.encode()]) for value in planted]
    # More than the engine holds in its buffers, and values that it puts into a table of their own.
    long = [data_row([f"{secrets.token_hex(4000)} {value}".encode()]) for value in planted]
    parameter = SHAPES["text"]()
    constant = SHAPES["text"]()
    settings = compute(directory=str(on_disk), limits={"timeout": "30s", "rows": 40_000})
    failures: list[PhiproxyError] = []
    with structlog.testing.capture_logs() as logs:
        async with running_engine(settings, major=server_major) as access:
            assert access is not None
            assert Path(access.directory).parent == on_disk
            async with Both.over(access, server, settings) as both:
                condition = f" AS p (n) WHERE n || $1 <> '{constant}' ORDER BY 1"
                sorting = Rest((b"SELECT n, max(n) OVER (ORDER BY n) FROM ", condition.encode()), TEXT, 1)
                bad = Rest((b"SELECT n::int FROM ", b" AS p (n)"), TEXT)
                million = "generate_series(1, 1000000)"
                endless_text = f" AS p (n), {million} g, {million} h WHERE n || g || h = ''"
                endless = Rest((b"SELECT count(*) FROM ", endless_text.encode()), TEXT)
                for given in (rows, rows * 40, rows * 1000, long * 300):
                    assert await outcome(both, sorting, given, Values([parameter.encode()])) is None
                for rest, copies, kind in (
                    (bad, 1, StatementFailed),
                    (bad, 40, StatementFailed),
                    (sorting, 3000, LimitExceeded),
                    (endless, 1, EngineTimeout),
                    (endless, 40, EngineTimeout),
                ):
                    both.database._timeout = 1.0 if kind is EngineTimeout else 30.0
                    failed = await outcome(both, rest, rows * copies, Values([parameter.encode()] * rest.parameters))
                    assert isinstance(failed, kind), failed
                    failures.append(failed)
                    await settled(both)
                # Also what is only written some time after.
                async with connect(access) as conn:
                    await conn.execute("CHECKPOINT")
                async with connect(access, both.database.created.name) as conn:
                    await conn.execute("VACUUM FULL")
                    await conn.execute("ANALYZE")
                    await conn.execute("CHECKPOINT")
                await asyncio.sleep(0.5)
                assert found(Path(access.directory), [*planted, parameter, constant]) == {}
        assert list(on_disk.iterdir()) == []
    told = repr(logs) + "".join(
        "".join(traceback.format_exception(failed)) + repr(failed) + failed.message + str(failed.hint) + failed.public_text
        for failed in failures
    )
    assert not any(value in told for value in (*planted, parameter, constant))


async def test_the_oracle_sees_what_is_written(server: Server, server_major: int, on_disk: Path) -> None:
    """The same search finds a value in a table that is not temporary, and in one whose transaction failed: it can fail."""
    value = SHAPES["text"]()
    settings = compute(directory=str(on_disk))
    async with running_engine(settings, major=server_major) as access:
        assert access is not None
        engine = Engine(access, settings)
        async with connect(access) as conn:
            await conn.execute(f"CREATE TABLE public.kept AS SELECT '{value}' AS x".encode())
            await conn.execute("CHECKPOINT")
        assert any(place.startswith("data/base/") for place in found(Path(access.directory), [value]))
        await engine.close()
