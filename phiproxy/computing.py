"""The engine as the sessions of one served database have it: sessions speak of what plans say, the engine of what it is told.

Beside ``served_database`` the only place where both are known.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import psycopg
import structlog

from phiproxy.engine.access import Access
from phiproxy.engine.computation import Computation
from phiproxy.engine.definitions import DEFINITIONS, Shown, read_definitions
from phiproxy.engine.engine import Database, Engine
from phiproxy.engine.failures import EngineUnavailable
from phiproxy.engine.identity import identity_query, read_identity
from phiproxy.engine.rest import Rest, Session, Values
from phiproxy.engine.source import Column
from phiproxy.engine.starting import running_engine
from phiproxy.errors import PhiproxyError
from phiproxy.net.service_login import connect_service
from phiproxy.plan.split_plan import Computed, EngineFacts
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.model import Policy
from phiproxy.policy.physical_columns import HIDDEN_PREFIX
from phiproxy.policy.settings import Settings
from phiproxy.session.needs import Results

log = structlog.get_logger("phiproxy.engine")
# As ``Split.orders`` calls the collation libraries.
_LIBRARIES = {"default": "", "libc": "libc", "icu": "icu"}


@contextlib.asynccontextmanager
async def running(settings: Settings, policies: Sequence[Policy]) -> AsyncIterator[Access | None]:
    """Give what reaches the engine while this is open; None where it is off, or nothing is protected. A PhiproxyError."""
    if settings.compute.engine == "off" or not policies:
        yield None
        return
    async with await connect_service(settings, policies[0].database) as conn:
        major = conn.info.server_version // 10000
    async with running_engine(settings.compute, major=major) as access:
        yield access


def questions(server_version: int) -> tuple[str, str]:
    """Return what is asked of a database with its catalogue, under search_path = pg_catalog: one row each."""
    return identity_query(server_version), DEFINITIONS


def shown_columns(policy: Policy, catalog: Catalog) -> Shown:
    """Return the columns of each table with protected ones, as clients see them, with the types of those."""
    declared: dict[tuple[str, str], dict[str, str]] = {}
    for column in policy.columns():
        declared.setdefault((column.schema, column.table), {})[column.name] = column.type.name
    relations = {(r.schema, r.name): r for r in catalog.relations}
    return {
        key: {c.name: types.get(c.name, "") for c in relations[key].columns if not c.name.startswith(HIDDEN_PREFIX)}
        for key, types in declared.items()
        if key in relations
    }


class DatabaseComputing:
    """One served database at the engine. ``facts`` is what plans depend on; None where no engine is configured."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.facts = EngineFacts()
        self._engine = engine
        self._name = name
        self._database: Database | None = None
        self._unlike: PhiproxyError | None = None

    async def follow(self, server_version: int, answers: Sequence[tuple[Any, ...]], shown: Shown | None = None) -> None:
        """Go on in a database that is like the server's, which has answered ``questions``; PhiproxyError where it cannot be had.

        ``shown`` are the columns of tables with protected ones.
        """
        identity, (definitions,) = answers
        try:
            wanted = read_definitions(definitions, shown)
            database = await self._engine.database(read_identity(server_version, identity), wanted)
        except (psycopg.Error, OSError):
            self._unlike = EngineUnavailable("the engine is not there", hint="try again")
            raise self._unlike from None
        except PhiproxyError as error:
            self._unlike = error
            raise
        self._unlike = None
        if database is not self._database:
            self._database = database
            compute, differing = self._engine.compute, database.comparison.collations
            differences = {} if compute.accepts_collation_difference else {_LIBRARIES[library]: text for library, text in differing}
            rows = frozenset(one.oid for one in wanted.rows if one.oid not in database.created.missing)
            self.facts = EngineFacts(differences, frozenset(compute.extensions), rows)

    async def describe(self, rest: Computed, settings: Mapping[str, str]) -> list[bytes]:
        """Return the description of a rest (``net.computations.Compute``)."""
        return await self._current.describe(_rest(rest), Session(settings))

    @contextlib.asynccontextmanager
    async def computing(self, rest: Computed, narrowing: str) -> AsyncIterator[Computing]:
        """Give a session of the engine (``net.computations.Compute``)."""
        async with self._current.computing(_rest(rest), narrowing=narrowing) as computation:
            yield Computing(computation)

    @property
    def _current(self) -> Database:
        if self._unlike is not None:
            raise self._unlike
        if self._database is None:
            raise EngineUnavailable("the engine has no database like the server's yet", hint="try again")
        return self._database


class Computing:
    """A rest in a session of the engine (``net.computations.Computation``)."""

    def __init__(self, computation: Computation) -> None:
        self._computation = computation
        self.rows = computation.rows

    @property
    def counted(self) -> int:
        """How many rows it was given."""
        return self._computation.counted

    def settings(self, settings: Mapping[str, str]) -> None:
        """Have the engine's session be like the client's."""
        self._computation.begin(Session(settings))

    def results(self, results: Results) -> AsyncIterator[bytes]:
        """Compute, or go on with it, and yield what the client gets."""
        if results.text:
            return self._computation.also(results.text, results.result_formats)
        if results.suspended:
            return self._computation.more(results.limit)
        return self._computation.results(Values(results.values, results.formats, results.result_formats), results.limit)


def _rest(rest: Computed) -> Rest:
    columns = tuple(Column(column.type.oid, column.typmod, column.collation) for column in rest.columns)
    return Rest(rest.parts, columns, len(rest.oids), rest.oids, rest.stands, rest.held, rest.explained)
