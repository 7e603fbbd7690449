"""``unnest`` of given arrays: a column with their elements (manual 9.19, array functions).

It may stand in a target list and in FROM, also over several arrays, in ROWS FROM and WITH ORDINALITY. Elements that are unnested
side by side are stored in one row.
"""

from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.expression import array_elements, clear
from phiproxy.sql.resolve.protected_values import CLEAR, ListColumn, ListGroup
from phiproxy.sql.resolve.scope import Joined, Scope, Source, SourceColumn, joined_of
from phiproxy.sql.table_names import rename
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.operands import as_operand, peel

# Element types of which an array unnests to one column; a composite type's would be as many as it has.
_SCALARS = frozenset(
    {"bool", "bytea", "date", "float4", "float8", "inet", "int2", "int4", "int8", "interval", "json", "jsonb", "numeric"}
    | {"text", "time", "timestamp", "timestamptz", "timetz", "uuid", "varchar"}
)


def unnested(a: Analysis, node: Node, group: ListGroup, row: int) -> ListColumn | None:
    """Return ``unnest`` of one given array as a column of its elements, or None for anything else.

    SELECT p.id FROM patients p WHERE p.ssn IN (SELECT unnest($1::text[]))
    → SELECT p.id FROM patients p WHERE tag(p.ssn) IN (SELECT unnest(tags($1)))
    """
    arguments = _arguments(node)
    if arguments is None or len(arguments) != 1:
        return None
    return _given_array(a, arguments[0], group, [row])


def unnest_source(a: Analysis, body: Node, scope: Scope) -> Joined | None:
    """Return a function of FROM that only unnests as a source, or None for any other.

    SELECT p.id FROM patients p JOIN unnest($1::text[]) AS u (s) ON p.ssn = u.s
    → SELECT p.id FROM patients p JOIN unnest(tags($1)) AS u (s) ON tag(p.ssn) = u.s
    """
    calls = [only(function)[1]["items"] for function in body["functions"]]
    listed = [_arguments(items[0]) for items in calls]
    if any(arguments is None or any(items[1:]) for arguments, items in zip(listed, calls, strict=True)) or "coldeflist" in body:
        return None
    arguments = [argument for array in listed for argument in array or ()]
    casts = [strings(argument.get("TypeCast", {}).get("typeName", {}).get("names"))[-1:] for argument in arguments]
    if not all(_is_given(argument) or not _SCALARS.isdisjoint(cast) for argument, cast in zip(arguments, casts, strict=True)):
        return None
    group, rows = ListGroup(), [a.new_row()]
    columns = []
    for argument in arguments:
        array = _given_array(a, argument, group, rows)
        if array is None:
            clear(a, argument, scope)
        columns.append(SourceColumn("unnest", CLEAR if array is None else array))
    alias = body.get("alias", {})
    label = alias.get("aliasname", "unnest")
    if len(columns) == 1:
        columns[0] = SourceColumn(label, columns[0].value)
    if body.get("ordinality"):
        columns.append(SourceColumn("ordinality", CLEAR))
    source = rename(Source(label, tuple(columns), system=False), alias)
    return joined_of(source)


def _arguments(node: Node) -> list[Node] | None:
    kind, body = only(node)
    if kind != "FuncCall" or strings(body["funcname"]) not in (["unnest"], ["pg_catalog", "unnest"]):
        return None
    if set(body) - {"funcname", "args", "funcformat", "location"}:
        return None
    return list(body.get("args", ())) or None


def _is_given(node: Node) -> bool:
    operand = as_operand(node, array=True)
    if operand is not None:
        return operand.kind == "param" or bool(operand.casts)  # else PostgreSQL would not know which unnest is meant
    # ``unnest`` of nested arrays gives the innermost elements.
    elements = map(as_operand, array_elements(node)) if "A_ArrayExpr" in peel(node, array=True)[0] else [None]
    return all(element is not None and all(declared.element is None for declared in element.types) for element in elements)


def _given_array(a: Analysis, node: Node, group: ListGroup, rows: list[int]) -> ListColumn | None:
    """Return a given array as a column of its elements.

    ``rows[i]`` is the row of element i of ``ARRAY[…]``, appended here where there are too few, and rows[0] the row of a whole
    array.
    """
    if not _is_given(node):
        return None
    operand = as_operand(node, array=True)
    if operand is not None:
        column = ListColumn([operand], [rows[0]], group=group, seen=len(a.uses))
    else:
        elements = array_elements(node)
        rows.extend(a.new_row() for _ in range(len(elements) - len(rows)))
        column = ListColumn(
            [as_operand(element) for element in elements], rows[: len(elements)], group=group, seen=len(a.uses), of_values=True
        )
        column.recasts.extend(peel(node, array=True)[1])
    a.lists.append(column)
    return column
