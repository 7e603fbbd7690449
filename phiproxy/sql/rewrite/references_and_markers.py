"""References to columns, tags and markers as this package writes them: as text, and as trees parsed from SQL with holes."""

import copy
from collections.abc import Mapping

from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import tag_of
from phiproxy.policy.protection import Form, Slot
from phiproxy.sql.resolve.scope import Spelled
from phiproxy.sql.result import Occurrence
from phiproxy.sql.text.parse import Node, messages, only, parse, strings, tokens
from phiproxy.sql.values.uses import Search, Use, sent_as_array, sent_type, stored_form

ANY_VALUE_VERSION = 160000


def select_tree(sql: str) -> Node:
    """Return the body of a SELECT that this package wrote."""
    (statement,) = parse(sql.encode())
    return statement.body


def expression_tree(sql: str, holes: Mapping[str, Node]) -> Node:
    """Return an expression's tree with columns replaced: ``f(phi_x)`` with ``{"phi_x": <p.ssn>}`` is the tree of ``f(p.ssn)``."""
    body = select_tree(f"SELECT {sql}")
    for message in messages(body):
        name = strings(message["ColumnRef"]["fields"])[-1] if "ColumnRef" in message else ""
        if name in holes:
            message.clear()
            message.update(copy.deepcopy(holes[name]))
    tree: Node = only(body["targetList"][0])[1]["val"]
    return tree


def subquery_of(template: Node) -> Node:
    """Return the RangeSubselect body of what a template selects from: its ``subquery`` is to be filled in."""
    body: Node = only(template["fromClause"][0])[1]
    return body


def representative(version: int, expression: str) -> str:
    """Return an aggregate that is any one value of its group, for a server of this version."""
    if version >= ANY_VALUE_VERSION:
        return f"pg_catalog.any_value({expression})"
    return f"(pg_catalog.array_agg({expression}))[1]"


def represented(version: int, named: str, slot: Slot, *, sets: bool) -> str:
    """Return what a column, by whose tag its query is grouped (``sets``: by GROUPING SETS), is outside of aggregates."""
    value = representative(version, named)
    return f"CASE WHEN grouping({tag_of(named, slot)}) = 0 THEN {value} END" if sets else value


def column_list(width: int) -> str:
    """Return the names under which a wrapper knows the columns of what it wraps."""
    return ", ".join(f"c{i + 1}" for i in range(width))


def tag_call(column: Node, slot: Slot) -> Node:
    """Return the tree of ``tag_of`` over a reference: ``pg_catalog.substring(c, 13, 16)``, or NULLIF of that and of zeros."""
    if slot.form != "bytea":
        return expression_tree(tag_of("phi_x", slot), {"phi_x": column})
    call: Node = {
        "FuncCall": {
            "funcname": [{"String": {"sval": "pg_catalog"}}, {"String": {"sval": "substring"}}],
            "args": [column, {"A_Const": {"ival": {"ival": 13 + 16 * slot.number}}}, {"A_Const": {"ival": {"ival": 16}}}],
            "funcformat": "COERCE_EXPLICIT_CALL",
        }
    }
    if slot.total:
        return call
    zeros: Node = {"TypeCast": {"arg": {"A_Const": {"sval": {"sval": "\\x" + "00" * 16}}}, "typeName": bytea_type(array=False)}}
    return {"A_Expr": {"kind": "AEXPR_NULLIF", "name": [{"String": {"sval": "="}}], "lexpr": call, "rexpr": zeros}}


def is_reference(node: Node) -> bool:
    """Tell whether a node is a column, or what ``spelled_node`` made of one."""
    kind, body = only(node)
    return kind == "ColumnRef" or (
        kind == "CoalesceExpr" and all("ColumnRef" in c and "location" not in only(c)[1] for c in body["args"])
    )


def node_text(node: Node) -> str:
    """Return the text of a reference that this package made."""
    kind, body = only(node)
    columns = body["args"] if kind == "CoalesceExpr" else [node]
    pairs = [strings(only(column)[1]["fields"]) for column in columns]
    names = [".".join(quote_ident(part, always=True) for part in pair) for pair in pairs]
    return names[0] if len(names) == 1 else f"COALESCE({', '.join(names)})"


def spelled_text(spelled: Spelled) -> str:
    """Return the columns as text: ``"t"."c"``, or COALESCE of several."""
    return node_text(spelled_node(spelled))


def spelled_node(spelled: Spelled) -> Node:
    """Return the tree of ``spelled_text``."""
    columns: list[Node] = [{"ColumnRef": {"fields": [{"String": {"sval": part}} for part in pair]}} for pair in spelled]
    return columns[0] if len(columns) == 1 else {"CoalesceExpr": {"args": columns}}


def null_marker(use: Use) -> bytes:
    """Return what a NULL becomes in the server's statement."""
    return b"NULL::" + sent_type(use).encode()


def fixed_word(use: Use) -> bytes | None:
    """Return what the server gets in place of a range's upper bound, None for every other use."""
    return use.range.word if isinstance(use, Search) and use.range is not None and use.range.upper else None


def marker(occurrence: Occurrence) -> bytes:
    r"""Return what stands for an occurrence in a text that is only to be proved: ``'\\x00'::bytea`` for ``$1``."""
    word = fixed_word(occurrence.use)
    if word is not None:
        return word
    if occurrence.null:
        return null_marker(occurrence.use)
    type_name = sent_type(occurrence.use).encode()
    return rb"'\x00'::bytea" if type_name == b"bytea" else b"'{}'::" + type_name


def marked_node(use: Use, *, null: bool) -> Node:
    """Return the node that ``marker`` parses to."""
    array, form = sent_as_array(use), stored_form(use)
    constant = {"isnull": True} if null else {"sval": {"sval": "\\x00" if form == "bytea" and not array else "{}"}}
    return {"TypeCast": {"arg": {"A_Const": constant}, "typeName": sent_type_name(form, array=array)}}


def bytea_type(*, array: bool) -> Node:
    """Return the body of the TypeName ``bytea``, or ``bytea[]``."""
    return sent_type_name("bytea", array=array)


def sent_type_name(form: Form, *, array: bool) -> Node:
    """Return the body of the TypeName of a form, or of an array of it."""
    name: Node = {"names": [{"String": {"sval": form}}], "typemod": -1}
    return {**name, "arrayBounds": [{"Integer": {"ival": -1}}]} if array else name


def tag_text(named: str, slot: Slot, stored: str | None) -> str:
    """Return the text of a tag of the column ``named``: its generated column ``stored``, or the substring of the envelope.

    Tables with row-level security have generated columns: PostgreSQL evaluates policies before functions that are not leakproof,
    and ``substring`` is not (spec/stored-format 1.2).

        SELECT id FROM guests WHERE name = 'x'
        → SELECT id FROM guests WHERE "phi_tag_name_0" = tag('x')
    """
    if stored is None:
        return tag_of(named, slot)
    text = named.encode()
    return text[: tokens(text)[-1].start].decode() + quote_ident(stored)


def tag_tree(column: Node, slot: Slot, stored: str | None) -> Node:
    """Return the same as a tree, over a reference to the column."""
    if stored is None:
        return expression_tree(tag_of("phi_x", slot), {"phi_x": column})
    reference = copy.deepcopy(column)
    only(reference)[1]["fields"][-1] = {"String": {"sval": stored}}
    return reference
