"""NGINX and HAProxy in front of proxies, with the files of docker/: real sessions through them, of which TLS passes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from tests.docs.pages import ROOT
from tests.harness.proxy import ProxyUnderTest
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.net.certificates import Papers
from tests.net.serving import wire_site


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with wire_site(postgres_server, tmp_path_factory.mktemp("fronts"), rows=10) as site:
        yield site


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers.made(tmp_path_factory.mktemp("papers"))


@contextmanager
def two_proxies(site: Site, papers: Papers, name: str) -> Iterator[list[tuple[ProxyUnderTest, int]]]:
    """Two proxies with TLS, and the ports of their metrics."""
    with ExitStack() as stack:
        proxies = []
        for number in (1, 2):
            proxy, metrics = site.another_proxy(f"{name}{number}"), free_port()
            tls = f"tls: {{mode: require, certificate: {papers.proxy.certificate}, private_key: {papers.proxy.key}}}\n"
            text = proxy.config.read_text().replace("metrics: null", f"metrics: {{listen: 127.0.0.1:{metrics}}}")
            proxy.config.write_text(text + tls)
            stack.enter_context(proxy)
            proxies.append((proxy, metrics))
        yield proxies


@contextmanager
def running(arguments: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(arguments, stdout=out, stderr=out)
        try:
            end = time.monotonic() + 120
            while not listens(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()
            process.wait(240)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def through(site: Site, papers: Papers, port: int) -> psycopg.Connection[tuple[object, ...]]:
    login = {"dbname": site.sealed, "user": site.role, "password": site.password}
    tls = {"sslmode": "verify-full", "sslrootcert": str(papers.authority.certificate)}
    return psycopg.connect("host=localhost hostaddr=127.0.0.1 connect_timeout=240", port=port, autocommit=True, **login, **tls)  # type: ignore[arg-type]


def sessions(proxies: list[tuple[ProxyUnderTest, int]]) -> list[int]:
    return [proxy.log_path.read_text().count('"client connected"') for proxy, _ in proxies]


def test_nginx(site: Site, papers: Papers, tmp_path: Path) -> None:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None or not Path("/usr/lib/nginx/modules/ngx_stream_module.so").exists():
        pytest.skip("nginx with its stream module is not installed")
    original = ROOT / "docker" / "nginx" / "nginx.conf"
    port = free_port()
    with two_proxies(site, papers, "nginx") as proxies:
        text = original.read_text()
        for old, new in {
            "modules/ngx_stream_module.so": "/usr/lib/nginx/modules/ngx_stream_module.so",
            "/run/nginx.pid": f"{tmp_path}/pid",
            "/var/log/nginx/phiproxy.log": f"{tmp_path}/access.log",
            "listen 5432": f"listen 127.0.0.1:{port}",
            "10.0.0.11:6432": f"127.0.0.1:{proxies[0][0].port}",
            "10.0.0.12:6432": f"127.0.0.1:{proxies[1][0].port}",
        }.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "nginx.conf").write_text(text)
        arguments = [program, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-e", str(tmp_path / "error.log")]
        done = subprocess.run([*arguments, "-t"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with running([*arguments, "-g", "daemon off;"], port, tmp_path / "out"):
            clients = [through(site, papers, port) for _ in range(4)]
            for conn in clients:
                assert conn.execute("SELECT count(*) FROM plain").fetchone() == (10,)
            assert all(sessions(proxies)), "one proxy has got all of them"
            proxies[0][0].kill()  # new sessions go to the other one
            with through(site, papers, port) as conn:
                conn.execute("INSERT INTO notes VALUES (1, 'x')")
                assert conn.execute("SELECT body FROM notes WHERE body = 'x'").fetchall() == [("x",)]
                conn.execute("DELETE FROM notes")
            for conn in clients:
                conn.close()


def test_haproxy(site: Site, papers: Papers, tmp_path: Path) -> None:
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        pytest.skip("haproxy is not installed")
    original = ROOT / "docker" / "haproxy" / "haproxy.cfg"
    port = free_port()
    with two_proxies(site, papers, "haproxy") as proxies:
        text = (
            original.read_text()
            .replace("bind *:5432", f"bind 127.0.0.1:{port}")
            .replace(" port 9187", "")
            .replace("inter 2s", "inter 200ms")
        )
        for name, (proxy, metrics) in zip(("one 10.0.0.11:6432", "two 10.0.0.12:6432"), proxies, strict=True):
            assert name in text
            text = text.replace(name, f"{name.split()[0]} 127.0.0.1:{proxy.port} port {metrics}")
        (tmp_path / "haproxy.cfg").write_text(text)
        done = subprocess.run([program, "-c", "-f", str(original)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with running([program, "-db", "-f", str(tmp_path / "haproxy.cfg")], port, tmp_path / "log"):
            clients = [through(site, papers, port) for _ in range(4)]
            assert all(sessions(proxies)), "one proxy has got all of them"
            # One that drains is not ready: it gets no more sessions, and the one that it has is let finish.
            busy = clients[0]
            busy.execute("BEGIN")
            first = proxies[0][0]
            assert first.process is not None
            first.process.terminate()

            def noticed() -> bool:
                before = sessions(proxies)[0]
                try:
                    for _ in range(4):  # in turns, one of two would go to it
                        through(site, papers, port).close()
                except psycopg.OperationalError:
                    return False  # it was sent to the one that drains
                return sessions(proxies)[0] == before

            until(noticed, "a proxy that drains gets sessions")
            before = sessions(proxies)
            for _ in range(3):
                with through(site, papers, port) as conn:
                    assert conn.execute("SELECT count(*) FROM plain").fetchone() == (10,)
            assert sessions(proxies) == [before[0], before[1] + 3]
            for conn in clients:
                conn.close()
