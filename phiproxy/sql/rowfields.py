"""``(t).c`` and ``(t).*`` where ``t`` is a row of FROM: PostgreSQL takes them for ``t.c`` and ``t.*``, and so does the analysis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from phiproxy.sql.analysis import Analysis
from phiproxy.sql.finish import Spans
from phiproxy.sql.meaning import Edit
from phiproxy.sql.parse import Node, location, only, strings
from phiproxy.sql.respell import Respelled, quoted
from phiproxy.sql.rules import QUERIES
from phiproxy.sql.scope import Clear, Scope, Source, find_source, is_whole_row


def name_fields(a: Analysis, parts: Iterable[Any], scope: Scope) -> None:
    """Turn what selects from a row into references to columns, in the expressions of one query level; mutates them."""
    for node in [found for part in parts for found in _selections(part)]:
        body = node["A_Indirection"]
        names = strings(only(body["arg"])[1]["fields"])
        if names[-1] == "*":
            raise a.refuse("a field of (t.*) is not in this version", body["arg"]["ColumnRef"], hint="Write t.column.")
        if not is_whole_row(scope, names):
            continue
        source = find_source(scope, names[0], None, a.position(body["arg"]["ColumnRef"]))
        if all(isinstance(c.value, Clear) for c in source.columns):
            continue
        _rename(a, node, source)


def _selections(part: Any) -> Iterator[Node]:
    """Yield the nodes of the form (name).field, without those of subqueries."""
    if isinstance(part, list):
        for entry in part:
            yield from _selections(entry)
        return
    if not isinstance(part, dict):
        return
    body = part.get("A_Indirection")
    if body is not None and "ColumnRef" in body["arg"] and len(body["indirection"]) == 1 and _is_field(body["indirection"][0]):
        yield part
        return
    for key, value in part.items():
        if key not in QUERIES:
            yield from _selections(value)


def _is_field(node: Node) -> bool:
    return "String" in node or "A_Star" in node


def _rename(a: Analysis, node: Node, source: Source) -> None:
    body = node.pop("A_Indirection")
    row, field = body["arg"]["ColumnRef"], body["indirection"][0]
    node["ColumnRef"] = {"fields": [*row["fields"], field], "location": location(row)}
    if "A_Star" in field:
        a.changes.append(partial(_spell_star, offset=location(row), alias=source.alias))
    else:
        a.respelled[id(node)] = Respelled(node, ((source.alias, field["String"]["sval"]),))


def _spell_star(spans: Spans, _text: bytes, *, offset: int, alias: str) -> Edit:
    start, end = spans.column_ref(offset)
    return Edit(start, end, f"{quoted(alias)}.*".encode())
