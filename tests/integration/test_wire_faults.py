"""The proxy as a process, and what goes wrong around it: readers that do not read, servers that die, clients that vanish."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo.postgres import EmbeddedPostgres, free_port
from tests.harness.proxy import ProxyUnderTest
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import wire_site

MIB = 1 << 20
# Some forty MiB of answers: more than all sockets hold, and what a proxy may keep.
ROWS = 150_000
WIDE = "repeat('x', 250)"


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for this file, its proxy in a process of its own, past the tap."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("wire"), rows=ROWS) as site:
        site.proxy.start()
        yield site


def sockets(pid: int) -> int:
    """Count the sockets of a process."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found += str(entry.readlink()).startswith("socket:")
    return found


def pid_of(proxy: ProxyUnderTest) -> int:
    """Return the process id of a proxy that runs."""
    assert proxy.process is not None
    return proxy.process.pid


def wait(condition: Callable[[], bool], what: str, within: float = 120) -> None:
    """Wait until something holds."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@contextmanager
def nothing_left(site: Site) -> Iterator[None]:
    """Count the proxy's sockets and the server's backends before and after."""

    def backends() -> int:
        with site.server.connect() as conn:
            query = "SELECT count(*)::int FROM pg_stat_activity WHERE usename = %s"
            row = conn.execute(query, (site.role,)).fetchone()
        assert row is not None
        assert isinstance(row[0], int)
        return row[0]

    with psycopg.connect(site.proxy_dsn) as conn:
        conn.execute("SELECT 1")
    wait(lambda: backends() == 0, "backends of an earlier test are left")
    # The service's own pool may open one more of its four at any moment.
    before = sockets(pid_of(site.proxy)) + 4
    yield
    wait(lambda: backends() == 0, "backends are left")
    wait(lambda: sockets(pid_of(site.proxy)) <= before, "sockets are left")


def send_query(conn: psycopg.Connection[tuple[object, ...]], text: str) -> None:
    """Send a simple query and read nothing of its answer."""
    query = text.encode() + b"\0"
    os.write(conn.fileno(), b"Q" + struct.pack("!I", len(query) + 4) + query)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("protected", [True, False])
def test_a_reader_that_stops_costs_no_memory(site: Site, protected: bool) -> None:
    """Many rows, and nobody reads them: the server waits, not the proxy's memory; then all of them arrive."""
    with nothing_left(site), psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        conn.execute("DELETE FROM notes")
        conn.execute("INSERT INTO notes VALUES (1, %s)", ("sealed for a slow reader",))
        query = f"SELECT n.body, p.id, {WIDE} FROM notes n CROSS JOIN plain p"
        query = query if protected else f"SELECT p.body, p.id, {WIDE} FROM plain p"
        conn.execute(query + " WHERE p.id < 30000")  # what a first use costs is paid
        before = site.proxy.resident
        send_query(conn, query)
        most = 0
        for _ in range(30):
            time.sleep(0.1)
            most = max(most, site.proxy.resident)
        assert most - before < 8 * MIB, f"{(most - before) / MIB:.1f} MiB"
        with psycopg.connect(site.proxy_dsn) as other:  # others go on meanwhile
            assert other.execute("SELECT body FROM notes").fetchone() == ("sealed for a slow reader",)
        count, expected = 0, b"sealed for a slow reader" if protected else b"row "
        for number, body in enumerate(rows(conn.fileno())):
            count += 1
            assert expected in body, number
            most = max(most, site.proxy.resident) if number % 50_000 == 0 else most
        assert count == ROWS
        assert most - before < 8 * MIB, f"{(most - before) / MIB:.1f} MiB while reading"


def rows(descriptor: int) -> Iterator[bytes]:
    """Yield the payloads of the DataRows up to ReadyForQuery; any other message but T and C is a failure."""
    data, pos = b"", 0
    with socket.socket(fileno=os.dup(descriptor)) as raw:
        raw.settimeout(240)
        while True:
            while len(data) - pos < 5 or len(data) - pos < 1 + int.from_bytes(data[pos + 1 : pos + 5], "big"):
                data, pos = data[pos:] + raw.recv(MIB), 0
            tag, end = data[pos : pos + 1], pos + 1 + int.from_bytes(data[pos + 1 : pos + 5], "big")
            if tag == b"D":
                yield data[pos + 5 : end]
            else:
                assert tag in b"TCZ", data[pos:end]
            pos = end
            if tag == b"Z":
                return


@pytest.mark.parametrize("protected", [True, False])
def test_a_reader_that_dies(site: Site, protected: bool) -> None:
    with nothing_left(site), psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        conn.execute("INSERT INTO notes VALUES (1, 'x') ON CONFLICT DO NOTHING")
        query = f"SELECT n.body, p.id, {WIDE} FROM notes n CROSS JOIN plain p"
        query = query if protected else f"SELECT p.body, p.id, {WIDE} FROM plain p"
        send_query(conn, query)
        time.sleep(0.5)
        with socket.socket(fileno=os.dup(conn.fileno())) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.shutdown(socket.SHUT_RDWR)


def test_many_short_sessions_leave_nothing(site: Site) -> None:
    """Some log in and go, some are refused, some say garbage, some vanish in a transaction."""
    pid = pid_of(site.proxy)
    with nothing_left(site):
        for n in range(120):
            if n % 4 == 0:
                with psycopg.connect(site.proxy_dsn) as conn:
                    conn.execute("SELECT count(*) FROM notes")
            elif n % 4 == 1:
                with pytest.raises(psycopg.OperationalError):
                    psycopg.connect(site.proxy.dsn(site.sealed, site.role, "wrong"))
            elif n % 4 == 2:
                with socket.create_connection((site.proxy.host, site.proxy.port)) as raw:
                    raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    assert raw.recv(100) == b""
            else:
                vanishing = psycopg.connect(site.proxy_dsn)
                vanishing.execute("DELETE FROM notes WHERE id = -1")
                with socket.socket(fileno=os.dup(vanishing.fileno())) as raw:
                    raw.shutdown(socket.SHUT_RDWR)
                vanishing.close()
    assert pid == pid_of(site.proxy)
    assert "internal error" not in site.proxy.log_path.read_text()


def test_a_transaction_of_a_vanished_client_is_rolled_back(site: Site) -> None:
    with nothing_left(site):
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            conn.execute("DELETE FROM notes")
        gone = psycopg.connect(site.proxy_dsn)
        gone.execute("INSERT INTO notes VALUES (77, 'never')")
        with socket.socket(fileno=os.dup(gone.fileno())) as raw:
            raw.shutdown(socket.SHUT_RDWR)
        gone.close()
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO notes VALUES (77, 'mine')")  # waits for the lock of the one that is gone
            assert conn.execute("SELECT body FROM notes").fetchall() == [("mine",)]


def test_a_backend_that_is_killed_and_a_server_that_recovers(tmp_path: Path) -> None:
    """Kill -9 of a backend takes the whole server through recovery: each client is told, and later ones are served again."""
    with EmbeddedPostgres(settings={"restart_after_crash": "on"}) as own:
        server = PostgresServer(own.host, own.port, own.superuser, own.password, own.log_path, own.bindir)
        config = tmp_path / "phiproxy.yaml"
        port = free_port()
        upstream = f"{{address: '{own.host}:{own.port}', tls: disable}}"
        config.write_text(f"listen: 127.0.0.1:{port}\nupstream: {upstream}\npolicies: []\nmetrics: null\n")
        with ProxyUnderTest(config, port, tmp_path / "proxy.log") as proxy:
            dsn = proxy.dsn("postgres", server.superuser, server.password)
            victim, witness = psycopg.connect(dsn, autocommit=True), psycopg.connect(dsn, autocommit=True)
            os.kill(victim.info.backend_pid, signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError, match="closed the connection unexpectedly"):
                victim.execute("SELECT 1")
            with pytest.raises(psycopg.OperationalError, match=r"crash of another server process|closed the connection"):
                witness.execute("SELECT pg_sleep(30)")  # until the postmaster has noticed, a backend goes on answering
            victim.close()
            witness.close()

            def serves() -> bool:
                try:
                    with psycopg.connect(dsn) as conn:
                        return conn.execute("SELECT 1").fetchone() == (1,)
                except psycopg.OperationalError:
                    return False

            wait(serves, "nobody is served after the recovery")
            assert "internal error" not in proxy.log_path.read_text()


def test_a_killed_backend_behind_a_policy(tmp_path: Path) -> None:
    """Where messages are told apart the client gets one error of the proxy's: 08006, and the service login comes back too."""
    with EmbeddedPostgres() as own:
        server = PostgresServer(own.host, own.port, own.superuser, own.password, own.log_path, own.bindir)
        with wire_site(server, tmp_path) as site:
            site.proxy.start()
            witness = server.connect("postgres")
            with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
                conn.execute("SET synchronous_commit = on")  # this server's default would forget the row in its crash
                conn.execute("INSERT INTO notes VALUES (1, 'kept')")
                os.kill(conn.info.backend_pid, signal.SIGKILL)
                with pytest.raises(psycopg.errors.ConnectionFailure, match="closed the connection unexpectedly"):
                    conn.execute("SELECT 1")
            with witness, pytest.raises(psycopg.OperationalError):
                witness.execute("SELECT pg_sleep(30)")  # until the postmaster has noticed, it lets others in

            def reads() -> bool:
                try:
                    with psycopg.connect(site.proxy_dsn) as conn:
                        return conn.execute("SELECT body FROM notes WHERE body = 'kept'").fetchone() == ("kept",)
                except psycopg.OperationalError:
                    return False

            wait(reads, "a protected column is not read again after the recovery")
            site.proxy.terminate()
