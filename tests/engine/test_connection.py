"""The role's login, what is said where it fails, and a connection that the engine ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from phiproxy.engine import connection as module
from phiproxy.engine.access import Access, random_credentials
from phiproxy.engine.connection import Connection, NoSuchDatabase
from phiproxy.engine.databases import connect
from phiproxy.engine.failures import EngineUnavailable
from phiproxy.engine.rest import Rest, Values
from phiproxy.engine.rows_into_engine import Counted
from phiproxy.engine.run import Run
from phiproxy.wire.messages import authentication, encode_authentication_sasl, message
from tests.engine.both import Both, compute, computed_for

SLOW = Rest((b"SELECT count(*) FROM generate_series(1, 1000000) g, generate_series(1, 1000000) h WHERE g::text || h = ''",))


async def test_it_logs_in_by_scram(both: Both) -> None:
    conn = await Connection.open(both.engine.access, both.database.created.name)
    assert not conn.closed
    conn.close()
    assert conn.closed


async def test_a_database_that_is_not_there(engine_access: Access) -> None:
    with pytest.raises(NoSuchDatabase, match="3D000"):
        await Connection.open(engine_access, "phiproxy_nowhere")


async def test_keys_that_are_not_the_engine_s(both: Both) -> None:
    wrong = replace(both.engine.access, credentials=random_credentials())
    with pytest.raises(EngineUnavailable, match="28P01"):
        await Connection.open(wrong, both.database.created.name)


async def test_nobody_listens(both: Both, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="not there"):
        await Connection.open(replace(both.engine.access, directory=str(tmp_path)), "x")


@asynccontextmanager
async def impostor(directory: Path, said: Callable[[bytes], bytes]) -> Any:
    """Listen where the engine would, and answer with something else."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(said(data))
        writer.close()

    server = await asyncio.start_unix_server(serve, directory / ".s.PGSQL.5432")
    try:
        yield
    finally:
        server.close()


def test_one_that_is_cancelled_while_it_connects(engine_access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop closes the socket at once then, and takes no Terminate any more."""
    made = Connection.connection_made

    async def cancelled() -> None:
        async with impostor(tmp_path, lambda _: b""):
            opening = asyncio.create_task(Connection.open(replace(engine_access, directory=str(tmp_path)), "x"))

            def made_and_cancelled(conn: Connection, transport: asyncio.BaseTransport) -> None:
                made(conn, transport)
                opening.cancel()

            monkeypatch.setattr(Connection, "connection_made", made_and_cancelled)
            with pytest.raises(asyncio.CancelledError):
                await opening

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(cancelled())


async def test_one_that_wants_the_password_in_clear_does_not_get_it(both: Both, tmp_path: Path) -> None:
    elsewhere = replace(both.engine.access, directory=str(tmp_path))
    async with impostor(tmp_path, lambda _: authentication(3)):
        with pytest.raises(EngineUnavailable, match="another kind of login"):
            await Connection.open(elsewhere, "x")


async def test_one_that_does_not_know_the_role_is_not_trusted(both: Both, tmp_path: Path) -> None:
    """It takes any proof, but cannot show that it knows the verifier."""
    elsewhere = replace(both.engine.access, directory=str(tmp_path))

    def said(data: bytes) -> bytes:
        if b"user\0" in data:
            return encode_authentication_sasl([b"SCRAM-SHA-256"])
        if b"n,,n=," in data:
            nonce = data[data.index(b"r=") + 2 :]
            return authentication(11, b"r=" + nonce + b"more,s=AAAA,i=4096")
        return authentication(12, b"v=AAAA") + authentication(0) + message(b"Z", b"I")

    async with impostor(tmp_path, said):
        with pytest.raises(EngineUnavailable, match="another kind of login"):
            await Connection.open(elsewhere, "x")


async def test_one_that_says_nothing(both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGIN_PATIENCE", 0.2)
    elsewhere = replace(both.engine.access, directory=str(tmp_path))
    async with impostor(tmp_path, lambda _: b""):
        with pytest.raises(EngineUnavailable):
            await Connection.open(elsewhere, "x")


async def test_one_that_hangs_up(both: Both) -> None:
    conn = await Connection.open(both.engine.access, both.database.created.name)
    run = Run(conn.said, SLOW, (), Counted(compute().limits))
    conn.start(run)
    conn.send(run.begin({}) + run.execute(Values()))
    await asyncio.sleep(0.2)
    async with connect(both.engine.access) as administrator:
        await administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'phiproxy_rest'")
    while await conn.told() is not None:
        pass
    assert isinstance(run.failed, EngineUnavailable)
    while not conn.closed:
        await asyncio.sleep(0.01)
    await conn.settled()
    await conn.cancel()
    conn.send(b"nothing")


async def test_one_that_is_killed_between_a_run_s_parts(both: Both, tmp_path: Path) -> None:
    """It says no word, and all that was asked so far is answered: the source's rows are still being waited for."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(authentication(0) + message(b"Z", b"I"))
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / ".s.PGSQL.5432")
    conn = await Connection.open(replace(both.engine.access, directory=str(tmp_path)), "x")
    run = Run(conn.said, Rest((b"SELECT 1",)), (), Counted(compute().limits))
    conn.start(run)
    while not conn.closed:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)  # its end is told after it is closed
    server.close()
    assert run.failed is None
    conn.send(run.begin({}) + run.execute(Values()))
    async with asyncio.timeout(5):
        assert await conn.told() is None
    assert isinstance(run.failed, EngineUnavailable)


async def test_cancelling_ends_what_is_computed(both: Both) -> None:
    conn = await Connection.open(both.engine.access, both.database.created.name)
    run = Run(conn.said, SLOW, (), Counted(compute().limits))
    conn.start(run)
    conn.send(run.begin({}) + run.execute(Values()))
    query = "SELECT pid FROM pg_stat_activity WHERE usename = 'phiproxy_rest'"
    async with connect(both.engine.access) as administrator, asyncio.timeout(50):  # by itself it would end after 60 s
        row = await (await administrator.execute(query)).fetchone()
        while row is None or computed_for(row[0]) < 0.2:
            await asyncio.sleep(0.05)
            row = await (await administrator.execute(query)).fetchone()
        assert not run.done
        await conn.cancel()
        while await (await administrator.execute(query)).fetchone():
            await asyncio.sleep(0.05)
