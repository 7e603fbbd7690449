"""What is stored in documents of which parts are in clear, as all keys are: no opened value may be computed into such a part.

Where a leaf goes to is followed through what keeps leaves in their places: ``doc || …``, ``doc - 'a'``, ``jsonb_set`` of a constant
path and the like. Anything else over protected columns may move one, and is not computed for such a column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from phiproxy.documents.field_paths import ELEMENTS, Path
from phiproxy.documents.walk import Listed, listed
from phiproxy.policy.catalog import Relation
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.document_paths import spelled_path
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.scalar_values import SCALAR_OIDS, Scalars
from phiproxy.sql.table_names import meant_relation
from phiproxy.sql.text.parse import Node, messages, only, strings
from phiproxy.sql.values.path_steps import step_of, steps_of

_SETTERS = ("jsonb_set", "jsonb_set_lax")
_INSERTER = "jsonb_insert"
_SHRINKING = ("jsonb_strip_nulls",)
_TAKEN_AWAY = ("-", "#-")
_BUILDERS = ("json_build_object", "jsonb_build_object")
_CONVERTER = "to_jsonb"
_FROM = ("fromClause", "usingClause")


class LeafMoved(Impossible):
    """What is computed for a document may bring a sealed leaf to where it is in clear."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Whose columns the names in a write are.

    ``labels`` are the items of which each row is one of the target's table, or a proposed one; ``given`` those of given values.
    ``bare``: so are the columns of names without an item, where the target's table has such a column.
    """

    labels: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    bare: bool = False


def rows_of(a: Analysis, body: Node, label: str, target: Relation) -> Rows:
    """Return whose columns the names in a write of this body are; ``label`` is that of the target.

    Where there is a WITH in the text, an item of FROM with the table's name may be something else. Errors as ``meant_relation``.
    """
    query = only(body["selectStmt"])[1] if "selectStmt" in body else {}
    items = [*_items([*query.get("fromClause", ()), *(n for key in _FROM for n in body.get(key, ()))])]
    items += [body["sourceRelation"]] if "sourceRelation" in body else []
    proposed = {"excluded"} if "onConflictClause" in body else set[str]()
    # In ON CONFLICT the target's label means the row that is there, whatever the query calls so.
    given = {_alias(item) for item in items if _is_given(item)} - {label, *proposed}
    own = {_alias(item) for item in items if _is_table(a, item, target)} if b"with" not in a.text.lower() else set[str]()
    known = given | own
    # An INSERT into a MERGE, or of a query, sees the other items only: their columns may have the names of the target's.
    bare = all(_alias(item) in known for item in items) if query or "sourceRelation" in body else True
    others = {_alias(item) for item in items} - own | _merged(body)
    return Rows(frozenset(({label} | proposed | own) - others), frozenset(given), bare)


def _items(nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield the items of a FROM whose columns are seen: a join with an alias hides what it joins, and may name it otherwise."""
    for node in nodes:
        if "JoinExpr" in node and "alias" not in node["JoinExpr"]:
            yield from _items([node["JoinExpr"]["larg"], node["JoinExpr"]["rarg"]])
        else:
            yield node


def _alias(item: Node) -> str:
    body = only(item)[1]
    return str(body.get("alias", {}).get("aliasname") or body.get("relname", ""))


def _merged(body: Node) -> set[str]:
    """Return the aliases of the columns of USING, which may be of either side."""
    return {str(message["join_using_alias"]["aliasname"]) for message in messages(body) if "join_using_alias" in message}


def _is_table(a: Analysis, item: Node, target: Relation) -> bool:
    body = item.get("RangeVar", {})
    named = body.get("relname") == target.name and "colnames" not in body.get("alias", {})
    return named and meant_relation(a, body).oid == target.oid


def _is_given(item: Node) -> bool:
    """Tell whether an item is made of given values: ``(VALUES ($1, $2)) AS s``, ``unnest($1::text[]) AS u``."""
    kind, body = only(item)
    values = kind == "RangeFunction" or (kind == "RangeSubselect" and "valuesLists" in body["subquery"].get("SelectStmt", {}))
    return values and _names_nothing(body)


def _names_nothing(tree: Any) -> bool:
    return not any("ColumnRef" in message or "SubLink" in message for message in messages(tree))


@dataclass(frozen=True, slots=True)
class ClearLeaves:
    """The check of one value for one document column of a table."""

    column: ProtectedColumn
    name: str
    """What it is called in what is written to: of a view that is not what its table calls it."""
    names: frozenset[str]
    protected: frozenset[str]
    scalars: Scalars
    rows: Rows
    shown: list[Node] = field(default_factory=list)
    """The expressions over given values and unprotected columns that come to where a document is in clear."""

    def check(self, node: Node, keys: Path = ()) -> None:
        """Go on where a value leaves each leaf of a document in its place; LeafMoved where it may move a sealed one.

        ``keys``: it is given to that member. ``SET doc = jsonb_set(doc, '{ward}', doc->'ssn')`` would store a number in clear.
        """
        if not self._stays(node, keys):
            raise LeafMoved("a sealed leaf may be moved to where documents are in clear")

    def _stays(self, node: Node, at: Path) -> bool:
        """Tell whether what an expression gives may stand at a path."""
        if self._is_field(at) or self._is_sealed_scalar(node, at):
            return True
        if self.is_plain(node) and not _is_put_together(node):
            self.shown.append(node)
            return True
        kind, body = only(node)
        match kind:
            case "ColumnRef":
                return not at and self._is_own(body, {self.name})
            case "CoalesceExpr":
                return all(self._stays(one, at) for one in body["args"])
            case "CaseExpr":
                return self._of_case(body, at)
            case "TypeCast":
                return self._stays(body["arg"], at)
            case "A_Expr" if body["kind"] == "AEXPR_OP" and "lexpr" in body:
                return self._of_operator(node, strings(body["name"])[-1], body, at)
            case "FuncCall" if "func_variadic" not in body:
                return self._of_call(strings(body["funcname"])[-1], body.get("args", ()), at)
        return self._is_at(node, at)

    def _of_case(self, body: Node, at: Path) -> bool:
        """Tell whether the results of CASE stay: where something sealed decides, they are the same in all that is in clear."""
        whens = [only(when)[1] for when in body["args"]]
        results = [*(when["result"] for when in whens), *([body["defresult"]] if "defresult" in body else [])]
        decide = [*(when["expr"] for when in whens), *([body["arg"]] if "arg" in body else [])]
        if all(map(self.is_plain, decide)):
            self.shown.extend(decide)  # which of the results is stored in clear tells of what decides
            return all(self._stays(one, at) for one in results)
        return "defresult" in body and all(self._changes_fields(one, at) for one in results)

    def _changes_fields(self, node: Node, at: Path) -> bool:
        """Tell whether an expression is what stands at a path of the document, perhaps with other values of fields."""
        kind, body = only(node)
        if kind == "CaseExpr":
            return self._of_case(body, at)
        if kind == "ColumnRef":
            return not at and self._is_own(body, {self.name})
        arguments = body.get("args", ())
        if kind != "FuncCall" or strings(body["funcname"])[-1] not in _SETTERS or len(arguments) <= 2:
            return self._is_at(node, at)
        path = steps_of("#>", arguments[1])
        there = (*at, *(str(step.value) for step in path)) if path else ()
        return self._is_field(there) and all(map(self.is_plain, arguments[3:])) and self._changes_fields(arguments[0], at)

    def _of_operator(self, node: Node, name: str, body: Node, at: Path) -> bool:
        if name == "||":
            return self._stays(body["lexpr"], at) and self._stays(body["rexpr"], at)
        if name in _TAKEN_AWAY:
            return self._stays(body["lexpr"], at) and _names_nothing(body["rexpr"])
        return self._is_at(node, at)

    def _of_call(self, name: str, arguments: Sequence[Node], at: Path) -> bool:
        if name in _SHRINKING:
            return self._stays(arguments[0], at)
        if name in _BUILDERS:
            pairs = zip(arguments[::2], arguments[1::2], strict=False)
            return len(arguments) % 2 == 0 and all(self._is_member(key, value, at) for key, value in pairs)
        if name not in (*_SETTERS, _INSERTER) or len(arguments) <= 2 or not all(map(self.is_plain, (arguments[1], *arguments[3:]))):
            return False  # keys are in clear too
        self.shown.append(arguments[1])
        path = steps_of("#>", arguments[1]) if name in _SETTERS else None
        there = (*at, *(str(step.value) for step in path)) if path else None
        if there is None:
            self.shown.append(arguments[2])
        value = self.is_plain(arguments[2]) if there is None else self._stays(arguments[2], there)
        return value and self._stays(arguments[0], at)

    def _is_member(self, key: Node, value: Node, at: Path) -> bool:
        """Tell whether a value may be a member of what stands at a path."""
        if not self.is_plain(key):
            return False
        self.shown.append(key)
        name = step_of(key)
        if name is not None and isinstance(name.value, str):
            return self._is_value(value, (*at, name.value))
        self.shown.append(value)
        return self.is_plain(value)

    def _is_value(self, node: Node, at: Path) -> bool:
        """Tell whether an argument, of which JSON is made, may stand at a path: a scalar where scalars are sealed."""
        return (self._is_other(at) and self.scalars.are(node, self._is_of_target)) or self._stays(node, at)

    def _is_sealed_scalar(self, node: Node, at: Path) -> bool:
        """Tell whether an expression is a scalar as JSON, where scalars are sealed: ``to_jsonb(upper(ssn))``."""
        body = node.get("FuncCall", {})
        converts = strings(body.get("funcname"))[-1:] == [_CONVERTER] and len(body["args"]) == 1
        return converts and self._is_other(at) and self.scalars.are(body["args"][0], self._is_of_target)

    def _is_of_target(self, body: Node) -> bool:
        return self._is_own(body, self.names)

    def _is_at(self, node: Node, at: Path) -> bool:
        """Tell whether an expression is what stands at a path of the document: ``doc->'name'`` at ``$.name``.

        Or at another path where keys are in clear, and all else is sealed, as at this.
        """
        spelled = spelled_path(node, lambda names: names[-1])
        if spelled is None or spelled.text or any(step.kind == "position" or step.numeric for step in spelled.steps):
            return False
        path = tuple(step.name for step in spelled.steps)
        return (path == at or (self._is_other(path) and self._is_other(at))) and self._stays(spelled.base, ())

    def _is_field(self, at: Path) -> bool:
        """Tell whether a path is one of a field, or below it: all that stands there is sealed as a whole."""
        return any(node.number is not None for node, _ in self._listed(at))

    def _is_other(self, at: Path) -> bool:
        """Tell whether all scalars at a path and below are sealed, and keys are in clear."""
        document, way = self.column.document, list(self._listed(at))
        assert document is not None
        node, rest = way[-1]
        clear = any(one.clear or one.number is not None for one, _ in way)
        return document.others_sealed and not clear and (ELEMENTS not in node.below if rest else not node.below)

    def _listed(self, at: Path) -> Iterator[tuple[Listed, Path]]:
        """Yield what is listed at a path and on the way there, as far as something is, each with what is left of the path."""
        document = self.column.document
        assert document is not None
        node: Listed | None = listed(document.paths, document.clear)
        while node is not None:
            yield node, at
            key, at = (at[0], at[1:]) if at else (None, at)
            if key is None:
                return
            step = ELEMENTS if ELEMENTS in node.below and key.lstrip("-").isdigit() else key
            node = node.below.get(step)

    def is_plain(self, node: Node) -> bool:
        """Tell whether an expression is over given values and unprotected columns only."""
        found = messages(node)
        references = [message["ColumnRef"] for message in found if "ColumnRef" in message]
        plain = self.names - self.protected
        return not any("SubLink" in message for message in found) and all(
            self._is_given(body) or self._is_own(body, plain) for body in references
        )

    def _is_given(self, body: Node) -> bool:
        names = strings(body["fields"])
        return len(names) == 2 and names[0] in self.rows.given

    def _is_own(self, body: Node, names: frozenset[str] | set[str]) -> bool:
        """Tell whether a reference is one to one of these columns of the target's table."""
        *item, name = strings(body["fields"])
        return name in names and (self.rows.bare if not item else len(item) == 1 and item[0] in self.rows.labels)


def clear_leaves(a: Analysis, relation: Relation, protected: Mapping[str, ProtectedColumn], rows: Rows) -> dict[str, ClearLeaves]:
    """Return the checks of what is computed for the documents of a table or view whose leaves are sealed one by one."""
    types = {c.name: c.type_oid for c in relation.columns} | {n: c.type.underlying.oid for n, c in protected.items()}
    scalars = Scalars(a.context.catalog.signatures, frozenset(name for name, oid in types.items() if oid in SCALAR_OIDS))
    names, taken = frozenset(c.name for c in relation.columns), frozenset(protected)
    documents = {name: column for name, column in protected.items() if column.document is not None}
    return {name: ClearLeaves(column, name, names, taken, scalars, rows) for name, column in documents.items()}


def _is_put_together(node: Node) -> bool:
    """Tell whether a document is put together of parts, each of which has a place: ``jsonb_build_object('ssn', $1)``."""
    kind, body = only(node)
    match kind:
        case "TypeCast":
            return _is_put_together(body["arg"])
        case "CoalesceExpr":
            return any(map(_is_put_together, body["args"]))
        case "CaseExpr":
            results = [only(when)[1]["result"] for when in body["args"]]
            return any(map(_is_put_together, [*results, *([body["defresult"]] if "defresult" in body else [])]))
        case "A_Expr":
            return body["kind"] == "AEXPR_OP" and "lexpr" in body and strings(body["name"])[-1] == "||"
        case "FuncCall" if "func_variadic" not in body:
            name, arguments = strings(body["funcname"])[-1], body.get("args", ())
            return (name in _BUILDERS and len(arguments) % 2 == 0) or (name in (*_SETTERS, _INSERTER) and len(arguments) > 2)
    return False
