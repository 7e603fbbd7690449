"""GROUP BY and DISTINCT over protected columns: rows are grouped by tags, and any envelope of a group shows its value.

``SELECT c … GROUP BY c`` becomes ``SELECT any_value(c) … GROUP BY tag(c)``, before PostgreSQL 16 ``(array_agg(c))[1]``; DISTINCT
becomes DISTINCT ON over all outputs.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from phiproxy.frozen import dataclass
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import tag_of
from phiproxy.policy.protection import Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.column_references import protected_column, reference
from phiproxy.sql.expressions.expression import clear, equality_slot, located, unsupported
from phiproxy.sql.expressions.index_expressions import derived_under
from phiproxy.sql.expressions.leaves import term
from phiproxy.sql.expressions.terms import as_tags
from phiproxy.sql.resolve.functional_dependencies import dependent
from phiproxy.sql.resolve.protected_values import SHOWN, Combined, ListColumn, Output, Protected, Value, as_they_are, group_key
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.common_changes import ByRule, NullifToCase, Represent, Respell
from phiproxy.sql.rewrite.draft import Draft, Insert
from phiproxy.sql.rewrite.order_of_rewrites import Step
from phiproxy.sql.rewrite.references_and_markers import expression_tree, is_reference
from phiproxy.sql.text.parse import Node, grouping_entries, location, messages, only, strings
from phiproxy.sql.values.operands import as_operand, peel


def grouped_scope(a: Analysis, body: Node, scope: Scope) -> Scope:
    """Return the scope of a query's expressions after grouping, which knows the protected columns that GROUP BY names."""
    clause = body.get("groupClause", ())
    grouped = {key.known for item in grouping_entries(clause) if (key := _key(a, item, body, scope)) is not None}
    if not grouped:
        return scope
    sets = any("GroupingSet" in node for node in clause)
    return dataclasses.replace(scope, grouped=frozenset(grouped), sets=sets)


@dataclass(frozen=True, slots=True)
class _Key:
    """A protected value by which a query is grouped, a reference to its column, and its key in the scope.

    ``over`` gives what the value is over the reference: of a document what stands at a path of it.
    """

    value: Protected
    column: Node
    known: tuple[int, str]
    over: Callable[[str], str] = str


def _key(a: Analysis, item: Node, body: Node, scope: Scope) -> _Key | None:
    target = named_target(item, body, scope)
    return _key_of(a, item if target is None else target, scope)


def _key_of(a: Analysis, node: Node, scope: Scope) -> _Key | None:
    indexed, node, _ = derived_under(a, node, scope)
    if indexed is not None:
        return _Key(indexed.result, indexed.reference(), indexed.key, indexed.over)
    value = protected_column(a, node, scope)
    return None if value is None else _Key(value, reference(a, node), group_key(value))


def named_target(item: Node, body: Node, scope: Scope) -> Node | None:
    """Return the output that an entry of GROUP BY names by number or name; a column of FROM comes first."""
    kind, entry = only(item)
    nodes = [only(node)[1] for node in body.get("targetList", ())]
    if kind == "A_Const" and "ival" in entry:
        index = entry["ival"].get("ival", 0)
        before = [target["val"] for target in nodes[:index]]
        stars = any("ColumnRef" in value and strings(only(value)[1]["fields"])[-1] == "*" for value in before)
        return before[-1] if 1 <= index <= len(nodes) and not stars else None
    if kind != "ColumnRef" or len(names := strings(entry["fields"])) != 1:
        return None
    if any(source.owns(names[0]) for source in scope.sources):
        return None
    return next((target["val"] for target in nodes if target.get("name") == names[0]), None)


def group_by(a: Analysis, body: Node, outputs: Sequence[Output], scope: Scope) -> None:
    """Analyse the entries of GROUP BY; ``scope`` is that of FROM.

    SELECT ssn, count(*) FROM patients GROUP BY ssn
    → SELECT (pg_catalog.array_agg(ssn))[1] AS "ssn", count(*) FROM patients GROUP BY tag(ssn)

    SELECT lower(name) FROM people GROUP BY lower(name)
    → SELECT (pg_catalog.array_agg(name))[1] AS "lower" FROM people GROUP BY tag1(name)
    """
    for item in grouping_entries(body.get("groupClause", ())):
        key = _key(a, item, body, scope)
        target = named_target(item, body, scope)
        if key is None:
            _unprotected_key(a, item, target, outputs, scope)
            continue
        slot = equality_slot(a, key.value.column, item)
        if target is None:
            as_tags(a, term(a, item, scope), key.value.column, slot)
        else:
            a.rewrite(_tag_of_output, Step.QUERIES, item=item, column=key.column, slot=slot, over=key.over)


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
            why = f"{value.column.label} is protected, and the output named here is not the column itself"
            raise a.refuse(why, located(item), hint="Select the expression in a subquery of FROM, and group by its column.")
    as_they_are(named)


def _tag_of_output(draft: Draft, *, item: Node, column: Node, slot: Slot, over: Callable[[str], str]) -> Iterator[Edit]:
    """Replace an output's number or name by the tag of the column that it means."""
    draft.tree.replace(item, expression_tree(tag_of(over("phi_x"), slot), {"phi_x": column}))
    yield Edit(*draft.reference(item), tag_of(over(draft.named(column)), slot).encode())


def distinct(a: Analysis, body: Node, outputs: Sequence[Output], nodes: Sequence[Node | None], scope: Scope) -> None:
    """Compare protected outputs of DISTINCT by their tags; ``nodes`` are the expressions of the outputs.

    SELECT DISTINCT ssn, city FROM patients
    → SELECT DISTINCT ON (tag(ssn), 2) ssn, city FROM patients

    SELECT DISTINCT fields ->> 'ssn' AS ssn FROM records
    → SELECT DISTINCT ON (pg_catalog.decode(pg_catalog.substring(pg_catalog.split_part(pg_catalog.jsonb_extract_path_text(fields,
      VARIADIC ARRAY['ssn'::text]), ':'::text, 2), 25, 32), 'hex'::text)) pg_catalog.jsonb_extract_path_text(fields,
      VARIADIC ARRAY['ssn'::text]) AS ssn FROM records

    SELECT DISTINCT notes FROM patients
    → refused 0A000
    """
    if not any(isinstance(value, Protected) for _, value in outputs):
        as_they_are(value for _, value in outputs)
        return
    entries: list[_Entry] = []
    depending = dependent(a.context.catalog, outputs, nodes, scope)
    for number, ((_, value), node) in enumerate(zip(outputs, nodes, strict=True), start=1):
        as_they_are((value,))
        if not isinstance(value, Protected):
            entries.append(number)
            continue
        if id(value) in depending and value.column.slot_for("@") is None:
            continue
        indexed, column, _ = derived_under(a, node, scope) if node is not None else (None, None, ())
        if indexed is not None:
            entries.append((indexed.reference(), equality_slot(a, value.column, indexed.node), indexed.over))
            continue
        if column is None or not is_reference(column):
            raise a.refuse(
                f"DISTINCT over an expression of {value.column.label} is not in this version",
                located(node or body["targetList"][0]),
                hint="Select the expression in a subquery of FROM, and the distinct values of its column."
                if node is not None
                else "List the columns instead of *.",
            )
        entries.append((reference(a, column), equality_slot(a, value.column, column), str))
    first = location(only(body["targetList"][0])[1])
    a.rewrite(_distinct_on, Step.QUERIES, body=body, first=first, entries=entries)


_Entry = tuple[Node, Slot, Callable[[str], str]] | int
"""An entry of DISTINCT ON: the number of an output, or a reference with the slot, and what the value is over the reference."""


def _distinct_on(draft: Draft, *, body: Node, first: int, entries: Sequence[_Entry]) -> Iterator[Insert]:
    token = draft.spans.tokens[draft.spans.next(draft.spans.select(first), "DISTINCT")]
    on = [str(entry) if isinstance(entry, int) else tag_of(entry[2](draft.named(entry[0])), entry[1]) for entry in entries]
    yield Insert(token.end, f" ON ({', '.join(on)})".encode(), closing=True)
    draft.tree.edit(body)["distinctClause"] = [
        expression_tree(str(entry), {})
        if isinstance(entry, int)
        else expression_tree(tag_of(entry[2]("phi_x"), entry[1]), {"phi_x": entry[0]})
        for entry in entries
    ]


def distinct_on(a: Analysis, item: Node, outputs: Sequence[Output], nodes: Sequence[Node | None], scope: Scope) -> bool:
    """Replace an entry of DISTINCT ON that is or names a protected column by its tag; return False for any other.

    SELECT DISTINCT ON (ssn) ssn, city FROM patients
    → SELECT DISTINCT ON (tag(ssn)) ssn, city FROM patients
    """
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
        a.rewrite(_tag_of_output, Step.QUERIES, item=item, column=key.column, slot=slot, over=key.over)
    return True


def label(a: Analysis, target: Node, value: Value, name: str | None) -> None:
    """Give an output the name that PostgreSQL would have taken from the expression that is replaced.

    SELECT nullif(ssn, 'x') FROM patients
    → SELECT CASE WHEN tag(ssn) = tag('x') THEN NULL ELSE ssn END AS "nullif" FROM patients

    SELECT nullif(ssn, 'x') COLLATE "C" FROM patients
    → SELECT CASE WHEN tag(ssn) = tag('x') THEN NULL ELSE ssn END AS "nullif" FROM patients
    """
    if a.physical or "name" in target:
        return
    node = target["val"]
    if isinstance(value, ListColumn) and as_operand(node) is not None:
        a.rewrite(_label, Step.QUERIES, target=target, name=name or "?column?", given=value)
        return
    if name is not None and (_holds_both_sides(a, node) or (a.calls and any(id(m) in a.calls for m in messages(node)))):
        a.rewrite(_label, Step.QUERIES, target=target, name=name)
        return
    if not isinstance(value, Protected) or not any(_is_replaced(a, part) for part in _naming(node)):
        return
    if name is None:
        raise unsupported(a, value.column, node)
    a.rewrite(_label, Step.QUERIES, target=target, name=name)


def _naming(node: Node) -> Iterator[Node]:
    """Yield an expression, and those in it from which PostgreSQL may take its name."""
    while node:
        yield node
        kind, body = only(node)
        node = body.get({"CollateClause": "arg", "TypeCast": "arg", "CaseExpr": "defresult"}.get(kind, ""), {})


def _holds_both_sides(a: Analysis, node: Node) -> bool:
    """Tell whether a column in an expression becomes COALESCE, which would change the output's name."""
    respelled = [rewrite for rewrite in a.rewrites.every(Respell) if len(rewrite.spelled) > 1]
    return bool(respelled) and not {id(rewrite.node) for rewrite in respelled}.isdisjoint(map(id, messages(node)))


def _is_replaced(a: Analysis, node: Node) -> bool:
    return a.rewrites.any_of((ByRule, Represent, NullifToCase), node)


def _is_named(given: ListColumn, name: str) -> bool:
    """Tell whether a given value that becomes protected is shown under the name that PostgreSQL gives it."""
    if given.became is None or given.unnamed:
        return False
    return name != "?column?" or any(user is SHOWN or isinstance(user, Combined) for user in given.users)


def _label(draft: Draft, *, target: Node, name: str, given: ListColumn | None = None) -> Iterator[Insert]:
    if given is not None and not _is_named(given, name):
        return  # its name is nobody's business
    end = draft.spans.tokens[draft.spans.item_end(location(target))].end
    draft.tree.edit(target)["name"] = name
    yield Insert(end, f" AS {quote_ident(name, always=True)}".encode(), closing=True)
