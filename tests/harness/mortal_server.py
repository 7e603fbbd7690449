"""A PostgreSQL of a test's own that can be killed and started again: what it has acknowledged is there afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from phiproxy.demo.postgres import EmbeddedPostgres
from phiproxy.postgres import postmaster
from tests.harness.server import PostgresServer

# The others' settings are made for speed. What the kernel has outlives a process, so nothing need reach a disk.
SETTINGS = {"synchronous_commit": "on", "full_page_writes": "on"}


def kill_postgres(own: EmbeddedPostgres) -> None:
    """Kill -9 of all processes of a server."""
    assert own._process is not None
    own._process.kill()
    own._process.wait(240)
    postmaster.kill_orphans(own.data)


@dataclass
class MortalServer:
    """``server`` is where it is, before and after."""

    own: EmbeddedPostgres
    server: PostgresServer

    def kill(self) -> None:
        """Kill -9 of all its processes: nothing is said or written any more."""
        kill_postgres(self.own)

    def restart(self) -> None:
        """Start it again, and wait until it takes connections."""
        time.sleep(0.1)  # until those that were killed have let go of its shared memory
        postmaster.kill_orphans(self.own.data)
        assert self.own._launch(last=True)


@contextmanager
def mortal_server(settings: Mapping[str, str] | None = None) -> Iterator[MortalServer]:
    """Run one."""
    with EmbeddedPostgres(settings={**SETTINGS, **(settings or {})}) as own:
        yield MortalServer(own, PostgresServer(own.host, own.port, own.superuser, own.password, own.log_path, own.bindir))
