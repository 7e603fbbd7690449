"""A reader of the documentation who has a server of their own: the names are those of the pages, the addresses are others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phiproxy.demo.postgres import free_port
from tests.docs.pages import Shell
from tests.harness.server import PostgresServer

DATABASES = ("clinic", "clinic_new", "clinic_old")
ROLES = ("clinic_app", "phiproxy")


@contextmanager
def reading(server: PostgresServer, directory: Path, database: str = "postgres") -> Iterator[Shell]:
    """Yield a terminal in which the pages' addresses are this server's and free ports; what the pages make is dropped.

    The server's own programs are on its search path.
    """
    programs = [str(server.bindir)] if server.bindir else []
    env = {"PATH": ":".join([str(directory / ".bin"), *programs, os.environ["PATH"]])}
    here = {
        "127.0.0.1:5432": f"{server.host}:{server.port}",
        "127.0.0.1:6432": f"127.0.0.1:{free_port()}",
        "127.0.0.1:9187": f"127.0.0.1:{free_port()}",
    }
    clear(server)
    try:
        with Shell(directory, env=env, replace=here, server=server, database=database) as shell:
            yield shell
    finally:
        clear(server)


def clear(server: PostgresServer) -> None:
    """Drop the databases and roles of the pages."""
    for database in DATABASES:
        server.drop_database(database)
    with server.connect() as conn:
        for role in ROLES:
            if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
                conn.execute(f"DROP OWNED BY {role}".encode())  # a parameter that it may set
        conn.execute(f"DROP ROLE IF EXISTS {', '.join(ROLES)}".encode())


def application(server: PostgresServer) -> None:
    """Make the application's role and database, which most pages take as given."""
    with server.connect() as conn:
        conn.execute("CREATE ROLE clinic_app LOGIN PASSWORD 'change-me-app'")
        conn.execute("CREATE DATABASE clinic OWNER clinic_app TEMPLATE template0")
