"""In which state each column of the policy is: in clear, being filled, sealed, or on its way out. Read, never assumed.

A column may be in clear only where the key registry says so (``Layout.clear``, which is authenticated); what is in clear then, the
catalogue says. All else is sealed, and a table that does not look so is refused. While a column is in clear its statements pass as
they come; what would become of them is asked of ``as_if_sealed``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.inheritance import descendants
from phiproxy.policy.model import Policy
from phiproxy.policy.physical_columns import shadow_name
from phiproxy.policy.protection import ColumnName, ProtectedColumn, ProtectedTable, Protection
from phiproxy.policy.registry_layout import Layout, column_of
from phiproxy.wire.oids import BYTEA_OID

ColumnState = Literal["planned", "clear", "filling", "sealed", "leaving"]
"""``planned``: a migration will make it. ``filling`` and ``leaving`` have a hidden column beside them, which a job fills."""


def column_states(policy: Policy, layout: Layout, catalog: Catalog) -> dict[ColumnName, ColumnState]:
    """Return the state of each column of a policy, and of each field, by the catalogue and what the registry lets be in clear.

    A field is in clear with its document, or by itself, in a document that was sealed before the policy listed it.
    """
    states: dict[ColumnName, ColumnState] = {}
    for column in policy.columns():
        name = column.registered_name
        states[name] = _state(name, layout, catalog, document=bool(column.fields))
        fields = [field.registered_name for field in column.fields]
        states.update((field, _field_state(field, states[name], fields, layout, catalog)) for field in fields)
    return states


def clear_columns(policy: Policy, layout: Layout, catalog: Catalog) -> frozenset[ColumnName]:
    """Return the columns of a policy whose values are in clear, and fields of documents."""
    states = column_states(policy, layout, catalog)
    return frozenset(name for name, state in states.items() if state in ("clear", "filling"))


def clear_fields(policy: Policy, layout: Layout, catalog: Catalog) -> frozenset[ColumnName]:
    """Return the fields that are in clear in documents that are sealed."""
    in_clear = clear_columns(policy, layout, catalog)
    return frozenset(name for name in in_clear if column_of(name) not in in_clear)


def fields_let_go(policy: Policy, layout: Layout, catalog: Catalog) -> frozenset[ColumnName]:
    """Return the fields that were opened again for good, and that the policy lists no longer."""
    columns = {c.registered_name: [f.registered_name for f in c.fields] for c in policy.columns() if c.fields}
    unlisted = [name for name in layout.clear if (column := column_of(name)) in columns and name not in (column, *columns[column])]
    there = [name for name in unlisted if name[:2] in catalog.by_name]
    return frozenset(name for name in there if not _is_guarded(name, columns[column_of(name)], layout, catalog))


def _field_state(
    name: ColumnName, document: ColumnState, fields: Sequence[ColumnName], layout: Layout, catalog: Catalog
) -> ColumnState:
    """Return the state of a field of a document in a state: in a sealed one it is in clear where the guard does not ask for it."""
    if document not in ("sealed", "leaving") or name not in layout.clear or _is_guarded(name, fields, layout, catalog):
        return document
    return "filling" if document == "leaving" else "clear"


def _is_guarded(name: ColumnName, fields: Sequence[ColumnName], layout: Layout, catalog: Catalog) -> bool:
    number = layout.columns.get(name)
    asked = dict(catalog.by_name[name[:2]].guarded_fields).get(column_of(name)[2], ())
    sealed = [field for field in fields if field not in layout.clear and layout.columns.get(field) == number]
    return number is None or asked.count(number) > len(sealed)


def _state(name: ColumnName, layout: Layout, catalog: Catalog, *, document: bool) -> ColumnState:
    relation = catalog.by_name.get(name[:2])
    column = relation.column(name[2]) if relation is not None else None
    if relation is None or column is None:
        return "planned"
    beside = relation.column(shadow_name(name[2])) is not None
    # What is bytea in clear (declared so, or encrypted by another scheme) is told from a sealed column by its guard.
    # So is a document with sealed fields, which stays jsonb.
    guarded = name[2] in dict(relation.guards)
    plain = not guarded if document else column.type_oid != BYTEA_OID or not guarded
    if name in layout.clear and plain:
        return "filling" if beside else "clear"
    return "leaving" if beside and (guarded if document else column.type_oid == BYTEA_OID) else "sealed"


def sealed_meanwhile(policy: Policy, layout: Layout, catalog: Catalog) -> list[ColumnName]:
    """Return the columns that may still be in clear by the registry and are sealed: it has to forget that they may."""
    states = column_states(policy, layout, catalog)
    return sorted(name for name in layout.clear if states.get(name) in ("sealed", "leaving"))


def as_if_sealed(protection: Protection, catalog: Catalog) -> tuple[Protection, Catalog]:
    """Return protection and catalogue as they will be when all columns that are in clear are sealed, and all their indexes answer.

    For analysis only: nothing is sent to a server by it.
    """
    tables: dict[tuple[str, str], ProtectedTable] = {(t.schema, t.name): t for t in protection.tables}
    sealed: dict[int, dict[str, int]] = {}
    for table in protection.clear:
        before = tables.get((table.schema, table.name))
        there = before.columns if before is not None else {}
        columns = {name: _answering(column, there.get(name)) for name, column in table.columns.items()}
        become = {name: column.stored_oid for name, column in columns.items()}
        tables[table.schema, table.name] = replace(table, columns={**there, **columns})
        for relation in _family(catalog, table):
            sealed.setdefault(relation.oid, {}).update(become)
    relations = tuple(_with_sealed(r, sealed[r.oid]) if r.oid in sealed else r for r in catalog.relations)
    shown = tuple(replace(table, hides=False) for table in tables.values())
    return replace(protection, tables=shown, clear=()), replace(catalog, relations=relations)


def _answering(column: ProtectedColumn, sealed: ProtectedColumn | None = None) -> ProtectedColumn:
    """Return a column whose indexes all answer; of a document that is ``sealed`` but for some fields those of these."""
    slots = (replace(slot, state="active") if slot.state in ("building", "ready") else slot for slot in column.slots)
    document = column.document
    if document is not None:
        before = {field.path for field in sealed.with_fields} if sealed is not None else set()
        fields = (field if field.path in before else _answering(field) for field in document.fields)
        document = replace(document, fields=tuple(fields))
    return replace(column, slots=tuple(slots), document=document)


def _family(catalog: Catalog, table: ProtectedTable) -> Iterator[Relation]:
    relation = catalog.by_name.get((table.schema, table.name))
    if relation is not None:
        yield relation
        yield from descendants(catalog, relation)


def _with_sealed(relation: Relation, types: Mapping[str, int]) -> Relation:
    shadows = {shadow_name(name) for name in types}
    columns = tuple(
        replace(c, type_oid=types[c.name], typmod=-1, has_default=False, default=None) if c.name in types else c
        for c in relation.columns
        if c.name not in shadows
    )
    return replace(relation, columns=columns)
