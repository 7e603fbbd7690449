"""The embedded server: it runs, asks for a password, says why it does not start, and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import psycopg
import pytest

from phiproxy.demo import postgres
from phiproxy.demo.postgres import EmbeddedPostgres, free_port
from phiproxy.errors import PhiproxyError
from tests.harness.server import PostgresServer
from tests.harness.waiting import has_ended, until


def test_runs_with_a_password_and_leaves_nothing() -> None:
    with EmbeddedPostgres() as server:
        directory, pid = server.directory, server.pid
        assert pid is not None
        with psycopg.connect(server.dsn()) as conn:
            row = conn.execute("SELECT current_setting('server_encoding'), current_setting('fsync')").fetchone()
            assert row == ("UTF8", "off")
            role = conn.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'").fetchone()
            assert role is not None
            assert role[0].startswith("SCRAM-SHA-256$")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.dsn(password="wrong"))
        server.stop()
        server.stop()
    assert not directory.exists()
    assert has_ended(pid)


def test_the_test_server_logs_parameters(postgres_server: PostgresServer) -> None:
    if postgres_server.log_path is None:
        pytest.skip("a foreign server's log cannot be read")
    with postgres_server.connect() as conn:
        conn.execute("SELECT %s::text", ("a parameter in the log",))
    assert "a parameter in the log" in postgres_server.log_path.read_text("utf-8")


def test_a_server_that_does_not_start_says_why() -> None:
    server = EmbeddedPostgres(settings={"shared_buffers": "nonsense"})
    with pytest.raises(PhiproxyError, match="shared_buffers"):
        server.start()
    assert not server.directory.exists()


def test_a_taken_port_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr(postgres, "free_port", lambda: next(ports))
        with EmbeddedPostgres() as server, psycopg.connect(server.dsn()) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_free_port_is_below_the_ephemeral_range() -> None:
    assert 1024 < free_port() < 32768


def test_a_free_port_is_given_to_one_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers of a run that starts many at once once got the same port, and a test spoke to the wrong one."""
    monkeypatch.setattr(postgres, "PORTS", (20000, 20000 + postgres.KEPT))
    port, given = 0, set[int]()

    def take_all() -> None:
        nonlocal port
        for _ in range(postgres.KEPT + 1):
            port = free_port()
            assert port not in given
            given.add(port)

    with pytest.raises(PhiproxyError, match="no free port"):
        take_all()
    for _ in range(2):  # who asked for it may have it, and have it again after a restart
        with socket.create_server(("127.0.0.1", port)), pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
    assert len(postgres._kept) <= postgres.KEPT


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent's death is a signal on Linux only")
def test_the_server_does_not_outlive_a_killed_parent() -> None:
    code = (
        "import sys\n"
        "from phiproxy.demo.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres().start()\n"
        "print(server.pid, server.directory, flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split()
        parent.send_signal(signal.SIGKILL)
    until(lambda: has_ended(int(pid)), "it lives on")
    subprocess.run(["rm", "-rf", directory], check=True)
