"""Unprotected columns that are named like protected ones: ``ssn IS NULL AS ssn``, in a view or a subquery.

Who compares them with a text may mean the protected column. The server would be given the text, and where it is none of the
column's type say it in its log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from phiproxy.sql.analysis import Analysis
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.scope import Clear, ListColumn, Value
from phiproxy.sql.sinks import SinkNode


def is_namesake(a: Analysis, node: Node, value: Value) -> bool:
    """Tell whether a ColumnRef names what a query has computed, by the name of a protected column."""
    name = strings(only(node)[1]["fields"])[-1]
    return isinstance(value, Clear) and value.computed and name in a.context.protection.column_names


def check_namesake(a: Analysis, node: Node, given: Iterable[SinkNode | Value | None]) -> None:
    """Refuse texts and parameters without a type that such a column (``node``) is compared with, in VALUES and subqueries too."""
    if any(_is_untyped(sink) for one in given for sink in _sinks(one)):
        name = strings(only(node)[1]["fields"])[-1]
        raise a.refuse(
            f'"{name}" is computed here, and compared with a value as if it were the protected column of that name',
            only(node)[1],
            hint="Give the computed column another name, or cast the value to its type.",
        )


def _is_untyped(sink: SinkNode) -> bool:
    computed = sink.formula is not None and sink.textual
    return sink.kind in ("literal", "param") and not sink.casts and (sink.own is None or computed)


def _sinks(given: SinkNode | Value | None) -> Iterator[SinkNode]:
    if isinstance(given, SinkNode):
        yield given
    for part in given.leaves() if isinstance(given, ListColumn) else ():
        yield from (entry for entry in part.entries if entry is not None)
