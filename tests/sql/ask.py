"""One question to the analysis, answered as text: the server's statement, ``=`` for the client's own, or a SQLSTATE."""

from __future__ import annotations

import dataclasses

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import PhiproxyError
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from tests import clinic_model
from tests.clinic_model import CATALOG, PATH, PROTECTION

PLANNER = Planner(PROTECTION, dataclasses.replace(CATALOG, dynamic=frozenset({"run_sql"})), Ciphers(Keyring(lambda: 0.0)))
# The same with blind indexes on expressions of full_name.
INDEXED = Planner(clinic_model.INDEXED, CATALOG, Ciphers(Keyring(lambda: 0.0)))
VIEW = View(PATH, "clinic", catalog_fresh=True)
TAG = "pg_catalog.substring({}, 13, 16)"


def tag(column: str) -> str:
    """Return T_0 of a column's spelling."""
    return TAG.format(column)


def ask(statement: str, view: View = VIEW, planner: Planner = PLANNER) -> str:
    """Return what becomes of a statement in the extended protocol."""
    try:
        plan = planner.statement(statement.encode(), (), view)
    except PhiproxyError as refused:
        position = refused.position
        if position is not None and not 1 <= position <= len(statement) + 1:
            raise AssertionError("a position outside of the statement") from refused
        return refused.sqlstate
    sql = plan.sql.decode()
    return "=" if sql == statement and not plan.touches else sql


def refusal(statement: str, view: View = VIEW, planner: Planner = PLANNER) -> PhiproxyError:
    """Return the refusal of a statement."""
    try:
        planner.statement(statement.encode(), (), view)
    except PhiproxyError as error:
        return error
    raise AssertionError("not refused")


def columns(statement: str, planner: Planner = PLANNER) -> list[str | None]:
    """Return which protected column each result column shows."""
    plan = planner.statement(statement.encode(), (), VIEW)
    assert plan.columns is not None
    return [None if r is None else r.column.name for r in plan.columns.reveals]
