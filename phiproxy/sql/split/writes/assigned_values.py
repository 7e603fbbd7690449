"""What a write gives to which column: the expressions of SET, VALUES and of the query of an INSERT, with where they stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from phiproxy.documents.path_operators import Key, text_step
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Waiting
from phiproxy.sql.split.clock_constants import MOMENTS, is_moment
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.pieces import COMPUTED_ITEM
from phiproxy.sql.split.writes.clauses import Assignment, Clauses, clauses_of
from phiproxy.sql.split.writes.composed import Span
from phiproxy.sql.split.writes.drawn import called_by_server
from phiproxy.sql.split.writes.targets import Target, target_of
from phiproxy.sql.text.parse import Node, location, messages, only, strings
from phiproxy.sql.text.token_spans import Spans
from phiproxy.sql.values.operands import Parameter, as_operand
from phiproxy.sql.values.path_steps import subscripts

ALIAS, COLUMN = COMPUTED_ITEM, "phi_"
"""What given rows and their columns are called in a write."""
KEPT = "phi_kept"
"""The column with their numbers, by which what only the engine has of them is told (``returned_beside``)."""
_KEPT = f"{ALIAS}.{KEPT}".encode()


@dataclass(frozen=True, slots=True)
class Given:
    """A value that is given to a column: its expression, and where it stands."""

    column: str
    node: Node
    span: Span
    protected: bool
    clock: str = ""
    """Of a constant that means a moment of the clock the date or time as which it is stored."""
    picks: tuple[int, int] = (0, 0)
    """Of ``(a, b) = (SELECT …)`` the number of the query's column that it is, and how many there are."""
    keys: tuple[str, ...] = ()
    """Of an assignment to a member of a jsonb the names on the way to it."""
    owner: str = ""
    """The name of the table in the write."""
    first: Given | None = None
    """What the same SET assigns to other members of the column before."""

    @property
    def bare(self) -> bool:
        """Whether it is a parameter that neither a cast nor Parse gives a type, so that it has that of the column."""
        return "ParamRef" in self.node and not isinstance(self.node["ParamRef"], Parameter)

    @property
    def computed(self) -> bool:
        """Whether a value for a protected column has to be computed: it is no parameter, constant, NULL or DEFAULT."""
        own = bool(self.clock) or bool(self.keys) or as_operand(self.node) is None
        return self.protected and "SetToDefault" not in self.node and own

    @property
    def as_select(self) -> tuple[str | Span, ...]:
        """How it is written where nothing but a cast says its type: ``CAST('today' AS date)``.

        ``doc['a'] = x`` is ``jsonb_set(coalesce(doc, '{}'), ARRAY['a'], coalesce(x, 'null'))``: what is not there is made.
        """
        if self.keys:
            document = ".".join(quote_ident(name, always=True) for name in (self.owner, self.column))
            before = self.first.as_select if self.first is not None else (document,)
            return _member_set(before, document, self.keys, self.span)
        number, count = self.picks
        if count:
            names = ", ".join(f"{COLUMN}{n}" for n in range(1, count + 1))
            return (f"(SELECT {ALIAS}.{COLUMN}{number} FROM ", self.span, f" AS {ALIAS} ({names}))")
        return ("CAST(", self.span, f" AS {self.clock})") if self.clock and "A_Const" in self.node else (self.span,)

    @property
    def first_keys(self) -> frozenset[str]:
        """The members of the column that it is given to, or that what it is given to is in."""
        return frozenset(self.keys[:1]) | (self.first.first_keys if self.first is not None else frozenset())

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where it stands: of several members, each of their values."""
        return (*(self.first.spans if self.first is not None else ()), self.span)

    @property
    def of_row(self) -> bool:
        """Whether it may depend on the row that is written."""
        return bool(self.keys) or any(isinstance(m.get("fields"), list) for m in messages(self.node))


def _member_set(into: tuple[str | Span, ...], document: str, keys: tuple[str, ...], value: Span) -> tuple[str | Span, ...]:
    """Return what sets a member of a document ``into`` a text; of keys on the way each is made where it is not there."""
    key, *deeper = ("'" + name.replace("'", "''") + "'" for name in keys)
    below = f"({document} -> {key})"
    inner = _member_set((below,), below, keys[1:], value) if deeper else ("coalesce(", value, ", 'null'::jsonb)")
    return ("jsonb_set(coalesce(", *into, f", '{{}}'::jsonb), ARRAY[{key}], ", *inner, ")")


@dataclass(slots=True)
class Written:
    """An INSERT, UPDATE or DELETE with its parts."""

    kind: str
    body: Node
    clauses: Clauses
    target: Target
    waiting: Waiting | None = None
    """Values of which no index answers what they stand in."""
    values: list[Given] = field(default_factory=list)
    """Those of SET, or of VALUES row by row."""
    query: list[Given] = field(default_factory=list)
    """The outputs of the query of an INSERT, as far as they stand in its target list."""
    conflict: list[Given] = field(default_factory=list)
    """Those of ON CONFLICT DO UPDATE, with its conditions, which are given to no column."""
    calls: list[tuple[int, int, str]] = field(default_factory=list)
    """Where functions are called that only the server calls, and what of their type is described instead."""


def written(a: Analysis, spans: Spans, waiting: Waiting | None = None) -> Written:
    """Return a write with its parts; Impossible where they are not located."""
    kind, body = a.statement.kind, a.statement.body
    clauses, target = clauses_of(a.statement, spans), target_of(a, body["relation"])
    write = Written(kind, body, clauses, target, waiting, calls=called_by_server(a, spans, body))
    if kind == "UpdateStmt":
        write.values = assigned(target, body["targetList"], clauses.assignments, members=True)
    elif kind == "InsertStmt" and "selectStmt" in body:
        _insert(write, spans)
    return write


def keeps(text: bytes) -> bool:
    """Tell whether RETURNING of a write is computed with values that only the engine may be given, whoever could compute it."""
    return _KEPT in text


def others_of(write: Written) -> list[Node]:
    """Return what stands in FROM or USING beside the target."""
    items: list[Node] = write.body.get("fromClause") or write.body.get("usingClause") or []
    return items


def tells_rows(write: Written) -> bool:
    """Tell whether it is a write of chosen rows: beside is no other table, and its condition says which they are, and no more."""
    items = [write.body["sourceRelation"]] if write.kind == "MergeStmt" else others_of(write)
    alias = items[0].get("RangeFunction", {}).get("alias", {}) if len(items) == 1 else {}
    names = strings(alias.get("colnames", ()))  # a client may call something of its own so
    return alias.get("aliasname") == ALIAS and bool(names) and all(name.startswith(COLUMN) for name in names)


def assigned_rows(write: Written) -> list[dict[str, Given]]:
    """Return the values of VALUES row by row, by their columns."""
    values = iter(write.values)
    return [{one.column: one for _, one in zip(row, values, strict=False)} for row in write.clauses.rows]


def reads_ctes(write: Written, parts: Iterable[object]) -> bool:
    """Tell whether these parts of a write read one of its CTEs, of whose name there may be a table too."""
    names = {only(node)[1]["ctename"] for node in write.body.get("withClause", {}).get("ctes", ())}
    return bool(names) and any(m.get("relname") in names for part in parts if part for m in messages(part))


def reads_others(target: Target, parts: Iterable[object]) -> bool:
    """Tell whether these parts of a write may read another table than its target: they do where that is not sure."""
    own = {c.name for c in target.relation.columns} | {"ctid", "tableoid"}
    for message in (m for part in parts if part for m in messages(part)):
        names = strings(message["fields"]) if isinstance(message.get("fields"), list) else []
        named = names[-1:] == ["*"] or names[-1:] == [] or names[-1] in own
        if not named or (len(names) > 1 and names[-2] != target.label) or "SubLink" in message:
            return True
    return False


def assigned(target: Target, nodes: list[Node], assignments: Iterable[Assignment], *, members: bool = False) -> list[Given]:
    """Return what the entries of a SET give to which column; Impossible where one is no value for a whole column.

    ``members``: also to members of documents, each column once.
    """
    result, rest = list[Given](), [only(node)[1] for node in nodes]
    for one in assignments:
        first, *_ = rest
        if "MultiAssignRef" not in first["val"]:
            keys = _keys(target, first) if members else None
            if first.get("indirection") and keys is None:
                raise Impossible("a part of a column is assigned")
            value = given_value(target, first["name"], first["val"], one.value, keys or ())
            result = _joined(result, value if not keys else replace(value, keys=keys, owner=target.label))
            del rest[0]
            continue
        source, count = first["val"]["MultiAssignRef"]["source"], first["val"]["MultiAssignRef"]["ncolumns"]
        if any(node.get("indirection") for node in rest[:count]):
            raise Impossible("a part of a column is assigned")
        if "SubLink" in source:
            _check_outputs(source["SubLink"]["subselect"]["SelectStmt"], count)
            for number, node in enumerate(rest[:count], start=1):
                result.append(replace(given_value(target, node["name"], source, one.value), picks=(number, count)))
            del rest[:count]
            continue
        items = source["RowExpr"].get("args", ()) if "RowExpr" in source else ()
        if len(items) != len(one.row):
            raise Impossible("the right side of a list of columns is no row")
        for node, item, span in zip(rest[: len(items)], items, one.row, strict=True):
            result.append(given_value(target, node["name"], item, span))
        del rest[: len(items)]
    if rest:
        raise Impossible("the entries of SET could not be located")
    return result


def _joined(given: list[Given], value: Given) -> list[Given]:
    """Return values with one more; what goes to several members of a column becomes one value.

    Impossible where one of them may be inside of another, or of the column as a whole.
    """
    before = next((one for one in given if one.column == value.column and (one.keys or value.keys)), None)
    if before is None:
        return [*given, value]
    if not value.keys or value.keys[0] in before.first_keys:
        raise Impossible("a part of a column is assigned twice")
    node = {"List": {"items": [before.node, value.node]}}
    return [replace(value, node=node, first=before) if one is before else one for one in given]


def _check_outputs(query: Node, count: int) -> None:
    """Go on where a query is known to give so many columns; Impossible."""
    while query.get("op", "SETOP_NONE") != "SETOP_NONE":
        query = query["larg"]
    outputs = [only(node)[1]["val"] for node in query.get("targetList", ())]
    if len(outputs) != count or any("A_Star" in m for output in outputs for m in messages(output)):
        raise Impossible("it is not known how many columns a query gives")


def _keys(target: Target, node: Node) -> tuple[str, ...] | None:
    """Return the names of the members that a subscripted assignment goes to; None where it is to anything else.

    An integer may be the element of an array, of which what lies before it is filled.
    """
    column = target.protected.get(node["name"])
    if column is None or column.type.family != "jsonb" or "SetToDefault" in node["val"]:
        return None
    texts = subscripts(node.get("indirection", []))
    steps = [text_step(str(text.value)) for text in texts or ()]
    names = tuple(step.name for step in steps if isinstance(step, Key))
    # A backslash is something else where standard_conforming_strings is off.
    return names if names and len(names) == len(steps) and not any("\\" in name for name in names) else None


def _insert(write: Written, spans: Spans) -> None:
    body, target = write.body, write.target
    query = only(body["selectStmt"])[1]
    listed = [only(node)[1] for node in body.get("cols", ())]
    if any(node.get("indirection") for node in listed):
        raise Impossible("a part of a column is given")
    names = [node["name"] for node in listed] or target.names(1 << 16)
    if write.clauses.rows and "valuesLists" in query:
        rows = [only(row)[1]["items"] for row in query["valuesLists"]]
        for items, row in zip(rows, write.clauses.rows, strict=True):
            if len(items) > len(names):
                raise Impossible("more values than columns")
            values = zip(items, row, strict=True)
            write.values += [given_value(target, name, *value) for name, value in zip(names, values, strict=False)]
    elif query.get("op", "SETOP_NONE") == "SETOP_NONE" and "valuesLists" not in query:
        outputs = [only(node)[1] for node in query.get("targetList", ())]
        if any("A_Star" in m for output in outputs for m in messages(output["val"])):
            _check_leaves(target, names)
        for name, output in zip(names, outputs, strict=False):
            write.query.append(given_value(target, name, output["val"], output_span(spans, output)))
    else:
        _check_leaves(target, names)
    if write.clauses.conflict is not None:
        conflict = body["onConflictClause"]
        write.conflict = assigned(target, conflict.get("targetList", []), write.clauses.updates)
        if write.clauses.updated_where is not None:
            write.conflict.append(Given("", conflict["whereClause"], write.clauses.updated_where, protected=False))


def output_span(spans: Spans, output: Node) -> Span:
    """Return where an output of a query stands, without its name."""
    if "ParamRef" in output["val"]:
        start = location(output["val"]["ParamRef"])
        return start, spans.tokens[spans.at(start)].end
    start = location(output)
    last = spans.item_end(start)
    if "name" in output:
        last -= 2 if spans.name(last - 1) == "AS" else 1
    return start, spans.tokens[last].end


def _check_leaves(target: Target, names: Iterable[str]) -> None:
    """Go on where no document with something in clear is among these columns, of which it is not seen what is given; Impossible."""
    if not target.leaves.keys().isdisjoint(names):
        raise Impossible("what is given to a document is not in sight")


def given_value(target: Target, name: str, node: Node, span: Span, keys: tuple[str, ...] = ()) -> Given:
    """Return a value that is given to a column, or to a member of it; Impossible where it may bring a sealed leaf into clear."""
    column = target.protected.get(name)
    family = column.type.underlying.family if column is not None else ""
    if name in target.leaves and "SetToDefault" not in node and (keys or as_operand(node) is None):
        target.leaves[name].check(node, keys)
    operand = as_operand(node) if family in MOMENTS else None
    asks = operand is not None and any(is_moment(family, value) for value in operand.values)
    return Given(name, node, span, column is not None, family if asks else "")
