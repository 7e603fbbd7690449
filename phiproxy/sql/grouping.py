"""GROUP BY, DISTINCT and PARTITION BY over protected columns: rows are put together by tags, any envelope of a group shows it.

``SELECT c … GROUP BY c`` becomes ``SELECT any_value(c) … GROUP BY T(c)``; DISTINCT becomes DISTINCT ON over all outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from phiproxy.policy.guards import tag_of
from phiproxy.policy.protection import Slot
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.brackets import Brackets
from phiproxy.sql.dependent import dependent
from phiproxy.sql.derived import derived_under
from phiproxy.sql.expressions import clear, clear_all, equality_slot, located, unsupported
from phiproxy.sql.leaves import term
from phiproxy.sql.meaning import Edit
from phiproxy.sql.parse import Node, children, location, messages, only, strings
from phiproxy.sql.respell import is_reference, reference, value_of
from phiproxy.sql.scope import SHOWN, Kept, ListColumn, Output, Protected, Scope, Value, group_key
from phiproxy.sql.sinks import as_sink, peel
from phiproxy.sql.terms import as_plain, as_tags, same_identity
from phiproxy.sql.wrap import Change, Insert, expression_tree, quote_ident, replace, spelled


def grouped_scope(a: Analysis, body: Node, scope: Scope) -> Scope:
    """Return the scope of what comes after grouping: the same, knowing the protected columns that GROUP BY names."""
    clause = body.get("groupClause", ())
    found = {key.known for item in _flat(clause) if (key := _key(a, item, body, scope)) is not None}
    if not found:
        return scope
    sets = any("GroupingSet" in node for node in clause)
    return dataclasses.replace(scope, grouped=frozenset(found), sets=sets)


def _flat(clause: Sequence[Node]) -> Iterator[Node]:
    """Yield the entries of GROUP BY, also those inside of ROLLUP (…), CUBE (…), GROUPING SETS (…) and (…, …)."""
    for node in clause:
        kind, body = only(node)
        if kind == "GroupingSet" or (kind == "RowExpr" and body.get("row_format") == "COERCE_IMPLICIT_CAST"):
            yield from _flat((*body.get("content", ()), *body.get("args", ())))
        else:
            yield node


@dataclass(frozen=True, slots=True)
class _Key:
    """A protected value by which a query is grouped: what it is, a reference to its column, and by what a scope knows it."""

    value: Protected
    column: Node
    known: tuple[int, str]


def _key(a: Analysis, item: Node, body: Node, scope: Scope) -> _Key | None:
    target = named_target(item, body, scope)
    return _key_of(a, item if target is None else target, scope)


def _key_of(a: Analysis, node: Node, scope: Scope) -> _Key | None:
    found, node, _ = derived_under(a, node, scope)
    if found is not None:
        return _Key(found.made, found.reference(), group_key(found.value, found.made.column.expression))
    kind, column = only(node)
    if kind != "ColumnRef" or strings(column["fields"])[-1] == "*":
        return None
    value = value_of(a, node, scope)
    return _Key(value, reference(a, node), group_key(value)) if isinstance(value, Protected) else None


def named_target(item: Node, body: Node, scope: Scope) -> Node | None:
    """Return the target that an entry of GROUP BY names by its number or its output name; a column of FROM comes first."""
    kind, entry = only(item)
    nodes = [only(node)[1] for node in body.get("targetList", ())]
    if kind == "A_Const" and "ival" in entry:
        index = entry["ival"].get("ival", 0)
        before = nodes[:index]
        counted = 1 <= index <= len(nodes) and not any(_is_star(target["val"]) for target in before)
        return before[-1]["val"] if counted else None
    if kind != "ColumnRef" or len(names := strings(entry["fields"])) != 1:
        return None
    if any(source.owns(names[0]) for source in scope.sources):
        return None
    return next((target["val"] for target in nodes if target.get("name") == names[0]), None)


def _is_star(node: Node) -> bool:
    kind, body = only(node)
    return kind == "ColumnRef" and strings(body["fields"])[-1] == "*"


def group_by(a: Analysis, body: Node, outputs: Sequence[Output], scope: Scope) -> None:
    """Analyse the entries of GROUP BY; ``scope`` is that of FROM."""
    for item in _flat(body.get("groupClause", ())):
        key = _key(a, item, body, scope)
        target = named_target(item, body, scope)
        if key is None:
            _unprotected_key(a, item, target, outputs, scope)
            continue
        slot = equality_slot(a, key.value.column, item)
        if target is None:
            as_tags(a, term(a, item, scope), key.value.column, slot)
        else:
            a.wraps.append(partial(_tag_in_place, item=item, column=key.column, slot=slot))


def _unprotected_key(a: Analysis, item: Node, target: Node | None, outputs: Sequence[Output], scope: Scope) -> None:
    kind, body = only(item)
    if kind == "A_Const" and "ival" in body:
        index = body["ival"].get("ival", 0)
        named = [outputs[index - 1][1]] if 1 <= index <= len(outputs) else []
    elif target is not None:
        named = [value for name, value in outputs if name == strings(body["fields"])[0]]
    else:
        clear(a, item, scope)
        return
    for value in named:
        if isinstance(value, Protected):
            raise a.refuse(
                f"{value.column.label} is protected, and the output named here is not the column itself",
                located(item),
                hint="Select the expression in a subquery of FROM, and group by its column.",
            )
        if isinstance(value, ListColumn):
            value.users.append(None)


def _tag_in_place(brackets: Brackets, text: bytes, *, item: Node, column: Node, slot: Slot) -> Iterator[Change]:
    """Replace a number or an output's name by the tag of the column that is meant."""
    start, end = brackets.dotted(location(only(item)[1]))
    yield Edit(start, end, tag_of(spelled(brackets, text, column), slot).encode())
    replace(item, expression_tree(tag_of("phi_x", slot), {"phi_x": column}))


def distinct(a: Analysis, body: Node, outputs: Sequence[Output], nodes: Sequence[Node | None], scope: Scope) -> None:
    """Let DISTINCT compare protected outputs by their tags; ``nodes`` are the expressions of the outputs."""
    if not any(isinstance(value, Protected) for _, value in outputs):
        for _, value in outputs:
            if isinstance(value, ListColumn):
                value.users.append(None)
        return
    entries: list[tuple[Node, Slot] | int] = []
    depending = dependent(a, outputs, nodes, scope)
    for number, ((_, value), node) in enumerate(zip(outputs, nodes, strict=True), start=1):
        if isinstance(value, ListColumn):
            value.users.append(None)
        if not isinstance(value, Protected):
            entries.append(number)
            continue
        if id(value) in depending and value.column.slot_for("@") is None:
            continue
        found, column, _ = derived_under(a, node, scope) if node is not None else (None, None, ())
        if found is not None:
            entries.append((found.reference(), equality_slot(a, value.column, found.node)))
            continue
        if column is None or not is_reference(column):
            raise a.refuse(
                f"DISTINCT over an expression of {value.column.label} is not in this version",
                located(node or body["targetList"][0]),
                hint="Select the expression in a subquery of FROM, and the distinct values of its column."
                if node is not None
                else "List the columns instead of *.",
            )
        entries.append((reference(a, column), equality_slot(a, value.column, column)))
    first = location(only(body["targetList"][0])[1])
    a.wraps.append(partial(_distinct_on, body=body, first=first, entries=entries))


def _distinct_on(
    brackets: Brackets, text: bytes, *, body: Node, first: int, entries: Sequence[tuple[Node, Slot] | int]
) -> Iterator[Change]:
    token = brackets.tokens[brackets.next(brackets.select(first), "DISTINCT")]
    on = [str(entry) if isinstance(entry, int) else tag_of(spelled(brackets, text, entry[0]), entry[1]) for entry in entries]
    yield Insert(token.end, f" ON ({', '.join(on)})".encode(), closing=True)
    body["distinctClause"] = [
        expression_tree(str(entry), {})
        if isinstance(entry, int)
        else expression_tree(tag_of("phi_x", entry[1]), {"phi_x": entry[0]})
        for entry in entries
    ]


def distinct_on(a: Analysis, item: Node, outputs: Sequence[Output], nodes: Sequence[Node | None], scope: Scope) -> bool:
    """Let an entry of DISTINCT ON that is, or names, a protected column be its tag; False for all else."""
    kind, body = only(peel(item)[0])
    named: Node | None = None
    if kind == "A_Const" and 1 <= (index := body.get("ival", {}).get("ival", 0)) <= len(outputs):
        named = nodes[index - 1] if isinstance(outputs[index - 1][1], Protected) else None
    elif kind == "ColumnRef" and len(names := strings(body["fields"])) == 1:
        named_by = [i for i, (name, _) in enumerate(outputs) if name == names[0]]
        if named_by and not isinstance(outputs[named_by[0]][1], Protected):
            return False
        named = nodes[named_by[0]] if named_by else None
    key = _key_of(a, named if named is not None else item, scope)
    if key is None:
        return False
    slot = equality_slot(a, key.value.column, item)
    if named is None:
        as_tags(a, term(a, item, scope), key.value.column, slot)
    else:
        a.wraps.append(partial(_tag_in_place, item=item, column=key.column, slot=slot))
    return True


def by_tag(a: Analysis, node: Node, scope: Scope) -> None:
    """Analyse what rows are only put together by: PARTITION BY, count(DISTINCT …), grouping(…)."""
    kind, body = only(node)
    if kind == "RowExpr":
        for argument in body.get("args", ()):
            by_tag(a, argument, scope)
        return
    made = term(a, node, scope)
    columns = list(made.columns())
    if columns:
        column = same_identity(a, columns, node)
        as_tags(a, made, column, equality_slot(a, column, node))
    else:
        as_plain(a, made)


def window(a: Analysis, definition: Node, scope: Scope) -> None:
    """Analyse the body of a WindowDef."""
    for node in definition.get("partitionClause", ()):
        by_tag(a, node, scope)
    rest = {key: value for key, value in definition.items() if key != "partitionClause"}
    clear_all(a, list(children(rest)), scope)


def label(a: Analysis, target: Node, value: Value, name: str | None) -> None:
    """Give an output the name that PostgreSQL would take from what stands there no longer."""
    if a.physical:
        return
    node = target["val"]
    inner, _ = peel(node)
    if isinstance(value, ListColumn) and "name" not in target and as_sink(node) is not None:
        a.wraps.append(partial(_label, target=target, name=name or "?column?", given=value))
        return
    if "name" in target:
        return
    if name is not None and (_holds_both_sides(a, node) or (a.calls and any(id(m) in a.calls for m in messages(node)))):
        a.wraps.append(partial(_label, target=target, name=name))
        return
    if not isinstance(value, Protected) or not (_is_replaced(a, inner) or _is_replaced(a, node)):
        return
    if name is None:
        raise unsupported(a, value.column, node)
    a.wraps.append(partial(_label, target=target, name=name))


def _holds_both_sides(a: Analysis, node: Node) -> bool:
    """Tell whether something in an expression becomes COALESCE, after which the whole might be named."""
    several = {key for key, respelled in a.respelled.items() if len(respelled.spelled) > 1}
    return bool(several) and any(id(m) in several for m in messages(node))


def _is_replaced(a: Analysis, node: Node) -> bool:
    return id(node) in a.derived or any(r.node is node for r in a.represented) or any(other is node for other, *_ in a.nullifs)


def _is_named(given: ListColumn, name: str) -> bool:
    """Tell whether a given value that became protected is shown, or may be referred to, by the name that it had by itself."""
    if given.became is None or given.unnamed:
        return False
    return name != "?column?" or any(user is SHOWN or isinstance(user, Kept) for user in given.users)


def _label(brackets: Brackets, _text: bytes, *, target: Node, name: str, given: ListColumn | None = None) -> Iterator[Change]:
    if given is not None and not _is_named(given, name):
        return  # its name is nobody's business
    end = brackets.tokens[brackets.item_end(location(target))].end
    yield Insert(end, f" AS {quote_ident(name)}".encode(), closing=True)
    target["name"] = name
