"""What the commands share: the configuration, a connection per database, and how results are printed."""

import json
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
from rich.console import Console
from rich.table import Table

from phiproxy.database_keys import keks_of
from phiproxy.errors import ConfigError, NotAuthentic, PhiproxyError, ProviderDenied, ProviderMisconfigured
from phiproxy.keys import open_provider
from phiproxy.keys.fips import require_fips
from phiproxy.keys.layout_rows import read_layout
from phiproxy.keys.open_registry import trusted
from phiproxy.keys.registry import Registry
from phiproxy.keys.registry_locks import be_patient, holders, is_of_lock
from phiproxy.keys.tenant_keks import Kek
from phiproxy.net.catalog_reader import read_catalog
from phiproxy.net.service_login import connect_service, service_pool
from phiproxy.net.tls import offered_suites
from phiproxy.policy.boundary import guarded_tables
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.load import load_settings
from phiproxy.policy.model import Policy
from phiproxy.policy.registry_layout import Layout
from phiproxy.policy.setting_values import read_secret
from phiproxy.policy.settings import Settings
from phiproxy.sql.policy_files import load_policies

C = TypeVar("C", bound=Kek)
Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Configuration:
    """phiproxy.yaml and the policies that it names."""

    settings: Settings
    policies: tuple[Policy, ...]

    def policy_of(self, database: str | None) -> Policy:
        """Return the policy of this database, or the only one; ConfigError when there is no such choice."""
        policies = [p for p in self.policies if database in (None, p.database)]
        if len(policies) == 1:
            return policies[0]
        names = ", ".join(p.database for p in self.policies) or "none"
        if database is None:
            raise ConfigError(f"which database? name one with --database (policies are there for: {names})")
        raise ConfigError(f"no policy for database {database!r} (policies are there for: {names})")


def read_settings(path: Path) -> Settings:
    """Read phiproxy.yaml; ConfigError with every complaint, and where ``keys.fips`` is required and not so."""
    settings = load_settings(path)
    if settings.keys.fips == "required":
        require_fips(settings.kek_uri)  # before a file that may not be there, or is wrong, is read
        tenants = (policy.tenant for policy in load_policies(settings) if policy.tenant is not None)
        keks = [kek for tenant in tenants for kek in tenant.keks.values()]
        require_fips(*keks, suites=offered_suites(settings.tls, settings.upstream))
    return settings


def load(path: Path) -> Configuration:
    """Read the configuration and all its policies; ConfigError with every complaint, and when there is no policy."""
    settings = read_settings(path)
    policies = load_policies(settings)
    if not policies:
        raise ConfigError(f"{path}: `policies` names no file: nothing is protected")
    return Configuration(settings, tuple(policies))


@asynccontextmanager
async def closing(opened: C) -> AsyncIterator[C]:
    """Close a provider at the end."""
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def opened_kek(settings: Settings, policy: Policy) -> AsyncIterator[Kek]:
    """Open the KEK of a policy's root keys, and those of tenants that have their own; closed at the end."""
    async with closing(await keks_of(settings, policy, await open_provider(settings.kek_uri, read_secret))) as kek:
        yield kek


@asynccontextmanager
async def opened_registry(
    settings: Settings, policy: Policy, kek: Kek, older: Kek | None = None, *, patient: bool = False
) -> AsyncIterator[Registry]:
    """Open a policy's registry, verified; ``older``: the KEK that the registry key may still be under. Raises as of ``trusted``.

    ``patient``: a lock that somebody has on it is waited for as ``be_patient`` says, else as the role's own settings do.
    """
    async with database(settings, policy) as conn:
        if patient:
            await be_patient(conn)
        try:
            trust = await trusted(conn, settings, policy, kek)
        except (ProviderDenied, ProviderMisconfigured) as error:
            if older is None or isinstance(error, NotAuthentic):
                raise
            trust = await trusted(conn, settings, policy, older)
    async with service_pool(settings, policy.database, configure=be_patient if patient else None) as pool:
        yield Registry(pool, trust)


@asynccontextmanager
async def database(settings: Settings, policy: Policy) -> AsyncIterator[Connection]:
    """Connect as the service role; what the server refuses in between is a ConfigError without its detail."""
    async with await connect_service(settings, policy.database) as conn:
        try:
            yield conn
        except psycopg.Error as error:
            raise ConfigError(database_error(policy.database, error)) from None


@asynccontextmanager
async def locks_told(settings: Settings, policy: Policy, hint: str) -> AsyncIterator[None]:
    """Have a lock that was waited for in vain be told with whose it is, where it is one on the registry: ConfigError."""
    try:
        yield
    except (psycopg.Error, PhiproxyError) as error:
        if not is_of_lock(error):
            raise
        text = error.message if isinstance(error, PhiproxyError) else database_error(policy.database, error)
        async with database(settings, policy) as conn:
            who = await holders(conn, settings.service.schema_)
        raise ConfigError(text + (f": {who} has the key registry locked" if who else ""), hint=hint) from None


@asynccontextmanager
async def patient_database(settings: Settings, policy: Policy) -> AsyncIterator[Connection]:
    """Connect as ``database`` does, for a command that changes the registry: locks are waited for as ``be_patient`` says."""
    async with (
        locks_told(settings, policy, "of a lock that another session keeps, pg_locks shows whose it is; nothing was changed"),
        database(settings, policy) as conn,
    ):
        await be_patient(conn)
        yield conn


_OF_VALUES: Final = ("22", "P0")
"""Classes of errors: of data, and of what functions of the application raise."""
_OF_ENCODINGS: Final = {
    "22021": "a stored text is not of the encoding that the database says it is of, or of none where that is SQL_ASCII",
    "22P05": "a text has a character that the database's encoding does not have, or UTF8 does not",
}


def database_error(name: str, error: psycopg.Error) -> str:
    """Return one line: the server's primary message, which names objects, never its DETAIL, which may quote a row.

    Of a value that something cannot be done with the message itself may be: ``invalid input syntax for type date: "…"``.
    """
    text = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    if (error.sqlstate or "")[:2] in _OF_VALUES:
        text = _OF_ENCODINGS.get(error.sqlstate or "", f"{type(error).__name__}, of which the server's words may quote a value")
    return f"database {name!r}: {text}" + (f" (SQLSTATE {error.sqlstate})" if error.sqlstate else "")


async def survey(settings: Settings, policy: Policy, conn: Connection) -> tuple[Layout, Catalog]:
    """Read registry and catalogue of one database; ConfigError when there is no registry."""
    layout = await read_layout(conn, settings.service.schema_)
    catalog = await read_catalog(conn, guarded_tables(policy, layout), layout.table_names)
    return layout, catalog


async def existing_layout(conn: Connection, schema: str) -> Layout | None:
    """Return the layout, or None without a registry; what else is wrong with it whoever uses it says better."""
    try:
        return await read_layout(conn, schema)
    except ConfigError:
        return None


def busy(text: str) -> AbstractContextManager[object]:
    """Show that something long is going on, on standard error and only on a terminal."""
    return Console(stderr=True).status(text) if sys.stderr.isatty() else nullcontext()


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on standard output, as wide as the terminal; a pipe gets whole lines."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # a name is text, never markup
        table.add_row(*(str(cell).replace("[", "\\[") for cell in row))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    console.print(table)


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
