"""Constant DEFAULTs of protected columns: each row gets an envelope of its own, not the one in the server's catalogue.

So equal defaults do not show as equal envelopes (spec/stored-format 2.4). The server still uses the catalogue's where the proxy
does not see the statement, and for columns that an INSERT of a set operation leaves out.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial

from phiproxy.frozen import dataclass
from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import visible_columns
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.queries.generated_columns import add_list
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.common_changes import AddValue
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.order_of_rewrites import Step
from phiproxy.sql.text.parse import Node, location, messages, only
from phiproxy.sql.values.uses import Renew
from phiproxy.sql.writes.assignment import Target, columns_of, computed_default


@dataclass(frozen=True, slots=True)
class Given:
    """The column list of an INSERT, if there is one, and how many values it gives."""

    body: Node
    columns: str
    values: int


def left_out(a: Analysis, relation: Relation, wanted: Iterable[Target]) -> list[tuple[str, ProtectedColumn]]:
    """Return the protected columns with a constant default that an INSERT leaves out; StatementRefused for a computed one.

    INSERT INTO diaries (id) VALUES (1)
    → INSERT INTO diaries (id, "private") VALUES (1, envelope(DEFAULT))
    """
    if relation.kind == "v":
        _check_view(a, relation)
    missing = without(a, relation, {name for name, _ in wanted})
    for _, column in missing:
        if column.computed_default is not None:
            raise computed_default(a, column, {})
    return missing


def _check_view(a: Analysis, relation: Relation) -> None:
    """Refuse an INSERT through a view that does not have a column with a computed default: the server would evaluate that."""
    query = a.context.catalog.views.get(relation.oid, "")
    shown = {(c.schema, c.table, c.name) for c in columns_of(a, relation).values()}
    for table in a.context.protection.tables:
        for column in table.columns.values():
            own = column.schema, column.table, column.name
            if column.computed_default is not None and own not in shown and re.search(rf"\b{re.escape(table.name)}\b", query):
                text = f"{relation.qualified} does not have {column.label}, whose default the server cannot compute"
                raise a.refuse(text, {}, hint=f"Insert into {table.schema}.{table.name}, or let the view have the column.")


def without(a: Analysis, relation: Relation, named: Collection[str]) -> list[tuple[str, ProtectedColumn]]:
    """Return the protected columns with a default of a relation, but for those that are named."""
    columns = columns_of(a, relation).items()
    return [(n, c) for n, c in columns if n not in named and (c.default is not None or c.computed_default is not None)]


def fill_rows(
    a: Analysis, relation: Relation, given: Given, wanted: Sequence[Target], rows: Sequence[tuple[list[Node], int]]
) -> None:
    """Add the defaults that an INSERT leaves out to each row of VALUES.

    INSERT INTO diaries (id) VALUES (1), (2)
    → INSERT INTO diaries (id, "private") VALUES (1, envelope(DEFAULT)), (2, envelope(DEFAULT))
    """
    wanted = wanted if given.body.get(given.columns) else wanted[: given.values]
    missing = left_out(a, relation, wanted)
    if not missing:
        return
    first = _offset(rows[0][0])
    for i, (items, row) in enumerate(rows):
        for _, column in missing:
            place = partial(_row_end, first=first, row=i)
            a.rewrites.add(AddValue(Renew(column, row), items, place, b", "))
    _name(a, relation, given, [name for name, _ in missing], first)


def fill_select(a: Analysis, relation: Relation, given: Given, wanted: Sequence[Target], body: Node, row: int) -> None:
    """Add the defaults that an INSERT leaves out to the target list of its SELECT.

    INSERT INTO diaries (id) SELECT id FROM log
    → INSERT INTO diaries (id, "private") SELECT id, envelope(DEFAULT) FROM log
    """
    wanted = wanted if given.body.get(given.columns) else wanted[: given.values]
    missing = left_out(a, relation, wanted)
    if not missing or body.get("op") != "SETOP_NONE" or not body.get("targetList"):
        return
    if not any(m.get("location", -1) > 0 for m in messages(body["targetList"][:1])):
        return  # TABLE relation
    first = _offset(body["targetList"][:1])
    for _, column in missing:
        place = partial(_list_end, first=first)
        a.rewrites.add(AddValue(Renew(column, row), body["targetList"], place, b", ", wrapper="ResTarget"))
    _name(a, relation, given, [name for name, _ in missing], first)


def default_values(a: Analysis, relation: Relation, body: Node) -> None:
    """Give INSERT … DEFAULT VALUES a row with the protected defaults; the server fills the other columns.

    INSERT INTO diaries DEFAULT VALUES
    → INSERT INTO diaries ("private") VALUES (envelope(DEFAULT))
    """
    missing = left_out(a, relation, ())
    if not missing:
        return
    row, items = a.new_row(), list[Node]()
    target = body["relation"]
    names = [name for name, _ in missing]
    for i, (_, column) in enumerate(missing):
        place = partial(_default_values, target=location(target), aliased="alias" in target, first=not i)
        lead = b"(" + _spelled(names) + b") VALUES (" if not i else b", "
        a.rewrites.add(AddValue(Renew(column, row), items, place, lead, b")" if i == len(missing) - 1 else b""))
    a.rewrite(_become_values, Step.WHOLE, body=body, items=items, names=names)


def _become_values(draft: Draft, *, body: Node, items: list[Node], names: Sequence[str]) -> tuple[()]:
    body = draft.tree.edit(body)
    body["cols"] = _targets(names)
    values = {"valuesLists": [{"List": {"items": items}}], "limitOption": "LIMIT_OPTION_DEFAULT", "op": "SETOP_NONE"}
    body["selectStmt"] = {"SelectStmt": values}
    return ()


def _offset(nodes: Sequence[Node]) -> int:
    return min(int(m["location"]) for m in messages(list(nodes)) if m.get("location", -1) > 0)


def _row_end(draft: Draft, *, first: int, row: int) -> tuple[int, int]:
    spans = draft.spans
    opening = spans.select(first) + 1
    for _ in range(row):
        opening = spans.partner(opening) + 2
    end = spans.tokens[spans.partner(opening)].start
    return end, end


def _list_end(draft: Draft, *, first: int) -> tuple[int, int]:
    spans = draft.spans
    end = spans.tokens[spans.targets_end(spans.select(first))].end
    return end, end


def _default_values(draft: Draft, *, target: int, aliased: bool, first: bool) -> tuple[int, int]:
    spans = draft.spans
    end = spans.relation_end(target, aliased=aliased)
    i = next(i for i, token in enumerate(spans.tokens) if token.start >= end and spans.name(i) == "DEFAULT")
    return spans.tokens[i].start if first else spans.tokens[i + 1].end, spans.tokens[i + 1].end


def _name(a: Analysis, relation: Relation, given: Given, more: Sequence[str], first: int) -> None:
    """Add columns to the column list of an INSERT, or give it one."""
    if given.body.get(given.columns):
        a.rewrite(_extend, given=given, more=more)
        return
    names = [c.name for c in visible_columns(relation)[: given.values]] + list(more)
    if given.columns == "cols":
        a.rewrite(add_list, body=given.body, names=names)
    else:
        a.rewrite(_make_before_values, given=given, names=names, first=first)


def _targets(names: Sequence[str]) -> list[Node]:
    return [{"ResTarget": {"name": name}} for name in names]


def _spelled(names: Sequence[str]) -> bytes:
    return ", ".join(quote_ident(name, always=True) for name in names).encode()


def _extend(draft: Draft, *, given: Given, more: Sequence[str]) -> Iterator[Edit]:
    columns, spans = given.body[given.columns], draft.spans
    end = spans.tokens[spans.partner(spans.at(location(only(columns[0])[1])) - 1)].start
    body = draft.tree.edit(given.body)
    body[given.columns] = [*body[given.columns], *_targets(more)]
    yield Edit(end, end, b", " + _spelled(more))


def _make_before_values(draft: Draft, *, given: Given, names: Sequence[str], first: int) -> Iterator[Edit]:
    spans = draft.spans
    i = spans.select(first)
    i -= 3 if spans.name(i - 3) == "OVERRIDING" else 0
    draft.tree.edit(given.body)[given.columns] = _targets(names)
    yield Edit(spans.tokens[i].start, spans.tokens[i].start, b"(" + _spelled(names) + b") ")
