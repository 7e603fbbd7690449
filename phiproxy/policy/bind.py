"""Join policy, registry and live catalogue into a Protection, or say all that does not fit, with the place in the policy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from phiproxy.errors import ConfigError
from phiproxy.index.characters import ASCII, Characters
from phiproxy.index.collations import characters_of
from phiproxy.index.transform import transform
from phiproxy.policy.boundary import boundary_complaints
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.inherit import family_complaints
from phiproxy.policy.layout import Layout, RegisteredIdentity
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.owntypes import NoSuchType, Types, resolved, same_name
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, ProtectedTable, Protection, Slot
from phiproxy.policy.types import BYTEA_OID, by_oid
from phiproxy.types.names import sql_name

_INIT = "run `phiproxy keys init`"


def bind(policy: Policy, layout: Layout, catalog: Catalog, registry_schema: str) -> Protection:
    """Return what is protected, by name, with the registry's numbers and the declared types.

    ConfigError with one line per complaint: a column that is not ``bytea``, is not registered, was renamed behind the proxy, or is
    of another identity or type than the registry says; one that is sealed and not listed (``boundary``); a table that this version
    does not protect. What is registered and does not exist is protected by its name: a migration will make it.
    """
    characters = characters_of(layout.collation, catalog.collation)
    protection, complaints = _assemble(policy, layout, registry_schema, catalog.types, characters)
    columns = policy.columns()
    complaints += [c for column in columns for c in _column_complaints(column, layout, catalog)]
    complaints += _table_complaints(columns, catalog) + type_complaints(policy, catalog)
    complaints += _identity_complaints(columns, layout, catalog) + boundary_complaints(policy, layout, catalog)
    return _checked(protection, complaints)


def assemble(policy: Policy, layout: Layout, registry_schema: str, types: Types = ()) -> Protection:
    """Return what ``bind`` does without a look at the tables: for ``ddl``, which is about to make the columns so.

    ConfigError with one line per column that the registry does not know as the policy has it.
    """
    return _checked(*_assemble(policy, layout, registry_schema, types))


def table_complaints(policy: Policy, layout: Layout | None, catalog: Catalog) -> list[str]:
    """Say which tables are not in this version, or do not exist and are not registered, each as ``file:line:column: text``."""
    columns = policy.columns()
    missing = [
        c
        for column in columns
        if layout is None or (column.schema, column.table, column.name) not in layout.columns
        for c in _existence_complaints(column, catalog)
    ]
    return missing + _table_complaints(columns, catalog) + type_complaints(policy, catalog)


def type_complaints(policy: Policy, catalog: Catalog) -> list[str]:
    """Say which types of the database's own are not there or cannot be protected; one that a migration makes may come later."""
    complaints = []
    for column in policy.columns():
        try:
            resolved(column.type, catalog.types)
        except NoSuchType as error:
            complaints += [f"{column.at}: {column.label}: {error.message}"] if not _existence_complaints(column, catalog) else []
        except ConfigError as error:
            complaints.append(f"{column.at}: {column.label}: {error.message}")
    return complaints


def _checked(protection: Protection, complaints: Iterable[str]) -> Protection:
    lines = list(dict.fromkeys(complaints))
    if lines:
        raise ConfigError("\n".join(lines))
    return protection


def _assemble(
    policy: Policy, layout: Layout, registry_schema: str, types: Types, characters: Characters = ASCII
) -> tuple[Protection, list[str]]:
    complaints: list[str] = []
    if policy.deployment != layout.deployment:
        complaints.append(
            f"{policy.at('deployment')}: the registry of this database belongs to deployment {layout.deployment!r}, "
            f"not to {policy.deployment!r}"
        )
    by_identity = {i.identity: i for i in layout.identities.values()}
    tables: dict[tuple[str, str], dict[str, ProtectedColumn]] = {}
    for column in policy.columns():
        registered = by_identity.get(column.identity)
        if (column.schema, column.table, column.name) in layout.distrusted:
            own = _distrusted(column, layout, _type(column, types))
            tables.setdefault((column.schema, column.table), {})[column.name] = own
            continue
        complaint = _registry_complaint(column, registered, layout)
        if complaint is not None:
            complaints.append(f"{column.at}: {complaint}")
        if registered is None:
            continue
        type_ = _type(column, types)
        tables.setdefault((column.schema, column.table), {})[column.name] = ProtectedColumn(
            schema=column.schema,
            table=column.table,
            name=column.name,
            identity=registered.identity,
            number=registered.number,
            scope=registered.scope,
            type=type_,
            pad=column.pad,
            slots=_slots(column, type_, registered, complaints),
            deployment=layout.deployment,
            characters=characters,
        )
    protected = tuple(ProtectedTable(schema, table, columns) for (schema, table), columns in tables.items())
    # a hash of all that a plan may depend on: equal in every proxy and after a restart, which id() or a counter
    # would not be
    boundary = policy.boundary(layout.columns)
    sealed = sorted(boundary.registered), sorted(boundary.released), sorted(boundary.clear)
    text = repr((policy.database, layout.deployment, registry_schema, protected, sorted(characters.differing), sealed))
    generation = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    fixed, database = _fixed(policy), policy.database
    return Protection(generation, database, layout.deployment, registry_schema, protected, fixed, characters, boundary), complaints


def _distrusted(column: PolicyColumn, layout: Layout, type_: DeclaredType) -> ProtectedColumn:
    """Return a column whose registration does not verify: protected, of an identity of its own, and no value of it is touched."""
    identity, place = f"\0{column.label}", (column.schema, column.table, column.name)
    return ProtectedColumn(*place, identity, 0, "", type_, column.pad, (), layout.deployment, distrusted=True)


def _type(column: PolicyColumn, types: Types) -> DeclaredType:
    """Return the type of a column as the catalogue has it; the policy's alone where there is no such type."""
    try:
        return resolved(column.type, types)
    except ConfigError:
        return column.type  # of which ``type_complaints`` speaks


def _slots(column: PolicyColumn, type_: DeclaredType, registered: RegisteredIdentity, complaints: list[str]) -> tuple[Slot, ...]:
    """Return the slots, with what their expressions are; complain of one that this version cannot fill."""
    known = []
    for slot in registered.slots:
        try:
            total = slot.state == "dropped" or not type_.known or transform(slot.expression, type_.indexed_as).total
        except ConfigError as error:
            complaints.append(f"{column.at}: {column.label} has an index that cannot be filled: {error.message}")
            continue
        known.append(replace(slot, total=total))
    return tuple(known)


def _fixed(policy: Policy) -> frozenset[str]:
    if policy.tenant is None:
        return frozenset()
    return frozenset({"role", "session_authorization"} if policy.tenant.name is None else {policy.tenant.name.lower()})


def _registry_complaint(column: PolicyColumn, registered: RegisteredIdentity | None, layout: Layout) -> str | None:
    """Say what the registry does not know, or knows otherwise."""
    number = layout.columns.get((column.schema, column.table, column.name))
    if number is not None and (registered is None or registered.number != number):
        theirs = layout.identities[number].identity
        name = theirs.removeprefix("c:")
        line = f"add `id: {name!r}`" if theirs.startswith("c:") else f"write `{{domain: {theirs.removeprefix('d:')}}}`"
        return f"{column.label} is registered as {theirs!r}, the policy makes it {column.identity!r}: {line}"
    if registered is None or number is None:
        return f"{column.label} is not registered: {_INIT}"
    if not same_name(registered.type_name, column.type.name):
        return f"{column.label} is registered as {registered.type_name}, the policy says {column.type.name}"
    known = {s.expression for s in registered.slots if s.state != "dropped"}
    missing = [e for e in column.expressions if e not in known]
    if missing:
        return f"{column.label} has no slot for index {', '.join(missing)}: {_INIT}"
    return None


def planned(policy: Policy, layout: Layout, catalog: Catalog) -> list[PolicyColumn]:
    """Return the columns that are registered and not there: a migration through the proxy will make them."""
    return [
        column
        for column in policy.columns()
        if _existence_complaints(column, catalog) and (column.schema, column.table, column.name) in layout.columns
    ]


def _existence_complaints(column: PolicyColumn, catalog: Catalog) -> list[str]:
    relation = catalog.find(column.schema, column.table)
    if relation is None:
        return [f"{column.at}: there is no table {column.schema}.{column.table}"]
    if relation.column(column.name) is None:
        return [f"{column.at}: {relation.qualified} has no column {column.name}"]
    return []


def _column_complaints(column: PolicyColumn, layout: Layout, catalog: Catalog) -> list[str]:
    if missing := _existence_complaints(column, catalog):
        return missing if (column.schema, column.table, column.name) not in layout.columns else []
    found = catalog.by_name[column.schema, column.table].column(column.name)
    if found is not None and found.type_oid != BYTEA_OID:
        return [f"{column.at}: {column.label} is {_type_name(found.type_oid, catalog)}, not bytea: run `phiproxy ddl`"]
    if found is not None and _type(column, catalog.types).not_null and not found.not_null:
        return [f"{column.at}: {column.label} is of a domain without NULL, and may be NULL: run `phiproxy ddl`"]
    return []


def _type_name(oid: int, catalog: Catalog) -> str:
    """Return the name of a type as PostgreSQL shows it, without a length."""
    known = by_oid(oid)
    if known is not None:
        return sql_name(known)
    own = next((own for own in catalog.types if oid in (own.oid, own.array_oid)), None)
    if own is None:
        return "of another type"
    return own.qualified + ("[]" if oid == own.array_oid else "")


def _table_complaints(columns: list[PolicyColumn], catalog: Catalog) -> list[str]:
    """Say what this version does not do with a whole table, or with a column for what the table does with it."""
    complaints = []
    for column in columns:
        relation = catalog.find(column.schema, column.table)
        if relation is None:
            continue
        first = next(c for c in columns if (c.schema, c.table) == (column.schema, column.table))
        if column is first:
            complaints += [f"{column.at}: {what} is not in this version" for what in _unsupported(relation)]
        if column.name in relation.key_columns:
            complaints.append(f"{column.at}: a foreign key over protected column {column.label} is not in this version")
        complaints += family_complaints(column, columns, catalog)
        found = relation.column(column.name)
        if found is not None and found.generated:
            complaints.append(f"{column.at}: {column.label} is a generated column: it cannot be protected")
    return complaints


def _unsupported(relation: Relation) -> list[str]:
    kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
    found = []
    if relation.kind in kinds:
        found.append(f"protecting {kinds[relation.kind]} ({relation.qualified})")
    return found


def _identity_complaints(columns: list[PolicyColumn], layout: Layout, catalog: Catalog) -> list[str]:
    """Refuse an identity that another existing column holds: two columns would answer for each other's values."""
    complaints = []
    wanted = {(c.schema, c.table, c.name): c for c in columns}
    for name, number in layout.columns.items():
        registered = layout.identities[number]
        if name in wanted or not registered.identity.startswith("c:"):
            continue
        relation = catalog.find(*name[:2])
        if relation is None or relation.column(name[2]) is None:
            continue
        complaints += [
            f"{c.at}: identity {c.identity!r} belongs to {'.'.join(name)}, which still exists"
            for c in columns
            if c.identity == registered.identity
        ]
    return complaints + _twice_complaints(columns, catalog)


def _twice_complaints(columns: list[PolicyColumn], catalog: Catalog) -> list[str]:
    """Refuse both names of a column that is to be renamed where both exist."""
    complaints = []
    seen: dict[str, PolicyColumn] = {}
    for column in columns:
        if column.identity.startswith("c:") and not _existence_complaints(column, catalog):
            other = seen.setdefault(column.identity, column)
            if other is not column:
                complaints.append(f"{column.at}: {other.label} is to be renamed to {column.label}, and both exist")
    return complaints
