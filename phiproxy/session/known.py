"""What a session's names mean now: prepared statements and portals, as the planner asks for them (``plan.names``)."""

from __future__ import annotations

from phiproxy.errors import StatementRefused
from phiproxy.plan.statement import Columns, StatementPlan
from phiproxy.session import overlay
from phiproxy.session.effects import settled, stamp_of
from phiproxy.session.prepared import Prepared
from phiproxy.session.state import State
from phiproxy.session.substitutes import InvalidStatementName
from phiproxy.session.work import plan_statement


class Known:
    """The names of one session; asking raises Later while it is not known what a name means."""

    def __init__(self, session: State) -> None:
        self._session = session

    def statement(self, name: str) -> StatementPlan | None:
        """Return the plan of a prepared statement, right for the present; None where the session knows none."""
        key = name.encode()
        settled(self._session, "S", key)
        return current(self._session, key).plan if key in self._session.names.statements else None

    def portal(self, name: str) -> Columns | None:
        """Return the columns of a cursor or portal, where something protected is among them."""
        key = name.encode()
        settled(self._session, "P", key)
        found = self._session.names.portals.get(key)
        return found.plan.columns if found is not None and found.plan.touches else None


def current(session: State, name: bytes) -> Prepared:
    """Return a statement whose plan is right for the present names, path, policy and catalogue (sql.md section 2)."""
    prepared = session.names.statements.get(name)
    if prepared is None:
        shown = name.decode("utf-8", "replace")
        raise InvalidStatementName(f'prepared statement "{shown}" does not exist')
    stamp = stamp_of(session)
    if not prepared.plan.text:
        return prepared
    if prepared.stamp == stamp and not prepared.plan.bound:
        if session.database is not None and session.database.made:
            # A view that it names may have been replaced a moment ago.
            overlay.settle(session, prepared.plan.text)
        return prepared
    prepared.plan, prepared.stamp = still_valid(session, prepared.plan, prepared.oids), stamp
    return prepared


def still_valid(session: State, plan: StatementPlan, oids: tuple[int, ...]) -> StatementPlan:
    """Plan a statement again and return the plan; StatementRefused when the server was told something else."""
    assert session.database is not None
    overlay.settle(session, plan.text)
    fresh = plan_statement(session, plan.text, oids)
    if not fresh.same(plan):
        raise StatementRefused(
            "cached plan must not change: a name, the search path, policy or catalogue changed since this statement was prepared",
            hint="Prepare the statement again.",
        )
    return fresh
