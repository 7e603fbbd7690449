"""The PostgreSQL under the tests: the embedded one with everything logged, or the one that PHIPROXY_TEST_DSN names."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from phiproxy.demo.postgres import EmbeddedPostgres
from tests.harness.forks import know

MEMORY = Path("/dev/shm")
# Bytes. A server's data take some 300 MB, and for a short time a gigabyte; each worker has a server.
WANTED_IN_MEMORY = 8 << 30
# So that segments of WAL that are over are used again, not kept: they would be most of what lies in memory.
LITTLE_WAL = {"min_wal_size": "64MB", "max_wal_size": "192MB"}


@dataclass(frozen=True)
class PostgresServer:
    """Where the server is and who may do all on it; ``log_path`` and ``bindir`` are None for a foreign server.

    ``lasting``: it is there for the whole run, and so is the connection by which databases and roles are made.
    """

    host: str
    port: int
    superuser: str
    password: str
    log_path: Path | None = None
    bindir: Path | None = None
    lasting: bool = False
    _standing: dict[str, psycopg.Connection[tuple[object, ...]]] = field(default_factory=dict, compare=False, repr=False)

    def dsn(self, dbname: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """Return a URI straight to the server, the superuser's unless told."""
        login = f"{quote(user or self.superuser, safe='')}:{quote(password or self.password, safe='')}"
        return f"postgresql://{login}@{self.host}:{self.port}/{quote(dbname, safe='')}"

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """Connect as superuser, autocommit."""
        return psycopg.connect(self.dsn(dbname), autocommit=True)

    def standing(self, dbname: str) -> psycopg.Connection[tuple[object, ...]]:
        """Return a superuser's connection that stays until the database is dropped: to connect takes longer than to ask."""
        conn = self._standing.get(dbname)
        if conn is not None:
            try:
                conn.execute("")
            except psycopg.OperationalError:  # the server was stopped meanwhile
                conn.close()
            else:
                return conn
        conn = self._standing[dbname] = self.connect(dbname)
        conn.prepare_threshold = None  # tables are others each time
        return conn

    def administration(self) -> AbstractContextManager[psycopg.Connection[tuple[object, ...]]]:
        """Connect as superuser, to what does not matter: to make, and to drop, what is of no single database."""
        return nullcontext(self.standing("postgres")) if self.lasting else self.connect()

    def create_database(self, name: str | None = None, template: str = "template0", encoding: str = "") -> str:
        """Create a database, empty or a copy of another, and return its name, a fresh one unless told.

        ``encoding`` is its own, without the rules of a language.
        """
        name = name or f"t_{secrets.token_hex(6)}"
        with self.administration() as conn:
            # Files are copied in half of the time in which all their pages are logged, and dropped in half of the time too.
            how = sql.SQL("STRATEGY file_copy" if conn.info.server_version >= 150000 else "")
            own = sql.SQL("ENCODING {} LOCALE 'C'").format(encoding) if encoding else sql.SQL("")
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {} {} {}")
            conn.execute(create.format(sql.Identifier(name), sql.Identifier(template), how, own))
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database together with its sessions."""
        if (standing := self._standing.pop(name, None)) is not None:
            standing.close()
        with self.administration() as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def sleeps(self, pid: int) -> bool:
        """Tell whether a backend is in pg_sleep: a query that has not begun cannot be cancelled."""
        with self.administration() as conn:
            query = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
            return conn.execute(query, (pid,)).fetchone() is not None

    def waits_for_lock(self, pid: int) -> bool:
        """Tell whether a backend waits for what another one holds."""
        with self.administration() as conn:
            return conn.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", (pid,)).fetchone() == (True,)

    def create_role(self, name: str, password: str) -> None:
        """Create a login role, or give an existing one this password."""
        role, secret = sql.Identifier(name), sql.Literal(cheap_verifier(password))
        with self.administration() as conn:
            exists = conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
            verb = "ALTER" if exists else "CREATE"
            conn.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(sql.SQL(verb), role, secret))


def cheap_verifier(password: str) -> str:
    """Return what PostgreSQL stores of a password, with one iteration: each of thousands of logins would take 4096 otherwise."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    stored, of_server = hashlib.sha256(_hmac(salted, b"Client Key")).digest(), _hmac(salted, b"Server Key")
    in_base64 = [base64.b64encode(part).decode() for part in (salt, stored, of_server)]
    return "SCRAM-SHA-256$1:{}${}:{}".format(*in_base64)


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _foreign(dsn: str) -> PostgresServer:
    """Describe the server of a DSN by what a connection to it says."""
    with psycopg.connect(dsn) as conn:
        info = conn.info
        return PostgresServer(info.host, info.port, info.user, info.password)


def _in_memory() -> Path | None:
    """Return where the server's data may lie in memory, or None where there is little of that: for each file of a database that is
    made and dropped, one on disk takes four times as long, and it may have to be waited for.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
        enough = min(shutil.disk_usage(MEMORY).free, available) >= WANTED_IN_MEMORY
    except (OSError, StopIteration):  # not Linux
        return None
    return MEMORY if enough and os.access(MEMORY, os.W_OK) else None


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Yield the server named by PHIPROXY_TEST_DSN, else run the embedded one."""
    dsn = os.environ.get("PHIPROXY_TEST_DSN")
    if dsn:
        yield _foreign(dsn)
        return
    with EmbeddedPostgres(hostile_log=True, settings=LITTLE_WAL, data_below=_in_memory()) as own:
        server = PostgresServer(own.host, own.port, own.superuser, own.password, own.log_path, own.bindir)
        server.create_role(own.superuser, own.password)
        know(server.dsn())
        lasting = replace(server, lasting=True)
        lasting.standing("postgres")  # before anyone counts this process's sockets
        try:
            yield lasting
        finally:
            for conn in lasting._standing.values():
                conn.close()
