"""What RETURNING shows of the tables beside the target, in whose place the write has the chosen rows.

What the server may see, and can show with all that the client is told of it, the write is given with the rows. Anything else is
*kept*: the write gives the number of the row, and the engine, which computes such a RETURNING, has the values as parameters of its
own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from phiproxy.policy.column_types import by_oid
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.pg_errors.names_and_signatures import Output
from phiproxy.sql.resolve.outputs_without_as import output_name
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.split.writes.assigned_values import ALIAS, COLUMN, KEPT, Written
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.composed_select import read_of
from phiproxy.sql.split.writes.composition import Stored
from phiproxy.sql.split.writes.targets import carried_as
from phiproxy.sql.text.parse import Node, location, messages, only, strings
from phiproxy.sql.text.token_spans import Spans

_WITHOUT_LENGTH = frozenset({"bool", "date", "float4", "float8", "int2", "int4", "int8", "json", "jsonb", "text", "uuid"})


class Beside(NamedTuple):
    """What RETURNING has of other tables in one place.

    ``columns`` are asked for, and stand behind what it has of the target; of a MERGE before it. ``name``: that of a column which is
    all of an entry that has none.
    """

    span: Span
    columns: tuple[str | Span, ...]
    name: str = ""
    target: str = ""
    first: bool = False
    """Whether they stand before what it has of the target."""

    def written(self, changed: Composed, stored: Sequence[Stored], first: int) -> str:
        """How it stands in the write: ``first`` is the number of its first column in the rows, or of the engine's parameters."""
        if self.columns and not stored[first - 1].kept:
            return f"{ALIAS}.{COLUMN}{first}" + (f" AS {quote_ident(self.name, always=True)}" if self.name else "")
        listed = [
            f"(CAST({changed.parameter(-n)} AS {carried_as(stored[n - 1].type)}[]))[{ALIAS}.{KEPT}]"
            for n in range(first, first + len(self.columns))
        ]
        own = [self.target] * bool(self.target)
        return ", ".join([*listed, *own] if self.first else [*own, *listed])


def returned_beside(a: Analysis, spans: Spans, write: Written, *, kept: bool = False) -> list[Beside]:
    """Return the columns of other tables in the RETURNING of a write, in the order of the text; Impossible where one is not told.

    UPDATE patients p SET notes = p.notes || v.room FROM visits v WHERE v.patient_id = p.id RETURNING p.id, upper(v.room)
    → write: UPDATE patients p SET notes = phi_write.phi_3 FROM … WHERE … RETURNING p.id, upper(phi_write.phi_4)

    ``kept``: of any kind.

    UPDATE patients p SET notes = p.notes || v.room FROM visits v WHERE v.patient_id = p.id RETURNING p.id, upper(v.diagnosis)
    → write: UPDATE patients p SET notes = phi_write.phi_3 FROM … WITH ORDINALITY AS phi_write (…, phi_kept) WHERE …
      RETURNING p.id, upper((CAST($4 AS text[]))[phi_write.phi_kept])
    """
    if write.clauses.others is None or write.clauses.returning is None:
        return []
    found, label, own = list[Beside](), write.target.label, {c.name for c in write.target.relation.columns}
    for node in write.body["returningClause"]["exprs"]:
        entry = only(node)[1]
        for message in messages(node):
            names = strings(message["fields"]) if isinstance(message.get("fields"), list) else []
            if "SubLink" in message or names == [label]:
                raise Impossible("another table than those of the write, or a whole row")
            is_entry = entry["val"].get("ColumnRef") is message
            if names[-1:] == ["*"] and names[:-1] != [label]:
                if not (kept and is_entry):
                    raise Impossible("a whole row")
                found.append(_star(a, spans, write, message, names[:-1]))
                continue
            if not names or (names[0] in own if len(names) == 1 else names[-2] == label or names[-1] == "*"):
                continue
            named = "name" in entry or is_entry
            if not (kept or named) and output_name(entry["val"]) == names[-1]:
                raise Impossible("an entry that would have another name")
            span = reference_span(spans, message, len(names))
            found.append(Beside(span, (span,), "" if "name" in entry or not is_entry else names[-1]))
    return sorted(found, key=lambda one: one.span)


def stored_beside(beside: Sequence[Beside], outputs: Sequence[Output]) -> list[Stored]:
    """Return these columns as columns of the rest; Impossible where the write would tell the client less of one than PostgreSQL.

    That is the table of which it is a column, its length, and a type of the database's own.
    """
    stored = []
    for one, output in zip(beside, outputs, strict=True):
        known, column = by_oid(output.type or 0), output.column
        if known is None or column is None or (one.name and column.origin is not None):
            raise Impossible("a column of which the client would be told no table")
        if column.typmod != -1 and not (column.typmod is None and known.name in _WITHOUT_LENGTH):
            raise Impossible("a column of which the client would be told no length")
        stored.append(Stored(known, computed=False))
    return stored


def kept_beside(whole: Whole, outputs: Sequence[Output]) -> list[Stored]:
    """Return the same of what the engine keeps; Impossible where it would compute otherwise with an element of an array.

    The client is told of them what is described of the whole statement.
    """
    stored = []
    for output in outputs:
        column = output.column
        carried = whole.carried(dataclasses.replace(column, typmod=-1)) if column is not None else None
        base = whole.verdict.signatures.base(output.type)
        if carried is None or carried.collation or base != output.type or carried.type.element is not None:
            raise Impossible("a column that is another one as an element of an array")
        stored.append(Stored(carried.type, kept=True))
    return stored


def _star(a: Analysis, spans: Spans, write: Written, message: Node, names: list[str]) -> Beside:
    """Return what ``*`` or ``v.*`` has of other tables; Impossible where their columns are not told apart."""
    span, target = reference_span(spans, message, len(names) + 1), quote_ident(write.target.label, always=True)
    listed = list(_columns(a, spans, write))
    if names:
        columns = tuple(column for label, column in listed if [label] == names)
        if not columns:
            raise Impossible("an item of FROM that is not known")
        return Beside(span, columns)
    return Beside(span, tuple(column for _, column in listed), target=f"{target}.*", first=write.kind == "MergeStmt")


def _columns(a: Analysis, spans: Spans, write: Written) -> Iterator[tuple[str, str]]:
    """Yield the columns of the items of FROM or USING, each with the item that it is of."""
    clauses, select = write.clauses, Composed(a.text, spans)
    assert clauses.others is not None
    if clauses.before is not None:
        select.add(clauses.before, " ")
    whole, _ = read_of(a, select.add("SELECT FROM ", clauses.relation, ", ", clauses.others))
    level = whole.verdict.levels[id(whole.body)]
    _, *others = level.sources
    if level.opaque or level.merged or level.own_star is not None or len({s.alias for s in level.sources}) <= len(others):
        raise Impossible("items of FROM whose columns are not told apart")
    for source in others:
        if len({column.name for column in source.columns}) < len(source.columns):
            raise Impossible("two columns of one name")
        for column in source.columns:
            yield source.alias, f"{quote_ident(source.alias, always=True)}.{quote_ident(column.name, always=True)}"


def reference_span(spans: Spans, reference: Node, count: int) -> Span:
    """Return where a column reference of so many names stands."""
    first = spans.at(location(reference))
    return spans.tokens[first].start, spans.tokens[first + 2 * (count - 1)].end
