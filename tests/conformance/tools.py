"""PostgreSQL's own client programs, on one database that is reached directly and through the proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.conformance.front import Behind, in_front_of
from tests.harness.server import PostgresServer


@dataclass(frozen=True)
class Ground:
    """A database and the two ports by which it is reached."""

    server: PostgresServer
    database: str
    proxied: int

    @property
    def ports(self) -> tuple[int, int]:
        """The direct way and the one through the proxy."""
        return self.server.port, self.proxied

    def environment(self, port: int, **more: str) -> dict[str, str]:
        """Return what makes libpq go that way; a home without psql's files, and English."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
        login = {"PGUSER": self.server.superuser, "PGPASSWORD": self.server.password, "PGDATABASE": self.database}
        return {
            **kept,
            "LC_ALL": "C.UTF-8",
            "HOME": "/nonexistent",
            "PGHOST": self.server.host,
            "PGPORT": str(port),
            **login,
            **more,
        }

    def run(self, port: int, *command: str, script: str = "", cwd: str | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run a program that way to its end."""
        command = (program(self.server, command[0]), *command[1:])
        environment = self.environment(port)
        return subprocess.run(
            command, input=script.encode(), capture_output=True, env=environment, cwd=cwd, check=False, timeout=120
        )


def program(server: PostgresServer, name: str) -> str:
    """Return a program of the server's version, or else the machine's."""
    found = shutil.which(name, path=str(server.bindir) if server.bindir else None) or shutil.which(name)
    assert found is not None, f"{name} is missing: install PostgreSQL's client programs"
    return found


@contextmanager
def ground(server: PostgresServer, *, policy: bool) -> Iterator[Ground]:
    """Make a database with a proxy in front of it, with a policy on a table of its own or with none."""
    database = server.create_database()
    with ExitStack() as cleanup:
        cleanup.callback(server.drop_database, database)
        behind = Behind(server.host, server.port, server.superuser, server.password, policy_for=database if policy else "")
        yield Ground(server, database, cleanup.enter_context(in_front_of(behind)).port)
