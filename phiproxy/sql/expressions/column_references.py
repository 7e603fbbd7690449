"""Column references of the client's statement: which column they mean, and how the server must name it.

Unprotected columns may have the name of a protected one, such as ``ssn IS NULL AS ssn`` in a subquery. Whoever compares them with a
text may mean the protected column: the server would be sent the text, and might log it.
"""

import copy
from collections.abc import Iterable, Iterator

from phiproxy.sql.context import Analysis
from phiproxy.sql.resolve.protected_values import Clear, ListColumn, Protected, Value
from phiproxy.sql.resolve.scope import Scope, SourceColumn, Spelled, resolve
from phiproxy.sql.rewrite.common_changes import Respell
from phiproxy.sql.rewrite.references_and_markers import spelled_node
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.operands import Operand


def column_of(a: Analysis, node: Node, scope: Scope, *, for_path: bool = False) -> SourceColumn:
    """Return the column that a ColumnRef means; where a join was rewritten, the reference is spelled anew.

    ``for_path``: whoever asks takes something out of it, and sees to it himself that this is in no field that is masked.
    """
    body = only(node)[1]
    column = resolve(scope, strings(body["fields"]), a.position(body) if "location" in body else 1)
    if not (for_path and is_masked_in_part(column.value)):
        a.check_shown(column.value, node)
    if column.spelled:
        respell(a, node, column.spelled)
    return column


def value_of(a: Analysis, node: Node, scope: Scope) -> Value:
    """Return the value that a ColumnRef node means.

    SELECT mrn FROM patients p FULL JOIN visits v USING (mrn)
    → SELECT COALESCE("p"."mrn", "v"."mrn") AS "mrn" FROM patients p FULL JOIN visits v ON tag("p"."mrn") =
      tag("v"."mrn")
    """
    return column_of(a, node, scope).value


def is_masked_in_part(value: Value) -> bool:
    """Tell whether a value is a document of which the role sees some fields masked, and the others as they are."""
    return isinstance(value, Protected) and value.column.masked is not None and value.column.masked.in_part


def protected_column(a: Analysis, node: Node, scope: Scope) -> Protected | None:
    """Return the protected column that a ColumnRef means; None for any other node, and for ``*``."""
    if "ColumnRef" not in node or strings(node["ColumnRef"]["fields"])[-1] == "*":
        return None
    value = value_of(a, node, scope)
    return value if isinstance(value, Protected) else None


def respell(a: Analysis, node: Node, spelled: Spelled) -> None:
    """Spell a reference anew for the server; in a stored query it stays."""
    if not a.physical:
        a.rewrites.drop(Respell, node)
        a.rewrites.add(Respell(node, spelled), node)


def spelling(a: Analysis, node: Node) -> Spelled:
    """Return the new spelling of a reference; empty where it stays as the client wrote it."""
    respelled = a.rewrites.of(Respell, node)
    return respelled.spelled if respelled is not None else ()


def keep(a: Analysis, node: Node) -> Spelled:
    """Undo the new spelling of a reference, since the expression around it is replaced; return that spelling, each time."""
    respelled = a.rewrites.drop(Respell, node) or a.rewrites.dropped(Respell, node)
    return respelled.spelled if respelled is not None else ()


def reference(a: Analysis, node: Node) -> Node:
    """Return a copy of a reference as the server must see it, to be used in another expression."""
    spelled = spelling(a, node)
    return spelled_node(spelled) if spelled else copy.deepcopy(node)


def is_namesake(a: Analysis, node: Node, value: Value) -> bool:
    """Tell whether a ColumnRef names an expression of a query that has the name of a protected column."""
    name = strings(only(node)[1]["fields"])[-1]
    return isinstance(value, Clear) and value.computed and name in a.context.protection.column_names


def check_namesake(a: Analysis, node: Node, given: Iterable[Operand | Value | None]) -> None:
    """Refuse texts and untyped parameters that such a column is compared with, also in VALUES and subqueries.

    SELECT s.id FROM (SELECT id, city || 'x' AS ssn FROM patients) s WHERE s.ssn = '1'
    → refused 0A000
    """
    if any(_is_untyped(operand) for one in given for operand in _operands(one)):
        name = strings(only(node)[1]["fields"])[-1]
        why = f'"{name}" is computed here, and compared with a value as if it were the protected column of that name'
        raise a.refuse(why, only(node)[1], hint="Give the computed column another name, or cast the value to its type.")


def _is_untyped(operand: Operand) -> bool:
    computed = operand.formula is not None and operand.textual
    return operand.kind in ("literal", "param") and not operand.casts and (operand.own is None or computed)


def _operands(given: Operand | Value | None) -> Iterator[Operand]:
    if isinstance(given, Operand):
        yield given
    for part in given.leaves() if isinstance(given, ListColumn) else ():
        yield from (entry for entry in part.entries if entry is not None)
