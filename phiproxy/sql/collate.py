"""COLLATE beside what is protected: what is equal under a deterministic collation is equal, byte for byte, under any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from phiproxy.errors import CollationMismatch, DatatypeMismatch
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.parse import Node, only, strings
from phiproxy.types.names import sql_name


def uncollate(a: Analysis, clauses: Sequence[Node], column: ProtectedColumn) -> None:
    """Take COLLATE clauses away, since the server sees tags or envelopes of the column; refuses those that may change equality."""
    for clause in clauses:
        body = only(clause)[1]
        name = strings(body["collname"])[-1]
        if not (column.base or column).type.is_text:
            why = f"collations are not supported by type {sql_name(column.type)}"
            raise a.refuse(why, body, hint="Leave COLLATE out.", error=DatatypeMismatch)
        if name not in a.context.catalog.collations:
            why = f'collation "{name}" is not known, or not deterministic: {column.label} would be compared in another way'
            raise a.refuse(why, body, hint="Leave COLLATE out, or name a collation of the server's own.")
    a.stripped.extend(clauses)


def check_collations(a: Analysis, clauses: Iterable[Node]) -> None:
    """Refuse to compare under two collations, as PostgreSQL does."""
    named = {strings(only(clause)[1]["collname"])[-1]: clause for clause in clauses}
    if len(named) > 1:
        shown = " and ".join(f'"{name}"' for name in named)
        place = only(list(named.values())[-1])[1]
        why = f"collation mismatch between explicit collations {shown}"
        raise a.refuse(why, place, hint="Leave COLLATE out.", error=CollationMismatch)
