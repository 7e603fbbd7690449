"""The columns that hold sealed values, by relation: what the registry knows, whether a policy still lists it or not.

A document with sealed fields is one of them: its fields are sealed under keys of its table's scope, as it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from psycopg import sql

from phiproxy.jobs.relations import Connection, Identifier, Part, family_of, rows_of
from phiproxy.policy.model import Policy
from phiproxy.policy.physical_columns import hidden_beside
from phiproxy.policy.registry_layout import Layout, RegisteredIdentity, column_of
from phiproxy.wire.oids import BYTEA_OID, JSONB_OID

ColumnName = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """One column of one relation whose values are sealed. ``pad`` is what the policy says; None where it lists no such column.

    ``fields`` are those of a document, which stays jsonb; ``path`` is that of such a field, as it is spelled.
    """

    name: str
    identity: RegisteredIdentity
    pad: int | None
    fields: tuple["StoredColumn", ...] = ()
    path: str = ""

    @property
    def stored_oid(self) -> int:
        """The type that it has on the server."""
        return JSONB_OID if self.fields else BYTEA_OID

    @property
    def sql(self) -> sql.Composed:
        """The column of the row ``t``."""
        return sql.SQL("t.{}").format(Identifier(self.name))


Stored = list[tuple[Part, list[StoredColumn]]]
"""Relations with their columns that hold sealed values, in the order of their names."""


async def stored_columns(conn: Connection, policy: Policy, layout: Layout, names: Iterable[ColumnName]) -> Stored:
    """Return the relations that registered columns are in: with partitions and children, and partitioned tables themselves.

    Of a column that is being converted the hidden ones beside it are among them.
    """
    pads = {c.registered_name: c.pad for c in policy.columns_and_fields()}
    documents = {column_of(name) for name in layout.columns if column_of(name) != name}
    by_part: dict[tuple[str, str], tuple[Part, dict[str, StoredColumn]]] = {}
    for schema, table, name in sorted(name for name in names if column_of(name) == name):
        if (schema, table, name) in documents:
            fields = _fields(layout, (schema, table, name), pads)
            identity = layout.identities[layout.columns[schema, table, name]]
            for part in await family_of(conn, (schema, table)):
                _, columns = by_part.setdefault(part.name, (part, {}))
                for each in (name, *hidden_beside(name)):
                    columns.setdefault(each, StoredColumn(each, identity, None, fields))
            continue
        identity = layout.identities[layout.columns[schema, table, name]]
        for part in await family_of(conn, (schema, table)):
            _, columns = by_part.setdefault(part.name, (part, {}))
            for each in (name, *hidden_beside(name)):
                columns.setdefault(each, StoredColumn(each, identity, pads.get((schema, table, name))))
    stored = []
    for _, (part, columns) in sorted(by_part.items()):
        types = await _types(conn, part)
        if own := [column for column in columns.values() if types.get(column.name) == column.stored_oid]:
            stored.append((part, own))
    return stored


def _fields(layout: Layout, document: ColumnName, pads: Mapping[ColumnName, int | None]) -> tuple[StoredColumn, ...]:
    return tuple(
        StoredColumn(document[2], layout.identities[number], pads.get(name), path=name[2].removeprefix(document[2]))
        for name, number in sorted(layout.columns.items())
        if name != document and column_of(name) == document
    )


async def _types(conn: Connection, part: Part) -> dict[str, int]:
    """Return the columns of a relation with their types: one that is yet to be converted holds plaintext."""
    query = "SELECT attname, atttypid FROM pg_catalog.pg_attribute WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped"
    return dict(await rows_of(conn, query, part.oid))


def of_scopes(layout: Layout, scopes: Iterable[str]) -> list[ColumnName]:
    """Return the registered columns whose keys are of these scopes, and fields of documents among them."""
    wanted = set(scopes)
    return sorted(name for name, number in layout.columns.items() if layout.identities[number].scope in wanted)
