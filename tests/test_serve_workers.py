"""Several workers on one address, as their operator and their clients see them."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from tests.harness.proxy import ProxyUnderTest, run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.net.certificates import Papers
from tests.net.serving import wire_site

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for this file."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("workers")) as site:
        yield site


@pytest.fixture(scope="module")
def shared(site: Site) -> Iterator[tuple[ProxyUnderTest, int]]:
    """Two workers, each of which takes a second of CPU time to start, for all tests that leave a proxy as it was; and metrics."""
    port = free_port()
    with serving(site, "shared", more=listening(port)) as proxy:
        yield proxy, port


def listening(port: int) -> str:
    """Return the section for metrics and health there."""
    return f"metrics: {{listen: '127.0.0.1:{port}'}}\n"


def pid_of(proxy: ProxyUnderTest) -> int:
    """Return the supervisor."""
    assert proxy.process is not None
    return proxy.process.pid


def workers_of(proxy: ProxyUnderTest) -> list[int]:
    """Return the workers that live, oldest first."""
    pid = pid_of(proxy)
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return sorted(int(word) for word in text.split())


def worker_with_socket_to(proxy: ProxyUnderTest, conn: Connection) -> int:
    """Return the worker that serves a connection: the one whose socket has this peer."""
    mine = conn.pgconn.socket
    local = _local_port(mine)
    sockets = {f"socket:[{inode}]" for inode in _inodes_by_remote_port(local)}
    for pid in workers_of(proxy):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # it is closed meanwhile
                if str(entry.readlink()) in sockets:
                    return pid
    raise AssertionError("no worker has it")


def _local_port(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as raw:
        return int(raw.getsockname()[1])


def _inodes_by_remote_port(port: int) -> list[str]:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [fields[9] for fields in map(str.split, lines) if int(fields[2].split(":")[1], 16) == port]


@contextmanager
def serving(site: Site, name: str, *, workers: int = 2, more: str = "") -> Iterator[ProxyUnderTest]:
    """Run several workers; at the end none may be left."""
    proxy = site.another_proxy(name)
    text = proxy.config.read_text()
    if "metrics:" in more:
        text = text.replace("metrics: null\n", "")
    proxy.config.write_text(f"{text}workers: {workers}\n{more}")
    with proxy:
        until(lambda: '"listening"' in proxy.log_path.read_text(), "the workers do not serve")
        assert len(workers_of(proxy)) == workers
        started = workers_of(proxy)
        yield proxy
    until(lambda: not any(_lives(pid) for pid in started), "a worker outlives its supervisor")
    assert "internal error" not in proxy.log_path.read_text()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _answers(proxy: ProxyUnderTest, site: Site) -> bool:
    try:
        with psycopg.connect(dsn(proxy, site), connect_timeout=240) as conn:
            return conn.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def dsn(proxy: ProxyUnderTest, site: Site) -> str:
    """Return the application's way through it."""
    return proxy.dsn(site.sealed, site.role, site.password)


def test_clients_are_shared_out_and_the_death_of_a_worker_touches_only_its_own(
    site: Site, shared: tuple[ProxyUnderTest, int]
) -> None:
    proxy, _ = shared
    with ExitStack() as stack:
        clients = list[Connection]()
        where = dict[Connection, int]()
        while len(clients) < 8 or len(set(where.values())) < 2 or min(Counter(where.values()).values()) < 2:
            assert len(clients) < 60, "one worker takes them all"  # on a busy machine one may come too late for some
            clients.append(stack.enter_context(psycopg.connect(dsn(proxy, site), autocommit=True)))
            where[clients[-1]] = worker_with_socket_to(proxy, clients[-1])
        clients[0].execute("INSERT INTO notes VALUES (1, 'sealed by one worker') ON CONFLICT DO NOTHING")
        for conn in clients:
            assert conn.execute("SELECT body FROM notes WHERE id = 1").fetchone() == ("sealed by one worker",)
        victim = where[clients[0]]
        os.kill(victim, signal.SIGKILL)
        for conn in clients:
            if where[conn] == victim:
                with pytest.raises(psycopg.OperationalError):
                    conn.execute("SELECT 1")
            else:
                assert conn.execute("SELECT body FROM notes WHERE id = 1").fetchone() == ("sealed by one worker",)
        until(lambda: len(set(workers_of(proxy)) - {victim}) == 2, "the dead worker is not replaced")
        until(lambda: _answers(proxy, site), "nobody serves")
        with site.server.connect() as admin:
            query = "SELECT count(*)::int FROM pg_stat_activity WHERE usename = %s"
            living = sum(where[conn] != victim for conn in clients)
            until(lambda: admin.execute(query, (site.role,)).fetchone() == (living,), "the dead worker's backends are left")


def test_cancel_finds_its_session_whichever_worker_takes_it(site: Site, shared: tuple[ProxyUnderTest, int]) -> None:
    with psycopg.connect(dsn(shared[0], site), autocommit=True) as conn:
        for _ in range(6):
            conn.pgconn.send_query(b"SELECT pg_sleep(600)")
            conn.pgconn.flush()
            until(lambda: site.server.sleeps(conn.info.backend_pid), "the query does not begin")
            conn.cancel_safe(timeout=240)
            result = conn.pgconn.get_result()
            assert result is not None
            assert b"canceling statement due to user request" in result.error_message
            assert conn.pgconn.get_result() is None


def test_one_limit_over_all_workers(site: Site) -> None:
    with serving(site, "limit", more="limits: {max_clients: 5}\n") as proxy, ExitStack() as stack:
        clients = [stack.enter_context(psycopg.connect(dsn(proxy, site))) for _ in range(5)]
        for _ in range(6):
            with pytest.raises(psycopg.OperationalError, match="too many clients"):
                psycopg.connect(dsn(proxy, site))
        os.kill(worker_with_socket_to(proxy, clients[0]), signal.SIGKILL)
        until(lambda: _answers(proxy, site), "the dead worker's clients are still counted")


def test_sigterm_drains_all_workers_and_one_to_the_whole_group_is_not_taken_twice(site: Site) -> None:
    """As systemd sends it: the workers leave it to the supervisor, so transactions may finish; new clients are kept away."""
    port = free_port()
    more = f"limits: {{drain_timeout: 600s}}\n{listening(port)}"
    with serving(site, "drain", more=more) as proxy, ExitStack() as stack:
        busy = [stack.enter_context(psycopg.connect(dsn(proxy, site))) for _ in range(4)]
        for conn in busy:
            conn.execute("SELECT 1")
        for pid in (*workers_of(proxy), pid_of(proxy)):
            os.kill(pid, signal.SIGTERM)
        until(lambda: "57P03" in _refusal(proxy, site), "new sessions are still taken")
        until(lambda: get(f"http://127.0.0.1:{port}/readyz") != "ready\n", "ready while it drains")
        for conn in busy:
            assert conn.execute("SELECT count(*) FROM notes").fetchone() is not None
            conn.commit()
        assert proxy.process is not None
        assert proxy.process.wait(240) == 0


def _refusal(proxy: ProxyUnderTest, site: Site) -> str:
    try:
        with psycopg.connect(dsn(proxy, site)):
            return ""
    except psycopg.OperationalError as error:
        return f"{error.sqlstate} 57P03" if "the proxy is shutting down" in str(error) else str(error)


def test_a_second_sigterm_ends_all_at_once(site: Site) -> None:
    with serving(site, "twice", more="limits: {drain_timeout: 600s}\n") as proxy, psycopg.connect(dsn(proxy, site)) as busy:
        busy.execute("SELECT 1")
        os.kill(pid_of(proxy), signal.SIGTERM)
        until(lambda: '"draining"' in proxy.log_path.read_text(), "it does not drain")
        assert proxy.running
        os.kill(pid_of(proxy), signal.SIGTERM)
        assert proxy.process is not None
        assert proxy.process.wait(240) == 0
        with socket.socket(fileno=os.dup(busy.fileno())) as raw:  # read before anything is sent to who is gone
            raw.settimeout(240)
            assert b"administrator" in raw.recv(4096)
        busy.close()  # psycopg has not noticed


def test_no_worker_outlives_a_supervisor_that_was_killed(site: Site) -> None:
    with serving(site, "orphans") as proxy, psycopg.connect(dsn(proxy, site)) as conn:
        workers = workers_of(proxy)
        proxy.kill()
        until(lambda: not any(_lives(pid) for pid in workers), "a worker is left")
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
        proxy.config.write_text(proxy.config.read_text().replace("workers: 2\n", "workers: 1\n"))
        another = ProxyUnderTest(proxy.config, proxy.port, proxy.log_path, proxy.env)
        with another:  # the port is free again
            until(lambda: _answers(another, site), "the port is held")


def test_sighup_is_taken_by_all_or_by_none(site: Site, tmp_path: Path) -> None:
    """A policy that does not fit changes nothing; new TLS settings hold in every worker, and in one that is started later."""
    papers = Papers.made(tmp_path)
    tls = f"tls: {{mode: require, certificate: {papers.proxy.certificate}, private_key: {papers.proxy.key}}}\n"
    policy = site.directory / "policy.yaml"
    text = policy.read_text()
    with serving(site, "reload") as proxy:

        def in_clear(times: int = 6) -> list[str]:
            return [_refusal(proxy, site) for _ in range(times)]

        try:
            policy.write_text(text[: text.index("      body:")] + "      nobody: {type: text}\n")
            os.kill(pid_of(proxy), signal.SIGHUP)
            until(lambda: "reload failed, nothing changed" in proxy.log_path.read_text(), "the wrong file was not noticed")
        finally:
            policy.write_text(text)
        assert "nobody" in proxy.log_path.read_text()
        assert in_clear() == [""] * 6
        proxy.config.write_text(proxy.config.read_text() + tls + "limits: {max_clients: 70}\n")
        os.kill(pid_of(proxy), signal.SIGHUP)
        until(lambda: '"event": "reloaded"' in proxy.log_path.read_text(), "the files were not read again")
        assert '"settings": ["limits"]' in proxy.log_path.read_text()
        assert all("TLS only" in refusal for refusal in in_clear())
        proxy.config.write_text(proxy.config.read_text().replace(tls, ""))  # read by nobody before the next SIGHUP
        victim = workers_of(proxy)[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(set(workers_of(proxy)) - {victim}) == 2, "the dead worker is not replaced")
        for _ in range(15):
            assert all("TLS only" in refusal for refusal in in_clear(2))
            time.sleep(0.1)


def test_metrics_and_health_of_all_workers_on_one_address(site: Site, shared: tuple[ProxyUnderTest, int]) -> None:
    proxy, port = shared

    def metric(name: str) -> float:
        lines = get(f"http://127.0.0.1:{port}/metrics").splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), -1.0)

    refused = 'phiproxy_statements_total{reason="refused",verdict="refused"}'
    with ExitStack() as stack:
        assert get(f"http://127.0.0.1:{port}/livez") == "alive\n"
        until(lambda: get(f"http://127.0.0.1:{port}/readyz") == "ready\n", "not ready")
        clients = [stack.enter_context(psycopg.connect(dsn(proxy, site), autocommit=True)) for _ in range(6)]
        for conn in clients:
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                conn.execute("SELECT upper(body) FROM notes")
        until(lambda: metric("phiproxy_clients") == 6 and metric(refused) == 6, "the counts of all workers are not summed")
        victim = worker_with_socket_to(proxy, clients[0])
        gone = sum(worker_with_socket_to(proxy, conn) == victim for conn in clients)
        os.kill(victim, signal.SIGKILL)
        until(lambda: metric("phiproxy_clients") == 6 - gone, "the dead worker's clients are still counted")
        assert metric(refused) == 6
        with pytest.raises(psycopg.OperationalError):
            clients[0].execute("SELECT 1")


def get(url: str) -> str:
    """Return what an address answers, whatever the status."""
    try:
        with urllib.request.urlopen(url, timeout=240) as answer:
            return str(answer.read(), "utf-8")
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError:
        return ""


def test_workers_that_cannot_start_are_one_complaint(site: Site) -> None:
    proxy = site.another_proxy("wrong")
    proxy.config.write_text(proxy.config.read_text() + "workers: 2\n")
    done = run_cli("serve", "-c", str(proxy.config), env={**site.env, "PHIPROXY_SERVICE_PASSWORD": "wrong"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "cannot connect as service.user" in json.loads(line)["complaints"][0]
