"""``(t).c`` and ``(t).*`` where ``t`` is a row of FROM: as in PostgreSQL, they mean ``t.c`` and ``t.*``."""

from collections.abc import Iterable, Iterator
from typing import Any

from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.column_references import respell
from phiproxy.sql.resolve.protected_values import Clear
from phiproxy.sql.resolve.scope import Scope, Source, find_source, is_whole_row
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.text.parse import Node, location, strings


def name_fields(a: Analysis, body: Node, clauses: Iterable[str], scope: Scope) -> Node:
    """Return a query's body with column references in place of fields of rows, in these clauses.

    Without such fields it is the body itself. The client's tree stays as it is.

    SELECT (p).ssn FROM patients p
    → SELECT "p"."ssn" FROM patients p
    """
    if "A_Indirection" not in a.keys:
        return body
    named = {clause: new for clause in clauses if (new := _named(a, body.get(clause), scope)) is not body.get(clause)}
    if not named:
        return body
    read = {**body, **named}
    a.tree.replace(body, read)
    return read


def _named(a: Analysis, part: Any, scope: Scope) -> Any:
    """Return a part of a query's own level with its fields replaced, or the part itself where it has none."""
    if isinstance(part, list):
        entries = [_named(a, entry, scope) for entry in part]
        return entries if any(new is not old for new, old in zip(entries, part, strict=True)) else part
    if not isinstance(part, dict):
        return part
    body = part.get("A_Indirection")
    fields = [node for node in body["indirection"] if "String" in node or "A_Star" in node] if body is not None else []
    if body is not None and "ColumnRef" in body["arg"] and len(body["indirection"]) == len(fields) == 1:
        source = _row(a, body["arg"]["ColumnRef"], scope)
        return part if source is None else _reference(a, body, source)
    named = {key: value if key in a.rules.queries else _named(a, value, scope) for key, value in part.items()}
    return named if any(new is not old for new, old in zip(named.values(), part.values(), strict=True)) else part


def _row(a: Analysis, row: Node, scope: Scope) -> Source | None:
    """Return the source that a reference is a row of, if something protected is in it."""
    names = strings(row["fields"])
    if names[-1] == "*":
        raise a.refuse("a field of (t.*) is not in this version", row, hint="Write t.column.")
    if not is_whole_row(scope, names):
        return None
    source = find_source(scope, names[0], None, a.position(row))
    return None if all(isinstance(c.value, Clear) for c in source.columns) else source


def _reference(a: Analysis, body: Node, source: Source) -> Node:
    row, field = body["arg"]["ColumnRef"], body["indirection"][0]
    node: Node = {"ColumnRef": {"fields": [*row["fields"], field], "location": location(row)}}
    if "A_Star" in field:
        a.rewrite(_spell_star, offset=location(row), alias=source.alias)
    else:
        respell(a, node, ((source.alias, field["String"]["sval"]),))
    return node


def _spell_star(draft: Draft, *, offset: int, alias: str) -> Iterator[Edit]:
    yield Edit(*draft.spans.column_ref(offset), f"{quote_ident(alias, always=True)}.*".encode())
