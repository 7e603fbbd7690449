"""Constant DEFAULTs of protected columns: where the server would put the envelope of its catalogue, one of the row's own goes.

So equal defaults do not show as equal envelopes (crypto.md section 3). What the proxy does not see, or what an INSERT of a set
operation leaves out, the server still fills with the catalogue's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from phiproxy.policy.catalog import Relation
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Added, Analysis
from phiproxy.sql.assign import Target, columns_of
from phiproxy.sql.finish import Spans, quote_ident
from phiproxy.sql.hidden import visible_columns
from phiproxy.sql.meaning import Edit, Renew
from phiproxy.sql.parse import Node, location, messages, only


@dataclass(frozen=True, slots=True)
class Given:
    """What an INSERT, or the INSERT of a MERGE, says: its ``columns``, where it lists any, and how many values it gives."""

    body: Node
    columns: str
    values: int


def left_out(a: Analysis, relation: Relation, wanted: Iterable[Target]) -> list[tuple[str, ProtectedColumn]]:
    """Return the protected columns of a relation that have a constant default and are not among those wanted."""
    named = {name for name, _ in wanted}
    return [(name, c) for name, c in columns_of(a, relation).items() if c.default is not None and name not in named]


def fill_rows(
    a: Analysis, relation: Relation, given: Given, wanted: Sequence[Target], rows: Sequence[tuple[list[Node], int]]
) -> None:
    """Let each row of VALUES, with its number, have the defaults of what an INSERT leaves out."""
    wanted = wanted if given.body.get(given.columns) else wanted[: given.values]
    missing = left_out(a, relation, wanted)
    if not missing:
        return
    first = _offset(rows[0][0])
    for i, (items, row) in enumerate(rows):
        for _, column in missing:
            place = partial(_row_end, first=first, row=i)
            a.added.append(Added(Renew(column, row), items, place, b", ", b"", None))
    _name(a, relation, given, [name for name, _ in missing], first)


def fill_select(a: Analysis, relation: Relation, given: Given, wanted: Sequence[Target], body: Node, row: int) -> None:
    """Let a SELECT without set operations have one more column for each default of what an INSERT leaves out."""
    wanted = wanted if given.body.get(given.columns) else wanted[: given.values]
    missing = left_out(a, relation, wanted)
    if not missing or body.get("op") != "SETOP_NONE" or not body.get("targetList"):
        return
    if not any(m.get("location", -1) > 0 for m in messages(body["targetList"][:1])):
        return  # TABLE relation
    first = _offset(body["targetList"][:1])
    for _, column in missing:
        a.added.append(Added(Renew(column, row), body["targetList"], partial(_list_end, first=first), b", ", b"", "ResTarget"))
    _name(a, relation, given, [name for name, _ in missing], first)


def default_values(a: Analysis, relation: Relation, body: Node) -> None:
    """Let INSERT … DEFAULT VALUES have a row of the protected defaults; the others are the server's then too."""
    missing = left_out(a, relation, ())
    if not missing:
        return
    row, items = a.new_row(), list[Node]()
    target = body["relation"]
    names = ", ".join(quote_ident(name).decode() for name, _ in missing)
    for i, (_, column) in enumerate(missing):
        place = partial(_default_values, target=location(target), aliased="alias" in target, first=not i)
        lead = f"({names}) VALUES (".encode() if not i else b", "
        a.added.append(Added(Renew(column, row), items, place, lead, b")" if i == len(missing) - 1 else b"", None))
    a.at_end.append(partial(_become_values, body=body, items=items, names=[name for name, _ in missing]))


def _become_values(*, body: Node, items: list[Node], names: Sequence[str]) -> None:
    body["cols"] = [{"ResTarget": {"name": name}} for name in names]
    values = {"valuesLists": [{"List": {"items": items}}], "limitOption": "LIMIT_OPTION_DEFAULT", "op": "SETOP_NONE"}
    body["selectStmt"] = {"SelectStmt": values}


def _offset(nodes: Sequence[Node]) -> int:
    return min(int(m["location"]) for m in messages(list(nodes)) if m.get("location", -1) > 0)


def _row_end(spans: Spans, *, first: int, row: int) -> tuple[int, int]:
    brackets = spans.brackets
    opening = brackets.select(first) + 1
    for _ in range(row):
        opening = brackets.partner(opening) + 2
    end = spans.tokens[brackets.partner(opening)].start
    return end, end


def _list_end(spans: Spans, *, first: int) -> tuple[int, int]:
    brackets = spans.brackets
    end = spans.tokens[brackets.targets_end(brackets.select(first))].end
    return end, end


def _default_values(spans: Spans, *, target: int, aliased: bool, first: bool) -> tuple[int, int]:
    brackets = spans.brackets
    end = spans.relation_end(target, aliased=aliased)
    i = next(i for i, token in enumerate(spans.tokens) if token.start >= end and brackets.name(i) == "DEFAULT")
    return spans.tokens[i].start if first else spans.tokens[i + 1].end, spans.tokens[i + 1].end


def _name(a: Analysis, relation: Relation, given: Given, more: Sequence[str], first: int) -> None:
    """Add columns to the list of an INSERT; make it where there is none."""
    if given.body.get(given.columns):
        a.changes.append(partial(_extend, given=given, more=more))
        return
    names = [c.name for c in visible_columns(relation)[: given.values]] + list(more)
    make: Callable[..., Edit] = _make if given.columns == "cols" else _make_before_values
    a.changes.append(partial(make, given=given, names=names, first=first))


def _targets(names: Sequence[str]) -> list[Node]:
    return [{"ResTarget": {"name": name}} for name in names]


def _spelled(names: Sequence[str]) -> bytes:
    return b", ".join(quote_ident(name) for name in names)


def _extend(spans: Spans, _text: bytes, *, given: Given, more: Sequence[str]) -> Edit:
    columns = given.body[given.columns]
    brackets = spans.brackets
    end = spans.tokens[brackets.partner(brackets.at(location(only(columns[0])[1])) - 1)].start
    given.body[given.columns] = [*columns, *_targets(more)]
    return Edit(end, end, b", " + _spelled(more))


def _make(spans: Spans, _text: bytes, *, given: Given, names: Sequence[str], first: int) -> Edit:
    del first
    target = given.body["relation"]
    end = spans.relation_end(location(target), aliased="alias" in target)
    given.body["cols"] = _targets(names)
    return Edit(end, end, b" (" + _spelled(names) + b")")


def _make_before_values(spans: Spans, _text: bytes, *, given: Given, names: Sequence[str], first: int) -> Edit:
    brackets = spans.brackets
    i = brackets.select(first)
    i -= 3 if brackets.name(i - 3) == "OVERRIDING" else 0
    given.body[given.columns] = _targets(names)
    return Edit(spans.tokens[i].start, spans.tokens[i].start, b"(" + _spelled(names) + b") ")
