"""The rest as a text: the client's own, in which some spans were replaced, and in the replacements the source."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from phiproxy.errors import StatementRefused
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.result import Rest
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.tables_and_columns import Table, TableColumn
from phiproxy.sql.text.parse import Node, location, messages, strings
from phiproxy.sql.text.token_spans import OPEN, Spans, dotted

COMPUTED_ITEM = "phi_write"
"""What the rows of computed values are called that are given to a write, which stores them (``writes.assigned_values``)."""
_NAME = r'"((?:[^"]|"")+)"'
_ROWS = re.compile(rf"pg_catalog\.unnest\(ARRAY\(SELECT CAST\(ROW\(.*?\) AS {_NAME}\.{_NAME}\) FROM ", re.DOTALL)


class Replaced(NamedTuple):
    """``start:end`` of the client's text is replaced by ``parts``, between each two of which stands the source."""

    start: int
    end: int
    parts: tuple[bytes, ...]


def rest_of(text: bytes, start: int, end: int, replaced: Iterable[Replaced], parameters: tuple[int, ...]) -> Rest:
    """Return ``start:end`` of the client's text with replacements; what stands as it was is told by ``spans``."""
    parts, spans, length = [b""], [], 0

    def add(piece: bytes) -> None:
        nonlocal length
        parts[-1] += piece
        length += len(piece)

    at = start
    for one in sorted(replaced):
        if one.start < at:
            raise Impossible("two replacements of one span")
        if one.start > at:
            spans.append((length, length + one.start - at, at))
        add(text[at : one.start])
        first, *others = one.parts
        add(first)
        for part in others:
            parts.append(b"")
            add(part)
        at = one.end
    spans.append((length, length + end - at, at))
    add(text[at:end])
    return Rest(tuple(parts), parameters, tuple(spans))


class TableSpan(NamedTuple):
    """Where a table stands in FROM: ``start:name_end`` is it with ONLY, ``sample:end`` is TABLESAMPLE, and between is the alias."""

    start: int
    name_end: int
    sample: int
    end: int


def table_span(spans: Spans, table: Table) -> TableSpan:
    """Return where a table stands in FROM; Impossible where it is not found."""
    try:
        return _table_span(spans, table.body, table.sample)
    except (StatementRefused, StopIteration, IndexError):
        raise Impossible("a table could not be located") from None


def _table_span(spans: Spans, body: Node, sample: Node | None) -> TableSpan:
    tokens = spans.tokens
    first = spans.at(location(body))
    _, end = dotted(tokens, first)
    last = next(i for i in range(first, len(tokens)) if tokens[i].end == end)
    if spans.name(first - 1) == OPEN and spans.name(first - 2) == "ONLY":
        first, last = first - 2, last + 1
    elif spans.name(first - 1) == "ONLY":
        first -= 1
    elif spans.name(last + 1) == "ASCII_42":  # t *, with what inherits from it
        last += 1
    start, name_end = tokens[first].start, tokens[last].end
    if "alias" in body:
        last += 2 if tokens[last + 1].name == "AS" else 1
        if body["alias"].get("colnames"):
            last = spans.partner(last + 1)
    end = sample_start = tokens[last].end
    if sample is not None:
        sample_start = tokens[last + 1].start
        last = spans.partner(spans.next(last, OPEN))
        if sample.get("repeatable"):
            last = spans.partner(spans.next(last, OPEN))
        end = tokens[last].end
    return TableSpan(start, name_end, sample_start, end)


def is_table_command(spans: Spans, start: int) -> bool:
    """Tell whether what stands at ``start`` is the relation of ``TABLE relation``."""
    return spans.name(spans.at(start) - 1) == "TABLE"


def from_item(
    table: Table, columns: list[TableColumn], names: list[str], condition: str, *, typed: bool = False
) -> tuple[bytes, ...]:
    """Return what stands in the rest for a table, around the source: its columns under the client's names.

    ``typed``: its rows have the type of the table, as those of a function that returns such have.

    SELECT upper(p.ssn) FROM patients p
    → rest: SELECT upper(p.ssn) FROM (SELECT s.c1 FROM {} AS s) AS p (ssn)
    """
    where = f" WHERE {condition}" if condition else ""
    if table.rest is not None:
        listed = ", ".join(f"s.{name} AS c{number}" for number, name in enumerate(names, start=1))
        item = view_item(table, (f"(SELECT {listed}{' ' if names else ''}FROM ".encode(), f" AS s{where})".encode()))
        return _typed(table, item) if typed else item
    before = f"(SELECT {', '.join(f's.{name}' for name in names)}{' ' if names else ''}FROM "
    if typed:
        before = _rows(table, [f"s.{name}" for name in names])
    labels = ", ".join(quote_ident(c.label, always=True) for c in columns)
    closing = ")" if typed else ""
    behind = f" AS s{where}{closing}) AS {quote_ident(table.label, always=True)}{f' ({labels})' if labels else ''}"
    return before.encode(), behind.encode()


def _rows(table: Table, values: list[str]) -> str:
    """Return how an item begins whose rows have the type of a table."""
    row_type = ".".join(quote_ident(name, always=True) for name in (table.relation.schema, table.relation.name))
    return f"pg_catalog.unnest(ARRAY(SELECT CAST(ROW({', '.join(values)}) AS {row_type}) FROM "


def named_row_types(text: str) -> list[tuple[str, str]]:
    """Return the tables, (schema, name), whose rows have their type in a rest that was made here; perhaps more."""
    return [(schema.replace('""', '"'), name.replace('""', '"')) for schema, name in _ROWS.findall(text)]


def _typed(table: Table, item: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return an item of FROM of a view over expressions whose rows have the view's type."""
    label, names = quote_ident(table.label, always=True), [quote_ident(c.label, always=True) for c in table.columns]
    pieces = list(item)
    pieces[0] = _rows(table, [f"{label}.{name}" for name in names]).encode() + pieces[0]
    pieces[-1] += f")) AS {label} ({', '.join(names)})".encode()
    return tuple(pieces)


def view_item(table: Table, source: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return what stands in the rest for a view over expressions: its own rest, over an item of FROM that has its inputs.

    Of a view ``v`` that is ``SELECT left(name, 1) AS initial FROM people`` that is ``(SELECT left(name, 1) FROM (SELECT s.c1 FROM
    (SELECT s.c1 AS c1 FROM {} AS s) AS s) AS people (name)) AS v (initial)``.
    """
    assert table.rest is not None
    labels = ", ".join(quote_ident(c.label, always=True) for c in table.columns)
    pieces = list(table.rest.around(source))
    fence = (b"SELECT * FROM (", b") AS s OFFSET 0") if table.fenced else (b"", b"")
    pieces[0] = b"(" + fence[0] + pieces[0]
    pieces[-1] += fence[1] + f") AS {quote_ident(table.label, always=True)} ({labels})".encode()
    return tuple(pieces)


def unqualified(spans: Spans, body: Node) -> list[tuple[tuple[int, int], list[str]]]:
    """Return the spans of schemas (and databases) before the tables of column references, with what they are, dot included."""
    result = []
    for node in messages(body):
        names = strings(node["fields"]) if isinstance(node.get("fields"), list) else []
        if len(names) > 2:
            first = spans.at(location(node))
            table = first + 2 * (len(names) - 2)
            result.append(((spans.tokens[first].start, spans.tokens[table].start), names))
    return result
