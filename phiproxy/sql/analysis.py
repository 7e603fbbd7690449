"""The state of one analysis: what is known of the database and session, and what has been found so far.

Every rule takes an ``Analysis`` and adds to its ``meaning``; none of them looks at text, except through the spans kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from phiproxy.errors import NotPermitted, PathNeeded, StatementRefused, TooManyAliases, UndefinedTable
from phiproxy.policy.catalog import Catalog, CatalogColumn, Relation
from phiproxy.policy.guards import generated_tags
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, ProtectedTable, Protection, Slot
from phiproxy.sql.meaning import Meaning, Plain, Renew, Search, SessionNames, Store, Use
from phiproxy.sql.operands import OWN, changes_nothing, given
from phiproxy.sql.parse import Node, Positions, Token, location, messages, only, tokens_between
from phiproxy.sql.scope import Clear, ListColumn, Protected, Source, SourceColumn, Value, list_groups
from phiproxy.sql.sinks import SinkNode, cast_type
from phiproxy.types.names import sql_name

if TYPE_CHECKING:
    from phiproxy.sql.brackets import Brackets
    from phiproxy.sql.dependent import Selected
    from phiproxy.sql.finish import Spans
    from phiproxy.sql.meaning import Edit
    from phiproxy.sql.respell import Respelled
    from phiproxy.sql.terms import Comparison
    from phiproxy.sql.wrap import Change


@dataclass(frozen=True)
class Context:
    """What a statement is analysed against: everything in here is part of a plan's key.

    ``temporary`` are the protected names that temporary tables of the session have; ``declared`` the type OIDs of parameters.
    ``comments`` are those of the whole text, where somebody has looked for them already: a text of many statements is scanned for
    them once.
    """

    protection: Protection
    catalog: Catalog
    path: tuple[str, ...] | None
    database: str
    created: frozenset[str] = frozenset()
    names: SessionNames | None = None
    views: dict[int, tuple[Value, ...] | None] = field(default_factory=dict, compare=False)
    temporary: frozenset[str] = frozenset()
    declared: tuple[int, ...] = ()
    comments: Sequence[Token] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class DecidedUse:
    """One occurrence with its node: what an Occurrence of the meaning is made of. ``type_oid`` and ``group``: see there."""

    sink: SinkNode
    use: Use
    type_oid: int = 0
    group: int = 0


@dataclass(frozen=True, slots=True)
class Represented:
    """A column by whose tag ``slot`` its query is grouped (``sets``: by GROUPING SETS and the like): any value of the group.

    ``tag`` is the slot by which it is compared inside of a subquery, where PostgreSQL does not know it for what is grouped by.
    """

    node: Node
    slot: Slot
    sets: bool
    tag: Slot | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """A value that the client's text has no place for: it goes to the end of the list ``items``, as a ``wrapper`` if that says so.

    ``place`` finds the span that it takes, between ``lead`` and ``trail``.
    """

    use: Use
    items: list[Node]
    place: Callable[[Spans], tuple[int, int]]
    lead: bytes
    trail: bytes
    wrapper: str | None


@dataclass(slots=True)
class TaggedSubquery:
    """A subquery expression some of whose outputs are compared by their tags: slot numbers by position."""

    node: Node
    width: int
    slots: dict[int, Slot] = field(default_factory=dict)


@dataclass(slots=True)
class Analysis:
    """One statement's analysis: lists of what is to become of which node, carried out by ``finish``.

    ``tagged`` columns become their tags, ``represented`` ones any value of their group, ``nullifs`` CASE, ``respelled`` ones get
    another name; ``subqueries`` and ``wraps`` put queries around queries; ``comparisons`` are decided last. ``changes`` edit the
    tree, and return the edit of the text, of what no list here says. ``derived`` is what becomes of expressions of columns,
    ``stored_tags`` the generated columns that tags are read from, both by ``id``. ``added`` values go where the client has none;
    ``at_end`` is what is done to the tree last. ``decided`` are the nodes, by ``id``, that were understood with another one,
    ``filters`` those of which NULL is as good as false, ``calls`` those that name an output no longer. ``selected`` are the queries
    that pass rows on as they are, by ``id`` of their bodies.
    """

    text: bytes
    context: Context
    meaning: Meaning
    ctes: list[dict[str, Source]] = field(default_factory=list)
    uses: list[DecidedUse] = field(default_factory=list)
    lists: list[ListColumn] = field(default_factory=list)
    stripped: list[Node] = field(default_factory=list)
    recast: list[Node] = field(default_factory=list)
    tagged: list[tuple[Node, Slot]] = field(default_factory=list)
    qualified: list[tuple[Node, str]] = field(default_factory=list)
    respelled: dict[int, Respelled] = field(default_factory=dict)
    changes: list[Callable[[Spans, bytes], Edit]] = field(default_factory=list)
    stored_tags: dict[int, str] = field(default_factory=dict)
    derived: dict[int, str] = field(default_factory=dict)
    represented: list[Represented] = field(default_factory=list)
    nullifs: list[tuple[Node, Node]] = field(default_factory=list)
    subqueries: dict[int, TaggedSubquery] = field(default_factory=dict)
    wraps: list[Callable[[Brackets, bytes], Iterable[Change]]] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    added: list[Added] = field(default_factory=list)
    at_end: list[Callable[[], None]] = field(default_factory=list)
    walks: dict[int, list[Node]] = field(default_factory=dict)
    decided: set[int] = field(default_factory=set)
    filters: set[int] = field(default_factory=set)
    calls: set[int] = field(default_factory=set)
    selected: dict[int, Selected] = field(default_factory=dict)
    physical: bool = False
    rows: int = 0
    group: int = 0
    _positions: Positions | None = None

    def position(self, body: Node) -> int:
        """Return the 1-based character position of a node's body; of what stands first in it where it has no place of its own."""
        if location(body) > 0:
            return self.at(location(body))
        return self.at(min((place for m in messages(body) if (place := location(m)) > 0), default=self.meaning.start))

    def tokens(self) -> list[Token]:
        """Return the tokens of this statement: of a text of many statements the others are not scanned for each of them."""
        return tokens_between(self.text, *self.meaning.room)

    def walk(self, body: Node) -> list[Node]:
        """Return ``messages`` of a body as it was before anything in it was edited."""
        found = self.walks.get(id(body))
        if found is None:
            found = self.walks[id(body)] = list(messages(body))
        return found

    def whole(self) -> list[Node]:
        """Return ``messages`` of the statement as it was before anything in it was edited."""
        return next(iter(self.walks.values()))

    def at(self, offset: int) -> int:
        """Return the 1-based character position of a byte offset."""
        if self._positions is None:
            self._positions = Positions(self.text)
        return self._positions.at(offset)

    def refuse(self, why: str, body: Node, *, hint: str, error: type[StatementRefused] = StatementRefused) -> StatementRefused:
        """Return (to be raised) the refusal of this place; ``hint`` says what would work in this very case."""
        return error(why, hint=hint, position=self.position(body))

    def new_row(self) -> int:
        """Return the number of a new row of stored values (crypto.md section 3: one salt per row and data key)."""
        self.rows += 1
        return self.rows

    def use(self, sink: SinkNode, use: Use, type_oid: int = 0, steps: Sequence[DeclaredType] = ()) -> None:
        """Record what an occurrence is used for, and the type that its place gives a parameter without a cast.

        ``steps`` are what its value becomes before it is used so.
        """
        if isinstance(use, Store) and use.column.base is not None and sink.kind != "null":
            raise StatementRefused(
                f"a value would be shown as {use.column.label}, which is computed from what is stored",
                hint=f"Select {use.column.name}, and compute the expression in the client.",
                position=self.at(sink.offset),
            )
        for part in sink.parts if isinstance(use, Plain) else ():
            self.use(part, use)
        if isinstance(use, Store | Search):
            try:
                use, type_oid = given(sink, use, type_oid, steps)
            except StatementRefused as refusal:
                refusal.position = self.at(sink.offset)
                raise
        else:
            type_oid = sink.type_oid or type_oid
        if not (sink.parts and isinstance(use, Plain)):
            self.uses.append(DecidedUse(sink, use, type_oid, self.group))

    @contextmanager
    def placed(self, body: Node) -> Iterator[None]:
        """Give a refusal from inside that knows no place that of a node's body."""
        try:
            yield
        except StatementRefused as refusal:
            refusal.position = refusal.position or self.position(body)
            raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let what is recorded inside be what PostgreSQL looks at in one go, before it gives types to parameters without one."""
        outer, self.group = self.group, self.group or self.new_row()
        try:
            yield
        finally:
            self.group = outer

    def store(
        self,
        sink: SinkNode,
        column: ProtectedColumn,
        row: int,
        steps: Sequence[DeclaredType] = (),
        *,
        perhaps: bool = False,
        certain: bool = False,
    ) -> None:
        """Record that an occurrence is stored in a column; ``steps`` are what it becomes before; for the rest see Store."""
        self.use(sink, Store(column, row, perhaps=perhaps, certain=certain), OWN, steps)

    def renew(self, node: Node, column: ProtectedColumn, row: int) -> None:
        """Record that DEFAULT is stored in a protected column that has one."""
        self.use(SinkNode("literal", node, node, ()), Renew(column, row))

    def strip(self, casts: Iterable[Node], column: ProtectedColumn) -> None:
        """Take away casts of what is an envelope or a tag of a column; refuses one that changes what it is a cast of."""
        for cast in casts:
            shown = cast_type(only(cast)[1])
            if shown is None or not changes_nothing(column.type, shown):
                raise self.refuse(
                    f"a cast of {column.label}, which is of type {sql_name(column.type)}, to another type is not in this version",
                    only(cast)[1]["typeName"],
                    hint=f"Use {column.name} itself, and convert what is selected in the client.",
                )
            self.stripped.append(cast)

    def tag(self, node: Node, slot: Slot, output: int = 0, width: int = 1) -> None:
        """Let the server see the tag of a column, or of one output (of ``width``) of a subquery expression."""
        if "SubLink" in node:
            tagged = self.subqueries.setdefault(id(node), TaggedSubquery(node, width))
            tagged.slots[output] = slot
        else:
            self.tagged.append((node, slot))

    # -- relations ---------------------------------------------------------------------------------------------------------

    def relation(self, body: Node, *, target: bool = False) -> Source | Relation:
        """Return the CTE or relation that a RangeVar means (manual 5.10; CTEs hide unqualified names).

        Raises UndefinedTable; NotPermitted for the registry; PathNeeded without a path.
        """
        name, schema = body["relname"], body.get("schemaname")
        if body.get("catalogname") not in (None, self.context.database):
            raise self.refuse("cross-database references are not implemented", body, hint="Leave the database out of the name.")
        if schema == self.context.protection.registry_schema:
            raise NotPermitted("the key registry is not for clients", position=self.position(body))
        if schema is None and not target:
            for level in reversed(self.ctes):
                if name in level:
                    return level[name]
        found = self._lookup(name, schema, body)
        if found.schema == self.context.protection.registry_schema:
            raise NotPermitted("the key registry is not for clients", position=self.position(body))
        if schema is None and self._is_protected_name(name):
            self.qualified.append((body, found.schema))
        return found

    def _is_protected_name(self, name: str) -> bool:
        return name in self.context.protection.table_names or name in self.context.catalog.reaching

    def _lookup(self, name: str, schema: str | None, body: Node) -> Relation:
        context = self.context
        if schema is None or schema == "pg_temp":
            if context.path is None:
                raise PathNeeded(self.position(body))
            found = self._on_path(name, own_only=schema is not None)
        else:
            found = context.catalog.find(schema, name)
        if found is not None:
            return found
        if name in context.created and not self._is_protected_name(name):
            return Relation(0, schema or "", name, "r", ())
        shown = name if schema is None else f"{schema}.{name}"
        raise UndefinedTable(f'relation "{shown}" does not exist', position=self.position(body))

    def _on_path(self, name: str, *, own_only: bool) -> Relation | None:
        """Return what a name means on the search path, or among the session's own temporary tables only.

        The catalogue may still have a temporary table of a session that is gone, or not yet this session's: of those with a
        protected name only the session says which there are. They are known by name only, as ``pg_temp``'s, none of their columns
        being protected.
        """
        context = self.context
        for schema in context.path or ():
            temporary = schema.startswith("pg_temp_")
            if own_only and not temporary:
                continue
            if temporary and name in context.protection.table_names:
                if name in context.temporary:
                    return Relation(0, "pg_temp", name, "r", ())
                continue
            found = context.catalog.find(schema, name)
            if found is not None:
                return found
        return None

    def will_mean(self, body: Node, made: tuple[str, str]) -> bool:
        """Tell whether a RangeVar means the relation, of this schema and name, that the statement is about to make."""
        schema, name = made
        if body["relname"] != name or "schemaname" in body:
            return (body.get("schemaname"), body["relname"]) == made
        path = self.context.path or ()
        before = path[: path.index(schema)] if schema in path else path
        return schema in path and not any(self.context.catalog.find(earlier, name) is not None for earlier in before)

    def protected(self, relation: Relation) -> ProtectedTable | None:
        """Return the protection of a relation, or None; StatementRefused for one that is refused as a whole."""
        return self.protected_at(relation.schema, relation.name)

    def protected_at(self, schema: str, name: str) -> ProtectedTable | None:
        """Return the protection of what has this name, as ``protected`` does."""
        table = self.context.protection.by_name.get((schema, name))
        if table is not None and table.refused is not None:
            refusal = StatementRefused(table.refused.why, hint=table.refused.hint)
            refusal.name = name
            raise refusal
        return table

    def takes_names(self, schema: str, name: str, columns: Iterable[str | None]) -> bool:
        """Tell whether a new table would be named as a protected one and its columns, and is not in clear as the policy says.

        A column of None has a name that is not known.
        """
        protection = self.context.protection
        if (schema, name) in protection.by_name or (schema, name) in protection.boundary.clear:
            return False
        taken = {column for table in protection.tables if table.name == name for column in table.columns}
        return bool(taken) and any(column is None or column in taken for column in columns)

    def target_relation(self, body: Node) -> Relation:
        """Return the relation that a RangeVar means when it is no CTE; records nothing."""
        return self._lookup(body["relname"], body.get("schemaname"), body)

    def source(self, body: Node) -> Source:
        """Return a RangeVar of a FROM clause as a source, under its alias and alias column names."""
        found = self.relation(body)
        if isinstance(found, Source):
            for group in list_groups(c.value for c in found.columns):
                group.references += 1
            named = body.get("alias", {})
            label = named.get("aliasname") or body["relname"]
            return rename(Source(label, found.columns, None, found.opaque, system=False), named)
        return self.table_source(found, body)

    def target(self, body: Node) -> tuple[Relation, Source]:
        """Return the relation that INSERT, UPDATE or DELETE names, never a CTE, and its source."""
        found = self.relation(body, target=True)
        assert isinstance(found, Relation)
        return found, self.table_source(found, body)

    def table_source(self, found: Relation, body: Node) -> Source:
        """Return a relation as a source, under the alias of its RangeVar."""
        named = body.get("alias", {})
        label = named.get("aliasname") or body["relname"]
        table = self.protected(found)
        if table is None:
            self.check_reaching(found.name, body)
        else:
            self.meaning.touches = True
            self._check_known(table, body)
        columns = tuple(
            SourceColumn(c.name, self._value(table, found, c))
            for c in found.columns
            if self.physical or not c.name.startswith("phi_tag_")
        )
        schema = None if named.get("aliasname") else found.schema
        # A relation made by this session moments ago is known by name only: its columns are opaque, none of them protected.
        hidden = len(columns) < len(found.columns)
        return rename(Source(label, columns, schema, opaque=not found.oid, hidden=hidden), named)

    def _check_known(self, table: ProtectedTable, body: Node) -> None:
        """Refuse a table with a column whose type is not in the catalogue: how its values are read is not known."""
        unknown = next((c for c in table.columns.values() if not c.type.known), None)
        if unknown is not None:
            why = f"type {unknown.type.name}, which {unknown.label} has, is not there or can no longer be protected"
            raise self.refuse(why, body, hint="Run `phiproxy check`.")

    @staticmethod
    def _value(table: ProtectedTable | None, relation: Relation, column: CatalogColumn) -> Value:
        protected = table.columns.get(column.name) if table is not None else None
        if protected is None:
            return Clear((column.type_oid, column.typmod))
        # Of a table that the same text makes only the server knows the OID.
        origin = (relation.oid, column.attnum) if relation.oid > 0 else None
        return Protected(protected, protected.type, origin=origin, tags=generated_tags(relation, protected))

    def check_reaching(self, name: str, body: Node) -> None:
        """Refuse a relation or function name through which something protected is reached."""
        how = self.context.catalog.reaching.get(name)
        if how is not None:
            raise StatementRefused(
                f'"{name}" reaches protected columns ({how})',
                hint="Use the protected table itself.",
                position=self.position(body),
            )


def rename(source: Source, alias: Node) -> Source:
    """Apply an alias's column list (manual 7.2.1.2): the first n columns get new names."""
    names = [only(n)[1].get("sval", "") for n in alias.get("colnames", ())]
    if not names:
        return source
    if len(names) > len(source.columns) and not source.opaque:
        there, given = len(source.columns), len(names)
        raise TooManyAliases(
            f'table "{source.alias}" has {there} columns available but {given} columns specified', hint="Give fewer."
        )
    renamed = tuple(SourceColumn(names[i], _renamed(c.value)) if i < len(names) else c for i, c in enumerate(source.columns))
    return replace(source, columns=renamed)


def _renamed(value: Value) -> Value:
    return replace(value, tags=()) if isinstance(value, Protected) else value
