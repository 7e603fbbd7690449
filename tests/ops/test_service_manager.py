"""What a service manager hears of a real proxy; the socket is one as systemd opens it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from phiproxy.ops.service_manager import ServiceManager
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import wire_site


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(240)
        yield sock


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with wire_site(postgres_server, tmp_path_factory.mktemp("notify")) as site:
        yield site


def heard(sock: socket.socket, wanted: str) -> str:
    """Return the next message that begins so; the watchdog's come in between."""
    while True:
        message = sock.recv(4096).decode()
        if not message.startswith("WATCHDOG") or wanted == "WATCHDOG":
            assert message.startswith(wanted), message
            return message


@pytest.mark.parametrize("workers", [1, 2])
def test_a_proxy_tells_of_its_life(site: Site, manager: socket.socket, workers: int) -> None:
    proxy = site.another_proxy(f"notify{workers}")
    proxy.config.write_text(proxy.config.read_text() + f"workers: {workers}\n")
    proxy.env = {**proxy.env, "NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "400000"}
    proxy.fresh = True
    with proxy:
        heard(manager, "READY=1")
        heard(manager, "WATCHDOG")
        heard(manager, "WATCHDOG")
        assert proxy.process is not None
        proxy.process.send_signal(signal.SIGHUP)
        assert heard(manager, "RELOADING=1").startswith("RELOADING=1\nMONOTONIC_USEC=")
        heard(manager, "READY=1")
        proxy.config.write_text("nonsense")  # a reload that fails is over too, and the proxy is as it was
        proxy.process.send_signal(signal.SIGHUP)
        heard(manager, "RELOADING=1")
        heard(manager, "READY=1")
        proxy.process.send_signal(signal.SIGTERM)
        heard(manager, "STOPPING=1")


async def test_without_a_service_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    manager = ServiceManager()
    manager.ready()
    await asyncio.wait_for(manager.keep_alive(), 60)


def test_the_watchdog_of_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert ServiceManager().watchdog == 0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert ServiceManager().watchdog == 1


def test_a_socket_of_the_abstract_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0phiproxy-test-{os.getpid()}")
        sock.settimeout(240)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@phiproxy-test-{os.getpid()}")
        ServiceManager().ready()
        assert sock.recv(100) == b"READY=1"


def test_one_that_is_gone_does_not_end_the_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    ServiceManager().ready()
