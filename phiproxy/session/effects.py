"""What a statement does to the session's names and path, and what it must not refer to; shared by simple and extended queries."""

from __future__ import annotations

from phiproxy.errors import StatementRefused
from phiproxy.plan.statement import Effects, StatementPlan
from phiproxy.session.pipeline import Later, Undo
from phiproxy.session.prepared import Prepared, Stamp
from phiproxy.session.state import State
from phiproxy.session.substitutes import OWN_NAME, RESERVED


def apply(session: State, effects: Effects) -> list[Undo]:
    """Apply what a statement does to the session when it is sent, and return how to take back what can be."""
    if effects.path_unknown or (effects.transaction and session.path_changed is not None):
        session.path, session.path_changed = None, session.names.group
    if effects.created:
        session.created |= frozenset(effects.created)
    undo = []
    if effects.deallocates is not None:
        undo.append(session.names.forget_statement(effects.deallocates.encode()))
    elif effects.deallocates_all:
        undo.extend(session.names.forget_statement(name) for name in list(session.names.statements) if name)
    if effects.prepares is not None:
        name = effects.prepares.encode()
        undo.append(session.names.prepare(name, Prepared(StatementPlan(b"", b"", identity=True), (), stamp_of(session))))
    return undo


def check_references(session: State, effects: Effects) -> None:
    """Refuse EXECUTE and FETCH of what was prepared or bound over a protected table by the protocol, and PREPARE of own names."""
    if effects.prepares is not None:
        check_name(effects.prepares.encode())
    if effects.executes is not None:
        settled(session, "S", effects.executes.encode())
    if effects.fetches is not None:
        settled(session, "P", effects.fetches.encode())
    executed = session.names.statements.get(effects.executes.encode()) if effects.executes is not None else None
    fetched = session.names.portals.get(effects.fetches.encode()) if effects.fetches is not None else None
    if (executed is not None and executed.plan.touches) or (fetched is not None and fetched.plan.touches):
        raise StatementRefused(
            "EXECUTE or FETCH of a statement over a protected table is not in this version",
            hint="Use Bind and Execute of the protocol.",
        )


def settled(session: State, kind: str, name: bytes) -> None:
    """Go on when it is known what a name means; else Later, for a plan must not be guessed where the server may have skipped."""
    if session.names.doubtful(kind, name) and session.pipeline.front() is not None:
        raise Later


def check_name(name: bytes) -> None:
    """Refuse the names of the proxy's own statements and portals."""
    if name in (RESERVED, OWN_NAME):
        raise StatementRefused("this name is the proxy's own")


def check_encoding(session: State, *, touches: bool) -> None:
    """Refuse what touches something protected when the client speaks another encoding: a plan may come from one who does not."""
    if touches and not session.utf8:
        raise StatementRefused(
            "values of protected columns need client_encoding UTF8 in this version", hint="SET client_encoding TO 'UTF8'."
        )


def stamp_of(session: State) -> Stamp:
    """Return what a plan made now is made under."""
    assert session.database is not None
    return session.database.generation, session.path
