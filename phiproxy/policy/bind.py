"""Join policy, registry and live catalogue into a Protection, or say all that does not fit, with the place in the policy."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from phiproxy.documents.field_paths import spell_path
from phiproxy.errors import ConfigError
from phiproxy.index.characters import ASCII, Characters
from phiproxy.index.collations import characters_of
from phiproxy.index.transform import transform
from phiproxy.policy.boundary import boundary_complaints
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_states import column_states, fields_let_go
from phiproxy.policy.column_types import by_oid
from phiproxy.policy.document_columns import may_be_indexed
from phiproxy.policy.document_listing import listing_complaints
from phiproxy.policy.identifiers import yaml_text
from phiproxy.policy.inheritance import family_complaints
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.protection import (
    ColumnName,
    DeclaredType,
    DocumentFields,
    ProtectedColumn,
    ProtectedTable,
    Protection,
    Slot,
)
from phiproxy.policy.registry_layout import Layout, RegisteredIdentity
from phiproxy.policy.subject_columns import subject_kind
from phiproxy.policy.user_types import NoSuchType, Types, resolved, same_name
from phiproxy.types.names import sql_name
from phiproxy.wire.oids import BYTEA_OID, JSONB_OID

_INIT = "run `phiproxy keys init`"
_UNSUPPORTED = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


def bind(policy: Policy, layout: Layout, catalog: Catalog, registry_schema: str) -> Protection:
    """Return what is protected, by name, with the registry's numbers and the declared types.

    ConfigError with one line per complaint: a column that is not ``bytea``, is not registered, was renamed behind the proxy, or is
    of another identity or type than the registry says; one that is sealed and not listed (``boundary``); a table that this version
    does not protect. What is registered and does not exist is protected by its name: a migration will make it. What is in clear, as
    the registry lets it be, is not protected yet (``Protection.clear``).
    """
    characters = characters_of(layout.collation, catalog.collation)
    states = column_states(policy, layout, catalog)
    filling = frozenset(name for name, state in states.items() if state == "filling")
    clear = filling.union(name for name, state in states.items() if state == "clear")
    clear |= fields_let_go(policy, layout, catalog)
    protection, complaints = _assemble(policy, layout, registry_schema, catalog.types, characters, clear, filling)
    columns = policy.columns()
    sealed = [column for column in columns if (column.schema, column.table, column.name) not in clear]
    complaints += [c for column in sealed for c in _column_complaints(column, layout, catalog)]
    complaints += _table_complaints(sealed, catalog, columns) + type_complaints(policy, catalog)
    complaints += _identity_complaints(columns, layout, catalog) + boundary_complaints(policy, layout, catalog)
    complaints += policy.access_complaints({(c.schema, c.table, c.name): _type(c, catalog.types) for c in columns})
    complaints += _subject_complaints(policy, catalog) + listing_complaints(columns, states, catalog)
    return _checked(protection, complaints)


def assemble(
    policy: Policy,
    layout: Layout,
    registry_schema: str,
    types: Types = (),
    clear_fields: frozenset[ColumnName] = frozenset(),
) -> Protection:
    """Return what ``bind`` does without a look at the tables: for ``ddl``, which is about to make the columns so.

    ``clear_fields`` of documents are in clear yet. ConfigError with one line per column that the registry does not know as the
    policy has it.
    """
    return _checked(*_assemble(policy, layout, registry_schema, types, clear=clear_fields))


def table_complaints(policy: Policy, layout: Layout | None, catalog: Catalog) -> list[str]:
    """Say which tables are not in this version, or do not exist and are not registered, each as ``file:line:column: text``."""
    columns = policy.columns()
    missing = [
        c
        for column in columns
        if layout is None or (column.schema, column.table, column.name) not in layout.columns
        for c in _existence_complaints(column, catalog)
    ]
    return missing + _table_complaints(columns, catalog, columns) + type_complaints(policy, catalog)


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
    policy: Policy,
    layout: Layout,
    registry_schema: str,
    types: Types,
    characters: Characters = ASCII,
    clear: frozenset[ColumnName] = frozenset(),
    filling: frozenset[ColumnName] = frozenset(),
) -> tuple[Protection, list[str]]:
    complaints: list[str] = []
    if policy.deployment != layout.deployment:
        complaints.append(
            f"{policy.at('deployment')}: the registry of this database belongs to deployment {layout.deployment!r}, "
            f"not to {policy.deployment!r}"
        )
    sealed: dict[tuple[str, str], dict[str, ProtectedColumn]] = {}
    in_clear: dict[tuple[str, str], dict[str, ProtectedColumn]] = {}
    by_identity = {i.identity: i for i in layout.identities.values()}
    for column in policy.columns():
        protected = _protected(column, layout, by_identity, types, characters, complaints)
        if protected is None:
            continue
        name, document = (column.schema, column.table), protected.document
        if column.registered_name in clear:
            in_clear.setdefault(name, {})[column.name] = protected
            continue
        open_yet = {field.path for field in column.fields if field.registered_name in clear}
        if document is not None and open_yet:
            in_clear.setdefault(name, {})[column.name] = protected
            protected = replace(protected, document=document.without(open_yet))
        sealed.setdefault(name, {})[column.name] = protected
    hiding = {name[:2] for name in filling}
    subjects = policy.subjects()
    protected_tables = tuple(
        ProtectedTable(*name, sealed.get(name, {}), hides=name in hiding, subject=subjects.get(name))
        for name in dict.fromkeys([*sealed, *sorted(hiding)])
    )
    unsealed = tuple(ProtectedTable(schema, table, columns) for (schema, table), columns in in_clear.items())
    # a hash of all that a plan may depend on: equal in every proxy and after a restart, which id() or a counter
    # would not be
    boundary = policy.boundary(layout.columns.keys() - clear)
    limits = sorted(boundary.registered), sorted(boundary.released), sorted(boundary.clear)
    text = repr(
        (
            policy.database,
            layout.deployment,
            registry_schema,
            protected_tables,
            sorted(characters.differing),
            limits,
            unsealed,
            policy.access,
        )
    )
    generation = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    fixed = _fixed(policy)
    protection = Protection(
        generation,
        policy.database,
        layout.deployment,
        registry_schema,
        protected_tables,
        fixed,
        characters,
        boundary,
        unsealed,
        policy.access_rules(),
    )
    return protection, complaints


def _protected(
    column: PolicyColumn,
    layout: Layout,
    by_identity: Mapping[str, RegisteredIdentity],
    types: Types,
    characters: Characters,
    complaints: list[str],
) -> ProtectedColumn | None:
    """Return a column with the registry's numbers, and a document with its fields; None, with a complaint, where it has none."""
    type_ = _type(column, types)
    if any(each.registered_name in layout.distrusted for each in column.with_fields()):
        return _distrusted(column, layout, type_)
    registered = by_identity.get(column.identity)
    complaint = _registry_complaint(column, registered, layout)
    if complaint is not None:
        complaints.append(f"{column.at}: {complaint}")
    if registered is None:
        return None
    document = None
    if column.fields:
        fields = [_protected(field, layout, by_identity, types, characters, complaints) for field in column.fields]
        if any(field is None for field in fields):
            return None
        paths = tuple(field.path for field in column.fields)
        document = DocumentFields(tuple(f for f in fields if f is not None), paths, column.others_sealed, column.clear)
    return ProtectedColumn(
        schema=column.schema,
        table=column.table,
        name=column.name,
        identity=registered.identity,
        number=registered.number,
        scope=registered.scope,
        type=type_,
        pad=column.pad,
        # Of what stands in arrays there are many in a document, so nothing could search by their tags: they get none.
        slots=_slots(column, type_, registered, complaints) if may_be_indexed(column.path) else (),
        deployment=layout.deployment,
        characters=characters,
        document=document,
        path=spell_path(column.path) if column.path else "",
    )


def _distrusted(column: PolicyColumn, layout: Layout, type_: DeclaredType) -> ProtectedColumn:
    """Return a column whose registration does not verify: protected, of an identity of its own, and no value of it is touched."""
    identity, column_name = f"\0{column.label}", (column.schema, column.table, column.name)
    document = DocumentFields((), ()) if column.fields else None
    return ProtectedColumn(
        *column_name, identity, 0, "", type_, column.pad, (), layout.deployment, distrusted=True, document=document
    )


def _type(column: PolicyColumn, types: Types) -> DeclaredType:
    """Return the type of a column as the catalogue has it; the policy's alone where there is no such type."""
    try:
        return resolved(column.type, types)
    except ConfigError:
        return column.type  # of which ``type_complaints`` speaks


def _slots(column: PolicyColumn, type_: DeclaredType, registered: RegisteredIdentity, complaints: list[str]) -> tuple[Slot, ...]:
    """Return the slots, with what their expressions are; complain of one that this version cannot fill."""
    slots = []
    for slot in registered.slots:
        try:
            total = slot.state == "dropped" or not type_.known or transform(slot.expression, type_.indexed_as).total
        except ConfigError as error:
            complaints.append(f"{column.at}: {column.label} has an index that cannot be filled: {error.message}")
            continue
        slots.append(replace(slot, total=total))
    return tuple(slots)


def _fixed(policy: Policy) -> frozenset[str]:
    if policy.tenant is None:
        return frozenset()
    return frozenset({"role", "session_authorization"} if policy.tenant.name is None else {policy.tenant.name.lower()})


def _registry_complaint(column: PolicyColumn, registered: RegisteredIdentity | None, layout: Layout) -> str | None:
    """Say what the registry does not know, or knows otherwise."""
    number = layout.columns.get(column.registered_name)
    if number is not None and (registered is None or registered.number != number):
        theirs = layout.identities[number].identity
        name = theirs.removeprefix("c:")
        domain = yaml_text(theirs.removeprefix("d:"))
        line = f"add `id: {yaml_text(name)}`" if theirs.startswith("c:") else f"write `{{domain: {domain}}}`"
        return f"{column.label} is registered as {theirs!r}, the policy makes it {column.identity!r}: {line}"
    if registered is None or number is None:
        return f"{column.label} is not registered: {_INIT}"
    if not same_name(registered.type_name, column.type.name):
        return f"{column.label} is registered as {registered.type_name}, the policy says {column.type.name}"
    expressions = {s.expression for s in registered.slots if s.state != "dropped"}
    missing = [e for e in column.expressions if e not in expressions]
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
    stored_column = catalog.by_name[column.schema, column.table].column(column.name)
    wanted = JSONB_OID if column.fields else BYTEA_OID
    if stored_column is not None and stored_column.type_oid != wanted:
        is_, not_ = _type_name(stored_column.type_oid, catalog), _type_name(wanted, catalog)
        return [f"{column.at}: {column.label} is {is_}, not {not_}: run `phiproxy ddl`"]
    if stored_column is not None and _type(column, catalog.types).not_null and not stored_column.not_null:
        return [f"{column.at}: {column.label} is of a domain without NULL, and may be NULL: run `phiproxy ddl`"]
    return []


def _type_name(oid: int, catalog: Catalog) -> str:
    """Return the name of a type as PostgreSQL shows it, without a length."""
    type_ = by_oid(oid)
    if type_ is not None:
        return sql_name(type_)
    own = next((own for own in catalog.types if oid in (own.oid, own.array_oid)), None)
    if own is None:
        return "of another type"
    return own.qualified + ("[]" if oid == own.array_oid else "")


def _table_complaints(columns: list[PolicyColumn], catalog: Catalog, listed: list[PolicyColumn]) -> list[str]:
    """Say what this version does not do with a whole table, or with a column for what the table does with it.

    ``listed`` are all columns of the policy, in clear or not.
    """
    complaints = []
    for column in columns:
        relation = catalog.find(column.schema, column.table)
        if relation is None:
            continue
        first = next(c for c in columns if (c.schema, c.table) == (column.schema, column.table))
        if column is first and relation.kind in _UNSUPPORTED:
            complaints.append(
                f"{column.at}: protecting {_UNSUPPORTED[relation.kind]} ({relation.qualified}) is not in this version"
            )
        stored_column = relation.column(column.name)
        if column.name in relation.key_columns and stored_column is not None and stored_column.type_oid == BYTEA_OID:
            complaints.append(f"{column.at}: a foreign key over protected column {column.label} is not in this version")
        complaints += family_complaints(column, listed, catalog)
        if stored_column is not None and stored_column.generated:
            complaints.append(f"{column.at}: {column.label} is a generated column: it cannot be protected")
    return complaints


def _subject_complaints(policy: Policy, catalog: Catalog) -> list[str]:
    """Say which subject columns do not exist, or are of a type whose values have no one spelling."""
    types = {(column.schema, column.table, column.name): _type(column, catalog.types).oid for column in policy.columns()}
    complaints = []
    for (schema, table), name in policy.subjects().items():
        relation = catalog.find(schema, table)
        column = relation.column(name) if relation is not None else None
        if relation is None:
            continue  # its protected columns say so
        at = policy.at("tables", f"{schema}.{table}", "subject")
        if column is None:
            complaints.append(f"{at}: {relation.qualified} has no column {name}, which is its subject")
        elif subject_kind(types.get((schema, table, name), column.type_oid)) is None:
            wanted = "smallint, integer, bigint, uuid, text or varchar"
            complaints.append(f"{at}: the subject of {relation.qualified} must be a column of type {wanted}")
    return complaints


def _identity_complaints(columns: list[PolicyColumn], layout: Layout, catalog: Catalog) -> list[str]:
    """Refuse an identity that another existing column holds: two columns would answer for each other's values."""
    complaints = []
    wanted = {each.registered_name: each for column in columns for each in column.with_fields()}
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
