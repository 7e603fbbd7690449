"""Where protection ends: what is sealed and the policy does not list, and what is named like something protected and is not.

What is sealed decides, not only what the policy says. The guard of a column holds the number of its identity and goes with it
wherever it is renamed, moved or detached to; the registry knows the columns that were ever protected. Either of them, not listed
and not ``released``, makes its table refused. So does a name that takes a protected table's place on somebody's search path
(``"$user"``, staging copies), until the policy says ``clear: true``. All of it is decided when policy and catalogue meet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.inherit import ancestors, inherited_columns
from phiproxy.policy.layout import Layout
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.names import quote_ident, split_identifiers
from phiproxy.policy.protection import Boundary, Place, ProtectedTable, Protection, Refusal

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


def unlisted(listed: Collection[Place], boundary: Boundary, catalog: Catalog) -> list[Sealed]:
    """Return the columns that have a guard, or that the registry knows, and that are neither listed nor released."""
    # Few of many thousand tables are looked at any closer.
    tables = {(r.schema, r.name) for r in catalog.relations if r.guards} | {place[:2] for place in boundary.registered}
    found = []
    for relation in [catalog.by_name[table] for table in sorted(tables) if table in catalog.by_name]:
        guards = dict(relation.guards)
        for column in relation.columns:
            place = (relation.schema, relation.name, column.name)
            sealed = column.name in guards or (place in boundary.registered and relation.kind in _STORES)
            if sealed and place not in listed and place not in boundary.released:
                found.append(Sealed(relation, column.name, guards.get(column.name)))
    return found


def strangers(protection: Protection, catalog: Catalog) -> list[tuple[Relation, str]]:
    """Return the relations that are not protected, not ``clear``, and named as one that is, each with a column that both have.

    Those of the server, of the registry and of sessions (temporary ones, which nobody else can make or see) are none. The parts of
    a protected table are protected themselves (``with_descendants``, which comes first).
    """
    columns: dict[str, set[str]] = {}
    for table in protection.tables:
        columns.setdefault(table.name, set()).update(table.columns)
    found = []
    for relation in [r for r in catalog.relations if r.name in columns]:
        shared = columns[relation.name]
        place = (relation.schema, relation.name)
        if place in protection.by_name or place in protection.boundary.clear or not _is_common(relation, protection):
            continue
        column = next((c.name for c in relation.columns if c.name in shared), None)
        if column is not None:
            found.append((relation, column))
    return found


def _is_common(relation: Relation, protection: Protection) -> bool:
    schema = relation.schema
    return schema not in _SYSTEM and schema != protection.registry_schema and not schema.startswith("pg_temp_")


def with_refused(protection: Protection, catalog: Catalog) -> Protection:
    """Return a protection whose tables are refused that hold what is sealed and not listed, or take a protected table's name."""
    listed = {(t.schema, t.name, column) for t in protection.tables for column in t.columns}
    refusals: dict[tuple[str, str], Refusal] = {}
    for relation, column in strangers(protection, catalog):
        refusals[relation.schema, relation.name] = _stranger(relation, column)
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


def _stranger(relation: Relation, column: str) -> Refusal:
    return Refusal(
        f"{relation.qualified} is not protected, and has the name of a protected table and of its column {column}",
        "Qualify the protected table with its schema. Where this one is meant, say so in the policy: "
        + clear_entry(relation.schema, relation.name),
    )


def _key(schema: str, name: str) -> str:
    return f"{quote_ident(schema)}.{quote_ident(name)}"


def clear_entry(schema: str, name: str) -> str:
    """Return what a policy says for a table that is in clear."""
    return f"`tables: {{{_key(schema, name)}: {{clear: true}}}}`"


def _released(sealed: Sealed) -> str:
    return f"`tables: {{{_key(sealed.relation.schema, sealed.relation.name)}: {{released: [{quote_ident(sealed.column)}]}}}}`"


def guarded_tables(policy: Policy, layout: Layout) -> set[tuple[str, str]]:
    """Return (schema, table) of all that holds protected values by its name: in the policy, or in the registry and not released."""
    released = policy.boundary(()).released
    return {(c.schema, c.table) for c in policy.columns()} | {place[:2] for place in layout.columns if place not in released}


def boundary_complaints(policy: Policy, layout: Layout | None, catalog: Catalog) -> list[str]:
    """Say which columns are sealed and neither listed nor released, each as ``file:line:column: text``.

    One that was renamed behind the proxy is told at the column of the policy that it was. ``layout``: None without a registry.
    """
    columns = policy.columns()
    listed = {(c.schema, c.table, c.name) for c in (*columns, *inherited_columns(columns, catalog))}
    boundary = policy.boundary(layout.columns if layout is not None else ())
    found = [s for s in unlisted(listed, boundary, catalog) if not s.relation.schema.startswith("pg_temp_")]
    own = {(s.relation.oid, s.column) for s in found}
    return [
        _complaint(sealed, policy, columns, layout, catalog)
        for sealed in found
        if not any((parent.oid, sealed.column) in own for parent in ancestors(catalog, sealed.relation))
    ]


def _complaint(sealed: Sealed, policy: Policy, columns: list[PolicyColumn], layout: Layout | None, catalog: Catalog) -> str:
    known = layout.identities.get(sealed.number) if layout is not None and sealed.number is not None else None
    name = known.identity if known is not None else ""
    line = f"id: {name.removeprefix('c:')!r}" if name.startswith("c:") else f"domain: {name.removeprefix('d:')}"
    moved = _moved(sealed, columns, layout, catalog)
    if moved is not None:
        return (
            f"{moved.at}: {moved.label} was renamed to {sealed.label} behind the proxy: rename it in the policy, with `{line}`,"
            " and run `phiproxy keys init`"
        )
    what = "holds protected values" if sealed.number is not None else "is registered as protected"
    place = (sealed.relation.schema, sealed.relation.name)
    key = next((key for key in policy.tables if split_identifiers(key) == place), None)
    at = policy.at("tables") if key is None else policy.at("tables", key)
    how = f" (with `{line}`)" if known is not None else ""
    return f"{at}: {sealed.label} {what}, and the policy does not list it: list it{how}, or let it go: {_released(sealed)}"


def _moved(sealed: Sealed, columns: list[PolicyColumn], layout: Layout | None, catalog: Catalog) -> PolicyColumn | None:
    """Return the column of the policy that is gone and whose values these are; None where this name was a protected one itself."""
    if layout is None or sealed.number is None:
        return None
    family = (sealed.relation, *ancestors(catalog, sealed.relation))
    if any((relation.schema, relation.name, sealed.column) in layout.columns for relation in family):
        return None
    return next((c for c in columns if _is_gone(c, catalog) and _number(c, layout) == sealed.number), None)


def _is_gone(column: PolicyColumn, catalog: Catalog) -> bool:
    relation = catalog.by_name.get((column.schema, column.table))
    return relation is None or relation.column(column.name) is None


def _number(column: PolicyColumn, layout: Layout) -> int | None:
    return layout.columns.get((column.schema, column.table, column.name))


def released_guards(policy: Policy, catalog: Catalog) -> Iterator[Sealed]:
    """Yield the columns that are let go and still have their guards: nothing but what is sealed can be stored in them."""
    for schema, table, column in sorted(policy.boundary(()).released):
        relation = catalog.by_name.get((schema, table))
        number = dict(relation.guards).get(column) if relation is not None else None
        if relation is not None and number is not None:
            yield Sealed(relation, column, number)
