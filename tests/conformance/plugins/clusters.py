"""A pytest plugin for asyncpg's suite: each PostgreSQL that it starts is reached over TCP, or through a proxy of its own.

Imported by name inside the suite's own process, where the package ``tests`` is the suite's: it must import nothing of ours.
CONFORMANCE_WAY is ``direct``, ``no policy`` or ``policy``; CONFORMANCE_ROOT is our checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from asyncpg import cluster as clusters

WAY, ROOT = "CONFORMANCE_WAY", "CONFORMANCE_ROOT"

_class_that_starts: list[str] = [""]
_fronts: dict[int, subprocess.Popen[str]] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember whose cluster is being started."""
    _class_that_starts[0] = getattr(getattr(item, "cls", None), "__name__", "")


def _behind(port: int, settings: dict[str, Any], *, default: bool) -> dict[str, Any]:
    behind: dict[str, Any] = {"host": "127.0.0.1", "port": port}
    if os.environ[WAY] == "policy" and default:
        behind["policy_for"] = "postgres"
    if "ssl_cert_file" in settings:
        behind |= {"certificate": settings["ssl_cert_file"], "private_key": settings["ssl_key_file"]}
        behind["upstream_tls"] = "disable" if _class_that_starts[0] == "TestNoSSLConnection" else "require"
    return behind


def _end(key: int) -> None:
    front = _fronts.pop(key, None)
    if front is not None:
        front.communicate(timeout=30)


def pytest_configure() -> None:
    """Put ourselves between a cluster and those who ask where it is."""
    start, stop, status = clusters.Cluster.start, clusters.Cluster.stop, clusters.Cluster.get_status

    def status_of_the_process(self: Any) -> str:
        """Answer for a server that we started and that lives; the suite asks before each connect, with pg_ctl otherwise."""
        alive = self._connection_spec_override is not None and self._daemon_process.poll() is None
        return "running" if alive else status(self)

    def start_and_front(self: Any, wait: int = 60, *, server_settings: dict[str, Any] = {}, **options: Any) -> None:  # noqa: B006
        asked = dict(server_settings)  # start adds to it
        start(self, wait, server_settings=server_settings, **options)
        port = int(self._connection_addr["port"])
        if os.environ[WAY] == "direct":
            self.override_connection_spec(host="127.0.0.1", port=str(port))
            return
        _end(id(self))
        default = self.get_data_dir().endswith(".apgtest")
        root = os.environ[ROOT]
        front = _fronts[id(self)] = subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.front"],
            cwd=root,
            env={**os.environ, "PYTHONPATH": root},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert front.stdin is not None
        assert front.stdout is not None
        print(json.dumps(_behind(port, asked, default=default)), file=front.stdin, flush=True)
        self.override_connection_spec(host="127.0.0.1", port=str(int(front.stdout.readline())))

    def stop_both(self: Any, wait: int = 60) -> None:
        self._connection_spec_override = None
        _end(id(self))
        stop(self, wait)

    clusters.Cluster.start, clusters.Cluster.stop = start_and_front, stop_both
    clusters.Cluster.get_status = status_of_the_process
