"""Tables that a SELECT reads beside writes in its WITH that need the plaintext: all is of one snapshot, that of the source.

The source has their rows beside the rows that it locks. The engine keeps them, and the SELECT is computed over them and what the
writes return: so what another session, or a trigger, does between source and write is in neither, as in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.pieces import table_span
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.tables_and_columns import Table, TableColumn, mentioned, needed, tables
from phiproxy.sql.split.writes.assigned_values import ALIAS, COLUMN, KEPT, Given, others_of
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.composition import Parts, Stored, composition_or_apart
from phiproxy.sql.split.writes.described import described_around
from phiproxy.sql.split.writes.inner_write import all_writes, inner_writes
from phiproxy.sql.split.writes.returned_beside import returned_beside
from phiproxy.sql.split.writes.targets import carried_as
from phiproxy.sql.split.writes.updated_and_deleted_rows import (
    add_chosen,
    add_write,
    clear_of,
    stored_of,
    values_of_rows,
)
from phiproxy.sql.text.parse import Node, messages, only, strings
from phiproxy.sql.text.token_spans import Spans
from phiproxy.types.declared import DeclaredType

_FLAG = Stored(DeclaredType.builtin("bool"), kept=True)


class _Read(NamedTuple):
    """A table that is read beside the writes: where it stands, and the columns of it that are needed."""

    span: Span
    label: str
    columns: list[TableColumn]

    @property
    def stored(self) -> list[Stored]:
        """The columns of the rest with its rows; the last tells that a row is one of it."""
        return [*(Stored(column.type.type, kept=True) for column in self.columns), _FLAG]

    @property
    def asked(self) -> list[str]:
        """The same as they are asked for."""
        label = quote_ident(self.label, always=True)
        return [*(f"{label}.{quote_ident(column.label, always=True)}" for column in self.columns), "true"]


def computed_beside_tables(a: Analysis, spans: Spans, refusal: StatementRefused | ValueRefused) -> Split:
    """Split a SELECT of tables and of what writes in its WITH return, of which one needs the plaintext; Impossible for any other.

    WITH x AS (UPDATE patients SET notes = upper(notes) RETURNING id) SELECT x.id, v.room FROM x, visits v WHERE v.patient_id = x.id
    → write: WITH x AS (UPDATE patients SET notes = phi_write.phi_3 FROM … WHERE … RETURNING id )
      SELECT x.id, v.room FROM x, (SELECT phi_write.phi_4, … FROM ROWS FROM (…) AS phi_write (phi_4, …, phi_kept)
      WHERE phi_write.phi_kept) AS v (…) WHERE v.patient_id = x.id

    The parameters from $4 on are the engine's alone, so the write is split once more.
    """
    if a.statement.kind != "SelectStmt":
        raise Impossible("what is around the writes stores something")
    inner = inner_writes(a, spans, beside=True)
    read = _read(a, spans, {id(one) for one in _queries(a)})
    if not read or any(returned_beside(one.a, one.spans, one.write) or one.write.clauses.before for one in inner):
        raise Impossible("no table beside, or a name that the write does not have")
    given_to = [values_of_rows(one.a, one.write) for one in inner]
    if not any(given_to) and not any("whereClause" in one.write.body or others_of(one.write) for one in inner):
        raise Impossible("writes of which the engine computes nothing")
    blocks = [stored_of(a, one.write, values) for one, values in zip(inner, given_to, strict=True)]
    count = len(blocks)
    blocks += [one.stored for one in read]
    columns = [column for block in blocks for column in block]
    firsts = list(accumulate((len(block) for block in blocks), initial=0))
    nothing = [f"NULL::{carried_as(one.type)}" for one in columns]
    select = Composed(a.text, spans)
    outputs: list[Given | None] = [None] * len(columns)
    for number, (one, values) in enumerate(zip(inner, given_to, strict=True)):
        first, behind = firsts[number], firsts[number + 1]
        select.add(" UNION ALL (" if number else "(")
        add_chosen(one.a, select, one.write, values, nothing[:first], nothing[behind:]).add(")")
        outputs[behind - len(values) : behind] = values
    for number, table in enumerate(read, start=count):
        listed = [*nothing[: firsts[number]], *table.asked, *nothing[firsts[number + 1] :]]
        select.add(f" UNION ALL (SELECT {', '.join(listed)} FROM ", table.span, ")")
    changed, at = Composed(a.text, spans), a.statement.start
    of_writes = {one.span: number for number, one in enumerate(inner)}
    of_tables = {table.span: number for number, table in enumerate(read, start=count)}
    for span in sorted([*of_writes, *of_tables]):
        changed.add((at, span[0]))
        if span in of_writes:
            number = of_writes[span]
            one, own = inner[number], range(firsts[number] + 1, firsts[number + 1] + 1)
            add_write(one.a, changed, one.spans, one.write, columns, given_to[number], one_of=own).add(" ")
        else:
            _add_rows(changed, read[of_tables[span] - count], firsts[of_tables[span]] + 1)
        at = span[1]
    changed.add((at, a.statement.end))
    parts = Parts(
        select,
        columns,
        changed,
        described_around(a, spans, all_writes(a, spans)),
        [one.write.target for one in inner],
        many=True,
        returns=True,
        clear=clear_of(a, select, outputs),
    )
    return composition_or_apart(a, parts, refusal)


def _queries(a: Analysis) -> Iterator[Node]:
    """Yield the writes in WITH; Impossible where one of them inserts, or where a name may be a table or another query of WITH."""
    ctes = [only(node)[1] for node in a.statement.body["withClause"]["ctes"]]
    names = {cte["ctename"] for cte in ctes}
    if len(names) < sum("ctename" in message for message in a.whole()):
        raise Impossible("queries of WITH in others")
    for number, cte in enumerate(ctes):
        kind, _ = only(cte["ctequery"])
        behind = {one["ctename"] for one in ctes[number:]}
        if kind == "InsertStmt" or any(m.get("relname") in behind and "schemaname" not in m for m in messages(cte["ctequery"])):
            raise Impossible("an INSERT beside, or a table of the name of a query of WITH")
        if kind != "SelectStmt":
            yield cte["ctequery"]


def _read(a: Analysis, spans: Spans, writes: set[int]) -> list[_Read]:
    """Return the tables that are read beside the writes, in the order of the text; Impossible where one is not read so."""
    body, around = a.statement.body, list(bodies(a.statement.body, writes))
    if any("lockingClause" in message or "RangeTableSample" in message for message in around):
        raise Impossible("rows that are locked, or drawn")
    names = mentioned(around)
    entries = {id(m["val"].get("ColumnRef")) for m in around if isinstance(m.get("val"), dict)}
    rows = {strings(m["fields"])[-2] for m in around if _is_star(m) and id(m) not in entries}
    result = list[_Read]()
    for table in tables(a, body):
        if table.label in names.rows or table.label in rows or table.rest is not None:
            raise Impossible("rows of a type of their own, or a view over expressions")
        columns = needed(table, names)
        for column in columns:
            _check(a, table, column)
        start, _, _, end = table_span(spans, table)
        result.append(_Read((start, end), table.label, columns))
    return sorted(result)


def _is_star(message: Node) -> bool:
    return isinstance(message.get("fields"), list) and len(message["fields"]) > 1 and strings(message["fields"])[-1] == "*"


def _check(a: Analysis, table: Table, column: TableColumn) -> None:
    """Go on where the engine computes with a column as it does with an element of an array; Impossible."""
    signatures, own = a.context.catalog.signatures, column.type
    if own.collation or own.type.element is not None or not own.type.name or not own.type.known:
        raise Impossible("a column that is another one as an element of an array")
    twice = [one.label for one in table.columns].count(column.label) > 1
    if twice or signatures is None or signatures.base(own.type.oid) != own.type.oid:
        raise Impossible("a column of a domain, or two of one name")


def _add_rows(changed: Composed, table: _Read, first: int) -> None:
    """Add the rows of a table that the engine has kept, in the place of that table."""
    numbers = range(first, first + len(table.columns))
    arrays = [
        f"pg_catalog.unnest({changed.parameter(-n)}::{carried_as(one.type)}[])" for n, one in enumerate(table.stored, start=first)
    ]
    names = ", ".join([*(f"{COLUMN}{n}" for n in numbers), KEPT])
    shown = ", ".join(f"{ALIAS}.{COLUMN}{n}" for n in numbers)
    label = quote_ident(table.label, always=True)
    if table.columns:
        label += f" ({', '.join(quote_ident(column.label, always=True) for column in table.columns)})"
    changed.add(f"(SELECT {shown} FROM ROWS FROM ({', '.join(arrays)}) AS {ALIAS} ({names}) WHERE {ALIAS}.{KEPT}) AS {label}")
