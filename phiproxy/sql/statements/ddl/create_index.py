"""CREATE INDEX on a protected table: an index on a column or indexed expression becomes one of the same name on its tags."""

from dataclasses import replace

from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import tag
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.queries.views import view_columns
from phiproxy.sql.resolve.outputs_without_as import output_name
from phiproxy.sql.statements.ddl.clear_parts import sealed_references
from phiproxy.sql.statements.ddl.field_indexes import field_index
from phiproxy.sql.statements.ddl.physical_form import Definition, Span
from phiproxy.sql.statements.ddl.unique_keys import Columns, chosen, expression_of, numbered, slot_of
from phiproxy.sql.table_names import meant_relation, protected_table
from phiproxy.sql.text.parse import Node, messages, only, parse, reference_to, strings
from phiproxy.sql.writes.assignment import columns_of

_METHODS = frozenset({"btree", "hash"})


def create_index(a: Analysis, body: Node) -> bool:
    """Bring CREATE INDEX into physical form; return False where its table or materialized view has nothing protected.

    CREATE INDEX ON patients (ssn)
    → CREATE INDEX patients_ssn_idx ON public.patients ((tag(ssn)))

    CREATE INDEX ON people (lower(name), city)
    → CREATE INDEX people_lower_city_idx ON public.people ((tag1(name)), city)

    CREATE INDEX ON patients (upper(ssn))
    → refused 0A000

    CREATE INDEX ON records USING gin (fields)
    → CREATE INDEX ON public.records USING gin (fields)
    """
    relation = body["relation"]
    indexed_relation = meant_relation(a, relation)
    table = protected_table(a, indexed_relation)
    # The protected columns of a materialized view, by their names there.
    of_view = table is None and indexed_relation.kind == "m" and view_columns(a, indexed_relation) is not None
    shown = columns_of(a, indexed_relation) if of_view else None
    if table is None and shown is None and indexed_relation.schema != "pg_temp":
        return False
    columns = table.columns if table is not None else shown or {}
    _check_masked(body, columns)
    definition = Definition(a, "IndexStmt", body, "CREATE INDEX")
    definition.qualify(relation, indexed_relation.schema)
    predicate = sealed_references(a, body.get("whereClause"), columns)
    if predicate:
        raise a.refuse(
            "the predicate of an index may not name a protected column", predicate[0], hint="Leave the column out of WHERE."
        )
    if any(only(e)[1].get("name") in columns or reference_to(e, columns) for e in body.get("indexIncludingParams", ())):
        raise a.refuse("INCLUDE of a protected column would store its value in the index", relation, hint="Leave it out.")
    spans = definition.items(definition.opening(definition.name_end(relation)), "ASCII_41")
    _check_method(a, body, relation, columns)
    keys = (only(node)[1] for node in body["indexParams"])
    # An index's chosen name has of each key its column or function (FigureIndexColname).
    names = [str(key["name"]) if "name" in key else _key_name(key["expr"]) for key in keys]
    converted = [_element(definition, span, node, columns) for span, node in zip(spans, body["indexParams"], strict=True)]
    if any(converted) and "idxname" not in body:
        # The name that PostgreSQL would have chosen for the client's keys.
        name = chosen(indexed_relation.name, numbered(names), "idx", {i.name for i in indexed_relation.indexes})
        start = next(t.start for t in definition.tokens if t.name == "ON")
        definition.replace((start, start), f"{quote_ident(name)} ")
        body["idxname"] = name
    definition.settle()
    return True


def _check_masked(body: Node, columns: Columns) -> None:
    """Refuse an index over a column of which the role sees a mask: whether a unique one can be made tells which values are equal.

    A materialized view has it under another name, perhaps.
    """
    words = {value for message in messages(body["indexParams"]) for value in message.values() if isinstance(value, str)}
    for name, column in columns.items():
        if name in words:
            column.refuse_masked()


def _key_name(expression: Node) -> str:
    name = output_name(expression)
    return "expr" if name in (None, "?column?") else str(name)


def _check_method(a: Analysis, body: Node, relation: Node, columns: Columns) -> None:
    """Refuse an index method that does more than order tags or find equal ones."""
    method = body["accessMethod"]
    if method in _METHODS:
        return
    for _, key in map(only, body["indexParams"]):
        references = sealed_references(a, key.get("expr"), columns)
        name = key["name"] if key.get("name") in columns else strings(references[0]["fields"])[-1] if references else None
        if name is None or (method == "gin" and key.get("name") == name and columns[name].document is not None):
            continue  # it finds what is in clear of a document, and of the rest only that it is there
        within = columns[name].type.family in ("json", "jsonb") or columns[name].type.element is not None
        raise a.refuse(
            f"tags of a protected column have no {method} index",
            relation,
            hint="No index finds what is inside of a value that is encrypted: keep what you search for in a column of its own."
            if within
            else "Use btree or hash: they answer equality.",
        )


def _element(definition: Definition, span: Span, node: Node, columns: Columns) -> bool:
    """Replace a key of the index by a tag; return False where nothing protected is in it."""
    a = definition.a
    body = only(node)[1]
    if body.get("name") in columns and definition.body.get("accessMethod") == "gin":
        return False
    if body.get("name") in columns:
        named = body["name"]
        column = columns[named]
        slot = slot_of(a, column, "@", {})
    elif "expr" in body and (references := sealed_references(a, body["expr"], columns)):
        reference = references[0]
        named = strings(reference["fields"])[-1]
        here = replace(columns[named], name=named)
        if any(_is_tag(body["expr"], each) for each in here.named(named).with_fields):
            return True
        column, expression = _indexed(a, here, body["expr"], reference)
        slot = slot_of(a, columns[named] if column is here else column, expression, reference)  # a hint names the table's own
    else:
        return False
    text = f"({tag(replace(column, name=named), slot)})"  # a materialized view has names of its own
    definition.replace(span, text)
    body.clear()
    body.update(only(_element_tree(text))[1])
    return True


def _indexed(a: Analysis, column: ProtectedColumn, expression: Node, reference: Node) -> tuple[ProtectedColumn, str]:
    if column.document is not None:
        return field_index(a, column, expression, reference)
    return column, expression_of(a, column, expression, reference)


def _is_tag(expression: Node, column: ProtectedColumn) -> bool:
    """Tell whether a key is a tag already, as pg_dump writes it: with the function quoted and without its schema."""
    tags = (only(_element_tree(f"({tag(column, slot)})"))[1]["expr"] for slot in column.slots if isinstance(slot, Slot))
    return any(_shape(expression) == _shape(tree) for tree in tags)


def _shape(node: Node) -> object:
    """Return the parts of a tag's expression, however it is spelled; for any other expression, what equals no tag."""
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
        case "A_ArrayExpr":
            return [_shape(element) for element in body.get("elements", ())]
        case "A_Const":
            return {key: value for key, value in body.items() if key != "location"}
    return id(node)


def _element_tree(text: str) -> Node:
    return parse(f"CREATE INDEX i ON t ({text})".encode())[0].body["indexParams"][0]  # type: ignore[no-any-return]
