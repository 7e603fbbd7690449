"""CREATE OR REPLACE VIEW that would show a bytea in clear where it has shown a protected column: to the server both are bytea."""

from __future__ import annotations

from phiproxy.errors import PhiproxyError
from phiproxy.policy.view_rests import is_computed
from phiproxy.sql.context import Analysis
from phiproxy.sql.pg_errors.verdict import types
from phiproxy.sql.statements.ddl.create_table import creation_schema
from phiproxy.sql.statements.ddl.replaced_view import BYTEA, check_type
from phiproxy.sql.text.parse import only, strings
from phiproxy.sql.writes.assignment import columns_of


def check_in_clear(a: Analysis) -> None:
    """Raise InvalidTableDefinition for such a statement of the client's.

    CREATE OR REPLACE VIEW springfield AS SELECT id, city::bytea AS social, city FROM members
    → refused 42P16
    """
    body, catalog = a.statement.body, a.context.catalog
    if a.statement.kind != "ViewStmt" or not body.get("replace") or a.context.inside is None or catalog.signatures is None:
        return
    replaced = catalog.find(creation_schema(a, body["view"]), body["view"]["relname"])
    if replaced is None or is_computed(replaced):
        return
    try:
        protected = columns_of(a, replaced)
        outputs = types(a, only(body["query"])[1])[1] if protected else None
    except (PhiproxyError, RecursionError):
        return  # what is wrong with it is said elsewhere
    given = strings(body.get("aliases"))
    names = [*given, *(output.name for output in (outputs or [])[len(given) :])]
    for before, name, output in zip(replaced.columns, names, outputs or (), strict=False):
        if before.name == name and name in protected and output.type == BYTEA.oid:
            check_type(before.name, protected[before.name].type, BYTEA)
