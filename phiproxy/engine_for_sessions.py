"""The engine as the sessions of one served database have it: sessions speak of what plans say, the engine of what it is told.

Beside ``served_database`` the only place where both are known.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import structlog

from phiproxy.engine.access import Access
from phiproxy.engine.computation import Computation
from phiproxy.engine.definitions import DEFINITIONS, Definitions, TypeDefinition, read_definitions, row_type
from phiproxy.engine.engine import Database, Engine
from phiproxy.engine.failures import EngineUnavailable
from phiproxy.engine.identity import Identity, identity_query, read_identity
from phiproxy.engine.rest import Rest, Session, Values
from phiproxy.engine.rows_into_engine import Column
from phiproxy.engine.starting import running_engine
from phiproxy.errors import PhiproxyError, StatementRefused
from phiproxy.net.service_login import connect_service
from phiproxy.plan.split_plan import Computed, EngineFacts
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings
from phiproxy.session.needs import Results
from phiproxy.sql.result import RowType

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


class DatabaseComputing:
    """One served database at the engine. ``facts`` is what plans depend on; None where no engine is configured."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.facts = EngineFacts()
        self._engine = engine
        self._name = name
        self._database: Database | None = None
        self._unlike: PhiproxyError | None = None
        self._like: tuple[Identity, Definitions] | None = None
        self._rows: dict[int, RowType] = {}
        self._with_rows: Database | None = None

    async def follow(self, server_version: int, answers: Sequence[tuple[Any, ...]]) -> None:
        """Go on in a database that is like the server's, which has answered ``questions``; PhiproxyError where it cannot be had."""
        identity, (definitions,) = answers
        try:
            self._like = read_identity(server_version, identity), read_definitions(definitions)
            database = await self._engine.database(*self._like)
        except (psycopg.Error, OSError):
            self._unlike = EngineUnavailable("the engine is not there", hint="try again")
            raise self._unlike from None
        except PhiproxyError as error:
            self._unlike = error
            raise
        self._unlike = None
        if database is not self._database:
            self._database, self._rows, self._with_rows = database, {}, None
            compute, differing = self._engine.compute, database.comparison.collations
            differences = {} if compute.accepts_collation_difference else {_LIBRARIES[library]: text for library, text in differing}
            self.facts = EngineFacts(differences, frozenset(compute.extensions))

    async def describe(self, rest: Computed, settings: Mapping[str, str]) -> list[bytes]:
        """Return the description of a rest (``net.session_computations.Compute``)."""
        database = await self._having(rest.row_types)
        return await database.describe(_rest(rest), Session(settings))

    @contextlib.asynccontextmanager
    async def computing(self, rest: Computed, narrowing: str) -> AsyncIterator[Computing]:
        """Give a session of the engine (``net.session_computations.Compute``)."""
        database = await self._having(rest.row_types)
        async with database.computing(_rest(rest), narrowing=narrowing) as computation:
            yield Computing(computation)

    async def _having(self, wanted: frozenset[RowType]) -> Database:
        """Return a database that has these types of rows, and those that were asked for before; a PhiproxyError.

        Few statements need any, and of few tables: so none is made before a statement needs it.
        """
        current = self._current
        lacking = [one for one in wanted if self._rows.get(one.oid) != one]
        if not wanted:
            return current
        if self._with_rows is None or lacking:
            assert self._like is not None
            identity, definitions = self._like
            named = {(one.schema, one.name) for one in wanted}
            others = (one for one in self._rows.values() if one.oid in definitions.arrays and (one.schema, one.name) not in named)
            rows = {one.oid: one for one in (*others, *wanted)}
            try:
                made = [await _definition(current, definitions, rows[oid]) for oid in sorted(rows)]
                database = await self._engine.database(identity, replace(definitions, rows=tuple(made)))
            except (psycopg.Error, OSError):
                raise EngineUnavailable("the engine is not there", hint="try again") from None
            if current is not self._database:  # another one was taken meanwhile
                return database
            self._rows, self._with_rows = rows, database
        for one in wanted:
            if one.oid in self._with_rows.created.missing:
                raise _lacks(one)
        return self._with_rows

    @property
    def _current(self) -> Database:
        if self._unlike is not None:
            raise self._unlike
        if self._database is None:
            raise EngineUnavailable("the engine has no database like the server's yet", hint="try again")
        return self._database


class Computing:
    """A rest in a session of the engine (``net.session_computations.Computation``)."""

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
        if results.portal is not None:
            return self._computation.also(results.text, results.result_formats, results.portal, results.limit)
        if results.suspended:
            return self._computation.more(results.limit)
        values = Values(results.values, results.formats, results.result_formats, results.described)
        return self._computation.results(values, results.limit)


async def _definition(database: Database, definitions: Definitions, row: RowType) -> TypeDefinition:
    """Return the type of the rows of a table or view; StatementRefused where the engine cannot have it."""
    types = await database.types(tuple(Column(one.type.oid, one.typmod, one.collation) for _, one in row.columns))
    array = definitions.arrays.get(row.oid)
    if array is None:
        raise _lacks(row)  # the table is newer than what is known of the types
    columns = ((name, type_.name, one.collation) for (name, one), type_ in zip(row.columns, types, strict=True))
    return row_type(row.oid, array, (row.schema, row.name), columns)


def _lacks(row: RowType) -> StatementRefused:
    hint = "Show the columns of the row, or to_jsonb(…) of it."
    return StatementRefused(f"the engine does not have the type of the rows of {row.schema}.{row.name}", hint=hint)


def _rest(rest: Computed) -> Rest:
    columns = tuple(Column(column.type.oid, column.typmod, column.collation) for column in rest.columns)
    return Rest(rest.parts, columns, len(rest.oids), rest.oids, rest.stands, rest.held, rest.explained)
