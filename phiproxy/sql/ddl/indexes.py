"""CREATE INDEX on a protected table: an index on a listed expression becomes one on its tags, of the same name."""

from __future__ import annotations

from dataclasses import replace

from phiproxy.policy.catalog import Relation
from phiproxy.policy.guards import tag
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.assign import columns_of
from phiproxy.sql.ddl.definition import Definition, Span
from phiproxy.sql.ddl.keys import Columns, expression_of, slot_of
from phiproxy.sql.ddl.mentions import mentioned
from phiproxy.sql.ddl.names import chosen, numbered
from phiproxy.sql.names import output_name
from phiproxy.sql.parse import Node, only, parse, strings
from phiproxy.sql.views import view_columns

_METHODS = frozenset({"btree", "hash"})


def create_index(a: Analysis, body: Node) -> bool:
    """Bring an IndexStmt into physical form; False where its table, or materialized view, has nothing protected."""
    relation = body["relation"]
    found = a.relation(relation, target=True)
    assert isinstance(found, Relation)
    table = a.protected(found)
    shown = _of_view(a, found) if table is None else None
    if table is None and shown is None and found.schema != "pg_temp":
        return False
    columns = table.columns if table is not None else shown or {}
    definition = Definition(a, "IndexStmt", body, "CREATE INDEX")
    definition.qualify(relation, found.schema)
    predicate = mentioned(body.get("whereClause"), columns)
    if predicate is not None:
        raise a.refuse(
            "the predicate of an index may not name a protected column", predicate, hint="Leave the column out of WHERE."
        )
    if any(only(e)[1].get("name") in columns or mentioned(e, columns) for e in body.get("indexIncludingParams", ())):
        raise a.refuse("INCLUDE of a protected column would store its value in the index", relation, hint="Leave it out.")
    spans = definition.items(definition.opening(definition.name_end(relation)), "ASCII_41")
    _check_method(a, body, relation, columns)
    names = [_name_of(only(node)[1]) for node in body["indexParams"]]
    converted = [_element(definition, span, node, columns) for span, node in zip(spans, body["indexParams"], strict=True)]
    if any(converted) and "idxname" not in body:
        _name(definition, found, names)
    definition.settle()
    return True


def _check_method(a: Analysis, body: Node, relation: Node, columns: Columns) -> None:
    """Refuse an index that would do more than order tags or find equal ones."""
    method = body["accessMethod"]
    if method in _METHODS:
        return
    for _, key in map(only, body["indexParams"]):
        reference = mentioned(key.get("expr"), columns)
        name = key["name"] if key.get("name") in columns else strings(reference["fields"])[-1] if reference is not None else None
        if name is None:
            continue
        within = columns[name].type.family in ("json", "jsonb") or columns[name].type.element is not None
        raise a.refuse(
            f"tags of a protected column have no {method} index",
            relation,
            hint="No index finds what is inside of a value that is encrypted: keep what you search for in a column of its own."
            if within
            else "Use btree or hash: they answer equality.",
        )


def _of_view(a: Analysis, relation: Relation) -> Columns | None:
    """Return the protected columns of a materialized view, by the names that they have there; None of anything else."""
    if relation.kind != "m" or view_columns(a.context, relation) is None:
        return None
    return columns_of(a, relation)


def _name_of(body: Node) -> str:
    """Return what a key gives to the name of an index that has none: its column, or its function (FigureIndexColname)."""
    return str(body["name"]) if "name" in body else output_name(body["expr"]) or "expr"


def _name(definition: Definition, table: Relation, names: list[str]) -> None:
    """Give the name that PostgreSQL would have chosen: after columns and functions, not after the tags' expressions."""
    body = definition.body
    name = chosen(table.name, numbered(names), "idx", {i.name for i in table.indexes})
    on = next(i for i, t in enumerate(definition.tokens) if t.name == "ON")
    start = definition.tokens[on].start
    definition.replace((start, start), f"{quote_ident(name)} ")
    body["idxname"] = name


def _element(definition: Definition, span: Span, node: Node, columns: Columns) -> bool:
    """Replace one key of the index; False where nothing protected is in it."""
    a = definition.a
    body = only(node)[1]
    if body.get("name") in columns:
        named = body["name"]
        slot = slot_of(a, columns[named], "@", {})
    elif "expr" in body and (reference := mentioned(body["expr"], columns)) is not None:
        named = strings(reference["fields"])[-1]
        here = replace(columns[named], name=named)
        if _is_tag(body["expr"], here):
            return True
        slot = slot_of(a, columns[named], expression_of(a, here, body["expr"], reference), reference)
    else:
        return False
    text = f"({tag(replace(columns[named], name=named), slot)})"  # a materialized view has names of its own
    definition.replace(span, text)
    body.clear()
    body.update(only(_element_tree(text))[1])
    return True


def _is_tag(expression: Node, column: ProtectedColumn) -> bool:
    """Tell whether an expression is a tag already: the physical form, as pg_dump writes it."""
    return any(_same(expression, tag(column, slot)) for slot in column.slots if isinstance(slot, Slot))


def _same(expression: Node, text: str) -> bool:
    """Compare an expression with a tag of ours; pg_dump writes it quoted and without its schema."""
    return _shape(expression) == _shape(only(_element_tree(f"({text})"))[1]["expr"])


def _shape(node: Node) -> object:
    """Return what a tag is made of, however it is spelled; of anything else what equals no tag."""
    kind, body = only(node)
    match kind:
        case "FuncCall":
            return strings(body["funcname"])[-1], [_shape(argument) for argument in body.get("args", ())]
        case "A_Expr":
            return body["kind"], _shape(body["lexpr"]) if "lexpr" in body else None, _shape(body["rexpr"])
        case "TypeCast":
            return _shape(body["arg"]), strings(body["typeName"].get("names"))[-1:]
        case "ColumnRef":
            return strings(body["fields"])[-1]
        case "A_Const":
            return {key: value for key, value in body.items() if key != "location"}
    return id(node)


def _element_tree(text: str) -> Node:
    return parse(f"CREATE INDEX i ON t ({text})".encode())[0].body["indexParams"][0]  # type: ignore[no-any-return]
