"""SCRAM verifiers of roles: from pg_authid through the service login, or from a file; knows nothing of the exchange.

Nothing is cached: a password that was changed, or has expired, is known to the next login. A storm of logins costs little all the
same, since all names that are wanted while one query runs are asked for in the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psycopg
import structlog

from phiproxy.errors import ConfigError
from phiproxy.net.standing_connection import StandingConnection
from phiproxy.net.tasks import spawn
from phiproxy.net.upstream import Unreachable
from phiproxy.policy.settings import Settings
from phiproxy.wire.scram import DEFAULT_ITERATIONS, Verifier

log = structlog.get_logger("phiproxy.auth")

_MAX_FILE = 16 << 20
# A client that logs in waits for this, and libpq's own patience is often no longer.
_PATIENCE = 4.0
# A role without a verifier shall not be told from one with by its iterations: the server's own default (PostgreSQL 16), if any.
_QUERY = """
SELECT n.name::text, a.rolname IS NOT NULL, a.rolpassword, coalesce(a.rolvaliduntil < pg_catalog.clock_timestamp(), false),
       pg_catalog.current_setting('scram_iterations', true)
  FROM pg_catalog.unnest(%s::pg_catalog.name[]) AS n(name) LEFT JOIN pg_catalog.pg_authid a ON a.rolname = n.name
"""


class Found(NamedTuple):
    """A role's verifier, or why there is none: for the log, never for the client."""

    verifier: Verifier | None
    why_not: str
    iterations: int = DEFAULT_ITERATIONS


class Verifiers(Protocol):
    """Where verifiers come from."""

    async def of(self, role: bytes) -> Found:
        """Find a role's, by the bytes of its name; Unreachable when nobody can tell."""

    def reload(self) -> None:
        """Read again what is a file; ConfigError leaves everything as it was."""

    async def close(self) -> None:
        """Let go of what is open."""


async def open_verifiers(settings: Settings, databases: Iterable[str]) -> Verifiers:
    """Open the source that ``auth`` names; ConfigError when it cannot be read."""
    if settings.auth.verifiers is not None:
        return FileVerifiers(settings.auth.verifiers)
    database = settings.auth.database or next(iter(databases), "postgres")
    return await ServerVerifiers.open(settings, database)


def mock_secret(settings: Settings) -> bytes:
    """Return what mock salts are made of. It is the same in every worker and after a restart, where there is a secret to take."""
    if settings.auth.verifiers is None and settings.service.password is not None:
        material = settings.service.password.reveal().encode()
    else:
        file = settings.tls.private_key or settings.auth.verifiers
        material = file.read_bytes() if file is not None else os.urandom(32)
    return hashlib.sha256(b"phiproxy mock authentication\0" + material).digest()


class FileVerifiers:
    """Verifiers of a file, all of them in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._verifiers: dict[bytes, Verifier] = {}
        self._iterations = DEFAULT_ITERATIONS
        self.reload()

    def reload(self) -> None:
        """Read the file again."""
        self._verifiers = read_verifiers(self._path)
        counted = Counter(verifier.iterations for verifier in self._verifiers.values())
        self._iterations = counted.most_common(1)[0][0] if counted else DEFAULT_ITERATIONS

    async def of(self, role: bytes) -> Found:
        """Look it up."""
        return Found(self._verifiers.get(role), "auth.verifiers does not have the role", self._iterations)

    async def close(self) -> None:
        """Nothing is open."""


def read_verifiers(path: Path) -> dict[bytes, Verifier]:
    """Read ``role verifier`` lines; ConfigError says which line is none, never what is in it."""
    verifiers: dict[bytes, Verifier] = {}
    for number, line in enumerate(_private_text(path).split("\n"), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        role, _, written = text.rpartition(" ")
        verifier = Verifier.parse(written)
        name = _role_name(role.strip())
        if verifier is None or name is None:
            raise ConfigError(f"{path}:{number}:1: a line is a role and its verifier: app SCRAM-SHA-256$4096:…$…:…")
        if name in verifiers:
            raise ConfigError(f"{path}:{number}:1: this role stands here a second time")
        verifiers[name] = verifier
    return verifiers


def _role_name(written: str) -> bytes | None:
    """Return a role's name, which may be quoted as an SQL identifier is; None when that is not closed, or empty."""
    name = written
    if written.startswith('"'):
        inner = written[1:-1]
        if len(written) < 2 or not written.endswith('"') or '"' in inner.replace('""', ""):
            return None
        name = inner.replace('""', '"')
    return name.encode() or None


def _private_text(path: Path) -> str:
    """Read a file that nobody but its owner, us, can read: with a verifier one can guess passwords, and pass for the server."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"auth.verifiers {path} is not a regular file")
            if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise ConfigError(f"auth.verifiers {path} must be ours and of mode 0600, and is of mode {mode:04o}")
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"auth.verifiers {path} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise ConfigError(f"auth.verifiers {path} is larger than {_MAX_FILE >> 20} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"auth.verifiers {path} is not UTF-8") from None


class ServerVerifiers:
    """Verifiers of the server, read afresh for every login."""

    def __init__(self, server: StandingConnection, patience: float) -> None:
        self._server = server
        self._patience = patience
        self._wanted: dict[str, asyncio.Future[Found]] = {}
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: Settings, database: str) -> ServerVerifiers:
        """Connect, and see that the service login may read them; ConfigError when it may not."""
        server = StandingConnection(settings, database)
        try:
            await server.ask(lambda conn: _read(conn, []), settings.upstream.connect_timeout + _PATIENCE)
        except psycopg.errors.InsufficientPrivilege:
            await server.close()
            raise ConfigError(
                f"auth.mode scram: the service login {settings.service.user} may not read pg_authid in database {database!r}; "
                f"a superuser can GRANT SELECT (rolname, rolpassword, rolvaliduntil) ON pg_catalog.pg_authid TO it, "
                f"or list verifiers in a file, auth.verifiers"
            ) from None
        except TimeoutError:
            raise ConfigError(f"auth.mode scram: database {database!r} does not answer") from None
        return cls(server, min(settings.upstream.connect_timeout, _PATIENCE))

    async def of(self, role: bytes) -> Found:
        """Ask for it together with what others want; a question that is on its way already could bring an answer of before."""
        try:
            name = role.decode("utf-8")
        except UnicodeDecodeError:
            return Found(None, "its name is not UTF-8")
        wanted = self._wanted.get(name)
        if wanted is None:
            wanted = self._wanted[name] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            self._reading = spawn(self._read_all(), "verifiers")
        return await asyncio.shield(wanted)

    def reload(self) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Close the connection."""
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._server.close()

    async def _read_all(self) -> None:
        while self._wanted:
            asked, self._wanted = self._wanted, {}
            try:
                verifiers = await self._read_names(list(asked))
                for name, future in asked.items():
                    future.set_result(verifiers[name])
            except (psycopg.Error, TimeoutError, ConfigError) as error:
                log.warning("the roles' verifiers cannot be read", type=type(error).__name__)
                failed = Unreachable(
                    "the PostgreSQL server does not answer, and so nobody can be let in",
                    hint="Try again when it is back: the proxy asks it anew for each login.",
                )
                for future in asked.values():
                    future.set_exception(failed)
                    future.exception()  # whoever asked may be gone
            finally:
                for future in asked.values():
                    if not future.done():
                        future.cancel()

    async def _read_names(self, names: list[str]) -> dict[str, Found]:
        return await self._server.ask(lambda conn: _read_each(conn, names), self._patience)


async def _read_each(conn: psycopg.AsyncConnection[Any], names: list[str]) -> dict[str, Found]:
    try:
        return await _read(conn, names)
    except psycopg.DataError:
        # One of them cannot be spelled in the database's encoding, and shall not take the others with it.
        return {name: await _read_one(conn, name) for name in names}


async def _read_one(conn: psycopg.AsyncConnection[Any], name: str) -> Found:
    try:
        return (await _read(conn, [name]))[name]
    except psycopg.DataError:
        return Found(None, "its name is not in the database's encoding")


async def _read(conn: psycopg.AsyncConnection[Any], names: list[str]) -> dict[str, Found]:
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(_QUERY, (names,))
        rows = await cursor.fetchall()
    return {name: _judge(*facts) for name, *facts in rows}


def _judge(exists: bool, password: str | None, expired: bool, iterations: str | None) -> Found:  # noqa: FBT001 - a row
    """Say of a role what PostgreSQL would (get_role_password). That it may not log in the server itself says, later."""
    usual = int(iterations) if iterations else DEFAULT_ITERATIONS
    if not exists:
        return Found(None, "the role does not exist", usual)
    if password is None:
        return Found(None, "the role has no password", usual)
    if expired:
        return Found(None, "the role's password has expired", usual)
    verifier = Verifier.parse(password)
    return Found(verifier, "the role's password is not stored as a SCRAM verifier", usual)
