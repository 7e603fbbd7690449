"""Which columns a command means that converts some: all that are in clear, or those of tables and columns that were named."""

from collections.abc import Collection, Sequence

from phiproxy.errors import ConfigError
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_states import clear_columns, column_states
from phiproxy.policy.model import Policy
from phiproxy.policy.protection import ColumnName
from phiproxy.policy.registry_layout import Layout, column_of
from phiproxy.wire.oids import BYTEA_OID


def wanted_columns(
    policy: Policy, layout: Layout, catalog: Catalog, names: Collection[str], *, imported: bool = False
) -> list[ColumnName]:
    """Return the columns in clear that are meant: all, or those of tables and columns (``[schema.]table[.column]``).

    Fields of documents that are sealed already are among them (``charts.doc$.ward``): all of a document go at once. ``imported``:
    of any type, as another scheme has left them. ConfigError for a name that means no column of the policy, or one that is sealed
    already.
    """
    documents = {c.registered_name for c in policy.columns() if c.fields}
    columns = {c.registered_name for c in policy.columns()}
    in_clear = {n for n in columns if _is_plain(n, layout, catalog, document=n in documents, imported=imported)}
    fields = {n for n in clear_columns(policy, layout, catalog) - columns if column_of(n) not in in_clear}
    in_clear, every = in_clear | fields, columns | {f.registered_name for c in policy.columns() for f in c.fields}
    if not names:
        return sorted(in_clear)
    chosen: set[ColumnName] = set()
    for name in names:
        meant = {c for c in every if name in _names(c) or name in _names(column_of(c))}
        if not meant:
            raise ConfigError(f"{name}: the policy lists no such table or column")
        if not meant & in_clear:
            raise ConfigError(f"{name} is encrypted already, or does not exist")
        chosen |= meant & in_clear
    of_documents = {column_of(name) for name in chosen & fields}
    return sorted(chosen | {name for name in fields if column_of(name) in of_documents})


def _names(name: ColumnName) -> tuple[str, ...]:
    """Return what a column may be called: by its table, and by its own name, with and without the schema."""
    schema, table, column = name
    return f"{schema}.{table}", table, f"{schema}.{table}.{column}", f"{table}.{column}"


def sealed_columns(policy: Policy, layout: Layout, catalog: Catalog, names: Collection[str]) -> list[ColumnName]:
    """Return the sealed columns that are meant by these names, or fields of documents; ConfigError for a name that means none."""
    states = column_states(policy, layout, catalog)
    chosen: set[ColumnName] = set()
    for name in names:
        columns = {c for c in states if column_of(c) == c and name in _names(c)}
        meant = columns or {c for c in states if name in _names(c)[2:]}
        if not (sealed := {c for c in meant if states[c] in ("sealed", "leaving")}):
            raise ConfigError(f"{name}: the policy lists no such table or column, or it is in clear already")
        chosen |= sealed
    _refuse_whole(policy, chosen, {name for name, state in states.items() if state in ("sealed", "leaving")})
    return sorted(chosen)


def are_fields(names: Sequence[ColumnName]) -> bool:
    """Tell whether what a job is about are fields of documents, which stay sealed with others."""
    return column_of(names[0]) != names[0]


def _refuse_whole(policy: Policy, chosen: Collection[ColumnName], sealed: Collection[ColumnName]) -> None:
    """ConfigError where fields are named beside columns, or so that no field of a document would be left."""
    fields = {name for name in chosen if column_of(name) != name}
    if fields and len(fields) < len(chosen):
        raise ConfigError("fields of documents and columns are decrypted one after the other: name only one kind")
    for column in policy.columns():
        own = {field.registered_name for field in column.fields if field.registered_name in sealed}
        if own and own <= fields and not column.others_sealed:
            raise ConfigError(f"these are all fields of {column.label} that are sealed", hint=f"phiproxy decrypt {column.label}")


def _is_plain(name: ColumnName, layout: Layout, catalog: Catalog, *, document: bool, imported: bool) -> bool:
    relation = catalog.by_name.get(name[:2])
    column = relation.column(name[2]) if relation is not None else None
    if relation is None or column is None or name not in layout.columns:
        return False
    if document:  # which stays jsonb: a sealed one has a guard
        return name[2] not in dict(relation.guards)
    identity = layout.identities[layout.columns[name]]
    may_be_bytea = imported or identity.type_name == "bytea" or name in layout.clear
    return column.type_oid != BYTEA_OID or (may_be_bytea and name[2] not in dict(relation.guards))
