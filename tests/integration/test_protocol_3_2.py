"""Protocol 3.2 with a server that speaks it (PostgreSQL 18): cancel keys of 32 bytes, in both modes and through TLS."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import pq

from phiproxy.policy.settings import Settings
from tests.harness.server import PostgresServer
from tests.harness.wheel_server import wheel_server
from tests.net.certificates import Papers
from tests.net.logins import exchange
from tests.net.peer import Peer, cancel_request, startup
from tests.net.serving import asleep, bare_settings, connect, serving


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates of this file."""
    return Papers.made(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def newest() -> Iterator[PostgresServer]:
    """The PostgreSQL of the wheel."""
    with wheel_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", server.password)
        yield server


def settings_of(server: PostgresServer, mode: str, papers: Papers) -> Settings:
    """Return settings with TLS to clients."""
    service = {"user": server.superuser}
    return bare_settings(server, auth={"mode": mode}, service=service, tls=papers.client_tls)


MODES = pytest.mark.parametrize("mode", ["passthrough", "scram"])


@MODES
@pytest.mark.parametrize(("version", "size"), [(0x30000, 4), (0x30001, 4), (0x30002, 32), (0x3270F, 32)])
async def test_cancel_keys_pass_as_they_are(newest: PostgresServer, papers: Papers, mode: str, version: int, size: int) -> None:
    async with serving(settings_of(newest, mode, papers)) as (_, port):
        said = await exchange(port, newest.superuser, newest.password, version=version)
        (key,) = (payload for tag, payload in said if tag == "K")
        assert len(key) == 4 + size
        told = [payload for tag, payload in said if tag == "v"]
        assert told == ([struct.pack("!II", 0x30002, 0)] if version == 0x3270F else [])
        assert [tag for tag, _ in said[:2]] == (["v", "R"] if told else ["R", "R"])


@MODES
@pytest.mark.parametrize("sslmode", ["disable", "require"])
async def test_libpq_cancels_with_a_long_key(newest: PostgresServer, papers: Papers, mode: str, sslmode: str) -> None:
    if pq.version() < 180000:
        pytest.skip("this libpq does not speak 3.2")
    options: dict[str, Any] = {"sslmode": sslmode, "min_protocol_version": "3.2", "max_protocol_version": "3.2"}
    async with serving(settings_of(newest, mode, papers)) as (_, port), await connect(newest, port, **options) as conn:
        for _ in range(3):
            running = asyncio.ensure_future(conn.execute("SELECT pg_sleep(600)"))
            await asleep(newest, conn)
            await conn.cancel_safe(timeout=240)
            with pytest.raises(psycopg.errors.QueryCanceled):
                await running
        running = asyncio.ensure_future(conn.execute("SELECT pg_sleep(0.6)"))
        await asyncio.sleep(0.1)
        for size in (4, 32, 256):  # another's key of any length hits nobody
            async with await Peer.open(port) as peer:
                peer.say(cancel_request(conn.info.backend_pid, b"\1" * size))
                assert await peer.rest() == b""
        await running


@MODES
async def test_a_cancel_key_is_never_longer_than_the_protocol_has_it(newest: PostgresServer, papers: Papers, mode: str) -> None:
    async with serving(settings_of(newest, mode, papers)) as (_, port):
        for size in (0, 3, 257):
            async with await Peer.open(port) as peer:
                peer.say(cancel_request(1, b"\1" * size))
                assert await peer.rest() == b""
        async with await Peer.open(port) as peer:
            peer.say(startup(newest.superuser, "postgres"))
            assert (await peer.message())[0] == "R"
