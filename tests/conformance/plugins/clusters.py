"""A pytest plugin for asyncpg's suite: each PostgreSQL that it starts is reached over TCP, or through a proxy of its own.

Imported by name inside the suite's own process, where the package ``tests`` is the suite's: it must import nothing of ours.
CONFORMANCE_WAY is ``direct``, ``no policy`` or ``policy``; CONFORMANCE_ROOT is our checkout.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from asyncpg import cluster as clusters

WAY, ROOT = "CONFORMANCE_WAY", "CONFORMANCE_ROOT"

# One of them wants to hear of an error before it has written 4 MiB. A TCP socket on loopback takes all that, a Unix socket 200 KiB.
OVER_UNIX_SOCKET = ("TestExecuteMany",)

_class_that_starts: list[str] = [""]


@dataclass(frozen=True)
class Front:
    """A cluster's proxy, which stays while its server is stopped and started again on the same port."""

    process: subprocess.Popen[str]
    port: str
    behind: int


_fronts: dict[int, Front] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember whose cluster is being started."""
    _class_that_starts[0] = getattr(getattr(item, "cls", None), "__name__", "")


def _behind(port: int, settings: dict[str, Any], *, default: bool) -> dict[str, Any]:
    behind: dict[str, Any] = {"host": "127.0.0.1", "port": port, "socket_directory": tempfile.gettempdir()}
    if os.environ[WAY] == "policy" and default:
        behind["policy_for"] = "postgres"
    if "ssl_cert_file" in settings:
        behind |= {"certificate": settings["ssl_cert_file"], "private_key": _private(settings["ssl_key_file"])}
        behind["upstream_tls"] = "disable" if _class_that_starts[0] == "TestNoSSLConnection" else "require"
    return behind


def _private(key: str) -> str:
    """Return a copy of a key file that nobody else can read, as the proxy and the server want it."""
    copy = Path(tempfile.mkdtemp()) / "key.pem"  # the directory is the user's alone
    shutil.copyfile(key, copy)
    copy.chmod(0o600)
    return str(copy)


def _put_in_front(behind: dict[str, Any]) -> Front:
    root = os.environ[ROOT]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.conformance.front"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    print(json.dumps(behind), file=process.stdin, flush=True)
    return Front(process, str(int(process.stdout.readline())), behind["port"])


def _end(key: int) -> None:
    front = _fronts.pop(key, None)
    if front is not None:
        front.process.communicate(timeout=150)
        assert front.process.returncode == 0, "the proxy ended badly: it says why above"


def _port_of_nobody() -> int:
    """Return a port that nobody else is given while we live: bound, not listening; a server may have it."""
    keeper = socket.socket()
    keeper.bind(("127.0.0.1", 0))
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port: int = keeper.getsockname()[1]
    keeper.detach()  # open to the end
    return port


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """End what is left, before the outcomes are written: there are none where a proxy did not end well."""
    for key in list(_fronts):
        _end(key)


def pytest_configure() -> None:
    """Put ourselves between a cluster and those who ask where it is."""
    start, stop, status = clusters.Cluster.start, clusters.Cluster.stop, clusters.Cluster.get_status
    destroy, where = clusters.Cluster.destroy, clusters.Cluster.get_connection_spec

    def where_for_this_class(self: Any) -> Any:
        spec = where(self)
        return {**spec, "host": tempfile.gettempdir()} if _class_that_starts[0] in OVER_UNIX_SOCKET else spec

    def status_of_the_process(self: Any) -> str:
        """Answer for a server that we started and that lives; the suite asks before each connect, with pg_ctl otherwise."""
        alive = self._connection_spec_override is not None and self._daemon_process.poll() is None
        return "running" if alive else status(self)

    def start_and_front(self: Any, wait: int = 60, *, server_settings: dict[str, Any] = {}, **options: Any) -> None:  # noqa: B006
        asked = dict(server_settings)  # start adds to it
        front = _fronts.get(id(self))
        if front is not None and options["port"] == front.port:  # where it was: as far as the suite knows, at the proxy's port
            options["port"] = front.behind
        elif options["port"] == "dynamic":
            options["port"] = _port_of_nobody()
        start(self, wait, server_settings=server_settings, **options)
        port = int(self._connection_addr["port"])
        if os.environ[WAY] == "direct":
            self.override_connection_spec(host="127.0.0.1", port=str(port))
            return
        if front is None or front.behind != port:
            _end(id(self))
            default = self.get_data_dir().endswith(".apgtest")
            front = _fronts[id(self)] = _put_in_front(_behind(port, asked, default=default))
        self.override_connection_spec(host="127.0.0.1", port=front.port)

    def stop_server(self: Any, wait: int = 60) -> None:
        self._connection_spec_override = None
        stop(self, wait)

    def destroy_both(self: Any) -> None:
        _end(id(self))
        destroy(self)

    clusters.Cluster.start, clusters.Cluster.stop, clusters.Cluster.destroy = start_and_front, stop_server, destroy_both
    clusters.Cluster.get_status, clusters.Cluster.get_connection_spec = status_of_the_process, where_for_this_class
