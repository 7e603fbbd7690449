"""The proxy's own login to each policy's database: how it connects; knows nothing of what is asked there."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from phiproxy.errors import ConfigError
from phiproxy.net.sockets import KEEP_ALIVE
from phiproxy.net.tasks import spawn
from phiproxy.policy.setting_values import Address
from phiproxy.policy.settings import Settings

_SOCKET = ".s.PGSQL."
# Debian and Alpine, Fedora and RHEL, SUSE, macOS and BSD
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

# Seconds
UNTAKEN = 20.0

ServicePool = AsyncConnectionPool[psycopg.AsyncConnection[Any]]


def service_conninfo(settings: Settings, database: str, *, small: bool = False) -> str:
    """Return the libpq connection string of the service login; it holds the password, so it is never logged.

    ``small``: nothing is ever sent by it that the server may leave unread for long. Then a server that takes nothing any more is
    given up after UNTAKEN seconds, and not when TCP has tried for a quarter of an hour; a server that is slow to answer is not.
    ConfigError when the secret is not there or a socket path is not PostgreSQL's.
    """
    service, upstream = settings.service, settings.upstream
    addresses = (service.address,) if service.address is not None else upstream.address
    hosts, ports = zip(*(_host_and_port(a) for a in addresses), strict=True)
    parameters: dict[str, str | int] = {
        "host": ",".join(hosts),
        "port": ",".join(ports),
        "user": service.user,
        "dbname": database,
        "sslmode": upstream.tls,
        "keepalives_idle": KEEP_ALIVE["TCP_KEEPIDLE"],
        "keepalives_interval": KEEP_ALIVE["TCP_KEEPINTVL"],
        "keepalives_count": KEEP_ALIVE["TCP_KEEPCNT"],
        "connect_timeout": max(2, round(upstream.connect_timeout)),  # libpq counts whole seconds and takes 1 for 2
        "application_name": "phiproxy",
        "client_encoding": "UTF8",
        # nothing that a schema of the application defines can stand in for what the proxy's own queries name
        "options": "-c search_path=pg_catalog -c standard_conforming_strings=on",
    }
    if upstream.target != "any" and service.address is None:
        # Whichever server sessions go to: the registry is written, and that the primary alone can do.
        parameters["target_session_attrs"] = "read-write"
    if small:
        parameters["tcp_user_timeout"] = round(UNTAKEN * 1000)
    if service.password is not None:
        parameters["password"] = service.password.reveal()
    if upstream.tls in ("verify-ca", "verify-full"):
        parameters["sslrootcert"] = _authorities(upstream.ca_file)
    return make_conninfo("", **parameters)


def service_pool(
    settings: Settings,
    database: str,
    *,
    max_size: int = 4,
    configure: Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]] | None = None,
) -> ServicePool:
    """Return a closed pool of autocommit connections: ``async with`` it, or open and close it. ConfigError as above.

    ``configure`` is awaited with each new one.

    Small, since only the key registry uses it; broken connections are found before they are handed out.
    """
    return AsyncConnectionPool(
        service_conninfo(settings, database, small=True),
        min_size=1,
        kwargs={"autocommit": True},
        configure=configure,
        check=AsyncConnectionPool.check_connection,
        name=f"phiproxy-{database}",
        timeout=settings.upstream.connect_timeout,
        # Attempts come ever more rarely, for five minutes: who asks once the server is back would wait for the next of them.
        reconnect_timeout=settings.upstream.connect_timeout,
        open=False,
        max_size=max_size,
    )


async def connect_catalogue(settings: Settings, database: str) -> psycopg.AsyncConnection[Any]:
    """Open one autocommit connection in which nothing is asked but the catalogue. ConfigError as of ``connect_service``.

    The same questions are asked again and again: the server would plan each anew for what is asked for with it, which takes longer
    than answering.
    """
    conn = await connect_service(settings, database, small=True)
    try:
        await conn.execute("SET plan_cache_mode TO force_generic_plan")
    except BaseException:
        await conn.close()
        raise
    return conn


async def connect_service(settings: Settings, database: str, *, small: bool = False) -> psycopg.AsyncConnection[Any]:
    """Open one autocommit connection, for a command. ConfigError that names user, database and address when it fails.

    ``small`` as of ``service_conninfo``.
    """
    conninfo = service_conninfo(settings, database, small=small)
    try:
        return await _connect(conninfo)
    except psycopg.OperationalError as error:
        address = settings.service.address or ", ".join(str(a) for a in settings.upstream.address)
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"cannot connect as service.user {settings.service.user!r} to database {database!r} at {address}: {reason}"
        ) from None


async def _connect(conninfo: str) -> psycopg.AsyncConnection[Any]:
    """Connect in a task of its own: what is cancelled half-way would stay open for as long as somebody holds the traceback."""
    connecting: asyncio.Task[psycopg.AsyncConnection[Any]] = spawn(
        psycopg.AsyncConnection.connect(conninfo, autocommit=True), "connect"
    )
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.cancel()
        await asyncio.wait([connecting])
        if not connecting.cancelled() and connecting.exception() is None:
            await connecting.result().close()
        raise
    finally:
        del connecting  # with it goes what it had opened


def _host_and_port(address: Address) -> tuple[str, str]:
    if not address.path:
        return address.host, str(address.port)
    path = Path(address.path)
    port = path.name.removeprefix(_SOCKET)
    if not path.name.startswith(_SOCKET) or not port.isdigit():
        raise ConfigError(f"{address}: a PostgreSQL socket is named /directory/{_SOCKET}PORT")
    return str(path.parent), port


def _authorities(ca_file: Path | None) -> str:
    if ca_file is not None:
        return str(ca_file)
    # libpq's own "system" asks the OpenSSL inside of the psycopg wheel, whose built-in path is that of its build machine
    own = ssl.get_default_verify_paths().cafile
    return next((c for c in (own, *_BUNDLES) if c is not None and Path(c).is_file()), "system")
