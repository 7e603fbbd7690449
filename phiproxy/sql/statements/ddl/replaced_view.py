"""CREATE OR REPLACE VIEW: a column keeps its type, which the server cannot tell of columns of envelopes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from phiproxy.errors import InvalidTableDefinition
from phiproxy.policy.catalog import Relation
from phiproxy.policy.view_rests import is_computed
from phiproxy.sql.context import Analysis
from phiproxy.sql.queries.views import columns_of_view
from phiproxy.sql.result import Reveal
from phiproxy.sql.statements.ddl.create_table import creation_schema
from phiproxy.sql.statements.utility import named
from phiproxy.sql.text.parse import Node
from phiproxy.sql.writes.assignment import columns_of
from phiproxy.types.declared import DeclaredType
from phiproxy.types.names import sql_name
from phiproxy.wire.oids import BYTEA_OID

BYTEA: Final = DeclaredType.builtin("bytea")
"""The type of a column in clear that the server cannot tell from one of envelopes."""


def check_shown(a: Analysis, replaced: Relation | None, names: Sequence[str | None], reveals: Sequence[Reveal | None]) -> None:
    """Raise InvalidTableDefinition where a protected column that a view will show would change the type of one that it shows.

    Of views over expressions ``sql.split`` sees to it, and of what will be in clear ``pg_errors.replaced_views``.

    CREATE OR REPLACE VIEW springfield AS SELECT id, mrn AS social, city FROM members
    → refused 42P16
    """
    if replaced is None or replaced.kind != "v" or is_computed(replaced):
        return
    protected = columns_of(a, replaced)
    understood = replaced.oid not in a.context.catalog.views or columns_of_view(a, replaced) is not None
    for before, name, reveal in zip(replaced.columns, names, reveals, strict=False):
        in_clear = BYTEA if understood and before.type_oid == BYTEA_OID else None
        was = protected[before.name].type if before.name in protected else in_clear
        if before.name == name and was is not None and reveal is not None:
            check_type(before.name, was, reveal.type)


def replaces_in_clear(a: Analysis, kind: str, body: Node) -> bool:
    """Tell whether CREATE OR REPLACE VIEW, of a query that touches nothing protected, is the server's own affair.

    It is where the view has shown nothing protected: on the server its columns have the types that PostgreSQL gives them.

    CREATE OR REPLACE VIEW names_of_cities AS SELECT 'x'::text AS city, 1::int8 AS n
    → unchanged
    """
    if kind != "ViewStmt" or not body.get("replace"):
        return False
    replaced = a.context.catalog.find(creation_schema(a, body["view"]), body["view"]["relname"])
    if replaced is None or replaced.kind != "v" or is_computed(replaced) or columns_of_view(a, replaced) is None:
        return False
    named_there = named(body["query"], a.context.protection, a.context.catalog)  # in a text, too
    return named_there is None and not columns_of(a, replaced)


def check_type(name: str, was: DeclaredType, now: DeclaredType) -> None:
    """Raise InvalidTableDefinition, in PostgreSQL's words, where a column of a view would change its type."""
    if (was.oid, was.typmod) != (now.oid, now.typmod):
        why = f'cannot change data type of view column "{name}" from {_written(was)} to {_written(now)}'
        raise InvalidTableDefinition(why, hint="Drop the view, and create it again.")


def _written(declared: DeclaredType) -> str:
    return sql_name(declared) + (f"({declared.max_length})" if declared.max_length is not None else "")
