"""An immutable snapshot of a database, which ``net.catalog_reader`` reads; names are decoded and case-exact, as in pg_class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from phiproxy.errors import CatalogNeeded
from phiproxy.policy.protection import Check
from phiproxy.policy.signatures import Signatures
from phiproxy.policy.user_types import OwnType
from phiproxy.wire.oids import FIRST_NORMAL_OID


@dataclass(frozen=True, slots=True)
class Drawn:
    """A default that is another value at each call: the volatile ``functions`` that it calls ('' is one of the database's own).

    ``sequence``: that which it is of, as SQL. ``plain``: it is the next value of that, and no more. ``identity``: attidentity.
    """

    functions: frozenset[str] = frozenset()
    sequence: str = ""
    plain: bool = False
    identity: str = ""


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    """One row of pg_attribute that is neither dropped nor a system column.

    ``default``: a DEFAULT that is one envelope; ``computed_default``: one that holds the sealed text of an expression; ``drawn``:
    one that is another value at each call.

    ``generated``: by an expression, and ``virtual``: when it is read (from PostgreSQL 18 on).

    ``collation``, as SQL, where it is not that of the type, and its ``provider`` (pg_collation.collprovider).
    """

    name: str
    attnum: int
    type_oid: int
    typmod: int
    not_null: bool = False
    has_default: bool = False
    generated: bool = False
    virtual: bool = False
    default: bytes | None = None
    collation: str = ""
    provider: str = ""
    computed_default: bytes | None = None
    drawn: Drawn | None = None


@dataclass(frozen=True, slots=True)
class CatalogIndex:
    """One index of a relation; ``constraint``: it belongs to one of the same name (UNIQUE, PRIMARY KEY, EXCLUDE).

    ``columns`` are those that it touches, as keys or inside of expressions. ``key``: it is a primary key that holds at any time.
    """

    name: str
    unique: bool
    constraint: bool
    columns: tuple[str, ...] = ()
    key: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    """One row of pg_class: ``kind`` is relkind (r, p, v, m, f).

    ``partition_or_child``: it has an inheritance parent; ``parent``: it is partitioned or has children;
    ``key_columns``: its columns in a foreign key, on either side; ``guards``: (column, identity number) of its guards;
    ``parents``: the oids of those that it inherits from; ``partition_key``: the columns that say to which partition a row goes;
    ``diverted``: rules or triggers of its own decide what becomes of a row that is written to it (INSTEAD OF, and BEFORE INSERT FOR
    EACH ROW); ``row_triggers``: it has triggers BEFORE … FOR EACH ROW; ``statement_triggers``: BEFORE … FOR EACH STATEMENT;
    ``policies_by_command``: it has policies that are not FOR ALL, so that rows may be seen, and not be changed;
    ``checks``: (column, what the proxy evaluates of a constraint over it), in the order of their names;
    ``columns`` are in the order in which clients see them, those that are hidden last; ``reordered``: the server's is another one;
    ``unordered``: it is not known in which order clients are to see them (``column_order``);
    ``row_type``: the OID of the type of its rows, 0 where that is not known; ``barrier``: it is a view with security_barrier;
    ``guarded_fields``: (column, identity numbers of the fields) of the guards of documents. ``guarded_clear``: (column, paths in
    clear) of those of which all else is sealed.
    """

    oid: int
    schema: str
    name: str
    kind: str
    columns: tuple[CatalogColumn, ...]
    row_security: bool = False
    partition_or_child: bool = False
    parent: bool = False
    key_columns: frozenset[str] = frozenset()
    guards: tuple[tuple[str, int], ...] = ()
    indexes: tuple[CatalogIndex, ...] = ()
    parents: tuple[int, ...] = ()
    partition_key: frozenset[str] = frozenset()
    diverted: bool = False
    checks: tuple[tuple[str, Check], ...] = ()
    reordered: bool = False
    unordered: bool = False
    row_type: int = 0
    barrier: bool = False
    policies_by_command: bool = False
    row_triggers: bool = False
    statement_triggers: bool = False
    guarded_fields: tuple[tuple[str, tuple[int, ...]], ...] = ()
    guarded_clear: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def column(self, name: str) -> CatalogColumn | None:
        """Return the column of this exact name, or None."""
        return next((c for c in self.columns if c.name == name), None)

    def index(self, name: str) -> CatalogIndex | None:
        """Return the index of this exact name, or None."""
        return next((i for i in self.indexes if i.name == name), None)

    @property
    def qualified(self) -> str:
        """``schema.name``, unquoted: for messages and look-ups, never for SQL."""
        return f"{self.schema}.{self.name}"


ANY_DDL = "\0any ddl"
"""Among ``Catalog.setters``: an event trigger may change the session."""
ANYTHING = "\0anything"
"""Among them in a transaction that has made code that does: what hangs from that is not known there, so it may be anything."""


@dataclass(frozen=True)
class Catalog:
    """Relations of one database and the names through which protected tables can be reached.

    Of a large database only what matters is read: ``names`` are those of relations and indexes of which all that there are, in
    whatever schema, are among ``relations`` (None: there are no others). Who asks for another name gets CatalogNeeded, and asks
    again when it was read.
    ``reaching`` maps a name (relation or function, without schema) that reaches a protected table by pg_depend or
    by its body, as a fixpoint, to one phrase that says how ("view over public.patients"); the protected tables
    themselves are not in it. ``dynamic`` are the names of functions that may run any text as SQL. ``views`` are the
    stored queries of views and materialized views that do so, by oid, with every name qualified. ``replaced`` are the names among
    ``=``, ``<>``, ``count`` and those that the proxy evaluates itself, of which somebody has made one of their own for texts.
    ``ascii_case``: upper and lower case of ASCII are each other, as they are not in Turkish. ``collation`` is the
    default one of the database, with its version; ``collations`` are the names of those under which only equal
    bytes are equal. ``types`` are the database's own, without arrays and the row types of tables.
    ``setters`` are the names of what may change the session's search path or styles by itself: functions, and tables, views, types
    and operators that call them. ``ANY_DDL`` is among them where an event trigger does so.
    ``signatures`` are its functions, operators and casts (None: not known). ``schemas`` are all but temporary ones (None: those
    of the relations); ``paths`` is another text where somebody may use others of them than before. ``others`` are names of
    relations that were there at some time, whether they were read or not. ``statistics``, as ``reaching``: names
    of the database's own through which what ANALYZE has found can be read.
    ``generation`` changes whenever anything else here does, but for ``relations``, ``names`` and ``others``.
    """

    generation: int
    server_version: int
    relations: tuple[Relation, ...]
    reaching: Mapping[str, str] = field(default_factory=dict)
    dynamic: frozenset[str] = frozenset()
    views: Mapping[int, str] = field(default_factory=dict)
    replaced: frozenset[str] = frozenset()
    ascii_case: bool = False
    collation: str = ""
    types: tuple[OwnType, ...] = ()
    collations: frozenset[str] = frozenset()
    setters: frozenset[str] = frozenset()
    signatures: Signatures | None = field(default=None, compare=False, repr=False)
    names: frozenset[str] | None = None
    schemas: frozenset[str] | None = None
    others: frozenset[str] = frozenset()
    paths: str = ""
    statistics: Mapping[str, str] = field(default_factory=dict)

    def as_seen(self, *, masks: bool) -> Catalog:
        """Return the same for sessions that see masks, to which statistics are as what is protected and not understood."""
        return replace(self, reaching={**self.statistics, **self.reaching}) if masks and self.statistics else self

    @property
    def unread_views(self) -> bool:
        """Tell whether a stored query could not be read, since somebody was changing the view or its tables."""
        return any(r.kind in ("v", "m") and r.name in self.reaching and r.oid not in self.views for r in self.relations)

    @cached_property
    def by_name(self) -> dict[tuple[str, str], Relation]:
        """Relations that were read, by (schema, name); ``find`` says of what was not that it must be."""
        return {(r.schema, r.name): r for r in self.relations}

    def require(self, names: Iterable[str]) -> None:
        """Go on when all relations and indexes of these names were read; else CatalogNeeded."""
        missing = frozenset() if self.names is None else frozenset(names) - self.names
        if missing:
            raise CatalogNeeded(names=missing)

    def find(self, schema: str, name: str) -> Relation | None:
        """Return the relation of this schema and name, or None; CatalogNeeded where the name was not read."""
        self.require((name,))
        return self.by_name.get((schema, name))

    def named(self, name: str) -> list[Relation]:
        """Return the relations of this name in all schemas; CatalogNeeded where it was not read."""
        self.require((name,))
        return [r for r in self.relations if r.name == name]

    def indexed(self, name: str) -> list[tuple[Relation, CatalogIndex]]:
        """Return the indexes of this name, each with its relation; CatalogNeeded where it was not read."""
        self.require((name,))
        return [(r, index) for r in self.relations if (index := r.index(name)) is not None]

    @cached_property
    def guarded(self) -> tuple[Relation, ...]:
        """The relations that have a guard, whatever their names."""
        return tuple(r for r in self.relations if r.guards)

    def extends(self, other: Catalog) -> bool:
        """Tell whether this knows more than another catalogue, and nothing else: then all that was made of that one holds."""
        if (self.generation, self.server_version) != (other.generation, other.server_version):
            return False
        if self.names is not None and (other.names is None or not other.names <= self.names):
            return False
        if any(self.by_oid.get(oid) != r for oid, r in other.by_oid.items()):
            return False
        new = (r for r in self.relations if r.oid not in other.by_oid)
        return other.names is not None and all(other.names.isdisjoint((r.name, *(i.name for i in r.indexes))) for r in new)

    @cached_property
    def loses_columns(self) -> bool:
        """Tell whether a relation may lose a column by DROP … CASCADE of something else: a type, a collation, a function.

        Behind it values that are given by position are those of other columns.
        """
        columns = (column for relation in self.relations for column in relation.columns)
        return any(c.type_oid >= FIRST_NORMAL_OID or c.generated or c.collation for c in columns)

    @cached_property
    def relation_names(self) -> frozenset[str]:
        """Names of relations, without their schemas, also of those that were not read."""
        return self.others.union(r.name for r in self.relations)

    @cached_property
    def by_oid(self) -> dict[int, Relation]:
        """Relations by pg_class.oid."""
        return {r.oid: r for r in self.relations}

    @cached_property
    def children(self) -> dict[int, list[Relation]]:
        """Partitions and inheritance children by the oid of their parent."""
        children: dict[int, list[Relation]] = {}
        for relation in self.relations:
            for parent in relation.parents:
                children.setdefault(parent, []).append(relation)
        return children

    @cached_property
    def type_names(self) -> frozenset[str]:
        """Names of the database's own types, without their schemas."""
        return frozenset(t.name for t in self.types)

    @cached_property
    def _types(self) -> dict[tuple[str, str], OwnType]:
        return {(t.schema, t.name): t for t in self.types}

    def type_named(self, names: Sequence[str], path: Iterable[str]) -> OwnType | None:
        """Return the type of the database's own that a name means, or None: also where a table's row type is meant."""
        names_in_path = [(names[0], names[1])] if len(names) > 1 else [(schema, names[0]) for schema in path]
        for type_name in names_in_path:
            if type_name in self._types:
                return self._types[type_name]  # in one schema no relation has the name of a type
            # All relations that the server itself has in its schema begin so.
            if (type_name[0] != "pg_catalog" or type_name[1].startswith("pg_")) and self.find(*type_name) is not None:
                return None
        return None
