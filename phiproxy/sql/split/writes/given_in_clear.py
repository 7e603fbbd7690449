"""Given values that the engine computes into what is in clear of a document: they meet nothing that is protected.

They are in clear on the server then, as is ``ward = $1`` beside ``WHERE ssn = $1``, which is refused as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from phiproxy.sql.split.impossible import RefusedWithHint
from phiproxy.sql.split.writes.clear_leaves import ClearLeaves
from phiproxy.sql.split.writes.parts_seen_together import Value, given_at
from phiproxy.sql.split.writes.traces import parts
from phiproxy.sql.text.parse import Node, location, messages, only, strings

_KEYED = frozenset({"->", "->>", "#>", "#>>", "-", "#-", "?", "?|", "?&"})
"""Operators whose right side names members of a document, which are in clear by themselves."""
_PATHS = frozenset({"jsonb_set", "jsonb_set_lax", "jsonb_insert", "jsonb_extract_path", "jsonb_extract_path_text"})
_BUILDERS = frozenset({"jsonb_build_object", "json_build_object"})
_HINT = "What meets something sealed and what is stored in clear are to be parameters of their own."

Reference = tuple[str, str]
"""A column of given values, as ``FROM (VALUES ($1, $2)) AS v (id, ward)`` has them: the item's alias, and the column."""


def check_given_in_clear(body: Node, checks: Sequence[ClearLeaves]) -> None:
    """Go on where given values that come to where a document is in clear stand nowhere else; RefusedWithHint.

    ``checks`` are those of the documents of a statement's writes, once they have seen what is given to them. A column of given
    values stands in conditions over unprotected columns too: ``FROM (VALUES (1, 'x')) AS v (id, ward) WHERE v.id = charts.id``.

    UPDATE charts SET doc = doc || jsonb_build_object('ward', $1::text) WHERE ssn = $1
    """
    shown = [node for check in checks for node in check.shown]
    if not shown:
        return
    given = {alias for check in checks for alias in check.rows.given}
    references, columns = set[int](), set[Reference]()
    for at, (item, name) in _references(shown):
        meant = {(alias, name) for alias in given if item in ("", alias) and any(_column(body, (alias, name)))}
        references |= {at} if meant else set()
        columns |= meant
    inside = {at for node in (*shown, *(node for key in columns for node in _column(body, key))) for at, _ in given_at(node)}
    beside = {at for part in _conditions(body) if _is_plain(part, checks, columns) for at, _ in _references(part)}
    everywhere, keys = given_at(body), set(_keys(body))
    values = {value for at, value in everywhere if at in inside}
    elsewhere: set[Value] = {value for at, value in everywhere if at not in inside and at not in keys}
    others = (key for at, key in _references(body) if at not in references and at not in beside)
    if not values.isdisjoint(elsewhere) or any(_may_be(key, columns) for key in others):
        raise RefusedWithHint("a given value for what is in clear of a document that stands elsewhere too", _HINT)


def _conditions(body: Node) -> Iterator[Node]:
    for message in messages(body):
        for key in ("whereClause", "joinCondition", "quals"):
            if message.get(key):
                yield from parts(message[key])


def _is_plain(part: Node, checks: Sequence[ClearLeaves], columns: Collection[Reference]) -> bool:
    """Tell whether a condition compares such columns with nothing but unprotected columns of the target."""
    given = {alias for check in checks for alias in check.rows.given}
    of_given = [key for _, key in _references(part) if key[0] in given]
    return not given_at(part) and all(check.is_plain(part) for check in checks) and all(key in columns for key in of_given)


def _references(tree: Any) -> Iterator[tuple[int, Reference]]:
    """Yield the references to columns with where they stand; one without an item has an empty alias."""
    for message in messages(tree):
        if "ColumnRef" in message:
            *item, name = strings(message["ColumnRef"]["fields"])
            yield location(message["ColumnRef"]), (item[-1] if item else "", name)


def _may_be(key: Reference, columns: Collection[Reference]) -> bool:
    """Tell whether a reference may mean one of these columns, or a row that has one."""
    alias, name = key
    rows = {item for item, _ in columns}
    if name == "*":
        return alias in rows or (not alias and bool(rows))
    return key in columns or (not alias and (name in rows or any(name == column for _, column in columns)))


def _column(body: Node, key: Reference) -> Iterator[Node]:
    """Yield what is given as a column of an item; all that is in the item where that is not known."""
    alias, name = key
    for message in messages(body):
        for kind in ("RangeSubselect", "RangeFunction"):
            item = message.get(kind, {})
            if item.get("alias", {}).get("aliasname") == alias:
                yield from _of_item(item, name)


def _of_item(item: Node, name: str) -> Iterator[Node]:
    names = strings(item["alias"].get("colnames"))
    rows = item.get("subquery", {}).get("SelectStmt", {}).get("valuesLists", ())
    if rows:
        listed = [only(row)[1]["items"] for row in rows]
        names += [f"column{n}" for n in range(len(names) + 1, len(listed[0]) + 1)]
        if name in names:
            yield from (row[names.index(name)] for row in listed)
            return
    arguments = _unnested(item.get("functions", ()))
    if name in names and len(arguments) == len(names):
        yield arguments[names.index(name)]
    elif not rows:
        yield {"RowExpr": item}


def _unnested(functions: Sequence[Node]) -> list[Node]:
    """Return the arrays of ``unnest($1, $2)``, and of ``ROWS FROM (unnest($1), unnest($2))``; nothing of any other."""
    arguments: list[Node] = []
    for function in functions:
        call = only(only(function)[1]["items"][0])[1] if "List" in function else {}
        if strings(call.get("funcname"))[-1:] != ["unnest"]:
            return []
        arguments += call.get("args", ())
    return arguments


def _keys(body: Node) -> Iterator[int]:
    """Yield where the constants stand that name members of documents."""
    for message in messages(body):
        named: list[Node] = []
        if "A_Expr" in message and strings(message["A_Expr"].get("name"))[-1:] and message["A_Expr"].get("rexpr"):
            named += [message["A_Expr"]["rexpr"]] if strings(message["A_Expr"]["name"])[-1] in _KEYED else []
        if "FuncCall" in message:
            name, arguments = strings(message["FuncCall"]["funcname"])[-1], message["FuncCall"].get("args", [])
            named += arguments[1:2] if name in _PATHS else arguments[::2] if name in _BUILDERS else []
        named += [message["A_Indices"]["uidx"]] if "uidx" in message.get("A_Indices", {}) else []
        yield from (at for node in named for at, value in given_at(node) if isinstance(value, str))
