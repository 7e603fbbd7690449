"""One worker process, with the test as its supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from phiproxy.net.client_slots import SharedSlots
from phiproxy.net.sockets import close_all, given, listen_on
from phiproxy.net.workers import Channel, Configuration, Drain, Prepare, Start, Stop, Take
from phiproxy.policy.setting_values import Address
from phiproxy.policy.settings import Settings
from phiproxy.sql.policy_files import load_policies
from tests.harness.proxy import ROOT, environment
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import bare_settings, connect, site_settings, wire_site


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for this file."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("worker")) as site:
        yield site


Worker = tuple[Channel, subprocess.Popen[bytes], int, SharedSlots]


@asynccontextmanager
async def worker(settings: Settings, env: dict[str, str] | None = None) -> AsyncIterator[Worker]:
    """Start one and give it its first order; yields channel, process, port and slots. It must end by itself."""
    sockets, slots = listen_on([Address("127.0.0.1", 0)]), SharedSlots.create(2)
    ours, theirs = socket.socketpair()
    descriptors = (theirs.fileno(), sockets[0].fileno(), slots.descriptor)
    command = [sys.executable, "-m", "phiproxy.worker", str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=descriptors, env=environment(env), cwd=ROOT) as process:  # noqa: ASYNC220
        theirs.close()
        channel = await Channel.over(ours)
        configuration = Configuration(settings, tuple(load_policies(settings)))
        channel.order(Start(configuration, (sockets[0].fileno(),), slots.descriptor, 2, 1, 9))
        try:
            yield channel, process, given([Address("127.0.0.1", 0)], sockets)[0].port, slots
            await channel.close()
            process.wait(240)
        finally:
            process.kill()
            await channel.close()
            close_all(sockets)
            slots.close()


async def test_it_serves_counts_its_clients_and_ends_with_its_supervisor(postgres_server: PostgresServer) -> None:
    async with worker(bare_settings(postgres_server)) as (channel, process, port, slots):
        assert await channel.next_report() == ("ready", "")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(process.pid, number)
        async with await connect(postgres_server, port) as conn:
            await conn.execute("SELECT 1")
            assert slots.counts() == [0, 1]
    assert process.returncode == 0


async def test_it_drains(postgres_server: PostgresServer) -> None:
    async with worker(bare_settings(postgres_server)) as (channel, process, port, _):
        assert await channel.next_report() == ("ready", "")
        async with await connect(postgres_server, port) as conn:
            await conn.execute("BEGIN")
            channel.order(Drain(600))
            await conn.execute("SELECT pg_sleep(0.3)")
            await conn.execute("COMMIT")
        assert await channel.next_report() is None
        assert process.wait(240) == 0


async def test_it_stops_in_the_middle_of_draining(postgres_server: PostgresServer) -> None:
    async with worker(bare_settings(postgres_server)) as (channel, process, port, _):
        assert await channel.next_report() == ("ready", "")
        conn = await connect(postgres_server, port)
        await conn.execute("BEGIN")
        channel.order(Drain(600))
        channel.order(Stop())
        assert await channel.next_report() is None
        assert process.wait(240) == 0
        await conn.close()


async def test_what_does_not_fit_is_reported(site: Site) -> None:
    settings = site_settings(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        async with worker(settings, site.env) as (channel, _, _, _):
            assert await channel.next_report() == ("ready", "")
            channel.order(Prepare(Configuration(settings, ())))
            report = await channel.next_report()
            assert report is not None
            assert report[0] == "unfit"
            assert "needs a restart" in report[1]
            channel.order(Take())  # there is nothing to take: nothing is reported
            channel.order(Prepare(Configuration(settings, tuple(load_policies(settings)))))
            assert await channel.next_report() == ("prepared", "")
            channel.order(Take())
            assert await channel.next_report() == ("taken", "")
    async with worker(settings, {"PHIPROXY_SERVICE_PASSWORD": "wrong"}) as (channel, process, _, _):
        report = await channel.next_report()
        assert report is not None
        assert report[0] == "failed"
        assert process.wait(240) == 1
