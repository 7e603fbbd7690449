"""The state of one analysis: what a statement is analysed against, and what its rules have noted of uses and rewrites so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from functools import partial
from typing import Any, Protocol

from phiproxy.errors import StatementRefused
from phiproxy.frozen import dataclass
from phiproxy.long_values import holds
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.protection import DeclaredType, Form, ProtectedColumn, Protection, Slot
from phiproxy.policy.view_rests import ViewRest
from phiproxy.sql.resolve.protected_values import About, ListColumn, Output, Protected, Value, ViewColumns
from phiproxy.sql.resolve.scope import Joined, Scope, Source
from phiproxy.sql.result import Answered, Edit, SessionNames, Subject
from phiproxy.sql.rewrite.blank_comments import blanked_comments
from phiproxy.sql.rewrite.common_changes import ByRule, CastToTags, DecidedUse, DropCast, Qualify, Represent, TagColumn, TagSubquery
from phiproxy.sql.rewrite.draft import TextEdit
from phiproxy.sql.rewrite.order_of_rewrites import Rewrites, Step
from phiproxy.sql.text.corrected_refusals import Corrected
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.text.parse import Node, Positions, Scan, Statement, Token, between, location, messages, only
from phiproxy.sql.values.accepted_types import changes_nothing, given
from phiproxy.sql.values.operands import Operand, cast_type
from phiproxy.sql.values.type_resolution import Type
from phiproxy.sql.values.uses import Plain, Renew, Search, Store, Use
from phiproxy.types.names import sql_name


@dataclass(frozen=True)
class Context:
    """What a statement is analysed against: everything in here is part of a plan's key."""

    protection: Protection
    """The policy, as it applies to this database."""
    catalog: Catalog
    """What there is in the database."""
    path: tuple[str, ...] | None
    """The schemas of the search path; None where only the server knows it."""
    database: str
    """The database's name."""
    created: frozenset[str] = frozenset()
    """Names of what the session has made since the catalogue was read."""
    names: SessionNames | None = None
    """The session's prepared statements and cursors."""
    views: dict[int, ViewColumns | None] = field(default_factory=dict, compare=False)
    """What the columns of views are, by the views' OIDs, as far as somebody has asked."""
    temporary: frozenset[str] = frozenset()
    """The protected names that temporary tables of the session have."""
    declared: tuple[int, ...] = ()
    """The type OIDs that Parse declares of parameters."""
    scan: Scan | None = field(default=None, compare=False)
    """The tokens of a text of many statements, which is scanned for them once."""
    extensions: frozenset[str] = frozenset()
    """The extensions that the engine has like the server, whose functions it computes."""
    default_text: Callable[[ProtectedColumn], bytes] | None = field(default=None, compare=False)
    """Returns the expression of a column's computed DEFAULT; KeyNeeded, SealError."""
    default_spans: tuple[tuple[int, int], ...] = ()
    """Where the text has expressions of computed DEFAULTs, which the client has not written."""
    rests: Mapping[bytes, ViewRest] = field(default_factory=dict, compare=False)
    """The rests of views over expressions that were opened, by what they are sealed as."""
    inside: frozenset[bytes] | None = frozenset()
    """The views over expressions whose inputs may be read, by digests of their rests. None: all, by a source of the proxy's own."""
    of_source: bool = False
    """Whether it is a source, and not the client's own: of a parameter that is tested for NULL only it is told no more."""
    judging: bool = False
    """Whether it is asked only if columns of which masks are seen are more than shown: what views compute is computed on masks."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Which function understands which node, by the node's type. The one table is ``rules.RULES``, above all that stand in it.

    ``expressions`` answer what a value is. ``term_parts`` add to a term (``leaves.Term``) what its value may come from, or answer
    False where the whole is nothing protected. ``from_items`` answer the sources of an entry of FROM, ``queries`` the outputs of a
    query. ``definitions`` bring DDL into physical form, or answer False where they do not know how. An expression of a type that
    stands in no table may hold nothing protected; in FROM, or as a query, it is refused.
    """

    expressions: Mapping[str, Callable[[Analysis, Node, Node, Scope], Value]]
    term_parts: Mapping[str, Callable[[Analysis, Any, Node, Scope], bool]]
    from_items: Mapping[str, Callable[[Analysis, Node, Scope, Joined], Joined]]
    queries: Mapping[str, Callable[[Analysis, Node, Scope], list[Output]]]
    definitions: Mapping[str, Callable[[Analysis, Node], bool]]


class Deferred(Protocol):
    """A comparison of given values only, which is decided when it is known which of them meet a protected column elsewhere."""

    @property
    def node(self) -> Node:
        """The comparison."""

    def operands(self) -> Iterator[Operand | ListColumn]:
        """Yield the values that are compared."""

    def as_plain(self, a: Analysis) -> None:
        """Let it be what it is."""

    def as_tags(self, a: Analysis, column: ProtectedColumn) -> None:
        """Let it be a comparison of tags, as with this column."""


@dataclass(frozen=True, slots=True)
class Query:
    """The query of a statement, once its rules were applied."""

    outputs: Sequence[Output]
    """Its output columns, by name."""
    types: Sequence[Type]
    """The types of those that are given values, as their casts say; None of all others."""
    returns: bool
    """Whether the statement returns rows."""


@dataclass(slots=True)
class Analysis:
    """The analysis of one statement: what is known of it so far, for the rules, which add to it."""

    text: bytes
    """The client's whole text."""
    context: Context
    """What the statement is analysed against."""
    statement: Statement
    """The statement, as it was parsed."""
    rules: Rules
    """Which function understands which node."""
    scan: Scan = field(init=False)
    """The tokens of the whole text."""
    answer: Answered = field(init=False)
    """What the planner will be told of the statement."""
    tree: EditedTree = field(init=False)
    """Its tree as the server will see it; the client's own is not edited."""
    rewrites: Rewrites = field(default_factory=Rewrites)
    """What becomes of the text and the tree."""
    uses: list[DecidedUse] = field(default_factory=list)
    """The parameters and constants with what they are used for, in PostgreSQL's order; those that are not plain become rewrites."""
    lists: list[ListColumn] = field(default_factory=list)
    """Columns of given values, as of VALUES, whose users decide what their entries are used for."""
    comparisons: list[Deferred] = field(default_factory=list)
    """Comparisons that are decided last, since only given values are compared."""
    ctes: list[dict[str, Source]] = field(default_factory=list)
    """The CTEs that are in sight, by name, one dict per level of WITH, the innermost last."""
    walks: dict[int, list[Node]] = field(default_factory=dict)
    """The messages of bodies that were walked, by the bodies' ids; the first is the statement's."""
    relations: dict[tuple[str | None, str], Relation] = field(default_factory=dict)
    """The relations that were looked up, by their schema, where one is given, and name."""
    decided: set[int] = field(default_factory=set)
    """The ids of conditions that were understood together with another one, as the second bound of a range."""
    filters: set[int] = field(default_factory=set)
    """The ids of conditions of which NULL is as good as false."""
    calls: set[int] = field(default_factory=set)
    """The ids of calls that become comparisons, after which an output is named no longer."""
    shown: set[int] = field(default_factory=set)
    """The ids of column references and scalar subqueries that are result columns: of a masked column nothing else may be."""
    about: list[About] = field(default_factory=list)
    """The relations in it whose rows are each about a subject."""
    read_about: tuple[Subject, ...] | None = None
    """Whom the rows are about that FETCH reads; None of any other statement."""
    referenced: list[Source] = field(default_factory=list)
    """The CTEs, each as often as FROM refers to it."""
    physical: bool = False
    """Whether the statement is the stored query of a view, which runs as it is."""
    views_in_reading: frozenset[int] = frozenset()
    """The OIDs of the views in whose stored queries this one is."""
    rows: int = 0
    """How many rows of stored values there are so far."""
    group: int = 0
    """The number of what PostgreSQL looks at in one go (``together``); 0 outside of any."""
    query: Query | None = None
    """The statement's query, where something protected may be in it."""
    after_outputs: Callable[[], None] | None = None
    """What is done for what is around the query, once its outputs are known."""
    _positions: Positions | None = None
    _keys: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        kind, body, start, end, room = self.statement
        scan = self.context.scan
        self.scan = scan if scan is not None and scan.text is self.text else Scan(self.text)
        self.answer = Answered("other", start, end, room)
        self.tree = EditedTree({kind: body})

    def rewrite(self, function: Callable[..., Iterable[TextEdit]], step: Step = Step.EXPRESSIONS, **given: Any) -> None:
        """Note a rewrite of a rule's own: ``function(draft, **given)`` edits the tree, and returns the edits of the text."""
        self.rewrites.add(ByRule(partial(function, **given), step))

    def blanks(self, protected: Sequence[DecidedUse] = ()) -> list[Edit]:
        """Return the edits that leave of the statement's comments what the server may see, beside these uses."""
        if not self.scan.comments and not any(u.operand.array for u in protected):
            return []
        values = {v for u in protected for v in u.operand.values} | {u.operand.literal for u in protected}
        single = self.answer.room == (0, len(self.text))
        names = self._names_in_hints() if single and holds(self.text, b"/*+") else ()
        bound = any(u.operand.numbers for u in protected)
        return blanked_comments(self.scan, self.answer.room, values, names, bound=bound)

    def _names_in_hints(self) -> set[str]:
        """Return the names of what a hint may speak of: relations, their indexes, aliases and CTEs of the statement."""
        walked = self.whole()
        relations = {m["relname"] for m in walked if "relname" in m}
        names = {m[key] for m in walked for key in ("aliasname", "ctename") if isinstance(m.get(key), str)}
        indexes = {i.name for r in self.context.catalog.relations if r.name in relations for i in r.indexes}
        return relations | names | indexes

    def show(self, node: Node) -> None:
        """Note that an expression is a result column as it is, or under casts."""
        while "TypeCast" in node:
            node = node["TypeCast"]["arg"]
        self.shown.add(id(node))

    def refuse_masked(self, value: Value, node: Node) -> None:
        """Refuse a value of a column of which the role sees a mask only, where it is more than shown; ColumnMasked."""
        if isinstance(value, Protected) and value.column.masked is not None:
            with self.positioned(node):
                value.column.refuse_masked()

    def check_shown(self, value: Value, node: Node) -> None:
        """Refuse a reference to a masked column, or a subquery of one, that is no result column, and any to a denied one."""
        masked = value.column.masked if isinstance(value, Protected) else None
        if masked is not None and (masked.show.denies or id(node) not in self.shown):
            self.refuse_masked(value, only(node)[1])

    def position(self, body: Node) -> int:
        """Return the 1-based character position of a node's body; of what stands first in it where it has no place of its own."""
        offset = location(body)
        if offset > 0:
            return self.at(offset)
        return self.at(min((place for m in messages(body) if (place := location(m)) > 0), default=self.answer.start))

    def tokens(self) -> Sequence[Token]:
        """Return the tokens of this statement, with those around it."""
        return between(self.scan.tokens, *self.answer.room)

    def walk(self, body: Node) -> list[Node]:
        """Return ``messages`` of a body."""
        below = self.walks.get(id(body))
        if below is None:
            below = self.walks[id(body)] = messages(body)
        return below

    @property
    def keys(self) -> set[str]:
        """The keys of all messages of the statement: which node types and clauses there are in it."""
        if not self._keys:
            self._keys = set().union(*self.whole())
        return self._keys

    def whole(self) -> list[Node]:
        """Return ``messages`` of the statement."""
        return self.walk(self.statement.body)

    @property
    def parameter_numbers(self) -> frozenset[int]:
        """The numbers of the statement's parameters."""
        return frozenset(m["ParamRef"].get("number", 0) for m in self.whole() if "ParamRef" in m)

    def at(self, offset: int) -> int:
        """Return the 1-based character position of a byte offset."""
        if self._positions is None:
            self._positions = Positions(self.text)
        return self._positions.at(offset)

    def refuse(self, why: str, body: Node, *, hint: str, error: type[StatementRefused] = StatementRefused) -> StatementRefused:
        """Return (to be raised) the refusal of this place; ``hint`` says what would work in this very case."""
        return error(why, hint=hint, position=self.position(body))

    def new_row(self) -> int:
        """Return the number of a new row of stored values (spec/stored-format 2.1: one salt per row and data key)."""
        self.rows += 1
        return self.rows

    def use(self, operand: Operand, use: Use, type_oid: int = 0, steps: Sequence[DeclaredType] = ()) -> None:
        """Record an operand's use, the type that its place gives a parameter without a cast, and the ``steps`` before the use."""
        if isinstance(use, Store) and use.column.base is not None and operand.kind != "null":
            raise StatementRefused(
                f"a value would be shown as {use.column.label}, which is computed from what is stored",
                hint=f"Select {use.column.name}, and compute the expression in the client.",
                position=self.at(operand.offset),
            )
        if isinstance(use, Store) and use.column.part is not None and operand.kind != "null":
            raise StatementRefused(
                f"a value would become one with {use.column.label} in a way that is not in this version",
                hint="Select the document, and compute the expression in the client.",
                position=self.at(operand.offset),
            )
        for part in operand.parts if isinstance(use, Plain) else ():
            self.use(part, use)
        if isinstance(use, Store | Search):
            try:
                use, type_oid = given(operand, use, type_oid, steps)
            except StatementRefused as refusal:
                refusal.position = self.at(operand.offset)
                raise
        else:
            type_oid = operand.type_oid or type_oid
        if not (operand.parts and isinstance(use, Plain)):
            self.uses.append(DecidedUse(operand, use, type_oid, self.group))

    def positioned(self, body: Node) -> Corrected:
        """Give a refusal, raised inside without a position, that of a node's body."""

        def correct(refusal: StatementRefused) -> None:
            refusal.position = refusal.position or self.position(body)

        return Corrected(correct)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let what is recorded inside be what PostgreSQL looks at in one go, before it gives types to parameters without one."""
        outer, self.group = self.group, self.group or self.new_row()
        try:
            yield
        finally:
            self.group = outer

    def renew(self, node: Node, column: ProtectedColumn, row: int) -> None:
        """Record that DEFAULT is stored in a protected column that has one."""
        self.use(Operand("literal", node, node, ()), Renew(column, row))

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
            self.rewrites.add(DropCast(cast), cast)

    def drop_casts(self, casts: Iterable[Node]) -> None:
        """Take away casts that are known to be allowed."""
        for cast in casts:
            self.rewrites.add(DropCast(cast), cast)

    def cast_to_tags(self, casts: Iterable[Node], form: Form = "bytea") -> None:
        """Let casts of arrays to arrays of text be casts to arrays of tags, or of what is stored, which has this form."""
        for cast in casts:
            self.rewrites.add(CastToTags(cast, form), cast)

    def tag(self, node: Node, slot: Slot, output: int = 0, width: int = 1, *, stored: str | None = None) -> None:
        """Let the server see a column's tag (``stored``: generated column), or that of one ``output`` of a subquery's ``width``."""
        if "SubLink" not in node:
            self.rewrites.add(TagColumn(node, slot, stored), node)
            return
        tagged = self.rewrites.of(TagSubquery, node)
        if tagged is None:
            tagged = TagSubquery(node, width)
            self.rewrites.add(tagged, node)
        tagged.slots[output] = slot

    def represent(self, node: Node, slot: Slot, *, sets: bool = False, tag: Slot | None = None) -> None:
        """Let a column be any value of its group (see Represent)."""
        self.rewrites.add(Represent(node, slot, sets, self.context.catalog.server_version, tag), node)

    def qualify(self, relation: Node, schema: str) -> None:
        """Let a RangeVar name its schema; a stored query names relations by what they are."""
        if not self.physical:
            self.rewrites.add(Qualify(relation, schema), relation)
