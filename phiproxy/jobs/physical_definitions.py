"""Definitions as an application writes them, brought into physical form by what does so for those that come through the proxy."""

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Protocol

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import CatalogNeeded, PhiproxyError
from phiproxy.jobs.relations import Connection
from phiproxy.jobs.sealed_values import TenantValues
from phiproxy.net.catalog_reader import read_catalog
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.converted_views import computing, with_view
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Analysed, Planner
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.stored_query import PATH, StoredQuery
from phiproxy.policy.bind import bind
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_states import as_if_sealed
from phiproxy.policy.model import Policy
from phiproxy.policy.physical_columns import hidden_name
from phiproxy.policy.protection import ColumnName, Protection
from phiproxy.policy.registry_layout import Layout
from phiproxy.policy.view_rests import sealed_in


class Converter(Protocol):
    """What makes of a definition, as the server prints it before a switch, the one that it is to have afterwards."""

    def refusal(self, text: str) -> PhiproxyError | None:
        """Return why there is no such definition, or None."""

    async def definition(self, text: str) -> str:
        """Return the definition; PhiproxyError."""

    async def view(self, stored: StoredQuery) -> str:
        """Return the statement that makes a view again; PhiproxyError. Those that it reads were asked for before."""


class PhysicalDefinitions:
    """Definitions in physical form: ``ALTER TABLE t ADD CHECK (ssn <> '')`` becomes a constraint that holds a sealed condition.

    Without ``values`` no constants are sealed: KeyNeeded where a definition has some.
    """

    def __init__(
        self,
        protection: Protection,
        catalog: Catalog,
        database: str,
        values: TenantValues | None = None,
        engine: EngineFacts | None = None,
    ) -> None:
        ciphers = values.ciphers if values is not None else Ciphers(Keyring(lambda: 0.0))
        self._protection, self._catalog = protection, catalog
        self._engine = engine
        self._planner = Planner(protection, catalog, ciphers, engine)
        self._view = View(PATH, database, catalog_fresh=True)
        self._values = values

    async def view(self, stored: StoredQuery) -> str:
        """Return CREATE VIEW as the server gets it, and take its query over: what reads the view goes by that; PhiproxyError.

        Without ``values`` something else stands for what is sealed in a view that computes.
        """
        text = stored.statement().encode()
        analysed = await self._analysed_view(text)
        if isinstance(analysed, StatementPlan):
            made = analysed.sql.decode()
        elif self._values is None:
            made = computing(analysed).as_if_sealed()
        else:
            made = await self._completed(text, analysed)
        self._catalog = with_view(self._catalog, self._planner.ciphers, stored, analysed, made)
        self._planner = Planner(self._protection, self._catalog, self._planner.ciphers, self._engine)
        return made

    async def stays(self, text: str) -> bool:
        """Tell whether CREATE VIEW is sent to the server as it is: nothing in it is compared by tags; PhiproxyError."""
        analysed = await self._analysed_view(text.encode())
        return isinstance(analysed, StatementPlan) and analysed.sql.decode() == text

    def computes(self, oid: int) -> bool:
        """Tell whether a view that was asked for computes over protected columns."""
        return not self._catalog.views.get(oid, "") or sealed_in(self._catalog.views[oid]) is not None

    def sealed_columns(self, oid: int) -> frozenset[str]:
        """Return the protected columns of a relation."""
        relation = self._catalog.by_oid.get(oid)
        return frozenset(dict(relation.guards)) if relation is not None else frozenset()

    async def _analysed_view(self, text: bytes) -> Analysed:
        if self._values is not None:  # what it reads may compute
            await self._values.do(lambda: self._planner.open_views(text))
        return self._planner.analysed(text, (), self._view)

    async def _completed(self, text: bytes, analysed: Analysed) -> str:
        work = partial(self._planner.completed, text, analysed, (), self._view)
        return (work() if self._values is None else await self._values.do(work)).sql.decode()

    def refusal(self, text: str) -> PhiproxyError | None:
        """Return why the proxy would refuse a statement, or None."""
        try:
            self._planner.analysed(text.encode(), (), self._view)
        except PhiproxyError as refused:
            return refused
        except CatalogNeeded as needed:  # all that there is was read
            raise AssertionError(f"unread: {sorted(needed.names)}") from None
        return None

    async def definition(self, text: str) -> str:
        """Return the statement as the server gets it, its constants sealed; PhiproxyError."""
        return await self._completed(text.encode(), self._planner.analysed(text.encode(), (), self._view))


async def physical_definitions(
    conn: Connection,
    policy: Policy,
    layout: Layout,
    registry_schema: str,
    values: TenantValues | None = None,
    opened: Collection[ColumnName] = (),
    engine: EngineFacts | None = None,
) -> PhysicalDefinitions:
    """Read all relations, and return what brings definitions over them into physical form; psycopg.Error.

    ``layout`` lets the columns be in clear that are to be sealed; ``opened`` are sealed fields that are to be in clear.
    Without an ``engine`` computed defaults are refused.
    """
    catalog = await read_catalog(conn, {(c.schema, c.table) for c in policy.columns()}, None)
    protection = without_fields(bind(policy, layout, catalog, registry_schema), opened)
    sealed, as_sealed = as_if_sealed(protection, _as_if_unprepared(protection, catalog))
    # Of which tenant is no matter: a constant that is sealed for one of them is refused.
    sealed = sealed.of_tenant("*" if policy.tenant is not None else "")
    return PhysicalDefinitions(sealed, as_sealed, policy.database, values, engine)


def without_fields(protection: Protection, opened: Collection[ColumnName]) -> Protection:
    """Return what will be protected when sealed fields, by their registered names, are in clear."""
    if not opened:
        return protection
    tables = []
    for table in protection.tables:
        columns = {}
        for name, column in table.columns.items():
            document = column.document
            if document is not None:
                paths = zip(document.fields, document.paths, strict=True)
                document = document.without({path for f, path in paths if (f.schema, f.table, f.name + f.path) in opened})
            columns[name] = replace(column, document=document)
        tables.append(replace(table, columns=columns))
    boundary = replace(protection.boundary, registered=protection.boundary.registered - set(opened))
    return replace(protection, tables=tuple(tables), boundary=boundary)


def _as_if_unprepared(protection: Protection, catalog: Catalog) -> Catalog:
    """Return the catalogue without generated columns of columns in clear, which a job has added already, and their indexes."""
    for table in protection.clear:
        relation = catalog.by_name.get((table.schema, table.name))
        if relation is not None:
            tags = {hidden_name(column, slot.number) for column in table.columns.values() for slot in column.slots}
            columns = tuple(c for c in relation.columns if c.name not in tags)
            indexes = tuple(i for i in relation.indexes if not tags.intersection(i.columns))
            without = replace(relation, columns=columns, indexes=indexes)
            catalog = replace(catalog, relations=tuple(without if r is relation else r for r in catalog.relations))
    return catalog
