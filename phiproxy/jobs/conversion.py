"""Looking at tables that are to be converted: what each has, what becomes of it, and what is a reason not to start."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import psycopg

from phiproxy.crypto.envelope import OVERHEAD, SLOT_LENGTH
from phiproxy.index.collations import needs_characters
from phiproxy.jobs.column_privileges import privileges_and_comment, storage_of
from phiproxy.jobs.converted_foreign_keys import GeneratedTags, StoredKey, keys_over, plain_keys, sealed_keys, secured_tags
from phiproxy.jobs.converted_indexes import ConvertedIndex, indexes_over, plain_indexes, tag_indexes, told_of_index, told_of_plain
from phiproxy.jobs.dependent_others import converted_others, others_over
from phiproxy.jobs.dependent_views import converted_views, views_over
from phiproxy.jobs.dependents import Dependent, definitions_over, refusals
from phiproxy.jobs.disk import Grown, Need, need_of
from phiproxy.jobs.kept_not_null import NotNull, not_nulls_of
from phiproxy.jobs.local_columns import local_children
from phiproxy.jobs.logged_in_clear import logged_in_clear
from phiproxy.jobs.physical_definitions import Converter, PhysicalDefinitions, physical_definitions, without_fields
from phiproxy.jobs.plain_definitions import PlainDefinitions
from phiproxy.jobs.relations import Connection, Part, TableName, family_of, may_act_as, rows_of
from phiproxy.jobs.schemes import Decode
from phiproxy.ops.physical_tables import PhysicalColumn, PhysicalTable, read_physical
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.policy.bind import bind
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.column_order import collation_of
from phiproxy.policy.column_states import as_if_sealed, column_states
from phiproxy.policy.identifiers import quote_ident, yaml_text
from phiproxy.policy.model import Policy
from phiproxy.policy.physical_columns import hidden_name, is_hidden, shadow_name
from phiproxy.policy.plaintext_guards import guard_name
from phiproxy.policy.protection import ColumnName, ProtectedColumn, Protection
from phiproxy.policy.registry_layout import Layout, column_of

TRIGGERS: Final = ("~phi_fresh", "~phi_stale")
"""Of INSERT and UPDATE, behind all others, which may change a value on its way: triggers fire in the order of their names."""


QUALIFIED: Final = "SET search_path TO pg_catalog"
"""So that the server prints all names of definitions with their schemas."""


@dataclass(frozen=True)
class ConvertedColumn:
    """A column that is to be converted: as it will be, and as it is; ``same`` are its privileges and comments, as statements."""

    column: ProtectedColumn
    physical: PhysicalColumn
    not_null: tuple[NotNull, ...]
    same: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()
    """Generated columns with its tags, which go with it."""
    source: ProtectedColumn | None = None
    """A document of which other fields are sealed than will be, as it is."""
    plain_type: str = ""
    """The type that it has in clear again, as SQL with its collation, on the way back."""
    local: tuple[Part, ...] = ()
    """Children that have it of themselves too, parents first."""

    @property
    def sealed_names(self) -> list[ColumnName]:
        """The registered names of what is in clear, and sealed then: the column, or of a document with others sealed fields."""
        return _more(self.column, self.source)

    @property
    def opened_names(self) -> list[ColumnName]:
        """The registered names of the fields that are sealed, and in clear then."""
        return [] if self.source is None else _more(self.source, self.column)

    @property
    def sealed_type(self) -> str:
        """The type that it has sealed, as SQL: a document with sealed fields stays jsonb."""
        return "bytea" if self.column.document is None else "jsonb"

    @property
    def shadow(self) -> str:
        """The hidden column beside it."""
        return shadow_name(self.column.name)


def _more(column: ProtectedColumn, other: ProtectedColumn | None) -> list[ColumnName]:
    """Return the registered names of the fields that a document has and another way to have it has not; without one its own."""
    if other is None:
        return [(column.schema, column.table, column.name)]
    there = {field.path for field in other.with_fields}
    return [(column.schema, column.table, column.name + f.path) for f in column.with_fields if f.path not in there]


@dataclass(frozen=True)
class ConvertedTable:
    """A table that is to be encrypted, with its partitions and children; ``orders`` are their columns as clients see them."""

    name: TableName
    owner: str
    family: tuple[Part, ...]
    partitioned: bool
    columns: tuple[ConvertedColumn, ...]
    orders: Mapping[TableName, tuple[str, ...]]
    guards: Mapping[TableName, tuple[str, ...]]
    decode: Decode | None = None
    """What decodes the values of another scheme, where they are of one."""
    tenant_by: str | None = None
    """The expression over a row that says whose it is, where the policy has tenants."""
    opening: bool = False
    """Whether it is the way back: the columns are sealed, and what is filled beside them is plain."""
    indexes: Mapping[TableName, tuple[ConvertedIndex, ...]] = field(default_factory=dict)
    listed: frozenset[str] = frozenset()
    """Those of its columns that the policy lists, whether they are to be converted or not."""
    tags: GeneratedTags = field(default_factory=GeneratedTags)
    """Generated columns that are added with the hidden ones."""
    collations: Mapping[str, str] = field(default_factory=dict)
    """The collations, as SQL, that sealed columns have in clear, where they are not those of their types."""

    @property
    def label(self) -> str:
        """``schema.table``, quoted where PostgreSQL would."""
        return ".".join(map(quote_ident, self.name))

    @property
    def parts(self) -> list[Part]:
        """The relations that rows are in."""
        return [part for part in self.family if part.stores]


@dataclass(frozen=True)
class Look:
    """What was seen: tables, what hangs on them, what is done (``notes``), and what keeps a job from starting (``obstacles``).

    ``hanging`` is all of that as the server has it, to be compared with what is there at the switch.
    """

    tables: tuple[ConvertedTable, ...]
    dependents: tuple[Dependent, ...]
    notes: tuple[str, ...]
    obstacles: tuple[str, ...]
    hanging: tuple[object, ...] = ()


@dataclass
class _Looking:
    """A look in work."""

    conn: Connection
    catalog: Catalog
    policy: Policy
    converter: Converter
    wanted: Collection[ColumnName]
    physical: PhysicalDefinitions
    decode: Decode | None = None
    tenant_by: str | None = None
    sealed: Protection | None = None
    """What is sealed now."""
    notes: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    dependents: list[Dependent] = field(default_factory=list)

    def source_of(self, column: ProtectedColumn) -> ProtectedColumn | None:
        """Return the document that a column is now, where fields of it are sealed already."""
        table = self.sealed.by_name.get((column.schema, column.table)) if self.sealed is not None else None
        return table.columns.get(column.name) if table is not None else None

    def listed(self, table: TableName) -> frozenset[str]:
        """Return the columns of a table that the policy lists."""
        return frozenset(column.name for column in self.policy.columns() if (column.schema, column.table) == table)

    async def result(self, tables: list[ConvertedTable]) -> Look:
        """Return what was seen of these tables, with what joins them, and hangs on several."""
        columns = {table.name: [c.column for c in table.columns] for table in tables}
        opening = any(table.opening for table in tables)
        keys = await keys_over(self.conn, _key_names(tables))
        if self.tenant_by is not None:
            await _of_tenants(self, [part for table in tables for part in table.family], keys)
            self.notes.append("unique indexes hold within each tenant from then on, by tags under its own keys")
        if opening:
            self.dependents += plain_keys(keys, columns)
        else:
            dependents, tags = await sealed_keys(keys, columns, self.physical, self.obstacles)
            self.dependents += dependents
            tables = [replace(table, tags=table.tags.joined(tags.get(table.name, GeneratedTags()))) for table in tables]
        parts = _columns_of_parts(tables)
        views = await views_over(self.conn, parts)
        self.dependents += await converted_views(self.conn, views, parts, self.physical, self.obstacles, opening=opening)
        for table in tables:
            own = columns[table.name]
            named = [c.name for c in own]
            others = [o for part in table.family for o in await others_over(self.conn, part, named, _generated(table))]
            self.dependents += await converted_others(self.conn, others, own, self.physical, self.obstacles, opening=opening)
            if table.tags.columns:
                gets = f"{table.label} gets {', '.join(table.tags.columns)}, for foreign keys or row-level security"
                self.notes.append(f"{gets}: a rewrite, for which everybody waits, for 2 s at most without --lock-tables")
        refused = refusals(self.dependents, self.converter)
        self.obstacles += refused.values()
        for each in (each for each in self.dependents if each.label not in refused):
            computes = not opening and each.view is not None and self.physical.computes(each.view.oid)
            read = ": from then on the engine computes it, and it is written through no more" if computes else ""
            self.notes.append(f"{each.label} is converted with it{read}")
        for table in tables:
            self.notes += await _told(self.conn, table)
        there = await hanging(self.conn, tables)
        return Look(tuple(tables), tuple(self.dependents), tuple(self.notes), tuple(dict.fromkeys(self.obstacles)), there)


class How(NamedTuple):
    """How columns are to be encrypted.

    ``decode``: what another scheme has encrypted is decoded by it. ``tenant_by`` is an SQL expression that says whose a row is.
    ``engine``: the one that is configured, which computes defaults.
    """

    decode: Decode | None = None
    tenant_by: str | None = None
    engine: EngineFacts | None = None


async def look(
    conn: Connection,
    policy: Policy,
    layout: Layout,
    catalog: Catalog,
    wanted: Collection[ColumnName],
    registry_schema: str,
    how: How,
) -> Look:
    """Look at columns of a policy that are in clear. ``catalog`` has their tables with partitions and children; psycopg.Error."""
    await conn.execute(QUALIFIED)
    layout = replace(layout, clear=layout.clear.union(wanted))
    bound = bind(policy, layout, catalog, registry_schema)
    protection, _ = as_if_sealed(bound, catalog)
    converter = await physical_definitions(conn, policy, layout, registry_schema, engine=how.engine)
    looking = _Looking(conn, catalog, policy, converter, wanted, converter, how.decode, how.tenant_by, bound)
    looking.obstacles += _of_policy(policy, layout, catalog, wanted, how.tenant_by)
    return await looking.result([await _look_at(looking, name, columns) for name, columns in _by_table(protection, wanted)])


async def look_at_fields(
    conn: Connection,
    policy: Policy,
    layout: Layout,
    catalog: Catalog,
    wanted: Collection[ColumnName],
    registry_schema: str,
) -> Look:
    """Look at sealed fields of documents that are to be in clear again, while others of these stay sealed; psycopg.Error."""
    await conn.execute(QUALIFIED)
    bound = bind(policy, layout, catalog, registry_schema)
    converter = await physical_definitions(conn, policy, layout, registry_schema, opened=wanted)
    looking = _Looking(conn, catalog, policy, converter, wanted, converter, sealed=bound)
    looking.obstacles += _of_domains(policy, layout, catalog, wanted, ("sealed", "leaving"), "decrypted")
    if policy.tenant is not None:
        looking.obstacles.append("the policy has tenants: a document is decrypted as a whole, and sealed again with --tenant-by")
    looking.notes += await logged_in_clear(conn)
    targets = without_fields(bound, wanted)
    return await looking.result([await _look_at(looking, name, columns) for name, columns in _by_table(targets, wanted)])


def _by_table(protection: Protection, wanted: Collection[ColumnName]) -> list[tuple[TableName, list[ProtectedColumn]]]:
    columns = sorted({column_of(name) for name in wanted})
    names = sorted({column[:2] for column in columns})
    return [(name, [protection.by_name[name].columns[c] for s, t, c in columns if (s, t) == name]) for name in names]


async def look_back(
    conn: Connection,
    policy: Policy,
    layout: Layout,
    catalog: Catalog,
    wanted: Collection[ColumnName],
    registry_schema: str,
    *,
    reorder: bool,
) -> Look:
    """Look at sealed columns that are to be in clear again. ``reorder``: they may stand last then; psycopg.Error."""
    await conn.execute(QUALIFIED)
    by_table = _by_table(bind(policy, layout, catalog, registry_schema), wanted)
    converter = PlainDefinitions(column for _, columns in by_table for column in columns)
    physical = await physical_definitions(conn, policy, layout, registry_schema)
    looking = _Looking(conn, catalog, policy, converter, wanted, physical)
    looking.obstacles += _of_domains(policy, layout, catalog, wanted, ("sealed", "leaving"), "decrypted")
    looking.notes += await logged_in_clear(conn)
    return await looking.result([await _look_back_at(looking, name, columns, reorder=reorder) for name, columns in by_table])


async def _look_back_at(looking: _Looking, name: TableName, columns: list[ProtectedColumn], *, reorder: bool) -> ConvertedTable:
    conn, catalog, notes, obstacles = looking.conn, looking.catalog, looking.notes, looking.obstacles
    family = await family_of(conn, name)
    root = next(part for part in family if part.name == name)
    physical = await read_physical(conn, [part.name for part in family])
    members = {part.name: catalog.by_name[part.name] for part in family}
    obstacles += await _of_parts(conn, root, family)
    collations = _collations(physical[name])
    converted = []
    for column in columns:
        own, relation = physical[name].columns[column.name], members[name]
        generated = tuple(n for slot in column.slots if relation.column(n := hidden_name(column, slot.number)) is not None)
        plain_type = await _plain_type(conn, column, collations.get(column.name, ""), obstacles)
        same = await _same(conn, family, column)
        not_null = await not_nulls_of(conn, family, column.name)
        local = await local_children(conn, family, column.name)
        converted.append(ConvertedColumn(column, own, not_null, same, generated, plain_type=plain_type, local=local))
        notes.append(f"{column.label} becomes {column.type.name} again")
        notes += [f"{field.label} is opened in it" for field in column.with_fields[1:]]
    looking.dependents += await definitions_over(conn, family, [column.name for column in columns])
    indexes = await plain_indexes(conn, family, columns, obstacles)
    notes += [told_of_plain(index) for index in indexes[name]]
    orders = {n: tuple(c.name for c in r.columns if not is_hidden(c.name)) for n, r in members.items()}
    guards = {n: tuple(c for c, _ in r.guards) for n, r in members.items()}
    moved = [column.name for column in columns]
    if not reorder and orders[name][-len(moved) :] != tuple(moved):
        obstacles.append(
            f"{', '.join(moved)} will stand last in {'.'.join(name)}, for statements with * or without a list of columns: --reorder"
            " says that nobody minds"
        )
    return ConvertedTable(
        name, root.owner, tuple(family), not root.stores, tuple(converted), orders, guards, opening=True, indexes=indexes,
        listed=looking.listed(name), collations=collations,
    )  # fmt: skip


def _collations(physical: PhysicalTable, plain: Relation | None = None) -> dict[str, str]:
    """Return the collations of the columns of a table, as SQL, that are not their types': as guards say, or ``plain`` ones have."""
    told = {n: collation_of(check.comment) for n in physical.columns for check in physical.checks if check.name == guard_name(n)}
    told |= {column.name: column.collation for column in plain.columns if column.collation} if plain is not None else {}
    return {name: collation for name, collation in told.items() if collation}


async def _plain_type(conn: Connection, column: ProtectedColumn, collation: str, obstacles: list[str]) -> str:
    """Return the type that a column has in clear, as SQL; where no hidden column can be of it that is an obstacle."""
    ((name,),) = await rows_of(conn, "SELECT pg_catalog.format_type(%s::oid, %s::int4)", column.type.oid, column.type.typmod)
    name += f" COLLATE {collation}" if collation else ""
    try:
        async with conn.transaction():
            await conn.execute(f"SELECT NULL::{name}".encode())  # as all rows have at first
    except (psycopg.errors.NotNullViolation, psycopg.errors.CheckViolation) as error:
        domain = ".".join(quote_ident(part) for part in (error.diag.schema_name or "", error.diag.datatype_name or ""))
        check = error.diag.constraint_name
        drop = "NOT NULL" if check is None else f"CONSTRAINT {quote_ident(check)}"
        obstacles.append(
            f"{column.label}: {domain} takes no NULL, which all rows have in the hidden column at first; for the time of the job:"
            f" ALTER DOMAIN {domain} DROP {drop}"
        )
    except (psycopg.errors.UndefinedObject, psycopg.errors.InvalidSchemaName, psycopg.errors.DatatypeMismatch):
        obstacles.append(f"{column.label} had {name} in clear, which is not there any more: CREATE COLLATION {collation}")
    except psycopg.errors.InsufficientPrivilege:
        obstacles.append(f"{column.label}: the service role may not use {name}; GRANT USAGE ON its SCHEMA, and ON TYPE {name}")
    return str(name)


async def hanging(conn: Connection, tables: Sequence[ConvertedTable]) -> tuple[object, ...]:
    """Return all that hangs on the columns of tables, as it is now, to be compared with what it was; psycopg.Error."""
    there: list[object] = [*await keys_over(conn, _key_names(tables)), *await views_over(conn, _columns_of_parts(tables))]
    for table in tables:
        there += [(part.name, part.oid) for part in await family_of(conn, table.name)]
        names = [c.column.name for c in table.columns]
        there += await definitions_over(conn, table.family, names)
        for part in table.family:
            there += await indexes_over(conn, part, names)
            there += await others_over(conn, part, names, _generated(table))
            there += await _triggers(conn, part)
        for column in table.columns:
            there += await _same(conn, table.family, column.column)
            there += await not_nulls_of(conn, table.family, column.column.name)
            there.append(await local_children(conn, table.family, column.column.name))
    return tuple(there)


_PRIVILEGES: Final = """
SELECT c.oid::int8, CASE WHEN c.relkind IN ('v', 'm') THEN c.relacl::text END,
       ARRAY(SELECT a.attname || ' ' || a.attacl::text FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped ORDER BY a.attnum)
  FROM pg_catalog.pg_class c WHERE c.oid = ANY (%s::oid[]) ORDER BY c.oid
"""


async def privileges(conn: Connection, seen: Look) -> list[tuple[object, ...]]:
    """Return who may do what with views that are made again, and with columns, as a connection sees it; psycopg.Error."""
    views = [dependent.view.oid for dependent in seen.dependents if dependent.view is not None]
    return await rows_of(conn, _PRIVILEGES, [*views, *(part.oid for table in seen.tables for part in table.family)])


def _generated(table: ConvertedTable) -> list[str]:
    return [name for column in table.columns for name in column.generated]


async def _same(conn: Connection, family: Iterable[Part], column: ProtectedColumn) -> tuple[str, ...]:
    return tuple([statement for part in family for statement in await privileges_and_comment(conn, part, column.name)])


def _of_policy(
    policy: Policy, layout: Layout, catalog: Catalog, wanted: Collection[ColumnName], tenant_by: str | None
) -> list[str]:
    """Say what keeps these columns from being converted by what the policy says."""
    obstacles = []
    if policy.tenant is not None and tenant_by is None:
        obstacles.append(
            "the policy has tenants, and of a row in plaintext it is not known whose it is: --tenant-by says it, an SQL expression"
            " over the row's own columns that gives the tenant's name"
        )
    if policy.tenant is None and tenant_by is not None:
        obstacles.append("the policy has no tenants: leave out --tenant-by")
    return obstacles + _of_domains(
        policy, replace(layout, clear=layout.clear.union(wanted)), catalog, wanted, ("clear", "filling"), "encrypted"
    )


async def _of_tenants(looking: _Looking, family: Sequence[Part], keys: Sequence[StoredKey]) -> None:
    """Say what is otherwise with tenants: tags are equal only within one, and the expression must be one over the table."""
    for key in keys:
        what = f"foreign key {key.name} of {'.'.join(key.table)}"
        looking.obstacles.append(f"{what} would hold within each tenant only, by tags under its own keys; drop it")
    for part in family:
        try:
            async with looking.conn.transaction():
                await looking.conn.execute(f"SELECT ({looking.tenant_by})::text FROM ONLY {part.label} t LIMIT 0".encode())
        except psycopg.Error as error:
            looking.obstacles.append(f"--tenant-by is no expression over {part.label}: {error.diag.message_primary}")


def _of_domains(
    policy: Policy, layout: Layout, catalog: Catalog, wanted: Collection[ColumnName], among: Collection[str], done: str
) -> list[str]:
    """Say which columns of a domain would be left behind by others of it."""
    obstacles = []
    states = column_states(policy, layout, catalog)
    of_domain: dict[str, set[ColumnName]] = {}
    for column in policy.columns_and_fields():
        name = column.registered_name
        # A field goes with its document, where that is as a whole what it is.
        whole = column_of(name) if states[column_of(name)] == states[name] and column_of(name) in wanted else name
        if column.identity.startswith("d:") and states[name] in among:
            of_domain.setdefault(column.identity, set()).add(whole)
    for identity, members in of_domain.items():
        if members & set(wanted) and (others := members - set(wanted)):
            names = ", ".join(".".join(name) for name in sorted(others))
            domain = identity.removeprefix("d:")
            obstacles.append(f"{names}: of the same domain ({domain}), so {done} in the same go: name it too")
    return obstacles


async def _look_at(looking: _Looking, name: TableName, columns: list[ProtectedColumn]) -> ConvertedTable:
    conn, catalog, notes, obstacles = looking.conn, looking.catalog, looking.notes, looking.obstacles
    family = await family_of(conn, name)
    root = next(part for part in family if part.name == name)
    physical = await read_physical(conn, [part.name for part in family])
    relation = catalog.by_name[name]
    obstacles += await _of_parts(conn, root, family)
    converted = []
    for column in columns:
        own = physical[name].columns[column.name]
        obstacles += _of_column(relation, column, own, imported=looking.decode is not None)
        if (stored := relation.column(column.name)) is not None and stored.collation:
            default = "ordered by the database's default collation from then on"
            notes.append(f"{column.label} is {default}, and by COLLATE {stored.collation} in clear only")
        not_null = await not_nulls_of(conn, family, column.name)
        if column.type.not_null and all(each.part != root for each in not_null):
            not_null += (NotNull(root, column.name),)
        source = looking.source_of(column)
        same, local = await _same(conn, family, column), await local_children(conn, family, column.name)
        converted.append(ConvertedColumn(column, own, not_null, same, source=source, local=local))
        if source is None:
            never_null = ", NOT NULL" if any(each.part == root for each in not_null) else ""
            notes.append(f"{column.label} ({own.type_name}) becomes {converted[-1].sealed_type} with a guard{never_null}")
            notes += [f"{field.label} is sealed in it" for field in column.with_fields[1:]]
        else:
            notes += [f"{'.'.join(name)} is sealed in the documents of {column.label}" for name in converted[-1].sealed_names]
            notes += [f"{'.'.join(name)} is opened in the documents of {column.label}" for name in converted[-1].opened_names]
        notes += [f"{column.label}: {text}" for text in converted[-1].same if text.startswith("GRANT")]
        notes += [told for part in family for told in await storage_of(conn, part, column.name)] if source is None else []
    looking.dependents += await definitions_over(conn, family, [column.name for column in columns])
    expressions = {c.identity: c.expressions for c in looking.policy.columns_and_fields()}
    resealed = {c.column.name: c.source for c in converted if c.source is not None}
    indexes = await tag_indexes(conn, family, columns, expressions, looking.converter, obstacles, resealed)
    notes += [told_of_index(index, columns) for index in indexes[name]]
    members = {part.name: catalog.by_name[part.name] for part in family}
    orders = {n: tuple(c.name for c in r.columns if not is_hidden(c.name)) for n, r in members.items()}
    guards = {n: tuple(c for c, _ in r.guards) for n, r in members.items()}
    tags = secured_tags(name, columns) if relation.row_security else GeneratedTags()
    return ConvertedTable(
        name, root.owner, tuple(family), not root.stores, tuple(converted), orders, guards, looking.decode,
        looking.tenant_by, indexes=indexes, listed=looking.listed(name), tags=tags,
        collations=_collations(physical[name], relation),
    )  # fmt: skip


def _key_names(tables: Iterable[ConvertedTable]) -> dict[TableName, set[str]]:
    """Return the columns of tables by which foreign keys go: on the way back those with tags."""
    return {t.name: {name for c in t.columns for name in (c.generated if t.opening else (c.column.name,))} for t in tables}


def _columns_of_parts(tables: Iterable[ConvertedTable]) -> list[tuple[Part, list[str]]]:
    return [(part, [c.column.name for c in table.columns]) for table in tables for part in table.family]


async def _of_parts(conn: Connection, root: Part, family: list[Part]) -> list[str]:
    obstacles = []
    for part in family:
        if part.stores and not part.key:
            obstacles.append(f"{part.label} has no primary key, nor a unique key that is never NULL: its rows cannot be named")
        if not await may_act_as(conn, part.owner):
            role = quote_ident(part.owner)
            obstacles.append(f"the service role may not alter {part.label}; for the time of the job: GRANT {role} TO …")
        ((owned,),) = await rows_of(conn, "SELECT pg_catalog.pg_has_role(%s, %s, 'USAGE')", root.owner, part.owner)
        if not owned:  # the server asks it of who alters a table for all that inherit from it
            of, to = quote_ident(part.owner), quote_ident(root.owner)
            instead = f"GRANT {of} TO {to}, or ALTER TABLE {part.label} OWNER TO {to}"
            obstacles.append(f"{part.label} is owned by {of}, and {root.label} by {to}, who alters both: {instead}")
        for (of,) in await rows_of(conn, _OF_TYPE, part.oid):
            never = f"{part.label} is a table of type {of}, which no column can be added to"
            obstacles.append(f"{never}: ALTER TABLE {part.label} NOT OF")
        obstacles += await _triggers(conn, part)
    return obstacles


_OF_TYPE: Final = "SELECT reloftype::regtype::text FROM pg_catalog.pg_class WHERE oid = %s::oid AND reloftype <> 0"


_TRIGGERS: Final = """
SELECT tgname::text FROM pg_catalog.pg_trigger WHERE tgrelid = %s::oid AND NOT tgisinternal AND tgtype & 3 = 3 ORDER BY 1
"""


async def _triggers(conn: Connection, part: Part) -> list[str]:
    """Name the triggers that would fire behind ours: what they make of a value would not be seen."""
    names = [name for (name,) in await rows_of(conn, _TRIGGERS, part.oid) if name > TRIGGERS[0] and name not in TRIGGERS]
    return [f"trigger {name} on {part.label} fires behind all others: give it a name that begins with a letter" for name in names]


def _of_column(relation: Relation, column: ProtectedColumn, own: PhysicalColumn, *, imported: bool) -> list[str]:
    obstacles = []
    stored = relation.column(column.name)
    assert stored is not None
    if imported and own.type_name.partition("(")[0] not in ("bytea", "text", "character varying"):
        obstacles.append(f"{column.label} is {own.type_name}: what another scheme has encrypted is bytea or text")
    elif not imported and (stored.type_oid, stored.typmod) != (column.type.oid, column.type.typmod):
        table = f"{quote_ident(relation.schema)}.{quote_ident(relation.name)}"
        alter = f"ALTER TABLE {table} ALTER COLUMN {quote_ident(column.name)} TYPE {column.type.name}"
        obstacles.append(
            f"{column.label} is {own.type_name}, the policy says {column.type.name}, which is registered and stays: {alter};"
            f" or a new column with `type: {yaml_text(own.type_name)}`"
        )
    if own.nondeterministic:
        obstacles.append(f"{column.label} has a nondeterministic collation, by which different values are equal: tags cannot be")
    slots = [slot for slot in column.slots if slot.state != "dropped"]
    if stored.collation and any(needs_characters(slot.expression, column.type.indexed_as) for slot in slots):
        obstacles.append(
            f"{column.label} has COLLATE {stored.collation}, and an index over upper and lower case, which goes by the database's"
            ' default collation: ALTER TABLE … ALTER COLUMN … TYPE … COLLATE "default"'
        )
    if column.name in relation.partition_key:
        obstacles.append(f"{relation.qualified} is partitioned by {column.name}: a partition key cannot be protected")
    if stored.generated:
        obstacles.append(f"{column.label} is a generated column: it cannot be protected")
    return obstacles


async def _told(conn: Connection, table: ConvertedTable) -> list[str]:
    """Say who else has what a table holds."""
    notes: list[str] = []
    sent, needs = ("plain values", "back in the original type") if table.opening else ("envelopes", "as bytea, or text,")
    for name, columns, whole in await rows_of(conn, _PUBLISHED, *table.name):
        own = [c.column.name for c in table.columns if c.column.name in columns]
        if own:
            notes.append(f"publication {name} will send {sent}: its subscribers need {', '.join(own)} {needs} then")
        if whole:
            needed = ", ".join(c.shadow for c in table.columns)
            notes.append(f"publication {name} sends every column: its subscribers need {needed} before the job begins")
    return notes


async def needs_of(conn: Connection, seen: Look) -> list[Need]:
    """Estimate what room the conversion of tables takes; psycopg.Error."""
    needs = []
    for table in seen.tables:
        parts = [(part, len(table.indexes.get(part.name, ()))) for part in table.parts]
        needs.append(await need_of(conn, table.label, parts, [_grown(column, opening=table.opening) for column in table.columns]))
    return [need for need in needs if need is not None]


def _grown(column: ConvertedColumn, *, opening: bool) -> Grown:
    """Return how a column is stored a second time: as envelopes, of a document in hex; opened they are no longer than now."""
    fields = column.column.with_fields if column.source is None else column.column.with_fields[1:]
    digits = 1 if column.column.document is None else 2
    more = 0 if opening else sum(digits * (OVERHEAD + SLOT_LENGTH * len(each.slots)) + (each.pad or 0) for each in fields)
    return Grown(column.column.name, more, column.physical.type_name == "bytea")


# Who publishes a table, which of its columns (PostgreSQL 14 does not say), and whether all that it has, hidden ones too.
_PUBLISHED: Final = """
SELECT t.pubname::text,
       coalesce(ARRAY(SELECT pg_catalog.jsonb_array_elements_text(pg_catalog.to_jsonb(t) -> 'attnames')), '{}'),
       NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
                    WHERE p.pubname = t.pubname AND pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL
                      AND r.prrelid = pg_catalog.format('%%I.%%I', t.schemaname, t.tablename)::regclass)
  FROM pg_catalog.pg_publication_tables t WHERE t.schemaname = %s AND t.tablename = %s ORDER BY 1
"""


async def who_else_holds(conn: Connection, *, statistics: bool = True) -> list[str]:
    """Name what holds plaintext beside the tables, as far as it can be seen from here; ``statistics``: they are not rewritten."""
    notes = ["frequent values in pg_statistic and pg_statistic_ext_data, until VACUUM FULL of these"] if statistics else []
    for (name,) in await rows_of(conn, "SELECT application_name FROM pg_catalog.pg_stat_replication ORDER BY 1"):
        notes.append(f"standby {name}: until it has replayed what VACUUM FULL writes")
    for (name,) in await rows_of(conn, "SELECT slot_name FROM pg_catalog.pg_replication_slots ORDER BY 1"):
        notes.append(f"replication slot {name}: WAL that it holds back")
    return [*notes, "WAL and its archive, until they are recycled; base backups, dumps, and server logs of before"]
