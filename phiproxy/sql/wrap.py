"""Rewrites that put something around, in text and tree alike: a query around a query, an aggregate around a column.

Each takes effect twice and is proved afterwards (``render.verify``). What is made anew is written as SQL with holes, and parsed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from phiproxy.policy.guards import tag_of
from phiproxy.policy.protection import Slot
from phiproxy.sql.analysis import Analysis, Represented, TaggedSubquery
from phiproxy.sql.brackets import COMMA, OPEN, Brackets
from phiproxy.sql.meaning import Edit
from phiproxy.sql.parse import Node, location, messages, only, parse, strings
from phiproxy.sql.respell import node_text, spelled_text

ANY_VALUE_VERSION = 160000


@dataclass(frozen=True, slots=True)
class Insert:
    """Put ``text`` at a byte offset. Of several at one offset, closing ones come first, and an outer one is outside."""

    offset: int
    text: bytes
    closing: bool = False


Change = Edit | Insert


def merged(inserts: Iterable[Insert]) -> dict[int, bytes]:
    """Return what is inserted at each offset; the inserts come in the order in which they were found, inner ones first."""
    closing: dict[int, bytes] = {}
    opening: dict[int, bytes] = {}
    for insert in inserts:
        if insert.closing:
            closing[insert.offset] = closing.get(insert.offset, b"") + insert.text
        else:
            opening[insert.offset] = insert.text + opening.get(insert.offset, b"")
    return {offset: closing.get(offset, b"") + opening.get(offset, b"") for offset in closing.keys() | opening.keys()}


def quote_ident(name: str) -> str:
    """Return a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def representative(a: Analysis, expression: str) -> str:
    """Return an aggregate that is any one value of its group."""
    if a.context.catalog.server_version >= ANY_VALUE_VERSION:
        return f"pg_catalog.any_value({expression})"
    return f"(pg_catalog.array_agg({expression}))[1]"


def select_tree(sql: str) -> Node:
    """Return the body of a SELECT that this package wrote."""
    (statement,) = parse(sql.encode())
    return statement.body


def expression_tree(sql: str, holes: Mapping[str, Node]) -> Node:
    """Return an expression's tree, with the columns of these names replaced by copies of nodes."""
    body = select_tree(f"SELECT {sql}")
    for message in list(messages(body)):
        name = strings(message["ColumnRef"]["fields"])[-1] if "ColumnRef" in message else ""
        if name in holes:
            message.clear()
            message.update(copy.deepcopy(holes[name]))
    tree: Node = only(body["targetList"][0])[1]["val"]
    return tree


def replace(node: Node, tree: Node) -> None:
    """Turn a node into another one, in place."""
    node.clear()
    node.update(tree)


def hold(template: Node, inner: Node) -> None:
    """Put a query into the subquery in FROM of a template."""
    only(template["fromClause"][0])[1]["subquery"] = inner


def spelled(brackets: Brackets, text: bytes, column: Node) -> str:
    """Return the text of a column reference: the client's own, or of one that this package made."""
    body = only(column)[1]
    if "location" not in body:
        return node_text(column)
    start, end = brackets.dotted(location(body))
    return text[start:end].decode()


def rewrites(a: Analysis, brackets: Brackets, text: bytes) -> Iterator[Change]:
    """Carry out what the analysis has noted; mutates the tree."""
    for found in a.represented:
        if "ColumnRef" in found.node or id(found.node) in a.respelled:
            yield _represent(a, brackets, text, found)
    for node, left in a.nullifs:
        yield from _nullif(brackets, text, node, left)
    for wrap in a.wraps:
        yield from wrap(brackets, text)
    for tagged in a.subqueries.values():  # these are outside of what begins or ends where they do
        yield from _tag_subquery(brackets, tagged)


def represented(a: Analysis, named: str, slot: Slot, *, sets: bool) -> str:
    """Return what a column, by whose tag its query is grouped, is outside of aggregates."""
    value = representative(a, named)
    return f"CASE WHEN grouping({tag_of(named, slot)}) = 0 THEN {value} END" if sets else value


def _represent(a: Analysis, brackets: Brackets, text: bytes, found: Represented) -> Edit:
    node = found.node
    start, end = brackets.dotted(location(only(node)[1]))
    known = a.respelled.get(id(node))
    named = text[start:end].decode() if known is None else spelled_text(known.spelled).decode()

    def shaped(column: str) -> str:
        value = represented(a, column, found.slot, sets=found.sets)
        return value if found.tag is None else tag_of(value, found.tag)

    replace(node, expression_tree(shaped("phi_x"), {"phi_x": node}))
    return Edit(start, end, shaped(named).encode())


def _nullif(brackets: Brackets, text: bytes, node: Node, left: Node) -> Iterator[Change]:
    body = only(node)[1]
    first = brackets.at(location(body))
    tokens = brackets.tokens
    comma = brackets.next(brackets.item_end(tokens[first + 2].start), COMMA)
    close = brackets.partner(first + 1)
    yield Edit(tokens[first].start, tokens[first + 1].end, b"CASE WHEN ")
    yield Edit(tokens[comma].start, tokens[comma].end, b" =")
    yield Edit(tokens[close].start, tokens[close].end, f" THEN NULL ELSE {spelled(brackets, text, left)} END".encode())
    made = expression_tree("CASE WHEN phi_l = phi_r THEN NULL ELSE phi_x END", {"phi_x": left})
    condition = made["CaseExpr"]["args"][0]["CaseWhen"]["expr"]["A_Expr"]
    condition["lexpr"], condition["rexpr"] = body["lexpr"], body["rexpr"]
    replace(node, made)


def column_list(width: int, *, first: str = "") -> str:
    """Return the names under which a wrapper knows the columns of what it wraps."""
    return ", ".join([*([first] if first else []), *(f"c{i + 1}" for i in range(width))])


def _tag_subquery(brackets: Brackets, tagged: TaggedSubquery) -> Iterator[Change]:
    body = only(tagged.node)[1]
    opening = brackets.next(brackets.at(location(body)), OPEN)
    closing = brackets.partner(opening)
    columns = [f"phi.c{i + 1}" for i in range(tagged.width)]
    shown = ", ".join(tag_of(c, tagged.slots[i]) if i in tagged.slots else c for i, c in enumerate(columns))
    head, tail = f"SELECT {shown} FROM (", f") AS phi ({column_list(tagged.width)})"
    yield Insert(brackets.tokens[opening].end, head.encode())
    yield Insert(brackets.tokens[closing].start, tail.encode(), closing=True)
    template = select_tree(f"{head}SELECT{tail}")
    hold(template, body["subselect"])
    body["subselect"] = {"SelectStmt": template}
