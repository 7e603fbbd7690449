"""Splits a refused statement: a SELECT, or a write."""

from __future__ import annotations

import dataclasses

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Context
from phiproxy.sql.queries.computed_views import names_inner
from phiproxy.sql.result import Split, Waiting
from phiproxy.sql.split.source_and_rest import split
from phiproxy.sql.split.writes.copied_rows import copied_rows
from phiproxy.sql.split.writes.drawn import beside_drawn
from phiproxy.sql.split.writes.given_defaults import with_defaults
from phiproxy.sql.split.writes.only_defaults import only_defaults
from phiproxy.sql.split.writes.ways_in_order import split_with_write, split_write
from phiproxy.sql.text.parse import Statement


def split_statement(
    statement: Statement, text: bytes, context: Context, refusal: StatementRefused | ValueRefused, waiting: Waiting | None = None
) -> Split | None:
    """Return how a refused statement is split, or None where that is not possible; PathNeeded, CatalogNeeded.

    ``waiting``: values for which it is refused, and is not for others.
    """
    if names_inner(statement.body, context):
        return None
    if statement.kind == "CopyStmt" and "relation" in statement.body:
        return copied_rows(statement, text, context, refusal) if waiting is None else None
    given = with_defaults(statement, text, context)
    if given is not None:
        whole = only_defaults(given, refusal) if waiting is None else None
        whole = whole or split_statement(given.statement, given.text, given.context, refusal, waiting)
        return given.placed(whole) if whole is not None else None
    if statement.kind == "SelectStmt":
        parts = split(statement, text, context, refusal, waiting)
        if parts is not None or waiting is not None:
            return parts
        parts = split_with_write(statement, text, context, refusal)
    else:
        parts = split_write(statement, text, context, refusal, waiting)
    if parts is None:
        return None
    return dataclasses.replace(parts, beside_drawn=parts.beside_drawn | beside_drawn(statement.body))
