"""An engine for all tests here, of the server's own version, in a thread of its own; and a database of the server with types."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from phiproxy.engine.access import Access
from phiproxy.engine.starting import running_engine
from phiproxy.policy.settings import Compute
from phiproxy.postgres import binaries
from tests.engine.both import Both, compute
from tests.harness.server import PostgresServer

TYPES = """
CREATE SCHEMA "Ward";
CREATE EXTENSION citext;
CREATE EXTENSION pg_trgm;
CREATE TYPE sex AS ENUM ('f', 'm', 'it''s');
CREATE TYPE "Ward"."Bed kind" AS ENUM ('high', 'low');
CREATE DOMAIN grown AS int NOT NULL CHECK (VALUE >= 18);
CREATE DOMAIN few AS text[] CHECK (cardinality(VALUE) < 3);
CREATE TYPE bed AS (kind "Ward"."Bed kind", number int, name text COLLATE "C", spare sex[]);
CREATE DOMAIN "Ward".low_bed AS bed CHECK ((VALUE).kind = 'low');
CREATE TYPE floor AS (beds bed[], name citext);
CREATE TYPE stay AS RANGE (SUBTYPE = date);
CREATE FUNCTION own(text) RETURNS bool LANGUAGE sql IMMUTABLE RETURN true;
CREATE DOMAIN judged AS text CHECK (own(VALUE));
CREATE TYPE judged_pair AS (one judged, other judged);
CREATE TABLE patients (id int PRIMARY KEY, last_name text, first_name varchar(20), born date, code char(5), sex sex, tags text[],
  paid numeric(8,2), seen timestamptz, bed bed, email citext, stayed stay, age grown, nicks few);
INSERT INTO patients
SELECT n, 'Name' || n % 13, 'F' || n, '1950-01-01'::date + n * 100, 'c' || n % 7, (ARRAY['f', 'm', 'it''s']::sex[])[n % 4],
  ARRAY['t' || n, NULL], n / 7.0, '2024-03-30 23:30Z'::timestamptz + n * interval '1 hour', ROW('low', n, 'b' || n, '{m,f}')::bed,
  'P' || n || '@X.org', daterange('2024-01-01'::date, '2024-01-02'::date + n)::text::stay, 20 + n, ARRAY['n' || n]
  FROM generate_series(1, 40) n;
INSERT INTO patients (id, age) VALUES (99, 18);
"""


@pytest.fixture
def parent() -> Iterator[Path]:
    """Where no other engine's directories are, which would be swept by others."""
    path = Path(tempfile.mkdtemp(prefix="phiproxy-parent-", dir=binaries.roomy_directory(binaries.runner())))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


class Running:
    """An engine in a thread with a loop of its own, which stays until the end."""

    def __init__(self, settings: Compute, major: int) -> None:
        self.access: Access | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._settings, self._major = settings, major
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._end = asyncio.Event()

    def __enter__(self) -> Access:
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            self._thread.join()
            raise self._failed
        assert self.access is not None
        return self.access

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            async with running_engine(self._settings, major=self._major) as self.access:
                self._ready.set()
                await self._end.wait()
        except BaseException as error:
            self._failed = error
            self._ready.set()
            raise


@pytest.fixture(scope="session")
def server_major(postgres_server: PostgresServer) -> int:
    with postgres_server.connect() as conn:
        return conn.info.server_version // 10000


@pytest.fixture(scope="session")
def engine_access(server_major: int) -> Iterator[Access]:
    """What reaches an engine that runs as long as the tests."""
    with Running(compute(), server_major) as access:
        yield access


@pytest.fixture(scope="session")
def typed_database(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of the server with types of its own and 41 patients."""
    name = postgres_server.create_database()
    with postgres_server.connect(name) as conn:
        conn.execute(TYPES.encode())
    yield name
    postgres_server.drop_database(name)


@pytest.fixture
def server(postgres_server: PostgresServer, typed_database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A session of the server in that database."""
    with postgres_server.connect(typed_database) as conn:
        yield conn


@pytest.fixture
async def both(engine_access: Access, server: psycopg.Connection[tuple[object, ...]]) -> AsyncIterator[Both]:
    """The same statement both ways: as a whole on the server, and split."""
    async with Both.over(engine_access, server) as both:
        yield both


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory on disk that the engine's user can reach, which pytest's own is not."""
    return tmp_path
