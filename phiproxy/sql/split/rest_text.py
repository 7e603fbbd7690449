"""The rest of a division as text: the client's, with its sources in the place of what they answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.result import Rest, SourceColumn
from phiproxy.sql.split import clauses, ctes, order_and_limit
from phiproxy.sql.split.division import Division, Joined
from phiproxy.sql.split.equal_subqueries import check_equal, check_values
from phiproxy.sql.split.grouped_by_key import grouped_too
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.pieces import (
    Replaced,
    TableSpan,
    from_item,
    is_table_command,
    rest_of,
    table_span,
    unqualified,
    view_item,
)
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.rest_nodes import check_rest, typed_rows
from phiproxy.sql.split.shown_table_rows import shown_rows
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.split.tables_and_columns import Table, TableColumn, mentioned, needed
from phiproxy.sql.split.values import Key, had, of_server, server_values
from phiproxy.sql.text.parse import Node, only, strings


def rest_text(whole: Whole, division: Division) -> Rest:
    """Return what the engine computes; Impossible where it may answer it otherwise than the server."""
    return numbered(whole, _checked(whole, division))


def _checked(whole: Whole, division: Division) -> list[Replaced]:
    gone = frozenset(division.gone)
    check_rest(whole.verdict, whole.body, gone, rows=not whole.stored)
    return list(_replaced(whole, division, typed_tables(whole, gone)))


def typed_tables(whole: Whole, gone: Collection[int]) -> frozenset[str]:
    """Return the names of the tables whose rows have the type of their table in the rest; Impossible where that cannot be."""
    typed = typed_rows(whole.verdict, whole.body, gone, {t.label for t in whole.tables}, shown_rows(whole))
    if not all(table.relation.row_type for table in whole.tables if table.label in typed):
        raise Impossible("a row of a type that is not known")
    return typed


def described_text(whole: Whole, division: Division | None) -> tuple[Rest, tuple[SourceColumn, ...]]:
    """Return what describes the statement, and the columns of its source: that with each table by itself, and nothing left out.

    With a ``division``, what is computed: Impossible where that would not tell of all parameters.
    """
    if division is not None:
        replaced = list(_replaced(whole, division, typed_tables(whole, frozenset(division.gone))))
        rest = numbered(whole, replaced, own_numbers=True)
        declared = {n for n, oid in enumerate(whole.a.context.declared, start=1) if oid}
        if set(whole.numbers) - _numbers(whole, replaced) - declared:
            raise Impossible("a parameter of which only the server knows the type")
        return rest, division.columns()
    names = mentioned(bodies(whole.body, ()))
    listed: list[SourceColumn] = []
    replaced = []
    _check_labels(whole)
    named: dict[object, list[str]] = {}
    typed, read = typed_tables(whole, ()), dict[int, object]()
    for table in whole.tables:
        columns = needed(table, names)
        span = table_span(whole.spans, table)
        # A table that is read again, as in a subquery by which is grouped, must be equal everywhere.
        key = table.relation.oid, whole.a.text[span.start : span.end], tuple(c.label for c in columns)
        if key not in named:
            named[key] = [f"c{len(listed) + n}" for n in range(1, len(columns) + 1)]
            listed += [c.type for c in columns]
        read[id(table.body)] = key if table.sample is None else table
        replaced += _described_item(whole, table, span, columns, named[key], typed=table.label in typed)
    check_equal(whole, (), read)
    for body in bodies(whole.body, ()):
        if "lockingClause" in body:
            replaced += [Replaced(*lock, (b"",)) for lock in order_and_limit.without(whole, body, limited=False)]
    called_as: dict[Key, str] = {}
    for value in server_values(whole, ())[0]:  # of which one that stands in several places must be equal everywhere
        if value.key not in called_as:
            listed.append(value.type)
            called_as[value.key] = f"c{len(listed)}"
        replaced.append(of_server(value, called_as[value.key]))
    replaced += [*_without_schemas(whole), *grouped_too(whole, ())]
    return numbered(whole, replaced, own_numbers=True), tuple(listed)


def _described_item(
    whole: Whole, table: Table, span: TableSpan, columns: list[TableColumn], names: list[str], *, typed: bool
) -> Iterator[Replaced]:
    """Yield what stands for a table where the statement is described: of a sample with a parameter that says its type.

    SELECT upper(full_name) FROM patients TABLESAMPLE bernoulli ($1)
    → source: SELECT patients.full_name FROM patients TABLESAMPLE bernoulli ($1)
    → rest: SELECT upper(full_name) FROM (SELECT s.c1 FROM {} AS s) AS patients (full_name)
    → described: SELECT upper(full_name) FROM (SELECT s.c1 FROM {} AS s WHERE EXISTS (SELECT FROM pg_catalog.pg_class TABLESAMPLE
      bernoulli ($1))) AS patients (full_name)
    """
    if table.rest is not None or table.sample is None or not whole.spans.parameters(span.sample, span.end):
        yield _in_from(whole, (span.start, span.end), from_item(table, columns, names, "", typed=typed))
        return
    if strings(table.sample["method"])[-1:] not in (["bernoulli"], ["system"]):
        raise Impossible("a way to sample that the engine need not have")
    before, behind = from_item(table, columns, names, "EXISTS (SELECT FROM pg_catalog.pg_class \0)", typed=typed)
    first, last = behind.split(b"\0")
    yield _in_from(whole, (span.start, span.sample), (before, first))
    yield Replaced(span.end, span.end, (last,))


def _check_labels(whole: Whole) -> None:
    """Refuse tables of two schemas that have one name in one FROM: in the rest, nothing would tell them apart."""
    seen = [(table.level, table.label) for table in whole.tables]
    if len(set(seen)) < len(seen):
        raise Impossible("two tables of one name")


def _replaced(whole: Whole, division: Division, typed: frozenset[str]) -> Iterator[Replaced]:
    check_equal(whole, division.gone, division.read())
    check_values(whole, division.gone, division.values)
    for own in division.own:
        span = table_span(whole.spans, own.table)
        columns = [TableColumn(c.name, c.name, 0, c.type) for c in own.source.columns]
        condition = own.source.flag and f"s.{own.source.flag}"
        item = from_item(own.table, columns, own.source.names, condition, typed=own.table.label in typed)
        yield _in_from(whole, (span.start, span.end), item)
    for joined in division.joined:
        yield from joined_items(joined)
        yield from listed_stars(whole, joined)
    limited = {id(read.body) for read in division.limited}
    for body in bodies(whole.body, division.gone):
        if "lockingClause" in body or id(body) in limited:
            for left_out in order_and_limit.without(whole, body, limited=id(body) in limited):
                yield Replaced(*left_out, (b"",))
    yield from _beside(division)
    for source in division.value_source:
        called = dict(zip(dict.fromkeys(value.key for value in division.values), source.names, strict=True))
        for value in division.values:
            yield of_server(value, called[value.key], f" WHERE s.{source.flag}" if source.flag else "")
    yield from (one.replaced() for one in division.computed)
    yield from grouped_too(whole, division.gone)
    for part in division.parts:
        yield Replaced(part.start, part.end, (b"true",))
    for cte in division.blank:
        yield _blank(whole, cte)
    yield from _without_schemas(whole)


def _beside(division: Division) -> Iterator[Replaced]:
    """Yield what stands in the rest for values of the server's that the source has in each row."""
    for value in division.values if division.beside else ():
        column = division.beside[value.key]
        reference = f"{quote_ident(column.label, always=True)}.{quote_ident(column.name, always=True)}"
        yield Replaced(value.start, value.end, (had(value, reference) + b", " * value.inserted,))


def _in_from(whole: Whole, span: tuple[int, int], item: tuple[bytes, ...]) -> Replaced:
    start, (before, *behind) = span[0], item
    if is_table_command(whole.spans, start):
        start, before = whole.spans.tokens[whole.spans.at(start) - 1].start, b"SELECT * FROM " + before
    return Replaced(start, span[1], (before, *behind))


def joined_items(joined: Joined) -> Iterator[Replaced]:
    """Yield what stands in the rest for a whole FROM: its source, and each of its items as a part of a row of that.

    Conditions of its joins that wait stay where they are.

    SELECT upper(p.full_name), v.room FROM patients p JOIN visits v ON p.mrn = v.mrn
    → rest: SELECT upper(p.full_name), v.room FROM (SELECT s.c1, s.c2 FROM {} AS s) AS "phi.s" ("phi.1", "phi.2"),
      LATERAL (SELECT "phi.1") AS p (full_name), LATERAL (SELECT "phi.2") AS v (room)
    """
    source = joined.source
    assert source.span is not None
    names = [f'"phi.{n}"' for n in range(1, len(source.columns) + 1)]
    where = f" WHERE s.{source.flag}" if source.flag else ""
    listed = f"{', '.join(f's.{name}' for name in source.names)}{' ' if names else ''}"
    behind = f' AS s{where}) AS "phi.s"' + (f" ({', '.join(names)})" if names else "")
    at = 0
    waiting = sorted(source.waiting)
    for number, (label, columns) in enumerate(joined.labels, start=1):
        own = names[at : at + len(columns)]
        at += len(columns)
        called = ", ".join(quote_ident(c.name, always=True) for c in columns)
        last = number == len(joined.labels)
        behind += "," if not waiting else " JOIN" if last else " CROSS JOIN"
        if label in joined.views:
            inputs = ", ".join(f"{name} AS c{n}" for n, name in enumerate(own, start=1))
            behind += " LATERAL " + b"".join(view_item(joined.views[label], (f"(SELECT {inputs})".encode(),))).decode()
            continue
        behind += f" LATERAL (SELECT{' ' if own else ''}{', '.join(own)}) AS {quote_ident(label, always=True)}"
        behind += f" ({called})" if called else ""
    start, end = source.span
    parts = (f"(SELECT {listed}FROM ".encode(), (behind + (" ON (" if waiting else "")).encode())
    yield Replaced(start, waiting[0].start if waiting else end, parts)
    for part, following in pairwise(waiting):
        yield Replaced(part.end, following.start, (b") AND (",))
    if waiting:
        yield Replaced(waiting[-1].end, end, (b")",))


def listed_stars(whole: Whole, joined: Joined) -> Iterator[Replaced]:
    """Yield ``*`` as a list of columns, since in the rest it would show those of the source too."""
    listed = [
        (label, [c.label for c in joined.views[label].columns] if label in joined.views else [c.name for c in of])
        for label, of in joined.labels
    ]
    columns = [f"{quote_ident(label, always=True)}.{quote_ident(name, always=True)}" for label, of in listed for name in of]
    for node in joined.block.body.get("targetList", ()):
        value = only(node)[1]["val"]
        if "ColumnRef" in value and strings(only(value)[1]["fields"]) == ["*"]:
            token = whole.spans.tokens[whole.spans.at(clauses.first_of(value))]
            yield Replaced(token.start, token.end, (", ".join(columns).encode(),))


def _blank(whole: Whole, cte: Node) -> Replaced:
    opening, closing = ctes.query_span(whole, cte)
    nothing = ", ".join(["NULL"] * len(cte.get("aliascolnames", ())))
    tokens = whole.spans.tokens
    return Replaced(tokens[opening].end, tokens[closing].start, (f"SELECT {nothing}".rstrip().encode(),))


def _without_schemas(whole: Whole) -> Iterator[Replaced]:
    labels = {table.label for table in whole.tables}
    for span, path in unqualified(whole.spans, whole.body):
        if path[-2] in labels:
            yield Replaced(*span, (b"",))


def _outermost(replaced: list[Replaced]) -> list[Replaced]:
    """Return the replacements that are not inside of another one."""
    kept: list[Replaced] = []
    for one in sorted(set(replaced), key=lambda r: (r.start, -r.end)):
        if kept and one.start < kept[-1].end:
            if one.end > kept[-1].end:
                raise Impossible("two replacements overlap")
            continue
        kept.append(one)
    return kept


def _numbers(whole: Whole, replaced: list[Replaced]) -> set[int]:
    """Return the numbers of the parameters that are left."""
    kept = _outermost(replaced)
    statement = whole.a.statement
    return {
        int(whole.a.text[token.start + 1 : token.end])
        for token in whole.spans.tokens
        if token.name == "PARAM"
        and statement.start <= token.start < statement.end
        and not any(one.start <= token.start < one.end for one in kept)
    }


def numbered(whole: Whole, replaced: list[Replaced], *, own_numbers: bool = False) -> Rest:
    """Return a rest whose parameters are numbered one after the other; ``own_numbers``: as they are."""
    statement, text = whole.a.statement, whole.a.text
    kept = _outermost(replaced)
    if own_numbers:
        numbers = list(range(1, max(whole.numbers, default=0) + 1))
    else:
        numbers = sorted(_numbers(whole, replaced))
        for token in whole.spans.tokens:
            number = int(text[token.start + 1 : token.end]) if token.name == "PARAM" else 0
            if number in numbers and numbers.index(number) + 1 != number:
                kept.append(Replaced(token.start, token.end, (b"$%d" % (numbers.index(number) + 1),)))
    return rest_of(text, statement.start, statement.end, _outermost(kept), tuple(numbers))
