"""unnest of given arrays: a column whose values are the elements (manual 9.19, array functions).

In FROM (also of several arrays, in ROWS FROM and WITH ORDINALITY) and in a target list. The elements of arrays that are unnested
side by side go to one row.
"""

from __future__ import annotations

from phiproxy.sql.analysis import Analysis, rename
from phiproxy.sql.expressions import array_elements, clear
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.scope import CLEAR, Joined, ListColumn, ListGroup, Scope, Source, SourceColumn, Value, joined_of
from phiproxy.sql.sinks import as_sink, peel

# Element types of which an array unnests to one column; a composite type's would be as many as it has.
_SCALARS = frozenset(
    {"bool", "bytea", "date", "float4", "float8", "inet", "int2", "int4", "int8", "interval", "json", "jsonb", "numeric"}
    | {"text", "time", "timestamp", "timestamptz", "timetz", "uuid", "varchar"}
)


def unnested(a: Analysis, node: Node, group: ListGroup, row: int) -> ListColumn | None:
    """Return the column that ``unnest`` of one given array is, or None for anything else; records nothing but the column."""
    arguments = _arguments(node)
    if arguments is None or len(arguments) != 1:
        return None
    return _given_array(a, arguments[0], group, [row])


def unnest_source(a: Analysis, body: Node, scope: Scope) -> Joined | None:
    """Return a RangeFunction that unnests only, with the columns it has, or None for any other."""
    calls = [only(function)[1]["items"] for function in body["functions"]]
    listed = [_arguments(items[0]) for items in calls]
    if any(arguments is None or any(items[1:]) for arguments, items in zip(listed, calls, strict=True)) or "coldeflist" in body:
        return None
    arguments = [argument for found in listed for argument in found or ()]
    if not all(_is_given(argument) or _is_scalar(argument) for argument in arguments):
        return None
    group, rows = ListGroup(), [a.new_row()]
    columns = [SourceColumn("unnest", _column(a, argument, group, rows, scope)) for argument in arguments]
    alias = body.get("alias", {})
    label = alias.get("aliasname", "unnest")
    if len(columns) == 1:
        columns[0] = SourceColumn(label, columns[0].value)
    if body.get("ordinality"):
        columns.append(SourceColumn("ordinality", CLEAR))
    source = rename(Source(label, tuple(columns), system=False), alias)
    return joined_of(source)


def _arguments(node: Node) -> list[Node] | None:
    """Return the arguments of a plain call of unnest, or None."""
    kind, body = only(node)
    if kind != "FuncCall" or strings(body["funcname"]) not in (["unnest"], ["pg_catalog", "unnest"]):
        return None
    if set(body) - {"funcname", "args", "funcformat", "location"}:
        return None
    return list(body.get("args", ())) or None


def _is_given(node: Node) -> bool:
    sink = as_sink(node, array=True)
    if sink is not None:
        return sink.kind == "param" or bool(sink.casts)  # else PostgreSQL would not know which unnest is meant
    inner, _ = peel(node, array=True)
    return only(inner)[0] == "A_ArrayExpr" and all(map(_is_element, array_elements(node)))


def _is_element(node: Node) -> bool:
    """Tell whether it is a given value; of an array of arrays unnest gives what these hold."""
    sink = as_sink(node)
    return sink is not None and all(declared.element is None for declared in sink.types)


def _is_scalar(node: Node) -> bool:
    kind, body = only(node)
    return kind == "TypeCast" and not _SCALARS.isdisjoint(strings(body["typeName"].get("names"))[-1:])


def _column(a: Analysis, node: Node, group: ListGroup, rows: list[int], scope: Scope) -> Value:
    found = _given_array(a, node, group, rows)
    if found is None:
        clear(a, node, scope)
        return CLEAR
    return found


def _given_array(a: Analysis, node: Node, group: ListGroup, rows: list[int]) -> ListColumn | None:
    """Return a given array's elements as a column.

    ``rows[i]`` is the row of element i of ``ARRAY[…]``, made here where there are too few, and rows[0] that of a whole array.
    """
    if not _is_given(node):
        return None
    sink = as_sink(node, array=True)
    if sink is not None:
        column = ListColumn([sink], [rows[0]], group=group, seen=len(a.uses))
    else:
        elements = array_elements(node)
        rows.extend(a.new_row() for _ in range(len(elements) - len(rows)))
        column = ListColumn(
            [as_sink(element) for element in elements], rows[: len(elements)], group=group, seen=len(a.uses), of_values=True
        )
        column.recasts.extend(peel(node, array=True)[1])
    a.lists.append(column)
    return column
