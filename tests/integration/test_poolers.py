"""PgBouncer in front of phiproxy, in every mode; behind it, in session mode; in transaction mode it is found out and refused."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import wire_site

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with wire_site(postgres_server, tmp_path_factory.mktemp("poolers"), rows=10) as site:
        yield site


@contextmanager
def bouncer(site: Site, behind: int, mode: str, *, size: int = 5) -> Iterator[int]:
    """Run PgBouncer before a port; yields its own."""
    assert PROGRAM is not None
    port, home = free_port(), site.directory / f"bouncer-{mode}-{behind}"
    home.mkdir(exist_ok=True)
    for directory in (home, *home.parents[:2]):
        directory.chmod(0o755)
    users = home / "users.txt"
    users.write_text(f'"{site.role}" "{site.password}"\n"{site.service}" "{site.env["PHIPROXY_SERVICE_PASSWORD"]}"\n')
    (home / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={behind}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = {mode}\nunix_socket_dir =\ndefault_pool_size = {size}\n"
        "max_prepared_statements = 50\nserver_tls_sslmode = disable\n"
    )
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "-q", *as_nobody, str(home / "ini")], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 240
        while not _listens(port):
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(240)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def dsn(site: Site, port: int) -> str:
    return f"host=127.0.0.1 port={port} dbname={site.sealed} user={site.role} password={site.password} sslmode=disable"


def work(site: Site, port: int) -> None:
    with psycopg.connect(dsn(site, port), autocommit=True) as conn:
        conn.execute("DELETE FROM notes")
        for number in range(8):  # from the fifth on psycopg prepares
            conn.execute("INSERT INTO notes VALUES (%s, %s)", (number, f"note {number}"))
            assert conn.execute("SELECT id FROM notes WHERE body = %s", (f"note {number}",)).fetchall() == [(number,)]
        with conn.transaction():
            conn.execute("UPDATE notes SET body = 'other' WHERE id = 1")
            assert conn.execute("SELECT body FROM notes WHERE id = 1").fetchall() == [("other",)]
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="phiproxy"):
            conn.execute("SELECT upper(body) FROM notes")
        assert conn.execute("SELECT count(*) FROM plain").fetchall() == [(10,)]
    with site.server.connect(site.sealed) as own:
        stored = [bytes(row[0]) for row in own.execute("SELECT body FROM notes").fetchall()]  # type: ignore[call-overload]
    assert len(stored) == 8
    assert all(value.startswith(b"\xf5\x50\x01") for value in stored)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_in_front(site: Site, mode: str) -> None:
    proxy = site.another_proxy(f"front-{mode}")
    with proxy, bouncer(site, proxy.port, mode, size=2) as port:
        work(site, port)
        with psycopg.connect(dsn(site, port), autocommit=True) as one, psycopg.connect(dsn(site, port), autocommit=True) as other:
            for number in range(20):
                for conn in (one, other):
                    assert conn.execute("SELECT id FROM notes WHERE body = %s", (f"note {2 + number % 6}",)).fetchall()


def test_behind_in_session_mode(site: Site) -> None:
    with bouncer(site, site.server.port, "session", size=30) as port:
        proxy = site.another_proxy("behind-session")
        text = proxy.config.read_text().replace(f"address: 127.0.0.1:{site.server.port}", f"address: 127.0.0.1:{port}")
        proxy.config.write_text(text.replace("service:\n", f"service:\n  address: 127.0.0.1:{site.server.port}\n"))
        with proxy:
            work(site, proxy.port)


@pytest.mark.parametrize(("mode", "size"), [("transaction", 5), ("transaction", 1), ("statement", 5)])
def test_behind_in_transaction_mode(site: Site, mode: str, size: int) -> None:
    with bouncer(site, site.server.port, mode, size=size) as port:
        proxy = site.another_proxy(f"behind-{mode}-{size}")
        text = proxy.config.read_text().replace(f"address: 127.0.0.1:{site.server.port}", f"address: 127.0.0.1:{port}")
        proxy.config.write_text(text.replace("service:\n", f"service:\n  address: 127.0.0.1:{site.server.port}\n"))
        for command in ("serve", "check"):
            done = run_cli(command, "-c", str(proxy.config), env=site.env)
            assert done.returncode == 1, (command, done.stdout, done.stderr)
            assert "is a pooler that changes server connections between transactions" in done.stdout + done.stderr
