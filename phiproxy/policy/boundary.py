"""Where protection ends: what is sealed and the policy does not list, and what is named like something protected and is not.

What is sealed decides, not only what the policy says. The guard of a column holds the number of its identity and goes with it
wherever it is renamed, moved or detached to; the registry knows the columns that were ever protected. Either of them, not listed
and not ``released``, makes its table refused. So does a name that takes a protected table's place on somebody's search path
(``"$user"``, staging copies), until the policy says ``clear: true``. All of it is decided when policy and catalogue meet.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.column_states import fields_let_go
from phiproxy.policy.identifiers import quote_ident, split_identifiers, yaml_text
from phiproxy.policy.inheritance import ancestors, inherited_columns
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.protection import Boundary, ColumnName, ProtectedTable, Protection, Refusal
from phiproxy.policy.registry_layout import Layout, column_of

# What stores rows under its own name; a view that reaches something protected is known as that.
_STORES = frozenset("rpf")
# These are the server's own: nobody's search path leads an application's table there.
_SYSTEM = frozenset({"pg_catalog", "information_schema"})


class Sealed(NamedTuple):
    """A column that is sealed and not listed; ``number`` is of the identity that its guard names, None where it has no guard."""

    relation: Relation
    column: str
    number: int | None

    @property
    def label(self) -> str:
        """``schema.table.column`` for messages."""
        return f"{self.relation.qualified}.{self.column}"


def unlisted(listed: Collection[ColumnName], boundary: Boundary, catalog: Catalog) -> list[Sealed]:
    """Return the columns that have a guard, or that the registry knows, and that are neither listed nor released."""
    # Few of many thousand tables are looked at any closer.
    tables = {(r.schema, r.name) for r in catalog.relations if r.guards} | {column_name[:2] for column_name in boundary.registered}
    columns = []
    for relation in [catalog.by_name[table] for table in sorted(tables) if table in catalog.by_name]:
        guards = dict(relation.guards)
        for column in relation.columns:
            column_name = (relation.schema, relation.name, column.name)
            sealed = column.name in guards or (column_name in boundary.registered and relation.kind in _STORES)
            if sealed and column_name not in listed and column_name not in boundary.released:
                columns.append(Sealed(relation, column.name, guards.get(column.name)))
    return columns + _unlisted_fields(listed, boundary, catalog)


def _unlisted_fields(listed: Collection[ColumnName], boundary: Boundary, catalog: Catalog) -> list[Sealed]:
    """Return the fields of documents that are sealed, as the registry knows, and not listed with them: as ``doc$.ssn``."""
    documents = {column_of(name) for name in listed if column_of(name) != name}
    fields = sorted(name for name in boundary.registered if column_of(name) in documents and column_of(name) != name)
    names = [name for name in fields if name not in listed and name not in boundary.released and name[:2] in catalog.by_name]
    return [Sealed(catalog.by_name[name[:2]], name[2], None) for name in names]


def strangers(protection: Protection, catalog: Catalog) -> list[tuple[Relation, str]]:
    """Return the relations that are not protected, not ``clear``, and named as one that is, each with a column that both have.

    Those of the server, of the registry and of sessions (temporary ones, which nobody else can make or see) are none. The parts of
    a protected table are protected themselves (``with_descendants``, which comes first).
    """
    columns: dict[str, set[str]] = {}
    for table in protection.tables:
        columns.setdefault(table.name, set()).update(table.columns)
    relations = []
    for relation in [r for r in catalog.relations if r.name in columns]:
        shared = columns[relation.name]
        table_name = (relation.schema, relation.name)
        if table_name in protection.by_name or table_name in protection.boundary.clear or not _is_common(relation, protection):
            continue
        column = next((c.name for c in relation.columns if c.name in shared), None)
        if column is not None:
            relations.append((relation, column))
    return relations


def _is_common(relation: Relation, protection: Protection) -> bool:
    schema = relation.schema
    return schema not in _SYSTEM and schema != protection.registry_schema and not schema.startswith("pg_temp_")


def with_refused(protection: Protection, catalog: Catalog) -> Protection:
    """Return a protection whose tables are refused that hold what is sealed and not listed, or take a protected table's name."""
    columns = [c for t in protection.tables for column in t.columns.values() for c in column.with_fields]
    listed = {(c.schema, c.table, c.name + c.path) for c in columns}
    refusals: dict[tuple[str, str], Refusal] = {}
    for relation, column in strangers(protection, catalog):
        refusals[relation.schema, relation.name] = _stranger(relation, column)
    for table in protection.tables:
        own = catalog.by_name.get((table.schema, table.name))
        if own is not None and own.unordered:
            refusals[table.schema, table.name] = _unordered(own)
    for sealed in unlisted(listed, protection.boundary, catalog):
        refusals[sealed.relation.schema, sealed.relation.name] = _sealed(sealed)
    if not refusals:
        return protection
    tables = [replace(t, refused=refusals.pop((t.schema, t.name), t.refused)) for t in protection.tables]
    tables += [ProtectedTable(schema, name, {}, refused=refusal) for (schema, name), refusal in refusals.items()]
    return replace(protection, tables=tuple(tables))


def _sealed(sealed: Sealed) -> Refusal:
    what = "holds protected values" if sealed.number is not None else "is registered as protected"
    return Refusal(
        f"{sealed.label} {what}, and the policy does not list it",
        f"List it in the policy (`phiproxy check` says as what), or let it go: {_released(sealed)}; then reload all proxies.",
    )


def _unordered(relation: Relation) -> Refusal:
    return Refusal(
        f"columns of {relation.qualified} were renamed or dropped past phiproxy, so that their order is not known",
        "Comments of the constraints phi_guard_… say in which order clients see the columns: correct them (COMMENT ON CONSTRAINT).",
    )


def _stranger(relation: Relation, column: str) -> Refusal:
    return Refusal(
        f"{relation.qualified} is not protected, and has the name of a protected table and of its column {column}",
        "Qualify the protected table with its schema. Where this one is meant, say so in the policy: "
        + clear_entry(relation.schema, relation.name),
    )


def _key(schema: str, name: str) -> str:
    return yaml_text(f"{quote_ident(schema)}.{quote_ident(name)}")


def clear_entry(schema: str, name: str) -> str:
    """Return what a policy says for a table that is in clear."""
    return f"`tables: {{{_key(schema, name)}: {{clear: true}}}}`"


def _released(sealed: Sealed) -> str:
    column = yaml_text(quote_ident(sealed.column))
    return f"`tables: {{{_key(sealed.relation.schema, sealed.relation.name)}: {{released: [{column}]}}}}`"


def guarded_tables(policy: Policy, layout: Layout) -> set[tuple[str, str]]:
    """Return (schema, table) of all that holds protected values by its name: in the policy, or in the registry and not released.

    Without tables all of whose columns may be in clear yet: one that is sealed has a guard, by which a catalogue knows it. But
    where some roles may see masks only, what reads a table in clear must be known too, to be refused to them.
    """
    let_go = policy.boundary(()).released | layout.clear
    listed = [(c.schema, c.table, c.name) for c in policy.columns()]
    return {name[:2] for name in listed if policy.access is not None or name not in layout.clear} | {
        name[:2] for name in layout.columns if column_of(name) not in let_go
    }


def boundary_complaints(policy: Policy, layout: Layout | None, catalog: Catalog) -> list[str]:
    """Say which columns are sealed and neither listed nor released, each as ``file:line:column: text``.

    One that was renamed behind the proxy is told at the column of the policy that it was. ``layout``: None without a registry.
    """
    columns = policy.columns()
    listed = {each.registered_name for c in (*columns, *inherited_columns(columns, catalog)) for each in c.with_fields()}
    registered = layout.columns.keys() - fields_let_go(policy, layout, catalog) if layout is not None else ()
    boundary = policy.boundary(registered)
    unlisted_columns = [s for s in unlisted(listed, boundary, catalog) if not s.relation.schema.startswith("pg_temp_")]
    own = {(s.relation.oid, s.column) for s in unlisted_columns}
    return [
        _complaint(sealed, policy, columns, layout, catalog)
        for sealed in unlisted_columns
        if not any((parent.oid, sealed.column) in own for parent in ancestors(catalog, sealed.relation))
    ]


def _complaint(sealed: Sealed, policy: Policy, columns: list[PolicyColumn], layout: Layout | None, catalog: Catalog) -> str:
    identity = layout.identities.get(sealed.number) if layout is not None and sealed.number is not None else None
    name = identity.identity if identity is not None else ""
    line = f"id: {name.removeprefix('c:')!r}" if name.startswith("c:") else f"domain: {name.removeprefix('d:')}"
    moved = _moved(sealed, columns, layout, catalog)
    if moved is not None:
        return (
            f"{moved.at}: {moved.label} was renamed to {sealed.label} behind the proxy: rename it in the policy, with `{line}`,"
            " and run `phiproxy keys init`"
        )
    what = "holds protected values" if sealed.number is not None else "is registered as protected"
    table_name = (sealed.relation.schema, sealed.relation.name)
    key = next((key for key in policy.tables if split_identifiers(key) == table_name), None)
    at = policy.at("tables") if key is None else policy.at("tables", key)
    how = f" (with `{line}`)" if identity is not None else ""
    return f"{at}: {sealed.label} {what}, and the policy does not list it: list it{how}, or let it go: {_released(sealed)}"


def _moved(sealed: Sealed, columns: list[PolicyColumn], layout: Layout | None, catalog: Catalog) -> PolicyColumn | None:
    """Return the column of the policy that is gone and whose values these are; None where this name was a protected one itself."""
    if layout is None or sealed.number is None:
        return None
    family = (sealed.relation, *ancestors(catalog, sealed.relation))
    if any((relation.schema, relation.name, sealed.column) in layout.columns for relation in family):
        return None
    those = (c for c in columns if layout.columns.get((c.schema, c.table, c.name)) == sealed.number)
    return next((c for c in those if (r := catalog.by_name.get((c.schema, c.table))) is None or r.column(c.name) is None), None)


def released_guards(policy: Policy, catalog: Catalog) -> Iterator[Sealed]:
    """Yield the columns that are let go and still have their guards: nothing but what is sealed can be stored in them."""
    for schema, table, column in sorted(policy.boundary(()).released):
        relation = catalog.by_name.get((schema, table))
        number = dict(relation.guards).get(column) if relation is not None else None
        if relation is not None and number is not None:
            yield Sealed(relation, column, number)
