"""What of a statement goes into its sources: whole FROM clauses where the server can answer them, else each table by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from phiproxy.policy.view_rests import Rows
from phiproxy.sql.result import SourceColumn
from phiproxy.sql.split import clauses, ctes
from phiproxy.sql.split.blocks import Block, Item, block, references
from phiproxy.sql.split.clauses import Part
from phiproxy.sql.split.computed_columns import ComputedColumn, computed_columns
from phiproxy.sql.split.from_items import is_wanted, item_columns, views_of
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.order_and_limit import behind, check_outer_joins, locking, locks, nothing_waits, sorts_by_chance
from phiproxy.sql.split.pieces import table_span
from phiproxy.sql.split.remaining import bodies, nodes
from phiproxy.sql.split.rows_of_one_source import rows_of
from phiproxy.sql.split.shown_values import shown_beside_protected, units
from phiproxy.sql.split.sources import Column, Source, Trials
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.split.tables_and_columns import Mentioned, Table, TableColumn, mentioned, needed, written_rows
from phiproxy.sql.split.values import Key, ServerValue, server_values
from phiproxy.sql.table_names import protected_table
from phiproxy.sql.text.parse import Node, children, only, strings
from phiproxy.types.declared import DeclaredType

_ARITHMETIC = frozenset("+-*/%^")
FLAG = SourceColumn(DeclaredType.builtin("bool"))
_UNKNOWN = SourceColumn(DeclaredType("", 0))


@dataclass(slots=True)
class Own:
    """A source of one table alone."""

    table: Table
    source: Source

    def key(self, text: bytes) -> object:
        """Return what is the same of two sources that give the same rows; None where they may give others."""
        key = None if self.table.sample is not None else _key(self.source, text)
        return key and (self.table.relation.oid, *key)


@dataclass(slots=True)
class Joined:
    """A source of a whole FROM; ``labels`` are its items, each with all its columns."""

    block: Block
    source: Source
    labels: list[tuple[str, list[Column]]]
    views: dict[str, Table] = field(default_factory=dict)
    """Those of its items that are views over expressions."""

    def key(self, text: bytes) -> object:
        """Return what is the same of two sources that give the same rows; None where they may give others."""
        span, tables = self.source.span, all(item.kind == "RangeVar" for item in self.block.items)
        known = span is not None and tables and not self.views
        return _key(self.source, text) if known else None


def _key(source: Source, text: bytes) -> tuple[object, ...] | None:
    """Return what is the same of two sources that give the same rows; None where they may give others.

    Equal constants of the client's are equal in all texts of a shape that are split alike (``split_templates``).
    """
    conditions = tuple(text[part.start : part.end] for part in source.parts)
    odd = bool(source.locking or source.behind or source.before or source.waiting)
    odd = odd or any(part.weaker for part in source.parts) or any(column.written for column in source.columns)
    if odd or source.span is None:
        return None
    return text[slice(*source.span)], tuple(column.sql for column in source.columns), conditions


@dataclass(slots=True)
class Division:
    """``gone`` are the ids of the nodes that sources answer; ``blank`` the queries of WITH that nothing refers to any more."""

    own: list[Own] = field(default_factory=list)
    joined: list[Joined] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    blank: list[Node] = field(default_factory=list)
    unread: bool = False
    """Whether one of them is in no source either."""
    limited: list[Block] = field(default_factory=list)
    values: list[ServerValue] = field(default_factory=list)
    value_source: list[Source] = field(default_factory=list)
    computed: list[ComputedColumn] = field(default_factory=list)
    beside: dict[Key, Column] = field(default_factory=dict)
    """The columns of the only source that are values of the server's, by their keys."""
    twins: dict[int, Source] = field(default_factory=dict)
    """Of a source that is another one again, by its id, that one."""

    @property
    def distinct(self) -> list[Source]:
        """The sources that the server is asked for."""
        return [source for source in self.sources if id(source) not in self.twins]

    @property
    def sources(self) -> list[Source]:
        """All sources, in the order of their columns."""
        return [*(one.source for one in self.own), *(one.source for one in self.joined), *self.value_source]

    def read(self) -> dict[int, object]:
        """Return which sources are read, by the ids of the queries and tables that they stand for."""
        every = [*((o.table.body, o.source) for o in self.own), *((j.block.body, j.source) for j in self.joined)]
        return {id(body): id(self.twins.get(id(source), source)) for body, source in every}

    def rows(self, whole: Whole) -> Rows:
        """Return how the rows of the query are those of its source, where it has one only."""
        return rows_of(whole, [] if self.value_source else self.sources, self.gone)

    def columns(self) -> tuple[SourceColumn, ...]:
        """Return the columns of all sources as one."""
        return tuple(
            column for source in self.distinct for column in (*[FLAG][: bool(source.flag)], *(c.type for c in source.columns))
        )

    def narrowing(self) -> str:
        """Return what would let the server choose fewer rows, for a client that has asked for too many."""
        everything = [own.table.label for own in self.own if not own.source.parts and not own.source.behind]
        tables = everything or [own.table.label for own in self.own] or [label for one in self.joined for label, _ in one.labels]
        return f"add a condition on {' or '.join(dict.fromkeys(tables))} that the server can decide" if tables else ""

    def number(self, text: bytes) -> None:
        """Name the columns c1, c2 …: of several sources, each begins with one that is true in its own rows only.

        A source that is another one again, in the client's ``text``, is that one, so that equal subqueries stay equal:

        SELECT (SELECT max(full_name) FROM patients p), count(*) FROM visits GROUP BY (SELECT max(full_name) FROM patients p)
        """
        first: dict[object, Source] = {}
        every: list[Own | Joined] = [*self.own, *self.joined]
        for one in every:
            key = one.key(text)
            if key is not None and first.setdefault(key, one.source) is not one.source:
                self.twins[id(one.source)] = first[key]
        count, several = 0, len(self.distinct) > 1
        for source in self.distinct:
            flagged = several or not source.columns
            source.flag = f"c{count + 1}" if flagged else ""
            count += flagged
            source.names = [f"c{count + n}" for n in range(1, len(source.columns) + 1)]
            count += len(source.columns)
        for one in every:
            same = self.twins.get(id(one.source), one.source)
            one.source.flag, one.source.names = same.flag, same.names

    def take(self, *taken: Any) -> None:
        """Note that nodes are answered by a source, and stand in the rest no longer."""
        for node in taken:
            self.gone.add(id(node))
            self.gone.update(id(value) for value in node.values() if isinstance(value, dict))


def divide(whole: Whole) -> Division:
    """Divide a statement; Impossible. What meets something protected in the rest is in no source in clear."""
    trials = Trials(whole.a, whole.spans.tokens, ctes.kept(whole), stored=whole.stored)
    waiting, apart = set[Part](), set[int]()
    while True:
        divider = _Divider(whole, trials, waiting, apart)
        divider.divide()
        shared, clauses_ = divider.shared()
        if not shared and not clauses_:
            return divider.finished()
        if shared <= waiting and clauses_ <= apart:
            raise Impossible("a value in FROM meets something protected elsewhere")
        waiting |= shared
        apart |= clauses_


class _Divider:
    """Divides a statement. The conditions ``waiting`` go into no source, nor do the clauses ``apart``.

    These are told by the byte at which they begin: a FROM, which is not answered as a whole then, or ORDER BY and LIMIT.
    """

    def __init__(self, whole: Whole, trials: Trials, waiting: set[Part], apart: set[int]) -> None:
        self.whole = whole
        self.trials = trials
        self.out = Division()
        self.mentioned = mentioned(bodies(whole.body, ()))
        self._waiting = {(part.start, part.end) for part in waiting}
        self._apart = apart
        self._ctes: list[Node] = []
        self._defining: set[str] = set()
        self._computes: Source | None = None
        self._views = {id(table.body) for table in whole.tables if table.rest is not None}

    def divide(self) -> None:
        """Give each query its sources."""
        self._query(self.whole.body)

    def finished(self) -> Division:
        """Return the division, with the columns that what is left of the statement needs."""
        left = mentioned(bodies(self.whole.body, self.out.gone))
        left.names |= self._subjects()
        for own in self.out.own:
            own.source.columns = [Column(own.table.label, c.label, c.type) for c in needed(own.table, left)]
            own.source.columns += self._computed_by(own.source)
        for joined in self.out.joined:
            joined.labels = [
                (label, [c for c in columns if label in joined.views or self._left(left, joined, label, c)])
                for label, columns in joined.labels
            ]
            joined.labels[-1][1].extend(self._computed_by(joined.source))
            joined.source.columns = [column for _, columns in joined.labels for column in columns]
        values, taken = server_values(self.whole, self.out.gone)
        self.out.gone |= taken
        self.out.values = values
        spans = [*((value.start, value.end) for value in values), *(one.span for one in self.out.computed)]
        if any(_within(at, spans) for at in self._beside_protected()):
            raise Impossible("a value of the server's is asked for by what meets something protected")
        if values and self.whole.stored and self.out.rows(self.whole) != "other":
            self._beside(values)
        elif values:
            columns = {value.key: _value_column(value) for value in values}
            self.out.value_source.append(Source(None, list(columns.values())))
        self.out.number(self.whole.a.text)
        return self.out

    def _subjects(self) -> set[str]:
        """Return the columns that say whom rows are about: a view has them too, for the audit log."""
        tables = [protected_table(self.whole.a, table.relation) for table in self.whole.tables if self.whole.stored]
        return {table.subject for table in tables if table is not None and table.subject is not None}

    def _left(self, left: Mentioned, joined: Joined, label: str, column: Column) -> bool:
        return left.all_of(label, id(joined.block.body)) or column.name in left.names

    def _beside(self, values: list[ServerValue]) -> None:
        """Give the only source the values of the server's in each of its rows."""
        one = self.out.own[0] if self.out.own else self.out.joined[0]
        label = one.table.label if isinstance(one, Own) else one.labels[-1][0]
        for value in values:
            name = f"phi.v{len(self.out.beside) + 1}"
            if value.key not in self.out.beside:
                self.out.beside[value.key] = Column(label, name, value.type, value.written)
        one.source.columns += self.out.beside.values()
        if isinstance(one, Joined):
            one.labels[-1][1].extend(self.out.beside.values())

    # -- queries -----------------------------------------------------------------------------------------------------------

    def _query(self, body: Node) -> None:
        own = [only(node)[1] for node in body.get("withClause", {}).get("ctes", ())]
        self._ctes += own
        if body.get("op", "SETOP_NONE") != "SETOP_NONE":
            self._query(body["larg"])
            self._query(body["rarg"])
        elif body.get("fromClause"):
            self._block(body)
        self._inside({key: value for key, value in body.items() if key not in ("larg", "rarg", "withClause")})
        for cte in reversed(own):
            self._cte(body, cte)
        del self._ctes[len(self._ctes) - len(own) :]

    def _inside(self, tree: Any) -> None:
        """Go on with the queries inside of one."""
        for value in tree.values() if isinstance(tree, dict) else tree:
            if isinstance(value, dict | list) and id(value) not in self.out.gone:
                if isinstance(value, dict) and "SelectStmt" in value:
                    self._query(value["SelectStmt"])
                else:
                    self._inside(value)

    def _cte(self, body: Node, cte: Node) -> None:
        name = cte["ctename"]
        if name in self.whole.writes:
            self._blank(cte)
            return
        left = {key: value for key, value in body.items() if key != "withClause"}
        others = [only(node)[1] for node in body["withClause"]["ctes"] if only(node)[1] is not cte and cte not in self.out.blank]
        trees = [left, *(other for other in others if id(other["ctequery"]) not in self.out.gone)]
        if any(m.get("relname") == name and "schemaname" not in m for tree in trees for m in bodies(tree, self.out.gone)):
            recursive = body["withClause"].get("recursive")
            self._defining |= {name} if recursive else set()
            kind, inner = only(cte["ctequery"])
            if kind != "SelectStmt" or (name in self.whole.kept and ctes.is_volatile(self.whole, cte)):
                raise Impossible("a write in WITH, or what one reads and may give other rows to the rest")
            self._query(inner)
            self._defining.discard(name)
        else:
            if name not in self.whole.kept and any("lockingClause" in m for m in bodies(cte["ctequery"], ())):
                raise Impossible("a query of WITH that nobody reads, so that nobody says whether its rows may be locked")
            self._blank(cte)
            elsewhere = bodies(self.whole.body, {id(cte["ctequery"])})
            self.out.unread |= not any(m.get("relname") == name and "schemaname" not in m for m in elsewhere)

    def _blank(self, cte: Node) -> None:
        self.out.blank.append(cte)
        self.out.gone.add(id(cte["ctequery"]))
        self.out.gone.add(id(only(cte["ctequery"])[1]))

    def _block(self, body: Node) -> None:
        level = self.whole.verdict.levels.get(id(body))
        if level is None:
            raise Impossible("a query whose names are not known")
        read = block(self.whole.spans, body, level)
        taken = self._as_joined(read)
        if taken is not None:
            self._take_parts(taken.source.parts)
            self.out.gone.update(id(item.body) for item in read.items)
            self.out.take(*read.outer, *(node for part in read.inner if part not in taken.source.waiting for node in part.nodes))
            self.out.joined.append(taken)
            check_outer_joins(self.whole, read, self.out.gone)
            self._behind(read, taken.source)
            if not taken.views:
                self._compute(read, taken.source, taken.labels[-1][0])
            return
        tables = {id(table.body): table for table in self.whole.tables}
        for item in read.items:
            table = tables.get(id(item.table)) or self._returned(read, item)
            if table is not None:
                source = self._own(read, item, table)
                self._take_parts(source.parts)
                if len(read.items) == 1:
                    self._behind(read, source, sorts=table.rest is None or table.rest.rows == "each")
                    if table.rest is None:
                        self._compute(read, source, table.label)
                else:
                    locking(self.whole, read, source, table.label)
                self.out.own.append(Own(table, source))
            elif locks(body, item.label):
                raise Impossible("rows of a subquery would be locked")

    def _returned(self, read: Block, item: Item) -> Table | None:
        """Return what a write in WITH returns as a table; None where an item is no reference to one."""
        if item.kind != "RangeVar" or "schemaname" in item.body or item.body["relname"] not in self.whole.writes:
            return None
        known = next((one for one in read.level.sources if one.alias == item.label), None)
        if known is None or known.opaque:
            raise Impossible("a write in WITH of which it is not known what it returns")
        types = [self.whole.carried(column) or _UNKNOWN for column in known.columns]
        return written_rows(
            item.label, item.body, [TableColumn(c.name, c.name, 0, t) for c, t in zip(known.columns, types, strict=True)]
        )

    def _take_parts(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if part.weaker is None:
                self.out.parts.append(part)
                self.out.take(*part.nodes)

    def _behind(self, read: Block, source: Source, *, sorts: bool = True) -> None:
        if (
            sorts
            and not self._reads_view(read.body.get("sortClause", []))
            and nothing_waits(self.whole, read, source, self.out.gone)
        ):
            source.behind = behind(self.whole, read)
            if source.behind and (source.behind[0][0] in self._apart or self.trials.alone(source) is None):
                source.behind = []
            elif source.behind:
                self.out.limited.append(read)
                if sorts_by_chance(self.whole, read.body):
                    self.out.take(*read.body["sortClause"])
        locking(self.whole, read, source, "")

    def _compute(self, read: Block, source: Source, label: str) -> None:
        """Have a source compute what the engine does not, where the server does."""
        found = computed_columns(self.whole, read, source, label, self.out.gone)
        if found and self.trials.alone(dataclasses.replace(source, columns=[one.column for one in found])) is not None:
            self.out.computed, self._computes = found, source
            self.out.take(*(one.node for one in found))

    def _computed_by(self, source: Source) -> list[Column]:
        return [one.column for one in self.out.computed] if source is self._computes else []

    # -- one table, or all -------------------------------------------------------------------------------------------------

    def _own(self, read: Block, item: Item, table: Table) -> Source:
        """Return the source of one table, with the conditions that concern it alone.

        SELECT p.full_name FROM patients p, visits v WHERE p.mrn = 'x' AND v.room = 'r1' AND p.full_name < v.diagnosis
        """
        span = table_span(self.whole.spans, table)
        known = next(
            (s for s in read.level.sources if s.alias == table.label and (s.relation is not None or not table.relation.oid)), None
        )
        parts = [part for part in item.parts if known is not None and self._concerns(read, part, [table.label])]
        if table.rest is not None and (table.rest.rows == "other" or table.fenced):
            parts = []  # they are about what is computed of other rows too, or must not see these
        source = Source((span.start, span.end), [], parts, flag="c1")
        if self.trials.accepted(source) is None:
            raise Impossible("a table that the server does not show")
        return source

    def _concerns(self, read: Block, part: Part, labels: Sequence[str]) -> bool:
        """Tell whether a condition is over these items alone, and may be decided before the others."""
        if (part.start, part.end) in self._waiting:
            return False
        if any(m.get("relname") in self.whole.cte_names - set(self.whole.kept) for node in part.nodes for m in bodies(node, ())):
            return False
        if self._reads_view(part.nodes):
            return False
        if self.whole.waits(part.start, part.end):
            return False
        found = references(self.whole.verdict, part.nodes, read.level, self.whole.protected)
        if found.beyond or not found.sources or not all(source.alias in labels for source in found.sources):
            return False
        return not any(ctes.is_volatile(self.whole, node) for node in part.nodes)

    def _as_joined(self, read: Block) -> Joined | None:
        """Return the source of a whole FROM, if the server can answer it.

        SELECT upper(p.full_name), v.room FROM patients p JOIN visits v ON p.mrn = v.mrn WHERE v.room = 'r1'
        """
        labels = item_columns(self.whole, read, self.mentioned)
        if labels is None:
            return None
        names = [label for label, _ in labels]
        try:
            first, end = clauses.from_clause(self.whole.spans, clauses.select_token(self.whole.spans, read.body))
        except Impossible:
            return None
        tokens = self.whole.spans.tokens
        if self.whole.apart or tokens[first].start in self._apart:
            return None
        referred = {m["relname"] for m in bodies(read.body["fromClause"], ()) if "relname" in m and "schemaname" not in m}
        before = ctes.needed(self.whole, referred & self.whole.cte_names, self._ctes, self._defining)
        spans = [(tokens[first].start, tokens[end - 1].end), *(before.spans if before is not None else ())]
        if before is None or any(self.whole.waits(*span) for span in spans):
            return None
        if self._reads_view(
            self._ctes if before.spans else [], read.outer, read.body["fromClause"], but=[i.body for i in read.items]
        ):
            return None
        if any(self._reads_view(item.body) and id(item.table) not in self._views for item in read.items):
            return None
        parts = [part for part in read.parts if self._concerns(read, part, names)]
        columns = [c for label, of in labels for c in of if is_wanted(read, self.mentioned, label, c.name)]
        views = views_of(self.whole, read)
        if views and (read.outer or not all(table.rest is not None and table.rest.rows == "each" for table in views.values())):
            return None
        source = Source(spans[0], columns, parts, before=before.spans)
        source.flag, source.movable, source.recursive = "" if columns else "c1", read.inner, before.recursive
        if self.trials.accepted(source) is None or not self._connected(read, source, names):
            return None
        return Joined(read, source, labels, views)

    def _reads_view(self, *trees: Any, but: Sequence[Node] = ()) -> bool:
        """Tell whether a view over expressions is read inside of what a source would have as it is: its rest must be applied."""
        left_out = {id(node) for node in but}
        among = [[*tree] if isinstance(tree, tuple) else tree for tree in trees]  # of tuples nothing is looked into
        return bool(self._views) and any(id(m) in self._views for tree in among for m in bodies({"": tree}, left_out))

    def _connected(self, read: Block, source: Source, labels: Sequence[str]) -> bool:
        """Tell whether conditions join all items: else all pairs of rows would be fetched."""
        groups = [{label} for label in labels]
        joining = [part for part in read.inner if part not in source.waiting]
        conditions = [*([node] for node in read.outer), *(list(part.nodes) for part in (*joining, *source.parts))]
        related = [
            {s.alias for s in references(self.whole.verdict, nodes_, read.level, frozenset()).sources} for nodes_ in conditions
        ]
        related += [set(labels) for item in read.items if item.body.get("lateral")]
        for aliases in related:
            touched = [group for group in groups if group & aliases]
            groups = [group for group in groups if not group & aliases]
            groups += [set().union(*touched)] if touched else []
        return len(groups) == 1

    # -- what may be said to the server ------------------------------------------------------------------------------------

    def shared(self) -> tuple[set[Part], set[int]]:
        """Return the conditions and clauses that hold in clear what meets something protected in the rest.

        SELECT id FROM patients WHERE city = 'x' AND upper(ssn) = 'x'
        → source: SELECT patients.id, patients.ssn, patients.city FROM patients
        """
        offsets = self._beside_protected()
        if not offsets:
            return set(), set()
        parts = {part for source in self.out.sources for part in self.trials.shared(source, offsets)}
        clauses_ = set()
        for source in self.out.sources:
            waiting = [(part.start, part.end) for part in source.waiting]
            left = [at for at in offsets if not _within(at, waiting)]
            if source.span is not None and any(_within(at, [source.span, *source.before]) for at in left):
                clauses_.add(source.span[0])
            if any(_within(at, source.behind) for at in left):
                clauses_.add(source.behind[0][0])
        return parts, clauses_

    def _beside_protected(self) -> list[int]:
        """Return where values stand that may meet something protected in the rest, or are equal to one that may."""
        shown = shown_beside_protected(self.whole, self.out.gone)
        secrets = {*self._values_beside_protected(), *shown.values()}
        return [*shown, *(at for at, value in _values(self.whole.body, ()) if value in secrets)]

    def _values_beside_protected(self) -> Iterator[object]:
        """Yield the values of the rest that may meet something protected."""
        gone = self.out.gone
        for body in bodies(self.whole.body, gone):
            level = self.whole.verdict.levels.get(id(body))
            if level is None:
                continue
            for node in units(body, gone):
                if references(self.whole.verdict, [node], level, self.whole.protected).secret:
                    yield from (value for _, value in _values(node, gone))


def _value_column(value: ServerValue) -> Column:
    """Return a value of the server's as a column: of a call for each row, which may fail, with its place in the client's text."""
    span = (value.start, value.end) if value.each else None
    return Column("", "", value.type, value.written, span=span, conditions=value.conditions)


def _within(at: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= at < end for start, end in spans)


def _values(tree: Any, gone: Any) -> Iterator[tuple[int, object]]:
    """Yield parameters and constants with where they stand: of numbers only those that are compared, or computed with."""
    numbers: set[int] = set()
    for kind, node in nodes({"": tree}, gone):
        if kind == "A_Expr" and strings(node.get("name", ()))[-1] not in _ARITHMETIC:
            numbers.update(id(only(side)[1]) for side in _operands(node))
        elif kind == "ParamRef":
            yield node.get("location", 0), node.get("number", 0)
        elif kind == "A_Const":
            if "sval" in node:
                yield node.get("location", 0), node["sval"].get("sval", "")
            elif id(node) in numbers and not node.get("isnull") and "boolval" not in node:
                yield node.get("location", 0), repr({k: v for k, v in node.items() if k != "location"})


def _operands(node: Node) -> Iterator[Node]:
    for key in ("lexpr", "rexpr"):
        side = node.get(key)
        if side is not None:
            yield from children(side) if "List" in side else [side]
