"""The proxy as a whole: what it opens, how it ends, and that it can be told to read its files again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from phiproxy import app
from phiproxy.demo.postgres import free_port
from phiproxy.errors import ConfigError
from phiproxy.net import tasks
from phiproxy.reload import prepare, reload, take
from phiproxy.sql.policy_files import load_policies
from tests.harness import waiting
from tests.harness.proxy import ProxyUnderTest
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.certificates import Papers
from tests.net.peer import Peer
from tests.net.serving import asleep, connect, listener_of, serving, site_settings, until, wire_site


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for this file."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("app")) as site, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        yield site


async def test_a_port_in_use_is_one_clear_line_and_nothing_is_left(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = site_settings(site, listen=f"127.0.0.1:{port}")
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with app.Proxy(settings, load_policies(settings)):
                pass


async def test_metrics_and_health_answer_while_it_serves(site: Site) -> None:
    port = free_port()
    settings = site_settings(site, metrics={"listen": f"127.0.0.1:{port}"})
    async with serving(settings) as (_, proxy_port):
        async with await connect(site, proxy_port) as conn:
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                await conn.execute("SELECT upper(body) FROM notes")
            told, end = "", time.monotonic() + 240
            while 'phiproxy_statements_total{reason="refused",verdict="refused"} 1.0' not in told:
                assert time.monotonic() < end, told
                await asyncio.sleep(0.2)
                told = await asyncio.to_thread(get, f"http://127.0.0.1:{port}/metrics")
        assert await asyncio.to_thread(get, f"http://127.0.0.1:{port}/readyz") == "ready\n"


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=240) as answer:
        body: bytes = answer.read()
    return body.decode()


def test_explain_answers_and_says_when_no_policy_is_meant(site: Site) -> None:
    told = app.explain(site_settings(site), "SELECT body FROM notes WHERE body = $1")
    assert told.answer == "rewritten"
    with pytest.raises(ConfigError):
        app.explain(site_settings(site), "SELECT 1", database="nowhere")


def test_sigterm_lets_a_transaction_finish_and_ends_idle_clients(site: Site) -> None:
    with patient(site, "drain") as proxy:
        dsn = proxy.dsn(site.sealed, site.role, site.password)
        with psycopg.connect(dsn) as busy, psycopg.connect(dsn, autocommit=True) as idle:
            busy.execute("SELECT 1")
            idle.execute("SELECT 1")
            os.kill(proxy_pid(proxy), signal.SIGTERM)
            with pytest.raises(psycopg.OperationalError):
                used_on(idle)
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(dsn, connect_timeout=2)
            assert busy.execute("SELECT count(*) FROM notes").fetchone() is not None
            busy.commit()
        deadline = time.monotonic() + 240
        while proxy.running and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not proxy.running


def test_a_second_sigterm_ends_at_once(site: Site) -> None:
    with patient(site, "twice") as proxy, psycopg.connect(proxy.dsn(site.sealed, site.role, site.password)) as busy:
        busy.execute("SELECT 1")
        os.kill(proxy_pid(proxy), signal.SIGTERM)
        said(proxy, '"draining"')
        os.kill(proxy_pid(proxy), signal.SIGTERM)
        # What is sent to a socket that is closed already makes the kernel forget what came from there.
        with pytest.raises(psycopg.OperationalError, match=r"administrator|closed the connection unexpectedly"):
            used_on(busy)


def test_sighup_reads_the_files_again_and_keeps_what_it_had_when_they_are_wrong(site: Site) -> None:
    with site.another_proxy("again") as proxy:
        policy = site.directory / "policy.yaml"
        text = policy.read_text()
        with psycopg.connect(proxy.dsn(site.sealed, site.role, site.password), autocommit=True) as conn:
            conn.execute("INSERT INTO notes (id, body) VALUES (900001, 'kept')")
            policy.write_text(text.replace("body:", "nobody:").replace("[body]", "[nobody]"))
            os.kill(proxy_pid(proxy), signal.SIGHUP)
            said(proxy, "reload failed")
            policy.write_text(text)
            os.kill(proxy_pid(proxy), signal.SIGHUP)
            said(proxy, '"reloaded"')
            assert conn.execute("SELECT body FROM notes WHERE body = 'kept'").fetchone() == ("kept",)


def patient(site: Site, name: str) -> ProxyUnderTest:
    """Return a proxy that would drain for longer than any test waits."""
    proxy = site.another_proxy(name)
    proxy.config.write_text(proxy.config.read_text() + "limits: {drain_timeout: 600s}\n")
    return proxy


def used_on(conn: psycopg.Connection[Any]) -> None:
    """Use a session until it is ended."""
    while True:
        conn.execute("SELECT 1")
        time.sleep(0.1)


def said(proxy: ProxyUnderTest, text: str) -> None:
    """Wait until a proxy has said something in its log."""
    waiting.until(lambda: text in proxy.log_path.read_text(), f"it never said {text}")


def proxy_pid(proxy: ProxyUnderTest) -> int:
    """Return the process id of a proxy that runs."""
    assert proxy.process is not None
    return proxy.process.pid


async def test_start_and_stop_leave_nothing(site: Site) -> None:
    """Twice in one process, with a client in every stage when the second stops."""
    for _ in range(2):
        async with serving(site_settings(site)):
            pass
    before = tasks.running()
    settings = site_settings(site)
    async with app.Proxy(settings, load_policies(settings)) as proxy:
        port = proxy.addresses[0].port
        silent, half = await Peer.open(port), await Peer.open(port)
        half.say(b"\0\0\0\x08")
        idle, busy = await connect(site, port), await connect(site, port)
        await busy.execute("BEGIN")
        sleeping = asyncio.ensure_future(busy.execute("SELECT pg_sleep(600)"))
        await asleep(site.server, busy)
    with pytest.raises(psycopg.errors.AdminShutdown):
        await idle.execute("SELECT 1")
    with pytest.raises(psycopg.errors.AdminShutdown):
        await sleeping
    for peer in (silent, half):
        async with peer:
            assert await peer.rest() == b""
    await idle.close()
    await busy.close()
    await until(lambda: tasks.running() <= before, "tasks are left")


async def test_short_sessions_are_counted_too(site: Site) -> None:
    """One that comes and goes between two looks has still run its statements."""
    async with serving(site_settings(site)) as (proxy, port):
        for _ in range(5):
            async with await connect(site, port) as conn:
                with pytest.raises(psycopg.errors.FeatureNotSupported):
                    await conn.execute("SELECT upper(body) FROM notes")
        await until(lambda: not listener_of(proxy).relays, "a session lives on")
        assert listener_of(proxy).counters.refused == 5


async def test_not_ready_while_draining(site: Site) -> None:
    settings = site_settings(site, metrics={"listen": f"127.0.0.1:{free_port()}"})
    async with app.Proxy(settings, load_policies(settings)) as proxy:
        await until(lambda: not proxy._reasons(), "it is not ready")
        await proxy.drain(0)
        assert proxy._reasons() == ("the proxy is shutting down",)
    assert proxy._reasons() == ("the proxy is shutting down",)


async def test_draining_a_database_that_passes_through(site: Site) -> None:
    """Where messages are not told apart an idle client is still seen to be idle, and one in a transaction to be at work."""
    settings = site_settings(site)
    async with app.Proxy(settings, load_policies(settings)) as proxy:
        port = proxy.addresses[0].port
        idle, busy = await connect(site.server, port), await connect(site.server, port)
        await idle.execute("SELECT 1")
        await busy.execute("BEGIN")
        draining = asyncio.ensure_future(proxy.drain(600))
        await asyncio.sleep(0.3)
        with pytest.raises(psycopg.errors.AdminShutdown):
            await idle.execute("SELECT 1")
        await busy.execute("SELECT 1")
        assert not draining.done()
        await busy.execute("COMMIT")
        await asyncio.wait_for(draining, 60)
        await idle.close()
        await busy.close()


async def test_certificates_are_read_again_and_sessions_go_on(site: Site, tmp_path: Path) -> None:
    papers = Papers.made(tmp_path)
    pair = papers.authority.issue("rotating")
    tls = {"mode": "require", "certificate": str(pair.certificate), "private_key": str(pair.key)}
    settings = site_settings(site, tls=tls)
    async with app.Proxy(settings, load_policies(settings)) as proxy:
        port = proxy.addresses[0].port
        old = papers.context()
        before = await presented(port, old)
        async with await connect(site, port, sslmode="require") as conn:
            papers.authority.issue("rotating")  # into the same files
            assert await presented(port, old) == before
            await reload(proxy.reloadable, None)
            assert await presented(port, old) != before
            await conn.execute("SELECT 1")
            pair.certificate.write_text("no certificate")
            after = await presented(port, old)
            await reload(proxy.reloadable, None)
            assert await presented(port, old) == after


async def presented(port: int, context: ssl.SSLContext) -> bytes:
    """Return the certificate that the proxy shows."""
    async with await Peer.open(port, tls=context) as peer:
        shown = peer.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert isinstance(shown, bytes)
        return shown


async def test_a_policy_for_a_new_database_is_not_passed_over(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Its clients would go on in plaintext behind a line that says "reloaded"."""
    settings = site_settings(site)
    async with app.Proxy(settings, load_policies(settings)) as proxy:
        policy = site.directory / "policy.yaml"
        text = policy.read_text()
        policy.write_text(text.replace(f"database: {site.sealed}", "database: another"))
        try:
            await reload(proxy.reloadable, None)
        finally:
            policy.write_text(text)
        said = capsys.readouterr().out
        assert "reload failed" in said
        assert "needs a restart" in said
        await reload(proxy.reloadable, None)
        assert "reload failed" not in capsys.readouterr().out


async def test_another_way_to_log_in_is_not_passed_over(site: Site) -> None:
    settings = site_settings(site)
    async with app.Proxy(settings, load_policies(settings)) as proxy:
        changed = site_settings(site, auth={"mode": "scram"})
        with pytest.raises(ConfigError, match="auth is another than before"):
            await prepare(proxy.reloadable, changed, load_policies(changed))
        take(proxy.reloadable, await prepare(proxy.reloadable, settings, load_policies(settings)))


async def test_settings_that_take_a_restart_are_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    settings = site_settings(site)
    changed = site.directory / "changed.yaml"
    changed.write_text(site.config.read_text() + "limits: {max_clients: 7}\ncatalog: {poll: 2s}\n")
    async with app.Proxy(settings, load_policies(settings)) as proxy:
        await reload(proxy.reloadable, None)
        assert "restart" not in capsys.readouterr().out
        await reload(proxy.reloadable, changed)
    said = capsys.readouterr().out
    assert "take a restart" in said
    assert "['catalog', 'limits', 'listen']" in said
    assert "reloaded" in said


async def test_a_server_that_is_down_at_the_start(site: Site) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
        settings = site_settings(site, upstream={"address": dead, "tls": "disable"})
        with pytest.raises(ConfigError, match=f"cannot connect as service.user .* at {dead}"):
            async with app.Proxy(settings, load_policies(settings)):
                pass
