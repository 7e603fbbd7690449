"""The place where everything is measured: one PostgreSQL, the same rows in a database with a policy and in one without.

Everything is done with the commands that a DBA would use.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import psycopg

from benchmarks.measures import family
from phiproxy.demo.postgres import EmbeddedPostgres, free_port

ROLE = "bench"
PLAIN = "plain"
PROTECTED = "clinic"
CHECKOUT = Path(__file__).parent.parent
SETTINGS = {"max_connections": "400", "shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "1h"}

TEN_COLUMNS = "city text, born date, visits integer, weight numeric(5,1), active boolean, remark text"
THREE = "ssn text NOT NULL, full_name text NOT NULL, diagnosis text NOT NULL"
SCHEMA = f"""
CREATE TABLE people (id integer PRIMARY KEY, {THREE}, {TEN_COLUMNS});
CREATE TABLE arrivals (id integer, {THREE}, {TEN_COLUMNS});
CREATE TABLE intake (id bigserial PRIMARY KEY, {THREE});
CREATE TABLE changes (id integer PRIMARY KEY, {THREE}) WITH (fillfactor = 50);
CREATE TABLE documents (id integer PRIMARY KEY, doc jsonb);
CREATE TABLE ledger (id integer PRIMARY KEY, a text, b text, c text, {TEN_COLUMNS});
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO {ROLE};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE};
"""
TABLES = ("people", "arrivals", "intake", "changes")
# Not on ``arrivals``, which is loaded in bulk: it is not the server's indexes that are measured then.
INDEXES = "".join(f"CREATE INDEX ON {t} ({c});\n" for t in TABLES if t != "arrivals" for c in ("ssn", "full_name", "diagnosis"))
POLICY = f"database: {PROTECTED}\ndeployment: benchmark\ntables:\n" + "".join(
    f"""\
  public.{table}:
    columns:
      ssn:       {{type: text, indexes: [ssn], distinct: 100000000}}
      full_name: {{type: text, indexes: [full_name], distinct: 1000000}}
      diagnosis: {{type: text, indexes: [diagnosis], accept_leakage: "nobody in here exists"}}
"""
    for table in TABLES
)
POLICY += """\
  public.documents:
    columns:
      doc:
        type: jsonb
        fields:
          "$.ssn":             {type: text, indexes: [value], distinct: 100000000}
          "$.history[*].note": {type: text}
        others: clear
"""
CONFIG = """\
listen: 127.0.0.1:{port}
upstream: {{address: "127.0.0.1:{server}", tls: disable}}
service: {{user: phiproxy, password: "file:{home}/service.password"}}
keys: {{kek: "local:kek.json"}}
policies: [policy.yaml]
workers: {workers}
limits: {{max_message: 512MiB}}
metrics: null
"""
AUDITED = "audit: {{directory: {log}}}\n"
PATIENCE = 180.0


def say(text: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def row(n: int) -> tuple[object, ...]:
    """Return the n-th person of ``people``."""
    name = f"Patient {n % 5000:04d} of Lower Saxony"
    return (
        n,
        str(100_000_000 + n),
        name,
        f"E{n % 40:02d}.9 diabetes mellitus",
        f"City {n % 300}",
        "1970-03-01",
        n % 20,
        71.5,
        "t",
        "none",
    )


@lru_cache(maxsize=2)
def copied(rows: int) -> bytes:
    """Return rows in COPY's text format."""
    return "".join("\t".join(map(str, row(n))) + "\n" for n in range(1, rows + 1)).encode()


class Site:
    """The server with both databases; proxies, forwarder and pooler are started in front of it."""

    def __init__(self, server: EmbeddedPostgres, home: Path, *, rows: int, scale: int, settings: str = "") -> None:
        """``settings`` are lines of the proxies' configuration beside those that each has."""
        self.server = server
        self.home = home
        self.rows = rows
        self.scale = scale
        self.settings = settings
        self.password = secrets.token_urlsafe(12)
        self._service = secrets.token_urlsafe(18)

    def dsn(self, port: int, database: str) -> str:
        """Return the application's way in at a port."""
        return f"postgresql://{ROLE}:{quote(self.password)}@127.0.0.1:{port}/{database}"

    def make_databases(self) -> None:
        """Make roles, databases and tables."""
        with psycopg.connect(self.server.dsn(), autocommit=True) as admin:
            for role, password in (("phiproxy", self._service), (ROLE, self.password)):
                admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
            for database in (PLAIN, PROTECTED):
                admin.execute(f"CREATE DATABASE {database}".encode())
        for database in (PLAIN, PROTECTED):
            subprocess.run(
                [pgbench(), "-i", "-q", "-s", str(self.scale), self.server.dsn(database)], check=True, capture_output=True
            )
            with psycopg.connect(self.server.dsn(database), autocommit=True) as owner:
                owner.execute(SCHEMA.encode())
        with psycopg.connect(self.server.dsn(PROTECTED), autocommit=True) as owner:
            owner.execute(f"GRANT CONNECT, CREATE ON DATABASE {PROTECTED} TO phiproxy".encode())
            owner.execute(f"GRANT SELECT, UPDATE ON {', '.join((*TABLES, 'documents'))} TO phiproxy".encode())
        self._write("service.password", self._service)

    def prepare(self) -> None:
        """Make roles, databases, tables, keys, guards and indexes."""
        self.make_databases()
        with psycopg.connect(self.server.dsn(PLAIN), autocommit=True) as owner:
            owner.execute(INDEXES.encode())
        config = self.make_keys(POLICY)
        with psycopg.connect(self.server.dsn(PROTECTED), autocommit=True) as owner:
            owner.execute(command(CHECKOUT, "ddl", "-c", str(config)).encode())
            for (name,) in owner.execute(b"SELECT indexname FROM pg_indexes WHERE tablename = 'arrivals'").fetchall():
                owner.execute(f"DROP INDEX {name}".encode())

    def make_keys(self, policy: str) -> Path:
        """Write a policy and make its keys; a table that has rows already is in clear then. Return a configuration."""
        self._write("policy.yaml", policy)
        config = self._config(0, 1, log=self.home / "audit")
        command(CHECKOUT, "keys", "init", "-c", str(config))
        return config

    def load(self, port: int) -> None:
        """Load the rows, the protected ones through the proxy at this port."""
        data = copied(self.rows)
        for database, table, way in (
            (PLAIN, "people", self.server.port),
            (PLAIN, "ledger", self.server.port),
            (PROTECTED, "people", port),
            (PROTECTED, "ledger", self.server.port),
        ):
            with psycopg.connect(self.dsn(way, database)) as app, app.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                copy.write(data)
        three = "".join("\t".join(map(str, row(n)[:4])) + "\n" for n in range(1, 1001)).encode()
        for database, way in ((PLAIN, self.server.port), (PROTECTED, port)):
            with psycopg.connect(self.dsn(way, database)) as app, app.cursor().copy(b"COPY changes FROM STDIN") as copy:
                copy.write(three)
            with psycopg.connect(self.server.dsn(database), autocommit=True) as owner:
                owner.execute("VACUUM ANALYZE")

    def _write(self, name: str, text: str) -> Path:
        path = self.home / name
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def _config(self, port: int, workers: int, *, log: Path | None = None) -> Path:
        form = CONFIG + self.settings + (AUDITED if log is not None else "")
        text = form.format(port=port or free_port(), server=self.server.port, home=self.home, workers=workers, log=log)
        return self._write(f"phiproxy-{port}.yaml", text)

    @contextlib.contextmanager
    def proxy(
        self, *, workers: int = 1, log: Path | None = None, checkout: Path = CHECKOUT
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Run a proxy from a checkout, with an audit log if there is a directory for it; give its port and its processes."""
        port = free_port()
        config = self._config(port, workers, log=log)
        with running(self.home / f"proxy-{port}.log", port, *phiproxy("serve", "-c", str(config)), checkout=checkout) as pid:
            yield port, family(pid)

    @contextlib.contextmanager
    def forwarder(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Run the bare byte forwarder; give its port and its process."""
        port = free_port()
        with running(
            self.home / "forwarder.log", port, sys.executable, "-m", "benchmarks.forwarder", str(port), str(self.server.port)
        ) as pid:
            yield port, (pid,)

    @contextlib.contextmanager
    def pooler(self) -> Iterator[tuple[int, tuple[int, ...]] | None]:
        """Run PgBouncer in session mode, if there is one; give its port and its process."""
        found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if found is None:
            yield None
            return
        port, place = free_port(), self.home / "bouncer"
        place.mkdir(mode=0o755, exist_ok=True)
        self.home.chmod(0o711)
        users, settings = place / "users.txt", place / "pgbouncer.ini"
        users.write_text(f'"{ROLE}" "{self.password}"\n', encoding="utf-8")
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={self.server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nauth_type = scram-sha-256\nauth_file = {users}\npool_mode = session\nunix_socket_dir =\n"
            "default_pool_size = 200\nmax_client_conn = 400\n",
            encoding="utf-8",
        )
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
        with running(self.home / "bouncer.log", port, found, "-q", *as_nobody, str(settings)) as pid:
            yield port, (pid,)


def phiproxy(*arguments: str) -> list[str]:
    """Return the command line of a phiproxy command."""
    return [sys.executable, "-m", "phiproxy", *arguments]


def command(checkout: Path, *arguments: str) -> str:
    """Run a phiproxy command of a checkout and return what it prints."""
    done = subprocess.run(
        phiproxy(*arguments), capture_output=True, text=True, check=False, env=_environment(checkout), cwd=checkout
    )
    if done.returncode:
        raise SystemExit(f"phiproxy {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _environment(checkout: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout)}


@contextlib.contextmanager
def running(log: Path, port: int, *arguments: str, checkout: Path = CHECKOUT) -> Iterator[int]:
    """Run a process that listens on a port for as long as this lasts; give its number."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_environment(checkout), cwd=checkout
        )
    try:
        _await(process, port, log)
        yield process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
        process.terminate()  # a proxy lets its clients finish; the second one ends it
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nobody listens: {log.read_text('utf-8', 'replace').strip()[-300:]}")


def pgbench() -> str:
    """Return pgbench, from the path or from where Debian keeps it."""
    found = shutil.which("pgbench") or next((str(p) for p in Path("/usr/lib/postgresql").glob("*/bin/pgbench")), None)
    if found is None:
        raise SystemExit("pgbench is not installed")
    return found
