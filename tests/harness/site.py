"""A site: two databases with one schema, "plain" reached directly and "sealed" reached through a proxy over a tap."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from psycopg import sql

from phiproxy.demo.postgres import free_port
from tests.harness.proxy import ProxyUnderTest, run_cli
from tests.harness.server import PostgresServer
from tests.harness.tap import Tap

CONFIG = """\
listen: 127.0.0.1:{port}
upstream:
  address: {host}:{upstream_port}
  tls: disable
service:
  user: {service}
  password: env:PHIPROXY_SERVICE_PASSWORD
keys:
  kek: local:kek.json
policies: [policy.yaml]
metrics: null
log: {{level: debug, format: json}}
"""


@dataclass
class Site:
    """What ``open_site`` has set up."""

    server: PostgresServer
    directory: Path
    plain: str
    sealed: str
    role: str
    password: str
    service: str
    env: dict[str, str]
    tap: Tap
    proxy: ProxyUnderTest

    @property
    def config(self) -> Path:
        """phiproxy.yaml."""
        return self.directory / "phiproxy.yaml"

    @property
    def plain_dsn(self) -> str:
        """The application's role, straight to the plaintext twin."""
        return self.server.dsn(self.plain, self.role, self.password)

    @property
    def sealed_dsn(self) -> str:
        """The application's role, straight to the sealed database, past the proxy."""
        return self.server.dsn(self.sealed, self.role, self.password)

    @property
    def proxy_dsn(self) -> str:
        """The application's role, through the proxy."""
        return self.proxy.dsn(self.sealed, self.role, self.password)

    def cli(self, *arguments: str, check: bool = True) -> str:
        """Run a command with ``-c`` of this site after its name(s); returns standard output."""
        done = run_cli(*arguments, "-c", str(self.config), env=self.env, check=check)
        return done.stdout

    def another_proxy(self, name: str) -> ProxyUnderTest:
        """Return a second proxy, not started, with its own port and the same configuration otherwise."""
        port = free_port()
        config = self.directory / f"{name}.yaml"
        config.write_text(self.config.read_text().replace(f"127.0.0.1:{self.proxy.port}", f"127.0.0.1:{port}"))
        return ProxyUnderTest(config, port, self.directory / f"{name}.log", self.env)


def write_site_config(site_dir: Path, *, port: int, host: str, upstream_port: int, service: str, settings: str = "") -> Path:
    """Write phiproxy.yaml of a site, with more settings at its end."""
    path = site_dir / "phiproxy.yaml"
    text = CONFIG.format(port=port, host=host, upstream_port=upstream_port, service=service)
    path.write_text(text + dedent(settings))
    return path


@contextmanager
def open_site(
    server: PostgresServer,
    directory: Path,
    *,
    policy: str,
    ddl: str,
    serve: bool = True,
    planned: bool = False,
    types: str = "",
    settings: str = "",
    encoding: str = "",
) -> Iterator[Site]:
    """Set up a site: ``policy`` is policy.yaml with ``{database}``, ``ddl`` the application's own, as it declares it.

    ``planned``: the policy's tables are not there yet, a migration through the proxy will make them. ``types`` is what a superuser
    makes in both databases before: what it makes has the same OIDs in both. ``settings`` are more of phiproxy.yaml.
    ``encoding`` is that of the databases, if it is not UTF8.
    """
    token = secrets.token_hex(4)
    role, service = f"app_{token}", f"phi_{token}"
    password, service_password = secrets.token_urlsafe(12), secrets.token_urlsafe(12)
    server.create_role(role, password)
    server.create_role(service, service_password)
    plain, sealed = server.create_database(f"plain_{token}", encoding=encoding), f"sealed_{token}"
    if types:
        with server.connect(plain) as conn:
            conn.execute(types)
    server.create_database(sealed, template=plain)
    quiet_plain_twin(server, plain)
    for database in (plain, sealed):
        with server.connect(database) as conn:
            conn.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(sql.Identifier(role)))
            conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            conn.execute(ddl)
    grant_service(server, sealed, service, role)
    (directory / "policy.yaml").write_text(dedent(policy).replace("{database}", sealed))
    env = {"PHIPROXY_SERVICE_PASSWORD": service_password}
    with Tap(server.host, server.port) as tap:
        port = free_port()
        config = write_site_config(directory, port=port, host=tap.host, upstream_port=tap.port, service=service, settings=settings)
        proxy = ProxyUnderTest(config, port, directory / "proxy.log", env)
        site = Site(server, directory, plain, sealed, role, password, service, env, tap, proxy)
        try:
            site.cli("keys", "init", *(["--planned"] if planned else []))
            with server.connect(sealed) as conn:
                conn.execute(site.cli("ddl"))
            if serve:
                proxy.start()
            yield site
        finally:
            proxy.__exit__(None, None, None)
            server.drop_database(plain)
            server.drop_database(sealed)
            with server.administration() as conn:
                for name in (role, service):
                    conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def quiet_plain_twin(server: PostgresServer, database: str) -> None:
    """Let the plaintext twin log nothing: its statements hold what the oracle searches the log for."""
    with server.administration() as conn:
        for setting, value in {
            "log_statement": "none",
            "log_min_messages": "panic",
            "log_min_error_statement": "panic",
            "log_parameter_max_length": "0",
            "log_parameter_max_length_on_error": "0",
            "log_min_duration_statement": "-1",
        }.items():
            conn.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(database), sql.Identifier(setting), sql.Literal(value)
                )
            )


def grant_service(server: PostgresServer, database: str, service: str, owner: str) -> None:
    """Give the service role what docs/protect-your-table.md tells a DBA to give it, and no more."""
    names = {"db": sql.Identifier(database), "service": sql.Identifier(service), "owner": sql.Identifier(owner)}
    with server.connect(database) as conn:
        for statement in (
            "GRANT CONNECT, CREATE ON DATABASE {db} TO {service}",
            "GRANT USAGE ON SCHEMA public TO {service}",
            "GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO {service}",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT, UPDATE ON TABLES TO {service}",
        ):
            conn.execute(sql.SQL(statement).format(**names))
