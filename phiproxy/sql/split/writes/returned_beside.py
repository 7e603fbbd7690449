"""What RETURNING shows of the tables beside the target: the write, which has the chosen rows in their place, is given it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from phiproxy.policy.column_types import by_oid
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.pg_errors.names_and_signatures import Output
from phiproxy.sql.resolve.output_names import output_name
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.composed import Span
from phiproxy.sql.split.writes.composition import Stored
from phiproxy.sql.split.writes.written import ALIAS, COLUMN, Written
from phiproxy.sql.text.parse import Node, location, messages, only, strings
from phiproxy.sql.text.token_spans import Spans

_WITHOUT_LENGTH = frozenset({"bool", "date", "float4", "float8", "int2", "int4", "int8", "json", "jsonb", "text", "uuid"})


class Beside(NamedTuple):
    """A column of another table in RETURNING: where it stands, and its name where it is all of an entry that has none."""

    span: Span
    name: str = ""

    def written(self, number: int) -> str:
        """How it stands in the write, as this column of the chosen rows."""
        return f"{ALIAS}.{COLUMN}{number}" + (f" AS {quote_ident(self.name, always=True)}" if self.name else "")


def returned_beside(spans: Spans, write: Written) -> list[Beside]:
    """Return the columns of other tables in the RETURNING of a write, in the order of the text; Impossible where one is not told.

    UPDATE patients p SET notes = p.notes || v.room FROM visits v WHERE v.patient_id = p.id RETURNING p.id, upper(v.room)
    → write: UPDATE patients p SET notes = phi_write.phi_3 FROM … WHERE … RETURNING p.id, upper(phi_write.phi_4)
    """
    if write.clauses.others is None or write.clauses.returning is None:
        return []
    found, label, own = list[Beside](), write.target.label, {c.name for c in write.target.relation.columns}
    for node in write.body["returningClause"]["exprs"]:
        entry = only(node)[1]
        for message in messages(node):
            names = strings(message["fields"]) if isinstance(message.get("fields"), list) else []
            if "SubLink" in message or names in (["*"], [label]) or (names[-1:] == ["*"] and names[:-1] != [label]):
                raise Impossible("another table than those of the write, or a whole row")
            if not names or (names[0] in own if len(names) == 1 else names[-2] == label or names[-1] == "*"):
                continue
            is_entry = "name" not in entry and entry["val"].get("ColumnRef") is message
            if "name" not in entry and not is_entry and output_name(entry["val"]) == names[-1]:
                raise Impossible("an entry that would have another name")
            found.append(Beside(_span(spans, message, len(names)), names[-1] if is_entry else ""))
    return sorted(found)


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


def _span(spans: Spans, reference: Node, count: int) -> Span:
    first = spans.at(location(reference))
    return spans.tokens[first].start, spans.tokens[first + 2 * (count - 1)].end
