"""A database with the clinic's tables, and a configuration for it."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from phiproxy.cli import main
from phiproxy.keys import open_provider
from phiproxy.keys.anchoring import unlock
from phiproxy.policy.load import load_settings
from phiproxy.policy.setting_values import read_secret
from tests.harness.server import PostgresServer
from tests.keys.blessing import bless

CONFIG = """\
upstream: {{address: "{host}:{port}", tls: disable}}
service: {{user: {user}, password: env:PHIPROXY_SERVICE_PASSWORD}}
keys: {{kek: local:kek.json}}
policies: [policy.yaml]
"""
POLICY = """\
database: {database}
deployment: clinic-test
tables:
  public.patients:
    columns:
      ssn: {{type: text, indexes: [ssn], distinct: 100000}}
      note: {{type: text, pad: 64}}
"""


@dataclass
class Clinic:
    """A database, its directory with both files, and the command line on it."""

    server: PostgresServer
    database: str
    directory: Path
    capture: pytest.CaptureFixture[str]

    @property
    def config(self) -> Path:
        return self.directory / "phiproxy.yaml"

    @property
    def policy(self) -> Path:
        return self.directory / "policy.yaml"

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of ``phiproxy ARGUMENTS -c FILE``."""
        self.capture.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "setpriority", lambda *_: None)  # of a job: all tests behind it would run with less of the machine
            code = main([*arguments, "-c", str(self.config)])
        out, err = self.capture.readouterr()
        return code, out, err

    def ok(self, *arguments: str) -> str:
        """Standard output of a command that must succeed and say nothing on standard error."""
        code, out, err = self.run(*arguments)
        assert (code, err) == (0, ""), out + err
        return out

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with self.server.connect(self.database) as conn:
            cursor = conn.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def rewrite(self, statement: str) -> None:
        """Run a statement over the registry's rows as if phiproxy had done it."""
        self.sql(statement)
        asyncio.run(self._bless())

    async def _bless(self) -> None:
        settings = load_settings(self.config)
        provider = await open_provider(settings.kek_uri, read_secret)
        async with await psycopg.AsyncConnection.connect(self.server.dsn(self.database)) as conn:
            key = await unlock(conn, "phiproxy", "clinic-test", provider, None)
        await provider.close()
        await bless(self.server.dsn(self.database), key)


@pytest.fixture
def clinic(
    postgres_server: PostgresServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Clinic]:
    """Tables without rows, nothing initialised; the service role is the superuser."""
    server = postgres_server
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", server.password)
    name = server.create_database()
    config = CONFIG.format(host=server.host, port=server.port, user=server.superuser)
    (tmp_path / "phiproxy.yaml").write_text(config)
    (tmp_path / "policy.yaml").write_text(POLICY.format(database=name))
    try:
        with psycopg.connect(server.dsn(name), autocommit=True) as conn:
            conn.execute("CREATE TABLE patients (id int PRIMARY KEY, ssn text UNIQUE, note text)")
        yield Clinic(server, name, tmp_path, capsys)
    finally:
        server.drop_database(name)
