"""Definitions as an application writes them, brought into physical form by what does so for those that come through the proxy."""

from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import CatalogNeeded, PhiproxyError
from phiproxy.jobs.relations import Connection
from phiproxy.jobs.sealed_values import TenantValues
from phiproxy.net.catalog_reader import read_catalog
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.policy.bind import bind
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_states import as_if_sealed
from phiproxy.policy.model import Policy
from phiproxy.policy.physical_columns import hidden_name
from phiproxy.policy.protection import ColumnName, Protection
from phiproxy.policy.registry_layout import Layout

PATH = ("pg_catalog",)
"""All that the server prints is qualified, but what is its own."""


class Converter(Protocol):
    """What makes of a definition, as the server prints it before a switch, the one that it is to have afterwards."""

    def refusal(self, text: str) -> PhiproxyError | None:
        """Return why there is no such definition, or None."""

    async def definition(self, text: str) -> str:
        """Return the definition; PhiproxyError."""


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

    def learn_view(self, oid: int, query: str) -> None:
        """Take the stored query of a view over for one that it will have: what reads the view is understood by that."""
        self._catalog = replace(self._catalog, views={**self._catalog.views, oid: query})
        self._planner = Planner(self._protection, self._catalog, self._planner.ciphers, self._engine)

    def seals(self, text: str) -> bool:
        """Tell whether something of a definition is sealed; PhiproxyError."""
        return not isinstance(self._planner.analysed(text.encode(), (), self._view), StatementPlan)

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
        analysed = self._planner.analysed(text.encode(), (), self._view)
        if self._values is None:
            return self._planner.completed(text.encode(), analysed, (), self._view).sql.decode()
        plan = await self._values.do(lambda: self._planner.completed(text.encode(), analysed, (), self._view))
        return plan.sql.decode()


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
