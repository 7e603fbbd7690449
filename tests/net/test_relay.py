"""Two sockets and one session: who is told when the other goes, and how much is kept for who does not read."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from phiproxy.net import relay as relay_module
from phiproxy.net.listener import ShuttingDown
from phiproxy.session.core import Session
from phiproxy.session.needs import Need
from phiproxy.wire.fields import Bind, encode_bind
from phiproxy.wire.messages import SYNC, encode_parse, encode_query, message
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.peer import Peer, listening, startup
from tests.net.serving import (
    Connection,
    asleep,
    backends,
    bare_settings,
    buffered,
    connect,
    listener_of,
    serving,
    site_settings,
    until,
    wire_site,
)


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for this file."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("wire")) as site, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        yield site


def vanish(conn: Connection) -> None:
    """Close the socket under a connection as a killed process would: no Terminate."""
    with socket.socket(fileno=os.dup(conn.fileno())) as raw:
        raw.shutdown(socket.SHUT_RDWR)


def reset(conn: Connection) -> None:
    """Let the system reset a connection, as it does for a process that dies with something unread: no Terminate."""
    with socket.socket(fileno=os.dup(conn.fileno())) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), conn.fileno())  # the last descriptor of the socket goes


async def test_a_wrong_password_ends_in_28p01_and_a_closed_socket(postgres_server: PostgresServer, site: Site) -> None:
    for settings in (bare_settings(postgres_server), site_settings(site)):
        async with serving(settings) as (proxy, port):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                await psycopg.AsyncConnection.connect(
                    f"host=127.0.0.1 port={port} user={site.role} password=wrong dbname={site.sealed} sslmode=disable"
                )
            await until(lambda: not listener_of(proxy).relays, "the relay lives on")


@pytest.mark.parametrize("protected", [True, False])
async def test_a_client_killed_in_a_query_takes_its_backend_along(
    postgres_server: PostgresServer, site: Site, protected: bool
) -> None:
    marker = f"killed-{time.time_ns()}"
    async with serving(site_settings(site)) as (_, port):
        conn = await connect(site if protected else postgres_server, port, application_name=marker)
        conn.pgconn.send_query(b"SELECT pg_sleep(600)")
        conn.pgconn.flush()
        await asleep(postgres_server, conn)
        vanish(conn)
        await until(lambda: backends(postgres_server, marker) == 0, "the backend sleeps on for nobody")
        await conn.close()


@pytest.mark.parametrize("protected", [True, False])
async def test_a_client_reset_in_a_query_takes_its_backend_along_at_once(
    postgres_server: PostgresServer, site: Site, protected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies with something unread: there the system says that nobody listens."""
    monkeypatch.setattr(relay_module, "HALF_CLOSED", 300.0)
    marker = f"reset-{time.time_ns()}"
    async with serving(site_settings(site)) as (_, port):
        conn = await connect(site if protected else postgres_server, port, application_name=marker)
        conn.pgconn.send_query(b"SELECT pg_sleep(600)")
        conn.pgconn.flush()
        await asleep(postgres_server, conn)
        reset(conn)
        await until(lambda: backends(postgres_server, marker) == 0, "the backend sleeps on for nobody")
        await conn.close()


async def test_what_comes_behind_the_end_is_not_written(site: Site) -> None:
    async with serving(site_settings(site)) as (proxy, port):
        conn = await connect(site, port)
        (relay,) = listener_of(proxy).relays
        relay.close()
        relay.session.to_client.append(b"computed for nobody")
        relay._write()
        assert relay.session.to_client == [b"computed for nobody"]
        await conn.close()


def half_closed(conn: Connection, *messages: bytes) -> bytes:
    """Say messages, close the sending half, and return all that comes until the end."""
    with socket.socket(fileno=os.dup(conn.fileno())) as raw:
        raw.setblocking(True)
        raw.settimeout(240)
        raw.sendall(b"".join(messages))
        raw.shutdown(socket.SHUT_WR)
        return drained(raw)


@pytest.mark.parametrize("route", ["direct", "protected", "transparent"])
async def test_a_client_that_says_no_more_is_answered(postgres_server: PostgresServer, site: Site, route: str) -> None:
    """``shutdown(SHUT_WR)`` behind the last message: PostgreSQL answers, and closes."""
    async with serving(site_settings(site)) as (_, port):

        async def said(*messages: bytes) -> bytes:
            if route == "direct":
                conn = await psycopg.AsyncConnection.connect(site.sealed_dsn, autocommit=True)
            else:
                conn = await connect(site if route == "protected" else postgres_server, port)
            answer = await asyncio.to_thread(half_closed, conn, *messages)
            await conn.close()
            return answer

        slow = await said(encode_query(b"SELECT pg_sleep(1)"), encode_query(b"SELECT 'second'"))
        assert slow.count(b"Z\0\0\0\x05I") == 2
        assert b"second" in slow
        big = await said(encode_query(b"SELECT repeat('x', 3000000)"))
        assert big.endswith(b"Z\0\0\0\x05I")
        assert len(big) > 3_000_000
        extended = encode_parse(b"", b"SELECT 'flushed'") + encode_bind(Bind(b"", b"", (), [], ())) + message(b"E", b"\0" * 5)
        assert b"flushed" in await said(extended + message(b"H", b""))
        assert b"flushed" in await said(extended + SYNC)
        assert await said() == b""
        assert b"22012" in await said(encode_query(b"SELECT 1/0"))
        assert await said(b"Q\0\0\0\x40SELECT") == b""


async def test_a_half_closed_client_behind_a_question_of_the_proxys(site: Site) -> None:
    """The search path must be asked before the last statement is judged: the end waits for its turn too."""
    async with serving(site_settings(site)) as (_, port):
        conn = await connect(site, port)
        answer = await asyncio.to_thread(
            half_closed, conn, encode_query(b"SET search_path = public"), encode_query(b"SELECT count(body) FROM notes")
        )
        assert answer.count(b"Z\0\0\0\x05I") == 2
        assert answer.count(b"SELECT 1\0") == 1
        await conn.close()


@pytest.mark.parametrize("protected", [True, False])
async def test_a_half_closed_client_that_waits_too_long_is_cancelled(
    postgres_server: PostgresServer, site: Site, protected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "HALF_CLOSED", 0.5)
    marker = f"half-{time.time_ns()}"
    async with serving(site_settings(site)) as (_, port):
        conn = await connect(site if protected else postgres_server, port, application_name=marker)
        await asyncio.to_thread(half_closed, conn, encode_query(b"SELECT pg_sleep(600)"))
        await until(lambda: backends(postgres_server, marker) == 0, "the backend sleeps on for nobody")
        await conn.close()


@pytest.mark.parametrize("protected", [True, False])
async def test_a_client_killed_in_a_copy_is_rolled_back(postgres_server: PostgresServer, site: Site, protected: bool) -> None:
    marker = f"copying-{time.time_ns()}"
    async with serving(site_settings(site)) as (_, port):
        conn = await connect(site, port, site.sealed if protected else site.plain, application_name=marker)
        conn.pgconn.send_query(b"COPY plain (id, body) FROM STDIN")
        conn.pgconn.flush()
        await until(lambda: backends(postgres_server, marker) == 1, "the backend never came")
        await asyncio.sleep(0.3)
        os.write(conn.fileno(), message(b"d", b"-1\tnever\n" * 100))
        vanish(conn)
        await until(lambda: backends(postgres_server, marker) == 0, "the backend waits for data forever")
        await conn.close()
        async with await connect(site, port) as other:
            assert await (await other.execute("SELECT count(*) FROM plain WHERE id = -1")).fetchone() == (0,)


@pytest.mark.parametrize("protected", [True, False])
async def test_both_legs_are_watched_for_peers_that_died_without_a_word(
    postgres_server: PostgresServer, site: Site, protected: bool
) -> None:
    async with serving(site_settings(site)) as (proxy, port), await connect(site if protected else postgres_server, port):
        (relay,) = listener_of(proxy).relays
        for leg in (relay.client, relay.server):
            assert leg.transport is not None
            sock = leg.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


async def test_a_vanished_client_does_not_cancel_what_it_did_not_start(postgres_server: PostgresServer, site: Site) -> None:
    """Its cancel goes to its own backend; another session's query runs on."""
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as other:
        task = asyncio.ensure_future(other.execute("SELECT pg_sleep(1.5), 7"))
        for _ in range(5):
            conn = await connect(site, port)
            conn.pgconn.send_query(b"SELECT pg_sleep(600)")
            conn.pgconn.flush()
            await asyncio.sleep(0.1)
            vanish(conn)
            await conn.close()
        row = await (await task).fetchone()
        assert row is not None
        assert row[1] == 7


@pytest.mark.parametrize("protected", [True, False])
async def test_a_cancel_never_hits_the_next_query(postgres_server: PostgresServer, site: Site, protected: bool) -> None:
    async with (
        serving(site_settings(site)) as (_, port),
        await connect(site if protected else postgres_server, port) as conn,
    ):
        hit = 0
        for n in range(60):
            task = asyncio.ensure_future(conn.execute(f"SELECT pg_sleep({n % 3 * 0.002})"))
            await asyncio.sleep(0.002)
            await conn.cancel_safe(timeout=240)
            try:
                await task
            except psycopg.errors.QueryCanceled:
                hit += 1
            for _ in range(3):
                await conn.execute("SELECT 1")
        task = asyncio.ensure_future(conn.execute("SELECT pg_sleep(600)"))
        await asleep(postgres_server, conn)
        await conn.cancel_safe(timeout=240)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await task
        assert hit < 60


@pytest.mark.parametrize("protected", [True, False])
async def test_a_terminated_backend_is_told_to_the_client(postgres_server: PostgresServer, site: Site, protected: bool) -> None:
    async with serving(site_settings(site)) as (_, port):
        conn = await connect(site if protected else postgres_server, port)
        task = asyncio.ensure_future(conn.execute("SELECT pg_sleep(600)"))
        await asleep(postgres_server, conn)
        with postgres_server.connect() as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))
        with pytest.raises(psycopg.errors.AdminShutdown, match="terminating connection due to administrator command"):
            await task
        await conn.close()


async def test_a_server_that_vanishes_is_told_in_one_error(site: Site) -> None:
    """Its socket closes without a word: 08006, once, and only where messages are told apart."""
    ready = b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I"
    path = b"1\0\0\0\x042\0\0\0\x04D" + struct.pack("!IHI", 16, 1, 6) + b"public" + b"C\0\0\0\x0dSELECT 1\0" + b"3\0\0\0\x04" * 2

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        writer.write(ready)
        await reader.read(4096)
        writer.write(path + b"Z\0\0\0\x05I")
        await reader.read(4096)

    async with listening(server) as dead:
        settings = site_settings(site)
        service = settings.upstream.address[0]
        changed = settings.model_copy(
            update={
                "upstream": settings.upstream.model_validate({"address": f"127.0.0.1:{dead}", "tls": "disable"}),
                "service": settings.service.model_copy(update={"address": service}),
            }
        )
        async with serving(changed) as (_, port), await Peer.open(port) as peer:
            peer.say(startup(site.role, site.sealed))
            while (await peer.message())[0] != "Z":
                pass
            peer.say(b"Q\0\0\0\x0dSELECT 1\0")
            error = await peer.error()
            assert (error["S"], error["C"]) == ("FATAL", "08006")
            assert "closed the connection" in error["M"]
            assert await peer.rest() == b""


async def test_a_last_word_is_never_put_inside_of_a_message(postgres_server: PostgresServer) -> None:
    """Where messages are not told apart the client is in the middle of a row: it must see an end, not a longer row."""
    async with serving(bare_settings(postgres_server)) as (proxy, port):
        conn = await connect(postgres_server, port)
        conn.pgconn.send_query(b"SELECT repeat('x', 50000000)")
        conn.pgconn.flush()
        await until(lambda: buffered(proxy) > 0, "the row has not begun")
        (relay,) = listener_of(proxy).relays
        assert not relay.waiting
        relay.last_word(ShuttingDown("the end"))
        with socket.socket(fileno=os.dup(conn.fileno())) as raw:
            raw.setblocking(True)
            raw.settimeout(240)
            rest = await asyncio.to_thread(drained, raw)
        assert b"the end" not in rest
        assert len(rest) < 50_000_000
        await conn.close()


def drained(raw: socket.socket) -> bytes:
    """Read to the end."""
    parts = []
    with suppress(ConnectionError):
        while part := raw.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("status", ["idle", "transaction"])
@pytest.mark.parametrize("protected", [True, False])
async def test_who_waits_gets_a_last_word(postgres_server: PostgresServer, site: Site, protected: bool, status: str) -> None:
    async with serving(site_settings(site)) as (proxy, port):
        conn = await connect(site if protected else postgres_server, port)
        if status == "transaction":
            await conn.execute("BEGIN")
        (relay,) = listener_of(proxy).relays
        assert relay.waiting == (b"T" if status == "transaction" else b"I")
        relay.last_word(ShuttingDown("the end"))
        with pytest.raises(psycopg.errors.AdminShutdown, match="the end"):
            await conn.execute("SELECT 1")
        await conn.close()


async def test_both_directions_full_and_the_client_gone(
    postgres_server: PostgresServer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deep pipeline that nobody reads, then no client: neither socket may wait forever for the other end to read."""
    monkeypatch.setattr(relay_module, "LINGER", 0.5)
    marker = f"full-{time.time_ns()}"
    for database in (site.sealed, "postgres"):
        async with serving(site_settings(site)) as (_, port):
            conn = await connect(site, port, database, application_name=marker)
            with socket.socket(fileno=os.dup(conn.fileno())) as raw:
                raw.setblocking(False)
                text = b"SELECT repeat('x', 100000), '" + b"y" * 100_000 + b"'\0"
                query = b"Q" + struct.pack("!I", len(text) + 4) + text
                stuck = time.monotonic() + 240
                rest = b""
                idle = 0
                while idle < 10 and time.monotonic() < stuck:
                    rest = rest or query
                    try:
                        rest = rest[raw.send(rest) :]
                        idle = 0
                    except BlockingIOError:
                        idle += 1
                        await asyncio.sleep(0.1)
                assert idle == 10, "a client that does not read may write without end"
            vanish(conn)
            await conn.close()
            await until(lambda: backends(postgres_server, marker) == 0, "the backend waits to be read forever")


async def test_nothing_is_kept_while_the_session_asks(site: Site) -> None:
    """The search path must be asked for while the server is held back by a client that does not read: what it says must wait."""
    async with serving(site_settings(site)) as (proxy, port):
        conn = await connect(site, port)
        with socket.socket(fileno=os.dup(conn.fileno())) as raw:
            raw.setblocking(False)
            big = b"SELECT repeat('x', 30000000), set_config('search_path', 'public', false)\0"
            raw.send(b"Q" + struct.pack("!I", len(big) + 4) + big)
            await until(lambda: buffered(proxy) > 0, "the answer has not come")
            full = -1
            while full != (full := buffered(proxy)):  # noqa: ASYNC110 - until nobody takes any more
                await asyncio.sleep(0.5)
            ask = b"SELECT body FROM notes\0"
            raw.send(b"Q" + struct.pack("!I", len(ask) + 4) + ask)
            text = b"SELECT '" + b"y" * 100_000 + b"'\0"
            query = b"Q" + struct.pack("!I", len(text) + 4) + text
            sent, rest, idle = 0, b"", 0
            before = buffered(proxy)
            while idle < 10 and sent < 12 << 20:
                rest = rest or query
                try:
                    count = raw.send(rest)
                    rest, sent, idle = rest[count:], sent + count, 0
                except BlockingIOError:
                    idle += 1
                await asyncio.sleep(0.02 if idle else 0)
            assert buffered(proxy) - before < 1 << 20
            assert idle == 10, f"{sent >> 20} MiB were taken"
        vanish(conn)
        await conn.close()


async def test_garbage_in_a_session_ends_that_session_only(site: Site) -> None:
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as other:
        await other.execute("BEGIN")
        for garbage in (b"\xff\xff\xff\xff\xff\xff", b"Q\0\0\0\x03", b"Q\x7f\xff\xff\xff", b"p\0\0\0\x05\0"):
            conn = await connect(site, port)
            os.write(conn.fileno(), garbage)
            with pytest.raises(psycopg.DatabaseError) as caught:
                await conn.execute("SELECT 1")
            assert caught.value.sqlstate == "08P01", garbage
            assert "FATAL" in str(caught.value.diag.severity)
            await conn.close()
        assert other.info.transaction_status == pq.TransactionStatus.INTRANS
        await other.execute("SELECT 1")


async def test_garbage_before_the_login(site: Site) -> None:
    async with serving(site_settings(site)) as (_, port), await Peer.open(port) as peer:
        peer.say(startup(site.role, site.sealed) + b"Q\0\0\0\x0dSELECT 1\0")
        error = await peer.error()
        assert (error["S"], error["C"]) == ("FATAL", "08P01")
        assert await peer.rest() == b""


async def test_the_server_is_at_work_while_the_rest_is_taken(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client sends at once goes on in pieces, each before the next is looked at."""
    taken: list[tuple[int, int]] = []

    class Taking(Session):
        def from_client(self, data: bytes) -> Need | None:
            taken.append((len(data), len(self.to_server)))
            return super().from_client(data)

    monkeypatch.setattr("phiproxy.net.listener.Session", Taking)
    async with serving(site_settings(site)) as (proxy, port):
        conn = await connect(site, port)
        (relay,) = listener_of(proxy).relays
        said, piece = encode_query(b"SELECT 1") * 5000, relay_module.SEALED_AT_ONCE
        taken.clear()
        relay.received(relay.client, said)
        assert taken == [(piece, 0)]
        for _ in range(len(said) // piece):
            await asyncio.sleep(0)  # each piece has a turn of the loop
        assert taken == [(min(piece, len(said) - begin), 0) for begin in range(0, len(said), piece)]
        await conn.close()


async def test_what_takes_long_is_taken_in_pieces_as_long_as_it_does(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the pieces are short for that is no reason to take the next chunk whole."""
    taken, now = list[int](), [0.0]

    class Taking(Session):
        def from_server(self, data: bytes) -> Need | None:
            if not now[0]:
                return super().from_server(data)
            taken.append(len(data))
            now[0] += 1.5 * relay_module.LONG_WORK * len(data) / chunk
            return None

    monkeypatch.setattr("phiproxy.net.listener.Session", Taking)
    async with serving(site_settings(site)) as (proxy, port):
        conn = await connect(site, port)
        (relay,) = listener_of(proxy).relays
        chunk, piece = 4 * relay_module.OPENED_AT_ONCE, relay_module.OPENED_AT_ONCE
        monkeypatch.setattr(relay, "_now", lambda: now[0])
        now[0] = 1.0
        for sizes in ([chunk], [piece] * 4, [piece] * 4):
            taken.clear()
            relay.received(relay.server, bytes(chunk))
            for _ in range(8):
                await asyncio.sleep(0)
            assert taken == sizes
        now[0] = 0.0
        await conn.close()


async def test_terminate_behind_a_query_still_gets_the_answer(postgres_server: PostgresServer) -> None:
    """A client may say all it has to say at once, goodbye included, and then read."""
    async with serving(bare_settings(postgres_server)) as (_, port):
        conn = await connect(postgres_server, port)
        os.write(conn.fileno(), b"Q\0\0\0\x0eSELECT 42\0X\0\0\0\x04")
        with socket.socket(fileno=os.dup(conn.fileno())) as raw:
            raw.settimeout(240)
            assert b"42" in await asyncio.to_thread(drained, raw)
        await conn.close()


@pytest.mark.slow
async def test_large_values(site: Site) -> None:
    """20 MiB as a parameter, stored in a protected column, and read back, in both formats."""
    value = "naïve " * ((20 << 20) // 7)
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as conn:
        await conn.execute("DELETE FROM notes")
        await conn.execute("INSERT INTO notes VALUES (1, %s)", (value,))
        for binary in (False, True):
            row = await (await conn.execute("SELECT body FROM notes WHERE id = %s", (1,), binary=binary)).fetchone()
            assert row == (value,)
        row = await (await conn.execute("SELECT %s::text", (value,))).fetchone()
        assert row == (value,)
